"""Which code runs is chosen by what was compiled, and said. That both do the same: tests/interop/test_compiled.py."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripts import compiling

from cognu import compiled
from cognu.cli.checks.finding import Level
from cognu.cli.checks.host import code
from cognu.compiled import Build, State, hash_of, interpreter, read_build, use, write_build


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A package with one module, and a build of it whose library is none."""
    (tmp_path / "one.py").write_text("ONE = 1\n")
    directory = tmp_path / "_compiled"
    directory.mkdir()
    write_build(directory, Build(interpreter(), ["cognu.one"], {"one.py": hash_of(tmp_path / "one.py")}))
    return tmp_path


def test_compiling_says_beforehand_what_it_begins_and_in_the_end_that_nodes_go_on_without_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before: list[str] = []
    monkeypatch.setattr(compiling, "build", lambda source, target: before.append(capsys.readouterr().out))
    assert compiling.main() == 0
    assert before == [f"Compiling {len(compiling.MODULES)} modules, which takes half a minute or more\n"]
    assert capsys.readouterr().out.endswith("until it is started anew: cognu down, cognu up\n")


def test_without_a_build_the_source_runs(tmp_path: Path) -> None:
    assert use(tmp_path, {}) == compiled.NOT_COMPILED == State(False, "Python")


def test_cognu_pure_has_the_source_run(source: Path) -> None:
    assert use(source, {"COGNU_PURE": "1"}) == State(False, "Python, as COGNU_PURE says")
    assert use(source, {"COGNU_PURE": ""}).amiss


@pytest.mark.parametrize("change", ["edited", "gone"])
def test_a_source_that_is_another_now_is_named_and_nothing_compiled_is_used(source: Path, change: str) -> None:
    finders = list(sys.meta_path)
    if change == "edited":
        (source / "one.py").write_text("ONE = 2\n")
    else:
        (source / "one.py").unlink()
    assert use(source, {}) == State(False, "Python: one.py is not what was compiled", True)
    assert sys.meta_path == finders


def test_what_was_compiled_for_another_interpreter_is_not_used(source: Path) -> None:
    write_build(source / "_compiled", Build("cpython-2", ["cognu.one"], {}))
    assert use(source, {}) == State(False, f"Python: compiled was for cpython-2, this is {interpreter()}", True)


def test_what_does_not_load_is_not_used(source: Path) -> None:
    finders = list(sys.meta_path)
    library = compiled.place(source / "_compiled", compiled.LIBRARY)
    for content in (None, b"no library"):
        if content is not None:
            library.write_bytes(content)
        state = use(source, {})
        assert not state.compiled
        assert state.amiss
        assert state.said.startswith("Python: what was compiled does not load: ")
        assert sys.meta_path == finders


def test_a_damaged_list_is_said(source: Path) -> None:
    (source / "_compiled" / "build.json").write_bytes(b"{")
    assert use(source, {}) == State(False, "Python: the list of what was compiled is damaged", True)


_VALUES = st.recursive(
    st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)


@given(
    st.binary()
    | st.just(b"[" * 100_000)
    | st.fixed_dictionaries({"interpreter": _VALUES, "names": _VALUES, "sources": _VALUES}).map(
        lambda found: json.dumps(found).encode()
    )
)
def test_a_list_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    directory = tmp_path_factory.getbasetemp()
    (directory / "build.json").write_bytes(content)
    try:
        build = read_build(directory)
    except ValueError:
        return
    assert build is not None
    assert all(isinstance(each, str) for each in (build.interpreter, *build.names, *build.sources.values()))


def test_doctor_notes_only_what_is_otherwise_than_meant() -> None:
    assert [found.level for found in code(State(True, "compiled, 2 modules"))] == [Level.OK]
    assert [found.level for found in code(compiled.NOT_COMPILED)] == [Level.OK]
    assert [found.level for found in code(State(False, "Python: one.py is not what was compiled", True))] == [
        Level.NOTE
    ]


# -- the build --------------------------------------------------------------------------------------------------------


def test_a_host_without_a_compiler_is_told_and_what_was_there_stays(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(compiling.NotCompiled, match="there is no C compiler"):
        compiling.build(source, source / "_compiled")
    assert read_build(source / "_compiled") is not None


def test_the_kernel_is_not_compiled_and_what_constants_come_from_is_in_the_list(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert list(compiling.MODULES) == sorted(compiling.MODULES)
    assert not any(module.startswith("cognu.kernel") for module in compiling.MODULES)
    monkeypatch.chdir(compiling.SOURCE.parent)
    sources = {str(path) for path in compiling.sources_of(compiling.MODULES)}
    assert {f"{module.replace('.', '/')}.py" for module in compiling.MODULES} <= sources
    assert {
        "cognu/__init__.py",
        "cognu/kernel/__init__.py",
        "cognu/kernel/state.py",
        "cognu/world/__init__.py",
    } <= sources

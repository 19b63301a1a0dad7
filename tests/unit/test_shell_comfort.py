"""What Tab offers by where the cursor stands, and the file of typed lines."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognu.errors import FileError
from cognu.shell import history
from cognu.shell.completion import complete, where
from cognu.shell.history import History
from shell_fake import Bench


@pytest.mark.parametrize(
    ("text", "kind", "typed"),
    [
        ("", "command", ""),
        ("ec", "command", "ec"),
        ("a | ec", "command", "ec"),
        ("if true; then ec", "command", "ec"),
        ("x=1 ec", "command", "ec"),
        ("echo $(ec", "command", "ec"),
        ("./pr", "path", "pr"),
        ("cat a", "path", "a"),
        ("cat /tmp/a", "path", "a"),
        ("cat < a", "path", "a"),
        ("x=a", "path", "a"),
        ("echo $HO", "variable", "HO"),
        ('echo "${HO', "variable", "HO"),
        ("echo '$HO", "path", "$HO"),
        ("cpu p", "node", "p"),
        ("peers label p", "node", "p"),
        ("peers p", "path", "p"),
        ("import p", "node", "p"),
        ("run --on p", "node", "p"),
        ("run --on=p", "node", "p"),
        ("export /x p", "node", "p"),
        ("ls --j", "option", "--j"),
        ("help l", "help", "l"),
        ("cat a\\ b", "path", "a b"),
        ("cat 'a b", "path", "a b"),
    ],
)
def test_where_the_cursor_stands(text: str, kind: str, typed: str) -> None:
    place = where(text)
    assert (place.kind, place.typed) == (kind, typed)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("cat no", "cat notes\\ one "),
        ("cat 'no", "cat 'notes one' "),
        ('cat "no', 'cat "notes one" '),
        ("cat not\\", None),
        ("cat di", "cat dir/"),
        ("cat dir/a", "cat dir/ab"),
        ("cat ~/di", "cat ~/dir/"),
        ("cat $HOME/di", "cat $HOME/dir/"),
        ("hist", "history "),
        ("cpu p", "cpu pi "),
        ("cat .h", "cat .hidden "),
        ("nonesuch", "nonesuch"),
        ("cat none", "cat none"),
    ],
)
async def test_what_is_put_in(text: str, line: str | None) -> None:
    bench = Bench()
    for name in ("notes one", "dir/abc", "dir/abd", ".hidden", "/n/pi/x"):
        bench.system.make(name, b"")
    offer = await complete(bench.shell, text)
    if line is not None:
        assert text[: offer.place.start] + (offer.insertion() if offer.names else text[offer.place.start :]) == line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("get bafkr4iaa", "get bafkr4iaaa "),
        ("run bafkr4iab", "run bafkr4iab"),
        ("bafkr4iaa", "bafkr4iaaa "),
        ("get bafkr4i/", "get bafkr4i/"),
    ],
)
async def test_the_beginning_of_a_hash_is_completed(text: str, line: str) -> None:
    bench = Bench()
    for name in ("aaa", "abb", "abc"):
        bench.system.make(f"/mnt/store/objects/bafkr4i{name}", b"")
    offer = await complete(bench.shell, text)
    assert text[: offer.place.start] + (offer.insertion() if offer.names else text[offer.place.start :]) == line


@given(st.text(alphabet="ab $'\"\\/|&;(){}<>`~=-\n", max_size=30))
async def test_any_text_can_be_completed(text: str) -> None:
    bench = Bench()
    offer = await complete(bench.shell, text)
    assert 0 <= offer.place.start <= len(text)
    assert isinstance(offer.insertion(), str)


def test_lines_are_kept_once_bounded_and_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "MOST_ENTRIES", 3)
    path = tmp_path / "history"
    first, second = History(str(path)), History(str(path))
    for text in ("a", "b\nc\\n", "a", " secret", "", "d\n"):
        first.add(text)
    second.load()
    assert first.entries == second.entries == ["b\nc\\n", "a", "d"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for number in range(20):
        second.add(str(number))
    third = History(str(path))
    third.load()
    assert third.entries == ["17", "18", "19"]
    assert len(path.read_bytes().splitlines()) == 3


@given(st.lists(st.text(alphabet=st.characters(codec="utf-8"))))
def test_any_text_is_read_back(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    path = tmp_path_factory.mktemp("h") / "history"
    kept, read = History(str(path)), History(str(path))
    for text in texts:
        kept.add(text)
    read.load()
    assert read.entries == kept.entries


def test_a_history_that_can_not_be_written_is_told_and_kept_in_memory(tmp_path: Path) -> None:
    kept = History(str(tmp_path / "none" / "history"))
    with pytest.raises(FileError):
        kept.add("a")
    assert kept.entries == ["a"]
    with pytest.raises(FileError):
        kept.load()

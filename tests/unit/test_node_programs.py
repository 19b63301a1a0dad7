"""grants(5): the text, what contradicts itself, and the node's own file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognu.errors import E, FileError
from cognu.files.launch import Grant
from cognu.node.programs import (
    ANY,
    MAX_GRANTS,
    MAX_TEXT,
    ProgramBook,
    ProgramGrants,
    conflict,
    format_grants,
    grant_text,
    joined,
    make_grant,
    parse_grant_text,
    parse_grants_text,
    plain_name,
    with_grants,
)
from cognu.store.names import name_of
from cognu.world.disk import RealDisk

ONE, TWO = name_of(b"one"), name_of(b"two")


def read(text: str, general: bool = False) -> dict[str, ProgramGrants]:
    return parse_grants_text(text.encode(), "file", general)


def test_a_file_says_of_each_program_what_it_may_use_and_what_never() -> None:
    text = f"# mine\nprogram {ONE} wc\nallow '/a b' wr\nallow net\nnever /a/.ssh r\nprogram {TWO}\nnever net\n"
    found = read(text)
    assert found == {
        ONE: ProgramGrants(ONE, "wc", (Grant("/a b", "rw"), Grant("/net", "rw")), (Grant("/a/.ssh", "r"),)),
        TWO: ProgramGrants(TWO, "", (), (Grant("/net", "rw"),)),
    }
    assert parse_grants_text(format_grants(found.values()), "again") == found


def test_lines_for_any_program_are_for_a_file_of_ones_own() -> None:
    assert read(f"allow /a r\nprogram {ONE}\nallow /b r\n", general=True) == {
        ANY: ProgramGrants(ANY, "", (Grant("/a", "r"),)),
        ONE: ProgramGrants(ONE, "", (Grant("/b", "r"),)),
    }


@pytest.mark.parametrize(
    "text",
    [
        "allow /a r", "program short", f"program {ONE} a b", f"program {ONE}\nprogram {ONE}", f"program {ONE} ''",
        f"program {ONE.upper()}", "fly", f"program {ONE}\nallow a r", f"program {ONE}\nallow /a",
        f"program {ONE}\nallow /a q", f"program {ONE}\nallow /a ''", f"program {ONE}\nallow /a r r",
        f"program {ONE}\nallow", f"program {ONE}\nallow net r", f"program {ONE}\nallow '/a", f"program {ONE} '\x1b'",
        f"program {ONE}\nallow /a r\nnever /a/b r", f"program {ONE}\nallow '/a\0b' r",
    ],
)  # fmt: skip
def test_a_line_that_is_none_is_refused_by_its_number(text: str) -> None:
    with pytest.raises(FileError) as caught:
        read(text)
    assert caught.value.error is E.USAGE
    assert "file" in caught.value.subject


@given(
    st.binary(max_size=300)
    | st.text(st.sampled_from(f"programllowneve/ab rwx'\n#{ONE[:9]}"), max_size=200).map(str.encode)
)
def test_any_bytes_are_grants_or_refused_in_words(data: bytes) -> None:
    try:
        found = parse_grants_text(data, "file", general=True)
    except FileError as error:
        found = {}
        refusal: E | None = error.error
    else:
        refusal = None
    assert refusal in (None, E.USAGE, E.ILSEQ)
    general = found.pop(ANY, ProgramGrants(ANY))
    assert parse_grants_text(format_grants(found.values()), "again") == found
    assert conflict(general.allow, general.never) is None


NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="\0") | st.sampled_from(" '\n,:#"), min_size=1, max_size=5
)
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(lambda names: "/" + "/".join(names))
GRANTS = st.builds(make_grant, PATHS, st.sampled_from(["r", "w", "rw", "rwx", "x"]))


@given(st.lists(GRANTS, max_size=5), st.lists(GRANTS, max_size=5))
def test_what_is_written_reads_back_the_same(allow: list[Grant], never: list[Grant]) -> None:
    row = ProgramGrants(ONE, "name", joined(allow), joined(never))
    if conflict(row.allow, row.never) is not None:
        return
    assert parse_grants_text(format_grants([row]), "x") == {ONE: row}
    assert all(parse_grant_text(grant_text(grant)) == grant for grant in allow + never)


def test_what_is_allowed_must_not_cover_what_is_never_to_be_had() -> None:
    allow, never = Grant("/a", "rw"), Grant("/a/b", "w")
    assert conflict([allow], [never]) == (allow, never)
    assert conflict([Grant("/a", "r")], [never]) is None
    assert conflict([Grant("/a/b/c", "w")], [never]) is None
    with pytest.raises(FileError) as caught:
        with_grants(ProgramGrants(ONE, allow=(allow,)), never=[never])
    assert caught.value.error is E.CONFLICT


@pytest.mark.parametrize(
    ("text", "grant"),
    [
        ("/a", Grant("/a", "r")),
        ("/a:wr", Grant("/a", "rw")), ("/a:b", Grant("/a:b", "r")), ("/a:", Grant("/a:", "r")),
        ("net", Grant("/net", "rw")), ("//a/./b/../c:x", Grant("/a/c", "x")),
    ],
)  # fmt: skip
def test_a_grant_as_it_is_typed(text: str, grant: Grant) -> None:
    assert parse_grant_text(text) == grant


@pytest.mark.parametrize("text", ["", "a", "a:r", ":r", "/a\ud800:r", "/\0", "/" + "x" * 5000, "~/a"])
def test_what_is_no_absolute_path_is_refused(text: str) -> None:
    with pytest.raises(FileError) as caught:
        parse_grant_text(text)
    assert caught.value.error is E.USAGE


def test_a_name_is_for_people() -> None:
    assert plain_name("/bin/wc.wasm") == "wc.wasm"
    assert plain_name(ONE) == plain_name("a\x1bb") == plain_name("/") == plain_name("x" * 300) == ""


# -- the node's own ---------------------------------------------------------------------------------------------------


@pytest.fixture
def book(tmp_path: Path) -> ProgramBook:
    return ProgramBook(RealDisk(), str(tmp_path / "grants"))


def reopened(tmp_path: Path) -> ProgramBook:
    return ProgramBook(RealDisk(), str(tmp_path / "grants"))


def test_what_is_added_is_on_the_disk_for_the_owner_alone(book: ProgramBook, tmp_path: Path) -> None:
    book.add(ONE, "./wc.wasm", allow=[Grant("/a", "r")])
    book.add(ONE, "", allow=[Grant("/a", "w"), Grant("/b", "r")], never=[Grant("/c", "r")])
    book.add(TWO, "cat", never=[Grant("/net", "rw")])
    assert os.stat(tmp_path / "grants").st_mode & 0o777 == 0o600
    again = reopened(tmp_path)
    assert again.all() == book.all()
    assert again.get(ONE) == ProgramGrants(ONE, "wc.wasm", (Grant("/a", "rw"), Grant("/b", "r")), (Grant("/c", "r"),))
    assert again.get(name_of(b"other")) == ProgramGrants(name_of(b"other"))
    assert [row.name for row in again.all()] == ["cat", "wc.wasm"]


def test_the_last_word_on_a_path_counts(book: ProgramBook) -> None:
    book.add(ONE, allow=[Grant("/a", "r")])
    assert book.add(ONE, never=[Grant("/a", "r")]) == ProgramGrants(ONE, "", (), (Grant("/a", "r"),))
    assert book.add(ONE, allow=[Grant("/a", "rw")]).never == ()
    assert book.add(ONE, never=[Grant("/a", "w")]).allow == (Grant("/a", "r"),)
    assert book.add(ONE, allow=[Grant("/a", "wx")]) == ProgramGrants(ONE, "", (Grant("/a", "rwx"),))
    assert book.remove(ONE, Grant("/a", "x")).allow == (Grant("/a", "rw"),)
    with pytest.raises(FileError) as caught:
        book.add(ONE, never=[Grant("/a/b", "r")])
    assert caught.value.error is E.CONFLICT
    assert book.get(ONE).allow == (Grant("/a", "rw"),)


def test_what_is_removed_is_gone_from_the_disk(book: ProgramBook, tmp_path: Path) -> None:
    book.add(ONE, allow=[Grant("/a", "r"), Grant("/b", "r")], never=[Grant("/c", "r")])
    assert book.remove(ONE, Grant("/b", "r")).allow == (Grant("/a", "r"),)
    with pytest.raises(FileError) as caught:
        book.remove(ONE, Grant("/b", "r"))
    assert caught.value.error is E.NOGRANT
    book.remove(ONE)
    assert reopened(tmp_path).all() == []
    with pytest.raises(FileError) as caught:
        book.remove(ONE)
    assert caught.value.error is E.NOGRANT


def test_a_damaged_file_is_said_to_be_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "grants"
    for data in (b"allow /a r\n", b"\xff", b"x" * (MAX_TEXT + 1)):
        path.write_bytes(data)
        with pytest.raises(FileError) as caught:
            reopened(tmp_path)
        assert caught.value.error is E.DAMAGED
        assert path.read_bytes() == data


def test_a_program_has_only_so_many_grants(book: ProgramBook) -> None:
    many = [Grant(f"/{number}", "r") for number in range(MAX_GRANTS)]
    book.add(ONE, allow=many)
    with pytest.raises(FileError) as caught:
        book.add(ONE, never=[Grant("/x/y", "r")])
    assert caught.value.error is E.TOOBIG
    assert book.get(ONE).never == ()
    with pytest.raises(FileError) as caught:
        book.add("short", allow=[Grant("/a", "r")])
    assert caught.value.error is E.INVAL

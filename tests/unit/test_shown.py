"""What of an exported tree is shown: patterns, and what a client then finds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognu.errors import CognuError, E, FileError
from cognu.files.export import Export
from cognu.files.mount import MountServer
from cognu.files.shown import (
    LONGEST,
    MOST_PATTERNS,
    Filter,
    Shown,
    ShownNamespace,
    matches,
    parse_filter,
    parse_pattern,
    parse_shown,
)
from cognu.ninep.messages import OLD_STYLE, Dialect
from cognu.ninep.types import SetStat
from joined import ME, CountingServer, StoppedClock, attach_to, bring, local_process, tree
from misused import read_or_misused
from serving import Client, done
from streams import pair

DIALECTS = pytest.mark.parametrize("dialect", list(Dialect), ids=lambda dialect: dialect.value)


# -- patterns ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "name", "held"),
    [
        ("*.key", "id.key", True),
        ("*.key", ".key", True),
        ("*.key", "id.keys", False),
        ("a?c", "abc", True),
        ("a?c", "ac", False),
        ("[a-c]x", "bx", True),
        ("[!a-c]x", "bx", False),
        ("[^a-c]x", "dx", True),
        ("[]]", "]", True),
        ("[a-]", "-", True),
        ("*a*b*", "xxaxxbxx", True),
        ("*", "", True),
        ("", "", True),
        ("e*", "été", False),
        ("é*", "été", True),
    ],
)
def test_a_name_matches_as_in_the_shell(pattern: str, name: str, held: bool) -> None:
    assert matches(pattern, name) is held


@given(st.text("ab*?", max_size=8), st.text("ab", max_size=8))
def test_stars_and_marks_are_pythons(pattern: str, name: str) -> None:
    assert matches(pattern, name) is fnmatchcase(name, pattern)


def test_a_pattern_of_many_stars_takes_no_time_to_speak_of() -> None:
    assert not matches("*a" * 200 + "b", "a" * 255)


@given(st.text())
def test_any_text_is_a_pattern_or_wrong_usage(text: str) -> None:
    pattern = read_or_misused(parse_pattern, text)
    if pattern is None:
        return
    assert pattern.matches(["x"]) in (True, False)
    assert pattern.leads_from([])


@pytest.mark.parametrize("text", ["", "/", "[a", "x/[", "a\0b", "x" * (LONGEST + 1)])
def test_what_is_no_pattern_is_refused(text: str) -> None:
    with pytest.raises(FileError) as refused:
        parse_filter([text], [])
    assert refused.value.error is E.USAGE


def test_there_are_only_so_many_patterns() -> None:
    with pytest.raises(FileError):
        parse_filter(["x"] * MOST_PATTERNS, ["y"])


@pytest.mark.parametrize(
    ("hide", "show", "path", "directory", "allowed"),
    [
        ([], [], "a/b", False, True),
        (["*.key"], [], "a/b.key", False, False),
        (["*.key"], [], "a.key/b", False, False),
        (["/a"], [], "a/b", False, False),
        (["/a"], [], "b/a", False, True),
        (["a/*"], [], "a", True, True),
        (["a/*"], [], "a/b/c", False, False),
        ([], ["*.txt"], "a/b.txt", False, True),
        ([], ["*.txt"], "a/b", False, False),
        ([], ["*.txt"], "a/b", True, True),
        ([], ["docs/pub"], "docs", True, True),
        ([], ["docs/pub"], "docs", False, False),
        ([], ["docs/pub"], "other", True, False),
        ([], ["docs/pub"], "docs/pub/x/y", False, True),
        ([], ["docs/pub"], "docs/x", True, False),
        (["x"], ["docs"], "docs/x", False, False),
        (["*"], [], "", True, True),
    ],
)
def test_hidden_comes_first_and_shown_takes_along_what_is_below(
    hide: list[str], show: list[str], path: str, directory: bool, allowed: bool
) -> None:
    assert parse_filter(hide, show).allows([name for name in path.split("/") if name], directory) is allowed


WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)


@given(st.builds(Shown, WORDS, st.booleans(), st.lists(WORDS).map(tuple), st.lists(WORDS).map(tuple)))
def test_what_is_to_be_shown_reads_as_it_was_written(shown: Shown) -> None:
    assert parse_shown(shown.text()) == shown


@given(st.text())
def test_any_text_says_what_is_to_be_shown_or_is_refused(text: str) -> None:
    shown = read_or_misused(parse_shown, text)
    assert shown is None or shown.path


# -- over the wire ----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def exported(
    dialect: Dialect, hide: list[str], show: list[str], server: CountingServer | None = None
) -> AsyncIterator[Client]:
    """The tree of `joined`, or another, exported through a filter."""
    process = local_process(server or tree())
    process.namespace = ShownNamespace.of(process.namespace, parse_filter(hide, show))
    here, there = pair()
    serving = asyncio.create_task(Export(there, process, attach_to(process)).serve())
    mount = await MountServer.connect(here, StoppedClock(), "#M", dialect)
    try:
        yield Client(mount, ME)
    finally:
        await mount.close()
        await serving


@DIALECTS
async def test_what_is_hidden_is_not_listed_walked_to_or_made(dialect: Dialect) -> None:
    async with exported(dialect, ["e", "/f", "*.key"], []) as client:
        assert [name for name in await client.names("") if name != "l"] == ["d", "w"]
        assert await client.names("d") == ["x"]
        assert await client.names("d", count=1) == ["x"]
        assert await client.read("d/x") == b"d/x"
        for path in ("f", "d/e", "d/e/y"):
            assert await bring(client.walk(path)) is E.NOENT
        assert await bring(client.put("w/a.key", b"x")) is E.ACCES
        assert await bring(client.mkdir("e")) is E.ACCES
        await client.put("w/a", b"x")
        assert await bring(client.wstat("w/a", SetStat(name="b.key"))) in (E.ACCES, E.IO)
        await client.wstat("w/a", SetStat(name="b"))
        assert await client.names("w") == ["b"]


async def test_a_rename_or_link_neither_finds_nor_makes_what_is_hidden() -> None:
    async with exported(Dialect.NG, ["f", "*.key"], []) as client:
        assert await bring(client.rename("f", "w/g")) is E.NOENT
        assert await bring(client.rename("d/x", "w/x.key")) is E.ACCES
        await client.rename("d/x", "w/x")
        assert await client.read("w/x") == b"d/x"
        assert await bring(client.symlink("w/y.key", "x")) is E.ACCES
        existing, directory = await client.walk("w/x"), await client.walk("w")
        assert await bring(done_link(client, directory, existing, "y.key")) is E.ACCES
        await client.symlink("w/y", "x")
        assert await client.names("w") == ["x", "y"]


@DIALECTS
async def test_no_renaming_of_a_directory_undoes_a_pattern_of_a_path_below_it(dialect: Dialect) -> None:
    async with exported(dialect, ["/d/e/y"], []) as client:
        for path in ("d/e", "d"):
            assert await bring(client.wstat(path, SetStat(name="z"))) in (E.ACCES, E.IO)
            assert await bring(client.rename(path, path.replace(path[-1], "z"))) in (E.ACCES, E.IO)
        assert await client.names("d") == ["e", "x"]
        assert await client.names("d/e") == []
        if dialect not in OLD_STYLE:
            assert await bring(client.rename("d/e", "w/e")) is E.ACCES
        await client.wstat("w", SetStat(name="v"))
        await client.wstat("d/x", SetStat(name="v"))
        assert (await client.names(""), await client.names("d")) == (["d", "f", "l", "v"], ["e", "v"])


@pytest.mark.parametrize(
    ("show", "old", "new"),
    [(["*.txt"], "w", "w.txt"), (["*.txt"], "w", "a.txt/w"), (["/w/a", "/v/b"], "w", "v"), (["*.txt"], "a.txt", "a")],
)
async def test_a_directory_is_not_moved_to_where_more_of_it_is_shown_or_less(
    show: list[str], old: str, new: str
) -> None:
    server = tree()
    for path in ("/a.txt", "/a.txt/in", "/q"):
        server.plant(path, None)
    for path in ("/w/a", "/w/b"):
        server.plant(path, "secret")
    async with exported(Dialect.NG, [], show, server) as client:
        assert await bring(client.rename(old, new)) is E.ACCES
        assert await bring(client.walk("w/b")) is E.NOENT
        if show == ["*.txt"]:
            await client.rename("a.txt/in", "a.txt/on")
            await client.rename("w", "q/w")
            assert await bring(client.walk("q/w/a")) is E.NOENT


NAMES = st.sampled_from(["a", "b", "c"])
WAYS = st.lists(NAMES, min_size=1, max_size=3)
PATTERNS = st.lists(
    st.lists(st.sampled_from(["a", "b", "c", "*", "[ab]"]), min_size=1, max_size=4).map("/".join)
    | NAMES.map(lambda name: f"/{name}"),
    max_size=3,
)


@given(PATTERNS, PATTERNS, WAYS, WAYS, st.lists(NAMES, min_size=1, max_size=3), st.booleans())
def test_where_a_directory_may_go_everything_below_it_is_shown_as_before(
    hide: list[str], show: list[str], old: list[str], new: list[str], below: list[str], directory: bool
) -> None:
    shown = parse_filter(hide, show)
    if shown.allows(old, True) and shown.allows(new, True) and shown.shows_alike(old, new):
        assert shown.allows([*old, *below], directory) is shown.allows([*new, *below], directory)


async def done_link(client: Client, directory: object, existing: object, name: str) -> None:
    await done(client.server.link(directory, existing, name))  # type: ignore[arg-type]  # the fids of `walk`


async def test_a_link_leads_nowhere_that_is_not_shown() -> None:
    async with exported(Dialect.LEGACY, ["d"], []) as client:
        assert await bring(client.walk("l")) is E.NOENT
    async with exported(Dialect.LEGACY, ["e"], []) as client:
        assert await client.read("l") == b"d/x"


@DIALECTS
async def test_only_what_is_shown_and_what_leads_there_is_there(dialect: Dialect) -> None:
    async with exported(dialect, [], ["/d/e"]) as client:
        assert await client.names("") == ["d"]
        assert await client.names("d") == ["e"]
        assert await client.read("d/e/y") == b"e/y"
        assert await bring(client.walk("d/x")) is E.NOENT
        assert await bring(client.walk("w")) is E.NOENT


async def test_a_long_run_of_hidden_names_is_not_the_end_of_a_directory() -> None:
    server = tree()
    server.plant("/w/last", "")  # the newest entry is listed first
    for at in range(300):
        server.plant(f"/w/h{at}", "")
    for dialect in Dialect:
        async with exported(dialect, ["h*"], [], server) as client:
            assert await client.names("w", count=2) == ["last"]


def test_no_filter_shows_all() -> None:
    assert Filter().allows(("a", "b"), False)


def test_errors_of_patterns_are_of_the_table() -> None:
    with pytest.raises(CognuError):
        parse_shown("hide")

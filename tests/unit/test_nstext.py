"""A namespace as text: what describe prints rebuilds the mount table; words survive quoting."""

from __future__ import annotations

import json
import pathlib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cognu.errors import E, FileError
from cognu.files.chan import Chan
from cognu.files.mounts import MAFTER, MBEFORE, MCREATE, MREAD
from cognu.files.namespace import Namespace
from cognu.files.nstext import Command, describe, parse_options, quote, split_commands, split_words
from script import Runner, now

SETUP = json.loads((pathlib.Path(__file__).parents[1] / "data" / "namespace" / "vectors.json").read_text())["setup"]
Key = tuple[int, int]
Table = dict[Key, list[tuple[Key, bool]]]


def key(runner: Runner, chan: Chan) -> Key:
    """A file as namespaces over the same servers can both tell it."""
    return [id(server) for server in runner.servers].index(id(chan.server)), chan.qid.path


def table(runner: Runner, namespace: Namespace) -> Table:
    return {
        key(runner, head.place): [(key(runner, member.chan), member.create) for member in head.members]
        for head in namespace.heads.values()
    }


def rebuild(runner: Runner, text: str) -> tuple[Namespace, Chan]:
    """A namespace with the same root and devices, nothing mounted, after the commands of `text`."""
    old = runner.namespace
    devices = {letter: (device.server, device.cap) for letter, device in old.devices.items()}
    fresh = Namespace(old.domain.hold(), old.root.share(), devices)
    cwd = fresh.root
    for _, _, (verb, *words) in split_commands(text):
        if verb == "cd":
            cwd = now(fresh.find(words[0], cwd, runner.me))
            continue
        assert verb == "bind"
        flags, (source, place) = parse_options(words)
        now(fresh.bind(source, place, flags, cwd, runner.me))
    return fresh, cwd


DIRECTORIES = ["/", "/w", "/m", "/w/a", "/w/b", "/w/c", "/w/d", "/w/a/s", "/w/b/t", "/w/b/s", "/w/c/t", "/m/s", "."]
PLACE = st.one_of(
    st.sampled_from([*DIRECTORIES, "/w/a/x", "/w/b/y", "/m/z", "#1/w/a", "#2/s", "#2"]),
    st.builds("{}/{}".format, st.sampled_from(DIRECTORIES), st.sampled_from(["a", "b", "s", "t", "x", "y", "w", ".."])),
)
BIND = st.builds(
    lambda *words: ["bind", *words],
    PLACE,
    PLACE,
    st.sampled_from(["MREPL", "MBEFORE", "MAFTER", "MREPL|MCREATE", "MBEFORE|MCREATE", "MAFTER|MCREATE"]),
)
UNMOUNT = st.builds(lambda *words: ["unmount", *words], st.one_of(st.just("-"), PLACE), PLACE)
CHDIR = st.builds(lambda path: ["chdir", path], PLACE)
HISTORY = st.lists(st.one_of(BIND, BIND, BIND, UNMOUNT, CHDIR), max_size=14)


@settings(max_examples=300)
@given(HISTORY)
@example([["bind", "/w/a", "/w/a", "MBEFORE"], ["bind", "/w/a", "/w/a", "MAFTER"]])
@example([["bind", "/w/a/s", "/w/a", "MBEFORE"], ["bind", "/w/b/s", "/w/a", "MBEFORE"]])
@example([["bind", "/w/b", "/w/a", "MBEFORE"], ["bind", "/w/a", "/w/c", "MREPL"], ["unmount", "-", "/w/a"]])
def test_what_is_printed_rebuilds_the_same_mount_table(history: list[list[str]]) -> None:
    runner = Runner(SETUP)
    for operation in history:
        runner.run(operation)
    before = table(runner, runner.namespace)
    text = describe(runner.namespace, runner.cwd)
    fresh, cwd = rebuild(runner, text)
    assert table(runner, fresh) == before, text
    assert key(runner, cwd) == key(runner, runner.cwd), text
    assert table(runner, runner.namespace) == before  # describing changes nothing
    again, _ = rebuild(runner, describe(fresh, cwd))
    assert table(runner, again) == before
    for namespace in (fresh, again, runner.namespace):
        namespace.release()


def test_a_namespace_is_printed_as_ns_does() -> None:
    runner = Runner(SETUP)
    for line in ("bind /w/b /w/a MAFTER|MCREATE", "bind /w/a/x /w/f MREPL", "bind /m /w/d MBEFORE", "chdir /w/a"):
        assert runner.run(line.split()) == {"ok": ""}
    assert describe(runner.namespace, runner.cwd) == (
        "bind -c #2 /m\nbind -ac /w/b /w/a\nbind #1/w/a/x /w/f\nbind -b #2 /w/d\ncd /w/a\n"
    )


def test_a_bind_on_a_place_that_was_bound_before_is_printed_as_it_was_typed() -> None:
    runner = Runner(SETUP)
    for line in ("bind /w/b /w/a MREPL", "bind /m/s /w/a MBEFORE"):
        assert runner.run(line.split()) == {"ok": ""}
    text = describe(runner.namespace, runner.cwd)
    assert text == "bind -c #2 /m\nbind /w/b /w/a\nbind -b /m/s /w/a\ncd /\n"
    fresh, _ = rebuild(runner, text)
    assert table(runner, fresh) == table(runner, runner.namespace)


def test_names_with_odd_characters_are_rebuilt_too() -> None:
    runner = Runner(SETUP)
    for name in ("it's", "two words", "#", "line\nbreak", "''", "ümlaut", "a\u2028b", "-a", "tab\t"):
        runner.servers[0].plant(f"/w/d/{name}", None)
        now(runner.namespace.bind("/w/b", f"/w/d/{name}", MAFTER, runner.cwd, runner.me))
        now(runner.namespace.bind(f"/w/d/{name}", "/w/c", MBEFORE, runner.cwd, runner.me))
    fresh, _ = rebuild(runner, describe(runner.namespace, runner.cwd))
    assert table(runner, fresh) == table(runner, runner.namespace)


@given(st.lists(st.text(max_size=12)))
def test_words_come_back_as_they_were_quoted(words: list[str]) -> None:
    assert split_words(" ".join(quote(word) for word in words)) == words
    text = "\n".join(quote(word) for word in words)
    assert [command.words for command in split_commands(text)] == [[word] for word in words]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []), ("  \t ", []), ("# all of it", []), ("#", []), ("a # b", ["a"]),
        ("#c/cons /dev", ["#c/cons", "/dev"]),
        ("a#b", ["a#b"]), ("'it''s'", ["it's"]), ("a'b c'd", ["ab cd"]), ("'' ''''", ["", "'"]), ("a\r\n", ["a"]),
        ("'# no comment'", ["# no comment"]), ("# don't", []),
    ],
)  # fmt: skip
def test_words_are_split_as_rc_does(text: str, words: list[str]) -> None:
    assert split_words(text) == words


def test_commands_know_their_lines() -> None:
    text = "\n# first\nbind a b\n\nbind 'two\nlines' c # x\ncd /\n"
    assert [(command.line, command.words) for command in split_commands(text)] == [
        (3, ["bind", "a", "b"]), (5, ["bind", "two\nlines", "c"]), (7, ["cd", "/"]),
    ]  # fmt: skip
    assert [command.text for command in split_commands("a 'b'\nc")] == ["a 'b'", "c"]


def test_a_quote_left_open_is_refused_after_the_commands_before_it() -> None:
    commands = split_commands("cd /\nbind 'open\nx")
    assert next(commands).words == ["cd", "/"]
    with pytest.raises(FileError) as caught:
        next(commands)
    assert (caught.value.error, caught.value.subject) == (E.SYNTAX, "'open")


@given(st.text(alphabet=st.sampled_from("ab'# \n\t\\\"-/"), max_size=60))
def test_any_text_is_split_or_refused(text: str) -> None:
    errors: list[E] = []
    commands: list[Command] = []
    try:
        commands += split_commands(text)
    except FileError as refused:
        errors.append(refused.error)
    if errors:
        assert errors == [E.SYNTAX]
        assert "'" in text
        return
    assert all(command.words for command in commands)
    lines = [command.line for command in commands]
    assert lines == sorted(set(lines))
    assert sum(len(word) for command in commands for word in command.words) <= len(text)
    requoted = "\n".join(" ".join(map(quote, command.words)) for command in commands)
    assert [command.words for command in split_commands(requoted)] == [command.words for command in commands]


def test_options_are_flags() -> None:
    assert parse_options(["-ac", "x", "-b"]) == (MAFTER | MCREATE, ["x", "-b"])
    assert parse_options(["-b", "-c", "x"]) == (MBEFORE | MCREATE, ["x"])
    assert parse_options(["-ar", "x"]) == (MAFTER | MREAD, ["x"])
    assert parse_options(["-", "x"]) == (0, ["-", "x"])
    assert parse_options([]) == (0, [])
    with pytest.raises(FileError) as caught:
        parse_options(["-x"])
    assert caught.value.error is E.USAGE

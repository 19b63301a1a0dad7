"""Word expansion, as arguments that a command gets, and patterns for names."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognu.shell.pattern import compile_pattern, matches
from shell_fake import Bench, Running


@pytest.fixture
def bench() -> Bench:
    bench = Bench()

    async def show(running: Running) -> int:
        await running.stdout.write(json.dumps(running.argv[1:]).encode())
        return 0

    bench.program("show", show)
    return bench


async def arguments(bench: Bench, text: str) -> list[str]:
    result = await bench.run(text)
    assert (result.status, result.err) == (0, "")
    shown = json.loads(result.out)
    assert isinstance(shown, list)
    return shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("show a 'b c' \"d\"", ["a", "b c", "d"]),
        ("show '' \"\"", ["", ""]),
        ("x='a  b'; show $x", ["a", "b"]),
        ("x='a  b'; show \"$x\"", ["a  b"]),
        ("x='a  b'; y=$x; show \"$y\"", ["a  b"]),
        ("x=' a '; show -$x-", ["-", "a", "-"]),
        ("x=' a '; show \"-$x-\"", ["- a -"]),
        ("x='a\tb\nc'; show $x", ["a", "b", "c"]),
        ("x=a; show $x$x ${x}b \"$x\"'$x'", ["aa", "ab", "a$x"]),
        ("show $none", []),
        ('show "$none"', [""]),
        ("show a$none", ["a"]),
        ("x=' '; show $x", []),
        ("x=' '; show a$x'b'", ["a", "b"]),
        ("x='a '; show $x''", ["a", ""]),
        ('show $1 "$2" $3', ["one", "two words"]),
        ("show $2", ["two", "words"]),
        ("show $# $0 ${2}", ["2", "sh", "two", "words"]),
        ("show $@", ["one", "two", "words"]),
        ('show "$@"', ["one", "two words"]),
        ('show "-$@-"', ["-one", "two words-"]),
        ('show "$*"', ["one two words"]),
        ("show $*", ["one", "two", "words"]),
        ('x="$@"; show "$x"', ["one two words"]),
        ("show ~ ~/a '~' a~ ~other", ["/home/me", "/home/me/a", "~", "a~", "~other"]),
        ("x=~/b; show $x", ["/home/me/b"]),
        ("HOME='/a b'; show ~", ["/a b"]),
        ("unset HOME; show ~", ["~"]),
        ("show $$ $?", ["7", "0"]),
        ("show $(echo a b)", ["a", "b"]),
        ('show "$(echo a b)"', ["a b"]),
        ("show \"$(echo 'a\n\n')\"-", ["a-"]),
        ("show \"$(echo '\na')\"", ["\na"]),
        ("show $(echo a $(echo b `echo c`))", ["a", "b", "c"]),
        ('show "`echo \\"a  b\\"`"', ["a  b"]),
        ("show $(echo '$x')", ["$x"]),
        ("show `echo \\`echo a\\``", ["a"]),
        ("show $()", []),
        ("x=1; show $(x=2; echo $x) $x", ["2", "1"]),
        ("show $(cd /tmp; pwd) $(pwd)", ["/tmp", "/home/me"]),
        ("show $(exit 3; echo no)$?", ["0"]),
    ],
)
async def test_words_become_arguments(bench: Bench, text: str, expected: list[str]) -> None:
    assert await arguments(bench, text) == expected


async def test_without_arguments_the_quoted_list_is_nothing(bench: Bench) -> None:
    bench.shell.arguments = ("sh",)
    assert await arguments(bench, 'show "$@" "$*" $# \'\'"$@"') == ["", "0", ""]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*", ["a.c", "b.c", "d", "note 1"]),
        ("*.c", ["a.c", "b.c"]),
        ("?.c", ["a.c", "b.c"]),
        ("[ab].c", ["a.c", "b.c"]),
        ("[!a].c", ["b.c"]),
        ("[^a].c", ["b.c"]),
        ("[b-z].c", ["b.c"]),
        ("'*'.c", ["*.c"]),
        ("\\*.c", ["*.c"]),
        ("*.h", ["*.h"]),
        ("x/*", ["x/*"]),
        ("[", ["["]),
        ("[a", ["[a"]),
        (".*", [".hidden"]),
        ("d/*", ["d/e", "d/f"]),
        ("d/*/g", ["d/e/g"]),
        ("*/e", ["d/e"]),
        ("*/", ["d/"]),
        ("d/*/", ["d/e/"]),
        ("a.c/*", ["a.c/*"]),
        ("./*.c", ["./a.c", "./b.c"]),
        ("/home/*/a.c", ["/home/me/a.c"]),
        ("/ho*", ["/home"]),
        ("//ho*", ["//home"]),
        ("note*", ["note 1"]),
        ("*'e 1'", ["note 1"]),
        ('"d"/*', ["d/e", "d/f"]),
        ("~/*.c", ["/home/me/a.c", "/home/me/b.c"]),
        ("../me/a*", ["../me/a.c"]),
    ],
)
async def test_patterns_become_names(bench: Bench, pattern: str, expected: list[str]) -> None:
    for path, data in (("a.c", b""), ("b.c", b""), ("d/f", b""), ("d/e/g", b""), (".hidden", b""), ("note 1", b"")):
        bench.system.make(path, data)
    assert await arguments(bench, f"show {pattern}") == expected


async def test_a_pattern_may_come_from_a_variable_but_not_from_a_quoted_one(bench: Bench) -> None:
    bench.system.make("a.c", b"")
    assert await arguments(bench, "x='*.c'; show $x \"$x\" $(echo '*.c') x=*.c") == ["a.c", "*.c", "a.c", "x=*.c"]


async def test_a_name_in_two_members_of_a_union_matches_once(bench: Bench) -> None:
    bench.system.make("/tmp/a", b"")
    bench.system.make("a", b"")
    assert await arguments(bench, "bind -a /tmp . ; show *") == ["a"]


async def test_a_link_to_nowhere_is_no_directory(bench: Bench) -> None:
    bench.system.make("gone", link="nowhere")
    bench.system.make("d/x", b"")
    bench.system.make("there", link="d")
    assert await arguments(bench, "show */ */x g*") == ["d/", "there/", "d/x", "there/x", "gone"]


async def test_a_directory_that_cannot_be_read_holds_no_match(bench: Bench) -> None:
    assert await arguments(bench, "show /none/* /dev/null/*") == ["/none/*", "/dev/null/*"]


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("", "", True),
        ("*", "", True),
        ("?", "", False),
        ("a*b*c", "aXbYc", True),
        ("a*b*c", "aXbYcZ", False),
        ("**a", "ba", True),
        ("[]a]", "]", True),
        ("[!]a]", "b", True),
        ("[!]a]", "]", False),
        ("[a-]", "-", True),
        ("[-a]", "-", True),
        ("[z-a]", "m", False),
        ("[a-cx]", "x", True),
        ("*a", ".a", False),
        ("?a", ".a", False),
        ("[.]a", ".a", False),
        (".a", ".a", True),
        ("é?", "éü", True),
    ],
)
def test_a_pattern_fits_the_whole_name(pattern: str, name: str, fits: bool) -> None:
    assert matches(compile_pattern([(pattern, False)]), name) == fits


def test_a_quoted_bracket_and_dash_stand_for_themselves() -> None:
    assert matches(compile_pattern([("[a", False), ("-", True), ("c]", False)]), "-")
    assert not matches(compile_pattern([("[a", False), ("-", True), ("c]", False)]), "b")
    assert matches(compile_pattern([("[", False), ("]", True), ("]", False)]), "]")
    assert matches(compile_pattern([("[", True), ("a]", False)]), "[a]")


def test_a_hostile_pattern_is_answered() -> None:
    # A matcher that goes back to every star would need about 2000**20 steps.
    assert not matches(compile_pattern([("a*" * 20 + "b", False)]), "a" * 2000)


@given(st.lists(st.tuples(st.text(alphabet="ab*?[]!^-/é."), st.booleans())), st.text(alphabet="ab]-é."))
def test_any_pattern_compiles_and_matching_ends(pieces: list[tuple[str, bool]], name: str) -> None:
    assert matches(compile_pattern(pieces), name) in (True, False)


@given(st.text(), st.text())
def test_quoted_text_fits_itself_alone(text: str, other: str) -> None:
    steps = compile_pattern([(text, True)])
    assert matches(steps, text)
    assert matches(steps, other) == (text == other)


@given(st.text(alphabet="ab"), st.text(alphabet="ab"), st.text(alphabet="ab"))
def test_a_star_stands_for_any_text(start: str, middle: str, end: str) -> None:
    assert matches(compile_pattern([(f"{start}*{end}", False)]), start + middle + end)

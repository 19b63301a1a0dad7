"""Commands on text: cat, echo, head, tail, wc, grep, sort; and POSIX regular expressions."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cognu.errors import E, FileError
from cognu.shell.commands import reading
from cognu.shell.commands.regex import compile_fixed, compile_regex
from cognu.shell.interactive import run_once
from cognu.shell.state import Streams
from shell_fake import Bench, FakeFile, FakeWorld

ALL_BYTES = bytes(range(256)) * 3


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.system.make("a", b"one\ntwo\nthree\n")
    bench.system.make("b", b"four\nfive")
    bench.system.make("empty", b"")
    bench.system.make("bytes", ALL_BYTES)
    bench.stdin = b"in 1\nin 2\n"
    return bench


@pytest.mark.parametrize(
    ("text", "out"),
    [
        ("cat", "in 1\nin 2\n"),
        ("cat a b", "one\ntwo\nthree\nfour\nfive"),
        ("cat b - b", "four\nfivein 1\nin 2\nfour\nfive"),
        ("cat -- a", "one\ntwo\nthree\n"),
        ("cat empty", ""),
        ("echo", "\n"),
        ("echo a  'b  c'", "a b  c\n"),
        ("echo -n a", "a"),
        ("echo -e -- a", "-e -- a\n"),
        ("head -n 2 a", "one\ntwo\n"),
        ("head -2 a", "one\ntwo\n"),
        ("head -n 0 a", ""),
        ("head -n 99 b", "four\nfive"),
        ("head -n 1", "in 1\n"),
        ("head -c 5 a", "one\nt"),
        ("head -c 0 a", ""),
        ("head -n 1 a b", "==> a <==\none\n\n==> b <==\nfour\n"),
        ("tail -n 2 a", "two\nthree\n"),
        ("tail -n 1 b", "five"),
        ("tail -n 0 a", ""),
        ("tail -n 99 a", "one\ntwo\nthree\n"),
        ("tail -n +2 a", "two\nthree\n"),
        ("tail -n +1 b", "four\nfive"),
        ("tail -n +9 a", ""),
        ("tail -c 3 b", "ive"),
        ("tail -c +3 b", "ur\nfive"),
        ("tail -c 0 b", ""),
        ("tail empty", ""),
        ("tail -n 1 a b", "==> a <==\nthree\n\n==> b <==\nfive"),
        ("wc -l a", "3 a\n"),
        ("wc -w < b", "2\n"),
        ("wc -c b", "9 b\n"),
        ("wc a", "      3       3      14 a\n"),
        ("wc -lc a b", "      3      14 a\n      1       9 b\n      4      23 total\n"),
        ("wc", "      2       4      10\n"),
        ("wc empty", "      0       0       0 empty\n"),
        ("sort a b", "five\nfour\none\nthree\ntwo\n"),
        ("sort -r a", "two\nthree\none\n"),
        ("echo 'b\na\nb\na' | sort -u", "a\nb\n"),
        ("echo '10\n9\n-1\n\nx\n1.5\n1.25' | sort -n", "-1\n\nx\n1.25\n1.5\n9\n10\n"),
        ("echo '10\n9' | sort -nr", "10\n9\n"),
        ("echo '1 b\n01 a\n2' | sort -nu", "1 b\n2\n"),
        ("echo '9007199254740993\n9007199254740992' | sort -n", "9007199254740992\n9007199254740993\n"),
        ("sort empty", ""),
        ("grep o a", "one\ntwo\n"),
        ("grep -v o a", "three\n"),
        ("grep -n o a", "1:one\n2:two\n"),
        ("grep -c o a", "2\n"),
        ("grep -i ONE a", "one\n"),
        ("grep o a b", "a:one\na:two\nb:four\n"),
        ("grep -c o a b", "a:2\nb:1\n"),
        ("grep -l o a b empty", "a\nb\n"),
        ("grep -nv o a b", "a:3:three\nb:2:five\n"),
        ("grep five b", "five\n"),
        ("grep 1 - a", "(standard input):in 1\n"),
        ("grep 1", "in 1\n"),
        ("grep -q o a", ""),
        ("grep -E 'o(n|u)' a b", "a:one\nb:four\n"),
        ("grep -F 'o(' a b || true", ""),
        ("echo 'a.b\naxb' | grep -F a.b", "a.b\n"),
        ("grep '' b", "four\nfive\n"),
        ("grep -- -x a; echo -x | grep -- -x", "-x\n"),
    ],
)
async def test_text_commands(bench: Bench, text: str, out: str) -> None:
    result = await bench.run(text)
    assert (result.out, result.status, result.err) == (out, 0, "")


async def test_grep_walks_trees(bench: Bench) -> None:
    bench.system.make("d/e/f", b"find me\n")
    bench.system.make("d/g", b"or me\n")
    bench.system.make("d/link", link="g")
    assert (await bench.run("grep -r me d")).out == "d/g:or me\nd/e/f:find me\n"
    assert (await bench.run("cd d; grep -rl find")).out == "./e/f\n"
    assert (await bench.run("cd ..; grep -rc me d/g")).out == "d/g:1\n"


@pytest.mark.parametrize(
    ("text", "status", "words"),
    [
        ("cat none a", 1, "none"),
        ("cat .", 1, E.ISDIR.text),
        ("head -n x a", 2, "x: usage"),
        ("head -n -1 a", 2, "-1: usage"),
        ("head -n", 2, "-n: usage: a value is missing"),
        ("tail -n 1234567890123456789 a", 2, "usage"),
        ("wc none a", 1, "none"),
        ("sort none", 1, "none"),
        ("grep nothing a", 1, ""),
        ("grep -q nothing a", 1, ""),
        ("grep o none", 2, "none"),
        ("grep o none a", 2, "none"),
        ("grep -q one a none", 0, ""),
        ("grep '\\(' a", 2, "usage"),
        ("grep -r o none", 2, "none"),
    ],
)
async def test_refusals(bench: Bench, text: str, status: int, words: str) -> None:
    result = await bench.run(text)
    assert result.status == status
    assert words in result.err
    assert bool(words) == bool(result.err)


@pytest.mark.parametrize("text", ["cat bytes", "cat < bytes | cat", "head -c 9999 bytes", "tail -c 9999 bytes"])
async def test_every_byte_passes(bench: Bench, text: str) -> None:
    await bench.run(f"{text} > copy")
    assert bench.system.data("copy") == ALL_BYTES


async def test_lines_that_are_no_text_pass_grep_and_sort(bench: Bench) -> None:
    await bench.run("head -n 99 bytes > copy1; tail -n 99 bytes > copy2; grep '' bytes > copy3; sort bytes > copy4")
    assert bench.system.data("copy1") == bench.system.data("copy2") == ALL_BYTES
    assert bench.system.data("copy3") == ALL_BYTES + b"\n"
    assert sorted(bench.system.data("copy4")) == sorted(ALL_BYTES + b"\n")


async def test_a_line_without_end_is_an_error(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "LONGEST_LINE", 10)
    bench.system.make("long", b"x" * 11)
    for text in ("grep x long", "sort long"):
        result = await bench.run(text)
        assert result.status in (1, 2)
        assert E.LINETOOLONG.text in result.err


async def test_grep_prints_a_line_when_it_comes(bench: Bench) -> None:
    plain, out, err = bench.streams()
    await plain.stdin.close()
    reading_end, writing_end = await bench.system.pipe()
    streams = Streams(reading_end, out, err)
    task = asyncio.create_task(run_once(bench.shell, "grep a", streams))
    await writing_end.write(b"a 1\nb\na")
    await out.until(b"a 1\n")
    await writing_end.write(b" 2\n")
    await out.until(b"a 2\n")
    await writing_end.close()
    assert await task == 0
    await bench.close(streams)


class Pieces(FakeFile):
    """A stream that comes in given pieces."""

    def __init__(self, pieces: list[bytes]) -> None:
        super().__init__(FakeWorld(), "pieces")
        self.pieces = [piece for piece in pieces if piece]

    async def read(self, count: int = 65536) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""


@given(st.lists(st.binary()))
async def test_lines_do_not_depend_on_the_pieces(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    found = [line async for line in reading.lines(Pieces(pieces))]
    assert found == (whole.removesuffix(b"\n").split(b"\n") if whole else [])


@settings(deadline=None)
@given(st.lists(st.text(alphabet="ab \n")), st.integers(0, 5))
async def test_head_tail_and_wc_do_not_depend_on_the_pieces(pieces: list[str], count: int) -> None:
    whole = "".join(pieces)
    lines = whole.splitlines(keepends=True)
    expected = {
        f"head -n {count}": "".join(lines[:count]),
        f"tail -n {count}": "".join(lines[len(lines) - count :] if count < len(lines) else lines) if count else "",
        f"tail -n +{count}": "".join(lines[max(count - 1, 0) :]),
        f"tail -c {count}": whole[len(whole) - min(count, len(whole)) :],
        f"tail -c +{count}": whole[max(count - 1, 0) :],
        f"head -c {count}": whole[:count],
        "wc": f"{whole.count(chr(10)):>7} {len(whole.split()):>7} {len(whole):>7}\n",
    }
    for text, out in expected.items():
        bench = Bench()
        streams, collected, err = bench.streams()
        await streams.stdin.close()
        streams = Streams(Pieces([piece.encode() for piece in pieces]), collected, err)
        if text.startswith("head -c"):
            # This one asks for exactly what it still wants, which such a stream does not heed.
            streams = Streams(Pieces([bytes([byte]) for byte in whole.encode()]), collected, err)
        assert await run_once(bench.shell, text, streams) == 0
        assert collected.text == out, text
        await bench.close(streams)


# Regular expressions.


@pytest.mark.parametrize(
    ("pattern", "extended", "line", "fits"),
    [
        ("a+", False, "a+", True),
        ("a+", False, "aa", False),
        ("a+", True, "aa", True),
        (r"a\+$", False, "aa", True),
        (r"a\+$", True, "a+", True),
        ("(a)", False, "(a)", True),
        ("^(a)$", True, "a", True),
        (r"\(a\)\1", False, "aa", True),
        (r"(a)\1", True, "a", False),
        (r"\(ab\)*c", False, "ababc", True),
        ("*a", False, "*a", True),
        (r"^*a", False, "*a", True),
        (r"\(*a\)", False, "*a", True),
        ("a^b", False, "a^b", True),
        ("a$b", False, "a$b", True),
        ("a^b", True, "a^b", False),
        ("^a$", False, "a", True),
        ("^a$", False, "ba", False),
        ("^", False, "", True),
        ("$", False, "x", True),
        (r"a\{2\}$", False, "aa", True),
        (r"^a\{2,3\}$", False, "aaaa", False),
        ("^a{2,}$", True, "aaaa", True),
        ("^a{,2}$", True, "aaa", False),
        ("a{2}", False, "a{2}", True),
        ("a|b", False, "b", False),
        ("a|b", True, "b", True),
        (r"a\|b", False, "b", True),
        ("^(a|bc)+$", True, "abca", True),
        ("a)", True, "a)", True),
        ("[]a]", False, "]", True),
        ("[^]a]", False, "]", False),
        ("[a-c]", False, "b", True),
        ("[a-]", False, "-", True),
        (r"[\]", False, "\\", True),
        (r"[\d]", False, "5", False),
        ("[[:digit:]]", False, "5", True),
        ("[^[:space:]x]", False, " x", False),
        ("[[:alpha:]_]", False, "_", True),
        ("[[.-.]]", False, "-", True),
        ("[[=a=]b]", False, "a", True),
        ("[[]", False, "[", True),
        ("[a&&b]", False, "&", True),
        ("[a--b]", True, "a", False),
        (r"\.", False, "x", False),
        (".", False, "é", True),
        ("^.$", False, "é", True),
        (r"\bfoo\b", False, "a foo b", True),
        (r"\<foo", False, "xfoo", False),
        (r"foo\>", False, "foox", False),
        (r"\w\W\s\S", False, "a  b", True),
        ("a**", False, "aa", True),
        ("^a+?$", True, "", True),
        ("^a*+a$", True, "aaa", True),
        ("(?:a)", True, "a", None),
        ("(?i)a", True, "A", None),
        ("a{99999}", True, "a", None),
        ("a{2,1}", True, "a", None),
        ("a{x}", True, "a", None),
        ("+a", True, "a", None),
        ("*a", True, "a", None),
        ("[a", False, "a", None),
        ("[z-a]", False, "a", None),
        ("[[:none:]]", False, "a", None),
        ("[[.ab.]]", False, "a", None),
        ("[a-", False, "a", None),
        (r"\(a", False, "a", None),
        (r"a\)", False, "a", None),
        ("(a", True, "a", None),
        ("a\\", False, "a", None),
        (r"\1", False, "a", None),
        ("(" * 5000 + ")" * 5000, True, "", None),
    ],
)
def test_regular_expressions(pattern: str, extended: bool, line: str, fits: bool | None) -> None:
    if (pattern, extended) == ("[a--b]", True):
        fits = None  # the range from a to - is empty
    if fits is None:
        with pytest.raises(FileError) as caught:
            compile_regex(pattern, extended, ignore_case=False)
        assert caught.value.error is E.USAGE
    else:
        assert (compile_regex(pattern, extended, ignore_case=False).search(line) is not None) == fits


@given(st.text(alphabet="ab\\(){}[]^$*+?|.,12:=-é\n#&~") | st.text(), st.booleans())
def test_any_pattern_compiles_or_is_a_usage_error(pattern: str, extended: bool) -> None:
    refused = None
    try:
        # A short line: patterns that take exponential time are possible, as they are in Python.
        compile_regex(pattern, extended, ignore_case=True).search("ab1")
    except FileError as error:
        refused = error.error
    assert refused in (None, E.USAGE)


@given(st.text())
def test_escaped_and_fixed_text_match_themselves(text: str) -> None:
    escaped = "".join(char if char.isalnum() else f"[{char}]" if char not in "^" else r"\^" for char in text)
    assert compile_regex(escaped, extended=True, ignore_case=False).fullmatch(text)
    assert compile_fixed(text, ignore_case=False).fullmatch(text)

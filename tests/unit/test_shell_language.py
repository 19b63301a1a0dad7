"""Choices, loops, functions, here-documents, expansions and scripts: what POSIX says they do."""

from __future__ import annotations

import asyncio
from unittest.mock import AsyncMock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cognu.errors import E, FileError
from cognu.shell import interpreter
from cognu.shell.arithmetic import calculate
from cognu.shell.commands.control import read_line
from shell_fake import Bench, Running


@pytest.fixture
def bench() -> Bench:
    return Bench()


Row = tuple[str, str, int]

CHOICES: list[Row] = [
    ("if true; then echo a; fi", "a\n", 0),
    ("if false; then echo a; fi", "", 0),
    ("if false; then echo a; else echo b; fi", "b\n", 0),
    ("if false; then echo a; elif true; then echo b; else echo c; fi", "b\n", 0),
    ("if false\nthen echo a\nelif false\nthen echo b\nelse\necho c\nfi\n", "c\n", 0),
    ("if true; then false; fi", "", 1),
    ("if echo x | grep -q x; then echo yes; fi", "yes\n", 0),
    ("if true; then echo a; fi | cat", "a\n", 0),
    ("if true; then echo a; fi > /tmp/f; cat /tmp/f", "a\n", 0),
    ("if true; then if false; then echo a; else echo b; fi; fi", "b\n", 0),
    ("echo if then fi else do done case esac for in { }", "if then fi else do done case esac for in { }\n", 0),
    ("case ab in a*) echo a;; *) echo b;; esac", "a\n", 0),
    ("case x in a | x) echo 1;; esac", "1\n", 0),
    ("case x in (a) echo 1;; (x) echo 2;; esac", "2\n", 0),
    ("case x in\na)\necho 1\n;;\nx)\necho 2\nesac", "2\n", 0),
    ("false; case x in a) echo 1;; esac", "", 0),
    ("false; case x in x) ;; esac", "", 0),
    ("case x in esac", "", 0),
    ("case '*' in '*') echo star;; esac; case a in '*') echo star;; esac", "star\n", 0),
    ("p='a*'; case abc in $p) echo fits;; esac; case abc in \"$p\") echo no;; esac", "fits\n", 0),
    ("case .x in *) echo dot;; esac", "dot\n", 0),
    ("case in in in) echo in;; esac", "in\n", 0),
    ("case $2 in 'two words') echo one word;; esac", "one word\n", 0),
]

LOOPS: list[Row] = [
    ("for x in a b c; do echo $x; done", "a\nb\nc\n", 0),
    ("for x in; do echo $x; done", "", 0),
    ("for x do echo $x; done", "one\ntwo words\n", 0),
    ("for x\ndo echo $x; done", "one\ntwo words\n", 0),
    ("for x\nin a\ndo\necho $x\ndone", "a\n", 0),
    ("for x in 'a b' c; do echo $x; done; echo $x", "a b\nc\nc\n", 0),
    ("y='a b'; for x in $y \"$y\"; do echo -$x; done", "-a\n-b\n-a b\n", 0),
    ("for in in in; do echo $in; done", "in\n", 0),
    ("i=0; while [ $i -lt 3 ]; do echo $i; i=$((i+1)); done", "0\n1\n2\n", 0),
    ("i=0; until [ $i -ge 2 ]; do echo $i; i=$((i+1)); done", "0\n1\n", 0),
    ("while false; do echo a; done", "", 0),
    ("for x in a b; do false; done", "", 1),
    ("for x in a b c; do if [ $x = b ]; then continue; fi; echo $x; done", "a\nc\n", 0),
    ("for x in a b c; do if [ $x = b ]; then break; fi; echo $x; done; echo $x", "a\nb\n", 0),
    ("for x in 1 2; do for y in a b; do break 2; done; echo no; done; echo $x$y", "1a\n", 0),
    ("for x in 1 2; do for y in a b; do continue 2; done; echo no; done; echo $x$y", "2a\n", 0),
    ("for x in 1 2; do for y in a b; do echo $x$y; break; done; done", "1a\n2a\n", 0),
    ("for x in 1 2; do for y in a b; do break 99; done; done; echo $x$y", "1a\n", 0),
    ("while true; do while break; do :; done; echo here; break; done", "here\n", 0),
    ("for x in a b; do eval break; done; echo $x", "a\n", 0),
    ("for x in b a; do echo $x; done | sort", "a\nb\n", 0),
    ("printed=; for x in a b; do echo $x; done > /tmp/f; cat /tmp/f", "a\nb\n", 0),
    ("printf=1; echo 'a b' | while read x y; do echo $y-$x; done", "b-a\n", 0),
    ('for x in 1 2; do read line; echo "$x $line"; done <<E\na\nb\nE\n', "1 a\n2 b\n", 0),
    ("while read -r x; do echo \"[$x]\"; done <<'E'\n  a\\b \nc\nE\n", "[a\\b]\n[c]\n", 0),
]

GROUPS: list[Row] = [
    ("{ echo a; echo b; }", "a\nb\n", 0),
    ("{ echo a; echo b; } | wc -l", "2\n", 0),
    ("{ x=1; }; echo $x", "1\n", 0),
    ("( x=1; cd /tmp ); echo -$x-; pwd", "--\n/home/me\n", 0),
    ("(exit 3); echo $?", "3\n", 0),
    ("(echo a; echo b) > /tmp/f; cat /tmp/f", "a\nb\n", 0),
    ("! { false; }", "", 0),
    ("{ cat; } < /tmp/in", "in\n", 0),
    ("{ echo a; { echo b; echo c; } > /tmp/f; }; cat /tmp/f", "a\nb\nc\n", 0),
    ("{ cat none; } 2> /tmp/f; grep -c none /tmp/f", "1\n", 0),
    ("{ echo } ; }", "}\n", 0),
    ("((echo a); echo b)", "a\nb\n", 0),
    ("true && { echo a; } || ( echo b )", "a\n", 0),
]

FUNCTIONS: list[Row] = [
    ("f() { echo $1-$#; }; f a b; f", "a-2\n-0\n", 0),
    ("f() { echo $0; }; f", "sh\n", 0),
    ("f() { return 3; echo no; }; f; echo $?", "3\n", 0),
    ("f() { false; return; }; f", "", 1),
    ("f() (exit 4); f; echo $?", "4\n", 0),
    ("f()\n{\necho a\n}\nf", "a\n", 0),
    ("f() for x in $@; do echo $x; done; f a b", "a\nb\n", 0),
    ("f() { x=2; }; x=1; f; echo $x", "2\n", 0),
    ("f() { local x=2 y; y=3; echo $x; }; x=1; f; echo $x-${y-none}", "2\n1-none\n", 0),
    ("f() { echo $x; }; x=1; x=2 f; echo $x", "2\n1\n", 0),
    ("f() { echo in; } > /tmp/f; f; cat /tmp/f", "in\n", 0),
    ("f() { cat; }; echo a | f", "a\n", 0),
    ("f() { echo a; }; x=$(f); echo -$x-", "-a-\n", 0),
    ("echo() { true; }; echo a", "", 0),
    ("exit() { echo no; }; exit 3", "", 3),
    ("f() { f() { echo 2; }; echo 1; }; f; f", "1\n2\n", 0),
    ("f() { shift; echo $@; }; f a b c; echo $1", "b c\none\n", 0),
    ("f() { for x in 1 2; do return $x; done; }; f; echo $?", "1\n", 0),
    ("n() { if [ $1 -gt 0 ]; then n $(($1 - 1)); else echo end; fi; }; n 100", "end\n", 0),
    ("f() { if [ $1 = 0 ]; then echo 1; else echo $(($1 * $(f $(($1 - 1))))); fi; }; f 6", "720\n", 0),
    ("f() { (return 3); echo $?; }; f", "3\n", 0),
    ("f() { eval 'return 5'; echo no; }; f; echo $?", "5\n", 0),
    ("(f() { echo a; }); f 2> /dev/null; echo $?", "127\n", 0),
]

DOCUMENTS: list[Row] = [
    ("cat <<E\na\nb\nE\n", "a\nb\n", 0),
    ("cat <<E\nE\n", "", 0),
    ("cat <<E\na\nE", "a\n", 0),
    ("x=1; cat <<E\n$x ${x} $(echo 2) `echo 3` $((2+2)) \\$x \"q\" 'q' \\a\nE\n", "1 1 2 3 4 $x \"q\" 'q' \\a\n", 0),
    ("x=1; cat <<'E'\n$x `a` \\\\\nE\n", "$x `a` \\\\\n", 0),
    ('x=1; cat <<"E F"\n$x\nE F\n', "$x\n", 0),
    ("x=1; cat <<\\E\n$x\nE\n", "$x\n", 0),
    ("cat <<-E\n\t\ta\n\t b\n\tE\n", "a\n b\n", 0),
    ("cat <<E\na\\\nb\nE\n", "ab\n", 0),
    ("cat <<A; cat <<B\na\nA\nb\nB\n", "a\nb\n", 0),
    ("cat <<A <<B\na\nA\nb\nB\n", "b\n", 0),
    ("cat <<E | wc -l\na\nb\nE\n", "2\n", 0),
    ("cat <<E && echo c\na\nE\n", "a\nc\n", 0),
    ("if true; then cat <<E\na\nE\nfi", "a\n", 0),
    ("x=$(cat <<E\na\nE\n); echo $x", "a\n", 0),
    ("f() { cat <<E\n$1\nE\n}; f a; f b", "a\nb\n", 0),
    ("while read x; do echo -$x; done <<E\na\nb\nE\n", "-a\n-b\n", 0),
    ("true <<E\n" + "long\n" * 100 + "E\necho $?", "0\n", 0),
    ("head -n 1 <<E\n" + "long\n" * 100 + "E\n", "long\n", 0),
    ("cat <<E - \na\nE\n", "a\n", 0),
    ("cat <<E\n" + "x" * 5000 + "\nE\n", "x" * 5000 + "\n", 0),
]

VALUES: list[Row] = [
    ("echo ${x:-a b} ${x-c}; x=; echo ${x:-d}-${x-e}", "a b c\nd-\n", 0),
    ("echo ${x:=1}; echo $x", "1\n1\n", 0),
    ("x=1; echo ${x:+yes}-${y:+no}-${y+no}", "yes--\n", 0),
    ("for w in ${x:-a b}; do echo $w; done", "a\nb\n", 0),
    ('for w in "${x:-a b}" ${x:-\'c d\'} ${x:-"e f"}; do echo $w; done', "a b\nc d\ne f\n", 0),
    ('for w in "${x:-}" ${x:-}; do echo [$w]; done', "[]\n", 0),
    ('echo ${x:-${y:-$(echo z)}} "${x:-"a  b"}"', "z a  b\n", 0),
    ("echo ${x:-}}", "}\n", 0),
    ("echo ${1:-a} ${9:-b} ${#1} ${#} ${#none}", "one b 3 2 0\n", 0),
    ("x=añb; echo ${#x}", "3\n", 0),
    ("f=/a/b.tar.gz; echo ${f%.*} ${f%%.*} ${f#*/} ${f##*/}", "/a/b.tar /a/b a/b.tar.gz b.tar.gz\n", 0),
    ("x='a*b'; echo \"${x%'*'*}\" ${x#\"a*\"}", "a b\n", 0),
    ("x=abc; p='?'; echo ${x#$p} ${x#\"$p\"}", "bc abc\n", 0),
    ("echo $((1 + 2 * 3)) $(( (1 + 2) * 3 )) $((7 / 2)) $((-7 / 2)) $((-7 % 2))", "7 9 3 -3 -1\n", 0),
    ("x=5; echo $((x * $x)) $((x > 4 && x < 6)) $((none)) $((0x10 + 010))", "25 1 0 24\n", 0),
    ("echo $((1 ? 2 : 1 / 0)) $((0 && 1 / 0)) $((1 || 1 / 0))", "2 0 1\n", 0),
    ('echo "$((1+1))" a$((2))b $(($(echo 3) + 1))', "2 a2b 4\n", 0),
    ("echo $( (echo a); echo b) $((echo c); echo d)", "a b c d\n", 0),
    ("echo $((~0)) $((!0)) $((1 << 4)) $((255 >> 4)) $((6 & 3)) $((6 | 3)) $((6 ^ 3))", "-1 1 16 15 2 7 5\n", 0),
    ("echo $((9223372036854775807 + 1))", "-9223372036854775808\n", 0),
    ("set -- a 'b c'; echo $# $2; shift; echo $1", "2 b c\nb c\n", 0),
    ("set --; echo $#", "0\n", 0),
    ("eval 'x=1;' echo '$x'", "1\n", 0),
    ("eval", "", 0),
    ("eval 'exit 4'; echo no", "", 4),
    (": ${x:=1} a b; echo $x", "1\n", 0),
]

CONDITIONS: list[Row] = [
    (f"{text}; echo $?", f"{status}\n", 0)
    for text, status in [
        ("test", 1), ("test ''", 1), ("test a", 0), ("[ a ]", 0), ("[ ]", 1), ("test -n a", 0), ("test -z a", 1),
        ("test -z ''", 0), ("test a = a", 0), ("test a != a", 1), ("test ! a = b", 0), ("test ! ''", 0), ("test -n", 0),
        ("test 2 -lt 10", 0), ("test 2 -gt 10", 1), ("test -1 -le 0", 0), ("test 3 -eq 03", 0), ("test 1 -ne 1", 1),
        ("test -e /tmp", 0), ("test -d /tmp", 0), ("test -f /tmp", 1), ("test -f /tmp/in", 0), ("test -s /tmp/in", 0),
        ("test -s /dev/null", 1), ("test -e /none/x", 1), ("test -r /tmp/in", 0), ("test -L /tmp/in", 1),
        ("test '(' a ')'", 0), ("test '(' = '('", 0), ("test ! = !", 0), ("test -d = -d", 0), ("test -t 0", 1),
        ("test x -a y 2> /dev/null", 2), ("test 1 -lt x 2> /dev/null", 2), ("[ a 2> /dev/null", 2),
    ]
]  # fmt: skip

STOPS: list[Row] = [
    ("set -e; false; echo no", "", 1),
    ("set -e; if false; then echo no; fi; false || echo a; ! true; false && echo no; echo b", "a\nb\n", 0),
    ("set -e; while false; do :; done; f() { false; echo in; }; f || echo no; echo a", "in\na\n", 0),
    ("set -e; f() { false; echo no; }; f; echo no", "", 1),
    ("set -e; (false; echo no); echo no", "", 1),
    ("set -e; x=$(false); echo no", "", 1),
    ("set -e; set +e; false; echo a", "a\n", 0),
    ('set -u; echo ${x-a}; x=; echo "-$x-" $#', "a\n-- 2\n", 0),
]


@pytest.mark.parametrize(
    ("text", "out", "status"),
    [*CHOICES, *LOOPS, *GROUPS, *FUNCTIONS, *DOCUMENTS, *VALUES, *CONDITIONS, *STOPS],
)
async def test_what_a_script_does(bench: Bench, text: str, out: str, status: int) -> None:
    bench.system.make("/tmp/in", b"in\n")
    result = await bench.run(text)
    assert (result.out, result.status, result.err) == (out, status, "")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("break", "no loop"),
        ("continue 2", "no loop"),
        ("for x in a; do break 0; done", "1 or more"),
        ("for x in a; do (break); done", "no loop"),
        ("f() { break; }; for x in a; do f; done", "no loop"),
        ("return", "no function"),
        ("local x", "no function"),
        ("shift 3", "2 arguments"),
        ("set -z", "-z"),
        ("eval 'a | |'", E.SYNTAX.text),
        ("echo $((1 / 0))", "division by zero"),
        ("echo $((1 +))", "number"),
        ("echo $((1 2))", "not expected"),
        ("echo $((@))", "can't be read"),
        ("x=abc; y=1x; echo $((y))", "not a number"),
        ("echo $((" + "(" * 100 + "1" + ")" * 100 + "))", "nests"),
        ("echo $((" + "-" * 100 + "1))", "nests"),
        ("echo ${x:?is wanted}", "is wanted"),
        ("echo ${1:=a}; echo ${9:=a}", "only variables"),
        ("set -u; echo $none", "none"),
        ("test 1 = 1 = 1 = 1 = 1", "&&"),
        ("{ echo a; } > /none/f", "/none/f"),
        ("read 1x", "name of a variable"),
    ],
)
async def test_what_is_refused_is_told(bench: Bench, text: str, words: str) -> None:
    result = await bench.run(text)
    assert words in result.err
    assert (await bench.run(f"{text} ; echo $?")).out.endswith(("1\n", "2\n"))


async def test_calls_without_end_are_refused_and_the_shell_goes_on(bench: Bench) -> None:
    for text in (*(f"f() {{ {body}; }}; f" for body in ("f", "x=$(f)", "eval f", "(f)")), "e='eval \"$e\"'; eval $e"):
        result = await bench.run(f"{text}; echo after")
        assert E.DEEP.text in result.err
        assert result.out.endswith("after\n")


async def test_arguments_and_loops_are_as_before_after_a_failed_call(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interpreter, "MOST_CALLS", 3)
    result = await bench.run("f() { local x=$1; f in; }; x=out; for i in 1 2; do f a; echo $1 $x; break; done; echo $i")
    assert result.out == "one out\n1\n"


async def test_an_endless_loop_is_ended_by_an_interrupt(bench: Bench) -> None:
    for text in ("while true; do :; done", "until false; do true; done | cat", "f() { while :; do :; done; }; f"):
        running = asyncio.create_task(bench.run(text))
        for _ in range(50):
            await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert not [file for file in bench.world.open_files if file.path == "pipe"]


async def test_a_program_reads_a_here_document(bench: Bench) -> None:
    async def copy(running: Running) -> int:
        while data := await running.stdin.read():
            await running.stdout.write(data)
        return 0

    bench.program("copy", copy)
    text = "line\n" * 50
    assert (await bench.run(f"copy <<E\n{text}E\n")).out == text
    assert (await bench.run(f"copy <<E | copy\n{text}E\n")).out == text


async def test_nothing_is_run_of_a_script_whose_here_document_is_not_ended(bench: Bench) -> None:
    result = await bench.run("echo a; cat <<E\nb\n")
    assert (result.status, result.out) == (2, "")
    assert "'E' is not ended" in result.err


# Scripts as commands.


@pytest.mark.parametrize("first", ["#!/bin/sh", "#!/usr/bin/env sh", "#!cognu", "#! /bin/sh -e"])
async def test_a_file_with_a_shells_name_is_run_by_this_shell(bench: Bench, first: str) -> None:
    bench.system.make("go", f"{first}\necho $0 $# $1; x=2; cd /tmp; exit 5\n".encode())
    result = await bench.run("x=1; ./go 'a b' c; echo $? $x; pwd")
    assert (result.out, result.err) == ("/home/me/go 2 a b\n5 1\n/home/me\n", "")


async def test_a_script_in_bin_has_its_streams_and_its_own_variables_only(bench: Bench) -> None:
    bench.system.make("/bin/up", b"#!/bin/sh\nf 2> /dev/null; echo $?-$x; cat\n")
    result = await bench.run("f() { echo f; }; echo in | x=3 up | cat")
    assert result.out == "127-3\nin\n"


async def test_a_script_may_name_another_program(bench: Bench) -> None:
    async def show(running: Running) -> int:
        await running.stdout.write(" ".join(running.argv).encode())
        return 0

    bench.program("show", show)
    bench.system.make("go", b"#!/bin/show -a b\ntext")
    assert (await bench.run("./go x")).out == "/bin/show -a b /home/me/go x"


async def test_what_is_neither_program_nor_script_is_126(bench: Bench) -> None:
    for text in (b"text", b"", b"#", b"#!", b"#! \n", b"\0asm", b"#!/bin/env\n"):
        bench.system.make("go", text).data[:] = text
        assert (await bench.run("./go")).status == 126


async def test_a_script_that_can_not_be_read_is_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.system.make("go", b"#!/bin/sh\nif\n")
    result = await bench.run("./go")
    assert (result.status, "/home/me/go" in result.err, E.SYNTAX.text in result.err) == (2, True, True)
    bench.system.make("loop", b"#!/bin/sh\n./loop\n")
    assert E.DEEP.text in (await bench.run("./loop")).err
    bench.system.make("round", b"#!./round\n")
    assert E.DEEP.text in (await bench.run("./round")).err
    monkeypatch.setattr("cognu.shell.programs.MOST_SCRIPT", 5)
    assert E.TOOBIG.text in (await bench.run("./go")).err


async def test_a_sourced_script_runs_in_this_shell(bench: Bench) -> None:
    bench.system.make("set", b"x=1; cd /tmp; f() { echo f; }; echo $1 $#; return 3; echo no\n")
    result = await bench.run(". ./set a; echo $? $x $1; pwd; f")
    assert (result.out, result.err) == ("a 1\n3 1 one\n/tmp\nf\n", "")
    assert (await bench.run(". none")).status == 1


# Reading lines.


@pytest.mark.parametrize(
    ("data", "text", "out"),
    [
        (b"a b  c \nnext\n", "read x y; echo [$x][$y]; cat", "[a][b c]\nnext\n"),
        (b"a b  c \n", 'read x y; echo "[$x][$y]"', "[a][b  c]\n"),
        (b"a\\\nb\n", "read x; echo $x", "ab\n"),
        (b"a\\\nb\n", 'read -r x; echo "$x"', "a\\\n"),
        (b"last", "read x; echo $? $x", "1 last\n"),
        (b"", "x=1; read x; echo $? [$x]", "1 []\n"),
        (b"a\n", "read x y; echo [$x][$y]", "[a][]\n"),
        (b"\xff\n", "read x; echo $x", "\udcff\n"),
    ],
)
async def test_read(bench: Bench, data: bytes, text: str, out: str) -> None:
    bench.stdin = data
    assert (await bench.run(text)).out == out


class Counted:
    """A file with positions; how often it is read is counted."""

    path = "/counted"

    def __init__(self, data: bytes) -> None:
        self.data, self.at, self.reads = data, 0, 0

    async def has_positions(self) -> bool:
        return True

    def step_back(self, count: int) -> None:
        self.at -= count

    async def read(self, count: int = 65536) -> bytes:
        self.reads += 1
        piece = self.data[self.at : self.at + count]
        self.at += len(piece)
        return piece

    async def write(self, data: bytes) -> None:
        raise AssertionError

    async def close(self) -> None:
        pass


@given(st.lists(st.binary(max_size=5).map(lambda line: line.replace(b"\n", b"")), max_size=8), st.booleans())
async def test_lines_of_a_file_with_positions_are_read_as_those_of_a_stream(lines: list[bytes], raw: bool) -> None:
    data = b"\n".join(lines)
    near, stream = Counted(data), Counted(data)
    stream.has_positions = AsyncMock(return_value=False)  # type: ignore[method-assign]
    while True:
        read = await read_line(near, raw)
        assert read == await read_line(stream, raw)
        assert near.at == stream.at
        if not read[1]:
            break


async def test_a_line_of_a_file_costs_few_reads_and_nothing_beyond_it_is_taken() -> None:
    file = Counted(b"".join(b"%099d\n" % number for number in range(100)))
    for number in range(100):
        assert await read_line(file, False) == (b"%099d" % number, True)
        assert file.at == 100 * (number + 1)
    assert file.reads <= 200


# Arithmetic against Python's.


SIGNS = st.sampled_from(["+", "-", "*", "<", "==", "&", "|", "^"])
SUMS = st.recursive(
    st.integers(-99, 99).map(lambda number: f"({number})"),
    lambda inner: st.tuples(inner, SIGNS, inner).map(lambda sum_: f"({' '.join(sum_)})"),
    max_leaves=12,
)


@given(SUMS)
def test_sums_are_right(text: str) -> None:
    wanted = (int(eval(text)) + (1 << 63)) % (1 << 64) - (1 << 63)
    assert calculate(text, lambda name: "") == wanted


@given(st.text(alphabet="0123456789x+-*/%()<>=!&|^~?: a", max_size=60))
def test_any_sum_is_a_number_or_refused(text: str) -> None:
    value, refused = 0, E.USAGE
    try:
        value = calculate(text, lambda name: "7")
    except FileError as error:
        refused = error.error
    assert refused is E.USAGE
    assert -(1 << 63) <= value < 1 << 63


# Anything at all.

PIECES = [
    *("echo a", "true", "false", "x=1", "exit 3", "break", "continue", "return 2", "shift", "f", "read y", "cat"),
    "set -e",
    *("if x=2; then ", "; else ", "; fi", "for i in 1 2 3; do ", "; done", "{ ", "; }", "(", ")", "f() { ", " | "),
    *(" && ", " || "),
    *("; ", "\n", "case $x in 1) ", ";; esac", " <<E\n$x\nE\n", " > /tmp/f", " &", "echo $((x+1))", "${x:-a}"),
    *("eval 'echo b'", "local z=1", "while false; do ", "until true; do "),
]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=14))
async def test_any_script_with_structure_ends_and_leaks_nothing(pieces: list[str]) -> None:
    """Loops here are bounded; a function may call itself without end, or twice, so calls have a small limit."""
    bench = Bench()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interpreter, "MOST_CALLS", 3)
        result = await bench.run("".join(pieces))
    assert 0 <= result.status <= 255
    shell = bench.shell
    assert (shell.calls, shell.loops, shell.tested, shell.returns, shell.kept) == (0, 0, 0, 0, [])

"""Running scripts: pipelines, redirections, jobs, cancellation. Nothing may hang, and nothing may be left open."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cognu.errors import E, FileError, LinkBroken
from cognu.shell import interpreter
from cognu.shell.interactive import run_once
from cognu.shell.system import Grant, NoteGroup, Program, RunOptions
from shell_fake import Bench, FakeClock, Running


@pytest.fixture
def bench() -> Bench:
    return Bench()


class Gate:
    """A program that says it runs, waits, and goes on when the test lets it."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.opened = asyncio.Event()

    async def __call__(self, running: Running) -> int:
        self.entered.set()
        await self.opened.wait()
        return 0


async def endless(running: Running) -> int:
    while True:
        await running.stdout.write(b"y\n")


async def copy(running: Running) -> int:
    while data := await running.stdin.read():
        await running.stdout.write(data)
    return 0


async def never(running: Running) -> int:
    await asyncio.Event().wait()
    return 0


# Lists and status.


@pytest.mark.parametrize(
    ("text", "out", "status"),
    [
        ("", "", 0),
        ("false", "", 1),
        ("! false", "", 0),
        ("! true", "", 1),
        ("true && echo a", "a\n", 0),
        ("false && echo a", "", 1),
        ("false || echo a", "a\n", 0),
        ("true || echo a && echo b", "b\n", 0),
        ("false && echo a || echo b", "b\n", 0),
        ("false; echo $?", "1\n", 0),
        ("false || echo $?", "1\n", 0),
        ("x=1; false; x=2; echo $? $x", "0 2\n", 0),
        ("x=$(false); echo $?", "1\n", 0),
        ("x=$(exit 7)", "", 7),
        ("echo $(false); echo $?", "\n0\n", 0),
        ("exit 3; echo no", "", 3),
        ("false; exit", "", 1),
        ("exit 3 | true; echo $?", "0\n", 0),
        ("true | exit 3; echo $?", "3\n", 0),
        ("false | true", "", 0),
        ("true | false", "", 1),
        ("! true | false", "", 0),
        ("x=1 env | grep ^x; echo $x", "x=1\n\n", 0),
        ("x=1; x=2 true; echo $x", "1\n", 0),
        ("x=1 y=$x; echo $y", "1\n", 0),
        ("x=1 | x=2; echo -$x-", "--\n", 0),
        ("cd /tmp | cat; pwd", "/home/me\n", 0),
        ("cd /tmp && pwd", "/tmp\n", 0),
        ("$none", "", 0),
        ("$none echo a", "a\n", 0),
        ("x='echo a'; $x", "a\n", 0),
    ],
)
async def test_status_and_order(bench: Bench, text: str, out: str, status: int) -> None:
    result = await bench.run(text)
    assert (result.out, result.status, result.err) == (out, status, "")


async def test_nothing_runs_of_a_text_with_a_syntax_error(bench: Bench) -> None:
    result = await bench.run("echo a\necho b | | c")
    assert (result.status, result.out) == (2, "")
    assert "line 2, column 10" in result.err


async def test_a_command_that_is_not_there_is_127(bench: Bench) -> None:
    for text in ("nonesuch", "./nonesuch", "/bin/nonesuch", "nonesuchbase32word", "''"):
        result = await bench.run(text)
        assert result.status == 127, text
        assert result.err


async def test_what_is_no_program_is_126(bench: Bench) -> None:
    bench.system.make("notes.txt", b"text")
    result = await bench.run("./notes.txt; echo $?")
    assert result.out == "126\n"
    assert "/home/me/notes.txt" in result.err


async def test_errors_come_with_a_hint_on_a_terminal_only(bench: Bench) -> None:
    assert E.NOTFOUND.hint not in (await bench.run("nonesuch")).err
    assert E.NOTFOUND.hint in (await bench.run("nonesuch", terminal=True)).err


# Programs.


async def test_the_programs_of_a_pipeline_or_job_share_a_note_group(bench: Bench) -> None:
    groups: dict[str, NoteGroup | None] = {}

    async def program(running: Running) -> int:
        groups[running.argv[1]] = running.options.group
        return 0

    bench.program("prog", program)
    await bench.run("prog a | (prog b; prog c) | prog d; prog e; { prog f; prog g | prog h; } & wait; prog $(prog i)j")
    assert None not in groups.values()
    names = {name: [other for other in groups if groups[other] is groups[name]] for name in groups}
    assert set(names["a"]) == set("abcd")
    assert names["e"] == ["e"]
    assert set(names["f"]) == set("fgh")
    assert bench.shell.group is None


async def test_a_program_gets_arguments_environment_and_what_its_arguments_name(bench: Bench) -> None:
    seen: list[Running] = []

    async def program(running: Running) -> int:
        seen.append(running)
        return 42

    bench.program("prog", program)
    bench.system.make("notes.txt", b"")
    assert (await bench.run("x=1; y=2 prog -v notes.txt nofile /tmp ./notes.txt")).status == 42
    (running,) = seen
    assert running.argv == ("prog", "-v", "notes.txt", "nofile", "/tmp", "./notes.txt")
    assert running.env == {"HOME": "/home/me", "x": "1", "y": "2"}
    assert running.options == RunOptions(grants=(Grant("/home/me/notes.txt", "r"), Grant("/tmp", "r")))
    assert ("start", Program("/bin/prog"), running.argv, running.options) in bench.world.calls


async def test_a_hash_prefix_is_a_program(bench: Bench) -> None:
    bench.world.programs["bafkr4ih2"] = copy
    assert (await bench.run("echo hi | bafkr4ih2")).out == "hi\n"
    bench.system.make("x", b"")
    assert (await bench.run("bafkr4i")).status == 127


async def test_a_path_is_taken_from_the_working_directory(bench: Bench) -> None:
    bench.system.make("/tmp/prog", b"")
    bench.world.programs["/tmp/prog"] = copy
    bench.stdin = b"in"
    assert (await bench.run("cd /tmp; ./prog")).out == "in"


# Pipelines.


async def test_a_pipeline_carries_more_than_a_pipe_holds(bench: Bench) -> None:
    bench.program("copy", copy)
    bench.system.make("big", bytes(range(256)) * 40)
    await bench.run("cat big | copy | cat | copy > copied")
    assert bench.system.data("copied") == bytes(range(256)) * 40


async def test_a_reader_that_ends_early_ends_an_endless_writer_quietly(bench: Bench) -> None:
    bench.program("endless", endless)
    result = await bench.run("endless | head -n 2")
    assert (result.status, result.out, result.err) == (0, "y\ny\n", "")


async def test_a_writer_into_a_closed_pipe_is_141_without_a_word(bench: Bench) -> None:
    bench.system.make("big", b"line\n" * 100)
    result = await bench.run("cat big | true | cat; cat $(echo big) 2>&1 | true; ! cat big | true")
    assert (result.status, result.out, result.err) == (1, "", "")
    statuses: list[int] = []

    async def status_of_cat(running: Running) -> int:
        statuses.append(bench.world.children[0].task.result())
        return 0

    bench.program("endless", endless)
    bench.program("see", status_of_cat)
    await bench.run("endless | true; see")
    assert statuses == [141]


async def test_the_status_of_a_broken_writer_shows_when_it_comes_last(bench: Bench) -> None:
    bench.system.make("big", b"line\n" * 100)
    streams, out, err = bench.streams()
    await out.close()
    reading, writing = await bench.system.pipe()
    await reading.close()
    streams = type(streams)(streams.stdin, writing, streams.stderr)
    assert await run_once(bench.shell, "cat big", streams) == 141
    assert err.text == ""
    await bench.close(streams)


async def test_a_failed_command_in_the_middle_never_hangs(bench: Bench) -> None:
    bench.program("endless", endless)
    for middle in ("nonesuch", "cat nofile", "cat < nofile", "grep '\\('", "ls --bad", "cd nowhere", "x=1", "> /no/f"):
        result = await bench.run(f"endless | {middle} | wc -c")
        assert (result.status, result.out) == (0, "0\n"), middle
        assert result.err or middle == "x=1"


async def test_a_slow_reader_gets_everything(bench: Bench) -> None:
    gate = Gate()

    async def slow(running: Running) -> int:
        await gate(running)
        return await copy(running)

    bench.program("slow", slow)
    bench.system.make("big", b"0123456789" * 50)
    task = asyncio.create_task(bench.run("cat big | slow"))
    await gate.entered.wait()
    gate.opened.set()
    assert (await task).out == "0123456789" * 50


async def test_parts_of_a_pipeline_run_at_the_same_time(bench: Bench) -> None:
    first, second = Gate(), Gate()
    bench.program("first", first)
    bench.program("second", second)
    task = asyncio.create_task(bench.run("first | second"))
    await first.entered.wait()
    await second.entered.wait()
    second.opened.set()
    first.opened.set()
    assert (await task).status == 0


async def test_a_started_program_alone_holds_its_end_of_the_pipe(bench: Bench) -> None:
    """A program that closes its input early ends the writer, although the program itself goes on."""
    closed = asyncio.Event()
    gate = Gate()

    async def closes(running: Running) -> int:
        await running.stdin.close()
        closed.set()
        return await gate(running)

    async def writer(running: Running) -> int:
        try:
            return await endless(running)
        except FileError as error:
            if error.error is E.PIPE:
                gate.opened.set()
            raise

    bench.program("closes", closes)
    bench.program("writer", writer)
    assert (await bench.run("writer | closes")).status == 0
    assert closed.is_set()


async def test_no_pipe_to_be_had_is_an_error_and_leaks_nothing(bench: Bench) -> None:
    bench.world.pipes_left = 1
    result = await bench.run("echo a | cat | cat; echo $?; echo $(echo b)")
    assert result.out == "1\n"
    assert result.err.count(E.MFILE.text) == 2


async def test_a_defect_in_one_part_is_raised(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(type(bench.system), "processes", broken)
    bench.program("endless", endless)
    streams, _out, _err = bench.streams()
    with pytest.raises(ZeroDivisionError):
        await run_once(bench.shell, "endless | ps | cat", streams)
    await bench.close(streams)


async def test_a_lost_node_ends_the_script(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def lost(*_: object) -> None:
        raise LinkBroken(E.SESSIONLOST, "node")

    monkeypatch.setattr(type(bench.system), "processes", lost)
    result = await bench.run("ps | cat; echo more")
    assert (result.status, result.out) == (1, "")
    assert E.SESSIONLOST.text in result.err


# Redirections.


async def test_redirections(bench: Bench) -> None:
    bench.system.make("in", b"input")
    await bench.run("cat < in > out; cat in >> out; > empty; cat nofile 2> err; cat in nofile &> both")
    await bench.run("cat nofile > all 2>&1; echo late 2>&1 > file; echo to-err >&2 2> swapped")
    assert bench.system.data("out") == b"inputinput"
    assert bench.system.data("empty") == b""
    assert b"nofile" in bench.system.data("err")
    assert bench.system.data("both").startswith(b"input")
    assert b"nofile" in bench.system.data("both")
    assert b"nofile" in bench.system.data("all")
    assert bench.system.data("file") == b"late\n"
    assert bench.system.data("swapped") == b""


async def test_a_target_is_one_word_whatever_it_holds(bench: Bench) -> None:
    await bench.run("x='a b*'; echo hi > $x; echo ho > $(echo c d)")
    assert bench.system.data("a b*") == b"hi\n"
    assert bench.system.data("c d") == b"ho\n"


async def test_a_refused_redirection_keeps_the_command_from_running(bench: Bench) -> None:
    result = await bench.run("echo a > ok < nofile; echo $?; x=1 < nofile; echo -$x-; cat < ''")
    assert result.out == "1\n--\n"
    assert result.err.count("nofile") == 2
    assert bench.system.data("ok") == b""


async def test_what_closing_turns_up_makes_the_command_fail(bench: Bench) -> None:
    bench.system.make("full", b"").refuse_close = E.NOSPC
    result = await bench.run("echo a > full && echo fine")
    assert (result.status, result.out) == (1, "")
    assert E.NOSPC.text in result.err


async def test_a_write_that_is_refused_makes_the_command_fail(bench: Bench) -> None:
    bench.system.make("full", b"").refuse = E.NOSPC
    result = await bench.run("echo a > full; echo $?; cat nofile 2> full; echo $?")
    assert result.out == "1\n1\n"
    assert result.err.count(E.NOSPC.text) == 1


async def test_output_of_a_substitution_has_a_limit(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpreter, "MOST_OUTPUT", 100)
    bench.program("endless", endless)
    result = await bench.run("x=$(endless); echo $?-$x-")
    assert result.out == "1--\n"
    assert E.TOOBIG.text in result.err


async def test_any_bytes_but_zero_pass_through_a_substitution(bench: Bench) -> None:
    every = bytes(byte for byte in range(1, 256) if byte != 10)
    bench.system.make("bytes", b"\0" + every + b"\n\n")
    await bench.run('echo -n "$(cat bytes)" > copy')
    assert bench.system.data("copy") == every


# Jobs.


async def test_jobs_run_behind_and_are_waited_for(bench: Bench) -> None:
    gate = Gate()
    bench.program("gate", gate)
    streams, out, err = bench.streams()
    text = "gate && echo done & echo $!; jobs; wait; jobs; echo end"
    task = asyncio.create_task(run_once(bench.shell, text, streams))
    await out.until(b"%1\n[1] running  gate && echo done\n")
    await gate.entered.wait()
    gate.opened.set()
    assert await task == 0
    assert out.text == "%1\n[1] running  gate && echo done\ndone\nend\n"
    assert err.text == ""
    await bench.close(streams)


async def test_wait_gives_the_status_of_the_job_it_names(bench: Bench) -> None:
    result = await bench.run("exit 3 & exit 4 & wait %2; echo $?; wait %1; echo $?; wait %1; echo $?")
    assert result.out == "4\n3\n1\n"
    assert "%1" in result.err


async def test_a_job_reads_nothing_of_the_terminal(bench: Bench) -> None:
    bench.stdin = b"for the prompt"
    assert (await bench.run("cat & wait; cat")).out == "for the prompt"


async def test_the_shell_ends_after_its_jobs(bench: Bench) -> None:
    assert (await bench.run("cat /dev/null | echo late &")).out == "late\n"
    assert (await bench.run("echo $(echo a & echo b) | sort")).out in ("a b\n", "b a\n")


async def test_killing_a_job_interrupts_its_program(bench: Bench) -> None:
    gate = Gate()
    bench.program("gate", gate)
    bench.program("entered", lambda _: _wait(gate))
    result = await bench.run("gate & entered; kill -INT %1; wait %1; echo $?")
    assert result.out == "130\n"
    assert bench.child("gate").notes == ["interrupt"]


async def _wait(gate: Gate) -> int:
    await gate.entered.wait()
    return 0


@pytest.mark.parametrize("job", ["stubborn", "stubborn | cat", "x=$(true | stubborn)"])
async def test_killing_a_job_kills_a_program_that_does_not_listen(bench: Bench, job: str) -> None:
    gate = Gate()
    bench.program("stubborn", gate, stubborn=True)
    bench.program("entered", lambda _: _wait(gate))
    assert (await bench.run(f"{job} & entered; kill %1; wait %1; echo $?")).out == "130\n"
    assert bench.child("stubborn").notes == ["interrupt", "kill"]


# Cancelling.


@pytest.mark.parametrize(
    "text",
    [
        "sleep 9",
        "sleep 9 | cat",
        "cat /dev/null | sleep 9",
        "x=$(sleep 9)",
        "echo $(echo $(sleep 9)) > out",
        "true && sleep 9 | cat | cat; echo no",
        "sleep 9 > out 2>&1 < /dev/null",
        "env sleep 9",
        "sleep 9 & wait",
    ],
)
async def test_cancelling_ends_everything_in_the_foreground(bench: Bench, text: str) -> None:
    streams, out, _err = bench.streams()
    clock = bench.system.clock
    assert isinstance(clock, FakeClock)
    task = asyncio.create_task(run_once(bench.shell, text, streams))
    await clock.slept.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert out.text == ""
    await bench.close(streams)


async def test_cancelling_interrupts_programs_and_waits_for_them(bench: Bench) -> None:
    first, second = Gate(), Gate()
    bench.program("first", first)
    bench.program("second", second)
    streams, _out, _err = bench.streams()
    task = asyncio.create_task(run_once(bench.shell, "first | second", streams))
    await first.entered.wait()
    await second.entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [child.notes for child in bench.world.children] == [["interrupt"], ["interrupt"]]
    assert all(child.task.done() for child in bench.world.children)
    await bench.close(streams)


async def test_a_second_cancel_kills(bench: Bench) -> None:
    gate = Gate()
    bench.program("stubborn", gate, stubborn=True)
    for text in ("stubborn", "stubborn | cat", "x=$(stubborn)"):
        gate.entered.clear()
        streams, _out, _err = bench.streams()
        task = asyncio.create_task(run_once(bench.shell, text, streams))
        await gate.entered.wait()
        child = bench.world.children[-1]
        task.cancel()
        await child.noted.wait()
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert child.notes == ["interrupt", "kill"], text
        await bench.close(streams)


SCRIPT = "x=$(cat big | copy | head -n 2) && cat big < big > out 2>&1 | copy & cp big big2; copy < big | wc -l; wait"


async def test_cancelling_at_any_moment_leaks_nothing() -> None:
    """One cancel after each number of turns of the loop, over a script that does a bit of everything."""
    finished = False
    turns = 0
    while not finished:
        bench = Bench()
        bench.program("copy", copy)
        bench.system.make("big", b"0123456789\n" * 8)
        streams, out, _err = bench.streams()
        task = asyncio.create_task(run_once(bench.shell, SCRIPT, streams))
        for _ in range(turns):
            await asyncio.sleep(0)
        finished = not task.cancel()
        if finished:
            assert await task == 0
            assert "8\n" in out.text
        else:
            with pytest.raises(asyncio.CancelledError):
                await task
        assert all(child.task.done() for child in bench.world.children)
        await bench.close(streams)
        turns += 1
    assert turns > 20


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ["echo a", "cat", "cat nofile", "false", "true", "exit 2", "x=1", "$x", "$(echo b)", "`cat big`"]
            + ["nonesuch", "head -n 1", " | ", " && ", " || ", "; ", " & ", " ! ", "\n"]
            + [" > out ", " < big ", " 2>&1 ", " &> all "]
        ),
        max_size=12,
    )
)
async def test_any_script_ends_and_leaks_nothing(pieces: list[str]) -> None:
    bench = Bench()
    bench.system.make("big", b"echo c\n" * 20)
    result = await bench.run("".join(pieces))
    assert 0 <= result.status <= 255

"""The prompt: lines, continuation, Ctrl-C, Ctrl-D, exit, jobs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from cognu.errors import E, FileError, LinkBroken
from cognu.shell.interactive import CONTINUED, PATIENCE, PROMPT, Prompt
from cognu.shell.state import Streams
from shell_fake import Bench, Collector, FakeClock, FakeFile, Pipe, PipeEnd, Running


class Lines(PipeEnd):
    """A terminal's lines: at most one for each read."""

    async def read(self, count: int = 65536) -> bytes:
        line = b""
        while not line.endswith(b"\n") and (byte := await super().read(1)):
            line += byte
        return line


class Terminal:
    """A prompt on a terminal: what the user types goes in, and what the screen shows comes out."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        pipe = Pipe()
        self.keyboard = PipeEnd(bench.world, pipe, writes=True)
        self.screen = Collector(bench.world, "/dev/cons")
        keys = Lines(bench.world, pipe, writes=False, path="/dev/cons")
        self.streams = Streams(keys, self.screen, self.screen)
        self.prompt = Prompt(bench.shell, self.streams)
        self.task = asyncio.create_task(self.prompt.run())

    async def type(self, text: str) -> None:
        await self.keyboard.write(text.encode())

    async def shows(self, text: str) -> None:
        """Wait until the screen, from where the last call left off, shows `text`, and go on after it."""
        await self.screen.until(text.encode())
        del self.screen.data[: self.screen.data.index(text.encode()) + len(text.encode())]

    async def hang_up(self) -> int:
        await self.keyboard.close()
        return await self.task


@asynccontextmanager
async def terminal(bench: Bench) -> AsyncIterator[Terminal]:
    """A terminal that has shown its first prompt; at the end nothing may be open."""
    shown = Terminal(bench)
    await shown.shows(PROMPT)
    yield shown
    await shown.keyboard.close()
    await shown.task
    await bench.close(shown.streams)


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_lines_run_and_the_prompt_comes_again(bench: Bench) -> None:
    async with terminal(bench) as user:
        await user.type("echo a\n")
        await user.shows(f"a\n{PROMPT}")
        await user.type("x=1; false\n\n")
        await user.shows(PROMPT + PROMPT)
        await user.type("echo $x$?\n")
        await user.shows("11\n")


async def test_a_line_may_come_in_pieces_or_several_at_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Lines, "read", PipeEnd.read)
    async with terminal(bench) as user:
        await user.type("ec")
        await user.type("ho ä\xff\n")
        await user.shows("ä\xff\n")
        await user.shows(PROMPT)
        await user.type("echo 1\necho 2\n")
        await user.shows(f"1\n{PROMPT}2\n{PROMPT}")


async def test_incomplete_lines_go_on(bench: Bench) -> None:
    async with terminal(bench) as user:
        for first, second, shown in (
            ("echo 'a", "b'", "a\nb\n"),
            ("echo a |", "cat", "a\n"),
            ("echo a \\", "b", "a b\n"),
            ("true &&", "echo c", "c\n"),
            ("echo $(", "echo d)", "d\n"),
        ):
            await user.type(f"{first}\n")
            await user.shows(CONTINUED)
            await user.type(f"{second}\n")
            await user.shows(shown + PROMPT)


async def test_a_syntax_error_is_told_and_forgotten(bench: Bench) -> None:
    async with terminal(bench) as user:
        await user.type("echo 'a\n")
        await user.shows(CONTINUED)
        await user.type("b' | |\n")
        await user.shows("line 2, column 6")
        await user.shows(E.SYNTAX.hint)
        await user.shows(PROMPT)
        await user.type("echo $?\n")
        await user.shows("2\n")


async def test_the_end_of_the_input_ends_the_shell_with_the_last_status(bench: Bench) -> None:
    async with terminal(bench) as user:
        await user.type("false\n")
        await user.shows(PROMPT)
        assert await user.hang_up() == 1
        assert user.screen.text == "\n"


async def test_the_end_of_the_input_within_a_script_is_a_syntax_error(bench: Bench) -> None:
    async with terminal(bench) as user:
        await user.type("echo 'a\n")
        await user.shows(CONTINUED)
        assert await user.hang_up() == 2
        await user.shows("' is not closed")


async def test_a_last_line_without_its_newline_runs(bench: Bench) -> None:
    async with terminal(bench) as user:
        await user.type("echo last")
        assert await user.hang_up() == 0
        await user.shows("last\n")


async def test_exit_ends_the_shell(bench: Bench) -> None:
    async with terminal(bench) as user:
        await user.type("exit 3; echo no\n")
        assert await user.task == 3
        assert user.screen.text == ""


async def test_ctrl_c_drops_the_line_and_what_stands_before_it(bench: Bench) -> None:
    async with terminal(bench) as user:
        await user.type("echo 'a\n")
        await user.shows(CONTINUED)
        user.prompt.interrupt()
        await user.shows(f"\n{PROMPT}")
        await user.type("echo $?\n")
        await user.shows(f"130\n{PROMPT}")


async def test_ctrl_c_ends_the_foreground_pipeline(bench: Bench) -> None:
    entered = asyncio.Event()

    async def program(_running: Running) -> int:
        entered.set()
        await asyncio.Event().wait()
        return 0

    bench.program("prog", program)
    async with terminal(bench) as user:
        for text in ("prog", "prog | cat", "cat /dev/null | prog; echo no", "echo $(prog)"):
            entered.clear()
            await user.type(f"{text}\n")
            await entered.wait()
            user.prompt.interrupt()
            await user.shows(f"\n{PROMPT}")
            await user.type("echo $?\n")
            await user.shows(f"130\n{PROMPT}")
        assert all(child.notes == ["interrupt"] for child in bench.world.children)


async def test_a_second_ctrl_c_kills(bench: Bench) -> None:
    entered = asyncio.Event()

    async def program(_running: Running) -> int:
        entered.set()
        await asyncio.Event().wait()
        return 0

    bench.program("prog", program, stubborn=True)
    async with terminal(bench) as user:
        await user.type("prog\n")
        await entered.wait()
        user.prompt.interrupt()
        await bench.child("prog").noted.wait()
        user.prompt.interrupt()
        await user.shows(f"\n{PROMPT}")
        assert bench.child("prog").notes == ["interrupt", "kill"]


async def test_after_a_while_it_is_told_that_a_second_ctrl_c_kills(bench: Bench) -> None:
    entered = asyncio.Event()

    async def program(_running: Running) -> int:
        entered.set()
        await asyncio.Event().wait()
        return 0

    clock = bench.system.clock
    assert isinstance(clock, FakeClock)
    bench.program("prog", program, stubborn=True)
    async with terminal(bench) as user:
        await user.type("prog\n")
        await entered.wait()
        user.prompt.interrupt()
        await clock.slept.wait()
        assert clock.asked == [PATIENCE]
        clock.wake.set()
        await user.shows("it has not ended yet; Ctrl-C again kills it\n")
        user.prompt.interrupt()
        await user.shows(f"\n{PROMPT}")
        assert bench.child("prog").notes == ["interrupt", "kill"]


async def test_a_command_reads_from_the_terminal(bench: Bench) -> None:
    async with terminal(bench) as user:
        await user.type("head -n 1\n")
        await user.type("for head\n")
        await user.shows(f"for head\n{PROMPT}")


async def test_jobs_are_reported_before_the_prompt(bench: Bench) -> None:
    opened = asyncio.Event()

    async def program(_running: Running) -> int:
        await opened.wait()
        return 4

    bench.program("prog", program)
    async with terminal(bench) as user:
        await user.type("prog &\n")
        await user.shows(f"[1] running  prog\n{PROMPT}")
        await user.type("\n")
        await user.shows(PROMPT)
        await user.type("jobs\n")
        await user.shows(f"[1] running  prog\n{PROMPT}")
        opened.set()
        await bench.child("prog").wait()
        await bench.shell.jobs[0].task
        await user.type("\n")
        await user.shows(f"[1] status 4  prog\n{PROMPT}")


async def test_ctrl_c_leaves_jobs_alone_and_leaving_ends_them(bench: Bench) -> None:
    entered = asyncio.Event()

    async def program(_running: Running) -> int:
        entered.set()
        await asyncio.Event().wait()
        return 0

    bench.program("prog", program)
    async with terminal(bench) as user:
        await user.type("prog &\n")
        await user.shows(PROMPT)
        await entered.wait()
        user.prompt.interrupt()
        await user.shows(PROMPT)
        assert bench.child("prog").notes == []
        await user.type("exit\n")
        assert await user.task == 130
        assert bench.child("prog").notes == ["interrupt"]


async def test_ending_the_shells_task_ends_what_runs(bench: Bench) -> None:
    entered = asyncio.Event()

    async def program(_running: Running) -> int:
        entered.set()
        await asyncio.Event().wait()
        return 0

    bench.program("prog", program)
    user = Terminal(bench)
    await user.type("prog | cat\n")
    await entered.wait()
    user.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await user.task
    assert bench.child("prog").notes == ["interrupt"]
    await user.keyboard.close()
    await bench.close(user.streams)


async def test_a_lost_node_ends_the_shell(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def lost(*_: object) -> None:
        raise LinkBroken(E.SESSIONLOST, "node")

    monkeypatch.setattr(type(bench.system), "processes", lost)
    async with terminal(bench) as user:
        await user.type("ps\n")
        assert await user.task == 1
        await user.shows(E.SESSIONLOST.text)


@pytest.mark.parametrize("error", [FileError(E.PIPE, "/dev/cons"), LinkBroken(E.SESSIONLOST, "node")])
async def test_a_lost_terminal_ends_the_shell(bench: Bench, error: Exception) -> None:
    class Gone(FakeFile):
        async def write(self, data: bytes) -> None:
            raise error

    gone = Gone(bench.world, "/dev/cons")
    assert await Prompt(bench.shell, Streams(gone, gone, gone)).run() != 0
    await bench.close(Streams(gone, gone, gone))


class Typed:
    """An editor that gives these lines; Ctrl-C comes at the moment the line called `struck` is complete."""

    def __init__(self, prompt: Prompt, struck: str, *lines: str | None) -> None:
        self.prompt = prompt
        self.struck = struck
        self.lines = iter(lines)

    async def read(self, prompt: str, continued: str) -> str | None:
        line = next(self.lines, None)
        if line == self.struck:
            asyncio.get_running_loop().call_soon(self.prompt.interrupt)
        return line

    def trouble(self) -> FileError | None:
        return None


async def test_ctrl_c_at_the_moment_a_line_is_complete_is_for_the_command_in_it(bench: Bench) -> None:
    streams, out, err = bench.streams()
    prompt = Prompt(bench.shell, streams)
    prompt.editor = Typed(prompt, "while true; do :; done", "echo 1", "while true; do :; done", "echo $?", "echo 2")
    assert await prompt.run() == 0
    assert (out.text, err.text) == ("1\n130\n2\n", "\n")
    await bench.close(streams)


@pytest.mark.parametrize("leave", ["exit 3", None])
async def test_leaving_with_jobs_is_asked_for_twice(bench: Bench, leave: str | None) -> None:
    async def program(_running: Running) -> int:
        await asyncio.Event().wait()
        return 0

    bench.program("prog", program)
    streams, out, err = bench.streams()
    prompt = Prompt(bench.shell, streams)
    prompt.editor = Typed(prompt, "", "prog &", leave, "echo 1", leave, leave)
    assert await prompt.run() == (3 if leave else 0)
    said = "cognu: a job runs still (see jobs); leaving once more ends what runs\n"
    assert (out.text, err.text) == ("1\n", f"[1] running  prog\n{said}{said}")
    assert bench.child("prog").notes == ["interrupt"]
    await bench.close(streams)

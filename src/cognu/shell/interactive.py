"""The prompt, and running one text (`sh -c`): where a shell begins and ends.

`Prompt.run` reads lines from the terminal, asks for more while a script is incomplete, and runs what it read. With a
`LineEditor` the lines are edited, and recalled; without one they come as the terminal gives them.
`Prompt.interrupt` is Ctrl-C: whoever learns of it calls it, on the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Protocol, TypeVar

from cognu.errors import CognuError, FileError, LinkBroken
from cognu.shell.interpreter import Interpreter
from cognu.shell.parser import parse
from cognu.shell.state import (
    CONTINUED_VARIABLE,
    FAILED,
    INTERRUPTED,
    PROMPT_VARIABLE,
    ExitShell,
    Shell,
    Streams,
    complain,
    decode,
    encode,
    end_tasks,
)
from cognu.shell.syntax import Script, SyntaxFault

T = TypeVar("T")

NAME = "cognu"
PROMPT = "cognu% "
CONTINUED = "> "
PATIENCE = 1.0
"""Seconds after an interrupt until it is told that another one kills."""


async def run_once(shell: Shell, text: str, streams: Streams) -> int:
    """Run a whole text and wait for the jobs it began; returns the exit status. Errors are told on stderr."""
    try:
        try:
            async with shell.attended():
                status = await Interpreter(shell).run_text(text, streams)
        except ExitShell as ended:
            status = ended.status
        await shell.wait_jobs()
        return status
    except (SyntaxFault, LinkBroken) as error:
        return await _complain(streams, error)
    finally:
        await shell.end_jobs()


async def _complain(streams: Streams, error: CognuError) -> int:
    try:
        return await complain(streams.stderr, NAME, error)
    except LinkBroken:
        # The terminal is behind the same broken link; the status is all that is left.
        return FAILED


class Interrupted(Exception):
    """Ctrl-C while a line was edited."""


class LineEditor(Protocol):
    """See `cognu.shell.editor.Editor`, the one there is; it is imported only where it is wanted."""

    async def read(self, prompt: str, continued: str) -> str | None: ...

    def trouble(self) -> FileError | None: ...


class Prompt:
    """One interactive shell on a terminal, which gives a line at a time, so that commands can read the next one.

    `rest` holds what an input that is no terminal gave beyond the end of the last line; commands do not get that.
    """

    def __init__(self, shell: Shell, streams: Streams, editor: LineEditor | None = None) -> None:
        self.editor = editor
        self.shell = shell
        self.streams = streams
        self.interpreter = Interpreter(shell)
        self.rest = b""
        self.task: asyncio.Task[object] | None = None
        self.interrupted = False  # between a line's end and the start of what it says
        self._warned = False  # that leaving ends jobs
        self._telling: asyncio.Task[None] | None = None  # how what was interrupted can be left

    def interrupt(self) -> None:
        """Ctrl-C: end the foreground pipeline (a second one kills programs), or drop the line being typed.

        One that comes when a line was just read is for the command in it, which is not run then.
        """
        if self.task is None or not self.task.cancel():
            self.interrupted = True
        elif self._telling is None:
            self._telling = asyncio.create_task(self._tell_how_to_leave())

    async def _tell_how_to_leave(self) -> None:
        """A program may take its time after an interrupt, and its machine may be away."""
        await self.shell.system.clock.sleep(PATIENCE)
        await self._say(f"{NAME}: it has not ended yet; Ctrl-C again kills it\n")

    async def run(self) -> int:
        """Until `exit`, the end of the input, or a lost node; returns the exit status. Ends the jobs that still run."""
        try:
            while True:
                try:
                    await self._report_jobs()
                    script = await (self._read() if self.editor is None else self._edit(self.editor))
                    if script is not None:
                        await self._run(script)
                        self._warned = False
                    elif self.editor is None or await self._may_leave():
                        return self.shell.status
                except ExitShell as ended:
                    if self.editor is None or await self._may_leave():
                        return ended.status
        except CognuError as error:
            # Refusals that a command met were told there; here the terminal or the node is gone.
            return await _complain(self.streams, error)
        finally:
            await self.shell.end_jobs()

    async def _foreground(self, work: Coroutine[object, object, T]) -> tuple[bool, T | None]:
        """The result of `work`, and whether it ran to its end, which it does not if `interrupt` was called."""
        task = asyncio.create_task(work)
        self.task = task
        try:
            await asyncio.wait([task])
        finally:
            await end_tasks([task])
            self.task = None
            if self._telling is not None:
                await end_tasks([self._telling])
                self._telling = None
        return (False, None) if task.cancelled() else (True, task.result())

    @property
    def _prompt(self) -> str:
        return self.shell.variables.get(PROMPT_VARIABLE, PROMPT)

    @property
    def _continued(self) -> str:
        return self.shell.variables.get(CONTINUED_VARIABLE, CONTINUED)

    async def _say(self, text: str) -> None:
        await self.streams.stderr.write(encode(text))

    async def _run(self, script: Script) -> None:
        finished = not self.interrupted
        if finished:
            async with self.shell.attended():
                finished, _ = await self._foreground(self.interpreter.run_script(script, self.streams))
        if not finished:
            self.shell.status = INTERRUPTED
            await self._say("\n")

    async def _read(self) -> Script | None:
        """The next script, however many lines it takes; None at the end of the input."""
        text = ""
        while True:
            await self._say(self._continued if text else self._prompt)
            self.interrupted = False
            finished, line = await self._foreground(self._line())
            if not finished or line is None:
                self.shell.status = INTERRUPTED
                text = ""
                await self._say("\n")
                continue
            if not line and not text:
                await self._say("\n")
                return None
            text += decode(line)
            try:
                return parse(text)
            except SyntaxFault as fault:
                if fault.incomplete and line:
                    continue
                self.shell.status = await complain(self.streams.stderr, NAME, fault)
                text = ""

    async def _edit(self, editor: LineEditor) -> Script | None:
        """The next script as it was edited; None at the end of the input."""
        while True:
            self.interrupted = False
            try:
                finished, text = await self._foreground(editor.read(self._prompt, self._continued))
            except Interrupted:
                finished, text = False, None
            if not finished:
                self.shell.status = INTERRUPTED
                continue
            trouble = editor.trouble()
            if trouble is not None:
                await complain(self.streams.stderr, NAME, trouble)
            if text is None:
                return None
            try:
                return parse(text)
            except SyntaxFault as fault:
                self.shell.status = await complain(self.streams.stderr, NAME, fault)

    async def _line(self) -> bytes:
        """A line with its newline, or what stands before the end of the input, or nothing at the end."""
        while b"\n" not in self.rest:
            data = await self.streams.stdin.read()
            if not data:
                line, self.rest = self.rest, b""
                return line
            self.rest += data
        line, _, self.rest = self.rest.partition(b"\n")
        return line + b"\n"

    async def _report_jobs(self) -> None:
        """Which jobs are new, and which have ended."""
        for job in list(self.shell.jobs):
            status = job.status()
            if status is not None:
                self.shell.jobs.remove(job)
                state = "done" if status == 0 else f"status {status}"
            elif not job.told:
                state = "running"
            else:
                continue
            job.told = True
            await self._say(f"[{job.number}] {state}  {job.text}\n")

    async def _may_leave(self) -> bool:
        """Leaving ends the jobs: whoever has some is told so once, and leaves by asking again."""
        running = sum(job.status() is None for job in self.shell.jobs)
        if self._warned or not running:
            return True
        self._warned = True
        jobs = "a job runs" if running == 1 else f"{running} jobs run"
        await self._say(f"{NAME}: {jobs} still (see jobs); leaving once more ends what runs\n")
        return False

"""Running scripts: lists, pipelines, redirections, substitutions, jobs.

Rules: every opened file has one owner, an exit stack that closes it whatever happens. A pipeline's parts are tasks that
run at once, each in a shell of its own; a part closes its ends of the pipes when it is done, so its neighbours see
the end or a broken pipe, and the pipeline closes them once more in case a part never ran. A subshell ends only when
its jobs have ended. Cancelling (Ctrl-C) ends everything that is running in the foreground before it is passed on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack

from cognu.errors import E, FileError
from cognu.shell.commands import COMMANDS, invoke
from cognu.shell.expand import expand_text, expand_words
from cognu.shell.parser import parse, show_word
from cognu.shell.programs import run_program
from cognu.shell.state import Call, ExitShell, Shell, Streams, complain, decode, end_tasks
from cognu.shell.syntax import AndOr, Item, Pipeline, Redirect, Script, Simple
from cognu.shell.system import NULL, File, Mode, RunOptions, System

MOST_OUTPUT = 16 << 20
"""Bytes that a command substitution may hold; more is an error rather than a shell without memory."""

_MODES: dict[str, Mode] = {"<": "r", ">": "w", ">>": "a", "&>": "w"}


class Interpreter:
    """Runs scripts in one `Shell`."""

    def __init__(self, shell: Shell) -> None:
        self.shell = shell

    async def run_text(self, text: str, streams: Streams) -> int:
        """Read and run a script. Raises `SyntaxFault` before anything ran, `ExitShell`, or `LinkBroken`."""
        return await self.run_script(parse(text), streams)

    async def run_script(self, script: Script, streams: Streams) -> int:
        """Run a script; returns its last status, which is also kept for `$?`."""
        for item in script.items:
            if item.background:
                self._start_job(item, streams)
                self.shell.status = 0
            else:
                self.shell.status = await self._and_or(item.body, streams)
            # A list of commands that never wait must not hold up the other tasks or a Ctrl-C.
            await asyncio.sleep(0)
        return self.shell.status

    async def _and_or(self, body: AndOr, streams: Streams) -> int:
        status = self.shell.status = await self._pipeline(body.first, streams)
        for operator, pipeline in body.rest:
            if (status == 0) == (operator == "&&"):
                status = self.shell.status = await self._pipeline(pipeline, streams)
        return status

    def _start_job(self, item: Item, streams: Streams) -> None:
        async def work(inner: Interpreter) -> int:
            async with AsyncExitStack() as owned:
                # A job must not take the terminal's lines from the prompt.
                empty = await self.shell.system.open(NULL, "r")
                owned.push_async_callback(empty.close)
                return await inner._and_or(item.body, Streams(empty, streams.stdout, streams.stderr))

        shell = self.shell.copy()
        task = asyncio.create_task(_guarded("cognu", streams.stderr, lambda: _in_subshell(shell, work)))
        self.shell.add_job(item.text, task)

    async def _pipeline(self, pipeline: Pipeline, streams: Streams) -> int:
        if len(pipeline.commands) == 1:
            async with AsyncExitStack() as owned:
                status = await self._simple(pipeline.commands[0], streams, owned)
        else:
            try:
                status = await self._parts(pipeline.commands, streams)
            except FileError as error:
                status = await complain(streams.stderr, "cognu", error)
        return int(status == 0) if pipeline.negated else status

    async def _parts(self, commands: Sequence[Simple], streams: Streams) -> int:
        """Run the parts of a pipeline at the same time; the status is the last one's."""
        async with AsyncExitStack() as owned:
            inputs: list[File] = [streams.stdin]
            outputs: list[File] = []
            for _ in commands[1:]:
                reading, writing = await self.shell.system.pipe()
                owned.push_async_callback(reading.close)
                owned.push_async_callback(writing.close)
                inputs.append(reading)
                outputs.append(writing)
            outputs.append(streams.stdout)
            tasks: list[asyncio.Task[int]] = []
            for index, command in enumerate(commands):
                ends = [end for end in (inputs[index], outputs[index]) if end not in (streams.stdin, streams.stdout)]
                part = self._part(command, Streams(inputs[index], outputs[index], streams.stderr), ends)
                tasks.append(asyncio.create_task(part))
            try:
                await asyncio.wait(tasks)
            finally:
                await end_tasks(tasks)
            return [task.result() for task in tasks][-1]

    async def _part(self, command: Simple, streams: Streams, ends: Sequence[File]) -> int:
        async def work(inner: Interpreter) -> int:
            async with AsyncExitStack() as owned:
                for end in ends:
                    owned.push_async_callback(end.close)
                return await inner._simple(command, streams, owned)

        return await _in_subshell(self.shell.copy(), work)

    async def _simple(self, command: Simple, streams: Streams, owned: AsyncExitStack) -> int:
        """Run one command. `owned` gets the redirections' files, after whatever the caller put there, and is closed.

        Closing is part of the command: what could not be written in the end makes it fail.
        """
        name = show_word(command.words[0]) if command.words else "cognu"
        return await _guarded(name, streams.stderr, lambda: self._redirected(command, streams, owned))

    async def _redirected(self, command: Simple, streams: Streams, owned: AsyncExitStack) -> int:
        scope = Expansion(self.shell, streams)
        try:
            argv = await expand_words(command.words, scope)
            for redirect in command.redirects:
                streams = await self._redirect(redirect, streams, scope, owned)
            assigned: dict[str, str] = {}
            for assignment in command.assignments:
                assigned[assignment.name] = await expand_text(assignment.value, scope)
                if not argv:
                    self.shell.variables.update(assigned)
            if argv:
                environment = self.shell.variables | assigned
                call = Call(self.shell, tuple(argv), streams, environment, execute, owned.aclose)
                status = await _guarded(argv[0], streams.stderr, lambda: execute(call))
            else:
                status = scope.status
        finally:
            await owned.aclose()
        return status

    async def _redirect(
        self, redirect: Redirect, streams: Streams, scope: Expansion, owned: AsyncExitStack
    ) -> Streams:
        files = [streams.stdin, streams.stdout, streams.stderr]
        target = await expand_text(redirect.target, scope)
        if redirect.kind == ">&":
            files[redirect.fd] = files[int(target)]
        else:
            file = await self.shell.system.open(target, _MODES[redirect.kind])
            owned.push_async_callback(file.close)
            files[redirect.fd] = file
            if redirect.kind == "&>":
                files[2] = file
        return Streams(*files)


class Expansion:
    """The shell as expansion sees it; `status` is that of the last command substitution, 0 if there was none."""

    def __init__(self, shell: Shell, streams: Streams) -> None:
        self.shell = shell
        self.streams = streams
        self.status = 0

    @property
    def system(self) -> System:
        return self.shell.system

    @property
    def arguments(self) -> Sequence[str]:
        return self.shell.arguments[1:]

    def parameter(self, name: str) -> str:
        if name.isdigit():
            number = int(name)
            return self.shell.arguments[number] if number < len(self.shell.arguments) else ""
        special = {
            "?": lambda: str(self.shell.status),
            "$": lambda: str(self.shell.system.pid),
            "#": lambda: str(len(self.arguments)),
            "!": lambda: self.shell.last_job,
        }
        return special[name]() if name in special else self.shell.variables.get(name, "")

    async def substitute(self, script: Script) -> str:
        """Run the script in a subshell and collect its output; bytes of zero are dropped, as in other shells."""
        output = bytearray()
        async with AsyncExitStack() as owned:
            reading, writing = await self.system.pipe()
            owned.push_async_callback(reading.close)
            owned.push_async_callback(writing.close)
            streams = Streams(self.streams.stdin, writing, self.streams.stderr)

            async def work(inner: Interpreter) -> int:
                return await inner.run_script(script, streams)

            async def produce() -> int:
                try:
                    return await _in_subshell(self.shell.copy(), work)
                finally:
                    await writing.close()

            task = asyncio.create_task(produce())
            try:
                while data := await reading.read():
                    output += data
                    if len(output) > MOST_OUTPUT:
                        raise FileError(E.TOOBIG, "$(...)", f"more than {MOST_OUTPUT} bytes of output")
                self.status = await task
            finally:
                await end_tasks([task])
        return decode(bytes(output).replace(b"\0", b"")).rstrip("\n")


async def execute(call: Call) -> int:
    """Run one command: one of the shell's own, else a program, just as `run` does it."""
    command = COMMANDS.get(call.argv[0])
    if command is None:
        return await run_program(call, call.argv, RunOptions())
    return await invoke(command, call)


async def _guarded(name: str, stderr: File, work: Callable[[], Awaitable[int]]) -> int:
    """The status of `work`; a refused operation is told on stderr and makes a status."""
    try:
        return await work()
    except FileError as error:
        return await complain(stderr, name, error)


async def _in_subshell(shell: Shell, work: Callable[[Interpreter], Awaitable[int]]) -> int:
    """Run `work` in a shell of its own, whose `exit` and jobs end here."""
    try:
        try:
            status = await work(Interpreter(shell))
        except ExitShell as ended:
            status = ended.status
        await shell.wait_jobs()
        return status
    finally:
        await shell.end_jobs()

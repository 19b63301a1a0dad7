"""Running scripts: lists, pipelines, redirections, substitutions, jobs.

Rules: every opened file has one owner, an exit stack that closes it whatever happens. A pipeline's parts are tasks that
run at once, each in a shell of its own; a part closes its ends of the pipes when it is done, so its neighbours see
the end or a broken pipe, and the pipeline closes them once more in case a part never ran. A subshell ends only when
its jobs have ended. Cancelling (Ctrl-C) ends everything that is running in the foreground before it is passed on.
A function or script that is called runs in a task of its own, so that how deep calls may nest is our decision.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import replace

from cognu.errors import E, FileError
from cognu.shell.commands import COMMANDS, invoke
from cognu.shell.expand import expand_pattern, expand_text, expand_words
from cognu.shell.parser import parse, show_word
from cognu.shell.pattern import matches
from cognu.shell.programs import ScriptFile, run_program
from cognu.shell.state import Call, ExitShell, LoopExit, Return, Shell, Streams, complain, decode, encode, end_tasks
from cognu.shell.syntax import (
    AndOr,
    Case,
    Command,
    Compound,
    For,
    Function,
    Group,
    If,
    Item,
    Pipeline,
    Redirect,
    Script,
    Simple,
    Structure,
    Subshell,
    SyntaxFault,
    While,
)
from cognu.shell.system import NULL, File, Mode, NoteGroup, RunOptions, System

NAME = "cognu"
MOST_CALLS = 400
"""How deep functions, scripts and `eval` may call one another."""

SPECIAL = frozenset([":", ".", "break", "continue", "eval", "exit", "return", "set", "shift", "unset"])
"""Commands that no function can take the place of (POSIX 2.15)."""

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
        shell = self.shell
        pipelines = [("", body.first), *body.rest]
        status = 0
        for index, (operator, pipeline) in enumerate(pipelines):
            if operator and (status == 0) != (operator == "&&"):
                continue
            last = index == len(pipelines) - 1
            tested = not last or pipeline.negated
            shell.tested += tested
            try:
                status = shell.status = await self._pipeline(pipeline, streams)
            finally:
                shell.tested -= tested
            if status and last and not pipeline.negated and shell.stops and not shell.tested:
                raise ExitShell(status)
        return status

    def _start_job(self, item: Item, streams: Streams) -> None:
        async def work(inner: Interpreter) -> int:
            async with AsyncExitStack() as owned:
                # A job must not take the terminal's lines from the prompt.
                empty = await self.shell.system.open(NULL, "r")
                owned.push_async_callback(empty.close)
                return await inner._and_or(item.body, Streams(empty, streams.stdout, streams.stderr))

        shell = self.shell.copy()
        shell.ask = None  # nor may it ask for any
        shell.group = NoteGroup()
        task = asyncio.create_task(_guarded(NAME, streams.stderr, lambda: _in_subshell(shell, work)))
        self.shell.add_job(item.text, task)

    async def _pipeline(self, pipeline: Pipeline, streams: Streams) -> int:
        outermost = self.shell.group is None
        if outermost:
            self.shell.group = NoteGroup()
        try:
            return await self._run_pipeline(pipeline, streams)
        finally:
            if outermost:
                self.shell.group = None

    async def _run_pipeline(self, pipeline: Pipeline, streams: Streams) -> int:
        if len(pipeline.commands) == 1:
            async with AsyncExitStack() as owned:
                status = await self._command(pipeline.commands[0], streams, owned)
        else:
            try:
                status = await self._parts(pipeline.commands, streams)
            except FileError as error:
                status = await complain(streams.stderr, NAME, error)
        return int(status == 0) if pipeline.negated else status

    async def _parts(self, commands: Sequence[Command], streams: Streams) -> int:
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

    async def _part(self, command: Command, streams: Streams, ends: Sequence[File]) -> int:
        async def work(inner: Interpreter) -> int:
            async with AsyncExitStack() as owned:
                for end in ends:
                    owned.push_async_callback(end.close)
                return await inner._command(command, streams, owned)

        return await _in_subshell(self.shell.copy(), work)

    async def _command(self, command: Command, streams: Streams, owned: AsyncExitStack) -> int:
        """Run one command. `owned` gets the redirections' files, after whatever the caller put there, and is closed.

        Closing is part of the command: what could not be written in the end makes it fail.
        """
        if isinstance(command, Function):
            self.shell.functions[command.name] = command.body
            await owned.aclose()
            return 0
        name = NAME
        if isinstance(command, Simple) and command.words:
            name = show_word(command.words[0])
        return await _guarded(name, streams.stderr, lambda: self._redirected(command, streams, owned))

    async def _redirected(self, command: Simple | Compound, streams: Streams, owned: AsyncExitStack) -> int:
        scope = Expansion(self.shell, streams)
        documents = _Documents()
        try:
            argv = await expand_words(command.words, scope) if isinstance(command, Simple) else []
            for redirect in command.redirects:
                streams = await self._redirect(redirect, streams, scope, owned, documents)
            if isinstance(command, Compound):
                return await self._structure(command.structure, streams)
            return await self._simple(command, argv, scope, streams, owned)
        finally:
            try:
                await owned.aclose()
            finally:
                await documents.end()

    async def _simple(
        self, command: Simple, argv: Sequence[str], scope: Expansion, streams: Streams, owned: AsyncExitStack
    ) -> int:
        assigned: dict[str, str] = {}
        for assignment in command.assignments:
            assigned[assignment.name] = await expand_text(assignment.value, scope)
            if not argv:
                self.shell.variables.update(assigned)
        if not argv:
            return scope.status
        environment = self.shell.variables | assigned
        call = Call(self.shell, tuple(argv), streams, environment, execute, interpret, owned.aclose)
        return await _guarded(argv[0], streams.stderr, lambda: execute(call))

    async def _structure(self, structure: Structure, streams: Streams) -> int:
        match structure:
            case Group(body):
                return await self.run_script(body, streams)
            case Subshell(body):
                return await _in_subshell(self.shell.copy(), lambda inner: inner.run_script(body, streams))
            case If(clauses, otherwise):
                for condition, body in clauses:
                    if await self._condition(condition, streams) == 0:
                        return await self.run_script(body, streams)
                return await self.run_script(otherwise, streams) if otherwise is not None else 0
            case While() | For():
                self.shell.loops += 1
                try:
                    return await self._loop(structure, streams)
                finally:
                    self.shell.loops -= 1
            case Case(subject, arms):
                scope = Expansion(self.shell, streams)
                text = await expand_text(subject, scope)
                for patterns, body in arms:
                    for pattern in patterns:
                        if matches(await expand_pattern(pattern, scope), text, dots=True):
                            return await self.run_script(body, streams) if body.items else 0
                return 0

    async def _condition(self, condition: Script, streams: Streams) -> int:
        self.shell.tested += 1
        try:
            return await self.run_script(condition, streams)
        finally:
            self.shell.tested -= 1

    async def _loop(self, loop: While | For, streams: Streams) -> int:
        """The status is that of the last round, 0 if there was none."""
        words = iter(await self._for_words(loop, streams)) if isinstance(loop, For) else iter(())
        status = 0
        while True:
            try:
                if isinstance(loop, For):
                    word = next(words, None)
                    if word is None:
                        return status
                    self.shell.variables[loop.name] = word
                elif (await self._condition(loop.condition, streams) == 0) == loop.until:
                    return status
                status = await self.run_script(loop.body, streams)
            except LoopExit as left:
                status = 0
                if left.levels > 1:
                    raise LoopExit(left.levels - 1, left.again) from None
                if not left.again:
                    return status

    async def _for_words(self, loop: For, streams: Streams) -> Sequence[str]:
        if loop.words is None:
            return self.shell.arguments[1:]
        return await expand_words(loop.words, Expansion(self.shell, streams))

    async def _redirect(
        self, redirect: Redirect, streams: Streams, scope: Expansion, owned: AsyncExitStack, documents: _Documents
    ) -> Streams:
        files = [streams.stdin, streams.stdout, streams.stderr]
        if redirect.document is not None:
            # The parser takes no script whose here-documents are not there.
            assert redirect.document.body is not None
            data = encode(await expand_text(redirect.document.body, scope))
            reading, writing = await self.shell.system.pipe()
            owned.push_async_callback(reading.close)
            documents.write(writing, data)
            files[redirect.fd] = reading
            return Streams(*files)
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


class _Documents:
    """Here-documents on their way into pipes. Whoever reads one may stop early: `end` gives up on what is left."""

    def __init__(self) -> None:
        self._tasks: list[tuple[asyncio.Task[None], File]] = []

    def write(self, file: File, data: bytes) -> None:
        self._tasks.append((asyncio.create_task(self._write(file, data)), file))

    async def _write(self, file: File, data: bytes) -> None:
        try:
            # A reader that has had enough is no error.
            with suppress(FileError):
                await file.write(data)
        finally:
            await file.close()

    async def end(self) -> None:
        try:
            await end_tasks([task for task, _ in self._tasks])
        finally:
            for _, file in self._tasks:
                await file.close()  # once more, in case its task never began


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

    @property
    def strict(self) -> bool:
        return self.shell.strict

    def assign(self, name: str, value: str) -> None:
        self.shell.variables[name] = value

    def parameter(self, name: str) -> str | None:
        if name.isdigit():
            number = int(name)
            return self.shell.arguments[number] if number < len(self.shell.arguments) else None
        special = {
            "?": lambda: str(self.shell.status),
            "$": lambda: str(self.shell.system.pid),
            "#": lambda: str(len(self.arguments)),
            "!": lambda: self.shell.last_job,
        }
        return special[name]() if name in special else self.shell.variables.get(name)

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
    """Run one command: a function, one of the shell's own, else a program or script, just as `run` does it."""
    name = call.argv[0]
    body = call.shell.functions.get(name)
    if body is not None and name not in SPECIAL:
        return await _call_function(call, body)
    command = COMMANDS.get(name)
    if command is None:
        return await run_program(call, call.argv, RunOptions(), interpret=_run_script_file)
    return await invoke(command, call)


async def interpret(call: Call, text: str) -> int:
    """Run a text in the shell of `call`, for `eval` and `.`; a syntax error is told and makes a status."""
    try:
        script = parse(text)
    except SyntaxFault as fault:
        return await call.complain(fault)
    with _called(call.shell, call.argv[0]):
        return await _on_its_own(Interpreter(call.shell).run_script(script, call.streams)) if script.items else 0


async def _call_function(call: Call, body: Compound) -> int:
    """Variables set for the call alone, `local` ones and the arguments are as before when it ends."""
    shell = call.shell
    before = shell.arguments, shell.loops
    changed = {name: value for name, value in call.environment.items() if shell.variables.get(name) != value}
    with _called(shell, call.argv[0]):
        shell.kept.append({name: shell.variables.get(name) for name in changed})
        shell.variables.update(changed)
        shell.arguments, shell.loops = (shell.arguments[0], *call.argv[1:]), 0
        shell.returns += 1
        try:
            async with AsyncExitStack() as owned:
                return await _on_its_own(Interpreter(shell)._command(body, call.streams, owned))
        except Return as returned:
            return returned.status
        finally:
            shell.returns -= 1
            shell.arguments, shell.loops = before
            for name, value in shell.kept.pop().items():
                if value is None:
                    shell.variables.pop(name, None)
                else:
                    shell.variables[name] = value


async def _run_script_file(call: Call, script: ScriptFile) -> int:
    """A file with `#!`: read by a shell of its own if that is what it asks for, else by the program it names."""
    with _called(call.shell, script.path):
        if not script.own:
            words = (*script.interpreter, script.path, *call.argv[1:])
            return await _on_its_own(execute(replace(call, argv=words)))
        try:
            parsed = parse(script.text)
        except SyntaxFault as fault:
            return await complain(call.streams.stderr, script.path, fault)
        shell = replace(
            call.shell.copy(), variables=dict(call.environment), arguments=(script.path, *call.argv[1:]), functions={},
            returns=0, kept=[], stops=False, tested=0, strict=False, status=0,
        )  # fmt: skip
        return await _on_its_own(_in_subshell(shell, lambda inner: inner.run_script(parsed, call.streams)))


@contextmanager
def _called(shell: Shell, name: str) -> Iterator[None]:
    """Raises DEEP if too much is under way already."""
    if shell.calls >= MOST_CALLS:
        raise FileError(E.DEEP, name, f"{MOST_CALLS} calls")
    shell.calls += 1
    try:
        yield
    finally:
        shell.calls -= 1


async def _on_its_own(work: Coroutine[object, object, int]) -> int:
    """The result of `work`, run in a task with a stack of its own."""
    task = asyncio.create_task(work)
    try:
        await asyncio.wait([task])
    finally:
        await end_tasks([task])
    return task.result()


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
        except (ExitShell, Return) as ended:
            status = ended.status
        await shell.wait_jobs()
        return status
    finally:
        await shell.end_jobs()

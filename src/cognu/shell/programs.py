"""Starting programs: which one a word means, what it is granted, and waiting for it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace

from cognu.errors import E, FileError
from cognu.shell.hoststreams import HostInput
from cognu.shell.state import FAILED, NOT_A_PROGRAM, NOT_FOUND, Call, decode, encode, end_tasks
from cognu.shell.system import PROGRAMS, Child, File, Grant, NoteGroup, Program, RunOptions, System, absolute
from cognu.shell.wants import Attendant

_HASH = re.compile(r"[a-z2-7]{8,}")
MOST_SCRIPT = 4 << 20
"""Bytes of a script that is read from a file."""
AS_USUAL = b"\x1b[0m\x1b[?25h\x1b[?2004l\n"
"""For a terminal that a killed line editor left: no colours, the cursor shown, pastes unmarked, a line of its own."""
_OWN = ("sh", "cognu")
_ABSENT = (E.NOENT, E.NOTDIR, E.NAMETOOLONG, E.ILSEQ)


async def find_program(system: System, word: str, here: bool = False) -> Program:
    """The program a word means: a path if it holds a slash, else a name in `/bin`, else a hash of 8 characters or more.

    With `here`, a file in the working directory comes after the names in `/bin`: whoever says `run` means a program.
    Raises `FileError(NOTFOUND)`. Whether a hash is known is said by whoever starts it.
    """
    if "/" in word:
        return Program(absolute(system.cwd, word))
    if word not in ("", ".", ".."):
        for path in (f"{PROGRAMS}/{word}", *([absolute(system.cwd, word)] if here else [])):
            try:
                await system.stat(path)
                return Program(path)
            except FileError as error:
                if error.error not in _ABSENT:
                    raise
    if _HASH.fullmatch(word):
        return Program(word, by_hash=True)
    raise FileError(E.NOTFOUND, word)


async def grants_of(system: System, argv: Sequence[str]) -> tuple[Grant, ...]:
    """What typing a command line grants: every argument that names an existing file or directory, read-only.

    The program's own name grants nothing. An argument such as `--file=notes.txt` is no name and grants nothing.
    """
    grants: dict[str, Grant] = {}
    for argument in argv[1:]:
        if not argument:
            continue
        path = absolute(system.cwd, argument)
        try:
            await system.stat(path)
        except FileError:
            # Not a file, or not one this user may see: then there is nothing to hand on.
            continue
        grants[path] = Grant(path, "r")
    return tuple(grants.values())


@dataclass(frozen=True, slots=True)
class ScriptFile:
    """A file that begins with `#!`: what shall run it, as words, and its text."""

    path: str
    interpreter: tuple[str, ...]
    text: str

    @property
    def own(self) -> bool:
        """Whether this shell is meant: `#!/bin/sh`, `#!/usr/bin/env sh`, `#!cognu` and the like."""
        return self.interpreter[0].rpartition("/")[2] in _OWN


Interpret = Callable[[Call, ScriptFile], Awaitable[int]]


async def read_script(system: System, program: Program) -> ScriptFile | None:
    """The script that a file which is no program may be; None if it does not begin with `#!` and a name."""
    try:
        file = await (system.get(program.text) if program.by_hash else system.open(program.text, "r"))
    except FileError:
        return None  # why it could not be started is known already
    text = bytearray()
    try:
        while data := await file.read():
            text += data
            if not (b"#!" if len(text) > 1 else b"#").startswith(bytes(text[:2])):
                return None
            if len(text) > MOST_SCRIPT:
                raise FileError(E.TOOBIG, program.text, f"more than {MOST_SCRIPT} bytes")
    finally:
        await file.close()
    words = decode(bytes(text[2:])).partition("\n")[0].split(maxsplit=1)
    if words and words[0].rpartition("/")[2] == "env":
        words = words[1].split() if words[1:] else []
    return ScriptFile(program.text, tuple(words), decode(bytes(text))) if words else None


def _within(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")


async def serve_program(call: Call, argv: Sequence[str], options: RunOptions, name: str) -> int:
    """Start `argv` with its input and output posted as the service NAME (srv(3)), and go on: it is a job then, like
    what `&` begins. When it ends the service is taken off. 126 and 127 as `run_program`.
    """
    if not name or "/" in name or name in (".", ".."):
        raise call.usage("a name is a word without a slash", name or "--serve")
    try:
        end, posting = await call.system.post(name)
    except FileError as error:
        return await could_not_run(call, error)
    try:
        try:
            options = replace(await _with_typed(call, argv, options), group=NoteGroup())
            program = await find_program(call.system, argv[0], here=True)
            child = await call.system.start(program, argv, call.environment, end, end, call.streams.stderr, options)
        finally:
            await end.close()
    except BaseException as failure:
        await posting.close()
        if not isinstance(failure, FileError):
            raise
        return await _refused(call, argv[0], failure, absolute(call.system.cwd, argv[0]))
    call.shell.add_job(" ".join(call.argv), asyncio.create_task(_attend(child, posting)), serves=True)
    return 0


async def _attend(child: Child, posting: File) -> int:
    try:
        return await child.wait()
    except BaseException:
        await _stop(child)
        raise
    finally:
        await posting.close()


async def _with_typed(call: Call, argv: Sequence[str], options: RunOptions) -> RunOptions:
    """The options, with what typing the command line grants."""
    typed = await grants_of(call.system, argv)
    # What was granted in so many words is not made less by typing a path in it as well.
    named = [grant.path for grant in options.grants] + [directory.host for directory in options.directories]
    more = (grant for grant in typed if not any(_within(grant.path, path) for path in named))
    return replace(options, grants=(*options.grants, *more))


async def run_program(
    call: Call, argv: Sequence[str], options: RunOptions, here: bool = False, interpret: Interpret | None = None
) -> int:
    """Start `argv` and wait for it. The status is the program's; 127 if there is none, 126 if it can't be run.

    A file that is no program but a script goes to `interpret`, if there is one.
    """
    named = bool(options.grants or options.directories)
    options = await _with_typed(call, argv, options)
    options = replace(options, asks=call.shell.ask is not None, group=call.shell.group)
    streams = call.streams
    program: Program | None = None
    try:
        program = await find_program(call.system, argv[0], here)
        child = await call.system.start(
            program, argv, call.environment, streams.stdin, streams.stdout, streams.stderr, options
        )
    except FileError as error:
        if program is not None and interpret is not None and error.error in (E.NOEXEC, E.BADPROGRAM):
            script = await read_script(call.system, program)
            if script is not None:
                return await interpret(replace(call, argv=tuple(argv)), script)
        if error.error is E.NOTFOUND and options.on is not None and await _is_nobody(call.system, options.on):
            error = FileError(E.NOPEER, options.on)
        return await _refused(call, argv[0], error, absolute(call.system.cwd, argv[0]))
    status = await wait_for(call, child, Attendant(call, child, argv[0], options.on))
    if 0 < status < NOT_A_PROGRAM and not named:
        await _tell_of_directories(call, argv)
    return status


async def _tell_of_directories(call: Call, argv: Sequence[str]) -> None:
    """A program that failed may have taken a directory for a file, or have no name for where it is."""
    for argument in argv[1:]:
        try:
            directory = bool(argument) and (await call.system.stat(argument)).is_dir
            if directory:
                await call.complain(FileError(E.ISDIR, argument, f"to work in it: run --dir {argument} {argv[0]} ..."))
        except FileError:
            continue  # it is none, or there is nowhere to say so


async def _is_nobody(system: System, node: str) -> bool:
    """Whether no machine has that name; what may be the beginning of a fingerprint is the node's to say."""
    if _HASH.fullmatch(node):
        return False
    try:
        await system.stat(f"/n/{node}")
    except FileError as error:
        return error.error is E.NOENT
    return False


async def _refused(call: Call, word: str, error: FileError, path: str) -> int:
    """127 if it is the program, called `word` or `path`, that isn't there; else 126."""
    absent = error.error in _ABSENT and error.subject in ("", word, path, f"{PROGRAMS}/{word}")
    if absent or error.error is E.NOTFOUND:
        if "/" not in word:
            error = FileError(E.NOTFOUND, word)
        status = NOT_FOUND
    else:
        return await could_not_run(call, error if error.subject else FileError(error.error, word, error.detail))
    await call.complain(error)
    return status


async def could_not_run(call: Call, error: FileError) -> int:
    """Tell why nothing was started; 126, or 2 for a wrong usage."""
    status = await call.complain(error)
    return NOT_A_PROGRAM if status == FAILED else status


async def wait_for(call: Call, child: Child, attendant: Attendant | None = None) -> int:
    """Wait for a started program, having let go of the streams, which it now holds itself.

    `attendant` sees to what it wants meanwhile. Cancelled once, it sends the program an interrupt and goes on waiting;
    cancelled again, it kills it.
    """
    try:
        await call.release()
        status = await child.wait()
        if attendant is not None:
            await attendant.finish(status)
    except BaseException:
        await _stop(child)
        raise
    finally:
        if attendant is not None:
            await attendant.close()
    if child.message:
        # If the errors went to a file, that has been let go of, and the status is all that tells.
        with suppress(FileError):
            await call.streams.stderr.write(encode(f"{call.argv[0]}: {child.message}\n"))
    return status


async def wait_at_terminal(call: Call, child: Child, left: str, stays: str = "") -> int:
    """Wait for a shell of another machine that has the terminal: what Ctrl-C ends is decided there, every time.

    `~.` at the beginning of a line kills it, for that machine may be away, and hear nothing; then `left` is said. One
    that is kept there goes on without the terminal; `stays` says so where it was given up as away for too long.
    """
    await call.release()
    escaped = asyncio.Event()
    killing = asyncio.create_task(_kill_at(escaped, child))
    stdin, stderr = call.streams.stdin, call.streams.stderr
    try:
        with stdin.escapes(escaped.set) if isinstance(stdin, HostInput) else nullcontext():
            status = await _wait_on(child)
    finally:
        await end_tasks([killing])
    if escaped.is_set():
        await stderr.write(AS_USUAL + encode(f"{left}\n"))
    elif child.message:
        more = f"; {stays}" if stays and E.AWAY.text in child.message else ""
        await stderr.write(encode(f"{call.argv[0]}: {child.message}{more}\n"))
    return status


async def _kill_at(escaped: asyncio.Event, child: Child) -> None:
    await escaped.wait()
    await child.note("kill")


async def _wait_on(child: Child) -> int:
    while True:
        try:
            return await child.wait()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()
            await child.note("interrupt")


async def _stop(child: Child) -> None:
    try:
        await child.note("interrupt")
        await child.wait()
    except asyncio.CancelledError:
        await child.note("kill")
        await child.wait()

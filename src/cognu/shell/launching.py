"""Processes by `/proc`: the lines with which one is started, waiting for its end, and what its files say (proc(3))."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from cognu.errors import CognuError, E, FileError
from cognu.files.nstext import quote, split_words
from cognu.shell.connection import LEAVES, NodeFile, Wait
from cognu.shell.system import Grant, Note, NoteGroup, ProcessInfo, RunOptions, Want, absolute

AT_ONCE = 256 * 1024
"""Bytes of lines that are written at once; no line may be longer."""


@dataclass(frozen=True)
class ProgramStart:
    """What is to be started: a path, hash or name, its arguments (with its own name first), in the directory `cwd`."""

    program: str
    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: str
    options: RunOptions

    @property
    def paths(self) -> list[str]:
        """What the program is granted, and where else that stands."""
        options = self.options
        directories = (directory.host for directory in options.directories)
        return [*(grant.path for grant in options.grants), *directories, *options.grant_files]

    def waits_for(self, cwd: str) -> Wait:
        """What it may have to wait for while it runs; `cwd` is that of the paths."""
        there = [f"/n/{self.options.on}"] if self.options.on is not None else []
        paths = (*there, *(absolute(cwd, path) for path in self.paths))
        return Wait(paths, LEAVES) if self.program == "cpu" else Wait(paths)

    def lines(self, fids: Sequence[tuple[int, int]]) -> Iterator[tuple[str, bytes]]:
        """Texts to write to the ctl file in turn, and what a refusal of each is about.

        `fids` are the streams 0, 1, 2 as numbers of fids and offsets. Raises TOOBIG.
        """
        yield self.cwd, f"cd {quote(self.cwd)}\n".encode("utf-8", "surrogateescape")
        options = self.options
        lines = [f"env {quote(f'{name}={value}')}" for name, value in self.env.items()]
        lines += [f"arg {quote(word)}" for word in self.argv[1:]]
        lines += [f"fd {number} {fid} {offset}" for number, (fid, offset) in enumerate(fids)]
        lines += [f"grant {quote(grant.path)} {grant.rights}" for grant in options.grants]
        lines += [f"grants {quote(path)}" for path in options.grant_files]
        lines += [f"dir {quote(directory.host)} {quote(directory.guest)}" for directory in options.directories]
        if options.isolate:
            lines.append("isolate")
        if options.keep:
            lines.append(f"keep {options.keep}")
        if options.kept is not None:
            lines.append(f"attach {options.kept} {options.kept_how}".strip())
        lines += [f"handle {quote(name)}" for name in options.handles]
        if options.memory is not None:
            lines.append(f"limit memory {options.memory}")
        if options.cpu is not None:
            lines.append(f"limit cpu {int(options.cpu * 10**9)}")
        for text in _together(lines):
            yield self.program, text
        if options.on is not None:
            yield options.on, f"on {quote(options.on)}\n".encode("utf-8", "surrogateescape")
        yield self.program, f"program {quote(self.program)}\nstart\n".encode("utf-8", "surrogateescape")


def _together(lines: Sequence[str]) -> Iterator[bytes]:
    """The lines in as few pieces as may be, none too long for one write: ctl files take whole lines."""
    piece = bytearray()
    for line in lines:
        data = line.encode("utf-8", "surrogateescape") + b"\n"
        if len(data) > AT_ONCE:
            raise FileError(E.TOOBIG, line[:40], f"{AT_ONCE} bytes for one of them")
        if len(piece) + len(data) > AT_ONCE:
            yield bytes(piece)
            piece.clear()
        piece += data
    if piece:
        yield bytes(piece)


class NodeChild:
    """A process of the node that this session started. Its end is awaited from the start on, whoever asks for it."""

    def __init__(self, pid: int, ctl: NodeFile, wait: NodeFile, wants: NodeFile) -> None:
        """Takes over the files."""
        self._pid = pid
        self._ctl = ctl
        self._wait = wait
        self._wants = wants
        self._message = ""
        self._attended = False
        self._end = asyncio.get_running_loop().create_task(self._follow())
        # Looked at here, for nobody may wait: asyncio complains of errors nobody saw.
        self._end.add_done_callback(lambda task: task.cancelled() or task.exception())

    @property
    def pid(self) -> int:
        return self._pid

    @property
    def message(self) -> str:
        return self._message

    async def wait(self) -> int:
        return await asyncio.shield(self._end)

    async def note(self, note: Note) -> None:
        if not self._end.done():
            with suppress(FileError):
                # The one refusal there is: it has just ended.
                await self._ctl.write(note.encode())

    async def want(self) -> Want | None:
        """From the first call on, `close` is the caller's to call."""
        self._attended = True
        line = (await self._wants.read()).decode("utf-8", "surrogateescape")
        if not line:
            return None
        try:
            number, path, rights, program, *more = split_words(line)
            match more:
                case []:
                    return Want(int(number), path, rights, program)
                case ["steers"]:
                    return Want(int(number), path, rights, program, steers=True)
                case ["never", place, letters]:
                    return Want(int(number), path, rights, program, never=Grant(place, letters))
            raise ValueError(line)
        except ValueError:
            raise FileError(E.BADMESSAGE, f"/proc/{self._pid}/wants") from None

    async def asked(self, want: Want) -> None:
        await self._wants.write(f"{want.number} asked".encode())

    async def answer(self, want: Want, yes: bool) -> None:
        text = f"{want.number} yes {quote(want.real or want.path)}" if yes else f"{want.number} no"
        await self._wants.write(text.encode("utf-8", "surrogateescape"))

    async def close(self) -> None:
        with suppress(CognuError):
            await self._wants.close()

    def on_end(self, tell: Callable[[NodeChild], None]) -> None:
        self._end.add_done_callback(lambda _: tell(self))

    async def settled(self) -> None:
        """Its end is known, or the node is lost."""
        await asyncio.wait([self._end])

    async def _follow(self) -> int:
        try:
            line = (await self._wait.read()).decode("utf-8", "replace")
            words = split_words(line)
            self._message, status = words[4], int(words[5])
            return status
        except (ValueError, IndexError):
            raise FileError(E.BADMESSAGE, f"/proc/{self._pid}/wait") from None
        finally:
            with suppress(CognuError):
                await self._wait.close()
                await self._ctl.close()
                if not self._attended:
                    await self._wants.close()


@contextmanager
def about_process(pid: int) -> Iterator[None]:
    """What is refused is about the process, not about a file of /proc."""
    try:
        yield
    except FileError as error:
        row = E.SRCH if error.error is E.NOENT else error.error
        raise FileError(row, str(pid), error.detail) from None


async def join_group(ctl: NodeFile, pid: int, group: NoteGroup) -> None:
    """Put a new process into a note group; the first begins it, and so does one that finds nobody in it any more."""
    member = group.member
    if member is None:
        group.member = pid  # before anything is awaited: the others of a pipeline are on their way
    else:
        try:
            await ctl.write(f"noteg {member}\n".encode())
            return
        except FileError as error:
            if error.error is not E.SRCH:
                raise
        group.member = pid
    await ctl.write(b"noteg\n")


def process_info(status: str, args: str) -> ProcessInfo:
    """One process out of its status and args files. Raises BADMESSAGE for a status without what every process has."""
    values: dict[str, str] = {}
    for line in status.splitlines():
        words = split_words(line)
        if len(words) == 2:
            values[words[0]] = words[1]
    try:
        return ProcessInfo(
            pid=int(values["pid"]),
            parent=int(values["parent"]),
            user=values["user"],
            state=values["state"],
            memory=int(values.get("memory", 0)),
            cpu=(int(values.get("utime", 0)) + int(values.get("stime", 0))) * 10**6,
            waits=values.get("waits", ""),
            argv=tuple(split_words(args)),
        )
    except (KeyError, ValueError):
        raise FileError(E.BADMESSAGE, "status") from None

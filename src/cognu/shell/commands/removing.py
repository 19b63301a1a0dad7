"""`rm`: files and whole trees are removed, near and far."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from itertools import pairwise

from cognu.errors import E, FileError
from cognu.files.nstext import parse_options, split_commands
from cognu.ninep.types import Stat
from cognu.shell.ahead import AT_ONCE, LISTED_AHEAD, OUT_OF_REACH, ahead, all_of
from cognu.shell.commands.early import each_ahead
from cognu.shell.commands.reading import DEEPEST, base_name, chunks, join, opened, unique
from cognu.shell.state import FAILED, Call, decode
from cognu.shell.system import System, absolute


async def rm(call: Call) -> int:
    refused: set[str] = set()

    async def one(path: str) -> Stat | None:
        """Remove it, unless it is a directory."""
        here = absolute(call.system.cwd, path)
        if here == "/" or base_name(path) in (".", "..") or f"{call.system.cwd}/".startswith(f"{here}/"):
            raise FileError(E.NOTMINE, path, "the working directory and what is above it stay")
        try:
            found = await call.system.stat(path, follow=False)
        except FileError as error:
            if error.error is E.NOENT and "f" in call.options:
                return None
            raise
        if found.is_dir:
            return found
        await call.system.remove(path)
        return None

    async def directory(path: str, found: Stat | None) -> None:
        if found is None:
            return
        if "r" not in call.options:
            raise FileError(E.ISDIR, path, "rm -r removes directories")
        await refuse_roots(call.system, path)
        if not await remove_tree(call, path):
            refused.add(path)

    if not call.operands and "f" not in call.options:
        raise call.usage("which file?")
    status = await each_ahead(call, call.operands, one, directory, at_once(call.system, call.operands))
    return FAILED if refused else status


def at_once(system: System, paths: Sequence[str]) -> int:
    """How many of the paths may be worked on together: those that have nothing to do with each other."""
    tree = sorted([name for name in absolute(system.cwd, path).split("/") if name] for path in paths)
    # What is in a directory comes right after it.
    apart = all(below[: len(above)] != above for above, below in pairwise(tree))
    return AT_ONCE if apart else 1


async def refuse_roots(system: System, path: str) -> None:
    """All of a machine, or of something mounted, is not meant as a directory with what is in it.

    Raises `FileError(MOUNTPOINT)` for /n and what is directly below it, and where something is mounted there or below.
    """
    here = await system.resolve(path)
    if here.rpartition("/")[0] in ("", "/n") and (here == "/n" or here.startswith("/n/")):
        raise FileError(E.MOUNTPOINT, path, "all that a machine lends; name what is in it")
    for place in await _mounted(system):
        if f"{place.rstrip('/')}/".startswith(f"{here.rstrip('/')}/"):
            raise FileError(E.MOUNTPOINT, path, "" if place == here else place)


async def _mounted(system: System) -> list[str]:
    """Where something is mounted or bound in this namespace; nothing if it has no /proc to tell."""
    text = bytearray()
    try:
        async with opened(system, f"/proc/{system.pid}/ns", "r") as file:
            async for data in chunks(file):
                text += data
    except FileError as error:
        if error.error is not E.NOENT:
            raise
    lines = (command.words for command in split_commands(decode(bytes(text))))
    return [parse_options(rest)[1][1] for verb, *rest in lines if verb in ("bind", "mount")]


async def remove_tree(call: Call, top: str) -> bool:
    """Remove a directory and everything in it; links are removed, not followed.

    What is refused is told, and all else goes. When a machine is out of reach, and when it is cancelled, it is told how
    much was removed. Whether nothing was refused.
    """
    removal = _Removal(call)
    try:
        await removal.remove(top)
    except asyncio.CancelledError:
        await call.complain(FileError(E.INTR, top, f"{removal.extent} by then were removed"))
        raise
    gone = removal.gone
    if gone is not None:
        said = f"{removal.extent} are known to be removed, the rest is there or not known; run it again"
        await call.complain(FileError(gone.error, gone.subject, "; ".join(filter(None, (gone.detail, said)))))
    return not removal.left


class _Removal:
    """One tree's: first the files of each level, from the top down, then the directories, from the bottom up."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._system = call.system
        self._doubled: set[str] = set()
        self._seen = 1
        self._removed = 0
        self.left: set[str] = set()
        """Directories that still hold something, which has been told."""
        self.gone: FileError | None = None
        """That its machine is out of reach."""

    @property
    def extent(self) -> str:
        return f"{self._removed} of the {self._seen} files and directories found"

    async def remove(self, top: str) -> None:
        levels: list[list[str]] = [[top]]
        while levels[-1] and self.gone is None:
            if len(levels) > DEEPEST:
                raise FileError(E.LOOP, levels[-1][0])
            below: list[str] = []
            await all_of(self._files(levels[-1], below), self._file, self._refused)
            levels.append(below)
        for level in reversed(levels):
            if self.gone is None:
                await all_of(level, self._directory, self._refused)

    async def _refused(self, error: FileError) -> None:
        if error.error in OUT_OF_REACH:
            self.gone = self.gone or error
        else:
            await self._call.complain(error)

    async def _files(self, level: list[str], below: list[str]) -> AsyncGenerator[str]:
        """The files in the directories of a level, whose own directories are put into `below`."""
        async with ahead(level, self._system.list, LISTED_AHEAD) as listings:
            async for directory, listed in listings:
                try:
                    found = listed.result()
                except FileError as error:
                    self.left.add(directory)
                    await self._refused(error)
                    continue
                entries = unique(found)
                self._seen += len(entries)
                if len(entries) < len(found):
                    self._doubled.add(directory)
                paths = [(join(directory, entry.name), entry.is_dir) for entry in entries]
                below += [path for path, is_directory in paths if is_directory]
                for path, is_directory in paths:
                    if not is_directory:
                        yield path

    async def _file(self, path: str) -> None:
        try:
            await self._system.remove(path)
        except FileError:
            self.left.add(path.rpartition("/")[0])
            raise
        self._removed += 1

    async def _directory(self, path: str) -> None:
        if path in self.left:
            self.left.add(path.rpartition("/")[0])
            return
        try:
            await (_remove_in_turn(self._system, path) if path in self._doubled else self._system.remove(path))
        except FileError:
            self.left.add(path.rpartition("/")[0])
            raise
        self._removed += 1


async def _remove_in_turn(system: System, top: str) -> None:
    """What is in a directory once more: of a name that a union holds twice the second has come to light."""
    waiting: list[tuple[str, bool, int]] = [(top, False, 0)]
    while waiting:
        path, emptied, depth = waiting.pop()
        if emptied:
            await system.remove(path)
            continue
        if depth > DEEPEST:
            raise FileError(E.LOOP, path)
        waiting.append((path, True, depth))
        for entry in await system.list(path):
            below = join(path, entry.name)
            if entry.is_dir:
                waiting.append((below, False, depth + 1))
            else:
                await system.remove(below)

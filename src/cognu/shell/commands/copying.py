"""cp and mv: copies that are whole, or are said not to be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import aclosing
from typing import Any

from cognu.errors import CognuError, E, FileError
from cognu.ninep.types import DMPERM, SetStat, Stat
from cognu.shell.ahead import OUT_OF_REACH, all_of
from cognu.shell.commands.early import SMALL, each_ahead, is_stored, open_in_turn, read_if_small
from cognu.shell.commands.files import mkdir_if_missing
from cognu.shell.commands.reading import base_name, chunks, closing, join, opened, walk
from cognu.shell.commands.removing import at_once, refuse_roots, remove_tree
from cognu.shell.state import FAILED, Call
from cognu.shell.system import File, System, absolute

TIDY_SECONDS = 3.0
"""How long the removing of a copy that was not finished is waited for; its machine may be away."""
OWNERS = 0o700
"""What a directory gives its owner while it is filled."""


async def _target(system: System, operands: Sequence[str]) -> tuple[str, bool]:
    """The last operand, and whether it is a directory, which it must be if several files go there."""
    target = operands[-1]
    try:
        is_directory = (await system.stat(target)).is_dir
    except FileError as error:
        if error.error is not E.NOENT:
            raise
        if len(operands) > 2 or target.endswith("/"):
            raise
        is_directory = False
    if len(operands) > 2 and not is_directory:
        raise FileError(E.NOTDIR, target)
    return target, is_directory


async def cp(call: Call) -> int:
    target, into = await _target(call.system, call.operands)
    refused: set[str] = set()

    def place(path: str) -> str:
        return join(target, base_name(absolute(call.system.cwd, path))) if into else target

    async def one(path: str) -> Stat | None:
        """Copy it, unless it is a directory or may be a stream."""
        found = await call.system.stat(path)
        if found.is_dir or found.qid.version == 0:
            return found
        await copy_file(call, path, place(path), found)
        return None

    async def in_turn(path: str, found: Stat | None) -> None:
        if found is None:
            return
        if not found.is_dir:
            await copy_file(call, path, place(path), found, endless=True)
            return
        if "r" not in call.options:
            raise FileError(E.ISDIR, path, "cp -r copies directories")
        if not await copy_tree(call, path, place(path), found):
            refused.add(path)

    sources = call.operands[:-1]
    most = at_once(call.system, [*sources, *(map(place, sources))])
    status = await each_ahead(call, sources, one, in_turn, most)
    return FAILED if refused else status


async def _is_new(system: System, path: str, to: str, source: Stat) -> bool:
    """Whether nothing is at `to`. Raises SAME if it is the same file.

    Writing would cut that to nothing before it is read; binds give one file many names, so qids are compared.
    """
    try:
        target = await system.stat(to)
    except FileError as error:
        if error.error is E.NOENT:
            return True
        raise
    same_text = absolute(system.cwd, path) == absolute(system.cwd, to)
    same_file = (source.type, source.dev, source.qid, source.length, source.mtime) == (
        target.type,
        target.dev,
        target.qid,
        target.length,
        target.mtime,
    )
    if same_text or same_file:
        raise FileError(E.SAME, to, path)
    return False


async def copy_file(
    call: Call, path: str, to: str, found: Stat, new: bool = False, keep: bool = False, endless: bool = False
) -> None:
    """Copy one file's bytes. When it returns they are written and the copy is closed.

    `found`: its attributes. `new`: nothing is at `to`. `endless`: it may be a stream, so nobody waits for its end. A
    new copy has its permissions, as far as directory and server give them; with `keep` all of them. A new copy that was
    not finished is removed; of another it is said that it is cut.
    """
    system = call.system
    new = new or await _is_new(system, path, to, found)
    begun = False

    perm = found.mode & DMPERM

    async def write(source: File, target: File) -> None:
        nonlocal begun
        begun = True
        async for data in chunks(source):
            await target.write(data)

    async def copy() -> None:
        # Both are open before anything is read, so that it may begin again if there are too many open.
        held = await read_if_small(system, path) if is_stored(found) and found.length <= SMALL else None
        async with (
            closing(held or await system.open(path, "r")) as source,
            opened(system, to, "w", perm) as target,
        ):
            await write(source, target)

    async def copy_endless() -> None:
        async with (
            closing(await open_in_turn(system, path)) as source,
            closing(await open_in_turn(system, to, "w", perm)) as target,
        ):
            await write(source, target)

    try:
        await (copy_endless() if endless else system.room.run(copy))
    except FileError as error:
        left = await _left(system, to, new, found.length) if begun else ""
        said = "; ".join(filter(None, (error.detail, left)))
        raise FileError(error.error, error.subject or to, said) from None
    except asyncio.CancelledError:
        if begun and (left := await _left(system, to, new, found.length)):
            await call.complain(FileError(E.INTR, to, left))
        raise
    if keep:
        await _keep(system, to, found)


async def _left(system: System, to: str, new: bool, length: int) -> str:
    """Remove a new copy that was not finished. What is left of it, in words; nothing if nothing is."""

    async def tidy() -> str:
        if new:
            await system.remove(to)
            return ""
        there = (await system.stat(to)).length
        return f"{to} has {there} of {length} bytes" if length else f"{to} has {there} bytes"

    return await _in_time(system, tidy(), f"a part of it may be in {to}")


async def _in_time(system: System, work: Coroutine[Any, Any, str], otherwise: str) -> str:
    """What `work` comes to, or `otherwise` if it is refused or takes too long."""
    working, late = asyncio.ensure_future(work), asyncio.ensure_future(system.clock.sleep(TIDY_SECONDS))
    try:
        await asyncio.wait((working, late), return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else otherwise
    except CognuError:
        return otherwise
    finally:
        working.cancel()
        late.cancel()
        await asyncio.gather(working, late, return_exceptions=True)


async def _keep(system: System, to: str, source: Stat) -> None:
    """Give a copy the permissions of what is moved."""
    there = await system.stat(to)
    if (there.mode ^ source.mode) & DMPERM:
        await system.wstat(to, SetStat(mode=there.mode & ~DMPERM | source.mode & DMPERM))


async def copy_tree(call: Call, path: str, to: str, top: Stat, keep: bool = False) -> bool:
    """Copy a directory and everything in it into `to`, which may be there. Links to files become files.

    `top`: its attributes. What is refused is told, and all else is copied. Whether nothing was refused. When a machine
    is out of reach, and when it is cancelled, it is told how many files were copied.
    """
    system = call.system
    source, target = absolute(system.cwd, path), absolute(system.cwd, to)
    if f"{target}/".startswith(f"{source.rstrip('/')}/"):
        raise FileError(E.SAME, to, path)
    copying = _Copying(call, path, to, keep)
    try:
        await copying.copy(top)
    except asyncio.CancelledError:
        await call.complain(FileError(E.INTR, to, f"{copying.extent} by then were copied"))
        raise
    gone = copying.gone
    if gone is not None:
        said = f"{copying.extent} were copied, the rest were not begun or not finished; run it again"
        await call.complain(FileError(gone.error, gone.subject, "; ".join(filter(None, (gone.detail, said)))))
    return copying.whole


class _Copying:
    """One tree's: a directory is made before what is in it, and all that can be is done at once."""

    def __init__(self, call: Call, path: str, to: str, keep: bool) -> None:
        self._call = call
        self._path = path
        self._to = to
        self._keep = keep
        self._made: dict[str, asyncio.Future[bool | None]] = {}
        """For each directory of the copy whether it is new; None if it is refused, which is told once."""
        self._later: list[tuple[str, Stat]] = []
        """Directories that get their permissions when they are filled."""
        self._seen = self._copied = 0
        self.whole = True
        self.gone: FileError | None = None
        """That a machine is out of reach."""

    @property
    def extent(self) -> str:
        return f"{self._copied} of the {self._seen} files found"

    async def copy(self, top: Stat) -> None:
        first = asyncio.get_running_loop().create_future()
        first.set_result(await self._directory(self._to, top, in_new=False))
        self._made[join(self._to, "x").rpartition("/")[0]] = first
        await all_of(self._found(), self._one, self._refused)
        for copy, entry in reversed(self._later):
            try:
                await _keep(self._call.system, copy, entry)
            except FileError as error:
                await self._refused(error)

    async def _refused(self, error: FileError) -> None:
        self.whole = False
        if error.error in OUT_OF_REACH:
            self.gone = self.gone or error
        else:
            await self._call.complain(error)

    def _copy_of(self, below: str) -> str:
        return join(self._to, below[len(self._path) :].lstrip("/"))

    async def _found(self) -> AsyncGenerator[tuple[str, Stat]]:
        async with aclosing(walk(self._call.system, self._path, self._refused)) as entries:
            async for below, entry in entries:
                if entry.is_dir:
                    self._made[self._copy_of(below)] = asyncio.get_running_loop().create_future()
                else:
                    self._seen += 1
                yield below, entry

    async def _one(self, found: tuple[str, Stat]) -> None:
        below, entry = found
        copy = self._copy_of(below)
        in_new = await self._made[copy.rpartition("/")[0]]
        if in_new is None:
            if entry.is_dir:
                self._made[copy].set_result(None)
            return
        if not entry.is_dir:
            await self._file(below, copy, entry, in_new)
            return
        try:
            self._made[copy].set_result(await self._directory(copy, entry, in_new))
        finally:
            if not self._made[copy].done():
                self._made[copy].set_result(None)

    async def _file(self, below: str, copy: str, entry: Stat, in_new: bool) -> None:
        if entry.is_symlink:
            entry = await self._call.system.stat(below)
            if entry.is_dir:
                raise FileError(E.NOTSUP, below, "a link to a directory is not copied")
        await copy_file(self._call, below, copy, entry, in_new, self._keep)
        self._copied += 1

    async def _directory(self, copy: str, entry: Stat, in_new: bool) -> bool:
        """Make it, if it is not there; whether it is new."""
        system = self._call.system

        async def make() -> bool:
            nonlocal in_new
            perm = entry.mode & DMPERM | OWNERS
            if not in_new:
                return await mkdir_if_missing(system, copy, perm)
            in_new = False  # what is refused may have been made all the same, for making a directory opens it too
            await system.mkdir(copy, perm)
            return True

        new = await system.room.run(make)
        if new and (self._keep or entry.mode & OWNERS != OWNERS):
            self._later.append((copy, entry))
        return new


async def mv(call: Call) -> int:
    target, into = await _target(call.system, call.operands)
    refused: set[str] = set()

    async def one(path: str) -> None:
        to = join(target, base_name(absolute(call.system.cwd, path))) if into else target
        source, goal = absolute(call.system.cwd, path), absolute(call.system.cwd, to)
        if f"{goal}/".startswith(f"{source.rstrip('/')}/"):
            raise FileError(E.SAME, to, path)
        try:
            await call.system.rename(path, to)
        except FileError as error:
            if error.error is not E.XDEV:
                raise
            if not await _move_across(call, path, to):
                refused.add(path)

    status = await call.each(call.operands[:-1], one)
    return FAILED if refused else status


async def _move_across(call: Call, path: str, to: str) -> bool:
    """From one server to another: copy, and remove only what was copied whole (POSIX mv). Whether all of it moved."""
    system = call.system
    if (await system.stat(path, follow=False)).is_dir:
        await refuse_roots(system, path)
        top = await system.stat(path)
        return await copy_tree(call, path, to, top, keep=True) and await remove_tree(call, path)
    await copy_file(call, path, to, await system.stat(path), keep=True)
    await system.remove(path)
    return True

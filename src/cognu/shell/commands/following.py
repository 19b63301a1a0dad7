"""Commands that go on as files change, `watch` and `tail -f`: they are told, and look only where nobody tells."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass

from cognu.errors import E, FileError
from cognu.files.server import Notice
from cognu.ninep.watches import ASKED, BROKEN, CONTENT, ENDS, GONE, NAMES, REVOKED
from cognu.shell.commands.reading import chunks
from cognu.shell.options import parse_count
from cognu.shell.state import Call, encode, end_tasks
from cognu.shell.system import File, Positioned, Watch

LOOK_SECONDS = 1.0
"""Between two looks at a file whose server does not tell of changes."""
_OVER = {GONE: E.STALE, REVOKED: E.REVOKED, BROKEN: E.SESSIONLOST}


# -- watch --


@dataclass(slots=True)
class _Printed:
    """How many events were printed, and `most` of them."""

    call: Call
    most: int | None
    count: int = 0

    @property
    def enough(self) -> bool:
        return self.most is not None and self.count >= self.most

    async def show(self, path: str, notice: Notice) -> None:
        self.count += 1
        kind = NAMES[notice.kind]
        if "json" in self.call.options:
            row = {"path": path, "kind": kind, "name": notice.name, "other": notice.other}
            await self.call.print(json.dumps(row, ensure_ascii=False))
            return
        above = path.rstrip("/")
        names = [f"{above}/{name}" for name in (notice.name, notice.other) if name]
        await self.call.print(" ".join([kind, *(names or [path])]))


async def watch(call: Call) -> int:
    """Print what happens to files, until none can be watched any more, or as many events as were asked for."""
    typed = call.options.value("n")
    printed = _Printed(call, None if typed is None else parse_count(typed))
    status = 0
    watches: list[tuple[str, Watch]] = []
    try:
        for path in call.operands:
            try:
                watches.append((path, await call.system.watch(path, ASKED)))
            except FileError as error:
                status = 1
                await call.complain(error)
        if watches and not printed.enough:
            status |= await _print_all(watches, printed)
    finally:
        for _, each in watches:
            await each.close()
    return status


async def _print_all(watches: list[tuple[str, Watch]], printed: _Printed) -> int:
    """As events come. No notice is taken that is not printed but those beyond what was asked for.

    The result is 1 if a path can't be watched any more, though nobody says that it is gone.
    """
    status = 0
    waiting = {asyncio.create_task(each.next()): (path, each) for path, each in watches}
    try:
        while waiting and not printed.enough:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                path, each = waiting.pop(task)
                notice = task.result()
                if not printed.enough:
                    await printed.show(path, notice)
                if not notice.kind & ENDS:
                    waiting[asyncio.create_task(each.next())] = path, each
                elif notice.kind != GONE:
                    status = 1
    finally:
        await end_tasks(waiting)
    return status


# -- tail -f --


class Counted:
    """A file, and how many bytes of it were read."""

    def __init__(self, file: File) -> None:
        self.file = file
        self.path = file.path
        self.count = 0

    async def read(self, count: int = 65536) -> bytes:
        data = await self.file.read(count)
        self.count += len(data)
        return data

    async def write(self, data: bytes) -> None:
        await self.file.write(data)

    async def close(self) -> None:
        await self.file.close()


async def follow(call: Call, path: str, file: Counted) -> None:
    """Print what is added to a file that was read to its end, for ever. Raises what says that it is gone."""
    try:
        told: Watch | None = await call.system.watch(path, CONTENT)
    except FileError as error:
        if error.error is not E.NOTSUP:
            raise
        told = None
    try:
        while True:
            # What came before the watch began is read now, what comes from now on is told.
            if not await _copy(call, file) and await _was_cut(call, path, file):
                continue
            if told is None:
                await call.system.clock.sleep(LOOK_SECONDS)
                continue
            notice = await told.next()
            if notice.kind & ENDS:
                await _copy(call, file)
                raise FileError(_OVER[notice.kind], path)
    finally:
        if told is not None:
            await told.close()


async def _copy(call: Call, file: Counted) -> bool:
    """Print up to the end; whether there was anything."""
    before = file.count
    async for data in chunks(file):
        await call.write(data)
    return file.count > before


async def _was_cut(call: Call, path: str, file: Counted) -> bool:
    """Whether the file has less now than was read of it; then it is read from its start."""
    if not file.count or (await call.system.stat(path)).length >= file.count:
        return False
    if not isinstance(file.file, Positioned):
        raise FileError(E.SPIPE, path)
    file.file.step_back(file.count)
    file.count = 0
    await call.streams.stderr.write(encode(f"tail: {path}: it was cut off; from its start\n"))
    return True

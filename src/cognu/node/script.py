"""HOME/namespace: the user's own changes to the base namespace, carried out at the start.

A line that fails is logged and kept for later: a peer that is away is no reason to go without its tree once it comes.
Each time a link to a peer comes up, the lines that failed are tried again, in their order, if they still stand in the
file. No start waits for a peer longer than `PATIENCE` in all.
"""

from __future__ import annotations

import asyncio
import logging

from cognu.errors import CognuError, E, FileError
from cognu.files.nscommands import Mounter, apply
from cognu.files.nstext import parse_options, split_words
from cognu.files.process import Process
from cognu.files.steps import finish
from cognu.world import Keeper
from cognu.world.timing import within

log = logging.getLogger("cognu.node")

PATIENCE = 5.0
"""Seconds that lines may wait for peers at the start, all together."""
FAR = "/n/"
"""How the source begins of a line that may have to wait for a peer."""
SECOND = 1_000_000_000


class BaseScript:
    """The script of one node, and what of it is still to be done."""

    def __init__(self, world: Keeper, base: Process, path: str, mounter: Mounter) -> None:
        self._world = world
        self._base = base
        self._path = path
        self._mounter = mounter
        self._turn = asyncio.Lock()  # guards the next one: links may come up at the same time
        self.waiting: list[str] = []
        """Lines that failed when they were last tried."""

    async def begin(self) -> None:
        """Carry out every line. Raises what reading the file raises."""
        async with self._turn:
            until = self._world.clock.monotonic() + int(PATIENCE * SECOND)
            for line in await self._lines():
                left = (until - self._world.clock.monotonic()) / SECOND
                error = await self._carry_out(line, left if _is_far(line) else None)
                if error is not None:
                    log.warning("%s: %s", self._path, error)
                    self.waiting.append(line)

    async def again(self) -> None:
        """Try once more what failed, without what was taken out of the file since."""
        async with self._turn:
            if not self.waiting:
                return
            kept = await self._lines()
            tried, self.waiting = [line for line in self.waiting if line in kept], []
            for line in tried:
                if await self._carry_out(line, None) is None:
                    log.info("%s: done now: %s", self._path, line)
                else:
                    self.waiting.append(line)

    async def _lines(self) -> list[str]:
        """Those with a command in them."""
        disk, run = self._world.disk, self._world.threads.run
        if not await run(disk.exists, self._path):
            return []
        text = (await run(disk.read, self._path)).decode("utf-8", "replace")
        return [line for line in text.split("\n") if line.strip() and not line.startswith("#")]

    async def _carry_out(self, line: str, seconds: float | None) -> CognuError | None:
        """Why it failed, if it did; `seconds` is how long it may take."""
        work = finish(apply(self._base, line, self._mounter))
        try:
            if seconds is None:
                await work
            else:
                await within(self._world.clock, max(seconds, 0.0), work)
        except TimeoutError:
            return FileError(E.TIMEDOUT, line, "it is tried again when a peer comes")
        except CognuError as error:
            return error
        return None


def _is_far(line: str) -> bool:
    try:
        operands = parse_options(split_words(line)[1:])[1]
    except FileError:
        return False
    return any(operand.startswith(FAR) for operand in operands[:1])

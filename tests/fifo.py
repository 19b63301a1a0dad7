"""Whether processes that nobody here started are still there, told by what they hold open."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path


class Fifo:
    """A named pipe that processes open for writing at `path`. Whoever has it open is told of by its end alone."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        os.mkfifo(path)
        self._number = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    async def begun(self) -> bytes:
        """What one of them wrote there first."""
        await self._heard()
        return os.read(self._number, 64)

    async def ended(self) -> None:
        """Until all that had it open for writing are gone; one had, before this is called."""
        await self._heard()
        assert os.read(self._number, 1) == b""
        os.close(self._number)

    async def _heard(self) -> None:
        loop = asyncio.get_running_loop()
        heard = asyncio.Event()
        loop.add_reader(self._number, heard.set)
        try:
            await heard.wait()
        finally:
            loop.remove_reader(self._number)

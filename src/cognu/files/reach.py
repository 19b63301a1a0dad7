"""Asking from afar for what a program has no grant for: where its files are, there is who can be asked.

A program that runs elsewhere (on a peer, or in a runner) has a file to write to; writing comes back when the answer is
there. Where its files are, `reach_root` gives that file; over there `FarReach` is the process's `reach`.
"""

from __future__ import annotations

from cognu.errors import E, FileError
from cognu.files.attach import OWN, attach, attach_own
from cognu.files.chan import Chan
from cognu.files.dispatch import dispatch
from cognu.files.nstext import quote, split_words
from cognu.files.process import Process
from cognu.files.steps import Steps, finish
from cognu.files.tree import Node, TreeFid, TreeServer
from cognu.files.wants import LETTERS, Reach
from cognu.kernel import WRITE
from cognu.ninep.types import OWRITE

WANTS = "#w"
"""The attach name for a file that takes what the program wants, as `PATH RIGHTS`: refused, or granted by then."""


class _Asked(Node):
    """See `WANTS`."""

    def __init__(self, reach: Reach) -> None:
        super().__init__("wants", 0o222)
        self._reach = reach

    async def write(self, fid: TreeFid, offset: int, data: bytes | memoryview) -> int:
        words = split_words(bytes(data).decode("utf-8", "replace"))
        if len(words) != 2 or set(words[1]) - set(LETTERS):
            raise FileError(E.USAGE, "wants", "PATH RIGHTS")
        if not await self._reach(words[0], words[1]):
            raise FileError(E.NOENT, words[0])
        return len(data)


def reach_root(process: Process, reach: Reach) -> Steps[Chan]:
    """The file that takes what `process` wants, for a program of its that runs elsewhere."""
    server = TreeServer(WANTS, _Asked(reach))
    return (yield from attach_own(server, process.namespace.domain, process, name=WANTS, spec=f"{OWN}:wants"))


class FarReach:
    """What a program has no grant for is asked for where its files are."""

    def __init__(self, process: Process, root: Chan) -> None:
        """Takes over `root`, the lent tree's."""
        self._process = process
        self._root = root
        self._file: Chan | None = None
        self._refused = False

    async def reach(self, path: str, rights: str) -> bool:
        """False too if the other side does not take such questions, or can't be reached."""
        if self._refused:
            return False
        try:
            if self._file is None:
                self._file = await self._open()
            data = f"{quote(path)} {rights}".encode("utf-8", "surrogateescape")
            chan = self._file
            return await finish(dispatch(chan, WRITE, chan.server.write, chan.fid, 0, data)) == len(data)
        except FileError as error:
            self._refused = error.error is E.NOATTACH
            return False

    async def _open(self) -> Chan:
        root, caller = self._root, self._process
        chan = await finish(attach(root.server, root.domain, root.cap, caller, WANTS, WANTS, WANTS))
        return await finish(caller.namespace.open(chan, OWRITE, caller))

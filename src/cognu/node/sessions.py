"""Connections to the node's own socket: its users' shells and commands, and the shells that peers' `cpu` started."""

from __future__ import annotations

from cognu.errors import E, FileError
from cognu.files.chan import Chan
from cognu.files.export import Export
from cognu.files.launch import TOKEN_LABEL, TREE_LABEL
from cognu.files.process import Fork, Process, Share, State
from cognu.files.shown import Shown, parse_shown
from cognu.files.steps import Steps
from cognu.ninep.server import Limits
from cognu.node.exporting import exported
from cognu.node.node import Node
from cognu.world import Stream

OPEN_FILES = 65_536
LIMITS = Limits(msize=1 << 20)


class Sessions:
    """Each connection gets a process of its own, a copy of the node's base, at its first attach."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def accept(self, stream: Stream) -> None:
        await _Session(self._node, stream).run()


class _Session:
    def __init__(self, node: Node, stream: Stream) -> None:
        self._node = node
        self._stream = stream
        self._process: Process | None = None
        self._own = False
        self._confining = False
        self._export = Export(stream, node.base, self._attach, limits=LIMITS)

    async def run(self) -> None:
        try:
            await self._export.serve()
        finally:
            if self._process is not None and self._own:
                self._end(self._process)

    def _end(self, session: Process) -> None:
        for child in self._node.processes.descendants(session):
            if child.kill is not None:
                child.kill("its session ended")
        self._node.processes.end(session, 0)

    def _attach(self, uname: str, aname: str) -> Steps[Chan]:
        """ "" is the session's root; `cap:TOKEN` makes the session an existing process, `tree:TREE` confines it to one
        tree, each for good; `#|` is a new pipe.
        """
        if self._confining:
            raise FileError(E.BUSY, "", "the attach before is not answered yet")
        if self._process is None and aname.startswith(TREE_LABEL):
            shown = parse_shown(aname.removeprefix(TREE_LABEL))
            self._confining = True
            yield self._confine(shown)
            aname = ""
        elif self._process is None:
            self._begin(aname)
        process = self._process
        assert process is not None
        if aname.startswith("#"):
            return (yield from process.namespace.attach(aname, process))
        if aname and not aname.startswith(TOKEN_LABEL):
            raise FileError(E.NOATTACH, aname)
        return process.namespace.root.share()

    async def _confine(self, shown: Shown) -> None:
        """From now on the connection is a client's, which may not be trusted with more than the tree."""
        try:
            self._process = self._export.calls.process = await exported(self._node, shown, "9p --stdio")
            self._own = True
        finally:
            self._confining = False

    def _begin(self, aname: str) -> None:
        node = self._node
        if aname.startswith(TOKEN_LABEL):
            process = node.lending.redeem(aname, "", self._stream.close)
        else:
            process = node.processes.fork(node.base, Fork(descriptors=Share.CLEAN, notes=False))
            process.descriptors.limit = OPEN_FILES
            process.args, process.state = ["session"], State.RUNNING
            self._own = True
        self._process = process
        self._export.calls.process = process
        self._export.calls.descriptors = process.descriptors

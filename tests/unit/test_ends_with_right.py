"""Open files of what goes on by itself are closed when the right to them ends, once, and not only by their holder."""

from __future__ import annotations

import pytest

from cognu.errors import E, FileError
from cognu.files.chan import Chan
from cognu.files.dispatch import dispatch
from cognu.files.shown import Filter
from cognu.files.shownserver import ShownServer
from cognu.files.steps import finish
from cognu.files.tree import Directory, Node, TreeFid, TreeServer
from cognu.kernel import ALL_RIGHTS, READ
from cognu.ninep.types import OREAD
from serving import Node as Processes


class Running(Node):
    def __init__(self) -> None:
        super().__init__("running", 0o444)
        self.closed = 0

    def read(self, fid: TreeFid, offset: int, count: int) -> bytes:
        return b"runs"

    def close(self, fid: TreeFid) -> None:
        self.closed += 1


class Server(TreeServer):
    def __init__(self, ends: bool) -> None:
        self.file = Running()
        self.ends = ends
        super().__init__("#x", Directory("", [self.file]))

    @property
    def ends_with_right(self) -> bool:
        return self.ends


async def opened(server: Server) -> tuple[Processes, Chan]:
    made = Processes(server)
    init = await made.start()
    found = await finish(init.namespace.find("/running", init.namespace.root, init))
    return made, await finish(init.namespace.open(found, OREAD, init))


@pytest.mark.parametrize("ends", [True, False])
async def test_it_is_closed_when_the_right_ends_and_not_a_second_time(ends: bool) -> None:
    server = Server(ends)
    made, chan = await opened(server)
    shared = chan.share()
    made.authority.delete(chan.domain.pid, chan.cap)
    assert server.file.closed == ends
    for each in (chan, shared):
        with pytest.raises(FileError) as caught:
            await finish(dispatch(each, READ, server.read, each.fid, 0, 10))
        assert caught.value.error is E.REVOKED
        each.close()
    assert server.file.closed == 1


@pytest.mark.parametrize("ends", [True, False])
def test_shown_in_part_it_ends_with_the_right_too(ends: bool) -> None:
    assert ShownServer(Server(ends), Filter()).ends_with_right == ends


async def test_who_closes_it_before_is_told_nothing_afterwards() -> None:
    server = Server(True)
    made, chan = await opened(server)
    twin, cap, pid = chan.share(), chan.cap, chan.domain.pid
    chan.close()
    assert server.file.closed == 0
    twin.close()
    assert server.file.closed == 1
    assert made.authority.rights(pid, cap) == ALL_RIGHTS
    made.authority.delete(pid, cap)
    assert server.file.closed == 1

"""`#h`: the manual, as `/man/SECTION/NAME`: a Markdown page for each command, device, service and format.

Read-only. Who wants more pages in a namespace binds a directory of them after a section: bind -a pages /man/1.
"""

from __future__ import annotations

from cognu.files.server import Caller
from cognu.files.tree import Directory, Node, TreeFid, TreeServer
from cognu.man import ENDING, SECTIONS
from cognu.world import Keeper


class Page(Node):
    def __init__(self, world: Keeper, name: str, path: str) -> None:
        super().__init__(name, 0o444)
        self._world = world
        self._path = path

    async def open(self, fid: TreeFid, mode: int, caller: Caller) -> None:
        fid.state = await self._world.threads.run(self._world.disk.read, self._path)

    def read(self, fid: TreeFid, offset: int, count: int) -> bytes:
        assert isinstance(fid.state, bytes)
        return fid.state[offset : offset + count]

    def close(self, fid: TreeFid) -> None:
        fid.state = None


def man_server(world: Keeper, directory: str) -> TreeServer:
    """`directory` is the host's, with a directory for each section."""
    sections = []
    for section in SECTIONS:
        files = world.disk.list(f"{directory}/{section}")
        names = sorted(file.removesuffix(ENDING) for file in files if file.endswith(ENDING))
        pages = [Page(world, name, f"{directory}/{section}/{name}{ENDING}") for name in names]
        sections.append(Directory(section, pages))
    return TreeServer("#h", Directory("", sections))

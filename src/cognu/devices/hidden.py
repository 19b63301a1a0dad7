"""A host's tree without what nobody may see through a node, whatever way leads to it, whatever was granted above.

That is the node's home with its key, the key itself by any other name (a hard link), the host's process file systems
(which show the memory, the open files and the environment of the node and of what it runs), raw memory, and raw disks.
Of what is hidden no handle is ever given out, so nothing below it can be named either. Its name stays taken.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass

from cognu.errors import E, FileError
from cognu.world import HostNode, HostStat, HostSteps, HostTree

MEMORY = frozenset([(1, 1), (1, 2), (1, 4)])
"""Major and minor numbers of the devices that are the host's memory and ports: mem(4), kmem, port."""
PROCESSES = "proc"
"""The kind of file system that shows processes (proc(5))."""


def _no_mounts() -> Mapping[int, str]:
    return {}


@dataclass(frozen=True)
class Secrets:
    """What is hidden. `identities` are (device, inode) as in `HostStat.identity`; `mounts` is `Disk.mounts`."""

    identities: Set[tuple[int, int]] = frozenset()
    mounts: Callable[[], Mapping[int, str]] = _no_mounts

    def hides(self, stat: HostStat) -> bool:
        """By what the file itself is."""
        return stat.identity in self.identities or stat.kind == "b" or (stat.kind == "c" and stat.number in MEMORY)

    def hides_below(self, device: int) -> bool:
        """Whether a file system is hidden. Asked anew at each way into one: the host uses devices' numbers again."""
        return self.mounts().get(device) == PROCESSES


class HidingSteps:
    """`steps` without what is hidden: see `HidingTree`.

    `waits`: they are for threads, and may walk into another file system, which may be hidden as a whole. Those that may
    not wait never do (`HostTree.quick`).
    """

    def __init__(self, steps: HostSteps, secrets: Secrets, waits: bool) -> None:
        self._steps = steps
        self._secrets = secrets
        self._waits = waits
        self.root = steps.root
        self.stat = steps.stat
        self.open = steps.open

    def walk(self, node: HostNode, name: str) -> HostNode:
        return self.look(node, name)[0]

    def look(self, node: HostNode, name: str) -> tuple[HostNode, HostStat]:
        found, stat = self._steps.look(node, name)
        try:
            hidden = self._hides(node, stat)
        except BaseException:
            found.close()
            raise
        if hidden:
            found.close()
            raise FileError(E.NOENT, name)
        return found, stat

    def _hides(self, above: HostNode, stat: HostStat) -> bool:
        if self._secrets.hides(stat):
            return True
        device = stat.identity[0]
        if not self._waits or device == self._steps.stat(above).identity[0]:
            return False  # what is above is shown
        return self._secrets.hides_below(device)


class HidingTree(HidingSteps):
    """`tree` without what the secrets name. Everything else is as the tree has it.

    A walk to what is hidden is NOENT, and so is removing, renaming or replacing it; a new file by its name is EXIST. A
    listing still has the bare name: `hostcalls.list_some` drops what can't be walked to, as it does with what just went
    away.
    """

    def __init__(self, tree: HostTree, secrets: Secrets) -> None:
        super().__init__(tree, secrets, waits=True)
        self._tree = tree
        self.quick: HostSteps | None = None if tree.quick is None else HidingSteps(tree.quick, secrets, waits=False)
        self.list = tree.list
        self.create = tree.create
        self.make_directory = tree.make_directory
        self.symlink = tree.symlink
        self.make_node = tree.make_node
        self.readlink = tree.readlink
        self.link = tree.link
        self.change = tree.change
        self.space = tree.space
        self.watch = tree.watch
        self.getxattr = tree.getxattr
        self.listxattr = tree.listxattr
        self.setxattr = tree.setxattr
        self.removexattr = tree.removexattr

    def unlink(self, node: HostNode, name: str, directory: bool) -> None:
        self.walk(node, name).close()
        self._tree.unlink(node, name, directory)

    def rename(self, node: HostNode, name: str, to: HostNode, new_name: str) -> None:
        self.walk(node, name).close()
        if self._is_hidden(to, new_name):
            raise FileError(E.NOENT, new_name)
        self._tree.rename(node, name, to, new_name)

    def unshown(self, node: HostNode) -> Set[str]:
        return {name for name in self._tree.list(node) if self._is_hidden(node, name)}

    def _is_hidden(self, node: HostNode, name: str) -> bool:
        try:
            found, stat = self._tree.look(node, name)
        except FileError as error:
            if error.error is E.NOENT:
                return False
            raise
        found.close()
        return self._hides(node, stat)


def identities_of(tree: HostTree, *names: str) -> set[tuple[int, int]]:
    """Of a tree's own root, and of those of `names` in it that are there."""
    root = tree.root()
    try:
        found = {tree.stat(root).identity}
        for name in names:
            try:
                node = tree.walk(root, name)
            except FileError as error:
                if error.error is not E.NOENT:
                    raise
                continue
            try:
                found.add(tree.stat(node).identity)
            finally:
                node.close()
        return found
    finally:
        root.close()

"""A host's tree in which some directories do not exist, whatever way leads to them: they go by identity, not by name.

Of what is hidden no handle is ever given out, so nothing below it can be named either. Its name stays taken.
"""

from __future__ import annotations

from collections.abc import Set

from cognu.errors import E, FileError
from cognu.world import HostNode, HostSteps, HostTree

Identities = Set[tuple[int, int]]
"""(device, inode) of each, as in `HostStat.identity`."""


class HidingSteps:
    """`steps` without what is hidden: see `HidingTree`."""

    def __init__(self, steps: HostSteps, hidden: Identities) -> None:
        self._steps = steps
        self._hidden = hidden
        self.root = steps.root
        self.stat = steps.stat
        self.open = steps.open

    def walk(self, node: HostNode, name: str) -> HostNode:
        found = self._steps.walk(node, name)
        try:
            shown = self._steps.stat(found).identity not in self._hidden
        except BaseException:
            found.close()
            raise
        if not shown:
            found.close()
            raise FileError(E.NOENT, name)
        return found


class HidingTree(HidingSteps):
    """`tree` without the directories whose identities are in `hidden`. Everything else is as the tree has it.

    A walk to one is NOENT, and so is removing, renaming or replacing it; a new file by its name is EXIST. A listing
    still has the bare name: `hostcalls.list_some` drops what can't be walked to, as it does with what just went away.
    """

    def __init__(self, tree: HostTree, hidden: Identities) -> None:
        super().__init__(tree, hidden)
        self._tree = tree
        self.quick: HostSteps | None = None if tree.quick is None else HidingSteps(tree.quick, hidden)
        self.list = tree.list
        self.create = tree.create
        self.make_directory = tree.make_directory
        self.symlink = tree.symlink
        self.readlink = tree.readlink
        self.link = tree.link
        self.change = tree.change
        self.space = tree.space

    def unlink(self, node: HostNode, name: str, directory: bool) -> None:
        self.walk(node, name).close()
        self._tree.unlink(node, name, directory)

    def rename(self, node: HostNode, name: str, to: HostNode, new_name: str) -> None:
        self.walk(node, name).close()
        if self._is_hidden(to, new_name):
            raise FileError(E.NOENT, new_name)
        self._tree.rename(node, name, to, new_name)

    def _is_hidden(self, node: HostNode, name: str) -> bool:
        try:
            found = self._tree.walk(node, name)
        except FileError as error:
            if error.error is E.NOENT:
                return False
            raise
        try:
            return self._tree.stat(found).identity in self._hidden
        finally:
            found.close()


def identity_of(tree: HostTree) -> tuple[int, int]:
    """Of a tree's own root."""
    root = tree.root()
    try:
        return tree.stat(root).identity
    finally:
        root.close()

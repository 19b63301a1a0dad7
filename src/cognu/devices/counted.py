"""Conversations: directories that are there while anything of them is open, and what makes them. For `/net` and `#C`.

Numbers are not used again, so that nobody finds another's conversation where theirs was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from cognu.errors import E, FileError
from cognu.files.server import Caller, MaybeAsync
from cognu.files.tree import Directory, Node, Text, TreeFid, check_for_writing


class Counted(Directory):
    """One conversation. It ends when the last open file of it is closed."""

    def __init__(self, name: str, ctl: Node, others: Iterable[Node]) -> None:
        super().__init__(name, [ctl, *others])
        self.ctl = ctl
        self.opens = 0

    def hold(self) -> None:
        """Raises NOENT if it has ended."""
        if self.parent is None:
            raise FileError(E.NOENT, self.name)
        self.opens += 1

    def release(self) -> None:
        self.opens -= 1
        if self.opens == 0:
            self.hang_up()
            if isinstance(self.parent, Directory):
                self.parent.discard(self.name)

    def opened(self, above: TreeFid | None) -> TreeFid:
        """A fid on its ctl, which holds it; `above` is that of the directory it is in."""
        self.hold()
        return TreeFid(self.ctl, TreeFid(self, above))

    def hang_up(self) -> None:
        """End what it stands for. May be called twice."""
        raise NotImplementedError


class Clone(Node):
    """Opening it makes a conversation, by `make`; the fid is its ctl. Who may only read makes nothing."""

    def __init__(self, make: Callable[[Caller], Counted]) -> None:
        super().__init__("clone", 0o666)
        self._make = make

    def open(self, fid: TreeFid, mode: int, caller: Caller) -> TreeFid:
        check_for_writing(self, mode)
        return self._make(caller).opened(fid.above)


class CountedText(Text):
    """A text of a conversation; open, it keeps that there."""

    def __init__(self, of: Counted, name: str, get: Callable[[], str]) -> None:
        super().__init__(name, get)
        self._of = of

    def open(self, fid: TreeFid, mode: int, caller: Caller) -> None:
        self._of.hold()
        super().open(fid, mode, caller)

    def close(self, fid: TreeFid) -> None:
        self._of.release()


class CountedFile(Node):
    """Any other file of one."""

    def __init__(self, of: Counted, name: str, mode: int) -> None:
        super().__init__(name, mode)
        self._of = of

    def open(self, fid: TreeFid, mode: int, caller: Caller) -> MaybeAsync[TreeFid | None]:
        self._of.hold()
        return None

    def close(self, fid: TreeFid) -> None:
        self._of.release()

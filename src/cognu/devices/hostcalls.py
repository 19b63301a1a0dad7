"""What the host server does in a thread: each function is one whole request, in blocking calls on a `HostTree`.

Those that take `HostSteps` are tried on the loop's own thread first, with steps that raise `WouldWait`. Nothing here
touches the server's own state, which belongs to the loop's thread. Handles that a function opened and does not return
are closed when it ends, whatever happens.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final, Generic, NamedTuple, TypeVar

from cognu.errors import E, FileError
from cognu.ninep.types import (
    DMAPPEND,
    DMBLOCK,
    DMDEVICE,
    DMDIR,
    DMEXCL,
    DMNAMEDPIPE,
    DMPERM,
    DMSETGID,
    DMSETUID,
    DMSETVTX,
    DMSOCKET,
    DMSYMLINK,
    SetStat,
)
from cognu.world import MARKS, HostFile, HostNode, HostStat, HostSteps, HostTree

T = TypeVar("T")
_KINDS: Final = {
    "-": 0,
    "d": DMDIR,
    "l": DMSYMLINK,
    "p": DMNAMEDPIPE,
    "s": DMSOCKET,
    "c": DMDEVICE,
    "b": DMDEVICE | DMBLOCK,
}
_STICKY: Final = 0o1000
_MARKS: Final = ((DMAPPEND, "a"), (DMEXCL, "x"))
_SPECIAL: Final = ((DMSETUID, 0o4000), (DMSETGID, 0o2000), (DMSETVTX, 0o1000))


class Hop(Generic[T]):
    """A call in a thread whose result is released if nobody waits for it any more."""

    def __init__(self, call: Callable[[], T], release: Callable[[T], None]) -> None:
        self._call = call
        self._release = release
        self._lock = threading.Lock()  # guards the two below
        self._abandoned = False
        self._done: list[T] = []

    def run(self) -> T:
        result = self._call()
        with self._lock:
            if not self._abandoned:
                self._done.append(result)
                return result
        self._release(result)
        raise FileError(E.CANCELED)

    def abandon(self) -> None:
        with self._lock:
            self._abandoned = True
            done, self._done = self._done, []
        for result in done:
            self._release(result)


class Found(NamedTuple):
    """A handle, which is the receiver's to close, and what the host says of it."""

    node: HostNode
    stat: HostStat


def kind_bits(stat: HostStat) -> int:
    """The bits of Stat.mode above the permissions."""
    bits = _KINDS[stat.kind]
    if not stat.mode & 0o7000:
        return bits
    for ours, hosts in _SPECIAL:
        if stat.mode & hosts:
            bits |= ours
    if stat.marks:
        bits &= ~DMSETVTX  # it is there for the marks
        for ours, mark in _MARKS:
            if mark in stat.marks:
                bits |= ours
    return bits


def host_mode(mode: int) -> int:
    bits = mode & DMPERM | sum(hosts for ours, hosts in _SPECIAL if mode & ours)
    return bits | _STICKY if marks_of(mode) else bits


def marks_of(mode: int) -> str:
    """What `HostStat.marks` is to be for a mode."""
    return "".join(mark for ours, mark in _MARKS if mode & ours)


def _set_marks(tree: HostTree, node: HostNode, marks: str) -> None:
    """Raises NOTSUP where the host keeps no extended attributes."""
    if marks:
        tree.setxattr(node, MARKS, marks.encode(), 0)
    else:
        tree.removexattr(node, MARKS)


def walk_names(tree: HostSteps, start: HostNode, names: Sequence[str]) -> tuple[list[HostStat], HostNode | None]:
    """Stats of the names reached, and the last one's handle or None if not all were. Raises if the first was not."""
    stats: list[HostStat] = []
    at = start
    try:
        for name in names:
            below, stat = _step(tree, at, name)
            if at is not start:
                at.close()
            at = below
            stats.append(stat)
    except BaseException as error:
        if at is not start:
            at.close()
        if not stats or not isinstance(error, FileError):
            raise
        return stats, None
    return stats, at


def _step(tree: HostSteps, at: HostNode, name: str) -> tuple[HostNode, HostStat]:
    """Raises NOENT for what can't be a name, since nothing is called so."""
    try:
        return tree.look(at, name)
    except FileError as error:
        if error.error in (E.INVAL, E.ILSEQ, E.LOOP):
            raise FileError(E.NOTDIR if error.error is E.LOOP else E.NOENT, name) from None
        raise


def walk_from_root(tree: HostSteps, names: Sequence[str], identity: tuple[int, int] | None = None) -> Found:
    """What `names` lead to from the root. Raises NOENT if that is not the file of that identity (any, if None)."""
    root = tree.root()
    try:
        if names:
            stats, node = walk_names(tree, root, names)
        else:
            stats, node = [tree.stat(root)], root
    except BaseException:
        root.close()
        raise
    if node is not root:
        root.close()
    if node is None:
        raise FileError(E.NOENT, names[-1])
    if identity not in (None, stats[-1].identity):
        node.close()
        raise FileError(E.NOENT, names[-1] if names else "/")
    return Found(node, stats[-1])


def present(tree: HostSteps, node: HostNode, is_open: bool = False) -> HostStat:
    """What the host says of it. A file without any name left is there for those who have it open only (NOENT)."""
    stat = tree.stat(node)
    if stat.links == 0 and not is_open:
        raise FileError(E.NOENT)
    return stat


def cut_and_open(tree: HostTree, node: HostNode, read: bool, write: bool) -> tuple[HostFile, HostStat]:
    """`open_file` of a file that loses its contents; one that is only appended to keeps them, open(5)."""
    if "a" in present(tree, node).marks:
        return open_file(tree, node, read, write, False)
    if not write:
        tree.change(node, size=0)
    return open_file(tree, node, read, write, write)


def open_file(tree: HostSteps, node: HostNode, read: bool, write: bool, truncate: bool) -> tuple[HostFile, HostStat]:
    present(tree, node)
    file = tree.open(node, read, write, truncate)
    try:
        return file, tree.stat(node)
    except BaseException:
        file.close()
        raise


def open_present(tree: HostSteps, node: HostNode) -> tuple[HostFile, HostStat]:
    """`open_file` for reading, with steps that open plain files alone: to open one does nothing to it."""
    file = tree.open(node, True, False, False)
    try:
        return file, present(tree, node)
    except BaseException:
        file.close()
        raise


def _new_mode(perm: int, above: HostStat, umask: int) -> int:
    """Permissions of what is new: the directory's bound those asked for, open(5), and none is in `umask`, umask(2)."""
    bound = 0o777 if perm & DMDIR else 0o666
    return perm & (~bound | above.mode) & DMPERM & ~umask


def make(tree: HostTree, directory: HostNode, name: str, perm: int, umask: int) -> tuple[Found, HostFile | None]:
    """A new file, open, or a directory; the directory's permissions and `umask` bound its own.

    Raises NOTSUP if it is to have marks and the host keeps none; then nothing was made.
    """
    above = present(tree, directory)
    file: HostFile | None = None
    if above.kind != "d":
        raise FileError(E.NOTDIR, name)
    if perm & DMDIR:
        node = tree.make_directory(directory, name, _new_mode(perm, above, umask))
    else:
        node, file = tree.create(directory, name, _new_mode(perm, above, umask), True)
    try:
        if marks := marks_of(perm):
            _mark_new(tree, directory, name, node, marks, _new_mode(perm, above, umask))
        return Found(node, tree.stat(node)), file
    except BaseException:
        node.close()
        if file is not None:
            file.close()
        raise


def _mark_new(tree: HostTree, directory: HostNode, name: str, node: HostNode, marks: str, mode: int) -> None:
    try:
        _set_marks(tree, node, marks)
        tree.change(node, mode=mode | _STICKY)
    except FileError:
        tree.unlink(directory, name, False)
        raise


def make_link(tree: HostTree, directory: HostNode, name: str, target: str) -> HostStat:
    node = tree.symlink(directory, name, target)
    try:
        return tree.stat(node)
    finally:
        node.close()


def make_special(tree: HostTree, directory: HostNode, name: str, kind: str, perm: int, umask: int) -> HostStat:
    """A pipe or socket; the directory's permissions and `umask` bound its own, as a file's."""
    above = present(tree, directory)
    node = tree.make_node(directory, name, kind, _new_mode(perm & ~DMDIR, above, umask))
    try:
        return tree.stat(node)
    finally:
        node.close()


def list_some(
    tree: HostTree, directory: HostNode, names: list[str] | None, cookie: int, count: int
) -> tuple[list[str], list[tuple[int, str, HostStat]]]:
    """All names (read now if None) and at most `count` of them after `cookie` with their stats.

    What went away since the names were read is passed over; nothing is found only at the end.
    """
    if names is None:
        names = tree.list(directory)
    found: list[tuple[int, str, HostStat]] = []
    while len(found) < count and cookie < len(names):
        name = names[cookie]
        cookie += 1
        try:
            node, stat = tree.look(directory, name)
        except FileError as error:
            if error.error in (E.NOENT, E.STALE):
                continue
            raise
        node.close()
        found.append((cookie, name, stat))
    return names, found


def change_file(
    tree: HostTree, node: HostNode, identity: tuple[int, int], names: Sequence[str], change: SetStat, now: int
) -> None:
    """All of `change` or nothing: the new name is given first and taken back if the rest is refused."""
    stat = present(tree, node, True)
    names_there, numbers_there = (stat.user, stat.group), (stat.uid, stat.gid)
    if any(new not in (None, old) for new, old in zip((change.user, change.group), names_there, strict=True)) or any(
        new not in (None, old) for new, old in zip((change.uid, change.gid), numbers_there, strict=True)
    ):
        raise FileError(E.PERM, names[-1] if names else "/", "owners don't change here")
    if change.mode is not None and change.mode & DMDIR and stat.kind != "d":
        raise FileError(E.PERM, names[-1], "a file can't become a directory")
    mode = None if change.mode is None else host_mode(change.mode)
    marks = None if change.mode is None else marks_of(change.mode)
    if marks and stat.kind != "-":
        raise FileError(E.NOTSUP, names[-1] if names else "/", "append-only or exclusive use of what is no plain file")
    length = change.length
    if length is not None and length < 0:
        raise FileError(E.INVAL, names[-1] if names else "/", f"length {length}")
    if stat.kind == "d" and length == 0:
        length = None
    mtime = now if change.mtime_now else change.mtime
    atime = now if change.atime_now else change.atime

    def change_rest() -> None:
        if marks is not None and marks != stat.marks:
            _set_marks(tree, node, marks)
        try:
            tree.change(node, mode=mode, size=length, mtime=mtime, atime=atime)
        except FileError:
            if marks is not None and marks != stat.marks:
                _set_marks(tree, node, stat.marks)
            raise

    if change.name is None or change.name == names[-1]:
        change_rest()
        return
    parent = walk_from_root(tree, names[:-1]).node
    try:
        _check_same(tree, parent, names[-1], identity)
        _check_free(tree, parent, change.name)
        tree.rename(parent, names[-1], parent, change.name)
        try:
            if (mode, length, mtime, atime) != (None, None, None, None):
                change_rest()
        except FileError:
            tree.rename(parent, change.name, parent, names[-1])
            raise
    finally:
        parent.close()


def remove_file(tree: HostTree, names: Sequence[str], identity: tuple[int, int]) -> None:
    """Remove what `names` lead to, if it is the file meant."""
    parent = walk_from_root(tree, names[:-1]).node
    try:
        stat = _check_same(tree, parent, names[-1], identity)
        tree.unlink(parent, names[-1], stat.kind == "d")
    finally:
        parent.close()


def _check_same(tree: HostTree, parent: HostNode, name: str, identity: tuple[int, int]) -> HostStat:
    """Raises NOENT if the name is another file's by now."""
    node, stat = tree.look(parent, name)
    node.close()
    if stat.identity != identity:
        raise FileError(E.NOENT, name)
    return stat


def _check_free(tree: HostTree, parent: HostNode, name: str) -> None:
    try:
        tree.walk(parent, name).close()
    except FileError as error:
        if error.error is E.NOENT:
            return
        raise
    raise FileError(E.EXIST, name)

"""Paths as WASI has them: relative to a directory, and never above it.

The namespace is the real fence: what a program was not given has no name in it. But WASI promises more, that a
directory handed to a piece of a program holds that piece in, so `..` and symlinks may lead about below the directory
and not out of it (EPERM, as in Wasmtime; absolute paths and links too).

One directory is not such a fence: the preopened working directory `.` of a program that was not mapped its directories
one by one. Zig gives that descriptor with absolute paths, which lead from the namespace's root, as openat(2) has it. C
libraries find by name which preopen a path is below and strip the slash, so `/notes.txt` comes as `notes.txt` there:
what is not in the working directory is looked for at the top, unless a preopen has that name; to open and look at, not
to make or remove. So is what was granted while the program runs, which no preopen leads to.

A path without `..` is first walked whole, which is one round trip. If that met a symlink, seen by where the walk
ended, or failed, it is walked again name by name: exact, and slow only where something is odd.
"""

from __future__ import annotations

from posixpath import normpath
from typing import NamedTuple

from cognu.errors import E, FileError
from cognu.files.chan import Chan
from cognu.files.dispatch import dispatch
from cognu.files.namespace import MAX_LINKS
from cognu.files.process import Process
from cognu.files.server import Then
from cognu.files.steps import Steps
from cognu.ninep.types import QTDIR, QTSYMLINK
from cognu.runtime.wasi.abi import Errno, WasiError


class Start(NamedTuple):
    """Where a path begins: a directory, and, if that is the program's working directory, the root above it."""

    directory: Chan
    root: Chan | None
    tops: frozenset[str] = frozenset()
    """Names at the top that have a preopened directory of their own, so that paths below them never come here."""


class Found(NamedTuple):
    """Where a path led. `chan` is the file, before any mount point on it, or None if it is not there.

    `directory` and `name` say where it is or would be, unless the path ends in `.` or `..`. `slash`: the path demands a
    directory.
    """

    chan: Chan | None
    directory: Chan | None
    name: str
    slash: bool

    def existing(self) -> Chan:
        """Raises ENOENT."""
        if self.chan is None:
            raise WasiError(Errno.NOENT)
        return self.chan

    def place(self, errno: Errno = Errno.INVAL) -> tuple[Chan, str]:
        """The directory and the name in it. Raises `errno` for a path that ends in `.` or `..`."""
        if self.directory is None:
            raise WasiError(errno)
        return self.directory, self.name


def resolve(
    process: Process,
    start: Start,
    path: str,
    *,
    follow: bool,
    place: bool = False,
    ask: bool = True,
    then: Then | None = None,
) -> Steps[Found]:
    """Walk `path` from where it starts; a symlink at its end is resolved if `follow`. `then`: what is done next.

    With `place` the last name may be missing; else what the program has no grant for is asked for (unless not `ask`),
    to be read. Raises EPERM for a way out, ENOENT, ENOTDIR, ELOOP.
    """
    try:
        return (yield from _resolve_from(process, start, path, follow, place, then))
    except (FileError, WasiError) as error:
        if process.reach is None or place or not ask or not _is_missing(error):
            raise
    if not (yield from reach(process, start, path, "r")):
        raise WasiError(Errno.NOENT)
    return (yield from _resolve_from(process, start, path, follow, place))


def reach(process: Process, start: Start, path: str, rights: str) -> Steps[bool]:
    """Ask for what `path`, which was not found, may mean, letters out of `rwxc`; whether it was given."""
    for meant in _meanings(start, path):
        if process.reach is not None and (yield process.reach(meant, rights)):
            return True
    return False


def _meanings(start: Start, path: str) -> list[str]:
    """By the process's own names: as it was given, and as an absolute path that came without its slash."""
    if start.root is not None and path.startswith("/"):
        return ["/" + normpath(path).lstrip("/")]
    base = str(start.directory.path)
    found = ["/" + normpath(f"{base}/{path}").lstrip("/")] if base.startswith("/") else []
    if _may_be_absolute(start, path):
        found.append("/" + normpath(path))
    return found


def _may_be_absolute(start: Start, path: str) -> bool:
    names = path.split("/")
    return start.root is not None and names[0] not in start.tops and ".." not in names


def _resolve_from(
    process: Process, start: Start, path: str, follow: bool, place: bool, then: Then | None = None
) -> Steps[Found]:
    base, root = start.directory, start.root
    if root is not None and path.startswith("/"):
        return (yield from _resolve(process, root, path.lstrip("/") or ".", follow, place, then))
    try:
        return (yield from _resolve(process, base, path, follow, place, then))
    except (FileError, WasiError) as error:
        # Below a directory that is no preopen there can only be what was asked for.
        looked = process.reach is not None if "/" in path else not place
        if root is None or not looked or not _may_be_absolute(start, path) or not _is_missing(error):
            raise
    return (yield from _resolve(process, root, path, follow, place, then))


def _is_missing(error: FileError | WasiError) -> bool:
    if isinstance(error, WasiError):
        return error.errno is Errno.NOENT
    return error.error is E.NOENT


def _resolve(process: Process, base: Chan, path: str, follow: bool, place: bool, then: Then | None) -> Steps[Found]:
    names, slash = _split(path)
    dotted = path.split("/")[-1] in (".", "..") or not names
    place = place and not dotted  # the directory whose dot that is must be there
    if ".." not in names:
        straight = yield from _walk_straight(process, base, names, follow or slash, place, then)
        if straight is not None:
            return _checked(straight._replace(slash=slash, directory=None if dotted else straight.directory))
    found = yield from _walk_exactly(process, base, names, slash, follow, place)
    return _checked(found._replace(directory=None) if dotted else found)


def _checked(found: Found) -> Found:
    if found.slash and found.chan is not None and not found.chan.qid.type & QTDIR:
        raise WasiError(Errno.NOTDIR)
    return found


def _split(path: str) -> tuple[list[str], bool]:
    """The names, without `.`, and whether the path's end demands a directory. Raises ENOENT, EPERM."""
    if not path:
        raise WasiError(Errno.NOENT)
    if path.startswith("/"):
        raise WasiError(Errno.PERM)
    parts = path.split("/")
    return [part for part in parts if part not in ("", ".")], parts[-1] in ("", ".", "..")


def _walk_straight(
    process: Process, base: Chan, names: list[str], follow: bool, place: bool, then: Then | None
) -> Steps[Found | None]:
    """The walk as a whole, or None if it has to be done name by name."""
    namespace = process.namespace
    try:
        if not place or not names:
            chan = yield from namespace.walk(base, names, process, follow=False, then=then)
            found = Found(chan, None, "", False)
        else:
            directory = base
            if len(names) > 1:
                directory = yield from namespace.walk(base, names[:-1], process, follow=False)
                if directory.qid.type & QTSYMLINK:
                    return None
            found = yield from _last(process, directory, names[-1])
    except FileError:
        if len(names) <= 1:
            raise
        return None
    end = found.chan or found.directory
    assert end is not None
    expected = base.path.names() + (names if found.chan is not None else names[:-1])
    if end.path.names() != expected or (follow and end.qid.type & QTSYMLINK):
        return None
    return found


def _last(process: Process, directory: Chan, name: str) -> Steps[Found]:
    """The last name, which may be missing."""
    if not directory.qid.type & QTDIR:
        raise WasiError(Errno.NOTDIR)
    try:
        chan = yield from process.namespace.walk(directory, [name], process, follow=False)
    except FileError as error:
        if error.error is not E.NOENT:
            raise
        return Found(None, directory, name, False)
    return Found(chan, directory, name, False)


def _walk_exactly(
    process: Process, base: Chan, names: list[str], slash: bool, follow: bool, place: bool
) -> Steps[Found]:
    """Name by name, resolving symlinks here. `trail` holds the directories from `base` down, so `..` can't leave it."""
    trail = [base]
    todo = names[::-1]
    name, links = "", 0
    while todo:
        name = todo.pop()
        if not trail[-1].qid.type & QTDIR:
            raise WasiError(Errno.NOTDIR)
        if name == "..":
            if len(trail) == 1:
                raise WasiError(Errno.PERM)
            trail.pop()
            continue
        found = yield from _last(process, trail[-1], name)
        if found.chan is None:
            if todo or not place:
                raise WasiError(Errno.NOENT)
            return found._replace(slash=slash)
        if not found.chan.qid.type & QTSYMLINK or not (todo or follow or slash):
            trail.append(found.chan)
            continue
        links += 1
        if links > MAX_LINKS:
            raise WasiError(Errno.LOOP)
        target, demands = _split((yield from read_link(found.chan)))
        slash |= demands and not todo
        todo += target[::-1]
    if len(trail) == 1:
        return Found(base, None, "", slash)
    return Found(trail[-1], trail[-2], trail[-1].path.name, slash)


def read_link(chan: Chan) -> Steps[str]:
    """The target of a symlink. Raises EINVAL."""
    if not chan.qid.type & QTSYMLINK:
        raise WasiError(Errno.INVAL)
    return (yield from dispatch(chan, 0, chan.server.readlink, chan.fid))

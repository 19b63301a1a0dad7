"""Files that are neither plain nor directories, as an export makes and shows them: links, pipes, sockets, devices.

9P2000.L has a message for each. 9P2000.u has Tcreate with a bit of the mode and a text, `extension`: a link's target, a
device's number (`c 1 3`), or, for another name of a file, the number of a fid on it; and it tells the same in a stat.
(The draft RFC on Unix extensions to 9P2000, and Linux's fs/9p/vfs_inode.c, which is what its clients are.)
"""

from __future__ import annotations

from cognu.errors import E, FileError
from cognu.files.chan import Chan
from cognu.files.dispatch import dispatch
from cognu.files.process import Process
from cognu.files.server import OEXCL, Entry
from cognu.files.steps import Steps
from cognu.kernel import CREATE
from cognu.ninep import messages as m
from cognu.ninep.attrs import device_of_text, wire_stat_u
from cognu.ninep.messages import WireStat
from cognu.ninep.types import (
    DMBLOCK,
    DMDEVICE,
    DMDIR,
    DMLINK,
    DMNAMEDPIPE,
    DMPERM,
    DMSOCKET,
    DMSYMLINK,
    OREAD,
    Qid,
    Stat,
)

SPECIAL = DMSYMLINK | DMLINK | DMDEVICE | DMNAMEDPIPE | DMSOCKET
"""The bits of a Tcreate's permissions that ask for such a file."""


def make_symlink(process: Process, directory: Chan, name: str, target: str) -> Steps[Qid]:
    where = process.namespace.creator(directory, name)
    return (yield from dispatch(where, CREATE, where.server.symlink, where.fid, name, target))


def make_node(process: Process, directory: Chan, name: str, mode: int, major: int, minor: int) -> Steps[Qid]:
    """A pipe, socket, device or plain file; `mode` as in `Stat`. Raises what the server says of it: PERM for a device.

    (Linux asks for plain files so, where it does not open them at once.)
    """
    if not mode & (SPECIAL | DMDIR):
        made = yield from process.namespace.create(directory, name, mode, OREAD | OEXCL, process)
        qid = made.qid
        made.close()
        return qid
    if mode & (DMDIR | DMSYMLINK):
        raise FileError(E.INVAL, name, "directories and links are made otherwise")
    where = process.namespace.creator(directory, name)
    return (yield from dispatch(where, CREATE, where.server.mknod, where.fid, name, mode, major, minor))


def create_special(process: Process, directory: Chan, message: m.Tcreate, linked: object) -> Steps[Chan]:
    """Carry out a Tcreate of 9P2000.u with one of the bits `SPECIAL`; the new file's chan, which is not open.

    `linked` is what the fid stands for that a hard link is of. Raises INVAL if the extension says nothing fit, BADF.
    """
    kind = message.perm & SPECIAL
    if kind == DMSYMLINK:
        yield from make_symlink(process, directory, message.name, message.extension)
    elif kind == DMLINK:
        if not isinstance(linked, Chan):
            raise FileError(E.BADF, message.extension.strip())
        yield from process.namespace.link(linked, directory, message.name)
    elif kind in (DMDEVICE, DMNAMEDPIPE, DMSOCKET):
        block, major, minor = (device_of_text(message.extension) if kind == DMDEVICE else None) or (-1, 0, 0)
        if kind == DMDEVICE and block < 0:
            raise FileError(E.INVAL, message.name, "b or c, and two numbers")
        mode = kind | max(block, 0) & DMBLOCK | message.perm & DMPERM
        yield from make_node(process, directory, message.name, mode, major, minor)
    else:
        raise FileError(E.INVAL, message.name, "several kinds of file at once")
    return (yield from process.namespace.walk(directory, [message.name], process, follow=False))


def linked_fid(message: m.Tcreate) -> int | None:
    """The fid that a Tcreate of 9P2000.u wants another name for; None if it does not say one."""
    text = message.extension.strip()
    fits = message.perm & DMLINK and text.isascii() and text.isdigit() and len(text) < 11
    return int(text) if fits else None


def extended_stat(chan: Chan, stat: Stat) -> Steps[WireStat]:
    """9P2000.u's stat of the file at `chan`, with a link's target."""
    target = ""
    if stat.is_symlink:
        target = yield from dispatch(chan, 0, chan.server.readlink, chan.fid)
    return wire_stat_u(stat, target)


def extended_entry(process: Process, directory: Chan, entry: Entry) -> Steps[WireStat | None]:
    """The same of an entry of an open directory, asked for where its server did not give it; None if it is gone."""
    namespace, users = process.namespace, process.namespace.domain.authority.users
    if entry.stat is not None and not entry.stat.is_symlink:
        return wire_stat_u(users.numbered(entry.stat))
    try:
        found = yield from namespace.walk(directory, [entry.name], process, follow=False)
        return (yield from extended_stat(found, users.numbered((yield from namespace.stat(found)))))
    except FileError:
        return None if entry.stat is None else wire_stat_u(users.numbered(entry.stat))

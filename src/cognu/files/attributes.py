"""Extended attributes (xattr(7)): what names they may have, and 9P2000.L's fids on them, for an export.

A Txattrwalk makes a fid that is read like a file: an attribute's value, or all names, each with a NUL after it. A
Txattrcreate makes of a fid one that takes a value of the size announced, which is set at its Tclunk: nothing is set if
that many bytes did not come, or no Tclunk does. A value of no bytes with the flag REPLACE takes the attribute away:
that is how Linux says so (fs/9p/xattr.c; diod's protocol.md).
"""

from __future__ import annotations

from cognu.errors import E, FileError
from cognu.files.chan import Chan
from cognu.files.dispatch import dispatch
from cognu.files.process import Process
from cognu.files.steps import Steps
from cognu.kernel import READ, WRITE
from cognu.ninep.types import XATTR_CREATE, XATTR_MAX, XATTR_REPLACE

MOST_BYTES = 4 << 20
"""Of attributes that one connection's fids may keep in memory."""
_PREFIX = "user."


def check_attribute(name: str) -> None:
    """Raises NOTSUP unless it is one of a user's own, NAMETOOLONG, INVAL."""
    if not name.startswith(_PREFIX):
        raise FileError(E.NOTSUP, name, "attributes here are called user.NAME")
    if name == _PREFIX or "\0" in name:
        raise FileError(E.INVAL, name, "name of an attribute")
    if len(name.encode("utf-8", "surrogatepass")) > 255:
        raise FileError(E.NAMETOOLONG, name)


class AttributeFid:
    """What a fid on an attribute stands for. `chan` is the file; `data` the value that is read, or is coming.

    `name` is None for one that is read. It counts in `fids` until it is closed.
    """

    __slots__ = ("chan", "data", "fids", "filled", "flags", "name", "size")

    def __init__(self, fids: AttributeFids, chan: Chan, data: bytearray, name: str | None, flags: int) -> None:
        self.fids = fids
        self.chan = chan
        self.data = data
        self.size = len(data)
        self.name = name
        self.flags = flags
        self.filled = 0

    def close(self) -> None:
        """May be called again."""
        self.fids.used -= self.size
        self.size = 0
        self.data = bytearray()
        self.chan.close()


class AttributeFids:
    """Those of one connection."""

    def __init__(self) -> None:
        self.used = 0

    def to_read(self, process: Process, chan: Chan, name: str) -> Steps[AttributeFid]:
        """A fid to read the attribute from, or if `name` is empty all names. Raises NODATA, NOTSUP, NOMEM."""
        target, _ = process.namespace.cross(chan)
        if name:
            value = yield from dispatch(target, READ, target.server.getxattr, target.fid, name)
        else:
            names = yield from dispatch(target, READ, target.server.listxattr, target.fid)
            value = b"".join(each.encode() + b"\0" for each in names)
        return self._made(target, bytearray(value), None, 0)

    def to_write(self, process: Process, chan: Chan, name: str, size: int, flags: int) -> AttributeFid:
        """A fid to write a value of `size` bytes to. Raises INVAL for unknown flags, TOOBIG, NOMEM, NOTSUP."""
        check_attribute(name)
        if flags not in (0, XATTR_CREATE, XATTR_REPLACE):
            raise FileError(E.INVAL, name, f"flags {flags}")
        target, _ = process.namespace.cross(chan)
        target.domain.check(target.cap, WRITE)
        if size > XATTR_MAX:
            raise FileError(E.TOOBIG, name, f"at most {XATTR_MAX} bytes")
        return self._made(target, bytearray(size), name, flags)

    def _made(self, target: Chan, data: bytearray, name: str | None, flags: int) -> AttributeFid:
        if len(data) > XATTR_MAX:
            raise FileError(E.TOOBIG, name or "", f"at most {XATTR_MAX} bytes")
        if self.used + len(data) > MOST_BYTES:
            raise FileError(E.NOMEM, name or "", "close fids on attributes first")
        self.used += len(data)
        return AttributeFid(self, target.share(), data, name, flags)


def read_attribute(fid: AttributeFid, offset: int, count: int) -> bytes:
    """Raises BADUSE for a fid that takes a value, REVOKED."""
    if fid.name is not None:
        raise FileError(E.BADUSE, fid.name)
    fid.chan.domain.check(fid.chan.cap, READ)
    return bytes(memoryview(fid.data)[offset : offset + count])


def write_attribute(fid: AttributeFid, offset: int, data: memoryview) -> int:
    """Raises BADUSE for a fid that gives a value, INVAL for bytes out of order or beyond the size."""
    if fid.name is None:
        raise FileError(E.BADUSE)
    end = offset + len(data)
    if offset > fid.filled or end > fid.size:
        raise FileError(E.INVAL, fid.name, f"{fid.filled} of {fid.size} bytes came so far")
    fid.data[offset:end] = data
    fid.filled = max(fid.filled, end)
    return len(data)


def end_attribute(fid: AttributeFid) -> Steps[None]:
    """A fid's Tclunk: set what it was to set. It is closed in any case. Raises INVAL if not all bytes came."""
    chan, name = fid.chan, fid.name
    try:
        if name is None:
            return
        if fid.filled != fid.size:
            raise FileError(E.INVAL, name, f"{fid.filled} of {fid.size} bytes came: nothing was set")
        if not fid.size and fid.flags == XATTR_REPLACE:
            yield from dispatch(chan, WRITE, chan.server.removexattr, chan.fid, name)
        else:
            yield from dispatch(chan, WRITE, chan.server.setxattr, chan.fid, name, bytes(fid.data), fid.flags)
    finally:
        fid.close()

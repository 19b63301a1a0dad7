"""Stats, attributes and open modes: from the vocabulary of `types` to what each dialect sends, and back.

Sources: stat(5), open(5), diod's protocol.md (getattr, setattr, lopen), Linux's fs/9p/vfs_inode.c, which says what
9P2000.u's extension holds.
"""

from __future__ import annotations

from dataclasses import replace

from ..errors import E, FileError
from . import types as t
from .messages import Rgetattr, Tsetattr, WireStat
from .types import Qid, SetStat, Stat

_SECOND = 1_000_000_000
_UNTOUCHED_32 = 0xFFFFFFFF
_UNTOUCHED_64 = 0xFFFFFFFFFFFFFFFF
_UNTOUCHED_QID = Qid(0xFF, _UNTOUCHED_32, _UNTOUCHED_64)
_LEGACY_MODE = t.DMDIR | t.DMAPPEND | t.DMEXCL | t.DMMOUNT | t.DMAUTH | t.DMTMP | t.DMPERM
_SPECIAL = t.DMDIR | t.DMSYMLINK | t.DMDEVICE | t.DMBLOCK | t.DMNAMEDPIPE | t.DMSOCKET
_U_MODE = _LEGACY_MODE | _SPECIAL & ~t.DMBLOCK | t.DMSETUID | t.DMSETGID | t.DMSETVTX
_LINKS = "HARDLINKCOUNT"

# File type: (bits of Stat.mode, S_IFMT bits, DT_* of readdir). The first row whose bits are all set holds.
_KINDS = (
    (t.DMDIR, 0o040000, 4),
    (t.DMSYMLINK, 0o120000, 10),
    (t.DMDEVICE | t.DMBLOCK, 0o060000, 6),
    (t.DMDEVICE, 0o020000, 2),
    (t.DMNAMEDPIPE, 0o010000, 1),
    (t.DMSOCKET, 0o140000, 12),
    (0, 0o100000, 8),
)
_POSIX_KINDS = {mark: bits for mark, bits, _ in _KINDS}
_SET_BITS = t.DMSETUID | t.DMSETGID | t.DMSETVTX
_SPECIAL_PERMS = ((t.DMSETUID, 0o4000), (t.DMSETGID, 0o2000), (t.DMSETVTX, 0o1000))


def posix_mode(mode: int) -> int:
    """S_IFMT, set-id, sticky and permission bits, as 9P2000.L wants them, for a Stat.mode."""
    kind = _POSIX_KINDS.get(mode & _SPECIAL)
    if kind is None:  # several marks at once: the first row that fits
        kind = next(bits for mark, bits, _ in _KINDS if mode & mark == mark)
    if mode & _SET_BITS:
        kind |= sum(bit for mark, bit in _SPECIAL_PERMS if mode & mark)
    return kind | mode & t.DMPERM


def mode_of_posix(posix: int) -> int:
    """The Stat.mode for a Linux st_mode; without S_IFMT bits (as in Tlcreate) that of a plain file."""
    kind = next((mark for mark, bits, _ in _KINDS if posix & 0o170000 == bits), 0)
    return kind | posix & t.DMPERM | sum(mark for mark, bit in _SPECIAL_PERMS if posix & bit)


def dirent_type(mode: int) -> int:
    """The DT_* of readdir(3) for a Stat.mode."""
    return next(kind for mark, _, kind in _KINDS if mode & mark == mark)


def open_mode(flags: int) -> int:
    """Topen's mode for Tlopen's flags. What it can't say (L_APPEND, L_EXCL, L_CREAT) is the caller's work."""
    return (flags & t.L_ACCESS) % 3 | (t.OTRUNC if flags & t.L_TRUNC else 0)


def open_flags(mode: int) -> int:
    """Tlopen's flags for Topen's mode: OEXEC reads; ORCLOSE has no counterpart and is the caller's work."""
    access = mode & t.OACCESS
    return (t.L_RDONLY if access == t.OEXEC else access) | (t.L_TRUNC if mode & t.OTRUNC else 0)


# -- 9P2000 --


def _seconds(time: int) -> int:
    """Nanoseconds to the 32-bit seconds of 9P2000; times outside of 1970 to 2106 show as the nearest end."""
    return min(max(time // _SECOND, 0), _UNTOUCHED_32 - 1)


def wire_stat(stat: Stat) -> WireStat:
    """What plain 9P2000 can say of a file: no links, seconds only; a directory's length is 0, stat(5)."""
    length = 0 if stat.is_dir else stat.length
    qid = stat.qid._replace(version=stat.qid.version & 0xFFFFFFFF)
    return WireStat(
        stat.type & 0xFFFF,
        stat.dev & 0xFFFFFFFF,
        qid,
        stat.mode & _LEGACY_MODE,
        _seconds(stat.atime),
        _seconds(stat.mtime),
        length,
        stat.name,
        stat.user,
        stat.group,
        stat.muid,
    )


def wire_stat_u(stat: Stat, target: str = "") -> WireStat:
    """What 9P2000.u can say of a file besides: links and their `target`, devices, number of names, owners' numbers."""
    extension = target
    if stat.mode & t.DMDEVICE:
        major, minor = device_parts(stat.rdev)
        extension = f"{'b' if stat.mode & t.DMBLOCK else 'c'} {major} {minor}"
    elif not stat.mode & _SPECIAL and stat.links > 1:
        extension = f"{_LINKS} {stat.links}"
    return wire_stat(stat)._replace(
        mode=stat.mode & _U_MODE, extension=extension, n_uid=stat.uid, n_gid=stat.gid, n_muid=t.NONUNAME
    )


def device_number(major: int, minor: int) -> int:
    """As Linux's C library puts the two together in st_rdev: makedev(3)."""
    return (major & 0xFFF) << 8 | minor & 0xFF | (minor & ~0xFF) << 12 | (major & ~0xFFF) << 32


def device_parts(rdev: int) -> tuple[int, int]:
    """Major and minor number of a st_rdev."""
    return rdev >> 8 & 0xFFF | rdev >> 32 & ~0xFFF, rdev & 0xFF | rdev >> 12 & 0xFFFFFF00


def device_of_text(text: str) -> tuple[int, int, int] | None:
    """The DMBLOCK bit, major and minor number that 9P2000.u says as `b 8 1` or `c 1 3`; None if it is neither."""
    words = text.split()
    numbers = [int(word) for word in words[1:] if word.isascii() and word.isdigit() and len(word) < 11]
    if len(words) != 3 or words[0] not in ("b", "c") or len(numbers) != 2 or max(numbers) >= 1 << 32:
        return None
    return t.DMBLOCK if words[0] == "b" else 0, numbers[0], numbers[1]


def stat_of_wire(wire: WireStat) -> Stat:
    """The `Stat` for a 9P2000 or 9P2000.u server's answer. It has no ctime: the mtime stands in, as a lower bound."""
    mtime = wire.mtime * _SECOND
    mode, rdev, links = wire.mode & ~(t.DMBLOCK | t.DMLINK), 0, 1
    device = device_of_text(wire.extension) if mode & t.DMDEVICE else None
    if device is not None:
        mode, rdev = mode | device[0], device_number(*device[1:])
    count = wire.extension.removeprefix(f"{_LINKS} ")
    if count != wire.extension and count.isascii() and count.isdigit() and len(count) < 11:
        links = int(count)
    return Stat(
        wire.name,
        wire.qid,
        mode,
        wire.length,
        mtime=mtime,
        atime=wire.atime * _SECOND,
        ctime=mtime,
        user=wire.uid,
        group=wire.gid,
        muid=wire.muid,
        uid=t.NOBODY if wire.n_uid == t.NONUNAME else wire.n_uid,
        gid=t.NOBODY if wire.n_gid == t.NONUNAME else wire.n_gid,
        links=links,
        rdev=rdev,
        dev=wire.dev,
        type=wire.type,
    )


def wire_of_setstat(change: SetStat, now: int, extended: bool = False) -> WireStat:
    """Twstat's stat for a change; `now` (ns) is for mtime_now and atime_now, which 9P2000 can't say.

    Raises `FileError(NOTSUP)` for an owner by name (never allowed), and unless it is `extended` to 9P2000.u's for a
    change of numeric owner or group.
    """
    if change.user is not None or ((change.uid, change.gid) != (None, None) and not extended):
        raise FileError(E.NOTSUP, change.name or "", "9P2000")
    mtime = now if change.mtime_now else change.mtime
    atime = now if change.atime_now else change.atime
    return WireStat(
        0xFFFF,
        _UNTOUCHED_32,
        _UNTOUCHED_QID,
        _UNTOUCHED_32 if change.mode is None else change.mode & (_U_MODE if extended else _LEGACY_MODE),
        _UNTOUCHED_32 if atime is None else _seconds(atime),
        _UNTOUCHED_32 if mtime is None else _seconds(mtime),
        _UNTOUCHED_64 if change.length is None else change.length,
        change.name or "",
        "",
        change.group or "",
        "",
        "",
        t.NONUNAME if change.uid is None else change.uid,
        t.NONUNAME if change.gid is None else change.gid,
    )


def setstat_of_wire(wire: WireStat, present: Stat, extended: bool = False, target: str = "") -> SetStat:
    """The change that a Twstat asks for: fields neither "don't touch" nor equal to what the file has now.

    So a client that writes back a whole stat with one field changed changes that field. An empty `SetStat`
    means "make it durable" (stat(5)). Raises `FileError(PERM)` for what nobody may change: type, dev, qid,
    muid, the kind of file, and with 9P2000.u (`extended`) a link's `target` or what else the extension says.
    """
    old = wire_stat_u(present, target) if extended else wire_stat(present)
    visible = _U_MODE if extended else _LEGACY_MODE
    fixed = (
        (wire.extension, "", old.extension),
        (wire.n_muid, t.NONUNAME, old.n_muid),
        (wire.type, 0xFFFF, old.type),
        (wire.dev, _UNTOUCHED_32, old.dev),
        (wire.muid, "", old.muid),
        (wire.qid.type, 0xFF, old.qid.type),
        (wire.qid.version, _UNTOUCHED_32, old.qid.version),
        (wire.qid.path, _UNTOUCHED_64, old.qid.path),
    )
    if any(value not in (untouched, now) for value, untouched, now in fixed):
        raise FileError(E.PERM, present.name)
    change = SetStat()
    if wire.mode not in (_UNTOUCHED_32, old.mode):
        if (wire.mode ^ old.mode) & visible & _SPECIAL:
            raise FileError(E.PERM, present.name)
        # Bits that the dialect can't see stay as they are.
        change = replace(change, mode=wire.mode & visible | present.mode & ~visible)
    if wire.length not in (_UNTOUCHED_64, old.length):
        change = replace(change, length=wire.length)
    if wire.mtime not in (_UNTOUCHED_32, old.mtime):
        change = replace(change, mtime=wire.mtime * _SECOND)
    if wire.atime not in (_UNTOUCHED_32, old.atime):
        change = replace(change, atime=wire.atime * _SECOND)
    if wire.name not in ("", old.name):
        change = replace(change, name=wire.name)
    if wire.uid not in ("", old.uid):
        change = replace(change, user=wire.uid)
    if wire.gid not in ("", old.gid):
        change = replace(change, group=wire.gid)
    if wire.n_uid not in (t.NONUNAME, old.n_uid):
        change = replace(change, uid=wire.n_uid)
    if wire.n_gid not in (t.NONUNAME, old.n_gid):
        change = replace(change, gid=wire.n_gid)
    return change


# -- 9P2000.L --


def getattr_of_stat(stat: Stat, request_mask: int = t.GETATTR_BASIC) -> Rgetattr:
    """Rgetattr for a file. `valid` is what was asked for and is known; the basic set is always filled in."""
    known = t.GETATTR_BASIC | t.GETATTR_DATA_VERSION | (0 if stat.btime is None else t.GETATTR_BTIME)
    btime = stat.btime or 0
    blocks = (stat.length + 511) // 512 if stat.blocks is None else stat.blocks
    return Rgetattr(
        (request_mask | t.GETATTR_BASIC) & known,
        stat.qid,
        posix_mode(stat.mode),
        stat.uid,
        stat.gid,
        stat.links,
        stat.rdev,
        stat.length,
        stat.blksize,
        blocks,
        *_time(stat.atime),
        *_time(stat.mtime),
        *_time(stat.ctime),
        *_time(btime),
        0,
        stat.qid.version,
    )


def _time(time: int) -> tuple[int, int]:
    """Seconds and nanoseconds; seconds before 1970 in two's complement, as Linux reads them."""
    seconds, rest = divmod(time, _SECOND)
    return seconds & _UNTOUCHED_64, rest


def _nanoseconds(seconds: int, rest: int) -> int:
    return (seconds - (1 << 64) if seconds >> 63 else seconds) * _SECOND + rest


def stat_of_getattr(name: str, reply: Rgetattr) -> Stat:
    """The `Stat` for a 9P2000.L server's answer, which has no name in it. Owners' names are their numbers."""
    btime = None
    if reply.valid & t.GETATTR_BTIME:
        btime = _nanoseconds(reply.btime_sec, reply.btime_nsec)
    return Stat(
        name,
        reply.qid,
        mode_of_posix(reply.mode),
        reply.size,
        mtime=_nanoseconds(reply.mtime_sec, reply.mtime_nsec),
        atime=_nanoseconds(reply.atime_sec, reply.atime_nsec),
        ctime=_nanoseconds(reply.ctime_sec, reply.ctime_nsec),
        btime=btime,
        user=str(reply.uid),
        group=str(reply.gid),
        uid=reply.uid,
        gid=reply.gid,
        links=reply.nlink,
        rdev=reply.rdev,
        blksize=reply.blksize,
        blocks=reply.blocks,
    )


def setstat_of_setattr(message: Tsetattr, present: int = 0) -> SetStat:
    """The change that a Tsetattr asks for; a ctime alone is the server's affair and asks for nothing.

    `present` is the file's Stat.mode now, whose kind (directory, link, append-only …) the new mode keeps: the
    dialect changes permission bits only.
    """
    valid = message.valid
    kind = present & ~(t.DMPERM | _SET_BITS)
    mode = mode_of_posix(message.mode) & ~_SPECIAL | kind
    atime_set, mtime_set = valid & t.SETATTR_ATIME_SET, valid & t.SETATTR_MTIME_SET
    atime = _nanoseconds(message.atime_sec, message.atime_nsec)
    mtime = _nanoseconds(message.mtime_sec, message.mtime_nsec)
    return SetStat(
        mode=mode if valid & t.SETATTR_MODE else None,
        length=message.size if valid & t.SETATTR_SIZE else None,
        mtime=mtime if valid & t.SETATTR_MTIME and mtime_set else None,
        atime=atime if valid & t.SETATTR_ATIME and atime_set else None,
        uid=message.uid if valid & t.SETATTR_UID else None,
        gid=message.gid if valid & t.SETATTR_GID else None,
        mtime_now=bool(valid & t.SETATTR_MTIME and not mtime_set),
        atime_now=bool(valid & t.SETATTR_ATIME and not atime_set),
    )


def setattr_of_setstat(fid: int, change: SetStat) -> Tsetattr:
    """Tsetattr for a change. Raises `FileError(NOTSUP)` for a new name and for owners by name."""
    if change.name is not None or change.user is not None or change.group is not None:
        raise FileError(E.NOTSUP, change.name or "", "Tsetattr")
    valid = 0
    for asked, bits in (
        (change.mode is not None, t.SETATTR_MODE),
        (change.uid is not None, t.SETATTR_UID),
        (change.gid is not None, t.SETATTR_GID),
        (change.length is not None, t.SETATTR_SIZE),
        (change.atime_now, t.SETATTR_ATIME),
        (change.mtime_now, t.SETATTR_MTIME),
        (change.atime is not None and not change.atime_now, t.SETATTR_ATIME | t.SETATTR_ATIME_SET),
        (change.mtime is not None and not change.mtime_now, t.SETATTR_MTIME | t.SETATTR_MTIME_SET),
    ):
        valid |= bits if asked else 0
    return Tsetattr(
        fid,
        valid,
        posix_mode(change.mode or 0) & 0o7777,
        change.uid or 0,
        change.gid or 0,
        change.length or 0,
        *_time(change.atime or 0),
        *_time(change.mtime or 0),
    )

"""Tlock and Tgetlock carried out for an export: wire to `Lock` and back. diod's protocol.md; Linux's fs/9p/vfs_file.c.

A client that wants to wait sets a flag. It is answered when it has the lock, or BLOCKED after some time, and then asks
again; Linux's asks every 30 s. What is locked goes with the fid, so with its Tclunk and with the connection.
"""

from __future__ import annotations

from itertools import count

from cognu.errors import E, FileError
from cognu.files.chan import Chan
from cognu.files.dispatch import dispatch
from cognu.files.server import LOCK_END, Lock, Owner
from cognu.files.steps import Steps
from cognu.ninep import messages as m
from cognu.ninep.types import (
    LOCK_BLOCKED,
    LOCK_FLAGS_BLOCK,
    LOCK_RDLCK,
    LOCK_SUCCESS,
    LOCK_UNLCK,
    LOCK_WRLCK,
)

_sessions = count(1)


def new_session() -> int:
    """A number for one connection: what its clients call their processes is told apart from what others' do."""
    return next(_sessions)


def take_lock(session: int, chan: Chan, message: m.Tlock) -> Steps[m.Rlock]:
    """Raises INVAL for what is no type, range or flag, NOTSUP for reclaiming, and what the server says."""
    lock = _lock(session, message)
    if message.flags & ~LOCK_FLAGS_BLOCK:
        raise FileError(E.NOTSUP, "lock", "nothing is reclaimed: locks end with their connection")
    if message.type == LOCK_UNLCK:
        yield from dispatch(chan, 0, chan.server.unlock_range, chan.fid, lock)
        return m.Rlock(LOCK_SUCCESS)
    wait = bool(message.flags & LOCK_FLAGS_BLOCK)
    taken = yield from dispatch(chan, 0, chan.server.lock_range, chan.fid, lock, wait)
    return m.Rlock(LOCK_SUCCESS if taken else LOCK_BLOCKED)


def find_lock(session: int, chan: Chan, message: m.Tgetlock) -> Steps[m.Rgetlock]:
    """What is in the way of a lock, or the range asked about as UNLCK. Raises INVAL.

    Linux's client does not say which kind of lock it asks about, but UNLCK; it is told of any.
    """
    lock = _lock(session, message)
    if message.type == LOCK_UNLCK:
        lock = lock._replace(exclusive=True)
    found = yield from dispatch(chan, 0, chan.server.find_lock, chan.fid, lock)
    if found is None:
        return m.Rgetlock(LOCK_UNLCK, message.start, message.length, message.proc_id, message.client_id)
    length = 0 if found.end == LOCK_END else found.end - found.begin
    kind = LOCK_WRLCK if found.exclusive else LOCK_RDLCK
    return m.Rgetlock(kind, found.begin, length, found.owner.process, found.owner.client)


def _lock(session: int, message: m.Tlock | m.Tgetlock) -> Lock:
    if message.type not in (LOCK_RDLCK, LOCK_WRLCK, LOCK_UNLCK):
        raise FileError(E.INVAL, "lock", f"type {message.type}")
    end = message.start + message.length if message.length else LOCK_END
    if end > LOCK_END:
        raise FileError(E.OVERFLOW, "lock", "the range ends beyond any file")
    owner = Owner(session, message.client_id, message.proc_id)
    return Lock(message.start, end, message.type == LOCK_WRLCK, owner)

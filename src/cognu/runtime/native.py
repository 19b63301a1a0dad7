"""Cognu's own calls for programs: three functions of the import module `cognu`, beside those of WASI.

    emit_message(to, data, size, caps, count, flags) -> i64     the message's number, or minus an errno
    emit_answer(message, data, size, caps, count) -> i32        0, or minus an errno
    next_message(messages, count, out, room, flags) -> i32      bytes written, 0 if there is nothing, or minus an errno

`docs/native.md` has the layouts. A pointer outside of memory is EFAULT.
"""

from __future__ import annotations

import struct
from collections.abc import Coroutine
from typing import Any, Final

from cognu.errors import E, FileError
from cognu.files.authority import Authority
from cognu.files.post import MAX_BYTES, NAME_BYTES, Gift, Notice
from cognu.kernel import Cap
from cognu.kernel.state import PLACES
from cognu.runtime.guest import Guest, HostFunction

MODULE: Final = "cognu"
WANTED, BY_CAP = 1, 2
"""Flags of `emit_message`: an answer is wanted; `to` points at a capability, not at an interface's name."""
BLOCK, REQUESTS = 1, 2
"""Flags of `next_message`: wait until there is something; take requests too, not only answers."""
MAX_MESSAGES = 512
"""How many answers may be waited for at once."""
ITSELF = 0xFFFFFFFF
"""In the place of a gift's rights: the capability itself."""

_CAP = struct.Struct("<QQ")
_GIFT = struct.Struct("<QQI4x")
_NUMBER = struct.Struct("<Q")
_HEADER = struct.Struct(f"<IIQQI4x{NAME_BYTES}s")
HEADER_BYTES: Final = _HEADER.size


def emit_message(guest: Guest, to: int, data: int, size: int, caps: int, count: int, flags: int) -> int:
    authority, pid = _who(guest)
    try:
        if flags & ~(WANTED | BY_CAP):
            raise FileError(E.INVAL)
        target = Cap(*_CAP.unpack(guest.read(to, _CAP.size))) if flags & BY_CAP else guest.read(to, NAME_BYTES)
        gifts, body = _gifts(guest, caps, count), _body(guest, data, size)
        return authority.post.emit(pid, target, body, bool(flags & WANTED), gifts)
    except FileError as error:
        return -error.errno


def emit_answer(guest: Guest, message: int, data: int, size: int, caps: int, count: int) -> int:
    authority, pid = _who(guest)
    try:
        authority.post.answer(pid, message, _body(guest, data, size), _gifts(guest, caps, count))
    except FileError as error:
        return -error.errno
    return 0


def next_message(
    guest: Guest, messages: int, count: int, out: int, room: int, flags: int
) -> int | Coroutine[Any, Any, int]:
    authority, pid = _who(guest)
    try:
        if flags & ~(BLOCK | REQUESTS) or count > MAX_MESSAGES or room < HEADER_BYTES:
            raise FileError(E.INVAL)
        guest.view(out, room)
        waited = [number for (number,) in _NUMBER.iter_unpack(guest.read(messages, count * _NUMBER.size))]
        answers = [number for number in waited if number]
        requests = bool(flags & REQUESTS)
        notice = authority.post.peek(pid, answers, requests)
        if notice is None and flags & BLOCK:
            if not answers and not (requests and authority.post.serves(pid)):
                raise FileError(E.INVAL)  # nothing can ever come
            return _wait(guest, authority, waited, messages, out, room, requests)
        return _tell(guest, authority, notice, waited, messages, out, room) if notice is not None else 0
    except FileError as error:
        return -error.errno


async def _wait(
    guest: Guest, authority: Authority, waited: list[int], messages: int, out: int, room: int, requests: bool
) -> int:
    _, pid = _who(guest)
    box = authority.post.box(pid)
    answers = [number for number in waited if number]
    try:
        while (notice := authority.post.peek(pid, answers, requests)) is None:
            box.ready.clear()
            await box.ready.wait()
        return _tell(guest, authority, notice, waited, messages, out, room)
    except FileError as error:
        return -error.errno


def _tell(
    guest: Guest, authority: Authority, notice: Notice, waited: list[int], messages: int, out: int, room: int
) -> int:
    """Write what there is, and clear its place among the messages waited for. If there is no room, only its size."""
    size = _HEADER.size + len(notice.caps) * _CAP.size + len(notice.data)
    if size > room:
        return size
    got = authority.post.take(_who(guest)[1], notice)
    header = _HEADER.pack(got.kind, len(got.caps), got.message, got.badge, len(got.data), got.interface)
    caps = b"".join(_CAP.pack(*(cap or (0, 0))) for cap in got.caps)
    guest.write(out, header + caps + got.data)
    if notice.message in waited:
        guest.write(messages + waited.index(notice.message) * _NUMBER.size, bytes(_NUMBER.size))
    return size


def _who(guest: Guest) -> tuple[Authority, int]:
    domain = guest.data.process.namespace.domain
    return domain.authority, domain.pid


def _gifts(guest: Guest, pointer: int, count: int) -> list[Gift]:
    if count > PLACES:
        raise FileError(E.INVAL)
    gifts = _GIFT.iter_unpack(guest.read(pointer, count * _GIFT.size))
    return [Gift(Cap(slot, generation), None if rights == ITSELF else rights) for slot, generation, rights in gifts]


def _body(guest: Guest, pointer: int, size: int) -> bytes:
    if size > MAX_BYTES:
        raise FileError(E.MSGSIZE)
    return guest.read(pointer, size)


IMPORTS: Final[dict[tuple[str, str], HostFunction]] = {
    (MODULE, "emit_message"): HostFunction("IIIIII", "q", emit_message),
    (MODULE, "emit_answer"): HostFunction("QIIII", "i", emit_answer),
    (MODULE, "next_message"): HostFunction("IIIII", "i", next_message),
}
"""What a scheduler's guest may import, if its `data` has the `process`, whose box is open."""

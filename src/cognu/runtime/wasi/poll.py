"""poll_oneoff: wait for clocks and descriptors.

A subscription that is wrong is not an error of the call but an event with that error, and counts as having happened.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from cognu.errors import CognuError
from cognu.files.steps import Steps
from cognu.runtime.wasi.abi import (
    ABSTIME,
    EVENT,
    EVENT_CLOCK,
    EVENT_FD_READ,
    EVENT_FD_WRITE,
    HANGUP,
    NONBLOCK,
    SHUT_RD,
    SUBSCRIPTION,
    Errno,
    Right,
    WasiError,
    errno_of,
)
from cognu.runtime.wasi.memory import Guest, put_u32, reserve
from cognu.runtime.wasi.streams import BEHIND, ReadAhead
from cognu.runtime.wasi.system import read_clock
from cognu.runtime.wasi.table import Program, WasiFd

MAX_SUBSCRIPTIONS = 4096
LONGEST_SLEEP = 3600.0
"""Seconds until a clock is looked at again: the wall clock may be set while we wait for it."""


class _Subscription(NamedTuple):
    userdata: int
    kind: int
    number: int  # a clock or a descriptor
    deadline: int  # ns on that clock, for EVENT_CLOCK
    refused: Errno


class _Answer(NamedTuple):
    errno: Errno
    size: int
    flags: int

    def pack(self, asked: _Subscription) -> bytes:
        return EVENT.pack(asked.userdata, self.errno, asked.kind, self.size, self.flags)


_PLAIN = _Answer(Errno.SUCCESS, 0, 0)


def poll_oneoff(program: Program, guest: Guest, subscriptions: int, events: int, count: int, out: int) -> Steps[None]:
    if not 0 < count <= MAX_SUBSCRIPTIONS:
        raise WasiError(Errno.INVAL)
    raw = guest.read(subscriptions, count * SUBSCRIPTION.size)
    reserve(guest, events, count * EVENT.size)
    reserve(guest, out, 4)
    asked = [_decode(program, *fields) for fields in SUBSCRIPTION.iter_unpack(raw)]
    while True:
        answers = []
        for subscription in asked:
            answer = yield from _look(program, subscription)
            if answer is not None:
                answers.append(answer.pack(subscription))
        if answers:
            break
        yield _wait(program, asked)
    guest.write(events, b"".join(answers))
    put_u32(guest, out, len(answers))


def _decode(
    program: Program, userdata: int, kind: int, number: int, timeout: int, _precision: int, flags: int
) -> _Subscription:
    refused, deadline = Errno.SUCCESS, timeout
    if kind > EVENT_FD_WRITE or (kind == EVENT_CLOCK and flags & ~ABSTIME):
        refused = Errno.INVAL
    elif kind == EVENT_CLOCK:
        try:
            now = read_clock(program, number)
        except WasiError as error:
            refused, now = error.errno, 0
        if not flags & ABSTIME:
            deadline = now + timeout
    return _Subscription(userdata, kind, number, deadline, refused)


def _look(program: Program, asked: _Subscription) -> Steps[_Answer | None]:
    """What there is to say now; None if nothing."""
    if asked.refused:
        return _Answer(asked.refused, 0, 0)
    if asked.kind == EVENT_CLOCK:
        return _PLAIN if read_clock(program, asked.number) >= asked.deadline else None
    try:
        entry = program.table.get(asked.number, Right.POLL_FD_READWRITE)
        if asked.kind == EVENT_FD_READ:
            return (yield from _readable(program, entry))
        return _writable(entry)
    except WasiError as error:
        return _Answer(error.errno, 0, 0)
    except CognuError as error:
        return _Answer(errno_of(error.error), 0, 0)


def _readable(program: Program, entry: WasiFd) -> Steps[_Answer | None]:
    entry.need(Right.FD_READ if not entry.is_directory else 0)
    if entry.shut & SHUT_RD:
        return _Answer(Errno.SUCCESS, 0, HANGUP)
    if not (yield from entry.is_stream(program.process)):
        length = 0 if entry.is_directory else (yield from entry.stat(program.process)).length
        return _Answer(Errno.SUCCESS, max(0, length - entry.chan.handle.offset), 0)
    if entry.ahead is None:
        entry.ahead = ReadAhead(entry.chan)
    entry.ahead.begin()
    if not entry.ahead.ready:
        return None
    return _Answer(Errno.SUCCESS, entry.ahead.size, HANGUP if entry.ahead.ended else 0)


def _writable(entry: WasiFd) -> _Answer | None:
    entry.need(Right.FD_WRITE if not entry.is_directory else 0)
    if entry.flags & NONBLOCK and entry.behind is not None and entry.behind.task is not None:
        return None
    return _Answer(Errno.SUCCESS, BEHIND, 0)


async def _wait(program: Program, asked: list[_Subscription]) -> None:
    """Until something may have changed. Reads and writes under way go on if this is cancelled."""
    waits: set[asyncio.Future[None]] = set()
    for subscription in asked:
        if subscription.kind != EVENT_CLOCK:
            entry = program.table.get(subscription.number)
            transfer = entry.ahead if subscription.kind == EVENT_FD_READ else entry.behind
            if transfer is None or transfer.task is None:
                return  # it was over before we came here
            waits.add(transfer.task)
    sleep = _sleep(program, asked)
    if sleep is not None:
        waits.add(sleep)
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        if sleep is not None:
            sleep.cancel()


def _sleep(program: Program, asked: list[_Subscription]) -> asyncio.Future[None] | None:
    """Until the first of the clocks; None if there are none."""
    left = [
        subscription.deadline - read_clock(program, subscription.number)
        for subscription in asked
        if subscription.kind == EVENT_CLOCK
    ]
    if not left:
        return None
    seconds = max(0.0, min(min(left) / 1e9, LONGEST_SLEEP))
    return asyncio.ensure_future(program.world.clock.sleep(seconds))

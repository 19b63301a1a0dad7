"""Answers to plain requests (`ninep/glance.py`): those that a file's server has at once.

They pass the same checks as any other. What must be waited for, what something is mounted on, and whatever is refused
or wrong is not answered here: nothing has changed then, and the request goes the long way.

The answer goes to the stream in the same step in which the capability was checked, so there is no second check. What
that does not take at once waits there, like any answer that was handed over, and no plain request is answered until the
stream has room: a socket when the host has all of it, a link's channel when half a MiB is left.
"""

from __future__ import annotations

import logging

from cognu.errors import Misuse
from cognu.files.chan import Chan, Origin
from cognu.files.dispatch import at_once
from cognu.files.export_calls import Calls, to_be_told
from cognu.files.namespace import Namespace
from cognu.files.process import Process
from cognu.files.server import StoredBytes
from cognu.kernel import READ
from cognu.ninep import glance
from cognu.ninep import messages as m
from cognu.ninep.codec import encode
from cognu.ninep.messages import Dialect
from cognu.ninep.server import ServerSession
from cognu.ninep.types import L_LARGEFILE, L_RDONLY, OREAD, READ_HEADER, Qid, Stat
from cognu.world import DirectStream, FileStream

log = logging.getLogger("cognu.export")

BATCH = 1 << 18
"""Bytes handed to the stream at once. What waits here can still be held back, should its capability be revoked."""
SMALL = 1 << 14
"""Bytes of replies that are joined to one buffer. The data of a Tread of more are not copied to a header."""
MOST_COPIED = 1 << 17
"""Of a Tread of more, the host sends the file itself (sendfile(2)); below, that costs more than a copy."""


class PlainAnswers:
    """What answers the plain requests of one session, in the process that `calls` has.

    `blocked`: the stream has not taken all of it yet.
    """

    def __init__(self, stream: DirectStream, session: ServerSession, calls: Calls) -> None:
        self._stream = stream
        self._host_sends = stream if isinstance(stream, FileStream) else None
        self._session = session
        self._calls = calls
        self._replies: list[bytes | memoryview] = []  # of the requests that are being answered
        self.blocked = False

    def answer(self, most: int) -> int:
        """Answer up to `most` requests, as long as they are plain; how many of `most` are used up.

        All of them are if there was as much to send as one turn may have. If not, the next goes the long way.
        """
        if self.blocked:
            return 0
        count = size = 0
        show = self._session.glance
        try:
            while count < most and (request := show()) is not None:
                target, fields, names = request
                if not isinstance(target, Chan):
                    break
                if fields[1] == glance.READ and fields[5] > SMALL:
                    sent = self._send_data(target, fields)
                else:
                    sent = self._answer(target, fields, names)
                if not sent:
                    break
                size += sent
                count = most if size > BATCH or self.blocked else count + 1
        except Exception as error:
            # It was not answered, so it comes again by the long way, which answers with the failure if it fails again.
            log.error("a plain request failed on this side", exc_info=error)
        self._give()
        return count

    async def drain(self) -> None:
        """Wait until the stream has taken all of it. Raises `LinkBroken`. Nobody may write to it meanwhile."""
        if self.blocked:
            try:
                await self._stream.write()
            finally:
                self.blocked = False

    def offer(self, reply: bytes) -> None:
        """Hand a reply of the long way to the stream, after those given here."""
        if not self._stream.offer(reply):
            self.blocked = True

    def _give(self) -> None:
        replies, self._replies = self._replies, []
        if len(replies) > 1 and sum(map(len, replies)) <= SMALL:
            replies = [b"".join(replies)]
        if replies and not self._stream.offer(*replies):
            self.blocked = True

    def _answer(self, chan: Chan, fields: glance.Fields, names: tuple[str, ...]) -> int:
        """Add a reply to those to be sent; its size, or 0 if the answer is not there at once."""
        session, kind, tag, reply = self._session, fields[1], fields[2], None
        if kind == glance.GETATTR:
            stat = attributes(self._calls.process, chan)
            if stat is not None and (reply := glance.pack_getattr(tag, stat, fields[4])) is not None:
                session.taken(fields)
        elif kind == glance.READ:
            found = data(chan, fields[4], min(fields[5], session.msize - READ_HEADER))
            if found is not None:
                reply = glance.pack_read(tag, len(found)) + found
                session.taken(fields)
        elif kind == glance.WALK:
            reply = self._walk(chan, fields, names)
        elif kind == glance.LOPEN:
            # A descriptor of the process's too is made the long way.
            if self._calls.descriptors is None and opened(self._calls.process, chan, fields[4]):
                reply = self._opened(chan, fields)
        else:
            session.clunked(fields)  # however it ends
            try:
                self._calls.clunked(fields[3], chan)
                reply = glance.pack_clunk(tag)
            except Exception as error:
                reply = b"".join(map(bytes, session.refusal(tag, to_be_told(error))))
        if reply is None:
            return 0
        self._replies.append(reply)
        return len(reply)

    def _opened(self, chan: Chan, fields: glance.Fields) -> bytes:
        """The answer to a Tlopen of what is open by now; the codec's error if its qid fits no reply."""
        reply = glance.pack_lopen(fields[2], chan.qid)
        if reply is not None:
            self._session.opened(fields, chan.qid)
            return reply
        self._session.taken(fields)
        try:
            return b"".join(map(bytes, encode(m.Rlopen(chan.qid, 0), fields[2], Dialect.L)))
        except Misuse as error:
            return b"".join(map(bytes, self._session.refusal(fields[2], error)))

    def _walk(self, chan: Chan, fields: glance.Fields, names: tuple[str, ...]) -> bytes | None:
        walked = walk(self._calls.process, chan, names)
        if walked is None:
            return None
        qids, found = walked
        reply = glance.pack_walk(fields[2], qids)
        if reply is None:
            if found is not None:
                found.close()
        elif found is None:
            self._session.taken(fields)
        else:
            self._session.walked(fields, qids[-1], found)
        return reply

    def _send_data(self, chan: Chan, fields: glance.Fields) -> int:
        """Answer a larger Tread, after what is to be sent before it; the bytes that takes, 0 for the long way."""
        session, tag, offset = self._session, fields[2], fields[4]
        count = min(fields[5], session.msize - READ_HEADER)
        sending = self._host_sends if count > MOST_COPIED else None
        whole = None if sending is None else stored(chan, offset, count)
        if sending is None or whole is None:
            found = data(chan, offset, count)
            if found is None:
                return 0
            session.taken(fields)
            self._replies += [glance.pack_read(tag, len(found)), found]
            return READ_HEADER + len(found)
        session.taken(fields)
        self._give()
        if not sending.offer_file(glance.pack_read(tag, whole.size), whole.number, offset, whole.size):
            self.blocked = True
        return READ_HEADER + whole.size


# -- what a request comes to, or None if that is not there at once; nothing has changed then --------------------------


def attributes(process: Process, chan: Chan) -> Stat | None:
    namespace = process.namespace
    if chan.handle.mode is None and not _is_crossed(namespace, chan):
        return None
    stat = at_once(chan, 0, chan.server.stat_now, chan.fid)
    return None if stat is None else namespace.domain.authority.users.numbered(stat)


def data(chan: Chan, offset: int, count: int) -> bytes | memoryview | None:
    return at_once(chan, READ, chan.server.read_now, chan.fid, offset, count)


def stored(chan: Chan, offset: int, count: int) -> StoredBytes | None:
    return at_once(chan, READ, chan.server.stored_now, chan.fid, offset, count)


def walk(process: Process, chan: Chan, names: tuple[str, ...]) -> tuple[list[Qid], Chan | None] | None:
    """The qids of the names that were reached, and if that is all of them, the file at the end."""
    namespace = process.namespace
    if type(namespace) is not Namespace or not _is_crossed(namespace, chan):
        return None
    walked = at_once(chan, 0, chan.server.walk_now, chan.fid, names, process)
    if walked is None:
        return None
    qids, fid = walked
    heads, device = namespace.heads, chan.path.device
    if heads and not device and any((chan.server, qid.path) in heads for qid in qids):
        if fid is not None:
            chan.server.clunk(fid)
        return None
    if fid is None:
        return qids, None
    origin = Origin(chan.origin.spec, (*chan.origin.names, *names))
    return qids, chan.at(fid, chan.path.step(names), origin)


def opened(process: Process, chan: Chan, flags: int) -> bool:
    """Whether the file, which is no directory, is open for reading now. If so, nobody else uses its fid."""
    handle, namespace = chan.handle, process.namespace
    if flags & ~L_LARGEFILE != L_RDONLY or handle.uses != 1 or handle.mode is not None:
        return False
    if not _is_crossed(namespace, chan):
        return False
    if not at_once(chan, READ, chan.server.open_now, chan.fid, OREAD, process):
        return False
    handle.mode = OREAD
    return True


def _is_crossed(namespace: Namespace, chan: Chan) -> bool:
    """Whether nothing is mounted on the file, or it is what is mounted there (`Namespace.cross`)."""
    if chan.path.mounted_on is not None or not namespace.heads:
        return chan.union is None
    return chan.path.device or chan.key not in namespace.heads

"""A 9P2000.L client on a blocking socket, as thin as it can be: the load generator for every 9P server alike.

It builds a request once and sends the same bytes again and again, and looks at no more of a reply than its size and
type, so that what is measured is the server. Layouts: diod's protocol.md, Plan 9 manual section 5.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Sequence

VERSION, ATTACH, WALK, LOPEN, GETATTR, READ, WRITE, CLUNK = 100, 104, 110, 12, 24, 116, 118, 120
RLERROR = 7
NOTAG, NOFID = 0xFFFF, 0xFFFFFFFF
READ_HEADER, WRITE_HEADER = 11, 23
READ_ROOM = 24
"""What clients leave of msize for the headers of reads and writes (Plan 9's IOHDRSZ)."""
ALL_ATTRIBUTES = 0x7FF
_SEVENTH = struct.Struct("<IBH")


def request(kind: int, body: bytes = b"", tag: int = 0) -> bytes:
    return _SEVENTH.pack(7 + len(body), kind, tag) + body


def text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<H", len(raw)) + raw


def walk(fid: int, newfid: int, names: Sequence[str]) -> bytes:
    return request(WALK, struct.pack("<IIH", fid, newfid, len(names)) + b"".join(map(text, names)))


def open_(fid: int, flags: int = 0) -> bytes:
    return request(LOPEN, struct.pack("<II", fid, flags))


def getattr_(fid: int, tag: int = 0) -> bytes:
    return request(GETATTR, struct.pack("<IQ", fid, ALL_ATTRIBUTES), tag)


def read(fid: int, offset: int, count: int, tag: int = 0) -> bytes:
    return request(READ, struct.pack("<IQI", fid, offset, count), tag)


def write_header(fid: int, offset: int, count: int, tag: int = 0) -> bytes:
    """What goes before the data of a write."""
    return _SEVENTH.pack(WRITE_HEADER + count, WRITE, tag) + struct.pack("<IQI", fid, offset, count)


def clunk(fid: int) -> bytes:
    return request(CLUNK, struct.pack("<I", fid))


class Wire:
    """One connection, attached: fid 0 is the root. Close it, or use it in a `with`."""

    def __init__(self, sock: socket.socket, aname: str, msize: int) -> None:
        """Asks for `msize`; `self.msize` is what was granted. Raises `RuntimeError` for refusals."""
        self._socket = sock
        self._room = memoryview(bytearray(msize))
        self.msize = msize
        try:
            reply = self.call(request(VERSION, struct.pack("<I", msize) + text("9P2000.L"), NOTAG))
            self.msize = struct.unpack_from("<I", reply, 7)[0]
            if bytes(reply[13:]) != b"9P2000.L":
                raise RuntimeError(f"the server answers {bytes(reply[13:])!r}")
            user = os.getuid()
            self.call(request(ATTACH, struct.pack("<II", 0, NOFID) + text("") + text(aname) + struct.pack("<I", user)))
        except BaseException:
            sock.close()
            raise

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *exception: object) -> None:
        self._socket.close()

    def call(self, message: bytes) -> memoryview:
        """One request and its whole reply, which is valid until the next call. Raises `RuntimeError` for an error."""
        self._socket.sendall(message)
        return self._reply()

    def put(self, header: bytes, data: memoryview) -> memoryview:
        """`call` of a write, whose data are not copied to be sent."""
        rest = len(data) - (self._socket.sendmsg([header, data]) - len(header))
        if rest > len(data):
            raise RuntimeError("the socket takes not even a header")
        if rest:
            self._socket.sendall(data[len(data) - rest :])
        return self._reply()

    def _reply(self) -> memoryview:
        room = self._room
        have = self._receive(room)
        while have < 4:
            have += self._receive(room[have:])
        size = room[0] | room[1] << 8 | room[2] << 16 | room[3] << 24
        while have < size:
            have += self._receive(room[have:size])
        _check(room[4], room)
        return room[:size]

    def _receive(self, room: memoryview) -> int:
        count = self._socket.recv_into(room)
        if not count:
            raise RuntimeError("the server closed the connection")
        return count

    def repeat(self, message: bytes, count: int) -> None:
        """The same request `count` times, one after the other."""
        for _ in range(count):
            self.call(message)

    def stream(self, requests: Sequence[bytes], window: int) -> None:
        """All requests, at most `window` of them in flight; their tags must not meet within a window."""
        sock, room = self._socket, self._room
        total = len(requests)
        sock.sendall(b"".join(requests[:window]))
        sent, received = min(window, total), 0
        have = 0  # bytes of replies at the start of the room, the first of them not whole
        skip = 0  # bytes still to come of a reply whose beginning was looked at
        while received < total:
            got = self._receive(room[have:])
            at, end = 0, have + got
            before = received
            while end - at >= 7 or (skip and end > at):
                if not skip:
                    _check(room[at + 4], room[at:])
                    skip = room[at] | room[at + 1] << 8 | room[at + 2] << 16 | room[at + 3] << 24
                step = min(skip, end - at)
                skip -= step
                at += step
                if not skip:
                    received += 1
            have = end - at
            room[:have] = bytes(room[at:end])
            more = min(received - before, total - sent)
            if more:
                sock.sendall(b"".join(requests[sent : sent + more]))
                sent += more


def _check(kind: int, reply: memoryview) -> None:
    if kind == RLERROR:
        raise RuntimeError(f"the server answers {os.strerror(struct.unpack_from('<I', reply, 7)[0])}")

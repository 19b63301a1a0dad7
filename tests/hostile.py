"""Peers that keep no rule: a 9P server and a 9P client that do what a string of bytes says, for Hypothesis and atheris.

What they send is mostly of the right form, else nothing behind the codec would ever be reached: messages are made by
the table of layouts, of small numbers and odd names, and by far not always those that are due.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cognu.devices.host import HostServer
from cognu.devices.ram import RamServer
from cognu.errors import CognuError
from cognu.files.chan import Chan
from cognu.files.export import Export
from cognu.files.mount import FarFid, MountServer
from cognu.files.process import Process
from cognu.files.server import OAPPEND, Fid, FileServer, HandOn, Lock, Owner, Then, Token
from cognu.kernel import READ
from cognu.ninep.codec import Frames, peek
from cognu.ninep.compound import wanted
from cognu.ninep.messages import Dialect, is_request
from cognu.ninep.server import Limits
from cognu.ninep.table import NOT_IN_COMPOUNDS, TABLE
from cognu.ninep.types import DMDIR, ORCLOSE, ORDWR, OREAD, OTRUNC, OWRITE, SetStat
from cognu.ninep.watches import ASKED, BROKEN, CONTENT, GONE, LOST, MADE, REMOVED, RENAMED
from cognu.world import Stream
from cognu.world.host_tree import RealHostTree
from cognu.world.real import RealClock
from cognu.world.sockets import SocketStream
from host_kit import CountingThreads, world_with
from joined import StoppedClock, attach_to, idle, local_process
from serving import Client, Node, Somebody
from streams import MemoryStream, pair

ME = Somebody()
MSIZE = 8192
TURNS = 30
"""Rounds of the loop that a call is given before its caller goes away."""
MOST_CALLS = 40
NAMES = ("a", "b", "f", "d", "", ".", "..", "a/b", "../up", "x\0y", "\udc80", "n" * 300, "user.x", "9P2000", "9P2000.L")
NUMBERS = (0, 1, 2, 3, 4, 7, 1 << 7, 1 << 31, (1 << 64) - 1, 100, 8192)
LAYOUTS = {dialect: {row.number: row.layout for row in TABLE if dialect in row.dialects} for dialect in Dialect}
TWALK, RNGERROR, TCAPS, TCOMP = 110, 161, 162, 164
ADDED = [number for number in LAYOUTS[Dialect.NG] if number > RNGERROR and is_request(number)]
PARTS = {
    asked: [
        row.number
        for row in TABLE
        if Dialect.NG in row.dialects and is_request(row.number) is asked and row.message not in NOT_IN_COMPOUNDS
    ]
    for asked in (True, False)
}
"""The numbers of what a compound may have for parts, and of the replies to those."""


class Choices:
    """A string of bytes as a series of choices; at its end all are 0."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def over(self) -> bool:
        return self._at >= len(self._data)

    def below(self, limit: int) -> int:
        if self.over:
            return 0
        self._at += 1
        return self._data[self._at - 1] % limit

    def take(self, most: int) -> bytes:
        count = self.below(most + 1)
        self._at += count
        return self._data[self._at - count : self._at]


# -- messages of the right form ---------------------------------------------------------------------------------------


def number(choices: Choices, size: int) -> bytes:
    return (NUMBERS[choices.below(len(NUMBERS))] & (1 << 8 * size) - 1).to_bytes(size, "little")


def text(choices: Choices) -> bytes:
    raw = NAMES[choices.below(len(NAMES))].encode("utf-8", "surrogateescape")
    return struct.pack("<H", len(raw)) + raw


def qid(choices: Choices) -> bytes:
    kind = (0, 0x80, 0x80, 0x40, 0x20, 0x02, 0x08, 0xFF)[choices.below(8)]
    return bytes([kind]) + number(choices, 4) + number(choices, 8)


def stat(choices: Choices, extended: bool) -> bytes:
    body = number(choices, 2) + number(choices, 4) + qid(choices)
    body += b"".join(number(choices, 4) for _ in range(3)) + number(choices, 8)
    body += b"".join(text(choices) for _ in range(5 if extended else 4))
    body += b"".join(number(choices, 4) for _ in range(3)) if extended else b""
    return struct.pack("<H", len(body)) + body


def entries(choices: Choices, extended: bool) -> bytes:
    """What a directory may be said to hold: stats, .L's entries, those of `.ng`, or anything; or what happened."""
    how, count = choices.below(5), choices.below(6)
    if how == 4:
        kinds = (LOST, CONTENT, MADE, REMOVED, RENAMED, GONE, BROKEN, 3)
        heads = [(1 + at, choices.below(4), kinds[choices.below(8)]) for at in range(1 + count)]
        return b"".join(struct.pack("<QII", *head) + text(choices) + text(choices) for head in heads)
    if how == 0:
        return b"".join(stat(choices, extended) for _ in range(count))
    rest = bytes(132 if how == 2 else 0)
    pieces = [qid(choices) + number(choices, 8) + b"\x08" + text(choices) + rest for _ in range(count)]
    return b"".join(pieces) if how < 3 else choices.take(60)


def features(choices: Choices) -> bytes:
    """Those that there are, and one that there is not, each with the value that is usual, or with any."""
    names = [(feature.name.encode(), feature.value) for feature in wanted(MSIZE)] + [(b"none", 1)]
    values = [value if choices.below(4) else int.from_bytes(number(choices, 8), "little") for _, value in names]
    pieces = [
        struct.pack("<H", len(name)) + name + struct.pack("<Q", value)
        for (name, _), value in zip(names, values, strict=True)
    ]
    return struct.pack("<H", len(pieces)) + b"".join(pieces)


def parts(choices: Choices, kind: int, tag: int) -> bytes:
    """Of a compound: mostly such as are allowed in it."""
    made = []
    for _ in range(choices.below(6)):
        kinds = PARTS[is_request(kind)] if choices.below(8) else sorted(LAYOUTS[Dialect.NG])
        one = kinds[choices.below(len(kinds))]
        layout = LAYOUTS[Dialect.NG][one]
        made.append(frame(one, tag, body(choices, "" if layout == "C" else layout, False)))
    return struct.pack("<H", len(made)) + b"".join(made)


def message(choices: Choices, dialect: Dialect, kind: int, tag: int) -> bytes:
    """One of that kind, or of none if the dialect has no such kind."""
    layout = LAYOUTS[dialect].get(kind, "")
    return frame(kind, tag, parts(choices, kind, tag) if layout == "C" else body(choices, layout, dialect is Dialect.U))


def body(choices: Choices, layout: str, extended: bool) -> bytes:
    made = b""
    for kind in layout.split():
        if kind in "1248":
            made += number(choices, int(kind))
        elif kind in "Ss":
            count = choices.below(4) if kind == "S" else 1
            made += (struct.pack("<H", count) if kind == "S" else b"") + b"".join(text(choices) for _ in range(count))
        elif kind in "qQ":
            count = choices.below(4) if kind == "Q" else 1
            made += (struct.pack("<H", count) if kind == "Q" else b"") + b"".join(qid(choices) for _ in range(count))
        elif kind in "tu":
            one = stat(choices, kind == "u")
            made += struct.pack("<H", len(one)) + one
        elif kind == "d":
            data = entries(choices, extended) if choices.below(2) else choices.take(40)
            made += struct.pack("<I", len(data)) + data
        elif kind == "F":
            made += features(choices)
    return made


def frame(kind: int, tag: int, contents: bytes) -> bytes:
    return struct.pack("<IBH", 7 + len(contents), kind, tag) + contents


# -- the server -------------------------------------------------------------------------------------------------------


class HostileServer:
    """Answers what a mount asks as the choices say, and ends the connection when they are over.

    `asked` are the kinds of what it was asked.
    """

    def __init__(self, stream: Stream, choices: Choices, dialect: Dialect) -> None:
        self._stream = stream
        self._choices = choices
        self._dialect = dialect
        self._frames = Frames(1 << 20)
        self.asked: set[int] = set()

    async def serve(self) -> None:
        try:
            while data := await self._stream.read(1 << 16):
                for asked in self._frames.feed(data):
                    kind, tag = peek(asked)
                    self.asked.add(kind)
                    # It has to agree on something first, or all ends there.
                    wire = self._version(tag) if kind == 100 else self._answer(kind, tag, bytes(asked))
                    await self._stream.write(wire)
                if self._choices.over:
                    break
        except CognuError:
            pass  # the mount went away
        finally:
            self._stream.close()

    def _version(self, tag: int) -> bytes:
        name = self._dialect.value.encode()
        return frame(101, tag, struct.pack("<IH", MSIZE, len(name)) + name)

    def _parts(self, tag: int, asked: bytes) -> bytes:
        """Replies to the parts of a compound, or to the first few, the last of which may be an error."""
        at, made, choices = 9, [], self._choices
        while at < len(asked) and choices.below(6):
            failed = not choices.below(6)
            part = asked[at:]
            made.append(message(choices, self._dialect, RNGERROR, tag) if failed else self._due(tag, part))
            if failed:
                break
            at += int.from_bytes(asked[at : at + 4], "little")
        return frame(TCOMP + 1, tag, struct.pack("<H", len(made)) + b"".join(made))

    def _due(self, tag: int, asked: bytes) -> bytes:
        """A reply of the kind that is due, mostly one that could be."""
        kind, choices = asked[4], self._choices
        if not choices.below(8):
            return message(choices, self._dialect, kind + 1, tag)
        if kind == TCAPS:
            return frame(kind + 1, tag, asked[7:])
        if kind == TCOMP:
            return self._parts(tag, asked)
        if kind == TWALK:
            count = int.from_bytes(asked[15:17], "little")
            return frame(kind + 1, tag, struct.pack("<H", count) + b"".join(qid(choices) for _ in range(count)))
        return message(choices, self._dialect, kind + 1, tag)

    def _answer(self, kind: int, tag: int, asked: bytes) -> bytes:
        choices = self._choices
        layouts, due = LAYOUTS[self._dialect], kind + 1
        how = choices.below(40)
        if how == 0:
            return b""
        if how == 1:
            return choices.take(30)
        if how == 2:
            tag = choices.below(8)
        elif how == 3:
            due = sorted(layouts)[choices.below(len(layouts))]
        elif how == 4:
            due = next(number for number in (7, 107, 163) if number in layouts)
        elif how == 5:
            return frame(due, tag, choices.take(60))
        wire = self._due(tag, asked) if due == kind + 1 else message(choices, self._dialect, due, tag)
        if how == 6:
            wire += wire
        elif how == 7:
            wire = struct.pack("<I", int.from_bytes(number(choices, 4), "little")) + wire[4:]
        return wire


class _Bugs(logging.Handler):
    """Keeps what this side says of itself: a peer may cause warnings, never errors here.

    But one: that it refused what had been accepted, which is told to whoever asks, and else to the log.
    """

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.name != "cognu.writebehind":
            self.found.append(self.format(record))


@contextmanager
def no_bug_is_logged() -> Any:
    bugs, log = _Bugs(), logging.getLogger("cognu")
    log.addHandler(bugs)
    try:
        yield
    finally:
        log.removeHandler(bugs)
    assert not bugs.found, bugs.found[0]


def sockets() -> tuple[SocketStream, SocketStream]:
    here, there = socket.socketpair()
    return SocketStream(here, "first"), SocketStream(there, "second")


async def use_hostile_server(data: bytes, direct: bool = False) -> set[int | str]:
    """A mount is used, and its server does as `data` says. What must hold is asserted.

    `direct`: over sockets. Gives the kinds of what was asked, and the names of the calls that came to something.
    """
    choices = Choices(data)
    dialect = tuple(Dialect)[choices.below(len(Dialect))]
    here, there = sockets() if direct else pair(1 << 16)
    server, carried = HostileServer(there, choices, dialect), set[int | str]()
    serving = asyncio.ensure_future(server.serve())
    with no_bug_is_logged():
        try:
            mount = await MountServer.connect(here, RealClock(), offer=dialect, msize=MSIZE)
        except CognuError:
            await serving
            return carried
        fids: list[FarFid] = []
        for _ in range(MOST_CALLS):
            if choices.over or mount.broken is not None:
                break
            await _attempt(_call(mount, fids, choices, carried))
            assert mount._session._frames.pending <= MSIZE
            assert mount.fid_count <= 8 * MOST_CALLS
        for fid in fids:
            mount.clunk(fid)
        await mount.close()
    await serving
    return carried | server.asked


async def _attempt(call: Coroutine[Any, Any, None]) -> None:
    """Ends with the call, or gives it up after some time, as who was killed does."""
    running = asyncio.ensure_future(call)
    for _ in range(TURNS):
        if running.done():
            break
        await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait([running])
    if not running.cancelled() and (error := running.exception()) is not None and not isinstance(error, CognuError):
        raise error


async def _call(mount: MountServer, fids: list[FarFid], choices: Choices, carried: set[int | str]) -> None:
    if not fids:
        await _made(mount.attach(ME, ""), fids)
        return
    fid = fids[choices.below(len(fids))]
    how = choices.below(20)
    name = ("a", "f", "d", "..")[choices.below(4)]
    lock = Lock(0, 9, True, Owner(1, "here", 1))
    plain: list[Callable[[], Any]] = [
        lambda: mount.stat(fid),
        lambda: mount.wstat(fid, SetStat(name="new") if choices.below(2) else SetStat(length=3)),
        lambda: mount.statfs(fid),
        lambda: mount.getxattr(fid, "user.x"),
        lambda: mount.setxattr(fid, "user.x", b"value", 0),
        lambda: mount.lock_range(fid, lock, False),
        lambda: mount.find_lock(fid, lock),
        lambda: mount.readlink(fid),
        lambda: mount.rename(fid, "a", fid, "b"),
        lambda: mount.accept(fid, 0, b"written"),
    ]

    async def watch() -> None:
        end = await mount.watch(fid, ASKED, lambda notice: carried.add("notice"))
        if choices.below(2):
            end()

    added: list[tuple[str, Callable[[], Coroutine[Any, Any, Any]]]] = [
        ("attenuate", lambda: _made(mount.attenuate(fid, READ), fids)),
        ("hand_on", lambda: mount.hand_on(fid, HandOn(READ, 1, 60, "peer"))),
        ("watch", watch),
        ("list", lambda: mount.walk_to(fid, [], ME, Then.LIST)),
    ]
    if how == 0:
        walked = await (mount.walk_to(fid, [name], ME, Then.READ) if choices.below(2) else mount.walk(fid, [name], ME))
        assert len(walked.qids) <= 1
        if isinstance(walked.fid, FarFid):
            fids.append(walked.fid)
    elif how == 1:
        mode = (OREAD, ORDWR, ORDWR | OTRUNC, ORDWR | OAPPEND, OREAD | ORCLOSE)[choices.below(5)]
        await mount.open(fid, mode, ME)
    elif how == 2:
        await _made(mount.create(fid, name, (0o644, DMDIR | 0o755)[choices.below(2)], ORDWR, ME), fids)
    elif how == 3:
        offset = choices.below(4) * 100
        assert len(await mount.read(fid, offset, 100)) <= 100
        await mount.read(fid, offset + 100, 100)
    elif how == 4:
        listed = await mount.readdir(fid, 0, 5)
        assert len(listed) <= 5
        for entry in listed:
            assert entry.name not in ("", ".", "..")
            assert "/" not in entry.name
            assert "\0" not in entry.name
    elif how == 5:
        await mount.remove(fid)
    elif how - 6 < len(plain):
        await plain[how - 6]()
    else:
        called, call = added[how - 6 - len(plain)]
        found = await call()
        if called == "list" and isinstance(found.fid, FarFid):
            fids.append(found.fid)
        carried.add(called)


async def _made(making: Coroutine[Any, Any, Fid], fids: list[FarFid]) -> None:
    made = await making
    assert isinstance(made, FarFid)
    fids.append(made)


# -- the client -------------------------------------------------------------------------------------------------------


def _minted(process: Process, chan: Chan, what: HandOn) -> Generator[Any, Any, Token]:
    chan.domain.check(chan.cap, what.rights)
    return Token("a" * 32, what.seconds)
    yield


async def serve_hostile_client(data: bytes, direct: bool = False) -> set[int]:
    """A tree in memory is served to a client that says what `data` says. What must hold is asserted.

    `direct`: a directory of the host, to be read, over sockets: so plain requests go their short way. Gives the kinds
    of the answers, and of the parts of compounds among them.
    """
    choices = Choices(data)
    dialect, patient = tuple(Dialect)[choices.below(len(Dialect))], choices.below(2)
    async with _host_tree() if direct else _ram_tree() as server:
        process = await Node(server).start()
        here, there = sockets() if direct else pair(1 << 16)
        export = Export(there, process, attach_to(process), limits=Limits(MSIZE, fids=16, calls=16), minter=_minted)
        with no_bug_is_logged():
            serving = asyncio.ensure_future(export.serve())
            draining = asyncio.ensure_future(_drain(here))
            try:
                for said in _introduction(dialect):
                    await here.write(said)
                    await idle()
                for _ in range(MOST_CALLS):
                    if choices.over:
                        break
                    await here.write(_request(choices, dialect))
                    for _ in range(choices.below(4)):
                        await asyncio.sleep(0)  # it is read in the next turn, and answered in that or later
                    assert export._session.fid_count <= 16
                    assert len(export._tasks) <= 16
            except CognuError:
                pass  # it had enough of this client
            for _ in range(TURNS * patient):
                await asyncio.sleep(0)
            here.close()
            await asyncio.wait([serving, draining])
            await serving
        assert not export._tasks
        assert not export._reads
        assert not export._parts_read
        assert not export._watches._watchings
        assert not process.namespace.watchings
        assert export._unsent == 0
        process.namespace.release()
        process.cwd.close()
        process.namespace.domain.authority.close_orphans()
    return draining.result()


@asynccontextmanager
async def _ram_tree() -> AsyncIterator[FileServer]:
    server, process = await _tree()
    process.namespace.release()
    process.cwd.close()
    yield server
    assert server._locks.idle
    store = server._store
    assert 0 <= store.used <= store.max_bytes
    assert 1 <= store.files <= store.max_files


@asynccontextmanager
async def _host_tree() -> AsyncIterator[FileServer]:
    """To be read alone: what a stranger makes on this host could be a device."""
    with TemporaryDirectory() as name:
        (Path(name) / "d").mkdir()
        (Path(name) / "f").write_bytes(b"contents" * 1000)
        (Path(name) / "a").symlink_to("f")
        before = len(os.listdir("/dev/fd"))
        tree = RealHostTree(name)
        yield HostServer(world_with(CountingThreads()), tree, read_only=True)
        tree.close()
        assert len(os.listdir("/dev/fd")) == before, "a handle of the host is left open"


def _introduction(dialect: Dialect) -> Iterator[bytes]:
    """What comes first, else nothing would be reached: 0 is the root, 1 the file `f`, open, 2 and 3 the directory
    `d`, the latter open.
    """
    name = dialect.value.encode()
    numbered = b"" if dialect is Dialect.LEGACY else b"\xff" * 4
    yield frame(100, 0xFFFF, struct.pack("<IH", MSIZE, len(name)) + name)
    yield frame(104, 0, struct.pack("<IIHH", 0, 0xFFFFFFFF, 0, 0) + numbered)
    if dialect is Dialect.NG:
        yield frame(TCAPS, 0, features(Choices(b"\1" * 20)))
    new = dialect in (Dialect.L, Dialect.NG)
    for fid, file in ((1, b"f"), (2, b"d"), (3, b"d"), (4, b"d")):
        yield frame(110, 0, struct.pack("<IIHH", 0, fid, 1, 1) + file)
    for fid in (1, 3):
        yield frame(12 if new else 112, 0, struct.pack("<II" if new else "<IB", fid, 0))
    yield frame(116, 0, struct.pack("<IQI", 1, 0, 100))
    yield frame(120, 0, struct.pack("<I", 4))


def _request(choices: Choices, dialect: Dialect) -> bytes:
    layouts, tag = LAYOUTS[dialect], choices.below(6)
    how = choices.below(12)
    if how == 0:
        return choices.take(30)
    kinds = sorted(number for number in layouts if is_request(number) or how == 1)
    if dialect is Dialect.NG and how > 8:
        kinds = ADDED
    kind = kinds[choices.below(len(kinds))]
    if how == 2:
        return frame(kind, tag, choices.take(60))
    wire = message(choices, dialect, kind, tag)
    return wire if how > 3 else struct.pack("<I", int.from_bytes(number(choices, 4), "little")) + wire[4:]


async def _drain(stream: Stream) -> set[int]:
    """The kinds of what came, until the end or a cut."""
    frames, kinds = Frames(1 << 20), set[int]()
    try:
        while data := await stream.read(1 << 16):
            for found in frames.feed(data):
                kind, _ = peek(found)
                kinds |= {kind} | ({found[13]} if kind == TCOMP + 1 and len(found) > 13 else set())
    except CognuError:
        pass  # the other end went away with something unread
    return kinds


# -- recorded conversations, with bytes changed -----------------------------------------------------------------------


async def conversation(mount: MountServer) -> None:
    """Some of everything, always in the same order."""
    client = Client(mount, ME)
    lock = Lock(0, 9, True, Owner(1, "here", 1))

    async def whole(name: str) -> None:
        fid = await client.open(name, ORDWR)
        await mount.write(fid, 2, b"written")
        await mount.read(fid, 0, 100)
        await mount.lock_range(fid, lock, False)
        await mount.setxattr(fid, "user.x", b"value", 0)
        await mount.getxattr(fid, "user.x")
        await mount.sync(fid, False)
        mount.clunk(fid)

    async def made(path: str, data: bytes) -> None:
        fid = await client.create(path, 0o666, OWRITE)
        try:
            assert 0 <= await client.write_fid(fid, data) <= len(data)  # a server may take less
        finally:
            mount.clunk(fid)

    async def handed() -> None:
        fid = await client.walk("f")
        less = await mount.attenuate(fid, READ)
        mount.clunk(less)
        await mount.hand_on(fid, HandOn(READ, 1, 60, "peer"))
        mount.clunk(fid)

    async def watched() -> None:
        fid, came = await client.walk("d"), asyncio.Event()
        end = await mount.watch(fid, ASKED, lambda notice: came.set())
        await made("d/seen", b"")
        await came.wait()
        end()
        mount.clunk(fid)

    calls: list[Coroutine[Any, Any, Any]] = [
        client.names(""), client.read("f"), client.stat("d"), made("d/new", b"data"), whole("f"),
        client.mkdir("d/e"), client.symlink("l", "f"), client.readlink("l"), client.link("again", "f"),
        client.wstat("f", SetStat(mode=0o600)), client.rename("d/new", "d/old"), client.read("none"),
        client.remove("d/old"), client.names("d"), handed(), watched(),
    ]  # fmt: skip
    if mount.dialect is not Dialect.NG:
        for call in calls[-2:]:
            call.close()
        del calls[-2:]
    for call in calls:
        await _attempt(call)
    client.close()


class _Tap:
    """A stream that notes what was written to it."""

    def __init__(self, stream: MemoryStream) -> None:
        self._stream = stream
        self.noted = bytearray()
        self.peer = stream.peer
        self.read, self.close, self.wait_closed = stream.read, stream.close, stream.wait_closed

    async def write(self, *buffers: bytes | bytearray | memoryview) -> None:
        for buffer in buffers:
            self.noted += buffer
        await self._stream.write(*buffers)


async def _tree() -> tuple[RamServer, Process]:
    server = RamServer(StoppedClock(), max_bytes=1 << 20, max_files=50)
    local = Client(server)
    await local.mkdir("d")
    await local.put("f", b"contents")
    await local.symlink("a", "f")
    local.close()
    return server, local_process(server)


async def recorded(dialect: Dialect) -> tuple[bytes, bytes]:
    """What client and server say of a conversation."""
    _, process = await _tree()
    here, there = pair(1 << 16)
    asked, answered = _Tap(here), _Tap(there)
    serving = asyncio.ensure_future(Export(answered, process, attach_to(process), minter=_minted).serve())
    mount = await MountServer.connect(asked, StoppedClock(), offer=dialect, msize=MSIZE)
    await conversation(mount)
    await mount.close()
    await serving
    process.namespace.release()
    process.cwd.close()
    return bytes(asked.noted), bytes(answered.noted)


async def say_to_server(data: bytes) -> None:
    """A server hears these bytes."""
    server, process = await _tree()
    here, there = pair(1 << 16)
    export = Export(there, process, attach_to(process), limits=Limits(MSIZE, fids=16, calls=16), minter=_minted)
    with no_bug_is_logged():
        serving = asyncio.ensure_future(export.serve())
        draining = asyncio.ensure_future(_drain(here))
        try:
            await here.write(data)
            here.close()
        except CognuError:
            pass  # it had enough of this client
        await asyncio.wait([serving, draining])
        await serving
    assert not export._tasks
    assert server._locks.idle
    process.namespace.release()
    process.cwd.close()


async def _replay(stream: MemoryStream, data: bytes) -> None:
    """Gives one message of `data`, by the size that it announces, for each request."""
    frames, at = Frames(1 << 20), 0
    try:
        while asked := await stream.read(1 << 16):
            for _ in frames.feed(asked):
                size = max(7, int.from_bytes(data[at : at + 4], "little"))
                await stream.write(data[at : at + size])
                at += size
            if at >= len(data):
                break
    except CognuError:
        pass  # the mount went away
    finally:
        stream.close()


async def say_to_client(data: bytes) -> None:
    """A client hears these bytes, a message for each that it says; the first chooses the dialect."""
    dialect = tuple(Dialect)[(data[:1] or b"\0")[0] % len(Dialect)]
    here, there = pair(1 << 16)
    replaying = asyncio.ensure_future(_replay(there, data[1:]))
    with no_bug_is_logged():
        try:
            mount = await MountServer.connect(here, StoppedClock(), offer=dialect, msize=MSIZE)
            await conversation(mount)
            assert mount.fid_count <= MOST_CALLS
            await mount.close()
        except CognuError:
            pass  # they did not agree on a version
    await replaying

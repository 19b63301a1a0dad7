"""What of changes is not told: of a union's members that were revoked; and a server that holds back all it has."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from cognu.devices.ram import RamServer
from cognu.errors import E, FileError
from cognu.files.authority import Authority
from cognu.files.chan import Chan, Handle, Origin
from cognu.files.farwatch import MOST_REFUSED
from cognu.files.mount import MountServer
from cognu.files.mounts import MAFTER
from cognu.files.namespace import Namespace
from cognu.files.process import Process
from cognu.files.server import Notice
from cognu.files.steps import Steps
from cognu.files.watching import Inbox
from cognu.kernel import ALL_RIGHTS, Cap
from cognu.ninep import messages as m
from cognu.ninep.codec import Frames, decode, encode
from cognu.ninep.messages import Dialect
from cognu.ninep.types import OWRITE, Qid
from cognu.ninep.watches import ASKED, BROKEN, CONTENT, LOST, MADE, REVOKED, Event, pack_event, unpack_events
from joined import Raw, StoppedClock, idle
from serving import Client, Somebody, done
from streams import MemoryStream, pair
from watched import Noted, process_on, watch_in, watchers_of


async def make(client: Client, path: str) -> None:
    client.server.clunk(await client.create(path, 0o666, OWRITE))


@dataclass
class Union:
    """A process whose root has more members, each under a capability of its own."""

    process: Process
    servers: list[RamServer]
    caps: list[Cap]

    def revoke(self, member: int) -> None:
        self.process.namespace.domain.authority.revoke(0, self.caps[member])

    async def watched(self) -> Raw:
        """A connection of its own, with a watch of the root."""
        raw = await Raw.over(self.process, Dialect.NG)
        raw.send((m.Tcaps((m.Feature("watch", 99),)), 1), (m.Twatch(0, ASKED), 2))
        assert [tag for tag, _ in await raw.answers(2)] == [1, 2]
        return raw


async def union(members: int) -> Union:
    authority = Authority()
    servers = [RamServer(StoppedClock()) for _ in range(members)]
    caps = [authority.new_server()[1] for _ in servers]
    process = process_on(servers[0], await done(servers[0].attach(Somebody(), "")), authority, caps[0])
    namespace = process.namespace
    for server, cap in zip(servers[1:], caps[1:], strict=True):
        mine = authority.mint(0, cap, ALL_RIGHTS, namespace.domain.pid)
        fid = await done(server.attach(Somebody(), ""))
        member = Chan(Handle(server, fid), namespace.domain, mine, namespace.root.path, Origin("#r", ()))
        namespace.mount(member, namespace.root, MAFTER)
    return Union(process, servers, caps)


async def told(raw: Raw, cursor: int = 0, tag: int = 5) -> list[tuple[int, str]]:
    raw.send((m.Tevent(cursor, 4096), tag))
    ((_, message),) = await raw.answers(1)
    assert isinstance(message, m.Revent), message
    return [(event.kind, event.name) for event in unpack_events(message.data)]


async def test_a_member_that_goes_leaves_the_union_to_be_looked_at() -> None:
    at = await union(2)
    one, two = at.servers
    watching, noted = await watch_in(at.process, "/")
    at.revoke(1)
    assert await noted.all(1) == [(LOST, "")]
    await make(Client(two), "/secret")
    await make(Client(one), "/a")
    assert await noted.all(2) == [(LOST, ""), (MADE, "a")]
    watching.end()
    assert watchers_of(one) == watchers_of(two) == 0


async def test_of_a_union_nothing_is_told_of_a_member_once_it_is_revoked_and_the_others_go_on() -> None:
    at = await union(3)
    raw = await at.watched()
    await make(Client(at.servers[0]), "/mine")
    await make(Client(at.servers[1]), "/secret")
    at.revoke(1)
    assert await told(raw) == [(LOST, "")]
    await make(Client(at.servers[2]), "/another")
    at.revoke(2)  # while the first LOST is not confirmed
    assert await told(raw) == [(LOST, "")]
    await make(Client(at.servers[0]), "/after")
    assert await told(raw) == [(LOST, ""), (MADE, "after")]
    await raw.close()
    assert [watchers_of(server) for server in at.servers] == [0, 0, 0]


async def test_of_a_union_what_was_refused_for_one_member_is_not_told_when_it_is_asked_for_again() -> None:
    at = await union(2)
    raw = await at.watched()
    raw.here.capacity = raw.there.capacity = 0
    raw.send((m.Tevent(0, 4096), 3), (m.Tgetattr(0, 1), 4))
    await idle()  # the Rgetattr is on its way, and nobody takes it
    await make(Client(at.servers[1]), "/secret")
    await idle()
    at.revoke(1)
    refusal = dict(await raw.answers(2))[3]
    assert isinstance(refusal, m.Rngerror)
    assert refusal.symbol == "REVOKED"
    assert await told(raw) == [(LOST, "")]
    await raw.close()


@pytest.mark.parametrize(("members", "expected"), [(1, REVOKED), (2, LOST)])
async def test_what_is_revoked_in_the_turn_in_which_its_watch_begins_is_not_told(members: int, expected: int) -> None:
    at = await union(members)
    raw = await Raw.over(at.process, Dialect.NG)
    raw.send((m.Tcaps((m.Feature("watch", 99),)), 1), (m.Tevent(0, 4096), 2), (m.Tevent(0, 4096), 3))
    await raw.answers(2)
    begun = raw.export._watches.watch

    def watch(namespace: Namespace, chan: Chan, message: m.Twatch) -> Steps[m.Rwatch]:
        reply = yield from begun(namespace, chan, message)
        fid = at.servers[-1].attach(Somebody(), "")
        at.servers[-1].create(fid, "secret", 0o666, OWRITE, Somebody())  # type: ignore[arg-type]  # all at once
        at.revoke(members - 1)
        return reply

    raw.export._watches.watch = watch  # type: ignore[method-assign]
    raw.send((m.Twatch(0, ASKED), 4))
    answers = dict(await raw.answers(2))
    assert answers[4] == m.Rwatch(1)
    assert isinstance(answers[2], m.Revent)
    assert [(event.kind, event.name) for event in unpack_events(answers[2].data)] == [(expected, "")]
    await raw.close()


async def test_who_hears_late_in_this_process_is_not_told_of_before_what_was_lost_or_revoked() -> None:
    inbox = Inbox()
    for notice in (Notice(LOST), Notice(MADE, "secret"), Notice(LOST), Notice(MADE, "after")):
        inbox(notice)
    assert [await inbox.next() for _ in range(2)] == [Notice(LOST), Notice(MADE, "after")]
    for notice in (Notice(CONTENT), Notice(MADE, "secret"), Notice(REVOKED)):
        inbox(notice)
    assert await inbox.next() == Notice(REVOKED)


class Refusing:
    """A server that has no events, but refuses each time to tell of them; `between` times it tells something."""

    def __init__(self, stream: MemoryStream, between: int) -> None:
        self.stream = stream
        self.between = between
        self.asked = 0

    async def serve(self) -> None:
        frames = Frames(1 << 20)
        while data := await self.stream.read(1 << 16):
            for frame in frames.feed(data):
                dialect = Dialect.LEGACY if frame[4] == 100 else Dialect.NG
                tag, message = decode(frame, dialect)
                if not isinstance(message, m.Tflush):
                    await self.stream.write(*encode(self.answer(message), tag, dialect))

    def answer(self, message: m.Message) -> m.Message:
        match message:
            case m.Tversion():
                return m.Rversion(65536, "9P2000.ng")
            case m.Tcaps():
                return m.Rcaps(message.features)
            case m.Tattach():
                return m.Rattach(Qid(0x80, 1, 1))
            case m.Twalk():
                return m.Rwalk(())
            case m.Twatch():
                return m.Rwatch(1)
            case m.Tevent():
                self.asked += 1
                if self.between and not self.asked % MOST_REFUSED:
                    self.between -= 1
                    return m.Revent(pack_event(Event(self.asked, 1, CONTENT)))
                return m.Rngerror(FileError(E.REVOKED).errno, E.REVOKED.name, "", "")
            case _:
                return m.Rclunk()


@pytest.mark.parametrize("between", [0, 5])
async def test_a_server_that_always_holds_events_back_is_not_asked_for_ever(between: int) -> None:
    here, there = pair(1 << 16)
    server = Refusing(there, between)
    serving = asyncio.create_task(server.serve())
    mount = await MountServer.connect(here, StoppedClock(), "#M", Dialect.NG)
    root = await mount.attach(Somebody(), "")
    noted = Noted()
    await mount.watch(root, ASKED, noted)
    expected = [(CONTENT, "")] * between + [(BROKEN, "")]
    assert await noted.all(len(expected)) == expected
    await idle()
    assert server.asked == MOST_REFUSED * between + MOST_REFUSED + 1
    await mount.close()
    there.close()
    await serving

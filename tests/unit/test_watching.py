"""Change notices near and far: who is told what, what is never told, and what is left when a watch is over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cognu.devices.log import Ring as LogRing
from cognu.devices.log import log_server
from cognu.devices.ram import RamServer
from cognu.errors import E, FileError
from cognu.files.authority import Authority
from cognu.files.mounts import MAFTER, MREPL
from cognu.files.server import End, Fid, Notice, Tell
from cognu.files.shown import ShownNamespace, parse_filter
from cognu.files.steps import finish, start
from cognu.files.tree import Directory, TreeServer
from cognu.files.watching import Watching
from cognu.kernel import ALL_RIGHTS, READ, Cap
from cognu.ninep import messages as m
from cognu.ninep.messages import Dialect
from cognu.ninep.types import DMDIR, OREAD, OTRUNC, OWRITE, SetStat
from cognu.ninep.watches import (
    ASKED,
    ATTRIBUTES,
    BROKEN,
    CONTENT,
    GONE,
    LOST,
    MADE,
    MOST_EVENTS,
    REMOVED,
    RENAMED,
    REVOKED,
)
from joined import Raw, StoppedClock, idle
from serving import Client, Somebody, done
from watched import Ends, Noted, ends, process_on, watch_in, watchers_of


async def make(client: Client, path: str, perm: int = 0o666) -> None:
    client.server.clunk(await client.create(path, perm, OREAD if perm & DMDIR else OWRITE))


async def put(client: Client, path: str, data: bytes) -> None:
    fid = await client.open(path, OWRITE)
    await done(client.server.write(fid, 0, data))
    client.server.clunk(fid)


async def remove(client: Client, path: str) -> None:
    fid = await client.walk(path)
    await done(client.server.remove(fid))
    client.server.clunk(fid)


async def rename(client: Client, path: str, name: str) -> None:
    fid = await client.walk(path)
    await done(client.server.wstat(fid, SetStat(name=name)))
    client.server.clunk(fid)


# -- what is told --


async def test_every_change_of_a_far_directory_and_file_is_told_once_and_in_order() -> None:
    async with ends() as both:
        await make(both.there, "/d", DMDIR | 0o777)
        await make(both.there, "/d/old")
        _, noted = await both.watch("/d")
        _, of_file = await both.watch("/d/old")
        await make(both.there, "/d/a")
        await rename(both.there, "/d/a", "b")
        await remove(both.there, "/d/b")
        assert await noted.all(3) == [(MADE, "a"), (RENAMED, "a"), (REMOVED, "b")]
        assert noted.notices[1].other == "b"
        await put(both.there, "/d/old", b"x")
        fid = await both.there.walk("/d/old")
        both.server.wstat(fid, SetStat(mode=0o600))
        both.server.setxattr(fid, "user.x", b"y", 0)
        assert set(await of_file.all(2)) == {(CONTENT, ""), (ATTRIBUTES, "")}
        both.server.clunk(await both.there.open("/d/old", OWRITE | OTRUNC))
        await remove(both.there, "/d/old")
        assert (await of_file.all(3))[-1] == (GONE, "")


async def test_a_move_to_another_directory_is_told_in_both_and_the_file_lives_on() -> None:
    async with ends() as both:
        for name in ("/one", "/two"):
            await make(both.there, name, DMDIR | 0o777)
        await make(both.there, "/one/f")
        _, first = await both.watch("/one")
        _, second = await both.watch("/two")
        _, of_file = await both.watch("/one/f")
        one, two = await both.there.walk("/one"), await both.there.walk("/two")
        both.server.rename(one, "f", two, "g")
        assert await first.all(1) == [(REMOVED, "f")]
        assert await second.all(1) == [(MADE, "g")]
        await put(both.there, "/two/g", b"x")
        assert await of_file.all(1) == [(CONTENT, "")]


async def test_only_the_kinds_asked_for_are_told_and_nothing_while_nothing_happens() -> None:
    async with ends() as both:
        await make(both.there, "/d", DMDIR | 0o777)
        _, noted = await both.watch("/d", REMOVED)
        await idle()
        both.asked.take(), both.answered.take()
        await make(both.there, "/d/a")
        await idle()
        assert both.asked.take() + both.answered.take() == []
        await remove(both.there, "/d/a")
        assert await noted.all(1) == [(REMOVED, "a")]
        await idle()
        assert both.answered.take() == ["Revent"]
        assert both.asked.take() == ["Tevent"]


async def test_a_change_over_the_same_connection_is_told_before_its_answer() -> None:
    async with ends() as both:
        _, noted = await both.watch("/")
        await idle()
        both.answered.take()
        client = Client(both.mount, Somebody())
        both.mount.clunk(await client.create("/f"))
        assert noted.notices == [Notice(MADE, "f")]
        names = both.answered.take()
        assert names.index("Revent") < len(names) - 1


async def test_the_log_tells_of_each_line_and_a_device_that_can_not_tell_says_so() -> None:
    ring = LogRing()
    async with ends(server=log_server(ring)) as both:
        _, noted = await both.watch("/log")
        ring.add(b"{}\n")
        assert await noted.all(1) == [(CONTENT, "")]
        with pytest.raises(FileError) as caught:
            await both.watch("/kmesg")
        assert caught.value.error is E.NOTSUP


@pytest.mark.parametrize("dialect", [Dialect.LEGACY, Dialect.U, Dialect.L])
async def test_an_older_dialect_can_not_tell_and_says_so_without_a_frame(dialect: Dialect) -> None:
    async with ends(dialect=dialect) as both:
        found = await finish(both.far.namespace.find("/", both.far.cwd, both.far))
        both.asked.take()
        with pytest.raises(FileError) as caught:
            await both.mount.watch(found.fid, ASKED, Noted())
        assert caught.value.error is E.NOTSUP
        assert both.asked.take() == []


async def test_an_export_of_a_mount_tells_on_and_is_broken_with_it() -> None:
    async with ends() as inner, ends(server=inner.mount) as outer:
        _, noted = await outer.watch("/")
        await make(inner.there, "/f")
        assert await noted.all(1) == [(MADE, "f")]
        inner.here.cut()
        assert (await noted.all(2))[-1] == (BROKEN, "")
        await idle()
        with pytest.raises(FileError):
            await outer.watch("/")


async def test_of_a_union_each_member_is_watched_and_changed_itself_it_is_broken() -> None:
    one, two = RamServer(StoppedClock()), RamServer(StoppedClock())
    authority = Authority()
    _, cap = authority.new_server()
    process = process_on(one, await done(one.attach(Somebody(), "")), authority, cap)
    other = process_on(two, await done(two.attach(Somebody(), "")), authority, cap)
    await make(Client(one), "/d", DMDIR | 0o777)
    namespace = process.namespace
    place = await finish(namespace.find("/d", process.cwd, process))
    namespace.mount(other.namespace.root, place, MAFTER)
    watching, noted = await watch_in(process, "/d")
    _, above = await watch_in(process, "/")
    await make(Client(one), "/d/a")
    await make(Client(two), "/b")
    assert await noted.all(2) == [(MADE, "a"), (MADE, "b")]
    assert len(watching.chans) == 2
    namespace.mount(other.namespace.root, place, MREPL)
    assert (await noted.all(3))[-1] == (BROKEN, "")
    assert await above.all(1) == [(LOST, "")]
    assert watching.over
    again, noted = await watch_in(process, "/d")
    start(namespace.unmount(None, "/d", process.cwd, process))
    assert await noted.all(1) == [(BROKEN, "")]
    assert again.over
    assert watchers_of(two) == watchers_of(one, "/d") == 0


# -- what is never told --


async def test_without_the_right_to_read_nobody_watches() -> None:
    async with ends(rights=ALL_RIGHTS & ~READ) as both:
        with pytest.raises(FileError) as caught:
            await both.watch("/")
        assert caught.value.error is E.ACCES
        assert watchers_of(both.server) == 0


async def test_revoked_a_watch_ends_with_a_notice_and_nothing_more_of_it_goes_out() -> None:
    async with ends() as both:
        _, noted = await both.watch("/")
        await idle()
        both.answered.take()
        # In one turn: what happened before the revocation was not sent yet, and so never is.
        start_of = both.server.root
        assert start_of is not None
        await make(both.there, "/before")
        both.revoke()
        await make(both.there, "/after")
        changes = both.mount.changes
        assert (await noted.all(1))[-1] == (REVOKED, "")
        assert both.mount.changes > changes  # what was read ahead is not handed out any more
        assert all(name != "after" for _, name in await noted.all(1))
        assert watchers_of(both.server) == 0


class Watched(RamServer):
    """Keeps who is to be told."""

    tell: Tell | None = None

    def watch(self, fid: Fid, kinds: int, tell: Tell) -> End:
        self.tell = tell
        return lambda: None


async def test_what_happens_while_a_revocation_is_being_told_of_is_not_told_to_who_lost_the_right() -> None:
    ram, authority = Watched(StoppedClock()), Authority()
    _, cap = authority.new_server()
    process = process_on(ram, await done(ram.attach(Somebody(), "")), authority, cap)

    def make_another() -> None:
        assert ram.tell is not None
        ram.tell(Notice(MADE, "secret"))

    authority.begin(process.namespace.root.cap, make_another)  # hears of it before the watch does
    _, noted = await watch_in(process, "/")
    authority.revoke(0, cap)
    assert noted.notices == [Notice(REVOKED)]


async def test_what_waits_to_be_sent_when_its_right_is_revoked_is_refused_and_the_rest_comes() -> None:
    """The stream is full, so the Revent waits; a second watch, under another right, goes on."""
    async with ends(capacity=256) as both:
        raw = await raw_with_watch(both)
        tag, message = (await raw.answers(1))[0]
        assert (tag, message) == (2, m.Rwatch(1))
        raw.here.capacity = raw.there.capacity = 0
        raw.send((m.Tevent(0, 4096), 3), (m.Tgetattr(0, 1), 4))
        await idle()  # the Rgetattr is on its way, and nobody takes it
        await make(both.there, "/secret")
        await idle()
        both.revoke()
        answers = dict(await raw.answers(2))
        refusal = answers[3]
        assert isinstance(refusal, m.Rngerror)
        assert refusal.symbol == "REVOKED"
        raw.send((m.Tevent(0, 4096), 5))
        (_, message), *_ = await raw.answers(1)
        assert isinstance(message, m.Revent)
        assert b"secret" not in bytes(message.data)
        await raw.close()


async def raw_with_watch(both: Ends, mask: int = ASKED, path: str = "/") -> Raw:
    """A connection of its own, with a watch 1 of its fid 0."""
    raw = await Raw.over(both.exported, Dialect.NG)
    raw.send((m.Tcaps((m.Feature("watch", 99),)), 1), (m.Twatch(0, mask), 2))
    assert isinstance((await raw.answers(1))[0][1], m.Rcaps)
    return raw


async def test_names_that_are_not_shown_are_not_told() -> None:
    ram, authority = RamServer(StoppedClock()), Authority()
    _, cap = authority.new_server()
    process = process_on(ram, await done(ram.attach(Somebody(), "")), authority, cap)
    process.namespace = ShownNamespace.of(process.namespace, parse_filter(["*.key"], []))
    _, noted = await watch_in(process, "/")
    for name in ("/a.key", "/b"):
        await make(Client(ram), name)
    await rename(Client(ram), "/b", "b.key")
    await remove(Client(ram), "/a.key")
    assert await noted.all(4) == [(MADE, ""), (MADE, "b"), (RENAMED, ""), (REMOVED, "")]


# -- ends --


async def test_a_clunk_ends_the_watch_and_no_event_of_it_comes_after() -> None:
    async with ends() as both:
        raw = await raw_with_watch(both)
        raw.send((m.Tevent(0, 4096), 3), (m.Twalk(0, 1, ()), 4), (m.Twatch(1, ASKED), 5), (m.Tclunk(1), 6))
        assert [tag for tag, _ in await raw.answers(4)] == [2, 4, 5, 6]
        assert watchers_of(both.server) == 1
        await make(both.there, "/f")
        ((tag, message),) = await raw.answers(1)
        assert isinstance(message, m.Revent)
        assert (tag, bytes(message.data).count(b"f")) == (3, 1)
        await raw.close()
        assert watchers_of(both.server) == 0


async def test_a_second_tevent_is_refused_and_a_flushed_one_leaves_its_events_to_the_next() -> None:
    async with ends() as both:
        raw = await raw_with_watch(both)
        raw.send((m.Tevent(0, 4096), 3), (m.Tevent(0, 4096), 4))
        answers = await raw.answers(2)
        assert isinstance(answers[1][1], m.Rngerror)
        assert answers[1][1].symbol == "ALREADY"
        raw.send((m.Tflush(3), 5))
        assert await raw.answers(1) == [(5, m.Rflush())]
        await make(both.there, "/f")
        raw.send((m.Tevent(0, 19), 6), (m.Tevent(0, 4096), 7))
        refused, told = await raw.answers(2)
        assert isinstance(refused[1], m.Rngerror)
        assert refused[1].symbol == "INVAL"
        assert isinstance(told[1], m.Revent)
        raw.send((m.Twatch(0, GONE), 8), (m.Twatch(9, ASKED), 9))
        assert [message.symbol for _, message in await raw.answers(2) if isinstance(message, m.Rngerror)] == [
            "INVAL",
            "BADF",
        ]
        await raw.close()


async def test_a_new_version_ends_all_watches_and_the_tevent() -> None:
    async with ends() as both:
        raw = await raw_with_watch(both)
        raw.send((m.Tevent(0, 4096), 3))
        await raw.answers(1)
        raw.send((m.Tversion(65536, "9P2000.ng"), 0xFFFF))
        assert isinstance((await raw.answers(1))[0][1], m.Rversion)
        assert watchers_of(both.server) == 0
        await raw.close()


async def test_what_was_answered_when_a_new_version_came_is_of_no_call_of_the_new_session() -> None:
    """The events happen between the Tversion and what it ends."""
    async with ends() as both:
        raw = await raw_with_watch(both)
        raw.send((m.Tevent(0, 4096), 3))
        await raw.answers(1)
        session, arrive = raw.export._session, raw.export._session._negotiate

        def negotiate(tag: int, message: m.Tversion) -> None:
            arrive(tag, message)
            raw.export._watches._told(1, Notice(MADE, "f"))

        session._negotiate = negotiate  # type: ignore[method-assign]
        raw.send((m.Tversion(65536, "9P2000.ng"), 0xFFFF))
        assert isinstance((await raw.answers(1))[0][1], m.Rversion)
        assert raw.export._parts_read == {}
        await raw.close()


async def test_a_cut_link_breaks_every_watch_and_leaves_none_at_either_end() -> None:
    async with ends() as both:
        watches = [await both.watch("/") for _ in range(3)]
        both.here.cut()
        for watching, noted in watches:
            assert await noted.all(1) == [(BROKEN, "")]
            assert watching.over
        await idle()
        assert watchers_of(both.server) == 0


async def test_ended_watches_leave_no_fid_and_no_request_behind() -> None:
    async with ends() as both:
        before = both.mount.fid_count
        watches = [await both.watch("/") for _ in range(3)]
        for watching, _ in watches:
            watching.end()
            watching.end()
        await idle()
        assert both.mount.fid_count == before
        assert both.mount._session.in_flight == []
        assert watchers_of(both.server) == 0
        _, noted = await both.watch("/")
        await make(both.there, "/f")
        assert await noted.all(1) == [(MADE, "f")]


async def test_a_watch_given_up_while_it_is_asked_for_leaves_nothing() -> None:
    async with ends() as both:
        task = asyncio.get_running_loop().create_task(both.watch("/"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await idle()
        assert watchers_of(both.server) == 0
        assert not both.far.namespace.watchings


async def test_who_never_reads_is_told_once_that_events_were_lost() -> None:
    async with ends() as both:
        raw = await raw_with_watch(both)
        await idle()
        for _ in range(MOST_EVENTS):
            await make(both.there, "/f")
            await remove(both.there, "/f")
        assert len(both.export._watches._ring) == 0
        assert len(raw.export._watches._ring) == 1
        raw.send((m.Tevent(0, 65000), 3))
        (_, message) = (await raw.answers(2))[1]
        assert isinstance(message, m.Revent)
        assert len(message.data) == 20
        await raw.close()


async def test_a_thousand_watches_are_told_in_a_few_messages_and_end_together() -> None:
    async with ends() as both:
        watches = [await both.watch("/") for _ in range(1000)]
        assert watchers_of(both.server) == 1000
        both.answered.take()
        await make(both.there, "/f")
        for _, noted in watches:
            assert await noted.all(1) == [(MADE, "f")]
        assert len(both.answered.take()) < 10
        for watching, _ in watches:
            watching.end()
        await settled(lambda: watchers_of(both.server) == 0)


async def settled(holds: Callable[[], bool]) -> None:
    """Returns once it holds, and with the test's own time limit at the latest."""
    while not holds():
        await idle()


class _Early(TreeServer):
    """Tells before its watch is begun, as a far one may."""

    def __init__(self, count: int, kind: int) -> None:
        super().__init__("#e", Directory("", [], 0o777))
        self.count, self.kind = count, kind
        self.ended = 0

    async def watch(self, fid: Fid, kinds: int, tell: Tell) -> End:
        for number in range(self.count):
            tell(Notice(self.kind, str(number)))
        await asyncio.sleep(0)

        def end() -> None:
            self.ended += 1

        return end


async def test_what_happens_before_the_client_has_its_number_comes_after_it() -> None:
    for count, expected in ((2, [(MADE, "0"), (MADE, "1")]), (99, [(LOST, "")])):
        server = _Early(count, MADE)
        async with ends(server=server) as both:
            watching, noted = await both.watch("/")
            assert (await noted.all(1))[0] == expected[0]
            watching.end()
            await idle()
            assert server.ended == 1


async def test_a_file_that_goes_while_it_is_about_to_be_watched_is_stale() -> None:
    server = _Early(1, GONE)
    async with ends(server=server) as both:
        with pytest.raises(FileError) as caught:
            await both.watch("/")
        assert caught.value.error is E.STALE
        assert server.ended == 1


# -- any order --

OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["watch", "end", "make", "remove", "write"]), st.integers(0, 3)),
        st.tuples(st.sampled_from(["settle", "reconnect", "revoke"]), st.just(0)),
    ),
    max_size=30,
)


@settings(max_examples=40, deadline=None)
@given(OPERATIONS)
def test_in_any_order_each_watch_knows_what_is_there_or_that_it_is_over(operations: list[tuple[str, int]]) -> None:
    asyncio.run(_played(operations))


async def _played(operations: list[tuple[str, int]]) -> None:
    """Each watcher keeps a listing by its notices alone, and looks only where it is told to."""
    ram, authority = RamServer(StoppedClock()), Authority()
    there = Client(ram)
    _, cap = authority.new_server()
    names: set[str] = set()
    while True:
        rest = await _connection(ram, authority, cap, there, names, operations)
        if not rest:
            break
        if rest[0][0] == "revoke":
            _, cap = authority.new_server()
        operations = rest[1:]
    assert watchers_of(ram) == 0


async def _connection(
    ram: RamServer, authority: Authority, cap: Cap, there: Client, names: set[str], operations: list[tuple[str, int]]
) -> list[tuple[str, int]]:
    """Play until the link is cut or the right is revoked: what is left, that first."""
    async with ends(server=ram) as both:
        live: list[tuple[Watching, Noted, set[str]]] = []
        for at, (operation, number) in enumerate(operations):
            name = f"f{number}"
            if operation == "watch":
                watching, noted = await both.watch("/")
                live.append((watching, noted, set(names)))
            elif operation == "end" and live:
                watching, noted, _ = live.pop(number % len(live))
                before = len(noted.notices)
                watching.end()
                await idle()
                assert len(noted.notices) == before
            elif operation == "make" and name not in names:
                await make(there, name)
                names.add(name)
            elif operation == "remove" and name in names:
                await remove(there, name)
                names.discard(name)
            elif operation == "write" and name in names:
                await put(there, name, b"x")
            elif operation == "settle":
                await idle()
                for _, noted, seen in live:
                    assert _knows(noted, seen, names) == names
            elif operation in ("reconnect", "revoke"):
                if operation == "revoke":
                    both.revoke()
                else:
                    both.here.cut()
                if "late" not in names:
                    await make(there, "late")
                    names.add("late")
                for _, noted, _ in live:
                    await noted.all(1)
                    await _until_over(noted)
                    assert all("late" not in notice for notice in noted.notices)
                return operations[at:]
    return []


def _knows(noted: Noted, seen: set[str], names: set[str]) -> set[str]:
    for notice in noted.notices:
        if notice.kind == LOST:
            return set(names)
        if notice.kind == MADE:
            seen.add(notice.name)
        elif notice.kind == REMOVED:
            seen.discard(notice.name)
    noted.notices.clear()
    return seen


async def _until_over(noted: Noted) -> None:
    count = 1
    while not (await noted.all(count))[-1][0] & (REVOKED | BROKEN):
        count = len(noted.notices) + 1

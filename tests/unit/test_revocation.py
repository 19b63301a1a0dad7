"""What is taken back is gone, all of it: what runs, what is open, what is mounted, here, far away and further still.

And what was not taken back stays, whoever handed it on has died or has given it up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from cognu.devices.root import SkeletonServer
from cognu.errors import E, FileError
from cognu.files.attach import attach_own
from cognu.files.authority import Authority
from cognu.files.chan import Chan, Domain
from cognu.files.dispatch import dispatch
from cognu.files.mounts import MAFTER, MREPL, ChanMover
from cognu.files.namespace import Namespace
from cognu.files.nstext import describe
from cognu.files.plain import BATCH
from cognu.files.process import Fork, Process, ProcessTable, Share, State
from cognu.files.server import Caller, Fid, MaybeAsync, Walk
from cognu.files.steps import Steps, finish, start
from cognu.kernel import ALL_RIGHTS, EXECUTE, GRANT, NODE, READ, WRITE, Cap
from cognu.kernel.state import LIVE
from cognu.ninep import messages as m
from cognu.ninep.compound import wanted
from cognu.ninep.messages import Dialect
from cognu.ninep.types import ORDWR, OREAD, OWRITE, FileSystemStat, SetStat
from joined import (
    ME,
    CountingServer,
    Joined,
    Raw,
    bring,
    idle,
    joined,
    only_the_roots_are_left,
    open_at,
    put_slow,
    tree,
)
from script import attach_root
from serving import Client, done


class Parking(CountingServer):
    """Holds up the methods it is told to, until it is let go on or cancelled."""

    def __init__(self) -> None:
        super().__init__("#1")
        for path, data in [("/d", None), ("/d/x", "d/x"), ("/f", "f")]:
            self.plant(path, data)
        self.parked: dict[str, int] = {}
        self.cancelled = 0
        self.slow: set[str] = set()
        self.come = asyncio.Event()

    async def _park(self, name: str, go_on: Callable[[], Any]) -> Any:
        self.parked[name] = self.parked.get(name, 0) + 1
        self.come.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    def _maybe(self, name: str, go_on: Callable[[], Any]) -> Any:
        return self._park(name, go_on) if name in self.slow else go_on()

    async def waits_in(self, name: str, count: int = 1) -> None:
        while self.parked.get(name, 0) < count:
            self.come.clear()
            await self.come.wait()

    def walk(self, fid: Fid, names: Sequence[str], caller: Caller) -> MaybeAsync[Walk]:
        found: MaybeAsync[Walk] = self._maybe("walk", lambda: CountingServer.walk(self, fid, names, caller))
        return found

    def open(self, fid: Fid, mode: int, caller: Caller) -> MaybeAsync[Fid]:
        found: MaybeAsync[Fid] = self._maybe("open", lambda: CountingServer.open(self, fid, mode, caller))
        return found

    def create(self, fid: Fid, name: str, perm: int, mode: int, caller: Caller) -> MaybeAsync[Fid]:
        found: MaybeAsync[Fid] = self._maybe(
            "create", lambda: CountingServer.create(self, fid, name, perm, mode, caller)
        )
        return found

    def read(self, fid: Fid, offset: int, count: int) -> MaybeAsync[bytes | memoryview]:
        found: MaybeAsync[bytes | memoryview] = self._maybe(
            "read", lambda: CountingServer.read(self, fid, offset, count)
        )
        return found

    def stat(self, fid: Fid) -> MaybeAsync[Any]:
        return self._maybe("stat", lambda: CountingServer.stat(self, fid))

    def wstat(self, fid: Fid, change: SetStat) -> MaybeAsync[None]:
        return self._maybe("wstat", lambda: CountingServer.wstat(self, fid, change))  # type: ignore[no-any-return]

    def remove(self, fid: Fid) -> MaybeAsync[None]:
        return self._maybe("remove", lambda: CountingServer.remove(self, fid))  # type: ignore[no-any-return]


class Place:
    """A tree and its owner, and processes that have it from the owner."""

    def __init__(self) -> None:
        self.authority = Authority()
        self.processes = ProcessTable(lambda: 0)
        self.server = Parking()
        self.owner = Domain(self.authority)
        self.root: Chan = now(attach_own(self.server, self.owner, ME))

    def process(self, rights: int = ALL_RIGHTS) -> Process:
        """With the tree as its root, under a capability of its own."""
        domain = Domain(self.authority, self.owner)
        namespace = Namespace(domain, ChanMover(domain, rights).move(self.root))
        process = self.processes.add("glenda", namespace, namespace.root.share())
        process.state = State.RUNNING
        return process

    def revoke(self) -> None:
        self.authority.revoke(self.owner.pid, self.root.cap)

    def live(self) -> int:
        """Capabilities to the tree, beside the owner's."""
        slots = self.authority.kernel.slots
        endpoint = slots.endpoint[self.root.cap.slot]
        return sum(slots.endpoint[slot] == endpoint and slots.rights[slot] & LIVE != 0 for slot in slots.endpoint) - 1

    def kept(self) -> int:
        """The same with what is gone and only kept for those below it."""
        slots = self.authority.kernel.slots
        endpoint = slots.endpoint[self.root.cap.slot]
        return sum(at == endpoint for at in slots.endpoint.values()) - 1


@pytest.fixture
def place() -> Place:
    return Place()


def now(steps: Steps[Any]) -> Any:
    result = start(steps)
    assert not hasattr(result, "__await__")
    return result


async def opened(process: Process, path: str, mode: int = OREAD) -> Chan:
    namespace = process.namespace
    return await finish(namespace.open(await finish(namespace.find(path, process.cwd, process)), mode, process))


async def read(process: Process, chan: Chan) -> bytes:
    return bytes(await finish(dispatch(chan, READ, chan.server.read, chan.fid, 0, 100)))


def task(awaitable: Awaitable[Any]) -> asyncio.Future[Any]:
    return asyncio.ensure_future(awaitable)


# -- what runs, what is open ------------------------------------------------------------------------------------------

OPERATIONS: dict[str, Callable[[Process, Chan], Steps[Any]]] = {
    "walk": lambda p, f: p.namespace.walk(p.namespace.root, ["d", "x"], p),
    "open": lambda p, f: p.namespace.open(f, OREAD, p),
    "create": lambda p, f: p.namespace.create(p.namespace.root, "new", 0o666, OWRITE, p),
    "stat": lambda p, f: p.namespace.stat(f),
    "wstat": lambda p, f: p.namespace.wstat(f, SetStat(mode=0o600)),
    "remove": lambda p, f: p.namespace.remove(f, p),
}


@pytest.mark.parametrize("name", OPERATIONS)
async def test_an_operation_that_runs_ends_and_the_server_is_told(place: Place, name: str) -> None:
    process = place.process()
    file = await finish(process.namespace.find("/f", process.cwd, process))
    place.server.slow = {name}
    running = task(finish(OPERATIONS[name](process, file)))
    await place.server.waits_in(name)
    place.revoke()
    assert await bring(running) is E.REVOKED
    assert place.server.cancelled == 1
    if name != "remove":  # which ends the fid in any case, as in 9P
        assert await bring(finish(OPERATIONS[name](process, file))) is E.REVOKED


async def test_every_copy_of_an_open_file_is_dead_wherever_it_was_handed(place: Place) -> None:
    process = place.process()
    chan = await opened(process, "/f", ORDWR)
    process.descriptors.add(chan, 0)
    child = place.processes.fork(process)  # with a copy of the descriptors, and of the namespace
    sharing = place.processes.fork(process, Fork(Share.SHARE, Share.SHARE, Share.SHARE))
    stranger = Domain(place.authority)
    handed = ChanMover(stranger).move(chan)
    everywhere = [chan, child.descriptors[0], sharing.descriptors[0], handed]
    assert [await read(process, each) for each in everywhere] == [b"f"] * 4
    place.revoke()
    for each in everywhere:
        assert await bring(read(process, each)) is E.REVOKED
    assert place.live() == 0


async def test_mounts_are_dead_and_can_be_taken_away(place: Place) -> None:
    other = CountingServer("#2")
    for path, data in [("/here", None), ("/here/own", "own"), ("/there", None)]:
        other.plant(path, data)
    domain = Domain(place.authority)
    root = now(attach_own(other, domain, ME))
    namespace = Namespace(domain, root)
    process = place.processes.add("glenda", namespace, root.share())
    tree_here = ChanMover(domain).move(place.root)
    for where, flags in (("/here", MAFTER), ("/there", MREPL)):
        namespace.mount(tree_here, now(namespace.find(where, root, process)), flags)
    assert await read(process, await opened(process, "/there/f")) == b"f"
    assert await read(process, await opened(process, "/here/d/x")) == b"d/x"
    place.revoke()
    assert await bring(opened(process, "/there/f")) is E.REVOKED
    assert await bring(opened(process, "/here/d/x")) in (E.REVOKED, E.NOENT)  # of a union, as if it had never been
    assert await read(process, await opened(process, "/here/own")) == b"own"
    assert "/there" in describe(namespace, process.cwd)
    copy = namespace.copy(Domain(place.authority, domain))
    assert len(copy.heads) == 1  # the union, without the dead member
    assert [len(head.members) for head in copy.heads.values()] == [1]
    for where in ("/there", "/here"):
        await finish(namespace.unmount(None, where, root, process))
    assert namespace.heads == {}


# -- children ---------------------------------------------------------------------------------------------------------


async def test_what_children_have_goes_with_what_it_came_from_and_no_more(place: Place) -> None:
    """Three generations, and a cousin; cut in the middle."""
    first, cousin = place.process(), place.process()
    second = place.processes.fork(first)
    third = place.processes.fork(second)
    chans = {who: await opened(who, "/f") for who in (first, cousin, second, third)}
    place.authority.revoke(first.namespace.domain.pid, first.namespace.root.cap)
    assert await read(first, chans[first]) == b"f"
    assert await read(cousin, chans[cousin]) == b"f"
    for below in (second, third):
        assert await bring(read(below, chans[below])) is E.REVOKED
        assert await bring(opened(below, "/f")) is E.REVOKED


async def test_a_parent_that_dies_leaves_its_children_what_they_have_and_it_can_still_be_taken_back(
    place: Place,
) -> None:
    parent = place.process(READ | WRITE | GRANT)
    children = [place.processes.fork(parent) for _ in range(3)]
    grandchild = place.processes.fork(children[0])
    chans = {who: await opened(who, "/f") for who in (*children, grandchild)}
    place.processes.end(parent, 0)
    place.processes.end(children[0], 0)
    chans.pop(children[0]).close()
    for who, chan in chans.items():
        assert await read(who, chan) == b"f"
        assert await read(who, await opened(who, "/d/x")) == b"d/x"
        with pytest.raises(FileError) as caught:
            who.namespace.domain.check(chan.cap, EXECUTE)  # no more than the dead had
        assert caught.value.error is E.ACCES
    place.revoke()
    for who, chan in chans.items():
        assert await bring(read(who, chan)) is E.REVOKED
    assert place.kept() == 0


async def test_a_capability_that_was_passed_on_and_lost_is_still_its_givers_to_take_back(place: Place) -> None:
    """The one in the middle gives its own up; then it has nothing, those below have what they had."""
    middle, last = Domain(place.authority), Domain(place.authority)
    held = place.owner.mint(place.root.cap, READ | GRANT, middle)
    passed = middle.mint(held, READ, last)
    place.authority.delete(middle.pid, held)
    with pytest.raises(FileError) as caught:
        middle.check(held, 0)
    assert caught.value.error is E.REVOKED
    with pytest.raises(FileError):
        middle.mint(held, READ, Domain(place.authority))
    with pytest.raises(FileError):
        place.authority.revoke(middle.pid, held)  # nor can it take it back
    last.check(passed, READ)
    middle.release()
    last.check(passed, READ)
    place.revoke()
    with pytest.raises(FileError) as caught:
        last.check(passed, READ)
    assert caught.value.error is E.REVOKED
    assert place.kept() == 0


async def test_a_capability_that_is_moved_leaves_its_giver_with_nothing(place: Place) -> None:
    giver, taker = Domain(place.authority), Domain(place.authority)
    held = place.owner.mint(place.root.cap, READ | GRANT, giver)
    below = giver.mint(held, READ, taker)
    moved = place.authority.move(giver.pid, held, taker.pid)
    with pytest.raises(FileError):
        giver.check(held, 0)
    taker.check(moved, READ)
    taker.check(below, READ)
    place.authority.revoke(taker.pid, moved)
    with pytest.raises(FileError):
        taker.check(below, READ)
    taker.check(moved, READ)


# -- very many --------------------------------------------------------------------------------------------------------


async def test_a_thousand_processes_in_the_midst_of_a_tree_all_learn_that_it_is_gone(place: Place) -> None:
    count = 1000
    before = place.kept()
    processes = [place.process() for _ in range(count)]
    place.server.slow = {"walk"}
    walking = [task(finish(each.namespace.find("/d/x", each.cwd, each))) for each in processes]
    await place.server.waits_in("walk", count)
    bystander = CountingServer("#2")
    bystander.plant("/f", "mine")
    domain = Domain(place.authority)
    theirs = now(attach_own(bystander, domain, ME))
    place.revoke()
    assert [await bring(each) for each in walking] == [E.REVOKED] * count
    assert place.server.cancelled == count
    assert (place.live(), place.kept()) == (0, before)
    place.server.slow = set()
    assert await bring(opened(processes[7], "/f")) is E.REVOKED
    domain.check(theirs.cap, ALL_RIGHTS)
    again = place.process()
    assert await read(again, await opened(again, "/f")) == b"f"  # the owner may grant it anew
    for each in (*processes, again):
        place.processes.end(each, 0)
    assert place.authority._running == {}


async def test_a_line_of_a_thousand_each_from_the_one_before_is_cut_at_its_root(place: Place) -> None:
    domains = [Domain(place.authority)]
    cap = place.owner.mint(place.root.cap, ALL_RIGHTS, domains[0])
    caps = [cap]
    for _ in range(1000):
        domains.append(Domain(place.authority))
        caps.append(domains[-2].mint(caps[-1], ALL_RIGHTS, domains[-1]))
    place.authority.revoke(domains[500].pid, caps[500])
    domains[500].check(caps[500], ALL_RIGHTS)
    assert place.live() == 501
    place.revoke()
    assert place.live() == 0


# -- quotas -----------------------------------------------------------------------------------------------------------


async def test_at_the_limit_of_its_quota_nothing_more_is_had_and_nothing_is_lost(place: Place) -> None:
    """Every way to one more capability, when there is room for none; then for one."""
    poor = Domain(place.authority, place.owner, quota=2)
    root = ChanMover(poor).move(place.root)
    spare = place.owner.mint(place.root.cap, READ, poor)
    ways: dict[str, Callable[[], object]] = {
        "minted for": lambda: place.owner.mint(place.root.cap, READ, poor),
        "minted by": lambda: poor.mint(root.cap, READ, poor),
        "moved to": lambda: place.authority.move(
            place.owner.pid, place.owner.mint(place.root.cap, READ | GRANT, place.owner), poor.pid
        ),
        "serving": lambda: now(attach_own(CountingServer("#2"), poor, ME)),
        "a process of its own": lambda: Domain(place.authority, poor, quota=1),
        "a copied namespace": lambda: Namespace(poor.hold(), root.share()).copy(Domain(place.authority, poor, quota=0)),
    }
    for way, more in ways.items():
        used = place.authority.kernel.processes.used[poor.pid]
        with pytest.raises(FileError) as caught:
            more()
        assert caught.value.error is E.DQUOT, way
        assert place.authority.kernel.processes.used[poor.pid] == used, way
        poor.check(root.cap, ALL_RIGHTS)
        poor.check(spare, READ)
    place.authority.delete(poor.pid, spare)
    poor.check(poor.mint(root.cap, READ, poor), READ)
    with pytest.raises(FileError):
        poor.mint(root.cap, READ, poor)


async def test_what_a_revoked_tree_took_of_quotas_is_free_again(place: Place) -> None:
    process = Domain(place.authority, place.owner, quota=100)
    used = place.authority.kernel.processes.used
    for _ in range(3):
        while True:
            try:
                place.owner.mint(place.root.cap, READ, process)
            except FileError as error:
                full = error.error
                break
        assert full is E.DQUOT
        assert used[process.pid] == 100
        place.revoke()
        assert used[process.pid] == 0
    process.release()
    assert place.authority.kernel.processes.alive[NODE]


# -- far away, and further --------------------------------------------------------------------------------------------

L, NG = Dialect.L, Dialect.NG


async def into(second: Joined, far: Joined, where: str = "/w") -> Cap:
    """Mount `far`'s tree in the namespace that `second` exports; the capability it is under there."""
    namespace, process = second.process.namespace, second.process
    chan: Chan = await finish(attach_own(far.mount, namespace.domain, process, "", "#2", "#2"))
    place = await finish(namespace.find(where, namespace.root, process))
    namespace.mount(chan, place, MREPL)
    return chan.cap


@pytest.mark.parametrize("where", ["at its owner", "on the way"])
async def test_what_is_exported_again_dies_with_what_it_was_exported_from(where: str) -> None:
    """A exports to B what B exports to C: taken back at A or at B, what C has open ends at once."""
    async with joined(L, server=tree()) as first, joined(L, server=tree()) as second:
        slow = put_slow(first)
        cap = await into(second, first)
        waiting_fid = await open_at(second, "w/slow")
        open_fid = await open_at(second, "w/f")
        near_fid = await open_at(second, "f")
        assert bytes(await second.mount.read(open_fid, 0, 10)) == b"f"
        reading = task(second.mount.read(waiting_fid, 0, 10))
        await slow.parked(1)
        await idle()  # until it waits
        if where == "at its owner":
            authority = first.process.namespace.domain.authority
            authority.end_server(authority.kernel.slots.endpoint[first.process.namespace.root.cap.slot])
        else:
            authority = second.process.namespace.domain.authority
            authority.end_server(authority.kernel.slots.endpoint[cap.slot])
        assert await bring(reading) is E.REVOKED
        assert await bring(second.mount.read(open_fid, 0, 10)) is E.REVOKED
        assert await bring(open_at(second, "w/d/x")) is E.REVOKED
        await idle()
        assert slow.cancelled == 1  # the server at the far end has heard of it, too
        assert bytes(await second.mount.read(near_fid, 0, 10)) == b"f"
        if where == "on the way":
            assert await Client(first.mount, ME).read("f") == b"f"  # B has it still


async def test_an_answer_on_its_way_through_two_machines_is_held_back() -> None:
    async with joined(L, server=tree()) as first, joined(L, server=tree()) as second:
        slow = put_slow(first)
        cap = await into(second, first)
        fid = await open_at(second, "w/slow")
        reading = task(second.mount.read(fid, 0, 10))
        await slow.parked(1)
        slow.reads[0].set_result(b"secret")
        authority = second.process.namespace.domain.authority
        authority.end_server(authority.kernel.slots.endpoint[cap.slot])
        assert await bring(reading) is E.REVOKED


async def test_answers_that_wait_to_be_sent_are_held_back_once_they_may_not_be_had() -> None:
    """What was handed to the stream is gone; what waits behind it, because the client does not read, is not sent."""
    server = CountingServer("#1")
    server.plant("/f", "secret " * 10_000)
    async with joined(L, server=server) as ends:
        raw = await Raw.over(ends, L, 1 << 16)
        await raw.open_path("f", 5, 0)
        count = 20
        raw.send(*((m.Tread(5, 0, 60_000), tag) for tag in range(10, 10 + count)))
        await idle()
        authority, root = ends.process.namespace.domain.authority, ends.process.namespace.root
        authority.end_server(authority.kernel.slots.endpoint[root.cap.slot])
        answers = [message for _, message in await raw.answers(count)]
        told = [answer for answer in answers if isinstance(answer, m.Rread)]
        assert len(told) <= BATCH // 60_000 + 1
        refused = [answer.ecode for answer in answers if isinstance(answer, m.Rlerror)]
        assert refused == [E.REVOKED.errno] * (count - len(told))
        await raw.close()


TOLD: dict[str, tuple[Dialect, str, m.Request]] = {
    "entries": (L, "d", m.Treaddir(5, 0, 8000)),
    "stats of a directory": (Dialect.LEGACY, "d", m.Tread(5, 0, 8000)),
    "a listing": (NG, "d", m.Tlist(5, 0, 8000)),
    "where a link leads": (L, "l", m.Treadlink(5)),
    "attributes": (L, "d", m.Tgetattr(5, 0x3FFF)),
    "a stat": (Dialect.LEGACY, "d", m.Tstat(5)),
    "how much room there is": (L, "d", m.Tstatfs(5)),
    "a listing in a compound": (NG, "d", m.Tcomp((m.Twalk(0, 7, ("d",)), m.Tlopen(7, 0), m.Tlist(7, 0, 8000)))),
    "attributes in a compound": (NG, "d", m.Tcomp((m.Twalk(0, 7, ("d",)), m.Tgetattr(7, 0x3FFF)))),
}
"""In which dialect, of what, and the request."""


class Roomy(CountingServer):
    def statfs(self, fid: Fid) -> FileSystemStat:
        return FileSystemStat(blocks=12345)


def secrets() -> CountingServer:
    server = Roomy("#1")
    server.plant("/f", "plain " * 10_000)
    server.plant("/d", None)
    for number in range(40):
        server.plant(f"/d/secret{number}", "")
    server.plant_link("/l", "secret")
    return server


async def behind_much(raw: Raw, dialect: Dialect, path: str, request: m.Request, size: int = 60_000) -> None:
    """The request is answered, and the answer waits: before it there is more than goes out at once, of `/f`."""
    if dialect is NG:
        raw.send((m.Tcaps(wanted(65_536)), 1))
        await raw.answers(1)
    await raw.open_path("f", 4, 0)
    if path == "l":
        raw.send((m.Twalk(0, 5, (path,)), 1))
        await raw.answers(1)
    else:
        await raw.open_path(path, 5, 0)
    raw.send(*((m.Tread(4, 0, size), tag) for tag in range(10, 20)), (request, 20))
    await idle()
    assert raw.export._out[-1].tag == 20


@pytest.mark.parametrize("what", TOLD)
async def test_names_and_attributes_that_wait_to_be_sent_are_held_back_too(what: str) -> None:
    dialect, path, request = TOLD[what]
    async with joined(L, server=secrets()) as ends:
        raw = await Raw.over(ends, dialect, 1 << 10)
        await behind_much(raw, dialect, path, request)
        revoke_all(ends)
        answers = await raw.answers(11)
        assert answers[-1][0] == 20
        told = answers[-1][1]
        assert isinstance(told, m.Rlerror | m.Rerror | m.Rngerror)
        assert b"secret" not in repr(told).encode()
        await raw.close()
        assert not raw.export._reads
        assert not raw.export._parts_read
        assert only_the_roots_are_left(ends)


@pytest.mark.parametrize("dialect", [L, Dialect.LEGACY, NG])
async def test_a_listing_of_a_union_that_waits_to_be_sent_is_held_back_once_a_member_is_revoked(
    dialect: Dialect,
) -> None:
    async with joined(L, server=secrets()) as ends:
        namespace = ends.process.namespace
        authority, domain = namespace.domain.authority, namespace.domain
        other = CountingServer("#2")
        other.plant("/secret", "")
        member = attach_root(authority, domain, other, "#2")
        place = await finish(namespace.find("/d", ends.process.cwd, ends.process))
        namespace.mount(member, place, MAFTER)
        raw = await Raw.over(ends, dialect, 1 << 10)
        asks: dict[Dialect, m.Request] = {L: m.Treaddir(5, 0, 8000), NG: m.Tlist(5, 0, 8000)}
        asked = asks.get(dialect, m.Tread(5, 0, 8000))
        await behind_much(raw, dialect, "d", asked)
        authority.end_server(authority.kernel.slots.endpoint[member.cap.slot])
        answers = [message for _, message in await raw.answers(11)]
        assert all(isinstance(message, m.Rread) for message in answers[:-1])
        assert isinstance(answers[-1], m.Rlerror | m.Rerror | m.Rngerror)
        raw.send((asked, 21))
        ((_, again),) = await raw.answers(1)
        assert isinstance(again, m.Rread | m.Rreaddir | m.Rlist)
        assert b"secret3" in bytes(again.data)
        await raw.close()


async def compounds_over(ends: Joined) -> Raw:
    """A connection whose messages the test writes, and which agreed on compounds."""
    raw = await Raw.over(ends, NG, 1 << 16)
    raw.send((m.Tcaps(wanted(65_536)), 1))
    await raw.answers(1)
    return raw


def revoke_all(ends: Joined) -> None:
    authority, root = ends.process.namespace.domain.authority, ends.process.namespace.root
    authority.end_server(authority.kernel.slots.endpoint[root.cap.slot])


async def test_a_compound_with_data_that_waits_to_be_sent_is_held_back_and_its_fids_are_given_back() -> None:
    server = CountingServer("#1")
    server.plant("/f", "secret " * 10_000)
    node = server.at("/f")
    node.qid = node.qid._replace(version=7)
    async with joined(L, server=server) as ends:
        raw = await compounds_over(ends)
        count = 20
        for tag in range(10, 10 + count):
            parts = (m.Twalk(0, tag, ("f",)), m.Tlopen(tag, 0), m.Tgetattr(tag, 0x3FFF), m.Tread(tag, 0, 60_000))
            raw.send((m.Tcomp(parts), tag))
        await idle()
        revoke_all(ends)
        answers = [message for _, message in await raw.answers(count)]
        # Some were held back, of others a part was refused.
        ends_in = [answer.parts[-1] if isinstance(answer, m.Rcomp) else answer for answer in answers]
        told = [last for last in ends_in if isinstance(last, m.Rread)]
        assert 0 < len(told) <= BATCH // 60_000 + 1
        assert any(isinstance(answer, m.Rngerror) for answer in answers)
        refused = [last.symbol for last in ends_in if isinstance(last, m.Rngerror)]
        assert refused == ["REVOKED"] * (count - len(told))
        await idle()
        assert raw.export._session.fid_count == len(told) + 1
        assert raw.export._session.in_flight == 0
        await raw.close()


@pytest.mark.parametrize("name", ["walk", "open", "read", "stat"])
async def test_a_part_of_a_compound_that_waits_ends_when_it_is_revoked_and_none_comes_after_it(name: str) -> None:
    server = Parking()
    node = server.at("/f")
    node.qid = node.qid._replace(version=7)
    async with joined(L, server=server) as ends:
        raw = await compounds_over(ends)
        server.slow.add(name)
        parts = (m.Twalk(0, 5, ("f",)), m.Tlopen(5, 0), m.Tgetattr(5, 0x3FFF), m.Tread(5, 0, 100), m.Tgetattr(5, 0))
        raw.send((m.Tcomp(parts), 9))
        await server.waits_in(name)
        revoke_all(ends)
        ((tag, answer),) = await raw.answers(1)
        assert tag == 9
        *before, last = answer.parts if isinstance(answer, m.Rcomp) else (answer,)
        assert isinstance(last, m.Rngerror)
        assert last.symbol == "REVOKED"
        # Attributes that were told before the read go no further either: then the whole is refused.
        assert len(before) == {"walk": 0, "open": 1, "stat": 2, "read": 0}[name]
        assert raw.export._session.fid_count == 1
        await raw.close()


async def test_a_compound_has_no_right_that_its_parts_have_not() -> None:
    server = CountingServer("#1")
    server.plant("/d", None)
    server.plant("/d/x", "d/x")
    async with joined(L, server=server) as ends:
        raw = await compounds_over(ends)
        revoke_all(ends)
        for part in (m.Twalk(0, 5, ("d",)), m.Tgetattr(0, 0), m.Tmkdir(0, "n", 0o755, 0), m.Tunlinkat(0, "d", 0)):
            raw.send((m.Tcomp((part, m.Tgetattr(0, 0))), 9))
            ((_, answer),) = await raw.answers(1)
            assert isinstance(answer, m.Rcomp)
            (only,) = answer.parts
            assert isinstance(only, m.Rngerror)
            assert only.symbol == "REVOKED"
        await raw.close()


async def test_who_has_a_directory_open_that_led_to_what_is_gone_finds_nothing_in_it() -> None:
    skeleton = SkeletonServer(["/a/b/c"], ["/a/b/f", "/d/f"])
    client = Client(skeleton, ME)
    held = [await client.walk("a"), await client.walk("a/b"), await client.walk("d")]
    skeleton.uproot(["/d/f"])
    for fid, name in ((held[0], "b"), (held[1], "c"), (held[1], "f")):
        with pytest.raises(FileError) as caught:
            await finish_walk(skeleton, fid, name)
        assert caught.value.error is E.NOENT
    await finish_walk(skeleton, held[2], "f")
    assert await client.names("") == ["d"]


async def finish_walk(server: SkeletonServer, fid: Fid, name: str) -> None:
    await done(server.walk(fid, [name], ME))

"""rfork: what is shared is shared, what is copied is independent, and a child's authority comes from its parent."""

from __future__ import annotations

import gc
import itertools
import threading
from collections.abc import Callable

import pytest

from cognu.errors import E, FileError
from cognu.files.authority import Authority
from cognu.files.chan import Chan, Domain
from cognu.files.dispatch import dispatch
from cognu.files.listing import read_directory
from cognu.files.mounts import MAFTER, MBEFORE, MREPL
from cognu.files.namespace import Namespace
from cognu.files.process import Descriptors, Fork, Process, ProcessTable, Share
from cognu.kernel import ALL_RIGHTS, GRANT, READ, Cap
from cognu.ninep.types import ORDWR, OREAD
from joined import CountingServer
from script import attach_root, now

SHARES = list(Share)
ALL = [
    Fork(namespace, environment, descriptors, mount, devices)
    for namespace, environment, descriptors in itertools.product(SHARES, repeat=3)
    for mount, devices in itertools.product([True, False], repeat=2)
]


class System:
    """One process on a memory server, with a mount, an open file and a union."""

    def __init__(self, limit: int = 100, quota: int | None = None) -> None:
        self.authority = Authority()
        self.server = CountingServer("#1")
        for path, data in [("/a", None), ("/a/x", "a/x"), ("/b", None), ("/b/y", "b/y"), ("/f", "text")]:
            self.server.plant(path, data)
        self.before = self.used()
        domain = Domain(self.authority, None, quota)
        root = attach_root(self.authority, domain, self.server, "/")
        namespace = Namespace(domain, root, {"1": (self.server, root.cap)})
        self.table = ProcessTable(lambda: 5, limit)
        self.first = self.table.add("glenda", namespace, root.share())
        self.bind(self.first, "/b", "/a", MBEFORE)
        self.first.environment.values["who"] = b"glenda"
        self.open(self.first, "/f", ORDWR, 3)
        self.open(self.first, "/a", OREAD, 5)

    def bind(self, process: Process, source: str, place: str, flags: int) -> None:
        now(process.namespace.bind(source, place, flags, process.cwd, process))

    def find(self, process: Process, path: str) -> Chan:
        return now(process.namespace.find(path, process.cwd, process))

    def open(self, process: Process, path: str, mode: int, number: int | None = None) -> int:
        chan = now(process.namespace.open(self.find(process, path), mode, process))
        return process.descriptors.add(chan, number)

    def read(self, process: Process, number: int) -> bytes:
        """As read(2): at the shared offset, which moves on."""
        chan = process.descriptors[number]
        data = now(dispatch(chan, READ, chan.server.read, chan.fid, chan.handle.offset, 2))
        assert isinstance(data, bytes)
        chan.handle.offset += len(data)
        return data

    def ls(self, process: Process, number: int) -> list[str]:
        entries = now(read_directory(process.namespace, process.descriptors[number], 0, 99, process))
        return [entry.name for entry in entries]

    def used(self) -> tuple[int, int]:
        """Live capabilities and kernel processes, beyond the server's own."""
        kernel = self.authority.kernel
        live = sum(1 for slot in kernel.slots.rights.values() if slot)
        return live, len([pid for pid, alive in kernel.processes.alive.items() if alive])

    def refused(self, call: Callable[[], object]) -> E:
        with pytest.raises(FileError) as caught:
            call()
        return caught.value.error


@pytest.mark.parametrize(
    "how",
    ALL,
    ids=lambda how: "-".join(
        [how.namespace.value, how.environment.value, how.descriptors.value]
        + ([] if how.mount else ["nomount"])
        + ([] if how.devices else ["nodevices"])
    ),
)
def test_each_group_is_shared_copied_or_clean_and_all_of_it_is_given_back(how: Fork) -> None:
    system = System()
    parent = system.first
    child = system.table.fork(parent, how)
    assert (child.pid, child.parent, child.user, child.started) == (2, parent, "glenda", 5)

    assert (child.environment is parent.environment) == (how.environment is Share.SHARE)
    assert child.environment.values == ({} if how.environment is Share.CLEAN else {"who": b"glenda"})
    child.environment.values["more"] = b"1"
    assert ("more" in parent.environment.values) == (how.environment is Share.SHARE)

    assert (child.descriptors is parent.descriptors) == (how.descriptors is Share.SHARE)
    assert list(child.descriptors) == ([] if how.descriptors is Share.CLEAN else [3, 5])
    if how.descriptors is not Share.CLEAN:
        assert [system.read(child, 3), system.read(parent, 3), system.read(child, 3)] == [b"te", b"xt", b""]
        assert system.ls(child, 5) == ["y", "x"]
        child.descriptors.close(3)
        assert (3 in parent.descriptors) == (how.descriptors is Share.COPY)

    shared = how.namespace is Share.SHARE
    assert (child.namespace is parent.namespace) == shared
    assert len(child.namespace.heads) == (0 if how.namespace is Share.CLEAN else 1)
    assert child.namespace.no_mount is not how.mount
    assert parent.namespace.no_mount is (shared and not how.mount)
    assert set(child.namespace.devices) == ({"1"} if how.devices else set())
    assert set(parent.namespace.devices) == (set() if shared and not how.devices else {"1"})
    if how.mount:
        system.bind(child, "/b", "/a", MREPL)
        assert len(parent.namespace.heads[system.find(parent, "/a").key].members) == (1 if shared else 2)
    else:
        assert system.refused(lambda: system.bind(child, "/b", "/a", MREPL)) is E.PERM

    system.table.end(child, 0)
    assert parent.state.value == "New"
    assert system.find(parent, "/a/y")
    system.table.end(parent, 0)
    assert len(system.table) == 0
    assert not system.server.live
    live, processes = system.used()
    assert (live - 1, processes) == system.before  # the server itself goes on
    for process in (child, parent):
        assert process.ended.is_set()


@pytest.mark.parametrize("how", [Fork(), Fork(descriptors=Share.CLEAN), Fork(namespace=Share.CLEAN)])
def test_a_child_outlives_its_parent_with_its_files_and_its_unions(how: Fork) -> None:
    system = System()
    child = system.table.fork(system.first, how)
    system.table.end(system.first, 0)
    if how.descriptors is Share.COPY:
        assert system.read(child, 3) == b"te"
        assert system.ls(child, 5) == ["y", "x"]
    assert system.find(child, "/f")
    grandchild = system.table.fork(child)
    system.table.end(child, 0)
    assert system.find(grandchild, "/a/x")
    system.table.end(grandchild, 0)
    gc.collect()
    system.authority.close_orphans()
    assert not system.server.live


def test_what_a_child_holds_ends_when_its_parents_is_revoked() -> None:
    system = System()
    parent = system.first
    child = system.table.fork(parent)
    grandchild = system.table.fork(child)
    stranger = System()
    system.authority.revoke(child.namespace.domain.pid, child.namespace.root.cap)
    assert system.refused(lambda: system.find(grandchild, "/f")) is E.REVOKED
    assert system.refused(lambda: system.read(grandchild, 3)) is E.REVOKED
    assert system.refused(lambda: system.ls(grandchild, 5)) is E.REVOKED
    assert system.read(child, 3) == b"te"
    system.authority.revoke(0, _root_cap(system))
    for process in (parent, child):
        assert system.refused(lambda process=process: system.find(process, "/f")) is E.REVOKED  # type: ignore[misc]
        assert system.refused(lambda process=process: system.read(process, 3)) is E.REVOKED  # type: ignore[misc]
    assert stranger.read(stranger.first, 3) == b"te"


def _root_cap(system: System) -> Cap:
    kernel = system.authority.kernel
    slot = kernel.endpoints.root[1]
    return Cap(slot, kernel.slots.generation[slot])


def test_a_fork_whose_root_was_revoked_is_refused_and_leaves_nothing() -> None:
    system = System()
    child = system.table.fork(system.first)
    system.authority.revoke(system.first.namespace.domain.pid, system.first.namespace.root.cap)
    before = system.used()
    for how in ALL:
        if how.namespace is not Share.SHARE:
            assert system.refused(lambda how=how: system.table.fork(child, how)) is E.REVOKED  # type: ignore[misc]
    gc.collect()
    system.authority.close_orphans()
    assert system.used() == before
    assert len(system.table) == 2


def test_what_was_revoked_or_may_not_be_granted_on_is_not_copied() -> None:
    system = System()
    parent = system.first
    other = CountingServer("#2")
    other.plant("/z", "z")
    domain = parent.namespace.domain
    far = attach_root(system.authority, domain, other, "#2")
    private = system.authority.mint(domain.pid, far.cap, ALL_RIGHTS & ~GRANT, domain.pid)
    far.cap = private
    parent.namespace.mount(far, system.find(parent, "/b"), MAFTER)
    parent.namespace.devices["2"] = parent.namespace.devices["1"]._replace(server=other, cap=private)
    assert system.find(parent, "/b/z")
    system.open(parent, "/b/z", OREAD, 7)
    child = system.table.fork(parent)
    assert system.refused(lambda: system.find(child, "/b/z")) is E.NOENT
    assert system.find(child, "/b/y")
    assert set(child.namespace.devices) == {"1"}
    assert list(child.descriptors) == [3, 5]
    sharing = system.table.fork(parent, Fork(namespace=Share.SHARE))
    assert system.find(sharing, "/b/z")
    assert 7 in sharing.descriptors


def test_forking_with_a_shared_namespace_takes_no_capability() -> None:
    system = System()
    how = Fork(namespace=Share.SHARE)
    system.table.end(system.table.fork(system.first, how), 0)
    before = system.used()
    for _ in range(50):
        system.table.end(system.table.fork(system.first, how), 0)
    gc.collect()
    system.authority.close_orphans()
    assert system.used() == before


def test_an_empty_descriptor_table_is_shared_too_and_keeps_its_limit() -> None:
    system = System()
    parent = system.first
    parent.descriptors.close(3)
    parent.descriptors.close(5)
    parent.descriptors.limit = 7
    child = system.table.fork(parent, Fork(descriptors=Share.SHARE))
    assert child.descriptors is parent.descriptors
    for descriptors in (Share.COPY, Share.CLEAN):
        assert system.table.fork(parent, Fork(descriptors=descriptors)).descriptors.limit == 7


def test_a_fork_beyond_the_quota_or_the_table_is_refused_and_leaves_nothing() -> None:
    refusals = set()
    for quota in range(1, 30):
        try:
            system = System(quota=quota)
        except FileError:
            continue  # too little for the parent itself
        before, live = system.used(), len(system.server.live)
        try:
            child = system.table.fork(system.first)
        except FileError as error:
            refusals.add(error.error)
            gc.collect()
            system.authority.close_orphans()
            assert system.used() == before
        else:
            system.table.end(child, 0)
        assert len(system.server.live) == live
    assert refusals == {E.DQUOT}
    full = System(limit=1)
    before = full.used()
    assert full.refused(lambda: full.table.fork(full.first)) is E.AGAIN
    assert full.used() == before


def test_descriptors_take_the_lowest_free_number_and_keep_to_their_limit() -> None:
    system = System()
    process = system.first
    assert [system.open(process, "/f", OREAD) for _ in range(4)] == [0, 1, 2, 4]
    process.descriptors.limit = len(process.descriptors)
    chan = system.find(process, "/f")
    assert system.refused(lambda: process.descriptors.add(chan)) is E.MFILE
    assert system.refused(lambda: process.descriptors.add(chan, 99)) is E.MFILE
    assert system.refused(lambda: process.descriptors.add(chan, -1)) is E.BADF
    assert process.descriptors.add(chan, 2) == 2  # in the place of what was there
    for number in (99, -1):
        assert system.refused(lambda number=number: process.descriptors.close(number)) is E.BADF  # type: ignore[misc]
        assert system.refused(lambda number=number: process.descriptors[number]) is E.BADF  # type: ignore[misc]


def test_an_ended_process_is_ended_once_and_its_number_is_not_used_again() -> None:
    system = System()
    child = system.table.fork(system.first)
    grandchild = system.table.fork(child)
    assert system.table.descendants(system.first) == [child, grandchild]
    system.table.end(child, 7, "killed")
    system.table.end(child, 0)
    assert (child.status, child.message) == (7, "killed")
    assert system.table.fork(system.first).pid == 4
    assert system.refused(lambda: system.table[2]) is E.SRCH
    assert system.table.descendants(system.first)[0] is grandchild


def test_what_the_collector_finds_is_closed_before_the_next_operation_and_not_in_the_midst_of_another() -> None:
    system = System()
    live = set(system.server.live)
    chan = system.find(system.first, "/b/y")
    fid = chan.fid
    ring: list[object] = [chan]
    ring.append(ring)
    del chan, ring
    gc.collect()
    assert fid in system.server.live
    assert len(system.authority.orphans) == 1
    assert system.read(system.first, 3) == b"te"
    assert system.server.live == live


def test_a_chan_dropped_on_another_thread_is_closed_on_its_own() -> None:
    system = System()
    live = set(system.server.live)
    holder = [system.find(system.first, "/b/y")]
    thread = threading.Thread(target=holder.clear)
    thread.start()
    thread.join()
    assert len(system.server.live) == len(live) + 1
    assert system.read(system.first, 3) == b"te"
    assert system.server.live == live


def test_a_table_of_descriptors_shared_by_two_is_closed_with_the_second() -> None:
    system = System()
    child = system.table.fork(system.first, Fork(descriptors=Share.SHARE))
    system.table.end(system.first, 0)
    assert system.read(child, 3) == b"te"
    assert isinstance(child.descriptors, Descriptors)
    system.table.end(child, 0)
    gc.collect()
    system.authority.close_orphans()
    assert not system.server.live

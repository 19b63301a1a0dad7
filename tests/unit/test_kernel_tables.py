"""The kernel: what must hold, by name; every short history of a small world; and any history against a naive model."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

import cognu.kernel
from cognu.errors import E
from cognu.kernel import ALL_RIGHTS, CREATE, ERRORS, EXECUTE, GRANT, NODE, READ, SEND, WRITE, Cap, Code, Kernel
from cognu.kernel.state import LIVE, Table

Image = tuple[object, ...]
PARTS = ("slots", "processes", "endpoints")
SCALARS = (
    "last_process", "last_endpoint", "last_slot", "free", "cursor", "cut", "cut_root", "died", "died_generation",
)  # fmt: skip


def image(kernel: Kernel) -> Image:
    """All of the kernel's state, to compare."""
    tables = [tuple(sorted(t.items())) for part in PARTS for t in vars(getattr(kernel, part)).values()]
    return (*tables, *(getattr(kernel, name) for name in SCALARS))


def clone(kernel: Kernel) -> Kernel:
    other = Kernel()
    for part in PARTS:
        for name, table in vars(getattr(kernel, part)).items():
            copied = type(table)()
            dict.update(copied, table)
            setattr(getattr(other, part), name, copied)
    for name in SCALARS:
        setattr(other, name, getattr(kernel, name))
    return other


def chain(heads: Table, after: Table, before: Table | None, owner: int) -> list[int]:
    """A list of the tables, checked both ways."""
    found: list[int] = []
    at, last = heads[owner], 0
    while at:
        assert at not in found, "a list runs in a circle"
        assert before is None or before[at] == last
        found.append(at)
        last, at = at, after[at]
    return found


def check_invariants(kernel: Kernel) -> None:
    slots, processes, endpoints = kernel.slots, kernel.processes, kernel.endpoints
    everything = range(1, kernel.last_slot + 1)
    free = chain(Table({0: kernel.free}), slots.next, None, 0)
    taken = [slot for slot in everything if slots.endpoint[slot]]
    assert sorted(free + taken) == list(everything)
    for slot in free:
        assert slots.rights[slot] == slots.first[slot] == slots.prev[slot] == 0
    for slot in taken:
        parent, endpoint = slots.parent[slot], slots.endpoint[slot]
        assert processes.alive[slots.holder[slot]]
        assert endpoints.alive[endpoint]
        kids = chain(slots.first, slots.next, slots.prev, slot)
        assert all(slots.parent[kid] == slot for kid in kids)
        if not slots.rights[slot] and not kids:
            assert kernel.cursor, "a tombstone for nobody"
        if parent:
            assert slot in chain(slots.first, slots.next, slots.prev, parent)
            assert slots.endpoint[parent] == endpoint
            if slots.rights[slot] and slots.rights[parent]:
                assert not slots.rights[slot] & ~slots.rights[parent]
                assert slots.badge[parent] in (0, slots.badge[slot])
        else:
            assert endpoints.root[endpoint] == slot
            assert slots.next[slot] == slots.prev[slot] == 0
        seen = set()
        while slot:
            assert slot not in seen, "a capability descends from itself"
            seen.add(slot)
            slot = slots.parent[slot]
    alive = sorted(processes.alive)
    held_by_all: list[int] = []
    for process in alive:
        held = chain(processes.held, slots.held_next, slots.held_prev, process)
        held_by_all += held
        assert all(slots.holder[slot] == process for slot in held)
        made = chain(processes.first, processes.next, processes.prev, process)
        assert all(processes.creator[child] == process for child in made)
        units = len(held) + sum(processes.quota[child] + 1 for child in made)
        assert processes.used[process] == units <= processes.quota[process]
        if process != NODE:
            assert process in chain(processes.first, processes.next, processes.prev, processes.creator[process])
        served = chain(processes.served, endpoints.next, endpoints.prev, process)
        assert all(endpoints.server[endpoint] == process for endpoint in served)
    assert sorted(held_by_all) == taken
    assert set(endpoints.root) == set(endpoints.server) | set(endpoints.alive) == set(endpoints.alive)
    for name, table in vars(processes).items():
        assert set(table) <= set(alive), f"{name} remembers an ended process"


def run(kernel: Kernel, step: Callable[[], int]) -> int:
    """A loop of steps to its end; every state on the way is sound and refuses all else. Returns what failed, or 0."""
    allowed = 2 * kernel.last_slot + 2 * len(kernel.processes.alive) + 2
    told = {(kernel.died, kernel.died_generation)}
    result = 1
    while result > 0:
        result = step()
        if result < 0:
            break
        death = (kernel.died, kernel.died_generation)
        if kernel.died:
            assert death not in told, "a death is told twice"
            assert kernel.check(0, *death, 0) == -Code.REVOKED
            told.add(death)
        check_invariants(kernel)
        allowed -= 1
        assert allowed >= 0, "more steps than there is to do"
        if kernel.cursor:
            before = image(kernel)
            assert kernel.create_process(NODE, 0) == kernel.create_endpoint(NODE) == -Code.BUSY
            assert kernel.mint(0, 1, 1, 0, 0, 0) == kernel.move(0, 1, 1, 0) == -Code.BUSY
            assert kernel.delete(0, 1, 1) == -Code.BUSY
            assert image(kernel) == before
    return result


class World:
    """A server on the node, and two processes, as most tests want them."""

    def __init__(self) -> None:
        self.kernel = Kernel()
        self.endpoint = self.kernel.create_endpoint(NODE)
        self.root = self.handle(self.kernel.endpoints.root[self.endpoint])
        self.a = self.kernel.create_process(NODE, 100)
        self.b = self.kernel.create_process(NODE, 100)

    def handle(self, slot: int) -> Cap:
        assert slot > 0, Code(-slot)
        return Cap(slot, self.kernel.slots.generation[slot])

    def mint(self, holder: int, cap: Cap, rights: int, to: int, badge: int = 0) -> Cap:
        return self.handle(self.kernel.mint(holder, *cap, rights, badge, to))

    def holds(self, process: int, cap: Cap, rights: int = 0) -> bool:
        return self.kernel.check(process, *cap, rights) == 0

    def delete(self, holder: int, cap: Cap) -> None:
        assert self.kernel.delete(holder, *cap) in (0, 1)
        run(self.kernel, self.kernel.reap_step)

    def revoke(self, holder: int, cap: Cap) -> None:
        assert run(self.kernel, lambda: self.kernel.revoke_step(holder, *cap)) == 0

    def end_process(self, process: int) -> None:
        assert run(self.kernel, lambda: self.kernel.end_process_step(process)) == 0


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    check_invariants(made.kernel)


def test_rights_are_bits_of_their_own() -> None:
    rights = (SEND, GRANT, READ, WRITE, EXECUTE, CREATE)
    assert sum(rights) == ALL_RIGHTS
    assert len(set(rights)) == 6
    assert not ALL_RIGHTS & LIVE


def test_every_refusal_has_its_row_of_the_error_table() -> None:
    assert set(ERRORS) == set(Code)
    assert ERRORS[Code.REVOKED] is E.REVOKED


def test_the_kernel_imports_nothing_but_the_error_table() -> None:
    allowed = {"__future__", "enum", "typing", "cognu.errors"}
    for file in Path(cognu.kernel.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            for name in names:
                assert name is not None
                assert name in allowed or name.startswith("cognu.kernel")


def test_no_operation_holds_a_loop_or_raises() -> None:
    """The symbolic proof explores each operation completely; a loop or a raise would end that."""
    source = Path(cognu.kernel.__file__).parent / "tables.py"
    forbidden = (ast.For, ast.While, ast.comprehension, ast.Raise, ast.Try, ast.Assert)
    assert not [node for node in ast.walk(ast.parse(source.read_text())) if isinstance(node, forbidden)]


def test_a_child_has_no_right_its_parent_lacks(world: World) -> None:
    child = world.mint(NODE, world.root, READ | GRANT, world.a)
    assert world.holds(world.a, child, READ)
    assert world.kernel.check(world.a, *child, WRITE) == -Code.RIGHTS
    assert world.kernel.mint(world.a, *child, READ | WRITE, 0, world.a) == -Code.RIGHTS
    assert world.kernel.mint(world.a, *child, -1, 0, world.a) == -Code.INVALID
    assert world.kernel.mint(world.a, *child, LIVE, 0, world.a) == -Code.INVALID
    assert world.kernel.mint(world.a, *child, READ | 256, 0, world.a) == -Code.RIGHTS


def test_handing_on_takes_grant_and_keeping_does_not(world: World) -> None:
    plain = world.mint(NODE, world.root, READ, world.a)
    assert world.kernel.mint(world.a, *plain, READ, 0, world.b) == -Code.RIGHTS
    assert world.kernel.move(world.a, *plain, world.b) == -Code.RIGHTS
    assert world.holds(world.a, world.mint(world.a, plain, READ, world.a), READ)


def test_a_handle_means_nothing_to_another_process(world: World) -> None:
    cap = world.mint(NODE, world.root, ALL_RIGHTS, world.a)
    assert world.kernel.check(world.b, *cap, 0) == -Code.NOT_HOLDER
    assert world.kernel.mint(world.b, *cap, 0, 0, world.b) == -Code.NOT_HOLDER
    assert world.kernel.delete(world.b, *cap) == -Code.NOT_HOLDER
    assert world.kernel.revoke_step(world.b, *cap) == -Code.NOT_HOLDER


def test_a_badge_once_set_is_kept(world: World) -> None:
    badged = world.mint(NODE, world.root, ALL_RIGHTS, world.a, badge=7)
    assert world.kernel.mint(world.a, *badged, READ, 8, world.a) == -Code.BADGE
    assert world.kernel.mint(world.a, *badged, READ, 0, world.a) == -Code.BADGE
    child = world.mint(world.a, badged, READ, world.a, badge=7)
    assert world.kernel.slots.badge[child.slot] == 7


def test_revoking_ends_all_descendants_and_nothing_else(world: World) -> None:
    child = world.mint(NODE, world.root, ALL_RIGHTS, world.a)
    other = world.mint(NODE, world.root, ALL_RIGHTS, world.b)
    below = [world.mint(world.a, child, ALL_RIGHTS, world.b) for _ in range(5)]
    deep = below[0]
    for _ in range(20):
        deep = world.mint(world.b, deep, ALL_RIGHTS, world.b)
    world.revoke(world.a, child)
    assert world.holds(world.a, child)
    assert world.holds(world.b, other)
    assert not any(world.holds(world.b, cap) for cap in [*below, deep])
    assert world.kernel.processes.used[world.b] == 1
    assert world.kernel.revoke_step(world.a, *child) == 0


def test_a_used_again_slot_never_matches_an_old_handle(world: World) -> None:
    old = world.mint(NODE, world.root, READ, world.a)
    world.delete(world.a, old)
    new = world.mint(NODE, world.root, READ, world.a)
    assert new.slot == old.slot
    assert world.kernel.check(world.a, *old, 0) == -Code.REVOKED
    assert world.holds(world.a, new)


def test_deleting_keeps_children_and_the_last_child_takes_the_tombstone_along(world: World) -> None:
    top = world.mint(NODE, world.root, ALL_RIGHTS, world.a)
    middle = world.mint(world.a, top, ALL_RIGHTS, world.a)
    bottom = world.mint(world.a, middle, READ, world.b)
    world.delete(world.a, middle)
    world.delete(world.a, top)
    assert world.holds(world.b, bottom, READ)
    assert world.kernel.processes.used[world.a] == 2
    for guess in range(1, 4):
        assert world.kernel.check(world.a, middle.slot, guess, 0) == -Code.REVOKED
    world.delete(world.b, bottom)
    assert world.kernel.processes.used[world.a] == 0


def test_revoking_reaches_below_a_tombstone(world: World) -> None:
    top = world.mint(NODE, world.root, ALL_RIGHTS, world.a)
    bottom = world.mint(world.a, top, READ, world.b)
    world.delete(world.a, top)
    world.revoke(NODE, world.root)
    assert not world.holds(world.b, bottom)
    assert world.kernel.processes.used[world.a] == 0


def test_moving_kills_the_old_handle_and_keeps_the_children(world: World) -> None:
    cap = world.mint(NODE, world.root, ALL_RIGHTS, world.a)
    child = world.mint(world.a, cap, READ, world.a)
    generation = world.kernel.move(world.a, *cap, world.b)
    assert generation > cap.generation
    assert world.kernel.check(world.a, *cap, 0) == -Code.REVOKED
    assert world.kernel.check(world.b, *cap, 0) == -Code.REVOKED
    moved = Cap(cap.slot, generation)
    assert world.holds(world.b, moved, ALL_RIGHTS)
    world.revoke(world.b, moved)
    assert not world.holds(world.a, child)


def test_quota_bounds_capabilities_and_processes_and_comes_back(world: World) -> None:
    kernel = world.kernel
    small = kernel.create_process(NODE, 3)
    caps = [world.mint(NODE, world.root, ALL_RIGHTS, small) for _ in range(2)]
    assert kernel.create_process(small, 1) == -Code.QUOTA
    inner = kernel.create_process(small, 0)
    assert inner > 0
    assert kernel.mint(NODE, *world.root, READ, 0, small) == -Code.QUOTA
    assert kernel.mint(NODE, *world.root, READ, 0, inner) == -Code.QUOTA
    assert kernel.create_endpoint(small) == -Code.QUOTA
    world.end_process(inner)
    assert kernel.mint(NODE, *world.root, READ, 0, small) > 0
    world.delete(small, caps[0])
    assert kernel.create_endpoint(small) > 0
    used = kernel.processes.used[NODE]
    world.end_process(small)
    assert kernel.processes.used[NODE] == used - 4


def test_what_a_process_held_dies_with_it_and_what_it_handed_on_lives(world: World) -> None:
    kernel = world.kernel
    cap = world.mint(NODE, world.root, ALL_RIGHTS, world.a)
    mine = world.mint(world.a, cap, READ, world.a)
    handed = world.mint(world.a, cap, READ, world.b)
    before = kernel.processes.used[NODE] - 101
    world.end_process(world.a)
    assert world.holds(world.b, handed, READ)
    assert kernel.check(world.a, *cap, 0) == kernel.check(world.a, *mine, 0) == -Code.REVOKED
    # One tombstone is left, charged to the creator.
    assert kernel.processes.used[NODE] == before + 1
    assert kernel.end_process_step(world.a) == -Code.NO_PROCESS
    world.delete(world.b, handed)
    assert kernel.processes.used[NODE] == before


def test_processes_outlive_their_creator_with_their_quota(world: World) -> None:
    kernel = world.kernel
    child = kernel.create_process(world.a, 40)
    grandchild = kernel.create_process(child, 10)
    world.end_process(world.a)
    assert kernel.processes.creator[child] == NODE
    world.end_process(child)
    assert kernel.processes.creator[grandchild] == NODE
    assert kernel.processes.quota[grandchild] == 10
    world.end_process(grandchild)
    world.end_process(world.b)
    assert kernel.processes.used[NODE] == 1


def test_a_full_creator_takes_over_children_and_tombstones_without_going_over() -> None:
    kernel = Kernel(12)
    endpoint = kernel.create_endpoint(NODE)
    process = kernel.create_process(NODE, 10)
    child = kernel.create_process(process, 5)
    cap = kernel.mint(NODE, kernel.endpoints.root[endpoint], 1, ALL_RIGHTS, 0, process)
    assert kernel.mint(process, cap, 1, READ, 0, child) > 0
    assert kernel.processes.used[NODE] == 12
    assert run(kernel, lambda: kernel.end_process_step(process)) == 0
    # The endpoint's root, the child with its five, the tombstone.
    assert kernel.processes.used[NODE] == 1 + 6 + 1


def test_an_endpoint_ends_with_its_server_and_all_capabilities_to_it(world: World) -> None:
    kernel = world.kernel
    endpoint = kernel.create_endpoint(world.a)
    root = world.handle(kernel.endpoints.root[endpoint])
    cap = world.mint(world.a, root, ALL_RIGHTS, world.b)
    deep = world.mint(world.b, cap, READ, NODE)
    world.end_process(world.a)
    assert not world.holds(world.b, cap)
    assert not world.holds(NODE, deep)
    assert kernel.end_endpoint_step(endpoint) == -Code.NO_ENDPOINT
    assert world.holds(NODE, world.root)


def test_ending_an_endpoint_spares_the_others(world: World) -> None:
    kernel = world.kernel
    endpoint = kernel.create_endpoint(world.a)
    root = world.handle(kernel.endpoints.root[endpoint])
    assert run(kernel, lambda: kernel.end_endpoint_step(endpoint)) == 0
    assert kernel.check(world.a, *root, 0) == -Code.REVOKED
    assert world.holds(NODE, world.root)
    assert kernel.processes.used[world.a] == 0


def test_an_endpoint_nobody_can_name_any_more_ends(world: World) -> None:
    world.delete(NODE, world.root)
    assert world.kernel.end_endpoint_step(world.endpoint) == -Code.NO_ENDPOINT


def test_the_node_itself_never_ends(world: World) -> None:
    assert world.kernel.end_process_step(NODE) == -Code.INVALID


def test_what_is_not_there_is_refused(world: World) -> None:
    kernel = world.kernel
    for number in (-1, 99, 1 << 80):
        assert kernel.create_process(number, 1) == -Code.NO_PROCESS
        assert kernel.create_endpoint(number) == -Code.NO_PROCESS
        assert kernel.end_process_step(number) == -Code.NO_PROCESS
        assert kernel.end_endpoint_step(number) == -Code.NO_ENDPOINT
        assert kernel.mint(NODE, *world.root, READ, 0, number) == -Code.NO_PROCESS
        assert kernel.move(NODE, *world.root, number) == -Code.NO_PROCESS
        assert kernel.check(NODE, number, 0, 0) == -Code.REVOKED
        assert kernel.check(number, 0, 0, 0) == -Code.REVOKED
    assert kernel.create_process(NODE, -1) == -Code.INVALID
    assert kernel.mint(NODE, *world.root, READ, -1, NODE) == -Code.INVALID


def test_another_loop_can_not_begin_before_one_has_ended(world: World) -> None:
    kernel = world.kernel
    endpoint = kernel.create_endpoint(world.a)
    cap = world.mint(NODE, world.root, ALL_RIGHTS, world.a)
    world.mint(world.a, cap, READ, world.b)
    assert kernel.revoke_step(NODE, *world.root) == 1
    before = image(kernel)
    assert kernel.revoke_step(world.a, *cap) == -Code.BUSY
    assert kernel.end_endpoint_step(endpoint) == -Code.BUSY
    assert kernel.end_endpoint_step(world.endpoint) == -Code.BUSY
    assert kernel.end_process_step(world.a) == -Code.BUSY
    assert kernel.reap_step() == -Code.BUSY
    assert image(kernel) == before
    world.revoke(NODE, world.root)
    assert not world.holds(world.a, cap)


def test_the_tables_stay_as_small_as_what_is_alive(world: World) -> None:
    kernel = world.kernel

    def size() -> int:
        return sum(len(table) for part in PARTS for table in vars(getattr(kernel, part)).values())

    def live_and_die() -> None:
        process = kernel.create_process(NODE, 10)
        endpoint = kernel.create_endpoint(process)
        root = world.handle(kernel.endpoints.root[endpoint])
        world.mint(process, root, READ, world.a)
        world.end_process(process)

    live_and_die()
    before = size()
    for _ in range(50):
        live_and_die()
    assert size() == before


Operation = tuple[str, tuple[int, ...]]


def small_operations() -> list[Operation]:
    """Every call on two processes, three slots and their first two generations."""
    handles = list(product((0, 1), (1, 2, 3), (1, 2)))
    operations: list[Operation] = [("create_process", (0, 1)), ("create_endpoint", (1,))]
    operations += [("end_process_step", (1,)), ("end_endpoint_step", (1,)), ("end_endpoint_step", (2,))]
    for handle in handles:
        operations += [("mint", (*handle, rights, 0, to)) for rights in (0, GRANT) for to in (0, 1)]
        operations += [("move", (*handle, to)) for to in (0, 1)]
        operations += [("delete", handle), ("revoke_step", handle)]
    return operations


def perform(kernel: Kernel, operation: Operation) -> int:
    name, arguments = operation
    call = partial(getattr(kernel, name), *arguments)
    result: int = run(kernel, call) if name.endswith("_step") else call()
    if name == "delete" and result >= 0:
        result = run(kernel, kernel.reap_step)
    assert result >= 0 or Code(-result) in ERRORS
    if result > 0:
        assert (kernel.died != 0) == (name == "move")
    return result


def test_every_history_of_four_operations_in_a_small_world_is_sound() -> None:
    start = Kernel(7)
    assert start.create_endpoint(0) == 1
    assert start.create_process(0, 2) == 1
    operations = small_operations()
    reached = {image(start): start}
    frontier = [start]
    for _ in range(4):
        fresh: list[Kernel] = []
        for kernel in frontier:
            refused = []
            other = clone(kernel)
            for operation in operations:
                if perform(other, operation) < 0:
                    refused.append(operation)
                    continue
                after = image(other)
                if after not in reached:
                    check_invariants(other)
                    reached[after] = other
                    fresh.append(other)
                other = clone(kernel)
            other = clone(kernel)
            for operation in refused:
                assert perform(other, operation) < 0
            assert image(other) == image(kernel), "a refused operation changed something"
        frontier = fresh
    assert len(reached) > 1000


# Any history against a model of sets and maps, written from the rules and not from the kernel.


@dataclass(eq=False)
class Node:
    """A capability of the model, or what is left of one."""

    holder: int
    endpoint: int
    rights: int
    badge: int
    parent: Node | None
    alive: bool = True


@dataclass
class Model:
    creators: dict[int, int] = field(default_factory=lambda: {NODE: NODE})
    quotas: dict[int, int] = field(default_factory=dict)
    servers: dict[int, int] = field(default_factory=dict)
    nodes: set[Node] = field(default_factory=set)

    def children(self, node: Node) -> set[Node]:
        return {other for other in self.nodes if other.parent is node}

    def below(self, node: Node) -> set[Node]:
        found = self.children(node)
        for child in set(found):
            found |= self.below(child)
        return found

    def used(self, process: int) -> int:
        held = sum(node.holder == process for node in self.nodes)
        made = [child for child, creator in self.creators.items() if creator == process and child != NODE]
        return held + sum(self.quotas[child] + 1 for child in made)

    def has_room(self, process: int, units: int = 1) -> bool:
        return self.used(process) + units <= self.quotas[process]

    def tidy(self) -> None:
        """Tombstones go with their last child, and an endpoint with its last capability."""
        while True:
            gone = {node for node in self.nodes if not node.alive and not self.children(node)}
            if not gone:
                break
            self.nodes -= gone
        named = {node.endpoint for node in self.nodes}
        self.servers = {endpoint: server for endpoint, server in self.servers.items() if endpoint in named}

    def end_endpoint(self, endpoint: int) -> None:
        for node in self.nodes:
            if node.endpoint == endpoint:
                node.alive = False
        self.nodes = {node for node in self.nodes if node.endpoint != endpoint}
        self.tidy()

    def end_process(self, process: int) -> None:
        for endpoint in [e for e, server in self.servers.items() if server == process]:
            self.end_endpoint(endpoint)
        for node in self.nodes:
            if node.holder == process:
                node.alive = False
        self.tidy()
        above = self.creators.pop(process)
        for node in self.nodes:
            if node.holder == process:
                node.holder = above
        for child, creator in self.creators.items():
            if creator == process:
                self.creators[child] = above
        del self.quotas[process]


class KernelAgainstModel(RuleBasedStateMachine):
    """The same calls on both; afterwards, every handle ever given means the same to both."""

    QUOTA = 60

    def __init__(self) -> None:
        super().__init__()
        self.kernel = Kernel(self.QUOTA)
        self.model = Model(quotas={NODE: self.QUOTA})
        self.handles: list[tuple[Cap, Node]] = []
        self.pids = [NODE]

    def pick(self, number: int) -> tuple[Cap, Node | None]:
        """Some handle ever given, or now and then one that never was."""
        if not self.handles or number % 17 == 0:
            return Cap(number, 1 + number % 3) if number >= 50 else Cap(-number, 0), None
        return self.handles[number % len(self.handles)]

    def process(self, number: int) -> int:
        return self.pids[number % len(self.pids)]

    def holder(self, number: int, node: Node | None, other: bool) -> int:
        return self.process(number) if other or node is None else node.holder

    def expect(self, result: int, wanted: Code | None, before: Image) -> bool:
        if wanted is None:
            assert result >= 0, Code(-result)
            return True
        assert result == -wanted
        assert image(self.kernel) == before
        return False

    def refusal(self, holder: int, node: Node | None, rights: int) -> Code | None:
        if node is None or not node.alive:
            return Code.REVOKED
        if node.holder != holder:
            return Code.NOT_HOLDER
        return None if rights & node.rights == rights else Code.RIGHTS

    def given(self, slot: int, node: Node) -> None:
        self.model.nodes.add(node)
        self.handles.append((Cap(slot, self.kernel.slots.generation[slot]), node))

    @rule(creator=st.integers(0, 99), quota=st.integers(-1, 20))
    def create_process(self, creator: int, quota: int) -> None:
        creator = self.process(creator)
        wanted = None
        if quota < 0:
            wanted = Code.INVALID
        elif creator not in self.model.creators:
            wanted = Code.NO_PROCESS
        elif not self.model.has_room(creator, quota + 1):
            wanted = Code.QUOTA
        before = image(self.kernel)
        result = self.kernel.create_process(creator, quota)
        if self.expect(result, wanted, before):
            assert result not in self.pids
            self.pids.append(result)
            self.model.creators[result] = creator
            self.model.quotas[result] = quota

    @rule(server=st.integers(0, 99))
    def create_endpoint(self, server: int) -> None:
        server = self.process(server)
        wanted = None
        if server not in self.model.creators:
            wanted = Code.NO_PROCESS
        elif not self.model.has_room(server):
            wanted = Code.QUOTA
        before = image(self.kernel)
        result = self.kernel.create_endpoint(server)
        if self.expect(result, wanted, before):
            self.model.servers[result] = server
            self.given(self.kernel.endpoints.root[result], Node(server, result, ALL_RIGHTS, 0, None))

    @rule(
        holder=st.integers(0, 99),
        wrong=st.booleans(),
        cap=st.integers(0, 99),
        rights=st.integers(0, 63) | st.sampled_from([ALL_RIGHTS, 64, 128, -1]),
        badge=st.integers(-1, 2),
        to=st.integers(0, 99),
    )
    def mint(self, holder: int, wrong: bool, cap: int, rights: int, badge: int, to: int) -> None:
        handle, node = self.pick(cap)
        holder, to = self.holder(holder, node, wrong), self.process(to)
        wanted: Code | None
        if badge < 0 or rights & 64:
            wanted = Code.INVALID
        elif wanted := self.refusal(holder, node, rights | (0 if to == holder else GRANT)):
            pass
        elif node is not None and node.badge not in (0, badge):
            wanted = Code.BADGE
        elif to not in self.model.creators:
            wanted = Code.NO_PROCESS
        elif not self.model.has_room(to):
            wanted = Code.QUOTA
        before = image(self.kernel)
        result = self.kernel.mint(holder, *handle, rights, badge, to)
        if self.expect(result, wanted, before):
            assert node is not None
            self.given(result, Node(to, node.endpoint, rights, badge, node))

    @rule(holder=st.integers(0, 99), wrong=st.booleans(), cap=st.integers(0, 99), to=st.integers(0, 99))
    def move(self, holder: int, wrong: bool, cap: int, to: int) -> None:
        handle, node = self.pick(cap)
        holder, to = self.holder(holder, node, wrong), self.process(to)
        wanted = self.refusal(holder, node, 0 if to == holder else GRANT)
        if wanted is None and to not in self.model.creators:
            wanted = Code.NO_PROCESS
        if wanted is None and to != holder and not self.model.has_room(to):
            wanted = Code.QUOTA
        before = image(self.kernel)
        result = self.kernel.move(holder, *handle, to)
        if self.expect(result, wanted, before):
            assert node is not None
            # The old handle is dead, so it stands for a capability that ended; children are under the new one.
            moved = Node(to, node.endpoint, node.rights, node.badge, node.parent)
            for child in self.model.children(node):
                child.parent = moved
            self.model.nodes.discard(node)
            node.alive = False
            self.given(handle.slot, moved)
            assert self.handles[-1][0].generation == result

    @rule(holder=st.integers(0, 99), wrong=st.booleans(), cap=st.integers(0, 99))
    def delete(self, holder: int, wrong: bool, cap: int) -> None:
        handle, node = self.pick(cap)
        holder = self.holder(holder, node, wrong)
        before = image(self.kernel)
        result = self.kernel.delete(holder, *handle)
        if self.expect(result, self.refusal(holder, node, 0), before):
            assert (self.kernel.died, self.kernel.died_generation) == handle
            assert run(self.kernel, self.kernel.reap_step) == 0
            assert node is not None
            node.alive = False
            self.model.tidy()

    @rule(holder=st.integers(0, 99), wrong=st.booleans(), cap=st.integers(0, 99))
    def revoke(self, holder: int, wrong: bool, cap: int) -> None:
        handle, node = self.pick(cap)
        holder = self.holder(holder, node, wrong)
        before = image(self.kernel)
        result = run(self.kernel, lambda: self.kernel.revoke_step(holder, *handle))
        if self.expect(result, self.refusal(holder, node, 0), before):
            assert node is not None
            for below in self.model.below(node):
                below.alive = False
                self.model.nodes.discard(below)

    @rule(endpoint=st.integers(-1, 20))
    def end_endpoint(self, endpoint: int) -> None:
        before = image(self.kernel)
        result = run(self.kernel, lambda: self.kernel.end_endpoint_step(endpoint))
        wanted = None if endpoint in self.model.servers else Code.NO_ENDPOINT
        if self.expect(result, wanted, before):
            self.model.end_endpoint(endpoint)

    @rule(process=st.integers(0, 99))
    def end_process(self, process: int) -> None:
        process = self.process(process)
        wanted = None
        if process == NODE:
            wanted = Code.INVALID
        elif process not in self.model.creators:
            wanted = Code.NO_PROCESS
        before = image(self.kernel)
        result = run(self.kernel, lambda: self.kernel.end_process_step(process))
        if self.expect(result, wanted, before):
            self.model.end_process(process)

    @invariant()
    def both_agree(self) -> None:
        check_invariants(self.kernel)
        assert self.kernel.cursor == self.kernel.cut == self.kernel.cut_root == 0
        assert set(self.kernel.endpoints.alive) == set(self.model.servers)
        assert set(self.kernel.processes.alive) == set(self.model.creators)
        for process in self.model.creators:
            assert self.kernel.processes.used[process] == self.model.used(process)
            assert self.kernel.processes.quota[process] == self.model.quotas[process]
            if process != NODE:
                assert self.kernel.processes.creator[process] == self.model.creators[process]
        for cap, node in self.handles:
            if not node.alive:
                assert self.kernel.check(node.holder, *cap, 0) == -Code.REVOKED
                continue
            assert node in self.model.nodes
            assert self.kernel.check(node.holder, *cap, node.rights) == 0
            assert self.kernel.slots.rights[cap.slot] == node.rights | LIVE
            assert self.kernel.slots.badge[cap.slot] == node.badge
            assert self.kernel.slots.endpoint[cap.slot] == node.endpoint
            for missing in (1 << n for n in range(6) if not node.rights >> n & 1):
                assert self.kernel.check(node.holder, *cap, missing) == -Code.RIGHTS


TestKernelAgainstModel = KernelAgainstModel.TestCase
TestKernelAgainstModel.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)

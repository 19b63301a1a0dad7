"""The kernel's capabilities, processes and endpoints: what must hold, by name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from proofs.small import image, sound

import cognu.kernel
from cognu.errors import E
from cognu.kernel import ALL_RIGHTS, CREATE, ERRORS, EXECUTE, GRANT, NODE, READ, SEND, WRITE, Cap, Code, Kernel
from cognu.kernel.state import LIVE
from kernel_world import World, run


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    sound(made.kernel)


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
    forbidden = (ast.For, ast.While, ast.comprehension, ast.Raise, ast.Try, ast.Assert)
    for name in ("lists", "queues", "tables", "messages"):
        source = Path(cognu.kernel.__file__).parent / f"{name}.py"
        assert not [node for node in ast.walk(ast.parse(source.read_text())) if isinstance(node, forbidden)]


def test_the_kernel_has_at_most_a_thousand_lines() -> None:
    files = Path(cognu.kernel.__file__).parent.glob("*.py")
    assert sum(len(file.read_text().splitlines()) for file in files) <= 1000


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


def test_a_process_does_not_end_while_another_loop_is_at_what_it_serves(world: World) -> None:
    kernel = world.kernel
    endpoint = kernel.create_endpoint(world.a)
    root = world.handle(kernel.endpoints.root[endpoint])
    world.mint(world.a, root, ALL_RIGHTS, world.b)
    world.mint(NODE, world.root, ALL_RIGHTS, world.b)
    assert kernel.revoke_step(world.a, *root) == 1
    assert kernel.end_process_step(world.a) == -Code.BUSY
    world.revoke(world.a, root)
    assert kernel.end_endpoint_step(world.endpoint) == 1
    assert kernel.end_process_step(world.a) == -Code.BUSY
    assert run(kernel, lambda: kernel.end_endpoint_step(world.endpoint)) == 0
    world.end_process(world.a)


def test_the_tables_stay_as_small_as_what_is_alive(world: World) -> None:
    kernel = world.kernel

    def size() -> int:
        parts = [part for part in vars(kernel).values() if not isinstance(part, int)]
        return sum(len(table) for part in parts for table in vars(part).values())

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

"""Authority: refusals are raised, loops run to their end, and what ran under a dead capability is cancelled once."""

from __future__ import annotations

from functools import partial

import pytest

from cognu.errors import LACKING, E, FileError
from cognu.files.authority import DEFAULT_QUOTA, Authority
from cognu.kernel import ALL_RIGHTS, CREATE, GRANT, NODE, READ, WRITE, Cap, Kernel


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
def root(authority: Authority) -> Cap:
    return authority.new_server()[1]


def refused(error: E, authority: Authority, method: str, *args: object) -> None:
    with pytest.raises(FileError) as caught:
        getattr(authority, method)(*args)
    assert caught.value.error is error


def test_a_process_may_do_what_it_was_given_and_no_more(authority: Authority, root: Cap) -> None:
    a, b = authority.new_process(NODE), authority.new_process(NODE)
    cap = authority.mint(NODE, root, READ, a)
    authority.check(a, cap, READ)
    authority.check(a, cap, 0)
    with pytest.raises(FileError) as caught:
        authority.check(a, cap, READ | WRITE | CREATE)
    assert caught.value.detail == LACKING + "w and c"  # it says what is missing, of what one has oneself
    with pytest.raises(FileError) as caught:
        authority.check(b, cap, READ | WRITE)
    assert caught.value.detail == ""
    assert authority.rights(a, cap) == READ
    refused(E.ACCES, authority, "check", a, cap, WRITE)
    refused(E.ACCES, authority, "check", b, cap, READ)
    refused(E.ACCES, authority, "mint", a, cap, WRITE, a)
    refused(E.ACCES, authority, "mint", a, cap, READ, b)
    refused(E.ACCES, authority, "rights", b, cap)
    refused(E.SRCH, authority, "mint", NODE, root, READ, 999)
    refused(E.INVAL, authority, "end_process", NODE)
    refused(E.SRCH, authority, "end_process", 999)
    refused(E.SRCH, authority, "new_process", 999)
    refused(E.SRCH, authority, "new_process", 999, 5)
    refused(E.NXIO, authority, "end_server", 999)


def test_a_badge_goes_on_to_children_by_itself(authority: Authority, root: Cap) -> None:
    a = authority.new_process(NODE)
    badged = authority.mint(NODE, root, ALL_RIGHTS, a, 7)
    assert authority.badge(a, authority.mint(a, badged, READ, a)) == 7
    assert authority.badge(NODE, root) == 0
    refused(E.PERM, authority, "mint", a, badged, READ, a, 8)


def test_revoking_tells_what_died_and_the_dead_are_revoked(authority: Authority, root: Cap) -> None:
    told: list[Cap] = []
    authority.on_death.append(told.append)
    a, b = authority.new_process(NODE), authority.new_process(NODE)
    one = authority.mint(NODE, root, READ | GRANT, a)
    two = authority.mint(a, one, READ, b)
    assert sorted(authority.revoke(NODE, root)) == sorted(told) == sorted([one, two])
    refused(E.REVOKED, authority, "check", a, one, READ)
    refused(E.REVOKED, authority, "check", b, two, READ)
    refused(E.REVOKED, authority, "revoke", a, one)
    refused(E.REVOKED, authority, "delete", a, one)
    refused(E.REVOKED, authority, "mint", a, one, READ, a)
    authority.check(NODE, root, READ)
    assert authority.revoke(NODE, root) == []


def test_ending_a_process_spares_what_it_handed_on(authority: Authority, root: Cap) -> None:
    a, b = authority.new_process(NODE), authority.new_process(NODE)
    one = authority.mint(NODE, root, READ | GRANT, a)
    two = authority.mint(a, one, READ, b)
    endpoint, served = authority.new_server(a)
    client = authority.mint(a, served, READ, b)
    assert sorted(authority.end_process(a)) == sorted([one, served, client])
    authority.check(b, two, READ)
    refused(E.NXIO, authority, "end_server", endpoint)
    assert authority.delete(b, two) == [two]


def test_moving_cancels_what_ran_under_the_old_handle(authority: Authority, root: Cap) -> None:
    a = authority.new_process(NODE)
    events: list[str] = []
    authority.begin(root, partial(events.append, "cancelled"))
    moved = authority.move(NODE, root, a)
    assert events == ["cancelled"]
    refused(E.REVOKED, authority, "check", NODE, root, 0)
    authority.check(a, moved, ALL_RIGHTS)


def test_ending_a_server_cancels_every_client(authority: Authority) -> None:
    endpoint, root = authority.new_server()
    events: list[int] = []
    for number in range(3):
        process = authority.new_process(NODE)
        authority.begin(authority.mint(NODE, root, READ, process), partial(events.append, number))
    assert len(authority.end_server(endpoint)) == 4
    assert sorted(events) == [0, 1, 2]


def test_running_operations_are_cancelled_exactly_once_and_finished_ones_never(authority: Authority, root: Cap) -> None:
    a = authority.new_process(NODE)
    cap, other = authority.mint(NODE, root, READ, a), authority.mint(NODE, root, READ, a)
    events: list[str] = []
    first = authority.begin(cap, partial(events.append, "first"))
    second = authority.begin(cap, partial(events.append, "second"))
    third = authority.begin(other, partial(events.append, "third"))
    authority.end(second)
    authority.end(second)
    authority.delete(a, cap)
    assert events == ["first"]
    authority.end(first)
    authority.revoke(NODE, root)
    assert events == ["first", "third"]
    authority.end(third)
    refused(E.REVOKED, authority, "begin", cap, events.clear)
    refused(E.REVOKED, authority, "begin", Cap(cap.slot, cap.generation + 1), events.clear)
    assert events == ["first", "third"]


def test_the_registered_go_without_a_trace_when_they_end(authority: Authority, root: Cap) -> None:
    for _ in range(10):
        authority.end(authority.begin(root, lambda: None))
    assert authority._running == {}
    assert authority._caps == {}


def test_a_cancel_may_end_others_begin_others_and_revoke_again(authority: Authority, root: Cap) -> None:
    a, b = authority.new_process(NODE), authority.new_process(NODE)
    one = authority.mint(NODE, root, ALL_RIGHTS, a)
    two = authority.mint(NODE, root, ALL_RIGHTS, b)
    safe = authority.new_server()[1]
    events: list[str] = []
    tokens: list[int] = []

    def first() -> None:
        events.append("first")
        authority.end(tokens[1])
        refused(E.REVOKED, authority, "begin", one, events.clear)
        assert authority.revoke(NODE, root) == []
        assert authority.end_process(b) == []
        assert authority.delete(NODE, safe) == [safe]

    tokens.append(authority.begin(one, first))
    tokens.append(authority.begin(one, partial(events.append, "ended by the first")))
    authority.begin(two, partial(events.append, "two"))
    authority.begin(safe, partial(events.append, "safe"))
    authority.revoke(NODE, root)
    assert sorted(events) == ["first", "safe", "two"]


def test_a_cancel_that_fails_keeps_no_other_from_its_turn(authority: Authority, root: Cap) -> None:
    a = authority.new_process(NODE)
    events: list[str] = []

    def fails() -> None:
        events.append("fails")
        raise ZeroDivisionError

    told: list[Cap] = []
    authority.on_death.append(told.append)
    caps = [authority.mint(NODE, root, READ, a) for _ in range(2)]
    for cap in caps:
        authority.begin(cap, fails)
        authority.begin(cap, partial(events.append, "works"))
    with pytest.raises(ExceptionGroup) as caught:
        authority.revoke(NODE, root)
    assert [type(error) for error in caught.value.exceptions] == [ZeroDivisionError] * 2
    assert sorted(events) == ["fails", "fails", "works", "works"]
    assert sorted(told) == sorted(caps)
    authority.check(NODE, root, READ)


def test_a_limit_binds_all_who_descend_from_it(authority: Authority, root: Cap) -> None:
    limited = authority.new_process(NODE, 8)
    inner = authority.new_process(limited)
    assert authority.kernel.processes.quota[inner] == 4
    innermost = authority.new_process(inner)
    refused(E.DQUOT, authority, "new_process", inner, 2)
    for _ in range(3):
        authority.mint(NODE, root, READ, limited)
    refused(E.DQUOT, authority, "mint", NODE, root, READ, limited)
    refused(E.DQUOT, authority, "new_server", limited)
    assert authority.kernel.processes.quota[innermost] == 2


def test_without_a_limit_a_long_line_of_processes_does_not_run_dry(authority: Authority) -> None:
    process = authority.new_process(NODE)
    for _ in range(200):
        child = authority.new_process(process)
        authority.end_process(process)
        process = child
    assert authority.kernel.processes.quota[process] == DEFAULT_QUOTA
    authority.end_process(process)
    assert authority.kernel.processes.used[NODE] == 0


def test_a_node_without_room_says_quota() -> None:
    authority = Authority(Kernel(3))
    refused(E.DQUOT, authority, "new_process", NODE)
    refused(E.DQUOT, authority, "new_process", NODE, 3)
    assert authority.new_process(NODE, 2) == 1


def test_a_deep_line_of_capabilities_is_revoked_in_one_call(authority: Authority, root: Cap) -> None:
    a = authority.new_process(NODE)
    cap = authority.mint(NODE, root, ALL_RIGHTS, a)
    for _ in range(5000):
        cap = authority.mint(a, cap, ALL_RIGHTS, a)
    assert len(authority.revoke(NODE, root)) == 5001
    refused(E.REVOKED, authority, "check", a, cap, 0)

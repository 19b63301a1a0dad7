"""The kernel beside its specification: all small states, one long history; and that the comparison can fail."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from proofs import small
from proofs.small import History, Pair, Small, Unsound, explore, sound

from cognu.kernel import ALL_RIGHTS, GRANT, NODE, SEND, Kernel


@pytest.mark.parametrize(
    ("make", "depth", "least"),
    [
        (small.small_capabilities, 3, 1000),
        (small.small_messages, 4, 1500),
        pytest.param(small.small_messages, 5, 5000, marks=pytest.mark.long),
        (small.small_interfaces, 4, 1800),
    ],
)
def test_every_short_history_of_a_small_world_is_as_specified(
    make: Callable[[], Small], depth: int, least: int
) -> None:
    assert explore(make(), depth) > least


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("make", "depth", "least"),
    [(small.small_capabilities, 4, 13000), (small.small_messages, 6, 15000), (small.small_interfaces, 5, 13000)],
)
def test_every_longer_history_of_a_small_world_is_as_specified(
    make: Callable[[], Small], depth: int, least: int
) -> None:
    assert explore(make(), depth) > least


@pytest.mark.parametrize("calls", [20_000, pytest.param(100_000, marks=pytest.mark.long)])
def test_very_many_calls_are_as_specified(calls: int) -> None:
    history = History(seed=1)
    history.run(calls)
    assert all(count > calls // 2000 for count in history.done.values()), history.done


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_many_histories_are_as_specified() -> None:
    for seed in range(2, 22):
        History(seed, quota=40 + 20 * seed).run(20_000)


def busy_kernel() -> Kernel:
    """Something in every table."""
    kernel = Kernel(100)
    server, client = kernel.create_process(NODE, 20), kernel.create_process(NODE, 20)
    for _ in range(2):
        endpoint = kernel.create_endpoint(server)
        root = kernel.endpoints.root[endpoint]
        cap = kernel.mint(server, root, 1, SEND | GRANT, 3, client)
        kernel.mint(server, root, 1, ALL_RIGHTS, 0, NODE)
        assert kernel.bind(client, cap, 1, endpoint) == 0
        messages = [kernel.emit_message(client, cap, 1, 1) for _ in range(3)]
        for message in messages:
            assert kernel.enclose(client, message, 0, cap, 1, SEND, 0) == 0
        assert kernel.receive(server, messages[0]) > 0
        assert kernel.enclose(server, messages[0], 1, root, 1, SEND, 0) == 0
    kernel.create_process(client, 1)
    spare = kernel.mint(NODE, kernel.mint(server, 1, 1, ALL_RIGHTS, 0, NODE), 1, SEND, 0, NODE)
    assert kernel.delete(NODE, spare, 1) == 0
    return kernel


def tables(kernel: Kernel) -> list[tuple[str, str]]:
    parts = {name: part for name, part in vars(kernel).items() if not isinstance(part, int)}
    return [(name, table) for name, part in parts.items() for table in vars(part)]


@pytest.mark.parametrize(("part", "table"), tables(Kernel()))
def test_a_change_of_any_number_in_use_is_noticed(part: str, table: str) -> None:
    kernel = busy_kernel()
    numbers = getattr(getattr(kernel, part), table)
    keys = [key for key in numbers if part != "slots" or kernel.slots.endpoint[key]]
    assert keys
    for key in keys:
        for change in (-numbers[key], -1, 1, 64):
            if not change:
                continue
            pair = Pair(busy_kernel())
            pair.agree()
            getattr(getattr(pair.kernel, part), table)[key] += change
            with pytest.raises(Unsound):
                pair.agree()


def test_a_wrong_result_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair(busy_kernel())
    monkeypatch.setattr(Kernel, "check", lambda *arguments: 0)
    with pytest.raises(Unsound, match="specified"):
        pair.run(("check", (99, 1, 1, 0)))


def test_a_name_used_again_is_noticed() -> None:
    pair = Pair(busy_kernel())
    assert pair.run(("create_endpoint", (NODE,))) == 3
    assert pair.run(("end_endpoint", (3,))) == 0
    pair.kernel.last_endpoint = 2
    with pytest.raises(Unsound, match="used again"):
        pair.run(("create_endpoint", (NODE,)))


def test_a_loop_that_does_not_end_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Kernel, "end_process_step", lambda *arguments: 1)
    with pytest.raises(Unsound, match="more steps"):
        Pair(busy_kernel()).run(("end_process", (1,)))


def test_a_death_that_is_not_told_is_noticed() -> None:
    pair = Pair(busy_kernel())
    end = pair.kernel.end_endpoint_step

    def quiet(endpoint: int) -> int:
        result = end(endpoint)
        pair.kernel.died = 0
        return result

    pair.kernel.__dict__["end_endpoint_step"] = quiet
    with pytest.raises(Unsound, match="told of"):
        pair.run(("end_endpoint", (1,)))


def test_a_step_that_lets_others_in_is_noticed() -> None:
    pair = Pair(busy_kernel())
    pair.kernel.__dict__["end_endpoint_step"] = lambda endpoint: 1
    with pytest.raises(Unsound, match="other calls"):
        pair.run(("end_endpoint", (1,)))


def test_a_call_let_in_between_two_steps_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Kernel, "take", lambda *arguments: 0)
    with pytest.raises(Unsound, match="between two steps"):
        Pair(busy_kernel()).run(("end_endpoint", (1,)))


def test_the_busy_kernel_is_sound_and_has_something_in_every_table() -> None:
    kernel = busy_kernel()
    sound(kernel)
    assert not [(part, table) for part, table in tables(kernel) if not getattr(getattr(kernel, part), table)]

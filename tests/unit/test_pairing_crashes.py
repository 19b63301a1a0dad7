"""Either machine is killed at each message of a pairing: what the other says, what both have kept, and pairing anew."""

from __future__ import annotations

import asyncio

import pytest

from cognu.errors import CognuError, E
from cognu.mesh import join as join_module
from cognu.mesh import pair as pair_module
from cognu.mesh.identity import Peer
from cognu.mesh.join_messages import Refusal, Step
from cognu.mesh.pinning import AGAIN
from cognu.world.timing import end_tasks
from pairing_memory import Box, Message, Wire

SAID: list[Message] = [
    ("desk", Step.CHALLENGE), ("pi", Step.PAIR), ("desk", Step.PAIRED), ("pi", Step.KEY),
    ("desk", Step.KEYED), ("pi", Step.JOIN), ("desk", Step.ACCEPT), ("pi", Step.CONFIRM), ("desk", Step.DONE),
]  # fmt: skip
"""A pairing, in order; desk shows the code."""
WHEN = ("before", "after", "received")
KEPT = {
    ("after", Step.CONFIRM): (True, False), ("before", Step.DONE): (True, False), ("after", Step.DONE): (True, True),
    ("received", Step.DONE): (True, False),
}  # fmt: skip
"""Whether desk, and pi, has kept the other then; else neither has."""


async def outcome(task: asyncio.Task[Peer], dead: bool, wire: Wire) -> Peer | CognuError | None:
    """What it came to; None for who is dead, or goes on showing its code."""
    if dead:
        await end_tasks(task)
        return None
    while wire.tasks:
        await asyncio.wait(wire.tasks | {task}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            break
    if not task.done():
        return None
    error = task.exception()
    assert error is None or isinstance(error, CognuError)
    return task.result() if error is None else error


async def broken_off(wire: Wire, desk: Box, pi: Box) -> tuple[Peer | CognuError | None, Peer | CognuError | None]:
    """A pairing in which somebody dies; what both say. Then who died is started again."""
    showing = desk.show("read:/a")
    await desk.user.sees.wait()
    assert desk.user.code is not None
    typing = pi.type(desk.user.code, desk.user.addresses)
    await wire.died.wait()
    # Who was killed does nothing any more, whatever of it is still waiting here.
    for task in list(wire.tasks) if desk.dead else []:
        await end_tasks(task)
    there = await outcome(typing, pi.dead, wire)
    here = await outcome(showing, desk.dead, wire)
    await end_tasks(showing, typing, *wire.tasks)
    wire.calm()
    await desk.inviter.close()
    for box in (desk, pi):
        if box.dead:
            box.start()
    return here, there


async def anew(desk: Box, pi: Box) -> None:
    """They pair once more, and each knows of the other what that one knows of it."""
    desk.start()  # its listener was closed for good
    both = bool(desk.book.all()) and bool(pi.book.all())
    showing = desk.show("run")
    await desk.user.sees.wait()
    assert desk.user.code is not None
    await pi.type(desk.user.code, desk.user.addresses)
    await showing
    [of_pi], [of_desk] = desk.book.all(), pi.book.all()
    assert (of_pi.granted, of_pi.received) == (of_desk.received, of_desk.granted)
    assert of_pi.granted == (("read:/a", "run") if both else ("run",))
    await desk.inviter.close()


def told_what_to_do(box: Box, said: Peer | CognuError | None, dead: bool) -> None:
    """Nobody who lives is left believing in a pairing that is none, or without a word."""
    if dead or isinstance(said, Peer):
        return
    if said is None:  # its code is still shown, and good
        assert [why for why, _ in box.user.tries] in ([Refusal.GIVEN_UP], [])
        return
    assert said.error in (E.NOTPAIRED, E.NOTRECOVERABLE), said
    if said.error is E.NOTRECOVERABLE:
        assert AGAIN in said.explain()
    else:
        assert E.NOTPAIRED.hint in said.explain()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (join_module, pair_module):
        monkeypatch.setattr(module, "ANSWER_SECONDS", 0.0)


@pytest.mark.parametrize("when", WHEN)
@pytest.mark.parametrize("message", SAID, ids=lambda message: message[1].name)
async def test_after_a_kill_at_any_message_both_agree_or_are_told_and_pairing_once_more_mends_it(
    message: Message, when: str
) -> None:
    wire = Wire(**{when: message})  # type: ignore[arg-type]
    desk, pi = Box("desk", wire), Box("pi", wire)
    sender = message[0]
    dies = sender if when != "received" else {"desk": "pi", "pi": "desk"}[sender]
    here, there = await broken_off(wire, desk, pi)
    kept = bool(desk.book.all()), bool(pi.book.all())
    assert kept == KEPT.get((when, message[1]), (False, False))
    told_what_to_do(desk, here, dies == "desk")
    told_what_to_do(pi, there, dies == "pi")
    if dies != "desk":
        assert isinstance(here, Peer) == kept[0]
    if dies != "pi":
        assert isinstance(there, Peer) == kept[1]
        if kept == (True, False):
            assert isinstance(there, CognuError)
            assert there.error is E.NOTRECOVERABLE
    await anew(desk, pi)


@pytest.mark.parametrize("dies", ["desk", "pi"])
async def test_after_a_kill_before_the_record_is_on_disk_the_other_is_told_and_pairing_once_more_mends_it(
    dies: str,
) -> None:
    wire = Wire(at_write=dies)
    desk, pi = Box("desk", wire), Box("pi", wire)
    here, there = await broken_off(wire, desk, pi)
    assert (bool(desk.book.all()), bool(pi.book.all())) == (dies == "pi", False)
    if dies == "desk":
        assert isinstance(there, CognuError)
        assert there.error is E.NOTRECOVERABLE
    else:
        assert isinstance(here, Peer)
    await anew(desk, pi)


async def test_without_a_kill_they_are_paired() -> None:
    wire = Wire()
    desk, pi = Box("desk", wire), Box("pi", wire)
    await anew(desk, pi)

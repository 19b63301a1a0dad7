"""`pair` as a node has it, and as its command tells it: what is refused at once, what is offered, what is in force."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cognu.cli import pairing as told
from cognu.cli.setting import Setting
from cognu.errors import CognuError, E, FileError
from cognu.mesh.codes import Code, parse_offer
from cognu.mesh.discovery import Finder
from cognu.mesh.identity import Peer
from cognu.mesh.pairing import Person, Proposal, Wish
from cognu.node.node import Node
from cognu.node.pairing import Pairing, Pairings
from cognu.shell.session import NodeSession

PI = Peer("f" * 52, "pi", "", granted=("net", "read:/gone"))
CODE = Code("2748319052")


class Shower:
    """Stands for an inviter that shows `CODE`, by which PI pairs at once."""

    number = "27"

    def __init__(self, addresses: tuple[str, ...]) -> None:
        self.addresses = addresses

    async def show_code(self, wish: Wish, person: Person, finder: Finder) -> Peer:
        person.shown(CODE, self.addresses)
        return PI


class Book:
    """Stands for a peer book."""

    def __init__(self, known: tuple[Peer, ...]) -> None:
        self.known = {peer.fingerprint: peer for peer in known}

    def all(self) -> list[Peer]:
        return list(self.known.values())

    def get(self, fingerprint: str) -> Peer | None:
        return self.known.get(fingerprint)

    def unique_name(self, wanted: str) -> str:
        return f"{wanted}-2" if any(peer.name == wanted for peer in self.known.values()) else wanted


def pairings(addresses: tuple[str, ...] = (), reachable: bool = True, known: tuple[Peer, ...] = ()) -> Pairings:
    async def in_force(peer: Peer) -> list[CognuError]:
        return [FileError(E.NOENT, "/gone")]

    node = SimpleNamespace(
        inviter=Shower(addresses), book=Book(known), put_in_force=in_force, reachable=lambda: reachable,
        world=SimpleNamespace(clock=SimpleNamespace(monotonic=lambda: 0)),
    )  # fmt: skip
    return Pairings(cast(Node, node), cast(Finder, None))


async def events(pairings: Pairings) -> list[dict[str, Any]]:
    """What `pair` without a code tells, up to the end."""
    verbs = pairings.verbs()
    number = (await verbs["pair"]({}))["pairing"]
    found: list[dict[str, Any]] = []
    while not found or found[-1]["event"] != "paired":
        found.append(await verbs["attend"]({"pairing": number}))
    return found


async def test_a_code_that_this_machine_shows_itself_is_refused_at_once() -> None:
    with pytest.raises(FileError) as caught:
        await pairings().verbs()["pair"]({"code": CODE.text})
    assert caught.value.error is E.NOTPAIRED
    assert "this machine itself shows the code that begins with 27" in caught.value.detail


async def test_what_was_granted_and_is_not_in_force_is_told() -> None:
    paired = (await events(pairings()))[-1]
    assert paired["not_in_force"] == [f"{FileError(E.NOENT, '/gone')}; {E.NOENT.hint}"]
    assert told._paired(paired)[-1] == f"not in force here: {paired['not_in_force'][0]}"


async def test_both_what_a_peer_may_do_now_and_what_it_may_no_longer_is_told() -> None:
    before = replace(PI, granted=("run",), received=("net",))
    paired = (await events(pairings(known=(before,))))[-1]
    assert (paired["ended_granted"], paired["ended_received"]) == (["run programs here"], ["use pi's network (/net)"])
    assert told._paired(paired)[1:5] == [
        "this machine may no longer use pi's network (/net)",
        "this machine may do nothing there",
        "pi may no longer run programs here",
        "pi may use this machine's network (/net)",
    ]


@pytest.mark.parametrize(
    ("known", "name", "said"),
    [
        ((), "pi", ()),
        ((PI,), "pi", ("  pi is a peer of this machine already",)),
        ((replace(PI, name="attic"),), "attic", ("  attic is a peer of this machine already",)),
        ((replace(PI, fingerprint="e" * 52),), "pi-2",
         ("  it calls itself pi, as a peer does that is another machine",)),
    ],
)  # fmt: skip
async def test_who_is_asked_sees_which_machine_asks(known: tuple[Peer, ...], name: str, said: tuple[str, ...]) -> None:
    node = SimpleNamespace(book=Book(known), world=SimpleNamespace(clock=SimpleNamespace(monotonic=lambda: 0)))
    pairing = Pairing(cast(Node, node))
    asking = asyncio.ensure_future(pairing.agrees(Proposal("pi", PI.fingerprint, "192.0.2.7:9", ("net",), (), ())))
    event = await pairing._events.get()
    lines = told._question(event)
    assert lines[0] == f"{name} (ffffffff, at 192.0.2.7:9) knows the code, and asks this of you:"
    assert lines[1:] == [*said, f"  {name} wants to use this machine's network (/net)"]
    pairing.answer(False)
    assert await asking is False


async def test_what_can_not_be_granted_is_named_with_what_came_of_it() -> None:
    async def check(text: str) -> None:
        raise FileError(E.NOENT, "/gone")

    node = SimpleNamespace(
        book=Book(()), exports=SimpleNamespace(check=check),
        world=SimpleNamespace(clock=SimpleNamespace(monotonic=lambda: 0)),
    )  # fmt: skip
    pairing = Pairing(cast(Node, node))
    asking = asyncio.ensure_future(pairing.agrees(Proposal("pi", PI.fingerprint, "a:9", ("read:/gone",), (), ())))
    await pairing._events.get()
    pairing.answer(True)
    with pytest.raises(FileError) as caught:
        await asking
    assert caught.value.error is E.NOENT
    assert str(caught.value) == "/gone: file does not exist: read:/gone can't be granted, so the two were not paired"


async def test_a_node_that_stops_says_so_to_who_waits() -> None:
    class Waits(Shower):
        number = "28"

        async def show_code(self, wish: Wish, person: Person, finder: Finder) -> Peer:
            await asyncio.Event().wait()
            return PI

    waiting = pairings()
    waiting._node.inviter = cast(Any, Waits(()))
    verbs = waiting.verbs()
    number = (await verbs["pair"]({}))["pairing"]
    attending = asyncio.ensure_future(verbs["attend"]({"pairing": number}))
    await waiting.close()
    with pytest.raises(FileError) as caught:
        await attending
    assert caught.value.detail == "the node is stopping"


async def test_addresses_that_no_other_machine_could_use_are_not_offered() -> None:
    talk = told._Talk(cast(Setting, None), cast(NodeSession, None), yes=False)
    [shown, _] = await events(pairings(("192.0.2.7:99", "127.0.0.1:99")))
    assert parse_offer(shown["text"]) == (CODE, ("192.0.2.7:99", "127.0.0.1:99"))
    assert talk._shown(shown)[-2] == "  cognu pair - 192.0.2.7:99"
    [shown, _] = await events(pairings(("127.0.0.1:99",), reachable=False))
    assert (shown["addresses"], shown["text"]) == ([], "")
    lines = talk._shown(shown)
    assert lines[0] == f"code: {CODE.text}"
    assert lines[-1] == told.NO_ADDRESS
    assert not [line for line in lines if "127.0.0.1" in line]


@pytest.mark.parametrize("terminal", [True, False])
def test_who_shows_another_code_is_said_at_a_terminal(
    terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    talk = told._Talk(cast(Setting, SimpleNamespace(json=False)), cast(NodeSession, None), yes=False)
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    talk._heard({"event": "heard", "name": "pi", "number": "82"})
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == ("pi shows one that begins with 82; looking on\n" if terminal else "")


@pytest.mark.parametrize(
    ("listen", "hosts", "local", "expected"),
    [
        ("0.0.0.0:0", (), ["127.0.0.1"], False),
        ("[::]:0", (), ["[::1]", "127.0.0.1"], False),
        ("0.0.0.0:0", (), ["[2001:db8::7]", "127.0.0.1"], False),
        ("*:0", (), ["[2001:db8::7]", "127.0.0.1"], True),
        ("*:0", (), ["127.0.0.1"], False),
        ("0.0.0.0:0", ("127.0.0.1",), [], True),
        ("127.0.0.1:0", (), [], True),
    ],
)
def test_a_loopback_address_is_for_others_only_if_somebody_said_so(
    listen: str, hosts: tuple[str, ...], local: list[str], expected: bool
) -> None:
    node = Node.__new__(Node)
    node.settings = cast(Any, SimpleNamespace(listen=listen, hosts=hosts))
    node.world = cast(Any, SimpleNamespace(network=SimpleNamespace(local_addresses=lambda: local)))
    assert node.reachable() is expected

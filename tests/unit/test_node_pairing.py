"""`pair` as a node has it, and as its command tells it: what is refused at once, what is offered, what is in force."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import click
import pytest

from cognu.cli import pairing as told
from cognu.cli.setting import Setting
from cognu.errors import CognuError, E, FileError
from cognu.mesh.codes import Code, parse_offer
from cognu.mesh.discovery import Finder
from cognu.mesh.identity import GRANT_LIMIT, Peer
from cognu.mesh.join_messages import Refusal
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

    async def sound(texts: tuple[str, ...], peer: str = "") -> None:
        pass

    node = SimpleNamespace(
        exports=SimpleNamespace(check=sound), inviter=Shower(addresses),
        book=Book(known), put_in_force=in_force, reachable=lambda: reachable,
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


async def test_more_asked_for_than_one_may_have_is_refused_before_a_code_is_shown() -> None:
    table = pairings()
    with pytest.raises(FileError) as caught:
        await table.verbs()["pair"]({"asks": [f"cmd:c{n}" for n in range(GRANT_LIMIT + 1)]})
    assert caught.value.error is E.GRANTSFULL
    assert not table._open


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
    async def check(texts: tuple[str, ...], peer: str) -> None:
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


@pytest.mark.parametrize(("knows", "beside"), [(True, "net:listen=80"), (False, ""), (True, "")])
async def test_what_contradicts_a_grant_is_said_with_the_question_and_pairs_nobody(knows: bool, beside: str) -> None:
    checked: list[tuple[tuple[str, ...], str]] = []

    async def check(texts: tuple[str, ...], peer: str) -> None:
        checked.append((texts, peer))
        if len(texts) > 1 and (peer or beside):
            raise FileError(E.CONFLICT, "net", "another is in force")

    known = replace(PI, granted=("net:listen",))
    node = SimpleNamespace(
        book=Book((known,)), exports=SimpleNamespace(check=check),
        world=SimpleNamespace(clock=SimpleNamespace(monotonic=lambda: 0)),
    )  # fmt: skip
    pairing = Pairing(cast(Node, node))
    grants = ("run", beside) if beside else ("run",)
    proposal = Proposal("pi", PI.fingerprint, "192.0.2.7:9", ("net",), grants, (), knows)
    asking = asyncio.ensure_future(pairing.agrees(proposal))
    lines = told._question(await pairing._events.get())
    held = beside or ("net:listen" if knows else "")
    said = [f"  net can't be granted: {held} is in force, which has the same place"] if held else []
    assert [line for line in lines if "can't be granted" in line] == said
    pairing.answer(True)
    if held:
        with pytest.raises(FileError) as caught:
            await asking
        assert caught.value.error is E.CONFLICT
        assert caught.value.detail == "another is in force; all of it can't be granted, so the two were not paired"
    else:
        assert await asking is True
    assert checked == [(("net",), ""), ((*grants, "net"), PI.fingerprint if knows else "")]


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
    talk = told._Talk(cast(Setting, None), cast(NodeSession, None), False, {})
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
    talk = told._Talk(cast(Setting, SimpleNamespace(json=False)), cast(NodeSession, None), False, {})
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    talk._tell_progress({"event": "heard", "name": "pi", "number": "82"})
    talk._tell_progress({"event": "waiting", "peer": "pi"})
    said = capsys.readouterr()
    assert said.out == ""
    heard = "pi shows one that begins with 82; looking on; if it is that one, type it again"
    lines = [heard, "waiting for the user of pi to agree"]
    assert said.err.splitlines() == (lines if terminal else [])


@pytest.mark.parametrize(
    ("came_to", "said"),
    [
        ({}, "; no other machine had begun it with this one"),
        ({"peer": "pi", "told": True}, ", and pi was told so"),
        ({"peer": "pi", "told": False}, "; pi could not be told, and finds this one gone"),
        ({"peer": "pi", "told": None}, " while pi confirmed it, which may have kept this machine: "),
    ],
)
def test_who_gives_up_is_told_what_was_done_about_it(
    came_to: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(setting: Setting, arguments: dict[str, Any], yes: bool, end: dict[str, Any]) -> None:
        end.update(came_to)
        raise KeyboardInterrupt

    monkeypatch.setattr(told, "_talk_once", interrupted)
    with pytest.raises(click.Abort):
        told._talk(Setting("/home", False), {}, False)
    assert capsys.readouterr().err.startswith(f"cognu: pairing was given up{said}")


def test_who_gives_up_too_late_is_told_what_came_of_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    paired = asyncio.run(events(pairings()))[-1]

    def interrupted(setting: Setting, arguments: dict[str, Any], yes: bool, end: dict[str, Any]) -> None:
        end.update(paired)
        raise KeyboardInterrupt

    monkeypatch.setattr(told, "_talk_once", interrupted)
    with pytest.raises(click.Abort):
        told._talk(Setting("/home", False), {}, False)
    shown = capsys.readouterr()
    assert shown.out.startswith(f"paired with pi ({PI.fingerprint})\n")
    assert "too late to give it up" in shown.err


async def test_giving_up_says_whom_it_was_begun_with_and_whether_that_one_was_told() -> None:
    class Waits(Shower):
        number = "28"

        async def show_code(self, wish: Wish, person: Person, finder: Finder) -> Peer:
            try:
                person.shown(CODE, ())
                await asyncio.Event().wait()
            finally:
                person.left("pi", True)
            return PI

    waiting = pairings()
    waiting._node.inviter = cast(Any, Waits(()))
    verbs = waiting.verbs()
    number = (await verbs["pair"]({}))["pairing"]
    assert (await verbs["attend"]({"pairing": number}))["event"] == "code"
    assert await verbs["forgo"]({"pairing": number}) == {"peer": "pi", "told": True}
    assert await verbs["forgo"]({"pairing": number}) == {}


class Prompted:
    """A user at a terminal who types these codes, and a machine that takes the last."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *typed: str) -> None:
        self.typed = list(typed)
        self.tried: list[str] = []
        self.left = 2
        monkeypatch.setattr(told, "_talk_once", self.talk)
        monkeypatch.setattr(click, "prompt", lambda *_, **__: self.typed.pop(0))

    def talk(self, setting: Setting, arguments: dict[str, Any], yes: bool, end: dict[str, Any]) -> str:
        assert (arguments["addresses"], arguments["asks"]) == (["192.0.2.7:9"], ["net"])
        self.tried.append(arguments["code"])
        if arguments["code"] != CODE.digits:
            error = Refusal.CODE.error(self.left) if self.left else Refusal.CODE_SPENT.error()
            self.left -= 1
            raise error
        return ""


def test_a_wrong_code_is_asked_for_again_at_a_terminal_with_the_attempts_that_are_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    begun = {"addresses": ["192.0.2.7:9"], "asks": ["net"], "code": "2748319053"}
    user = Prompted(monkeypatch, "2748", "27-4831-9054", CODE.text)
    told._talk(Setting("/home", False), begun, False)
    assert user.tried == ["2748319053", "2748319054", CODE.digits]
    assert capsys.readouterr().err.splitlines() == [
        "cognu: the code is wrong; 2 attempts are left; type it again, or Ctrl-C",
        "cognu: a code is 10 digits, as in 27-4831-9052; type it again, or Ctrl-C",
        "cognu: the code is wrong; 1 attempt is left; type it again, or Ctrl-C",
    ]
    # None is left: it is over.
    user = Prompted(monkeypatch, "27-4831-9054", "27-4831-9054")
    with pytest.raises(FileError) as caught:
        told._talk(Setting("/home", False), begun, False)
    assert (caught.value.error, len(user.tried)) == (E.NOTPAIRED, 3)


def test_what_is_no_code_is_asked_for_again_at_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = ["27-4831-905x", "", CODE.text]
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr(click, "prompt", lambda *_, **__: typed.pop(0))
    assert told._typed("-", None) == {"code": CODE.digits, "addresses": []}
    again = "cognu: a code is 10 digits, as in 27-4831-9052; type it again, or Ctrl-C"
    assert capsys.readouterr().err.splitlines() == [again] * 2


NOWHERE = FileError(E.WRONGCODE, "pair", "no machine near here shows it, pi shows one that begins with 82")
HEARD = {"event": "heard", "name": "pi", "number": "82"}


class Told:
    """A node that tells these events, and what it was asked; after the last nothing more happens."""

    def __init__(self, *events: dict[str, Any] | FileError) -> None:
        self.events = list(events)
        self.asked: list[str] = []
        self.out = asyncio.Event()

    async def rpc(self, verb: str, **_: object) -> dict[str, Any]:
        self.asked.append(verb)
        if verb != "attend":
            return {"pairing": 1}
        await asyncio.sleep(0)
        if not self.events:
            self.out.set()
            await asyncio.Event().wait()
        event = self.events.pop(0)
        if isinstance(event, FileError):
            self.out.set()
            raise event
        return event


@pytest.mark.parametrize("events", [(HEARD,), (HEARD, HEARD), (HEARD, NOWHERE)])
async def test_while_other_codes_are_shown_a_terminal_asks_at_once_for_what_may_be_mistyped(
    events: tuple[dict[str, Any] | FileError, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    node, typed = Told(*events), ["8248", "82-4831-9052"]

    async def line(terminal: int, ask: Callable[[], object]) -> str:
        ask()
        await node.out.wait()
        return typed.pop(0)

    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True, fileno=lambda: 0))
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr(told, "fresh_line", line)
    talk = told._Talk(Setting("/home", False), cast(NodeSession, node), False, {})
    assert await talk.run({"code": CODE.digits}) == "8248319052"
    assert node.asked[-1] == "forgo"
    said = capsys.readouterr().err
    assert said.count("type it again") == events.count(HEARD) + 1
    assert said.endswith("code: \n")


@pytest.mark.parametrize("empty", [True, False])
async def test_a_machine_that_is_found_after_all_ends_the_question(
    empty: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And an empty line leaves it at the code that was typed first."""
    node, left = Told(HEARD, {"event": "waiting", "peer": "pi"}, NOWHERE), []

    async def line(terminal: int, ask: Callable[[], object]) -> str:
        if empty:
            return ""
        try:
            await asyncio.Event().wait()
        finally:
            left.append(terminal)
        raise AssertionError

    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True, fileno=lambda: 0))
    monkeypatch.setattr(told, "fresh_line", line)
    talk = told._Talk(Setting("/home", False), cast(NodeSession, node), False, {})
    with pytest.raises(FileError) as caught:
        await talk.run({"code": CODE.digits})
    assert caught.value is NOWHERE
    assert left == ([] if empty else [0])
    assert talk._anew is None


@pytest.mark.parametrize(("terminal", "as_json"), [(False, False), (True, True)])
def test_where_nobody_can_type_it_again_a_wrong_code_ends_the_command(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, as_json: bool
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: terminal)
    user = Prompted(monkeypatch)
    with pytest.raises(FileError) as caught:
        told._talk(
            Setting("/home", as_json), {"addresses": ["192.0.2.7:9"], "asks": ["net"], "code": "2748319053"}, False
        )
    assert (caught.value.error, len(user.tried)) == (E.WRONGCODE, 1)


@pytest.mark.parametrize(
    ("listen", "hosts", "local", "expected"),
    [
        ("0.0.0.0:0", (), ["127.0.0.1"], False),
        ("[::]:0", (), ["[::1]", "127.0.0.1"], False),
        ("0.0.0.0:0", (), ["[2001:db8::7]", "127.0.0.1"], False),
        ("*:0", (), ["[2001:db8::7]", "127.0.0.1"], True),
        ("*:0", (), ["192.0.2.7", "127.0.0.1"], True),
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
    assert expected is False or "127.0.0.1" not in node.hosts() or "127.0.0.1" in (*hosts, listen.partition(":")[0])

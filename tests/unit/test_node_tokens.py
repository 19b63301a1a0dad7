"""The export table: who may redeem what, when, and what of it is left."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cognu.errors import E, FileError
from cognu.files.authority import Authority
from cognu.files.chan import Chan, Domain
from cognu.files.launch import TOKEN_LABEL, told
from cognu.files.mounts import ChanMover
from cognu.files.nscommands import apply
from cognu.files.server import HandOn
from cognu.files.steps import finish
from cognu.kernel import CREATE, EXECUTE, GRANT, READ, WRITE, Cap
from cognu.node.tokens import MOST, MOST_OF_ONE, MOST_OF_OTHERS, MOST_USES, SECOND, Handed, Tokens
from cognu.world.real import RealRandom
from joined import local_process, tree
from script import attach_root

PEERS = ("pi", "desk", "sea")
FILES = READ | WRITE | EXECUTE | CREATE


class HandClock:
    """Goes on when it is told to."""

    def __init__(self) -> None:
        self.at = 0

    def now(self) -> int:
        raise AssertionError("a clock that may be set back is none for this")

    def monotonic(self) -> int:
        return self.at

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing here waits")


@dataclass
class Small:
    """A world of chance and a clock."""

    clock: HandClock = field(default_factory=HandClock)
    random: RealRandom = field(default_factory=RealRandom)


class Bench:
    def __init__(self) -> None:
        self.world = Small()
        self.authority = Authority()
        self.tokens = Tokens(self.world, self.authority)
        self.holder = Domain(self.authority)
        self.server = tree()
        self.whole = attach_root(self.authority, Domain(self.authority), self.server, "/")

    def chan(self, rights: int = FILES | GRANT) -> Chan:
        """The tree as somebody holds it, with what it was minted from beside."""
        domain = Domain(self.authority)
        chan = ChanMover(domain, rights).move(self.whole)
        domain.release()
        return chan

    def make(self, rights: int = READ, uses: int = 1, seconds: int = 60, peer: str = "pi", by: str = "") -> str:
        return self.tokens.make(self.holder, self.whole, HandOn(rights, uses, seconds, peer), by)[0].text

    def redeem(self, token: str, peer: str = "pi") -> Handed:
        return self.tokens.redeem(TOKEN_LABEL + token, peer)

    def refused(self, token: str, peer: str = "pi") -> str:
        with pytest.raises(FileError) as caught:
            self.redeem(token, peer)
        assert caught.value.error is E.NOATTACH
        return str(caught.value)


def test_a_token_has_enough_chance_and_is_kept_as_a_hash_only() -> None:
    at = Bench()
    token = at.make()
    assert len(token) == 32  # 160 bits, five to a letter
    assert token != at.make()
    assert token not in repr(vars(at.tokens)) + "".join(repr(vars(handed)) for handed in at.tokens.all())


def test_every_refusal_has_the_same_words() -> None:
    at = Bench()
    gone, expired, used, revoked, other = (at.make(seconds=1 if index == 1 else 60) for index in range(5))
    at.world.clock.at += SECOND
    at.redeem(used)
    at.tokens.revoke("pi", 4)
    said = {
        at.refused(gone[:-1]),
        at.refused(expired),
        at.refused(used),
        at.refused(revoked),
        at.refused(other, "desk"),
    }
    assert len(said | {at.refused(""), at.refused("a" * 40_000), at.refused("\udcff")}) == 1


def test_its_rights_are_those_it_was_made_with_and_the_table_holds_no_more() -> None:
    at = Bench()
    chan = at.chan(READ | EXECUTE | GRANT)
    with pytest.raises(FileError) as caught:
        at.tokens.make(at.holder, chan, HandOn(READ | WRITE, 1, 60, "pi"))
    assert (caught.value.error, caught.value.detail[-1]) == (E.ACCES, "w")
    at.tokens.make(at.holder, chan, HandOn(READ, 1, 60, "pi"))
    (handed,) = at.tokens.all()
    assert at.authority.rights(handed.chan.domain.pid, handed.chan.cap) == READ | GRANT
    without = at.chan(READ)
    with pytest.raises(FileError) as caught:
        at.tokens.make(at.holder, without, HandOn(READ, 1, 60, "pi"))
    assert (caught.value.error, caught.value.detail[-1]) == (E.ACCES, "G")


@pytest.mark.parametrize(("uses", "seconds"), [(0, 60), (MOST_USES + 1, 60), (1, 0), (-1, 60), (1, -1)])
def test_uses_and_seconds_have_bounds(uses: int, seconds: int) -> None:
    at = Bench()
    with pytest.raises(FileError) as caught:
        at.make(uses=uses, seconds=seconds)
    assert caught.value.error is E.INVAL
    assert at.tokens.all() == []


def test_a_lifetime_is_cut_to_a_day() -> None:
    at = Bench()
    token, _ = at.tokens.make(at.holder, at.whole, HandOn(READ, 1, 1 << 32, "pi"))
    assert token.seconds == 86_400


def test_the_number_is_bounded_for_one_that_asks_and_in_all_and_what_expires_makes_room() -> None:
    at = Bench()
    for _ in range(MOST_OF_ONE):
        at.make(by="desk")
    with pytest.raises(FileError) as caught:
        at.make(by="desk")
    assert caught.value.error is E.DQUOT
    for _ in range(MOST - MOST_OF_ONE):
        at.make()
    with pytest.raises(FileError) as caught:
        at.make()
    assert caught.value.error is E.DQUOT
    at.world.clock.at += 60 * SECOND
    at.make(by="desk")
    assert len(at.tokens.all()) == 1


def test_other_machines_leave_room_for_what_this_nodes_user_makes() -> None:
    at = Bench()
    for number in range(MOST_OF_OTHERS):
        at.make(by=f"peer {number % 4}")
    with pytest.raises(FileError) as caught:
        at.make(by="peer 9")
    assert caught.value.error is E.DQUOT
    for _ in range(MOST - MOST_OF_OTHERS):
        at.make()
    with pytest.raises(FileError) as caught:
        at.make()
    assert caught.value.error is E.DQUOT
    assert len(at.tokens.all()) == MOST


def test_nothing_is_left_of_a_token_that_is_over() -> None:
    at = Bench()
    before = at.authority.kernel.processes.used[0]
    handle = at.whole.handle
    for _ in range(3):
        at.make(seconds=1)
    assert handle.uses == 4
    at.world.clock.at += SECOND
    assert at.tokens.all() == []
    assert handle.uses == 1
    at.redeem(at.make())
    at.tokens.close()
    assert handle.uses == 1
    assert at.authority.kernel.processes.used[0] == before


def test_what_it_came_from_ends_it() -> None:
    at = Bench()
    chan = at.chan()
    at.tokens.make(at.holder, chan, HandOn(READ, 1, 60, "pi"))
    slots = at.authority.kernel.slots
    parent = slots.parent[chan.cap.slot]
    chan.close()  # whoever asked is gone: the token stays
    assert len(at.tokens.all()) == 1
    at.authority.revoke(at.whole.domain.pid, at.whole.cap)
    assert at.tokens.all() == []
    assert parent == at.whole.cap.slot


def test_an_attach_name_with_a_token_is_told_without_it() -> None:
    assert told("tree:x") == "tree:x"
    assert told(TOKEN_LABEL + "secret") == told(TOKEN_LABEL + "secret") != told(TOKEN_LABEL + "other")
    assert "secret" not in told(TOKEN_LABEL + "secret\udcff")


# -- a model ----------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Model:
    """One token as it should be."""

    text: str
    number: int
    peer: str
    rights: int
    left: int
    until: int
    alive: bool = True
    users: list[tuple[Handed, Chan]] = field(default_factory=list)


class Machine(RuleBasedStateMachine):
    """Any order of making, redeeming, leaving, waiting, revoking; the model knows who may redeem what, when."""

    def __init__(self) -> None:
        super().__init__()
        self.at = Bench()
        self.made: list[Model] = []

    @rule(peer=st.sampled_from(PEERS), rights=st.integers(1, 15), uses=st.integers(1, 3), seconds=st.integers(1, 9))
    def make(self, peer: str, rights: int, uses: int, seconds: int) -> None:
        what = HandOn(sum(bit for index, bit in enumerate((READ, WRITE, EXECUTE, CREATE)) if rights >> index & 1), uses,
                      seconds, peer)  # fmt: skip
        token, number = self.at.tokens.make(self.at.holder, self.at.whole, what)
        until = self.at.world.clock.at + seconds * SECOND
        self.made.append(Model(token.text, number, peer, what.rights, uses, until))

    @precondition(lambda self: self.made)
    @rule(index=st.integers(0, 99), peer=st.sampled_from(PEERS))
    def redeem(self, index: int, peer: str) -> None:
        model = self.made[index % len(self.made)]
        may = model.alive and model.left > 0 and model.peer == peer and self.at.world.clock.at < model.until
        if not may:
            self.at.refused(model.text, peer)
            return
        handed = self.at.redeem(model.text, peer)
        model.left -= 1
        domain = Domain(self.at.authority)
        chan = ChanMover(domain, handed.rights).move(handed.chan)
        domain.release()
        model.users.append((handed, chan))

    @precondition(lambda self: any(model.users for model in self.made))
    @rule(index=st.integers(0, 99))
    def leave(self, index: int) -> None:
        using = [model for model in self.made if model.users]
        handed, chan = using[index % len(using)].users.pop()
        chan.close()
        self.at.tokens.leave(handed)

    @rule(seconds=st.integers(1, 4))
    def wait(self, seconds: int) -> None:
        self.at.world.clock.at += seconds * SECOND

    @precondition(lambda self: self.made)
    @rule(index=st.integers(0, 99), peer=st.sampled_from(PEERS))
    def revoke(self, index: int, peer: str) -> None:
        model = self.made[index % len(self.made)]
        listed = {handed.number for handed in self.at.tokens.all()}
        if peer == model.peer and model.number in listed:
            self.at.tokens.revoke(peer, model.number)
            model.alive = False
        else:
            with pytest.raises(FileError):
                self.at.tokens.revoke(peer, model.number)

    @rule()
    def lose_the_source(self) -> None:
        self.at.authority.revoke(self.at.whole.domain.pid, self.at.whole.cap)
        for model in self.made:
            model.alive = False

    @invariant()
    def what_was_redeemed_works_as_long_as_it_was_not_taken_back(self) -> None:
        for model in self.made:
            for _, chan in model.users:
                check = self.at.authority.kernel.check(chan.domain.pid, *chan.cap, model.rights)
                assert (check == 0) == model.alive
                assert self.at.authority.kernel.check(chan.domain.pid, *chan.cap, GRANT)

    @invariant()
    def what_is_listed_may_be_redeemed_or_is_in_use(self) -> None:
        now = self.at.world.clock.at
        due = {m.number for m in self.made if m.alive and (m.users or (m.left and now < m.until))}
        assert {handed.number for handed in self.at.tokens.all()} == due

    def teardown(self) -> None:
        for model in self.made:
            for handed, chan in model.users:
                chan.close()
                self.at.tokens.leave(handed)
        with suppress(FileError):
            self.at.tokens.close()
        assert self.at.whole.handle.uses == 1


Machine.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestTokens = Machine.TestCase


def test_a_dead_capability_of_another_is_no_tokens() -> None:
    at = Bench()
    at.make()
    for tell in at.authority.on_death:
        tell(Cap(9_999, 1))
    assert len(at.tokens.all()) == 1


async def test_a_refused_mount_is_told_without_the_token() -> None:
    process = local_process(tree())

    class Nobody:
        async def mount_service(self, chan: Chan, aname: str) -> Chan:
            raise FileError(E.NOATTACH, told(aname))

    for service in ("/none", "/f"):
        with pytest.raises(FileError) as caught:
            await finish(apply(process, f"mount {service} /d {TOKEN_LABEL}secret\n", Nobody()))
        assert "secret" not in str(caught.value)
        assert told(f"{TOKEN_LABEL}secret") in str(caught.value)

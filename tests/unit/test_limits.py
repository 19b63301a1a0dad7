"""Quotas as a tree: what is taken counts in all above, refusals name whose limit it is, everything is given back."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from cognu.errors import E, FileError
from cognu.files.limits import MAX_WEIGHT, PEER_LIMITS, PEER_SHARE, Account, Quota, Resource

DISK, CPU, MEMORY = Resource.DISK, Resource.CPU, Resource.MEMORY


def test_a_limit_binds_a_process_and_all_below_it_together() -> None:
    top = Quota(name="top")
    middle = Quota(top, "middle", {DISK: 100})
    one, two = Quota(middle, "one"), Quota(middle, "two", {DISK: 80})
    one.take(DISK, 50)
    assert (two.bound(DISK), two.room(DISK), one.bound(DISK), one.limit(DISK)) == (80, 50, 100, None)
    with pytest.raises(FileError) as caught:
        two.take(DISK, 51)
    assert caught.value.error is E.DQUOT
    assert str(caught.value) == "disk: quota exceeded: the limit of middle is 100, in use are 50"
    two.take(DISK, 50)
    assert [quota.used(DISK) for quota in (top, middle, one, two)] == [100, 100, 50, 50]
    one.give(DISK, 50)
    with pytest.raises(FileError) as caught:
        two.take(DISK, 31)
    assert "the limit of two is 80" in caught.value.detail
    two.give(DISK, 50)
    assert [quota.used(DISK) for quota in (top, middle, one, two)] == [0] * 4
    assert top.room(DISK) is None
    assert top.bound(DISK) is None


def test_a_limit_is_only_lowered_and_may_go_below_what_is_used() -> None:
    top = Quota(name="top", limits={DISK: 100})
    below = Quota(top, "below")
    below.take(DISK, 60)
    with pytest.raises(FileError) as caught:
        below.lower(DISK, 101)
    assert caught.value.error is E.PERM
    below.lower(DISK, 100)
    below.lower(DISK, 10)
    assert (below.room(DISK), below.limit(DISK)) == (0, 10)
    exceeded = below.exceeded(DISK)
    assert exceeded is not None
    assert "the limit of below is 10, in use are 60" in exceeded.detail
    assert top.exceeded(DISK) is None
    with pytest.raises(FileError):
        below.lower(DISK, 11)


def test_a_program_that_goes_beyond_ends_for_the_reason_and_gives_all_back() -> None:
    top = Quota(name="top", limits={MEMORY: 1000, CPU: 500})
    first, second = Account(Quota(top, "a"), 400), Account(Quota(top, "b"), 400)
    with pytest.raises(FileError) as caught:
        Account(Quota(top, "c"), 400)
    assert caught.value.error is E.DQUOT
    assert first.charge(100, 600) is None
    assert (first.left, second.left) == (400, 400)
    over = second.charge(100, 401)
    assert over is not None
    assert (over.error, over.subject) == (E.DQUOT, "memory")
    second.end()
    second.end()
    assert top.used(MEMORY) == 600
    assert first.charge(299, 600) is None
    assert first.charge(1, 600) is None
    over = first.charge(1, 100)
    assert over is not None
    assert over.error is E.CPULIMIT
    assert "the limit of top is 5e-07 s" in over.detail
    first.end()
    assert (top.used(MEMORY), top.used(CPU)) == (0, 501)


def test_a_share_is_divided_among_the_programs_below_it() -> None:
    top = Quota(name="top")
    peer = Quota(top, "peer", PEER_LIMITS)
    peer.set_share(PEER_SHARE)
    mine = Account(Quota(top, "mine"), 0)
    one = Account(Quota(peer, "one"), 0)
    assert (mine.weight, one.weight) == (100_000, 50_000)
    two = Account(Quota(peer, "two"), 0, 300)
    assert (one.weight, two.weight) == (12_500, 37_500)
    inner = Quota(peer, "inner")
    inner.set_share(100)
    three, four = Account(Quota(inner, "three"), 0), Account(Quota(Quota(inner, ""), "four"), 0, 900)
    assert (one.weight, two.weight, three.weight, four.weight) == (10_000, 30_000, 1_000, 9_000)
    two.set_weight(100)
    assert (one.weight, two.weight) == (50_000 // 3, 50_000 // 3)
    for account in (two, three, four):
        account.end()
    assert one.weight == 50_000
    one.end()
    assert (peer._load, inner._load) == (0, 0)
    one.set_weight(7)
    assert peer._load == 0
    for share in (0, MAX_WEIGHT + 1):
        with pytest.raises(FileError) as caught:
            Quota().set_share(share)
        assert caught.value.error is E.INVAL


class Tree(RuleBasedStateMachine):
    """Against the plain definition: what is used of a quota is the sum of what is taken there and below."""

    quotas = Bundle("quotas")
    taken = Bundle("taken")
    accounts = Bundle("accounts")

    def __init__(self) -> None:
        super().__init__()
        self.all: list[Quota] = []
        self.takes: list[tuple[Quota, int]] = []
        self.running: list[Account] = []

    @initialize(target=quotas)
    def root(self) -> Quota:
        self.all.append(Quota(name="root"))
        return self.all[0]

    @rule(target=quotas, parent=quotas, limit=st.none() | st.integers(0, 100), share=st.none() | st.integers(1, 1000))
    def grow(self, parent: Quota, limit: int | None, share: int | None) -> Quota:
        made = Quota(parent, f"q{len(self.all)}", {} if limit is None else {DISK: limit})
        if share is not None:
            made.set_share(share)
        self.all.append(made)
        return made

    @rule(target=taken, quota=quotas, count=st.integers(0, 60))
    def take(self, quota: Quota, count: int) -> tuple[Quota, int]:
        room = quota.room(DISK)
        try:
            quota.take(DISK, count)
        except FileError:
            assert room is not None
            assert count > room
            count = 0
        else:
            assert room is None or count <= room
        self.takes.append((quota, count))
        return quota, count

    @rule(what=consumes(taken))
    def give(self, what: tuple[Quota, int]) -> None:
        self.takes.remove(what)
        what[0].give(DISK, what[1])

    @rule(target=accounts, quota=quotas, weight=st.integers(1, 1000))
    def run(self, quota: Quota, weight: int) -> Account:
        self.running.append(Account(quota, 5, weight))
        return self.running[-1]

    @rule(account=accounts, weight=st.integers(1, 1000))
    def weigh(self, account: Account, weight: int) -> None:
        account.set_weight(weight)

    @rule(account=consumes(accounts))
    def end(self, account: Account) -> None:
        account.end()
        self.running.remove(account)

    @invariant()
    def sums_agree(self) -> None:
        for quota in self.all:
            below = {id(other) for other in self.all if quota in list(other._up())}
            assert quota.used(DISK) == sum(count for where, count in self.takes if id(where) in below)
            mine = [account for account in self.running if id(account._quota) in below]
            assert quota.used(MEMORY) == 5 * len(mine)
            if quota.share is not None:
                assert (quota._load == 0) == (not mine)
                whole = sum(account.weight for account in mine)
                alone = not any(at.share for at in list(quota._up())[1:])
                assert not mine or not alone or whole <= quota.share * 1000 + len(mine)


TestTree = Tree.TestCase
TestTree.settings = settings(deadline=None, max_examples=60, stateful_step_count=30)


@given(st.sampled_from(list(Resource)), st.integers(0, 10), st.integers(0, 10))
def test_taking_none_is_allowed_even_where_nothing_is(resource: Resource, limit: int, count: int) -> None:
    quota = Quota(None, "q", {resource: limit})
    if count > limit:
        with pytest.raises(FileError):
            quota.take(resource, count)
        count = 0
    else:
        quota.take(resource, count)
    assert quota.used(resource) == count

"""A chan remembers what the kernel said of its capability; nothing that happens since makes more of that.

Whatever is minted, moved, given up, revoked and made anew in the same slots: a call through a chan, whether it is an
old one, one made from it or one that nobody used yet, goes through just when the kernel, asked there and then, says so.
"""

from __future__ import annotations

from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognu.errors import E, FileError
from cognu.files.authority import Authority
from cognu.files.chan import Chan, Domain, Handle, Origin, Path
from cognu.files.dispatch import dispatch
from cognu.files.server import Fid, FileServer
from cognu.files.steps import start
from cognu.kernel import ALL_RIGHTS, CREATE, EXECUTE, NODE, READ, WRITE, Cap, Code
from cognu.ninep.types import QTDIR, Qid

ASKED = (0, READ, WRITE, READ | WRITE, EXECUTE, CREATE | WRITE, ALL_RIGHTS)


class Somewhere(Fid):
    def __init__(self) -> None:
        self.qid = Qid(QTDIR, 0, 1)


def refused(chan: Chan, rights: int) -> E | None:
    """With what a call through dispatch is refused, which is then not made; None if it is made."""
    called: list[int] = []
    error: E | None = None
    try:
        assert start(dispatch(chan, rights, called.append, 1)) is None
    except FileError as failure:
        error = failure.error
    assert called == ([1] if error is None else [])
    return error


class Still(FileServer):
    """Nothing of it is called but this."""

    def clunk(self, fid: Fid) -> None:
        pass


class Space:
    """A few domains with capabilities to one server, and chans under them."""

    REFUSALS: ClassVar = {Code.REVOKED: E.REVOKED, Code.RIGHTS: E.ACCES, Code.NOT_HOLDER: E.ACCES}

    def __init__(self) -> None:
        self.authority = Authority()
        self.server = Still()
        self.domains = [Domain(self.authority) for _ in range(2)]
        self.root = self.authority.new_server()[1]
        self.held: list[tuple[int, Cap]] = [(NODE, self.root)]
        self.chans: list[Chan] = []
        for domain in self.domains:
            self.held.append((domain.pid, self.authority.mint(NODE, self.root, ALL_RIGHTS, domain.pid)))
            self.open(len(self.held) - 1)

    def close(self) -> None:
        for chan in self.chans:
            chan.close()
        for domain in self.domains:
            domain.release()

    def open(self, which: int) -> None:
        pid, cap = self.held[which % len(self.held)]
        for domain in self.domains:
            if domain.pid == pid:
                handle = Handle(self.server, Somewhere())
                self.chans.append(Chan(handle, domain, cap, Path(None, "/"), Origin("#r", ())))

    def carry_out(self, what: str, which: int, rights: int) -> None:
        """One change; one that the kernel refuses is none."""
        pid, cap = self.held[which % len(self.held)]
        to = self.domains[rights % len(self.domains)]
        chan = self.chans[which % len(self.chans)]
        try:
            match what:
                case "mint":
                    self.held.append((to.pid, self.authority.mint(pid, cap, rights, to.pid)))
                case "move":
                    self.held.append((to.pid, self.authority.move(pid, cap, to.pid)))
                case "delete" if cap != self.root:
                    self.authority.delete(pid, cap)
                case "revoke" if cap != self.root:
                    self.authority.revoke(pid, cap)
                case "revoke":
                    self.authority.revoke(pid, self.held[1][1])
                case "open":
                    self.open(which)
                case "share":
                    self.chans.append(chan.share())
                case "walk":
                    self.chans.append(chan.at(Somewhere(), chan.path, chan.origin))
                case "lessen":
                    chan.lessen(chan.domain.mint(chan.cap, rights, chan.domain))
        except FileError as refused:
            if refused.error not in (E.REVOKED, E.ACCES):
                raise

    def compare(self, chan: Chan, rights: int) -> None:
        """Dispatch beside the kernel, before and after the chan remembers anything new."""
        code = self.authority.kernel.check(chan.domain.pid, chan.cap.slot, chan.cap.generation, rights)
        assert refused(chan, rights) is (self.REFUSALS[Code(-code)] if code else None)


CHANGES = st.tuples(
    st.sampled_from(("mint", "move", "delete", "revoke", "open", "share", "walk", "lessen")),
    st.integers(0, 20),
    st.integers(0, ALL_RIGHTS),
)


@given(changes=st.lists(CHANGES, max_size=25), asked=st.lists(st.sampled_from(ASKED), min_size=1, max_size=8))
def test_a_call_is_let_through_just_when_the_kernel_lets_it(
    changes: list[tuple[str, int, int]], asked: list[int]
) -> None:
    space = Space()
    try:
        for turn, (what, which, rights) in enumerate(changes):
            space.carry_out(what, which, rights)
            # Not all every time, so that some have remembered nothing for long, and some what was long ago.
            for index, chan in enumerate(space.chans):
                if (index + turn) % 3:
                    space.compare(chan, asked[(index + turn) % len(asked)])
        for chan in space.chans:
            for rights in ASKED:
                space.compare(chan, rights)
    finally:
        space.close()


@pytest.mark.parametrize("made", ["share", "walk"])
def test_what_was_made_from_a_chan_that_was_let_through_ends_with_it(made: str) -> None:
    space = Space()
    chan = space.chans[0]
    assert refused(chan, READ) is None
    space.carry_out(made, 0, 0)
    twin = space.chans[-1]
    assert twin is not chan
    assert twin.admitted == chan.admitted == chan.cap.generation
    space.authority.revoke(NODE, space.root)
    for each in (chan, twin):
        assert refused(each, READ) is E.REVOKED
    space.close()


def test_a_chan_that_is_lessened_remembers_no_right_of_before() -> None:
    space = Space()
    chan = space.chans[0]
    assert refused(chan, WRITE) is None
    chan.lessen(chan.domain.mint(chan.cap, READ, chan.domain))
    assert refused(chan, READ) is None
    assert refused(chan, WRITE) is E.ACCES
    space.close()


def test_who_has_the_number_of_anothers_capability_may_do_nothing_with_it() -> None:
    space = Space()
    theirs = space.chans[1].cap
    chan = Chan(Handle(space.server, Somewhere()), space.domains[0], theirs, Path(None, "/"), Origin("#r", ()))
    space.chans.append(chan)
    for rights in ASKED:
        space.compare(chan, rights)
        assert refused(chan, rights) is E.ACCES
    space.close()

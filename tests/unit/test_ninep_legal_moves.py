"""Legal moves of the 9P server session: every message against every state of every fid that it names."""

from __future__ import annotations

import pytest

from cognu.errors import E, FileError
from cognu.ninep import messages as m
from cognu.ninep.codec import messages_of
from cognu.ninep.compound import wanted
from cognu.ninep.messages import OLD_STYLE, Dialect, Request
from cognu.ninep.moves import MOVES, FidState
from cognu.ninep.server import Called
from cognu.ninep.types import NOFID
from ninep_kit import STAT, Bench, refused

# -- legal moves: every message against every state of every fid it names --

# "." hands the request over; otherwise the error. The columns are free, file, directory, open file, open directory,
# authentication, attribute.
EXPECTED = """
Tauth.afid          .      DUPFID DUPFID DUPFID DUPFID DUPFID DUPFID
Tattach.fid         .      DUPFID DUPFID DUPFID DUPFID DUPFID DUPFID
Tattach.afid        BADF   BADUSE BADUSE BADUSE BADUSE .      BADUSE
Twalk.fid           BADF   NOTDIR .      NOTDIR BADUSE BADUSE BADUSE
Twalk.newfid        .      DUPFID DUPFID DUPFID DUPFID DUPFID DUPFID
Topen.fid           BADF   .      .      BADUSE BADUSE BADUSE -
Tcreate.fid         BADF   NOTDIR .      NOTDIR BADUSE BADUSE -
Tread.fid           BADF   BADUSE BADUSE .      .      .      .
Twrite.fid          BADF   BADUSE BADUSE .      ISDIR  .      .
Tclunk.fid          BADF   .      .      .      .      .      .
Tremove.fid         BADF   .      .      .      .      .      .
Tstat.fid           BADF   .      .      .      .      BADUSE -
Twstat.fid          BADF   .      .      .      .      BADUSE -
Tstatfs.fid         BADF   .      .      .      .      BADUSE BADUSE
Tlopen.fid          BADF   .      .      BADUSE BADUSE BADUSE BADUSE
Tlcreate.fid        BADF   NOTDIR .      NOTDIR BADUSE BADUSE BADUSE
Tsymlink.fid        BADF   NOTDIR .      NOTDIR .      BADUSE BADUSE
Tmknod.dfid         BADF   NOTDIR .      NOTDIR .      BADUSE BADUSE
Trename.fid         BADF   .      .      .      .      BADUSE BADUSE
Trename.dfid        BADF   NOTDIR .      NOTDIR .      BADUSE BADUSE
Treadlink.fid       BADF   .      BADUSE .      ISDIR  BADUSE BADUSE
Tgetattr.fid        BADF   .      .      .      .      BADUSE BADUSE
Tsetattr.fid        BADF   .      .      .      .      BADUSE BADUSE
Txattrwalk.fid      BADF   .      .      .      .      BADUSE BADUSE
Txattrwalk.newfid   .      DUPFID DUPFID DUPFID DUPFID DUPFID DUPFID
Txattrcreate.fid    BADF   .      .      BADUSE BADUSE BADUSE BADUSE
Treaddir.fid        BADF   NOTDIR BADUSE NOTDIR .      BADUSE BADUSE
Tfsync.fid          BADF   BADUSE BADUSE .      .      BADUSE BADUSE
Tlock.fid           BADF   BADUSE BADUSE .      .      BADUSE BADUSE
Tgetlock.fid        BADF   BADUSE BADUSE .      .      BADUSE BADUSE
Tlink.fid           BADF   .      .      .      .      BADUSE BADUSE
Tlink.dfid          BADF   NOTDIR .      NOTDIR .      BADUSE BADUSE
Tmkdir.dfid         BADF   NOTDIR .      NOTDIR .      BADUSE BADUSE
Trenameat.olddirfid BADF   NOTDIR .      NOTDIR .      BADUSE BADUSE
Trenameat.newdirfid BADF   NOTDIR .      NOTDIR .      BADUSE BADUSE
Tunlinkat.dirfid    BADF   NOTDIR .      NOTDIR .      BADUSE BADUSE
Tlist.fid           BADF   NOTDIR BADUSE NOTDIR .      BADUSE BADUSE
Twatch.fid          BADF   .      .      .      .      BADUSE BADUSE
Tattenuate.fid      BADF   .      .      .      .      BADUSE BADUSE
Tattenuate.newfid   .      DUPFID DUPFID DUPFID DUPFID DUPFID DUPFID
Tmint.fid           BADF   .      .      .      .      BADUSE BADUSE
"""
COLUMNS = [
    FidState.FREE,
    FidState.FILE,
    FidState.DIR,
    FidState.OPEN,
    FidState.OPENDIR,
    FidState.AUTH,
    FidState.XATTR,
]

# A request of each kind; the fid under test is 10, the other one 20, which is a directory or free as needed.
SAMPLES: dict[str, Request] = {
    "Tauth.afid": m.Tauth(10, "u", ""),
    "Tattach.fid": m.Tattach(10, NOFID, "u", ""),
    "Tattach.afid": m.Tattach(21, 10, "u", ""),
    "Twalk.fid": m.Twalk(10, 21, ("a",)),
    "Twalk.newfid": m.Twalk(20, 10, ("a",)),
    "Topen.fid": m.Topen(10, 0),
    "Tcreate.fid": m.Tcreate(10, "a", 0o644, 0),
    "Tread.fid": m.Tread(10, 0, 1),
    "Twrite.fid": m.Twrite(10, 0, b"x"),
    "Tclunk.fid": m.Tclunk(10),
    "Tremove.fid": m.Tremove(10),
    "Tstat.fid": m.Tstat(10),
    "Twstat.fid": m.Twstat(10, STAT),
    "Tstatfs.fid": m.Tstatfs(10),
    "Tlopen.fid": m.Tlopen(10, 0),
    "Tlcreate.fid": m.Tlcreate(10, "a", 0, 0o644, 0),
    "Tsymlink.fid": m.Tsymlink(10, "a", "b", 0),
    "Tmknod.dfid": m.Tmknod(10, "a", 0, 0, 0, 0),
    "Trename.fid": m.Trename(10, 20, "a"),
    "Trename.dfid": m.Trename(20, 10, "a"),
    "Treadlink.fid": m.Treadlink(10),
    "Tgetattr.fid": m.Tgetattr(10, 0),
    "Tsetattr.fid": m.Tsetattr(10, 0, 0, 0, 0, 0, 0, 0, 0, 0),
    "Txattrwalk.fid": m.Txattrwalk(10, 21, ""),
    "Txattrwalk.newfid": m.Txattrwalk(20, 10, ""),
    "Txattrcreate.fid": m.Txattrcreate(10, "a", 0, 0),
    "Treaddir.fid": m.Treaddir(10, 0, 1),
    "Tfsync.fid": m.Tfsync(10, 0),
    "Tlock.fid": m.Tlock(10, 0, 0, 0, 0, 0, ""),
    "Tgetlock.fid": m.Tgetlock(10, 0, 0, 0, 0, ""),
    "Tlink.fid": m.Tlink(20, 10, "a"),
    "Tlink.dfid": m.Tlink(10, 20, "a"),
    "Tmkdir.dfid": m.Tmkdir(10, "a", 0, 0),
    "Trenameat.olddirfid": m.Trenameat(10, "a", 20, "b"),
    "Trenameat.newdirfid": m.Trenameat(20, "a", 10, "b"),
    "Tunlinkat.dirfid": m.Tunlinkat(10, "a", 0),
    "Tlist.fid": m.Tlist(10, 0, 1),
    "Twatch.fid": m.Twatch(10, 1),
    "Tattenuate.fid": m.Tattenuate(10, 21, 1),
    "Tattenuate.newfid": m.Tattenuate(20, 10, 1),
    "Tmint.fid": m.Tmint(10, 1, 1, 60, "peer"),
}


def test_the_table_below_names_every_fid_of_every_message() -> None:
    named = {f"{kind.__name__}.{use.field}" for kind, moves in MOVES.items() for use in moves}
    rows = {line.split()[0] for line in EXPECTED.strip().splitlines()}
    assert named == rows == SAMPLES.keys()
    every = {kind for dialect in Dialect for kind in messages_of(dialect) if kind.__name__.startswith("T")}
    assert set(MOVES) == every


@pytest.mark.parametrize("dialect", Dialect)
@pytest.mark.parametrize("row", EXPECTED.strip().splitlines(), ids=lambda row: row.split()[0])
def test_every_message_against_every_state(row: str, dialect: Dialect) -> None:
    name, *cells = row.split()
    request = SAMPLES[name]
    for state, cell in zip(COLUMNS, cells, strict=True):
        if type(request) not in messages_of(dialect) or (state is FidState.XATTR and dialect in OLD_STYLE):
            continue
        if name == "Tread.fid" and state is FidState.OPENDIR and dialect not in OLD_STYLE:
            cell = "ISDIR"  # 9P2000.L reads directories with Treaddir alone
        bench = Bench(dialect)
        if dialect is Dialect.NG:
            bench.ask(m.Tcaps(wanted(65_536)))
        bench.fid(20, FidState.DIR)
        bench.fid(10, state)
        before = bench.session.fid_count
        events = bench.ask(request)
        if cell == ".":
            (event,) = events
            assert isinstance(event, Called), (name, state)
            assert (event.tag, event.message) == (1, request)
            targets = [event.target, event.other]
            assert ("target 10" in targets) == (state is not FidState.FREE)
            bench.session.error(1, FileError(E.IO))
            bench.events()
            ended = isinstance(request, m.Tclunk | m.Tremove)
            assert bench.session.fid_count == before - ended  # an error changes nothing, but a clunk always ends
        else:
            refused(bench, events, E[cell])
            assert bench.session.fid_count == before
        assert bench.session.in_flight == 0


def test_targets_come_in_the_documented_order() -> None:
    bench = Bench()
    for number in (1, 2):
        bench.fid(number, FidState.DIR)
    bench.fid(3, FidState.AUTH)
    orders: list[tuple[Request, object, object]] = [
        (m.Trename(1, 2, "n"), "target 1", "target 2"),
        (m.Tlink(2, 1, "n"), "target 1", "target 2"),
        (m.Trenameat(1, "a", 2, "b"), "target 1", "target 2"),
        (m.Trenameat(1, "a", 1, "b"), "target 1", "target 1"),
        (m.Tattach(4, 3, "u", ""), None, "target 3"),
        (m.Tattach(5, NOFID, "u", ""), None, None),
        (m.Twalk(1, 6, ("a",)), "target 1", None),
    ]
    for tag, (request, target, other) in enumerate(orders):
        assert bench.ask(request, tag) == [Called(tag, request, target, other)]

"""What each dialect can say of a file, and that nothing is lost which it can say."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cognu.errors import E, FileError
from cognu.ninep import attrs
from cognu.ninep import types as t
from cognu.ninep.messages import WireStat
from cognu.ninep.types import Qid, SetStat, Stat

SECOND = 1_000_000_000
KINDS = [0, t.DMDIR, t.DMSYMLINK, t.DMDEVICE, t.DMDEVICE | t.DMBLOCK, t.DMNAMEDPIPE, t.DMSOCKET]
FILE = Stat("f", Qid(0, 1, 2), 0o644, 100, mtime=5 * SECOND, atime=6 * SECOND, user="u", group="g", muid="w")

POSIX = [
    (0o644, 0o100644, 8),
    (t.DMDIR | 0o755, 0o040755, 4),
    (t.DMSYMLINK | 0o777, 0o120777, 10),
    (t.DMDEVICE | 0o600, 0o020600, 2),
    (t.DMDEVICE | t.DMBLOCK | 0o600, 0o060600, 6),
    (t.DMNAMEDPIPE | 0o600, 0o010600, 1),
    (t.DMSOCKET | 0o600, 0o140600, 12),
    (t.DMSETUID | t.DMSETGID | t.DMSETVTX | 0o711, 0o107711, 8),
]


@pytest.mark.parametrize(("mode", "posix", "kind"), POSIX)
def test_modes_both_ways(mode: int, posix: int, kind: int) -> None:
    assert attrs.posix_mode(mode) == posix
    assert attrs.mode_of_posix(posix) == mode
    assert attrs.dirent_type(mode) == kind


def test_plan_9_bits_show_as_a_plain_file_on_linux() -> None:
    assert attrs.posix_mode(t.DMAPPEND | t.DMEXCL | t.DMTMP | 0o600) == 0o100600
    assert attrs.mode_of_posix(0o600) == 0o600
    assert t.qid_type(t.DMDIR | t.DMAPPEND | 0o777) == t.QTDIR | t.QTAPPEND


OPENS = [
    (t.OREAD, t.L_RDONLY),
    (t.OWRITE, t.L_WRONLY),
    (t.ORDWR, t.L_RDWR),
    (t.OWRITE | t.OTRUNC, t.L_WRONLY | t.L_TRUNC),
]


@pytest.mark.parametrize(("mode", "flags"), OPENS)
def test_open_modes_both_ways(mode: int, flags: int) -> None:
    assert attrs.open_mode(flags) == mode
    assert attrs.open_flags(mode) == flags


def test_open_modes_that_one_side_lacks() -> None:
    assert attrs.open_flags(t.OEXEC) == t.L_RDONLY
    assert attrs.open_mode(t.L_ACCESS) == t.OREAD
    assert attrs.open_mode(t.L_RDWR | t.L_APPEND | t.L_LARGEFILE) == t.ORDWR


def test_plain_9p_shows_seconds_and_its_own_mode_bits_only() -> None:
    stat = Stat("d", Qid(0x80, 1 << 33, 2), t.DMDIR | t.DMSETGID | 0o755, 4096, mtime=-1, atime=(1 << 40) * SECOND)
    wire = attrs.wire_stat(stat)
    assert wire == WireStat(0, 0, Qid(0x80, 0, 2), t.DMDIR | 0o755, 0xFFFFFFFE, 0, 0, "d", "", "", "")
    assert attrs.stat_of_wire(attrs.wire_stat(FILE)) == replace(FILE, ctime=FILE.mtime)


TIMES = st.integers(-(2**40), 2**62)
STATS = st.builds(
    Stat,
    name=st.just("n"),
    qid=st.builds(Qid, st.just(0), st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)),
    mode=st.builds(lambda kind, perm: kind | perm, st.sampled_from(KINDS), st.integers(0, 0o777)),
    length=st.integers(0, 2**63),
    mtime=TIMES,
    atime=TIMES,
    ctime=TIMES,
    btime=st.none() | TIMES,
    uid=st.integers(0, 2**32 - 1),
    gid=st.integers(0, 2**32 - 1),
    links=st.integers(0, 9),
    rdev=st.integers(0, 2**63),
    blksize=st.integers(1, 2**20),
    blocks=st.integers(0, 2**40),
)


@given(STATS)
@settings(deadline=None)
def test_attributes_of_9p2000_l_round_trip(stat: Stat) -> None:
    reply = attrs.getattr_of_stat(stat, t.GETATTR_ALL)
    back = attrs.stat_of_getattr("n", reply)
    assert back == replace(stat, user=str(stat.uid), group=str(stat.gid))
    assert bool(reply.valid & t.GETATTR_BTIME) == (stat.btime is not None)


def test_blocks_follow_from_the_length_if_the_server_does_not_say() -> None:
    assert attrs.getattr_of_stat(replace(FILE, length=513)).blocks == 2
    assert attrs.getattr_of_stat(replace(FILE, length=513, blocks=0)).blocks == 0


# -- changes --

NOBODY_TOUCHED = attrs.wire_of_setstat(SetStat(), 0)
CHANGES = [
    SetStat(),
    SetStat(mode=0o600),
    SetStat(length=0),
    SetStat(mtime=9 * SECOND, atime=8 * SECOND),
    SetStat(name="g", group="h"),
]


@pytest.mark.parametrize("change", CHANGES)
def test_changes_by_wstat_both_ways(change: SetStat) -> None:
    assert attrs.setstat_of_wire(attrs.wire_of_setstat(change, 0), FILE) == change


WHOLE = attrs.wire_stat(FILE)
WRITTEN_BACK = [
    (WHOLE, SetStat()),
    (WHOLE._replace(mode=0o600), SetStat(mode=0o600)),
    (WHOLE._replace(length=1), SetStat(length=1)),
    (WHOLE._replace(name="x"), SetStat(name="x")),
    (WHOLE._replace(uid="x"), SetStat(user="x")),
    (WHOLE._replace(gid="x"), SetStat(group="x")),
]


@pytest.mark.parametrize(("wire", "change"), WRITTEN_BACK)
def test_a_stat_written_back_with_one_field_changed_changes_that_field(wire: WireStat, change: SetStat) -> None:
    assert attrs.setstat_of_wire(wire, FILE) == change


FIXED = [
    NOBODY_TOUCHED._replace(type=1),
    NOBODY_TOUCHED._replace(dev=1),
    NOBODY_TOUCHED._replace(muid="x"),
    NOBODY_TOUCHED._replace(qid=Qid(0, 9, 9)),
    NOBODY_TOUCHED._replace(mode=t.DMDIR | 0o755),
]


@pytest.mark.parametrize("touched", FIXED)
def test_what_nobody_may_change_is_refused(touched: WireStat) -> None:
    with pytest.raises(FileError) as caught:
        attrs.setstat_of_wire(touched, FILE)
    assert caught.value.error is E.PERM


LINK = replace(FILE, qid=Qid(t.QTSYMLINK, 1, 2), mode=t.DMSYMLINK | 0o777, uid=1000, gid=100)
DISK = replace(FILE, mode=t.DMDEVICE | t.DMBLOCK | 0o600, rdev=attrs.device_number(8, 1))
U_STATS = [
    (replace(FILE, uid=1000, gid=100), "", ""),
    (replace(FILE, links=3), "", "HARDLINKCOUNT 3"),
    (replace(FILE, mode=t.DMSETUID | t.DMSETGID | t.DMSETVTX | 0o711), "", ""),
    (LINK, "d/x", "d/x"),
    (DISK, "", "b 8 1"),
    (replace(DISK, mode=t.DMDEVICE | 0o600, rdev=attrs.device_number(1 << 12, 1 << 20)), "", "c 4096 1048576"),
    (replace(FILE, mode=t.DMNAMEDPIPE | 0o600), "", ""),
    (replace(FILE, mode=t.DMSOCKET | 0o600), "", ""),
]


@pytest.mark.parametrize(("stat", "target", "extension"), U_STATS)
def test_what_9p2000_u_says_of_a_file_both_ways(stat: Stat, target: str, extension: str) -> None:
    wire = attrs.wire_stat_u(stat, target)
    assert wire.extension == extension
    assert not wire.mode & t.DMBLOCK
    assert attrs.stat_of_wire(wire) == replace(stat, ctime=stat.mtime)


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_numbers_of_devices_are_those_of_the_c_library(major: int, minor: int) -> None:
    assert attrs.device_parts(attrs.device_number(major, minor)) == (major, minor)
    assert attrs.device_of_text(f"c {major} {minor}") == (0, major, minor)


@given(st.text(max_size=20) | st.from_regex(r"[bcx] ?[0-9-]{0,12} [0-9]{0,12}"))
@settings(deadline=None)
def test_any_text_is_a_device_or_none(text: str) -> None:
    found = attrs.device_of_text(text)
    if found is not None:
        block, major, minor = found
        words = text.split()
        assert (words[0], int(words[1]), int(words[2])) == ("b" if block else "c", major, minor)
    told = attrs.stat_of_wire(attrs.wire_stat_u(FILE)._replace(mode=t.DMDEVICE, extension=text))
    assert (told.rdev, told.links) == (attrs.device_number(*found[1:]) if found else 0, told.links)


def test_a_change_by_twstat_of_9p2000_u() -> None:
    untouched = attrs.wire_of_setstat(SetStat(), 0, True)
    assert attrs.setstat_of_wire(untouched, LINK, True, "d/x") == SetStat()
    assert attrs.setstat_of_wire(attrs.wire_stat_u(LINK, "d/x"), LINK, True, "d/x") == SetStat()
    change = SetStat(mode=t.DMSETUID | 0o700, uid=5, gid=6)
    assert attrs.setstat_of_wire(attrs.wire_of_setstat(change, 0, True), FILE, True) == change
    for touched in (
        untouched._replace(extension="elsewhere"),
        untouched._replace(n_muid=5),
        untouched._replace(mode=t.DMDEVICE | 0o777),
    ):
        with pytest.raises(FileError) as caught:
            attrs.setstat_of_wire(touched, LINK, True, "d/x")
        assert caught.value.error is E.PERM


def test_now_is_a_time_on_plain_9p_and_a_flag_on_l() -> None:
    change = SetStat(mtime_now=True, atime_now=True)
    wire = attrs.wire_of_setstat(change, 7 * SECOND)
    assert (wire.mtime, wire.atime) == (7, 7)
    assert attrs.setstat_of_setattr(attrs.setattr_of_setstat(1, change)) == change


L_CHANGES = [
    SetStat(),
    SetStat(mode=t.DMSETUID | 0o711),
    SetStat(length=3, uid=1, gid=2),
    SetStat(mtime=-1, atime=SECOND + 1),
    SetStat(mtime=5, atime_now=True),
]


@pytest.mark.parametrize("change", L_CHANGES)
def test_changes_by_setattr_both_ways(change: SetStat) -> None:
    assert attrs.setstat_of_setattr(attrs.setattr_of_setstat(1, change)) == change


def test_setattr_keeps_the_kind_of_file() -> None:
    message = attrs.setattr_of_setstat(1, SetStat(mode=0o700))
    assert attrs.setstat_of_setattr(message, t.DMDIR | t.DMAPPEND | 0o755).mode == t.DMDIR | t.DMAPPEND | 0o700
    assert attrs.setstat_of_setattr(replace(message, mode=0o100700), t.DMDIR | 0o755).mode == t.DMDIR | 0o700


@pytest.mark.parametrize("change", [SetStat(uid=1), SetStat(gid=1), SetStat(user="x")])
def test_what_plain_9p_can_not_change_is_refused(change: SetStat) -> None:
    with pytest.raises(FileError) as caught:
        attrs.wire_of_setstat(change, 0)
    assert caught.value.error is E.NOTSUP


@pytest.mark.parametrize("change", [SetStat(name="x"), SetStat(user="x"), SetStat(group="x")])
def test_what_setattr_can_not_change_is_refused(change: SetStat) -> None:
    with pytest.raises(FileError) as caught:
        attrs.setattr_of_setstat(1, change)
    assert caught.value.error is E.NOTSUP

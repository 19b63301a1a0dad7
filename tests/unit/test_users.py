"""Owners by name and by number: the table, and what clients and servers of the dialects that have numbers are told."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognu.devices.ram import RamServer
from cognu.errors import E, FileError
from cognu.files.users import Users, parse_users
from cognu.ninep import messages as m
from cognu.ninep.attrs import getattr_of_stat, wire_of_setstat
from cognu.ninep.codec import unpack_stats
from cognu.ninep.messages import Dialect, Message
from cognu.ninep.types import GETATTR_ALL, NOBODY, NOFID, NONUNAME, OREAD, SETATTR_GID, SETATTR_UID, Qid, SetStat, Stat
from cognu.node.settings import Home, load_users
from cognu.world.real import RealClock, real_world
from joined import Raw, local_process
from played import played
from serving import Client, Somebody

U, L = Dialect.U, Dialect.L
TABLE = "# ours\nuser glenda 1001\n\n  user  me   1000   # of this machine\ngroup sys 20\n"
FILE = Stat("f", Qid(0, 1, 2), 0o644, user="glenda", group="sys")


def test_a_table_is_read() -> None:
    users = parse_users(TABLE)
    assert (users.users, users.groups) == ({"glenda": 1001, "me": 1000}, {"sys": 20})
    assert parse_users("").users == {}


@pytest.mark.parametrize(
    "line",
    ["user x", "user x 1 2", "owner x 1", "user x -1", "user x ١", "user x 4294967295", "user x 99999999999",
     "user me 1\nuser me 2", "group a 1\ngroup b 1"],
)  # fmt: skip
def test_what_is_no_table_is_refused_by_its_line(line: str) -> None:
    with pytest.raises(FileError) as caught:
        parse_users("\n" + line)
    assert caught.value.error is E.DAMAGED
    assert caught.value.subject == f"line {2 + line.count(chr(10))}"


@given(st.text() | st.lists(st.sampled_from(["user", "group", "a", "b", "1", "2", "#", "\n", "0"])).map(" ".join))
def test_any_text_is_a_table_or_refused(text: str) -> None:
    try:
        users = parse_users(text)
    except FileError:
        return
    for table in (users.users, users.groups):
        assert len(set(table.values())) == len(table)
        assert all(0 <= number < NONUNAME for number in table.values())


def test_names_become_numbers_and_numbers_names() -> None:
    users = parse_users(TABLE)
    told = users.numbered(FILE)
    assert (told.uid, told.gid) == (1001, 20)
    assert users.named(replace(told, user="1001", group="20")) == told
    stranger = replace(FILE, user="who", group="what", uid=7)
    assert users.numbered(stranger) is stranger
    assert users.named(stranger) is stranger
    assert Users().numbered(FILE) is FILE
    assert (users.user_of("", 1000), users.user_of("said", 1000), users.user_of("", 5)) == ("me", "said", "")
    assert (users.number_of("me"), users.number_of("who")) == (1000, NONUNAME)


def test_the_nodes_own_user_has_the_hosts_number_unless_the_table_says_otherwise() -> None:
    own = Users().with_own("me", 500, "staff", 50)
    assert (own.users, own.groups) == ({"me": 500}, {"staff": 50})
    own = parse_users(TABLE).with_own("me", 1001, "staff", 20)
    assert (own.users, own.groups) == ({"glenda": 1001, "me": 1000}, {"sys": 20})


async def served(dialect: Dialect) -> tuple[Raw, list[str]]:
    """A client of a memory server whose one file is glenda's; and who attached."""
    server = RamServer(RealClock(), user="glenda")
    process = local_process(server)
    process.namespace.domain.authority.users = Users({"glenda": 1001}, {"glenda": 20})
    await Client(server, Somebody()).put("f")
    raw = await Raw.over(process, dialect)
    attached: list[str] = []
    attach = raw.export.calls._attach

    def noting(uname: str, aname: str) -> object:
        attached.append(uname)
        return attach(uname, aname)

    raw.export.calls._attach = noting  # type: ignore[assignment]
    return raw, attached


async def ask(raw: Raw, *messages: Message) -> list[Message]:
    raw.send(*((message, tag) for tag, message in enumerate(messages)))
    return [message for _, message in sorted(await raw.answers(len(messages)), key=lambda row: row[0])]


async def test_clients_of_9p2000_l_are_told_the_tables_numbers_and_may_write_them_back() -> None:
    raw, attached = await served(L)
    await ask(raw, m.Twalk(0, 1, ("f",)))
    (told,) = await ask(raw, m.Tgetattr(1, GETATTR_ALL))
    assert isinstance(told, m.Rgetattr)
    assert (told.uid, told.gid) == (1001, 20)
    both = SETATTR_UID | SETATTR_GID
    same, other = (m.Tsetattr(1, both, 0, uid, 20, 0, 0, 0, 0, 0) for uid in (1001, 5))
    assert await ask(raw, same, other) == [m.Rsetattr(), m.Rlerror(E.PERM.errno)]
    await ask(
        raw, m.Tattach(5, NOFID, "", "", 1001), m.Tattach(6, NOFID, "", "", 9), m.Tattach(7, NOFID, "me", "", 1001)
    )
    assert attached == ["glenda", "", "me"]
    await raw.close()


async def test_clients_of_9p2000_u_are_told_them_in_stats_and_listings() -> None:
    raw, _ = await served(U)
    said = await ask(raw, m.Twalk(0, 1, ("f",)), m.Tstat(1), m.Twalk(0, 2, ()), m.Topen(2, OREAD), m.Tread(2, 0, 999))
    assert isinstance(said[1], m.Rstat)
    assert isinstance(said[4], m.Rread)
    for stat in (said[1].stat, *unpack_stats(said[4].data, True)):
        assert (stat.uid, stat.n_uid, stat.n_gid) == ("glenda", 1001, 20)
    untouched = wire_of_setstat(SetStat(), 0, True)
    assert await ask(raw, m.Twstat(1, untouched._replace(n_uid=1001, n_gid=20))) == [m.Rwstat()]
    (refusal,) = await ask(raw, m.Twstat(1, untouched._replace(n_uid=5)))
    assert isinstance(refusal, m.Rerror)
    assert refusal.ecode == E.PERM.errno
    await raw.close()


async def test_the_numbers_of_a_far_server_are_shown_by_name_and_attaching_says_both() -> None:
    async with played() as at:
        at.mount.users = Users({"glenda": 1001}, {"sys": 20})
        for uid, name in ((1001, "glenda"), (NOBODY, str(NOBODY))):
            asking = asyncio.ensure_future(at.mount.stat(at.file))
            stat = replace(FILE, uid=uid, gid=20)
            tag = await at.asks(m.Tgetattr(at.file.number, GETATTR_ALL))
            await at.answer(tag, getattr_of_stat(stat, GETATTR_ALL))
            told = await asking
            assert (told.user, told.group, told.uid) == (name, "sys", uid)
        attaching = asyncio.ensure_future(at.mount.attach(Somebody(user="glenda"), ""))
        tag, said = await at.asked()
        assert isinstance(said, m.Tattach)
        assert (said.uname, said.n_uname) == ("glenda", 1001)
        await at.answer(tag, m.Rattach(Qid(0, 0, 1)))
        at.mount.clunk(await attaching)


def test_the_table_lies_in_the_home_and_need_not(tmp_path: Path) -> None:
    disk, home = real_world().disk, Home(str(tmp_path))
    assert load_users(disk, home).users == {}
    (tmp_path / "users").write_text(TABLE)
    assert load_users(disk, home).users == {"glenda": 1001, "me": 1000}
    for raw, why in ((b"user x\n", "line 1"), (b"\xff\n", "utf-8")):
        (tmp_path / "users").write_bytes(raw)
        with pytest.raises(FileError) as caught:
            load_users(disk, home)
        assert (caught.value.error, caught.value.subject) == (E.DAMAGED, home.users)
        assert why in caught.value.detail

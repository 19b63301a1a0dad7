"""Every message of every dialect, at both ends, on a directory of the host; and the corners that 9P is known for."""

from __future__ import annotations

import asyncio
import gc
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from cognu.devices.host import HostServer
from cognu.devices.ram import RamServer
from cognu.errors import E
from cognu.files.chan import Chan
from cognu.files.export import Export
from cognu.files.mount import FarFid, MountServer
from cognu.files.process import Process
from cognu.files.server import LOCK_END, OAPPEND, HandOn, Lock, Owner, Token
from cognu.files.steps import Steps
from cognu.kernel import READ
from cognu.ninep import messages as m
from cognu.ninep.attrs import wire_of_setstat
from cognu.ninep.codec import expected_reply, messages_of, unpack_dirents, unpack_stats
from cognu.ninep.compound import PARTS, wanted
from cognu.ninep.messages import OLD_STYLE, Dialect, Message, Request, is_request
from cognu.ninep.table import TABLE
from cognu.ninep.types import (
    DMAPPEND,
    DMDIR,
    DMEXCL,
    DMNAMEDPIPE,
    L_RDWR,
    L_TRUNC,
    LOCK_FLAGS_BLOCK,
    LOCK_WRLCK,
    NOFID,
    NOTAG,
    ORCLOSE,
    ORDWR,
    OREAD,
    OTRUNC,
    OWRITE,
    QTAPPEND,
    QTEXCL,
    U_APPEND,
    UNLINK_DIRECTORY,
    SetStat,
)
from cognu.world.real import RealClock, real_world
from joined import ME, Raw, attach_to, idle, local_process
from serving import Client, KeepingTree, Node
from streams import pair

OLD, U, L, NG = Dialect
LOCK = Lock(0, 1, True, Owner(1, "here", 1))

# What a client asks for on this ground: fid 0 is the root, 1 and 2 the file `f`, 3 and 4 the directory `d`, with `d/x`
# in it, 5 the link `l`; 2 and 4 are open.
UNTOUCHED = wire_of_setstat(SetStat(), 0)
ASKED: dict[type[Request], Request] = {
    type(message): message
    for message in (
        m.Tversion(8192, "9P2000"), m.Tauth(9, "glenda", ""), m.Tattach(9, NOFID, "glenda", ""), m.Tflush(77),
        m.Twalk(0, 9, ("d", "x")), m.Topen(1, ORDWR), m.Tcreate(3, "new", 0o644, OWRITE), m.Tread(2, 0, 9),
        m.Twrite(2, 0, b"new"), m.Tclunk(2), m.Tremove(1), m.Tstat(1), m.Twstat(1, UNTOUCHED), m.Tstatfs(1),
        m.Tlopen(1, L_RDWR), m.Tlcreate(3, "new", L_RDWR, 0o644, 0), m.Tsymlink(3, "new", "x", 0),
        m.Tmknod(3, "new", 0o010600, 0, 0, 0), m.Trename(1, 3, "new"), m.Treadlink(5), m.Tgetattr(1, 0x7FF),
        m.Tsetattr(1, 1, 0o600, 0, 0, 0, 0, 0, 0, 0), m.Txattrwalk(1, 9, ""), m.Txattrcreate(1, "user.x", 1, 0),
        m.Treaddir(4, 0, 1000), m.Tfsync(2, 0), m.Tlock(2, LOCK_WRLCK, LOCK_FLAGS_BLOCK, 0, 0, 1, "here"),
        m.Tgetlock(2, LOCK_WRLCK, 0, 0, 1, "here"), m.Tlink(3, 1, "new"), m.Tmkdir(3, "new", 0o755, 0),
        m.Trenameat(3, "x", 0, "new"), m.Tunlinkat(3, "x", 0), m.Tcaps((m.Feature(PARTS, 4),)),
        m.Tcomp((m.Tgetattr(1, 0x7FF), m.Tclunk(1))), m.Tlist(4, 0, 1000),
        m.Twatch(3, 28), m.Tevent(0, 1000), m.Tattenuate(3, 9, 1), m.Tmint(3, 1, 1, 60, "pi"),
    )
}  # fmt: skip
REFUSED = {m.Tauth: E.NOAUTH}
"""Nobody has to authenticate over 9P: who may connect is settled before."""
NOT_SAID: dict[type[Request], frozenset[Dialect]] = {
    m.Tversion: frozenset(Dialect),  # it is the session's own, before all others
    m.Tauth: frozenset(Dialect),  # as above
    m.Tunlinkat: frozenset({L, NG}),  # what is removed is held by a fid, and must be that file: Tremove
}
"""What the mount driver never asks for."""


PARKED = (m.Twatch, m.Tevent)
"""Answered when something happens, and not of the host's files everywhere: `test_watching` has them."""


def requests_of(dialect: Dialect) -> set[type[Request]]:
    return {kind for kind in messages_of(dialect) if kind.__name__.startswith("T")}  # type: ignore[misc]


SWEEP = [
    pytest.param(dialect, kind, id=f"{dialect.value}-{kind.__name__}")
    for dialect in Dialect
    for kind in sorted(requests_of(dialect), key=lambda kind: kind.__name__)
    if kind not in PARKED
]


def lay(path: Path) -> None:
    path.chmod(0o777)
    (path / "f").write_bytes(b"hello")
    (path / "d").mkdir()
    (path / "d" / "x").write_bytes(b"x")
    (path / "l").symlink_to("f")


@asynccontextmanager
async def ground(path: Path) -> AsyncIterator[Process]:
    tree = KeepingTree(str(path))
    lay(path)
    before = len(os.listdir("/dev/fd"))
    process = await Node(HostServer(real_world(), tree)).start()
    yield process
    process.namespace.release()
    process.cwd.close()
    gc.collect()
    process.namespace.domain.authority.close_orphans()
    assert len(os.listdir("/dev/fd")) == before, "a handle of the host is left open"
    tree.close()


def opening(dialect: Dialect, fid: int, mode: int) -> Message:
    return m.Topen(fid, mode) if dialect in OLD_STYLE else m.Tlopen(fid, mode)


@pytest.mark.parametrize(("dialect", "kind"), SWEEP)
async def test_the_server_carries_out_every_message(dialect: Dialect, kind: type[Request], tmp_path: Path) -> None:
    async with ground(tmp_path) as process:
        raw = await Raw.over(process, dialect, minter=minted)
        if dialect is NG:
            raw.send((m.Tcaps(wanted(8192)), 1))
            await raw.answers(1)
        walks = [(1, "f"), (2, "f"), (3, "d"), (4, "d"), (5, "l")]
        raw.send(*((m.Twalk(0, fid, (name,)), fid) for fid, name in walks))
        raw.send((opening(dialect, 2, ORDWR), 6), (opening(dialect, 4, OREAD), 7))
        assert not [said for _, said in await raw.answers(7) if isinstance(said, m.Rerror | m.Rlerror | m.Rngerror)]
        raw.send((ASKED[kind], NOTAG if kind is m.Tversion else 8))
        ((_, answer),) = await raw.answers(1)
        if kind in REFUSED:
            assert isinstance(answer, m.Rerror | m.Rlerror | m.Rngerror)
        else:
            assert type(answer) is expected_reply(dialect, kind), answer
        await raw.close()


def minted(process: Process, chan: Chan, what: HandOn) -> Steps[Token]:
    return Token("token", what.seconds)
    yield


class Listening(MountServer):
    """Notes what it asks for, in compounds too."""

    said: set[type[Request]]

    async def _call(self, request: Request, *rest: Any, **more: Any) -> Any:
        self.said |= {type(part) for part in (request.parts if isinstance(request, m.Tcomp) else ())} | {type(request)}
        return await super()._call(request, *rest, **more)

    def _end_fid(self, request: Request, number: int) -> None:
        self.said.add(type(request))
        super()._end_fid(request, number)

    def _flush(self, tag: int) -> None:
        self.said.add(m.Tflush)
        super()._flush(tag)


@pytest.mark.parametrize("dialect", Dialect, ids=lambda dialect: dialect.value)
async def test_the_client_says_every_message_that_it_has_a_use_for(dialect: Dialect, tmp_path: Path) -> None:
    async with ground(tmp_path) as process:
        here, there = pair(1 << 16)
        serving = asyncio.ensure_future(Export(there, process, attach_to(process), minter=minted).serve())
        Listening.said = {m.Tcaps} if dialect is NG else set()
        mount = await Listening.connect(here, RealClock(), offer=dialect)
        assert isinstance(mount, Listening)
        client = Client(mount, ME)
        assert mount.dialect is dialect
        await everything(client, dialect)
        client.close()
        await idle()
        said = set(mount.said)
        await mount.close()
        await serving
    expected = requests_of(dialect) - {*PARKED} - {kind for kind, where in NOT_SAID.items() if dialect in where}
    assert said == expected


async def everything(client: Client, dialect: Dialect) -> None:
    """Each method of the contract, and a call that is given up."""
    server = client.server
    assert isinstance(server, MountServer)
    await client.put("g", b"data")
    assert await client.read("g") == b"data"
    fid = await client.open("g", ORDWR)
    await server.sync(fid, True)
    reading = asyncio.ensure_future(server.stat(fid))
    await asyncio.sleep(0)
    reading.cancel()
    await asyncio.wait([reading])
    server.clunk(fid)
    await client.mkdir("e")
    assert await client.names("e") == []
    directory = await client.open("d")
    assert [entry.name for entry in await server.readdir(directory, 0, 10)] == ["x"]
    server.clunk(directory)
    await client.wstat("g", SetStat(mode=0o600))
    await client.wstat("g", SetStat(name="h"))
    await client.remove("h")
    if dialect is OLD:
        return
    await client.symlink("s", "f")
    assert await client.readlink("s") == "f"
    await client.link("again", "f")
    assert await client.read("again") == b"hello"
    await client.mknod("pipe", DMNAMEDPIPE | 0o600)
    if dialect is U:
        return
    await client.rename("again", "d/again")
    fid = await client.open("f", ORDWR)
    await server.setxattr(fid, "user.x", b"value", 0)
    assert await server.getxattr(fid, "user.x") == b"value"
    assert await server.lock_range(fid, LOCK, True)
    assert await server.find_lock(fid, LOCK._replace(end=LOCK_END)) is None
    await server.statfs(fid)
    server.clunk(fid)
    if dialect is NG:
        # Where a compound does a thing in one trip, the messages of more trips are for what is no part of one.
        fid = await client.walk("d")
        server.clunk(await server.attenuate(fid, READ))
        assert await server.hand_on(fid, HandOn(READ, 1, 60, "pi")) == Token("token", 60)
        await server._call(m.Treaddir((await open_number(client, "d")), 0, 1000), m.Rreaddir)
        server.clunk(fid)


async def open_number(client: Client, path: str) -> int:
    fid: Any = await client.open(path)
    number: int = fid.number
    return number


# -- corners ----------------------------------------------------------------------------------------------------------

EACH = pytest.mark.parametrize("dialect", [OLD, U, L], ids=lambda dialect: dialect.value)
STATS = pytest.mark.parametrize("dialect", [OLD, U], ids=lambda dialect: dialect.value)


@asynccontextmanager
async def memory(dialect: Dialect, clients: int = 1) -> AsyncIterator[tuple[Client, list[Raw]]]:
    server = RamServer(RealClock())
    process = local_process(server)
    raws = [await Raw.over(process, dialect) for _ in range(clients)]
    yield Client(server), raws
    for raw in raws:
        await raw.close()


async def ask(raw: Raw, *messages: Message) -> list[Message]:
    raw.send(*((message, tag) for tag, message in enumerate(messages)))
    return [message for _, message in sorted(await raw.answers(len(messages)), key=lambda row: row[0])]


def errno(said: Message) -> int:
    assert isinstance(said, m.Rlerror | m.Rerror | m.Rngerror)
    return said.ecode


@EACH
async def test_a_file_for_exclusive_use_is_open_once(dialect: Dialect) -> None:
    async with memory(dialect, 2) as (local, (first, second)):
        local.server.clunk(await local.create("lock", DMEXCL | 0o666))
        said = await ask(first, m.Twalk(0, 1, ("lock",)), opening(dialect, 1, ORDWR))
        opened = said[1]
        assert isinstance(opened, m.Ropen | m.Rlopen)
        assert opened.qid.type == QTEXCL
        said = await ask(second, m.Twalk(0, 1, ("lock",)), opening(dialect, 1, OREAD))
        assert isinstance(said[1], m.Rerror | m.Rlerror)
        assert dialect is OLD or errno(said[1]) == E.BUSY.errno
        await ask(first, m.Tclunk(1))
        assert isinstance((await ask(second, opening(dialect, 1, OREAD)))[0], m.Ropen | m.Rlopen)


@STATS
async def test_exclusive_use_and_append_only_are_asked_for_and_shown(dialect: Dialect) -> None:
    async with memory(dialect) as (_, (raw,)):
        perm = DMEXCL | DMAPPEND | 0o600
        _, made, told = await ask(raw, m.Twalk(0, 1, ()), m.Tcreate(1, "a", perm, ORDWR), m.Tstat(1))
        assert isinstance(made, m.Rcreate)
        assert made.qid.type == QTEXCL | QTAPPEND
        assert isinstance(told, m.Rstat)
        assert told.stat.mode == perm


@EACH
async def test_an_append_only_file_is_written_at_its_end_and_not_truncated(dialect: Dialect) -> None:
    async with memory(dialect) as (local, (raw,)):
        local.server.clunk(await local.create("log", DMAPPEND | 0o666))
        cut = m.Topen(1, ORDWR | OTRUNC) if dialect in OLD_STYLE else m.Tlopen(1, L_RDWR | L_TRUNC)
        for word in (b"one", b"two"):
            said = await ask(raw, m.Twalk(0, 1, ("log",)), cut, m.Twrite(1, 0, word), m.Tclunk(1))
            assert said[2] == m.Rwrite(3)
        assert await local.read("log") == b"onetwo"


@STATS
@pytest.mark.parametrize("how", ["clunk", "connection"])
async def test_remove_on_close_is_done_by_the_clunk_and_by_the_end_of_the_connection(
    dialect: Dialect, how: str
) -> None:
    async with memory(dialect) as (local, (raw,)):
        await local.put("f")
        await ask(raw, m.Twalk(0, 1, ()), m.Tcreate(1, "new", 0o600, ORDWR | ORCLOSE))
        await ask(raw, m.Twalk(0, 2, ("f",)), m.Topen(2, OREAD | ORCLOSE))
        assert await local.names("") == ["f", "new"]
        if how == "clunk":
            await ask(raw, m.Tclunk(1), m.Tclunk(2))
        else:
            await raw.close()
        assert await local.names("") == []


@STATS
async def test_a_twstat_changes_what_it_touches_and_nothing_else(dialect: Dialect) -> None:
    async with memory(dialect) as (local, (raw,)):
        await local.put("f", b"hello")
        await local.wstat("f", SetStat(mode=0o640, mtime=7_000_000_000, atime=8_000_000_000))
        await ask(raw, m.Twalk(0, 1, ("f",)))
        before = await local.stat("f")
        assert await ask(raw, m.Twstat(1, UNTOUCHED)) == [m.Rwstat()]
        assert await local.stat("f") == before
        assert await ask(raw, m.Twstat(1, UNTOUCHED._replace(mtime=9))) == [m.Rwstat()]
        assert await ask(raw, m.Twstat(1, UNTOUCHED._replace(mode=0o600))) == [m.Rwstat()]
        after = await local.stat("f")
        assert (after.mode, after.mtime, after.atime, after.length) == (0o600, 9_000_000_000, 8_000_000_000, 5)
        assert await ask(raw, m.Twstat(1, UNTOUCHED._replace(length=2))) == [m.Rwstat()]
        assert await local.read("f") == b"he"
        assert await ask(raw, m.Twstat(1, UNTOUCHED._replace(name="g"))) == [m.Rwstat()]
        assert await local.names("") == ["g"]


@STATS
async def test_a_twstat_that_is_refused_in_part_does_nothing(dialect: Dialect) -> None:
    async with memory(dialect) as (local, (raw,)):
        await local.put("f", b"hello")
        await local.put("taken")
        await ask(raw, m.Twalk(0, 1, ("f",)))
        before = await local.stat("f")
        for wrong in (
            UNTOUCHED._replace(length=0, name="taken"),
            UNTOUCHED._replace(mode=0o600, mtime=1, muid="somebody"),
            UNTOUCHED._replace(mode=DMDIR | 0o777, length=0),
        ):
            assert isinstance((await ask(raw, m.Twstat(1, wrong)))[0], m.Rerror)
        assert await local.stat("f") == before
        assert await local.read("f") == b"hello"


async def test_9p2000_u_has_a_bit_to_append_as_linux_asks_for_it() -> None:
    async with memory(U, 2) as (local, raws):
        await local.put("f", b"0")
        for raw in raws:
            assert isinstance((await ask(raw, m.Twalk(0, 1, ("f",)), m.Topen(1, OWRITE | U_APPEND)))[1], m.Ropen)
        for raw in raws:
            assert await ask(raw, m.Twrite(1, 1, b"one"), m.Twrite(1, 1, b"two")) == [m.Rwrite(3)] * 2
        assert await local.read("f") == b"0onetwoonetwo"
        made = await ask(raws[0], m.Twalk(0, 2, ()), m.Tcreate(2, "new", 0o644, OWRITE | U_APPEND))
        assert isinstance(made[1], m.Rcreate)
        assert await ask(raws[0], m.Twrite(2, 7, b"x"), m.Twrite(2, 7, b"y")) == [m.Rwrite(1)] * 2
        assert await local.read("new") == b"xy"


async def test_the_mount_driver_appends_by_that_bit() -> None:
    server = RamServer(RealClock())
    here, there = pair(1 << 16)
    process = local_process(server)
    serving = asyncio.ensure_future(Export(there, process, attach_to(process)).serve())
    mount = await MountServer.connect(here, RealClock(), offer=U)
    far, local = Client(mount, ME), Client(server)
    await local.put("f", b"0")
    fid = await far.open("f", OWRITE | OAPPEND)
    await local.write("f", b"longer")
    assert isinstance(fid, FarFid)
    assert (await mount._call(m.Twrite(fid.number, 0, b", and more"), m.Rwrite)).count == 10
    assert await local.read("f") == b"longer, and more"
    mount.clunk(fid)
    far.close()
    local.close()
    await mount.close()
    await serving


async def test_a_rename_replaces_in_one_step_and_who_has_the_old_file_open_keeps_it() -> None:
    async with memory(L) as (local, (raw,)):
        await local.put("old", b"old")
        await local.put("new", b"new")
        await ask(raw, m.Twalk(0, 1, ("old",)), m.Tlopen(1, OREAD))
        assert await ask(raw, m.Trenameat(0, "new", 0, "old")) == [m.Rrenameat()]
        assert await ask(raw, m.Tread(1, 0, 9)) == [m.Rread(b"old")]
        assert await local.read("old") == b"new"
        assert await local.names("") == ["old"]


async def test_unlinkat_takes_files_without_its_flag_and_directories_with_it() -> None:
    async with memory(L) as (local, (raw,)):
        await local.put("f")
        await local.mkdir("d")
        for name, flags, error in (("f", UNLINK_DIRECTORY, E.NOTDIR), ("d", 0, E.ISDIR), ("none", 0, E.NOENT)):
            assert await ask(raw, m.Tunlinkat(0, name, flags)) == [m.Rlerror(error.errno)]
        assert await ask(raw, m.Tunlinkat(0, "f", 0), m.Tunlinkat(0, "d", UNLINK_DIRECTORY)) == [m.Runlinkat()] * 2
        assert await local.names("") == []


async def test_the_cookies_of_treaddir_stay_good_while_the_directory_changes() -> None:
    """What was there all the time is told once; what came or went meanwhile once at most."""
    async with memory(L) as (local, (raw,)):
        for number in range(40):
            await local.put(f"f{number:02}")
        await ask(raw, m.Twalk(0, 1, ()), m.Tlopen(1, OREAD))
        seen: list[str] = []
        cookies = [0]
        while True:
            ((said),) = await ask(raw, m.Treaddir(1, cookies[-1], 200))
            assert isinstance(said, m.Rreaddir)
            found = unpack_dirents(said.data)
            if not found:
                break
            seen += [entry.name for entry in found]
            cookies.append(found[-1].offset)
            step = len(cookies)
            await local.remove(f"f{39 - step:02}")
            await local.remove(f"f{step:02}")
            await local.put(f"new{step}")
        assert len(seen) == len(set(seen))
        assert {f"f{number:02}" for number in range(15, 25)} <= set(seen)
        # Any cookie that was given leads on to the same entries, also backwards.
        (said,) = await ask(raw, m.Treaddir(1, cookies[1], 200))
        assert isinstance(said, m.Rreaddir)
        assert [entry.offset for entry in unpack_dirents(said.data)][-1] == cookies[2]


@STATS
async def test_a_directory_read_gives_whole_stats_only(dialect: Dialect) -> None:
    async with memory(dialect) as (local, (raw,)):
        await local.put("f")
        said = await ask(raw, m.Twalk(0, 1, ()), m.Topen(1, OREAD), m.Tread(1, 0, 20), m.Tread(1, 0, 1000))
        assert isinstance(said[2], m.Rerror)
        assert isinstance(said[3], m.Rread)
        assert [stat.name for stat in unpack_stats(said[3].data, dialect is U)] == ["f"]


async def test_plain_files_are_made_by_tmknod_too_as_linux_asks_for_them() -> None:
    async with memory(L) as (local, (raw,)):
        assert isinstance((await ask(raw, m.Tmknod(0, "f", 0o100640, 0, 0, 0)))[0], m.Rmknod)
        assert (await local.stat("f")).mode == 0o640
        for mode in (0o040755, 0o120777):
            assert await ask(raw, m.Tmknod(0, "n", mode, 0, 0, 0)) == [m.Rlerror(E.INVAL.errno)]
        assert await ask(raw, m.Tmknod(0, "n", 0o020600, 1, 3, 0)) == [m.Rlerror(E.PERM.errno)]
        assert await local.names("") == ["f"]


def test_every_message_is_asked_for_above() -> None:
    rows = {row.message for row in TABLE if is_request(row.number)}
    assert rows == ASKED.keys()


# -- the page ---------------------------------------------------------------------------------------------------------

TOP = Path(__file__).parents[2]


def test_the_page_says_of_every_message_what_is_so_and_names_tests_that_are_there() -> None:
    page = (TOP / "docs/9p-dialects.md").read_text()
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in page.splitlines() if line[:2] == "| "]
    assert rows[0] == ["messages", *(dialect.value for dialect in Dialect)]
    told = {row[0].split(", ")[0]: row[1:] for row in rows[1:]}
    assert {name for row in rows[1:] for name in row[0].split(", ")} == {row.message.__name__ for row in TABLE}
    for name, cells in told.items():
        kind = getattr(m, name)
        for dialect, cell in zip(Dialect, cells, strict=True):
            if kind not in messages_of(dialect):
                assert cell == "—", (name, dialect)
            elif kind is m.Tversion or dialect not in NOT_SAID.get(kind, ()):
                assert cell == "server, client", (name, dialect)
            else:
                assert cell == "server", (name, dialect)
    sources = {path.stem: path.read_text() for path in (TOP / "tests").glob("*/test_*.py")}
    named = re.findall(r"`(test_\w+)::(test_\w+)", page)
    assert [(module, name) for module, name in named if f"def {name}(" not in sources.get(module, "")] == []
    assert {line[2:].split(":")[0] for line in page.splitlines() if re.match(r"- [TR]\w+:", line)} == told.keys()

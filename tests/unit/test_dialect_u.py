"""9P2000.u: what it has beyond 9P2000, as an export says it and as the mount driver asks for it."""

from __future__ import annotations

import pytest

from cognu.errors import E, FileError
from cognu.files.server import Fid
from cognu.files.tree import TreeFid
from cognu.ninep import messages as m
from cognu.ninep.attrs import wire_of_setstat
from cognu.ninep.client import Agreed, ClientSession, Failed
from cognu.ninep.codec import encode, unpack_stats
from cognu.ninep.messages import Dialect
from cognu.ninep.types import (
    DMBLOCK,
    DMDEVICE,
    DMLINK,
    DMNAMEDPIPE,
    DMSOCKET,
    DMSYMLINK,
    NOTAG,
    OREAD,
    QTSYMLINK,
    Qid,
    SetStat,
)
from joined import ME, CountingServer, Joined, Raw, bring, joined, tree
from memfs import MemDirectory, MemFile
from ninep_kit import Bench
from serving import Client

OLD, U, L = Dialect.LEGACY, Dialect.U, Dialect.L


class Special(CountingServer):
    """Takes hard links, and notes what special files it was to make; devices it refuses."""

    def __init__(self) -> None:
        super().__init__("#1")
        self.made: list[tuple[str, int, int, int]] = []

    def link(self, directory: Fid, existing: Fid, name: str) -> None:
        assert isinstance(directory, TreeFid)
        assert isinstance(existing, TreeFid)
        assert isinstance(directory.node, MemDirectory)
        directory.node.children[name] = existing.node

    def mknod(self, fid: Fid, name: str, mode: int, major: int, minor: int) -> Qid:
        assert isinstance(fid, TreeFid)
        assert isinstance(fid.node, MemDirectory)
        self.made.append((name, mode, major, minor))
        if mode & DMDEVICE:
            raise FileError(E.PERM, name, "no devices here")
        return fid.node.add(MemFile(name)).qid


def special() -> Special:
    server = Special()
    for path, data in [("/d", None), ("/d/x", "d/x"), ("/f", "f")]:
        server.plant(path, data)
    server.plant_link("/l", "d/x")
    return server


def special_of(ends: Joined) -> Special:
    assert isinstance(ends.server, Special)
    return ends.server


# -- agreeing ---------------------------------------------------------------------------------------------------------


def test_the_server_answers_it_with_itself_and_what_it_does_not_speak_with_9p2000() -> None:
    assert Bench(U).session.dialect is U
    bench = Bench(None)
    bench.feed(m.Tversion(8192, "9P2000.x"), NOTAG)
    assert bench.sent() == [(NOTAG, m.Rversion(8192, "9P2000"))]


@pytest.mark.parametrize(("answer", "dialect"), [("9P2000.u", U), ("9P2000", OLD)])
def test_the_client_takes_it_or_plain_9p2000_for_it(answer: str, dialect: Dialect) -> None:
    client = ClientSession(U, 8192)
    assert b"9P2000.u" in b"".join(client.version())
    assert list(client.feed(b"".join(encode(m.Rversion(8192, answer), NOTAG, OLD)))) == [Agreed(dialect, 8192)]


REFUSALS = [
    (m.Rerror("/x: file does not exist", E.NOENT.errno), E.NOENT, "/x", ""),
    (m.Rerror("No such file or directory", E.NOENT.errno), E.NOENT, "", "No such file or directory"),
    (m.Rerror("what a pity", 0), E.IO, "", "what a pity"),
]


@pytest.mark.parametrize(("refusal", "error", "subject", "detail"), REFUSALS)
def test_an_error_is_known_by_its_text_or_else_its_number(
    refusal: m.Rerror, error: E, subject: str, detail: str
) -> None:
    client = ClientSession(U, 8192)
    client.version()
    list(client.feed(b"".join(encode(m.Rversion(8192, "9P2000.u"), NOTAG, OLD))))
    tag, _ = client.request(m.Tclunk(0))
    (event,) = client.feed(b"".join(encode(refusal, tag, U)))
    assert isinstance(event, Failed)
    assert (event.error.error, event.error.subject, event.error.detail) == (error, subject, detail)


# -- the export, by its messages --------------------------------------------------------------------------------------


async def test_errors_carry_number_and_text() -> None:
    async with joined(U, server=special()) as ends:
        raw = await Raw.over(ends, U)
        raw.send((m.Twalk(0, 1, ("none",)), 1))
        assert await raw.answers(1) == [(1, m.Rerror("/none: file does not exist", 2))]
        await raw.close()


async def test_links_are_shown_with_their_targets_not_followed() -> None:
    async with joined(U, server=special()) as ends:
        raw = await Raw.over(ends, U)
        raw.send((m.Twalk(0, 1, ("l",)), 1), (m.Tstat(1), 2), (m.Twalk(0, 2, ("l", "x")), 3))
        (_, walked), (_, told), (_, short) = await raw.answers(3)
        assert isinstance(walked, m.Rwalk)
        assert [qid.type for qid in walked.qids] == [QTSYMLINK]
        assert isinstance(told, m.Rstat)
        assert (told.stat.mode, told.stat.extension) == (DMSYMLINK | 0o777, "d/x")
        assert short == walked  # a link ends a walk, as a file does
        await raw.open_path("d", 3, OREAD)
        raw.send((m.Twalk(0, 4, ()), 1), (m.Topen(4, OREAD), 2), (m.Tread(4, 0, 8000), 3))
        _, _, (_, read) = await raw.answers(3)
        assert isinstance(read, m.Rread)
        assert {stat.name: stat.extension for stat in unpack_stats(read.data, True)} == {"l": "d/x", "f": "", "d": ""}
        await raw.close()


async def test_tcreate_makes_links_pipes_and_sockets_which_are_not_open() -> None:
    async with joined(U, server=special()) as ends:
        raw = await Raw.over(ends, U)
        raw.send(
            (m.Twalk(0, 1, ()), 1), (m.Tcreate(1, "new", DMSYMLINK | 0o777, OREAD, "d/x"), 2), (m.Tread(1, 0, 9), 3)
        )
        _, (_, made), (_, read) = await raw.answers(3)
        assert isinstance(made, m.Rcreate)
        assert made.qid.type == QTSYMLINK
        assert isinstance(read, m.Rerror)
        raw.send((m.Tstat(1), 1), (m.Tclunk(1), 2), (m.Twalk(0, 1, ()), 3), (m.Twalk(0, 9, ("f",)), 4))
        (_, told), *_ = await raw.answers(4)
        assert isinstance(told, m.Rstat)
        assert told.stat.extension == "d/x"
        raw.send((m.Tcreate(1, "again", DMLINK, OREAD, "9\n"), 1), (m.Tclunk(1), 2))
        (_, linked), _ = await raw.answers(2)
        assert isinstance(linked, m.Rcreate)
        assert ends.server.at("/again") is ends.server.at("/f")
        for name, kind in (("pipe", DMNAMEDPIPE), ("socket", DMSOCKET)):
            raw.send((m.Twalk(0, 1, ()), 1), (m.Tcreate(1, name, kind | 0o640, OREAD, ""), 2), (m.Tclunk(1), 3))
            assert isinstance((await raw.answers(3))[1][1], m.Rcreate)
        assert special_of(ends).made == [("pipe", DMNAMEDPIPE | 0o640, 0, 0), ("socket", DMSOCKET | 0o640, 0, 0)]
        await raw.close()


WRONG = [
    (m.Tcreate(1, "n", DMDEVICE | 0o600, OREAD, "b 8 1"), E.PERM),
    (m.Tcreate(1, "n", DMDEVICE | 0o600, OREAD, "b 8"), E.INVAL),
    (m.Tcreate(1, "n", DMDEVICE | 0o600, OREAD, ""), E.INVAL),
    (m.Tcreate(1, "n", DMDEVICE | DMSOCKET, OREAD, "c 1 3"), E.INVAL),
    (m.Tcreate(1, "n", DMLINK, OREAD, "77"), E.BADF),
    (m.Tcreate(1, "n", DMLINK, OREAD, "-1"), E.BADF),
    (m.Tcreate(1, "n", DMLINK, OREAD, "d/x"), E.BADF),
    (m.Tcreate(1, "f", DMSYMLINK, OREAD, "x"), E.EXIST),
]


@pytest.mark.parametrize(("request_", "error"), WRONG)
async def test_what_can_not_be_made_is_refused_and_the_fid_stays_the_directory(request_: m.Tcreate, error: E) -> None:
    async with joined(U, server=special()) as ends:
        raw = await Raw.over(ends, U)
        raw.send((m.Twalk(0, 1, ()), 1), (request_, 2), (m.Twalk(1, 2, ("d",)), 3))
        _, (_, refusal), (_, walked) = await raw.answers(3)
        assert isinstance(refusal, m.Rerror)
        assert refusal.ecode == error.errno
        assert isinstance(walked, m.Rwalk)
        await raw.close()


async def test_on_plain_9p2000_these_bits_make_no_special_files() -> None:
    async with joined(OLD, server=special()) as ends:
        raw = await Raw.over(ends, OLD)
        raw.send((m.Twalk(0, 1, ()), 1), (m.Tcreate(1, "n", DMSYMLINK | 0o666, OREAD), 2))
        assert isinstance((await raw.answers(2))[1][1], m.Rcreate)
        assert isinstance(ends.server.at("/n"), MemFile)
        await raw.close()


async def test_a_twstat_that_touches_nothing_makes_durable_and_one_that_touches_the_target_is_refused() -> None:
    async with joined(U, server=special()) as ends:
        raw = await Raw.over(ends, U)
        untouched = wire_of_setstat(SetStat(), 0, True)
        raw.send((m.Twalk(0, 1, ("l",)), 1), (m.Twstat(1, untouched), 2))
        raw.send((m.Twstat(1, untouched._replace(extension="f")), 3), (m.Tstat(1), 4))
        _, durable, (_, refusal), (_, told) = await raw.answers(4)
        assert durable == (2, m.Rwstat())
        assert isinstance(refusal, m.Rerror)
        assert refusal.ecode == E.PERM.errno
        assert isinstance(told, m.Rstat)
        raw.send((m.Twstat(1, told.stat), 1))  # a whole stat written back
        assert await raw.answers(1) == [(1, m.Rwstat())]
        await raw.close()


# -- the mount driver -------------------------------------------------------------------------------------------------


async def test_the_mount_driver_makes_and_reads_links_and_special_files() -> None:
    async with joined(U, server=special()) as ends:
        client, mount = Client(ends.mount, ME), ends.mount
        assert mount.dialect is U
        await client.symlink("d/new", "../f")
        assert await client.readlink("d/new") == "../f"
        assert await bring(client.readlink("f")) is E.INVAL
        assert (await client.stat("d/new")).is_symlink
        root, file = await client.walk(""), await client.walk("f")
        await mount.link(root, file, "again")
        assert ends.server.at("/again") is ends.server.at("/f")
        await mount.mknod(root, "pipe", DMNAMEDPIPE | 0o600, 0, 0)
        assert await bring(mount.mknod(root, "disk", DMDEVICE | DMBLOCK | 0o600, 8, 1)) is E.PERM
        assert special_of(ends).made == [
            ("pipe", DMNAMEDPIPE | 0o600, 0, 0), ("disk", DMDEVICE | DMBLOCK | 0o600, 8, 1),
        ]  # fmt: skip
        assert await bring(mount.statfs(root)) is E.NOTSUP
        for fid in (root, file):
            mount.clunk(fid)
        client.close()


@pytest.mark.parametrize("dialect", [OLD, L])
async def test_the_same_over_the_other_dialects(dialect: Dialect) -> None:
    async with joined(dialect, server=special()) as ends:
        mount = ends.mount
        root = await mount.attach(ME, "")
        if dialect is L:
            await mount.mknod(root, "pipe", DMNAMEDPIPE | 0o600, 0, 0)
            await mount.mknod(root, "socket", DMSOCKET | 0o600, 0, 0)
            assert await bring(mount.mknod(root, "disk", DMDEVICE | DMBLOCK | 0o600, 8, 1)) is E.PERM
            assert special_of(ends).made[2] == ("disk", DMDEVICE | DMBLOCK | 0o600, 8, 1)
        else:
            for refused in (mount.mknod(root, "p", DMNAMEDPIPE, 0, 0), mount.symlink(root, "s", "t")):
                assert await bring(refused) is E.NOTSUP
        mount.clunk(root)


async def test_a_directory_of_a_9p2000_u_server_is_listed_with_links_as_links() -> None:
    async with joined(U, server=tree()) as ends:
        client = Client(ends.mount, ME)
        listed = {entry.name: entry for entry in await client.entries("")}
        assert sorted(listed) == ["d", "f", "l", "w"]
        assert listed["l"].qid.type == QTSYMLINK
        client.close()

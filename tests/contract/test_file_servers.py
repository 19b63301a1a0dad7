"""What every writable file server promises of files, names and directories, whatever it keeps them in."""

from __future__ import annotations

import pytest

from cognu.errors import E, FileError
from cognu.files.server import OAPPEND
from cognu.ninep.types import (
    DMDIR,
    OEXEC,
    ORDWR,
    OREAD,
    OTRUNC,
    OWRITE,
    QTDIR,
    SetStat,
)
from contract.servers import refused
from serving import Client, done


async def test_what_is_written_is_read_back(client: Client) -> None:
    await client.put("a", b"hello")
    assert await client.read("a") == b"hello"
    stat = await client.stat("a")
    assert (stat.name, stat.length, stat.mode) == ("a", 5, 0o666)


async def test_reads_stop_at_the_end_and_give_what_was_asked(client: Client) -> None:
    await client.put("a", b"0123456789")
    fid = await client.open("a")
    assert await client.read_fid(fid, 4, 3) == b"3456"
    assert await client.read_fid(fid, 4, 8) == b"89"
    assert await client.read_fid(fid, 4, 10) == b""
    assert await client.read_fid(fid, 4, 1 << 40) == b""
    assert await client.read_fid(fid, 0, 0) == b""
    client.server.clunk(fid)


async def test_a_write_beyond_the_end_leaves_zeros_between(client: Client) -> None:
    await client.put("a", b"x")
    assert await client.write("a", b"yz", offset=4) == 2
    assert await client.read("a") == b"x\0\0\0yz"
    assert await client.write("a", b"", offset=100) == 0
    assert (await client.stat("a")).length == 6


async def test_a_write_within_changes_only_its_bytes(client: Client) -> None:
    await client.put("a", b"0123456789")
    assert await client.write("a", b"XY", offset=3) == 2
    assert await client.read("a") == b"012XY56789"


async def test_truncating_at_open_empties_and_plain_open_does_not(client: Client) -> None:
    await client.put("a", b"hello")
    client.server.clunk(await client.open("a", OWRITE))
    assert await client.read("a") == b"hello"
    client.server.clunk(await client.open("a", OWRITE | OTRUNC))
    assert await client.read("a") == b""
    await client.write("a", b"again")
    client.server.clunk(await client.open("a", OREAD | OTRUNC))
    assert await client.read("a") == b""


async def test_append_writes_go_to_the_end_whatever_their_offset(client: Client) -> None:
    await client.put("a", b"one")
    assert await client.write("a", b"two", OWRITE | OAPPEND, offset=0) == 3
    assert await client.read("a") == b"onetwo"


async def test_length_is_set_by_wstat_both_ways(client: Client) -> None:
    await client.put("a", b"hello")
    await client.wstat("a", SetStat(length=2))
    assert await client.read("a") == b"he"
    await client.wstat("a", SetStat(length=4))
    assert await client.read("a") == b"he\0\0"


async def test_what_attributes_can_not_be_is_refused(local: Client) -> None:
    await local.put("a", b"x")
    await refused(E.INVAL, local.wstat("a", SetStat(length=-1)))
    await refused(E.PERM, local.wstat("a", SetStat(mode=DMDIR | 0o777)))
    await refused(E.ISDIR, local.create("d", DMDIR | 0o777, ORDWR))
    assert await local.names("") == ["a"]
    assert await local.read("a") == b"x"


async def test_only_plain_files_have_a_length_to_set(client: Client) -> None:
    await client.mkdir("d")
    await client.symlink("s", "d")
    await refused(E.ISDIR, client.wstat("d", SetStat(length=1)))
    await client.wstat("d", SetStat(length=0, mode=DMDIR | 0o700))
    assert (await client.stat("d")).mode == DMDIR | 0o700
    with pytest.raises(FileError):
        await client.wstat("s", SetStat(length=0))


async def test_an_open_file_is_used_only_as_it_was_opened(client: Client) -> None:
    await client.put("a", b"x")
    for mode, readable, writable in (
        (OREAD, True, False),
        (OWRITE, False, True),
        (ORDWR, True, True),
        (OEXEC, True, False),
    ):
        fid = await client.open("a", mode)
        if readable:
            assert await client.read_fid(fid) == b"x"
        else:
            await refused(E.BADF, client.read_fid(fid))
        if writable:
            assert await client.write_fid(fid, b"x") == 1
        else:
            await refused(E.BADF, client.write_fid(fid, b"x"))
        client.server.clunk(fid)
    fid = await client.walk("a")
    await refused(E.BADF, client.read_fid(fid))
    await refused(E.BADF, client.write_fid(fid, b"x"))
    client.server.clunk(fid)


async def test_a_file_is_opened_for_writing_by_who_makes_it_read_only(client: Client) -> None:
    fid = await client.create("a", 0o444, ORDWR)
    assert await client.write_fid(fid, b"hi") == 2
    assert await client.read_fid(fid) == b"hi"
    client.server.clunk(fid)
    assert (await client.stat("a")).mode == 0o444


async def test_the_directorys_permissions_bound_the_new_files(client: Client) -> None:
    client.server.clunk(await client.create("d", DMDIR | 0o750, OREAD))
    await client.put("d/f")
    client.server.clunk(await client.create("d/s", DMDIR | 0o777, OREAD))
    assert (await client.stat("d/f")).mode == 0o640
    assert (await client.stat("d/s")).mode == DMDIR | 0o750


async def test_creating_what_is_there_is_refused_and_changes_nothing(client: Client) -> None:
    await client.put("a", b"kept")
    await refused(E.EXIST, client.create("a"))
    await refused(E.EXIST, client.create("a", DMDIR | 0o777, OREAD))
    assert await client.read("a") == b"kept"


@pytest.mark.parametrize(("name", "error"), [("", E.INVAL), (".", E.INVAL), ("..", E.INVAL), ("a/b", E.INVAL)])
async def test_what_is_no_name_can_not_be_created(local: Client, name: str, error: E) -> None:
    root = await local.walk("")
    await refused(error, lambda: local.server.create(root, name, 0o666, ORDWR, local.caller))
    local.server.clunk(root)
    assert await local.names("") == []


async def test_names_have_a_limit_and_any_utf8(client: Client) -> None:
    await refused(E.NAMETOOLONG, client.create("x" * 256))
    for name in ("x" * 255, "ü" * 127, "a b", "'", "\n", "-rf"):
        await client.put(name, name.encode())
        assert await client.read(name) == name.encode()


async def test_files_are_made_in_directories_only(client: Client) -> None:
    await client.put("a")
    await refused(E.NOTDIR, client.create("a/b"))
    await refused(E.NOTDIR, client.walk("a/b"))
    assert await client.names("") == ["a"]


async def test_a_walk_that_fails_later_tells_how_far_it_came(client: Client) -> None:
    await client.mkdir("d")
    await client.put("d/f")
    root = await client.walk("")
    walked = await done(client.server.walk(root, ["d", "f", "x"], client.caller))
    assert walked.fid is None
    assert [qid.type & QTDIR for qid in walked.qids] == [QTDIR, 0]
    assert walked.qids[1] == (await client.stat("d/f")).qid
    await refused(E.NOENT, lambda: client.server.walk(root, ["none", "f"], client.caller))
    walked = await done(client.server.walk(root, ["d", "f"], client.caller))
    assert walked.fid is not None
    assert len(walked.qids) == 2
    client.server.clunk(walked.fid)
    client.server.clunk(root)


async def test_dot_dot_goes_up_and_stays_at_the_root(client: Client) -> None:
    await client.mkdir("d")
    await client.mkdir("d/e")
    fid = await client.walk("d/e")
    for expected in ("d", "/", "/"):
        walked = await done(client.server.walk(fid, [".."], client.caller))
        assert walked.fid is not None
        client.server.clunk(fid)
        fid = walked.fid
        assert (await done(client.server.stat(fid))).name == expected
    client.server.clunk(fid)


async def test_dot_dot_of_a_moved_directory_is_where_it_was_walked_from(linux: Client) -> None:
    for path in ("a", "a/b", "c", "secret"):
        await linux.mkdir(path)
    fid = await linux.walk("a/b")
    await linux.rename("a/b", "c/b")
    walked = await done(linux.server.walk(fid, [".."], linux.caller))
    assert walked.fid is not None
    assert (await done(linux.server.stat(walked.fid))).name == "a"
    linux.server.clunk(walked.fid)
    linux.server.clunk(fid)


async def test_a_fid_follows_the_renames_of_what_is_above_it(local: Client) -> None:
    await local.mkdir("a")
    await local.mkdir("a/b")
    await local.put("a/b/f", b"x")
    fid = await local.walk("a/b/f")
    await local.rename("a", "z")
    await done(local.server.wstat(fid, SetStat(name="g")))
    assert await local.read("z/b/g") == b"x"
    assert (await done(local.server.stat(fid))).name == "g"
    await done(local.server.remove(fid))
    local.server.clunk(fid)
    assert await local.names("z/b") == []


async def test_a_cloned_fid_lives_apart(client: Client) -> None:
    await client.put("a", b"x")
    fid = await client.walk("a")
    twin = (await done(client.server.walk(fid, [], client.caller))).fid
    assert twin is not None
    client.server.clunk(fid)
    opened = await done(client.server.open(twin, OREAD, client.caller))
    assert await client.read_fid(opened) == b"x"
    client.server.clunk(opened)


async def test_a_directory_is_read_in_pieces_by_cookie(client: Client) -> None:
    expected = sorted(f"f{number:02d}" for number in range(25))
    for name in expected:
        await client.put(name, name.encode())
    await client.mkdir("sub")
    for count in (1, 7, 100):
        assert await client.names("", count) == [*expected, "sub"]
    for entry in await client.entries("", 3):
        stat = await client.stat(entry.name)
        assert entry.stat in (None, stat)
        assert entry.qid == stat.qid


async def test_reading_a_directory_goes_on_from_any_cookie_and_starts_anew_from_0(client: Client) -> None:
    for name in "abcdef":
        await client.put(name)
    fid = await client.open("")
    whole = await done(client.server.readdir(fid, 0, 100))
    assert await done(client.server.readdir(fid, whole[2].cookie, 2)) == whole[3:5]
    assert await done(client.server.readdir(fid, whole[-1].cookie, 2)) == []
    await client.put("g")
    assert len(await done(client.server.readdir(fid, 0, 100))) == 7
    client.server.clunk(fid)


async def test_what_goes_away_while_a_directory_is_read_ends_nothing(client: Client) -> None:
    for name in "abcdefgh":
        await client.put(name)
    fid = await client.open("")
    first = await done(client.server.readdir(fid, 0, 2))
    gone = {"a", "b", "c", "d", "e", "f", "g", "h"} - {entry.name for entry in first}
    for name in sorted(gone)[1:]:
        await client.remove(name)
    seen = [entry.name for entry in first]
    cookie = first[-1].cookie
    while batch := await done(client.server.readdir(fid, cookie, 1)):
        seen += [entry.name for entry in batch]
        cookie = batch[-1].cookie
    assert sorted(gone)[0] in seen
    client.server.clunk(fid)


async def test_files_are_not_read_as_directories_nor_directories_as_files(client: Client) -> None:
    await client.mkdir("d")
    await client.put("f")
    fid = await client.open("f")
    await refused(E.NOTDIR, lambda: client.server.readdir(fid, 0, 10))
    client.server.clunk(fid)
    fid = await client.open("d")
    await refused(E.ISDIR, client.read_fid(fid))
    client.server.clunk(fid)
    await refused(E.ISDIR, client.open("d", OWRITE))
    await refused(E.ISDIR, client.open("d", OREAD | OTRUNC))

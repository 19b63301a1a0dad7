"""The small devices: the root and skeleton trees, cons, env."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognu.devices.cons import MAX_RANDOM, MAX_READ, cons_server
from cognu.devices.env import MAX_VALUE, MAX_VARIABLES, env_server
from cognu.devices.root import ROOT_DIRECTORIES, SkeletonServer, root_server
from cognu.errors import E, FileError
from cognu.files.process import Fork, Process, ProcessTable, Share
from cognu.ninep.types import DMDIR, ORCLOSE, ORDWR, OREAD, OTRUNC, OWRITE, SetStat
from cognu.world import World
from cognu.world.real import real_world
from serving import Client, Node, done


class Clock:
    def now(self) -> int:
        return 1_700_000_000_123_456_789

    def monotonic(self) -> int:
        return 42

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing sleeps here")


def world() -> World:
    return replace(real_world(), clock=Clock())


def error_of(caught: pytest.ExceptionInfo[FileError]) -> E:
    return caught.value.error


# -- root -------------------------------------------------------------------------------------------------------------


async def test_the_root_has_all_places_to_mount_on_and_takes_nothing() -> None:
    client = Client(root_server(["/home", "/usr"]))
    for path in (*ROOT_DIRECTORIES, "/home", "/usr"):
        assert (await client.stat(path)).mode == DMDIR | 0o555
    assert await client.names("mnt") == ["host", "term"]
    for call in (client.create("new"), client.remove("tmp"), client.wstat("tmp", SetStat(name="x"))):
        with pytest.raises(FileError) as caught:
            await call
        assert (caught.value.error, caught.value.detail) == (E.ACCES, "#R refuses it")


async def test_a_skeleton_has_just_what_leads_to_its_paths() -> None:
    client = Client(SkeletonServer(["/tmp", "/home/me/src/"], ["/home/me/notes.txt", "//etc/passwd"]))
    assert await client.names("") == ["etc", "home", "tmp"]
    assert await client.names("home") == ["me"]
    assert await client.names("home/me") == ["notes.txt", "src"]
    assert (await client.stat("etc/passwd")).mode == 0
    with pytest.raises(FileError) as caught:
        await client.open("etc/passwd")
    assert error_of(caught) is E.ACCES


@pytest.mark.parametrize(
    ("directories", "files", "error"),
    [
        (["tmp"], [], E.INVAL),
        (["/a/../b"], [], E.INVAL),
        (["/a/./b"], [], E.INVAL),
        (["/a\0b"], [], E.INVAL),
        ([""], [], E.INVAL),
        (["/a"], ["/a"], E.ISDIR),
        ([], ["/"], E.ISDIR),
        ([], ["/a", "/a/b"], E.NOTDIR),
    ],
)
def test_a_skeleton_refuses_paths_that_make_no_tree(directories: list[str], files: list[str], error: E) -> None:
    with pytest.raises(FileError) as caught:
        SkeletonServer(directories, files)
    assert error_of(caught) is error


@given(st.lists(st.text(max_size=20)), st.lists(st.text(max_size=20)))
def test_a_skeleton_of_any_texts_is_made_or_refused(directories: list[str], files: list[str]) -> None:
    refused: E | None = None
    try:
        SkeletonServer(directories, files)
    except FileError as error:
        refused = error.error
    assert refused in (None, E.INVAL, E.ISDIR, E.NOTDIR)


# -- cons -------------------------------------------------------------------------------------------------------------


async def test_null_takes_all_and_gives_nothing() -> None:
    client = Client(cons_server(world(), "desk", ProcessTable(lambda: 0)))
    assert await client.read("null") == b""
    assert await client.write("null", b"x" * 1000) == 1000
    client.server.clunk(await client.open("null", OWRITE | OTRUNC))


async def test_zero_and_random_give_as_much_as_is_asked_within_bounds() -> None:
    client = Client(cons_server(world(), "desk", ProcessTable(lambda: 0)))
    fid = await client.open("zero")
    assert await client.read_fid(fid, 10, 1 << 50) == bytes(10)
    assert len(await client.read_fid(fid, 1 << 40)) == MAX_READ
    fid = await client.open("random")
    first, second = await client.read_fid(fid, 32), await client.read_fid(fid, 32)
    assert len(first) == 32
    assert first != second
    assert len(await client.read_fid(fid, 1 << 40)) == MAX_RANDOM
    for name in ("zero", "random", "time"):
        with pytest.raises(FileError) as caught:
            await client.open(name, OWRITE)
        assert error_of(caught) is E.ACCES


async def test_time_has_the_fields_of_cons_3() -> None:
    client = Client(cons_server(world(), "desk", ProcessTable(lambda: 0)))
    text = await client.read("time")
    assert [int(word) for word in text.split()] == [1_700_000_000, 1_700_000_000_123_456_789, 42, 10**9]
    assert len(text) == 12 + 3 * 22


async def test_sysname_and_user_say_who() -> None:
    client = Client(cons_server(world(), "desk", ProcessTable(lambda: 0)))
    assert await client.read("sysname") == b"desk"
    assert await client.read("user") == b"glenda"
    assert await client.read("pid") == b"1"


async def test_drivers_are_those_that_the_opener_may_attach() -> None:
    node = Node(root_server())
    process = await node.start()
    child = node.processes.fork(process, Fork(devices=False))
    server = cons_server(world(), "desk", node.processes)
    process.namespace.devices["x"] = process.namespace.devices["R"]
    assert await Client(server, process).read("drivers") == b"#R root\n#x -\n"
    assert await Client(server, child).read("drivers") == b""
    node.processes.end(child, 0)
    with pytest.raises(FileError) as caught:
        await Client(server, child).read("drivers")
    assert error_of(caught) is E.SRCH


# -- env --------------------------------------------------------------------------------------------------------------


async def process_and_env() -> tuple[Node, Process, Client]:
    node = Node(root_server())
    process = await node.start()
    return node, process, Client(env_server(node.processes), process)


async def test_variables_are_files_of_the_callers_own() -> None:
    node, process, client = await process_and_env()
    await client.put("HOME", b"/home/me")
    assert process.environment.values == {"HOME": b"/home/me"}
    child = node.processes.fork(process)
    shared = node.processes.fork(process, Fork(environment=Share.SHARE))
    theirs = Client(client.server, child)
    await theirs.write("HOME", b"/tmp", OWRITE | OTRUNC)
    await theirs.put("X", b"1")
    assert await theirs.names("") == ["HOME", "X"]
    assert await client.names("") == ["HOME"]
    assert await client.read("HOME") == b"/home/me"
    await Client(client.server, shared).put("Y", b"2")
    assert await client.read("Y") == b"2"


async def test_a_mounted_env_shows_each_process_its_own() -> None:
    node = Node(root_server())
    process = await node.start({"/env": env_server(node.processes)})
    process.environment.values["A"] = b"parent"
    child = node.processes.fork(process)
    child.environment.values["A"] = b"child"
    for who, value in ((process, b"parent"), (child, b"child")):
        chan = await node.open(who, "/env/A")
        assert await done(chan.server.read(chan.fid, 0, 100)) == value
        chan.close()


async def test_a_variable_keeps_its_qid_and_is_written_in_place() -> None:
    _, _, client = await process_and_env()
    await client.put("A", b"hello")
    await client.put("B", b"")
    assert (await client.stat("A")).qid == (await client.stat("A")).qid
    assert (await client.stat("A")).qid.path != (await client.stat("B")).qid.path
    await client.write("A", b"XY", offset=7)
    assert await client.read("A") == b"hello\0\0XY"
    await client.wstat("A", SetStat(length=2))
    assert await client.read("A") == b"he"
    assert (await client.stat("A")).length == 2


async def test_a_removed_variable_is_gone_for_those_who_have_it_open() -> None:
    _, process, client = await process_and_env()
    await client.put("A", b"x")
    fid = await client.open("A", ORDWR)
    await client.remove("A")
    for call in (client.read_fid(fid), client.write_fid(fid, b"y")):
        with pytest.raises(FileError) as caught:
            await call
        assert error_of(caught) is E.NOENT
    client.server.clunk(fid)
    client.server.clunk(await client.create("T", 0o666, ORDWR | ORCLOSE))
    assert process.environment.values == {}


async def test_the_environment_is_bounded() -> None:
    _, process, client = await process_and_env()
    await client.put("A", bytes(MAX_VALUE))
    for call in (client.write("A", b"x", offset=MAX_VALUE), client.wstat("A", SetStat(length=MAX_VALUE + 1))):
        with pytest.raises(FileError) as caught:
            await call
        assert error_of(caught) is E.FBIG
    process.environment.values.update({f"v{number}": b"" for number in range(MAX_VARIABLES - 1)})
    with pytest.raises(FileError) as caught:
        await client.create("B")
    assert error_of(caught) is E.NOSPC


async def test_what_is_no_variable_is_refused() -> None:
    _, _, client = await process_and_env()
    await client.put("A")
    for name, perm, error in (("A", 0o666, E.EXIST), ("d", DMDIR | 0o777, E.PERM), ("..", 0o666, E.INVAL)):
        root = await client.walk("")
        with pytest.raises(FileError) as caught:
            client.server.create(root, name, perm, OREAD, client.caller)
        assert error_of(caught) is error
    with pytest.raises(FileError) as caught:
        await client.read("none")
    assert error_of(caught) is E.NOENT

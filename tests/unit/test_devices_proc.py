"""Processes as files: what each may see, starting one, waiting for one, ending one, its namespace as text."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognu.devices.proc import ProcServer
from cognu.devices.procctl import MAX_ARGUMENTS, MAX_ITEMS, NEW_VERBS, RUNNING_VERBS
from cognu.devices.ram import RamServer
from cognu.errors import E, FileError
from cognu.files.chan import Chan
from cognu.files.launch import Grant, Launch, Mapping
from cognu.files.process import Process, State
from cognu.files.server import Fid
from cognu.ninep.types import OEXEC, ORDWR, OREAD, OWRITE
from cognu.world.real import RealClock
from serving import Client, Node


class Starter:
    """What a node gives: starts processes, mounts services; here both are told what to do."""

    def __init__(self) -> None:
        self.started: list[tuple[Process, Launch]] = []
        self.mounted: list[tuple[str, str]] = []
        self.failure: FileError | None = None
        self.gate: asyncio.Event | None = None
        self.begun = asyncio.Event()

    async def __call__(self, process: Process, launch: Launch) -> None:
        self.begun.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        self.started.append((process, launch))

    async def mount_service(self, chan: Chan, aname: str) -> Chan:
        """Stands for 9P over `chan`: gives a tree of memory."""
        self.mounted.append((str(chan.path), aname))
        chan.close()
        return self.tree.share()

    tree: Chan


class Desk:
    def __init__(self, everything: bool = False) -> None:
        self.ram = RamServer(RealClock())
        self.node = Node(self.ram)
        self.starter = Starter()
        self.proc = ProcServer(self.node.processes, self.starter, self.starter, everything=everything)

    async def start(self) -> Process:
        files = Client(self.ram)
        for path in ("a", "b", "a/x", "b/y", "mnt"):
            await files.mkdir(path)
        await files.put("f", b"0123456789")
        init = await self.node.start()
        self.starter.tree = await self.node.open(init, "/b")
        return init

    def child(self, of: Process) -> Process:
        child = self.node.processes.fork(of)
        child.state = State.RUNNING
        return child


async def refused(error: E, call: Awaitable[Any]) -> FileError:
    with pytest.raises(FileError) as caught:
        await call
    assert caught.value.error is error, caught.value
    return caught.value


async def tell(client: Client, fid: Fid, text: str) -> None:
    assert await client.write_fid(fid, text.encode()) == len(text.encode())


# -- what is there ----------------------------------------------------------------------------------------------------


async def test_a_process_sees_itself_and_those_below() -> None:
    desk = Desk()
    init = await desk.start()
    one, two = desk.child(init), desk.child(init)
    below = desk.child(one)
    pids = {who.pid: await Client(desk.proc, who).names("") for who in (init, one, two, below)}
    assert pids[init.pid] == sorted(["clone", "kept", *(str(who.pid) for who in (init, one, two, below))])
    assert pids[one.pid] == sorted(["clone", "kept", str(one.pid), str(below.pid)])
    assert pids[two.pid] == sorted(["clone", "kept", str(two.pid)])
    await refused(E.NOENT, Client(desk.proc, two).walk(str(one.pid)))
    await refused(E.NOENT, Client(desk.proc, below).walk(f"{one.pid}/ctl"))


@pytest.mark.parametrize("mode", [OREAD, OEXEC])
async def test_who_may_only_read_makes_no_process(mode: int) -> None:
    """Opening for reading is all that a capability without WRITE allows."""
    desk = Desk()
    client = Client(desk.proc, await desk.start())
    before = await client.names("")
    assert "clone" in before
    await refused(E.ACCES, client.open("clone", mode))
    assert await client.names("") == before


async def test_a_server_may_show_everything() -> None:
    desk = Desk(everything=True)
    init = await desk.start()
    one, two = desk.child(init), desk.child(init)
    assert str(one.pid) in await Client(desk.proc, two).names("")
    assert (await Client(desk.proc, two).read(f"{one.pid}/ctl")).decode() == f"{one.pid}\n"


@given(st.text(st.sampled_from("0123456789+-. ²٣"), max_size=25))
def test_only_pids_as_they_are_listed_are_found(name: str) -> None:
    async def scenario() -> None:
        desk = Desk()
        init = await desk.start()
        if name not in ("", ".", "..", str(init.pid)):
            await refused(E.NOENT, Client(desk.proc, init).walk(name))

    asyncio.run(scenario())


async def test_status_and_args_tell_about_a_process() -> None:
    desk = Desk()
    init = await desk.start()
    child = desk.child(init)
    child.args = ["/bin/wc.wasm", "a b", ""]
    child.detail = lambda: {"memory": 65536, "engine": "one two"}
    client = Client(desk.proc, init)
    names = ["args", "ctl", "fd", "mem-limits", "note", "noteid", "notepg", "ns", "status", "wait", "wants"]
    assert await client.names(str(child.pid)) == names
    assert await client.read(f"{child.pid}/args") == b"/bin/wc.wasm 'a b' ''\n"
    lines = dict(line.split(" ", 1) for line in (await client.read(f"{child.pid}/status")).decode().splitlines())
    assert lines == {
        "name": "wc.wasm", "state": "Running", "pid": str(child.pid), "parent": str(init.pid), "user": "glenda",
        "node": "-", "started": "1000000000", "memory": "65536", "engine": "'one two'", "noteid": str(init.pid),
        "weight": "100", "limit.memory": "0/-", "limit.cpu": "0/-", "limit.files": "0/-", "limit.processes": "1/-",
        "limit.pipe": "0/-", "limit.disk": "0/-",
    }  # fmt: skip
    stats = [await client.stat(f"{child.pid}/{name}") for name in await client.names(str(child.pid))]
    assert len({stat.qid.path for stat in stats}) == len(names)
    assert stats[0].qid == (await client.stat(f"{child.pid}/args")).qid


# -- waiting ----------------------------------------------------------------------------------------------------------


async def test_any_number_wait_for_an_end_and_read_its_line() -> None:
    desk = Desk()
    init = await desk.start()
    child = desk.child(init)
    child.detail = lambda: {"utime": 5, "stime": 6}
    client = Client(desk.proc, init)
    fids = [await client.open(f"{child.pid}/wait") for _ in range(3)]
    waiting = [asyncio.ensure_future(client.read_fid(fid)) for fid in fids]
    await asyncio.sleep(0)
    waiting.pop().cancel()
    assert not any(task.done() for task in waiting)
    desk.node.processes._now = lambda: 3_500_000_000
    desk.node.processes.end(child, 3, "it's\nover")
    expected = f"{child.pid} 5 6 2500 'it''s over' 3\n".encode()
    assert await asyncio.gather(*waiting) == [expected, expected]
    assert await client.read_fid(fids[2], offset=4) == expected[4:]
    assert await client.read_fid(fids[0], offset=len(expected)) == b""
    await refused(E.NOENT, client.walk(str(child.pid)))


async def test_the_status_of_an_ended_process_stays_readable_for_who_has_it_open() -> None:
    desk = Desk()
    init = await desk.start()
    child = desk.child(init)
    client = Client(desk.proc, init)
    walked, ns = await client.walk(f"{child.pid}/status"), await client.walk(f"{child.pid}/ns")
    desk.node.processes.end(child, 0)
    fid = desk.proc.open(walked, OREAD, init)
    assert isinstance(fid, Fid)
    assert b"state Dead\n" in await client.read_fid(fid)
    with pytest.raises(FileError) as caught:
        desk.proc.open(ns, OREAD, init)
    assert caught.value.error is E.SRCH


# -- starting ---------------------------------------------------------------------------------------------------------


async def test_clone_makes_a_child_that_ctl_describes_and_starts() -> None:
    desk = Desk()
    init = await desk.start()
    chan = await desk.node.open(init, "/f", OREAD)
    init.descriptors.add(chan, 9)
    init.environment.values["KEPT"] = b"yes"
    client = Client(desk.proc, init)
    ctl = await client.open("clone", ORDWR)
    child = desk.node.processes[int(await client.read_fid(ctl))]
    assert child.parent is init
    assert list(child.descriptors) == []
    await tell(client, ctl, "program wc.wasm\narg -l 'a b'\narg ''\narg 'two\nlines'\nenv X=1=2\nenv KEPT=\n")
    await tell(
        client, ctl, "cd /a\ngrant /f wr\ngrant /a x\ndir /b here\nlimit memory 1000\nlimit files 3\nimport TOKEN"
    )
    await tell(client, ctl, "fd 0 9 4")
    await tell(client, ctl, "start")
    assert child.state is State.RUNNING
    assert desk.starter.started == [(child, child.launch)]
    launch = child.launch
    assert (launch.program, launch.args, launch.token) == ("wc.wasm", ["-l", "a b", "", "two\nlines"], "TOKEN")
    assert launch.grants == [Grant("/f", "rw"), Grant("/a", "x")]
    assert launch.directories == [Mapping("/b", "here")]
    assert launch.limits == {"memory": 1000, "files": 3}
    assert child.args == ["wc.wasm", "-l", "a b", "", "two\nlines"]
    assert child.environment.values == {"KEPT": b"", "X": b"1=2"}
    assert init.environment.values == {"KEPT": b"yes"}
    assert str(child.cwd.path) == "/a"
    assert child.descriptors.limit == 3
    assert child.descriptors[0].handle is chan.handle
    assert chan.handle.offset == 4
    desk.proc.clunk(ctl)
    assert child.state is State.RUNNING


async def test_closing_ctl_before_start_ends_the_child() -> None:
    desk = Desk()
    init = await desk.start()
    client = Client(desk.proc, init)
    ctl = await client.open("clone", ORDWR)
    child = desk.node.processes[int(await client.read_fid(ctl))]
    other = await client.open(f"{child.pid}/ctl", ORDWR)
    desk.proc.clunk(other)
    assert not child.ended.is_set()
    desk.proc.clunk(ctl)
    assert child.state is State.DEAD
    assert child.pid not in desk.node.processes


async def test_a_start_that_fails_may_be_tried_again() -> None:
    desk = Desk()
    init = await desk.start()
    client = Client(desk.proc, init)
    ctl = await client.open("clone", ORDWR)
    await refused(E.USAGE, tell(client, ctl, "start"))
    await tell(client, ctl, "program none")
    desk.starter.failure = FileError(E.NOTFOUND, "none")
    await refused(E.NOTFOUND, tell(client, ctl, "start"))
    desk.starter.failure = None
    await tell(client, ctl, "program some\nstart")
    assert [process.args for process, _ in desk.starter.started] == [["some"]]
    await refused(E.ALREADY, tell(client, ctl, "start"))
    await refused(E.ALREADY, tell(client, ctl, "program other"))


async def test_a_start_under_way_is_started_once_and_ends_with_its_maker() -> None:
    desk = Desk()
    init = await desk.start()
    client = Client(desk.proc, init)
    ctl = await client.open("clone", ORDWR)
    child = desk.node.processes[int(await client.read_fid(ctl))]
    desk.starter.gate = asyncio.Event()
    starting = asyncio.ensure_future(tell(client, ctl, "program x\nstart"))
    await desk.starter.begun.wait()
    await refused(E.ALREADY, tell(client, ctl, "start"))
    # As a connection does that goes away: it cancels what is parked, and clunks at once.
    starting.cancel()
    desk.proc.clunk(ctl)
    await asyncio.wait([starting])
    assert child.state is State.DEAD


async def test_a_started_process_whose_ctl_closed_meanwhile_runs() -> None:
    desk = Desk()
    init = await desk.start()
    client = Client(desk.proc, init)
    ctl = await client.open("clone", ORDWR)
    child = desk.node.processes[int(await client.read_fid(ctl))]
    desk.starter.gate = asyncio.Event()
    starting = asyncio.ensure_future(tell(client, ctl, "program x\nstart"))
    await desk.starter.begun.wait()
    desk.proc.clunk(ctl)
    desk.starter.gate.set()
    await starting
    assert child.state is State.RUNNING


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("frobnicate", E.USAGE),
        ("program", E.USAGE),
        ("program ''", E.USAGE),
        ("program a b", E.USAGE),
        ("arg", E.USAGE),
        ("env X", E.USAGE),
        ("env =1", E.USAGE),
        ("env a/b=1", E.USAGE),
        ("cd", E.USAGE),
        ("cd /none", E.NOENT),
        ("cd /f", E.NOTDIR),
        ("ns other", E.USAGE),
        ("grant /f", E.USAGE),
        ("grant f r", E.USAGE),
        ("grant /f q", E.USAGE),
        ("grant /f ''", E.USAGE),
        ("dir /a ''", E.USAGE),
        ("handle", E.USAGE),
        ("handle 0c", E.USAGE),
        (f"handle {'0g' * 32}", E.USAGE),
        ("fd 0", E.USAGE),
        ("fd 0 x", E.USAGE),
        ("fd -1 0", E.USAGE),
        ("fd 0 77", E.BADF),
        ("limit memory", E.USAGE),
        ("limit paper 1", E.USAGE),
        ("noteg x", E.USAGE),
        ("noteg 999", E.SRCH),
        ("pri 0", E.USAGE),
        ("pri 1001", E.USAGE),
        ("stop", E.NOTSUP),
        ("close 3", E.BADF),
        ("close x", E.USAGE),
        ("limit cpu 99999999999999999999", E.USAGE),
        ("limit cpu -1", E.USAGE),
        ("import", E.USAGE),
        ("start now", E.USAGE),
        ("note 'open", E.SYNTAX),
        ("note x", E.NOTSUP),
        ("interrupt", E.NOTSUP),
    ],
)
async def test_a_wrong_line_is_refused_with_what_the_verb_takes(line: str, error: E) -> None:
    desk = Desk()
    init = await desk.start()
    client = Client(desk.proc, init)
    ctl = await client.open("clone", ORDWR)
    child = desk.node.processes[int(await client.read_fid(ctl))]
    failure = await refused(error, tell(client, ctl, f"arg before\n{line}\narg after\n"))
    if error is E.USAGE:
        verb = line.split()[0]
        assert (NEW_VERBS.get(verb) or RUNNING_VERBS.get(verb) or NEW_VERBS["start"]).usage in failure.detail
    assert child.launch.args == ["before"]
    assert child.state is State.NEW
    desk.proc.clunk(ctl)


async def test_what_a_launch_holds_is_bounded() -> None:
    desk = Desk()
    init = await desk.start()
    client = Client(desk.proc, init)
    ctl = await client.open("clone", ORDWR)
    await tell(client, ctl, "grant /f r\n" * MAX_ITEMS)
    await refused(E.TOOBIG, tell(client, ctl, "grant /f r"))
    await refused(E.TOOBIG, tell(client, ctl, f"arg {'x' * MAX_ARGUMENTS}"))
    await refused(E.ILSEQ, client.write_fid(ctl, b"\xff"))


async def test_the_namespace_of_a_new_process_is_copied_shared_or_clean() -> None:
    desk = Desk()
    init = await desk.start()
    await Client(desk.proc, init).write(f"{init.pid}/ns", b"bind /a /mnt\ncd /mnt\n")
    client = Client(desk.proc, init)
    ctl = await client.open("clone", ORDWR)
    child = desk.node.processes[int(await client.read_fid(ctl))]
    await tell(client, ctl, "ns copy")
    assert child.namespace is not init.namespace
    assert str(child.cwd.path) == "/mnt"
    await tell(client, ctl, "ns share")
    assert child.namespace is init.namespace
    await tell(client, ctl, "ns clean")
    assert child.namespace.heads == {}
    assert str(child.cwd.path) == "/"
    await tell(client, ctl, "ns copy")
    assert len(child.namespace.heads) == 1
    assert await client.read(f"{child.pid}/ns") == await client.read(f"{init.pid}/ns")
    desk.proc.clunk(ctl)
    assert len(init.namespace.heads) == 1


async def test_a_new_process_has_its_makers_namespace_until_its_own_is_changed() -> None:
    desk = Desk()
    init = await desk.start()
    client = Client(desk.proc, init)
    ctl = await client.open("clone", ORDWR)
    child = desk.node.processes[int(await client.read_fid(ctl))]
    await tell(client, ctl, "cd /a")
    await client.write(f"{init.pid}/ns", b"bind /a /mnt\n")
    assert await client.read(f"{child.pid}/ns") == b"bind /a /mnt\ncd /a\n"
    await client.write(f"{child.pid}/ns", b"unmount /mnt\n")
    assert await client.read(f"{child.pid}/ns") == b"cd /a\n", "it is where it was"
    assert await client.read(f"{init.pid}/ns") == b"bind /a /mnt\ncd /\n", "its maker's is as it was"
    await client.write(f"{child.pid}/ns", b"bind /a /mnt\n")
    assert child.namespace.domain is not init.namespace.domain
    desk.proc.clunk(ctl)
    assert child.state is State.DEAD
    assert len(init.namespace.heads) == 1


async def test_a_borrowed_namespace_outlives_its_maker() -> None:
    desk = Desk()
    init = await desk.start()
    parent = desk.child(init)
    child = desk.node.processes.clone(parent)
    domain = parent.namespace.domain
    desk.node.processes.end(parent, 0)
    assert child.namespace.domain is domain
    desk.node.processes.own_namespace(child)
    assert child.namespace.domain is not domain
    assert domain.uses == 0, "the last to use it was the child"
    desk.node.processes.own_namespace(child)
    desk.node.processes.end(child, 0)


# -- ending -----------------------------------------------------------------------------------------------------------


async def test_kill_and_notes_reach_the_process() -> None:
    desk = Desk()
    init = await desk.start()
    child = desk.child(init)
    killed: list[str] = []
    notes: list[str] = []
    child.kill, child.note = killed.append, notes.append
    client = Client(desk.proc, init)
    ctl = await client.open(f"{child.pid}/ctl", OWRITE)
    await tell(client, ctl, "interrupt\nnote hello  'wide  world'\nkill")
    assert notes == ["interrupt", "hello wide  world"]
    assert killed == [f"glenda, process {init.pid}"]
    desk.node.processes.end(child, 0)
    for verb in (*NEW_VERBS, *RUNNING_VERBS):
        await refused(E.SRCH, tell(client, ctl, verb))


async def test_what_can_not_be_killed_says_so_and_what_is_new_just_ends() -> None:
    desk = Desk()
    init = await desk.start()
    client = Client(desk.proc, init)
    child = desk.child(init)
    ctl = await client.open(f"{child.pid}/ctl", OWRITE)
    await refused(E.NOTSUP, tell(client, ctl, "kill"))
    for args, words in (
        (["node"], "this node itself; cognu down"), (["peer", "pi"], "cognu drop pi"), (["store", "pi"], "for pi"),
        (["session"], "runs no program"),
    ):  # fmt: skip
        child.args = args
        for verb in ("kill", "stop", "note x"):
            with pytest.raises(FileError) as caught:
                await tell(client, ctl, verb)
            assert caught.value.error is E.NOTSUP
            assert f"process {child.pid} " in caught.value.detail
            assert words in caught.value.detail
    init.args = ["node"]
    with pytest.raises(FileError) as caught:
        await tell(client, ctl, "kill")
    assert "is a session, which ends with its shell" in caught.value.detail
    ctl = await client.open("clone", ORDWR)
    new = desk.node.processes[int(await client.read_fid(ctl))]
    await tell(client, ctl, "kill")
    assert (new.state, new.status) == (State.DEAD, 137)
    desk.proc.clunk(ctl)


async def test_only_those_above_write_ctl_and_ns() -> None:
    desk = Desk()
    init = await desk.start()
    one, two = desk.child(init), desk.child(init)
    client = Client(desk.proc, init)
    for name in ("ctl", "ns"):
        fid = await client.walk(f"{one.pid}/{name}")
        with pytest.raises(FileError) as caught:
            desk.proc.open(fid, OWRITE, two)
        assert caught.value.error is E.ACCES
        assert desk.proc.open(fid, OWRITE, one) is fid


# -- namespaces as text -----------------------------------------------------------------------------------------------


async def test_commands_written_to_ns_are_carried_out_and_read_back() -> None:
    desk = Desk()
    init = await desk.start()
    client = Client(desk.proc, init)
    text = "bind /a /mnt\nbind -a /b /mnt\ncd /a/x\n"
    await client.write(f"{init.pid}/ns", f"# a comment\n\n{text}".encode())
    assert await client.read(f"{init.pid}/ns") == text.encode()
    await client.write(f"{init.pid}/ns", b"unmount /b /mnt\n")
    assert await client.read(f"{init.pid}/ns") == b"bind /a /mnt\ncd /a/x\n"
    await client.write(f"{init.pid}/ns", b"unmount /mnt\ncd /")
    assert await client.read(f"{init.pid}/ns") == b"cd /\n"


async def test_mount_opens_the_service_and_mounts_what_the_node_makes_of_it() -> None:
    desk = Desk()
    init = await desk.start()
    await Client(desk.proc, init).write(f"{init.pid}/ns", b"mount -c /f /mnt tree")
    assert desk.starter.mounted == [("/f", "tree")]
    chan = await desk.node.open(init, "/mnt/y")
    assert str(chan.path) == "/mnt/y"


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("bond /a /b", E.USAGE),
        ("bind /a", E.USAGE),
        ("bind -q /a /b", E.USAGE),
        ("bind -ab /a /b", E.INVAL),
        ("bind /none /mnt", E.NOENT),
        ("bind /f /mnt", E.MOUNT),
        ("mount /f", E.USAGE),
        ("mount /none /mnt", E.NOENT),
        ("unmount /mnt", E.NOTMOUNTED),
        ("unmount", E.USAGE),
        ("cd", E.USAGE),
        ("cd /f", E.NOTDIR),
    ],
)
async def test_an_error_names_its_line_and_ends_the_text(line: str, error: E) -> None:
    desk = Desk()
    init = await desk.start()
    client = Client(desk.proc, init)
    failure = await refused(error, client.write(f"{init.pid}/ns", f"bind /a /b\n{line}\ncd /a/x\n".encode()))
    assert failure.subject == f"line 2: {line}"
    assert await client.read(f"{init.pid}/ns") == b"bind /a /b\ncd /\n"


@given(st.lists(st.sampled_from([*NEW_VERBS, *RUNNING_VERBS, "/a", "-b", "'", "#", "\n", "0", "X=1", "rw", "memory"])))
def test_any_words_to_ctl_are_carried_out_or_refused(words: list[str]) -> None:
    async def scenario() -> None:
        desk = Desk()
        init = await desk.start()
        client = Client(desk.proc, init)
        ctl = await client.open("clone", ORDWR)
        child = desk.node.processes[int(await client.read_fid(ctl))]
        try:
            await client.write_fid(ctl, " ".join(words).encode())
        except FileError as error:
            assert error.error is not E.IO  # noqa: PT017
        desk.proc.clunk(ctl)
        assert (child.state is State.DEAD) == (child not in [process for process, _ in desk.starter.started])

    asyncio.run(scenario())


@given(st.lists(st.sampled_from(["bind", "mount", "unmount", "cd", "/a", "/b", "-ac", "'", "#", "\n", "..", "#9"])))
def test_any_words_to_ns_are_carried_out_or_refused(words: list[str]) -> None:
    async def scenario() -> None:
        desk = Desk()
        init = await desk.start()
        client = Client(desk.proc, init)
        refusal = ""
        try:
            await client.write(f"{init.pid}/ns", " ".join(words).encode())
        except FileError as error:
            refusal = str(error)
        assert not refusal or refusal.startswith("line ") or E.SYNTAX.text in refusal
        assert (await client.read(f"{init.pid}/ns")).endswith(b"\n")

    asyncio.run(scenario())

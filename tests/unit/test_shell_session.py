"""`System` over 9P: a session with a real node."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable
from contextlib import suppress

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from cognu.errors import E, FileError, LinkBroken
from cognu.files.nstext import split_commands
from cognu.ninep.types import SetStat
from cognu.shell.launching import AT_ONCE, ProgramStart, process_info
from cognu.shell.session import NodeSession
from cognu.shell.system import Child, Directory, File, Flags, Grant, Mode, NoteGroup, Program, RunOptions
from programs.build import build
from sessions import Served, nothing_open, served


@pytest_asyncio.fixture
async def at() -> AsyncIterator[Served]:
    async with served() as node:
        yield node


@pytest_asyncio.fixture
async def session(at: Served) -> AsyncIterator[NodeSession]:
    """A session in a directory of the host; when it ends, no fid but the root's may be left."""
    session = await at.session()
    await session.chdir(str(at.place))
    yield session
    if not session.lost:
        await nothing_open(session)
    await session.close()


async def refused(call: Awaitable[object], error: E, subject: str) -> FileError:
    with pytest.raises(FileError) as caught:
        await call
    assert (caught.value.error, caught.value.subject) == (error, subject)
    return caught.value


async def put(session: NodeSession, path: str, data: bytes, mode: Mode = "w") -> None:
    file = await session.open(path, mode)
    await file.write(data)
    await file.close()


# -- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("directory", ["/tmp", "."])
async def test_files_are_made_cut_appended_and_changed_in_place(session: NodeSession, directory: str) -> None:
    await session.chdir(directory)
    await put(session, "f", b"one\n")
    await put(session, "f", b"two\n")
    await put(session, "f", b"three\n", "a")
    await put(session, "new", b"made by appending", "a")
    assert await session.read_all("f") == b"two\nthree\n"
    assert await session.read_all("new") == b"made by appending"
    file = await session.open("f", "rw")
    assert await file.read(4) == b"two\n"
    await file.write(b"THREE")
    await file.close()
    assert await session.read_all("f") == b"two\nTHREE\n"
    await refused(session.open("missing", "rw"), E.NOENT, "missing")


async def test_two_who_append_lose_nothing(session: NodeSession) -> None:
    first, second = await session.open("log", "a"), await session.open("log", "a")
    for file in (first, second, first):
        await file.write(b"line\n")
    await first.close()
    await second.close()
    assert await session.read_all("log") == b"line\n" * 3


async def test_a_read_stops_where_the_last_one_did_and_a_large_file_is_whole(session: NodeSession) -> None:
    data = os.urandom(3_000_001)
    await put(session, "large", data)
    file = await session.open("large", "r")
    assert await file.read(3) == data[:3]
    parts = [data[:3]]
    while part := await file.read():
        parts.append(part)
    await file.close()
    assert b"".join(parts) == data
    assert len(parts) < 20
    await refused(file.read(), E.BADF, "large")
    await file.close()


async def test_refusals_name_the_path_as_it_was_typed(session: NodeSession) -> None:
    await session.mkdir("d")
    await put(session, "d/f", b"")
    for mode, error in (("r", E.ISDIR), ("w", E.ISDIR)):
        await refused(session.open("d", mode), error, "d")  # type: ignore[arg-type]
    await refused(session.open("none/../x", "r"), E.NOENT, "none/../x")
    await refused(session.open("", "r"), E.NOENT, "")
    await refused(session.open("d/f/", "r"), E.NOTDIR, "d/f/")
    await refused(session.list("d/f"), E.NOTDIR, "d/f")
    await refused(session.list("none"), E.NOENT, "none")
    await refused(session.mkdir("d/"), E.EXIST, "d/")
    await refused(session.remove("d"), E.NOTEMPTY, "d")
    await refused(session.remove("none"), E.NOENT, "none")
    await refused(session.rename("none", "x"), E.NOENT, "none")
    await refused(session.rename("d/f", "none/x"), E.NOENT, "none/x")
    await refused(session.rename("d/f", "/tmp/x"), E.XDEV, "d/f")
    await refused(session.chdir("d/f"), E.NOTDIR, "d/f")
    await refused(session.stat("x" * 300), E.NAMETOOLONG, "x" * 300)
    await refused(session.open("/dev/pid", "w"), E.ACCES, "/dev/pid")


async def test_a_directory_lists_every_entry_with_its_attributes(session: NodeSession, at: Served) -> None:
    for number in range(150):
        (at.place / f"f{number}").write_bytes(b"x" * number)
    (at.place / "link").symlink_to("f3")
    (at.place / "dangling").symlink_to("/nowhere")
    (at.place / "sub").mkdir()
    listed = {entry.name: entry for entry in await session.list(".")}
    assert set(listed) == {*(f"f{number}" for number in range(150)), "link", "dangling", "sub"}
    assert all(listed[f"f{number}"].length == number for number in range(150))
    assert listed["link"].is_symlink
    assert listed["dangling"].is_symlink
    assert listed["sub"].is_dir
    assert (await session.stat("link")).length == 3
    assert (await session.stat("link", follow=False)).is_symlink
    await refused(session.stat("dangling"), E.NOENT, "dangling")


async def test_links_lead_where_the_namespace_says_and_are_removed_themselves(session: NodeSession, at: Served) -> None:
    (at.place / "d").mkdir()
    (at.place / "d" / "f").write_text("inside")
    (at.place / "absolute").symlink_to(at.place / "d")
    (at.place / "relative").symlink_to("d/../d/f")
    assert await session.read_all("absolute/f") == b"inside"
    assert await session.read_all("relative") == b"inside"
    await session.remove("relative")
    await session.remove("absolute")
    assert await session.read_all("d/f") == b"inside"


async def test_renaming_replaces_and_moves(session: NodeSession) -> None:
    await put(session, "a", b"a")
    await put(session, "b", b"b")
    await session.mkdir("d")
    await session.rename("a", "b")
    await session.rename("b", "d/c")
    await session.rename("d", "e/")
    assert await session.read_all("e/c") == b"a"
    assert sorted(entry.name for entry in await session.list(".")) == ["e"]


async def test_attributes_are_changed(session: NodeSession) -> None:
    await put(session, "f", b"12345")
    await session.wstat("f", SetStat(mtime=10**18 + 5, length=2))
    stat = await session.stat("f")
    assert (stat.mtime, stat.length) == (10**18 + 5, 2)


async def test_each_view_has_its_own_working_directory(session: NodeSession, at: Served) -> None:
    view = session.view()
    await view.chdir("/tmp/..//")
    await view.chdir("tmp")
    assert (view.cwd, session.cwd) == ("/tmp", str(at.place))
    await put(view, "f", b"")
    await session.stat("/tmp/f")
    assert (view.pid, view.user) == (session.pid, "me")


# -- pipes ------------------------------------------------------------------------------------------------------------


async def test_a_pipe_gives_what_was_written_and_then_its_end(session: NodeSession) -> None:
    reading, writing = await session.pipe()
    data = os.urandom(500_000)

    async def write() -> None:
        await writing.write(data)
        await writing.close()

    task = asyncio.create_task(write())
    parts = []
    while part := await reading.read():
        parts.append(part)
    await task
    assert b"".join(parts) == data
    await reading.close()


async def test_a_pipe_without_a_reader_refuses(session: NodeSession) -> None:
    reading, writing = await session.pipe()
    await reading.close()
    assert not reading.path.startswith("/")
    await refused(writing.write(b"x"), E.PIPE, "pipe")
    await writing.close()


@pytest.mark.parametrize("turns", range(12))
async def test_a_read_that_is_cancelled_as_the_data_comes_loses_none(session: NodeSession, turns: int) -> None:
    reading, writing = await session.pipe()
    task = asyncio.create_task(reading.read())
    await asyncio.sleep(0)
    await writing.write(b"abc")
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    [got] = await asyncio.gather(task, return_exceptions=True)
    await writing.write(b"def")
    await writing.close()
    parts = [got] if isinstance(got, bytes) else []
    # Less than there is, so that what was kept is given in pieces too.
    while part := await reading.read(2):
        assert len(part) <= 2
        parts.append(part)
    assert b"".join(parts) == b"abcdef"
    await reading.close()


# -- the namespace ----------------------------------------------------------------------------------------------------


async def test_binds_and_mounts_are_the_nodes(session: NodeSession, at: Served) -> None:
    for name in ("a", "b"):
        (at.place / name).mkdir()
        (at.place / name / name).write_text(name)
    await session.bind("a", "b", Flags("before"))
    assert [entry.name for entry in await session.list("b")] == ["a", "b"]
    assert str(at.place / "a") in (await session.read_all(f"/proc/{session.pid}/ns")).decode()
    await session.unmount("a", "b")
    assert [entry.name for entry in await session.list("b")] == ["b"]
    await session.bind("#c", "b", Flags("replace", create=True))
    await session.stat("b/null")
    await session.unmount(None, "b")
    other = await at.session()
    await other.bind(str(at.place / "a"), "/mnt/term", Flags())
    assert await session.list("/mnt/term") == []
    await other.close()


async def test_what_can_not_be_bound_is_named(session: NodeSession, at: Served) -> None:
    (at.place / "d").mkdir()
    (at.place / "f").write_text("")
    await refused(session.bind("none", "d", Flags()), E.NOENT, "none")
    await refused(session.bind("d", "none", Flags()), E.NOENT, "none")
    await refused(session.bind("d", "f", Flags()), E.MOUNT, "d")
    await refused(session.unmount(None, "d"), E.NOTMOUNTED, "d")
    await refused(session.mount("none", "d", Flags()), E.NOENT, "none")


# -- programs ---------------------------------------------------------------------------------------------------------


class Bench:
    """Programs of the tests in a directory, and what they leave."""

    def __init__(self, session: NodeSession, at: Served) -> None:
        self.session = session
        self.at = at

    def add(self, *names: str) -> None:
        for name in names:
            (self.at.place / name).write_bytes(build(name))

    async def start(
        self, *argv: str, streams: tuple[File, File, File] | None = None, options: RunOptions | None = None
    ) -> Child:
        path = f"{self.at.place}/{argv[0]}"
        null = [await self.session.open("/dev/null", mode) for mode in ("r", "w", "w")]
        try:
            return await self.session.start(
                Program(path), argv, {"LANG": "C"}, *(streams or (null[0], null[1], null[2])),
                options or RunOptions(),
            )  # fmt: skip
        finally:
            for file in null:
                await file.close()

    async def run(self, *argv: str, stdin: bytes = b"", options: RunOptions | None = None) -> tuple[int, bytes, bytes]:
        """Status, output, errors."""
        ends = [await self.session.pipe() for _ in range(3)]
        streams = (ends[0][0], ends[1][1], ends[2][1])
        child = await self.start(*argv, streams=streams, options=options)
        for file in streams:
            await file.close()

        async def feed() -> None:
            with suppress(FileError):  # it may end before it has read all
                await ends[0][1].write(stdin)
            await ends[0][1].close()

        feeding = asyncio.create_task(feed())
        out, err = await asyncio.gather(drain(ends[1][0]), drain(ends[2][0]))
        await feeding
        return await child.wait(), out, err


async def drain(file: File) -> bytes:
    parts = []
    while part := await file.read():
        parts.append(part)
    await file.close()
    return b"".join(parts)


@pytest.fixture
def bench(session: NodeSession, at: Served) -> Bench:
    return Bench(session, at)


async def test_a_program_gets_its_streams_arguments_and_grants(bench: Bench, at: Served) -> None:
    bench.add("wc", "cat")
    (at.place / "notes").write_text("a b\nc\n")
    grant = RunOptions(grants=(Grant(f"{at.place}/notes", "r"),))
    assert await bench.run("wc", "notes", options=grant) == (0, b"2 3 6 notes\n", b"")
    status, out, err = await bench.run("wc", "notes")
    assert (status, out) == (1, b"")
    assert b"No such file" in err
    data = os.urandom(300_000)
    assert await bench.run("cat", stdin=data) == (0, data, b"")


async def test_words_of_all_kinds_reach_the_program_as_they_are(bench: Bench) -> None:
    bench.add("wc")
    word = "it's\nnot # 'easy'\t\\ ä"
    status, out, err = await bench.run("wc", word)
    assert (status, out) == (1, b"")
    assert word.encode() in err


async def test_a_mapped_directory_has_the_guests_name(bench: Bench, at: Served) -> None:
    bench.add("cat")
    (at.place / "d").mkdir()
    (at.place / "d" / "f").write_text("mapped")
    mapped = RunOptions(directories=(Directory(f"{at.place}/d", "/data"),))
    assert await bench.run("cat", "/data/f", options=mapped) == (0, b"mapped", b"")


async def test_a_file_goes_on_where_the_child_stopped_and_the_child_where_we_did(bench: Bench) -> None:
    bench.add("cat")
    session = bench.session
    await put(session, "in", b"first\nsecond\nthird\n")
    source, target = await session.open("in", "r"), await session.open("out", "w")
    assert await source.read(6) == b"first\n"
    await target.write(b"begin\n")
    null = await session.open("/dev/null", "w")
    child = await bench.start("cat", streams=(source, target, null))
    assert await child.wait() == 0
    assert await source.read() == b""
    await target.write(b"end\n")
    for file in (source, target, null):
        await file.close()
    assert await session.read_all("out") == b"begin\nsecond\nthird\nend\n"


async def test_a_program_that_runs_on_is_interrupted_or_killed(bench: Bench, session: NodeSession) -> None:
    bench.add("spin")
    first, second = await bench.start("spin"), await bench.start("spin")
    waiting = asyncio.create_task(first.wait())
    await asyncio.sleep(0)
    waiting.cancel()  # only the waiting stops
    await asyncio.gather(waiting, return_exceptions=True)
    [row] = [row for row in await session.processes() if row.pid == first.pid]
    assert (row.state, row.parent, row.user) == ("Running", session.pid, "me")
    assert row.argv[0].endswith("/spin")
    await first.note("interrupt")
    assert (await first.wait(), await first.wait()) == (130, 130)
    waiting_for = asyncio.create_task(session.wait(second.pid))
    await session.control(second.pid, "kill")
    assert (await second.wait(), await waiting_for) == (137, 137)
    assert "killed" in second.message
    await second.note("kill")  # it is gone, and that is no error
    await refused(session.control(second.pid, "kill"), E.SRCH, str(second.pid))
    await refused(session.wait(second.pid), E.SRCH, str(second.pid))


async def test_what_does_not_start_leaves_nothing(bench: Bench, session: NodeSession, at: Served) -> None:
    bench.add("wc")
    (at.place / "text").write_text("not a program")
    missing = RunOptions(grants=(Grant(f"{at.place}/missing", "r"),))
    await refused(bench.start("none"), E.NOENT, f"{at.place}/none")
    await refused(bench.start("text"), E.NOEXEC, f"{at.place}/text")
    await refused(bench.start("wc", options=missing), E.NOENT, f"{at.place}/missing")
    await refused(bench.start("wc", options=RunOptions(on="nobody")), E.NOPEER, "nobody")
    await refused(bench.start("wc", "x" * AT_ONCE), E.TOOBIG, "arg " + "x" * 36)
    null = await session.open("/dev/null", "r")
    unknown = session.start(Program("aaaaaaaa", True), ["x"], {}, null, null, null, RunOptions())
    await refused(unknown, E.NOTFOUND, "aaaaaaaa")
    await null.close()
    await session.stat("/")
    await at.settle(lambda: not at.processes)


@pytest.mark.parametrize("turns", [0, 1, 5, 20, 60])
async def test_a_start_that_is_cancelled_leaves_nothing(
    bench: Bench, session: NodeSession, at: Served, turns: int
) -> None:
    bench.add("spin")
    starting = asyncio.create_task(bench.start("spin"))
    for _ in range(turns):
        await asyncio.sleep(0)
    starting.cancel()
    [child] = await asyncio.gather(starting, return_exceptions=True)
    if not isinstance(child, BaseException):
        await child.note("kill")
        await child.wait()
    await session.stat("/")
    await at.settle(lambda: not at.processes)


async def test_the_end_of_a_session_ends_what_it_started(bench: Bench, at: Served) -> None:
    bench.add("spin")
    other = Bench(await at.session(), at)
    await other.session.chdir(str(at.place))
    child = await other.start("spin")
    await other.session.close()
    with pytest.raises(LinkBroken):
        await child.wait()
    await at.settle(lambda: not at.processes)


# -- a session as a process that is there -----------------------------------------------------------------------------


async def test_a_token_makes_the_session_that_process_and_keeps_its_descriptors(
    bench: Bench, session: NodeSession, at: Served
) -> None:
    process = at.node.processes[session.pid]
    reading, writing = await session.pipe()
    number, _ = await writing.lend()
    other = await at.session()
    lent = at.node.processes[other.pid]
    for descriptor in (0, 1, 2):
        lent.descriptors.add(process.descriptors[number].share(), descriptor)
    token = at.node.lending.lend(lent, "")
    inside = await at.session(token)
    assert inside.pid == other.pid
    for name in ("a", "b", "c", "d"):
        await put(inside, f"/tmp/{name}", b"x")
    out = await inside.open("/fd/1", "w")
    await out.write(b"to descriptor 1\n")
    await out.close()
    assert await reading.read() == b"to descriptor 1\n"
    await reading.close()
    await writing.close()
    at.node.lending.end(token)
    with pytest.raises(FileError) as caught:
        await at.session(token)
    assert caught.value.error is E.NOATTACH


# -- the store, the node ----------------------------------------------------------------------------------------------


async def test_what_is_put_is_had_by_hash_prefix_and_name(session: NodeSession) -> None:
    data = os.urandom(600_000)
    await put(session, "f", data)
    digest = await session.put("f", "thing")
    for text in (digest, digest[:20]):
        file = await session.get(text)
        assert await drain(file) == data
    assert await session.read_all("/bin/thing") == data
    assert await session.put("f", None) == digest
    await refused(session.get("bafkr4iaaaaaaaaaa"), E.NOENT, "bafkr4iaaaaaaaaaa")
    await refused(session.get("../ctl"), E.NOENT, "../ctl")
    await refused(session.put("none", None), E.NOENT, "none")
    await refused(session.put("f", "no/name"), E.INVAL, "no/name")


async def test_the_node_answers_and_its_refusals_keep_their_words(session: NodeSession) -> None:
    assert (await session.rpc("status"))["name"] == "desk"
    error = await refused(session.rpc("export", path="/tmp", peer="nobody"), E.NOPEER, "nobody")
    assert error.detail == ""
    await refused(session.rpc("nonsense"), E.USAGE, "nonsense")
    await refused(session.export_tree("f", "nobody", True), E.NOPEER, "nobody")
    await refused(session.import_tree("nobody", "/home", "/n/nobody"), E.NOPEER, "nobody")
    null = await session.open("/dev/null", "rw")
    await refused(session.cpu("nobody", [], {}, null, null, null, RunOptions()), E.NOPEER, "nobody")
    await null.close()


# -- a node that is lost ----------------------------------------------------------------------------------------------


async def test_everything_ends_when_the_node_is_lost(bench: Bench, session: NodeSession, at: Served) -> None:
    bench.add("spin")
    reading, writing = await session.pipe()
    child = await bench.start("spin")
    watching = asyncio.create_task(session.wait_lost())
    waiting = [asyncio.create_task(work) for work in (reading.read(), child.wait(), session.wait(child.pid))]
    await session.stat("/")
    at.ends[0].cut()
    for answer in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(answer, LinkBroken), answer
        assert answer.error is E.NONODE
    await watching
    assert session.lost
    for call in (session.stat("/"), session.list("/"), session.open("f", "w"), session.pipe(), session.processes()):
        with pytest.raises(LinkBroken):
            await call
    with pytest.raises(LinkBroken):
        await writing.write(b"x")
    await reading.close()
    await writing.close()
    await at.settle(lambda: not at.processes)


async def test_what_may_have_been_done_is_said_to_be_unknown(session: NodeSession, at: Served) -> None:
    _, writing = await session.pipe()
    call = asyncio.create_task(writing.write(b"x" * 200_000))  # more than a pipe holds
    await session.stat("/")
    at.ends[0].cut()
    with pytest.raises(LinkBroken) as caught:
        await call
    assert caught.value.error is E.NOTRECOVERABLE


async def test_a_session_can_be_closed_twice(session: NodeSession) -> None:
    await session.close()
    await session.close()
    with pytest.raises(LinkBroken):
        await session.stat("/")


# -- texts ------------------------------------------------------------------------------------------------------------

WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@given(
    st.lists(WORDS, min_size=1, max_size=8), st.dictionaries(WORDS, WORDS, max_size=4), st.lists(WORDS, max_size=3),
    WORDS,
)  # fmt: skip
def test_the_lines_of_a_start_read_back_as_what_was_meant(
    argv: list[str], env: dict[str, str], paths: list[str], cwd: str
) -> None:
    options = RunOptions("pi", tuple(Grant(path, "rw") for path in paths), (), 5, 1.5)
    start = ProgramStart("prog", argv, env, cwd, options)
    text = b"".join(data for _, data in start.lines([(7, 0), (8, 1), (9, 2)])).decode()
    lines = [command.words for command in split_commands(text)]
    assert lines[0] == ["cd", cwd]
    assert [line[1] for line in lines if line[0] == "arg"] == argv[1:]
    assert [line[1] for line in lines if line[0] == "env"] == [f"{name}={value}" for name, value in env.items()]
    assert [line[1:] for line in lines if line[0] == "grant"] == [[path, "rw"] for path in paths]
    assert [line[1:] for line in lines if line[0] == "fd"] == [["0", "7", "0"], ["1", "8", "1"], ["2", "9", "2"]]
    limits = [["limit", "memory", "5"], ["limit", "cpu", "1500000000"]]
    assert lines[-5:] == [*limits, ["on", "pi"], ["program", "prog"], ["start"]]


@given(st.lists(st.text("ab \n'", max_size=40).map(lambda text: text * 500), max_size=40))
def test_lines_go_out_in_pieces_that_hold_whole_lines(argv: list[str]) -> None:
    start = ProgramStart("prog", ["prog", *argv], {}, "/", RunOptions())
    pieces = [data for _, data in start.lines([])]
    assert all(len(piece) <= AT_ONCE for piece in pieces)
    assert sum(len(list(split_commands(piece.decode()))) for piece in pieces) == len(argv) + 3


@given(st.text(max_size=200), st.text(max_size=100))
def test_any_status_is_read_or_refused(status: str, args: str) -> None:
    with suppress(FileError):  # no other exception
        assert isinstance(process_info(f"pid 3\nparent 1\nuser me\nstate Running\n{status}", args).pid, int)


# -- note groups, positions, hashes ------------------------------------------------------------------------------------


async def test_the_programs_of_a_pipeline_are_sent_notes_together_and_others_are_not(session: NodeSession) -> None:
    digest = await put_program(session, "spin")
    pipeline, alone = NoteGroup(), NoteGroup()
    null = await session.open("/dev/null", "rw")
    children = [
        await session.start(Program(digest, by_hash=True), ["spin"], {}, null, null, null, RunOptions(group=group))
        for group in (pipeline, pipeline, alone, None)
    ]
    groups = [(await session.read_all(f"/proc/{child.pid}/noteid")).decode().strip() for child in children]
    assert groups == [str(children[0].pid)] * 2 + [str(children[2].pid), groups[3]]
    assert groups[3] not in groups[:3]
    await session.write_to(f"/proc/{children[1].pid}/notepg", b"interrupt")
    assert [await child.wait() for child in children[:2]] == [130, 130]
    # Nobody is in it any more: the next one begins it anew.
    late = await session.start(
        Program(digest, by_hash=True), ["spin"], {}, null, null, null, RunOptions(group=pipeline)
    )
    assert pipeline.member == late.pid
    for child in (*children[2:], late):
        await child.note("kill")
        assert await child.wait() == 137
    await null.close()


async def put_program(session: NodeSession, name: str) -> str:
    file = await session.open("/mnt/store/put", "rw")
    await file.write(build(name))
    file.rewind()
    digest = (await file.read()).decode().strip()
    await file.close()
    return digest


async def test_what_has_positions_can_be_read_again_and_what_streams_can_not(session: NodeSession) -> None:
    await put(session, "f", b"one\ntwo\nthree\n")
    file = await session.open("f", "r")
    assert await file.has_positions()
    assert await file.read(6) == b"one\ntw"
    file.step_back(2)
    assert await file.read() == b"two\nthree\n"
    await file.close()
    reading, writing = await session.pipe()
    zero, empty = await session.open("/dev/zero", "r"), await session.open("/dev/null", "r")
    assert [await each.has_positions() for each in (reading, zero, empty)] == [False] * 3
    for each in (reading, writing, zero, empty):
        await each.close()


async def test_objects_are_listed_for_the_nodes_own(session: NodeSession) -> None:
    digest = await put_program(session, "wc")
    assert [entry.name for entry in await session.list("/mnt/store/objects")] == [digest]

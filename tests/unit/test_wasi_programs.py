"""C programs built by Zig's C compiler, run on the scheduler over namespaces of their own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import pytest_asyncio

from cognu.devices.host import HostServer
from cognu.devices.ram import RamServer
from cognu.devices.root import SkeletonServer
from cognu.errors import E, FileError
from cognu.files.chan import Chan
from cognu.files.launch import Grant, Launch
from cognu.files.listing import read_directory
from cognu.files.mounts import MAFTER, MCREATE, MREPL
from cognu.files.process import State
from cognu.files.steps import finish
from cognu.kernel import GRANT, READ
from cognu.ninep.types import OREAD
from cognu.runtime.launch import build_namespace
from cognu.runtime.states import State as GuestState
from guests import command, until, wat
from programs.build import build
from wasi_kit import attach, attach_later
from wasi_machine import HOME, Machine, Result

pytestmark = pytest.mark.timeout(600)  # the first build of all makes the C library too

NOTES = b"one two\nthree\n"
either = pytest.mark.parametrize("machine", ["inside", "isolated"], indirect=True)
"""In the node's process, and in a runner: a program notices no difference."""


@pytest_asyncio.fixture
async def machine(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Machine]:
    machine = Machine(tmp_path, isolated=getattr(request, "param", "inside") == "isolated")
    await machine.make(f"{HOME}/notes.txt", NOTES)
    await machine.make("/etc/passwd", b"root\n")
    await machine.make(f"{HOME}/work/deep", None)
    yield machine
    await machine.close()


# -- what a confined program sees -------------------------------------------------------------------------------------


@either
async def test_a_program_reads_what_was_granted_and_nothing_else(machine: Machine) -> None:
    grants = [(f"{HOME}/notes.txt", "r")]
    result = await machine.run("wc", "notes.txt", "/home/me/notes.txt", "/etc/passwd", "nothing", grants=grants)
    assert result.out == b"2 3 14 notes.txt\n2 3 14 /home/me/notes.txt\n"
    missing = b"No such file or directory\n"
    assert result.err == b"wc: /etc/passwd: " + missing + b"wc: nothing: " + missing
    assert result.status == 1


async def test_with_the_grant_it_is_there(machine: Machine) -> None:
    result = await machine.run("cat", "/etc/passwd", grants=[("/etc/passwd", "r")])
    assert result == Result(0, b"root\n", b"", "")


async def test_without_grants_only_the_streams_are_there(machine: Machine) -> None:
    assert (await machine.run("wc", stdin=NOTES)).out == b"2 3 14\n"
    assert (await machine.run("cat", "notes.txt")).err == b"cat: notes.txt: No such file or directory\n"


@either
async def test_names_above_the_working_directory_work_where_something_is_granted(machine: Machine) -> None:
    grants = [(f"{HOME}/notes.txt", "r")]
    result = await machine.run("wc", "../../notes.txt", cwd=f"{HOME}/work/deep", grants=grants)
    assert result.out == b"2 3 14 ../../notes.txt\n"


@either
async def test_a_file_granted_for_reading_is_not_written(machine: Machine) -> None:
    result = await machine.run("files", grants=[(HOME, "r")])
    assert result.status != 0
    assert await machine.content(f"{HOME}/notes.txt") == NOTES
    with pytest.raises(FileError) as caught:
        await machine.content(f"{HOME}/new.txt")
    assert caught.value.error is E.NOENT


@either
async def test_a_c_librarys_files_work_in_a_granted_directory(machine: Machine) -> None:
    result = await machine.run("files", HOME, grants=[(HOME, "rw")])
    assert result.out + result.err == b"ok\n"
    assert result.status == 0
    assert await machine.content(f"{HOME}/new.txt") == b"LINE\0\0\0\0\0\0"


TOP = b"at the top\n"


@either
async def test_c_and_zig_open_files_by_absolute_paths_wherever_they_stand(machine: Machine) -> None:
    await machine.make("/motd", TOP)
    paths = ["/motd", "/etc/passwd", f"{HOME}/notes.txt", "notes.txt", "./notes.txt"]
    grants = [("/motd", "r"), ("/etc/passwd", "r"), (f"{HOME}/notes.txt", "r"), (f"{HOME}/work", "rw")]
    for cwd, here in ((HOME, paths), (f"{HOME}/work", paths[:3]), ("/", paths[:3] + ["motd"])):
        expected = b"".join(TOP if "motd" in path else b"root\n" if "etc" in path else NOTES for path in here)
        result = await machine.run("cat", *here, cwd=cwd, grants=grants)
        assert result == Result(0, expected, b"", ""), cwd
        if cwd != f"{HOME}/work":
            continue
        result = await machine.run("tree", *here, cwd=cwd, grants=grants)
        assert result == Result(0, expected + b"ok\n", b"", "")


@either
async def test_a_file_at_the_top_is_not_taken_for_one_of_the_working_directory(machine: Machine) -> None:
    """A C library strips the slash: only what is not in the working directory is looked for at the top."""
    await machine.make("/notes.txt", TOP)
    await machine.make("/dir/file", b"")
    await machine.make(f"{HOME}/work/new.txt", b"")
    await machine.make("/new.txt", TOP)
    grants = [("/notes.txt", "rw"), ("/new.txt", "rw"), (HOME, "rw"), ("/dir", "r")]
    assert (await machine.run("cat", "notes.txt", grants=grants)).out == NOTES
    made = await machine.run("files", cwd=f"{HOME}/work", grants=grants)
    assert made.out + made.err == b"ok\n"
    assert await machine.content("/new.txt") == TOP


@either
async def test_zigs_standard_library_works_in_a_granted_and_in_a_mapped_directory(machine: Machine) -> None:
    absolute = f"{HOME}/notes.txt"
    assert await machine.run("tree", absolute, grants=[(HOME, "rw")]) == Result(0, NOTES + b"ok\n", b"", "")
    assert await machine.content(f"{HOME}/three") == bytes(6) + b"ta"
    mapped = await machine.run("tree", "notes.txt", dirs=[(HOME, ".")])
    assert mapped == Result(0, NOTES + b"ok\n", b"", "")
    fenced = await machine.run("tree", absolute, dirs=[(f"{HOME}/work", ".")])
    assert fenced == Result(1, b"", b"error: PermissionDenied\n", "")


async def test_a_c_librarys_files_work_in_a_mapped_directory(machine: Machine) -> None:
    result = await machine.run("files", dirs=[(f"{HOME}/work", ".")])
    assert result.out + result.err == b"ok\n"
    assert len(await machine.content(f"{HOME}/work/new.txt")) == 10


@either
async def test_mapped_directories_are_the_only_ones(machine: Machine) -> None:
    result = await machine.run("cat", "/data/notes.txt", "notes.txt", dirs=[(HOME, "/data")])
    assert result.out == NOTES
    assert result.err.startswith(b"cat: notes.txt: ")


@either
async def test_unconfined_a_program_has_the_processes_own_namespace(machine: Machine) -> None:
    result = await machine.run("cat", "notes.txt", "/etc/passwd", confined=False)
    assert result == Result(0, NOTES + b"root\n", b"", "")


@either
async def test_unconfined_mappings_say_what_is_found_open(machine: Machine) -> None:
    """As on the machine that runs a program for another: the namespace it gets is made already."""
    dirs = [("/etc", "/etc")]
    result = await machine.run("cat", "/etc/passwd", "notes.txt", dirs=dirs, confined=False)
    assert result == Result(1, b"root\n", b"cat: notes.txt: No such file or directory\n", "")


@either
async def test_directories_are_mapped_below_one_another(machine: Machine) -> None:
    """The outer one need not have the inner one's name."""
    await machine.make("/share/doc/text", TOP)
    for guest in ("/doc", "/a/b"):
        dirs = [("/share/doc", guest), (HOME, "/")]
        result = await machine.run("cat", f"{guest}/text", "/notes.txt", "notes.txt", dirs=dirs)
        assert result == Result(0, TOP + NOTES + NOTES, b"", "")
    result = await machine.run("files", dirs=[("/share/doc", "/doc"), (f"{HOME}/work", "/")])
    assert result.out + result.err == b"ok\n"
    assert len(await machine.content(f"{HOME}/work/new.txt")) == 10


async def test_the_root_can_be_mapped(machine: Machine) -> None:
    result = await machine.run("cat", "/notes.txt", "notes.txt", dirs=[(HOME, "/")])
    assert result == Result(0, NOTES + NOTES, b"", "")


@either
async def test_a_granted_union_is_seen_whole(machine: Machine) -> None:
    namespace = machine.parent.namespace
    await machine.make("/other/more.txt", b"more\n")
    await finish(namespace.bind("/other", HOME, MAFTER, machine.parent.cwd, machine.parent))
    result = await machine.run("cat", "notes.txt", "more.txt", grants=[(HOME, "r")])
    assert result == Result(0, NOTES + b"more\n", b"", "")


async def test_grants_of_one_path_are_joined(machine: Machine) -> None:
    result = await machine.run("files", grants=[(HOME, "r"), (HOME + "/", "w"), ("/home/../home/me", "r")])
    assert result.out == b"ok\n"


@either
async def test_what_may_only_be_written_can_not_be_read(machine: Machine) -> None:
    result = await machine.run("cat", "notes.txt", grants=[(f"{HOME}/notes.txt", "w")])
    assert result.err == b"cat: notes.txt: Permission denied\n"


async def test_nothing_of_a_grants_surroundings_shows(machine: Machine) -> None:
    """Seen from the program, the directories that lead to a grant hold that and nothing else."""
    process = await machine.child()
    build_it = build_namespace(process, HOME, [Grant(f"{HOME}/notes.txt", "r")], [], SkeletonServer)
    clothes = await finish(build_it)
    namespace = clothes.namespace
    for path, names in (("/", ["home"]), ("/home", ["me"]), (HOME, ["notes.txt"])):
        chan = await finish(namespace.find(path, clothes.cwd, process))
        chan = await finish(namespace.open(chan, OREAD, process))
        entries = await finish(read_directory(namespace, chan, 0, 100, process))
        assert [entry.name for entry in entries] == names
        chan.close()
    assert namespace.devices == {}
    with pytest.raises(FileError):
        await finish(namespace.bind("/home", "/", 0, clothes.cwd, process))
    for part in (clothes.descriptors, namespace):
        part.release()
    clothes.cwd.close()
    machine.processes.end(process, 0)


async def test_a_mapped_directory_must_be_the_parents_to_write(machine: Machine) -> None:
    readonly = attach(machine.parent.namespace.domain, RamServer(machine.world.clock, spec="#s"), READ | GRANT)
    place = await finish(machine.parent.namespace.find("/etc", machine.parent.cwd, machine.parent))
    machine.parent.namespace.mount(readonly, place, MREPL)
    with pytest.raises(FileError, match="/etc") as caught:
        await machine.run("wc", dirs=[("/etc", "/data")])
    assert caught.value.error is E.ACCES


@pytest.mark.parametrize("rights", ["", "q", "rq"])
async def test_rights_are_letters_of_rwx(machine: Machine, rights: str) -> None:
    with pytest.raises(FileError) as caught:
        await machine.run("wc", grants=[(HOME, rights)])
    assert caught.value.error is E.INVAL


@either
async def test_programs_get_the_first_three_descriptors_only(machine: Machine) -> None:
    process = await machine.child()
    end = await machine.pipe(process, 5)
    with pytest.raises(FileError, match="fd 5") as caught:
        await machine.start(process, build("wc"), ["wc"])
    assert caught.value.error is E.INVAL
    end.close()


@either
async def test_a_directory_as_standard_input_is_no_way_in(machine: Machine) -> None:
    process = await machine.child()
    process.descriptors.add(await machine.open("/etc", OREAD, process), 0)
    await machine.start(process, build("cat"), ["cat"])
    await process.ended.wait()
    assert (await machine.result(process)).err == b"cat: Bad file descriptor\n"


@either
async def test_open_files_are_limited_per_process(machine: Machine) -> None:
    process = await machine.child()
    process.descriptors.limit = 8  # the streams, `.`, /etc, /home, /streams, and `../..`, which is granted
    await machine.start(process, build("cat"), ["cat", "notes.txt"], Launch(grants=[Grant("/", "r")]), confined=True)
    await process.ended.wait()
    assert (await machine.result(process)).err == b"cat: notes.txt: No file descriptors available\n"


@either
async def test_the_root_can_be_granted(machine: Machine) -> None:
    result = await machine.run("cat", "notes.txt", "/etc/passwd", grants=[("/", "r")])
    assert result.out == NOTES + b"root\n"


async def test_a_deeper_grant_adds_rights_within_a_granted_directory(machine: Machine) -> None:
    result = await machine.run("files", cwd=f"{HOME}/work", grants=[(HOME, "r"), (f"{HOME}/work", "rw")])
    assert result.out + result.err == b"ok\n"


@either
async def test_a_c_librarys_files_work_in_a_directory_of_the_host(machine: Machine, tmp_path: Path) -> None:
    """Every call there is a hop to a thread, so each suspends the program."""
    box = tmp_path / "box"
    box.mkdir()
    server = HostServer(machine.world, machine.world.disk.tree(str(box)))
    source = await attach_later(machine.parent.namespace.domain, server)
    await machine.make("/host", None)
    place = await finish(machine.parent.namespace.find("/host", machine.parent.cwd, machine.parent))
    machine.parent.namespace.mount(source, place, MREPL | MCREATE)
    result = await machine.run("files", "/host", cwd="/host", grants=[("/host", "rw")])
    assert result.out + result.err == b"ok\n"
    assert (box / "new.txt").stat().st_size == 10
    (box / "notes.txt").write_bytes(NOTES)
    (box / "way-out").symlink_to("/etc/passwd")
    result = await machine.run("wc", "notes.txt", "way-out", cwd="/host", grants=[("/host", "r")])
    assert result.out == b"2 3 14 notes.txt\n"
    assert result.err == b"wc: way-out: Operation not permitted\n"


async def test_killed_in_the_middle_of_a_host_call_leaves_nothing(machine: Machine) -> None:
    process = await machine.child()
    end = await machine.pipe(process, 0)
    await machine.start(process, build("cat"), ["cat"])
    [guest] = machine.scheduler.guests
    await until(lambda: guest.state is GuestState.WAITING)
    assert process.kill is not None
    process.kill("test")
    await process.ended.wait()
    assert process.status == 137
    end.close()


@either
async def test_clocks_random_numbers_and_environment_reach_a_c_program(machine: Machine) -> None:
    assert await machine.run("system") == Result(0, b"time ok\nrandom ok\n", b"", "")
    assert (await machine.run("system", "env", env={"NAME": "größe".encode()})).out == "größe\n".encode()
    assert (await machine.run("system", "env")).out == b"none\n"


@either
async def test_a_program_knows_its_working_directory_from_pwd_unless_directories_were_mapped(machine: Machine) -> None:
    """Go's standard library begins there."""
    assert (await machine.run("system", "env", "PWD")).out == f"{HOME}\n".encode()
    assert (await machine.run("system", "env", "PWD", env={"PWD": b"/mine"})).out == b"/mine\n"
    assert (await machine.run("system", "env", "PWD", dirs=[(HOME, "/")])).out == b"none\n"


@either
async def test_a_c_program_polls_its_input(machine: Machine) -> None:
    process = await machine.child()
    end, out = await machine.pipe(process, 0), await machine.pipe(process, 1)
    await machine.start(process, build("system"), ["system", "poll"])
    assert await _read(out) == b"nothing yet\n"
    end.server.write(end.fid, 0, b"hello")
    assert await _read(out) == b"poll ok\n"
    await process.ended.wait()
    assert process.status == 0
    end.close()
    out.close()


async def test_what_was_written_without_waiting_arrives_after_the_programs_end(machine: Machine) -> None:
    process = await machine.child()
    out = await machine.pipe(process, 1)
    await machine.start(process, build("system"), ["system", "behind"])
    await until(lambda: not machine.scheduler.guests)
    assert process.state is State.RUNNING
    assert len(await _read(out)) == 65536
    assert await _read(out) == b"last words"
    assert await _read(out) == b""
    await process.ended.wait()
    assert (process.status, process.message) == (0, "")
    out.close()


async def test_shutting_down_ends_what_still_runs_or_writes(machine: Machine) -> None:
    behind, spinning = await machine.child(), await machine.child()
    out = await machine.pipe(behind, 1)
    await machine.start(behind, build("system"), ["system", "behind"])
    await until(lambda: not machine.scheduler.guests)
    await machine.start(spinning, build("spin"), ["spin"])
    await machine.scheduler.close()
    await machine.programs.close()
    await spinning.ended.wait()
    await behind.ended.wait()
    assert (spinning.status, behind.status) == (137, 137)
    out.close()


async def test_many_programs_at_once(machine: Machine) -> None:
    results = await asyncio.gather(
        *(machine.run("wc", "notes.txt", grants=[(f"{HOME}/notes.txt", "r")]) for _ in range(50))
    )
    assert {result.out for result in results} == {b"2 3 14 notes.txt\n"}
    assert len(machine.processes) == 1


async def test_a_program_that_ended_and_still_writes_can_be_killed(machine: Machine) -> None:
    process = await machine.child()
    out = await machine.pipe(process, 1)
    await machine.start(process, build("system"), ["system", "behind"])
    await until(lambda: not machine.scheduler.guests)
    assert process.kill is not None
    process.kill("test")
    await process.ended.wait()
    assert process.status == 137
    assert len(await _read(out)) == 65536
    assert await _read(out) == b""
    out.close()


# -- ends -------------------------------------------------------------------------------------------------------------


@either
@pytest.mark.parametrize(
    ("how", "status", "message"),
    [
        (("exit", "7"), 7, ""),
        (("exit", "0"), 0, ""),
        (("exit", "300"), 44, ""),
        (("raise",), 143, ""),
        (("wild",), 134, "out of bounds memory access"),
        (("deep",), 134, "call stack exhausted"),
        (("trap",), 134, "unreachable"),
        (("abort",), 134, "unreachable"),
    ],
)
async def test_how_a_program_ends_is_its_status(
    machine: Machine, how: Sequence[str], status: int, message: str
) -> None:
    result = await machine.run("crash", *how)
    assert result.status == status
    assert message in result.message
    assert bool(message) == bool(result.message)


@either
async def test_bad_pointers_are_refused_and_the_program_lives(machine: Machine) -> None:
    assert await machine.run("crash", "pointers") == Result(0, b"refused\n", b"", "")


async def test_an_endless_program_is_killed_or_interrupted(machine: Machine) -> None:
    wasm = build("spin")
    killed, interrupted = await machine.child(), await machine.child()
    for process in (killed, interrupted):
        await machine.start(process, wasm, ["spin"])
    assert killed.state is State.RUNNING
    assert killed.kill is not None
    assert interrupted.note is not None
    with pytest.raises(FileError):
        interrupted.note("hello")
    killed.kill("me, process 1")
    interrupted.note("interrupt")
    await killed.ended.wait()
    await interrupted.ended.wait()
    assert (killed.status, killed.message) == (137, f"{E.KILLED.text}: me, process 1")
    assert (interrupted.status, interrupted.message) == (130, "interrupt")
    assert killed.detail is not None
    assert killed.detail()["utime"] == 0


@either
async def test_processor_time_can_be_limited(machine: Machine) -> None:
    result = await machine.run("spin", limits={"cpu": 20_000_000})
    assert result.status == 137
    assert E.CPULIMIT.text in result.message


@either
async def test_a_programs_end_is_the_end_of_its_pipe(machine: Machine) -> None:
    """`cat` copies until its input ends; whoever reads its output then sees the end of file."""
    process = await machine.child()
    into, out = await machine.pipe(process, 0), await machine.pipe(process, 1)
    await machine.start(process, build("cat"), ["cat"])
    for line in (b"first\n", b"second\n"):
        into.server.write(into.fid, 0, line)
        assert await _read(out) == line
    assert process.state is State.RUNNING
    into.close()
    assert await _read(out) == b""
    await process.ended.wait()
    assert process.status == 0


async def _read(chan: Chan) -> bytes:
    data = chan.server.read(chan.fid, 0, 1 << 20)
    return bytes(data if isinstance(data, bytes | memoryview) else await data)


# -- what can not be started ------------------------------------------------------------------------------------------

STRANGE = '(module (import "env" "host_magic" (func)) (memory (export "memory") 1) (func (export "_start")))'
WRONG_TYPE = (
    '(module (import "wasi_snapshot_preview1" "fd_close" (func (param i64) (result i32)))'
    ' (memory (export "memory") 1) (func (export "_start")))'
)


@either
@pytest.mark.parametrize(
    ("wasm", "error", "names"),
    [
        (b"#!/bin/sh\n", E.NOEXEC, ""),
        (b"\0asm\1\0\0\0garbage", E.BADPROGRAM, ""),
        (wat(STRANGE), E.NOIMPORT, "env.host_magic"),
        (wat(WRONG_TYPE), E.NOIMPORT, "wasi_snapshot_preview1.fd_close"),
        (wat("(module)"), E.NOSTART, ""),
        (wat('(module (func (export "_start")))'), E.NOMEMORY, ""),
        (command(memory="2000"), E.NOMEM, ""),
    ],
)
async def test_what_can_not_be_started_is_named_and_leaves_the_process_as_it_was(
    machine: Machine, wasm: bytes, error: E, names: str
) -> None:
    process = await machine.child()
    before = process.namespace, process.cwd, process.descriptors
    with pytest.raises(FileError) as caught:
        await machine.start(process, wasm, ["x"])
    assert caught.value.error is error
    assert names in str(caught.value)
    assert process.state is State.NEW
    assert (process.namespace, process.cwd, process.descriptors) == before
    assert list(process.descriptors) == [0, 1, 2]
    await machine.start(process, build("wc"), ["wc"])
    await process.ended.wait()
    assert await machine.result(process) == Result(0, b"0 0 0\n", b"", "")


async def test_grants_that_can_not_be_given_are_named(machine: Machine) -> None:
    with pytest.raises(FileError, match="/home/me/nothing") as caught:
        await machine.run("wc", grants=[("/home/me/nothing", "r")])
    assert caught.value.error is E.NOENT
    readonly = attach(machine.parent.namespace.domain, RamServer(machine.world.clock, spec="#s"), READ | GRANT)
    place = await finish(machine.parent.namespace.find("/etc", machine.parent.cwd, machine.parent))
    machine.parent.namespace.mount(readonly, place, MREPL)
    with pytest.raises(FileError, match="/etc") as caught:
        await machine.run("wc", grants=[("/etc", "rw")])
    assert caught.value.error is E.ACCES


@pytest.mark.parametrize(("args", "env"), [(["a\0b"], {}), ([], {"A": b"x\0"}), ([], {"A=B": b"x"}), ([], {"": b"x"})])
async def test_strings_that_would_be_cut_are_refused(machine: Machine, args: list[str], env: dict[str, bytes]) -> None:
    process = await machine.child()
    process.environment.values.update(env)
    with pytest.raises(FileError) as caught:
        await machine.start(process, build("wc"), ["wc", *args])
    assert caught.value.error is E.INVAL


@either
async def test_a_process_that_ends_while_its_program_starts_leaves_nothing(machine: Machine) -> None:
    process = await machine.child()
    starting = asyncio.ensure_future(machine.start(process, command("(nop)"), ["x"]))
    await until(lambda: bool(machine.cache._making))
    machine.processes.end(process, 1)
    with pytest.raises(FileError) as caught:
        await starting
    assert caught.value.error is E.SRCH
    assert machine.scheduler.guests == []

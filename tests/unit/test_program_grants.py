"""Programs that want what they were not granted: they wait, get it or find nothing, and never more than there is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from cognu.devices.proc import ProcServer
from cognu.errors import E, FileError
from cognu.files.chan import Chan, Domain, Origin
from cognu.files.launch import Grant, Launch, Mapping
from cognu.files.mounts import MCREATE, MREPL
from cognu.files.process import Process, State
from cognu.files.steps import finish
from cognu.files.wants import Said, Want
from cognu.kernel import GRANT, READ
from cognu.ninep.types import ORDWR, OREAD
from cognu.node.admitting import admit, deny, prepared, taken_back, withdraw
from cognu.node.programs import ProgramBook
from cognu.store.names import name_of
from cognu.world.disk import RealDisk
from programs.build import build
from serving import done
from wasi_kit import attach
from wasi_machine import HOME, Machine

pytestmark = pytest.mark.timeout(600)

NOTES = b"one two\n"
ABSENT, DENIED = "No such file or directory", "Permission denied"
Answer = Callable[[Want], bool]


class Desk:
    """A machine with remembered grants and a user who is asked."""

    def __init__(self, machine: Machine, place: Path) -> None:
        self.machine = machine
        self.book = ProgramBook(RealDisk(), str(place / "grants"))
        self.asked: list[tuple[str, str]] = []
        self.refusals: list[E] = []
        self.program = name_of(build("wants"))

    async def start(self, *words: str, answer: Answer | None = None, launch: Launch | None = None) -> Process:
        process = await self.machine.child(HOME)
        process.args = ["wants", *words]
        wasm = build("wants")
        made = await prepared(process, launch or Launch(), self.program, self.book)
        if answer is not None:
            assert process.wants is not None
            process.wants.begin_asking(self)
        await self.machine.programs.launch(process, made, self.program, wasm)
        return process

    async def answers(self, process: Process, answer: Answer) -> None:
        wants = process.wants
        assert wants is not None
        number = 0
        while (want := await wants.next(number)) is not None:
            self.asked.append((want.path, want.rights))
            try:
                await wants.answer(self, number, answer(want))
            except FileError as error:
                self.refusals.append(error.error)
            number += 1

    async def run(self, *words: str, answer: Answer | None = None, grants: Sequence[Grant] = ()) -> list[str]:
        """What the program prints."""
        self.asked.clear()
        process = await self.start(*words, answer=answer, launch=Launch(grants=list(grants)))
        if answer is not None:
            await self.answers(process, answer)
        await process.ended.wait()
        result = await self.machine.result(process)
        assert (result.status, result.err, result.message) == (0, b"", "")
        return result.out.decode().splitlines()

    async def read(self, path: str) -> bytes:
        return await self.machine.content(path)


def yes(want: Want) -> bool:
    return True


def no(want: Want) -> bool:
    return False


@asynccontextmanager
async def made(place: Path) -> AsyncIterator[Desk]:
    machine = Machine(place)
    await machine.make(f"{HOME}/notes", NOTES)
    await machine.make("/etc/motd", b"hello\n")
    await machine.make("/etc/dir/a", b"")
    await machine.make("/etc/dir/b", b"")
    try:
        yield Desk(machine, place)
    finally:
        await machine.close()


@pytest_asyncio.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with made(tmp_path) as desk:
        yield desk


# -- asked ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["notes", "./notes", f"{HOME}/notes", "/etc/motd"])
async def test_a_file_is_there_once_it_was_granted_whatever_it_is_called(desk: Desk, path: str) -> None:
    text = "one two" if "notes" in path else "hello"
    there = f"{HOME}/notes" if "notes" in path else "/etc/motd"
    assert await desk.run("r", path, "s", path, "r", path, answer=lambda want: want.path == there) == [
        f"r: {text}", "", "s: ok", f"r: {text}", "",
    ]  # fmt: skip
    assert desk.asked.count((there, "r")) == 1
    assert await desk.run("r", path, "s", path, answer=no) == [f"r: {ABSENT}", f"s: {ABSENT}"]
    assert desk.asked.count((there, "r")) == 1
    assert await desk.run("r", path) == [f"r: {ABSENT}"]


async def test_looking_at_a_file_asks_for_reading_it_and_writing_for_more(desk: Desk) -> None:
    printed = await desk.run("s", "notes", "o", "notes", answer=yes)
    assert printed == ["s: ok", "o: ok"]
    assert desk.asked == [(f"{HOME}/notes", "r"), (f"{HOME}/notes", "w")]
    assert await desk.read(f"{HOME}/notes") == b"new"


async def test_a_right_that_is_missing_inside_is_asked_for_too_and_refused_as_before(desk: Desk) -> None:
    typed = [Grant(f"{HOME}/notes", "r")]
    assert await desk.run("r", "notes", "o", "notes", answer=no, grants=typed) == ["r: one two", "", f"o: {DENIED}"]
    assert desk.asked == [(f"{HOME}/notes", "w")]
    assert await desk.run("o", "notes", "r", "notes", answer=yes, grants=typed) == ["o: ok", "r: new"]
    tree = [Grant("/etc", "r")]
    words = ("o", "/etc/motd", "o", "/etc/dir/a", "r", "/etc/motd")
    printed = await desk.run(*words, answer=lambda want: want.path == "/etc/motd", grants=tree)
    assert printed == ["o: ok", f"o: {DENIED}", "r: new"]
    assert await desk.read("/etc/dir/a") == b""


async def test_what_is_not_there_in_a_granted_tree_is_no_question(desk: Desk) -> None:
    printed = await desk.run("r", "/etc/none", "s", "/etc/dir/none", answer=yes, grants=[Grant("/etc", "rw")])
    assert printed == [f"r: {ABSENT}", f"s: {ABSENT}"]
    assert desk.asked == []


async def test_a_directory_that_was_granted_has_what_is_in_it(desk: Desk) -> None:
    printed = await desk.run(
        "l", "/etc/dir", "r", "/etc/dir/a", "m", "/etc/dir/c", answer=lambda want: want.path == "/etc/dir"
    )
    assert printed == ["l: a b ", "r: ok", f"m: {DENIED}"]


async def test_a_file_may_be_made_without_its_directory_being_granted(desk: Desk) -> None:
    printed = await desk.run(
        "w", "made", "r", "made", "w", "/etc/made", "r", "notes", answer=lambda want: "made" in want.path
    )
    assert printed == ["w: ok", "r: new", "w: ok", f"r: {ABSENT}"]
    assert await desk.read(f"{HOME}/made") == await desk.read("/etc/made") == b"new"
    assert (f"{HOME}/made", "wc") in desk.asked
    assert await desk.run("w", "never", answer=no) == [f"w: {DENIED}"]
    with pytest.raises(FileError) as caught:
        await desk.read(f"{HOME}/never")
    assert caught.value.error is E.NOENT


async def test_a_file_that_must_not_be_there_yet_is_no_question(desk: Desk) -> None:
    assert await desk.run("x", "made", answer=yes) == [f"x: {DENIED}"]
    assert desk.asked == []


async def test_what_is_nowhere_stays_so_and_the_user_hears_why(desk: Desk) -> None:
    assert await desk.run("r", "/none/at/all", answer=yes) == [f"r: {ABSENT}"]
    assert set(desk.refusals) == {E.NOENT}


async def test_mapped_directories_are_all_there_is(desk: Desk) -> None:
    process = await desk.start("r", "notes", launch=Launch(directories=[Mapping("/etc", "/data")]))
    await process.ended.wait()
    assert process.wants is None
    assert process.reach is None


async def test_a_program_killed_while_it_waits_ends_and_nothing_is_granted(desk: Desk) -> None:
    process = await desk.start("r", "notes", answer=yes)
    wants = process.wants
    assert wants is not None
    want = await wants.next(0)
    assert want is not None
    assert process.kill is not None
    process.kill("the test")
    await process.ended.wait()
    await wants.answer(desk, 0, True)
    assert await wants.next(1) is None
    with pytest.raises(FileError) as caught:
        await admit(process, want.path, want.rights)
    assert caught.value.error is E.SRCH


# -- remembered -------------------------------------------------------------------------------------------------------


async def test_what_is_remembered_of_the_hash_is_there_without_a_question(desk: Desk) -> None:
    desk.book.add(desk.program, allow=[Grant("/etc/motd", "r"), Grant("/gone", "r"), Grant(f"{HOME}/late", "rw")])
    assert await desk.run("r", "/etc/motd", "r", "/gone", answer=no) == ["r: hello", "", f"r: {ABSENT}"]
    assert await desk.run("w", "late") == ["w: ok"]  # it was not there when the program began
    assert await desk.read(f"{HOME}/late") == b"new"
    desk.program = name_of(b"another version")
    assert await desk.run("r", "/etc/motd") == [f"r: {ABSENT}"]


async def test_never_is_refused_without_a_question_and_noted_for_the_user(desk: Desk) -> None:
    never = Grant("/etc", "r")
    desk.book.add(desk.program, never=[never])
    assert await desk.run("r", "/etc/motd", answer=yes) == [f"r: {ABSENT}"]
    assert ("/etc/motd", "r") in desk.asked  # told, and the yes counts for nothing
    process = await desk.start("r", "/etc/motd", "r", "/etc/motd")
    await process.ended.wait()
    assert (await desk.machine.result(process)).out.decode() == f"r: {ABSENT}\n" * 2
    assert process.wants is not None
    found: list[Want] = []
    while (want := await process.wants.next(len(found))) is not None:
        found.append(want)
    assert ("/etc/motd", "r", never) in [(want.path, want.rights, want.never) for want in found]
    assert len({want[1:] for want in found}) == len(found)


@pytest.mark.parametrize(
    ("launch", "meant"),
    [(Launch(grants=[Grant("/etc/dir", "rw")]), "/etc/dir:rw"),
     (Launch(grants=[Grant("/etc/dir/a", "r")]), "/etc/dir/a:r"),
     (Launch(grants=[Grant("/etc", "r")]), "/etc:r"), (Launch(grants=[Grant("/", "rwx")]), "/:rwx"),
     (Launch(grants=[Grant(f"{HOME}/../../etc/dir", "r")]), "/etc/dir:r"),
     (Launch(directories=[Mapping("/etc", "/here")]), "/etc:rw"),
     (Launch(grant_files=["/rules"]), "/etc/dir/b:r")],
)  # fmt: skip
async def test_what_is_kept_as_never_stops_a_grant_of_it_or_of_a_tree_above_or_below(
    desk: Desk, launch: Launch, meant: str
) -> None:
    await desk.machine.make("/rules", b"allow /etc/dir/b r\n")
    desk.book.add(desk.program, "wants.wasm", never=[Grant("/etc/dir", "r")])
    with pytest.raises(FileError) as caught:
        await desk.start("r", "/etc/motd", launch=launch)
    assert caught.value.error is E.CONFLICT
    assert "grants revoke wants.wasm /etc/dir:r" in caught.value.detail
    assert meant in caught.value.subject or ".." in launch.grants[0].path
    desk.book.remove(desk.program)
    process = await desk.start("r", "/etc/motd", launch=launch)
    await process.ended.wait()


async def test_what_is_kept_as_never_stops_no_grant_of_another_right_or_tree(desk: Desk) -> None:
    desk.book.add(desk.program, never=[Grant("/etc/dir", "w"), Grant("/et", "r")])
    assert await desk.run("r", "/etc/dir/a", grants=[Grant("/etc/dir", "r"), Grant("/etc/motd", "rw")]) == ["r: ok"]


async def test_a_file_of_grants_is_for_one_run(desk: Desk) -> None:
    other = name_of(b"other")
    text = f"allow /etc/motd r\nnever {HOME}/notes r\nprogram {other}\nallow {HOME}/notes r\n"
    await desk.machine.make("/rules", text.encode())
    desk.book.add(desk.program, allow=[Grant(f"{HOME}/notes", "r")])
    process = await desk.start("r", "/etc/motd", "r", "notes", launch=Launch(grant_files=["/rules"]))
    await process.ended.wait()
    assert (await desk.machine.result(process)).out.decode() == f"r: hello\n\nr: {ABSENT}\n"
    await desk.machine.make("/wrong", b"allow x r\n")
    with pytest.raises(FileError) as caught:
        await desk.start("r", "x", launch=Launch(grant_files=["/wrong"]))
    assert (caught.value.error, caught.value.subject) == (E.USAGE, "/wrong:1")
    with pytest.raises(FileError) as caught:
        await desk.start("r", "x", launch=Launch(grant_files=["/none"]))
    assert caught.value.error is E.NOENT


async def test_a_grant_taken_back_ends_what_runs_under_it_and_the_rest_stays(desk: Desk) -> None:
    desk.book.add(desk.program, allow=[Grant("/etc/motd", "r"), Grant("/etc/dir", "r")])
    process = await desk.start("r", "/etc/motd", "r", "notes", "r", "/etc/motd", "s", "/etc/dir/a", answer=yes)
    assert process.wants is not None
    want = await process.wants.next(0)
    assert want is not None  # it has read the first, and waits for the second
    chan = await desk.machine.open("/etc/motd", OREAD, process)
    chan.domain.check(chan.cap, READ)
    assert withdraw(process, Grant("/etc/motd", "r"))
    assert not withdraw(process, Grant("/etc/motd", "r"))
    with pytest.raises(FileError) as caught:
        chan.domain.check(chan.cap, READ)
    assert caught.value.error is E.REVOKED
    chan.close()
    process.wants.kept = Said()
    await desk.answers(process, no)
    result = await desk.machine.result(process)
    assert result.out.decode().splitlines() == ["r: hello", "", f"r: {ABSENT}", f"r: {ABSENT}", "s: ok"]


async def test_of_a_grant_those_rights_are_taken_back_that_are_named(desk: Desk) -> None:
    desk.book.add(desk.program, allow=[Grant("/etc/motd", "rw")])
    process = await desk.start("r", "notes", "r", "/etc/motd", "o", "/etc/motd", answer=yes)
    assert process.wants is not None
    assert await process.wants.next(0) is not None  # it waits
    chan = await desk.machine.open("/etc/motd", ORDWR, process)
    row = desk.book.add(desk.program, never=[Grant("/etc/motd", "w")])
    assert (row.allow, row.never) == ((Grant("/etc/motd", "r"),), (Grant("/etc/motd", "w"),))
    process.wants.kept = Said(row.allow, row.never)
    assert withdraw(process, Grant("/etc/motd", "w"))
    with pytest.raises(FileError) as caught:
        chan.domain.check(chan.cap, READ)
    assert caught.value.error is E.REVOKED  # opened for both
    chan.close()
    await desk.answers(process, no)
    result = await desk.machine.result(process)
    assert result.out.decode().splitlines() == [f"r: {ABSENT}", "r: hello", "", f"o: {DENIED}"]


async def test_what_is_taken_back_while_a_program_starts_it_does_not_get(desk: Desk) -> None:
    desk.book.add(desk.program, allow=[Grant("/etc/motd", "r"), Grant(f"{HOME}/notes", "r")])
    process = await desk.machine.child(HOME)
    process.args = ["wants", "r", "/etc/motd", "r", "notes"]
    launch = await prepared(process, Launch(), desk.program, desk.book)
    wants = process.wants
    assert wants is not None
    before = wants.kept
    row = desk.book.remove(desk.program, Grant("/etc/motd", "r"))  # it is being compiled, say
    wants.kept = Said(row.allow, row.never)
    await desk.machine.programs.launch(process, launch, desk.program, build("wants"))
    taken_back(process, before)
    await process.ended.wait()
    assert (await desk.machine.result(process)).out.decode() == f"r: {ABSENT}\nr: one two\n\n"


async def test_what_is_never_to_be_had_is_taken_with_what_is_below_it_and_a_tree_above_is_told_of(desk: Desk) -> None:
    words = ("r", "notes", "r", "/etc/motd", "s", "/etc/dir/a", "s", "/etc/dir/b")
    typed = [Grant("/etc/motd", "rw"), Grant("/etc/dir", "r")]
    process = await desk.start(*words, launch=Launch(grants=typed), answer=yes)
    assert process.wants is not None
    assert await process.wants.next(0) is not None  # it waits
    chan = await desk.machine.open("/etc/motd", OREAD, process)
    kept = await desk.machine.open("/etc/dir/a", OREAD, process)
    assert deny(process, Grant("/etc/dir/a", "w")) == []
    assert deny(process, Grant("/etc/dir/a", "rw")) == [Grant("/etc/dir", "r")]  # it has it still, by that
    kept.domain.check(kept.cap, READ)
    assert deny(process, Grant("/", "w")) == []
    chan.close()
    chan = await desk.machine.open("/etc/motd", OREAD, process)
    assert deny(process, Grant("/etc", "r")) == []
    for each in (chan, kept):
        with pytest.raises(FileError) as caught:
            each.domain.check(each.cap, READ)
        assert caught.value.error is E.REVOKED
        each.close()
    process.wants.kept = Said(never=[Grant("/etc", "r")])
    await desk.answers(process, no)
    result = await desk.machine.result(process)
    assert result.out.decode().splitlines() == [f"r: {ABSENT}"] * 2 + [f"s: {ABSENT}"] * 2


async def test_what_is_denied_while_a_program_starts_it_does_not_get(desk: Desk) -> None:
    process = await desk.machine.child(HOME)
    process.args = ["wants", "r", "/etc/motd", "r", "notes"]
    typed = Launch(grants=[Grant("/etc/motd", "r"), Grant(f"{HOME}/notes", "r")])
    launch = await prepared(process, typed, desk.program, desk.book)
    wants = process.wants
    assert wants is not None
    before = wants.kept
    wants.kept = Said(never=[Grant("/etc", "r")])
    await desk.machine.programs.launch(process, launch, desk.program, build("wants"))
    taken_back(process, before)
    await process.ended.wait()
    assert (await desk.machine.result(process)).out.decode() == f"r: {ABSENT}\nr: one two\n\n"


async def test_until_a_program_is_confined_its_namespace_is_its_makers_own_affair(desk: Desk) -> None:
    process = await desk.start("r", "notes", "r", "/etc/motd", launch=Launch(grants=[Grant("/etc", "r")]), answer=yes)
    assert process.wants is not None
    assert await process.wants.next(0) is not None  # it waits
    child = desk.machine.processes.clone(process)
    for path in ("/etc", "/"):
        assert not withdraw(child, Grant(path, "r"))
        assert deny(child, Grant(path, "r")) == []
    desk.machine.processes.end(child, 0)
    await desk.answers(process, no)
    result = await desk.machine.result(process)
    assert result.out.decode().splitlines() == [f"r: {ABSENT}", "r: hello", ""]


async def link(desk: Desk, path: str, target: str) -> None:
    """Make it a symbolic link, in place of what is there."""
    namespace, me = desk.machine.parent.namespace, desk.machine.parent
    directory, name = await finish(namespace.find_parent(path, namespace.root, me))
    try:
        await finish(namespace.remove(await finish(namespace.walk(directory, [name], me, follow=False)), me))
    except FileError as error:
        if error.error is not E.NOENT:
            raise
    await done(directory.server.symlink(directory.fid, name, target))
    directory.close()


async def test_what_is_remembered_is_where_a_path_led_not_where_a_link_leads_since(desk: Desk) -> None:
    """Else a program that may write where a link is would get what its user may read."""
    await desk.machine.make("/secret", b"secret\n")
    desk.book.add(desk.program, allow=[Grant("/etc/motd", "r")])
    await link(desk, f"{HOME}/alias", "/etc/motd")
    for path in ("/etc/motd", "alias", f"{HOME}/alias"):
        assert await desk.run("r", path) == ["r: hello", ""]
    await link(desk, f"{HOME}/alias", "/secret")
    await link(desk, "/etc/motd", "../secret")
    for path in ("/etc/motd", "alias", f"{HOME}/alias"):
        assert await desk.run("r", path) == [f"r: {ABSENT}"]


async def test_what_is_kept_as_never_is_refused_by_any_name(desk: Desk) -> None:
    desk.book.add(desk.program, never=[Grant("/etc/motd", "r")])
    await link(desk, f"{HOME}/alias", "/etc/motd")
    with pytest.raises(FileError) as caught:
        await desk.start("r", "alias", launch=Launch(grants=[Grant(f"{HOME}/alias", "r")]))
    assert caught.value.error is E.CONFLICT


@pytest.mark.parametrize("through", ["bind", "link"])
@pytest.mark.parametrize(
    ("spec", "names", "asks"),
    [("#n", ("rpc",), False), ("#p", ("1", "ctl"), False), ("#q", ("1",), False),
     ("#N", ("pi", "proc", "clone"), False),
     ("#M/srv/x", ("mnt", "node", "rpc"), False), ("#M/fd/3", ("proc",), False), ("#N", ("pi", "home", "proc"), True),
     ("#M/srv/x", ("mnt", "nodes"), True), ("#c", ("time",), True)],
)  # fmt: skip
async def test_what_steers_a_node_is_known_by_its_server_whatever_it_is_called(
    desk: Desk, spec: str, names: tuple[str, ...], asks: bool, through: str
) -> None:
    """The user has bound it elsewhere, or made a link."""
    namespace, me = desk.machine.parent.namespace, desk.machine.parent
    place = await finish(namespace.find("/etc/motd", namespace.root, me))
    source = await finish(namespace.find(f"{HOME}/notes", namespace.root, me))
    namespace.mount(Chan(source.handle, source.domain, source.cap, place.path, Origin(spec, names)), place, MREPL)
    if through == "link":
        await link(desk, f"{HOME}/alias", "/etc/motd")
    path = "alias" if through == "link" else "/etc/motd"
    assert await desk.run("r", path, answer=yes) == (["r: one two", ""] if asks else [f"r: {ABSENT}"])


async def test_a_grant_by_another_name_is_taken_back_with_what_it_is(desk: Desk) -> None:
    desk.book.add(desk.program, allow=[Grant("/etc/motd", "r")])
    await link(desk, f"{HOME}/alias", "/etc/motd")
    process = await desk.start("r", "alias", "r", "notes", "r", "alias", answer=yes)
    assert process.wants is not None
    assert await process.wants.next(0) == Want(0, f"{HOME}/notes", "r")
    process.wants.kept = Said()
    assert withdraw(process, Grant("/etc/motd", "r"))
    await desk.answers(process, no)
    result = await desk.machine.result(process)
    assert result.out.decode().splitlines() == ["r: hello", "", f"r: {ABSENT}", f"r: {ABSENT}"]


async def test_what_was_seen_is_what_is_granted_though_a_link_was_changed_meanwhile(desk: Desk) -> None:
    await desk.machine.make("/secret", b"secret\n")
    await desk.machine.make(f"{HOME}/dir", None)
    await link(desk, f"{HOME}/alias", "/etc/motd")
    process = await desk.start("r", "alias", "w", "dir/new", answer=yes)
    wants = process.wants
    assert wants is not None
    assert await wants.next(0) == Want(0, f"{HOME}/alias", "r")
    await link(desk, f"{HOME}/alias", "/secret")
    with pytest.raises(FileError) as caught:
        await wants.answer(desk, 0, True, "/etc/motd")
    assert caught.value.error is E.MOVED
    number, want = 0, await wants.next(0)
    while want is not None and "w" not in want.rights:  # what else the first path might have meant
        await wants.answer(desk, number, False)
        number, want = number + 1, await wants.next(number + 1)
    assert want == Want(number, f"{HOME}/dir/new", "wc")
    with pytest.raises(FileError) as caught:
        await wants.answer(desk, number, True, "/elsewhere/new")
    assert caught.value.error is E.MOVED
    await desk.answers(process, no)
    assert (await desk.machine.result(process)).out.decode() == f"r: {ABSENT}\nw: {ABSENT}\n"
    with pytest.raises(FileError):
        await desk.read(f"{HOME}/dir/new")  # nothing was made


async def test_a_starter_that_lost_a_right_itself_can_not_give_it(desk: Desk) -> None:
    """Remembered or answered for, a grant is what the parent may do at that moment, and no more."""
    desk.book.add(desk.program, allow=[Grant(f"{HOME}/notes", "rw")])
    parent = desk.machine.parent
    poor = desk.machine.processes.fork(parent)
    poor.namespace.release()
    domain = Domain(desk.machine.authority, parent.namespace.domain)
    poor.namespace = parent.namespace.copy(domain, rights=READ | GRANT)
    child = desk.machine.processes.fork(poor)
    launch = await prepared(child, Launch(), desk.program, desk.book)
    assert launch.grants == [Grant(f"{HOME}/notes", "r")]
    with pytest.raises(FileError) as caught:
        await admit(child, f"{HOME}/notes", "w")
    assert caught.value.error is E.ACCES
    for process in (child, poor):
        desk.machine.processes.end(process, 0)
    with pytest.raises(FileError) as caught:
        await admit(child, f"{HOME}/notes", "r")
    assert caught.value.error is E.SRCH


# -- children ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("everything", [False, True])
async def test_a_program_that_starts_another_gives_it_no_more_than_it_has(desk: Desk, everything: bool) -> None:
    """Not even what is remembered of that one, nor by answering its questions, nor its own."""
    machine = desk.machine
    children: list[Process] = []

    async def launch(process: Process, what: Launch) -> None:
        process.args = ["wants", *what.args]
        children.append(process)
        made = await prepared(process, what, desk.program, desk.book)
        await machine.programs.launch(process, made, desk.program, build("wants"))

    class Nobody:
        async def mount_service(self, chan: Chan, aname: str) -> Chan:
            raise NotImplementedError

    await machine.make("/proc", None)
    parent = machine.parent
    proc = ProcServer(machine.processes, Nobody(), launch, everything=everything)
    place = await finish(parent.namespace.find("/proc", parent.cwd, parent))
    parent.namespace.mount(attach(parent.namespace.domain, proc), place, MREPL | MCREATE)
    desk.book.add(desk.program, allow=[Grant("/etc/motd", "r")])
    lines = f"program wants;arg r /etc/motd r {HOME}/notes r /etc/dir/a;grant /etc/dir r;start"
    granted = [Grant("/proc", "rw"), Grant(f"{HOME}/notes", "r")]
    process = await machine.child(HOME)
    process.args = ["wants", "c", "/proc/clone", lines, "r", f"/proc/{process.pid}/wants"]
    # Started without what is remembered: another program, say.
    made = await prepared(process, Launch(grants=granted), name_of(b"the parent"), desk.book)
    await machine.programs.launch(process, made, name_of(b"the parent"), build("wants"))
    await process.ended.wait()
    out = (await machine.result(process)).out.decode().splitlines()
    assert out[0] == f"c: {ABSENT}"  # /etc/dir is none of its own to give
    assert out[1] == f"r: {DENIED}"
    [child] = children
    assert child.state is State.DEAD

    children.clear()
    process = await machine.child(HOME)
    process.args = ["wants", "c", "/proc/clone", lines.replace(";grant /etc/dir r", "")]
    made = await prepared(process, Launch(grants=granted), name_of(b"the parent"), desk.book)
    assert process.wants is not None
    process.wants.begin_asking(desk)
    await machine.programs.launch(process, made, name_of(b"the parent"), build("wants"))
    await desk.answers(process, no)
    [child] = children
    assert (await machine.result(process)).out.decode() == f"c: {child.pid}\n\n"
    await child.ended.wait()
    assert child.status is not None
    assert child.wants is not None
    # Nobody above it may be asked but the program itself, and that has no GRANT of anything.
    noted = {want.path for number in range(9) if (want := await child.wants.next(number)) is not None}
    assert {f"{HOME}/notes", "/etc/dir/a"} <= noted
    for path in (f"{HOME}/notes", "/etc/dir/a"):
        with pytest.raises(FileError):
            await admit(child, path, "r")

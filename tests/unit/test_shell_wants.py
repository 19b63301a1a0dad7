"""What a program was not granted: the question at a terminal, what each answer does, and the hint where none is."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from functools import partial

import pytest
import pytest_asyncio

from cognu.errors import E, FileError
from cognu.shell.hoststreams import HostInput
from cognu.shell.system import TERMINAL, Grant, Want
from cognu.shell.wants import CHOICES, TOLD, Questions, grant_of, line_of
from shell_fake import Bench, Collector, FakeChild, FakeFile, FakeWorld, Running

NOTES = Want(0, "/home/me/notes", "r", "bafkr4ihash")


class Typing(FakeFile):
    """A terminal at which lines were typed beforehand; at its end it waits for ever, or is at its end."""

    def __init__(self, world: FakeWorld, lines: Sequence[bytes], ends: bool = True) -> None:
        super().__init__(world, TERMINAL)
        self.lines = list(lines)
        self.ends = ends

    async def read(self, count: int = 65536) -> bytes:
        if self.lines:
            return self.lines.pop(0)
        if not self.ends:
            await asyncio.Event().wait()
        return b""


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    bench.system.make("/home/me/notes", b"x")
    yield bench


def child_of(bench: Bench) -> FakeChild:
    child = bench.world.children[-1]
    assert isinstance(child, FakeChild)
    return child


def program(bench: Bench, *wants: Want, status: int = 1) -> None:
    """One that wants these, waits for answers if it was started to be asked, and ends."""

    async def run(running: Running) -> int:
        child = child_of(bench)
        child.wanted += wants
        if running.options.asks:
            for count in range(1, len(wants) + 1):
                while len(child.answers) < count - sum(want.never is not None or want.steers for want in wants):
                    await child.answered.wait()
                    child.answered.clear()
        return status

    bench.program("prog", run)


def asks(bench: Bench, *lines: bytes, ends: bool = True) -> Collector:
    """Somebody sits at the shell's terminal and will type that; what is shown there."""
    shown = Collector(bench.world, TERMINAL)
    typing = Typing(bench.world, lines, ends)
    bench.world.open_files -= {shown, typing}  # the user's own
    bench.shell.ask = Questions(shown, partial(line_of, typing)).ask
    return shown


def answered(bench: Bench) -> list[tuple[str, bool]]:
    return [(want.path, yes) for want, yes in child_of(bench).answers]


def remembered(bench: Bench) -> list[object]:
    return [call for call in bench.world.calls if call[0] == "remember"]


# -- asked ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "yes", "kept"),
    [
        (b"once", True, None), (b"o", True, None), (b"Always", True, True), (b"a", True, True),
        (b"never", False, False), (b"nev", False, False), (b"n", False, None), (b"no", False, None),
        (b"", False, None),
    ],
)  # fmt: skip
async def test_each_answer_does_what_it_says(bench: Bench, typed: bytes, yes: bool, kept: bool | None) -> None:
    program(bench, NOTES)
    shown = asks(bench, typed + b"\n")
    result = await bench.run("prog")
    assert (result.status, result.out, result.err) == (1, "", "")
    assert answered(bench) == [("/home/me/notes", yes)]
    assert child_of(bench).asked_for == [NOTES.path]
    assert shown.text == f"prog wants to read /home/me/notes, which it was not granted\n{CHOICES}"
    grant = Grant("/home/me/notes", "r")
    assert remembered(bench) == ([] if kept is None else [("remember", "bafkr4ihash", "prog", grant, kept)])
    assert child_of(bench).closed


@pytest.mark.parametrize("asked", [True, False])
async def test_what_is_kept_as_never_is_no_question_and_told_when_the_program_failed(bench: Bench, asked: bool) -> None:
    program(bench, replace(NOTES, never=Grant("/home/me", "rw")), Want(1, "/gone", "r", "h", never=Grant("/gone", "r")))
    shown = asks(bench) if asked else None
    result = await bench.run("prog")
    assert shown is None or shown.text == ""
    told = "that is kept as never; grants revoke prog /home/me:rw takes that back"
    assert result.err == f"prog: /home/me/notes: {E.NOTGIVEN.text}: {told}\n"
    assert answered(bench) == []


async def test_a_name_can_not_steer_the_terminal_at_which_it_is_asked_about(bench: Bench) -> None:
    odd = "/home/me/\x1b[2J\nprog wants nothing"
    bench.system.make(odd, b"x")
    bench.system.make("/home/me/link", link=odd)
    program(bench, Want(0, "/home/me/link", "r", "h"), Want(1, odd, "r", "h"))
    shown = asks(bench, b"once\n", b"no\n")
    await bench.run("prog")
    first, second = [line for line in shown.text.split("\n") if " wants to " in line]
    assert first.startswith("prog wants to read /home/me/link (it is '/home/me/\\x1b[2J\\nprog wants nothing')")
    assert second.removeprefix(CHOICES).startswith("prog wants to read '/home/me/\\x1b[2J\\nprog wants nothing'")
    assert "\x1b" not in shown.text


async def test_an_answer_that_is_none_is_asked_for_again_and_the_end_of_the_input_is_a_no(bench: Bench) -> None:
    program(bench, NOTES)
    shown = asks(bench, b"what?\n", b"on", b"ce\n")
    await bench.run("prog")
    assert answered(bench) == [("/home/me/notes", True)]
    assert shown.text.count(CHOICES) == 2
    asks(bench)
    await bench.run("prog")
    assert answered(bench) == [("/home/me/notes", False)]


async def test_what_is_not_there_for_the_user_either_is_no_question(bench: Bench) -> None:
    wants = [Want(0, "/none", "r", "h"), Want(1, "/none/new", "wc", "h"), Want(2, "/none", "rw", "h")]
    program(bench, *wants)
    shown = asks(bench, b"once\n")
    await bench.run("prog")
    assert answered(bench) == [("/none", False), ("/none/new", False), ("/none", False)]
    assert child_of(bench).asked_for == []
    assert shown.text == ""


@pytest.mark.parametrize(
    ("want", "deed", "grant"),
    [
        (Want(0, "/home/me/notes", "rw", "h"), "read and change /home/me/notes", Grant("/home/me/notes", "rw")),
        (Want(0, "/home/me/notes", "wc", "h"), "change /home/me/notes", Grant("/home/me/notes", "w")),
        (Want(0, "/home/me/new", "wc", "h"), "make /home/me/new", Grant("/home/me/new", "w")),
        (Want(0, "/net", "rw", "h"), "use the network (/net)", Grant("/net", "rw")),
    ],
)
async def test_the_question_says_what_it_is_about(bench: Bench, want: Want, deed: str, grant: Grant) -> None:
    bench.system.make("/net")
    program(bench, want)
    shown = asks(bench, b"always\n")
    await bench.run("run --on pi prog")
    assert shown.text.startswith(f"prog on pi wants to {deed}, which")
    assert [call[3] for call in bench.world.calls if call[0] == "remember"] == [grant]


@pytest.mark.parametrize("place", ["/mnt/node/rpc", "/proc/1/ns", "/mnt/term/mnt/node/ctl"])
async def test_what_steers_the_node_is_never_given_by_an_answer(bench: Bench, place: str) -> None:
    bench.system.make(place, b"x")
    bench.system.make("/home/me/innocent", link=place)
    for path in (place, "/home/me/innocent"):
        program(bench, Want(0, path, "rw", "hash", steers=True))  # by what the node says of it
        shown = asks(bench, b"once\n")
        result = await bench.run("prog")
        assert answered(bench) == []
        assert shown.text == ""
        assert f"run --grant {path}:rw" in result.err
        assert ("in a shell of the node: cognu sh" in result.err) == path.startswith("/proc/")  # the host has that too


async def test_a_link_is_shown_with_what_it_is_and_that_is_what_is_allowed(bench: Bench) -> None:
    bench.system.make("/home/me/alias", link="notes")
    bench.system.make("/home/me/nowhere", link="none/at/all")
    program(bench, Want(0, "/home/me/alias", "r", "h"), Want(1, "/home/me/nowhere", "r", "h"))
    shown = asks(bench, b"always\n")
    await bench.run("prog")
    assert shown.text.startswith("prog wants to read /home/me/alias (it is /home/me/notes), which")
    assert [call[3] for call in bench.world.calls if call[0] == "remember"] == [Grant("/home/me/notes", "r")]
    assert [(want.path, want.real, yes) for want, yes in child_of(bench).answers] == [
        ("/home/me/alias", "/home/me/notes", True),
        ("/home/me/nowhere", "", False),
    ]


async def test_what_can_not_be_kept_or_granted_is_said_and_the_program_goes_on(bench: Bench) -> None:
    program(bench, NOTES)
    asks(bench, b"always\n")

    async def fails(program: str, name: str, grant: Grant, allowed: bool) -> None:
        raise FileError(E.NOENT, "/mnt/node/rpc")

    bench.system.remember = fails  # type: ignore[method-assign]
    result = await bench.run("prog")
    assert result.err == f"prog: /mnt/node/rpc: {E.NOENT.text}: {E.NOTKEPT.text}\n"
    assert answered(bench) == [("/home/me/notes", True)]


async def test_a_program_that_ends_meanwhile_leaves_no_question(bench: Bench) -> None:
    ended = asyncio.Event()

    async def run(running: Running) -> int:
        child_of(bench).wanted.append(NOTES)
        await ended.wait()
        return 0

    bench.program("prog", run)
    shown = asks(bench, ends=False)
    running = asyncio.create_task(bench.run("prog"))
    await shown.until(CHOICES.encode())
    ended.set()
    assert (await running).status == 0
    assert answered(bench) == [("/home/me/notes", False)]


async def test_ctrl_c_at_the_question_ends_the_program(bench: Bench) -> None:
    program(bench, NOTES)
    shown = asks(bench, ends=False)
    running = asyncio.create_task(bench.run("prog"))
    await shown.until(CHOICES.encode())
    running.cancel()
    await asyncio.wait([running])
    assert child_of(bench).notes == ["interrupt"]
    assert child_of(bench).closed
    bench.world.open_files.clear()


async def test_two_programs_ask_one_after_the_other(bench: Bench) -> None:
    program(bench, NOTES, status=0)
    shown = asks(bench, b"once\n", b"no\n")
    assert (await bench.run("prog | prog")).status == 0
    assert shown.text.count(CHOICES) == 2
    assert sorted(yes for child in bench.world.children for _, yes in child.answers) == [False, True]


# -- told -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shown", "typed"),
    [
        ("sp ace", "sp ace", "'/home/me/sp ace:r'"),
        ("it's", "it's", """'/home/me/it'"'"'s:r'"""),
        ("tab\tx'\u202e", repr("/home/me/tab\tx'\u202e"), r"$'/home/me/tab\x09x\'\U0000202e:r'"),
    ],
)
async def test_what_would_grant_it_is_one_word_for_a_shell(bench: Bench, name: str, shown: str, typed: str) -> None:
    bench.system.make(f"/home/me/{name}", b"x")
    program(bench, Want(0, f"/home/me/{name}", "r", "h"))
    shown = shown if "/" in shown else f"/home/me/{shown}"
    assert (await bench.run("prog")).err == f"prog: {shown}: {E.NOTGIVEN.text}: run --grant {typed}\n"


HINT = f"prog: /home/me/notes: {E.NOTGIVEN.text}: run --grant /home/me/notes:r\n"


async def test_without_a_terminal_a_program_that_failed_is_followed_by_what_it_was_not_granted(bench: Bench) -> None:
    program(bench, NOTES, Want(1, "/none", "r", "h"), Want(2, "/home/me/new", "wc", "h"), Want(3, "/net", "rw", "h"))
    bench.system.make("/net")
    result = await bench.run("prog")
    made = f"prog: /home/me/new: {E.NOTGIVEN.text}: run --grant /home/me:rw\n"
    assert result.err == HINT + made + f"prog: /net: {E.NOTGIVEN.text}: run --grant net\n"
    assert child_of(bench).answers == []


async def test_of_very_many_things_a_few_are_told(bench: Bench) -> None:
    for number in range(20):
        bench.system.make(f"/home/me/{number}", b"")
    program(bench, *(Want(number, f"/home/me/{number}", "r", "h") for number in range(20)))
    assert len((await bench.run("prog")).err.splitlines()) == TOLD


async def test_a_program_that_went_well_is_followed_by_nothing(bench: Bench) -> None:
    program(bench, NOTES, status=0)
    assert (await bench.run("prog")).err == ""


async def test_what_runs_in_the_background_asks_nobody(bench: Bench) -> None:
    program(bench, NOTES)
    shown = asks(bench, b"once\n")
    result = await bench.run("prog &")
    assert shown.text == ""
    assert result.err == HINT


def test_a_file_that_is_to_be_made_takes_its_directory() -> None:
    assert grant_of(Want(0, "/a/b", "wc", "")) == Grant("/a", "rw")
    assert grant_of(Want(0, "/a", "wc", "")) == Grant("/", "rw")


# -- at a real terminal -----------------------------------------------------------------------------------------------


async def test_what_is_typed_to_a_question_is_not_taken_by_who_reads_the_terminal_meanwhile() -> None:
    master, slave = os.openpty()
    try:
        stdin = HostInput(slave, TERMINAL)
        reading = asyncio.create_task(stdin.read())
        await asyncio.sleep(0)  # it waits, and has the descriptor
        answering = asyncio.create_task(stdin.answer())
        await begun(stdin)
        os.write(master, b"once\n")
        assert await answering == b"once\n"
        assert not reading.done()
        os.write(master, b"for the program\n")
        assert await reading == b"for the program\n"
    finally:
        os.close(master)
        os.close(slave)


async def begun(stdin: HostInput) -> None:
    """The question has the terminal by now."""
    for _ in range(20):
        await asyncio.sleep(0)
    assert not stdin._answered.is_set()
    assert stdin._waiting is not None
    assert not stdin._waiting.done()


async def test_what_was_typed_before_a_question_is_no_answer_to_it() -> None:
    master, slave = os.openpty()
    try:
        stdin = HostInput(slave, TERMINAL)
        os.write(master, b"always\n")
        answering = asyncio.create_task(stdin.answer())
        await begun(stdin)
        os.write(master, b"\x04")  # the end of the input: nothing
        assert await answering == b""
        os.write(master, b"on\n")
        assert await stdin.read() == b"on\n"
    finally:
        os.close(master)
        os.close(slave)


async def test_where_the_terminal_is_elsewhere_what_was_typed_before_is_dropped_before_the_question_shows(
    bench: Bench,
) -> None:
    shown, typing = Collector(bench.world, TERMINAL), Typing(bench.world, [b"always\n"], ends=False)
    bench.world.open_files -= {shown, typing}

    async def discard() -> None:
        assert shown.text == ""
        typing.lines = [b"no\n"]  # what is typed to the question

    program(bench, NOTES)
    bench.shell.ask = Questions(shown, partial(line_of, typing), discard).ask
    await bench.run("prog")
    assert answered(bench) == [("/home/me/notes", False)]

    async def unable() -> None:
        raise FileError(E.USAGE, "consctl")

    typing.lines = [b"always\n"]
    program(bench, NOTES)
    bench.shell.ask = Questions(shown, partial(line_of, typing), unable).ask
    await bench.run("prog")
    assert answered(bench) == [("/home/me/notes", False)]
    assert str(FileError(E.USAGE, "consctl")) in shown.text
    assert remembered(bench) == []


async def test_a_question_is_answered_beside_a_shell_that_is_listened_to_for_escapes() -> None:
    master, slave = os.openpty()
    try:
        stdin = HostInput(slave, TERMINAL)
        escaped = asyncio.Event()
        with stdin.escapes(escaped.set):
            os.write(master, b"always\n\x04~.\n")
            reading = asyncio.create_task(stdin.read())
            assert await reading == b"always\n"
            assert await stdin.read() == b""
            await escaped.wait()
            os.write(master, b"always\n")
            answering = asyncio.create_task(stdin.answer())
            await begun(stdin)
            reading = asyncio.create_task(stdin.read())
            os.write(master, b"once\nfor the shell\n")
            assert await answering == b"once\n"
            assert await reading == b"for the shell\n"
    finally:
        os.close(master)
        os.close(slave)


async def test_a_question_given_up_leaves_the_terminal_to_the_others() -> None:
    master, slave = os.openpty()
    try:
        stdin = HostInput(slave, TERMINAL)
        reading = asyncio.create_task(stdin.read())
        answering = asyncio.create_task(stdin.answer())
        await begun(stdin)
        answering.cancel()
        await asyncio.wait([answering])
        os.write(master, b"on\n")
        assert await reading == b"on\n"
    finally:
        os.close(master)
        os.close(slave)

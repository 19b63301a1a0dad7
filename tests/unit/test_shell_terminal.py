"""This process's streams as files, the terminal's modes, and the terminal as a server that programs use."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import termios
from collections.abc import AsyncIterator, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from cognu.errors import E, FileError
from cognu.shell.hostpaths import namespace_path, translate
from cognu.shell.hoststreams import READ_SIZE, Escapes, HostInput, HostOutput, Modes
from cognu.shell.program import Begun, interactive, script, words
from cognu.shell.session import NodeSession
from cognu.shell.state import Shell, Streams
from cognu.shell.system import TERMINAL, Program, RunOptions
from cognu.shell.terminal import Terminal
from cognu.shell.wants import discard_typed
from cognu.world.real import RealThreads
from programs.build import build
from sessions import Served, nothing_open, served


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    for descriptor in (reading, writing):
        try:
            os.close(descriptor)
        except OSError:
            assert descriptor == writing  # a test may have closed it


@pytest.fixture
def tty() -> Iterator[tuple[int, int]]:
    """The user's side and the program's of a pseudo-terminal."""
    master, slave = os.openpty()
    yield master, slave
    os.close(master)
    os.close(slave)


@pytest.fixture
def threads() -> Iterator[RealThreads]:
    pool = RealThreads()
    yield pool
    pool.close()


# -- streams ----------------------------------------------------------------------------------------------------------


async def test_a_cancelled_read_of_the_input_takes_nothing(pipe: tuple[int, int]) -> None:
    file = HostInput(pipe[0], "/dev/stdin")
    waiting = asyncio.create_task(file.read())
    second = asyncio.create_task(file.read(2))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    os.write(pipe[1], b"abc")
    assert await second == b"ab"
    assert await file.read() == b"c"
    os.close(pipe[1])
    assert await file.read() == b""


async def test_a_read_cancelled_at_the_moment_something_comes_takes_nothing(pipe: tuple[int, int]) -> None:
    file = HostInput(pipe[0], "/dev/stdin")
    for turns in range(6):
        waiting = asyncio.create_task(file.read())
        await asyncio.sleep(0)
        os.write(pipe[1], b"abc")
        for _ in range(turns):
            await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        if waiting.cancelled():
            assert await file.read() == b"abc"
        else:
            assert waiting.result() == b"abc"


@given(
    pieces=st.lists(st.sampled_from([b"~", b"~.", b"~~", b".", b"\r", b"\n", b"a", b"\x1b[3~"])), size=st.integers(1, 3)
)
def test_what_is_typed_passes_the_escapes_the_same_in_whatever_pieces_it_comes(pieces: list[bytes], size: int) -> None:
    typed = b"".join(pieces)
    whole, split = Escapes(), Escapes()
    expected, left = whole.feed(typed)
    passed = b""
    escaped = False
    for at in range(0, len(typed), size):
        part, escaped = split.feed(typed[at : at + size])
        passed += part
        if escaped:
            break
    assert (passed, escaped) == (expected, left)
    assert split.end() == whole.end()
    lines = re.split(rb"(?<=[\r\n])", typed)
    assert left == any(line.startswith(b"~.") for line in lines)
    if not left:
        assert passed + split.end() == b"".join(line[line.startswith(b"~~") :] for line in lines)


def test_a_terminal_that_something_left_raw_is_put_right_where_lines_are_typed(tty: tuple[int, int]) -> None:
    usual = termios.tcgetattr(tty[1])
    Modes(tty[1]).raw()  # and was killed
    raw = termios.tcgetattr(tty[1])
    assert raw != usual
    left = Modes(tty[1])
    left.restore()
    assert termios.tcgetattr(tty[1]) == raw
    left.mend()
    assert termios.tcgetattr(tty[1])[:4] == usual[:4]
    silent = usual[:3] + [usual[3] & ~termios.ECHO] + usual[4:]
    termios.tcsetattr(tty[1], termios.TCSANOW, silent)
    Modes(tty[1]).mend()  # somebody wanted it so
    assert termios.tcgetattr(tty[1]) == silent


async def test_a_terminal_that_is_closed_is_no_end_that_somebody_typed() -> None:
    master, slave = os.openpty()
    file = HostInput(slave, "/dev/cons")
    os.write(master, b"\x04")
    assert await file.read() == b""
    waiting = asyncio.create_task(file.read())
    await asyncio.sleep(0)
    os.close(master)
    with pytest.raises(FileError):
        await waiting
    os.close(slave)


async def test_while_escapes_are_listened_for_what_is_typed_waits_for_whoever_reads(pipe: tuple[int, int]) -> None:
    file = HostInput(pipe[0], "/dev/stdin")
    waiting = asyncio.create_task(file.read())
    await asyncio.sleep(0)
    escaped = asyncio.Event()
    with file.escapes(escaped.set):
        os.write(pipe[1], b"ls\r")
        assert await waiting == b"ls\r"
        os.write(pipe[1], b"~~x\r~.dropped")
        await escaped.wait()  # although nobody reads
        assert await file.read(2) == b"~x"
        assert await file.read() == b"\r"
        cancelled = asyncio.create_task(file.read())
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.wait([cancelled])
        waiting = asyncio.create_task(file.read())
        await asyncio.sleep(0)
    os.write(pipe[1], b"~.after")
    assert await waiting == b"~.after"


async def test_a_tilde_held_back_is_passed_on_when_nobody_listens_for_escapes_any_more(pipe: tuple[int, int]) -> None:
    file = HostInput(pipe[0], "/dev/stdin")
    with file.escapes(lambda: None):
        os.write(pipe[1], b"a\n~")
        assert await file.read() == b"a\n"
    assert await file.read() == b"~"


async def test_the_end_of_the_input_comes_once_after_what_was_typed(pipe: tuple[int, int]) -> None:
    file = HostInput(pipe[0], "/dev/stdin")
    with file.escapes(lambda: None):
        os.write(pipe[1], b"abc")
        os.close(pipe[1])
        assert [await file.read() for _ in range(3)] == [b"abc", b"", b""]
    assert await file.read() == b""


async def test_lines_typed_ahead_are_read_one_by_one_as_the_terminal_gives_them(tty: tuple[int, int]) -> None:
    """A shell that reads a line must not have the next with it: that is the command's (a far shell's `cat`)."""
    file = HostInput(tty[1], TERMINAL)
    escaped = asyncio.Event()
    with file.escapes(escaped.set):
        os.write(tty[0], b"cat\ntyped\nhalf\x04 a line\n~.\n")
        await escaped.wait()  # all that came before it was taken, although nobody read
        assert [await file.read() for _ in range(2)] == [b"cat\n", b"typed\n"]
        assert [await file.read(2) for _ in range(3)] == [b"ha", b"lf", b" a"]
        assert await file.read() == b" line\n"


async def test_an_end_typed_ahead_stands_between_the_lines_around_it(tty: tuple[int, int]) -> None:
    file = HostInput(tty[1], TERMINAL)
    with file.escapes(lambda: None):
        os.write(tty[0], b"before\n\x04after\n")
        assert [await file.read() for _ in range(3)] == [b"before\n", b"", b"after\n"]


async def test_no_more_is_taken_than_there_is_room_for(pipe: tuple[int, int]) -> None:
    file = HostInput(pipe[0], "/dev/stdin")
    with file.escapes(lambda: None):
        os.set_blocking(pipe[1], False)
        sent = b""
        stuck = 0
        while stuck < 10:  # turns in which nothing was taken
            try:
                piece = os.urandom(4096).replace(b"~", b"-")
                sent += piece[: os.write(pipe[1], piece)]
                stuck = 0
            except BlockingIOError:
                stuck += 1
            await asyncio.sleep(0)
        assert len(sent) < 4 * READ_SIZE
        got = b""
        while len(got) < len(sent):
            got += await file.read()
        assert got == sent


async def test_regular_files_and_devices_are_read_too(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    for path, data in ((tmp_path / "f", b"abc"), (Path("/dev/null"), b"")):
        descriptor = os.open(path, os.O_RDONLY)
        file = HostInput(descriptor, "/dev/stdin")
        assert (await file.read(), await file.read()) == (data, b"")
        os.close(descriptor)


async def test_writes_go_out_whole_in_order_even_if_their_caller_is_gone(
    pipe: tuple[int, int], threads: RealThreads
) -> None:
    file = HostOutput(pipe[1], "/dev/stdout", threads)
    large = asyncio.create_task(file.write(b"x" * 300_000))  # more than a pipe holds
    await asyncio.sleep(0)
    after = asyncio.create_task(file.write(b"end"))
    await asyncio.sleep(0)
    large.cancel()
    await asyncio.wait([large])
    got = bytearray()
    source = HostInput(pipe[0], "")
    while not got.endswith(b"end"):
        got += await source.read()
    await after
    assert got == b"x" * 300_000 + b"end"


async def test_who_reads_our_output_may_be_gone(threads: RealThreads) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with pytest.raises(FileError) as caught:
        await HostOutput(writing, "/dev/stdout", threads).write(b"x")
    assert caught.value.error is E.PIPE
    os.close(writing)


def test_raw_mode_is_set_and_taken_back(tty: tuple[int, int]) -> None:
    before = termios.tcgetattr(tty[1])
    modes = Modes(tty[1])
    modes.raw()
    now = termios.tcgetattr(tty[1])
    assert not now[3] & (termios.ECHO | termios.ICANON | termios.ISIG)
    assert now[1] == before[1]
    modes.restore()
    assert termios.tcgetattr(tty[1]) == before


def test_without_a_terminal_there_is_no_raw_mode(pipe: tuple[int, int]) -> None:
    modes = Modes(pipe[0])
    with pytest.raises(FileError) as caught:
        modes.raw()
    assert caught.value.error is E.NXIO
    modes.restore()


# -- the server -------------------------------------------------------------------------------------------------------


class Screen:
    """A terminal published to a session: `tty` is its program's side."""

    def __init__(self, at: Served, session: NodeSession, begun: Begun, master: int, slave: int) -> None:
        self.at = at
        self.session = session
        self.begun = begun
        self.master = master
        self.slave = slave
        self.output = HostInput(master, "screen")

    async def shows(self, text: bytes) -> bytes:
        """Wait until it shows `text`; all that it showed."""
        shown = b""
        while text not in shown:
            shown += (await self.output.read()).replace(b"\r\n", b"\n")
        return shown

    def type(self, text: bytes) -> None:
        os.write(self.master, text)


@pytest_asyncio.fixture
async def screen(tty: tuple[int, int], threads: RealThreads) -> AsyncIterator[Screen]:
    master, slave = tty
    async with served() as at:
        session = await at.session()
        await session.chdir(str(at.place))
        streams = Streams(
            HostInput(slave, TERMINAL), HostOutput(slave, TERMINAL, threads), HostOutput(slave, TERMINAL, threads)
        )
        terminal = Terminal(streams, Modes(slave))
        await terminal.publish(session)
        yield Screen(at, session, Begun(session, Shell(session), streams), master, slave)
        await terminal.close()
        if not session.lost:
            await nothing_open(session)
        await session.close()


async def test_the_terminal_is_in_the_namespace_before_the_nodes_own_devices(screen: Screen) -> None:
    session = screen.session
    names = [entry.name for entry in await session.list("/dev")]
    assert names[:6] == ["cons", "consctl", "winsize", "stdin", "stdout", "stderr"]
    assert "null" in names
    cons = await session.open("/dev/cons", "w")
    await cons.write(b"on the screen\n")
    await cons.close()
    await screen.shows(b"on the screen\n")
    cons = await session.open("/dev/cons", "r")
    screen.type(b"one\ntwo\n")
    assert (await cons.read(), await cons.read()) == (b"one\n", b"two\n")
    await cons.close()
    termios.tcsetwinsize(screen.slave, (33, 101))
    assert await session.read_all("/dev/winsize") == b"33 101\n"


@pytest.mark.parametrize("escapes", [False, True])
async def test_what_was_typed_and_not_read_is_dropped_when_consctl_is_told_so(screen: Screen, escapes: bool) -> None:
    stdin = screen.begun.streams.stdin
    assert isinstance(stdin, HostInput)
    with stdin.escapes(lambda: None) if escapes else nullcontext():
        screen.type(b"once\non")
        await discard_typed(screen.session)
        screen.type(b"no\n")
        cons = await screen.session.open("/dev/cons", "r")
        assert await cons.read() == b"no\n"
        reading = asyncio.create_task(cons.read())  # and one that waits for what is typed goes on
        await discard_typed(screen.session)
        screen.type(b"ls\n")
        assert await reading == b"ls\n"
        await cons.close()


async def test_raw_mode_lasts_as_long_as_its_file(screen: Screen) -> None:
    before = termios.tcgetattr(screen.slave)
    first = await screen.session.open("/dev/consctl", "w")
    second = await screen.session.open("/dev/consctl", "w")
    for file in (first, second):
        await file.write(b"rawon\n")
    await second.write(b"rawoff")
    await second.close()
    assert not termios.tcgetattr(screen.slave)[3] & termios.ICANON
    cons = await screen.session.open("/dev/cons", "r")
    screen.type(b"\x03")
    assert await cons.read() == b"\x03"
    await cons.close()
    with pytest.raises(FileError) as caught:
        await first.write(b"cooked")
    assert caught.value.error is E.USAGE
    await first.close()
    await screen.session.stat("/dev/consctl")
    assert termios.tcgetattr(screen.slave) == before


async def test_a_program_has_the_terminal_as_its_streams(screen: Screen) -> None:
    (screen.at.place / "cat").write_bytes(build("cat"))
    streams = screen.begun.streams
    program = Program(str(screen.at.place / "cat"))
    child = await screen.session.start(
        program, ["cat"], {}, streams.stdin, streams.stdout, streams.stderr, RunOptions()
    )
    screen.type(b"typed\n")
    assert (await screen.shows(b"typed\ntyped\n")).count(b"typed") == 2
    screen.type(b"\x04")
    assert await child.wait() == 0


async def test_a_prompt_runs_commands_and_programs_and_is_interrupted(screen: Screen) -> None:
    (screen.at.place / "spin").write_bytes(build("spin"))
    shell = asyncio.create_task(interactive(screen.begun))
    await screen.shows(b"cognu% ")
    screen.type(b"./spin\n")
    await screen.at.settle(lambda: any("spin" in "".join(args) for args in screen.at.processes))
    [process] = [process for process in screen.at.node.processes if "spin" in "".join(process.args)]
    await screen.at.settle(lambda: process.state.value == "Running")
    signal.raise_signal(signal.SIGINT)
    await screen.shows(b"cognu% ")
    screen.type(b"echo $?\n")
    await screen.shows(b"130\n")
    screen.type(b"exit 7\n")
    assert await shell == 7


async def test_a_signal_ends_the_shell_and_what_it_runs(screen: Screen) -> None:
    (screen.at.place / "spin").write_bytes(build("spin"))
    running = asyncio.create_task(words(screen.begun, ["run", "spin"]))
    await screen.at.settle(lambda: bool(screen.at.processes))
    signal.raise_signal(signal.SIGTERM)
    assert await running == 128 + signal.SIGTERM
    await screen.at.settle(lambda: not screen.at.processes)


async def test_words_are_a_command_and_a_text_is_a_script(screen: Screen) -> None:
    assert await words(screen.begun, ["echo", "$HOME *", "it's"]) == 0
    await screen.shows(b"$HOME * it's\n")
    assert await words(screen.begun, ["cat", "none"]) == 1
    assert await words(screen.begun, ["none"]) == 127
    assert await words(screen.begun, ["exit", "5"]) == 5
    assert await words(screen.begun, ["ls", "-?"]) == 2
    assert await script(screen.begun, "echo a | cat; exit 3") == 3


async def test_a_lost_node_ends_the_prompt(screen: Screen) -> None:
    shell = asyncio.create_task(interactive(screen.begun))
    await screen.shows(b"cognu% ")
    screen.at.ends[0].cut()
    screen.type(b"ls\n")
    await screen.shows(E.NONODE.text.encode())
    assert await shell == 1


# -- names of the host ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("/home/me/x", "/home/me/x"),
        ("/", "/mnt/host"),
        ("/tmp/x", "/mnt/host/tmp/x"),
        ("/tmp", "/mnt/host/tmp"),
        ("//home/../tmp/./x/", "/mnt/host/tmp/x"),
        ("/.hidden/x", "/mnt/host/.hidden/x"),
        ("/lib/x", "/mnt/host/lib/x"),
        ("/tmpx", "/tmpx"),
    ],
)
def test_a_path_of_the_host_has_a_name_in_the_namespace(host: str, name: str) -> None:
    assert namespace_path(host, bound=lambda top: top != "/lib") == name


def test_a_device_of_the_node_s_is_meant_also_where_the_host_has_one_of_its_name() -> None:
    words = ("/dev/random", "/dev/time", "/dev/sensor/attic", "/dev//null", "/dev/../dev/zero")
    for exists in (lambda _: True, lambda _: False):
        assert [translate(word, exists) for word in words] == [*words]
    assert translate("/dev/sda", lambda _: True) == "/mnt/host/dev/sda"
    assert translate("/dev", lambda _: True) == "/mnt/host/dev"


def test_only_absolute_paths_that_exist_are_translated() -> None:
    def exists(path: str) -> bool:
        return path == "/tmp/here"

    assert translate("/tmp/here", exists) == "/mnt/host/tmp/here"
    assert [translate(word, exists) for word in ("/n/pi/x", "tmp/here", "-", "")] == ["/n/pi/x", "tmp/here", "-", ""]

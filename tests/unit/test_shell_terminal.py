"""This process's streams as files, the terminal's modes, and the terminal as a server that programs use."""

from __future__ import annotations

import asyncio
import os
import signal
import termios
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from cognu.errors import E, FileError
from cognu.shell.hostpaths import namespace_path, translate
from cognu.shell.hoststreams import HostInput, HostOutput, Modes
from cognu.shell.program import Begun, interactive, script, words
from cognu.shell.session import NodeSession
from cognu.shell.state import Shell, Streams
from cognu.shell.system import TERMINAL, Program, RunOptions
from cognu.shell.terminal import Terminal
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


def test_only_absolute_paths_that_exist_are_translated() -> None:
    def exists(path: str) -> bool:
        return path == "/tmp/here"

    assert translate("/tmp/here", exists) == "/mnt/host/tmp/here"
    assert [translate(word, exists) for word in ("/n/pi/x", "tmp/here", "-", "")] == ["/n/pi/x", "tmp/here", "-", ""]

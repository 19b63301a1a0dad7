"""What is written to a far file that accepts it before it is there: a refusal is told in time, or by the end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import ClassVar

import pytest

from cognu.devices.ram import RamServer
from cognu.errors import E, FileError
from cognu.files.launch import Launch, Mapping
from cognu.files.server import Fid, MaybeAsync
from cognu.runtime.wasi.abi import Errno
from programs.build import build
from wasi_kit import ALL, Bench
from wasi_machine import HOME, Machine

OK = Errno.SUCCESS
HELLO = b"hello"


class Far(RamServer):
    """Accepts everything and refuses it afterwards."""

    settled = 0

    @property
    def far(self) -> bool:
        return True

    def accept(self, fid: Fid, offset: int, data: bytes | memoryview) -> int:
        return len(data)

    async def settle(self, fid: Fid) -> None:
        self.settled += 1
        if self.settled == 1:
            raise FileError(E.NOSPC, "f")


class Slow(RamServer):
    """Accepts what is written at once, and has it later."""

    accepted: ClassVar[list[tuple[Fid, int, bytes]]] = []

    @property
    def far(self) -> bool:
        return True

    def accept(self, fid: Fid, offset: int, data: bytes | memoryview) -> int:
        self.accepted.append((fid, offset, bytes(data)))
        return len(data)

    async def settle(self, fid: Fid) -> None:
        for write in [write for write in self.accepted if write[0] is fid]:
            self.accepted.remove(write)
            self.write(*write)


class Full(Slow):
    """Refuses it then."""

    def write(self, fid: Fid, offset: int, data: bytes | memoryview) -> MaybeAsync[int]:
        if bytes(data) == HELLO:
            raise FileError(E.NOSPC, "f")
        return super().write(fid, offset, data)


class Faulty(Slow):
    """Has a fault of its own then."""

    async def settle(self, fid: Fid) -> None:
        raise ZeroDivisionError


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    await bench.make("/f")
    bench.ram.__class__ = Far
    yield bench
    bench.close()


def written(bench: Bench, call: str) -> int:
    """A descriptor that was written to."""
    fd = bench.open("f", rights=ALL)
    if call == "fd_pwrite":
        assert bench.ready("fd_pwrite", fd, *bench.vector(b"hello"), 0, bench.room(4)) is OK
    else:
        assert bench.write(fd, b"hello") == (OK, 5)
    return fd


@pytest.mark.parametrize("call", ["fd_write", "fd_pwrite"])
@pytest.mark.parametrize("how", ["fd_close", "fd_sync", "fd_datasync"])
async def test_a_write_that_was_accepted_and_refused_is_told_by_close_and_sync(
    bench: Bench, call: str, how: str
) -> None:
    fd = written(bench, call)
    assert await bench.call(how, fd) is Errno.NOSPC
    assert await bench.call("fd_close", fd) is (Errno.BADF if how == "fd_close" else OK)


@pytest.mark.parametrize(("status", "message"), [(0, ""), (3, ""), (1, "why")])
async def test_what_is_left_at_the_end_of_a_program_is_waited_for_and_a_refusal_fails_it(
    bench: Bench, status: int, message: str
) -> None:
    written(bench, "fd_write")
    assert bench.program.unsettled
    told = await bench.program.settle(status, message)
    assert told == (status or 1, message or "/f: file system full")
    assert not bench.program.unsettled
    assert await bench.program.settle(0, "") == (0, "")


@pytest.fixture(params=[False, True], ids=["inside", "isolated"])
async def machine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Machine]:
    machine = Machine(tmp_path, isolated=request.param)
    await machine.make(HOME, None)
    yield machine
    await machine.close()


@pytest.mark.parametrize("full", [False, True])
async def test_a_program_whose_last_write_is_refused_after_its_end_has_failed(machine: Machine, full: bool) -> None:
    """It was told that all is written, exits with 0 and leaves the file open, as most do."""
    await machine.make(HOME + "/f", b"old")
    script = f"path_open 3 0 f 0 {ALL} 0 0\nfd_write 4 {HELLO.decode()}\n"
    process = await machine.child(stdin=script.encode())
    server = machine.parent.namespace.root.server
    server.__class__ = Full if full else Slow
    await machine.start(process, build("calls"), ["calls"], Launch(directories=[Mapping(HOME, ".")]))
    await process.ended.wait()
    server.__class__ = RamServer
    result = await machine.result(process)
    assert result.out == b" fd 4 = 0\n 5 = 0\n"
    if full:
        assert (result.status, result.message) == (1, f"{HOME}/f: file system full")
    else:
        assert (result.status, result.message) == (0, "")
    assert await machine.content(HOME + "/f") == (b"old" if full else HELLO)


async def test_a_fault_behind_a_program_fails_it_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    machine = Machine(tmp_path)
    await machine.make(HOME, None)
    process = await machine.child(stdin=b"hello")
    server = machine.parent.namespace.root.server
    server.__class__ = Faulty
    await machine.start(process, build("cat"), ["cat"])
    await process.ended.wait()
    server.__class__ = RamServer
    assert (process.status, process.message) == (1, E.IO.text)
    assert "ZeroDivisionError" in caplog.text
    caplog.clear()  # its records hold frames
    await machine.close()

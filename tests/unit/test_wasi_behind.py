"""What a program writes to a far file that accepts it before it is there: a refusal is told in time, or logged."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

import pytest

from cognu.devices.ram import RamServer
from cognu.errors import E, FileError
from cognu.files.server import Fid
from cognu.runtime.wasi.abi import Errno
from wasi_kit import ALL, Bench

OK = Errno.SUCCESS


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


async def test_what_is_left_at_the_end_of_a_program_is_waited_for_and_a_refusal_logged(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    written(bench, "fd_write")
    assert bench.program.unsettled
    with caplog.at_level(logging.ERROR, "cognu.wasi"):
        await bench.program.settle()
    assert "refused after its end" in caplog.text

"""`run --serve`: a program whose input and output are a service, in the background of the shell that began it."""

from __future__ import annotations

import asyncio

import pytest

from cognu.errors import E
from cognu.shell.system import Grant
from sessions import served
from shell_fake import Bench, Running


async def never(running: Running) -> int:
    await asyncio.Event().wait()
    return 0


async def ends(running: Running) -> int:
    return 7


@pytest.fixture
def bench() -> Bench:
    made = Bench()
    made.program("server", never)
    made.program("short", ends)
    made.system.make("notes", b"")
    return made


async def test_it_is_posted_goes_on_and_ends_with_the_shell(bench: Bench) -> None:
    result = await bench.run("run --serve mem server notes; echo $?; jobs; echo on")
    assert (result.status, result.out) == (0, "0\n[1] running  run --serve mem server notes\non\n")
    assert bench.child("server").notes == ["interrupt"]
    assert bench.world.posted == set()
    [options] = [call[3] for call in bench.world.calls if call[0] == "start"]
    assert getattr(options, "grants", None) == (Grant("/home/me/notes", "r"),)


async def test_when_it_ends_it_is_taken_off(bench: Bench) -> None:
    result = await bench.run("run --serve mem short; wait %1; echo $?; run --serve mem short; wait; echo none")
    assert (result.status, result.out) == (0, "7\nnone\n")
    assert bench.world.posted == set()


@pytest.mark.parametrize(
    ("words", "status", "error"),
    [
        ("--serve a/b server", 2, E.USAGE),
        ("--serve .. server", 2, E.USAGE),
        ("--serve '' server", 2, E.USAGE),
        ("--serve mem nothing", 127, E.NOTFOUND),
        ("--serve mem notes", 126, E.NOEXEC),
        ("--serve taken server", 126, E.EXIST),
    ],
)
async def test_what_can_not_serve_is_told_and_leaves_nothing(bench: Bench, words: str, status: int, error: E) -> None:
    bench.world.posted.add("taken")
    result = await bench.run(f"run {words}")
    assert (result.status, result.out) == (status, "")
    assert error.text in result.err
    assert bench.world.posted == {"taken"}


async def test_a_posting_of_a_session_is_there_until_it_is_closed() -> None:
    async with served() as at:
        session = await at.session()
        try:
            theirs, posting = await session.post("mem")
            assert [entry.name for entry in await session.list("/srv")] == ["mem"]
            user = await session.open("/srv/mem", "rw")
            await user.write(b"ping")
            assert await theirs.read(10) == b"ping"
            await posting.close()
            assert await session.list("/srv") == []
            again, other = await session.post("mem")
            await session.remove("/srv/mem")
            await other.close()  # somebody took it off before: nothing to complain of
            for file in (user, theirs, again):
                await file.close()
        finally:
            await session.close()

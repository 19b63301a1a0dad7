"""Signals to what runs on another machine: each arrives as what it is, and the status says so."""

from __future__ import annotations

import sys
from pathlib import Path

from cognu.errors import E
from cognu.files.nstext import quote, split_words
from cognu.ninep.types import ORDWR
from e2e.harness import pair, refused
from e2e.test_resources import began, set_for
from programs.build import build

SENT = {"-HUP": 129, "-2": 130, "-SIGQUIT": 131, "-9": 137, "-14": 142, "-s term": 143}
CODE = (
    "import os, signal\n"
    "signal.signal(signal.SIGUSR1, lambda *_: os.write(1, b'usr1\\n'))\n"
    "os.write(1, b'begun\\n')\n"
    "while True: signal.pause()"
)


async def test_each_signal_ends_a_far_program_or_shell_with_its_status(place: Path) -> None:
    async with pair(place, "run") as two, two.desk.client() as desk:
        await desk.put(build("spin"), "spin")
        for program, begin in (("spin", b""), ("cpu", b"echo begun; sleep 1000\n")):
            running = [await desk.start(program, on="pi") for _ in SENT]
            for each in running if begin else ():
                await each.stdin.write(begin)
                assert await each.stdout.read() == b"begun\n"
            typed = "; ".join(f"kill {how} {each.pid}" for how, each in zip(SENT, running, strict=True))
            killing = await two.desk.command("sh", "-c", typed)
            # A shell ends what runs, and goes on, for what a terminal sends by keys; as a script it ends with it.
            assert (killing.status, killing.errors) == (0, b""), killing
            ended = [(await each.end()).status for each in running]
            expected = [130 if program == "cpu" and status == 131 else status for status in SENT.values()]
            assert ended == expected, program


async def test_what_no_far_program_can_be_sent_is_refused_where_it_is_typed(place: Path) -> None:
    async with pair(place, "run") as two, two.desk.client() as desk:
        await desk.put(build("spin"), "spin")
        spin = await desk.start("spin", on="pi")
        await refused(spin.tell("note sigusr1"), E.INVAL, "hangup interrupt")
        unknown = await two.desk.command("sh", "-c", f"kill -USR1 {spin.pid}")
        assert (unknown.status, E.USAGE.text.encode() in unknown.errors) == (2, True), unknown
        await spin.tell("stop")
        assert b"stopped" in (await desk.read(f"/proc/{spin.pid}/status")).lower()
        await spin.tell("start")
        await spin.tell("kill")
        assert (await spin.end()).status == 137


async def test_a_command_of_a_far_host_is_sent_signals_by_name_and_number(place: Path) -> None:
    set_for(place / "pi", commands={"python": [sys.executable, "-I", "-S", "-c", CODE]})
    async with pair(place, "cmd:python") as two, two.desk.client() as desk:
        for how, status in (("TERM", 143), ("1", 129), ("", 137)):
            ctl, at = await began(desk, "/n/pi/cmd/python")
            data = await desk.open(f"{at}/data", ORDWR)
            assert await data.read() == b"begun\n"
            await ctl.write(b"kill usr1")
            assert await data.read() == b"usr1\n"
            await refused(ctl.write(b"kill NONE"), E.USAGE, "NONE")
            await ctl.write(f"kill {quote(how)}".encode() if how else b"kill")
            assert split_words((await desk.read(f"{at}/wait")).decode())[4:] == [f"signal {status - 128}", str(status)]
            data.close()
            ctl.close()

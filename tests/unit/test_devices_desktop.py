"""`/dev/snarf` and `/dev/notify`: by helpers of the host, without any, and by helpers that fail."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognu.cli.checks.host import desktop
from cognu.devices.desktop import MAX_LINE, MAX_SNARF, MAX_WAITING, desktop_server
from cognu.errors import E, FileError
from cognu.ninep.types import ORDWR, OREAD, OTRUNC, OWRITE
from cognu.world import NO_HELPERS, Bounds, Helpers, Piped
from cognu.world.desktop import SESSION, find_helpers
from cognu.world.real import RealClock, RealSpawn
from fifo import Fifo
from joined import bring
from serving import Client, Somebody

PYTHON = (sys.executable, "-I", "-S", "-c")


def helpers_of(place: Path) -> Helpers:
    """A clipboard that is a file, and notices that are lines of one."""
    copy = f"import sys; open({str(place / 'clipboard')!r}, 'wb').write(sys.stdin.buffer.read())"
    paste = f"import sys; sys.stdout.buffer.write(open({str(place / 'clipboard')!r}, 'rb').read())"
    notify = f"import os, sys; print(sys.argv[1:], dict(os.environ)['A'], file=open({str(place / 'told')!r}, 'a'))"
    return Helpers((*PYTHON, copy), (*PYTHON, paste), (*PYTHON, notify), (("A", "b"),))


def desk(helpers: Helpers, user: str = "pi") -> Client:
    return Client(desktop_server(helpers, RealSpawn(), RealClock()), Somebody(1, user))


@pytest.mark.parametrize("has_helpers", [False, True])
async def test_what_is_written_is_the_clipboard_and_an_open_file_stays_as_it_was(
    tmp_path: Path, has_helpers: bool
) -> None:
    (tmp_path / "clipboard").touch()
    client = desk(helpers_of(tmp_path) if has_helpers else NO_HELPERS)
    before = len(os.listdir("/dev/fd"))
    assert await client.read("/snarf") == b""
    assert await client.write("/snarf", b"cut\0\xff out", OWRITE | OTRUNC) == 9
    reading = await client.open("/snarf", ORDWR)
    assert await client.write_fid(reading, b"two ") == 4
    assert await client.write_fid(reading, b"parts", 4) == 5
    assert await client.read_fid(reading) == b"cut\0\xff out"
    assert await client.read("/snarf") == b"two parts"
    client.server.clunk(reading)
    assert len(os.listdir("/dev/fd")) == before


async def test_a_clipboard_is_bounded_and_written_in_order() -> None:
    client = desk(NO_HELPERS)
    fid = await client.open("/snarf", OWRITE)
    assert await bring(client.write_fid(fid, b"x", 1)) is E.SPIPE
    assert await bring(client.write_fid(fid, bytes(MAX_SNARF + 1))) is E.FBIG
    assert await client.write_fid(fid, bytes(MAX_SNARF)) == MAX_SNARF
    assert await bring(client.write_fid(fid, b"x", MAX_SNARF)) is E.FBIG
    assert len(await client.read("/snarf")) == MAX_SNARF
    client.server.clunk(fid)


async def test_what_a_helper_fails_at_is_an_error_and_changes_nothing() -> None:
    fails = (*PYTHON, "import sys; sys.exit('no selection')")
    client = desk(Helpers(fails, fails, fails))
    for call in (client.read("/snarf"), client.write("/snarf", b"x"), client.write("/notify", b"x")):
        with pytest.raises(FileError) as caught:
            await call
        assert caught.value.error is E.IO
        assert caught.value.detail == "it ended with status 1: no selection"


async def test_a_clipboard_of_the_hosts_that_is_too_large_is_refused(tmp_path: Path) -> None:
    (tmp_path / "clipboard").write_bytes(bytes(MAX_SNARF + 1))
    client = desk(helpers_of(tmp_path))
    assert await bring(client.read("/snarf")) is E.FBIG


async def test_a_line_is_told_with_who_says_it_and_as_one_argument(tmp_path: Path) -> None:
    client = desk(helpers_of(tmp_path))
    assert await client.write("/notify", b"the <b>bread</b>\n is  done\x1b[2J\n") == 31
    assert (tmp_path / "told").read_text() == "['pi: the <b>bread</b> is done?[2J'] b\n"
    assert await bring(client.open("/notify", OREAD)) is E.ACCES
    assert await bring(client.write("/notify", bytes(MAX_LINE + 1))) is E.TOOBIG
    assert await bring(client.write("/notify", b"\xff")) is E.ILSEQ


async def test_without_a_helper_a_line_is_told_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "cognu.notify"):
        await desk(NO_HELPERS).write("/notify", b"dinner\n")
    assert [record.getMessage() for record in caplog.records] == ["pi: dinner"]


async def test_only_so_many_lines_wait_for_a_helper(tmp_path: Path) -> None:
    held = Fifo(tmp_path / "held")
    hangs = f"import os, time; os.write(os.open({held.path!r}, os.O_WRONLY), b'x'); time.sleep(1000)"
    client = desk(Helpers(notify=(*PYTHON, hangs)))
    fids = [await client.open("/notify", OWRITE) for _ in range(MAX_WAITING + 1)]
    telling = [asyncio.ensure_future(client.write_fid(fid, b"x")) for fid in fids]
    await held.begun()
    assert await bring(telling[-1]) is E.AGAIN
    for task in telling[:-1]:
        task.cancel()
    await asyncio.wait(telling)
    await held.ended()


@given(st.binary(max_size=80))
async def test_whatever_is_told_is_one_printable_line(data: bytes) -> None:
    told: list[str] = []

    class Spying(RealSpawn):
        async def start_piped(
            self,
            argv: Sequence[str],
            env: Mapping[str, str],
            cwd: str,
            errors: bool = True,
            bounds: Bounds | None = None,
        ) -> Piped:
            told.append(argv[-1])
            raise FileError(E.AGAIN, "host")

    client = Client(desktop_server(Helpers(notify=("/x",)), Spying(), RealClock()), Somebody(1, "pi"))
    assert await bring(client.write("/notify", data)) in (E.AGAIN, E.ILSEQ)
    assert all(line.startswith("pi: ") and line.isprintable() for line in told)


# -- which helpers ----------------------------------------------------------------------------------------------------


def which(*there: str) -> object:
    return lambda name: f"/bin/{name}" if name in there else None


@pytest.mark.parametrize(
    ("environment", "there", "system", "copy", "notify"),
    [
        ({}, ("wl-copy", "wl-paste", "xclip", "notify-send"), "linux", "", ""),
        ({"WAYLAND_DISPLAY": "w", "DISPLAY": ":0"}, ("wl-copy", "wl-paste", "xclip"), "linux", "/bin/wl-copy", ""),
        ({"WAYLAND_DISPLAY": "w", "DISPLAY": ":0"}, ("wl-copy", "xclip"), "linux", "/bin/xclip", ""),
        ({"DISPLAY": ":0"}, ("wl-copy", "wl-paste", "xsel"), "linux", "/bin/xsel", ""),
        ({"DBUS_SESSION_BUS_ADDRESS": "unix:"}, ("notify-send",), "linux", "", "/bin/notify-send"),
        ({}, ("pbcopy", "pbpaste", "osascript"), "darwin", "/bin/pbcopy", "/bin/osascript"),
        ({"DISPLAY": ":0"}, ("pbcopy",), "darwin", "", ""),
    ],
)
def test_helpers_are_those_of_the_session_that_this_is(
    environment: dict[str, str], there: tuple[str, ...], system: str, copy: str, notify: str
) -> None:
    found = find_helpers({**environment, "SECRET": "x"}, which(*there), system)  # type: ignore[arg-type]
    assert (found.copy[:1], found.notify[:1]) == ((copy,) if copy else (), (notify,) if notify else ())
    assert bool(found.copy) == bool(found.paste)
    assert dict(found.environment) == environment
    assert set(environment) <= set(SESSION)


def test_doctor_says_which_they_are() -> None:
    [found] = desktop(NO_HELPERS)
    assert found.text == "snarf: the node's own, in memory; notify: the node's log"
    [found] = desktop(Helpers(("/bin/xclip",), ("/bin/xclip",), ("/bin/notify-send",)))
    assert found.text == "snarf: /bin/xclip; notify: /bin/notify-send"

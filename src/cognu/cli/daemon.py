"""`up`, `down`, `status`, `logs`: the node's own process."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any, TextIO

import click

from cognu.cli.probing import probe, probe_once
from cognu.cli.setting import Setting, table, verb
from cognu.errors import CognuError, E, FileError, from_oserror
from cognu.world import MAX_SOCKET_PATH

START_SECONDS = 60.0
STOP_SECONDS = 30.0
LOOK_SECONDS = 0.1
"""Between two looks at something that tells of no changes."""
_TAIL = 20


# -- starting ---------------------------------------------------------------------------------------------------------


@verb("up", "cognu up --name desk")
@click.option("-f", "front", is_flag=True, help="Stay in front, and log to the standard error too.")
@click.option("--name", help="What this machine calls itself. Kept.")
@click.option("--listen", metavar="HOST:PORT", help="Where other machines' links come in. Kept.")
@click.option("--host", "hosts", multiple=True, metavar="ADDRESS", help="An address that tickets name. Kept.")
@click.option("--unix", multiple=True, metavar="PATH", help="A Unix socket that /net/unix may dial. Kept.")
@click.option("--isolate", type=click.Choice(["asked", "all"]), help="Which programs get a process of their own. Kept.")
@click.option("--discovery", type=click.Choice(["on", "pairing", "off"]), help="When it is found by others near. Kept.")
@click.option("--runners", type=click.IntRange(0, 64), help="How many such processes are kept ready. Kept.")
def up_verb(
    setting: Setting, front: bool, name: str | None, listen: str | None, hosts: tuple[str, ...], unix: tuple[str, ...],
    isolate: str | None, discovery: str | None, runners: int | None,
) -> int:  # fmt: skip
    """Start this machine's node in the background, and a shell. Leaving the shell leaves the node.

    If the node runs already there is just the shell; if the input is no terminal there is none.
    """
    pairs = [("--name", name), ("--listen", listen), *(("--host", host) for host in hosts)]
    pairs += [("--isolate", isolate), ("--discovery", discovery)]
    pairs += [("--runners", None if runners is None else str(runners))]
    options = [word for option, value in [*pairs, *(("--unix", path) for path in unix)] if value is not None
               for word in (option, value)]  # fmt: skip
    runs = answers(setting)
    if runs:
        from cognu.cli.asking import ask

        ask(setting, "status")  # what is there may be stopped, or hang
    if runs and (front or options):
        word = "-f" if front else options[0]
        raise FileError(E.NODERUNS, setting.home, f"{word} is for its start, so cognu down first")
    if front:
        make_home(setting)
        probe_once(setting)
        sys.stderr.write(f"cognu: starting the node of {setting.home}; Ctrl-C stops it\n")
        os.execv(sys.executable, [*_command(setting), *options, "--log-stderr"])
    if not runs:
        sys.stderr.write(f"cognu: starting the node of {setting.home}\n")
        start(setting, options)
        sys.stderr.write("cognu: it runs; `cognu down` stops it\n")
    if not sys.stdin.isatty():
        return 0
    from cognu.cli.shells import own_shell

    return own_shell(setting)


def _command(setting: Setting) -> list[str]:
    return [sys.executable, "-P", "-m", "cognu.node", "--home", setting.home]


def make_home(setting: Setting) -> None:
    """Raises NAMETOOLONG if no socket could be made there, and what the host says."""
    if len(setting.socket.encode()) > MAX_SOCKET_PATH:
        raise HomeRefused(E.NAMETOOLONG, setting.home, f"a home's path has at most {MAX_SOCKET_PATH - 10} bytes")
    try:
        os.makedirs(setting.home, mode=0o700, exist_ok=True)
    except OSError as error:
        raise HomeRefused(from_oserror(error).error, setting.home) from None
    if not os.access(setting.home, os.W_OK | os.X_OK):
        raise HomeRefused(E.ACCES, setting.home)


class HomeRefused(FileError):
    """No node can have its home there; the row's hint, which is about other files, would be beside the point."""

    def explain(self) -> str:
        return f"{self}\n  choose another directory: --home DIR, or the variable COGNU_HOME"


def answers(setting: Setting) -> bool:
    """Whether a node listens at the home's socket, if it answers or not."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(setting.socket)
        except BlockingIOError:
            return True  # one that takes no calls, and has as many waiting as there may be (connect(2))
        except OSError:
            return False
        return True


def start(setting: Setting, options: list[str]) -> None:
    """Start a node in the background; it serves when this returns. Raises what it says if it can't."""
    make_home(setting)
    probe_once(setting)
    reading, writing = os.pipe()
    try:
        with open(setting.log, "ab") as log:
            os.chmod(setting.log, 0o600)
            # A session of its own: what ends this terminal's programs does not reach it.
            node = subprocess.Popen(
                [*_command(setting), *options, "--ready-fd", str(writing)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=(writing,), start_new_session=True, cwd="/",
            )  # fmt: skip
    except OSError as error:
        os.close(reading)
        raise from_oserror(error, setting.log) from None
    finally:
        os.close(writing)
    with os.fdopen(reading, "rb", buffering=0) as ready:
        said = _first_line(ready.fileno(), node)
    if said == "ready":
        node.returncode = 0  # It goes on without us; nobody is to wait for it.
        return
    node.wait()
    if said.endswith(E.NODERUNS.text) and answers(setting):
        return  # Somebody else started it at the same time.
    if said.endswith(E.NODERUNS.text):
        from cognu.shell.nodeprocess import unreachable

        raise unreachable(setting.home)
    if said:
        raise NodeRefused(said)
    probe(setting)  # It died without a word: perhaps the host is not what it was.
    raise FileError(E.IO, setting.home, f"the node ended with status {node.returncode} before it was ready")


def _first_line(descriptor: int, node: subprocess.Popen[bytes]) -> str:
    """What the node writes before it closes the descriptor or dies."""
    until = time.monotonic() + START_SECONDS
    said = b""
    while b"\n" not in said:
        left = until - time.monotonic()
        if left <= 0 or not select.select([descriptor], [], [], left)[0]:
            node.kill()
            node.wait()
            raise FileError(E.TIMEDOUT, "cognu up", f"the node was not ready after {START_SECONDS:.0f} s")
        data = os.read(descriptor, 65536)
        if not data:
            break
        said += data
    return said.decode("utf-8", "replace").strip()


class NodeRefused(CognuError):
    """The node could not start; `text` is what it said, a whole error without the hint."""

    def __init__(self, text: str) -> None:
        super().__init__(next((row for row in E if row.text in text), E.IO), text)

    def __str__(self) -> str:
        return self.subject


# -- stopping ---------------------------------------------------------------------------------------------------------


@verb("down", "cognu down")
@click.option("--force", is_flag=True, help="Kill its process, if it can't be asked or does not end.")
def down_verb(setting: Setting, force: bool) -> None:
    """Stop the node, and with it everything that it runs."""
    from cognu.shell.nodeprocess import kill_node

    try:
        pid = _stopped(setting)
    except FileError as error:
        if not force or error.error is not E.SILENT:
            raise
        pid = kill_node(setting.home)
        sys.stderr.write(f"cognu: {error}: killed\n")
    setting.show({"pid": pid})


def _stopped(setting: Setting) -> int:
    """Ask the node to stop, and wait until its process, whose number this is, has ended.

    Raises NONODE, and SILENT if it does not answer, is not at its socket, or does not end.
    """
    import asyncio

    from cognu.cli.asking import with_session
    from cognu.errors import LinkBroken
    from cognu.shell.nodeprocess import silent
    from cognu.shell.session import NodeSession

    async def stop(session: NodeSession) -> int:
        try:
            async with asyncio.timeout(STOP_SECONDS):
                pid = int((await session.rpc("status"))["pid"])
                with suppress(LinkBroken):  # it may be gone before it answered
                    await session.rpc("down")
                await session.wait_lost()
                return pid
        except TimeoutError:
            raise silent(setting.home, STOP_SECONDS) from None

    until = time.monotonic() + STOP_SECONDS
    pid = with_session(setting, stop)
    while _lives(pid):
        if time.monotonic() > until:
            raise silent(setting.home, STOP_SECONDS)
        time.sleep(LOOK_SECONDS)
    return pid


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    # Its parent may not have asked for its status yet; it is over all the same (proc(5)).
    with suppress(OSError), open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
        return stat.read().rpartition(")")[2].split()[0] != "Z"
    return True


# -- looking ----------------------------------------------------------------------------------------------------------


@verb("status", "cognu status --json")
def status_verb(setting: Setting) -> None:
    """What the node says of itself. The exit status is 3 if there is none."""
    from cognu.cli.asking import ask

    status: dict[str, Any] = ask(setting, "status")
    rows = [[key, time_text(value) if key == "started" else str(value)] for key, value in status.items()]
    setting.show(status, *table(rows))


def time_text(nanoseconds: int) -> str:
    """Local date and time, to the second."""
    moment = datetime.fromtimestamp(nanoseconds / 1e9, UTC).astimezone()
    return moment.strftime("%Y-%m-%d %H:%M:%S")


@verb("logs", "cognu logs -f")
@click.option("-f", "follow", is_flag=True, help="Go on as the log grows.")
@click.option("-n", "lines", type=click.IntRange(0), default=_TAIL, show_default=True, help="Begin with so many lines.")
def logs_verb(setting: Setting, follow: bool, lines: int) -> None:
    """The end of the node's log. With --json its lines are as they stand in the file HOME/log."""
    try:
        with _open_log(setting.log) as log:
            for line in _last_lines(setting.log, log, lines):
                click.echo(line if setting.json else log_line(line))
            if follow:
                for line in _growing(setting.log, log):
                    click.echo(line if setting.json else log_line(line))
    except BrokenPipeError:
        raise  # not the log's fault: whoever reads this has had enough
    except OSError as error:
        raise from_oserror(error, setting.log) from None
    except KeyboardInterrupt:
        raise click.Abort from None


def _open_log(path: str) -> TextIO:
    return open(path, encoding="utf-8", errors="replace")


def _last_lines(path: str, log: TextIO, count: int) -> list[str]:
    """The end of `log`, and before it that of the file that was the log before, if there are not enough."""
    found = deque(log, maxlen=count)
    if len(found) < count:
        with suppress(FileNotFoundError), _open_log(f"{path}.1") as older:
            found = deque([*deque(older, maxlen=count - len(found)), *found])
    return [line.rstrip("\n") for line in found]


def _growing(path: str, log: TextIO) -> Generator[str, None, None]:
    """Lines as they are written, each whole. A log begun anew is followed once the old one is read to its end."""
    part = ""
    try:
        with _waiting(path) as wait:
            while True:
                part += log.readline()
                if part.endswith("\n"):
                    yield part.rstrip("\n")
                    part = ""
                elif _begun_anew(path, log):
                    # What was written between the last look and the change of files is still to be read.
                    if rest := part + log.read():
                        yield from rest.removesuffix("\n").split("\n")
                    part = ""
                    log.close()
                    log = _open_log(path)
                else:
                    wait()
    finally:
        log.close()


@contextmanager
def _waiting(path: str) -> Iterator[Callable[[], None]]:
    """What waits until there may be more: until the host tells, or where it does not, a while."""
    if sys.platform != "linux":
        yield lambda: time.sleep(LOOK_SECONDS)
        return
    from cognu.world.notices import waiting_for

    with waiting_for(path) as wait:
        yield wait


def _begun_anew(path: str, log: TextIO) -> bool:
    """Whether the log is another file by now; not while there is none, in the midst of the change."""
    try:
        return not os.path.samestat(os.stat(path), os.fstat(log.fileno()))
    except FileNotFoundError:
        return False


def log_line(line: str) -> str:
    """A line of the log for people: time, level, who, what. What is no object of JSON stays as it is."""
    try:
        row = json.loads(line)
        text = f"{time_text(row['time'])} {row['level']:7} {row['logger']}: {row['message']}"
    except (ValueError, TypeError, KeyError, OverflowError, OSError, RecursionError):
        return line
    trace = row.get("trace")
    return f"{text}\n{trace}" if isinstance(trace, str) else text

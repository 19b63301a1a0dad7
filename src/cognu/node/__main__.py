"""The node's process: `python -m cognu.node --home DIR`. `cognu up` starts it."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import logging
import os
import signal
import socket
import sys
from contextlib import suppress
from dataclasses import replace
from logging.handlers import RotatingFileHandler

import uvloop

from cognu import compiled
from cognu.devices.log import JsonLines
from cognu.errors import CognuError
from cognu.mesh.discovery import MODES
from cognu.mesh.identity import clean_name
from cognu.node.assembly import running
from cognu.node.base import UMASK
from cognu.node.settings import ISOLATED, MOST_RUNNERS, Home, check_name, load_settings, save_settings
from cognu.world.memory import keep_freed_memory
from cognu.world.open_files import raise_open_files
from cognu.world.real import real_world

LOG_BYTES = 8 << 20
LOG_FILES = 3
"""HOME/log and the older HOME/log.1 and HOME/log.2, each of at most LOG_BYTES."""


class LogFile(RotatingFileHandler):
    """The log, begun anew when it is full. Standard streams that `cognu up` pointed at it go along."""

    def __init__(self, path: str) -> None:
        super().__init__(
            path, maxBytes=LOG_BYTES, backupCount=LOG_FILES - 1, encoding="utf-8", errors="backslashreplace"
        )

    def doRollover(self) -> None:
        before = os.stat(self.baseFilename)
        super().doRollover()
        assert self.stream is not None  # opened at once, as nothing was delayed
        for descriptor in (1, 2):
            with suppress(OSError):  # it may be closed
                if os.path.samestat(os.fstat(descriptor), before):
                    os.dup2(self.stream.fileno(), descriptor)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="cognu.node", description="Run a node in the foreground.")
    parser.add_argument("--home", required=True)
    parser.add_argument("--name", help="what this machine calls itself; kept for later starts")
    parser.add_argument("--listen", help="HOST:PORT for links; kept for later starts")
    parser.add_argument("--host", action="append", help="an address that tickets name; kept for later starts")
    parser.add_argument("--unix", action="append", help="a Unix socket that /net/unix may dial; kept for later starts")
    parser.add_argument("--isolate", choices=ISOLATED, help="which programs get a process of their own; kept")
    parser.add_argument("--discovery", choices=MODES, help="when it is found by machines near; kept for later starts")
    parser.add_argument("--runners", type=int, help="how many such processes are kept ready; kept for later starts")
    parser.add_argument("--ready-fd", type=int, help="a descriptor to write `ready` to, or one line of what went wrong")
    parser.add_argument("--log-stderr", action="store_true", help="log to stderr too")
    return parser.parse_args()


def _log_to(home: Home, stderr: bool) -> None:
    handlers: list[logging.Handler] = [LogFile(home.log)]
    if stderr:
        handlers.append(logging.StreamHandler())
    for handler in handlers:
        handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=handlers)


async def _main(options: argparse.Namespace, home: Home, umask: int) -> None:
    keep_freed_memory()
    open_files = raise_open_files()
    world = real_world()
    settings = load_settings(world.disk, home, clean_name(socket.gethostname(), "node"))
    if options.name is not None:
        check_name(options.name)
    chosen = {key: getattr(options, key) for key in ("name", "listen", "isolate", "discovery") if getattr(options, key)}
    if options.host:
        chosen["hosts"] = tuple(options.host)
    if options.unix:
        chosen["unix"] = tuple(options.unix)
    if options.runners is not None:
        chosen["runners"] = max(0, min(options.runners, MOST_RUNNERS))
    if chosen:
        settings = replace(settings, **chosen)
        save_settings(world.disk, home, settings)
    async with running(world, home, settings, getpass.getuser(), umask, open_files) as node:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, node.stopping.set)
        _tell(options.ready_fd, "ready")
        await node.stopping.wait()


def _tell(descriptor: int | None, line: str) -> None:
    if descriptor is not None:
        os.write(descriptor, (line + "\n").encode())
        os.close(descriptor)


def main() -> int:
    options = _arguments()
    home = Home(os.path.abspath(options.home))
    umask = os.umask(UMASK)
    try:
        os.makedirs(home.path, mode=0o700, exist_ok=True)
        _log_to(home, options.log_stderr)
        if compiled.STATE.amiss:
            logging.getLogger("cognu.node").warning("runs as %s", compiled.STATE.said)
        uvloop.run(_main(options, home, umask))
    except (CognuError, OSError) as error:
        logging.getLogger("cognu.node").error("%s", error)
        text = str(error).replace("\n", " ")
        _tell(options.ready_fd, text)
        print(f"cognu: {text}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

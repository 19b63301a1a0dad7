"""The servers that are measured, each a process of its own with files below one temporary directory."""

from __future__ import annotations

import json
import os
import select
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.wire import WRITE, Wire, open_, read, request, walk

PATIENCE = 30.0
"""Seconds for a server to come up."""
RDWR = 2


class Server(NamedTuple):
    """A 9P server over a directory: its process, a Unix socket and a TCP port, and the attach names that they want."""

    pid: int
    path: str
    path_aname: str
    port: int
    port_aname: str

    def connect(self, tcp: bool, msize: int) -> Wire:
        if tcp:
            sock = socket.create_connection(("127.0.0.1", self.port))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return Wire(sock, self.port_aname, msize)
        return Wire(_unix(self.path), self.path_aname, msize)


def _unix(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.connect(path)
    except BaseException:
        sock.close()
        raise
    return sock


# -- ours -------------------------------------------------------------------------------------------------------------


def start_node(home: Path) -> subprocess.Popen[bytes]:
    """A node that is ready. Raises `RuntimeError` with what it says if it does not come up."""
    ours, theirs = os.pipe()
    command = [sys.executable, "-m", "cognu.node", "--home", str(home), "--listen", "127.0.0.1:0"]
    command += ["--host", "127.0.0.1", "--ready-fd", str(theirs)]
    try:
        process = subprocess.Popen(command, pass_fds=[theirs], stderr=subprocess.DEVNULL)
    finally:
        os.close(theirs)
    with os.fdopen(ours) as ready:
        waited = select.select([ready], [], [], PATIENCE)[0]
        said = ready.readline() if waited else f"nothing in {PATIENCE} s"
    if said != "ready\n":
        end(process)
        raise RuntimeError(f"the node says: {said}")
    return process


def end(process: subprocess.Popen[Any]) -> None:
    """Stop a server, whatever it takes."""
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def rpc(home: Path, verb: str, **arguments: Any) -> Any:
    """Ask a node something over its own socket. Raises `RuntimeError` with what it refuses."""
    with Wire(_unix(str(home / "node.sock")), "", 65536) as wire:
        wire.call(walk(0, 1, ["mnt", "node", "rpc"]))
        wire.call(open_(1, RDWR))
        asked = json.dumps({"verb": verb, "arguments": arguments}).encode()
        wire.call(request(WRITE, struct.pack("<IQI", 1, 0, len(asked)) + asked))
        answer = json.loads(bytes(wire.call(read(1, 0, 32768))[11:]))
    if "error" in answer:
        raise RuntimeError(f"the node answers {answer['error']}")
    return answer["result"]


@contextmanager
def cognu(directory: Path, served: Path) -> Iterator[Server]:
    """A node that serves a directory of the host as `cognu listen` does: through namespace, rights and dispatch."""
    process = start_node(directory / "home")
    try:
        path = f"/mnt/host{served}"
        unix = rpc(directory / "home", "listen", address=str(directory / "node-9p"), path=path)
        tcp = rpc(directory / "home", "listen", address="127.0.0.1:0", path=path)
        port = int(tcp["address"].rpartition(":")[2])
        yield Server(process.pid, unix["address"], "", port, tcp["token"])
    finally:
        end(process)


# -- theirs -----------------------------------------------------------------------------------------------------------


def find_diod() -> str | None:
    """Its program, which Debian keeps where only root looks."""
    return shutil.which("diod", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


@contextmanager
def diod(program: str, directory: Path, served: Path) -> Iterator[Server]:
    """diod, without authentication, over the same directory."""
    path, port = str(directory / "diod-9p"), _free_port()
    command = [program, "-f", "-n", "-L", "stderr", "-l", path, "-l", f"127.0.0.1:{port}", "-e", str(served)]
    with (directory / "diod.log").open("w+") as log:
        process = subprocess.Popen(command, stderr=log)
        try:
            server = Server(process.pid, path, str(served), port, str(served))
            until = time.monotonic() + PATIENCE
            while True:
                try:
                    server.connect(True, 65536).__exit__()
                    break
                except ConnectionRefusedError:
                    if process.poll() is not None or time.monotonic() > until:
                        log.seek(0)
                        raise RuntimeError(f"diod does not come up: {log.read()}") from None
                    time.sleep(0.02)
            yield server
        finally:
            end(process)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port

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
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.delay import PIECE, listen
from benchmarks.wire import WRITE, Wire, open_, read, request, walk

PATIENCE = 30.0
"""Seconds for a server to come up."""
RDWR = 2


class Server(NamedTuple):
    """A 9P server over a directory: its process, a Unix socket and a TCP port, and the attach names that they want.

    `said`: the program, as it was called. `control`: a node's own socket, for a shell; `control_aname`: the same tree
    there, to be written, which a node serves nobody else by itself.
    """

    pid: int
    path: str
    path_aname: str
    port: int
    port_aname: str
    said: str = ""
    control: str = ""
    control_aname: str = ""

    def connect(self, tcp: bool, msize: int) -> Wire:
        if tcp:
            sock = socket.create_connection(("127.0.0.1", self.port))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return Wire(sock, self.port_aname, msize)
        return Wire(_unix(self.path), self.path_aname, msize)

    def connect_to_write(self, msize: int) -> Wire:
        if self.control:
            return Wire(_unix(self.control), self.control_aname, msize)
        return self.connect(False, msize)


def _unix(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.connect(path)
    except BaseException:
        sock.close()
        raise
    return sock


# -- ours -------------------------------------------------------------------------------------------------------------


def start_node(
    home: Path, pure: bool = False, host: str = "127.0.0.1", options: Sequence[str] = ()
) -> subprocess.Popen[bytes]:
    """A node that is ready, with links at `host`; with `pure` of the Python source, whatever was compiled.

    Raises `RuntimeError` with what it says if it does not come up.
    """
    ours, theirs = os.pipe()
    command = [sys.executable, "-m", "cognu.node", "--home", str(home), "--listen", f"{host}:0"]
    command += ["--host", host, "--ready-fd", str(theirs), *options]
    environment = {**os.environ, "COGNU_PURE": "1"} if pure else None
    try:
        process = subprocess.Popen(command, pass_fds=[theirs], stderr=subprocess.DEVNULL, env=environment)
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
def cognu(directory: Path, served: Path, pure: bool = False) -> Iterator[Server]:
    """A node that serves a directory of the host as `cognu listen` does: through namespace, rights and dispatch."""
    process = start_node(directory / "home", pure)
    try:
        path = f"/mnt/host{served}"
        unix = rpc(directory / "home", "listen", address=str(directory / "node-9p"), path=path)
        tcp = rpc(directory / "home", "listen", address="127.0.0.1:0", path=path)
        port = int(tcp["address"].rpartition(":")[2])
        control = str(directory / "home" / "node.sock")
        yield Server(
            process.pid, unix["address"], "", port, tcp["token"], "cognu listen", control, f"tree:write path {path}"
        )
    finally:
        end(process)


# -- theirs -----------------------------------------------------------------------------------------------------------


NO_DIOD = "no such program; on Debian and Ubuntu: apt-get install diod"


def find_diod() -> str | None:
    """Its program, which Debian keeps where only root looks."""
    return shutil.which("diod", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


WORKERS = (1, 2, 4)
"""Numbers of threads that diod is tried with: 16, its own choice, was never the best here."""


def version_of(server: Server) -> str:
    """diod as it was called, with its version as Debian's package has it, and the msize that it grants of 1 MiB."""
    found = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Version}", "diod"], capture_output=True, text=True, check=False
    )
    with server.connect(False, 1 << 20) as connection:
        return f"{found.stdout or 'unknown version'}; {server.said}; msize {connection.msize:,}"


@contextmanager
def diod(program: str, directory: Path, served: Path, workers: int = WORKERS[0]) -> Iterator[Server]:
    """diod with so many threads, without authentication, over the same directory."""
    path, port = str(directory / f"diod-9p-{workers}"), free_port()
    command = [
        program,
        "-f",
        "-n",
        "-N",
        f"--nwthreads={workers}",
        "-L",
        "stderr",
        "-l",
        path,
        "-l",
        f"127.0.0.1:{port}",
        "-e",
        str(served),
    ]
    with (directory / f"diod-{workers}.log").open("w+") as log:
        process = subprocess.Popen(command, stderr=log)
        try:
            server = Server(process.pid, path, str(served), port, str(served), " ".join(command))
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


# -- sshfs ------------------------------------------------------------------------------------------------------------

SFTP_SERVER = "/usr/lib/openssh/sftp-server"


def sftp_missing() -> str:
    """Why sshfs can't be measured here; empty if it can."""
    if not shutil.which("sshfs") or not Path(SFTP_SERVER).exists():
        return "no such program; on Debian and Ubuntu: apt-get install sshfs openssh-sftp-server"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "this host lets no program of its user mount (/dev/fuse)"
    return ""


@contextmanager
def sftp() -> Iterator[int]:
    """OpenSSH's SFTP server on a TCP port of 127.0.0.1, a process for each connection, without ssh and its cipher."""
    children: list[subprocess.Popen[bytes]] = []
    with socket.create_server(("127.0.0.1", 0)) as door:

        def serve() -> None:
            while True:
                try:
                    connection, _ = door.accept()
                except OSError:
                    return  # closed: it is over
                with connection:
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    children.append(
                        subprocess.Popen([SFTP_SERVER], stdin=connection.fileno(), stdout=connection.fileno())
                    )

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            port: int = door.getsockname()[1]
            yield port
        finally:
            door.shutdown(socket.SHUT_RDWR)
            thread.join()
            for child in children:
                end(child)


@contextmanager
def sshfs(port: int, served: Path, place: Path) -> Iterator[str]:
    """What is served at `port`, mounted anew at `place`; the command, as it was called."""
    with mounted(["sshfs", "-f", "-o", f"directport={port}", f"127.0.0.1:{served}"], place) as said:
        yield said


@contextmanager
def mounted(command: Sequence[str], place: Path) -> Iterator[str]:
    """What sshfs, called so, mounts at `place`; the command, as it was called."""
    place.mkdir(exist_ok=True)
    command = [*command, str(place)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    until = time.monotonic() + PATIENCE
    try:
        while not place.is_mount():
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"sshfs does not come up: status {process.returncode}")
            time.sleep(0.02)
        yield " ".join(command)
    finally:
        subprocess.run(["fusermount3", "-u", "-z", str(place)], check=False, stderr=subprocess.DEVNULL)
        end(process)


# -- a delay ----------------------------------------------------------------------------------------------------------


@contextmanager
def echo(path: str) -> Iterator[None]:
    """What gives one connection at a Unix socket back what it sends."""
    with listen(path) as door:

        def serve() -> None:
            with door.accept()[0] as connection:
                while data := connection.recv(PIECE):
                    connection.sendall(data)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield
        thread.join(PATIENCE)


@contextmanager
def delayed(milliseconds: float, *doors: tuple[str, str]) -> Iterator[Callable[[str], None]]:
    """Each (LISTEN, TARGET) of `doors` by a proxy that gives on what passes so much later, both ways.

    What it gives takes an order that cuts or mends the line, as in `delay.py`, and returns when that is done.
    """
    command = [sys.executable, "-m", "benchmarks.delay", str(milliseconds), *(part for door in doors for part in door)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise RuntimeError("the delay proxy does not come up")
        yield partial(_order, process)
    finally:
        end(process)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def _order(proxy: subprocess.Popen[str], what: str) -> None:
    assert proxy.stdin is not None
    assert proxy.stdout is not None
    proxy.stdin.write(f"{what}\n")
    proxy.stdin.flush()
    if proxy.stdout.readline() != "done\n":
        raise RuntimeError(f"the delay proxy does not {what}")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port

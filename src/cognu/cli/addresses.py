"""Where a 9P server is, or is to be: as Plan 9 writes addresses (dial(2)) and as others do; and connections to there.

unix!PATH  PATH          a Unix socket; PATH holds a slash
tcp!HOST!PORT  HOST:PORT PORT is a number or a service of ndb(6): 9fs, exportfs, styx
exec!COMMAND             a command of the host, which speaks 9P on its standard input and output
-                        this process's own standard input and output
"""

from __future__ import annotations

import ipaddress
import os
import shlex
import socket
import stat
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from signal import SIGKILL, SIGTERM
from typing import NamedTuple

from cognu.cli.descriptors import DescriptorStream
from cognu.errors import E, FileError
from cognu.world import Child, Stream
from cognu.world.net import RealNetwork
from cognu.world.real import RealClock, RealSpawn, RealThreads
from cognu.world.sockets import SocketStream, split_address
from cognu.world.timing import within

SERVICES = {"9fs": 564, "9pfs": 564, "exportfs": 17007, "styx": 6666}
"""Ports by name: ndb(6) of Plan 9, and Inferno's."""
USAGE = "unix!PATH, tcp!HOST!PORT, exec!COMMAND, a path with a slash, HOST:PORT, or - for the standard streams"
LAST_MOMENT = 2.0
"""Seconds that a command may take to end when its input did, and again when it was asked to."""


class Address(NamedTuple):
    """`kind` is unix, tcp, exec or stdio; `where` a path, `HOST:PORT`, a command line, or nothing."""

    kind: str
    where: str

    @property
    def private(self) -> bool:
        """Whether only this user gets there; a port is everybody's who is on the machine or the network."""
        return self.kind != "tcp"

    def __str__(self) -> str:
        return self.where or "-"


def parse_address(text: str) -> Address:
    """Raises USAGE for what is no address."""
    if text == "-":
        return Address("stdio", "")
    network, bang, rest = text.partition("!")
    if bang and network == "unix" and rest and "\0" not in rest:
        return Address("unix", rest)
    if bang and network == "exec" and _words(text, rest):
        return Address("exec", rest)
    if bang and network in ("tcp", "net"):
        host, _, service = rest.rpartition("!") if "!" in rest else (rest, "", "9fs")
        return _tcp(text, "0.0.0.0" if host == "*" else host, service)
    if not bang and "/" in text and "\0" not in text:
        return Address("unix", text)
    host, colon, service = text.rpartition(":")
    if not bang and colon:
        return _tcp(text, host[1:-1] if host.startswith("[") and host.endswith("]") else host, service)
    raise FileError(E.USAGE, text, USAGE)


def _tcp(text: str, host: str, service: str) -> Address:
    if not service.isascii():
        raise FileError(E.USAGE, text, USAGE)
    port = str(SERVICES.get(service, service))
    if not host or not port.isdigit() or "!" in host or any(char.isspace() or char == "\0" for char in host):
        raise FileError(E.USAGE, text, USAGE)
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        split_address(address)
    except FileError:
        raise FileError(E.USAGE, text, USAGE) from None
    return Address("tcp", address)


def _words(text: str, command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError as error:
        raise FileError(E.USAGE, text, str(error)) from None


class CommandStream(SocketStream):
    """The streams of a command of the host."""

    child: Child


@asynccontextmanager
async def dialled(address: Address) -> AsyncIterator[Stream]:
    """A connection to there, closed in the end; a command that was started for it has ended by then.

    Raises CONNREFUSED, TIMEDOUT, HOSTUNREACH, NOENT, NOPROGRAM, NOTSOCK and the like.
    """
    if address.kind == "exec":
        async with _command(shlex.split(address.where)) as stream:
            yield stream
        return
    if address.kind == "stdio":
        async with own_streams() as stream:
            yield stream
        return
    network = RealNetwork()
    connect = network.connect_unix if address.kind == "unix" else network.connect_tcp
    try:
        stream = await connect(address.where)
    except FileError:
        if address.kind == "unix" and _is_other_file(address.where):
            raise FileError(E.NOTSOCK, address.where) from None
        raise
    try:
        yield stream
    finally:
        stream.close()
        await stream.wait_closed()


def _is_other_file(path: str) -> bool:
    try:
        return not stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False


@asynccontextmanager
async def own_streams() -> AsyncIterator[Stream]:
    """This process's standard input and output as a connection, which stay open. Raises BADF if one is not."""
    if sys.stdin is None or sys.stdout is None:  # closed when this began: by now the number may be another file's
        raise FileError(E.BADF, "-", "the standard input or output is closed")
    threads = RealThreads()
    stream = DescriptorStream(0, 1, threads, "-")
    try:
        yield stream
    finally:
        stream.close()
        threads.close()


@asynccontextmanager
async def _command(argv: Sequence[str]) -> AsyncIterator[Stream]:
    ours, theirs = socket.socketpair()
    try:
        end = theirs.fileno()
        child = await RealSpawn().start(argv, os.environ, stdin=end, stdout=end, stderr=2)
    except BaseException as error:
        ours.close()
        if isinstance(error, FileError) and error.error is E.NOENT:
            raise FileError(E.NOPROGRAM, argv[0]) from None
        raise
    finally:
        theirs.close()
    stream = CommandStream(ours, argv[0])
    stream.child = child
    try:
        yield stream
    finally:
        stream.close()
        await _end(child)


async def _end(child: Child) -> None:
    """Its input is at an end, so it ends; else it is asked to, and at last made to."""
    clock = RealClock()
    for number in (SIGTERM, SIGKILL, 0):
        try:
            await within(clock, LAST_MOMENT, _gone(child))
            return
        except TimeoutError:
            with suppress(FileError):
                child.signal(number)


async def _gone(child: Child) -> None:
    await child.wait()


def check_listening(listen: Address, served: Address) -> None:
    """Whether what is at `served` may be had at `listen` too. Raises PERM: whoever gets there must not be more."""
    if listen.kind == "exec":
        raise FileError(E.USAGE, str(listen), "a command is no place to listen at")
    if listen.kind == "tcp":
        if not _is_loopback(listen.where):
            raise FileError(E.PERM, str(listen), "9P in clear text is for Unix sockets and loopback")
        if served.private:
            detail = f"every user of this machine gets there, and only you to {served}; listen at a Unix socket"
            raise FileError(E.PERM, str(listen), detail)


def _is_loopback(address: str) -> bool:
    host, _ = split_address(address)
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

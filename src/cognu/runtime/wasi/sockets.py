"""The functions on sockets, over the files of a connection as ip(3) has them: `data`, `ctl`, `listen`.

A program gets a socket by opening `/net/tcp/N/data` (or accepting one); any other descriptor is ENOTSOCK.
"""

from __future__ import annotations

from cognu.errors import E, FileError
from cognu.files.chan import Chan
from cognu.files.dispatch import dispatch
from cognu.files.steps import Steps
from cognu.kernel import READ, WRITE
from cognu.ninep.types import ORDWR, OWRITE
from cognu.runtime.wasi.abi import (
    FDFLAGS,
    FILE_RIGHTS,
    RECV_PEEK,
    RECV_WAITALL,
    SEEKING_RIGHTS,
    SHUT_RD,
    SHUT_WR,
    Errno,
    Filetype,
    Right,
    WasiError,
)
from cognu.runtime.wasi.descriptors import receive, send
from cognu.runtime.wasi.memory import Guest, Vector, put_u32, reserve
from cognu.runtime.wasi.table import Program, WasiFd, connection_names

SOCKETS = (Filetype.SOCKET_STREAM, Filetype.SOCKET_DGRAM)
NUMBER_SIZE = 32


def _socket(program: Program, fd: int, rights: int) -> Steps[WasiFd]:
    entry = program.table.get(fd)
    if (yield from entry.kind(program.process)) not in SOCKETS:
        raise WasiError(Errno.NOTSOCK)
    entry.need(rights)
    return entry


def sock_recv(
    program: Program, guest: Guest, fd: int, iovs: int, count: int, flags: int, out: int, out_flags: int
) -> Steps[None]:
    entry = yield from _socket(program, fd, Right.FD_READ)
    if flags & ~(RECV_PEEK | RECV_WAITALL):
        raise WasiError(Errno.INVAL)
    vector = Vector(guest, iovs, count)
    reserve(guest, out, 4)
    reserve(guest, out_flags, 2)
    data = bytes((yield from receive(program, entry, vector.total, bool(flags & RECV_PEEK))))
    while flags & RECV_WAITALL and not flags & RECV_PEEK and 0 < len(data) < vector.total:
        try:
            more = yield from receive(program, entry, vector.total - len(data))
        except (FileError, WasiError):
            break  # what came is handed out; the error shows again at the next call
        if not more:
            break
        data += more
    vector.scatter(guest, data)
    put_u32(guest, out, len(data))
    guest.write(out_flags, b"\0\0")


def sock_send(program: Program, guest: Guest, fd: int, iovs: int, count: int, flags: int, out: int) -> Steps[None]:
    entry = yield from _socket(program, fd, Right.FD_WRITE)
    if flags:
        raise WasiError(Errno.INVAL)
    vector = Vector(guest, iovs, count)
    reserve(guest, out, 4)
    put_u32(guest, out, (yield from send(program, entry, vector.gather(guest))))


def sock_shutdown(program: Program, guest: Guest, fd: int, how: int) -> Steps[None]:
    entry = yield from _socket(program, fd, Right.SOCK_SHUTDOWN)
    if how not in (SHUT_RD, SHUT_WR, SHUT_RD | SHUT_WR):
        raise WasiError(Errno.INVAL)
    line = b"hangup write" if entry.shut | how == SHUT_WR else b"hangup"
    if how & SHUT_WR and not entry.shut & SHUT_WR:
        yield from entry.settle()
        control = yield from _open_beside(program, entry, "ctl", OWRITE)
        try:
            yield from dispatch(control, WRITE, control.server.write, control.fid, 0, line)
        finally:
            control.close()
    entry.shut |= how


def sock_accept(program: Program, guest: Guest, fd: int, flags: int, out: int) -> Steps[None]:
    """Wait for a call to the announced connection that `fd` is a file of. ENOTSUP where the network can't be called."""
    entry = program.table.get(fd)
    proto = _protocol(entry)
    entry.need(Right.SOCK_ACCEPT)
    if flags & ~FDFLAGS:
        raise WasiError(Errno.INVAL)
    reserve(guest, out, 4)
    try:
        control = yield from _open_beside(program, entry, "listen", ORDWR)
    except FileError as error:
        if error.error is E.NOENT:
            raise WasiError(Errno.NOTSUP) from None
        raise
    try:
        number = yield from _number(control)
        data = yield from _open(program, f"{proto}/{number}/data", ORDWR)
    finally:
        control.close()
    accepted = WasiFd(data, FILE_RIGHTS & ~SEEKING_RIGHTS, 0, flags)
    put_u32(guest, out, program.table.add(accepted))


def _protocol(entry: WasiFd) -> str:
    """The path of the protocol's directory (`/net/tcp`). Raises ENOTSOCK."""
    names = entry.chan.path.names()
    if connection_names(entry.chan):
        return "/" + "/".join(names[:-2])
    if names[-1:] == ["clone"] and "net" in names[:-1]:
        return "/" + "/".join(names[:-1])
    raise WasiError(Errno.NOTSOCK)


def _open_beside(program: Program, entry: WasiFd, name: str, mode: int) -> Steps[Chan]:
    """Open another file of the same connection."""
    proto = _protocol(entry)
    connection = connection_names(entry.chan)
    number = connection[1] if connection else (yield from _number(entry.chan))
    return (yield from _open(program, f"{proto}/{number}/{name}", mode))


def _number(control: Chan) -> Steps[str]:
    """Reading a connection's ctl gives its number."""
    server = control.server
    text = yield from dispatch(control, READ, server.read, control.fid, 0, NUMBER_SIZE)
    number = bytes(text).decode("ascii", "replace").strip()
    if not number.isdecimal():
        raise WasiError(Errno.IO)
    return number


def _open(program: Program, path: str, mode: int) -> Steps[Chan]:
    process = program.process
    chan = yield from process.namespace.find(path, process.cwd, process)
    return (yield from process.namespace.open(chan, mode, process))

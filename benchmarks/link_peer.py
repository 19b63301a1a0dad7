"""The far process of the `link` benchmark: `python -m benchmarks.link_peer DIRECTORY`.

Listens with the identity in DIRECTORY/far: a mesh, a blocking TLS socket and a plain TCP one. Prints their addresses
and ends when its input does. A stream begins with a label: what is to be done with the rest.
"""

from __future__ import annotations

import socket
import ssl
import sys
import threading

import uvloop

from cognu.mesh.identity import Peer, PeerBook, load_identity
from cognu.mesh.links import Mesh
from cognu.mesh.session import Channel
from cognu.world import TlsKeys
from cognu.world.real import real_world
from cognu.world.tls import make_context

ECHO = "echo"
LABEL_SIZE = 32
ROOM = 1 << 18


def sink(total: int) -> str:
    """The label that asks to take so many bytes and then answer with one."""
    return f"sink {total}"


def label(text: str) -> bytes:
    """A label as sockets carry it; a channel has its own."""
    return text.encode().ljust(LABEL_SIZE)


def tls_context(directory: str, own: str, other: str) -> ssl.SSLContext:
    """The blocking socket's: TLS 1.3 with the certificates of the nodes, both shown and checked."""
    world = real_world()
    mine, theirs = (load_identity(world, f"{directory}/{name}") for name in (own, other))
    return make_context(TlsKeys(mine.certificate, mine.private_key, (theirs.certificate,)), server=own == "far")


async def refuse(peer: Peer, label: str, channel: Channel) -> None:
    """The near side serves nothing."""


async def _serve_channel(peer: Peer, label: str, channel: Channel) -> None:
    if label == ECHO:
        while part := await channel.read(ROOM):
            await channel.write(part)
        return
    left = int(label.split()[1])
    while left and (part := await channel.read(ROOM)):
        left -= len(part)
    if not left:
        await channel.write(b".")


def _serve_socket(sock: socket.socket) -> None:
    said = b""
    while len(said) < LABEL_SIZE:
        part = sock.recv(LABEL_SIZE - len(said))
        if not part:
            return
        said += part
    text = said.decode().strip()
    room = bytearray(ROOM)
    if text == ECHO:
        while count := sock.recv_into(room):
            sock.sendall(memoryview(room)[:count])
        return
    left = int(text.split()[1])
    while left and (count := sock.recv_into(room)):
        left -= count
    if not left:
        sock.sendall(b".")


def _accept(listener: socket.socket, context: ssl.SSLContext | None) -> None:
    """One connection after the other, in a thread of its own."""
    while True:
        plain, _ = listener.accept()
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            sock = context.wrap_socket(plain, server_side=True) if context else plain
            with sock:
                _serve_socket(sock)
        except OSError as error:
            print(f"link_peer: {error}", file=sys.stderr, flush=True)


def _listen(context: ssl.SSLContext | None) -> int:
    """The port."""
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_accept, args=(listener, context), daemon=True).start()
    port: int = listener.getsockname()[1]
    return port


async def _main(directory: str) -> None:
    world = real_world()
    home = f"{directory}/far"
    mesh = Mesh(world, load_identity(world, home), PeerBook(world.disk, home), _serve_channel)
    address = await mesh.listen("127.0.0.1:0")
    print(address, _listen(tls_context(directory, "far", "near")), _listen(None), flush=True)
    await world.threads.run(sys.stdin.read)
    await mesh.close()


if __name__ == "__main__":
    uvloop.run(_main(sys.argv[1]))

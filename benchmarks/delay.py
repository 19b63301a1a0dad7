"""A proxy that gives on what passes a little later: `python -m benchmarks.delay MS (LISTEN TARGET)…`, for its tests.

Both ways, in order, whatever the rate: each piece is sent on MS milliseconds after it came, and any number is on its
way meanwhile. An address is a Unix socket's path or HOST:PORT. It says `ready` when it listens, and ends with its
standard input. Two threads for each connection and direction: one takes, the other waits and sends.
"""

from __future__ import annotations

import queue
import socket
import sys
import threading
import time

PIECE = 1 << 18


def connect(address: str) -> socket.socket:
    """To a Unix socket's path, or to HOST:PORT without gathering small pieces (TCP_NODELAY)."""
    if "/" in address:
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect(address)
        except BaseException:
            sock.close()
            raise
        return sock
    host, _, port = address.rpartition(":")
    sock = socket.create_connection((host, int(port)))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def listen(address: str) -> socket.socket:
    if "/" in address:
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(address)
        sock.listen()
        return sock
    host, _, port = address.rpartition(":")
    return socket.create_server((host, int(port)))


def pass_on(source: socket.socket, target: socket.socket, delay: float) -> None:
    """Until `source` ends; then `target` is told so, as late as all else."""
    under_way: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()

    def send() -> None:
        data = b"-"
        while data:
            due, data = under_way.get()
            time.sleep(max(0.0, due - time.monotonic()))
            try:
                target.sendall(data)
            except OSError:
                break
        try:
            target.shutdown(socket.SHUT_WR)
            source.shutdown(socket.SHUT_RD)
        except OSError:
            return  # it is gone already

    def take() -> None:
        data = b"-"
        while data:
            try:
                data = source.recv(PIECE)
            except OSError:
                data = b""
            under_way.put((time.monotonic() + delay, data))

    for work in (send, take):
        threading.Thread(target=work, daemon=True).start()


def serve(door: socket.socket, target: str, delay: float) -> None:
    while True:
        near, _ = door.accept()
        if near.family == socket.AF_INET:
            near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            far = connect(target)
        except OSError:
            near.close()
            continue
        pass_on(near, far, delay)
        pass_on(far, near, delay)


def main() -> None:
    delay, addresses = float(sys.argv[1]) / 1000, sys.argv[2:]
    doors = [listen(address) for address in addresses[::2]]
    for door, target in zip(doors, addresses[1::2], strict=True):
        threading.Thread(target=serve, args=(door, target, delay), daemon=True).start()
    print("ready", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()

"""A proxy that gives on what passes a little later: `python -m benchmarks.delay MS (LISTEN TARGET)…`, for its tests.

Both ways, in order, whatever the rate: each piece is sent on MS milliseconds after it came, and any number is on its
way meanwhile. An address is a Unix socket's path or HOST:PORT. It says `ready` when it listens, and ends with its
standard input. Two threads for each connection and direction: one takes, the other waits and sends.

A line of its input cuts it off, without a word to either side, or mends it; each is answered by `done`:

    hold      nothing passes, ends of streams neither; what comes waits, as with TCP that sends again what was lost
    forget    the same, and no connection that there is will ever pass anything again, nor be told
    mend      what waits passes on; who called meanwhile is put through
"""

from __future__ import annotations

import queue
import socket
import sys
import threading
import time

PIECE = 1 << 18


class Line:
    """Whether anything passes; orders come from one thread, the others look. A connection belongs to the age in which
    it began: `age` goes up when those of before are forgotten."""

    def __init__(self) -> None:
        self.age = 0
        self._whole = threading.Event()
        self._whole.set()

    def order(self, what: str) -> None:
        """`hold`, `forget` or `mend`; raises `KeyError` for anything else."""
        {"hold": self._whole.clear, "forget": self._forget, "mend": self._whole.set}[what]()

    def wait(self) -> None:
        """Until it is whole."""
        self._whole.wait()

    def _forget(self) -> None:
        self._whole.clear()
        self.age += 1


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


def pass_on(source: socket.socket, target: socket.socket, delay: float, line: Line, age: int) -> None:
    """Until `source` ends; then `target` is told so, as late as all else, unless it is forgotten."""
    under_way: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()

    def send() -> None:
        data = b"-"
        while data:
            due, data = under_way.get()
            time.sleep(max(0.0, due - time.monotonic()))
            line.wait()
            if line.age != age:
                return
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


def serve(door: socket.socket, target: str, delay: float, line: Line) -> None:
    while True:
        near, _ = door.accept()
        line.wait()
        age = line.age
        if near.family == socket.AF_INET:
            near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            far = connect(target)
        except OSError:
            near.close()
            continue
        pass_on(near, far, delay, line, age)
        pass_on(far, near, delay, line, age)


def main() -> None:
    delay, addresses = float(sys.argv[1]) / 1000, sys.argv[2:]
    line = Line()
    doors = [listen(address) for address in addresses[::2]]
    for door, target in zip(doors, addresses[1::2], strict=True):
        threading.Thread(target=serve, args=(door, target, delay, line), daemon=True).start()
    print("ready", flush=True)
    for order in sys.stdin:
        line.order(order.strip())
        print("done", flush=True)


if __name__ == "__main__":
    main()

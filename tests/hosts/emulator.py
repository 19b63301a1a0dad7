"""The process between the hosts: `python -m hosts.emulator TOPOLOGY`, in a network namespace of its own.

It makes the hosts: each is a network namespace that a process of its own keeps (`cat`, which ends with this one),
joined to here by a veth pair for each of its links. Nothing has a name outside: when this process ends, by whatever,
its namespace, the hosts' and all their interfaces are gone. It ends when its standard input does, the test's end of
which closes however the test ends.

It takes every frame from one end with a packet socket and gives it to the others that `Switch` says, when `Line` says.
The ends leave nothing to hardware that is not there: checksums and sizes are as on a wire.

TOPOLOGY is `{"seed": S, "hosts": {NAME: [[SEGMENT, ADDRESS/BITS, MAC, METRIC], ...]}}`. Orders come as lines of JSON,
each with a number, and are answered by a line with that number:

    {"id": 1, "do": "set", "from": PLACE, "to": PLACE, "both": true, "conditions": {…}}    answered when it is done
    {"id": 2, "do": "counts", "from": PLACE, "to": PLACE}                                   {"id": 2, "bytes": N, …}
    {"id": 3, "do": "carried", "from": PLACE, "to": PLACE, "after": N}                      when that is so

A PLACE is a port, a host, or `*`. With `after`, `set` is done when so many more bytes came out from the one to the
other: in the midst of them, however long the test takes to hear of it. With `anew` the lines are plain before.
"""

from __future__ import annotations

import array
import errno
import fcntl
import heapq
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from hosts.wire import PLAIN, Line, Switch

FRAME = 2048
"""Above any frame's size; links have Ethernet's 1500 bytes."""
TURN = 64
"""Frames taken from one port before the others have their turn."""
BUFFER_BYTES = 32 << 20
"""Of frames that the kernel holds for us at a port, as it counts them: four times what they are."""
QUEUED_FRAMES = 200_000
"""That wait on all lines; more is a mistake in a test, and ends this."""

ETH_P_ALL = 3
SOL_PACKET = 263
PACKET_ADD_MEMBERSHIP = 1
PACKET_MR_PROMISC = 1
PACKET_STATISTICS = 6
PACKET_IGNORE_OUTGOING = 23
SO_RCVBUFFORCE = 33
SIOCETHTOOL = 0x8946
OFFLOADS = (0x17, 0x19, 0x1F, 0x24, 0x2C)
"""ETHTOOL_STXCSUM, _SSG, _STSO, _SGSO and _SGRO of linux/ethtool.h."""


class Port:
    """Our end of a host's link."""

    def __init__(self, name: str, device: str, segment: str) -> None:
        self.name = name
        self.segment = segment
        self.refused = 0  # frames that the host did not take: its end is down
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self.socket.setblocking(False)
        self.socket.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        try:
            self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
        except PermissionError:  # in a user's own namespace the host's limit holds
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        self.socket.bind((device, ETH_P_ALL))
        everything = struct.pack("iHH8s", socket.if_nametoindex(device), PACKET_MR_PROMISC, 0, b"")
        self.socket.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, everything)

    def send(self, frame: bytes) -> None:
        try:
            self.socket.send(frame)
        except OSError as error:
            if error.errno not in (errno.ENETDOWN, errno.ENXIO, errno.ENOBUFS, errno.EAGAIN):
                raise
            self.refused += 1

    def overran(self) -> int:
        """Frames, since this was last asked, for which the kernel had no room because this process was slow."""
        return int(struct.unpack("II", self.socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))[1])


def ip(*words: str) -> None:
    """Raises `CalledProcessError`, after what ip(8) said went to the standard error."""
    subprocess.run(["ip", *words], stdin=subprocess.DEVNULL, check=True)


def without_offloads(device: str) -> None:
    """What the kernel would leave to the other end of a veth, it does itself: checksums, and segments of one frame."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for order in OFFLOADS:
            value = array.array("B", struct.pack("II", order, 0))
            request = struct.pack("16sQ16x", device.encode(), value.buffer_info()[0])
            with suppress(OSError):  # EOPNOTSUPP: it has none
                fcntl.ioctl(any_socket, SIOCETHTOOL, request)


class Holder:
    """A network namespace, for as long as this process lives or `close` was not called."""

    def __init__(self) -> None:
        # The one word tells that the namespace is there; cat ends when our end of its input does.
        self.process = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "echo made; exec cat >/dev/null"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self.process.stdout is not None
        if self.process.stdout.readline() != b"made\n":
            raise RuntimeError("no network namespace could be made")

    @property
    def pid(self) -> int:
        return self.process.pid

    def ip(self, *words: str) -> None:
        subprocess.run(["nsenter", "-t", str(self.pid), "--net", "ip", *words], stdin=subprocess.DEVNULL, check=True)


def make_hosts(hosts: dict[str, list[list[str]]]) -> tuple[dict[str, Holder], dict[str, Port]]:
    holders: dict[str, Holder] = {}
    ports: dict[str, Port] = {}
    for name, links in hosts.items():
        holder = holders[name] = Holder()
        holder.ip("link", "set", "lo", "up")
        for segment, address, mac, metric in links:
            near, far = f"to{len(ports)}", f"at{len(ports)}"
            ip("link", "add", near, "type", "veth", "peer", "name", far, "address", mac)
            for device in (near, far):
                without_offloads(device)
            ip("link", "set", far, "netns", str(holder.pid), "name", segment)
            ip("link", "set", near, "up")
            holder.ip("link", "set", segment, "up")
            holder.ip("address", "add", address, "dev", segment)
            # Nothing answers beyond; but a machine looks there to find out which address is its own.
            holder.ip("route", "add", "default", "dev", segment, "metric", metric)
            port = f"{name}.{segment}"
            ports[port] = Port(port, near, segment)
    return holders, ports


class Change:
    """What some lines are to be like. Raises `TypeError` and `ValueError` as `Conditions` does."""

    def __init__(self, lines: list[Line], conditions: dict[str, Any], anew: bool) -> None:
        self.lines = lines
        self.conditions = conditions
        self.anew = anew
        PLAIN.but(conditions)  # what is wrong is said now

    def make(self) -> None:
        for line in self.lines:
            line.set((PLAIN if self.anew else line.conditions).but(self.conditions))


@dataclass(frozen=True)
class Watch:
    """The change to be made, and who is to be told, when lines carried so many bytes in all."""

    id: int
    lines: list[Line]
    bytes: int
    change: Change

    @property
    def over(self) -> bool:
        return sum(line.bytes for line in self.lines) >= self.bytes


class Emulator:
    """The loop, and the lines between each two ports of a segment."""

    def __init__(self, seed: str, ports: dict[str, Port], control: socket.socket) -> None:
        self.ports = ports
        self.switch = Switch({port.name: port.segment for port in ports.values()})
        self.lines = {
            (a.name, b.name): Line(f"{seed}:{a.name}>{b.name}")
            for a in ports.values() for b in ports.values() if a is not b and a.segment == b.segment
        }  # fmt: skip
        self.waiting: list[tuple[int, int, Line, Port, bytes]] = []  # a heap: when, in which order, …
        self.order = 0
        self.control = control
        self.heard = b""
        self.watches: list[Watch] = []
        self.overran = 0

    def run(self) -> None:
        """Until the control's other end is closed."""
        poll = select.epoll()
        poll.register(self.control, select.EPOLLIN)
        by_number = {port.socket.fileno(): port for port in self.ports.values()}
        for number in by_number:
            poll.register(number, select.EPOLLIN)
        while True:
            left = self.waiting[0][0] - time.monotonic_ns() if self.waiting else -1
            for number, _ in poll.poll(max(left, 0) / 1e9 if self.waiting else None):
                port = by_number.get(number)
                if port is not None:
                    self.take(port)
                elif not self.obey():
                    return
            if self.waiting:
                self.give_what_is_due()
            if self.watches:
                self.tell_watches()

    def take(self, port: Port) -> None:
        recv, targets, lines, ports, name = port.socket.recv, self.switch.targets, self.lines, self.ports, port.name
        now = time.monotonic_ns()
        for _ in range(TURN):
            try:
                frame = recv(FRAME)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENETDOWN:
                    raise
                return
            for target in targets(name, frame):
                line = lines[name, target]
                if line.plain and now >= line.last:
                    line.frames += 1
                    line.bytes += len(frame)
                    ports[target].send(frame)
                    continue
                out = line.take(now, len(frame))
                if out is not None:
                    self.order += 1
                    heapq.heappush(self.waiting, (out, self.order, line, ports[target], frame))

    def give_what_is_due(self) -> None:
        if len(self.waiting) > QUEUED_FRAMES:
            raise RuntimeError(f"{len(self.waiting)} frames wait; set a rate or a smaller delay")
        now = time.monotonic_ns()
        while self.waiting and self.waiting[0][0] <= now:
            _, _, line, port, frame = heapq.heappop(self.waiting)
            if line.comes_out(len(frame)):
                port.send(frame)

    def tell_watches(self) -> None:
        for watch in [watch for watch in self.watches if watch.over]:
            self.watches.remove(watch)
            watch.change.make()
            self.say({"id": watch.id})

    # Orders

    def obey(self) -> bool:
        data = self.control.recv(1 << 16)
        *orders, self.heard = (self.heard + data).split(b"\n")
        for text in orders:
            order = json.loads(text)
            try:
                answer = self.carry_out(order)
            except (KeyError, TypeError, ValueError) as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            if answer is not None:
                self.say({"id": order["id"], **answer})
        return bool(data)

    def carry_out(self, order: dict[str, Any]) -> dict[str, Any] | None:
        """None: it is answered later."""
        lines = self.between(order["from"], order["to"])
        if order["do"] == "counts":
            return self.counts(lines)
        if order["do"] == "set":
            changed = [*lines, *(self.between(order["to"], order["from"]) if order["both"] else ())]
            change = Change(changed, order["conditions"], order["anew"])
        elif order["do"] == "carried":
            change = Change([], {}, False)
        else:
            raise ValueError(order["do"])
        if order["after"] is None:
            change.make()
            return {}
        self.watches.append(Watch(order["id"], lines, sum(line.bytes for line in lines) + order["after"], change))
        return None

    def counts(self, lines: list[Line]) -> dict[str, int]:
        self.overran += sum(port.overran() for port in self.ports.values())
        names = ("frames", "bytes", "lost", "overflowed", "stopped")
        found = {name: sum(getattr(line, name) for line in lines) for name in names}
        refused = sum(port.refused for port in self.ports.values())
        return {**found, "waiting": len(self.waiting), "overran": self.overran, "refused": refused}

    def between(self, source: str, target: str) -> list[Line]:
        """From a port, any of a host's or any (`*`), to others. Raises `ValueError` if there is no such line."""
        lines = [line for (a, b), line in self.lines.items() if _names(source, a) and _names(target, b)]
        if not lines:
            raise ValueError(f"no line leads from {source} to {target}")
        return lines

    def say(self, answer: dict[str, Any]) -> None:
        # Its reader always reads; a line is far below what a socket holds.
        self.control.sendall(json.dumps(answer).encode() + b"\n")


def _names(words: str, port: str) -> bool:
    return words in ("*", port, port.partition(".")[0])


def main() -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the tests, which end this when they have ended
    topology = json.loads(sys.argv[1])
    control = socket.socket(fileno=os.dup(0))
    holders, ports = make_hosts(topology["hosts"])
    emulator = Emulator(topology["seed"], ports, control)
    emulator.say({"id": 0, "pids": {name: holder.pid for name, holder in holders.items()}})
    emulator.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The running node, its log, and the machines it joined."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from cognu import __version__
from cognu.cli.checks.finding import Check, Found, Subject, note, ok, problem
from cognu.errors import CognuError, E, FileError
from cognu.node.proved import VERIFIED
from cognu.node.settings import Home
from cognu.world import TlsKeys

LOG_BYTES = 4 << 20
"""Of the log's end that are read."""
HOUR = 3600 * 10**9
DIAL_SECONDS = 3.0
PEER_SECONDS = 12.0


def _answers(subject: Subject) -> Sequence[Found]:
    if subject.status is not None:
        return ok(f"process {subject.status['pid']} answers, up {uptime(time.time_ns() - subject.status['started'])}")
    error = subject.silent
    assert error is not None
    if error.error is E.NONODE:
        return note(str(error), error.error.hint)
    return problem(str(error), "end it and start it again: cognu down --force; cognu up")


def uptime(nanoseconds: int) -> str:
    """The two largest units, as in `2 d 3 h`."""
    rest = max(0, nanoseconds // 10**9)
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count or parts or unit == "s":
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def _version(subject: Subject) -> Sequence[Found]:
    if subject.status is None:
        return ()
    theirs = str(subject.status["version"])
    if theirs != __version__:
        text = f"the node is {theirs}, this command {__version__}"
        return problem(text, "start the node anew with this version: cognu down; cognu up")
    return ok(theirs)


def kernel(said: str) -> list[Found]:
    """`said` is the verdict of `cognu.node.proved` on the kernel that the node runs."""
    if said.endswith(VERIFIED):
        return ok(said)
    return problem(said, "prove it: cognu verify; or install Cognu anew, and start the node again")


def _kernel(subject: Subject) -> Sequence[Found]:
    return () if subject.status is None else kernel(str(subject.status["kernel"]))


def count_errors(lines: Sequence[str], since: int) -> tuple[int, str]:
    """How many lines of a log tell of an error at `since` (ns since 1970) or later, and the last one's message."""
    count, last = 0, ""
    for line in lines:
        try:
            row = json.loads(line)
            bad = row["level"] in ("error", "critical") and row["time"] >= since
            message = str(row["message"])
        except (ValueError, TypeError, KeyError, RecursionError):
            continue
        if bad:
            count, last = count + 1, message
    return count, last


def _log(subject: Subject) -> Sequence[Found]:
    path = Home(subject.home).log
    try:
        with open(path, "rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - LOG_BYTES))
            lines = log.read(LOG_BYTES).decode("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return ()
    count, last = count_errors(lines, time.time_ns() - HOUR)
    if count:
        return note(f"{count} in the last hour; the last: {last[:200]}", "cognu logs -n 100")
    return ok("none in the last hour")


def dial(address: str) -> float | None:
    """Milliseconds until a node at `HOST:PORT` has answered a TLS hello; None if none did within `DIAL_SECONDS`.

    A connection alone tells nothing: the host makes it for a node that hangs, too.
    """
    from cognu.world.sockets import split_address
    from cognu.world.tls import make_context

    began = time.monotonic()
    try:
        host, port = split_address(address)
        with socket.create_connection((host, port), timeout=DIAL_SECONDS) as plain:
            # Anybody's answer will do: who it is, the node itself finds out when it links up.
            with make_context(TlsKeys("", "", None), server=False).wrap_socket(
                plain, do_handshake_on_connect=False
            ) as tls:
                tls.settimeout(DIAL_SECONDS)
                tls.do_handshake()
            return (time.monotonic() - began) * 1e3
    except (OSError, ValueError, FileError):
        return None


def known_peers(subject: Subject) -> list[dict[str, Any]]:
    """The node's peers; without a node those of peers.json, none of them linked."""
    from cognu.mesh.identity import parse_book
    from cognu.world.real import real_world

    path = f"{subject.home}/peers.json"
    try:
        book = parse_book(real_world().disk.read(path), path) if os.path.lexists(path) else {}
    except CognuError:
        book = {}  # the check of peers.json itself tells
    addresses = {fingerprint: peer.addresses for fingerprint, peer in book.items()}
    if subject.peers is not None:
        return [{**row, "addresses": addresses.get(row["fingerprint"], ())} for row in subject.peers]
    return [
        {"name": peer.name, "connected": False, "rtt": None, "addresses": peer.addresses,
         "granted": list(peer.granted), "received": list(peer.received), "lies": 0,
         "dropped": False}
        for peer in sorted(book.values(), key=lambda peer: peer.name)
    ]  # fmt: skip


def _peers(subject: Subject) -> Sequence[Found]:
    peers = known_peers(subject)
    if not peers:
        return ok("none joined") if os.path.isdir(subject.home) else ()
    addresses = sorted({address for peer in peers if not peer["connected"] for address in peer["addresses"]})
    with ThreadPoolExecutor(max_workers=16) as threads:
        reached = dict(zip(addresses, threads.map(dial, addresses), strict=True))
    return [found for peer in peers for found in told(peer, reached, subject.status is not None)]


def told(peer: dict[str, Any], reached: dict[str, float | None], running: bool) -> Sequence[Found]:
    """What is said of one peer; `reached` has the milliseconds to each address that was dialled."""
    name = peer["name"]
    may = f"it may here: {','.join(peer['granted']) or '-'}; we may there: {','.join(peer['received']) or '-'}"
    if peer["lies"]:
        return problem(f"gave wrong bytes {peer['lies']} times; {may}", f"ask its owner; cognu drop {name} parts", name)
    if peer["dropped"]:
        return problem(f"{E.DROPPED.text}; {may}", f"{E.DROPPED.hint}; or part: cognu drop {name}", name)
    if peer["connected"]:
        rtt = "" if peer["rtt"] is None else f", {peer['rtt'] / 1e6:.1f} ms"
        return ok(f"connected{rtt}; {may}", name)
    times = {address: reached[address] for address in peer["addresses"] if reached.get(address) is not None}
    if times:
        address, milliseconds = min(times.items(), key=lambda item: item[1] or 0.0)
        text = f"away; {address} answers in {milliseconds:.1f} ms; {may}"
        return note(text, f"it links up when used: cognu sh -c 'ls /n/{name}'" if running else "cognu up", name)
    if not peer["addresses"]:
        return note(f"away, and no address of it is known; {may}", "it links up when it starts", name)
    text = f"away; {E.HOSTUNREACH.text}: {', '.join(peer['addresses'])}; {may}"
    return problem(text, f"start it: cognu up there; or part: cognu drop {name}", name)


CHECKS = (
    Check("node", "running", "shells, programs and peers need it", _answers),
    Check("node", "version", "the command and the node are of one version", _version),
    Check("node", "kernel", "what decides on every access is what was proved", _kernel),
    Check("node", "errors", "what the node could not do is in its log", _log),
    Check("peers", "peer", "what it lends is at /n/NAME", _peers, PEER_SECONDS),
)

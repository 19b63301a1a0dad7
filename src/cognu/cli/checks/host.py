"""The host: whether programs run, and what limits, clock, disk and ports allow."""

from __future__ import annotations

import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from cognu import compiled
from cognu.cli.checks.finding import Check, Found, Subject, note, ok, problem
from cognu.cli.probing import COMMAND
from cognu.errors import E, FileError
from cognu.world import MAX_SOCKET_PATH, Helpers
from cognu.world.open_files import within_reach

AREA = "host"
OLDEST_PYTHON = (3, 11)
BROKEN_PYTHON = (3, 14, 0)
"""Aborts on stacks that are not its own, on which every program runs."""
PROBE_SECONDS = 12.0
FEW_GUESTS, TOO_FEW_GUESTS = 512, 16
FEW_FILES, TOO_FEW_FILES = 1024, 256
LITTLE_DISK, TOO_LITTLE_DISK = 1 << 30, 64 << 20
FIRST_YEAR, LAST_YEAR = 2025, 2100
"""A clock outside of these was never set; tickets and certificates go by it."""


def python(version: tuple[int, int, int]) -> Sequence[Found]:
    text = ".".join(map(str, version))
    if version[:2] < OLDEST_PYTHON or version == BROKEN_PYTHON:
        return problem(text, "use Python 3.11 or newer, but not 3.14.0")
    return ok(text)


def code(state: compiled.State) -> Sequence[Found]:
    """Whether what was compiled is in use; that nothing was is well too."""
    if state.amiss:
        return note(state.said, "compile it anew (scripts/compile), install Cognu anew, or remove cognu/_compiled")
    return ok(state.said)


def programs(subject: Subject) -> Sequence[Found]:
    """In a child, because what is probed may crash."""
    from cognu.runtime.probe import diagnose

    try:
        ended = subprocess.run(
            COMMAND, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, timeout=PROBE_SECONDS - 2, check=False, cwd="/",
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return problem("the probe did not end", "something slows this host down; ask again")
    output = ended.stdout.decode("utf-8", "replace")
    error = diagnose(ended.returncode, output)
    if error is not None:
        remedy = "use what Wasmtime supports: Linux or macOS, x86-64 or arm64, CPython 3.11 to 3.13"
        return problem(str(error), remedy)
    return ok((output.splitlines() or [""])[0])


def room(guests: int, reserved: bool, pooled: bool) -> Sequence[Found]:
    """`guests` programs can run at once; `reserved` whether each gets its 4 GiB of addresses, `pooled` all at once."""
    text = f"room for {guests} programs at once"
    if guests < TOO_FEW_GUESTS:
        return problem(text, "raise the limits: sysctl vm.max_map_count=65530; ulimit -v unlimited")
    if guests < FEW_GUESTS:
        return note(text, "for more: sysctl vm.max_map_count=262144; ulimit -v unlimited")
    if not reserved:
        return note(f"{text}, each slower: addresses are limited", "lift the limit: ulimit -v unlimited")
    if not pooled:
        return note(f"{text}, each starts slower: addresses count as memory", "sysctl vm.overcommit_memory=0")
    return ok(text)


def _room(subject: Subject) -> Sequence[Found]:
    from cognu.runtime import host

    settings = host.settings(host.measure())
    return room(settings.max_guests, settings.memory_reservation >= 1 << 32, settings.pooled)


def open_files(soft: int) -> Sequence[Found]:
    """`soft` is RLIMIT_NOFILE's soft limit (getrlimit(2)); below 0 it is none."""
    if soft < 0 or soft == resource.RLIM_INFINITY:
        return ok("no limit")
    if soft < TOO_FEW_FILES:
        return problem(f"{soft}", f"ulimit -n {FEW_FILES * 4} before cognu up")
    if soft < FEW_FILES:
        return note(f"{soft}", f"for many files at once: ulimit -n {FEW_FILES * 4} before cognu up")
    return ok(f"{soft}")


def clock(now: int, monotonic: int, boot: int | None) -> Sequence[Found]:
    """All in nanoseconds: since 1970, of CLOCK_MONOTONIC and of CLOCK_BOOTTIME, None where there is none."""
    year = 1970 + now // (365 * 86400 * 10**9 + 86400 * 10**9 // 4)
    if not FIRST_YEAR <= year < LAST_YEAR:
        return problem(f"the year is {year}", "set the clock, or let the system keep it (NTP)")
    text = datetime.fromtimestamp(now / 1e9, UTC).strftime("%Y-%m-%d %H:%M UTC")
    if boot is None:
        return ok(text)
    if boot < monotonic - 10**9:
        return problem(f"{text}; the time since the start of the system runs backwards", "restart the system")
    asleep = (boot - monotonic) // 10**9
    if asleep > 1:
        return note(f"{text}; this machine was asleep for {asleep} s since its start")
    return ok(text)


def _clock(subject: Subject) -> Sequence[Found]:
    boot = time.clock_gettime_ns(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else None
    return clock(time.time_ns(), time.clock_gettime_ns(time.CLOCK_MONOTONIC), boot)


def fuse(device: bool, helper: bool) -> Sequence[Found]:
    missing = [name for name, there in (("/dev/fuse", device), ("fusermount3", helper)) if not there]
    if missing:
        return note(f"without {' and '.join(missing)}", "only for mounting Cognu's files on the host: install fuse3")
    return ok("/dev/fuse and fusermount3")


def disk(free: int) -> Sequence[Found]:
    text = f"{free >> 20} MiB free"
    if free < TOO_LITTLE_DISK:
        return problem(text, "make room on the disk of the home")
    if free < LITTLE_DISK:
        return note(text, "make room before you store much")
    return ok(text)


def existing(path: str) -> str:
    """The path itself or the nearest directory above it that is there."""
    while not os.path.isdir(path) and path != os.path.dirname(path):
        path = os.path.dirname(path)
    return path


def _disk(subject: Subject) -> Sequence[Found]:
    return disk(shutil.disk_usage(existing(subject.home)).free)


def _writing(subject: Subject) -> Sequence[Found]:
    """A file without a name, where the host has such, else one that is gone at once."""
    where = existing(subject.home)
    began = time.monotonic()
    with tempfile.TemporaryFile(dir=where) as file:
        file.write(b"cognu doctor\n")
        file.flush()
        os.fsync(file.fileno())
    return ok(f"{where} takes a synced write in {(time.monotonic() - began) * 1e3:.1f} ms")


def socket_path(path: str) -> Sequence[Found]:
    size = len(path.encode("utf-8", "surrogateescape"))
    if size > MAX_SOCKET_PATH:
        most = MAX_SOCKET_PATH - 10
        return problem(f"{size} bytes: {path}", f"choose a home of at most {most} bytes: COGNU_HOME, --home")
    return ok(f"{size} of {MAX_SOCKET_PATH} bytes")


def _socket(subject: Subject) -> Sequence[Found]:
    return socket_path(f"{subject.home}/node.sock")


def _port(subject: Subject) -> Sequence[Found]:
    from cognu.node.settings import Home, load_settings
    from cognu.world.real import real_world
    from cognu.world.sockets import split_address

    home, disk = Home(subject.home), real_world().disk
    running = subject.status
    address = str(running["listen"]) if running else load_settings(disk, home, "node").listen
    try:
        host, port = split_address(address)
        if port == 0 and disk.exists(home.port):
            port = int(disk.read(home.port).decode("ascii", "replace").strip())
    except (FileError, ValueError):
        return problem(f"no address: {address}", "cognu up --listen HOST:PORT sets it")
    if running is not None:
        near = {"*": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)
        with socket.create_connection((near, port), timeout=2):
            return ok(f"links come in at {address}{', by IPv4 and IPv6' if host == '*' else ''}")
    if port == 0:
        return ok("any port; none was used yet")
    if subject.silent is not None and subject.silent.error is not E.NONODE:
        return ()  # a node has this home, and so its port; that it does not answer is said elsewhere
    return free_port(host, port)


def free_port(host: str, port: int) -> Sequence[Found]:
    """Whether a node could listen there. Nothing is listened to: the socket is only bound, for a moment."""
    from cognu.world.families import is_lacking

    for each in ("0.0.0.0", "::") if host == "*" else (host,):
        try:
            with socket.socket(socket.AF_INET6 if ":" in each else socket.AF_INET) as taken:
                taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if host == "*" and ":" in each:
                    taken.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                taken.bind((each, port))
        except OSError as error:
            if host == "*" and is_lacking(error):
                continue
            return problem(f"port {port} of {each or 'this machine'} can't be had: {error.strerror}",
                           "stop what listens there, or choose another: cognu up --listen HOST:PORT")  # fmt: skip
    return ok(f"port {port} is free")


def _limits(subject: Subject) -> Sequence[Found]:
    return open_files(within_reach(*resource.getrlimit(resource.RLIMIT_NOFILE)))  # a node raises its own


def _address_space(subject: Subject) -> Sequence[Found]:
    return address_space(resource.getrlimit(resource.RLIMIT_AS)[0])


def address_space(soft: int) -> Sequence[Found]:
    """`soft` is RLIMIT_AS's soft limit, in bytes (getrlimit(2))."""
    if soft < 0 or soft == resource.RLIM_INFINITY:
        return ok("no limit")
    if soft < 4 << 30:
        return problem(f"{soft >> 20} MiB", "ulimit -v unlimited before cognu up")
    return note(f"{soft >> 20} MiB", "programs are slower so; ulimit -v unlimited before cognu up")


def isolation(lacking: Sequence[tuple[str, str]], wanted: bool) -> Sequence[Found]:
    """`lacking`: what is missing and what to do; `wanted`: every program is to be isolated."""
    if not lacking:
        return ok("Landlock and seccomp")
    return [
        (problem(what, remedy) if wanted else note(f"{what}, so run --isolate is refused", remedy))[0]
        for what, remedy in lacking
    ]


def _isolation(subject: Subject) -> Sequence[Found]:
    from cognu.node.settings import Home, load_settings
    from cognu.world import wall
    from cognu.world.real import real_world

    settings = load_settings(real_world().disk, Home(subject.home), "node")
    return isolation(wall.missing(), settings.isolate == "all")


def desktop(helpers: Helpers) -> Sequence[Found]:
    """What /dev/snarf and /dev/notify are."""
    kept = f"snarf: {helpers.copy[0]}" if helpers.copy else "snarf: the node's own, in memory"
    told = f"notify: {helpers.notify[0]}" if helpers.notify else "notify: the node's log"
    return ok(f"{kept}; {told}")


def _desktop(subject: Subject) -> Sequence[Found]:
    from cognu.world.real import real_world

    return desktop(real_world().helpers)


CHECKS = (
    Check(AREA, "python", "the node and its programs run in it", lambda _: python(sys.version_info[:3])),
    Check(AREA, "code", "what is compiled of it does the same, faster", lambda _: code(compiled.STATE)),
    Check(AREA, "programs", "run starts a program on a stack of its own", programs, PROBE_SECONDS),
    Check(AREA, "isolation", "run --isolate puts a program behind a second wall", _isolation),
    Check(AREA, "room", "each program takes memory mappings (vm.max_map_count) and addresses", _room),
    Check(AREA, "addresses", "each program's memory reserves 4 GiB of addresses", _address_space),
    Check(AREA, "files", "the node holds one of the host's files for each open one of its own", _limits),
    Check(AREA, "clock", "tickets end after ten minutes, by the clocks of both machines", _clock),
    Check(AREA, "fuse", "the host's own programs could see the namespace", lambda _: fuse(
        os.access("/dev/fuse", os.R_OK | os.W_OK), shutil.which("fusermount3") is not None)),
    Check(AREA, "desktop", "/dev/snarf is the clipboard, /dev/notify tells a person", _desktop),
    Check(AREA, "disk", "the store, and compiled programs, are kept in the home", _disk),
    Check(AREA, "writing", "what the node acknowledges is on the disk", _writing),
    Check(AREA, "socket", "shells reach the node by a Unix socket, whose path can't be long", _socket),
    Check(AREA, "port", "other machines' links come in there", _port),
)  # fmt: skip

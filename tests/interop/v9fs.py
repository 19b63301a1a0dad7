"""A machine in QEMU that is nothing but Linux's 9P client: its kernel, the modules it needs, and one program of ours.

scripts/peers lays out what comes from Debian: a kernel's package, unpacked and not installed, and BusyBox. The rest
is made here: the first file system (cpio's newc format: the kernel's Documentation/driver-api/early-userspace), with
the program that `programs/v9fs` has in C.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import lzma
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

HERE = Path(__file__).parent
CACHE = HERE.parent.parent / ".cache"
LINUX = CACHE / "interop/linux"
"""The unpacked packages."""
WANTED = ("virtio_pci", "virtio_net", "9pnet_fd", "9p")
"""Modules, besides those that they depend on."""
FLAGS = ("cc", "-target", "x86_64-linux-musl", "-static", "-O1", "-s")
QEMU = (
    "qemu-system-x86_64", "-accel", "tcg", "-m", "512", "-display", "none", "-monitor", "none", "-serial", "stdio",
    "-no-reboot", "-nodefaults", "-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile=",
)  # fmt: skip
"""Emulation: the same everywhere, whether or not the host has KVM."""


# -- the first file system --------------------------------------------------------------------------------------------


def archive(entries: Iterable[tuple[str, int, bytes]]) -> bytes:
    """A newc archive of (path, mode with the kind of file, contents)."""
    parts: list[bytes] = []
    for inode, (name, mode, data) in enumerate([*entries, ("TRAILER!!!", 0, b"")], 1):
        raw = name.encode() + b"\0"
        fields = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(raw), 0)
        head = b"070701" + b"".join(b"%08X" % field for field in fields) + raw
        parts += [head, bytes(-len(head) % 4), data, bytes(-len(data) % 4)]
    return b"".join(parts)


def modules(tree: Path) -> list[tuple[str, bytes]]:
    """What `WANTED` takes, each after what it depends on, as the modules themselves say it."""
    found = {path.name.split(".")[0].replace("-", "_"): path for path in tree.rglob("*.ko*")}
    loaded: dict[str, bytes] = {}

    def load(name: str) -> None:
        if name in loaded or name not in found:  # what is no module is in the kernel
            return
        data = found[name].read_bytes()
        if found[name].suffix == ".xz":
            data = lzma.decompress(data)
        said = re.search(rb"\0depends=([\w,-]*)\0", data)
        for before in said[1].decode().replace("-", "_").split(",") if said else ():
            load(before)
        loaded[name] = data

    for name in WANTED:
        load(name)
    return list(loaded.items())


def first_files(program: bytes) -> bytes:
    directories = [(name, 0o040755, b"") for name in ("bin", "modules")]
    busybox = (LINUX / "bin/busybox").read_bytes()
    files = [("init", 0o100755, program), ("bin/busybox", 0o100755, busybox)]
    tree = LINUX / "lib/modules"
    files += [(f"modules/{at:02}-{name}.ko", 0o100644, data) for at, (name, data) in enumerate(modules(tree))]
    return archive(directories + files)


def compiled() -> bytes:
    """The program of `programs/v9fs`, compiled once."""
    sources = sorted((HERE / "programs/v9fs").iterdir())
    key = hashlib.sha256(repr(FLAGS).encode() + b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    made = CACHE / f"programs/v9fs-{key}"
    if not made.exists():
        made.parent.mkdir(parents=True, exist_ok=True)
        part = made.with_suffix(f".{os.getpid()}")
        kept = str(CACHE / "zig")
        done = subprocess.run(
            [sys.executable, "-m", "ziglang", *FLAGS, "-o", part, *(path for path in sources if path.suffix == ".c")],
            env={**os.environ, "ZIG_GLOBAL_CACHE_DIR": kept, "ZIG_LOCAL_CACHE_DIR": kept},
            capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(done.stderr)
        part.rename(made)
    return made.read_bytes()


# -- the machine ------------------------------------------------------------------------------------------------------


async def run(work: Path, environment: Mapping[str, str], seconds: float) -> str:
    """What the machine writes until it switches itself off. Raises `TimeoutError`, with that in its notes."""
    (kernel,) = (LINUX / "boot").glob("vmlinuz-*")
    files = work / "initrd"
    files.write_bytes(first_files(compiled()))
    words = " ".join(f"{name}={value}" for name, value in environment.items())
    machine = await asyncio.create_subprocess_exec(
        *QEMU, "-kernel", str(kernel), "-initrd", str(files), "-append", f"console=ttyS0 quiet panic=-1 {words}",
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said: list[str] = []
    assert machine.stdout is not None
    try:
        async with asyncio.timeout(seconds):
            async for line in machine.stdout:
                said.append(line.decode(errors="replace").rstrip("\r\n"))
            await machine.wait()
    except TimeoutError as error:
        error.add_note("\n".join(said))
        raise
    finally:
        with contextlib.suppress(ProcessLookupError):
            machine.kill()
        await machine.wait()
    return "\n".join(said)


def results(text: str) -> dict[str, dict[str, str]]:
    """By mount and check: `ok`, or what did not hold."""
    found: dict[str, dict[str, str]] = {}
    for mount, check, what in re.findall(r"^RESULT (\S+) (\S+) (.+)$", text, re.M):
        found.setdefault(mount, {}).setdefault(check, what)
    return found

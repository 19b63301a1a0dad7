"""A client that has one directory of the host by 9P, and tries every operation by every name that might lead out."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cognu.devices.host import HostServer
from cognu.files.attach import attach_own
from cognu.files.authority import Authority
from cognu.files.chan import Domain
from cognu.files.namespace import Namespace
from cognu.files.process import Process, ProcessTable
from cognu.files.steps import finish
from cognu.ninep import messages as m
from cognu.ninep.codec import encode
from cognu.ninep.messages import Dialect, Message, WireStat
from cognu.ninep.types import DMDIR, ORDWR, OREAD, Qid
from cognu.world.host_tree import RealHostTree
from cognu.world.real import real_world
from joined import Raw
from serving import Somebody

NAMES = [
    "..", ".", "", "/", "../secret", "/etc/passwd", "out/secret", "away/passwd", "d/../../secret", "a\0b", "..\0",
    "../", "./..", "x" * 256, "é" * 128,
]  # fmt: skip
ROOT, FILE, DIRECTORY, NEW = 0, 1, 2, 3

MOST = (1 << 32) - 1
STAT = WireStat(0xFFFF, MOST, Qid(0xFF, MOST, (1 << 64) - 1), MOST, MOST, MOST, (1 << 64) - 1, "", "", "", "")
"""Changes nothing (stat(5))."""

Make = Callable[[str], Message]
BY_NAME: dict[Dialect, dict[str, Make]] = {
    Dialect.L: {
        "walk": lambda name: m.Twalk(ROOT, NEW, (name, "secret")),
        "walk on": lambda name: m.Twalk(DIRECTORY, NEW, (name, name, "secret")),
        "create": lambda name: m.Tlcreate(DIRECTORY, name, 0o102, 0o666, 0),
        "mkdir": lambda name: m.Tmkdir(ROOT, name, 0o777, 0),
        "symlink": lambda name: m.Tsymlink(ROOT, name, "/etc", 0),
        "link": lambda name: m.Tlink(ROOT, FILE, name),
        "mknod": lambda name: m.Tmknod(ROOT, name, 0o10666, 0, 0, 0),
        "rename": lambda name: m.Trename(FILE, ROOT, name),
        "rename from": lambda name: m.Trenameat(ROOT, name, DIRECTORY, "stolen"),
        "rename to": lambda name: m.Trenameat(DIRECTORY, "f", ROOT, name),
        "unlink": lambda name: m.Tunlinkat(ROOT, name, 0),
        "rmdir": lambda name: m.Tunlinkat(ROOT, name, 0x200),
    },
    Dialect.U: {
        "walk": lambda name: m.Twalk(ROOT, NEW, (name, "secret")),
        "create": lambda name: m.Tcreate(DIRECTORY, name, 0o666, ORDWR),
        "mkdir": lambda name: m.Tcreate(DIRECTORY, name, DMDIR | 0o777, OREAD),
        "rename": lambda name: m.Twstat(FILE, STAT._replace(name=name)),
    },
}
BY_NAME[Dialect.NG] = BY_NAME[Dialect.L]
BY_NAME[Dialect.LEGACY] = BY_NAME[Dialect.U]


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory with a secret, and the one that is exported in it."""
    (tmp_path / "in" / "d").mkdir(parents=True)
    (tmp_path / "in" / "d" / "f").write_bytes(b"file")
    (tmp_path / "in" / "out").symlink_to("..")
    (tmp_path / "in" / "away").symlink_to("/etc")
    (tmp_path / "secret").write_bytes(b"secret")
    return tmp_path


async def exporting(outside: Path) -> Process:
    domain = Domain(Authority())
    server = HostServer(real_world(), RealHostTree(str(outside / "in")))
    root = await finish(attach_own(server, domain, Somebody()))
    return ProcessTable(lambda: 0).add("glenda", Namespace(domain, root), root.share())


def everything(top: Path) -> list[tuple[str, int]]:
    found = []
    for at, directories, files in os.walk(top):
        for name in (*directories, *files):
            path = os.path.join(at, name)
            found.append((path, os.lstat(path).st_nlink if name in files else 0))
    return sorted(found)


async def answer(raw: Raw, make: Make, name: str) -> Message:
    """To a message with that name in it, whatever the codec would say of the name."""
    size = len(name.encode())
    placed = "Q" * size
    wire = b"".join(bytes(part) for part in encode(make(placed), 9, raw.dialect))
    string = size.to_bytes(2, "little")
    raw.here.other.arrived += wire.replace(string + placed.encode(), string + name.encode()) if size else wire
    raw.here._wake()
    [(_, said)] = await raw.answers(1)
    return said


def refused(said: Message) -> bool:
    return isinstance(said, m.Rlerror | m.Rerror | m.Rngerror)


@pytest.mark.parametrize("dialect", BY_NAME, ids=lambda dialect: dialect.value)
async def test_no_operation_by_any_name_leads_out_of_the_tree_that_is_exported(outside: Path, dialect: Dialect) -> None:
    before = everything(outside)
    raw = await Raw.over(await exporting(outside), dialect)
    raw.send((m.Twalk(ROOT, FILE, ("d", "f")), 1), (m.Twalk(ROOT, DIRECTORY, ("d",)), 2))
    assert not any(refused(said) for _, said in await raw.answers(2))
    for operation, make in BY_NAME[dialect].items():
        for name in NAMES:
            said = await answer(raw, make, name)
            if operation.startswith("walk") and isinstance(said, m.Rwalk):
                # A part of the way: the links themselves, or the root again. NEW is none then.
                raw.send((m.Tclunk(NEW), 1))
                assert refused((await raw.answers(1))[0][1]), (operation, name)
            elif name or not isinstance(said, m.Rwstat):  # no name is no change
                assert refused(said), (operation, name, said)
    await raw.close()
    assert everything(outside) == before
    assert (outside / "secret").read_bytes() == b"secret"


@pytest.mark.parametrize("dialect", [Dialect.L, Dialect.NG], ids=lambda dialect: dialect.value)
async def test_a_link_that_a_client_made_is_read_and_never_followed(outside: Path, dialect: Dialect) -> None:
    raw = await Raw.over(await exporting(outside), dialect)

    async def fails(message: m.Request) -> bool:
        raw.send((message, 1))
        return refused((await raw.answers(1))[0][1])

    for target in ("../secret", str(outside / "secret"), "/proc/self/root/etc/passwd"):
        assert not await fails(m.Tsymlink(ROOT, "esc", target, 0))
        assert not await fails(m.Twalk(ROOT, NEW, ("esc",)))
        linked = not await fails(m.Tlink(ROOT, NEW, "twin"))  # the link itself has two names, or one
        assert not await fails(m.Tclunk(NEW))
        for name in ("esc", "twin") if linked else ("esc",):
            assert not await fails(m.Twalk(ROOT, NEW, (name,)))
            assert await fails(m.Tlopen(NEW, 2))
            assert not await fails(m.Tclunk(NEW))
            assert not await fails(m.Tunlinkat(ROOT, name, 0))
    await raw.close()
    assert (outside / "secret").read_bytes() == b"secret"
    assert os.lstat(outside / "secret").st_nlink == 1

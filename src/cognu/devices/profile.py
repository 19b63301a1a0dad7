"""`#P`: what this machine is, seen as `/dev/profile`: a line for each attribute, `NAME=VALUE`.

Values are quoted as in namespace(5) if they have blanks. Each open file is as the machine was then.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cognu.files.nstext import quote
from cognu.files.server import Caller
from cognu.files.tree import Directory, Node, TreeFid, TreeServer
from cognu.world import Machine, Profile, Threads


class ProfileFile(Node):
    def __init__(self, machine: Machine, threads: Threads, name: str, labels: Sequence[str]) -> None:
        super().__init__("profile", 0o444)
        self._machine = machine
        self._threads = threads
        self._name = name
        self._labels = tuple(labels)

    async def open(self, fid: TreeFid, mode: int, caller: Caller) -> None:
        profile = await self._threads.run(self._machine.profile)
        fid.state = profile_text(profile, self._name, self._labels).encode()

    def read(self, fid: TreeFid, offset: int, count: int) -> bytes:
        assert isinstance(fid.state, bytes)
        return fid.state[offset : offset + count]


def profile_text(profile: Profile, name: str, labels: Sequence[str]) -> str:
    """What the host does not say has no line, and nothing has two. `labels` are NAME=VALUE."""
    pairs = [(attribute, " ".join(value.split())) for attribute, value in _attributes(profile, name, labels)]
    return "".join(f"{attribute}={quote(value)}\n" for attribute, value in pairs if value)


def _attributes(profile: Profile, name: str, labels: Sequence[str]) -> Iterator[tuple[str, str]]:
    yield "name", name
    yield "architecture", profile.architecture
    yield "system", profile.system
    yield "release", profile.release
    yield "cores", str(profile.cores)
    yield "memory", str(profile.memory or "")
    yield "free", str(profile.free or "")
    for sensor in profile.sensors:
        yield "sensor", sensor
    for screen in profile.screens:
        yield "screen", screen
    for label in labels:
        key, _, value = label.partition("=")
        yield f"label.{key}", value


def profile_server(machine: Machine, threads: Threads, name: str, labels: Sequence[str] = ()) -> TreeServer:
    """`name` is what this machine calls itself."""
    return TreeServer("#P", Directory("", [ProfileFile(machine, threads, name, labels)]))

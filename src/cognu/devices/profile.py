"""`#P`: what this machine is: a directory, seen as `/dev/profile`, with a file for each thing that is known.

A file has a line for each value. What the host does not tell is an empty file. Each open file is as the machine was
then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from cognu.files.server import Caller
from cognu.files.tree import Directory, Node, TreeFid, TreeServer
from cognu.world import Machine, Profile, Threads

ATTRIBUTES: Final[dict[str, Callable[[Profile], Iterable[object]]]] = {
    "architecture": lambda profile: [profile.architecture],
    "system": lambda profile: [profile.system],
    "release": lambda profile: [profile.release],
    "distribution": lambda profile: [profile.distribution],
    "cores": lambda profile: [profile.cores],
    "memory": lambda profile: [profile.memory or ""],
    "free": lambda profile: [profile.free or ""],
    "sensors": lambda profile: profile.sensors,
    "screens": lambda profile: profile.screens,
    "batteries": lambda profile: profile.batteries,
    "charger": lambda profile: [profile.charger],
    "runs": lambda profile: ["wasm", "isolated" if profile.isolates else ""],
}
"""By the name of its file, what the host says of it."""


class AttributeFile(Node):
    """`values` may look at the host, so they are asked for in a thread."""

    def __init__(self, name: str, threads: Threads, values: Callable[[], Iterable[object]]) -> None:
        super().__init__(name, 0o444)
        self._threads = threads
        self._values = values

    async def open(self, fid: TreeFid, mode: int, caller: Caller) -> None:
        fid.state = lines(await self._threads.run(self._values)).encode()

    def read(self, fid: TreeFid, offset: int, count: int) -> bytes:
        assert isinstance(fid.state, bytes)
        return fid.state[offset : offset + count]


def lines(values: Iterable[object]) -> str:
    """A line for each value that is not empty. Devices name themselves: what steers a terminal becomes a `?`."""
    texts = [" ".join(str(value).split()) for value in values]
    return "".join("".join(char if char.isprintable() else "?" for char in text) + "\n" for text in texts if text)


def profile_server(
    machine: Machine, threads: Threads, name: str, labels: Callable[[], Sequence[str]] = tuple
) -> TreeServer:
    """`name` is what this machine calls itself; `labels` are its own now, `mesh.labels`."""

    def file(attribute: str, get: Callable[[Profile], Iterable[object]]) -> Node:
        return AttributeFile(attribute, threads, lambda: get(machine.profile()))

    known = [file(attribute, get) for attribute, get in ATTRIBUTES.items()]
    said = [AttributeFile("name", threads, lambda: [name]), AttributeFile("labels", threads, labels)]
    return TreeServer("#P", Directory("", [Directory("profile", [*said, *known])]))

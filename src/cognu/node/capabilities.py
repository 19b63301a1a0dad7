"""Who holds what: the kernel's capabilities as rows, with what people call their holders and what they are used for.

Only reads. A row is what JSON can say: `slot` (0 is none), `parent` (the slot it was minted from), `endpoint`, `server`
(the device it leads to), `holder` {kind, name, pid, program}, `node` (the machine it is held for, or its files are on),
`rights` (letters out of `SGrwxc`, empty for a tombstone), `badge`, and `uses`: where it is used in the holder's
namespace, and for which file of the server.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from cognu.files.authority import letters_of
from cognu.files.chan import Chan
from cognu.files.limits import Quota
from cognu.files.process import Process
from cognu.kernel import NODE, Cap
from cognu.kernel.state import LIVE
from cognu.node.node import Node

UNDER = "under "
"""Before the path of a mount point: what is there without the mount."""
PEER = "peer "
"""How the quota of a peer begins its name."""


class Holder(NamedTuple):
    """`kind` is node, process, program, peer (what one is lent), grant (what a peer was granted) or domain.

    A program's `name` is whatever it was started by; what it is says `program`, its hash.
    """

    kind: str
    name: str
    pid: int = 0
    node: str = ""
    program: str = ""


class Use(NamedTuple):
    """`place` is a path, `under` and a path, `#x` for a device that may be attached, `interface`, `cwd`, `fd N`.

    `origin` is the file there.
    """

    place: str
    origin: str


class View:
    """What is known beside the kernel's tables at one moment: who the domains are, and what is used under what."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.kernel = node.authority.kernel
        self.holders: dict[int, Holder] = {NODE: Holder("node", node.settings.name)}
        self.uses: dict[tuple[int, Cap], list[Use]] = {}
        for process in node.processes:
            self._process(process)
        self._interfaces()
        for peer, text, chan in node.exports.held():
            self.holders.setdefault(chan.domain.pid, Holder("grant", f"{text} of {self._peer(peer)}"))
            self._use(chan, str(chan.path))
        for handed in node.tokens.all():
            name = f"token:{handed.number} of {self._peer(handed.peer)}"
            self.holders.setdefault(handed.chan.domain.pid, Holder("grant", name))
            self._use(handed.chan, handed.path)

    def _peer(self, fingerprint: str) -> str:
        known = self.node.book.get(fingerprint)
        return known.name if known is not None else fingerprint

    def _interfaces(self) -> None:
        """What may be sent by the name of an interface."""
        slots, names = self.kernel.slots, self.node.authority.post.names()
        for slot, number in list(slots.interface.items()):
            name = names[number].hex()
            self._note(slots.holder[slot], Cap(slot, slots.generation[slot]), Use("interface", name))

    def _process(self, process: Process) -> None:
        namespace = process.namespace
        holder = holder_of(process)
        for chan, _ in chans_of(process):
            # A new process borrows its maker's namespace; the maker came first.
            self.holders.setdefault(chan.domain.pid, holder)
        for letter, device in namespace.devices.items():
            self._note(device.domain.pid, device.cap, Use(f"#{letter}", f"#{letter}"))
        for chan, place in chans_of(process):
            self._use(chan, place)

    def _use(self, chan: Chan, place: str) -> None:
        self._note(chan.domain.pid, chan.cap, Use(place, str(chan.origin)))

    def _note(self, pid: int, cap: Cap, use: Use) -> None:
        uses = self.uses.setdefault((pid, cap), [])
        if use not in uses:
            uses.append(use)

    # -- rows -----------------------------------------------------------------------------------------------------

    def rows(self) -> list[dict[str, Any]]:
        slots = self.kernel.slots
        return [self.row(slot) for slot in range(1, self.kernel.last_slot + 1) if slots.endpoint[slot]]

    def row(self, slot: int) -> dict[str, Any]:
        slots = self.kernel.slots
        holder = self.holder(slot)
        uses = self.uses.get((slots.holder[slot], Cap(slot, slots.generation[slot])), [])
        return {
            "slot": slot,
            "parent": slots.parent[slot],
            "endpoint": slots.endpoint[slot],
            "server": self.server(slot),
            "holder": {"kind": holder.kind, "name": holder.name, "pid": holder.pid, "program": holder.program},
            "node": holder.node,
            "rights": letters_of(slots.rights[slot] & ~LIVE),
            "live": bool(slots.rights[slot] & LIVE),
            "badge": slots.badge[slot],
            "uses": [use._asdict() for use in uses],
        }

    def holder(self, slot: int) -> Holder:
        """A domain that is nobody's any more is named by whom it has the capability from."""
        pids = [self.kernel.slots.holder[each] for each in self.ancestry(slot)]
        known = next((self.holders[pid] for pid in pids if pid in self.holders), None)
        if pids[0] in self.holders or known is None:
            return self.holders.get(pids[0]) or Holder("domain", str(pids[0]))
        return Holder("domain", f"{pids[0]} of {known.kind} {known.name}", 0, known.node)

    def server(self, slot: int) -> str:
        return self.node.authority.server_name(self.kernel.slots.endpoint[slot])

    def ancestry(self, slot: int) -> list[int]:
        """The capability, what it was minted from, and so on up to the one its server was made with."""
        found = []
        while slot:
            found.append(slot)
            slot = self.kernel.slots.parent[slot]
        return found


def holder_of(process: Process) -> Holder:
    """By how it came to be, whatever name it was given: what /proc started is a program, or a shell on or for a peer.

    All others the node itself made, and named. Those of a peer are held for that peer.
    """
    name = (process.args[0] if process.args else process.program).rstrip("/").rpartition("/")[2] or "-"
    node = peer_of(process) or process.node
    if process.program and not process.launch.is_shell:
        return Holder("program", name, process.pid, node, process.score)
    if not process.program and process.args[:1] == ["peer"]:
        return Holder("peer", process.args[1], process.pid, node)
    return Holder("process", name, process.pid, node)


def peer_of(process: Process) -> str:
    """The peer that a process was made for, or whoever made it; empty if for this node's users."""
    at: Quota | None = process.quota
    while at is not None:
        if at.name.startswith(PEER):
            return at.name.removeprefix(PEER)
        at = at.parent
    return ""


def chans_of(process: Process) -> Iterator[tuple[Chan, str]]:
    """Every chan that a process has, and where."""
    namespace = process.namespace
    yield namespace.root, "/"
    for head in namespace.heads.values():
        yield head.place, f"{UNDER}{head.place.path}"
        for member in head.members:
            yield member.chan, str(head.place.path)
    if not process.cwd.closed:
        yield process.cwd, "cwd"
    for number in process.descriptors:
        yield process.descriptors[number], f"fd {number}"

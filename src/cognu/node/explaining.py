"""Why a process may use a path or not, step by step: the walk, the capability at its end, where that came from.

The walk is the process's own, under its capabilities; nothing is opened. Of a file on a peer the capability here says
little: the peer is asked what it grants this machine now.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from cognu.devices.root import SkeletonServer
from cognu.errors import E, FileError, visible
from cognu.files.authority import letters_of
from cognu.files.chan import Chan, Origin
from cognu.files.namespace import split_path
from cognu.files.nstext import SERVED
from cognu.files.process import Process, State
from cognu.files.services import NETWORK
from cognu.files.steps import Steps, finish
from cognu.files.wants import is_within
from cognu.kernel import CREATE, EXECUTE, READ, WRITE
from cognu.kernel.state import LIVE
from cognu.node.capabilities import Holder, View, holder_of
from cognu.node.grants import PeerGrant, grant_of, parse_grant
from cognu.node.node import Node
from cognu.node.telling import refresh_one

WANTED = {"r": READ, "w": WRITE, "x": EXECUTE, "c": CREATE}


async def explain(node: Node, pid: int, path: str, rights: str) -> dict[str, Any]:
    """`steps` in words, whether it is `granted`, and the `remedy` if not. Raises SRCH, USAGE."""
    if not rights or set(rights) - set(WANTED):
        raise FileError(E.USAGE, rights or "''", f"letters out of {''.join(WANTED)}")
    process = node.processes[pid]
    if process.state is State.DEAD:
        raise FileError(E.SRCH, f"pid {pid}")
    case = _Case(View(node), process, path)
    if path and not path.startswith(("/", "#")):
        case.begin_at_its_directory()
    wanted = sum(WANTED[letter] for letter in set(rights))
    granted = await finish(case.judge(wanted)) and await _granted_afar(node, case, wanted)
    return {
        "pid": pid, "path": path, "rights": rights, "steps": case.steps, "granted": granted,
        "remedy": visible(case.remedy),
    }  # fmt: skip


def who(holder: Holder) -> str:
    """A holder in words."""
    pid = f" {holder.pid}" if holder.pid else ""
    where = f" for {holder.node}" if holder.node else ""
    return f"{holder.kind}{pid} {holder.name}{where}"


async def _granted_afar(node: Node, case: _Case, wanted: int) -> bool:
    """Whether what has the last word, if that is not this machine, lets it too, as far as that is known."""
    origin = case.origin
    if origin is None or not origin.spec.startswith((SERVED, NETWORK)):
        return True
    peer = next((peer for peer in node.book.all() if origin.spec == NETWORK and origin.names[:1] == (peer.name,)), None)
    if peer is None:
        case.say(f"so far this machine knows; what serves {origin.spec} may refuse more")
        return True
    answered = await refresh_one(node, peer)
    known = node.book.get(peer.fingerprint) or peer
    case.say(f"{peer.name} {'says' if answered else 'does not answer, and said last,'} what it grants this machine: "
             f"{', '.join(known.received) or 'nothing'}")  # fmt: skip
    return case.judge_afar(peer.name, node.settings.name, known.received, wanted)


def _nearest(received: Sequence[str], path: str) -> PeerGrant | None:
    """The grant that a peer's file is used under: the deepest, and of several of one tree the last."""
    found: PeerGrant | None = None
    for text in received:
        try:
            grant = parse_grant(text)
        except FileError:
            continue  # of a later version; it covers nothing that is known here
        if is_within(path, grant.place) and (found is None or len(grant.place) >= len(found.place)):
            found = grant
    return found


def _below(path: str, tree: str) -> list[str]:
    """The names that lead from a tree to a path in it."""
    return [name for name in path[len(tree.rstrip("/")) :].split("/") if name]


class _Case:
    def __init__(self, view: View, process: Process, path: str) -> None:
        self.view = view
        self.process = process
        self.path = path
        self.steps: list[str] = []
        self.remedy = ""
        self.origin: Origin | None = None
        """Of the file, once the walk got there."""

    def say(self, step: str) -> None:
        self.steps.append(visible(step))

    def begin_at_its_directory(self) -> None:
        """The path is relative: it is the process's, so it begins where that works."""
        where = str(self.process.cwd.path)
        self.say(f"{self.path} begins at its working directory, {where}")
        self.path = f"{where.rstrip('/')}/{self.path}"

    def judge(self, wanted: int) -> Steps[bool]:
        self._whose()
        found = yield from self._walk()
        if found is None:
            return False
        self.origin = found.origin
        return self._rights(found, wanted)

    def judge_afar(self, peer: str, here: str, received: Sequence[str], wanted: int) -> bool:
        """By the grants of a peer, under whose tree the file is; `here` is what this machine is called there."""
        assert self.origin is not None
        place = "/" + "/".join(self.origin.names[1:])
        grant = _nearest(received, place)
        if grant is None:
            self.say(f"of {place} it has no more than leads to that")
        if grant is not None and not grant.shown.allows(_below(place, grant.place), True):
            self.say(f"so {peer} does not show it: {grant.text} hides it")
            self.remedy = (
                f"on {peer}: cognu grants revoke {here} {shlex.quote(grant.text)}, and grant it with other patterns"
            )
            return False
        missing = wanted & ~(grant.rights if grant is not None else READ)
        if not missing:
            self.say(f"so {peer} lets it; the file's mode there may refuse more")
            return True
        self.say(f"so {peer} refuses it: {letters_of(missing)} was not granted")
        kind = "write" if wanted & (WRITE | CREATE) else "read"
        self.remedy = f"on {peer}: cognu grants set {here} {shlex.quote(grant_of(kind, place))}"
        return False

    def _whose(self) -> None:
        owner = self.view.holders.get(self.process.namespace.domain.pid)
        me = holder_of(self.process)
        whose = "a namespace of its own" if owner == me or owner is None else f"the namespace of {who(owner)}"
        self.say(f"{who(me)} sees {whose}")

    # -- the walk -------------------------------------------------------------------------------------------------

    def _walk(self) -> Steps[Chan | None]:
        """The chan behind any mount point at the path's end; None if the walk does not get there."""
        namespace, process = self.process.namespace, self.process
        begin, names = split_path(self.path)
        try:
            if begin.startswith("#"):
                at = yield from namespace.attach(begin, process)
            else:
                at = (namespace.root if begin else process.cwd).share()
        except FileError as error:
            self.say(f"{begin}: {error.error.text}: it has no such device")
            return None
        for name in names:
            self._mounted(at)
            try:
                at = yield from namespace.walk(at, [name], process)
            except FileError as error:
                yield from self._stuck(at, name, error)
                return None
        self._mounted(at)
        return namespace.cross(at)[0]

    def _mounted(self, at: Chan) -> None:
        _, head = self.process.namespace.cross(at)
        for member in head.members if head is not None else ():
            self.say(f"{at.path} is {member.chan.origin}, mounted under {self._cap(member.chan)}")

    def _cap(self, chan: Chan) -> str:
        rights = self.view.kernel.slots.rights[chan.cap.slot] & ~LIVE
        return f"capability {chan.cap.slot} ({letters_of(rights) or 'no rights'})"

    def _stuck(self, at: Chan, name: str, error: FileError) -> Steps[None]:
        place = f"{str(at.path).rstrip('/')}/{name}"
        target, head = self.process.namespace.cross(at)
        if isinstance(target.server, SkeletonServer) and head is None:
            self.say(f"{place} is not there: no more of {at.path} is, than leads to what was granted")
            yield from self._granted_to_starter()
        else:
            self.say(f"{place}: {error.error.text}: so says {target.origin.spec}, asked under {self._cap(target)}")

    def _granted_to_starter(self) -> Steps[None]:
        parent = self.process.parent
        if parent is None or parent.state is State.DEAD or not self.path.startswith("/"):
            return
        try:
            yield from parent.namespace.find(self.path, parent.namespace.root, parent)
        except FileError as error:
            self.say(f"for {who(holder_of(parent))}, which started it, {self.path}: {error.error.text}")
            return
        self.say(f"{who(holder_of(parent))}, which started it, has {self.path}")
        self._how("r")

    # -- the capability -------------------------------------------------------------------------------------------

    def _rights(self, chan: Chan, wanted: int) -> bool:
        kernel, slot = self.view.kernel, chan.cap.slot
        if not self.steps[-1].endswith(f"is {chan.origin}, mounted under {self._cap(chan)}"):
            self.say(f"{self.path} is {chan.origin}, used under {self._cap(chan)}")
        if kernel.slots.generation[slot] != chan.cap.generation or not kernel.slots.rights[slot] & LIVE:
            self.say(f"that capability is gone: {E.REVOKED.text}")
            self.remedy = E.REVOKED.hint
            return False
        line = self.view.ancestry(slot)
        for number in line:
            self._derived(number)
        missing = wanted & ~kernel.slots.rights[slot]
        if not missing:
            self.say(f"it has all of {letters_of(wanted)}")
            return True
        self.say(f"it lacks {letters_of(missing)}")
        for child, parent in pairwise(line):
            if not missing & ~kernel.slots.rights[parent]:
                giver, taker = who(self.view.holder(parent)), who(self.view.holder(child))
                self.say(f"{giver} has that, and did not hand it on to {taker}")
                break
        self._how(letters_of(wanted).replace("c", "w"))
        return False

    def _derived(self, slot: int) -> None:
        kernel = self.view.kernel
        rights = letters_of(kernel.slots.rights[slot] & ~LIVE)
        parent = kernel.slots.parent[slot]
        held = (
            f"capability {slot} ({rights}) of {who(self.view.holder(slot))}" if rights else f"capability {slot}, gone,"
        )
        if parent:
            self.say(f"{held} was minted from {parent} by {who(self.view.holder(parent))}")
        else:
            self.say(f"{held} was made with the server {self.view.server(slot)}")

    def _how(self, letters: str) -> None:
        """What to do so that it has it."""
        holder = holder_of(self.process)
        rights = "".join(letter for letter in "rwx" if letter in letters)
        if holder.kind == "program":
            grant = shlex.quote(f"{self.path}:{rights}")
            self.remedy = f"run --grant {grant}, or for good: cognu grants set {self._program(holder)} {grant}"
        elif holder.kind == "peer":
            self.remedy = f"cognu export {shlex.quote(self.path)} {holder.name}{' :rw' if 'w' in rights else ''}"
        else:
            self.remedy = f"bind or mount {self.path} again, from where it has {letters}"

    def _program(self, holder: Holder) -> str:
        """What `grants` knows a program by: its name, if that is what the name means here."""
        try:
            known = self.view.node.store.named(holder.name)
        except FileError:
            known = ""
        return holder.name if known == holder.program else holder.program

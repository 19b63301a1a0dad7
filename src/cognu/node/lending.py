"""Processes lent to a peer: a program runs over there, on this side's files and streams.

A lent process exists here, with its namespace and descriptors; a token, made for one peer, lets that peer attach to
them. The token dies with the process.
"""

from __future__ import annotations

from base64 import b32encode
from dataclasses import dataclass

from cognu.errors import E, FileError
from cognu.files.chan import Chan, Handle, Origin, Path
from cognu.files.dispatch import dispatch
from cognu.files.mounts import Device
from cognu.files.process import Process
from cognu.files.steps import Steps
from cognu.kernel import READ, WRITE
from cognu.world import Random

LABEL = "cap:"
"""How the label of a link's channel begins that asks for a lent process; the token follows."""
STREAMS = "#d"
"""The attach name for the lent process's descriptors, as files; "" is its namespace."""


@dataclass(frozen=True)
class Lent:
    process: Process
    peer: str  # fingerprint of who may redeem it


class Lending:
    """Tokens in force."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._lent: dict[str, Lent] = {}

    def lend(self, process: Process, peer: str) -> str:
        """A token for `peer`; end it with `end`."""
        token = b32encode(self._random.bytes(20)).decode().lower()
        self._lent[token] = Lent(process, peer)
        return token

    def end(self, token: str) -> None:
        self._lent.pop(token, None)

    def redeem(self, label: str, peer: str) -> Process:
        """The process a channel's label asks for. Raises NOATTACH: unknown, ended, or another peer's."""
        lent = self._lent.get(label.removeprefix(LABEL))
        if lent is None or lent.peer != peer:
            raise FileError(E.NOATTACH, LABEL, "no such token for this peer")
        return lent.process


def attach_lent(process: Process, aname: str, descriptors: Device) -> Steps[Chan]:
    """The root of a lent process's namespace, or its streams, which `descriptors` (`#d`) shows.

    A program's namespace has no devices, so that one is the node's.
    """
    if aname == "":
        return process.namespace.root.share()
    if aname != STREAMS:
        raise FileError(E.NOATTACH, aname)
    domain = process.namespace.domain
    fid = yield from dispatch(descriptors, 0, descriptors.server.attach, process, "")
    cap = descriptors.domain.mint(descriptors.cap, READ | WRITE, domain)
    return Chan(Handle(descriptors.server, fid), domain, cap, Path(None, STREAMS), Origin(STREAMS, ()))

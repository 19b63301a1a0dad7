"""What a process that `/proc/clone` made is to be, as its ctl file was told, until it is started."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from typing import NamedTuple

TOKEN_LABEL = "cap:"
"""How the label of a link's channel, and the attach name of a session, begin that ask for a process that is there (a
lent one, a peer's shell); the token for it follows."""
TREE_LABEL = "tree:"
"""How the attach name of a session begins that is confined to one tree; what follows says which (`files/shown`)."""
TOKEN_VARIABLE = "COGNU_TOKEN"
"""The variable of the host in which a shell that the node starts finds its token: arguments anybody can read."""

LONGEST_KEPT = 7 * 24 * 3600
"""Seconds that a shell may be kept without a terminal."""

AWAY_SECONDS = 10.0
"""How long without a break a peer may be away from whoever wants to begin something there, as long as one address may
take (`links.DIAL_SECONDS`); others are dialled meanwhile."""
SHELL = "cpu"
"""The program's name that, run on a peer or for one, means a shell, with the lent namespace at /mnt/term."""


def told(aname: str) -> str:
    """An attach name as people are told of it: of a token, which is a secret, no more than tells two apart."""
    if not aname.startswith(TOKEN_LABEL):
        return aname
    return TOKEN_LABEL + sha256(aname.encode("utf-8", "backslashreplace")).hexdigest()[:8]


class Grant(NamedTuple):
    """A path of the parent's namespace that the program may use; `rights` are letters out of `rwx`."""

    path: str
    rights: str


class Mapping(NamedTuple):
    """A directory of the parent's namespace under the program's own name for it."""

    source: str
    guest: str


@dataclass
class Launch:
    """`program` is a path, a name or a hash, `args` are those after it. Limits: bytes, nanoseconds, open files.

    Descriptors, environment, namespace and working directory are the process's own, changed as the lines come.
    """

    program: str = ""
    args: list[str] = field(default_factory=list)
    grants: list[Grant] = field(default_factory=list)
    directories: list[Mapping] = field(default_factory=list)
    grant_files: list[str] = field(default_factory=list)  # paths of texts as grants(5), read when it starts
    handles: list[str] = field(default_factory=list)  # names of interfaces that it serves, in hexadecimal
    limits: dict[str, int] = field(default_factory=dict)
    isolate: bool = False  # in a runner, an OS process of its own
    on: str = ""  # the peer to run it on; empty: here
    token: str = ""  # for a program run for a peer: redeemed there for its namespace and streams
    cwd: str = "/"  # its working directory in that namespace
    keep: int = 0  # of a shell: seconds that it stays when its terminal is gone; 0: it ends then
    kept: int = 0  # in place of a shell of its own: the number of one that is kept
    kept_how: str = ""  # `take`: also from a terminal that has it; `end`: to end it
    starting: bool = False
    abandoned: bool = False  # whoever made the process went away while it was starting

    @property
    def is_shell(self) -> bool:
        """Whether it is no program but a shell on another machine, or one for it: elsewhere the name is as any."""
        return self.program == SHELL and bool(self.on or self.token)

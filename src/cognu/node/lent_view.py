"""What a shell on another machine sees of this one: the terminal, the working directory, and what was granted.

A peer is trusted to run what it is asked to run, not with this side's namespace: that has the node's control, its
processes, its store and other peers' trees in it. So a lent namespace is made anew, as a program's is.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from cognu.devices.root import SkeletonServer
from cognu.errors import E, FileError
from cognu.files.attach import OWN
from cognu.files.chan import Chan, Origin
from cognu.files.launch import Grant, Launch
from cognu.files.nstext import SERVED
from cognu.files.process import Process
from cognu.files.services import NETWORK
from cognu.files.steps import Steps
from cognu.node.admitting import is_control
from cognu.runtime.launch import RIGHTS, Clothes, build_namespace

TERMINAL = ("cons", "consctl", "winsize", "resize", "stdin", "stdout", "stderr")
"""The files of /dev that are the caller's terminal, if a shell mounted it there (terminal(4))."""
_WORKED_IN = ("#U", "#r")
"""Whose directories are lent for being worked in: the host's, those in memory, and those of mounted services."""
_NEVER = ("#n", "#p", "#q", "#s", "#C", "#V", "#R", OWN)
"""Trees that are not lent even if asked for; the last two are what they hang in."""
_COMMANDS = "cmd"
"""Where another machine has its host's programs that it lets this one start."""


class _Source(NamedTuple):
    origins: tuple[Origin, ...]  # where it really is; more than one if it is a union
    rights: str  # what the caller itself may do with all of it

    @property
    def specs(self) -> list[str]:
        """The devices that it is of."""
        return [origin.spec for origin in self.origins]


def shell_view(process: Process, launch: Launch) -> Steps[Clothes]:
    """The namespace and working directory to lend for a shell; descriptors are left empty.

    Raises ACCES for a grant of what is never lent or beyond the caller's own rights, NOENT, INVAL, naming the path.
    """
    cwd = str(process.cwd.path)
    grants: list[Grant] = []
    if cwd.startswith("/"):
        here = yield from _source(process, cwd)
        if here.rights and all(spec in _WORKED_IN or spec.startswith(SERVED) for spec in here.specs):
            grants.append(Grant(cwd, here.rights))
    else:
        cwd = "/"  # below a device, which has no name over there
    for name in TERMINAL:
        try:
            shown = yield from _source(process, f"/dev/{name}")
        except FileError as error:
            if error.error is not E.NOENT:
                raise
            continue  # there is no terminal, or it is not shown
        if "r" in shown.rights and "w" in shown.rights and all(spec.startswith(SERVED) for spec in shown.specs):
            grants.append(Grant(f"/dev/{name}", "rw"))
    for path in [*(grant.path for grant in launch.grants), *(mapping.source for mapping in launch.directories)]:
        wanted = yield from _source(process, path)
        if any(map(_stays, wanted.origins)):
            raise FileError(E.ACCES, path, "this tree is not lent on")
    return (yield from build_namespace(process, cwd, [*grants, *launch.grants], launch.directories, _skeleton))


def _stays(origin: Origin) -> bool:
    """Whether it is never lent: of other machines their files are, if asked for by name, but not the machines, nor
    what runs there.
    """
    if origin.spec == NETWORK and (len(origin.names) < 2 or origin.names[1] == _COMMANDS):
        return True
    return origin.spec in _NEVER or is_control(origin)


def _skeleton(directories: Iterable[str], files: Iterable[str]) -> SkeletonServer:
    """With a /dev in any case: over there it is joined to that machine's."""
    return SkeletonServer([*directories, "/dev"], files)


def _source(process: Process, path: str) -> Steps[_Source]:
    """Raises NOENT and what finding raises."""
    namespace = process.namespace
    found = yield from namespace.find(path, process.cwd, process)
    try:
        target, head = namespace.cross(found)
        chans = [member.chan for member in head.members] if head is not None else [target]
        rights = [letter for letter, bits in RIGHTS.items() if all(_holds(chan, bits) for chan in chans)]
        return _Source(tuple(chan.origin for chan in chans), "".join(rights))
    finally:
        found.close()


def _holds(chan: Chan, rights: int) -> bool:
    try:
        chan.domain.check(chan.cap, rights)
    except FileError:
        return False
    return True

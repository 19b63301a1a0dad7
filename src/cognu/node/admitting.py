"""Grants of a program that is starting or runs: those remembered, those answered for, and taking one back.

All are derived from what the program's parent has at that moment, so none is more than that, and each ends with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from posixpath import normpath

from cognu.devices.root import SkeletonServer
from cognu.errors import E, FileError
from cognu.files.chan import Chan, Origin
from cognu.files.dispatch import dispatch
from cognu.files.launch import Grant, Launch
from cognu.files.mounts import MAFTER, MCREATE, MREPL
from cognu.files.nstext import SERVED, quote
from cognu.files.process import Process, State
from cognu.files.server import OEXCL
from cognu.files.services import NETWORK
from cognu.files.steps import Steps, finish
from cognu.files.wants import CREATING, Means, Said, Wants, is_within
from cognu.kernel import CREATE, EXECUTE, READ, WRITE
from cognu.ninep.types import OREAD, OWRITE, QTDIR
from cognu.node.programs import (
    ANY,
    MAX_TEXT,
    ProgramBook,
    ProgramGrants,
    conflict,
    grant_text,
    less,
    parse_grants_text,
    with_grants,
)
from cognu.runtime.launch import RIGHTS, rights_of

CONTROLS = ("#n", "#p", "#q")
"""Devices that steer the node or what runs on it."""
MAPPED = "rw"
"""What a mapped directory may be used for."""
NEW_FILE = 0o644
"""Permissions of a file that a program was allowed to make."""
PIECE = 1 << 16


async def prepared(process: Process, launch: Launch, program: str, book: ProgramBook | None) -> Launch:
    """The launch with what the grants files and `book` say of `program`; from now on the process's wants are noted.

    What is remembered of a path that is not there, or that the parent may not use itself, is left out. Raises what is
    wrong with a file of grants, and CONFLICT for what the program is never to have by what `book` says.
    """
    row = ProgramGrants(program)
    for path in launch.grant_files:
        found = parse_grants_text(await _text(process, path), path, general=True)
        for key in (ANY, program):
            if key in found:
                row = with_grants(row, found[key].allow, found[key].never)
    if book is not None:
        explicit = [*launch.grants, *row.allow, *(Grant(each.source, MAPPED) for each in launch.directories)]
        await _check_never(process, explicit, book, program)
    # Of a program whose directories are mapped nothing is remembered: its paths are its own, and mean nothing here.
    kept = ProgramGrants(program) if book is None or launch.directories else book.get(program)
    # What was said for this run counts for more than what is remembered.
    kept = replace(kept, allow=tuple(grant for grant in kept.allow if conflict([grant], row.never) is None))
    grants = list(launch.grants)
    for grant in row.allow:
        grants += await finish(_possible(process, grant, ""))
    for grant in kept.allow:
        grants += await finish(_possible(process, grant, grant.path))
    if not launch.directories:
        wants = process.wants = process.wants or Wants()
        said = Said(row.allow, row.never), Said(kept.allow, kept.never)
        means = partial(admit, process), partial(lacks, process), partial(real_path, process), partial(steers, process)
        wants.begin(program, Means(*means), *said)
        process.reach = wants.reach
    return replace(launch, grants=grants, grant_files=[])


async def _check_never(process: Process, grants: Sequence[Grant], book: ProgramBook, program: str) -> None:
    """Raises CONFLICT for what is typed for this run and refused for good, itself or by a tree above or below it."""
    refused = book.get(program).never
    for grant in grants if refused else ():
        path = grant.path if grant.path.startswith("/") else f"{process.cwd.path}/{grant.path}"
        path = "/" + normpath(path).lstrip("/")
        places = (path, await _found(process, path))
        for never in refused:
            meant = any(is_within(place, never.path) or is_within(never.path, place) for place in places)
            if meant and set(never.rights) & set(grant.rights):
                text, name = quote(grant_text(never)), quote(book.called(program))
                detail = f"this node keeps: never {text}, of {name}; grants revoke {name} {text} takes that back"
                raise FileError(E.CONFLICT, f"grant {grant_text(grant)}", detail)


async def _found(process: Process, path: str) -> str:
    """Where it leads, symbolic links and all; the path itself if nowhere."""
    namespace = process.namespace
    try:
        return str((await finish(namespace.find(path, namespace.root, process))).path)
    except FileError:
        return path


async def _text(process: Process, path: str) -> bytes:
    """A file of grants, read by the process's own authority. Raises TOOBIG."""
    namespace = process.namespace
    found = await finish(namespace.find(path, process.cwd, process))
    chan = await finish(namespace.open(found, OREAD, process))
    try:
        data = b""
        while piece := await finish(dispatch(chan, READ, chan.server.read, chan.fid, len(data), PIECE)):
            data += bytes(piece)
            if len(data) > MAX_TEXT:
                raise FileError(E.TOOBIG, path, f"at most {MAX_TEXT} bytes")
        return data
    finally:
        chan.close()


def _possible(process: Process, grant: Grant, real: str) -> Steps[list[Grant]]:
    """The grant, as far as the process could make use of it before it is confined, if it leads to `real`."""
    try:
        members = yield from _members(process, grant.path, real)
    except FileError:
        return []  # it is gone, or out of reach; if the program wants it, that is noted as of anything
    rights = "".join(letter for letter in grant.rights if all(_holds(chan, RIGHTS[letter]) for chan, _ in members))
    return [Grant(grant.path, rights)] if rights else []


def _members(process: Process, path: str, real: str) -> Steps[list[tuple[Chan, bool]]]:
    """The file at a path of the process's namespace, or the members of the union, and whether each takes new files.

    Raises MOVED if the path leads to something else than `real`, if that is not empty.
    """
    namespace = process.namespace
    found = yield from namespace.find(path, namespace.root, process)
    if real and str(found.path) != real:
        raise FileError(E.MOVED, path, str(found.path))
    target, head = namespace.cross(found)
    if head is None:
        return [(target, True)]
    return [(member.chan, member.create) for member in head.members]


def _holds(chan: Chan, rights: int) -> bool:
    try:
        chan.domain.check(chan.cap, rights)
    except FileError:
        return False
    return True


# -- a running one ----------------------------------------------------------------------------------------------------


def lacks(process: Process, path: str, rights: str) -> bool:
    """Whether a grant could help the process to use a path so: it is in no tree that has all these rights."""
    heads = process.namespace.heads.values()
    above = [head for head in heads if is_within(path, str(head.place.path))]
    if not above:
        return True
    nearest = max(above, key=lambda head: len(str(head.place.path)))
    chan = nearest.members[0].chan
    needed = rights_of(rights.replace(CREATING, ""))
    if CREATING not in rights or not chan.qid.type & QTDIR:
        needed &= ~CREATE
    return not _holds(chan, needed)


async def real_path(process: Process, path: str) -> str:
    """Where a path leads in the parent's namespace, or would if its last name were there; empty if nowhere."""
    parent = process.parent
    if parent is None or parent.state is State.DEAD:
        return ""
    namespace = parent.namespace
    try:
        try:
            return str((await finish(namespace.find(path, namespace.root, parent))).path)
        except FileError as error:
            if error.error is not E.NOENT:
                raise
        directory, name = await finish(namespace.find_parent(path, namespace.root, parent))
        return f"{str(directory.path).rstrip('/')}/{name}"
    except FileError:
        return ""  # it is not there, or out of reach: so nothing was said of it


async def steers(process: Process, path: str) -> bool:
    """Whether what a path leads to in the parent's namespace is a node's control or its processes, by whatever name."""
    parent = process.parent
    if parent is None or parent.state is State.DEAD:
        return False
    try:
        members = await finish(_members(parent, path, ""))
    except FileError:
        return False  # it can't be had
    return any(is_control(chan.origin) for chan, _ in members)


def is_control(origin: Origin) -> bool:
    """Of this node by its device; of another, or of the one that a shell came from, by the name that all have it by."""
    if origin.spec in CONTROLS:
        return True
    if not origin.spec.startswith((SERVED, NETWORK)):
        return False
    names = origin.names[1:] if origin.spec == NETWORK else origin.names
    return names[:1] == ("proc",) or names[:2] == ("mnt", "node")


async def admit(process: Process, path: str, rights: str, real: str = "") -> None:
    """Put a path of the parent's namespace into the process's own, for `rights` and what it could do there before.

    With `real`, only if that is where the path leads (MOVED): what was seen is what is granted. With `c` among the
    rights a file that is not there is made, by the parent's authority. Raises NOENT, ACCES (the parent lacks a right
    itself), SRCH if either has ended; then nothing has changed.
    """
    parent = process.parent
    if parent is None or State.DEAD in (parent.state, process.state):
        raise FileError(E.SRCH, f"pid {process.pid}")
    if CREATING in rights:
        if real and await real_path(process, path) != real:
            raise FileError(E.MOVED, path)
        await _make(parent, path)
    members = await finish(_members(parent, path, real))
    where = await _place(process, path, bool(members[0][0].qid.type & QTDIR))
    if process.state is State.DEAD:
        raise FileError(E.SRCH, f"pid {process.pid}")
    _bind(process, where, members, rights_of(rights.replace(CREATING, "")))


async def _make(parent: Process, path: str) -> None:
    namespace = parent.namespace
    try:
        await finish(namespace.find(path, namespace.root, parent))
    except FileError as error:
        if error.error is not E.NOENT:
            raise
        try:
            made = namespace.create_path(path, NEW_FILE, OWRITE | OEXCL, namespace.root, parent)
            (await finish(made)).close()
        except FileError as failure:
            if failure.error is not E.EXIST:  # somebody else made it just now
                raise


async def _place(process: Process, path: str, directory: bool) -> Chan:
    """What is to be mounted on, made if the process has no such name."""
    namespace = process.namespace
    try:
        return await finish(namespace.find(path, namespace.root, process))
    except FileError as error:
        if error.error is not E.NOENT:
            raise
    skeleton = namespace.root.server
    assert isinstance(skeleton, SkeletonServer)
    skeleton.plant(path, directory)
    return await finish(namespace.find(path, namespace.root, process))


def _bind(process: Process, where: Chan, members: list[tuple[Chan, bool]], rights: int) -> None:
    """Mount them in place of what is there, which keeps its rights. Awaits nothing: it is there whole or not at all."""
    namespace = process.namespace
    now, _ = namespace.cross(where)
    if not isinstance(now.server, SkeletonServer):
        rights |= now.domain.authority.rights(now.domain.pid, now.cap)
    if not members[0][0].qid.type & QTDIR:
        rights &= ~CREATE
    minted: list[tuple[Chan, bool]] = []
    try:
        for chan, create in members:
            chan.domain.check(chan.cap, rights)
            cap = chan.domain.mint(chan.cap, rights, namespace.domain)
            minted.append((Chan(chan.handle, namespace.domain, cap, where.path, chan.origin), create))
    except FileError as error:
        for chan, _ in minted:
            chan.domain.authority.delete(chan.domain.pid, chan.cap)
            chan.close()
        raise FileError(error.error, str(where.path), error.detail) from None
    flags = MREPL
    # The program itself may not mount.
    kept, namespace.no_mount = namespace.no_mount, False
    try:
        for chan, create in minted:
            namespace.mount(chan, where, flags | (MCREATE if create and rights & CREATE else 0))
            flags = MAFTER
    finally:
        namespace.no_mount = kept


def taken_back(process: Process, before: Said) -> None:
    """Withdraw what was remembered when a program was about to start, and was taken back or denied until it ran."""
    if process.wants is not None:
        for grant in less(before.allow, process.wants.kept.allow):
            withdraw(process, grant)
        for grant in less(process.wants.kept.never, before.never):
            deny(process, grant)


def withdraw(process: Process, grant: Grant) -> bool:
    """Take a grant from a running program: its rights to what is mounted at that path; whether that was there.

    All use of it ends, open files too. With rights left it can be opened again; without any it is not there any more,
    nor what leads there alone, and so it is if there is no room for the capability to what is left.
    """
    given = _given_within(process, grant.path)
    return _withdraw(process, grant.rights, lambda place: place == grant.path or place in given)


def deny(process: Process, grant: Grant) -> list[Grant]:
    """Take from a running program what it has at that path and below; the trees above that it still has that by.

    One of these can't be taken in part: its capability is to the whole.
    """
    given = _given_within(process, grant.path)
    _withdraw(process, grant.rights, lambda place: is_within(place, grant.path) or place in given)
    left = []
    for head in process.namespace.heads.values() if _skeleton(process) is not None else ():
        place = str(head.place.path)
        chans = [member.chan for member in head.members]
        rights = "".join(letter for letter in grant.rights if any(_holds(chan, RIGHTS[letter]) for chan in chans))
        if rights and is_within(grant.path, place):
            left.append(Grant(place, rights))
    return left


def _given_within(process: Process, path: str) -> set[str]:
    """Other names by which a program has what is there: links, that what is remembered was found to cover."""
    given = process.wants.given if process.wants is not None else {}
    return {place for place, real in given.items() if is_within(real, path)}


def _skeleton(process: Process) -> SkeletonServer | None:
    """What its grants hang in; None if it is over, or not confined yet: then the namespace is as its maker's."""
    server, parent = process.namespace.root.server, process.parent
    if process.state is State.DEAD or (parent is not None and server is parent.namespace.root.server):
        return None
    return server if isinstance(server, SkeletonServer) else None


def _withdraw(process: Process, letters: str, is_meant: Callable[[str], bool]) -> bool:
    namespace, skeleton = process.namespace, _skeleton(process)
    if skeleton is None:
        return False
    gone_rights = rights_of(letters)
    gone = [key for key, head in namespace.heads.items() if is_meant(str(head.place.path))]
    for key in gone:
        head = namespace.heads[key]
        left_over = [_lessen(member.chan, gone_rights) for member in head.members]
        if not all(left_over):
            del namespace.heads[key]
            for member in head.members:
                _end(member.chan)
            head.close()
    left = [str(head.place.path) for head in namespace.heads.values()]
    skeleton.uproot([*left, str(process.cwd.path)])
    return bool(gone)


def _lessen(chan: Chan, gone: int) -> bool:
    """End all use of a mounted file, which keeps its rights without those; whether any of use are left."""
    domain, cap = chan.domain, chan.cap
    authority = domain.authority
    authority.revoke(domain.pid, cap)
    rights = authority.rights(domain.pid, cap) & ~gone
    if not rights & (READ | WRITE | EXECUTE):
        return False
    try:
        chan.lessen(domain.mint(cap, rights, domain))
    except FileError:
        return False
    authority.delete(domain.pid, cap)
    return True


def _end(chan: Chan) -> None:
    chan.domain.authority.revoke(chan.domain.pid, chan.cap)
    chan.domain.authority.delete(chan.domain.pid, chan.cap)

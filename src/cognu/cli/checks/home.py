"""The node's home directory: modes, identity, peers, settings, objects, lock. Read only; no node need run."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from cognu.cli.checks.finding import Check, Found, Subject, note, ok, problem
from cognu.errors import CognuError, E
from cognu.files.nstext import split_commands
from cognu.mesh.identity import load_identity, parse_book
from cognu.mesh.invitations import parse_invitations
from cognu.node.programs import ProgramBook
from cognu.node.settings import Home, load_settings
from cognu.shell.nodeprocess import lock_holder
from cognu.store.names import name_of
from cognu.world.real import real_world

AREA = "home"
SECRET = ("identity", "peers.json", "invitations.json", "grants")
"""Files that nobody else may read or write."""
SAMPLE_OBJECTS, SAMPLE_BYTES = 64, 64 << 20
OTHERS = 0o077


def there(subject: Subject) -> bool:
    return os.path.isdir(subject.home)


def _directory(subject: Subject) -> Sequence[Found]:
    if there(subject):
        return ok(subject.home)
    if os.path.lexists(subject.home):
        return problem(f"{subject.home} is no directory", "move it away, or choose another: COGNU_HOME, --home")
    return note(f"{subject.home} is not there yet", "cognu up makes it")


def _modes(subject: Subject) -> Sequence[Found]:
    if not there(subject):
        return ()
    wrong: list[Found] = []
    for name in ("", *SECRET):
        path = os.path.join(subject.home, name).rstrip("/")
        try:
            seen = os.lstat(path)
        except FileNotFoundError:
            continue
        mode = stat.S_IMODE(seen.st_mode)
        if mode & OTHERS:
            right = "700" if stat.S_ISDIR(seen.st_mode) else "600"
            wrong += problem(f"{path} is open to others: {mode:04o}", f"chmod {right} {path}")
        if seen.st_uid != os.getuid():
            wrong += problem(f"{path} belongs to user {seen.st_uid}", f"chown {os.getuid()} {path}")
    return wrong or ok("0700, and 0600 for what is secret")


def _identity(subject: Subject) -> Sequence[Found]:
    if not os.path.lexists(f"{subject.home}/identity"):
        return note("none yet", "the node makes one when it first starts") if there(subject) else ()
    # It is there, so nothing is made.
    return ok(load_identity(real_world(), subject.home).fingerprint)


def _peers(subject: Subject) -> Sequence[Found]:
    path = f"{subject.home}/peers.json"
    if not os.path.lexists(path):
        return ok("none yet") if there(subject) else ()
    count = len(parse_book(real_world().disk.read(path), path))
    return ok(f"{count} machine{'' if count == 1 else 's'}")


def _invitations(subject: Subject) -> Sequence[Found]:
    path = f"{subject.home}/invitations.json"
    if not os.path.lexists(path):
        return ok("none") if there(subject) else ()
    _, rows = parse_invitations(real_world().disk.read(path), path)
    return ok(f"{len(rows)} open")


def _grants(subject: Subject) -> Sequence[Found]:
    path = Home(subject.home).grants
    if not os.path.lexists(path):
        return ok("none yet") if there(subject) else ()
    count = len(ProgramBook(real_world().disk, path).all())
    return ok(f"{count} program{'' if count == 1 else 's'}")


def _settings(subject: Subject) -> Sequence[Found]:
    if not there(subject):
        return ()
    settings = load_settings(real_world().disk, Home(subject.home), "(the host's name)")
    return ok(f"name {settings.name}, listen {settings.listen}")


def _script(subject: Subject) -> Sequence[Found]:
    path = Home(subject.home).namespace
    if not os.path.lexists(path):
        return ok("none") if there(subject) else ()
    lines = real_world().disk.read(path).decode("utf-8", "replace").split("\n")
    for number, line in enumerate(lines, 1):
        try:
            list(split_commands(line))
        except CognuError as error:
            return problem(f"line {number} of {path}: {error}", "correct that line; the node leaves it out")
    return ok(f"{sum(1 for line in lines if line.strip())} lines")


def sample(names: Sequence[str], count: int) -> list[str]:
    """At most `count` of the names, spread evenly."""
    if len(names) <= count:
        return list(names)
    return [names[index * len(names) // count] for index in range(count)]


def _objects(subject: Subject) -> Sequence[Found]:
    where = f"{Home(subject.home).store}/objects"
    if not os.path.isdir(where):
        return ok("none yet") if there(subject) else ()
    disk = real_world().disk
    paths = [f"{where}/{group}/{name}" for group in disk.list(where) for name in disk.list(f"{where}/{group}")]
    looked, size = 0, 0
    bad: list[Found] = []
    for path in sample(paths, SAMPLE_OBJECTS):
        size += os.path.getsize(path)
        if size > SAMPLE_BYTES and looked:
            break
        looked += 1
        if name_of(disk.read(path)) != os.path.basename(path):
            text = f"{os.path.basename(path)}: {E.BADHASH.text}"
            bad += problem(text, f"remove it, and it is fetched from a peer or put again: rm {path}")
    return bad or ok(f"{looked} of {len(paths)} checked")


def _names(subject: Subject) -> Sequence[Found]:
    from cognu.store.names import COMMON, check_name

    store = Home(subject.home).store
    if not os.path.isdir(f"{store}/names"):
        return ok("none yet") if there(subject) else ()
    disk = real_world().disk
    found: list[Found] = []
    labels = [label for label in disk.list(f"{store}/names") if not label.startswith(".")]
    for label in labels:
        try:
            name = check_name(disk.read(f"{store}/names/{label}").decode("ascii", "replace").strip())
        except CognuError as error:
            found += problem(f"{label}: {error}", f"name it again: cognu put FILE --name {label}")
            continue
        if not disk.exists(f"{store}/objects/{name[len(COMMON) : len(COMMON) + 2]}/{name}"):
            found += note(f"{label}: its object is not here", "it is fetched from a peer that has it, or put it again")
    return found or ok(f"{len(labels)}")


def _compiled(subject: Subject) -> Sequence[Found]:
    where = Home(subject.home).compiled
    if not os.path.isdir(where):
        return ok("none yet") if there(subject) else ()
    if not os.access(where, os.R_OK | os.W_OK | os.X_OK):
        return problem(f"{where} can't be written", f"chmod 700 {where}; else programs are compiled at each start")
    return ok(f"{len(os.listdir(where))} programs")


def _lock(subject: Subject) -> Sequence[Found]:
    home = Home(subject.home)
    try:
        pid = lock_holder(home.lock)
    except FileNotFoundError as error:
        if not there(subject) or error.filename == home.lock:
            return ok("none yet") if there(subject) else ()
        return note("this host does not tell who holds locks")
    if subject.status is not None:
        return ok(f"held by the node, process {subject.status['pid']}")
    if pid is not None:
        who = f"process {pid}" if pid else "a process that can't be seen from here"
        remedy = "end it if it hangs: cognu down --force; then cognu up"
        return problem(f"{who} holds {home.lock}, but no node answers", remedy)
    if os.path.lexists(home.socket):
        return note("the last node ended without taking leave", "nothing to do: cognu up takes over")
    return ok("free")


CHECKS = (
    Check(AREA, "directory", "all that a node keeps is in it", _directory),
    Check(AREA, "modes", "who can read the home can be this machine for its peers", _modes),
    Check(AREA, "identity", "peers know this machine by its key", _identity),
    Check(AREA, "peers.json", "it says who was joined and what they may do here", _peers),
    Check(AREA, "invitations", "tickets that were not used yet", _invitations),
    Check(AREA, "grants", "what programs may use, and what they are not to be asked about", _grants),
    Check(AREA, "settings", "the node reads them when it starts", _settings),
    Check(AREA, "namespace", "the lines with which every shell's namespace begins", _script),
    Check(AREA, "objects", "an object is what its hash says; damaged ones are refused", _objects, 10.0),
    Check(AREA, "names", "programs in /bin", _names),
    Check(AREA, "compiled", "programs start at once if they were compiled before", _compiled),
    Check(AREA, "lock", "one node at a time uses a home", _lock),
)

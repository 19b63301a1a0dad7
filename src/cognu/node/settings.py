"""A node's home directory and what is set in it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from cognu.errors import E, FileError
from cognu.files.launch import LONGEST_KEPT
from cognu.files.users import Users, parse_users
from cognu.mesh.discovery import MODES
from cognu.mesh.identity import NAME_LIMIT, valid_name
from cognu.mesh.labels import MOST_LABELS, changed_labels, valid_labels
from cognu.mesh.session_core import Timing
from cognu.node.hosting import parse_commands, parse_sensors
from cognu.world import MAX_SOCKET_PATH, Disk


@dataclass(frozen=True)
class KeepLimits:
    """How many shells of other machines may be kept here, of `each` and of `all`, and for how many `seconds` without a
    terminal; 0: none.
    """

    seconds: int = LONGEST_KEPT
    each: int = 16
    all: int = 64


@dataclass(frozen=True)
class Settings:
    """HOME/settings.json. `name` is what this machine calls itself, `listen` where links come in, with the host `*` by
    every address of this machine.

    `hosts` are the addresses that tickets name (empty: found out), `unix` the Unix sockets that /net/unix may dial.
    `isolate` says which programs run in a process of their own, those for which it is `asked` or `all`; `runners` how
    many such processes are kept ready. `retention` is for how many seconds a session with a peer outlives its last
    link. `discovery` says when this machine is announced on the local networks, and others are looked for, as in
    `mesh.discovery`. `labels` are this machine's own (`mesh.labels`), for /dev/profile. `commands` are programs of the
    host that may be run through `#C`, `sensors` what `#S` measures, as in `node.hosting`. `keep` bounds the shells of
    others that stay here without a terminal.
    """

    name: str
    listen: str = "*:0"
    hosts: tuple[str, ...] = ()
    unix: tuple[str, ...] = ()
    isolate: str = "asked"
    runners: int = 1
    retention: int = int(Timing().retention)
    discovery: str = "on"
    labels: tuple[str, ...] = ()
    commands: Mapping[str, Any] = field(default_factory=dict)
    sensors: Mapping[str, Any] = field(default_factory=dict)
    keep: KeepLimits = KeepLimits()


ISOLATED = ("asked", "all")
MOST_RUNNERS = 64
LONGEST_RETENTION = 7 * 24 * 3600
MOST_KEPT = 1024


@dataclass(frozen=True)
class Home:
    """The paths in a node's home directory."""

    path: str

    @property
    def socket(self) -> str:
        return f"{self.path}/node.sock"

    @property
    def lock(self) -> str:
        return f"{self.path}/lock"

    @property
    def log(self) -> str:
        return f"{self.path}/log"

    @property
    def settings(self) -> str:
        return f"{self.path}/settings.json"

    @property
    def port(self) -> str:
        """The port of the last time, where the settings leave it open."""
        return f"{self.path}/port"

    @property
    def namespace(self) -> str:
        return f"{self.path}/namespace"

    @property
    def grants(self) -> str:
        """What programs may use; `node.programs`."""
        return f"{self.path}/grants"

    @property
    def users(self) -> str:
        """Names and numbers of owners, users(5)."""
        return f"{self.path}/users"

    @property
    def store(self) -> str:
        return f"{self.path}/store"

    @property
    def compiled(self) -> str:
        return f"{self.path}/compiled"

    def check(self) -> None:
        """Raises NAMETOOLONG if no socket could be made there."""
        if len(self.socket.encode()) > MAX_SOCKET_PATH:
            raise FileError(E.NAMETOOLONG, self.path, f"a home's path has at most {MAX_SOCKET_PATH - 10} bytes")


def check_name(name: str) -> None:
    """Raises USAGE for what other machines would have to call by another name."""
    if not valid_name(name):
        may = f"a name is of a-z, 0-9, - and _, at most {NAME_LIMIT}, neither - nor _ first or last"
        raise FileError(E.USAGE, f"--name {name!r}", may)


def check_labels(subject: str, labels: Sequence[str]) -> None:
    """Raises DAMAGED about `subject` for what are no labels, or twice the same, or too many."""
    if not valid_labels(labels):
        raise FileError(E.DAMAGED, subject, f"labels are NAME or NAME=VALUE, each name once, at most {MOST_LABELS}")


def change_labels(disk: Disk, home: Home, settings: Settings, words: Sequence[str]) -> Settings:
    """The settings with other labels, as in `mesh.labels.changed_labels`; they are on the disk when it returns.

    The rest of the file stays as it is now: somebody may have written there what holds from the next start. Raises
    INVAL, DAMAGED, and what writing raises.
    """
    kept = load_settings(disk, home, settings.name)
    labels = changed_labels(kept.labels, words)
    if labels != kept.labels:
        save_settings(disk, home, replace(kept, labels=labels))
    return replace(settings, labels=labels)


def load_settings(disk: Disk, home: Home, default_name: str) -> Settings:
    """What is set, or the defaults. Raises DAMAGED for a file that is none."""
    if not disk.exists(home.settings):
        return Settings(default_name)
    try:
        found = json.loads(disk.read(home.settings))
    except ValueError as error:
        raise FileError(E.DAMAGED, home.settings, str(error)) from None
    known = {each.name for each in fields(Settings)}
    if not isinstance(found, dict) or not set(found) <= known or not isinstance(found.get("name", default_name), str):
        raise FileError(E.DAMAGED, home.settings, f"an object with {', '.join(sorted(known))}")
    lists = {key: found[key] for key in ("hosts", "unix", "labels") if key in found}
    for key, value in lists.items():
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise FileError(E.DAMAGED, home.settings, f"{key} is a list of texts")
    if not isinstance(found.get("listen", ""), str):
        raise FileError(E.DAMAGED, home.settings, "listen is an address")
    try:
        check_name(found.get("name", "node"))  # what the host is called is not looked at
    except FileError as error:
        raise FileError(E.DAMAGED, home.settings, f"name {found['name']!r}: {error.detail}") from None
    if found.get("isolate", "asked") not in ISOLATED:
        raise FileError(E.DAMAGED, home.settings, f"isolate is one of {', '.join(ISOLATED)}")
    runners = found.get("runners", 0)
    if type(runners) is not int or not 0 <= runners <= MOST_RUNNERS:
        raise FileError(E.DAMAGED, home.settings, f"runners is a number, at most {MOST_RUNNERS}")
    retention = found.get("retention", 1)
    if type(retention) is not int or not 1 <= retention <= LONGEST_RETENTION:
        raise FileError(E.DAMAGED, home.settings, f"retention is seconds, from 1 to {LONGEST_RETENTION}")
    if found.get("discovery", "on") not in MODES:
        raise FileError(E.DAMAGED, home.settings, f"discovery is one of {', '.join(MODES)}")
    check_labels(home.settings, lists.get("labels", ()))
    parse_commands(found.get("commands", {}), home.settings)
    parse_sensors(found.get("sensors", {}), home.settings)
    texts = {key: value for key, value in found.items() if key not in lists}
    keep = parse_keep(found.get("keep", {}), home.settings)
    return Settings(
        **{"name": default_name, **texts, **{key: tuple(value) for key, value in lists.items()}, "keep": keep}
    )


def parse_keep(raw: object, subject: str) -> KeepLimits:
    """Raises DAMAGED about `subject`."""
    names = [each.name for each in fields(KeepLimits)]
    if not isinstance(raw, Mapping) or not set(raw) <= {*names}:
        raise FileError(E.DAMAGED, subject, f"keep is an object with {', '.join(names)}")
    for name, value in raw.items():
        most = LONGEST_KEPT if name == "seconds" else MOST_KEPT
        if type(value) is not int or not 0 <= value <= most:
            raise FileError(E.DAMAGED, subject, f"keep: {name} is a number, at most {most}")
    return KeepLimits(**raw)


def load_users(disk: Disk, home: Home) -> Users:
    """The table of owners' names and numbers; an empty one if there is none. Raises DAMAGED."""
    if not disk.exists(home.users):
        return Users()
    try:
        return parse_users(disk.read(home.users).decode())
    except UnicodeDecodeError as error:
        raise FileError(E.DAMAGED, home.users, str(error)) from None
    except FileError as error:
        raise FileError(error.error, home.users, f"{error.subject}: {error.detail}") from None


def save_settings(disk: Disk, home: Home, settings: Settings) -> None:
    disk.make_directory(home.path)
    disk.write(home.settings, (json.dumps(asdict(settings), indent=1) + "\n").encode())

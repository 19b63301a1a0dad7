"""Runs scripts of namespace operations, in the form of `data/namespace/vectors.json`, on a real `Namespace`."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from cognu.errors import E, FileError
from cognu.files.authority import Authority
from cognu.files.chan import Chan, Domain, Handle, Origin, Path
from cognu.files.listing import read_directory
from cognu.files.mounts import MAFTER, MBEFORE, MCREATE, MREPL
from cognu.files.namespace import Namespace
from cognu.files.server import OEXCL, Fid, FileServer
from cognu.files.steps import Steps, ready, start
from cognu.kernel import ALL_RIGHTS
from cognu.ninep.types import DMDIR, OREAD, OTRUNC, OWRITE, QTDIR, SetStat
from memfs import MemServer

FLAGS = {"MREPL": MREPL, "MBEFORE": MBEFORE, "MAFTER": MAFTER, "MCREATE": MCREATE}
CLASSES = {
    E.NOENT: "notexist", E.EXIST: "exists", E.NOTDIR: "notdir", E.ACCES: "perm", E.NOCREATE: "perm", E.ISDIR: "perm",
    E.MOUNT: "mount", E.NOTMOUNTED: "mount", E.NOTINUNION: "mount", E.NOTEMPTY: "notempty", E.INVAL: "other",
    E.MOUNTPOINT: "mountpoint", E.PERM: "perm",
}  # fmt: skip
Result = dict[str, Any]


@dataclass
class Someone:
    pid: int = 1
    user: str = "glenda"


T = TypeVar("T")


def now(steps: Steps[T]) -> T:
    """The servers of these tests answer at once."""
    result = start(steps)
    assert not isinstance(result, Coroutine), "an operation on memory servers had to wait"
    return result


def attach_root(
    authority: Authority,
    domain: Domain,
    server: FileServer,
    name: str,
    complete: Callable[[Steps[Any]], Any] = now,
) -> Chan:
    """The root of a server that the node itself serves, as a namespace's root called `name`."""
    _, cap = authority.new_server()
    mine = authority.mint(0, cap, ALL_RIGHTS, domain.pid)
    fid: Fid = complete(ready(server.attach(Someone(), "")))
    return Chan(Handle(server, fid), domain, mine, Path(None, name), Origin("#1", ()))


class Runner:
    """A namespace as the recorded scripts start with it, and the operations on it."""

    def __init__(
        self,
        setup: dict[str, Any],
        complete: Callable[[Steps[Any]], Any] = now,
        reach: Callable[[MemServer], FileServer] = lambda server: server,
    ) -> None:
        """`complete` runs an operation to its end; `reach` gives a server as the namespace is to see it."""
        self.complete = complete
        self.me = Someone()
        authority = Authority()
        domain = Domain(authority)
        self.servers = [MemServer("#1"), MemServer("#2")]
        for entry in setup["tree"]:
            self.servers[0].plant(entry[0], entry[1] if len(entry) > 1 else None)
        for entry in setup["mount"]["tree"]:
            self.servers[1].plant(entry[0].removeprefix(setup["mount"]["at"]), entry[1] if len(entry) > 1 else None)
        first, second = (reach(server) for server in self.servers)
        root = attach_root(authority, domain, first, "/", complete)
        self.namespace = Namespace(domain, root, {"1": (first, root.cap), "2": (second, root.cap)})
        self.cwd = root.share()
        far = self.complete(self.namespace.attach("#2", self.me))
        place = self.complete(self.namespace.find(setup["mount"]["at"], self.cwd, self.me))
        self.namespace.mount(far, place, MREPL | MCREATE)
        self.saved: list[tuple[Namespace, Chan]] = []
        self.operations: dict[str, Callable[..., Any]] = {
            "mkdir": self.mkdir, "create": self.create, "write": self.write, "read": self.read, "ls": self.ls,
            "stat": self.stat, "remove": self.remove, "rename": self.rename, "bind": self.bind,
            "unmount": self.unmount, "chdir": self.chdir, "pwd": self.pwd, "push": self.push, "pop": self.pop,
        }  # fmt: skip

    def run(self, operation: list[str]) -> Result:
        name, *arguments = operation
        try:
            value = self.operations[name](*arguments)
        except FileError as error:
            return {"err": CLASSES.get(error.error, error.error.name)}
        return {"ok": "" if value is None else value}

    def find(self, path: str) -> Chan:
        chan: Chan = self.complete(self.namespace.find(path, self.cwd, self.me))
        return chan

    def open(self, path: str, mode: int) -> Chan:
        chan: Chan = self.complete(self.namespace.open(self.find(path), mode, self.me))
        return chan

    def make(self, path: str, perm: int, mode: int) -> Chan:
        chan: Chan = self.complete(self.namespace.create_path(path, perm, mode, self.cwd, self.me))
        return chan

    def mkdir(self, path: str) -> None:
        self.make(path, DMDIR | 0o777, OREAD | OEXCL).close()

    def create(self, path: str, text: str) -> None:
        chan = self.make(path, 0o666, OWRITE)
        self.complete(ready(chan.server.write(chan.fid, 0, text.encode())))
        chan.close()

    def write(self, path: str, text: str) -> None:
        chan = self.open(path, OWRITE | OTRUNC)
        self.complete(ready(chan.server.write(chan.fid, 0, text.encode())))
        chan.close()

    def read(self, path: str) -> str:
        chan = self.open(path, OREAD)
        if chan.qid.type & QTDIR:
            raise FileError(E.NOTSUP, path)
        data: bytes | memoryview = self.complete(ready(chan.server.read(chan.fid, 0, 65536)))
        chan.close()
        return bytes(data).decode()

    def ls(self, path: str) -> list[str]:
        chan = self.open(path, OREAD)
        if not chan.qid.type & QTDIR:
            raise FileError(E.NOTDIR, path)
        found: list[str] = []
        cookie = 0
        while entries := self.complete(read_directory(self.namespace, chan, cookie, 2, self.me)):
            found += [("d" if entry.qid.type & QTDIR else "-") + entry.name for entry in entries]
            cookie = entries[-1].cookie
        return found

    def stat(self, path: str) -> list[Any]:
        stat = self.complete(self.namespace.stat(self.find(path)))
        return [stat.name, "d" if stat.mode & DMDIR else "-", stat.length]

    def remove(self, path: str) -> None:
        self.complete(self.namespace.remove(self.find(path), self.me))

    def rename(self, path: str, name: str) -> None:
        self.complete(self.namespace.wstat(self.find(path), SetStat(name=name)))

    def bind(self, source: str, place: str, flags: str) -> None:
        bits = 0
        for flag in flags.split("|"):
            bits |= FLAGS[flag]
        self.complete(self.namespace.bind(source, place, bits, self.cwd, self.me))

    def unmount(self, source: str, place: str) -> None:
        self.complete(self.namespace.unmount(None if source == "-" else source, place, self.cwd, self.me))

    def chdir(self, path: str) -> None:
        chan = self.find(path)
        if not chan.qid.type & QTDIR:
            raise FileError(E.NOTDIR, path)
        self.cwd = chan

    def pwd(self) -> str:
        return str(self.open(".", OREAD).path)

    def push(self) -> None:
        self.saved.append((self.namespace, self.cwd))
        domain = Domain(self.namespace.domain.authority, self.namespace.domain)
        self.namespace = self.namespace.copy(domain)
        cwd = self.cwd
        self.cwd = Chan(cwd.handle, domain, self.namespace.root.cap, cwd.path, cwd.origin)

    def pop(self) -> None:
        self.namespace.release()
        self.namespace, self.cwd = self.saved.pop()

"""A session with a node: `System` over one 9P connection.

The node gives the connection a process of its own, whose namespace this is; the connection's open fids are that
process's descriptors. Paths are taken by text (`..` undoes the element before it), symbolic links are resolved here,
mounts there. When the node is lost every call raises `LinkBroken`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cognu.errors import E, FileError
from cognu.files.attach import attach
from cognu.files.chan import Chan
from cognu.files.launch import TOKEN_LABEL
from cognu.files.listing import read_directory
from cognu.files.namespace import Namespace
from cognu.files.nstext import quote, split_words
from cognu.files.rpc import answer_of, request_text
from cognu.files.server import OAPPEND, OEXCL, Entry, Then
from cognu.files.steps import finish
from cognu.files.watching import Inbox, watch
from cognu.ninep.types import DMDIR, ORDWR, OREAD, OTRUNC, OWRITE, QTDIR, SetStat, Stat
from cognu.shell.ahead import Room
from cognu.shell.connection import (
    Connection,
    NodeFile,
    NodeWatch,
    Posting,
    Somebody,
    Wait,
    local_namespace,
    read_answer,
    read_whole,
)
from cognu.shell.fetch import fetch
from cognu.shell.launching import NodeChild, ProgramStart, about_process, join_group, process_info
from cognu.shell.system import (
    Child,
    File,
    Flags,
    Grant,
    Mode,
    ProcessInfo,
    Program,
    RunOptions,
    absolute,
)
from cognu.world import Clock, Stream

SERVICES = "/srv"
STREAMS = 3
"""Descriptors of such a process that must not be taken by a fid of ours."""
AT_ONCE = 64
"""Requests in flight while the entries of a directory are asked about."""
_LISTED = 1024
Entries = list[Entry]
Stats = list[Stat | None]
_FLAGS = {"replace": "", "before": "b", "after": "a"}


@dataclass(frozen=True)
class _Node:
    """What all views of a session share."""

    connection: Connection
    namespace: Namespace
    caller: Somebody
    clock: Clock
    pid: int
    children: set[NodeChild]
    room: Room


class NodeSession:
    """One namespace of a node, with a working directory kept here. See `System` for the methods."""

    def __init__(self, node: _Node, cwd: str) -> None:
        self._node = node
        self._cwd = cwd

    @classmethod
    async def open_session(
        cls, stream: Stream, clock: Clock, user: str, *, token: str = "", cwd: str = "/"
    ) -> NodeSession:
        """Begin a session over `stream`, which it takes over; with a token, as the process that the token stands for.

        `cwd` is not looked at here; `chdir` does. Raises `LinkBroken`, `ProtocolError`, `FileError(NOATTACH)`.
        """
        connection = await Connection.connect(stream, clock, "#M")
        assert isinstance(connection, Connection)
        try:
            with connection.told(TOKEN_LABEL if token else "session"):
                caller = Somebody(user)
                namespace = await finish(local_namespace(connection, caller, TOKEN_LABEL + token if token else ""))
                if token:
                    # The root and these have the lowest numbers; never opened, they keep our open fids off the
                    # descriptors that the process already has.
                    for _ in range(STREAMS - 1):
                        await connection.walk(namespace.root.fid, [], caller)
            node = _Node(connection, namespace, caller, clock, 0, set(), Room())
            # Not /dev/pid: another machine's terminal may be mounted there, with that machine's numbers.
            session = cls(node, cwd)
            pid = await session._read_device("#c", "pid")
            session._node = replace(node, pid=int(pid))
            return session
        except BaseException:
            await connection.close()
            raise

    async def _read_device(self, device: str, name: str) -> bytes:
        node, namespace = self._node, self._node.namespace
        with node.connection.told(f"{device}/{name}"):
            top = await self._attach(device)
            found = await finish(namespace.walk(top, [name], node.caller))
            chan = await finish(namespace.open(found, OREAD, node.caller))
        file = self._file(chan, name, name)
        try:
            return await read_whole(file)
        finally:
            await file.close()
            top.close()

    async def _attach(self, device: str) -> Chan:
        node, root = self._node, self._node.namespace.root
        return await finish(attach(node.connection, root.domain, root.cap, node.caller, device, device, device))

    async def close(self) -> None:
        """End the session: the node ends its process, and what that started. May be called twice."""
        await self._node.connection.close()
        for child in list(self._node.children):
            await child.settled()

    @property
    def lost(self) -> bool:
        """Whether the node is gone, or the session closed."""
        return self._node.connection.broken is not None

    @property
    def open_fids(self) -> int:
        """Fids in use at the node; the root is one."""
        return self._node.connection.fid_count

    async def wait_lost(self) -> None:
        """Return when the node has ended the connection."""
        gone = asyncio.Event()
        self._node.connection.on_broken = lambda _: gone.set()
        if not self.lost:
            await gone.wait()

    # -- what it is -----------------------------------------------------------------------------------------------

    @property
    def cwd(self) -> str:
        return self._cwd

    @property
    def user(self) -> str:
        return self._node.caller.user

    @property
    def pid(self) -> int:
        return self._node.pid

    @property
    def clock(self) -> Clock:
        return self._node.clock

    @property
    def room(self) -> Room:
        return self._node.room

    @property
    def waits(self) -> Mapping[int, Wait]:
        """What is under way at the node, each under a number of its own."""
        return self._node.connection.waits

    def view(self) -> NodeSession:
        return NodeSession(self._node, self._cwd)

    # -- names ----------------------------------------------------------------------------------------------------

    def _absolute(self, path: str) -> str:
        """Raises NOENT for an empty path. A slash at the end stays: it asks for a directory."""
        if not path:
            raise FileError(E.NOENT, "''")
        whole = absolute(self._cwd, path)
        return whole + "/" if path.endswith("/") and whole != "/" else whole

    async def _find(self, path: str, follow: bool = True, then: Then | None = None) -> Chan:
        namespace = self._node.namespace
        return await finish(namespace.find(self._absolute(path), namespace.root, self._node.caller, follow, then))

    async def _open(self, path: str, mode: int) -> Chan:
        namespace = self._node.namespace
        return await finish(namespace.open(await self._find(path), mode, self._node.caller))

    async def _create(self, path: str, perm: int, mode: int) -> Chan:
        """As `Namespace.create_path`. A name with a slash at its end can only become a directory."""
        whole = self._absolute(path)
        if whole.endswith("/") and not perm & DMDIR:
            raise FileError(E.ISDIR, path)
        directory, name = await self._find_parent(whole)
        try:
            return await finish(self._node.namespace.create(directory, name, perm, mode, self._node.caller))
        finally:
            directory.close()

    async def _find_parent(self, whole: str) -> tuple[Chan, str]:
        namespace = self._node.namespace
        return await finish(namespace.find_parent(whole, namespace.root, self._node.caller))

    def _file(self, chan: Chan, path: str, subject: str) -> NodeFile:
        return NodeFile(self._node.connection, chan, path, subject, self._offset_of)

    async def _offset_of(self, number: int) -> int:
        """Where a descriptor is, as `/fd/Nctl` tells: number, access, device, qid (three words), offset, path."""
        words = (await self.read_all(f"/fd/{number}ctl")).decode("utf-8", "replace").split()
        return int(words[6])

    # -- files ----------------------------------------------------------------------------------------------------

    async def chdir(self, path: str) -> None:
        with self._node.connection.told(path):
            found = await self._find(path)
            directory = found.qid.type & QTDIR
            found.close()
            if not directory:
                raise FileError(E.NOTDIR, path)
        self._cwd = absolute(self._cwd, path)

    async def open(self, path: str, mode: Mode, perm: int = 0o666) -> NodeFile:
        with self._node.connection.told(path):
            chan = await self._open_as(path, mode, perm)
        return self._file(chan, absolute(self._cwd, path), path)

    async def ask(self, path: str, question: str) -> Sequence[str]:
        file = await self.open(path, "rw")
        try:
            await file.write(question.encode("utf-8", "surrogateescape"))
            file.rewind()
            answers = []
            while line := await file.read():
                answers.append(line.decode("utf-8", "replace"))
            return answers
        finally:
            await file.close()

    async def _open_as(self, path: str, mode: Mode, perm: int) -> Chan:
        if mode == "w":
            return await self._create(path, perm, OWRITE | OTRUNC)
        if mode == "a":
            return await self._open_to_append(path, perm)
        found = await self._find(path, then=Then.READ if mode == "r" else None)
        if found.qid.type & QTDIR:
            found.close()
            raise FileError(E.ISDIR, path)
        namespace = self._node.namespace
        return await finish(namespace.open(found, OREAD if mode == "r" else ORDWR, self._node.caller))

    async def _open_to_append(self, path: str, perm: int) -> Chan:
        try:
            return await self._open(path, OWRITE | OAPPEND)
        except FileError as error:
            if error.error is not E.NOENT:
                raise
        try:
            return await self._create(path, perm, OWRITE | OAPPEND | OEXCL)
        except FileError as failure:
            if failure.error is not E.EXIST:
                raise
        return await self._open(path, OWRITE | OAPPEND)  # somebody else made it just now

    async def read_all(self, path: str) -> bytes:
        """The whole content of a file."""
        file = await self.open(path, "r")
        try:
            return await read_whole(file)
        finally:
            await file.close()

    async def write_to(self, path: str, data: bytes) -> None:
        """One write to a file that takes commands; nothing is cut off first."""
        with self._node.connection.told(path):
            chan = await self._open(path, OWRITE)
        file = self._file(chan, path, path)
        try:
            await file.write(data)
        finally:
            await file.close()

    async def mkdir(self, path: str, perm: int = 0o777) -> None:
        with self._node.connection.told(path):
            # A name may end in a slash here, and is the same name.
            (await self._create(absolute(self._cwd, path), DMDIR | perm, OREAD | OEXCL)).close()

    async def stat(self, path: str, follow: bool = True) -> Stat:
        with self._node.connection.told(path):
            found = await self._find(path, follow, Then.STAT)
            try:
                return await finish(self._node.namespace.stat(found))
            finally:
                found.close()

    async def watch(self, path: str, kinds: int) -> NodeWatch:
        with self._node.connection.told(path):
            found = await self._find(path)
            inbox = Inbox()
            try:
                return NodeWatch(await finish(watch(self._node.namespace, found, kinds, inbox)), inbox)
            finally:
                found.close()

    async def resolve(self, path: str) -> str:
        with self._node.connection.told(path):
            try:
                found = await self._find(path)
            except FileError as error:
                if error.error is not E.NOENT:
                    raise
                found, name = await self._find_parent(absolute(self._cwd, path))
                real = f"{str(found.path).rstrip('/')}/{name}"
            else:
                real = str(found.path)
            found.close()
            return real

    async def _list(self, path: str) -> list[Stat]:
        with self._node.connection.told(path):
            found = await self._find(path, then=Then.LIST)
            try:
                if not found.qid.type & QTDIR:
                    raise FileError(E.NOTDIR, path)
                found = await finish(self._node.namespace.open(found, OREAD, self._node.caller))
                entries = await self._entries(found)
                stats: Stats = []
                for start in range(0, len(entries), AT_ONCE):
                    batch = entries[start : start + AT_ONCE]
                    asked = await asyncio.gather(
                        *(self._entry_stat(found, entry) for entry in batch), return_exceptions=True
                    )
                    for answer in asked:
                        if isinstance(answer, BaseException):
                            raise answer
                        stats.append(answer)
                return [stat for stat in stats if stat is not None]
            finally:
                found.close()

    async def list(self, path: str) -> list[Stat]:
        return await self._node.room.run(lambda: self._list(path))

    async def _entries(self, directory: Chan) -> Sequence[Entry]:
        namespace, caller = self._node.namespace, self._node.caller
        entries: Entries = []
        cookie = 0
        while batch := await finish(read_directory(namespace, directory, cookie, _LISTED, caller)):
            entries += batch
            cookie = batch[-1].cookie
        return entries

    async def _entry_stat(self, directory: Chan, entry: Entry) -> Stat | None:
        """The attributes of an entry, or what its qid tells if they are refused; None if it is gone since."""
        if entry.stat is not None:
            return entry.stat
        connection = self._node.connection
        try:
            fid = (await connection.walk(directory.fid, [entry.name], self._node.caller)).fid
            assert fid is not None
            try:
                return await connection.stat(fid)
            finally:
                connection.clunk(fid)
        except FileError as error:
            if connection.broken is not None:
                raise
            return None if error.error is E.NOENT else Stat(entry.name, entry.qid, entry.qid.type << 24)

    async def remove(self, path: str) -> None:
        with self._node.connection.told(path):
            found = await self._find(path, follow=False)
            try:
                await finish(self._node.namespace.remove(found, self._node.caller))
            finally:
                found.close()

    async def rename(self, old: str, new: str) -> None:
        told = self._node.connection.told
        with told(new):
            # As a directory is renamed to a name that may end in a slash, the slashes go first.
            to, new_name = await self._find_parent(absolute(self._cwd, new))
        try:
            with told(old):
                directory, name = await self._find_parent(self._absolute(old))
                try:
                    rename = self._node.namespace.rename(directory, name, to, new_name, self._node.caller)
                    await finish(rename)
                finally:
                    directory.close()
        finally:
            to.close()

    async def wstat(self, path: str, change: SetStat) -> None:
        with self._node.connection.told(path):
            found = await self._find(path)
            try:
                await finish(self._node.namespace.wstat(found, change))
            finally:
                found.close()

    async def pipe(self) -> tuple[NodeFile, NodeFile]:
        return await self.pipe_ends("r", "w")

    async def pipe_ends(self, near: Mode, far: Mode) -> tuple[NodeFile, NodeFile]:
        """The two ends of a new pipe, opened so; what is written to one is read from the other."""
        node, namespace = self._node, self._node.namespace
        modes = {"r": OREAD, "w": OWRITE, "rw": ORDWR}
        with node.connection.told("pipe"):
            top = await self._attach("#|")
            try:
                ends: list[Chan] = []
                for name, mode in (("data", near), ("data1", far)):
                    found = await finish(namespace.walk(top, [name], node.caller))
                    ends.append(await finish(namespace.open(found, modes[mode], node.caller)))
            finally:
                top.close()
        return self._file(ends[0], "pipe", "pipe"), self._file(ends[1], "pipe", "pipe")

    async def post(self, name: str) -> tuple[NodeFile, NodeFile]:
        near, theirs = await self.pipe_ends("rw", "rw")
        path = f"{SERVICES}/{name}"
        try:
            with self._node.connection.told(path):
                chan = await self._create(path, 0o600, OWRITE | OEXCL)
            posting = Posting(self._node.connection, chan, path, path, self._offset_of)
            try:
                await posting.write(f"{(await near.lend())[0]} own".encode())
            except BaseException:
                await posting.close()
                raise
        except BaseException:
            await theirs.close()
            raise
        finally:
            await near.close()
        return theirs, posting

    # -- the namespace --------------------------------------------------------------------------------------------

    async def bind(self, new: str, old: str, flags: Flags) -> None:
        source = new if new.startswith("#") else self._absolute(new)
        await self._change(["bind", *_options(flags), source, self._absolute(old)], new, old)

    async def mount(self, service: str, old: str, flags: Flags, aname: str = "") -> None:
        words = ["mount", *_options(flags), self._absolute(service), self._absolute(old), *([aname] if aname else [])]
        await self._change(words, service, old)

    async def unmount(self, new: str | None, old: str) -> None:
        source = [] if new is None else [new if new.startswith("#") else self._absolute(new)]
        await self._change(["unmount", *source, self._absolute(old)], new or old, old)

    async def _change(self, words: Sequence[str], new: str, old: str) -> None:
        """Have the node carry out a command on this namespace; what it refuses is laid to the name that it is about."""
        try:
            await self.write_to(f"/proc/{self.pid}/ns", (" ".join(map(quote, words)) + "\n").encode())
        except FileError as error:
            if error.error in (E.NOENT, E.NOTDIR) and not new.startswith("#"):
                await self.stat(new)  # raises if it is this one
            raise FileError(error.error, old if error.error in (E.NOENT, E.NOTDIR) else new, error.detail) from None

    # -- processes ------------------------------------------------------------------------------------------------

    async def start(
        self,
        program: Program,
        argv: Sequence[str],
        env: Mapping[str, str],
        stdin: File,
        stdout: File,
        stderr: File,
        options: RunOptions,
    ) -> Child:
        return await self._started(ProgramStart(program.text, argv, env, self._cwd, options), stdin, stdout, stderr)

    async def cpu(
        self,
        node: str,
        argv: Sequence[str],
        env: Mapping[str, str],
        stdin: File,
        stdout: File,
        stderr: File,
        options: RunOptions,
    ) -> Child:
        start = ProgramStart("cpu", ("cpu", *argv), env, self._cwd, replace(options, on=node))
        return await self._started(start, stdin, stdout, stderr)

    async def _started(self, start: ProgramStart, *streams: File) -> Child:
        wait, begin_wait = start.waits_for(self._cwd), self._node.connection.begin_wait
        begun = begin_wait(wait._replace(begins=start.options.on or ""))
        try:
            child = await self._lent(start, streams)
        finally:
            begun()
        over = begin_wait(wait)
        child.on_end(lambda _: over())
        self._node.children.add(child)
        child.on_end(self._node.children.discard)
        return child

    async def _lent(self, start: ProgramStart, streams: Sequence[File]) -> NodeChild:
        lent: list[NodeFile] = []
        try:
            numbers: list[tuple[int, int]] = []
            for file, mode in zip(streams, ("r", "w", "w"), strict=True):
                if not isinstance(file, NodeFile):
                    # A stream of this process's own: the terminal's server shows it at its path.
                    path = file.path
                    file = self._file(await self._lendable(path, OREAD if mode == "r" else OWRITE), path, path)
                    lent.append(file)
                numbers.append(await file.lend())
            return await self._launch(start, numbers)
        finally:
            for file in lent:
                await file.close()

    async def _lendable(self, path: str, mode: int) -> Chan:
        with self._node.connection.told(path):
            return await self._open(path, mode)

    async def _launch(self, start: ProgramStart, numbers: Sequence[tuple[int, int]]) -> NodeChild:
        ctl = await self.open("/proc/clone", "rw")
        ctl.commands = True
        try:
            pid = int((await ctl.read()).decode())
            wait = await self.open(f"/proc/{pid}/wait", "r")
            try:
                wants = await self.open(f"/proc/{pid}/wants", "rw" if start.options.asks else "r")
                wants.commands = True
            except BaseException:
                await wait.close()
                raise
        except BaseException:
            await ctl.close()
            raise
        try:
            if start.options.group is not None:
                await join_group(ctl, pid, start.options.group)
            for subject, text in start.lines(numbers):
                with self._node.connection.told(subject, keep=True):
                    await ctl.write(text)
        except BaseException as error:
            for file in (wants, wait, ctl):
                await file.close()
            if not isinstance(error, FileError) or error.error is not E.NOENT:
                raise
            # It may be the working directory, or what was granted, that is not there.
            for path in (start.cwd, *start.paths):
                await self.stat(path)
            raise FileError(E.NOENT, start.program, error.detail) from None
        return NodeChild(pid, ctl, wait, wants)

    async def remember(self, program: str, name: str, grant: Grant, allowed: bool) -> None:
        text = f"{grant.path}:{grant.rights}"
        await self.rpc("grant", program=program, name=name, grants=[text], never=not allowed)

    async def processes(self) -> Sequence[ProcessInfo]:
        found: list[ProcessInfo] = []
        for entry in await self.list("/proc"):
            if not entry.name.isdigit():
                continue
            try:
                status = await self.read_all(f"/proc/{entry.name}/status")
                args = await self.read_all(f"/proc/{entry.name}/args")
            except FileError as error:
                if error.error in (E.NOENT, E.SRCH):
                    continue  # it ended meanwhile
                raise
            found.append(process_info(status.decode("utf-8", "replace"), args.decode("utf-8", "replace")))
        return found

    async def control(self, pid: int, line: str) -> None:
        with about_process(pid):
            await self.write_to(f"/proc/{pid}/ctl", line.encode())

    async def wait(self, pid: int) -> int:
        with about_process(pid):
            line = await self.read_all(f"/proc/{pid}/wait")
        return int(split_words(line.decode("utf-8", "replace"))[-1])

    # -- the store, other nodes -----------------------------------------------------------------------------------

    async def put(self, path: str, name: str | None) -> str:
        source = await self.open(path, "r")
        try:
            target = await self.open("/mnt/store/put", "rw")
            try:
                while data := await source.read():
                    await target.write(data)
                digest = (await read_answer(target)).decode().strip()
            finally:
                await target.close()
        finally:
            await source.close()
        if name is not None:
            try:
                await self.write_to("/mnt/store/ctl", f"name {quote(name)} {digest}\n".encode())
            except FileError as error:
                raise FileError(error.error, name, error.detail) from None
        return digest

    async def get(self, digest: str) -> File:
        with self._node.connection.told(digest):
            if "/" in digest or digest in ("", ".", ".."):
                raise FileError(E.NOENT, digest)
            chan = await self._open(f"/mnt/store/objects/{digest}", OREAD)
        return self._file(chan, f"/mnt/store/objects/{digest}", digest)

    async def fetch(self, url: str) -> File:
        return await fetch(self, url)

    async def import_tree(self, node: str, path: str, at: str, read_only: bool = False) -> None:
        source = absolute(f"/n/{node}", path.lstrip("/") or ".")
        if absolute(self._cwd, at) == f"/n/{node}":
            if read_only:
                raise FileError(E.USAGE, "import", "-r needs a place of its own: import -r NODE PATH AT")
            try:
                await self.stat(source)
                if source == f"/n/{node}":
                    # Its attributes are made up here; opening it asks the machine.
                    with self._node.connection.told(source):
                        (await self._open(source, OREAD)).close()
            except FileError as error:
                raise await self.why_not_imported(node, source, at, error) from None
            return
        try:
            await self.bind(source, at, Flags(read_only=read_only))
        except FileError as error:
            raise await self.why_not_imported(node, source, at, error) from None

    async def why_not_imported(self, node: str, source: str, at: str, error: FileError) -> FileError:
        """What is missing, if something is: the machine, its tree, or the place to have it at."""
        if error.error is not E.NOENT:
            return error
        for path, missing in ((f"/n/{node}", FileError(E.NOPEER, node)), (source, FileError(E.NOENT, source))):
            try:
                await self.stat(path)
            except FileError as refused:
                return missing if refused.error is E.NOENT else refused
        return FileError(E.NOPLACE, at)

    async def export_tree(
        self, path: str, node: str | None, write: bool, hide: Sequence[str] = (), show: Sequence[str] = ()
    ) -> Mapping[str, Sequence[str]]:
        given = await self.rpc(
            "export", path=absolute(self._cwd, path), peer=node, write=write, hide=list(hide), show=list(show)
        )
        granted: Mapping[str, Sequence[str]] = await self.rpc("grants")
        return {peer: granted[peer] for peer, _ in given["granted"] if peer in granted}

    async def rpc(self, verb: str, **arguments: object) -> Any:
        """Ask the node itself, at /mnt/node/rpc. Raises what it answers; a refusal keeps its own subject and detail.

        NOTHERE where there is no such file, as in a shell of another machine.
        """
        try:
            file = await self.open("/mnt/node/rpc", "rw")
        except FileError as error:
            if error.error is not E.NOENT:
                raise
            raise FileError(E.NOTHERE, verb) from None
        try:
            await file.write(request_text(verb, arguments))
            return answer_of(await read_answer(file))
        finally:
            await file.close()


def _options(flags: Flags) -> list[str]:
    letters = _FLAGS[flags.order] + ("c" if flags.create else "") + ("r" if flags.read_only else "")
    return [f"-{letters}"] if letters else []

"""What `start` does to a new process: run it here, run it on a peer, run it for a peer, or be a peer's shell.

Run on a peer, the process stays here too: it holds the namespace and the streams, which are lent to that peer by a
token, and stands for the far one in `ps`, `kill` and `wait`. The peer fetches the program by its hash.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Coroutine
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from cognu.devices.cons import cons_server
from cognu.devices.kept import KeptTerminal, kept_server
from cognu.devices.ram import RamServer
from cognu.devices.root import ROOT_DIRECTORIES, SkeletonServer
from cognu.errors import THERE, CognuError, E, FileError
from cognu.files.audit import audit, name_of
from cognu.files.chan import Chan, Domain, Path
from cognu.files.dispatch import dispatch
from cognu.files.launch import SHELL, TOKEN_LABEL, TOKEN_VARIABLE, Launch
from cognu.files.limits import USUAL_WEIGHT, Resource
from cognu.files.mounts import MAFTER, MREPL, ChanMover, Device
from cognu.files.namespace import Namespace
from cognu.files.notes import note_signal
from cognu.files.nscommands import apply
from cognu.files.nstext import quote, split_words
from cognu.files.process import Process, State
from cognu.files.reach import FarReach
from cognu.files.steps import Steps, finish
from cognu.files.wants import Said
from cognu.kernel import ALL_RIGHTS, EXECUTE, GRANT, READ, WRITE
from cognu.mesh.identity import Peer
from cognu.ninep.types import ORDWR, OREAD, OWRITE
from cognu.node.admitting import prepared, taken_back
from cognu.node.away import unless_away
from cognu.node.grants import RUN
from cognu.node.keeping import PLACE, Keeping
from cognu.node.lending import STREAMS
from cognu.node.lent_view import shell_view
from cognu.node.node import Node
from cognu.runtime.cache import CompileCache
from cognu.runtime.launch import Programs, build_namespace
from cognu.runtime.runners import Runners
from cognu.runtime.scheduler import Scheduler
from cognu.store.names import is_prefix, is_whole
from cognu.world.timing import within

SHELL_COMMAND = (sys.executable, "-IB", "-m", "cognu.shell")
"""Isolated, as a runner: it finds no modules in a directory that it happens to begin in."""
log = logging.getLogger("cognu.launcher")

SHELL_MEMORY = 64 << 20
"""Bytes that a peer's shell is charged for; it takes about half of that to begin with."""
MOST_SHELL_MEMORY = 1 << 30
"""Bytes of address space that a peer's shell may have, if its peer has that much room."""
SHELL_FILES = 1024
"""Descriptors of the host that a peer's shell may have open."""
KILL_SECONDS = 10.0
"""How long a killed process on a peer may take to end before it is over on this side in any case."""
SHELL_NAMESPACE = """\
bind '#c' /dev
bind -c '#e' /env
bind '#d' /fd
bind '#p' /proc
bind -c '#r' /tmp
bind '#V/bin' /bin
"""
MOST_SAID = 16
SAID_LENGTH = 200
"""Grants of a start that its line in the log has, and characters of each name there."""
CHUNK = 1 << 20
PROGRAMS = "/bin"
OBJECTS = ("/mnt/store/objects", "#V/objects")
"""Where a process that may read the store finds its objects by hash."""
PEERS = "/n"
CONSOLE = "/dev/cons"
_ABSENT = (E.NOENT, E.NOTDIR, E.NODEV, E.NAMETOOLONG, E.ILSEQ)
"""What a path that does not exist for a process is refused with."""


def granted_text(launch: Launch) -> str:
    """What a start gave of files, for the log: of each the beginning, and of many how many more. Empty if nothing."""
    given = [f"{_short(path)}:{rights}" for path, rights in launch.grants]
    given += [f"{_short(source)}:rwx as {_short(guest)}" for source, guest in launch.directories]
    given += [f"what {_short(path)} says" for path in launch.grant_files]
    more = f" and {len(given) - MOST_SAID} more" if len(given) > MOST_SAID else ""
    return ", ".join(given[:MOST_SAID]) + more


def _short(text: str) -> str:
    return text if len(text) <= SAID_LENGTH else f"{text[:SAID_LENGTH]}…"


class Launcher:
    def __init__(self, node: Node, scheduler: Scheduler, cache: CompileCache, runners: Runners) -> None:
        """Takes over `runners`."""
        self._node = node
        self._programs = Programs(node.world, scheduler, cache, node.processes, SkeletonServer, runners)
        self._tasks: set[asyncio.Task[None]] = set()
        self.keeping = Keeping(node)

    async def launch(self, process: Process, launch: Launch) -> None:
        """Make a NEW process run, or raise with nothing left running."""
        if launch.on and launch.handles:
            raise FileError(E.NOTSUP, launch.on, "interfaces are handled by programs that run here")
        if (launch.keep or launch.kept) and not launch.is_shell:
            raise FileError(E.USAGE, "keep, attach", "of a shell on another machine")
        if launch.on:
            await self._on_peer(process, launch)
        elif launch.token and launch.program == SHELL:
            await self._shell_for_peer(process, launch)
        elif launch.token:
            await self._for_peer(process, launch)
        else:
            await self._here(process, launch)
        if not launch.is_shell and (said := granted_text(launch)):
            program = f"{_short(launch.program)} ({process.score})" if process.score else _short(launch.program)
            by = name_of(process.parent or process)
            audit(by, f"started {program}, process {process.pid}, with: {said}")

    def _settled(self, launch: Launch) -> Launch:
        """With what is set for all programs here."""
        return replace(launch, isolate=launch.isolate or self._node.settings.isolate == "all")

    # -- here -----------------------------------------------------------------------------------------------------

    async def _here(self, process: Process, launch: Launch) -> None:
        name, data = await self._program(process, launch.program)
        process.score = name
        launch = await self._prepared(process, launch, name)
        kept = process.wants.kept if process.wants is not None else Said()
        await self._programs.launch(process, self._settled(launch), name, data)
        taken_back(process, kept)

    async def _prepared(self, process: Process, launch: Launch, name: str) -> Launch:
        """With what the node remembers of the program, for its own users alone."""
        node = self._node
        return await prepared(process, launch, name, None if node.exports.is_from_afar(process) else node.programs)

    async def _confine(self, process: Process, launch: Launch) -> None:
        """Leave the process with the namespace that its grants make, and nothing else."""
        if launch.program == SHELL:
            build = shell_view(process, launch)
        else:
            cwd = str(process.cwd.path)
            build = build_namespace(process, cwd, launch.grants, launch.directories, SkeletonServer)
        clothes = await finish(build)
        clothes.descriptors.release()
        _replace(process, clothes.namespace, clothes.cwd)

    async def _program(self, process: Process, word: str) -> tuple[str, bytes]:
        """A program's hash and bytes, by path, name in /bin, or hash, as the process itself could read them.

        Raises NOTFOUND for a word that means nothing to the process, whatever it means to others, and what opening and
        reading raise.
        """
        store = self._node.store
        if self._node.exports.is_from_afar(process) and is_whole(word) and store.is_published(word):
            return word, await store.get(word)  # it might as well fetch it
        chan = await self._program_file(process, word)
        try:
            data = await read_all(chan)
        finally:
            chan.close()
        return await store.hash_of(data), data

    async def _program_file(self, process: Process, word: str) -> Chan:
        if "/" in word:
            return await self._open(process, word, OREAD)
        if word not in ("", ".", "..") and await self._sees(process, f"{PROGRAMS}/{word}"):
            return await self._open(process, f"{PROGRAMS}/{word}", OREAD)
        if is_prefix(word):
            for objects in OBJECTS:
                if await self._sees(process, objects):
                    return await self._open(process, f"{objects}/{word}", OREAD)
        raise FileError(E.NOTFOUND, word)

    async def _sees(self, process: Process, path: str) -> bool:
        """Whether there is such a file for the process, whatever it may do with it."""
        try:
            await finish(process.namespace.find(path, process.cwd, process))
        except FileError as error:
            if error.error not in _ABSENT:
                raise
            return False
        return True

    async def _open(self, process: Process, path: str, mode: int) -> Chan:
        namespace = process.namespace
        found = await finish(namespace.find(path, process.cwd, process))
        return await finish(namespace.open(found, mode, process))

    # -- on a peer ------------------------------------------------------------------------------------------------

    async def _on_peer(self, process: Process, launch: Launch) -> None:
        if self._node.exports.is_from_afar(process):
            # Whatever is mounted at its /n: what another machine started never acts in this one's name. The same for
            # all names, of which some are this machine's peers.
            whose = self._node.book.find(self._node.exports.peer_of(process)).name
            detail = f"a shell of {whose}'s has none to go on to; at {whose} itself: cpu {launch.on}"
            raise FileError(E.NOPEER, launch.on, detail)
        try:
            peer = self._node.book.find(launch.on)
        except FileError as error:
            seen = error.error is not E.AMBIGUOUS or await self._sees(process, PEERS)
            raise FileError(error.error if seen else E.NOPEER, launch.on) from None
        await unless_away(self._node, peer, self._begin_on(process, launch, peer))

    async def _begin_on(self, process: Process, launch: Launch, peer: Peer) -> None:
        ctl = await self._far_process(process, peer, launch.on)
        token = self._node.lending.lend(process, peer.fingerprint)
        lent = ExitStack()
        lent.callback(self._node.lending.end, token)
        try:
            program = launch.program
            if program != SHELL:
                name, data = await self._program(process, launch.program)
                program = await self._node.store.put(data)
                assert program == name
                lent.callback(self._node.lent_objects.lend(name, peer.fingerprint))
                process.score = name
                launch = await self._prepared(process, launch, name)
            kept = process.wants.kept if process.wants is not None else Said()
            cwd = str(process.cwd.path)
            cwd = cwd if cwd.startswith("/") else "/"
            lines = [*_far_lines(process, launch), f"program {quote(program)}", f"import {token} {quote(cwd)}", "start"]
            # Found in the namespace that the process still has; a program's own has no /n.
            wait = await self._beside(process, peer, ctl, "wait")
            try:
                await self._confine(process, launch)
                taken_back(process, kept)
                for line in lines:
                    await write_all(ctl, line.encode())
            except BaseException:
                wait.close()
                raise
        except BaseException:
            lent.close()
            ctl.close()
            raise
        process.node = peer.name
        left = launch.program == SHELL and not launch.args  # whoever kills a prompt wants to be away from it
        process.kill = lambda by: self._kill_far(process, peer, ctl, by, left)
        process.note = lambda text: self._tell(process, ctl, f"note {quote(_known(text))}")
        process.tell = lambda line: self._tell(process, ctl, line)
        process.pause = lambda stop: self._tell(process, ctl, "stop" if stop else "start")
        process.weigh = lambda weight: self._tell(process, ctl, f"pri {weight}")
        self._spawn(self._follow(process, ctl, wait, lent))

    async def _far_process(self, process: Process, peer: Peer, word: str) -> Chan:
        """The ctl of a new process there. Whom the process can't reach is nobody for it, as a name never heard of."""
        try:
            return await self._open(process, f"{PEERS}/{peer.name}/proc/clone", ORDWR)
        except FileError as error:
            if error.error is not E.NOENT:
                raise
            if not await self._sees(process, f"{PEERS}/{peer.name}"):
                raise FileError(E.NOPEER, word) from None
            # They have us by the name that our card had when the two were joined, which is this one as a rule.
            remedy = f"{THERE}grants set {self._node.settings.name} run"
            detail = f"{peer.name} does not let this machine run programs{remedy}"
            raise FileError(E.ACCES, peer.name, detail) from None

    async def _beside(self, process: Process, peer: Peer, ctl: Chan, name: str) -> Chan:
        pid = (await read_all(ctl)).decode().strip()
        return await self._open(process, f"{PEERS}/{peer.name}/proc/{pid}/{name}", OREAD)

    async def _follow(self, process: Process, ctl: Chan, wait: Chan, lent: ExitStack) -> None:
        """Until the far process ends, or can't be reached any more; then what was lent for it is lent no longer."""
        status, message = 1, ""
        try:
            words = split_words((await read_all(wait)).decode())
            status, message = int(words[5]), words[4]
        except (CognuError, ValueError, IndexError) as error:
            message = _how_lost(error, process.node)
            log.warning("process %d on %s: %s", process.pid, process.node, error)
        finally:
            lent.close()
            wait.close()
            ctl.close()
            self._node.processes.end(process, status, message)

    def _kill_far(self, process: Process, peer: Peer, ctl: Chan, by: str, left: bool) -> None:
        """The far one ends first, so that its last output comes; if its node is away, when that is back.

        If it is just `left`, this side waits for nothing.
        """
        self._tell(process, ctl, "kill")
        if left:
            self._node.processes.end(process, 128 + 9, str(FileError(E.KILLED, "", by)))
            return
        away = str(FileError(E.KILLED, "", f"{by}; {peer.name} is away"))
        if not self._node.mesh.is_linked(peer.fingerprint):
            self._node.processes.end(process, 128 + 9, away)
            return

        async def end() -> None:
            # The link may be dead already, and nobody have noticed.
            try:
                await within(self._node.world.clock, KILL_SECONDS, process.ended.wait())
            except TimeoutError:
                self._node.processes.end(process, 128 + 9, away)

        self._spawn(end())

    def _tell(self, process: Process, ctl: Chan, line: str) -> None:
        async def tell() -> None:
            try:
                await write_all(ctl, line.encode())
            except CognuError as error:
                log.warning("process %d on %s: %s: %s", process.pid, process.node, line, error)

        self._spawn(tell())

    # -- for a peer -----------------------------------------------------------------------------------------------

    async def _lent(self, process: Process, launch: Launch) -> tuple[str, Domain, Chan]:
        """Take what was lent: its streams become the process's. The peer, the domain to use it in, the root."""
        peer = self._node.exports.peer_of(process)
        channel = await self._node.mesh.open(peer, TOKEN_LABEL + launch.token)
        domain = Domain(self._node.authority, process.namespace.domain)
        try:
            root, streams = await self._node.services.attach(channel, domain, process, ("", STREAMS))
            root.path = Path(None, "/")
            for number, mode in ((0, OREAD), (1, OWRITE), (2, OWRITE)):
                try:
                    found = await finish(process.namespace.walk(streams, [str(number)], process))
                    chan = await finish(process.namespace.open(found, mode, process))
                except FileError as error:
                    if error.error is not E.NOENT:
                        raise
                    continue  # it was started without that stream
                process.descriptors.add(chan, number)
            streams.close()
        except BaseException:
            domain.release()
            raise
        return peer, domain, root

    async def _for_peer(self, process: Process, launch: Launch) -> None:
        """A program that works on what its starter lends, and sees nothing of this machine."""
        peer, domain, root = await self._lent(process, launch)
        if not launch.directories:
            process.reach = FarReach(process, root.share()).reach
        namespace = Namespace(domain, root)
        try:
            cwd = await finish(namespace.find(launch.cwd, root, process))
            name = _whole_hash(launch.program)
            data = await self._given_by(peer, name)
        except BaseException:
            namespace.release()
            raise
        process.score = name
        _replace(process, namespace, cwd)
        await self._programs.launch(process, self._settled(launch), name, data, confined=False)

    async def _given_by(self, fingerprint: str, name: str) -> bytes:
        """A program that a peer gave, or might fetch here: to know the hash of another that is here is no authority."""
        store = self._node.store
        given = self._node.exports.given
        if name not in given.get(fingerprint, ()) and not store.is_published(name):
            peer = self._node.book.find(fingerprint)
            data = await store.get_from(peer.name, name)
            if self._node.book.get(fingerprint) is not None:  # else it was dropped meanwhile
                given.setdefault(fingerprint, set()).add(name)
            return data
        return await store.get(name)

    async def _shell_for_peer(self, process: Process, launch: Launch) -> None:
        """A shell of the peer's on this machine: what the peer was granted, and its own files at /mnt/term."""
        peer, domain, root = await self._lent(process, launch)

        async def dress(kept: Process, terminal: KeptTerminal) -> None:
            _replace(kept, *await self._shell_namespace(kept, launch, peer, root, terminal))
            for number, mode in ((0, OREAD), (1, OWRITE), (2, OWRITE)):
                kept.descriptors.add(await self._open(kept, CONSOLE, mode), number)
            await self._start_shell(kept, launch)
            kept.state = State.RUNNING

        try:
            if launch.kept:
                await self.keeping.show(process, launch, peer, root)
            elif launch.keep:
                await self.keeping.begin(process, launch, peer, root, dress)
            else:
                _replace(process, *await self._shell_namespace(process, launch, peer, root))
                await self._start_shell(process, launch)
        finally:
            root.close()
            domain.release()

    async def _shell_namespace(
        self, process: Process, launch: Launch, peer: str, root: Chan, terminal: KeptTerminal | None = None
    ) -> tuple[Namespace, Chan]:
        """What a peer's shell sees, and where it begins. Its terminal is what was lent, or `terminal`."""
        node = self._node
        namespace = await node.exports.namespace(peer, ROOT_DIRECTORIES)
        try:
            self._add_devices(namespace, terminal)
            granted = await node.exports.behind(peer, namespace, process)
            await finish(apply_to(process, namespace, SHELL_NAMESPACE, node))
            del namespace.devices["V"]  # /bin is all that a peer's shell may see of the store
            place = await finish(namespace.find(PLACE, namespace.root, process))
            namespace.mount(ChanMover(namespace.domain).move(root), place, MREPL)
            console = f"{PLACE}/dev" if terminal is None else "'#t'"
            await finish(apply_to(process, namespace, f"bind -a {console} /dev\n", node))
            namespace.devices.pop("t", None)  # nor may it have another terminal than its own
            for at, behind in granted:
                namespace.mount(behind, at, MAFTER)
            return namespace, await self._start_directory(namespace, process, f"{PLACE}{launch.cwd}")
        except BaseException:
            namespace.release()
            raise

    async def _start_shell(self, process: Process, launch: Launch) -> None:
        """The host's process that the shell is, within what its peer may use. Raises DQUOT."""
        node = self._node
        process.quota.take(Resource.MEMORY, SHELL_MEMORY)
        room = process.quota.room(Resource.MEMORY)
        memory = MOST_SHELL_MEMORY if room is None else min(MOST_SHELL_MEMORY, SHELL_MEMORY + room)
        token = node.lending.lend(process, "")
        match launch.args:
            case []:
                command = ["-i"]
            case ["-"]:
                command = []  # what comes on the input is a script
            case [text]:
                command = [f"--command={text}"]  # may begin with a dash
            case words:
                command = ["--", *words]
        argv = [*SHELL_COMMAND, "--socket", node.home.socket, "--streams", "fd", *command]
        variables = {"LANG": "C.UTF-8", TOKEN_VARIABLE: token}
        try:
            child = await node.world.spawn.start(argv, variables, "/", memory=memory, open_files=SHELL_FILES)
        except BaseException:
            node.lending.end(token)
            process.quota.give(Resource.MEMORY, SHELL_MEMORY)
            raise
        process.kill = lambda by: child.signal(9)
        process.note = lambda text: child.signal(note_signal(text))
        process.pause = lambda stop: child.signal(signal.SIGSTOP if stop else signal.SIGCONT)

        async def follow() -> None:
            status = await child.wait()
            node.lending.end(token)
            process.quota.give(Resource.MEMORY, SHELL_MEMORY)
            node.processes.end(process, status)

        self._spawn(follow())

    async def _start_directory(self, namespace: Namespace, process: Process, path: str) -> Chan:
        try:
            return await finish(namespace.find(path, namespace.root, process))
        except FileError:
            return namespace.root.share()

    def _add_devices(self, namespace: Namespace, terminal: KeptTerminal | None) -> None:
        """The devices that a shell needs: those of the process itself, the store's programs, a /tmp of its own, and
        its terminal, if that is this node's."""
        node, domain = self._node, namespace.domain
        base = node.base.namespace
        for letter, source, rights in (
            ("e", "e", ALL_RIGHTS), ("d", "d", ALL_RIGHTS), ("|", "|", ALL_RIGHTS), ("p", "q", ALL_RIGHTS),
            ("V", "V", READ | EXECUTE | GRANT),  # to run programs, not to name or remove them
        ):  # fmt: skip
            device = base.devices[source]
            cap = base.domain.mint(device.cap, rights, domain)
            namespace.devices[letter] = Device(device.server, domain, cap, Path(None, "#" + letter))
        for letter, server in (
            ("c", cons_server(node.world, node.settings.name, node.processes)),
            ("r", RamServer(node.world.clock, quota_of=node.processes.quota_of)),
            *([] if terminal is None else [("t", kept_server(terminal))]),
        ):
            _, cap = node.authority.new_server(domain.pid, f"#{letter}")
            namespace.devices[letter] = Device(server, domain, cap, Path(None, "#" + letter))

    # -- tasks ----------------------------------------------------------------------------------------------------

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Stop following far processes, showing kept shells, and what writes behind programs that are over."""
        await self._programs.close()
        await self.keeping.close()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks))


def _how_lost(error: Exception, node: str) -> str:
    """Why the end of a process on `node` is not known; the file that said so is nothing to its user."""
    if not isinstance(error, CognuError):
        return f"{node}: {error}"
    if error.error is E.REVOKED:
        return str(FileError(error.error, "", f"{node} took back: {RUN}"))
    return str(FileError(error.error, node, error.detail))


def _known(note: str) -> str:
    """A note that has a meaning: whoever sent it hears of one that has none here, for over there nobody would."""
    note_signal(note)
    return note


def _far_lines(process: Process, launch: Launch) -> list[str]:
    """What a peer's ctl is told of a process, beside what it is and where its files are."""
    lines = [f"arg {quote(word)}" for word in launch.args]
    lines += [f"env {quote(f'{key}={value.decode()}')}" for key, value in process.environment.values.items()]
    lines += [f"limit {what} {value}" for what, value in launch.limits.items()]
    lines += [f"pri {process.weight}"] if process.weight != USUAL_WEIGHT else []
    lines += ["isolate"] if launch.isolate else []
    lines += [f"keep {launch.keep}"] if launch.keep else []
    lines += [f"attach {launch.kept} {launch.kept_how}".strip()] if launch.kept else []
    lines += [f"grant {quote(grant.path)} {grant.rights}" for grant in launch.grants]
    lines += [f"dir {quote(mapping.guest)} {quote(mapping.guest)}" for mapping in launch.directories]
    return lines


def _replace(process: Process, namespace: Namespace, cwd: Chan) -> None:
    """Give the process another namespace, and let go of what it had."""
    old, old_cwd = process.namespace, process.cwd
    process.namespace, process.cwd = namespace, cwd
    old_cwd.close()
    old.release()


def _whole_hash(word: str) -> str:
    """`word` itself. Raises NOTFOUND for anything else, the same whether it is a name or prefix here or not."""
    if not is_whole(word):
        raise FileError(E.NOTFOUND, word)
    return word


def apply_to(process: Process, namespace: Namespace, text: str, node: Node) -> Steps[None]:
    """Namespace commands on a namespace that is not a process's yet."""
    scratch = Process(
        process.pid, process.parent, process.user, namespace, namespace.root.share(), process.descriptors,
        process.environment, process.started, state=State.NEW,
    )  # fmt: skip
    try:
        yield from apply(scratch, text, node)
    finally:
        scratch.cwd.close()


async def read_all(chan: Chan) -> bytes:
    """From the start to the end of an open file."""
    parts: list[bytes] = []
    offset = 0
    while True:
        piece = bytes(await finish(dispatch(chan, READ, chan.server.read, chan.fid, offset, CHUNK)))
        if not piece:
            return b"".join(parts)
        parts.append(piece)
        offset += len(piece)


async def write_all(chan: Chan, data: bytes) -> None:
    """One write, which the server takes whole (ctl files do)."""
    await finish(dispatch(chan, WRITE, chan.server.write, chan.fid, 0, data))

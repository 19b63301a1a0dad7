"""Launching a program: its private namespace, its descriptors, its start and its end.

A guest's namespace is a skeleton of empty directories that lead to what was granted, each grant bound to its place
under a capability minted with just the rights granted. Nothing else has a name there. The guest's capabilities are in
a domain of its own, which ends with the process, and with it everything the guest held; what it was allowed to hand
on, and did, others hold under capabilities of theirs.

A start that fails leaves the process as it was. A process whose program runs is ended by `Programs` alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Mapping as MappingOf
from functools import lru_cache, partial
from posixpath import commonpath, normpath
from string import hexdigits
from typing import NamedTuple

from cognu.errors import E, FileError
from cognu.files.attach import attach_own
from cognu.files.chan import Chan, Domain, Path
from cognu.files.launch import Grant, Launch, Mapping
from cognu.files.limits import Account, Resource
from cognu.files.listing import read_directory
from cognu.files.mounts import MAFTER, MBEFORE, MCREATE, MREPL, may_hand_on
from cognu.files.namespace import Namespace
from cognu.files.notes import note_signal
from cognu.files.post import NAME_BYTES
from cognu.files.process import Descriptors, Process, ProcessTable, State
from cognu.files.server import FileServer
from cognu.files.steps import Steps, finish
from cognu.kernel import CREATE, EXECUTE, READ, WRITE, Cap
from cognu.ninep.types import OACCESS, OEXEC, ORDWR, OREAD, OWRITE, QTDIR
from cognu.runtime import native
from cognu.runtime.cache import CompileCache, Progress
from cognu.runtime.guest import EXIT_KILLED, Exit, Guest, How, Limits, Usage, resolve
from cognu.runtime.runners import Runners
from cognu.runtime.scheduler import Scheduler, check_start
from cognu.runtime.wasi import IMPORTS, Program
from cognu.runtime.wasi.table import EXIT_UNWRITTEN, FIRST_PREOPEN
from cognu.world import Senses

log = logging.getLogger(__name__)

Skeleton = Callable[[Iterable[str], Iterable[str]], FileServer]
"""`(directories, files)`, absolute paths: a server of them and what leads there (`devices.root.SkeletonServer`)."""

RIGHTS = {"r": READ, "w": WRITE | CREATE, "x": EXECUTE}
MAPPED = READ | WRITE | CREATE
"""What a mapped directory may be used for."""
_MODE_RIGHTS = {OREAD: READ, OWRITE: WRITE, ORDWR: READ | WRITE, OEXEC: EXECUTE}
LISTED = 256
CALLS = {**IMPORTS, **native.IMPORTS}
"""What a program may import: WASI preview 1, and Cognu's own calls."""


class Clothes(NamedTuple):
    """What a process wears: exchanged as a whole when a program starts in it."""

    namespace: Namespace
    cwd: Chan
    descriptors: Descriptors


Tops = MappingOf[str, Chan | None]
"""What is at the top of a namespace, by name: the chan where a grant is there itself, else None. Who has just made a
namespace knows it, and a start need not read and walk it again."""


# -- namespaces -------------------------------------------------------------------------------------------------------


class _Bind(NamedTuple):
    """`source` in the parent's namespace, to be seen at `place`."""

    source: Chan
    place: str
    rights: int


def build_namespace(
    parent: Process, cwd: str, grants: Sequence[Grant], mappings: Sequence[Mapping], skeleton: Skeleton
) -> Steps[Clothes]:
    """A guest's namespace, and its working directory `cwd` (an absolute path) there; descriptors are left empty.

    Paths of grants and sources of mappings are the parent's. A relative name of a mapping is taken from `cwd`. Raises
    NOENT, ACCES (the parent lacks a right itself, or may not hand it on), naming the path; then nothing is left behind.
    """
    clothes, _ = yield from _build(parent, cwd, grants, mappings, skeleton)
    return clothes


def _build(
    parent: Process, cwd: str, grants: Sequence[Grant], mappings: Sequence[Mapping], skeleton: Skeleton
) -> Steps[tuple[Clothes, Tops | None]]:
    """`build_namespace`, and what is at the top of it; None if that is for the granted root's server to say."""
    binds = yield from _binds(parent, cwd, grants, mappings)
    files = {bind.place for bind in binds if not bind.source.qid.type & QTDIR}
    directories = {bind.place for bind in binds} - files | {cwd}
    mapped = [_absolute(mapping.guest, cwd) for mapping in mappings]
    domain = Domain(parent.namespace.domain.authority, parent.namespace.domain)
    try:
        root = yield from attach_own(skeleton(sorted(directories), sorted(files)), domain, parent)
    except BaseException:
        domain.release()
        raise
    namespace = Namespace(domain, root)
    tops: dict[str, Chan | None] = {place.split("/", 2)[1]: None for place in (*directories, *files) if place != "/"}
    try:
        for bind in sorted(binds, key=lambda bind: bind.place.count("/") if bind.place != "/" else 0):
            where = yield from namespace.find(bind.place, root, parent)
            _bind(parent, namespace, bind, where, any(_is_below(place, bind.place) for place in mapped))
            if bind.place[1:] in tops:
                tops[bind.place[1:]] = where
        try:
            directory = yield from namespace.find(cwd, root, parent)
        except FileError as error:
            if error.error not in (E.NOENT, E.NOTDIR):
                raise
            directory = root.share()  # a mapping over what led there
    except BaseException:
        namespace.release()
        raise
    namespace.no_mount = True
    covered = any(bind.place == "/" for bind in binds)
    return Clothes(namespace, directory, Descriptors(parent.descriptors.limit)), None if covered else tops


def _binds(parent: Process, cwd: str, grants: Sequence[Grant], mappings: Sequence[Mapping]) -> Steps[list[_Bind]]:
    """One for each place; grants of the same path are joined."""
    wanted: dict[str, tuple[str, int]] = {}
    for grant in grants:
        place = _absolute(grant.path, cwd)
        _, rights = wanted.get(place, ("", 0))
        wanted[place] = (grant.path, rights | rights_of(grant.rights))
    for mapping in mappings:
        wanted[_absolute(mapping.guest, cwd)] = (mapping.source, MAPPED)
    binds = []
    for place, (path, rights) in wanted.items():
        source = yield from parent.namespace.find(path, parent.cwd, parent)
        if not source.qid.type & QTDIR:  # what is mounted on it, if anything, is of its kind
            rights &= ~CREATE
        binds.append(_Bind(source, place, rights))
    return binds


@lru_cache(maxsize=64)
def rights_of(letters: str) -> int:
    """Raises INVAL for other letters than r, w and x, or none."""
    rights = 0
    for letter in letters:
        rights |= RIGHTS.get(letter, 0)
    if not letters or set(letters) - set(RIGHTS):
        raise FileError(E.INVAL, letters, "".join(RIGHTS))
    return rights


@lru_cache(maxsize=1024)  # programs are started with the same words again and again
def _absolute(path: str, cwd: str) -> str:
    return "/" + normpath(f"{cwd}/{path}" if not path.startswith("/") else path).lstrip("/")


def _is_below(path: str, place: str) -> bool:
    return path != place and path.startswith(place.rstrip("/") + "/")


def _bind(parent: Process, namespace: Namespace, bind: _Bind, where: Chan, keep: bool) -> None:
    """Put the source, and if it is a union the other members too, in its place, which `where` is.

    `keep` what was there behind it: the way to directories mapped to names that the source does not have.
    """
    target, head = parent.namespace.cross(bind.source)
    members = [(member.chan, member.create) for member in head.members] if head is not None else [(target, True)]
    flags = MBEFORE if keep else MREPL
    for chan, create in members:
        try:
            chan.domain.check(chan.cap, bind.rights)
            minted = chan.domain.mint(chan.cap, bind.rights, namespace.domain)
        except FileError as error:
            raise FileError(error.error, str(bind.source.path), error.detail) from None
        source = Chan(chan.handle, namespace.domain, minted, where.path, chan.origin)
        namespace.mount(source, where, flags | (MCREATE if create and bind.rights & CREATE else 0))
        flags = MAFTER


def preopens(
    process: Process,
    mappings: Sequence[Mapping] = (),
    grants: Sequence[Grant] = (),
    tops: Tops | None = None,
) -> Steps[list[tuple[str, Chan]]]:
    """The directories a program finds open: the mapped ones, if there are any; else `.` and those at the top.

    Where something was granted that lies above the working directory, so does the program's own name for the way there:
    `..`, `../..` and so on. `tops`: what is at the top, if the caller knows.
    """
    namespace = process.namespace
    cwd = _place(process.cwd)
    known: dict[str, Chan | None] = {}
    if mappings:
        names = {mapping.guest: _absolute(mapping.guest, cwd) for mapping in mappings}
    else:
        names = {".": cwd}
        if tops is None:
            tops = dict.fromkeys((yield from _top(process)))
        for name in sorted(tops):
            names[f"/{name}"] = f"/{name}"
            known[f"/{name}"] = tops[name]
        for grant in grants if cwd != "/" else ():
            above = commonpath([cwd, _absolute(grant.path, cwd)])
            if above != cwd:
                ups = cwd.rstrip("/").count("/") - above.rstrip("/").count("/")
                names["/".join([".."] * ups)] = above
    opened = []
    for name, path in names.items():
        chan = known.get(name)
        chan = chan.share() if chan is not None else (yield from namespace.find(path, process.cwd, process))
        if chan.qid.type & QTDIR:  # so is what may be mounted on it
            opened.append((name, chan))
    return opened


def _top(process: Process) -> Steps[list[str]]:
    """Names at the top of a process's namespace."""
    namespace = process.namespace
    root = namespace.root.share()
    names: list[str] = []
    cookie = 0
    try:
        root = yield from namespace.open(root, OREAD, process)
        while entries := (yield from read_directory(namespace, root, cookie, LISTED, process)):
            names += (entry.name for entry in entries)
            cookie = entries[-1].cookie
    except FileError as error:
        if error.error is not E.ACCES:
            raise
        names = []  # it was granted, and not to be read
    finally:
        root.close()
    return sorted(set(names))


def _place(cwd: Chan) -> str:
    """A working directory's path as a guest may know it: one below a device has no name in its namespace."""
    path = str(cwd.path)
    return path if path.startswith("/") else "/"


# -- descriptors ------------------------------------------------------------------------------------------------------


def _hand_streams(process: Process, domain: Domain, to: Descriptors) -> None:
    """The process's descriptors 0, 1 and 2, each for what it was opened for alone. Raises INVAL if it has others."""
    minted: dict[tuple[Domain, Cap, int], Cap] = {}  # often all three are the same terminal
    for number in process.descriptors:
        if number >= FIRST_PREOPEN:
            raise FileError(E.INVAL, f"fd {number}", f"0-{FIRST_PREOPEN - 1}")
        chan = process.descriptors[number]
        rights = _MODE_RIGHTS[(chan.handle.mode or OREAD) & OACCESS]
        if chan.domain is domain:
            to.add(chan.share(), number)
            continue
        if not may_hand_on(chan):
            raise FileError(E.ACCES, str(chan.path), "it may not be handed on")
        key = chan.domain, chan.cap, rights
        cap = minted.get(key)
        if cap is None:
            cap = minted[key] = chan.domain.mint(chan.cap, rights, domain)
        to.add(Chan(chan.handle, domain, cap, _flat(chan.path), chan.origin), number)


def _flat(path: Path) -> Path:
    """The same names, without the mount points on the way, which are the parent's."""
    node: Path | None = path
    while node is not None and node.mounted_on is None:
        node = node.parent
    if node is None:
        return path  # nothing to leave out
    names = path.names()
    begin = str(path).partition("/")[0] or "/"
    return Path(None, begin).step(names)


# -- programs ---------------------------------------------------------------------------------------------------------


class Programs:
    """Starts WASI programs in processes and ends the processes with them."""

    def __init__(
        self, world: Senses, scheduler: Scheduler, cache: CompileCache, processes: ProcessTable, skeleton: Skeleton,
        runners: Runners | None = None,
    ) -> None:  # fmt: skip
        """`runners`, which it closes, are for what is launched with `isolate`."""
        self._world = world
        self._scheduler = scheduler
        self._cache = cache
        self._processes = processes
        self._skeleton = skeleton
        self._runners = runners
        self._settling: set[_Run] = set()

    async def launch(
        self,
        process: Process,
        launch: Launch,
        program: str,
        wasm: bytes,
        *,
        confined: bool = True,
        progress: Callable[[Progress], None] | None = None,
    ) -> None:
        """Start the program `wasm`, whose hash is `program`, in a NEW process; it is RUNNING when this returns.

        `confined`: in a namespace made of the launch's grants and mappings, taken from the process's own; else in the
        process's own, as it is, where mappings only say which directories are found open. Its arguments and environment
        are the process's. Sets `kill`, `note` and `detail`. Raises `FileError`: NOEXEC, BADPROGRAM, NOSTART, NOMEMORY,
        NOIMPORT (naming the import), NOMEM, TOOMANY, NOENT and ACCES for grants, INVAL; the process is then as it was,
        except that it may have ended meanwhile (SRCH).
        """
        args = _strings(process.args)
        environment = _environment(process, mapped=bool(launch.directories))
        new, tops = await self._dress(process, launch, confined)
        old = Clothes(process.namespace, process.cwd, process.descriptors)
        process.namespace, process.cwd, process.descriptors = new
        if launch.isolate:
            await self._launch_isolated(process, launch, program, wasm, (args, environment), tops, old, progress)
            return
        running = Program(process, self._world, args, environment)
        try:
            running.adopt_streams()
            opened = await finish(preopens(process, launch.directories, launch.grants, tops))
            running.preopen(opened, mapped=bool(launch.directories))
            module = await self._cache.get(program, wasm, progress)
            _check_new(process)
            _check_memory(launch, module.memory_minimum)
            run = _Run(self, process, running)
            account = run.account = Account(process.quota, module.memory_minimum, process.weight)
            try:
                limits = _limits(process, launch, module.memory_minimum)
                run.serve(launch.handles)
                guest = run.guest = self._scheduler.start(module, CALLS, limits, run.exited, running, account)
            except BaseException:
                account.end()
                run.leave()
                raise
        except BaseException:
            running.close()
            _undress(process, old)
            raise
        _give_back(old)
        process.state = State.RUNNING
        process.kill, process.note = run.kill, run.note
        process.pause, process.weigh = run.pause, account.set_weight
        # It outlives the program, so it must hold nothing of it, and in particular no way back to the process.
        process.detail = partial(_detail, guest.usage)

    async def _launch_isolated(
        self, process: Process, launch: Launch, program: str, wasm: bytes, texts: tuple[Sequence[bytes], ...],
        tops: Tops | None, old: Clothes, progress: Callable[[Progress], None] | None,
    ) -> None:  # fmt: skip
        """The rest of `launch`, for a program in a runner. Raises NOWALL, NOTSUP, RUNNER besides."""
        try:
            if self._runners is None:
                raise FileError(E.NOTSUP, "isolate")
            if launch.handles:
                raise FileError(E.NOTSUP, "isolate", "an isolated program sends and handles no messages")
            module = await self._cache.get(program, wasm, progress)
            _check_new(process)
            _check_memory(launch, module.memory_minimum)
            limits = _limits(process, launch, module.memory_minimum)
            check_start(module, limits)
            for wanted in module.imports:
                if (wanted.module, wanted.name) in native.IMPORTS:
                    subject = f"{wanted.module}.{wanted.name}"
                    raise FileError(E.NOTSUP, subject, "an isolated program sends and handles no messages")
            resolve(module, IMPORTS)
            run = await self._runners.start(process, launch, module, len(wasm), limits, texts, tops)
            try:
                _check_new(process)
            except BaseException:
                await run.abandon()
                raise
        except BaseException:
            _undress(process, old)
            raise
        _give_back(old)
        process.state = State.RUNNING
        process.kill, process.note, process.pause, process.weigh = run.kill, run.note, run.pause, run.weigh
        process.detail = partial(_detail, run.usage, run.pid)
        run.follow()

    async def _dress(self, process: Process, launch: Launch, confined: bool) -> tuple[Clothes, Tops | None]:
        tops: Tops | None = None
        if confined:
            cwd = _place(process.cwd)
            new, tops = await finish(_build(process, cwd, launch.grants, launch.directories, self._skeleton))
        else:
            descriptors = Descriptors(process.descriptors.limit)
            new = Clothes(process.namespace.hold(), process.cwd.share(), descriptors)
        try:
            _check_new(process)
            _hand_streams(process, new.namespace.domain, new.descriptors)
            new.descriptors.succeed(process.descriptors, process.quota)
        except BaseException:
            _give_back(new)
            raise
        return new, tops

    async def close(self) -> None:
        """Kill what still writes behind programs that are over. The scheduler is closed before this."""
        if self._runners is not None:
            await self._runners.close()
        for run in list(self._settling):
            run.kill("")
        while self._settling:
            await asyncio.wait([run.settling for run in self._settling if run.settling is not None])


class _Run:
    """One program in its process, from its start to the process's end."""

    def __init__(self, programs: Programs, process: Process, program: Program) -> None:
        self._programs = programs
        self._process = process
        self._program = program
        self.guest: Guest | None = None
        self.account: Account | None = None
        self._ending: tuple[int, str] | None = None
        self.settling: asyncio.Task[None] | None = None
        domain = process.namespace.domain
        self._post, self._pid = domain.authority.post, domain.pid
        self._post.open(self._pid, process.quota)

    def serve(self, interfaces: Sequence[str]) -> None:
        """Handle interfaces, for whoever started it and what that starts from now on. Raises INVAL, DQUOT."""
        for name in interfaces:
            maker = self._process.parent
            if maker is None or len(name) != 2 * NAME_BYTES or set(name) - set(hexdigits):
                raise FileError(E.INVAL, name)
            self._post.serve(self._pid, bytes.fromhex(name), maker.namespace.domain.pid)

    def leave(self) -> None:
        """What it emitted is nobody's any more."""
        self._post.close(self._pid)

    def kill(self, by: str) -> None:
        self._end(EXIT_KILLED, str(FileError(E.KILLED, "", by)))

    def note(self, text: str) -> None:
        """Raises INVAL for a note that means nothing to a program."""
        self._end(128 + note_signal(text), text)

    def pause(self, stop: bool) -> None:
        assert self.guest is not None
        if stop:
            self.guest.stop()
        else:
            self.guest.resume()

    def _end(self, status: int, message: str) -> None:
        if self.settling is not None:
            self._ending = status, message
            self.settling.cancel()
            return
        assert self.guest is not None
        self._ending = self._ending or (status, message)
        self.guest.kill(message)

    def exited(self, ending: Exit) -> None:
        """The guest is gone. Unless it was killed, what it wrote without waiting is written before its files close."""
        assert self.account is not None
        self.account.end()
        if ending.how is How.EXITED and self._program.unsettled:
            self._ending = ending.code, ending.reason
            self.settling = asyncio.get_running_loop().create_task(self._settle())
            self._programs._settling.add(self)
            self.settling.add_done_callback(self._settled)
            return
        self._finish(ending)

    async def _settle(self) -> None:
        assert self._ending is not None
        self._ending = await self._program.settle(*self._ending)

    def _settled(self, task: asyncio.Task[None]) -> None:
        self._programs._settling.discard(self)
        assert self._ending is not None
        if not task.cancelled() and task.exception() is not None:
            log.error("writing behind a program failed", exc_info=task.exception())
            status, message = self._ending
            self._ending = status or EXIT_UNWRITTEN, message or str(FileError(E.IO))
        self._over(*self._ending)

    def _finish(self, ending: Exit) -> None:
        if ending.how is How.KILLED and self._ending is not None:
            self._over(*self._ending)
        else:
            self._over(ending.code, ending.reason)

    def _over(self, status: int, message: str) -> None:
        self._program.close()
        self.leave()
        self._programs._processes.end(self._process, status, message)


def _detail(usage: Usage, runner: int = 0) -> dict[str, int | str]:
    """Memory in bytes, processor time in ms; of an isolated program the host's number of its runner."""
    lines: dict[str, int | str] = {
        "memory": usage.memory, "utime": usage.cpu // 10**6, "stime": 0, "slices": usage.slices, "calls": usage.calls,
    }  # fmt: skip
    return {**lines, "runner": runner} if runner else lines


def _check_new(process: Process) -> None:
    """Raises SRCH if the process ended meanwhile."""
    if _is_dead(process):
        raise FileError(E.SRCH, f"pid {process.pid}")


def _is_dead(process: Process) -> bool:
    return process.state is State.DEAD


def _undress(process: Process, old: Clothes) -> None:
    """A start failed: the process has again what it had, unless it ended meanwhile."""
    if _is_dead(process):
        _give_back(old)  # the new ones went with the process
        return
    new = Clothes(process.namespace, process.cwd, process.descriptors)
    old.descriptors.succeed(new.descriptors, process.quota)
    process.namespace, process.cwd, process.descriptors = old
    _give_back(new)


def _give_back(clothes: Clothes) -> None:
    clothes.descriptors.release()
    clothes.cwd.close()
    clothes.namespace.release()


def _strings(texts: Sequence[str]) -> tuple[bytes, ...]:
    """Raises INVAL for a NUL, which would end the string."""
    for text in texts:
        if "\0" in text:
            raise FileError(E.INVAL, repr(text))
    return tuple(text.encode("utf-8", "surrogateescape") for text in texts)


def _environment(process: Process, mapped: bool) -> tuple[bytes, ...]:
    """Its variables, and PWD as a shell sets it (POSIX XBD 8.3), from which Go knows its working directory.

    Not if directories were `mapped`: then names are what was mapped. Raises INVAL for what would be cut.
    """
    variables = []
    if not mapped and "PWD" not in process.environment.values:
        variables.append(b"PWD=" + _place(process.cwd).encode("utf-8", "surrogateescape"))
    for name, value in process.environment.values.items():
        if not name or "=" in name or "\0" in name or b"\0" in value:
            raise FileError(E.INVAL, f"{name}={value!r}")
        variables.append(name.encode("utf-8", "surrogateescape") + b"=" + value)
    return tuple(variables)


def _check_memory(launch: Launch, minimum: int) -> None:
    """Raises NOMEM if the program begins with more than it may have."""
    limit = launch.limits.get("memory", minimum)
    if minimum > limit:
        raise FileError(E.NOMEM, "", f"it begins with {minimum} bytes, {minimum // 1024}K, and its limit is {limit}")


def _limits(process: Process, launch: Launch, minimum: int) -> Limits:
    """What was asked for, or is usual; never more memory than there is room for above what it begins with."""
    usual = Limits()
    memory = launch.limits.get("memory", usual.memory)
    room = process.quota.room(Resource.MEMORY)
    if room is not None:
        memory = min(memory, minimum + room)
    return Limits(memory=memory, cpu=launch.limits.get("cpu", usual.cpu))

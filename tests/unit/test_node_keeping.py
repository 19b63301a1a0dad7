"""Keeping shells of peers: what is taken back of one that never came to be, and how many there may be."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cognu.errors import E, FileError, LinkBroken
from cognu.files.chan import Chan, Domain
from cognu.files.launch import Launch
from cognu.files.limits import Resource
from cognu.files.mounts import ChanMover
from cognu.files.process import Fork, Process, State
from cognu.files.server import Caller, Fid, MaybeAsync
from cognu.files.steps import finish
from cognu.mesh.identity import Peer, identity_from_seed
from cognu.ninep.types import ORDWR, OREAD
from cognu.node.assembly import running
from cognu.node.grants import RUN
from cognu.node.keeping import PLACE, FarTerminal, Keeping
from cognu.node.launcher import Launcher, write_all
from cognu.node.node import Node
from cognu.node.peers import PeerExports
from cognu.node.settings import Home, KeepLimits, Settings
from cognu.world.real import RealSpawn, real_world
from guests import until
from joined import CountingServer, bring, idle, local_process

STEPS = ("terminal", "connect", "namespace", "start")


class Gate:
    """Holds up the step that it is set for, until it opens."""

    def __init__(self) -> None:
        self.step = ""
        self.come, self.go_on = asyncio.Event(), asyncio.Event()

    async def passes(self, step: str) -> None:
        if step == self.step:
            self.come.set()
            await self.go_on.wait()


class Child:
    """A shell that ends when it is sent a signal."""

    pid = 4711

    def __init__(self) -> None:
        self.over: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def wait(self) -> int:
        return await self.over

    def signal(self, number: int) -> None:
        if not self.over.done():
            self.over.set_result(128 + number)


class Spawn(RealSpawn):
    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.children: list[Child] = []

    async def start(self, *args: Any, **how: Any) -> Any:
        await self.gate.passes("start")
        self.children.append(Child())
        return self.children[-1]


class Screen:
    """A terminal that shows nothing and at which nobody types."""

    def __init__(self) -> None:
        self.closed = False
        self.seen = b""
        self._lost = asyncio.Event()

    def lose(self) -> None:
        self._lost.set()

    async def typed(self) -> bytes:
        await self._lost.wait()
        raise LinkBroken(E.CONNRESET, "desk")

    async def show(self, data: bytes) -> None:
        self.seen += data

    async def control(self, word: bytes) -> None: ...

    async def size(self) -> bytes:
        return b"24 80\n" if not self.seen else await self.typed()

    def close(self) -> None:
        self.closed = True


class Pi:
    """A node with peers that are not there: what they would ask for is asked for in their names."""

    def __init__(self, node: Node, spawn: Spawn, gate: Gate) -> None:
        self.node, self.spawn, self.gate = node, spawn, gate
        self.keeping: Keeping | None = None
        self.screens: list[Screen] = []

    async def peer(self, name: str) -> Process:
        """A connection of a peer that was granted `run`."""
        identity = identity_from_seed(name.encode().ljust(32))
        self.node.book.add(Peer(identity.fingerprint, name, identity.certificate))
        await self.node.exports.grant([(identity.fingerprint, RUN)], lambda: None)
        return await self.node.exports.connect(identity.fingerprint, name)

    def whose(self, session: Process) -> str:
        return self.node.exports.peer_of(session)

    async def asks(self, session: Process, seconds: int) -> Chan:
        """Ask for a shell that is kept; the ctl of its process."""
        space = session.namespace
        clone = await finish(space.find("/proc/clone", space.root, session))
        ctl = await finish(space.open(clone, ORDWR, session))
        try:
            for line in ("program cpu", "import token", f"keep {seconds}", "start"):
                await write_all(ctl, line.encode())
        except BaseException:
            ctl.close()
            raise
        return ctl

    async def takes(self, session: Process, number: int, root: str, how: str = "") -> Process:
        """Show a shell of the peer's at a terminal with which the files at `root` are lent; what stands for that."""
        assert self.keeping is not None
        made = self.node.processes.fork(session, Fork())
        space = session.namespace
        lent, _ = space.cross(await finish(space.walk(space.root, root.split("/"), session)))
        try:
            await self.keeping.show(made, Launch(kept=number, kept_how=how), self.whose(session), lent)
        finally:
            lent.close()
        return made

    async def has_there(self, number: int, name: str) -> bool:
        """Whether a kept shell finds it among the files of its terminal's machine."""
        shell = self.node.processes[number]
        try:
            names = [*PLACE[1:].split("/"), name]
            (await finish(shell.namespace.walk(shell.namespace.root, names, shell))).close()
        except FileError as error:
            if error.error is not E.NOENT:
                raise
            return False
        return True

    def used(self, session: Process) -> list[int]:
        quota = self.node.exports.quota(self.whose(session), "")
        return [quota.used(what) for what in Resource]


class NoReading(CountingServer):
    """Refuses to be read."""

    def open(self, fid: Fid, mode: int, caller: Caller) -> MaybeAsync[Fid]:
        if mode == OREAD:
            raise FileError(E.ACCES, "resize")
        return super().open(fid, mode, caller)


async def test_of_a_terminal_of_which_one_file_can_not_be_opened_none_is_held() -> None:
    server = NoReading("#1")
    for name, data in (("", None), ("/consctl", ""), ("/resize", "")):
        server.plant(f"/dev{name}", data)
    process = local_process(server)
    root = process.namespace.root
    for number in (0, 1):
        process.descriptors.add(root.share(), number)
    before = set(server.live)
    with pytest.raises(FileError) as caught:
        await FarTerminal.of(process, root)
    assert (caught.value.error, server.live) == (E.ACCES, before)


@pytest.fixture
def pi_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[KeepLimits], Any]:
    @asynccontextmanager
    async def make(keep: KeepLimits) -> AsyncIterator[Pi]:
        gate = Gate()
        spawn = Spawn(gate)
        settings = Settings("pi", "127.0.0.1:0", ("127.0.0.1",), runners=0, discovery="off", keep=keep)
        async with running(replace(real_world(), spawn=spawn), Home(str(tmp_path / "pi")), settings, "me") as node:
            pi = Pi(node, spawn, gate)

            async def lent(self: Launcher, process: Process, launch: Launch) -> tuple[str, Domain, Chan]:
                pi.keeping = self.keeping
                domain = Domain(node.authority, process.namespace.domain)
                return node.exports.peer_of(process), domain, ChanMover(domain).move(process.namespace.root)

            async def of(process: Process, root: Chan) -> Screen:
                await gate.passes("terminal")
                pi.screens.append(Screen())
                return pi.screens[-1]

            monkeypatch.setattr(Launcher, "_lent", lent)
            monkeypatch.setattr(FarTerminal, "of", of)
            monkeypatch.setattr(Keeping, "_lend", gated(Keeping._lend, gate, "lend", "lent"))
            for name in ("connect", "namespace"):
                monkeypatch.setattr(PeerExports, name, gated(getattr(PeerExports, name), gate, name))
            yield pi

    return make


def gated(method: Any, gate: Gate, before: str, after: str = "") -> Any:
    async def call(*args: Any) -> Any:
        await gate.passes(before)
        result = await method(*args)
        if after:
            await gate.passes(after)
        return result

    return call


@pytest.mark.parametrize("how", ["revoke", "forget"])
@pytest.mark.parametrize("step", STEPS)
async def test_a_start_ends_with_the_right_to_it_wherever_it_is_and_leaves_nothing(
    pi_of: Callable[[KeepLimits], Any], step: str, how: str
) -> None:
    async with pi_of(KeepLimits()) as pi:
        desk = await pi.peer("desk")
        whose, before = pi.whose(desk), pi.used(desk)
        pids = {process.pid for process in pi.node.processes}
        pi.gate.step = step
        asking = asyncio.ensure_future(pi.asks(desk, 60))
        await pi.gate.come.wait()
        if how == "revoke":
            pi.node.exports.revoke(whose, RUN)
        else:
            pi.node.exports.forget(whose)
        assert await bring(asking) is E.REVOKED
        assert pi.spawn.children == []
        assert all(screen.closed for screen in pi.screens)
        assert pi.keeping.text(None) == ""
        assert {process.pid for process in pi.node.processes} == pids
        assert pi.used(desk) == before


async def test_a_shell_that_was_just_started_ends_with_the_right_to_it(pi_of: Callable[[KeepLimits], Any]) -> None:
    async with pi_of(KeepLimits()) as pi:
        desk = await pi.peer("desk")
        before = pi.used(desk)
        ctl = await pi.asks(desk, 60)
        [kept] = [process for process in pi.node.processes if process.parent and process.parent.args[:1] == ["kept"]]
        pi.node.exports.revoke(pi.whose(desk), RUN)
        assert await pi.spawn.children[0].wait() == 137
        await kept.ended.wait()
        await until(lambda: pi.used(desk) == before)  # what stood for its terminal ends with the next turns
        assert pi.keeping.text(None) == ""
        assert pi.screens[0].closed
        ctl.close()


async def test_another_peer_sees_a_shell_neither_listed_nor_ended_nor_shown(pi_of: Callable[[KeepLimits], Any]) -> None:
    async with pi_of(KeepLimits()) as pi:
        desk, lap = [await pi.peer(name) for name in ("desk", "lap")]
        ctl = await pi.asks(desk, 60)
        number = int(pi.keeping.text(desk).split()[0])
        assert pi.keeping.text(lap) == ""
        root = lap.namespace.root
        for how in ("end", "take"):
            asked = Launch(kept=number, kept_how=how)
            assert await bring(pi.keeping.show(lap, asked, pi.whose(lap), root)) is E.SRCH
        assert pi.keeping.text(desk)
        assert not pi.spawn.children[0].over.done()
        await pi.keeping.show(desk, Launch(kept=number, kept_how="end"), pi.whose(desk), desk.namespace.root)
        assert await pi.spawn.children[0].wait()
        ctl.close()


async def test_no_more_are_kept_than_the_owner_says_and_for_no_longer(pi_of: Callable[[KeepLimits], Any]) -> None:
    async with pi_of(KeepLimits(seconds=5, each=1, all=2)) as pi:
        desk, lap, sea = [await pi.peer(name) for name in ("desk", "lap", "sea")]
        pi.gate.step = "start"
        first = asyncio.ensure_future(pi.asks(desk, 100))
        await pi.gate.come.wait()
        with pytest.raises(FileError, match="1 shells are kept for this machine") as caught:
            await pi.asks(desk, 3)  # one that is about to begin counts
        assert caught.value.error is E.DQUOT
        pi.gate.go_on.set()
        ctls = [await first, await pi.asks(lap, 3)]
        with pytest.raises(FileError, match="pi keeps 2 shells, and no more"):
            await pi.asks(sea, 3)
        rows = [line.split() for line in pi.keeping.text(None).splitlines()]
        assert [(row[1], row[5]) for row in rows] == [("desk", "5"), ("lap", "3")]
        await until(lambda: bool(pi.screens[0].seen and pi.screens[1].seen))
        assert b"kept for 5 s without a terminal, the most here;" in pi.screens[0].seen
        assert b"kept for 3 s without a terminal;" in pi.screens[1].seen
        pi.spawn.children[0].signal(9)
        await until(lambda: len(pi.keeping.text(None).splitlines()) == 1)
        ctls.append(await pi.asks(sea, 3))
        for ctl in ctls:
            ctl.close()


@pytest.mark.parametrize("keep", [KeepLimits(seconds=0), KeepLimits(each=0), KeepLimits(all=0)])
async def test_where_none_is_kept_the_answer_says_whose_will_that_is(
    pi_of: Callable[[KeepLimits], Any], keep: KeepLimits
) -> None:
    async with pi_of(keep) as pi:
        desk = await pi.peer("desk")
        before = pi.used(desk)
        with pytest.raises(FileError, match="pi keeps no shells") as caught:
            await pi.asks(desk, 3)
        assert caught.value.error is E.ACCES
        assert (pi.used(desk), pi.screens, pi.spawn.children) == (before, [], [])


@pytest.mark.parametrize("how", ["", "take"])
@pytest.mark.parametrize("step", ["lend", "lent"])
async def test_of_two_terminals_that_take_a_shell_at_once_one_has_it_and_its_files(
    pi_of: Callable[[KeepLimits], Any], step: str, how: str
) -> None:
    async with pi_of(KeepLimits()) as pi:
        desk = await pi.peer("desk")
        ctl = await pi.asks(desk, 60)
        number = int(pi.keeping.text(desk).split()[0])
        holder = pi.node.processes[number].parent
        assert re.fullmatch(r"kept desk shown since \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", " ".join(holder.args))
        pi.screens[0].lose()
        await until(lambda: " away " in pi.keeping.text(desk))
        assert holder.args[:4] == ["kept", "desk", "away", "since"]
        pi.gate.step = step
        first = asyncio.ensure_future(pi.takes(desk, number, "proc"))
        await pi.gate.come.wait()
        second = asyncio.ensure_future(pi.takes(desk, number, f"proc/{desk.pid}", how))
        if not how:
            assert await bring(second) is E.BUSY
        pi.gate.go_on.set()
        if how:
            assert await bring(first) is E.BUSY
        has = await (second if how else first)
        assert has.state is not State.DEAD
        assert [screen.closed for screen in pi.screens] == ([True, True, False] if how else [True, False])
        assert await pi.has_there(number, "args") == bool(how)
        assert await pi.has_there(number, "clone") == (not how)
        has.kill("the terminal")
        await until(lambda: " away " in pi.keeping.text(desk))
        ctl.close()


async def test_of_two_terminals_that_find_a_shell_free_at_once_the_second_takes_it_from_nobody(
    pi_of: Callable[[KeepLimits], Any],
) -> None:
    async with pi_of(KeepLimits()) as pi:
        desk = await pi.peer("desk")
        ctl = await pi.asks(desk, 60)
        number = int(pi.keeping.text(desk).split()[0])
        pi.screens[0].lose()
        await until(lambda: " away " in pi.keeping.text(desk))
        pi.gate.step = "terminal"
        asking = [asyncio.ensure_future(pi.takes(desk, number, "proc")) for _ in range(2)]
        await pi.gate.come.wait()
        await idle()
        pi.gate.go_on.set()
        assert await bring(asking[1]) is E.BUSY
        assert (await asking[0]).state is not State.DEAD
        assert [screen.closed for screen in pi.screens] == [True, False, True]
        ctl.close()


@pytest.mark.parametrize("step", ["terminal", "lent"])
async def test_a_shell_that_ends_while_a_terminal_takes_it_is_said_to_be_none_and_the_terminal_is_let_go(
    pi_of: Callable[[KeepLimits], Any], step: str
) -> None:
    async with pi_of(KeepLimits()) as pi:
        desk = await pi.peer("desk")
        ctl = await pi.asks(desk, 60)
        number = int(pi.keeping.text(desk).split()[0])
        pi.screens[0].lose()
        await until(lambda: " away " in pi.keeping.text(desk))
        pi.gate.step = step
        taking = asyncio.ensure_future(pi.takes(desk, number, "proc"))
        await pi.gate.come.wait()
        shell = pi.node.processes[number]
        pi.spawn.children[0].signal(9)
        await shell.ended.wait()
        pi.gate.go_on.set()
        assert await bring(taking) is E.SRCH
        assert [screen.closed for screen in pi.screens] == [True, True]
        ctl.close()


async def test_a_shell_that_is_kept_has_its_terminal_by_no_name_but_dev(pi_of: Callable[[KeepLimits], Any]) -> None:
    async with pi_of(KeepLimits()) as pi:
        ctl = await pi.asks(await pi.peer("desk"), 60)
        shell = pi.node.processes[int(pi.keeping.text(None).split()[0])]
        space = shell.namespace
        (await finish(space.find("/dev/cons", space.root, shell))).close()
        (await finish(space.find("#c", space.root, shell))).close()
        assert await bring(finish(space.find("#t", space.root, shell))) is E.NODEV
        ctl.close()

"""Names that the host's resolver never answers for: who waits for them, who does not, and what is refused."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from cognu.devices.lookups import AT_ONCE, WAITING, Lookups
from cognu.devices.naming import is_numeric
from cognu.devices.net import NetServer
from cognu.errors import E, FileError
from cognu.files.limits import Quota
from cognu.files.server import Caller
from cognu.ninep.types import ORDWR
from cognu.world.net import RealNetwork
from cognu.world.real import RealThreads
from joined import bring, idle
from serving import Client, Somebody
from unit.test_devices_net import FakeNetwork


class Hanging(FakeNetwork):
    """Answers for `printer`; for any other name when it is told, and in the order of asking."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.answers: list[asyncio.Future[list[str]]] = []

    async def resolve(self, host: str) -> list[str]:
        return [host] if is_numeric(host) else await self._ask(host)

    async def _ask(self, host: str) -> list[str]:
        self.asked.append(host)
        if host == "printer":
            return ["10.0.0.1"]
        answer: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
        self.answers.append(answer)
        return await answer

    async def reverse(self, address: str) -> list[str]:
        return await self._ask(address)

    async def service(self, name: str, protocol: str) -> int:
        return len(await self.resolve(name))


async def outcome(asking: Awaitable[list[str]]) -> list[str] | E:
    try:
        return await asking
    except FileError as error:
        return error.error


class Bench:
    """Two peers and the user of this machine, each a client of what is lent to it."""

    def __init__(self) -> None:
        self.network = Hanging()
        self.base = Quota()
        self.quotas = {1: Quota(self.base)}
        for pid in (2, 3):
            peer = Quota(self.base, f"peer {pid}")
            peer.set_share(50)
            self.quotas[pid] = Quota(peer)  # of one of its connections
            self.quotas[pid + 10] = Quota(peer)
        self.lookups = Lookups(self.quota_of)
        self.server = NetServer(self.network, lookups=self.lookups)
        self.tasks: list[asyncio.Task[list[str] | E]] = []

    def quota_of(self, caller: Caller) -> Quota | None:
        return self.quotas[caller.pid]

    def client(self, pid: int) -> Client:
        return Client(self.server, Somebody(pid))

    async def ask(self, pid: int, query: str, file: str = "cs") -> list[str]:
        client = self.client(pid)
        fid = await client.open(file, ORDWR)
        try:
            await client.write_fid(fid, query.encode())
            return (await client.read_fid(fid)).decode().splitlines()
        finally:
            client.server.clunk(fid)

    def begin(self, pid: int, query: str, file: str = "cs") -> asyncio.Task[list[str] | E]:
        task = asyncio.ensure_future(outcome(self.ask(pid, query, file)))
        self.tasks.append(task)
        return task


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    await made.lookups.close()
    for task in made.tasks:
        if not task.done():
            task.cancel()
    if made.tasks:
        await asyncio.wait(made.tasks)
    assert asyncio.all_tasks() == {asyncio.current_task()}


HOLDING: list[Callable[[int], tuple[str, str]]] = [
    lambda number: (f"net!none{number}!80", "cs"),
    lambda number: (f"tcp!10.0.0.1!none{number}", "cs"),
    lambda number: (f"none{number} ip", "dns"),
    lambda number: (f"10.0.0.{number % 250 + 1} ptr", "dns"),
]


@pytest.mark.parametrize("question", HOLDING)
async def test_who_asks_for_a_thousand_names_that_nobody_answers_for_holds_up_itself_alone(
    bench: Bench, question: Callable[[int], tuple[str, str]]
) -> None:
    asking = [bench.begin(2 if number % 2 else 12, *question(number)) for number in range(1000)]
    await idle()
    assert len(bench.network.asked) == AT_ONCE
    refused = [task for task in asking if task.done()]
    assert len(refused) == 1000 - AT_ONCE - WAITING
    assert all(task.result() is E.AGAIN for task in refused)
    for pid in (1, 3):
        assert await bench.ask(pid, "net!printer!80") == ["/net/tcp/clone 10.0.0.1!80"]
        assert await bench.ask(pid, "printer ip", "dns") == ["printer ip 10.0.0.1"]
    assert await bring(bench.ask(2, "net!printer!80")) is E.AGAIN
    assert await bench.ask(2, "net!10.0.0.9!80"), "what need not be asked is answered"
    await bench.lookups.close()
    await asyncio.wait(asking)
    assert all(task.result() in (E.AGAIN, E.CANCELED) for task in asking)


async def test_who_waits_has_its_turn_in_order_and_who_gave_up_is_not_asked_for(bench: Bench) -> None:
    asking = [bench.begin(2, f"net!none{number}!80") for number in range(AT_ONCE + 4)]
    await idle()
    names = [f"none{number}" for number in range(AT_ONCE + 4)]
    assert bench.network.asked == names[:AT_ONCE]
    asking[AT_ONCE].cancel()
    await idle()
    bench.network.answers[0].set_result(["10.0.0.2"])
    await idle()
    assert bench.network.asked == [*names[:AT_ONCE], names[AT_ONCE + 1]]
    assert await asking[0] == ["/net/tcp/clone 10.0.0.2!80"]
    bench.network.answers[1].set_exception(FileError(E.HOSTUNREACH, "none1"))
    assert await asking[1] is E.HOSTUNREACH
    await idle()
    assert bench.network.asked[AT_ONCE:] == [names[AT_ONCE + 1], names[AT_ONCE + 2]]


@pytest.mark.parametrize("turns", range(8))
async def test_a_turn_that_comes_just_as_its_waiter_gives_up_is_lost_to_nobody(bench: Bench, turns: int) -> None:
    asking = [bench.begin(2, f"net!none{number}!80") for number in range(AT_ONCE + 2)]
    await idle()
    bench.network.answers[0].set_result(["10.0.0.2"])
    for _ in range(turns):
        await asyncio.sleep(0)
    asking[AT_ONCE].cancel()
    await idle()
    given_up, last = f"none{AT_ONCE}", f"none{AT_ONCE + 1}"
    assert bench.network.asked[AT_ONCE:] in ([last], [given_up]), "four are under way again"
    if bench.network.asked[-1] == given_up:
        bench.network.answers[-1].set_result([])
        await idle()
        assert bench.network.asked[-1] == last


async def test_a_question_that_nobody_waits_for_any_more_counts_until_it_is_answered(bench: Bench) -> None:
    for _ in range(AT_ONCE):
        asking = bench.begin(2, "net!none!80")
        await idle()
        asking.cancel()
        await idle()
    waiting = bench.begin(2, "net!printer!80")
    await idle()
    assert bench.network.asked == ["none"] * AT_ONCE, "each holds a thread of the host's"
    bench.network.answers[0].set_exception(FileError(E.HOSTUNREACH, "none"))
    assert await waiting == ["/net/tcp/clone 10.0.0.1!80"]


async def test_names_are_for_cs_and_ctl_takes_addresses() -> None:
    client = Client(NetServer(FakeNetwork(), announce=True))
    for protocol in ("tcp", "udp"):
        ctl = await client.open(f"{protocol}/clone", ORDWR)
        for line in ("connect printer!80", "connect *!80", "connect localhost!80", "announce printer!80"):
            assert await bring(client.write_fid(ctl, line.encode())) is E.USAGE
        client.server.clunk(ctl)


async def test_the_hosts_resolver_is_asked_in_threads_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = RealThreads(2)
    gate = threading.Event()
    monkeypatch.setattr("socket.getaddrinfo", lambda *args, **more: gate.wait() and [])
    network = RealNetwork(threads)
    asking = [asyncio.ensure_future(outcome(network.resolve(f"none{number}"))) for number in range(50)]
    await idle()
    loop = asyncio.get_running_loop()
    assert await loop.run_in_executor(None, lambda: "free") == "free"
    assert await network.resolve("10.0.0.1") == ["10.0.0.1"]
    gate.set()
    assert all([await each is E.HOSTUNREACH for each in asking])
    threads.close()

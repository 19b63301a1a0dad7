"""Machines that pair over real TLS on loopback, people who say yes or no, and who stands between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cognu.errors import CognuError, E, FileError
from cognu.mesh.codes import Code
from cognu.mesh.discovery import Finder, Pairing
from cognu.mesh.identity import Peer, identity_from_seed
from cognu.mesh.join import Inviter, Self
from cognu.mesh.join_messages import MESSAGE_SIZE, Refusal
from cognu.mesh.pair import pair
from cognu.mesh.pairing import Proposal, Wish
from cognu.world import SecureStream, TlsKeys
from cognu.world.tls import connect_tls, listen_tls
from mesh_support import Node, read_exactly


@dataclass
class Air:
    """What machines hear of each other without a network: a `Finder` for all of them."""

    rows: list[Pairing] = field(default_factory=list)

    async def announce_pairing(self, number: str, port: int) -> Callable[[], None]:
        row = Pairing("somebody", (f"127.0.0.1:{port}",), number)
        self.rows.append(row)

        def end() -> None:
            with suppress(ValueError):
                self.rows.remove(row)

        return end

    async def pairing(self) -> AsyncGenerator[Pairing, None]:
        for row in list(self.rows):
            yield row
        await asyncio.Event().wait()


class User:
    """A `Person`: says `yes` to everything or nothing, or thinks for ever; notes what it sees."""

    def __init__(self, yes: bool = True, thinks: bool = False) -> None:
        self.yes = yes
        self.thinks = thinks
        self.code: Code | None = None
        self.addresses: tuple[str, ...] = ()
        self.asked: list[Proposal] = []
        self.tries: list[tuple[Refusal, int]] = []
        self.others: list[tuple[str, str]] = []
        self.waiting: list[str] = []
        self.gave_up: list[tuple[str, bool | None]] = []
        self.sees = asyncio.Event()
        self.is_asked = asyncio.Event()
        self.left_alone = asyncio.Event()

    def shown(self, code: Code, addresses: tuple[str, ...]) -> None:
        self.code, self.addresses = code, addresses
        self.sees.set()

    def tried(self, address: str, why: Refusal, left: int) -> None:
        self.tries.append((why, left))

    def heard(self, name: str, number: str) -> None:
        self.others.append((name, number))

    def waits(self, name: str) -> None:
        self.waiting.append(name)

    def left(self, name: str, told: bool | None) -> None:
        self.gave_up.append((name, told))

    async def agrees(self, proposal: Proposal) -> bool:
        self.asked.append(proposal)
        self.is_asked.set()
        try:
            if self.thinks:
                await asyncio.Event().wait()
        finally:
            self.left_alone.set()
        return self.yes


class Machine(Node):
    """A node that can show a code, and type one."""

    def __init__(self, home: Path, name: str, air: Air) -> None:
        super().__init__(home)
        self.air = air
        self.finder: Finder = air
        self.me = Self(self.identity, name, lambda: (self.address,) if self.address else ())
        self.joined: list[Peer] = []
        self.inviter = Inviter(
            self.world, self.me, self.book, self.home, "127.0.0.1", lambda: ("127.0.0.1",), self.joined.append
        )
        self.user = User()

    def show(self, *grants: str, asks: tuple[str, ...] = ()) -> asyncio.Task[Peer]:
        self.user.sees.clear()
        return asyncio.create_task(self.inviter.show_code(Wish(grants, asks), self.user, self.finder))

    async def code(self) -> Code:
        """What is shown, as soon as it is."""
        await self.user.sees.wait()
        assert self.user.code is not None
        return self.user.code

    async def type(self, code: Code, *grants: str, asks: tuple[str, ...] = (), at: tuple[str, ...] = ()) -> Peer:
        return await pair(self.world, self.me, self.book, code, at, self.finder, Wish(grants, asks), self.user)


async def refused(pairing: object) -> str:
    """The detail of the NOTPAIRED that it ends with, or for a code that is wrong, or not shown, WRONGCODE."""
    with pytest.raises(FileError) as caught:
        await pairing  # type: ignore[misc]
    said = caught.value.detail
    wrong = said.startswith(Refusal.CODE.detail) or said == Refusal.NO_CODE.detail or " shows one that " in said
    assert caught.value.error is (E.WRONGCODE if wrong else E.NOTPAIRED), caught.value
    return caught.value.detail


async def where(desk: Machine) -> str:
    """The address at which it shows its code, as soon as it does."""
    await desk.code()
    return desk.user.addresses[0]


def another(code: Code) -> Code:
    """A wrong one of the same number."""
    return Code(code.digits[:-1] + str((int(code.digits[-1]) + 1) % 10))


@asynccontextmanager
async def machines(path: Path, *names: str) -> AsyncIterator[list[Machine]]:
    air = Air()
    made = [Machine(path / name, name, air) for name in names]
    for machine in made:
        await machine.listen()
    try:
        yield made
    finally:
        for machine in made:
            await machine.inviter.close()
            await machine.mesh.close()


MESSENGER = identity_from_seed(b"m" * 32)


@asynccontextmanager
async def between(
    address: str, kept: list[bytes], keys: TlsKeys | None = None, change: Callable[[bytes], bytes] = bytes
) -> AsyncIterator[str]:
    """Somebody who passes every message on over a TLS listener of his own, changed; the address of that."""
    own = keys or TlsKeys(MESSENGER.certificate, MESSENGER.private_key, None)

    async def relay(near: SecureStream) -> None:
        far = await connect_tls(address, TlsKeys("", "", None))

        async def pump(source: SecureStream, sink: SecureStream) -> None:
            with suppress(CognuError, AssertionError):
                while True:
                    message = await read_exactly(source, MESSAGE_SIZE)
                    kept.append(message)
                    await sink.write(change(message))
            sink.close()

        try:
            await asyncio.gather(pump(near, far), pump(far, near))
        finally:
            far.close()

    listener = await listen_tls("127.0.0.1:0", lambda: own, relay)
    try:
        yield listener.address
    finally:
        await listener.close()

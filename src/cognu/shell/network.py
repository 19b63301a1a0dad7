"""Calls through the network of a namespace, as dial(2) of Plan 9 makes and takes them: cs says what to open and write.

    tcp!pi!80              by /net
    /n/pi/net/tcp!*!80     by another network

Here such an address is translated, called, or announced; ip(3) has what the files are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from cognu.errors import E, FileError
from cognu.shell.options import parse_count
from cognu.shell.system import File, Mode

NET = "/net"
CLONE = "/clone"


class Opener(Protocol):
    """What this needs of a `System`."""

    async def open(self, path: str, mode: Mode) -> File: ...

    async def ask(self, path: str, question: str) -> Sequence[str]: ...


class Way(NamedTuple):
    """What cs says to do: the clone file to open, and the address for its ctl."""

    clone: str
    address: str


@dataclass
class Conversation:
    """One conversation: its directory, as `/net/tcp/3`, and its ctl, which keeps it there until `close`."""

    system: Opener
    directory: str
    ctl: File

    async def tell(self, line: str) -> None:
        await self.ctl.write(line.encode())

    async def data(self) -> File:
        """The bytes, or one datagram for each read and write. Whoever opens it closes it."""
        return await self.system.open(f"{self.directory}/data", "rw")

    async def read(self, name: str) -> str:
        """What one of its texts says: local, remote, status."""
        file = await self.system.open(f"{self.directory}/{name}", "r")
        try:
            return (await file.read()).decode("utf-8", "replace").strip()
        finally:
            await file.close()

    async def close(self) -> None:
        await self.ctl.close()


def parse_number(path: str, text: str) -> int:
    """The conversation's number that the ctl that opening `path` made reads as. Raises BADMESSAGE for what is none."""
    try:
        return parse_count(text.strip())
    except FileError:
        raise FileError(E.BADMESSAGE, path, "no number of a conversation") from None


def split(address: str) -> tuple[str, str]:
    """(directory of the network, question for its cs) of an address."""
    net = address.partition("!")[0].rpartition("/")[0]
    return (net, address[len(net) + 1 :]) if address.startswith("/") and net else (NET, address)


async def translate(system: Opener, address: str) -> list[Way]:
    """Ways to an address, to be tried in turn. Raises what cs says: NOENT, HOSTUNREACH, NOPROTO, USAGE; BADMESSAGE."""
    net, question = split(address)
    try:
        answers = await system.ask(f"{net}/cs", question)
    except FileError as error:
        raise FileError(error.error, address, error.detail) from None
    ways = []
    for line in answers:
        clone, blank, where = line.strip().partition(" ")
        if not blank or not clone.endswith(CLONE):
            raise FileError(E.BADMESSAGE, f"{net}/cs", line[:80])
        # Another machine's cs speaks of its own network, which is here where it was asked.
        ways.append(Way(f"{net}{clone.removeprefix(NET)}" if clone.startswith(f"{NET}/") else clone, where))
    return ways


async def dial(system: Opener, address: str) -> Conversation:
    """Call somebody. Raises what `translate` does, and what the last way that was tried says."""
    return await _begin(system, address, "connect")


async def announce(system: Opener, address: str) -> Conversation:
    """Take calls at an address, for `listen`. Raises as `dial`."""
    return await _begin(system, address, "announce")


async def _begin(system: Opener, address: str, verb: str) -> Conversation:
    refusal = FileError(E.HOSTUNREACH, address)
    for way in await translate(system, address):
        try:
            conversation = await _cloned(system, way.clone, way.clone.removesuffix(CLONE))
        except FileError as error:
            refusal = error
            continue
        try:
            await conversation.tell(f"{verb} {way.address}")
        except FileError as error:
            await conversation.close()
            refusal = error
            continue
        except BaseException:
            await conversation.close()
            raise
        return conversation
    raise FileError(refusal.error, address, refusal.detail)


async def listen(announced: Conversation) -> Conversation:
    """Wait for the next call."""
    protocol = announced.directory.rpartition("/")[0]
    return await _cloned(announced.system, f"{announced.directory}/listen", protocol)


async def _cloned(system: Opener, path: str, protocol: str) -> Conversation:
    """What opening a file makes, whose ctl it is then."""
    ctl = await system.open(path, "rw")
    try:
        number = parse_number(path, (await ctl.read()).decode("utf-8", "replace"))
    except BaseException:
        await ctl.close()
        raise
    return Conversation(system, f"{protocol}/{number}", ctl)

"""Telling whoever sits at a terminal that what they wait for is on a machine that is away, and that it is back.

The node's file `/mnt/node/links` says which machines are away, and tells when that changes; it is looked at only once
something has been under way for a while. Nothing is refused here, and nothing is said twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import NamedTuple

from cognu.errors import CognuError, E, FileError
from cognu.files.launch import AWAY_SECONDS
from cognu.files.nstext import parse_options, split_commands, split_words
from cognu.ninep.watches import CONTENT
from cognu.shell.connection import LEAVES, Wait
from cognu.shell.session import NodeSession
from cognu.shell.state import encode, end_tasks
from cognu.shell.system import File, absolute

LINKS = "/mnt/node/links"
TURN = 1.0
"""Seconds between two looks at what is under way, which is known here: nobody is asked."""
PATIENCE = 2 * 10**9
"""ns that a machine is away before that is told of."""
TURNS = 2
"""Looks for which the same thing must have been under way."""


class Link(NamedTuple):
    """A line of LINKS. `since` and `until` are wall-clock ns, 0 unless it is away."""

    linked: bool
    since: int = 0
    until: int = 0
    refused: bool = False


def parse_links(text: str) -> dict[str, Link]:
    """Machines by name. Raises `FileError(BADMESSAGE)`."""
    found: dict[str, Link] = {}
    for line in text.splitlines():
        try:
            match split_words(line):
                case [name, "linked" | "apart" as state]:
                    found[name] = Link(state == "linked")
                case [name, "away", since, until]:
                    found[name] = Link(False, int(since), int(until))
                case [name, "away", since, until, "refused"]:
                    found[name] = Link(False, int(since), int(until), True)
                case _:
                    raise ValueError(line)
            time_of(found[name].since), time_of(found[name].until)
        except (ValueError, OverflowError, OSError):
            raise FileError(E.BADMESSAGE, LINKS) from None
    return found


def time_of(nanoseconds: int) -> str:
    """Local time of day."""
    return datetime.fromtimestamp(nanoseconds // 10**9, UTC).astimezone().strftime("%H:%M:%S")


def machines_at(namespace: str) -> dict[str, str]:
    """By place, the machine whose files are bound there, by the text of a namespace (namespace(5))."""
    found: dict[str, str] = {}
    for command in split_commands(namespace):
        if command.words[0] == "bind" and len(operands := parse_options(command.words[1:])[1]) == 2:
            source, place = operands
            match source.split("/"):
                case ["", "n", name, *_]:
                    found[place] = name
    return found


class Teller:
    """Tells on `stderr`, a terminal, what `session` waits for, as long as `run` runs."""

    def __init__(self, session: NodeSession, stderr: File) -> None:
        self._session = session
        self._stderr = stderr
        self._links: dict[str, Link] = {}
        self._places: dict[str, str] = {}
        self._told: set[str] = set()

    async def run(self) -> None:
        """Until it is cancelled, or the node can't be asked."""
        turns: dict[int, int] = {}
        follow: asyncio.Task[None] | None = None
        try:
            while follow is None or not follow.done():
                await self._session.clock.sleep(TURN)
                turns = {number: turns.get(number, 0) + 1 for number in self._session.waits}
                long = [self._session.waits[number] for number, count in turns.items() if count > TURNS]
                if long and follow is None:
                    follow = asyncio.create_task(self._follow())
                await self._tell(long)
        finally:
            if follow is not None:
                await end_tasks([follow])

    async def _follow(self) -> None:
        """Know what is linked and what is not. Ends where the node does not say: a far shell's has no such file."""
        with suppress(CognuError):
            watch = await self._session.watch(LINKS, CONTENT)
            try:
                while True:
                    namespace = await self._session.read_all(f"/proc/{self._session.pid}/ns")
                    links = parse_links((await self._session.read_all(LINKS)).decode("utf-8", "replace"))
                    self._places = machines_at(namespace.decode("utf-8", "replace"))
                    self._links = links
                    await watch.next()
            finally:
                await watch.close()

    async def _tell(self, long: list[Wait]) -> None:
        now = self._session.clock.now()
        for name, wait in self._wanted(long):
            link = self._links.get(name)
            if link is not None and link.until and now - link.since >= PATIENCE and name not in self._told:
                self._told.add(name)
                until = f"for {AWAY_SECONDS:g} s in all" if wait.begins == name else f"until {time_of(link.until)}"
                until = f"{until}; {wait.leave}"
                refuses = " and refuses calls" if link.refused else ""
                # Not behind a prompt, which stands there while its machine is away.
                begin = "\r\n" if wait.leave == LEAVES else ""
                await self._say(f"{name} is away since {time_of(link.since)}{refuses}; waiting ({until})", begin)
        for name in sorted(self._told):
            link = self._links.get(name)
            if link is None or not link.until:
                self._told.discard(name)
                if link is not None and link.linked:
                    await self._say(f"{name} is back")

    def _wanted(self, long: list[Wait]) -> Iterator[tuple[str, Wait]]:
        """The machines that are waited for, and what waits."""
        for wait in long:
            for path in wait.paths:
                match absolute(self._session.cwd, path).split("/") if path else ():
                    case ["", "n", name, *_]:
                        yield name, wait
                        continue
                whole = absolute(self._session.cwd, path) + "/"
                for place, name in self._places.items():
                    if whole.startswith(place.rstrip("/") + "/"):
                        yield name, wait

    async def _say(self, text: str, begin: str = "") -> None:
        # A far program may have the terminal raw, where a newline does not begin a line.
        await self._stderr.write(encode(f"{begin}cognu: {text}\r\n"))

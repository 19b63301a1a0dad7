"""`9p trace`: between any 9P client and any server, printing what goes by (Inferno's styxmon).

Bytes are passed on as they came, whatever was made of them; what is no 9P is passed on too.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

from cognu.cli.addresses import Address, check_listening, dialled, own_streams
from cognu.cli.messages import Row, Tracer
from cognu.errors import CognuError, LinkBroken
from cognu.world import Stream
from cognu.world.net import RealNetwork
from cognu.world.real import RealClock
from cognu.world.timing import end_tasks

READ_SIZE = 1 << 16

Put = Callable[[str], None]


class Printer:
    """Rows as lines for people, or of JSON. One for all connections, which are numbered."""

    def __init__(self, as_json: bool, put: Put) -> None:
        self._json = as_json
        self._put = put
        self._connections = 0

    def connection(self) -> int:
        self._connections += 1
        return self._connections

    def row(self, connection: int, row: Row) -> None:
        if self._json:
            side = "client" if row.from_client else "server"
            said = {"time": row.time, "connection": connection, "from": side, **row.parts}
            self._put(json.dumps(said, ensure_ascii=False))
        else:
            self._put(f"{time_of_day(row.time)} {connection} {'->' if row.from_client else '<-'} {row.text}")

    def note(self, connection: int, now: int, text: str) -> None:
        """That a connection began or ended, or why there is none."""
        if self._json:
            self._put(json.dumps({"time": now, "connection": connection, "note": text}, ensure_ascii=False))
        else:
            self._put(f"{time_of_day(now)} {connection} -- {text}")


def time_of_day(nanoseconds: int) -> str:
    """Local time to the microsecond."""
    seconds, rest = divmod(nanoseconds, 10**9)
    return f"{datetime.fromtimestamp(seconds):%H:%M:%S}.{rest // 1000:06d}"


def print_line(to_errors: bool) -> Put:
    """What prints a line at once. Raises `BrokenPipeError` when nobody reads it any more."""
    out = sys.stderr if to_errors else sys.stdout

    def put(line: str) -> None:
        out.write(f"{line}\n")
        out.flush()

    return put


async def trace(listen: Address, served: Address, printer: Printer, shown: int, ready: Callable[[str], None]) -> None:
    """Until SIGINT or SIGTERM, or with the standard streams as the client until they end.

    `ready` is told the real address. Raises PERM (see `check_listening`), ADDRINUSE, and what printing raises.
    """
    check_listening(listen, served)
    if listen.kind == "stdio":
        async with own_streams() as client:
            await between(client, served, printer, shown)
        return
    failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def accept(client: Stream) -> None:
        try:
            await between(client, served, printer, shown)
        except OSError as error:  # of the printing: whoever read it went away
            if not failed.done():
                failed.set_exception(error)

    network = RealNetwork()
    begin = network.listen_unix if listen.kind == "unix" else network.listen_tcp
    listener = await begin(listen.where, accept)
    try:
        ready(listener.address)
        with _ended_by_signals(failed):
            await asyncio.wait([failed])
        if not failed.cancelled():
            failed.result()
    finally:
        await listener.close()


@contextmanager
def _ended_by_signals(waited: asyncio.Future[None]) -> Iterator[None]:
    """SIGTERM ends the wait, as Ctrl-C does."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, waited.cancel)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


async def between(client: Stream, served: Address, printer: Printer, shown: int) -> None:
    """One client's connection, until either side ends it; then both are closed."""
    clock, number = RealClock(), printer.connection()
    printer.note(number, clock.now(), f"{client.peer} is connected, to {served}")
    try:
        async with dialled(served) as server:
            tracer = Tracer(shown)

            async def pump(source: Stream, to: Stream, from_client: bool) -> None:
                while data := await source.read(READ_SIZE):
                    # First noted, then passed on: else the answer might come before it is known what was asked.
                    for row in tracer.passed(from_client, data, clock.now()):
                        printer.row(number, row)
                    await to.write(data)
                for row in tracer.ended(from_client, clock.now()):
                    printer.row(number, row)

            await first_to_end(pump(client, server, True), pump(server, client, False))
        printer.note(number, clock.now(), "the connection ended")
    except CognuError as error:
        printer.note(number, clock.now(), str(error))
    finally:
        client.close()


async def first_to_end(*pumps: Coroutine[Any, Any, None]) -> None:
    """Run them until one is over, then end the others; a link that broke is an end. Raises what else one raises."""
    tasks = [asyncio.ensure_future(pump) for pump in pumps]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                with suppress(LinkBroken):
                    task.result()
    finally:
        await end_tasks(*tasks)

"""A 9P server on a socket, on a loop and thread of its own, for tests of what runs a loop itself."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from cognu.files.export import Export
from cognu.ninep.messages import Dialect
from cognu.world import Stream
from cognu.world.net import RealNetwork
from joined import CountingServer, attach_to, local_process, tree

Handler = Callable[[Stream], Awaitable[None]]


class Serving:
    """Where it is, and what it serves."""

    def __init__(self, server: CountingServer) -> None:
        self.server = server
        self.address = ""
        self.connections = 0


@contextmanager
def serving(
    address: str, dialects: tuple[Dialect, ...] = tuple(Dialect), handler: Handler | None = None
) -> Iterator[Serving]:
    """The memory tree of `joined.tree` at a Unix socket or port; or whatever `handler` does with a connection."""
    made = Serving(tree())
    ready, loop = threading.Event(), asyncio.new_event_loop()
    stop = asyncio.Event()

    async def accept(stream: Stream) -> None:
        made.connections += 1
        if handler is not None:
            await handler(stream)
            return
        process = local_process(made.server)
        await Export(stream, process, attach_to(process), dialects=dialects).serve()

    async def serve() -> None:
        network = RealNetwork()
        listen = network.listen_unix if "/" in address else network.listen_tcp
        listener = await listen(address, accept)
        made.address = listener.address
        ready.set()
        await stop.wait()
        await listener.close()

    def run() -> None:
        try:
            loop.run_until_complete(serve())
        finally:
            ready.set()
            loop.close()

    thread = threading.Thread(target=run, name="9P server")
    thread.start()
    ready.wait()
    try:
        assert made.address, "the server did not begin"
        yield made
    finally:
        if not loop.is_closed():
            loop.call_soon_threadsafe(stop.set)
        thread.join()

"""`9p --stdio`: a tree of the node over this process's standard streams, for whoever is at the other end of a pipe.

One connection to the node, which is confined to the tree before the client's first byte is passed on.
"""

from __future__ import annotations

import os
from getpass import getuser

from cognu.cli.addresses import own_streams
from cognu.cli.trace import first_to_end
from cognu.errors import CognuError, E, FileError, LinkBroken, ProtocolError
from cognu.files.launch import TREE_LABEL
from cognu.files.shown import Shown
from cognu.ninep import messages as m
from cognu.ninep.client import Agreed, Answered, ClientSession, Failed
from cognu.ninep.types import MAX_MSIZE, NOFID
from cognu.shell.nodeprocess import unreachable
from cognu.world import Stream
from cognu.world.net import RealNetwork

READ_SIZE = 1 << 16
SIZE, FIRST = 4, bytes([100])
"""Bytes of a message's size, which comes first; and the type of a Tversion, which comes then."""


async def serve_streams(socket: str, shown: Shown) -> None:
    """Until either side ends it. Raises NONODE, SILENT, NOENT for the tree, USAGE for a pattern."""
    try:
        node = await RealNetwork().connect_unix(socket)
    except FileError as error:
        if error.error not in (E.NOENT, E.CONNREFUSED):
            raise
        raise unreachable(os.path.dirname(socket)) from None
    try:
        await confine(node, shown)
        async with own_streams() as client:
            begun = bytearray()
            await first_to_end(_pass_on(client, node, begun), _pass_on(node, client, bytearray()))
            _check_begun(begun)
    finally:
        node.close()
        await node.wait_closed()


async def confine(node: Stream, shown: Shown) -> None:
    """Give up all of the session behind `node`, a connection just made to a node's socket, but the tree.

    What is asked on the connection from then on begins with a Tversion (version(5)). Raises what the node answers.
    """
    session = ClientSession()
    await node.write(*session.version())
    asked = False
    while data := await node.read(READ_SIZE):
        for event in session.feed(data):
            match event:
                case Agreed() if not asked:
                    asked = True
                    attach = m.Tattach(session.new_fid(), NOFID, getuser(), TREE_LABEL + shown.text())
                    await node.write(*session.request(attach)[1])
                case Answered():
                    return
                case Failed(error=error):
                    raise error
    raise LinkBroken(E.CONNRESET, node.peer)


async def _pass_on(source: Stream, to: Stream, begun: bytearray) -> None:
    """`begun` is what the first message begins with: its size and its type, as far as they came."""
    try:
        while data := await source.read(READ_SIZE):
            begun += data[: max(0, SIZE + 1 - len(begun))]
            await to.write(data)
    except CognuError as error:
        if error.error not in (E.PIPE, E.CONNRESET):  # which is how either side ends
            raise


def _check_begun(begun: bytearray) -> None:
    """Raises BADMESSAGE if something came from the client that is no 9P. The node has ended such a connection."""
    if begun and (int.from_bytes(begun[:SIZE], "little") > MAX_MSIZE or begun[SIZE:] != FIRST):
        raise ProtocolError(E.BADMESSAGE, "standard input", "what came is no 9P: that begins with Tversion")

"""`cognu listen`: a read-only tree for ordinary 9P clients, on a Unix socket or loopback."""

from __future__ import annotations

from base64 import b32encode

from cognu.errors import E, FileError
from cognu.files.chan import Chan, Domain, Path
from cognu.files.export import Export
from cognu.files.namespace import Namespace
from cognu.files.process import Process, State
from cognu.files.steps import Steps, finish
from cognu.kernel import EXECUTE, GRANT, READ
from cognu.ninep.messages import Dialect
from cognu.node.node import Node
from cognu.world import Accept, Listener, Stream

LOOPBACK = ("127.", "[::1]", "localhost")
_READ_ONLY = READ | EXECUTE | GRANT


class Listening:
    """The listeners of one node. Nothing but Unix sockets and loopback is ever served in clear text."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._listeners: list[Listener] = []

    async def listen(self, address: str, path: str, dialect: str | None) -> tuple[str, str | None]:
        """Serve the tree at `path` from now on: the real address, and for loopback the token that attaching needs.

        The token is the attach name (aname), for every local user can connect there. `dialect` is the only one spoken,
        if given. Raises PERM for any other address, NOENT, ADDRINUSE, USAGE.
        """
        if dialect not in (None, *(known.value for known in Dialect)):
            raise FileError(E.USAGE, dialect or "", ", ".join(known.value for known in Dialect))
        await self._check(path)
        network = self._node.world.network
        if address.startswith("/"):
            listener = await network.listen_unix(address, self._server(path, "", dialect))
            token = None
        else:
            if not address.startswith(LOOPBACK):
                raise FileError(E.PERM, address, "9P in clear text is for Unix sockets and loopback; peers use join")
            token = b32encode(self._node.world.random.bytes(15)).decode().lower()
            listener = await network.listen_tcp(address, self._server(path, token, dialect))
        self._listeners.append(listener)
        return listener.address, token

    async def close(self) -> None:
        for listener in self._listeners:
            await listener.close()
        self._listeners.clear()

    async def _check(self, path: str) -> None:
        base = self._node.base
        (await finish(base.namespace.find(path, base.cwd, base))).close()

    def _server(self, path: str, token: str, dialect: str | None) -> Accept:
        dialects = tuple(known for known in Dialect if dialect in (None, known.value))

        async def accept(stream: Stream) -> None:
            session = await self._session(path)

            def attach(uname: str, aname: str) -> Steps[Chan]:
                if token and aname != token:
                    raise FileError(E.NOATTACH, "aname", "the token that `cognu listen` printed is asked for")
                return session.namespace.root.share()
                yield

            try:
                await Export(stream, session, attach, dialects=dialects).serve()
            finally:
                self._node.processes.end(session, 0)

        return accept

    async def _session(self, path: str) -> Process:
        """A process whose namespace is a read-only copy of the base's, with `path` as its root."""
        base = self._node.base
        domain = Domain(base.namespace.domain.authority, base.namespace.domain)
        namespace: Namespace = base.namespace.copy(domain, devices=False, rights=_READ_ONLY)
        found = await finish(namespace.find(path, namespace.root, base))
        before, namespace.root = namespace.root, found.share(Path(None, "/"))
        before.close()
        found.close()
        session = self._node.processes.add("listen", namespace, namespace.root.share(), base)
        session.args, session.state = ["listen", path], State.RUNNING
        return session

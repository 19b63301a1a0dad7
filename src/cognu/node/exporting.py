"""A tree of this node for clients that speak 9P themselves: what `listen` and `9p --stdio` serve.

An export never holds what came over 9P from elsewhere: other machines' trees below /n, and services reached over the
network, unless the exported path itself leads there. So no tree can hold its own export, by whatever way round: what
it holds is this machine's own, or it is one other machine's, whose grants hold that one's own alone (`node/peers.py`).
Where a file really is tells which (`Origin`), whatever name leads there.

Nor what is the person's at this machine alone, such as the clipboard.

Nor, where something may be changed or is hidden, what starts programs and commands the node: a program would see what
its namespace holds, whatever names are hidden here.
"""

from __future__ import annotations

from cognu.errors import THERE
from cognu.files.chan import Chan, Domain, Path
from cognu.files.namespace import Namespace
from cognu.files.process import Process, State
from cognu.files.services import is_from_elsewhere
from cognu.files.shown import Filter, Shown, ShownNamespace, parse_filter
from cognu.files.steps import finish
from cognu.kernel import CREATE, EXECUTE, GRANT, READ, WRITE
from cognu.node.node import Node
from cognu.node.peers import ALONE

READ_ONLY = READ | EXECUTE | GRANT
WRITABLE = READ_ONLY | WRITE | CREATE
PRIVATE = ("#d", "#e", "#n", "#p", "#s", "#C")
"""Devices of processes, the node's control, and the host's programs."""


async def check_export(node: Node, shown: Shown) -> None:
    """Raises what exporting it would: NOENT, and USAGE for a pattern."""
    parse_filter(shown.hide, shown.show)
    base = node.base
    (await finish(base.namespace.find(shown.path, base.cwd, base))).close()


async def exported(node: Node, shown: Shown, by: str) -> Process:
    """A process whose namespace is a copy of the base's, with the tree as its root. Raises NOENT, USAGE.

    `by` is the command that serves it.
    """
    base = node.base
    patterns = parse_filter(shown.hide, shown.show)
    domain = Domain(base.namespace.domain.authority, base.namespace.domain)
    rights = WRITABLE if shown.writable else READ_ONLY
    if not shown.writable:
        domain.authority.read_only[domain.pid] = f"{by} serves it to be read{THERE}9p --stdio --rw PATH"
    namespace: Namespace = base.namespace.copy(domain, devices=False, rights=rights)
    try:
        found = await finish(namespace.find(shown.path, namespace.root, base))
        _keep_own(namespace, found, private=shown.writable or patterns != Filter())
        before, namespace.root = namespace.root, found.share(Path(None, "/"))
        before.close()
        found.close()
        if patterns != Filter():
            namespace = ShownNamespace.of(namespace, patterns)
        session = node.processes.add(by, namespace, namespace.root.share(), base)
    except BaseException:
        namespace.release()
        raise
    session.args, session.state = [*by.split(), shown.path], State.RUNNING
    return session


def _keep_own(namespace: Namespace, root: Chan, private: bool) -> None:
    """Take out what is mounted from elsewhere, one of `ALONE` or, if `private`, of `PRIVATE`; not what is on `root`.

    Of what is there together with others, `ALONE` too.
    """
    for key, head in list(namespace.heads.items()):
        gone = [member for member in head.members if member.chan.origin.spec in ALONE]
        if key == root.key:
            gone = gone if len(gone) < len(head.members) else []
        else:
            gone += [
                member
                for member in head.members
                if is_from_elsewhere(member.chan) or (private and member.chan.origin.spec in PRIVATE)
            ]
        head.members = [member for member in head.members if member not in gone]
        for member in gone:
            member.chan.close()
        if not head.members:
            del namespace.heads[key]
            head.close()

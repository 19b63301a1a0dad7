"""Who holds what, as people are told."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

from cognu.devices.ram import RamServer
from cognu.files.chan import Domain
from cognu.files.mounts import ChanMover
from cognu.node.capabilities import View
from cognu.node.node import Node
from cognu.world.real import RealClock
from serving import Node as SmallNode


async def test_a_domain_that_is_nobodys_is_named_by_whom_it_has_its_capabilities_from() -> None:
    small = SmallNode(RamServer(RealClock()))
    init = await small.start()
    init.args = ["sh"]
    parts = SimpleNamespace(
        authority=small.authority,
        settings=SimpleNamespace(name="desk"),
        processes=small.processes,
        exports=SimpleNamespace(held=list),
        tokens=SimpleNamespace(all=list),
    )
    left, further = Domain(small.authority, init.namespace.domain), Domain(small.authority, init.namespace.domain)
    chan = ChanMover(left).move(init.namespace.root)
    after = ChanMover(further).move(chan)
    view = View(cast(Node, parts))
    assert view.holder(init.namespace.root.cap.slot).name == "sh"
    for domain, held in ((left, chan), (further, after)):
        row = view.row(held.cap.slot)["holder"]
        assert (row["kind"], row["name"]) == ("domain", f"{domain.pid} of process sh")
    for each in (after, chan):
        each.close()
    for domain in (left, further):
        domain.release()

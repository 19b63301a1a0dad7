"""Renaming a peer: which names there are, and what is told of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cognu.errors import E, FileError
from cognu.mesh.identity import NAME_RULE, Peer, PeerBook, identity_from_seed
from cognu.node.meeting import MEETING
from cognu.node.node import Node
from cognu.world.real import real_world


def node(home: Path) -> tuple[Node, list[tuple[str, str]]]:
    """A node called desk with the peers pi and attic, and the renamings that its network was told of."""
    told: list[tuple[str, str]] = []
    book = PeerBook(real_world().disk, str(home))
    for name in ("pi", "attic"):
        identity = identity_from_seed(name.encode().ljust(32))
        book.add(Peer(identity.fingerprint, name, identity.certificate))
    parts = SimpleNamespace(
        book=book, settings=SimpleNamespace(name="Desk.local"), mesh=SimpleNamespace(link_of=lambda fingerprint: None),
        network=SimpleNamespace(peer_renamed=lambda old, new: told.append((old, new))),
    )  # fmt: skip
    return cast(Node, parts), told


async def rename(node: Node, peer: str, name: str) -> Any:
    return await MEETING["rename"](node, {"peer": peer, "name": name})


async def test_a_new_name_is_in_force_and_the_same_name_again_changes_nothing(tmp_path: Path) -> None:
    home, told = node(tmp_path)
    assert (await rename(home, "pi", "pi"))["changed"] is False
    assert told == []
    done = await rename(home, "pi", "shed")
    assert (done["peer"], done["changed"]) == ("shed", True)
    assert told == [("pi", "shed")]
    assert home.book.find("shed").fingerprint == done["fingerprint"]


@pytest.mark.parametrize(
    ("name", "error", "detail"),
    [
        ("a b", E.INVAL, NAME_RULE),
        ("x" * 33, E.INVAL, NAME_RULE),
        ("-pi", E.INVAL, NAME_RULE),
        ("", E.INVAL, NAME_RULE),
        ("attic", E.EXIST, None),
        ("desk", E.EXIST, "it is this machine's own name"),
    ],
)
async def test_what_can_be_no_name_is_refused_with_the_rule(
    tmp_path: Path, name: str, error: E, detail: str | None
) -> None:
    home, told = node(tmp_path)
    with pytest.raises(FileError) as caught:
        await rename(home, "pi", name)
    assert caught.value.error is error
    assert detail is None or caught.value.detail == detail
    assert told == []
    assert [peer.name for peer in home.book.all()] == ["attic", "pi"]

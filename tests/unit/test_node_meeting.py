"""Pet names and labels of machines: which there are, what is kept, and what is told of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cognu.errors import E, FileError
from cognu.mesh.identity import NAME_RULE, Peer, PeerBook, identity_from_seed
from cognu.node.meeting import MEETING
from cognu.node.node import Node
from cognu.node.settings import Home, Settings, load_settings, save_settings
from cognu.world.real import real_world


def node(home: Path) -> tuple[Node, list[tuple[str, str]]]:
    """A node called desk with the peers pi and attic, and the renamings that its network was told of."""
    told: list[tuple[str, str]] = []
    book = PeerBook(real_world().disk, str(home))
    for name in ("pi", "attic"):
        identity = identity_from_seed(name.encode().ljust(32))
        book.add(Peer(identity.fingerprint, name, identity.certificate))
    parts = SimpleNamespace(
        book=book, settings=Settings("desk"), home=Home(str(home)), world=real_world(),
        identity=SimpleNamespace(fingerprint="d" * 52), mesh=SimpleNamespace(link_of=lambda fingerprint: None),
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


async def label(node: Node, peer: str, *words: str) -> Any:
    return await MEETING["label"](node, {"peer": peer, "words": list(words)})


async def test_labels_of_a_peer_are_in_the_book_and_stay_when_it_joins_again(tmp_path: Path) -> None:
    home, _ = node(tmp_path)
    done = await label(home, "pi", "gpu=yes", "room=the kitchen")
    assert done == {"peer": "pi", "own": False, "labels": ["gpu=yes", "room=the kitchen"], "changed": True}
    assert (await label(home, "pi", "gpu=yes"))["changed"] is False
    assert (await label(home, "pi", "-gpu"))["labels"] == ["room=the kitchen"]
    again = PeerBook(real_world().disk, str(tmp_path))
    pi = again.find("pi")
    for anew in (False, True):
        assert again.add(replace(pi, labels=()), anew=anew).labels == ("room=the kitchen",)
    assert (await label(home, "attic"))["labels"] == []


@pytest.mark.parametrize("name", ["desk", "d" * 52])
async def test_labels_of_this_machine_are_in_its_settings_and_in_force_at_once(tmp_path: Path, name: str) -> None:
    home, _ = node(tmp_path)
    done = await label(home, name, "gpu")
    assert done == {"peer": "desk", "own": True, "labels": ["gpu"], "changed": True}
    assert home.settings.labels == ("gpu",)
    assert load_settings(home.world.disk, home.home, "desk").labels == ("gpu",)
    assert (await label(home, name))["labels"] == ["gpu"]


async def test_what_was_written_in_the_settings_meanwhile_stays(tmp_path: Path) -> None:
    home, _ = node(tmp_path)
    save_settings(home.world.disk, home.home, Settings("desk", retention=20, labels=("a",)))
    assert (await label(home, "desk", "b"))["labels"] == ["a", "b"]
    assert load_settings(home.world.disk, home.home, "x") == Settings("desk", retention=20, labels=("a", "b"))
    assert home.settings == Settings("desk", labels=("a", "b"))
    home.world.disk.write(home.home.settings, b"not json")
    with pytest.raises(FileError) as caught:
        await label(home, "desk", "c")
    assert caught.value.error is E.DAMAGED
    assert (home.world.disk.read(home.home.settings), home.settings.labels) == (b"not json", ("a", "b"))


async def test_a_machine_that_nobody_knows_has_no_labels_and_a_wrong_one_changes_nothing(tmp_path: Path) -> None:
    home, _ = node(tmp_path)
    for machine, words, error in (("nobody", ["a"], E.NOPEER), ("pi", ["a", "B"], E.INVAL), ("desk", ["B"], E.INVAL)):
        with pytest.raises(FileError) as caught:
            await label(home, machine, *words)
        assert caught.value.error is error
    assert [peer.labels for peer in home.book.all()] == [(), ()]
    assert not home.world.disk.exists(home.home.settings)

"""What a machine says of itself, read on another; and what is kept of a peer: labels, and when it was seen last."""

from __future__ import annotations

import json
import signal
from pathlib import Path

from cognu.errors import E
from e2e.harness import pair, refused, until


async def test_a_profile_is_read_afar_with_its_labels_as_they_are_now_and_not_without_a_grant(place: Path) -> None:
    async with pair(place, "read:/dev/profile") as two, two.desk.client() as desk, two.pi.client() as pi:
        assert await desk.read("/n/pi/dev/profile/name") == b"pi\n"
        assert await desk.read("/n/pi/dev/profile/cores") == await desk.read("/dev/profile/cores")
        assert await desk.read("/n/pi/dev/profile/labels") == b""
        done = await two.pi.command("peers", "label", "pi", "gpu=yes", "room=the kitchen")
        assert done.output == b"pi, this machine, is labelled gpu=yes, room=the kitchen\n"
        assert await desk.read("/n/pi/dev/profile/labels") == b"gpu=yes\nroom=the kitchen\n"
        await refused(desk.write("/n/pi/dev/profile/labels", b"mine"), E.ACCES)
        assert await desk.rpc("label", peer="pi", words=["fast"]) == {
            "peer": "pi", "own": False, "labels": ["fast"], "changed": True,
        }  # fmt: skip
        assert (await desk.rpc("peers"))[0]["labels"] == ["fast"]
        assert (await pi.rpc("label", peer="pi"))["labels"] == ["gpu=yes", "room=the kitchen"], "not told to it"
        await pi.rpc("revoke", peer="desk", grant="read:/dev/profile")
        await refused(desk.read("/n/pi/dev/profile/labels"), E.NOENT)


async def test_labels_and_when_a_peer_was_seen_outlive_a_node_that_is_killed(place: Path) -> None:
    async with pair(place, "net") as two:
        async with two.desk.client() as desk:
            await desk.rpc("label", peer="pi", words=["fast"])
            await desk.rpc("label", peer="desk", words=["slow"])
            linked = (await desk.rpc("peers"))[0]["since"]

            async def kept() -> bool:
                return bool(json.loads(two.desk.home.joinpath("peers.json").read_bytes())["peers"][0]["seen"])

            await until(desk, kept)
        await two.desk.signal(signal.SIGKILL)
        await two.pi.stop()
        await two.desk.start()
        async with two.desk.client() as desk:
            [row] = await desk.rpc("peers")
            assert (row["connected"], row["labels"]) == (False, ["fast"])
            assert linked - 2 * 10**9 <= row["seen"] <= (await desk.rpc("status"))["started"]
            assert await desk.read("/dev/profile/labels") == b"slow\n"

"""The examples of docs/links.md are what goes over the wire, and its numbers are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cognu.errors import E
from cognu.mesh import dialling, links, roaming
from cognu.mesh.frames import (
    HEADER,
    HELLO_SIZE,
    LABEL_LIMIT,
    PAYLOAD_LIMIT,
    REASON_LIMIT,
    Kind,
    pack_hello,
    parse_hello,
)
from cognu.mesh.identity import ADDRESS_LIMIT
from cognu.mesh.outbox import FRAME_COST
from cognu.mesh.session import GREETING_SECONDS, GREETINGS
from cognu.mesh.session_channel import CHANNEL_WINDOW
from cognu.mesh.session_core import SESSION_WINDOW, UNREAD_LIMIT, SessionCore, Timing
from cognu.world.tls import GREETING
from mesh_core_kit import BOOTS

TEXT = (Path(__file__).parents[2] / "docs" / "links.md").read_text()
SESSION = b"S" * 16
PORT = 4000


def in_the_document() -> list[bytes]:
    found: list[bytes] = []
    for line in TEXT.splitlines():
        words = line.split()
        if line.startswith("    ") and all(re.fullmatch(r"[0-9a-f]+(\*\d+)?", word) for word in words):
            found.append(b"".join(_bytes(word) for word in words))
    return found


def _bytes(word: str) -> bytes:
    digits, _, times = word.partition("*")
    return bytes.fromhex(digits) * int(times or 1)


def frames_of(core: SessionCore) -> list[bytes]:
    """What a core sends now, frame by frame, but for the PING that each link begins with and its PONG."""
    data, found = b"".join(core.output(1 << 20, 0)), []
    while data:
        length, kind = HEADER.unpack_from(data)[:2]
        frame, data = data[: HEADER.size + length], data[HEADER.size + length :]
        if kind not in (Kind.PING, Kind.PONG):
            found.append(frame)
    return found


def test_the_examples_are_what_two_nodes_say() -> None:
    leader, follower = SessionCore(True, BOOTS[0], Timing(), "f"), SessionCore(False, BOOTS[1], Timing(), "l")
    said = [GREETING, pack_hello(follower.hello(PORT))]
    said.append(pack_hello(leader.take_hello(parse_hello(said[-1]), SESSION, 0)))
    follower.take_use(parse_hello(said[-1]), 0)

    again = [SessionCore(True, BOOTS[0], Timing(), "f"), SessionCore(False, BOOTS[1], Timing(), "l")]
    again[1].take_use(again[0].take_hello(again[1].hello(PORT), SESSION, 0), 0)
    for core, other, count in ((again[0], again[1], 7), (again[1], again[0], 5)):
        for _ in range(count):
            core.open("")
        other.receive(b"".join(core.output(1 << 20, 0)), 0)
    said.append(pack_hello(again[1].hello(PORT)))
    said.append(pack_hello(again[0].take_hello(parse_hello(said[-1]), bytes(16), 0)))

    for core in (leader, follower):
        assert frames_of(core) == []

    channel = leader.open("x")
    leader.write(channel, [b"hi"])
    leader.end(channel)
    of_leader = frames_of(leader)
    follower.receive(b"".join(of_leader), 0)
    follower.tick(0)
    acknowledged = frames_of(follower)
    (_, theirs), *_ = follower.take_events()
    follower.close(theirs, E.NOENT)
    (closed,) = frames_of(follower)
    said += [*of_leader, *acknowledged, closed]
    assert [data.hex() for data in in_the_document()] == [data.hex() for data in said]


@pytest.mark.parametrize(
    "words",
    [
        f"{HELLO_SIZE} bytes each",
        f"at most {LABEL_LIMIT} bytes",
        f"1 to {PAYLOAD_LIMIT} bytes",
        f"at most {REASON_LIMIT} bytes",
        f"have {CHANNEL_WINDOW} bytes",
        f"At most {SESSION_WINDOW} bytes",
        f"{FRAME_COST} bytes more than its payload",
        f"{UNREAD_LIMIT} bytes may wait",
        f"{GREETINGS} are kept",
        f"at most {ADDRESS_LIMIT} that were heard",
        f"acknowledgement or a PONG is dead after | {Timing().answer:g} |",
        f"nothing is heard is dead after | {Timing().silence:g} |",
        f"settings(5)) | {Timing().retention:g} |",
        f"between dials | {Timing().first_delay:g} and {Timing().last_delay:g} |",
        f"once the session is lost | {roaming.RETURN_FIRST:g} and {roaming.RETURN_LAST:g} |",
        f"nobody answered {roaming.RETURN_FIRST:g} seconds ago",
        f"a greeting may take | {GREETING_SECONDS:g} |",
        f"one address may take | {links.DIAL_SECONDS:g} |",
        f"the next address | {dialling.APART_SECONDS:g} |",
        f"are looked at every | {roaming.LOOK_SECONDS:g} |",
        f"then every | {roaming.SEEK_FIRST:g} and {roaming.SEEK_AGAIN:g} |",
        f"after {Timing().silence - Timing().answer:g} seconds",
        f"jumped apart by {roaming.LATE_SECONDS:g} seconds",
        *(f"| {kind.value} | {kind.name} |" for kind in Kind),
    ],
)
def test_the_numbers_are_those_of_the_code(words: str) -> None:
    assert words in " ".join(TEXT.split())

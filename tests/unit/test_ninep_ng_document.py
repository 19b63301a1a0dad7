"""The examples of docs/9p-ng.md are what goes over the wire, and its numbers and limits are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cognu.errors import E
from cognu.ninep import messages as m
from cognu.ninep.codec import decode, encode
from cognu.ninep.compound import (
    ATTENUATE,
    BYTES,
    LIST,
    MINT,
    MOST_PARTS,
    MOST_SECONDS,
    MOST_WATCHES,
    PARTS,
    WATCH,
    wanted,
)
from cognu.ninep.listed import unpack_listed
from cognu.ninep.messages import Dialect, Feature, Message
from cognu.ninep.table import TABLE, Row
from cognu.ninep.types import NOFID, NONUNAME, RIGHT_EXECUTE, RIGHT_READ, Dirent, Qid
from cognu.ninep.watches import ENDS, LOST, MADE, MOST_EVENTS, NAMES, Event, pack_event

TEXT = (Path(__file__).parents[2] / "docs" / "9p-ng.md").read_text()
FILE = Qid(0, 7, 1)
ENTRY = Dirent(FILE, 1, 8, "f")
RLIST = 167
EXAMPLES: list[tuple[int, Message]] = [
    (3, m.Rngerror(2, "NOENT", "/x", "")),
    (1, m.Tcaps((Feature("comp", 64), Feature("x", 1)))),
    (1, m.Rcaps((Feature("comp", 16),))),
    (2, m.Tcomp((m.Twalk(0, 5, ("f",)), m.Tlopen(5, 0)))),
    (2, m.Rcomp((m.Rwalk((FILE,)), m.Rngerror(E.ACCES.errno, "ACCES", "f", "")))),
    (3, m.Tlist(5, 0, 4096)),
    (4, m.Twatch(5, 28)),
    (4, m.Rwatch(1)),
    (5, m.Tevent(0, 4096)),
    (5, m.Revent(pack_event(Event(1, 1, MADE, "f")))),
]
LESS: list[tuple[int, Message]] = [
    (4, m.Tattenuate(5, 6, RIGHT_READ | RIGHT_EXECUTE)),
    (4, m.Rattenuate(Qid(0x80, 7, 1))),
    (5, m.Tmint(6, RIGHT_READ | RIGHT_EXECUTE, 1, 600, "k7")),
    (5, m.Rmint(600, "mfxgizlzgi2dimrsgqzdinbuge2tmmrw")),
    (1, m.Tattach(0, NOFID, "", "cap:mfxgizlzgi2dimrsgqzdinbuge2tmmrw", NONUNAME)),
]


def in_the_document() -> list[bytes]:
    found: list[bytes] = []
    for line in TEXT.splitlines():
        words = line.split()
        if line.startswith("    ") and all(re.fullmatch(r"[0-9a-f]+(\*\d+)?", word) for word in words):
            parts = [word.partition("*") for word in words]
            found.append(b"".join(bytes.fromhex(digits) * int(times or 1) for digits, _, times in parts))
    return found


def test_every_example_is_what_it_says_byte_by_byte() -> None:
    found = in_the_document()
    less = found[-len(LESS) :]
    assert [decode(memoryview(wire), Dialect.NG) for wire in less] == LESS
    assert [b"".join(encode(message, tag, Dialect.NG)) for tag, message in LESS] == less
    examples = found[: len(EXAMPLES) + 1]
    listing = examples.pop(next(at for at, wire in enumerate(examples) if wire[4] == RLIST))
    assert [decode(memoryview(wire), Dialect.NG) for wire in examples] == EXAMPLES
    assert [b"".join(encode(message, tag, Dialect.NG)) for tag, message in EXAMPLES] == examples
    tag, message = decode(memoryview(listing), Dialect.NG)
    assert isinstance(message, m.Rlist)
    assert (tag, message.end) == (3, 1)
    assert list(unpack_listed(message.data)) == [(ENTRY, None)]


@pytest.mark.parametrize("row", [row for row in TABLE if row.number >= 160], ids=lambda row: row.message.__name__)
def test_every_message_beyond_9p2000_l_is_in_it_with_its_number_and_layout(row: Row) -> None:
    name = row.message.__name__
    assert f"{name} ({row.number})" in TEXT
    assert re.search(rf"^    size\[4\] {name} tag\[2\] ", TEXT, re.MULTILINE)


def test_the_features_and_their_values_are_in_it() -> None:
    assert {feature.name for feature in wanted(8192)} == {PARTS, BYTES, LIST, ATTENUATE, MINT, WATCH}
    assert f"| `{PARTS}` | most parts of a Tcomp, Cognu's {MOST_PARTS} | Tcomp |" in TEXT
    assert f"| `{MINT}` | most seconds that a token may be redeemed, Cognu's {MOST_SECONDS} | Tmint |" in TEXT
    for name in (BYTES, LIST, ATTENUATE, WATCH):
        assert f"| `{name}` |" in TEXT
    assert f"| `{WATCH}` | most watches of a connection, Cognu's {MOST_WATCHES} |" in TEXT


def test_the_kinds_of_events_and_the_bound_of_the_ring_are_in_it() -> None:
    for kind, name in NAMES.items():
        ends = "the watch is over" if kind & ENDS else ""
        assert re.search(rf"^\| {kind} \| {name} \| .*{ends}", TEXT, re.MULTILINE)
    assert set(NAMES) == {1 << bit for bit in range(9)}
    assert NAMES[LOST] == "lost"
    assert f"Cognu's {MOST_EVENTS} events" in TEXT

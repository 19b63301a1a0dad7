"""The QR code of `pair`, as a camera sees it: pixels of the terminal's characters, read by a decoder (ZXing)."""

from __future__ import annotations

import os

import pytest
import zxingcpp

from cognu.cli import pairing as told
from cognu.cli.qr import BRIGHT, PLAIN, QUIET, drawn
from cognu.mesh.codes import Code, format_offer, parse_offer

CODE = Code("2748319052")
ADDRESSES = {
    "one": ("192.0.2.7:41234",),
    "long": ("192.168.178.123:41234", "100.100.200.200:41234", "[2001:db8:1234:5678:9abc:def0:1234:5678]:41234"),
}
CELL = (8, 16)
"""Pixels of a character; a module is 8 by 8."""
LIGHT, DARK = 255, 0
Picture = list[list[int]]


def photographed(lines: list[str], around: int, gap: int = 0, invert: bool = False) -> Picture:
    """The pixels of lines as `qr.drawn` makes them, in a window whose background is `around`.

    With a `gap` the terminal leaves so many pixels between lines, in the background of the character, and the camera
    blurs five rows into each. `invert` is what it would be if the characters were drawn in the window's own dark on
    light.
    """
    width = len(lines[0].removeprefix(BRIGHT).removesuffix(PLAIN))
    ink, paper = (DARK, LIGHT) if invert else (LIGHT, DARK)
    picture: Picture = []
    for line in lines:
        assert line.startswith(BRIGHT)
        assert line.endswith(PLAIN)
        cells = line.removeprefix(BRIGHT).removesuffix(PLAIN)
        assert len(cells) == width
        for row in range(CELL[1]):
            full = "█▀" if row < CELL[1] // 2 else "█▄"
            picture.append([ink if cell in full else paper for cell in cells for _ in range(CELL[0])])
        picture += [[paper] * width * CELL[0]] * gap
    margin = [around] * 40
    rows = [margin + row + margin for row in picture]
    edge = [[around] * len(rows[0])] * 40
    seen = edge + rows + edge
    if not gap:
        return seen
    return [[sum(pixels) // 5 for pixels in zip(*seen[at : at + 5], strict=True)] for at in range(len(seen) - 4)]


def read(picture: Picture) -> list[str]:
    """What a decoder finds that takes no light code on dark, as not every telephone's does."""
    image = memoryview(bytes(b"".join(map(bytes, picture)))).cast("B", (len(picture), len(picture[0])))
    kinds = zxingcpp.BarcodeFormats([zxingcpp.BarcodeFormat.QRCode])
    found = zxingcpp.read_barcodes(image, formats=kinds, try_invert=False)
    return [each.text for each in found]


@pytest.mark.parametrize("addresses", ADDRESSES.values(), ids=ADDRESSES)
@pytest.mark.parametrize("around", [DARK, LIGHT], ids=["dark", "light"])
@pytest.mark.parametrize("gap", [0, 1])
def test_a_camera_reads_what_pair_takes_on_a_dark_terminal_and_on_a_light_one(
    addresses: tuple[str, ...], around: int, gap: int
) -> None:
    lines = drawn(format_offer(CODE, addresses), 200, 200)
    [text] = read(photographed(lines, around, gap))
    assert parse_offer(text) == (CODE, addresses)
    assert told._typed(text, None) == {"code": CODE.digits, "addresses": list(addresses)}


def test_turned_by_a_quarter_it_is_read_too() -> None:
    picture = photographed(drawn(format_offer(CODE, ADDRESSES["one"]), 200, 200), DARK)
    [text] = read([list(column) for column in zip(*picture, strict=True)][::-1])
    assert parse_offer(text)[0] == CODE


def test_light_on_dark_is_not_read_by_every_decoder_which_is_why_it_has_colours_of_its_own() -> None:
    lines = drawn(format_offer(CODE, ADDRESSES["one"]), 200, 200)
    assert read(photographed(lines, LIGHT, invert=True)) == []


def test_it_has_the_margin_that_the_standard_asks_for_on_each_side() -> None:
    picture = photographed(drawn(format_offer(CODE, ADDRESSES["one"]), 200, 200), DARK)
    inside = [row[40:-40] for row in picture[40:-40]]
    for side in (inside, inside[::-1], list(zip(*inside, strict=True)), list(zip(*inside, strict=True))[::-1]):
        light = next(count for count, row in enumerate(side) if DARK in row)
        assert light in (QUIET * 8, QUIET * 8 + 8)  # an odd count of rows is filled up


@pytest.mark.parametrize(("columns", "lines", "kept"), [(200, 60, 3), (80, 24, 2), (30, 24, 0), (80, 12, 0)])
def test_in_a_small_window_it_has_fewer_addresses_or_is_left_out(
    columns: int, lines: int, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(told, "get_terminal_size", lambda: os.terminal_size((columns, lines)))
    shown = told._drawn(format_offer(CODE, ADDRESSES["long"]), 2)
    if not kept:
        assert shown == [told.NO_ROOM]
        return
    assert len(shown) + 2 < lines
    [text] = read(photographed(shown, DARK))
    assert parse_offer(text) == (CODE, ADDRESSES["long"][:kept])

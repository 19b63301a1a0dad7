"""What a terminal is shown once more: nothing in it is answered, and text and screen are as they were."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cognu.devices.sequences import quiet

CONTROLS = (
    "c 0c >c =c 5n 6n ?6n ?996n x 1x 14t 18t 21t ?u #R #| $p 4$p ?2026$p 1$w &u $u >q >0q ?1;1;0S ?4m 1;1;1;1;1;1*y "
    "1'| \"v 1;2;3;4;5T ?1004h ?2048h ?1;02048h"
)
SYSTEM = (
    "4;1;? 4;1;?;2;? 5;0;? 10;? 11;? 12;?;? 19;? 52;c;? 52;;? 50;? 60 61 21;foreground=? 22;?__current__ 99;i=1:p=?; "
    "702;? 1337;ReportCellSize 5522;type=read"
)
DEVICE = "$qm +q544e tmux;\x1b\x1b[6n +Q"
BROKEN = [b"\x1b[\n6n", b"\x1b\x1b[6n", b"\x1b[\x056n", b"\x1b[1\x1b[6n", b"\x1b]0;x\x1b[6n", b"\x1b%@\x9b6n"]
BROKEN_CHARACTERS = [b"\xc2\x1b[6n\x9b6n", b"\xc2\x1b[6n\x05\x1bZ\x9b6n"]
WHOLE = [
    *(b"\x1b[" + rest.encode() for rest in CONTROLS.split()),
    *(b"\x1b]" + rest.encode() + end for end in (b"\x07", b"\x1b\\", b"\xc2\x9c") for rest in SYSTEM.split()),
    *(b"\x1bP" + rest.encode() + b"\x1b\\" for rest in DEVICE.split()),
    *(b"\x05", b"\x1bZ", b"\x1b_Gi=1,a=q;AAAA\x1b\\", b"\x1b^x\x1b\\", b"\x1bX\x1b\\"),
    *(b"\xc2\x9b6n", b"\xc2\x9bc", b"\xc2\x9a", b"\xc2\x9d52;c;?\x07", b"\xc2\x9d10;?\xc2\x9c", b"\xc2\x90$qm\xc2\x9c"),
]
ASKS = [*WHOLE, *BROKEN, *BROKEN_CHARACTERS]
STAYS = [
    *(b"\x1b[" + rest for rest in b"0m 1;38;5;3m 38:2::1:2:3m H 12;40H 2J K 3A 2;20r 4h !p >4;2m >1u <u".split()),
    *(b"\x1b[" + rest for rest in b"?1049h ?25l ?2004h ?1000;1006h ?2048l".split()),
    *(b"\x1b" + rest for rest in b"7 8 = M (0 c".split()),
    *(b"\x1b]" + rest + b"\x07" for rest in b"7;file://pi/home? 8;;http://x/?q=1 133;A 11;#000000 4;1;red 104".split()),
    *(b"\r\n", b"\x07", b"\x1b[2 q", b"\x1b]0;who? me\x07", b"\x1b]2;caf\xc3\xa9\x1b\\", "größer, 端末\n".encode()),
]
BEGUN = [b"\x1b", b"\x1b[", b"\x1b[3", b"\x1b(", b"\x1b]0;ti", b"\x1b]0;ti\x1b", b"\x1bPq#0", b"\xc2", b"\xc2\x9b3"]


@pytest.mark.parametrize("asked", ASKS)
def test_what_is_answered_is_left_out_and_the_text_around_it_is_not(asked: bytes) -> None:
    shown = quiet(b"one" + asked + b"two")
    assert questions(shown) == []
    assert shown.startswith(b"one")
    assert shown.endswith(b"two")


def test_the_terminal_of_these_tests_is_one_that_answers() -> None:
    silent = {asked for asked in ASKS if not questions(asked)}
    assert silent == {b"\x1b^x\x1b\\", b"\x1bX\x1b\\", BROKEN[-1]}  # which others answer


@pytest.mark.parametrize("whole", STAYS)
def test_what_makes_the_screen_stays(whole: bytes) -> None:
    assert quiet(b"one" + whole + b"two") == b"one" + whole + b"two"


@pytest.mark.parametrize("begun", BEGUN)
def test_what_is_begun_at_the_end_stays_since_the_rest_is_to_come(begun: bytes) -> None:
    assert quiet(b"\x1b[6none" + begun) == b"one" + begun


PIECES = st.one_of(
    st.sampled_from([*ASKS, *STAYS, *BEGUN]),
    st.binary(max_size=6),
    st.text(alphabet="\x1b[]?6n;\x9b\x9c\x07\\P\x05").map(str.encode),
    st.text(alphabet="\x1b[6n\xc2\x9b").map(lambda text: text.encode("latin-1")),
)


@given(st.lists(PIECES, max_size=12).map(b"".join))
@example(b"\xc2\x1b[\xc2\x9b6n\x9b6n")
def test_nothing_that_is_left_asks_whatever_the_bytes_are(data: bytes) -> None:
    shown = quiet(data)
    assert questions(shown) == []
    assert quiet(shown) == shown
    rest = iter(data)
    assert all(byte in rest for byte in shown)  # in the same order


@given(st.lists(st.tuples(st.text(st.characters(exclude_categories=["C"])), st.sampled_from(WHOLE)), max_size=8))
def test_all_text_stays(pieces: list[tuple[str, bytes]]) -> None:
    texts = "".join(text for text, _ in pieces).encode()
    assert quiet(b"".join(text.encode() + asked for text, asked in pieces)) == texts


# -- a terminal, as far as it answers ---------------------------------------------------------------------------------


def questions(data: bytes) -> list[bytes]:
    """The sequences that one terminal or another would answer, byte by byte as the parser of vt100.net reads them."""
    found: list[bytes] = []
    state, held = "text", b""
    text = data.decode("utf-8", "replace").replace("\ufffd", ".")
    for letter in (byte for char in text for byte in unfolded(char)):
        if letter == b"\x05":
            found.append(letter)
        elif letter in (b"\x18", b"\x1a"):
            state = "text"
        elif letter == b"\x1b":
            ended, state = (state, held), "escape"
            held = b""
        elif state == "escape" and letter >= b" ":
            if letter == b"\\" and ended[0] == "string":
                found += [ended[1]] if string_asks(ended[1]) else []
            state, held = {b"[": ("control", b""), b"]": ("string", b"]")}.get(letter, ("text", b""))
            if letter in b"PX^_":
                state, held = "string", letter
            elif letter == b"Z":
                found.append(b"Z")
            elif letter in b" #%()*+-./":
                state = "text"
            ended = ("", b"")
        elif state == "control" and letter >= b" ":
            held += letter
            if b"@" <= letter <= b"~":
                found += [held] if control_asks(held) else []
                state = "text"
        elif state == "string":
            if letter == b"\x07" and held[:1] == b"]":
                found += [held] if string_asks(held) else []
                state = "text"
            held += letter
    return found


def unfolded(char: str) -> list[bytes]:
    """A C1 control as the two characters that mean the same."""
    if "\x80" <= char <= "\x9f":
        return [b"\x1b", bytes([ord(char) - 0x40])]
    return [char.encode()[:1]]


def control_asks(body: bytes) -> bool:
    """Of what follows CSI; by the endings that xterm or kitty answer."""
    parameters, final = body[:-1], body[-1:]
    plain = not parameters.strip(b"0123456789;:")
    if final in b"cnxvR|yw":
        return True
    if final == b"t":
        return parameters[:2] in (b"11", b"13", b"14", b"15", b"16", b"18", b"19", b"20", b"21")
    if final == b"h":
        return parameters[:1] == b"?" and bool(
            {b"1004", b"2048"} & {mode.lstrip(b"0") for mode in parameters[1:].split(b";")}
        )
    return {
        b"p": b"$" in parameters, b"q": b">" in parameters, b"S": b"?" in parameters, b"m": b"?" in parameters,
        b"u": not plain and parameters[:1] not in b"<>=", b"T": b";" in parameters,
    }.get(final, False)  # fmt: skip


def string_asks(body: bytes) -> bool:
    """Of what stands between the introducer, of which the last byte is first here, and the terminator."""
    if body[:1] != b"]":
        return body[:1] in b"P_"
    number = body[1:].partition(b";")[0]
    return number in (b"60", b"61", b"1337", b"5522") or (
        number not in (b"0", b"1", b"2", b"7", b"8", b"133") and b"?" in body
    )

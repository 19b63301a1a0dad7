"""SPAKE2 as the package has it, against the protocol's definition on plain numbers, and with what is no element."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given, settings
from hypothesis import strategies as st

from cognu.errors import Misuse, ProtocolError
from cognu.mesh.spake import ELEMENT_SIZE, Exchange, Side, check_encoding

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
Point = tuple[int, int]


class Chance:
    """Always the same bytes."""

    def __init__(self, seed: bytes) -> None:
        self.seed = seed

    def bytes(self, count: int) -> bytes:
        return hashlib.shake_256(self.seed).digest(count)


# RFC 8032 5.1, on affine coordinates: slow, and plainly what it says.


def add(a: Point, b: Point) -> Point:
    x1, y1, x2, y2 = *a, *b
    k = D * x1 * x2 * y1 * y2 % P
    return (x1 * y2 + x2 * y1) * pow(1 + k, -1, P) % P, (y1 * y2 + x1 * x2) * pow(1 - k, -1, P) % P


def times(n: int, a: Point) -> Point:
    total = (0, 1)
    while n:
        total = add(total, a) if n & 1 else total
        a, n = add(a, a), n >> 1
    return total


def encode(a: Point) -> bytes:
    return (a[1] | (a[0] & 1) << 255).to_bytes(32, "little")


def root(y: int) -> int | None:
    """The even x of a point with this y, if there is one."""
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * pow(2, (P - 1) // 4, P) % P
    return None if x * x % P != square else min(x, P - x, key=lambda each: each & 1)


def derived(info: bytes, data: bytes, size: int) -> bytes:
    return HKDF(SHA256(), size, b"", info).derive(data)


def nothing_up_the_sleeve(seed: bytes) -> Point:
    """A point of which nobody knows the logarithm: hashed from its name, and moved into the group."""
    y = int.from_bytes(derived(b"SPAKE2 arbitrary element", seed, 48), "big") % P
    while (x := root(y)) is None:
        y += 1
    return times(8, (x, y))


BASE: Point = (root(4 * pow(5, -1, P) % P) or 0, 4 * pow(5, -1, P) % P)


def by_definition(code: str, x: int, y: int) -> tuple[bytes, bytes, bytes]:
    """Both elements, and the key, as M. Abdalla and D. Pointcheval have it."""
    m, n = nothing_up_the_sleeve(b"M"), nothing_up_the_sleeve(b"N")
    w = int.from_bytes(derived(b"SPAKE2 pw", code.encode(), 32 + 16), "big") % L
    first, second = add(times(x, BASE), times(w, m)), add(times(y, BASE), times(w, n))
    shared = times(x * y % L, BASE)
    names = [hashlib.sha256(name).digest() for name in (code.encode(), b"cognu 1 pair types", b"cognu 1 pair shows")]
    said = b"".join([*names, encode(first), encode(second), encode(shared)])
    return encode(first), encode(second), hashlib.sha256(said).digest()


def test_the_package_does_what_the_protocol_says() -> None:
    chances = Chance(b"types"), Chance(b"shows")
    x, y = (int.from_bytes(chance.bytes(64), "big") % L for chance in chances)
    first, second, key = by_definition("2748319052", x, y)
    a, b = Exchange(Side.TYPES, "2748319052", chances[0]), Exchange(Side.SHOWS, "2748319052", chances[1])
    assert (a.element, b.element) == (b"A" + first, b"B" + second)
    assert a.key(b.element) == b.key(a.element) == key


@settings(deadline=None, max_examples=10)
@given(st.binary(min_size=1, max_size=8), st.integers(0, 9999999999), st.integers(0, 9999999999))
def test_the_keys_are_the_same_if_and_only_if_the_codes_are(seed: bytes, one: int, other: int) -> None:
    a = Exchange(Side.TYPES, f"{one:010}", Chance(seed))
    b = Exchange(Side.SHOWS, f"{other:010}", Chance(seed + b"b"))
    assert (a.key(b.element) == b.key(a.element)) is (one == other)


def new(side: Side = Side.SHOWS) -> Exchange:
    return Exchange(side, "2748319052", Chance(b"x"))


def refused(element: bytes) -> str:
    with pytest.raises(ProtocolError) as caught:
        new().key(element)
    return caught.value.detail


NEUTRAL, MINUS_ONE = (1).to_bytes(32, "little"), (P - 1).to_bytes(32, "little")


@pytest.mark.parametrize(
    "point",
    [
        NEUTRAL, NEUTRAL[:31] + b"\x80", (P + 1).to_bytes(32, "little"), (P + 1 | 1 << 255).to_bytes(32, "little"),
        MINUS_ONE, MINUS_ONE[:31] + b"\xff", bytes(32), bytes(31) + b"\x80", P.to_bytes(32, "little"),
        bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
        bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
        encode(add(BASE, (0, P - 1))),  # of order 2 L
        (2).to_bytes(32, "little"),  # of no point
    ],
)  # fmt: skip
def test_what_is_not_of_the_group_is_refused(point: bytes) -> None:
    assert refused(b"A" + point)


def test_the_package_by_itself_takes_the_neutral_point_in_another_spelling() -> None:
    """Why `check_encoding` is there. If this fails, the package has changed: read it again."""
    from spake2.ed25519_basic import bytes_to_element

    for point in (NEUTRAL[:31] + b"\x80", (P + 1).to_bytes(32, "little")):
        assert bytes_to_element(point).to_bytes() == NEUTRAL


def test_a_side_does_not_take_its_own_word_back() -> None:
    mine = new()
    assert "OffSides" in refused(mine.element)
    assert "ReflectionThwarted" in refused(b"A" + mine.element[1:])
    assert "OffSides" in refused(b"S" + mine.element[1:])


@pytest.mark.parametrize("change", [lambda e: e[:-1], lambda e: e + b"\0", lambda e: b"", lambda e: e + e])
def test_an_element_of_another_size_is_refused(change: Callable[[bytes], bytes]) -> None:
    assert "bytes" in refused(change(new(Side.TYPES).element))


def test_an_exchange_is_for_one_use_and_forgets() -> None:
    mine, theirs = new(), new(Side.TYPES)
    mine.key(theirs.element)
    assert mine._exchange is None
    with pytest.raises(Misuse):
        mine.key(theirs.element)
    theirs.forget()
    with pytest.raises(Misuse):
        theirs.key(mine.element)
    assert "2748319052" not in repr(mine)


@settings(deadline=None, max_examples=50)
@given(st.one_of(st.binary(max_size=40), st.binary(min_size=32, max_size=32).map(b"A".__add__)))
def test_any_bytes_are_an_element_or_refused(data: bytes) -> None:
    try:
        key = new().key(data)
    except ProtocolError:
        return
    check_encoding(data)
    assert (len(data), len(key)) == (ELEMENT_SIZE, 32)

"""Codes and offers as they are typed and read, and the messages of pairing."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cognu.errors import E, FileError, ProtocolError
from cognu.mesh.codes import (
    OFFER,
    Code,
    check_address,
    format_offer,
    new_code,
    parse_code,
    parse_offer,
)
from cognu.mesh.join_messages import (
    Step,
    key_proof,
    pack_pair,
    parse_confirmation,
    parse_pair,
    parse_paired,
    proves_key,
)
from cognu.world.real import real_world

CODES = st.integers(0, 10**10 - 1).map(lambda number: Code(f"{number:010}"))


@given(CODES, st.sampled_from(["", " ", "-", " - "]))
def test_a_code_is_read_however_it_is_spaced(code: Code, space: str) -> None:
    assert parse_code(space.join(code.digits)) == parse_code(code.text) == code


@given(st.text(max_size=40))
def test_any_text_is_a_code_or_refused_without_being_repeated(text: str) -> None:
    if len("".join(text.split()).replace("-", "")) == 10 and "".join(text.split()).replace("-", "").isascii():
        with suppress(FileError):
            assert parse_code(text).digits.isdigit()
        return
    with pytest.raises(FileError) as caught:
        parse_code(text)
    assert caught.value.error is E.WRONGCODE
    assert caught.value.detail == "a code is 10 digits, as in 27-4831-9052"


ADDRESSES = st.one_of(
    st.builds("{}:{}".format, st.sampled_from(["127.0.0.1", "pi.local", "[::1]", "[fe80::1%eth0]"]),
              st.integers(1, 65535)),
)  # fmt: skip


@given(CODES, st.lists(ADDRESSES, min_size=1, max_size=8).map(tuple))
def test_an_offer_survives_the_camera(code: Code, addresses: tuple[str, ...]) -> None:
    assert parse_offer(f" {format_offer(code, addresses)}\n") == (code, addresses)


@given(st.one_of(st.text(max_size=80), st.text("0123456789@:,[]%.a", max_size=80).map(OFFER.__add__)))
def test_any_text_is_an_offer_or_refused(text: str) -> None:
    with suppress(FileError):
        code, addresses = parse_offer(text)
        assert parse_offer(format_offer(code, addresses)) == (code, addresses)


@pytest.mark.parametrize("text", ["", "pi", "pi:0", "pi:70000", "pi:x", "a b:1", "::1:5", "pi:1,b:2", "[::1]", "@:1"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(FileError) as caught:
        check_address(text)
    assert caught.value.error is E.USAGE


def test_codes_are_new_and_use_all_digits() -> None:
    random = real_world().random
    codes = {new_code(random).digits for _ in range(100)}
    assert len(codes) == 100
    assert set("".join(codes)) == set("0123456789")


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_message_of_pairing_parses_or_is_a_protocol_error(body: bytes) -> None:
    parsers: list[Callable[[bytes], object]] = [parse_pair, parse_paired, parse_confirmation]
    for parse in parsers:
        with suppress(ProtocolError):
            parse(body)


@given(st.binary(min_size=33, max_size=33), CODES)
def test_pair_survives_the_wire(element: bytes, code: Code) -> None:
    assert parse_pair(pack_pair(code.number, element)) == (code.number, element)


def test_the_proof_of_the_key_differs_by_step_secret_and_both_elements() -> None:
    steps = (Step.KEY, Step.KEYED)
    proofs = {key_proof(step, secret, a, b) for step in steps for secret in (b"k", b"l") for a in (b"a", b"b")
              for b in (b"c", b"d")}  # fmt: skip
    assert len(proofs) == 16
    proof = key_proof(Step.KEY, b"k", b"a", b"c")
    assert proves_key(Step.KEY, proof, b"k", b"a", b"c")
    assert not proves_key(Step.KEY, proof, b"k", b"c", b"a")
    assert not proves_key(Step.KEYED, proof, b"k", b"a", b"c")

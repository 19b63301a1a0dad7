"""Addresses as Plan 9 and others write them, and where a tracer may listen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognu.cli.addresses import Address, check_listening, parse_address
from cognu.errors import E, FileError
from misused import read_or_misused


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("unix!/tmp/ns.me/acme", ("unix", "/tmp/ns.me/acme")),
        ("unix!sock", ("unix", "sock")),
        ("./sock", ("unix", "./sock")),
        ("/a b:c/d", ("unix", "/a b:c/d")),
        ("tcp!sources!564", ("tcp", "sources:564")),
        ("tcp!sources!9fs", ("tcp", "sources:564")),
        ("net!sources!exportfs", ("tcp", "sources:17007")),
        ("tcp!sources", ("tcp", "sources:564")),
        ("tcp!*!5640", ("tcp", "0.0.0.0:5640")),
        ("tcp!::1!564", ("tcp", "[::1]:564")),
        ("127.0.0.1:5640", ("tcp", "127.0.0.1:5640")),
        ("[::1]:styx", ("tcp", "[::1]:6666")),
        ("exec!ssh pi cognu 9p --stdio '/a b'", ("exec", "ssh pi cognu 9p --stdio '/a b'")),
        ("-", ("stdio", "")),
    ],
)
def test_addresses_are_read_as_plan_9_and_others_write_them(text: str, address: tuple[str, str]) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text",
    ["", "sock", "unix!", "tcp!", "tcp!!564", "tcp!a!", "tcp!a!b!564", "tcp!a!65536", "tcp!a b!564", "a:b", ":564",
     "a:", "il!a!17008", "exec!", "exec!'", "exec! ", "a:٣", "unix!a\0b", "/a\0b", "a]:1", "tcp!a!-1"],
)  # fmt: skip
def test_what_is_no_address_is_refused_with_what_would_be(text: str) -> None:
    with pytest.raises(FileError) as refused:
        parse_address(text)
    assert refused.value.error is E.USAGE
    assert refused.value.subject == text


@given(st.text(st.sampled_from("untcpexi!:/[]*.019 '\0é-")) | st.text())
def test_any_text_is_an_address_or_wrong_usage(text: str) -> None:
    address = read_or_misused(parse_address, text)
    if address is None:
        return
    assert address.kind in ("unix", "tcp", "exec", "stdio")
    if address.kind == "tcp":
        assert parse_address(address.where) == address


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "[::1]:0", "localhost:5640", "/tmp/sock", "-"])
def test_a_port_of_the_loopback_is_for_what_everybody_reaches_anyway(listen: str) -> None:
    check_listening(parse_address(listen), parse_address("tcp!sources!564"))


@pytest.mark.parametrize(
    ("listen", "served"),
    [
        ("0.0.0.0:564", "tcp!sources!564"),
        ("127.example.com:564", "tcp!sources!564"),
        ("127.0.0.1:0", "/tmp/sock"),
        ("127.0.0.1:0", "exec!ssh pi"),
    ],
)
def test_nobody_gets_further_through_a_tracer_than_without_it(listen: str, served: str) -> None:
    with pytest.raises(FileError) as refused:
        check_listening(parse_address(listen), parse_address(served))
    assert refused.value.error is E.PERM


def test_a_command_is_no_place_to_listen_at() -> None:
    with pytest.raises(FileError) as refused:
        check_listening(Address("exec", "x"), Address("tcp", "a:1"))
    assert refused.value.error is E.USAGE

"""Identities and the peer book."""

from __future__ import annotations

import datetime
import json
import os
import stat
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cognu.errors import E, FileError, LinkBroken
from cognu.mesh.identity import (
    FINGERPRINT_LENGTH,
    GRANT_LIMIT,
    NAME_LIMIT,
    Peer,
    PeerBook,
    certificate_der,
    certificate_public,
    check_certificate,
    clean_name,
    fingerprint_bytes,
    fingerprint_of,
    fingerprint_text,
    format_book,
    identity_from_seed,
    load_identity,
    parse_book,
    short,
    valid_name,
    verify,
)
from cognu.mesh.pinning import check_room
from cognu.world.real import real_world
from mesh_support import Node
from tls_attacker import certificate, der


def peer(seed: int, name: str) -> Peer:
    identity = identity_from_seed(bytes([seed]) * 32)
    return Peer(identity.fingerprint, name, identity.certificate, ("10.0.0.1:1",), ("home/me",), ("net",))


def test_an_identity_is_made_once_and_kept_for_its_owner_alone(tmp_path: Path) -> None:
    world, home = real_world(), str(tmp_path / "home")
    first = load_identity(world, home)
    assert load_identity(world, home).fingerprint == first.fingerprint
    assert load_identity(world, home).certificate == first.certificate
    assert stat.S_IMODE(os.stat(f"{home}/identity").st_mode) == 0o600
    assert load_identity(world, str(tmp_path / "other")).fingerprint != first.fingerprint


def _ec_key() -> bytes:
    key = generate_private_key(SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize("content", [b"", b"garbage", _ec_key()])
def test_a_damaged_identity_is_an_error_and_stays_as_it_is(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "identity").write_bytes(content)
    with pytest.raises(FileError) as caught:
        load_identity(real_world(), str(tmp_path))
    assert caught.value.error is E.DAMAGED
    assert (tmp_path / "identity").read_bytes() == content


def test_an_identity_does_not_show_its_key() -> None:
    identity = identity_from_seed(bytes(32))
    assert repr(identity) == f"Identity({identity.fingerprint})"


def test_signatures_and_fingerprints_are_the_keys() -> None:
    identity = identity_from_seed(bytes(32))
    assert len(identity.fingerprint) == FINGERPRINT_LENGTH
    assert identity.fingerprint == fingerprint_of(identity.public)
    assert fingerprint_text(fingerprint_bytes(identity.fingerprint)) == identity.fingerprint
    assert identity.fingerprint.startswith(short(identity.fingerprint))
    signature = identity.sign(b"message")
    assert verify(identity.public, signature, b"message")
    assert not verify(identity.public, signature, b"massage")
    assert not verify(b"short", signature, b"message")


@settings(deadline=None)
@given(st.text(max_size=60))
def test_only_a_fingerprint_passes_for_one(text: str) -> None:
    with suppress(FileError):
        assert fingerprint_text(fingerprint_bytes(text)) == text


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_for_a_certificate_are_refused(data: bytes) -> None:
    with pytest.raises(LinkBroken) as caught:
        check_certificate(data)
    assert caught.value.error is E.BADPEER


def test_only_a_self_signed_leaf_may_be_pinned() -> None:
    identity = identity_from_seed(bytes(32))
    der = certificate_der(identity.certificate)
    check_certificate(der)
    assert certificate_public(der) == identity.public
    altered = bytearray(der)
    altered[-1] ^= 1
    with pytest.raises(LinkBroken):
        check_certificate(bytes(altered))
    # An authority, and a leaf that does not say what it is.
    for authority in (True, None):
        with pytest.raises(LinkBroken) as caught:
            check_certificate(_self_signed(identity.key, authority))
        assert caught.value.error is E.BADPEER


def test_a_key_has_one_certificate_and_no_other_is_pinned() -> None:
    identity = identity_from_seed(bytes(32))
    named = certificate(identity.key, identity.fingerprint, authority=False)
    for other in (named, certificate(identity.key, peer(1, "one").fingerprint, authority=False)):
        with pytest.raises(LinkBroken) as caught:
            check_certificate(der(other))
        assert caught.value.error is E.BADPEER


def _self_signed(key: Ed25519PrivateKey, authority: bool | None) -> bytes:
    name = x509.Name([])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).serial_number(7)
    builder = builder.public_key(key.public_key()).not_valid_before(datetime.datetime(2020, 1, 1))
    builder = builder.not_valid_after(datetime.datetime(2050, 1, 1))
    if authority is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    return builder.sign(key, None).public_bytes(Encoding.DER)


def test_the_book_is_kept_over_a_restart_and_finds_by_name_and_fingerprint(tmp_path: Path) -> None:
    node = Node(tmp_path)
    one, two = node.book.add(peer(1, "one")), node.book.add(peer(2, "two"))
    again = PeerBook(node.world.disk, node.home)
    assert again.all() == [one, two]
    assert again.find("two") == again.find(two.fingerprint) == again.find(two.fingerprint[:10].upper()) == two
    for text in ("three", two.fingerprint[:7], ""):
        with pytest.raises(FileError) as caught:
            again.find(text)
        assert caught.value.error is E.NOPEER
    assert stat.S_IMODE(os.stat(tmp_path / "peers.json").st_mode) == 0o600


def test_names_are_made_unique_and_kept_when_a_peer_pairs_again(tmp_path: Path) -> None:
    book = Node(tmp_path).book
    assert book.add(peer(1, "pi")).name == "pi"
    assert book.add(peer(2, "pi")).name == "pi-2"
    assert book.add(peer(3, "pi")).name == "pi-3"
    assert book.add(replace(peer(2, "other"), granted=("all",))).name == "pi-2"
    assert book.find("pi-2").granted == ("home/me", "all")  # grants add up
    long = "x" * NAME_LIMIT
    assert book.add(peer(4, long)).name == long
    assert book.add(peer(5, long)).name == "x" * (NAME_LIMIT - 2) + "-2"


@pytest.mark.parametrize(
    ("known", "offered"), [("pi-1", "pi-l"), ("node_0", "node-o"), ("farm", "farrn"), ("ww", "wvv")]
)
def test_a_name_that_looks_like_anothers_gets_a_number(tmp_path: Path, known: str, offered: str) -> None:
    book = Node(tmp_path).book
    assert book.add(peer(1, known)).name == known
    assert book.add(peer(2, offered)).name == f"{offered}-2"
    book.update(replace(book.find(known), name=f"my-{known}"))  # who gives names himself may give any
    assert book.add(peer(3, "other")).name == "other"


def test_a_name_that_begins_anothers_fingerprint_stands_for_neither(tmp_path: Path) -> None:
    book = Node(tmp_path).book
    honest = peer(1, "honest")
    mean = book.add(peer(2, clean_name(short(honest.fingerprint), "")))
    assert book.find(mean.name) == mean
    book.add(honest)
    with pytest.raises(FileError) as caught:
        book.find(mean.name)
    assert caught.value.error is E.AMBIGUOUS
    assert book.find("honest").fingerprint == book.find(honest.fingerprint[:9]).fingerprint == honest.fingerprint
    assert book.find(mean.fingerprint) == mean


def test_updates_and_removals_are_checked(tmp_path: Path) -> None:
    book = Node(tmp_path).book
    one = book.add(peer(1, "one"))
    book.add(peer(2, "two"))
    with pytest.raises(FileError) as caught:
        book.update(replace(one, name="two"))
    assert caught.value.error is E.EXIST
    with pytest.raises(FileError) as caught:
        book.update(peer(3, "three"))
    assert caught.value.error is E.NOPEER
    book.update(replace(one, name="uno"))
    assert book.remove(one.fingerprint).name == "uno"
    with pytest.raises(FileError):
        book.remove(one.fingerprint)
    assert [known.name for known in PeerBook(real_world().disk, str(tmp_path)).all()] == ["two"]


@pytest.mark.parametrize(
    "change",
    [
        {"name": ""},
        {"name": "UPPER"},
        {"name": "with/slash"},
        {"name": ".."},
        {"certificate": "garbage"},
        {"certificate": peer(9, "x").certificate},
        {"addresses": ("a b:1",)},
        {"addresses": tuple(f"10.0.0.1:{port}" for port in range(9))},
        {"granted": ("",)},
        {"received": ("x" * 201,)},
    ],
)
def test_a_record_out_of_bounds_is_refused_and_nothing_changes(tmp_path: Path, change: dict[str, object]) -> None:
    book = Node(tmp_path).book
    book.add(peer(1, "one"))
    with pytest.raises(FileError) as caught:
        book.add(replace(peer(2, "two"), **change))  # type: ignore[arg-type]
    assert caught.value.error is E.INVAL
    assert len(book.all()) == 1


def test_one_peer_has_so_many_grants_and_one_more_is_refused_with_the_number(tmp_path: Path) -> None:
    book = Node(tmp_path).book
    full = book.add(replace(peer(1, "one"), granted=tuple(f"cmd:c{n}" for n in range(GRANT_LIMIT))))
    for change in (
        lambda: book.update(replace(full, granted=(*full.granted, "net"))),
        lambda: book.add(replace(full, granted=("net",))),
        lambda: check_room(book, replace(full, granted=("net",)), True, True),
    ):
        with pytest.raises(FileError) as caught:
            change()
        assert caught.value.error is E.GRANTSFULL
        assert str(caught.value) == "one: too many grants: 65, and one machine may have at most 64"
    assert book.all() == [full]
    check_room(book, replace(full, granted=("net",)), True, False)  # what it had before ends with that
    book.update(replace(full, granted=(*full.granted[1:], "net")))


def test_what_a_peer_said_that_it_grants_makes_room_for_what_it_says_now(tmp_path: Path) -> None:
    """It may have taken the earlier ones back since; that is no reason not to join it again."""
    book = Node(tmp_path).book
    full = book.add(replace(peer(1, "one"), received=tuple(f"cmd:c{n}" for n in range(GRANT_LIMIT))))
    assert book.add(replace(full, received=("net", "run"))).received == (*full.received[2:], "net", "run")


def test_an_address_that_worked_comes_first_and_few_are_kept(tmp_path: Path) -> None:
    book = Node(tmp_path).book
    one = book.add(peer(1, "one"))
    for port in range(20):
        book.learn_address(one.fingerprint, f"10.0.0.2:{port}")
    addresses = book.find("one").addresses
    assert addresses == tuple(f"10.0.0.2:{port}" for port in range(19, 11, -1))
    book.learn_address(one.fingerprint, "10.0.0.2:15")
    assert book.find("one").addresses[0] == "10.0.0.2:15"
    book.learn_address("nobody", "10.0.0.2:15")


def test_where_a_peer_says_it_is_comes_last_and_in_place_of_what_it_said_before(tmp_path: Path) -> None:
    book = Node(tmp_path).book
    one = book.add(replace(peer(1, "one"), addresses=())).fingerprint
    writes: list[None] = []
    book.on_change = lambda: writes.append(None)
    book.learn_address(one, "10.0.0.2:1")
    book.claim_address(one, "10.0.0.2:2")
    assert book.find("one").addresses == ("10.0.0.2:1", "10.0.0.2:2")
    book.claim_address(one, "10.0.0.2:3", "10.0.0.2:2")
    assert book.find("one").addresses == ("10.0.0.2:1", "10.0.0.2:3")
    book.learn_address(one, "10.0.0.2:3")  # it answered there
    assert book.find("one").addresses == ("10.0.0.2:3", "10.0.0.2:1")
    assert len(writes) == 4
    for address in ("10.0.0.2:1", "10.0.0.2:3", "x" * 1000):
        book.claim_address(one, address, "10.0.0.2:1")
    book.claim_address("nobody", "10.0.0.2:1")
    assert (book.find("one").addresses, len(writes)) == (("10.0.0.2:3", "10.0.0.2:1"), 4)
    for port in range(10, 30):
        book.claim_address(one, f"10.0.0.2:{port}")
    kept = book.find("one").addresses
    assert (len(kept), kept[:2], kept[-1]) == (8, ("10.0.0.2:3", "10.0.0.2:1"), "10.0.0.2:29")


def test_what_the_disk_refused_is_not_trusted(tmp_path: Path) -> None:
    book = Node(tmp_path).book
    (tmp_path / "peers.json").mkdir()
    with pytest.raises(FileError):
        book.add(peer(1, "one"))
    assert book.all() == []


GOOD = json.loads(format_book([peer(1, "one")]))


def _with(**changes: object) -> bytes:
    return json.dumps({**GOOD, "peers": [{**GOOD["peers"][0], **changes}]}).encode()


@pytest.mark.parametrize(
    "content",
    [
        b"", b"[]", b"{}", b"\xff", b"[" * 100_000, json.dumps({**GOOD, "version": 2}).encode(),
        json.dumps({**GOOD, "more": 1}).encode(), json.dumps({**GOOD, "peers": [1]}).encode(),
        json.dumps({**GOOD, "peers": GOOD["peers"] * 2}).encode(), _with(name=1), _with(name="/"), _with(extra=""),
        _with(addresses="x"), _with(seen=-1), _with(seen=True),
        _with(seen=10**12), _with(labels=["B"]), _with(labels=["a", "a=1"]), _with(labels=1),
        _with(granted=[1]), _with(fingerprint="x"), _with(certificate="\ud800"),
        format_book([peer(1, "same"), peer(2, "same")]), format_book([peer(1, "one")])[:-20],
    ],
)  # fmt: skip
def test_a_damaged_book_is_an_error_and_never_an_empty_one(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "peers.json").write_bytes(content)
    with pytest.raises(FileError) as caught:
        PeerBook(real_world().disk, str(tmp_path))
    assert caught.value.error is E.DAMAGED
    assert (tmp_path / "peers.json").read_bytes() == content


@settings(deadline=None)
@given(st.one_of(st.binary(max_size=200), st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner)
    | st.dictionaries(st.sampled_from(["version", "peers", "name"]), inner), max_leaves=8,
).map(lambda value: json.dumps(value).encode())))  # fmt: skip
def test_any_content_either_parses_or_is_damaged(data: bytes) -> None:
    with suppress(FileError):
        assert parse_book(data, "peers.json") == {}


@given(st.text(max_size=80))
@example(f"{'0' * 31}:0")  # a name's limit falls behind what is no letter
def test_any_offered_name_becomes_a_good_one(offered: str) -> None:
    name = clean_name(offered, "fallback")
    assert valid_name(name)
    assert clean_name(name, "other") == name


def test_a_sysname_becomes_its_first_label_in_lower_case() -> None:
    assert clean_name("Kitchen Pi.local.lan", "x") == "kitchen-pi"
    assert clean_name("...", "x") == "x"

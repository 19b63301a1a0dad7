"""Grants of a machine's network and programs: how they are written, described, and which can't be both."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cognu.errors import E, FileError
from cognu.files.granttext import split_listed
from cognu.files.nstext import quote
from cognu.kernel import CREATE
from cognu.mesh.identity import bounded_grants
from cognu.mesh.join_messages import Card, pack_card, parse_card
from cognu.node.grants import (
    APART,
    LONGEST,
    USAGE,
    contradiction,
    describe_grant,
    grant_of,
    parse_grant,
    parse_grants,
)
from misused import read_or_misused


@pytest.mark.parametrize(
    ("text", "source", "place"),
    [
        ("net", "#i", "/net"),
        ("net:listen", "#ilisten", "/net"),
        ("net:listen=8000-8100", "#ilisten=8000-8100", "/net"),
        ("cmd:backup", "#C/backup", "/cmd/backup"),
    ],
)
def test_each_leads_to_what_it_says(text: str, source: str, place: str) -> None:
    grant = parse_grant(text)
    assert (grant.text, grant.source, grant.place) == (text, source, place)
    assert bool(grant.rights & CREATE) == text.startswith("net")


@pytest.mark.parametrize(
    "text",
    [
        "cmd:", "cmd", "cmd:a/b", "cmd:..", "cmd:A", "cmd:a b", "cmd:*", f"cmd:{'x' * 33}", "cmd:a,b", "net:",
        "net:dial", "net:listen=", "net:listen=0", "net:listen=80-80", "net:listening", "net:listen=1-65536",
        "net+hide=x:listen",
    ],
)  # fmt: skip
def test_what_is_none_is_refused_with_what_there_is(text: str) -> None:
    with pytest.raises(FileError) as caught:
        parse_grant(text)
    assert (caught.value.error, caught.value.detail) == (E.USAGE, USAGE)


@pytest.mark.parametrize("text", ["net,read:/a,b", "write:/a, b/c", "read+hide=x:/a,bnet"])
def test_a_path_with_a_comma_in_a_list_is_refused_with_what_to_do(text: str) -> None:
    with pytest.raises(FileError) as caught:
        parse_grants(split_listed(text))
    assert caught.value.error is E.USAGE
    assert caught.value.subject in text.replace(", ", ",")
    assert caught.value.detail.endswith(APART)


def test_several_grants_are_separated_by_commas() -> None:
    assert parse_grants(split_listed(" read:/a, write+hide=x:/b,net:listen,cmd:b,run,net,run,")) == (
        "read:/a", "write+hide=x:/b", "net:listen", "cmd:b", "run", "net"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "grants"),
    [
        ("read:'/my files, mine',net", ("read:'/my files, mine'", "net")),
        ("read:'/it''s here', write:'/a,b'", ("read:'/it''s here'", "write:/a,b")),
        ("read+hide=*.key:'/a, b',run", ("read+hide=*.key:'/a, b'", "run")),
        ("read:/it's,net", ("read:/it's", "net")),
        ("read:'/line\none',net", ("read:'/line\none'", "net")),
    ],
)
def test_quotes_keep_a_path_together_in_a_list(text: str, grants: tuple[str, ...]) -> None:
    assert parse_grants(split_listed(text)) == grants


@pytest.mark.parametrize("path", ["/a,b", "/it's", "/a'b'", "/x:y+z%20", "/#a"])
def test_what_was_kept_before_there_were_quotes_reads_as_before(path: str) -> None:
    grant = parse_grant(f"read:{path}")
    assert (grant.text, grant.source, grant.place) == (f"read:{path}", path, path)


@pytest.mark.parametrize(
    ("text", "error"),
    [("read:'/a", E.SYNTAX), ("read:'/a' /b", E.USAGE), ("read:'a b'", E.USAGE), ("read:'/../a b'", E.USAGE),
     ("read:''", E.USAGE), ("read:'/\0 '", E.ILSEQ), ("read:/\ud800", E.ILSEQ), (f"read:/{'x' * 200}", E.USAGE)],
)  # fmt: skip
def test_a_path_that_is_none_is_refused(text: str, error: E) -> None:
    with pytest.raises(FileError) as caught:
        parse_grant(text)
    assert caught.value.error is error


NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="/\0") | st.sampled_from(" '\n,:#%+"), min_size=1
).filter(lambda name: name not in (".", ".."))


@given(st.lists(NAMES, max_size=4).map(lambda names: "/" + "/".join(names)), st.sampled_from(["read", "write"]))
def test_any_path_can_be_granted_listed_and_kept(path: str, kind: str) -> None:
    text = grant_of(kind, path)
    assume(len(text.encode()) <= LONGEST)
    grant = parse_grant(text)
    assert (grant.text, grant.source) == (text, path)
    assert parse_grant(f"{kind}:{quote(path)}") == grant
    assert parse_grants(split_listed(f"net,{kind}:{quote(path)}, run")) == ("net", text, "run")
    assert bounded_grants([text])
    card = Card(b"", "pi", (), (text,), (text,))
    assert parse_card(pack_card(card)) == card
    assert describe_grant(text).isprintable()


@given(st.text("read:/' ,\n", max_size=30))
def test_any_text_is_split_into_grants_or_what_is_refused(text: str) -> None:
    parts = split_listed(text)
    assert sum(map(len, parts)) <= len(text)
    assert all(part in text for part in parts)
    for part in parts:
        grant = read_or_misused(parse_grant, part)
        assert grant is None or parse_grant(grant.text) == grant


@given(st.from_regex(r"(cmd|net):.{0,20}", fullmatch=True))
def test_any_text_is_one_tree_or_refused(text: str) -> None:
    refusals = []
    try:
        grant = parse_grant(text)
        assert grant.text == text
        assert grant.source.startswith(("#C/", "#ilisten"))
        assert grant.source.count("/") == text.startswith("cmd")
    except FileError as error:
        refusals.append(error.error)
    assert refusals in ([], [E.USAGE])


def test_a_person_reads_what_may_be_done() -> None:
    assert describe_grant("cmd:backup") == "run this machine's command backup (/cmd/backup)"
    assert describe_grant("cmd:backup", "pi") == "run pi's command backup (/cmd/backup)"
    assert describe_grant("net:listen") == (
        "use this machine's network (/net), and take calls there at ports from 1024 up"
    )
    assert describe_grant("net:listen=80") == "use this machine's network (/net), and take calls there at ports 80"


def test_a_network_is_granted_in_one_way_at_a_time() -> None:
    net, some, other = map(parse_grant, ("net", "net:listen=80", "net:listen"))
    for one, two in ((net, some), (some, net), (some, other)):
        assert contradiction(one, two) == f"{two.text} is in force, which has the same place"
    assert contradiction(net, net) == ""
    assert contradiction(parse_grant("cmd:a"), parse_grant("cmd:b")) == ""
    assert contradiction(net, parse_grant("write:/net")) == ""

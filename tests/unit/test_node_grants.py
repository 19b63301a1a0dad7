"""Grants of a machine's network and programs: how they are written, described, and which can't be both."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognu.errors import E, FileError
from cognu.kernel import CREATE
from cognu.node.grants import APART, USAGE, contradiction, describe_grant, parse_grant, parse_grants


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


@pytest.mark.parametrize("text", ["read:/my files", "net,read:/a,b", "write:/a, b/c", "read+hide=x:/a,bnet"])
def test_a_path_with_a_blank_or_a_comma_is_refused_with_what_to_do(text: str) -> None:
    with pytest.raises(FileError) as caught:
        parse_grants(text)
    assert caught.value.error is E.USAGE
    assert caught.value.subject in text.replace(", ", ",")
    assert caught.value.detail.endswith(APART)


def test_several_grants_are_separated_by_commas() -> None:
    assert parse_grants(" read:/a, write+hide=x:/b,net:listen,cmd:b,run,net,run") == (
        "read:/a", "write+hide=x:/b", "net:listen", "cmd:b", "run", "net"
    )  # fmt: skip


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

"""`grants`: whom the words mean, which requests they become, and what is printed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from cognu.cli.shells import _host_word
from cognu.errors import E
from cognu.shell.commands.grants import peers_grant, programs_grant
from cognu.store.names import name_of_digest
from shell_fake import Bench

ROW = {"program": "bafkr4ihash", "name": "wc", "allow": ["/a:r", "net"], "never": ["/b:rw"]}

TOKEN = {"number": 7, "peer": "pi", "by": "desk", "path": "/d", "rights": "rx", "uses": 1, "seconds": 60, "open": 0}


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.world.answers = {
        "grants": {"pi": ["read:/home/me", "net"], "hub": []},
        "widened": {"pi": [], "hub": []},
        "not_in_force": {"pi": {"net": "/net: file does not exist"}, "hub": {}},
        "programs": [ROW, {**ROW, "name": "", "allow": [], "never": ["net"]}],
        "tokens": [TOKEN, {**TOKEN, "number": 8, "by": "", "uses": 0, "open": 2}],
        "grant": {**ROW, "granted": ["net"], "keeping": []},
        "ungrant": {**ROW, "allow": [], "never": []},
        "revoke": {},
    }
    bench.system.make("/home/me/wc.wasm", b"\0asm")
    return bench


async def asked(bench: Bench, text: str) -> tuple[Any, ...]:
    result = await bench.run(text)
    assert result.status == 0
    assert all(line.endswith("kept all the same, for when it is there") for line in result.err.splitlines())
    return next(call for call in reversed(bench.world.calls) if call[1] != "grants")  # it was asked who is a peer


async def test_all_is_listed_peers_first(bench: Bench) -> None:
    listed = await bench.run("grants")
    assert listed.out == (
        "KIND     WHO          GRANT\n"
        "peer     pi           read:/home/me\n"
        "peer     pi           net  (not in force: /net: file does not exist)\n"
        "token    pi           token:7 /d (rx), asked for by desk, to be redeemed 1 times within 60 s\n"
        "token    pi           token:8 /d (rx), in use 2 times\n"
        "program  wc           /a:r\n"
        "program  wc           net\n"
        "program  wc           never /b:rw\n"
        "program  bafkr4ihash  never net\n"
    )
    assert (await bench.run("grants list")).out == listed.out
    whole = json.loads((await bench.run("grants list --json")).out)
    answers = bench.world.answers
    assert whole == {
        "peers": answers["grants"], "programs": answers["programs"], "tokens": answers["tokens"],
        "not_in_force": answers["not_in_force"],
    }  # fmt: skip


async def test_a_name_of_a_peer_a_file_and_a_hash_are_told_apart(bench: Bench) -> None:
    assert await asked(bench, "grants set pi read:notes write:/x net") == (
        "rpc", "grant", {"peer": "pi", "grants": ["read:/home/me/notes", "write:/x", "net"]},
    )  # fmt: skip
    digest = name_of_digest(blake3(b"\0asm").digest())
    assert await asked(bench, "grants set ./wc.wasm notes ../x:rw net") == (
        "rpc", "grant", {"program": digest, "name": "wc.wasm", "grants": ["/home/me/notes:r", "/home/x:rw", "net"],
                         "never": False},
    )  # fmt: skip
    assert await asked(bench, "grants set --never bafkr4iabc /x") == (
        "rpc", "grant", {"program": "bafkr4iabc", "name": "", "grants": ["/x:r"], "never": True},
    )  # fmt: skip
    assert await asked(bench, "grants revoke pi read:notes") == (
        "rpc", "revoke", {"peer": "pi", "grant": "read:/home/me/notes"},
    )  # fmt: skip
    assert await asked(bench, "grants revoke wc.wasm") == ("rpc", "ungrant", {"program": digest, "grant": ""})
    assert await asked(bench, "grants revoke wc notes:w") == (
        "rpc", "ungrant", {"program": "wc", "grant": "/home/me/notes:w"},
    )  # fmt: skip
    bench.system.make("/home/me/there", b"")
    bench.system.make("/home/me/alias", link="there")
    assert (await asked(bench, "grants set wc alias:rw"))[2]["grants"] == ["/home/me/there:rw"]
    assert (await asked(bench, "grants set --never wc alias"))[2]["grants"] == ["/home/me/alias:r"]
    assert (await asked(bench, "grants revoke wc alias"))[2]["grant"] == "/home/me/alias:rwx"
    bench.system.make("/home/me/pi", b"")
    assert await asked(bench, "grants set pi net") == ("rpc", "grant", {"peer": "pi", "grants": ["net"]})
    assert await asked(bench, "grants revoke pi net") == ("rpc", "revoke", {"peer": "pi", "grant": "net"})
    assert await asked(bench, "grants revoke ./pi") == (
        "rpc", "ungrant", {"program": name_of_digest(blake3(b"").digest()), "grant": ""},
    )  # fmt: skip


async def test_rights_that_are_none_are_a_wrong_usage_unless_a_file_is_named_so(bench: Bench) -> None:
    for text in ("set wc notes:z", "set --never wc /x:rq", "revoke wc /x:z"):
        result = await bench.run(f"grants {text}")
        assert result.status == 2
        assert f"{text.split()[-1]}: {E.USAGE.text}: rights are some of rwx" in result.err
    assert not [call for call in bench.world.calls if call[1] in ("grant", "ungrant")]
    assert (await asked(bench, "grants set wc odd:z:r"))[2]["grants"] == ["/home/me/odd:z:r"]
    assert (await asked(bench, "grants revoke wc odd:z:r"))[2]["grant"] == "/home/me/odd:z:r"
    bench.system.make("/home/me/odd:z", b"")
    assert (await asked(bench, "grants set wc odd:z"))[2]["grants"] == ["/home/me/odd:z:r"]


@pytest.mark.parametrize("never", ["", "--never "])
async def test_what_is_kept_of_a_path_that_is_not_there_is_warned_of(bench: Bench, never: str) -> None:
    bench.system.make("/home/me/there", b"")
    result = await bench.run(f"grants set {never}wc there:rw later:r net")
    assert result.status == 0
    assert result.err == f"grants: /home/me/later: {E.NOENT.text}: kept all the same, for when it is there\n"


async def test_what_was_done_is_said(bench: Bench) -> None:
    assert (await bench.run("grants set wc /a")).out == "wc may use /a:r, net\nwc is never asked about /b:rw\n"
    bench.world.answers["grant"]["keeping"] = [{"pid": 7, "grant": "/:r"}]
    assert (await bench.run("grants set --never wc /b")).out.endswith("process 7 has /:r, and keeps it until it ends\n")
    assert (await bench.run("grants set pi net")).out == "pi may: net\n"
    assert (await bench.run("grants revoke pi net")).out == "pi may no longer: net\n"
    bench.world.answers["grants"] = {"pi": ["write:/home", "read:/home/me/letters2", "net"]}
    assert (await bench.run("grants revoke pi net")).out == "pi may no longer: net\n"
    assert (await bench.run("grants revoke pi read:/home/me/letters")).out == (
        "revoked: read:/home/me/letters; pi still has it by write:/home\n"
    )
    assert (await bench.run("grants revoke pi read:/tmp")).out == "pi may no longer: read:/tmp\n"
    assert (await bench.run("grants revoke wc")).out == "wc has what is typed when it is run, and no more\n"
    assert json.loads((await bench.run("grants --json revoke wc")).out) == bench.world.answers["ungrant"]


@pytest.mark.parametrize(
    "text", ["fly", "set", "set pi", "revoke", "revoke pi", "revoke a b c", "set --never pi net", "list x", "--never",
             "--never revoke wc", "--fly"],
)  # fmt: skip
async def test_wrong_usage_is_2_and_asks_for_nothing(bench: Bench, text: str) -> None:
    result = await bench.run(f"grants {text}")
    assert result.status == 2
    assert E.USAGE.text in result.err
    assert not [call for call in bench.world.calls if call[1] in ("grant", "ungrant", "revoke")]


@given(st.text("/abr:wx. net", max_size=12))
def test_a_grant_of_a_program_is_always_an_absolute_path_with_rights(text: str) -> None:
    grant = programs_grant("/home/me", text)
    path, _, rights = grant.rpartition(":")
    assert grant == "net" or (path.startswith("/") and rights and not set(rights) - set("rwx"))


def test_words_of_the_host_are_translated() -> None:
    assert peers_grant("/a", "read:b") == "read:/a/b"
    assert [peers_grant("/a", text) for text in ("net", "run", "read:", "fly:x")] == ["net", "run", "read:", "fly:x"]
    assert peers_grant("/a", "read:my files") == "read:'/a/my files'"
    assert peers_grant("/a", "read+hide=x:'/it''s here'") == "read+hide=x:'/it''s here'"
    assert _host_word("read+hide=x:'/tmp'") == "read+hide=x:/mnt/host/tmp"
    assert _host_word("read:/tmp") == "read:/mnt/host/tmp"
    assert _host_word("/tmp:rw") == "/mnt/host/tmp:rw"
    assert _host_word("/tmp") == "/mnt/host/tmp"
    assert _host_word("read:/dev/random") == "read:/dev/random"
    assert [_host_word(text) for text in ("pi", "net", "notes:r")] == ["pi", "net", "notes:r"]

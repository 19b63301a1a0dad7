"""`export --token` and `import --token`: which requests they become, where the token is read, and where it never is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognu.errors import E, FileError
from cognu.shell.commands.mesh import TOKEN, token_of
from shell_fake import Bench

SECRET = "abcdefghijklmnopqrstuvwxyz234567"
WANTED = "a line that `export --token` printed is asked for"
MADE: dict[str, Any] = {
    "token": SECRET, "seconds": 600, "uses": 1, "peer": "pi", "at": "sea", "fingerprint": "f", "number": 3,
}  # fmt: skip


@pytest.fixture
def bench() -> Bench:
    made = Bench()
    made.world.answers = {"mint": MADE, "redeem": {}}
    return made


async def test_the_token_is_the_output_and_nothing_else_is(bench: Bench) -> None:
    said = await bench.run("export --token notes pi")
    assert (said.status, said.out) == (0, f"{SECRET}\n")
    assert said.err == "for pi, once within 600 s; there: import --token FILE sea PLACE\n"
    assert bench.world.calls[-1] == (
        "rpc", "mint",
        {"path": "/home/me/notes", "peer": "pi", "write": False, "uses": 1, "seconds": 600, "hide": [], "show": []},
    )  # fmt: skip
    text = "export --json --token --uses 2 --for 9 --hide a --hide b --show c /d pi :rw"
    assert json.loads((await bench.run(text)).out) == MADE
    assert bench.world.calls[-1][2] == {
        "path": "/d", "peer": "pi", "write": True, "uses": 2, "seconds": 9, "hide": ["a", "b"], "show": ["c"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("export --token /a", "a token is for one machine"),
        ("export --uses 2 /a pi", "go with --token"),
        ("export --uses 2 /a", "go with --token"),
        ("export --token --uses many /a pi", "a number is wanted"),
        ("export --token --for -1 /a pi", "a number is wanted"),
        ("export --token /a pi:rw", "with a blank before it"),
        ("import --token f sea", "[--token FILE] NODE PATH"),
        ("import --token f sea /a /b", "import --token FILE NODE PATH"),
    ],
)
async def test_what_does_not_go_together_is_a_wrong_usage(bench: Bench, text: str, words: str) -> None:
    said = await bench.run(text)
    assert said.status == 2
    assert words in said.err
    assert not bench.world.calls


async def test_a_token_is_read_from_a_file_or_the_input(bench: Bench) -> None:
    bench.system.make("/home/me/token", f"  cap:{SECRET} \nmore\n".encode())
    assert (await bench.run("import --token /home/me/token sea /n/x")).status == 0
    asked = {"peer": "sea", "token": SECRET, "at": "/n/x", "pid": bench.system.pid}
    assert bench.world.calls[-1] == ("rpc", "redeem", asked)
    bench.stdin = SECRET.encode()
    said = await bench.run("import --token - sea here")
    assert (said.status, said.out, said.err) == (0, "", "")
    assert bench.world.calls[-1] == ("rpc", "redeem", {**asked, "at": "/home/me/here"})
    bench.world.calls.clear()
    bench.stdin = b"no token at all\n"
    said = await bench.run("import --token - sea here")
    assert said.status == 2
    assert "no token at all" not in said.err
    assert not bench.world.calls


@given(st.binary(max_size=80))
def test_only_a_token_is_taken_for_one_and_no_refusal_repeats_it(line: bytes) -> None:
    text = line.decode("ascii", "replace").strip().removeprefix("cap:")
    if TOKEN.fullmatch(text):
        assert token_of(line) == text
        return
    with pytest.raises(FileError) as caught:
        token_of(line)
    assert caught.value.error is E.USAGE
    assert (caught.value.subject, caught.value.detail) == ("token", WANTED)


@given(st.from_regex(TOKEN, fullmatch=True), st.sampled_from(["", " ", "\r\n", "\t\n"]), st.sampled_from(["", "cap:"]))
def test_a_token_is_known_with_what_stands_around_it(token: str, after: str, before: str) -> None:
    assert token_of(f"{before}{token}{after}".encode()) == token

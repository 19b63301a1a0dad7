"""policy(5): the text, and what is held against it; and how capabilities are drawn."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from cognu.errors import E, FileError
from cognu.shell.commands.caps import tree
from cognu.shell.policy import KINDS, Claim, Line, claims_of, differences, parse_policy, policy_of
from shell_fake import Bench


def read(text: str) -> list[Line]:
    return parse_policy(text.encode(), "file")


def row(
    slot: int, parent: int, kind: str, name: str, rights: str, *uses: tuple[str, str], **more: Any
) -> dict[str, Any]:
    holder = {"kind": kind, "name": name, "pid": more.pop("pid", 0), "program": more.pop("program", "")}
    found = {"slot": slot, "parent": parent, "endpoint": 1, "server": "#U", "holder": holder, "node": "",
             "rights": rights, "live": bool(rights), "badge": 0,
             "uses": [{"place": place, "origin": origin} for place, origin in uses]}  # fmt: skip
    return {**found, **more}


ROWS = [
    row(1, 0, "node", "desk", "SGrwxc"),
    row(2, 1, "process", "node", "SGrwxc", ("#U", "#U"), ("/home", "#U/home"), pid=1),
    row(3, 2, "process", "session", "", pid=2),
    row(
        4,
        3,
        "program",
        "wc",
        "r",
        ("/home/me/a", "#U/home/me/a"),
        ("cwd", "#own/home"),
        pid=9,
        node="pi",
        badge=7,
        program="bafkr",
    ),
    row(5, 2, "peer", "pi", "Grx", ("under /home", "#U/home"), ("/home", "#U/home"), pid=8),
]
CLAIMS = [
    Claim("node", "desk", "#U", "SGrwxc"), Claim("peer", "pi", "#U/home", "Grx"),
    Claim("process", "node", "#U", "SGrwxc"), Claim("program", "wc@bafkr", "#U/home/me/a", "r"),
    Claim("program", "wc@bafkr", "#own/home", "r"),
]  # fmt: skip


def test_what_is_held_is_held_for_all_that_is_below_it_and_tombstones_hold_nothing() -> None:
    assert claims_of(ROWS) == CLAIMS


def test_the_policy_that_is_printed_is_the_one_that_holds() -> None:
    text = policy_of(CLAIMS)
    assert "has node '*' #U SGrwxc\n" in text
    assert differences(read(text), CLAIMS) == []
    assert differences(read(text), [*CLAIMS[1:], Claim("node", "other", "#U", "SGrwxc")]) == []


def told(text: str, claims: list[Claim] = CLAIMS) -> list[str]:
    return [f"{'more' if each.more else each.line}: {each.text}" for each in differences(read(text), claims)]


def test_what_is_held_and_not_allowed_is_a_difference_and_what_is_missed_too() -> None:
    base = policy_of(CLAIMS[:3])
    assert told(base + "may program * '#*' r\n") == []
    assert told(base) == [f"more: {CLAIMS[3]}", f"more: {CLAIMS[4]}"]
    assert told(base + "may program wc@* #own* r\nmay program *@bafkr #U/home/me/b r\n") == [f"more: {CLAIMS[3]}"]
    assert told(base + "may program * '#*' rw\nhas program cat #U/x r\n") == ["5: has program cat #U/x r"]
    assert told(base + "may program * '#*' rw\nhas program wc@* #U* rw\n") == ["5: has program 'wc@*' '#U*' rw"]
    assert told("may peer pi * r\n", [CLAIMS[1]]) == [f"more: {CLAIMS[1]}"]
    assert told("may peer pi * -\n", [Claim("peer", "pi", "#U", "")]) == []
    assert told("", []) == []


def test_a_star_ends_with_the_name_it_stands_in_unless_it_is_the_last() -> None:
    for pattern, origin, fits in (
        ("#M/*/stdin", "#M/fd/stdin", True), ("#M/*/stdin", "#M/fd/2/stdin", False), ("#M/*", "#M/fd/2/stdin", True),
        ("*", "#U/a", True), ("#*/a", "#U/a", True), ("#*/a", "#U/b/a", False), ("#U/a*b", "#U/ab", True),
        ("#U*/a*", "#U/a/b/c", True), ("#U*/a*", "#U/b/a", False), ("#U/.", "#U/x", False), ("", "#U", False),
    ):  # fmt: skip
        assert read(f"may node * '{pattern}' r\n")[0].is_about(Claim("node", "desk", origin, "r")) == fits, pattern
    [line] = read("may grant '* of desk' #U r\n")
    assert line.is_about(Claim("grant", "read:/home/me of desk", "#U", "r"))


DEFAULT = (Path(__file__).parents[2] / "docs" / "default.policy").read_text()


@pytest.mark.parametrize(
    ("origin", "rights", "differs"),
    [("#M/fd/2/stdin", "r", False), ("#M/fd/12/stderr", "w", False), ("#M/fd/2/cons", "rw", False),
     ("#|/data", "r", False), ("#own", "SGrwxc", False), ("#own:streams", "SGrwxc", False), ("#R", "rwxc", True),
     ("#R/home", "r", True), ("#own/home", "SGrwxc", False), ("#c/null", "r", False),
     ("#M/srv/mail/inbox", "r", True), ("#M/srv/mail", "r", True),
     ("#M/fd/2/home/me/stdin", "r", True), ("#M/fd/2/stdin", "rw", True), ("#M/mnt/term/notes", "rw", True),
     ("#M/fd/2", "r", True), ("#U/etc/motd", "r", True)],
)  # fmt: skip
def test_the_default_policy_allows_a_program_its_streams_and_no_other_file_of_a_service(
    origin: str, rights: str, differs: bool
) -> None:
    claim = Claim("program", "cat", origin, rights)
    more = [each for each in differences(read(DEFAULT), [claim]) if each.more]
    assert [each.text for each in more] == ([str(claim)] if differs else [])


@pytest.mark.parametrize(
    "text", ["fly", "has", "has node x y", "has node x y q", "has nobody x y r", "may node x y r more", "has node 'x",
             "has node x y ''", "has node x y r-"],
)  # fmt: skip
def test_a_line_that_is_none_is_refused_by_its_number(text: str) -> None:
    with pytest.raises(FileError) as caught:
        read(f"# a comment\n\n{text}\n")
    assert caught.value.error is E.USAGE
    assert caught.value.subject == "file:3" or "quote" in caught.value.detail


@given(st.binary(max_size=200) | st.text("hasmynode program*'#/ rwx-\n", max_size=120).map(str.encode))
def test_any_bytes_are_a_policy_or_refused_in_words(data: bytes) -> None:
    refusal = None
    lines: list[Line] = []
    try:
        lines = parse_policy(data, "file")
    except FileError as error:
        refusal = error.error
    assert refusal in (None, E.USAGE, E.ILSEQ)
    again = read("".join(f"{line}\n" for line in lines))
    assert [(line.must, line.kind, line.name, line.origin, line.rights) for line in again] == [
        (line.must, line.kind, line.name, line.origin, line.rights) for line in lines
    ]


NAMES = st.text("ab/#. ", max_size=6)


@given(st.lists(st.builds(Claim, st.sampled_from(KINDS), NAMES, NAMES, st.sampled_from(["", "r", "rw", "SGrwxc"]))))
def test_what_holds_agrees_with_its_own_policy_and_nothing_more_does(claims: list[Claim]) -> None:
    lines = read(policy_of(claims))
    assert differences(lines, claims) == []
    extra = Claim("program", "new", "#new", "w")
    assert [each.more for each in differences(lines, [*claims, extra])] == [True]


# -- the command ------------------------------------------------------------------------------------------------------


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    bench.world.answers["caps"] = {"node": "desk", "capabilities": ROWS, "not_in_force": {}}
    yield bench


DRAWN = """\
#U
  1 SGrwxc node desk
    2 SGrwxc process 1 node: #U, /home = #U/home
      3 gone process 2 session
        4 r program 9 wc@bafkr badge 7 (pi): /home/me/a = #U/home/me/a, cwd = #own/home
      5 Grx peer 8 pi: /home = #U/home
"""


async def test_capabilities_are_drawn_below_what_they_were_minted_from(bench: Bench) -> None:
    assert (await bench.run("caps")).out == (await bench.run("caps show")).out == DRAWN
    one = (await bench.run("caps show 9")).out
    assert [line.split()[0] for line in one.splitlines()] == ["#U", "1", "2", "3", "4"]
    assert json.loads((await bench.run("caps show --json")).out) == bench.world.answers["caps"]


async def test_a_grant_that_holds_nothing_is_told_with_why(bench: Bench) -> None:
    bench.world.answers["caps"]["not_in_force"] = {"pi": {"read:'/a\x1b'": "/a: file does not exist", "net": ""}}
    assert (await bench.run("caps")).out == (
        f"{DRAWN}grant read:'/a\\x1b' of pi: not in force: /a: file does not exist\ngrant net of pi: not in force yet\n"
    )
    assert (await bench.run("caps show 9")).out.count("grant") == 0


def test_a_deep_forest_is_drawn_too() -> None:
    deep = [row(slot, slot - 1, "process", "x", "r") for slot in range(1, 3000)]
    assert len(list(tree(deep))) == 3000


async def test_check_ends_with_1_if_anything_differs(bench: Bench) -> None:
    bench.system.make("/home/me/policy", policy_of(CLAIMS).encode())
    same = await bench.run("caps check policy")
    assert (same.status, same.out, same.err) == (0, "", "")
    assert (await bench.run("caps check")).out == policy_of(CLAIMS)
    bench.world.answers["caps"]["capabilities"] = ROWS[:4]
    less = await bench.run("caps check policy")
    assert (less.status, less.out) == (1, "less: line 2: has peer pi #U/home Grx\n")
    assert json.loads((await bench.run("caps check --json policy")).out) == [
        {"more": False, "line": 2, "text": "has peer pi #U/home Grx"}
    ]
    assert (await bench.run("caps check none")).status == 1
    assert (await bench.run("caps fly")).status == 2


async def test_why_ends_with_1_if_it_is_refused(bench: Bench) -> None:
    answer = {"pid": 9, "path": "/x", "rights": "r", "steps": ["one", "two"], "granted": True, "remedy": ""}
    bench.world.answers["why"] = answer
    assert (await bench.run("caps why 9 /x")).out == "one\ntwo\n"
    assert bench.world.calls[-1] == ("rpc", "why", {"pid": 9, "path": "/x", "rights": "r"})
    bench.world.answers["why"] = {**answer, "granted": False, "remedy": "grant it"}
    refused = await bench.run("caps why 9 /x rw")
    assert (refused.status, refused.out) == (1, "one\ntwo\nrefused; grant it\n")
    assert json.loads((await bench.run("caps --json why 9 /x")).out)["granted"] is False

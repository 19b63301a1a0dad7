"""The registry of services: what may be said, whose a service is, how long it stays, and its files."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognu.devices.registry import (
    FILES,
    MAX_ATTRIBUTES,
    MAX_LINE,
    MAX_SERVICES,
    SECOND,
    Registry,
    Service,
    parse_pairs,
    parse_service,
    parse_services,
)
from cognu.devices.registry_files import registry_server
from cognu.errors import E, FileError
from cognu.files.nstext import split_words
from cognu.files.server import Notice
from cognu.ninep.types import ORDWR, OREAD, OWRITE
from cognu.ninep.watches import CONTENT, MADE, REMOVED
from joined import idle
from serving import Client, done
from unit.test_devices_net import refused


class Clock:
    """Goes when it is told."""

    def __init__(self) -> None:
        self.at = 0

    def now(self) -> int:
        return 1_700_000_000 * SECOND + self.at

    def monotonic(self) -> int:
        return self.at

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("a registry does not wait")


class Bench:
    """A registry, and a client of its files."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.registry = Registry(self.clock)
        self.client = Client(registry_server(self.registry))

    async def hold(self, text: str) -> Any:
        """A service that is there while the fid is open."""
        fid = await self.client.open("new", ORDWR)
        await self.client.write_fid(fid, text.encode())
        return fid

    async def index(self) -> list[str]:
        return (await self.client.read("index")).decode().splitlines()

    async def find(self, text: str) -> list[str]:
        fid = await self.client.open("find", ORDWR)
        try:
            await self.client.write_fid(fid, text.encode())
            return [line.split()[0] for line in (await self.client.read_fid(fid, 1 << 20)).decode().splitlines()]
        finally:
            self.client.server.clunk(fid)


# -- text -------------------------------------------------------------------------------------------------------------

WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Zl", "Zp", "Zs")) | st.just(" "), min_size=1)
ATTRIBUTES = st.from_regex(r"[a-z][a-z0-9_.-]{0,9}", fullmatch=True).filter(
    lambda name: name not in ("name", "node", "state", "address")
)


@given(
    st.from_regex(r"[a-z][A-Za-z0-9_.+:@-]{0,20}", fullmatch=True).filter(lambda name: name not in FILES),
    st.dictionaries(ATTRIBUTES, WORDS.filter(lambda text: text.isprintable() and len(text) < 20), max_size=5),
)
def test_a_service_is_read_back_from_its_line(name: str, attributes: dict[str, str]) -> None:
    service = Service(name, tuple(attributes.items()))
    assert parse_service(service.line) == service
    assert parse_services(service.line * 1) == (service,)


def test_more_lines_than_there_may_be_services_are_refused_before_they_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read: list[str] = []
    monkeypatch.setattr("cognu.devices.registry.parse_service", read.append)
    with pytest.raises(FileError) as caught:
        parse_services("a\n" * (MAX_SERVICES + 1))
    assert (caught.value.error, read) == (E.BADMESSAGE, [])


@given(
    st.text(max_size=60)
    | st.lists(st.sampled_from(["notes", " ", "'", "''", "\n", "#", "address", "/a/../b", "*", "node", "kind"])).map(
        "".join
    )
)
def test_any_text_is_services_or_is_refused(text: str) -> None:
    found: object = ()
    try:
        found = parse_services(text)
    except FileError as error:
        found = error.error
    if isinstance(found, tuple):
        assert all(parse_service(service.line) == service for service in found)
        assert all("\n" not in service.line[:-1] for service in found)
    else:
        assert found is E.BADMESSAGE


@given(st.text(max_size=40))
def test_any_question_is_pairs_or_is_refused(text: str) -> None:
    found: object = ()
    try:
        found = parse_pairs(split_words(text))
    except FileError as error:
        found = error.error
    assert isinstance(found, list) or found in (E.USAGE, E.SYNTAX)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a/b kind x",
        "pi!notes kind x",
        ".. kind x",
        "index kind x",
        "x" * 65,
        "notes kind",
        "notes Kind x",
        "notes kind ''",
        "notes kind 'a\tb'",
        "notes kind a kind b",
        "notes node desk",
        "notes state away",
        "notes name other",
        "notes address /a/../b",
        "notes address '#U/etc'",
        "notes address etc",
        "notes address unix!/run/x",
        "notes address tcp!pi",
        "notes persist maybe",
        "notes refresh soon",
        "notes refresh 86401",
        "notes " + " ".join(f"a{n} x" for n in range(MAX_ATTRIBUTES + 1)),
    ],
)
async def test_what_is_no_service_is_refused_and_leaves_nothing(text: str) -> None:
    bench = Bench()
    await refused(E.USAGE, bench.client.write("new", text.encode(), OWRITE))
    assert await bench.index() == []
    assert bench.registry.version == 0


async def test_what_is_too_long_or_no_text_is_refused() -> None:
    bench = Bench()
    for file in ("new", "find", "ctl"):
        await refused(E.TOOBIG, bench.client.write(file, b"n" * (MAX_LINE + 1), OWRITE))
        await refused(E.ILSEQ, bench.client.write(file, b"\xff", OWRITE))
        await refused(E.SYNTAX, bench.client.write(file, b"it's", OWRITE))
    await refused(E.USAGE, bench.client.write("ctl", b"end notes", OWRITE))
    await refused(E.NOENT, bench.client.write("ctl", b"remove notes", OWRITE))


# -- this machine's services ------------------------------------------------------------------------------------------


async def test_a_service_is_there_while_it_is_open_with_a_file_for_each_attribute() -> None:
    bench = Bench()
    fid = await bench.hold("notes address /tmp/notes kind 'my notes'")
    assert await bench.client.read_fid(fid) == b"notes"
    assert await bench.index() == ["notes address /tmp/notes kind 'my notes'"]
    assert await bench.client.names("notes") == ["address", "kind"]
    assert await bench.client.read("notes/kind") == b"my notes\n"
    await bench.client.write_fid(fid, b"notes kind other")
    assert await bench.index() == ["notes kind other"]
    assert await bench.client.names("notes") == ["kind"]
    await refused(E.ALREADY, bench.client.write_fid(fid, b"songs kind other"))
    bench.client.server.clunk(fid)
    assert await bench.index() == []
    assert await bench.client.names("") == sorted(FILES)


async def test_a_name_is_its_holders_alone() -> None:
    bench = Bench()
    first = await bench.hold("notes kind a")
    await refused(E.EXIST, bench.client.write("new", b"notes kind b", OWRITE))
    await refused(E.EXIST, bench.client.write("new", b"notes kind b persist yes", OWRITE))
    assert await bench.index() == ["notes kind a"]
    bench.client.server.clunk(first)
    await bench.hold("notes kind b")
    assert await bench.index() == ["notes kind b"]


async def test_what_persists_stays_until_it_is_removed() -> None:
    bench = Bench()
    await bench.client.write("new", b"notes kind a persist yes", OWRITE)
    assert await bench.index() == ["notes kind a"]
    await refused(E.EXIST, bench.client.write("new", b"notes kind b", OWRITE))
    await bench.client.write("new", b"notes kind b persist yes", OWRITE)
    assert await bench.index() == ["notes kind b"]
    await bench.client.write("ctl", b"remove notes", OWRITE)
    assert await bench.index() == []


@pytest.mark.parametrize(("word", "stays"), [("yes", True), ("1", True), ("no", False), ("0", False)])
async def test_persisting_is_said_as_here_or_as_in_inferno(word: str, stays: bool) -> None:
    bench = Bench()
    bench.client.server.clunk(await bench.hold(f"notes persist {word}"))
    assert await bench.index() == (["notes"] if stays else [])
    await refused(E.USAGE, bench.hold("other persist perhaps"))


async def test_what_is_to_be_refreshed_goes_when_it_is_not() -> None:
    bench = Bench()
    fid = await bench.hold("notes kind a refresh 10")
    assert bench.registry.expire() == 10
    bench.clock.at = 9 * SECOND
    await bench.client.write_fid(fid, b"notes kind a refresh 10")
    bench.clock.at = 18 * SECOND
    assert bench.registry.expire() == 1
    assert await bench.index() == ["notes kind a"]
    bench.clock.at = 19 * SECOND
    assert bench.registry.expire() is None
    assert await bench.index() == []


async def test_services_are_limited() -> None:
    bench = Bench()
    for number in range(MAX_SERVICES):
        bench.registry.register(f"s{number}", bench)
    await refused(E.AGAIN, bench.client.write("new", b"one", OWRITE))
    bench.registry.register("s1 kind again", bench)
    assert len(await bench.index()) == MAX_SERVICES


# -- finding, and changes ---------------------------------------------------------------------------------------------


async def test_what_the_node_offers_has_names_that_nobody_else_gives_and_goes_with_its_holder() -> None:
    bench = Bench()
    for name in ("9p:1", "srv:notes"):
        await refused(E.USAGE, bench.hold(name))
    bench.registry.offer(Service("9p:1", (("kind", "9p"),)), "there", told=True)
    bench.registry.offer(Service("srv:notes", (("kind", "srv"),)), "here", told=False)
    await bench.hold("a kind x")
    assert await bench.index() == ["9p:1 kind 9p", "a kind x", "srv:notes kind srv"]
    assert await bench.client.read("own") == b"9p:1 kind 9p\na kind x\n"
    assert parse_services((await bench.client.read("own")).decode())[0].name == "9p:1", "others may read so"
    for told in (True, False):
        with pytest.raises(FileError) as caught:
            bench.registry.offer(Service("srv:notes"), "other", told=told)
        assert caught.value.error is E.EXIST
    bench.registry.release("here")
    await bench.client.write("ctl", b"remove 9p:1")
    bench.registry.release("there")
    assert await bench.index() == ["a kind x"]


@pytest.mark.parametrize(
    ("service", "error"),
    [
        (Service("notes"), E.USAGE),
        (Service("srv:a/b"), E.USAGE),
        (Service("srv:" + "x" * 61), E.USAGE),
        (Service("9p:1", (("tree", "/a\nb"),)), E.USAGE),
        (Service("9p:1", (("tree", "/" + "x" * MAX_LINE),)), E.TOOBIG),
    ],
)
def test_what_is_no_line_of_a_service_is_not_offered(service: Service, error: E) -> None:
    registry = Registry(Clock())
    with pytest.raises(FileError) as caught:
        registry.offer(service, None, told=False)
    assert (caught.value.error, list(registry.all())) == (error, [])


async def test_services_are_found_by_all_attributes_that_are_asked_for() -> None:
    bench = Bench()
    held = [await bench.hold(text) for text in ("b kind notes size 3", "a kind notes", "c kind songs")]
    bench.registry.says("f1", "pi", parse_services("a kind notes\nz kind songs\n"))
    assert [line.split()[0] for line in await bench.index()] == ["a", "b", "c", "a!pi", "z!pi"]
    assert await bench.find("kind notes") == ["a", "b", "a!pi"]
    assert await bench.find("kind notes size *") == ["b"]
    assert await bench.find("node *") == ["a!pi", "z!pi"]
    assert await bench.find("node pi kind songs") == ["z!pi"]
    assert await bench.find("name a") == ["a"]
    assert await bench.find("kind notes kind songs") == []
    assert len(await bench.find("")) == len(held) + 2


async def test_what_was_found_is_the_fids_own_and_a_refusal_leaves_none() -> None:
    bench = Bench()
    await bench.hold("a kind notes")
    first, second = await bench.client.open("find", ORDWR), await bench.client.open("find", ORDWR)
    await bench.client.write_fid(first, b"kind *")
    assert await bench.client.read_fid(second) == b""
    assert await bench.client.read_fid(first, 4, offset=2) == b"kind"
    await refused(E.USAGE, bench.client.write_fid(first, b"kind"))
    assert await bench.client.read_fid(first) == b""


async def test_a_read_of_event_waits_for_the_next_change_and_misses_none() -> None:
    bench = Bench()
    fid = await bench.client.open("event", OREAD)
    held = await bench.hold("a kind notes")
    assert await bench.client.read_fid(fid) == b"1\n"
    waiting = [asyncio.ensure_future(bench.client.read_fid(fid)) for _ in range(2)]
    await idle()
    waiting[0].cancel()
    await idle()
    await bench.client.write_fid(held, b"a kind notes")  # nothing is different
    await idle()
    assert not waiting[1].done()
    bench.client.server.clunk(held)
    assert await waiting[1] == b"2\n"
    another = asyncio.ensure_future(bench.client.read_fid(fid))
    await idle()
    bench.client.server.clunk(fid)
    await refused(E.BADF, another)


async def test_who_watches_is_told_of_the_index_of_own_services_and_of_names() -> None:
    bench = Bench()
    told: dict[str, list[Notice]] = {"": [], "index": [], "own": []}
    for path, notices in told.items():
        await done(bench.client.server.watch(await bench.client.walk(path), CONTENT, notices.append))
    held = await bench.hold("a kind notes")
    bench.registry.says("f1", "pi", parse_services("b\n"))
    bench.client.server.clunk(held)
    assert [(notice.kind, notice.name) for notice in told[""]] == [(MADE, "a"), (MADE, "b!pi"), (REMOVED, "a")]
    assert told["index"] == [Notice(CONTENT)] * 3
    assert told["own"] == [Notice(CONTENT)] * 2
    assert await bench.client.read("own") == b""


# -- other machines' --------------------------------------------------------------------------------------------------


async def test_addresses_of_another_machine_lead_there() -> None:
    bench = Bench()
    bench.registry.says(
        "f1",
        "pi",
        parse_services("a address /tmp/a\nb address tcp!*!http\nc address net!nas!http\nd address udp!127.0.0.1!53\n"),
    )
    assert await bench.index() == [
        "a!pi address /n/pi/tmp/a node pi",
        "b!pi address 'tcp!pi!http' node pi",
        "c!pi address 'tcp!nas!http' node pi",
        "d!pi address 'udp!pi!53' node pi",
    ]
    assert await bench.client.read("own") == b""  # nothing is said on of what others said


async def test_a_machine_that_is_away_is_marked_and_back_and_renamed_and_forgotten() -> None:
    bench = Bench()
    registry = bench.registry
    registry.says("f1", "pi", parse_services("a kind notes\n"))
    registry.away("f1")
    assert await bench.index() == ["a!pi kind notes node pi state away"]
    assert await bench.find("state away") == ["a!pi"]
    bench.clock.at = SECOND
    registry.away("f1")
    assert registry.away_since("f1") == 1_700_000_000 * SECOND, "since the first time"
    registry.back("f1")
    assert registry.away_since("f1") is None
    registry.called("f1", "attic")
    assert await bench.index() == ["a!attic kind notes node attic"]
    version = registry.version
    registry.says("f1", "attic", parse_services("a kind notes\n"))
    assert registry.version == version, "the same again is no change"
    registry.forget("f1")
    for work in (registry.away, registry.back, registry.forget, lambda key: registry.called(key, "x")):
        work("f1")
    assert await bench.index() == []
    assert registry.machines() == []


def test_a_machine_says_nothing_of_others_and_no_more_than_it_may() -> None:
    for text in (
        "a node desk\n",
        "a!desk kind notes\n",
        "a state away\n",
        "a\na\n",
        "a address /../etc\n",
        "a address '#U/etc'\n",
        "a address unix!/run/x\n",
        "\n".join(f"s{number}" for number in range(MAX_SERVICES + 1)),
        f"a kind {'x' * MAX_LINE}\n",
        "a kind 'open\n",
    ):
        with pytest.raises(FileError) as caught:
            parse_services(text)
        assert caught.value.error is E.BADMESSAGE

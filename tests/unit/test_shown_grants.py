"""Grants with patterns: their text, which can stand together, and what a peer then finds, whatever it tries."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognu.devices.host import HostServer
from cognu.devices.ram import RamServer
from cognu.errors import E, FileError
from cognu.files.chan import Chan
from cognu.files.handing import attenuate
from cognu.files.listing import read_directory
from cognu.files.mounts import MREPL
from cognu.files.namespace import Namespace
from cognu.files.process import Process
from cognu.files.server import Fid, FileServer, Notice
from cognu.files.shown import NOTHING, parse_filter
from cognu.files.shownserver import ShownFid, ShownServer
from cognu.files.steps import finish
from cognu.mesh.identity import GRANT_LENGTH
from cognu.ninep.types import DMDIR, ORDWR, OREAD, SetStat
from cognu.node.grants import LONGEST, contradiction, describe_grant, grant_of, parse_grant, widenings
from cognu.node.peers import PeerExports
from cognu.world.real import RealClock, real_world
from joined import CountingServer, bring
from misused import read_or_misused
from serving import Client, KeepingTree, done
from serving import Node as Base

PI = "f" * 52


# -- texts ------------------------------------------------------------------------------------------------------------


def test_a_grant_with_patterns_has_one_text() -> None:
    text = grant_of("read", "/home/me", ["*.key", "a b", "docs//x/", "*.key"], ["/pub,lic"])
    assert text == "read+hide=*.key+hide=/docs/x+hide=a%20b+show=/pub%2Clic:/home/me"
    grant = parse_grant(text)
    assert (grant.text, grant.place) == (text, "/home/me")
    assert grant.shown == parse_filter(["*.key", "/docs/x", "a b"], ["/pub,lic"])
    assert parse_grant("write+hide=b+hide=%61:/x//y/").text == "write+hide=a+hide=b:/x/y"
    assert parse_grant("read:/a+b:c").shown == NOTHING  # what an old book may have
    assert describe_grant("read+hide=*.key:/x") == "read /x (without *.key)"


@pytest.mark.parametrize(
    "text",
    ["read+:/x", "read+hide=:/x", "read+hid=x:/x", "net+hide=x", "read+hide=[a:/x", "read+hide=%FF:/x",
     "read+hide=x:x", f"read+hide={'x' * LONGEST}:/x"],
)  # fmt: skip
def test_what_is_no_grant_with_patterns_is_refused(text: str) -> None:
    with pytest.raises(FileError) as refused:
        parse_grant(text)
    assert refused.value.error is E.USAGE


def test_a_peer_book_has_room_for_the_longest() -> None:
    assert LONGEST == GRANT_LENGTH


@given(st.text("read+hidesow=%2C:/*[]!~ é\ud800", max_size=60).map(lambda rest: f"read+hide={rest}"))
def test_any_text_is_a_grant_in_one_form_or_wrong_usage(text: str) -> None:
    grant = read_or_misused(parse_grant, text)
    if grant is not None:
        assert parse_grant(grant.text) == grant


@given(st.lists(st.text(min_size=1, max_size=10), max_size=3), st.lists(st.text(min_size=1, max_size=10), max_size=3))
def test_patterns_are_the_same_after_they_were_kept(hide: list[str], show: list[str]) -> None:
    text = read_or_misused(lambda _: grant_of("read", "/x", hide, show), "")
    if text is None:
        return
    assert text.isprintable()
    assert not set(" ,") & set(text)
    grant = read_or_misused(parse_grant, text)
    if grant is not None:
        assert set(grant.shown.show) == set(parse_filter([], show).show)
        assert {each._replace(loose=True) for each in parse_filter([], hide).show} == set(grant.shown.hide)


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        ("read+hide=x:/a", "read:/a", False),
        ("read+hide=x:/a", "read+hide=y:/a", False),
        ("read+hide=x:/a", "read:/", False),
        ("read+hide=x:/a/b", "read+hide=x:/a", False),
        ("read+hide=x:/a", "write:/a/x", False),
        ("read+hide=x:/a", "write:/a/X/y", False),
        ("read+hide=x:/a", "read:/a/b", True),
        ("read+show=/b/c:/a", "read:/a/b/c/d", True),
        ("read+show=/b/c:/a", "read:/a/d", False),
        ("read+hide=x:/a", "read:/ab", True),
        ("read+hide=x:/a", "net", True),
        ("read:/a", "write:/a/b", True),
    ],
)
def test_a_grant_that_would_make_anothers_patterns_vain_contradicts_it(one: str, other: str, together: bool) -> None:
    for first, second in ((one, other), (other, one)):
        assert (contradiction(parse_grant(first), parse_grant(second)) == "") is together


def test_a_tree_below_one_with_patterns_is_said_to_show_more() -> None:
    assert widenings(["read+hide=x:/a", "net", "read:/a/b", "read:/c"]) == [("read:/a/b", "read+hide=x:/a")]


# -- names that a host may take for hidden ones -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["secret", "SECRET", "Secret", "secret.", "secret. .", "secret:stream", "se\u200ccret", "\uff53ecret", "ſecret",
     "SECRET~1", "secret~1.txt", "sec\u034fret", "\u3164secret", "secret\u115f", "secret\ufe0f", "sec\u17b4ret",
     "s\u180becret", "secret\uffa0", "secret\u2065", "secret\U000e0fff", "\U0001d173Secret", "secre\u00adt"],
)  # fmt: skip
def test_what_a_host_may_take_for_a_hidden_name_is_hidden(name: str) -> None:
    shown = parse_filter(["secret"], [])
    assert not shown.allows([name], False)
    assert not shown.allows([name, "below"], False)
    assert shown.allows(["secrets"], False)


def test_both_forms_of_a_letter_are_one() -> None:
    assert not parse_filter(["é*"], []).allows(["e\u0301clair"], False)
    assert not parse_filter(["e\u0301*"], []).allows(["ÉCLAIR"], False)
    assert not parse_filter(["[!A-Z]*"], []).allows(["FOO"], False)  # on such a host it is foo


def test_a_name_like_a_fats_short_one_is_shown_where_nothing_is_hidden() -> None:
    assert parse_filter([], []).allows(["LONGNA~1.TXT"], False)
    assert parse_filter(["x"], []).allows(["notes~"], False)
    assert parse_filter(["x"], []).allows(["a.~1~"], False)


# -- what a peer finds ------------------------------------------------------------------------------------------------


class Here:
    """What of a node lends, on a server of its own; one peer, with a connection."""

    def __init__(self, server: FileServer) -> None:
        self._base = Base(server)

    async def start(self, *texts: str, mounts: dict[str, FileServer] | None = None) -> Here:
        self.base = await self._base.start(mounts or {})
        self.exports = PeerExports(self.base, self._base.processes)
        for text in texts:
            await self.grant(text)
        self.session = await self.exports.connect(PI, "pi")
        return self

    async def grant(self, text: str) -> None:
        await self.exports.grant([(PI, text)], lambda: None)

    @property
    def space(self) -> Namespace:
        return self.session.namespace

    async def find(self, path: str, process: Process | None = None) -> Chan:
        return await finish(self.space.find(path, self.space.root, process or self.session))

    async def names(self, path: str) -> list[str]:
        chan = await self.find(path)
        opened = await finish(self.space.open(chan, OREAD, self.session))
        found, cookie = list[str](), 0
        while entries := await finish(read_directory(self.space, opened, cookie, 3, self.session)):
            found += [entry.name for entry in entries]
            cookie = entries[-1].cookie
        opened.close()
        return sorted(found)

    async def refusal(self, path: str) -> E:
        return await bring(self.find(path))

    def end(self) -> None:
        self.exports.disconnect(PI, self.session)
        self.exports.close()


@pytest.fixture
def host(tmp_path: Path) -> Path:
    for name in ("d/secret/deep", "docs/in", "e"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("notes", "id.key", "d/id.key", "d/secret/plan", "docs/in/notes"):
        (tmp_path / name).write_text(name)
    (tmp_path / "link").symlink_to("d/secret/plan")
    (tmp_path / "far").symlink_to("/id.key")
    return tmp_path


async def at(host: Path, *texts: str) -> tuple[Here, KeepingTree]:
    tree = KeepingTree(str(host))
    return await Here(HostServer(real_world(), tree)).start(*texts), tree


HIDDEN = "write+hide=*.key+hide=/d/secret:/"
"""Of the whole tree."""


async def test_what_is_hidden_is_neither_listed_nor_walked_to_by_whatever_way(host: Path) -> None:
    here, tree = await at(host, HIDDEN)
    assert await here.names("/") == ["d", "docs", "e", "far", "link", "notes"]
    assert await here.names("/d") == []
    for path in ("/id.key", "/ID.KEY", "/d/secret", "/d/secret/plan", "/d/Secret/plan", "/docs/../d/secret/plan",
                 "/d/../id.key", "/link", "/far", "/e/../d/secret/deep/../plan"):  # fmt: skip
        assert await here.refusal(path) is E.NOENT, path
    assert (await here.find("/docs/in/../../notes")).path.names() == ["notes"]
    here.end()
    tree.close()


async def test_nothing_is_made_moved_or_linked_to_a_hidden_name_nor_out_of_one(host: Path) -> None:
    here, tree = await at(host, HIDDEN)
    space, me = here.space, here.session
    root, notes = await here.find("/"), await here.find("/notes")
    for name in ("new.key", "NEW.KEY", "new.key."):
        for perm in (0o600, DMDIR | 0o700):
            assert await bring(finish(space.create(root, name, perm, ORDWR, me))) is E.ACCES
        assert await bring(finish(space.rename(root, "notes", root, name, me))) is E.ACCES
        assert await bring(finish(space.link(notes, root, name))) is E.ACCES
        assert await bring(finish(space.wstat(notes, SetStat(name=name)))) is E.ACCES
        where = space.creator(root)
        with pytest.raises(FileError) as refused:
            await done(where.server.symlink(where.fid, name, "x"))
        assert refused.value.error is E.ACCES
        with pytest.raises(FileError) as refused:
            await done(where.server.mknod(where.fid, name, 0o600, 0, 0))
        assert refused.value.error is E.ACCES
    assert await bring(finish(space.rename(root, "id.key", root, "id", me))) is E.NOENT
    assert sorted(os.listdir(host)) == ["d", "docs", "e", "far", "id.key", "link", "notes"]
    here.end()
    tree.close()


async def test_a_directory_stays_where_the_same_is_shown_of_what_is_below_it(host: Path) -> None:
    here, tree = await at(host, HIDDEN)
    space, me = here.space, here.session
    root = await here.find("/")
    for old, new in (("d", "other"), ("docs", "d")):
        assert await bring(finish(space.rename(root, old, root, new, me))) is E.ACCES, old
    assert await bring(finish(space.wstat(await here.find("/d"), SetStat(name="other")))) is E.ACCES
    docs = await here.find("/docs")
    await finish(space.wstat(docs, SetStat(name="papers")))
    assert (await here.find("/papers/in/notes")).path.names()[-1] == "notes"
    await finish(space.rename(root, "papers", root, "docs", me))
    assert await here.names("/docs") == ["in"]
    assert (host / "d/secret/plan").read_text() == "d/secret/plan"
    here.end()
    tree.close()


async def test_a_plain_file_goes_by_another_name_where_a_pattern_is_for_what_is_below_directories(host: Path) -> None:
    here, tree = await at(host, "write+hide=/*/secret:/")
    space, me = here.space, here.session
    root, docs = await here.find("/"), await here.find("/docs")
    await finish(space.wstat(await here.find("/notes"), SetStat(name="papers")))
    await finish(space.rename(root, "papers", root, "paper", me))
    await finish(space.rename(root, "paper", docs, "paper", me))
    assert await bring(finish(space.rename(docs, "paper", docs, "secret", me))) is E.ACCES
    for name in ("d", "e"):
        assert await bring(finish(space.wstat(await here.find(f"/{name}"), SetStat(name="other")))) is E.ACCES
        assert await bring(finish(space.rename(root, name, docs, "other", me))) is E.ACCES
    assert await bring(finish(space.rename(root, "none", docs, "other", me))) is E.NOENT
    assert sorted(os.listdir(host / "docs")) == ["in", "paper"]
    here.end()
    tree.close()


async def test_it_holds_wherever_what_is_granted_is_bound_and_with_less_rights(host: Path) -> None:
    """As a shell on this machine may do, that a peer's `cpu` started."""
    here, tree = await at(host, HIDDEN)
    space, me = here.space, here.session
    await finish(space.bind("/d", "/e", MREPL, space.root, me))
    assert await here.names("/e") == []
    assert await here.refusal("/e/secret/plan") is E.NOENT
    assert await here.refusal("/e/id.key") is E.NOENT
    less = attenuate(space, await here.find("/d"), 1)
    assert await bring(finish(space.walk(less, ["secret"], me))) is E.NOENT
    assert await bring(finish(space.walk(less, ["..", "id.key"], me))) is E.NOENT
    here.end()
    tree.close()


async def test_a_host_that_ignores_case_gives_nothing_by_another_case(tmp_path: Path) -> None:
    """As far as can be told here, of names: what such a host would open is not asked of it."""
    asked: list[str] = []

    class Ignoring(CountingServer):
        def walk(self, fid: Fid, names: object, caller: object) -> object:  # type: ignore[override]
            asked.extend(names)  # type: ignore[arg-type]
            return super().walk(fid, [name.lower() for name in names], caller)  # type: ignore[attr-defined,arg-type]

    server = Ignoring("#1")
    server.plant("/secret", "x")
    server.plant("/open", "x")
    here = await Here(server).start("read+hide=secret:/")
    for name in ("/SECRET", "/Secret", "/secret."):
        assert await here.refusal(name) is E.NOENT
    assert "SECRET" not in asked
    assert (await here.find("/OPEN")).qid.type == 0
    here.end()


async def test_what_is_mounted_below_goes_by_the_names_that_lead_there() -> None:
    own, other = CountingServer("#1"), CountingServer("#2")
    for name in ("/a", "/a/b", "/c"):
        own.plant(name, None)
    for name in ("/id.key", "/x", "/deep", "/deep2"):
        other.plant(name, None if "deep" in name else "x")
    other.plant("/deep/y", "x")
    here = await Here(own).start("read+hide=*.key+hide=/b/deep+hide=/none:/a", mounts={"/a/b": other})
    assert await here.names("/a/b") == ["deep2", "x"]
    assert await here.refusal("/a/b/id.key") is E.NOENT
    assert await here.refusal("/a/b/deep/y") is E.NOENT
    assert (await here.find("/a/b/deep2/../../b")).path.names() == ["a", "b"]
    here.end()
    here = await Here(own).start("read+hide=b:/a", mounts={"/a/b": other})
    assert await here.refusal("/a/b") is E.NOENT
    here.end()


async def test_a_second_grant_says_what_it_would_undo(host: Path) -> None:
    here, tree = await at(host, "read+hide=secret:/d")
    for text in ("read:/", "read:/d", "write:/d/secret", "read+hide=x:/d"):
        assert await bring(here.grant(text)) is E.CONFLICT, text
    await here.grant("read+hide=secret:/d")
    assert here.exports.granted(PI) == ["read+hide=secret:/d"]
    assert await bring(here.exports.grant([(PI, "read:/docs"), (PI, "read+hide=x:/docs")], lambda: None)) is E.CONFLICT
    assert here.exports.granted(PI) == ["read+hide=secret:/d"]
    # The same is known without putting anything in force, of a peer and of who is none yet.
    assert await bring(here.exports.check(("read:/d",), PI)) is E.CONFLICT
    assert await bring(here.exports.check(("read:/docs", "read+hide=x:/docs"))) is E.CONFLICT
    await here.exports.check(("read:/d", "read:/docs"))
    assert here.exports.granted(PI) == ["read+hide=secret:/d"]
    here.exports.revoke(PI, "read+hide=secret:/d")
    assert await here.refusal("/d") is E.NOENT
    await here.grant("read:/d")
    assert await here.names("/d/secret") == ["deep", "plan"]
    here.end()
    tree.close()


@pytest.mark.parametrize("order", [["read+hide=notes:/docs", "write:/docs/in"], ["write:/docs/in", "read:/docs"]])
async def test_of_two_trees_the_inner_one_counts_in_its_place_in_whatever_order(host: Path, order: list[str]) -> None:
    for texts in (order, order[::-1]):
        here, tree = await at(host)
        for text in texts:
            await here.grant(text)
        before = here.session
        assert await here.names("/docs/in") == ["notes"]
        for session in (before, await here.exports.connect(PI, "pi")):
            here.session = session
            opened = await finish(here.space.open(await here.find("/docs/in/notes"), ORDWR, session))
            opened.close()
        here.exports.disconnect(PI, before)
        here.end()
        tree.close()


async def test_patterns_are_of_directories(host: Path) -> None:
    here, tree = await at(host)
    assert await bring(here.grant("read+hide=x:/notes")) is E.NOTDIR
    here.end()
    tree.close()


async def test_watching_tells_no_hidden_name(host: Path) -> None:
    server = RamServer(RealClock())
    shown = ShownServer(server, parse_filter(["*.key"], []))
    told: list[Notice] = []
    root = ShownFid(await done(server.attach(Client(server).caller, "")), (), 0, Client(server).caller)
    end = await done(shown.watch(root, ~0, told.append))
    for name in ("a", "a.key"):
        made = await done(shown._below.create(root.below, name, 0o600, ORDWR, Client(server).caller))
        server.clunk(made)
    end()
    assert "a" in {notice.name for notice in told}
    assert "a.key" not in {notice.name for notice in told}
    shown.clunk(root)


async def test_no_handle_is_left_when_a_grant_is_taken_back(host: Path) -> None:
    server = CountingServer("#1")
    server.plant("/d", None)
    server.plant("/d/x", "x")
    here = await Here(server).start()
    before = len(server.live)
    await here.grant("read+hide=y:/d")
    (await here.find("/d/x")).close()
    here.exports.revoke(PI, "read+hide=y:/d")
    assert len(server.live) == before
    here.end()

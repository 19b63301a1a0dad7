"""Names where Plan 9's rules differ from Inferno's recordings, and what neither has: symlinks, moved directories."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest

from cognu.errors import E, FileError
from cognu.files.chan import Chan, Domain
from cognu.files.mounts import MCREATE, MREPL, ChanMover
from cognu.files.namespace import MAX_LINKS, Namespace
from cognu.files.server import Walk
from cognu.kernel import CREATE, READ, WRITE
from cognu.ninep.types import OREAD, OWRITE, SetStat
from memfs import MemServer
from script import Runner, attach_root, now

SETUP: dict[str, Any] = json.loads(
    (pathlib.Path(__file__).parents[1] / "data" / "namespace" / "vectors.json").read_text()
)["setup"]
A, B, C, M = ["ds", "-x", "-y"], ["ds", "dt", "-y", "-z"], ["-s", "dt", "-x", "-z"], ["ds", "-x", "-z"]
"""What `ls` shows of /w/a, /w/b, /w/c and /m as they are at the start."""


@pytest.fixture
def runner() -> Runner:
    return Runner(SETUP)


def run(runner: Runner, *lines: str) -> list[Any]:
    """The result of each line: its value, or the error's class."""
    results = [runner.run(line.split(" ")) for line in lines]
    return [result.get("ok", result.get("err")) for result in results]


def refused(runner: Runner, line: str) -> E:
    name, *arguments = line.split(" ")
    with pytest.raises(FileError) as caught:
        runner.operations[name](*arguments)
    return caught.value.error


# -- at the tags of the recordings ------------------------------------------------------------------------------------


def test_a_mount_crossed_on_the_way_is_not_crossed_again_at_its_source(runner: Runner) -> None:
    assert run(runner, "bind /w/b /w/a MREPL", "bind /w/c /w/b MREPL", "read /w/a/y", "ls /w/a/s") == [
        "", "", "b/y", ["-y"],
    ]  # fmt: skip
    assert run(runner, "read /w/a/x", "ls /w/a", "ls /w/b") == ["notexist", B, C]


def test_a_mount_crossed_on_the_way_is_not_crossed_thrice(runner: Runner) -> None:
    run(runner, "bind /w/b /w/a MREPL", "bind /w/c /w/b MREPL", "bind /m /w/c MREPL")
    assert run(runner, "ls /w/a", "ls /w/a/s", "read /w/b/s", "read /w/b/z", "read /w/c/x") == [
        B, ["-y"], "c/s", "c/z", "m/x",
    ]  # fmt: skip


def test_the_other_members_of_a_union_are_kept_when_its_first_member_is_a_mount_point(runner: Runner) -> None:
    run(runner, "bind /w/b /w/a MAFTER", "bind /w/d /w/a MBEFORE", "bind /w/c /w/d MREPL")
    assert run(runner, "read /w/a/y", "read /w/a/z", "read /w/a/x") == ["a/y", "b/z", "a/x"]


def test_dotdot_goes_back_by_path_through_an_alias_of_the_mount_point(runner: Runner) -> None:
    run(runner, "bind /w/a /w/c MREPL", "bind /w/b /w/c/s MREPL")
    assert run(runner, "ls /w/c/s/t/../..", "ls /w/a/s/t/..", "ls /w/a/s/t/../..") == [A, B, A]
    run(runner, "chdir /w/a/s/t", "chdir ..")
    assert run(runner, "pwd", "ls .", "chdir ..", "pwd", "ls .") == ["/w/a/s", B, "", "/w/a", A]


def test_dotdot_goes_back_by_path_after_a_parent_of_the_mount_point_was_renamed(runner: Runner) -> None:
    run(runner, "bind /w/b /w/a/s MREPL", "rename /w/a g")
    assert run(runner, "ls /w/g/s", "ls /w/g/s/t/..", "ls /w/g/s/t/../..") == [B, B, A]


def test_dotdot_below_a_mount_that_was_undone_leads_to_what_was_under_it(runner: Runner) -> None:
    run(runner, "bind /w/b /w/a MREPL", "chdir /w/a/t", "unmount - /w/a")
    assert run(runner, "pwd", "ls .", "ls ..") == ["/w/a/t", ["-z"], A]


@pytest.mark.parametrize("order", ["MREPL", "MBEFORE", "MAFTER"])
def test_a_mount_point_is_neither_removed_nor_renamed(runner: Runner, order: str) -> None:
    run(runner, "remove /w/b/s/y", f"bind /w/b/s /w/d {order}")
    assert refused(runner, "remove /w/d") is E.MOUNTPOINT
    assert refused(runner, "rename /w/d q") is E.MOUNTPOINT
    assert run(runner, "ls /w/b", "ls /w/d", "unmount - /w/d", "remove /w/d") == [B, [], "", ""]


def test_a_file_with_another_bound_over_it_is_neither_removed_nor_renamed(runner: Runner) -> None:
    run(runner, "bind /w/b/y /w/a/x MREPL")
    assert refused(runner, "remove /w/a/x") is E.MOUNTPOINT
    assert refused(runner, "rename /w/a/x q") is E.MOUNTPOINT
    assert run(runner, "read /w/a/x", "read /w/b/y", "unmount - /w/a/x", "read /w/a/x") == ["b/y", "b/y", "", "a/x"]


def test_stat_names_a_mount_point_as_its_path_does(runner: Runner) -> None:
    run(runner, "bind /w/b/y /w/a/x MREPL", "bind /w/b /w/a/s MREPL")
    assert run(runner, "stat /w/a/x", "stat /w/a/s", "stat /m", "stat /") == [
        ["x", "-", 3], ["s", "d", 0], ["m", "d", 0], ["memfs", "d", 0],
    ]  # fmt: skip


def test_stat_gives_the_new_name_through_the_chan_that_renamed(runner: Runner) -> None:
    chan = runner.find("/w/a/x")
    now(runner.namespace.wstat(chan, SetStat(name="new")))
    assert now(runner.namespace.stat(chan)).name == "new"
    assert (str(chan.path), str(chan.origin)) == ("/w/a/new", "#1/w/a/new")
    now(runner.namespace.wstat(chan, SetStat(name="x")))
    assert run(runner, "read /w/a/x") == ["a/x"]


# -- stale: files that were removed while bound or while somebody's directory -----------------------------------------


def test_a_removed_directory_that_is_the_cwd_is_gone_until_one_leaves_by_a_full_path(runner: Runner) -> None:
    run(runner, "chdir /w/d", "remove /w/d")
    assert run(runner, "ls .", "create q new", "ls ..", "chdir ..") == ["notexist"] * 4
    assert run(runner, "chdir /w", "pwd") == ["", "/w"]


def test_a_removed_first_member_breaks_the_listing_but_not_the_walk(runner: Runner) -> None:
    run(runner, "mkdir /w/d/n", "bind /w/d/n /w/a MBEFORE", "remove /w/d/n")
    assert run(runner, "ls /w/a", "read /w/a/x", "create /w/a/q new") == ["notexist", "a/x", "perm"]
    assert run(runner, "unmount - /w/a", "ls /w/a") == ["", A]


def test_a_removed_later_member_is_skipped_and_its_creations_fail(runner: Runner) -> None:
    run(runner, "mkdir /w/d/n", "bind /w/d/n /w/a MAFTER|MCREATE", "remove /w/d/n")
    assert run(runner, "ls /w/a", "read /w/a/x", "read /w/a/q") == [A, "a/x", "notexist"]
    assert run(runner, "create /w/a/q new") == ["notexist"]


def test_a_mount_does_not_come_back_with_a_new_file_of_the_old_name(runner: Runner) -> None:
    run(runner, "bind /w/b /w/a/s MREPL", "unmount - /w/a/s", "remove /w/a/s/x", "remove /w/a/s", "mkdir /w/a/s")
    assert run(runner, "ls /w/a/s") == [[]]


# -- a mount point is crossed once, from an open directory too --------------------------------------------------------


def names_in(runner: Runner, chan: Chan, name: str) -> str:
    found = now(runner.namespace.walk(chan, [name], runner.me))
    opened = now(runner.namespace.open(found, OREAD, runner.me))
    data = opened.server.read(opened.fid, 0, 100)
    assert isinstance(data, bytes)
    return data.decode()


def test_walking_from_an_open_directory_does_not_cross_a_mount_on_its_source(runner: Runner) -> None:
    run(runner, "bind /w/b /w/a MREPL", "bind /w/c /w/b MREPL")
    opened = runner.open("/w/a", OREAD)
    assert names_in(runner, opened, "y") == "b/y"


def test_walking_from_an_open_union_tries_its_later_members(runner: Runner) -> None:
    run(runner, "bind /w/b /w/a MBEFORE")
    opened = runner.open("/w/a", OREAD)
    assert names_in(runner, opened, "x") == "a/x"
    run(runner, "unmount - /w/a")
    assert names_in(runner, opened, "z") == "b/z"
    with pytest.raises(FileError) as caught:
        names_in(runner, opened, "x")
    assert caught.value.error is E.NOENT


def test_creating_through_an_open_union_asks_its_members_for_create(runner: Runner) -> None:
    run(runner, "bind /w/b /w/a MBEFORE")
    opened = runner.open("/w/a", OREAD)
    with pytest.raises(FileError) as caught:
        now(runner.namespace.create(opened, "q", 0o666, OWRITE, runner.me))
    assert caught.value.error is E.NOCREATE
    run(runner, "bind /w/d /w/a MAFTER|MCREATE")
    now(runner.namespace.create(opened, "q", 0o666, OWRITE, runner.me)).close()
    assert run(runner, "ls /w/d", "ls /w/b") == [["-q"], B]


def test_dotdot_from_an_open_directory_goes_back_over_its_mount_point(runner: Runner) -> None:
    run(runner, "bind /w/b/s /w/a MREPL")
    up = now(runner.namespace.walk(runner.open("/w/a", OREAD), [".."], runner.me))
    assert (str(up.path), up.key) == ("/w", runner.find("/w").key)


def test_an_open_mount_point_is_still_neither_removed_nor_renamed(runner: Runner) -> None:
    run(runner, "bind /w/b /w/a MREPL")
    opened = runner.open("/w/a", OREAD)
    with pytest.raises(FileError) as caught:
        now(runner.namespace.wstat(opened, SetStat(name="q")))
    assert caught.value.error is E.MOUNTPOINT
    with pytest.raises(FileError) as caught:
        now(runner.namespace.remove(opened, runner.me))
    assert caught.value.error is E.MOUNTPOINT


def test_an_open_file_is_opened_again_on_a_fid_of_its_own(runner: Runner) -> None:
    first = runner.open("/w/a/x", OREAD)
    second = now(runner.namespace.open(first.share(), OWRITE, runner.me))
    third = now(runner.namespace.open(second, OREAD, runner.me))
    assert third.fid is not first.fid
    assert first.server.read(first.fid, 0, 10) == third.server.read(third.fid, 0, 10) == b"a/x"


# -- symlinks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("link", "target", "path", "text"),
    [
        ("/w/l", "a/x", "/w/l", "a/x"),  # relative
        ("/w/a/l", "../b/y", "/w/a/l", "b/y"),
        ("/w/l", "/w/b/z", "/w/l", "b/z"),  # absolute
        ("/w/l", "a", "/w/l/x", "a/x"),  # in the middle
        ("/w/l", "a/../b", "/w/l/t/../y", "b/y"),
        ("/w/l", "./a//s/.", "/w/l/x", "a/s/x"),
        ("/w/a/s/l", "../../../w/c", "/w/a/s/l/z", "c/z"),
        ("/w/l", "/m/s", "/w/l/z", "m/s/z"),  # over a mount point
        ("/w/l", "../m/x", "/w/l", "m/x"),
        ("/w/l", "../../../../m/x", "/w/l", "m/x"),  # `..` stays at the root
    ],
)
def test_a_symlink_is_resolved_where_it_is(runner: Runner, link: str, target: str, path: str, text: str) -> None:
    runner.servers[0].plant_link(link, target)
    assert run(runner, f"read {path}") == [text]


@pytest.mark.parametrize(
    ("target", "path", "text"),
    [("..", "/m/l/w/f", "f"), ("../w/a/x", "/m/l", "a/x"), (".", "/m/l/x", "m/x"), ("/w/f", "/m/l", "f")],
)
def test_a_link_at_the_top_of_a_mounted_tree_leads_up_over_the_mount_point(
    runner: Runner, target: str, path: str, text: str
) -> None:
    runner.servers[1].plant_link("/l", target)
    assert run(runner, f"read {path}") == [text]


def test_a_directory_reached_by_a_link_has_the_path_without_it(runner: Runner) -> None:
    runner.servers[0].plant_link("/w/l", "a/s")
    assert run(runner, "chdir /w/l", "pwd", "chdir ..", "pwd") == ["", "/w/a/s", "", "/w/a"]


def test_a_link_to_the_directory_itself_ends_before_the_mount_point(runner: Runner) -> None:
    runner.servers[0].plant_link("/w/b/l", ".")
    run(runner, "bind /w/b /w/a MREPL", "chdir /w/a/l")
    assert run(runner, "pwd", "ls .") == ["/w/a", ["-l", *B]]
    assert run(runner, "unmount - /w/a", "ls .") == ["", A]


def test_a_link_to_a_union_leads_to_all_its_members(runner: Runner) -> None:
    run(runner, "bind /w/b /w/a MAFTER")
    runner.servers[0].plant_link("/w/l", "a")
    assert run(runner, "ls /w/l", "read /w/l/z", "read /w/l/x") == [[*A, *B], "b/z", "a/x"]


def test_a_relative_link_in_a_union_is_looked_up_in_the_whole_union(runner: Runner) -> None:
    run(runner, "bind /w/b /w/a MAFTER")
    runner.servers[0].plant_link("/w/b/l", "x")
    assert run(runner, "read /w/a/l", "read /w/b/l") == ["a/x", "notexist"]


def test_a_file_bound_over_a_symlinks_target_is_what_the_link_shows(runner: Runner) -> None:
    runner.servers[0].plant_link("/w/l", "a/x")
    assert run(runner, "bind /w/b/y /w/l MREPL", "read /w/l", "read /w/a/x") == ["", "b/y", "b/y"]


def test_a_symlink_at_the_end_is_left_alone_when_asked(runner: Runner) -> None:
    runner.servers[0].plant_link("/w/l", "a")
    namespace, me = runner.namespace, runner.me
    link = now(namespace.find("/w/l", runner.cwd, me, follow=False))
    assert (link.server.readlink(link.fid), str(link.path)) == ("a", "/w/l")
    through = now(namespace.find("/w/l/", runner.cwd, me, follow=False))  # a slash says: the directory
    assert str(through.path) == "/w/a"
    now(namespace.remove(link, me))
    assert run(runner, "ls /w", "ls /w/a") == [["da", "db", "dc", "dd", "-f"], A]


@pytest.mark.parametrize("targets", [{"l": "l"}, {"l": "k", "k": "./l"}, {"l": "/w/l/x"}, {"l": "../w/l/."}])
def test_links_in_a_circle_are_a_loop(runner: Runner, targets: dict[str, str]) -> None:
    for name, target in targets.items():
        runner.servers[0].plant_link(f"/w/{name}", target)
    assert refused(runner, "read /w/l") is E.LOOP


def test_as_many_links_as_allowed_are_followed_and_no_more(runner: Runner) -> None:
    runner.servers[0].plant_link("/w/l0", "f")
    for index in range(1, MAX_LINKS + 1):
        runner.servers[0].plant_link(f"/w/l{index}", f"l{index - 1}")
    assert run(runner, f"read /w/l{MAX_LINKS - 1}") == ["f"]
    assert refused(runner, f"read /w/l{MAX_LINKS}") is E.LOOP


@pytest.mark.parametrize(
    ("target", "error"), [("nowhere", E.NOENT), ("#2/x", E.NODEV), ("f/x", E.NOTDIR), ("", E.NOENT)]
)
def test_a_link_that_leads_nowhere_is_refused(runner: Runner, target: str, error: E) -> None:
    runner.servers[0].plant_link("/w/l", target)
    assert refused(runner, "read /w/l") is error
    assert refused(runner, "create /w/l new") in (error, E.EXIST, E.NOENT)
    assert run(runner, "ls /w")[0][0] == "-l"


def test_a_link_never_climbs_out_of_a_root_deep_in_its_servers_tree(runner: Runner) -> None:
    server = MemServer("#9")
    for path, data in [("/secret", "s"), ("/in", None), ("/in/f", "f"), ("/in/d", None)]:
        server.plant(path, data)
    server.plant_link("/in/d/l", "../../secret")
    server.plant_link("/in/d/up", "../../..")
    server.plant_link("/in/abs", "/secret")
    domain = runner.namespace.domain
    top = attach_root(domain.authority, domain, server, "/")
    walked = server.walk(top.fid, ["in"], runner.me)
    assert isinstance(walked, Walk)
    fid = walked.fid
    assert fid is not None
    runner.namespace.root = runner.cwd = top.at(fid, top.path, top.origin.step("in"))
    runner.namespace.heads.clear()
    assert run(runner, "ls /", "ls /..", "ls /d/up", "ls /d/../../..") == [["-abs", "dd", "-f"]] * 4
    assert run(runner, "read /d/l", "read /abs", "read /d/up/f") == ["notexist", "notexist", "f"]


def test_dotdot_stays_in_a_bound_subtree_when_others_move_a_directory_out_of_it(runner: Runner) -> None:
    run(runner, "bind /w/a /w/d MREPL", "chdir /w/d/s")
    runner.servers[0].move("/w/a/s", "/w/c/t")
    assert run(runner, "read x", "ls ..", "ls ../..") == ["a/s/x", ["-x", "-y"], ["da", "db", "dc", "dd", "-f"]]
    assert run(runner, "chdir ..", "pwd") == ["", "/w/d"]


# -- devices, no_mount, slashes ---------------------------------------------------------------------------------------


def test_a_device_path_sees_no_mounts(runner: Runner) -> None:
    run(runner, "bind /w/b /w/a MREPL")
    assert run(runner, "read #1/w/a/x", "ls #1/m", "ls #1/..") == ["a/x", [], ["dm", "dw"]]
    assert run(runner, "ls #2", "ls #2/s/../..") == [M, M]
    run(runner, "chdir #1/w")
    assert run(runner, "pwd", "read a/x", "chdir ../..", "pwd") == ["#1/w", "a/x", "", "#1"]


def test_an_absolute_link_on_a_device_path_stays_in_the_device(runner: Runner) -> None:
    runner.servers[1].plant_link("/s/l", "/x")
    run(runner, "chdir #2/s")
    assert run(runner, "read #2/s/l", "read l", "read ../s/l") == ["m/x"] * 3


@pytest.mark.parametrize(("path", "error"), [("#", E.NODEV), ("#/x", E.NODEV), ("#9", E.NODEV), ("#1x/w", E.NOATTACH)])
def test_devices_that_are_not_there_are_refused(runner: Runner, path: str, error: E) -> None:
    assert refused(runner, f"ls {path}") is error


def test_without_mounting_nothing_is_bound_and_only_harmless_devices_are_attached(runner: Runner) -> None:
    namespace = runner.namespace
    namespace.devices["c"] = namespace.devices["2"]
    namespace.no_mount = True
    for line in ("bind /w/b /w/a MREPL", "unmount - /m"):
        assert refused(runner, line) is E.PERM
    assert refused(runner, "ls #2") is E.NODEV
    assert run(runner, "ls #c", "ls /m", "read /w/a/x") == [M, M, "a/x"]


def test_slashes_at_the_end_demand_a_directory(runner: Runner) -> None:
    runner.servers[0].plant_link("/w/l", "f")
    for path in ("/w/f/", "/w/f/.", "/w/l/", "/w/f//"):
        assert refused(runner, f"read {path}") is E.NOTDIR
    assert run(runner, "ls /w/a/", "ls /w/a/.", "ls /m//", "ls //w//a") == [A, A, M, A]
    assert run(runner, "mkdir /w/n/", "ls /w/n") == ["", []]
    assert refused(runner, "create /w/q/ text") is E.INVAL
    run(runner, "bind /w/b /w/a/s MREPL")
    assert run(runner, "ls /w/a/s/") == [B]


@pytest.mark.parametrize("path", ["/", ".", "..", "/w/..", "#1"])
def test_what_is_there_by_nature_is_not_created(runner: Runner, path: str) -> None:
    assert refused(runner, f"mkdir {path}") is E.EXIST


def test_odd_paths_are_refused_by_name(runner: Runner) -> None:
    with pytest.raises(FileError) as caught:
        runner.find("")
    assert caught.value.error is E.NOENT
    with pytest.raises(FileError) as caught:
        runner.find("/w/\0")
    assert caught.value.error is E.ILSEQ
    with pytest.raises(FileError) as caught:
        runner.find("/w/a/nothing/deeper")
    assert str(caught.value) == "/w/a/nothing: file does not exist"


def test_a_path_deeper_than_pythons_stack_can_be_walked_copied_and_left(runner: Runner) -> None:
    depth = 3000
    path = ""
    for _ in range(depth):
        path += "/d"
        runner.servers[1].plant(path, None)
    run(runner, "chdir /m" + path)
    run(runner, "push", "bind /w/a . MREPL")
    assert run(runner, "ls .", "pwd") == [A, "/m" + path]
    run(runner, "pop")
    assert run(runner, "ls .", "chdir " + "/".join([".."] * depth), "ls .") == [[], "", ["dd", *M]]


def test_a_rename_into_a_tree_that_may_be_read_does_not_make_a_write_only_file_readable() -> None:
    runner = Runner(SETUP)
    domain = Domain(runner.namespace.domain.authority, runner.namespace.domain)
    twin = Namespace(domain, ChanMover(domain).move(runner.namespace.root))
    for path, rights in (("/w/a", WRITE | CREATE), ("/w/b", READ | WRITE | CREATE)):
        source = runner.find(path)
        cap = source.domain.mint(source.cap, rights, domain)
        limited = Chan(source.handle, domain, cap, source.path, source.origin)
        twin.mount(limited, now(twin.find(path, twin.root, runner.me)), MREPL | MCREATE)
    drop, other = (now(twin.find(path, twin.root, runner.me)) for path in ("/w/a", "/w/b"))
    with pytest.raises(FileError) as refused:
        now(twin.rename(drop, "x", other, "stolen", runner.me))
    assert refused.value.error is E.ACCES
    with pytest.raises(FileError) as refused:
        now(twin.link(now(twin.walk(drop, ["x"], runner.me)), other, "stolen"))
    assert refused.value.error is E.ACCES
    now(twin.rename(other, "y", drop, "given", runner.me))  # giving rights up is allowed

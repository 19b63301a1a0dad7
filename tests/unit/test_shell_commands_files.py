"""Commands on files: what they do, and what they refuse."""

from __future__ import annotations

import asyncio
import json
import re

import pytest

from cognu.errors import E
from cognu.ninep.types import Qid, Stat
from cognu.shell.commands import COMMANDS, KINDS
from cognu.shell.commands.files import described, long_lines
from cognu.shell.commands.reading import base_name, join
from cognu.shell.interactive import run_once
from cognu.shell.state import Streams
from cognu.shell.system import absolute
from shell_fake import Bench, FakeClock


@pytest.fixture
def bench() -> Bench:
    return Bench()


# The table.


@pytest.mark.parametrize("name", sorted(COMMANDS))
async def test_every_command_has_help_with_an_example(bench: Bench, name: str) -> None:
    result = await bench.run(f"{name} --help")
    assert (result.status, result.err) == (0, "")
    command = COMMANDS[name]
    head = f"{name}: {command.summary}\nusage: {command.usage}\nexample: {command.example}\n\n"
    assert result.out.startswith(head)
    assert result.out.endswith(f"\n\nExit status: {command.status}.\n")
    description, _, examples = result.out.removeprefix(head).partition("\n\nExamples:\n\n")
    assert description[-1] == "."
    assert [line for line in examples.splitlines() if line.startswith(("    cognu% ", "    $ "))]
    assert command.usage.split()[0] == name
    assert name in command.example.split() or name in ("cp", "rm") or name in command.example


@pytest.mark.parametrize("name", sorted(name for name, command in COMMANDS.items() if command.options is not None))
async def test_every_command_refuses_an_unknown_option(bench: Bench, name: str) -> None:
    for option in ("-Z", "--nonesuch"):
        result = await bench.run(f"{name} {option}")
        assert result.status == 2
        assert f"{name}: {option}: usage: no such option" in result.err


@pytest.mark.parametrize(
    "text", ["cp a", "mv a", "mkdir", "touch", "stat", "pwd x", "cd a b", "bind a", "sleep", "get", "import pi", "rm"]
)
async def test_a_wrong_number_of_operands_is_a_usage_error(bench: Bench, text: str) -> None:
    result = await bench.run(text)
    assert result.status == 2
    assert E.USAGE.text in result.err


async def test_help_lists_every_command(bench: Bench) -> None:
    out = (await bench.run("help")).out
    assert all(re.search(rf"^  {re.escape(name)} ", out, re.MULTILINE) for name in COMMANDS)
    assert all(f"{kind}:\n" in out for kind in KINDS)
    for name in COMMANDS:
        assert (await bench.run(f"help '{name}'")).out == COMMANDS[name].help() + "\n"
        assert (await bench.run(f"'{name}' --help")).out == COMMANDS[name].help() + "\n"
    assert (await bench.run("help ls")).out.startswith("ls: ")
    assert (await bench.run("help nonesuch")).status == 127


# ls and stat.


async def test_ls_sorts_and_hides_dot_files(bench: Bench) -> None:
    for name in ("b", "a", ".c", "d/e"):
        bench.system.make(name, b"")
    assert (await bench.run("ls")).out == "a\nb\nd\n"
    assert (await bench.run("ls -a")).out == ".c\na\nb\nd\n"
    assert (await bench.run("ls -r d b")).out == "b\n\nd:\ne\n"
    assert (await bench.run("ls -d d")).out == "d\n"
    assert (await bench.run("ls d")).out == "e\n"
    assert (await bench.run("ls .c")).out == ".c\n"


async def test_ls_sorts_by_time_and_size(bench: Bench) -> None:
    bench.system.make("old", b"1234").mtime = 1
    bench.system.make("new", b"1").mtime = 3
    bench.system.make("mid", b"12").mtime = 2
    assert (await bench.run("ls -t")).out.split() == ["new", "mid", "old"]
    assert (await bench.run("ls -S")).out.split() == ["old", "mid", "new"]
    assert (await bench.run("ls -St")).out.split() == ["new", "mid", "old"]
    assert (await bench.run("ls -tr")).out.split() == ["old", "mid", "new"]


async def test_ls_goes_on_after_what_is_missing(bench: Bench) -> None:
    bench.system.make("d/e", b"")
    result = await bench.run("ls none d")
    assert (result.status, result.out) == (1, "d:\ne\n")
    assert "none" in result.err


async def test_ls_of_a_directory_that_cannot_be_read_fails(bench: Bench) -> None:
    bench.system.make("d").refuse = E.ACCES
    result = await bench.run("ls d")
    assert (result.status, result.out) == (1, "")
    assert f"d: {E.ACCES.text}" in result.err


async def test_ls_shows_a_name_of_a_union_once(bench: Bench) -> None:
    bench.system.make("/tmp/a", b"from tmp")
    bench.system.make("/tmp/b", b"")
    bench.system.make("a", b"")
    assert (await bench.run("bind -b /tmp . && ls -l")).out.count(" a\n") == 1
    (record, _) = json.loads((await bench.run("ls --json")).out)
    assert record["size"] == 8


async def test_ls_prints_columns_on_a_terminal_only(bench: Bench) -> None:
    for name in ("a", "b", "c", "long-name"):
        bench.system.make(name, b"")
    assert (await bench.run("ls", terminal=True)).out == "a          b          c          long-name\n"
    assert (await bench.run("COLUMNS=22 ls", terminal=True)).out == "a          c\nb          long-name\n"
    assert (await bench.run("COLUMNS=1 ls", terminal=True)).out == "a\nb\nc\nlong-name\n"
    assert (await bench.run("ls -1", terminal=True)).out == "a\nb\nc\nlong-name\n"
    assert (await bench.run("ls | cat", terminal=True)).out == "a\nb\nc\nlong-name\n"
    assert (await bench.run("ls /n", terminal=True)).out == ""


async def test_a_name_cannot_steer_the_terminal(bench: Bench) -> None:
    bench.system.make("a\x1b[2Jb\n", b"")
    assert (await bench.run("ls", terminal=True)).out == "a?[2Jb?\n"
    assert (await bench.run("ls")).out == "a\x1b[2Jb\n\n"
    owned = Stat(name="f", qid=Qid(0, 0, 1), mode=0o644, user="m\x1be", group="u\ns")
    assert "m?e u?s" in long_lines([owned], ["f"])[0]
    assert "user m?e, group u?s," in described("f", owned)[0]


async def test_ls_long_lines(bench: Bench) -> None:
    bench.system.make("file", b"12345")
    bench.system.make("dir")
    bench.system.make("link", link="dir").mtime = 10**30
    lines = (await bench.run("ls -l")).out.splitlines()
    assert re.fullmatch(r"drwxr-xr-x me us 0 \d{4}-\d\d-\d\d \d\d:\d\d dir", lines[0])
    assert re.fullmatch(r"-rw-r--r-- me us 5 \d{4}-\d\d-\d\d \d\d:\d\d file", lines[1])
    assert lines[2] == f"lrwxr-xr-x me us 0 {10**30} link"


async def test_ls_and_stat_as_json(bench: Bench) -> None:
    bench.system.make("d/f", b"123").mtime = 5
    (record,) = json.loads((await bench.run("ls --json d")).out)
    assert record == {
        "name": "f",
        "path": "d/f",
        "type": "file",
        "mode": "644",
        "size": 3,
        "mtime": 5,
        "user": "me",
        "group": "us",
    }
    result = await bench.run("stat --json d none")
    (record,) = json.loads(result.out)
    assert (record["type"], record["qid"]["type"], result.status) == ("directory", 0x80, 1)
    assert json.loads((await bench.run("ls --json /n")).out) == []
    assert (await bench.run("stat d/f")).out.startswith("d/f: file, 3 bytes, mode 644, user me, group us, changed ")


# cp.


async def test_cp_copies_files_and_into_directories(bench: Bench) -> None:
    bench.system.make("a", bytes(range(256)) * 1000)
    bench.system.make("b", b"old and longer")
    bench.system.make("d")
    assert (await bench.run("cp a c && cp c b && cp a b d && cp a d/z && cp d/.. d")).status == 1
    for path in ("b", "c", "d/a", "d/b", "d/z"):
        assert bench.system.data(path) == bytes(range(256)) * 1000


async def test_cp_reads_a_piece_at_a_time(bench: Bench) -> None:
    bench.system.make("big", b"x\n" * 500_000)
    for text in ("cp big c", "cat big > d", "wc big", "grep -c x big", "head -n 1 big", "tail -n 1 big"):
        assert (await bench.run(text)).status == 0
    assert bench.world.most_read <= 65536


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("cp none x", E.NOENT),
        ("cp d x", E.ISDIR),
        ("cp a b none", E.NOENT),
        ("cp a d b", E.NOTDIR),
        ("cp a none/", E.NOENT),
        ("cp a a", E.SAME),
        ("cp a ./d/../a", E.SAME),
        ("cp a d/link", E.SAME),
        ("cp -r d d/e", E.SAME),
        ("cp -r . d", E.SAME),
        ("cp -r d a", E.NOTDIR),
        ("cp a full", E.NOSPC),
        ("cp a late", E.NOSPC),
        ("mv none x", E.NOENT),
        ("mv a a", E.SAME),
        ("mv d d/e", E.SAME),
        ("mv a b c", E.NOENT),
    ],
)
async def test_cp_and_mv_refuse_and_lose_nothing(bench: Bench, text: str, error: E) -> None:
    bench.system.make("a", b"precious")
    bench.system.make("b", b"dear")
    bench.system.make("d/link", link="../a")
    bench.system.make("full", b"").refuse = E.NOSPC
    bench.system.make("late", b"").refuse_close = E.NOSPC
    result = await bench.run(text)
    assert result.status == 1
    assert error.text in result.err
    assert (bench.system.data("a"), bench.system.data("b"), bench.system.has("d/link")) == (b"precious", b"dear", True)


async def test_cp_knows_a_file_under_another_name_of_a_bind(bench: Bench) -> None:
    bench.system.make("d/a", b"precious")
    bench.system.make("e")
    result = await bench.run("bind d e; cp d/a e/a")
    assert result.status == 1
    assert bench.system.data("d/a") == b"precious"


async def test_cp_copies_trees(bench: Bench) -> None:
    for path in ("d/a", "d/e/b", "d/e/f/c", "d/.h"):
        bench.system.make(path, path.encode())
    bench.system.make("d/empty")
    bench.system.make("d/link", link="a")
    assert (await bench.run("cp -r d x && cp -r d x && cp -r /home/me/d/ /tmp")).status == 0
    for top in ("x", "x/d", "/tmp/d"):
        assert bench.system.data(f"{top}/e/f/c") == b"d/e/f/c"
        assert bench.system.data(f"{top}/.h") == b"d/.h"
        assert bench.system.data(f"{top}/link") == b"d/a"
        assert bench.system.has(f"{top}/empty")


async def test_cp_does_not_follow_links_to_directories(bench: Bench) -> None:
    bench.system.make("d/round", link="..")
    result = await bench.run("cp -r d x")
    assert result.status == 1
    assert f"d/round: {E.NOTSUP.text}" in result.err


async def test_a_tree_without_an_end_is_an_error(bench: Bench) -> None:
    directory = bench.system.make("d")
    assert directory.children is not None
    directory.children["e"] = directory
    for text in ("cp -r d x", "grep -r x d", "rm -r d"):
        assert E.LOOP.text in (await bench.run(text)).err, text


async def test_cat_cancelled_while_it_waits_closes_what_it_opened(bench: Bench) -> None:
    bench.system.make("big", b"x" * 100)
    plain, out, err = bench.streams()
    await plain.stdin.close()
    reading, writing = await bench.system.pipe()
    task = asyncio.create_task(run_once(bench.shell, "cat big - big 2> err", Streams(reading, out, err)))
    await out.until(b"x" * 100)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await writing.close()
    await bench.close(Streams(reading, out, err))


def mode_of(bench: Bench, path: str) -> int | None:
    return bench.system.node(path).mode


async def test_a_new_copy_has_the_permissions_of_its_source_from_the_start(bench: Bench) -> None:
    for name, mode in (("key", 0o600), ("program", 0o755), ("d/key", 0o400)):
        bench.system.make(name, b"x").mode = mode
    bench.system.make("d/link", link="../key")
    bench.system.make("locked").mode = 0o500
    bench.system.make("locked/x", b"x").mode = 0o640
    bench.system.make("there", b"old").mode = 0o604
    assert (await bench.run("cp key k; cp program p; cp -r d e; cp -r locked l; cp key there")).status == 0
    assert [mode_of(bench, name) for name in ("k", "p", "e/key", "e/link", "there")] == [
        0o600,
        0o755,
        0o400,
        0o600,
        0o604,
    ]
    assert [mode_of(bench, name) for name in ("l", "l/x")] == [0o500, 0o640]


async def test_a_new_copy_that_was_refused_is_removed_and_of_another_it_is_said_what_it_has(bench: Bench) -> None:
    bench.system.make("big", b"x" * 200_000)
    bench.system.make("there", b"old")
    bench.world.full_after = 100_000
    result = await bench.run("cp big new")
    assert result.err == f"cp: /home/me/new: {E.NOSPC.text}\n"
    assert not bench.system.has("new")
    result = await bench.run("cp big there")
    assert (result.status, result.err) == (1, f"cp: /home/me/there: {E.NOSPC.text}: there has 65536 of 200000 bytes\n")


@pytest.mark.parametrize("there", [False, True])
async def test_a_copy_that_is_interrupted_leaves_no_part_without_a_word(bench: Bench, there: bool) -> None:
    bench.system.make("big", b"x" * 200_000)
    if there:
        bench.system.make("copy", b"old")
    plain, out, err = bench.streams()
    began = bench.world.stuck_after = asyncio.Event()
    task = asyncio.create_task(run_once(bench.shell, "cp big copy", Streams(plain.stdin, out, err)))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert bench.system.has("copy") == there
    assert err.text == ("cp: copy: interrupted: copy has 65536 of 200000 bytes\n" if there else "")
    bench.world.stuck_after = None
    await bench.close(Streams(plain.stdin, out, err))


async def test_a_part_that_can_not_be_removed_is_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when its machine is away: it is waited for, but not for long."""
    bench.system.make("big", b"x" * 200_000)
    bench.world.full_after = 100_000
    clock = FakeClock()
    bench.system.clock = clock

    async def away(path: str) -> None:
        await clock.slept.wait()
        clock.wake.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(bench.system, "remove", away)
    result = await bench.run("cp big new")
    assert result.err == f"cp: /home/me/new: {E.NOSPC.text}: a part of it may be in new\n"


# mv.


async def test_mv_to_another_server_keeps_permissions(bench: Bench) -> None:
    bench.system.make("/n/pi/tmp")
    bench.world.foreign.add("/n/pi")
    for name, mode in (("key", 0o600), ("open", 0o666), ("d/all", 0o777)):
        bench.system.make(name, b"x").mode = mode
    bench.system.make("d").mode = 0o570
    bench.system.make("/n/pi/tmp/key", b"").mode = 0o644
    assert (await bench.run("mv key open d /n/pi/tmp")).status == 0
    modes = [mode_of(bench, f"/n/pi/tmp/{name}") for name in ("key", "open", "d", "d/all")]
    assert modes == [0o600, 0o666, 0o570, 0o777]


async def test_mv_to_another_server_removes_nothing_of_a_tree_that_was_not_copied_whole(bench: Bench) -> None:
    bench.system.make("/n/pi/tmp")
    bench.world.foreign.add("/n/pi")
    bench.system.make("d/a", b"1")
    bench.system.make("d/b", b"2").refuse = E.ACCES
    bench.system.make("d/c", b"3")
    result = await bench.run("mv d /n/pi/tmp")
    assert (result.status, result.err) == (1, f"mv: d/b: {E.ACCES.text}\n")
    assert all(bench.system.has(path) for path in ("d/a", "d/b", "d/c", "/n/pi/tmp/d/a", "/n/pi/tmp/d/c"))


async def test_mv_renames_and_moves(bench: Bench) -> None:
    bench.system.make("a", b"1")
    bench.system.make("b", b"2")
    bench.system.make("d")
    assert (await bench.run("mv a c; mv c b d; mv d e; mv e/b e/b2")).status == 0
    assert (bench.system.data("e/c"), bench.system.data("e/b2")) == (b"1", b"2")
    assert not any(bench.system.has(path) for path in ("a", "b", "c", "d"))


async def test_mv_to_another_server_copies_then_removes(bench: Bench) -> None:
    bench.system.make("/n/pi/tmp")
    bench.world.foreign.add("/n/pi")
    bench.system.make("a", b"1")
    bench.system.make("d/e/f", b"2")
    bench.system.make("d/g", b"3")
    assert (await bench.run("mv a d /n/pi/tmp")).status == 0
    assert bench.system.data("/n/pi/tmp/a") == b"1"
    assert bench.system.data("/n/pi/tmp/d/e/f") == b"2"
    assert not bench.system.has("a")
    assert not bench.system.has("d")


async def test_mv_to_another_server_keeps_what_it_could_not_copy(bench: Bench) -> None:
    bench.system.make("/n/pi/full", b"").refuse_close = E.NOSPC
    bench.world.foreign.add("/n/pi")
    bench.system.make("a", b"precious")
    assert (await bench.run("mv a /n/pi/full")).status == 1
    assert bench.system.data("a") == b"precious"


# rm, mkdir, touch.


async def test_rm_removes(bench: Bench) -> None:
    for path in ("a", "d/b", "d/e/c", "keep/k"):
        bench.system.make(path, b"")
    bench.system.make("d/link", link="../keep")
    bench.system.make("top", link="keep")
    assert (await bench.run("rm -r a d top; rm -f none; rm -f")).status == 0
    assert [bench.system.has(path) for path in ("a", "d", "top", "keep/k")] == [False, False, False, True]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("rm none", E.NOENT),
        ("rm d", E.ISDIR),
        ("rm -f d", E.ISDIR),
        ("rm -rf /", E.NOTMINE),
        ("rm -rf .", E.NOTMINE),
        ("rm -rf ..", E.NOTMINE),
        ("rm -rf d/..", E.NOTMINE),
        ("rm -rf /home", E.NOTMINE),
        ("rm -rf //", E.NOTMINE),
        ("cd d; rm -r ../d", E.NOTMINE),
    ],
)
async def test_rm_refuses(bench: Bench, text: str, error: E) -> None:
    bench.system.make("d/e", b"")
    result = await bench.run(text)
    assert result.status == 1
    assert error.text in result.err
    assert bench.system.has("/home/me/d/e")


@pytest.mark.parametrize(
    "text",
    [
        "rm -r /n",
        "rm -rf /n/pi",
        "rm -r /n/pi/",
        "rm -r /n/./pi",
        "rm -r /mnt/host",
        "rm -r /mnt",
        "rm -r 'm p'",
    ],
)
async def test_rm_refuses_all_of_a_machine_and_of_what_is_mounted(bench: Bench, text: str) -> None:
    bench.system.make("/proc/7/ns", b"mount -c /srv/x '/home/me/m p'\nbind -c '#U' /mnt/host\nbind '#N' /n\ncd /\n")
    for path in ("/n/pi/home/me/notes", "/mnt/host/x", "m p/x"):
        bench.system.make(path, b"")
    bench.system.make("/n/pi/home/me/old/x", b"")
    result = await bench.run(text)
    assert result.status == 1
    assert E.MOUNTPOINT.text in result.err
    assert all(bench.system.has(path) for path in ("/n/pi/home/me/notes", "/mnt/host/x", "m p/x"))
    assert (await bench.run("rm -r /n/pi/home/me/old")).status == 0


async def test_rm_goes_on_after_what_is_missing(bench: Bench) -> None:
    bench.system.make("a", b"")
    bench.system.make("b", b"")
    assert (await bench.run("rm a none b")).status == 1
    assert not bench.system.has("b")


async def test_rm_takes_away_both_members_of_a_union(bench: Bench) -> None:
    bench.system.make("/tmp/x", b"")
    bench.system.make("d/x", b"")
    bench.system.make("d/y", b"")
    assert (await bench.run("bind -a /tmp d; rm -r d")).status == 0
    assert not bench.system.has("/tmp/x")


async def test_mkdir(bench: Bench) -> None:
    assert (await bench.run("mkdir a a/b && mkdir -p a/b/c/d /tmp//x/y && mkdir -p a/b")).status == 0
    assert bench.system.has("a/b/c/d")
    assert bench.system.has("/tmp/x/y")
    bench.system.make("f", b"")
    for text, error in (
        ("mkdir a", E.EXIST),
        ("mkdir x/y", E.NOENT),
        ("mkdir -p f/g", E.NOTDIR),
        ("mkdir -p f", E.NOTDIR),
    ):
        result = await bench.run(text)
        assert result.status == 1
        assert error.text in result.err


async def test_touch_makes_a_file_or_sets_its_time(bench: Bench) -> None:
    bench.system.make("there", b"kept").mtime = 1
    assert (await bench.run("touch new there")).status == 0
    assert bench.system.data("new") == b""
    assert bench.system.data("there") == b"kept"
    clock = bench.system.clock
    assert isinstance(clock, FakeClock)
    assert (await bench.system.stat("there")).mtime == clock.now()
    assert (await bench.run("touch none/x")).status == 1


# Paths.


@pytest.mark.parametrize(
    ("cwd", "path", "expected"),
    [
        ("/a", "b", "/a/b"),
        ("/", "b", "/b"),
        ("/a", "/b//c/", "/b/c"),
        ("/a/b", "..", "/a"),
        ("/a/b", "../../..", "/"),
        ("/a", "./b/./../c", "/a/c"),
        ("/a", "", "/a"),
        ("/a", "...", "/a/..."),
    ],
)
def test_absolute_paths(cwd: str, path: str, expected: str) -> None:
    assert absolute(cwd, path) == expected


def test_joining_and_base_names() -> None:
    assert [join("/", "a"), join("a", "b"), join("a/", "b"), join("//", "b")] == ["/a", "a/b", "a/b", "/b"]
    assert [base_name("/a/b"), base_name("a/"), base_name("a"), base_name("/")] == ["b", "a", "a", ""]

"""Commands on the namespace, on processes, on the shell itself, on the store and on other nodes."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognu.errors import E, FileError
from cognu.shell.commands.processes import parse_directory, parse_grant
from cognu.shell.interactive import run_once
from cognu.shell.options import Options, parse_count, parse_options, parse_seconds, parse_size
from cognu.shell.system import Directory, Flags, Grant, ProcessInfo, Program, RunOptions
from shell_fake import Bench, FakeClock, Running


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def refused(bench: Bench, text: str, status: int, words: str) -> None:
    result = await bench.run(text)
    assert result.status == status, text
    assert words in result.err, text


# Namespace.


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        ("", Flags()),
        ("-a", Flags("after")),
        ("-b", Flags("before")),
        ("-c", Flags(create=True)),
        ("-bc", Flags("before", create=True)),
        ("-r", Flags(read_only=True)),
        ("-ar", Flags("after", read_only=True)),
    ],
)
async def test_bind_and_mount_flags(bench: Bench, options: str, flags: Flags) -> None:
    await bench.run(f"bind {options} /tmp /n; mount {options} /srv/x /n; mount {options} /srv/x /n tree")
    assert bench.world.calls == [
        ("bind", "/tmp", "/n", flags),
        ("mount", "/srv/x", "/n", flags, ""),
        ("mount", "/srv/x", "/n", flags, "tree"),
    ]


async def test_bind_refuses_contradictions_and_what_is_missing(bench: Bench) -> None:
    await refused(bench, "bind -ab /tmp /n", 2, E.USAGE.text)
    await refused(bench, "bind /none /n", 1, f"/none: {E.NOENT.text}")
    await refused(bench, "bind /tmp /n x", 2, "bind [-a|-b] [-c|-r] NEW OLD")
    await refused(bench, "bind -cr /tmp /n", 2, "one of them")


async def test_unmount(bench: Bench) -> None:
    await bench.run("bind /tmp /n; unmount /tmp /n; bind /tmp /n; unmount /n")
    assert [call for call in bench.world.calls if call[0] == "unmount"] == [
        ("unmount", "/tmp", "/n"),
        ("unmount", None, "/n"),
    ]
    await refused(bench, "unmount /tmp", 1, E.NOTMOUNTED.text)


async def test_ns_prints_what_the_node_says(bench: Bench) -> None:
    bench.system.make("/proc/7/ns", b"bind /a /b\n")
    bench.system.make("/proc/9/ns", b"cd /\n")
    assert (await bench.run("ns; ns 9")).out == "bind /a /b\ncd /\n"
    await refused(bench, "ns 8", 1, f"ns: 8: {E.SRCH.text}")
    assert json.loads((await bench.run("ns --json 9")).out) == ["cd /"]
    await refused(bench, "ns ../7", 2, E.USAGE.text)


async def test_cd(bench: Bench) -> None:
    bench.system.make("/tmp/x")
    bench.system.make("f", b"")
    result = await bench.run("cd /tmp/x/..; pwd; cd x; pwd; cd; pwd; cd -; HOME=/bin cd; pwd; unset HOME; cd; pwd")
    assert result.out == "/tmp\n/tmp/x\n/home/me\n/tmp/x\n/bin\n/\n"
    await refused(bench, "cd f; pwd", 0, "")
    await refused(bench, "cd /none", 1, E.NOENT.text)
    await refused(bench, "cd /home/me/f", 1, E.NOTDIR.text)
    await refused(bench, "unset OLDPWD; cd -", 1, E.NOENT.text)


# run.


async def test_run_hands_its_options_on_and_stops_at_the_program(bench: Bench) -> None:
    seen: list[Running] = []

    async def program(running: Running) -> int:
        seen.append(running)
        return 5

    bench.program("prog", program)
    bench.system.make("notes", b"")
    bench.system.make("/a:b", b"")
    result = await bench.run(
        "run --on pi --grant /data:rw --grant notes:rwx --grant /a:b --dir /src::/w --dir out --env A=1 --env=B=a=b "
        "--memory 64M --cpu 1.5 prog --on notes -x"
    )
    assert (result.status, result.err) == (5, "")
    (running,) = seen
    assert running.argv == ("prog", "--on", "notes", "-x")
    assert running.env == {"HOME": "/home/me", "A": "1", "B": "a=b"}
    assert running.options == RunOptions(
        on="pi",
        grants=(Grant("/data", "rw"), Grant("/home/me/notes", "rwx"), Grant("/a:b", "r")),
        directories=(Directory("/src", "/w"), Directory("/home/me/out", "out")),
        memory=64 << 20,
        cpu=1.5,
    )


@pytest.mark.parametrize(
    "text",
    [
        "run",
        "run --memory",
        "run --memory x prog",
        "run --memory -1 prog",
        "run --cpu -1 prog",
        "run --cpu nan prog",
        "run --env A prog",
        "run --env 1=2 prog",
        "run --dir '' prog",
        "run --dir /a:: prog",
        "run --grant '' prog",
        "run --grant :rw prog",
        "run --bad prog",
    ],
)
async def test_run_refuses_what_it_cannot_read(bench: Bench, text: str) -> None:
    await refused(bench, text, 2, E.USAGE.text)
    assert bench.world.calls == []


async def test_a_grant_with_rights_that_are_none_is_a_wrong_usage(bench: Bench) -> None:
    bench.system.make("notes", b"")
    for command in ("run --grant notes:q prog", "cpu --grant notes:rq pi ls"):
        await refused(bench, command, 2, "rights are some of rwx")
    assert bench.world.calls == []


async def test_a_grant_of_a_tree_says_what_is_mounted_in_it_and_left_out(bench: Bench) -> None:
    async def program(running: Running) -> int:
        return 0

    bench.program("prog", program)
    binds = "".join(f"bind '#U/{name}' /{name}\n" for name in ("etc", "home", "opt", "usr", "var"))
    bench.system.make("/proc/7/ns", f"{binds}bind -c '#n' /mnt/node\nmount -b /srv/x /mnt\ncd /home/me\n".encode())
    said = "without what is mounted in it, which takes a grant of its own"
    result = await bench.run("run --grant / --grant /mnt --grant /home:rw --grant /m prog")
    assert result.err == (
        f"run: --grant /: {said}: /etc, /home, /mnt, /mnt/node, /opt, /usr and 1 more\n"
        f"run: --grant /mnt: {said}: /mnt/node\n"
    )
    assert (await bench.run("run prog")).err == ""


async def test_what_is_put_has_a_name_that_can_be_typed(bench: Bench) -> None:
    bench.system.make("notes", b"")
    for name in ("a/b", "..", "''"):
        await refused(bench, f"put notes --name {name}", 2, E.USAGE.text)
    assert bench.world.calls == []


async def test_put_says_at_a_terminal_that_a_command_of_the_shell_comes_first(bench: Bench) -> None:
    bench.system.make("notes", b"")
    assert "run ls" in (await bench.run("put notes --name ls", terminal=True)).err
    assert (await bench.run("put notes --name ls")).err == ""
    assert (await bench.run("put notes --name other", terminal=True)).err == ""


async def test_export_says_who_may_do_what_and_knows_the_common_slip(bench: Bench) -> None:
    result = await bench.run("export /a pi :rw")
    assert (result.out, result.err) == ("pi may: write:/a\n", "")
    result = await bench.run("export /a")
    assert result.out == "pi may: read:/a\n"
    assert result.err == "export: no NODE was named, so every machine that has joined may now use it\n"
    assert json.loads((await bench.run("export --json /a")).out) == {"pi": ["read:/a"]}
    await refused(bench, "export /a pi:rw", 2, "export PATH NODE :rw")


async def test_a_program_that_fails_is_told_of_the_directories_it_was_given(bench: Bench) -> None:
    async def program(_running: Running) -> int:
        return 1

    bench.program("prog", program)
    bench.system.make("work")
    assert (
        await bench.run("run prog work")
    ).err == f"run: work: {E.ISDIR.text}: to work in it: run --dir work prog ...\n"
    assert (await bench.run("run --dir work prog work")).err == ""


async def test_run_runs_programs_not_commands_of_the_shell(bench: Bench) -> None:
    await refused(bench, "run ls", 127, f"ls: {E.NOTFOUND.text}")


@pytest.mark.parametrize(
    ("error", "status"),
    [(E.NOENT, 127), (E.AMBIGUOUS, 126), (E.ACCES, 126), (E.BADPROGRAM, 126), (E.NOPEER, 126), (E.NOMEM, 126)],
)
async def test_the_status_tells_why_a_program_did_not_start(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, error: E, status: int
) -> None:
    async def start(*_: object) -> None:
        raise FileError(error)

    monkeypatch.setattr(type(bench.system), "start", start)
    bench.system.make("/bin/prog", b"")
    await refused(bench, "prog", status, (E.NOTFOUND if status == 127 else error).text)
    await refused(bench, "aaaaaaaa", status, (E.NOTFOUND if status == 127 else error).text)


async def test_who_is_no_peer_is_told_before_what_is_no_program(bench: Bench) -> None:
    await refused(bench, "run --on nope x", 126, f"nope: {E.NOPEER.text}")
    bench.system.make("/n/pi/proc", b"")
    await refused(bench, "run --on pi x", 127, f"x: {E.NOTFOUND.text}")


async def test_a_name_in_bin_comes_before_a_hash(bench: Bench) -> None:
    async def program(_running: Running) -> int:
        return 0

    bench.program("aaaaaaaa", program)
    await bench.run("aaaaaaaa")
    assert bench.world.calls[0][1] == Program("/bin/aaaaaaaa")


# Processes.


async def test_ps(bench: Bench) -> None:
    bench.world.table = [
        ProcessInfo(12, 7, "me", "waiting", 65537, 1_500_000_000, "read /dev/cons", ("sh", "-i")),
        ProcessInfo(7, 0, "me", "running", 0, 0, "", ("init",)),
    ]
    assert (await bench.run("ps")).out == (
        "PID  PARENT  USER  STATE    MEMORY  CPU    COMMAND\n"
        "7    0       me    running  0K      0.00s  init\n"
        "12   7       me    waiting  65K     1.50s  sh -i\n"
    )
    assert "WAITS FOR" in (await bench.run("ps --waits")).out
    assert "read /dev/cons" in (await bench.run("ps --waits")).out
    first, second = json.loads((await bench.run("ps --json")).out)
    assert (first["pid"], second["argv"], second["cpu"]) == (7, ["sh", "-i"], 1_500_000_000)


async def test_kill(bench: Bench) -> None:
    bench.world.table = [ProcessInfo(12, 7, "me", "waiting", 0, 0, "", ("sh",))]
    typed = (
        "kill 12; kill -INT 12; kill -9 12; kill -s SIGINT 12; kill -sigterm 12; kill -1 12; kill -quit 12; kill -14 12"
    )
    assert (await bench.run(f"{typed}; kill -s stop 12; kill -CONT 12")).status == 0
    lines = [call[2] for call in bench.world.calls]
    assert lines == [
        "kill", "interrupt", "kill", "interrupt", "note term", "note hangup", "note quit", "note alarm",
        "stop", "start",
    ]  # fmt: skip
    await refused(bench, "kill 13", 1, E.SRCH.text)
    await refused(bench, "kill", 2, E.USAGE.text)
    for word in ("-USR1", "-19", "-0", "-x", "-WINCH"):
        await refused(bench, f"kill {word} 12", 2, word)
    await refused(bench, "kill -STOP %1", 2, "INT, TERM and KILL")
    await refused(bench, "kill -s", 2, E.USAGE.text)
    await refused(bench, "kill %1", 1, "%1")
    before = list(bench.world.calls)
    await refused(bench, "kill 12 x", 2, "x")
    assert bench.world.calls == before  # nothing was ended


async def test_wait_for_a_process(bench: Bench) -> None:
    async def program(_running: Running) -> int:
        return 6

    bench.program("prog", program)
    assert (await bench.run("prog; wait 100")).status == 6
    await refused(bench, "wait 5", 1, E.SRCH.text)
    await refused(bench, "wait x", 2, E.USAGE.text)


async def test_sleep_uses_the_worlds_clock(bench: Bench) -> None:
    clock = bench.system.clock
    assert isinstance(clock, FakeClock)
    clock.wake.set()
    assert (await bench.run("sleep 0.5; sleep 10")).status == 0
    assert clock.asked == [0.5, 10.0]
    await refused(bench, "sleep -1", 2, "-1")
    await refused(bench, "sleep 1e9", 2, "1e9")


# The shell.


async def test_env(bench: Bench) -> None:
    assert (await bench.run("A=1; env B=2 C=")).out == "A=1\nB=2\nC=\nHOME=/home/me\n"
    assert (await bench.run("env B=2 env B=3 D=4 | grep -c B=3")).out == "1\n"
    assert (await bench.run("env echo a=b -x")).out == "a=b -x\n"
    await refused(bench, "env nonesuch", 127, "nonesuch")
    await refused(bench, "env 1=2", 2, "1=2")


async def test_exit_and_unset(bench: Bench) -> None:
    assert (await bench.run("exit 255")).status == 255
    await refused(bench, "exit 256", 2, "256")
    await refused(bench, "exit -1", 2, "-1")
    await refused(bench, "unset 1x", 2, "1x")
    assert (await bench.run("x=1; unset x y; echo -$x-")).out == "--\n"


async def test_export_of_a_variable_says_that_it_is_not_needed(bench: Bench) -> None:
    await refused(bench, "export PATH=/bin", 2, "variables go to programs without it")


# Store and mesh.


async def test_put_get_fetch(bench: Bench) -> None:
    bench.system.make("f", b"data")
    bench.system.make("/store/bafk", b"stored \xff\0")
    bench.system.make("/page", b"<html>")
    assert (await bench.run("put f; put f --name g")).out == "bafkr4itest\nbafkr4itest\n"
    assert bench.world.calls == [("put", "f", None), ("put", "f", "g")]
    await bench.run("get bafk > copy; fetch http://pi/ >> copy")
    assert bench.system.data("copy") == b"stored \xff\0<html>"
    await refused(bench, "get none", 1, E.NOENT.text)
    await refused(bench, "put none", 1, E.NOENT.text)
    await refused(bench, "fetch https://pi/", 1, E.NETUNREACH.text)


async def test_a_reader_that_ends_early_closes_what_get_reads(bench: Bench) -> None:
    bench.system.make("/store/bafk", b"line\n" * 1000)
    assert (await bench.run("get bafk | head -n 1")).out == "line\n"


async def test_import_and_export(bench: Bench) -> None:
    await bench.run("import pi /home/me; import pi /tmp /mnt; export /a; export /b pi; export /c pi :rw; export /d :rw")
    assert bench.world.calls == [
        ("import", "pi", "/home/me", "/n/pi"),
        ("import", "pi", "/tmp", "/mnt"),
        ("export", "/a", None, False),
        ("rpc", "widened", {}),
        ("export", "/b", "pi", False),
        ("rpc", "widened", {}),
        ("export", "/c", "pi", True),
        ("rpc", "widened", {}),
        ("export", "/d", None, True),
        ("rpc", "widened", {}),
    ]
    for text in ("export /a pi desk", "export /a :r", "export /a :rw pi", "export", "import pi"):
        await refused(bench, text, 2, E.USAGE.text)


async def test_cpu(bench: Bench) -> None:
    await refused(bench, "cpu pi", 126, f"pi: {E.NOPEER.text}")
    assert bench.world.calls[-1] == ("cpu", "pi", ("-",), ())  # the input is a script

    async def remote(running: Running) -> int:
        await running.stdout.write(" ".join(running.argv).encode() + await running.stdin.read())
        return 9

    bench.world.programs["cpu"] = remote
    bench.stdin = b" typed"
    result = await bench.run("cpu pi ls -l --help")
    assert (result.status, result.out) == (9, "ls -l --help typed")
    assert ("cpu", "pi", ("ls", "-l", "--help"), ()) in bench.world.calls


async def test_ctrl_c_reaches_the_other_node(bench: Bench) -> None:
    entered = asyncio.Event()

    async def remote(_running: Running) -> int:
        entered.set()
        await asyncio.Event().wait()
        return 0

    bench.world.programs["cpu"] = remote
    streams, _out, _err = bench.streams()
    task = asyncio.create_task(run_once(bench.shell, "cpu pi cpu", streams))
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert bench.child("cpu").notes == ["interrupt"]
    await bench.close(streams)


# Command lines.


@pytest.mark.parametrize(
    ("arguments", "mixed", "given_options", "operands"),
    [
        ([], True, [], []),
        (["-ab", "x"], True, [("a", ""), ("b", "")], ["x"]),
        (["-n5", "-n", "6"], True, [("n", "5"), ("n", "6")], []),
        (["-an", "x"], True, [("a", ""), ("n", "x")], []),
        (["x", "-a", "y"], True, [("a", "")], ["x", "y"]),
        (["x", "-a"], False, [], ["x", "-a"]),
        (["-a", "--", "-b"], True, [("a", "")], ["-b"]),
        (["-"], True, [], ["-"]),
        (["--name", "x", "--name=y", "--name="], True, [("name", "x"), ("name", "y"), ("name", "")], []),
        (["--long"], True, [("long", "")], []),
    ],
)
def test_options(arguments: list[str], mixed: bool, given_options: list[tuple[str, str]], operands: list[str]) -> None:
    names = ("a", "b", "n=", "name=", "long")
    assert parse_options(arguments, names, mixed) == Options(given_options, operands)


@pytest.mark.parametrize("argument", ["-x", "-n", "--name", "--nam=x", "--long=x", "--a", "-ax", "---", "-="])
def test_options_that_are_not_there_are_usage_errors(argument: str) -> None:
    with pytest.raises(FileError) as caught:
        parse_options([argument], ("a", "b", "n=", "name=", "long"))
    assert caught.value.error is E.USAGE


@given(st.lists(st.text(alphabet="-=anx") | st.text()), st.booleans())
def test_any_arguments_are_options_or_a_usage_error(arguments: list[str], mixed: bool) -> None:
    refused_with = None
    try:
        options = parse_options(arguments, ("a", "n=", "name=", "nn"), mixed)
    except FileError as error:
        refused_with = error.error
    else:
        assert all(operand in arguments for operand in options.operands)
    assert refused_with in (None, E.USAGE)


@given(st.text(alphabet="0123456789.kKMG-+e ") | st.text())
def test_any_text_is_a_number_or_a_usage_error(text: str) -> None:
    for parse in (parse_count, parse_size, parse_seconds):
        value: float = 0
        refused_with = None
        try:
            value = parse(text)
        except FileError as error:
            refused_with = error.error
        assert refused_with in (None, E.USAGE)
        assert value >= 0


def test_sizes() -> None:
    assert [parse_size(text) for text in ("0", "12", "1K", "2k", "3M", "1g")] == [0, 12, 1024, 2048, 3 << 20, 1 << 30]


@given(st.text())
def test_any_grant_or_directory_is_absolute_or_a_usage_error(text: str) -> None:
    for parse in (parse_grant, parse_directory):
        refused_with = None
        try:
            found = parse("/home/me", text)
        except FileError as error:
            refused_with = error.error
        else:
            path = found.path if isinstance(found, Grant) else found.host
            assert path.startswith("/")
        assert refused_with in (None, E.USAGE)

"""What a shell on another machine may do: see what was lent, use what it was let use, and end alone."""

from __future__ import annotations

import asyncio
import os
import select
import signal
from collections.abc import Sequence
from pathlib import Path

from cognu.errors import E
from cognu.files.limits import PEER_LIMITS, Resource
from cognu.ninep.types import ORDWR
from cognu.node.launcher import SHELL_MEMORY
from cognu.node.lent_view import TERMINAL
from cognu.store.names import name_of
from e2e.harness import Client, Ended, NodeProcess, Pair, pair, refused
from programs.build import build

ABSENT = E.NOENT.text.encode()


async def cpu(two: Pair, *words: str, grants: Sequence[str] = ()) -> Ended:
    """A command on pi, typed on desk in its directory `notes`."""
    given = [f"--grant={grant}" for grant in grants]
    return await two.desk.command("cpu", *given, "pi", *words, cwd=two.notes)


async def test_a_far_shell_sees_the_working_directory_and_the_terminal_and_nothing_else(place: Path) -> None:
    async with pair(place, "run") as two:
        (two.notes / "notes.txt").write_text("of desk\n")
        (two.path / "secret.txt").write_text("not lent\n")
        top = await cpu(two, "ls", "/mnt/term")
        assert (top.output.decode().split(), top.status) == (sorted(["dev", two.notes.parts[1]]), 0), top
        terminal = await cpu(two, "ls", "/mnt/term/dev")
        assert set(terminal.output.decode().split()) <= {*TERMINAL}
        assert b"cons\nconsctl\n" in terminal.output
        above = await cpu(two, "ls", f"/mnt/term{two.notes.parent}")
        assert above.output.decode().split() == [two.notes.name]
        here = f"/mnt/term{two.notes}"
        hidden = [
            "mnt/node/status", "mnt/node/rpc", "mnt/store/ctl", "mnt/host/etc/passwd", "proc/1/status", "proc/clone",
            "etc/passwd", "n/pi/proc", "srv/none", "bin/sh", "net/tcp/clone", "dev/log", "dev/random",
            f"..{two.path}/secret.txt", f"{two.path}/secret.txt",
        ]  # fmt: skip
        tried = [f"cat /mnt/term/{name}" for name in hidden] + [f"cat {here}/../secret.txt"]
        tried += [f"ls '/mnt/term/{name}'" for name in ("proc", "mnt", "n", "#p", "#U")]
        ended = await cpu(two, "eval", "\n".join(f"{line}; echo $?" for line in tried))
        assert ended.output.split() == [b"1"] * len(tried), ended
        told = [line for line in ended.errors.splitlines() if not line.startswith(b"  ")]  # but for what to do
        assert [ABSENT in line for line in told] == [True] * len(tried), ended
        written = await cpu(two, "eval", "echo new >made.txt; mv made.txt kept.txt; cat kept.txt notes.txt")
        assert (written.output, written.status) == (b"new\nof desk\n", 0), written
        assert sorted(path.name for path in two.notes.iterdir()) == ["kept.txt", "notes.txt"]


async def test_a_grant_shows_a_far_shell_one_file_more_with_the_rights_named(place: Path) -> None:
    async with pair(place, "run") as two:
        more, other = two.path / "more", two.path / "other.txt"
        more.mkdir()
        (more / "a.txt").write_text("granted\n")
        other.write_text("as it was\n")
        passwd = await cpu(two, "wc", "/mnt/term/etc/passwd", grants=["/etc/passwd"])
        assert (passwd.errors, passwd.status) == (b"", 0)
        shown = await cpu(two, "cat", f"/mnt/term{more}/a.txt", grants=["../more"])
        assert (shown.output, shown.status) == (b"granted\n", 0)
        for grant, status in ((f"{other}:r", 1), (f"{other}:rw", 0)):
            assert (await cpu(two, "cp", "none", f"/mnt/term{other}", grants=[grant])).status == 1
            (two.notes / "new.txt").write_text("new\n")
            assert (await cpu(two, "cp", "new.txt", f"/mnt/term{other}", grants=[grant])).status == status
        assert other.read_text() == "new\n"
        nevers = ("/mnt/node", "/proc", "/n/pi", "/mnt/store", "/bin", "/")
        typed = "\n".join(f"cpu --grant {never} pi ls /mnt/term; echo $?" for never in nevers)
        denied = await two.desk.command("sh", "-c", typed)
        assert denied.output == b"126\n" * len(nevers), denied
        assert denied.errors.count(E.ACCES.text.encode()) == len(nevers), denied
        assert ABSENT in (await cpu(two, "ls", grants=["/none/there"])).errors


async def test_a_far_shell_started_in_another_machines_tree_has_no_directory_from_here(place: Path) -> None:
    async with pair(place, "run", "read:{shared}") as two, two.desk.client() as desk:
        (two.shared / "on-pi.txt").write_text("of pi\n")
        for cwd in (f"/n/pi{two.shared}", "/proc", "/mnt/node", "/"):
            ended = await desk.run("cpu", "ls", "/mnt/term", on="pi", lines=[f"cd {cwd}"])
            assert (ended.status, ended.errors) == (0, b""), ended
            assert b"node" not in ended.output
            found = await desk.run("cpu", "cat", f"/mnt/term{cwd}/rpc", "/mnt/term/proc/1/status", on="pi")
            assert (found.output, found.status) == (b"", 1), found
            assert found.errors.count(ABSENT) == 2


async def test_a_far_shell_runs_the_nodes_programs_but_can_not_name_or_remove_them(place: Path) -> None:
    async with pair(place, "run") as two, two.pi.client() as pi:
        wc = await pi.put(build("wc"), "precious")
        run = await two.desk.command("cpu", "pi", "precious", stdin=b"a b\n")
        assert (run.output, run.status) == (b"1 2 4\n", 0), run
        assert (await cpu(two, "rm", "/bin/precious")).status == 1
        assert (await cpu(two, "bind", "#V", "/mnt/term")).status == 1
        script = f"bind '#V' /mnt; echo name mine {wc} >/mnt/ctl; rm /bin/precious; echo x >/bin/precious; ls /bin"
        ended = await cpu(two, "eval", script)
        assert ended.output == b"precious\n", ended
        assert E.NODEV.text.encode() in ended.errors, ended
        assert ended.errors.count(E.ACCES.text.encode()) >= 2, ended
        assert (await pi.list("/bin")) == ["precious"]
        assert await pi.read("/bin/precious") == build("wc")


async def started(client: Client, program: str) -> None:
    """A process that the client makes on pi itself, told to be `program`."""
    ctl = await client.open("/n/pi/proc/clone", ORDWR)
    try:
        await ctl.write(f"program {program}\nstart\n".encode())
    finally:
        ctl.close()


async def test_names_and_prefixes_of_a_node_are_not_for_its_peers(place: Path) -> None:
    async with pair(place, "run") as two, two.desk.client() as desk, two.pi.client() as pi:
        wc = await pi.put(build("wc"), "wc")
        (two.notes / "cat.wasm").write_bytes(build("cat"))
        assert (await desk.run(str(two.notes / "cat.wasm"), on="pi", stdin=b"x")).output == b"x"
        private = name_of(build("cat"))  # kept there now; nobody put it there for others
        assert private in await pi.list("/mnt/store/objects")
        for word in ("wc", "none", wc[:20], wc[:-1], name_of(b"none")[:20], wc.upper(), name_of(b"none"), private):
            await refused(started(desk, word), E.NOTFOUND)
        await refused(started(desk, "/bin/wc"), E.NOENT)
        await started(desk, wc)
        score = await desk.put(build("wc"), "mine")
        assert score == wc
        assert (await desk.run("mine", on="pi", stdin=b"a b\n")).output == b"1 2 4\n"  # a name of its own


async def test_a_far_shell_that_grows_ends_alone(place: Path) -> None:
    async with pair(place, "run") as two, two.desk.client() as desk, two.pi.client() as pi:
        other = await desk.start("cpu", on="pi")
        await other.stdin.write(b"echo here\n")
        assert await other.stdout.read() == b"here\n"
        growing = await desk.start("cpu", on="pi", lines=["limit memory 67108864"])
        ended = await growing.end(b"x=0123456789abcdef\nwhile true; do x=$x$x; done\n")
        assert ended.status != 0, ended
        await other.stdin.write(b"echo still here\nexit 5\n")
        last = await other.end()
        assert (last.output, last.status) == (b"still here\n", 5)
        assert (await pi.rpc("status"))["name"] == "pi"
        small = desk.run("cpu", "ls", on="pi", lines=["limit memory 1048576"])
        await refused(small, E.DQUOT, "memory")


async def test_a_peers_shells_count_against_its_memory_and_give_it_back(place: Path) -> None:
    async with pair(place, "run") as two, two.desk.client() as desk:
        shells = [await desk.start("cpu", on="pi") for _ in range(PEER_LIMITS[Resource.MEMORY] // SHELL_MEMORY)]
        await refused(desk.start("cpu", on="pi"), E.DQUOT, "memory")
        for shell in shells:
            assert (await shell.end(b"exit 0\n")).status == 0
        assert (await desk.run("cpu", "echo", "again", on="pi")).output == b"again\n"


def shells_of(node: NodeProcess) -> list[int]:
    return [pid for pid in node.children() if b"cognu.shell" in Path(f"/proc/{pid}/cmdline").read_bytes()]


async def test_a_far_shell_ends_with_its_node_whatever_it_waits_for(place: Path) -> None:
    async with pair(place, "run") as two, two.desk.client() as desk:
        shell = await desk.start("cpu", "echo begun; sleep 1000", on="pi")
        assert await shell.stdout.read() == b"begun\n"
        [shell_there] = shells_of(two.pi)
        life = os.pidfd_open(shell_there)
        try:
            await two.pi.signal(signal.SIGKILL)
            assert await asyncio.to_thread(select.select, [life], [], []) == ([life], [], [])
        finally:
            os.close(life)


async def test_a_far_shell_has_what_is_granted_below_dev_and_tmp_behind_its_own(place: Path) -> None:
    async with pair(place, "run") as two, two.pi.client() as pi:
        await two.pi.command("sh", "-c", "mkdir /tmp/shared /tmp/other; echo of pi >/tmp/shared/file")
        before = (await cpu(two, "ls", "/dev")).output.split()
        for path in ("/dev/profile", "/dev/kmesg", "/dev/random", "/tmp/shared"):
            await pi.rpc("export", path=path, peer="desk")
        there = await cpu(two, "eval", "cat /dev/profile/name; cat /tmp/shared/file; ls /tmp; cat /tmp/other; ls /dev")
        name, content, *names = there.output.split(b"\n")
        assert (name, content) == (b"pi", b"of pi"), there
        assert names[0] == b"shared"
        # Names that the shell has itself are its own, and no others are there than those that were granted.
        assert sorted(names[1:-1]) == sorted([*before, b"kmesg", b"profile"]), there
        assert ABSENT in there.errors
        written = await cpu(two, "eval", "echo x >/tmp/shared/new; echo own >/tmp/own; cat /tmp/own; ls /tmp/shared")
        assert written.output == b"own\nfile\n", written
        assert E.ACCES.text.encode() in written.errors
        for verb in ("peers", "grants", "services"):
            refused = (await cpu(two, verb)).errors.decode()
            assert E.NOTHERE.text in refused, refused
        # A device's own refusal is not for want of a grant.
        await pi.rpc("export", path="/dev/sysname", peer="desk", write=True)
        there = await two.desk.command("sh", "-c", "echo x >/n/pi/dev/sysname")
        assert b"pi: #c refuses it; there: cognu grants list" in there.errors, there

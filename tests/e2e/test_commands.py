"""What a user types on one of two machines."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from cognu.errors import E
from e2e.harness import Client, NodeProcess, pair, until
from e2e.test_networks import serving
from e2e.typing import Terminal
from programs.build import build


def store(place: Path, *names: str) -> list[str]:
    """Paths of programs of the tests, made in `place`."""
    paths = []
    for name in names:
        path = place / f"{name}.wasm"
        path.write_bytes(build(name))
        paths.append(str(path))
    return paths


async def test_the_readmes_first_lines_on_two_machines(place: Path) -> None:
    page = place / "page.sock"
    async with serving(page), pair(place, pi_options=["--unix", str(page)]) as two:
        desk, pi = two.desk, two.pi
        (two.shared / "on-pi.txt").write_text("of pi\n")
        (two.notes / "notes.txt").write_text("one two\nthree\n")
        [wc] = store(place, "wc")

        invited = await pi.command("invite", "--grant", f"read:{two.shared},net,run")
        assert invited.status == 0, invited
        [ticket] = [word for word in invited.output.decode().split() if word.startswith("cognu-") and "/" not in word]
        joined = await desk.command("join", ticket)
        assert joined.status == 0, joined
        assert str(two.shared).encode() in joined.output
        again = await desk.command("join", ticket)
        assert again.status == 1
        assert b"used" in again.errors

        listed = await desk.command("sh", "-c", f"ls /n/pi; ls /n/pi{two.shared}; cat /n/pi{two.shared}/on-pi.txt")
        top = two.shared.parts[1]
        lent = "".join(f"{name}\n" for name in sorted([top, "net", "proc"]))
        assert listed.output.decode() == f"{lent}on-pi.txt\nof pi\n"
        outside = await desk.command("sh", "-c", "cat /n/pi/etc/passwd")
        assert (outside.output, outside.status) == (b"", 1)
        assert b"/n/pi/etc/passwd: file does not exist" in outside.errors

        for where in ([], ["--on", "pi"]):
            counted = await desk.command("run", *where, wc, "notes.txt", cwd=two.notes)
            assert (counted.output, counted.status) == (b"2 3 14 notes.txt\n", 0), counted
        score = (await pi.command("put", wc, "--name", "wc")).output.decode().split()[0]
        counted = await desk.command("run", score, stdin=b"a b c\n")
        assert (counted.output, counted.status) == (b"1 3 6\n", 0), counted

        dial = "cat /net/unix/clone >/dev/null; bind -b /n/pi/net /net; ls /net/unix; ns"
        bound = await desk.command("sh", "-c", dial)
        assert b"/net/unix/clone: file does not exist" in bound.errors
        assert b"clone\n" in bound.output
        assert b"bind -b /n/pi/net /net\n" in bound.output

        far = await desk.command("cpu", "pi", "cat", "notes.txt", str(two.shared / "on-pi.txt"), cwd=two.notes)
        assert (far.output, far.status) == (b"one two\nthree\nof pi\n", 0), far
        piped = await desk.command("cpu", "pi", "wc", "-l", stdin=b"1\n2\n3\n")
        assert (piped.output.split()[0], piped.status) == (b"3", 0), piped
        assert (await desk.command("cpu", "pi", "cat", "/dev/sysname")).output == b"pi"
        there = await desk.command("cpu", "pi", "pwd", cwd=two.notes)
        assert (there.output, there.status) == (f"/mnt/term{two.notes}\n".encode(), 0)
        assert (await desk.command("cpu", "pi", "cat", "/nothing")).status == 1


async def test_every_refusal_names_what_it_needs(place: Path) -> None:
    [wc] = store(place, "wc")
    async with pair(place, "net") as two:
        # 126 is how a shell says that it may not run a program.
        for words in (["run", "--on", "pi", wc], ["cpu", "pi", "ls"], ["cpu", "pi"]):
            refused = await two.desk.command(*words)
            assert refused.status == 126
            said = f"{words[0]}: pi: {E.ACCES.text}: pi does not let this machine run programs"
            assert refused.errors.decode() == f"{said}; there: cognu grants set desk run\n"
            nobody = await two.desk.command(*(word.replace("pi", "nobody") for word in words))
            said = f"{words[0]}: nobody: {E.NOPEER.text}\n  {E.NOPEER.hint}\n"
            assert (nobody.status, nobody.errors.decode()) == (126, said)
        # What is said there is so.
        assert (await two.pi.command("grants", "set", "desk", "run")).status == 0
        assert (await two.desk.command("cpu", "pi", "echo", "lent")).output == b"lent\n"
        for words in (["grants", "set", "mars", "net"], ["grants", "revoke", "mars"], ["import", "mars", "/etc"]):
            mars = await two.desk.command(*words)
            assert mars.status == 1
            assert f"mars: {E.NOPEER.text}" in mars.errors.decode()
        nowhere = await two.desk.command("import", "pi", "/", "/mnt/share")
        assert nowhere.errors.decode() == f"cognu: /mnt/share: {E.NOPLACE.text}\n  {E.NOPLACE.hint}\n"
        await two.pi.stop()
        away = await two.desk.command("sh", "-c", "ls /n/pi")
        assert away.status == 1
        assert b"pi" in away.errors
        assert b"file does not exist" not in away.errors, away


async def test_an_interrupt_ends_a_program_here_and_over_there(place: Path) -> None:
    [spin] = store(place, "spin")
    async with pair(place, "run") as two, two.desk.client() as desk, two.pi.client() as pi:
        for where, client in (([], desk), (["--on", "pi"], pi)):
            running = await two.desk.begin("run", *where, spin)

            async def there(client: Client = client) -> bool:
                """Whether a program runs there."""
                rows = [await client.read(f"/proc/{pid}/status") for pid in await client.list("/proc") if pid.isdigit()]
                return any(b"utime" in row for row in rows)

            await until(client, there)
            running.send_signal(signal.SIGINT)
            out, _ = await running.communicate()
            assert (out, running.returncode) == (b"", 128 + 2)
            assert not await there()


async def test_ls_answers_beside_a_shell_that_copies_zeros(place: Path) -> None:
    async with pair(place) as two, two.desk.client() as watcher:
        copying = await two.desk.begin("sh", "-c", "cat /dev/zero >/dev/null")

        async def begun() -> bool:
            return bool((await watcher.rpc("status"))["processes"] > 2)

        await until(watcher, begun)
        for _ in range(3):
            listed = await two.desk.command("sh", "-c", "ls /")
            assert b"\nproc\n" in listed.output
        assert copying.returncode is None
        copying.send_signal(signal.SIGTERM)
        await copying.communicate()


def at_a_terminal(node: NodeProcess, place: Path, *words: str) -> Terminal:
    return Terminal(node.argv(*words), {**os.environ, "TERM": "dumb"}, place)


async def test_an_interactive_shell_on_the_other_machine(place: Path) -> None:
    async with pair(place, "run", "read:{shared}") as two, two.pi.client() as pi:
        (two.notes / "notes.txt").write_text("of desk\n")

        def talk() -> int:
            with at_a_terminal(two.desk, two.notes, "cpu", "pi") as terminal:
                terminal.shows("% ")
                terminal.type("cat /dev/sysname; echo; pwd\n")
                terminal.shows(f"pi\n/mnt/term{two.notes}\n", "% ")
                terminal.type("cat notes.txt\n")
                terminal.shows("of desk\n", "% ")
                terminal.type("cat\n")
                terminal.type("typed\n")
                terminal.shows("typed\n", "typed\n")
                terminal.interrupt()
                terminal.shows("% ")
                terminal.type("echo still here\n")
                terminal.shows("still here\n", "% ")
                terminal.type("exit 4\n")
                status = terminal.ends()
                assert terminal.as_before()
                return status

        assert await asyncio.to_thread(talk) == 4
        await until(pi, lambda: two.pi.children() == [])

"""Machines that know nothing of each other are paired by people at terminals, on hosts of their own, found by mDNS."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

import pytest

from e2e.typing import Terminal
from hosts.kit import at_terminal
from hosts.network import Network

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]


async def sees(terminal: Terminal, *texts: str) -> str:
    return await asyncio.to_thread(terminal.shows, *texts)


async def code_at(terminal: Terminal) -> str:
    await sees(terminal, "\ncode: ")
    return (await sees(terminal, "\n")).strip()


def wrong(code: str) -> str:
    return code[:-1] + str((int(code[-1]) + 1) % 10)


async def test_strangers_pair_by_a_code_alone_though_three_machines_show_one(network: Network) -> None:
    """desk shows a code itself, and so do pi and lap; at desk pi's is typed, at first with a mistake."""
    desk, pi, lap = (network[name] for name in ("desk", "pi", "lap"))
    (pi.shared / "notes").write_text("of pi\n")
    (desk.shared / "plans").write_text("of desk\n")
    await network.start("desk", "pi", "lap")
    with ExitStack() as terminals:
        at_pi = terminals.enter_context(at_terminal(pi, "pair", "--ask", f"read:{desk.shared}"))
        others = [terminals.enter_context(at_terminal(host, "pair")) for host in (desk, lap)]
        code, *_ = [await code_at(terminal) for terminal in (at_pi, *others)]

        at_desk = terminals.enter_context(at_terminal(desk, "pair", "--ask", f"read:{pi.shared}", wrong(code)))
        await sees(at_desk, "the code is wrong; 2 attempts are left; type it again", "code: ")
        told = await sees(at_pi, "did not get through: the code is wrong; 2 attempts are left")
        assert f"{desk.addresses['eth']}:" in told or "[fe80::" in told, told  # whichever of them was the first

        at_desk.type(f"{code}\n")
        await sees(at_desk, "waiting for the user of pi to agree")
        await sees(at_pi, "desk (", " at ", f"desk wants to read {pi.shared}", "agree? [y/N] ")
        at_pi.type("y\n")
        await sees(at_desk, "pi (", f"pi wants to read {desk.shared}", "agree? [y/N] ")
        at_desk.type("y\n")
        for terminal, name, mine, theirs in (
            (at_desk, "pi", desk.shared, pi.shared),
            (at_pi, "desk", pi.shared, desk.shared),
        ):
            await sees(terminal, f"paired with {name} (", f"read {theirs} on {name}\n", f"{name} may read {mine}\n")
            assert await asyncio.to_thread(terminal.process.wait) == 0
        for terminal in others:
            assert terminal.process.poll() is None
            terminal.interrupt()
            await sees(terminal, "pairing was given up")
    for host, line, answer in (
        (desk, f"ls /n; ls /n/pi{pi.shared}; cat /n/pi{pi.shared}/notes", "pi\nnotes\nof pi\n"),
        (pi, f"ls /n; ls /n/desk{desk.shared}; cat /n/desk{desk.shared}/plans", "desk\nplans\nof desk\n"),
        (lap, "ls /n", ""),
    ):
        read = await host.node.command("sh", "-c", line)
        assert (read.status, read.output.decode()) == (0, answer), read

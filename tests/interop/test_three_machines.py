"""The walk of docs/three-machines.md, line by line, on hosts of their own: what is typed and said, cables and all."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from asyncio.subprocess import Process
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT
from typing import NamedTuple

import pytest

from e2e.test_manual import matches
from hosts.network import Host, Network

pytestmark = [pytest.mark.interop, pytest.mark.timeout(240)]

PAGE = Path(__file__).parents[2] / "docs/three-machines.md"
HOSTS = ("desk", "pi", "lap")
CODE, TICKET = re.compile(r"\d\d-\d{4}-\d{4}"), re.compile("cognu-[a-z2-7]{16,}…?")
MIDST = 20 << 20
"""Bytes of what is under way that come through before a cable is pulled in the midst of it."""


class Step(NamedTuple):
    """A line of the page: who does what, and what is printed then."""

    host: str
    does: str
    prints: str


def steps(page: str) -> list[Step]:
    found: list[Step] = []
    for line in re.findall(r"^    (.*)$", page, re.MULTILINE):
        if typed := re.fullmatch(r"(\w+)\$ (.*)", line) or re.fullmatch(r"\((\w+)'s cable is (.*)\)", line):
            found.append(Step(typed[1], typed[2], ""))
        else:
            found[-1] = found[-1]._replace(prints=f"{found[-1].prints}{line}\n")
    return found


class Table:
    """The machines, what goes on there, and the last code and ticket that one of them showed."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.begun: list[Process] = []
        self.shown = {CODE: "", TICKET: ""}

    async def do(self, step: Step) -> None:
        match step.does:
            case "pulled out, in the midst of it":
                await self.network.cut(step.host, after=MIDST)
            case "plugged in again":
                await self.network.mend(step.host)
            case command:
                await self._type(self.network[step.host], command, step.prints)

    async def _type(self, host: Host, command: str, prints: str) -> None:
        for kind, text in self.shown.items():
            command = kind.sub(text, command)
        process = await self._start(host, command.removesuffix(" &"))
        assert process.stdout is not None
        if command.endswith(" &"):
            self.begun.append(process)
            got = b"".join([await process.stdout.readline() for _ in prints.splitlines()]).decode()
        else:
            got = (await process.stdout.read()).decode()
            await process.wait()
        got = self._as_on_the_page(got)
        for kind in self.shown:
            if found := kind.search(got):
                self.shown[kind] = found[0]
        wanted = CODE.sub("…", TICKET.sub("…", prints))
        assert matches(wanted, got), f"{host.name}$ {command}\n{got}\nand the page has\n{prints}"

    async def _start(self, host: Host, line: str) -> Process:
        for name in HOSTS:
            line = line.replace(f"/home/{name}", str(self.network[name].shared))
        kept = {name: value for name, value in os.environ.items() if not name.startswith("COGNU")}
        path = f"{Path(sys.executable).parent}:{kept['PATH']}"
        env = {**kept, "HOME": str(host.shared), "PATH": path, "LC_ALL": "C.UTF-8"}
        return await host.begin("bash", "-c", line, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, cwd=host.shared, env=env)

    def _as_on_the_page(self, text: str) -> str:
        for name in HOSTS:
            text = text.replace(str(self.network[name].shared), f"/home/{name}")
        return text

    async def all_over(self) -> None:
        """What was begun with `&` comes to its end by itself, and well."""
        for process in self.begun:
            out, _ = await process.communicate()
            assert process.returncode == 0, out.decode()

    async def clear(self) -> None:
        for process in self.begun:
            if process.returncode is None:
                process.kill()
                await process.communicate()
        downs = [await self._start(self.network[name], "cognu down --force") for name in HOSTS]
        await asyncio.gather(*(down.communicate() for down in downs))


async def test_three_machines_on_a_table_do_what_the_page_says(network: Network) -> None:
    walk = steps(PAGE.read_text())
    assert len(walk) > 30
    table = Table(network)
    try:
        for step in walk:
            await table.do(step)
        await table.all_over()
    finally:
        await table.clear()

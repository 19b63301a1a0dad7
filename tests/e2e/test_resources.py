"""What of a machine another one may use as files: its programs, network, sensors, clipboard and person."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from cognu.errors import E
from cognu.files.nstext import quote, split_words
from cognu.ninep.types import ORDWR, OWRITE
from e2e.harness import Client, File, join, pair, refused
from e2e.test_auditing import audited
from fifo import Fifo

PYTHON = [sys.executable, "-I", "-S", "-c"]
UPPER = "import sys; print(*sys.argv[1:]); print(sys.stdin.read().upper(), end='')"


def set_for(home: Path, **settings: Any) -> None:
    """What its owner has written before the node starts."""
    home.mkdir(mode=0o700, parents=True)
    (home / "settings.json").write_text(json.dumps(settings))


async def began(client: Client, at: str, *args: str) -> tuple[File, str]:
    """A command of the host, started: its ctl and its directory."""
    ctl = await client.open(f"{at}/clone", ORDWR)
    number = (await ctl.read()).decode().strip()
    await client.mount.write(ctl.fid, 0, " ".join(["exec", *map(quote, args)]).encode())
    return ctl, f"{at}/{number}"


async def test_a_command_that_was_granted_runs_over_there_and_no_other(place: Path) -> None:
    commands = {"upper": [*PYTHON, UPPER, "{args}"], "other": ["/bin/true"], "host": "any"}
    set_for(place / "pi", commands=commands)
    async with pair(place, "cmd:upper") as two, two.desk.client() as desk, two.pi.client() as pi:
        assert await desk.list("/n/pi") == ["cmd"]
        assert await desk.list("/n/pi/cmd") == ["upper"]
        ctl, at = await began(desk, "/n/pi/cmd/upper", "a b", "$HOME", ";")
        data = await desk.open(f"{at}/data", ORDWR)
        reading = await desk.open(f"{at}/data")
        await data.write(b"so it is\n")
        data.close()
        assert await reading.read_all() == b"a b $HOME ;\nSO IT IS\n"
        assert split_words((await desk.read(f"{at}/wait")).decode())[4:] == ["", "0"]
        reading.close()
        ctl.close()
        await refused(desk.walk("/n/pi/cmd/other"), E.NOENT)
        await desk.change_ns("bind /n/pi/cmd /tmp")
        ctl, at = await began(desk, "/tmp/upper", "bound")
        (await desk.open(f"{at}/data", OWRITE)).close()
        assert await desk.read(f"{at}/data") == b"bound\n"
        await desk.read(f"{at}/wait")
        ctl.close()

        name = (await pi.read("/dev/user")).decode().strip()
        said = [line for line in await audited(pi) if "command" in line]
        assert [line.startswith("desk, process ") for line in said] == [True] * 4
        assert "started command upper on the host, process " in said[0]
        assert "'a b' '$HOME' ';'" in said[0]
        assert said[1].endswith(" ended")
        # For pi's own user it is there for the asking, and nowhere by itself.
        await refused(pi.walk("/cmd"), E.NOENT)
        await pi.change_ns("bind '#C' /tmp")
        assert await pi.list("/tmp") == ["host", "other", "upper"]
        ctl, at = await began(pi, "/tmp/host", "/bin/echo", name)
        assert await pi.read(f"{at}/data") == f"{name}\n".encode()
        ctl.close()


async def test_what_runs_ends_when_the_right_to_it_does_or_the_connection_or_the_node(place: Path) -> None:
    held = [Fifo(place / f"held{number}") for number in range(3)]
    code = (
        "import os, sys, time; os.open(sys.argv[1], os.O_WRONLY); print('runs', flush=True); "
        "os.fork(); time.sleep(1000)"
    )
    set_for(place / "pi", commands={"wait": [*PYTHON, code, "{args}"]})
    async with pair(place, "cmd:wait") as two, two.pi.client() as pi:
        async with two.desk.client() as desk:
            _, at = await began(desk, "/n/pi/cmd/wait", held[0].path)
            data = await desk.open(f"{at}/data")
            assert await data.read() == b"runs\n"
            await pi.rpc("revoke", peer="desk", grant="cmd:wait")
            await held[0].ended()
            await refused(data.read(), E.REVOKED)
            await refused(desk.walk("/n/pi/cmd"), E.NOENT)
            await pi.rpc("grant", peer="desk", grants=["cmd:wait"])
            _, at = await began(desk, "/n/pi/cmd/wait", held[1].path)
            assert await (await desk.open(f"{at}/data")).read() == b"runs\n"
        await held[1].ended()  # with desk's session, whose files were open
        async with two.desk.client() as desk:
            _, at = await began(desk, "/n/pi/cmd/wait", held[2].path)
            assert await (await desk.open(f"{at}/data")).read() == b"runs\n"
            assert await two.pi.stop() == 0
            await held[2].ended()


async def test_a_command_is_granted_by_its_own_name_alone(place: Path) -> None:
    set_for(place / "pi", commands={"any": "any"})
    async with pair(place) as two, two.pi.client() as pi, two.desk.client() as desk:
        await two.pi.command("bind", "#C", "/tmp")
        await join(two.pi, two.desk, "read:/")
        await refused(pi.rpc("grant", peer="desk", grants=["write:/tmp"]), E.ACCES, "not lent on")
        await refused(pi.rpc("grant", peer="desk", grants=["cmd:none"]), E.NOCOMMAND)
        await refused(pi.rpc("grant", peer="desk", grants=["cmd:any/0"]), E.USAGE, "cmd:NAME")
        await refused(pi.rpc("mint", path="/tmp", peer="desk"), E.ACCES, "not lent on")
        assert await desk.list("/n/pi/tmp") == []


async def test_a_sensor_is_granted_watched_and_bound_as_any_file(place: Path) -> None:
    value = place / "value"
    value.write_text("21500\n")
    sensors = {
        "attic": {"file": str(value), "every": 1},
        "count": {"command": [*PYTHON, "print(6 * 7)"]},
        "broken": {"command": ["/no/such/program"]},
    }
    set_for(place / "pi", sensors=sensors)
    granted = ("read:/dev/sensor/attic", "read:/dev/sensor/count")
    async with pair(place, *granted) as two, two.desk.client() as desk, two.pi.client() as pi:
        assert await pi.list("/dev/sensor") == ["attic", "broken", "count"]
        await refused(pi.read("/dev/sensor/broken"), E.NOENT)
        assert await desk.list("/n/pi/dev/sensor") == ["attic", "count"]
        assert await desk.read("/n/pi/dev/sensor/count") == b"42\n"
        await refused(desk.open("/n/pi/dev/sensor/attic", OWRITE), E.ACCES)
        watching = await two.desk.begin("sh", "-c", "watch -n 1 /n/pi/dev/sensor/attic")
        told = asyncio.ensure_future(watching.communicate())
        while not told.done():  # it is told of the first change after it has begun
            value.write_text(f"{int(value.read_text()) + 1}\n")
            await desk.read("/n/pi/dev/sensor/attic")
        assert b"attic" in told.result()[0]
        await desk.change_ns("bind -b /n/pi/dev /dev")
        assert await desk.read("/dev/sensor/attic") == value.read_bytes()
        assert await desk.read("/dev/sysname") == b"desk"  # what pi did not grant is desk's own
        await pi.rpc("revoke", peer="desk", grant="read:/dev/sensor/attic")
        await refused(desk.read("/dev/sensor/attic"), E.NOENT)


async def test_the_clipboard_and_notices_are_granted_by_their_own_names_alone(place: Path) -> None:
    async with pair(place) as two, two.desk.client() as desk, two.pi.client() as pi:
        await join(two.pi, two.desk, "read:/")
        await refused(desk.walk("/n/pi/dev/snarf"), E.NOENT)
        await refused(desk.walk("/n/pi/dev/notify"), E.NOENT)
        await refused(pi.rpc("mint", path="/dev/snarf", peer="desk"), E.ACCES)
        await pi.rpc("revoke", peer="desk", grant="read:/")
        await pi.rpc("grant", peer="desk", grants=["write:/dev/snarf", "write:/dev/notify"])
        ended = await two.desk.command("sh", "-c", "echo from desk > /n/pi/dev/snarf; echo done > /n/pi/dev/notify")
        assert (ended.status, ended.errors) == (0, b"")
        assert await pi.read("/dev/snarf") == b"from desk\n"
        assert b'"cognu.notify", "message": "desk: done"' in await pi.read("/dev/kmesg")
        assert await desk.read("/dev/snarf") == b""
        await desk.change_ns("bind -b /n/pi/dev /dev")
        assert await desk.read("/dev/snarf") == b"from desk\n"


async def test_a_peer_takes_calls_at_this_machine_where_it_may_and_not_when_that_is_over(place: Path) -> None:
    async with pair(place, "net") as two, two.desk.client() as desk, two.pi.client() as pi:
        ctl = await desk.open("/n/pi/net/tcp/clone", ORDWR)
        await refused(ctl.write(b"announce 127.0.0.1!0"), E.ACCES, "net:listen")
        ctl.close()
        await refused(pi.rpc("grant", peer="desk", grants=["net:listen"]), E.CONFLICT)
        await pi.rpc("revoke", peer="desk", grant="net")
        await pi.rpc("grant", peer="desk", grants=["net:listen"])
        await desk.change_ns("bind -b /n/pi/net /net")
        ctl, at = await announced(desk, "tcp")
        ip, _, port = (await desk.read(f"/net/{at}/local")).decode().strip().rpartition("!")
        listening = asyncio.ensure_future(desk.open(f"/net/{at}/listen", ORDWR))
        reader, writer = await asyncio.open_connection(ip, int(port))
        call = await listening
        data = await desk.open(f"/net/tcp/{(await call.read()).decode().strip()}/data", ORDWR)
        writer.write(b"over there\n")
        await data.write(await data.read())  # desk echoes, at pi's address
        assert await reader.readline() == b"over there\n"

        udp, there = await announced(desk, "udp")
        ip, _, port_of_udp = (await desk.read(f"/net/{there}/local")).decode().strip().rpartition("!")
        near = await pi.dial("udp", f"{ip}!{port_of_udp}")
        await near.write(b"one")
        asked = await desk.open(f"/net/{there}/listen", ORDWR)
        answering = await desk.open(f"/net/udp/{(await asked.read()).decode().strip()}/data", ORDWR)
        await answering.write((await answering.read()).upper())
        assert await near.read() == b"ONE"

        # Taken back, nothing of it goes on: not the call, nor the port.
        await pi.rpc("revoke", peer="desk", grant="net:listen")
        assert await reader.read() == b""
        writer.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(ip, int(port))
        for file in (ctl, call, data, udp, near, asked, answering):
            file.close()


async def announced(client: Client, protocol: str) -> tuple[File, str]:
    ctl = await client.open(f"/net/{protocol}/clone", ORDWR)
    number = (await ctl.read()).decode().strip()
    await client.mount.write(ctl.fid, 0, b"announce 127.0.0.1!0")
    return ctl, f"{protocol}/{number}"

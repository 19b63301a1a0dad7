"""`peers`: the machines that were joined, and those that are near; live with `-w`."""

from __future__ import annotations

import asyncio
import ipaddress
import json
from datetime import UTC, datetime
from typing import Any

from cognu.errors import E, FileError, visible
from cognu.ninep.watches import CONTENT, ENDS
from cognu.shell.commands.top import CLEAR, size
from cognu.shell.state import Call, end_tasks
from cognu.shell.system import Watch, is_terminal

USAGE = "peers [-w] [--near] [--json] [rename OLD NEW | label MACHINE [NAME[=VALUE] | -NAME]... | drop PEER]"
CHANGES = "/mnt/node/peers"
PAUSE_SECONDS = 0.25
"""Between two pictures: many changes at once are one."""
LOOK_SECONDS = 5.0
"""At a terminal, round trips and rates are looked at anew so often; of them nobody tells."""
HEADS = ("NAME", "STATE", "SINCE", "RTT", "RATE", "MAY HERE", "WE MAY THERE", "LABELS", "PATH")
NEAR_HEADS = ("NAME", "STATE", "SINCE", "ID", "ADDRESS")
Row = dict[str, Any]


async def peers(call: Call) -> int:
    match call.operands:
        case []:
            return await (_live(call) if "w" in call.options else _show(call))
        case ["rename", old, new]:
            return await _rename(call, old, new)
        case ["label", machine, *words]:
            return await _label(call, machine, words)
        case ["drop", peer]:
            return await drop(call, peer)
    raise call.usage(USAGE)


async def _rename(call: Call, old: str, new: str) -> int:
    done = await call.system.rpc("rename", peer=old, name=new)
    since = "from now on" if done["changed"] else "already"
    await _say(call, done, f"{old} is {done['peer']} {since}, at /n/{done['peer']}")
    return 0


async def _label(call: Call, machine: str, words: list[str]) -> int:
    """Change labels and say what there are then; without words, list them."""
    done = await call.system.rpc("label", peer=machine, words=words)
    labels = done["labels"]
    if words:
        who = f"{done['peer']}, this machine," if done["own"] else f"{done['peer']}, for this machine alone,"
        labels = [f"{who} is labelled {', '.join(labels)}" if labels else f"{done['peer']} has no labels"]
    await _say(call, done, *labels)
    return 0


async def drop(call: Call, peer: str) -> int:
    done = await call.system.rpc("drop", peer=peer)
    away = "" if done["told"] else ", which was not reached; it hears of it when it calls"
    await _say(call, done, f"parted with {peer}{away}")
    return 0


async def _say(call: Call, value: object, *lines: str) -> None:
    if "json" in call.options:
        await call.print(json.dumps(value, ensure_ascii=False))
    else:
        await call.print(*lines)


async def _show(call: Call, first: str = "") -> int:
    if "near" in call.options:
        found: Row = await call.system.rpc("near")
        rows, lines = found["near"], near_lines(found)
    else:
        rows = await call.system.rpc("peers")
        lines = peer_lines(rows)
    lines[0] = first + lines[0]
    await _say(call, rows, *lines)
    return 0


# -- live --


async def _live(call: Call) -> int:
    """Print again whenever something changed, until it is interrupted or the node ends."""
    screen = is_terminal(call.streams.stdout) and "json" not in call.options
    watch = await call.system.watch(CHANGES, CONTENT)
    changed, over = asyncio.Event(), list[FileError]()
    listening = asyncio.create_task(_listen(watch, changed, over))
    ticking = asyncio.create_task(_tick(call, changed)) if screen else None
    first = CLEAR if screen else ""
    try:
        while not over:
            await _show(call, first)
            first = first or "\n"
            await call.system.clock.sleep(PAUSE_SECONDS)
            await changed.wait()
            changed.clear()
        raise over[0]
    finally:
        await end_tasks([listening] if ticking is None else [listening, ticking])
        await watch.close()


async def _listen(watch: Watch, changed: asyncio.Event, over: list[FileError]) -> None:
    while not over:
        try:
            notice = await watch.next()
            if notice.kind & ENDS:
                over.append(FileError(E.SESSIONLOST, CHANGES))
        except FileError as error:
            over.append(error)
        changed.set()


async def _tick(call: Call, changed: asyncio.Event) -> None:
    while True:
        await call.system.clock.sleep(LOOK_SECONDS)
        changed.set()


# -- tables --


def peer_lines(peers: list[Row]) -> list[str]:
    """What is not known is `-`."""
    rows: list[tuple[str, ...]] = [HEADS]
    for peer in peers:
        here, there = (visible(",".join(peer[key])) or "-" for key in ("granted", "received"))
        if not peer["current"]:
            there += f" (as of {time_text(peer['as_of'])})" if peer["as_of"] else ""
        rtt = "-" if peer["rtt"] is None else f"{peer['rtt'] / 1e6:.1f}ms"
        rate = "-" if peer["rate"] is None else f"{size(peer['rate'])}B/s"
        since = peer["since"] if peer["connected"] else peer["seen"]
        seen = "-" if since is None else time_text(since)
        labels = ",".join(peer["labels"])
        rows.append((peer["name"], _state(peer), seen, rtt, rate, here, there, labels or "-", path(peer)))
    if not any(peer["labels"] for peer in peers):
        rows = [(*row[:7], row[8]) for row in rows]
    dropped = [str(FileError(E.DROPPED, peer["name"], E.DROPPED.hint)) for peer in peers if peer["dropped"]]
    return [*columns(rows), *dropped]


def _state(peer: Row) -> str:
    """SINCE is since when that is so."""
    if peer["connected"]:
        return "connected"
    if peer["dropped"]:
        return "dropped us"
    return "away, near" if peer["near"] else "away"


def path(peer: Row) -> str:
    """The way that the link takes, or where the peer was reached last: its address, family, and our interface."""
    address = peer["address"]
    if not address:
        known = peer["reserves"]
        return "it must call" if peer["waits"] else known[0]["address"] if known else "-"
    words = [address]
    if peer["connected"]:
        words += [family(address), peer["interface"] or "", "" if peer["dialled"] else "it called"]
    others = len(peer["reserves"])
    return ", ".join(word for word in words if word) + (f" (+{others})" if others else "")


def family(address: str) -> str:
    """`IPv4`, `IPv6` or `loopback`, of HOST:PORT; empty for a name."""
    try:
        host = ipaddress.ip_address(address.rpartition(":")[0].strip("[]").partition("%")[0])
    except ValueError:
        return ""
    return "loopback" if host.is_loopback else f"IPv{host.version}"


def near_lines(found: Row) -> list[str]:
    """Machines that are near and were not joined."""
    if found["discovery"] == "off":
        return ["discovery is off, so nobody is looked for; settings(5) has it"]
    rows: list[tuple[str, ...]] = [NEAR_HEADS]
    for near in found["near"]:
        state = f"pairing, number {near['number']}" if near["number"] else "not joined"
        addresses = " ".join(near["joining"] or near["addresses"]) or "-"
        rows.append((near["name"] or "-", state, time_text(near["since"]), near["instance"][:8], addresses))
    return columns(rows)


def columns(rows: list[tuple[str, ...]]) -> list[str]:
    """Two blanks between."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def time_text(nanoseconds: int) -> str:
    """A moment, in the local time of whoever reads it."""
    moment = datetime.fromtimestamp(nanoseconds / 1e9, UTC).astimezone()
    return moment.strftime("%Y-%m-%d %H:%M:%S")

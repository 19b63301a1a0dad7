"""`peers`: the machines that were joined, and those that are near; live with `-w`."""

from __future__ import annotations

import asyncio
import ipaddress
import json
from datetime import UTC, datetime
from typing import Any, NamedTuple

from cognu.errors import E, FileError, visible
from cognu.ninep.watches import CONTENT, ENDS
from cognu.shell.commands.top import size
from cognu.shell.commands.windows import CLEAR, columns, fitted, folded, resized, width, window_of
from cognu.shell.state import Call, end_tasks
from cognu.shell.system import Watch, is_terminal

USAGE = "peers [-w] [--near] [--json] [rename OLD NEW | label MACHINE [NAME[=VALUE] | -NAME]... | drop PEER]"
CHANGES = "/mnt/node/peers"
PAUSE_SECONDS = 0.25
"""Between two pictures: many changes at once are one."""
LOOK_SECONDS = 5.0
"""At a terminal, round trips and rates are looked at anew so often; of them nobody tells."""
HEADS = ("NAME", "STATE", "SINCE", "RTT", "RATE", "PATH", "MAY HERE", "WE MAY THERE", "LABELS")
SHORT = 5
"""So many columns at the left are never long."""
NOBODY = "no machine was joined yet; pair(1) and invite(1) do that"
NEAR_HEADS = ("NAME", "STATE", "SINCE", "ID", "ADDRESS")
NONE_NEAR = "nobody is near who was not joined"
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
    words = words[words[:1] == ["--"] :]
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


class Picture(NamedTuple):
    """What is shown at one moment: as JSON and as lines. `key` is the same if nothing changed but what is measured."""

    rows: list[Row]
    lines: list[str]
    key: str


async def _look(call: Call) -> Picture:
    now = call.system.clock.now()
    if "near" in call.options:
        found: Row = await call.system.rpc("near")
        lines = near_lines(found, now)
        return Picture(found["near"], lines, json.dumps(found["near"]) if "json" in call.options else "\n".join(lines))
    rows: list[Row] = await call.system.rpc("peers")
    lasting = [_lasting(row) for row in rows]
    key = json.dumps(lasting) if "json" in call.options else "\n".join(peer_lines(lasting, now))
    return Picture(rows, peer_lines(rows, now), key)


def _lasting(row: Row) -> Row:
    """The row without what is measured again and again."""
    measured = {"rtt": None, "rate": None, "sent": 0, "received_bytes": 0}
    reserves = [{**reserve, "rtt": None} for reserve in row["reserves"]]
    return {**row, **measured, "reserves": reserves, "as_of": 0 if row["current"] else row["as_of"]}


async def _show(call: Call) -> int:
    picture = await _look(call)
    lines = picture.lines
    if is_terminal(call.streams.stdout) and "json" not in call.options:
        window = await window_of(call)
        if window is not None and "near" not in call.options and max(map(width, lines)) > window.columns:
            lines = peer_blocks(picture.rows, call.system.clock.now(), window.columns)
    await _say(call, picture.rows, *lines)
    return 0


# -- live --


async def _live(call: Call) -> int:
    """Print again whenever something changed, until it is interrupted or the node ends."""
    screen = is_terminal(call.streams.stdout) and "json" not in call.options
    watch = await call.system.watch(CHANGES, CONTENT)
    changed, over = asyncio.Event(), list[FileError]()
    tasks = [asyncio.create_task(_listen(watch, changed, over))]
    if screen:
        tasks += [asyncio.create_task(_tick(call, changed)), asyncio.create_task(resized(call, changed))]
    before: str | None = None
    try:
        while not over:
            picture = await _look(call)
            if screen:
                lines = fitted(picture.lines, await window_of(call))
                await call.print(CLEAR + lines[0], *lines[1:])
            elif picture.key != before:
                first = "\n" if before is not None else ""
                await _say(call, picture.rows, first + picture.lines[0], *picture.lines[1:])
            before = picture.key
            await call.system.clock.sleep(PAUSE_SECONDS)
            await changed.wait()
            changed.clear()
        raise over[0]
    finally:
        await end_tasks(tasks)
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


def peer_lines(peers: list[Row], now: int) -> list[str]:
    """A line for each peer. What is not known is `-`. `now` is the wall clock, in ns."""
    if not peers:
        return [NOBODY]
    rows: list[tuple[str, ...]] = [HEADS, *(_cells(peer, now) for peer in peers)]
    if not any(peer["labels"] for peer in peers):
        rows = [row[:-1] for row in rows]
    return [*columns(rows), *_dropped(peers)]


def peer_blocks(peers: list[Row], now: int, across: int) -> list[str]:
    """The same for windows `across` columns wide: what is long has lines of its own, below, folded after commas."""
    rows = [_cells(peer, now) for peer in peers]
    head, *first = columns([HEADS[:SHORT], *(row[:SHORT] for row in rows)])
    lines = [head]
    for line, row in zip(first, rows, strict=True):
        lines.append(line)
        for name, cell in zip(HEADS[SHORT:], row[SHORT:], strict=True):
            if cell != "-":
                lines += folded(f"    {name.lower()}: {cell}", across)
    return [*lines, *_dropped(peers)]


def _cells(peer: Row, now: int) -> tuple[str, ...]:
    here, there = (visible(",".join(peer[key])) or "-" for key in ("granted", "received"))
    if not peer["current"] and peer["as_of"]:
        there += f" (as of {moment_text(peer['as_of'], now)})"
    linked = peer["connected"]  # else they are of a link that is gone
    rtt = f"{peer['rtt'] / 1e6:.1f}ms" if linked and peer["rtt"] is not None else "-"
    rate = f"{size(peer['rate'])}B/s" if linked and peer["rate"] is not None else "-"
    since = peer["since"] if peer["connected"] else peer["seen"]
    seen = "-" if since is None else moment_text(since, now)
    return peer["name"], _state(peer), seen, rtt, rate, path(peer), here, there, ",".join(peer["labels"]) or "-"


def _dropped(peers: list[Row]) -> list[str]:
    return [str(FileError(E.DROPPED, peer["name"], E.DROPPED.hint)) for peer in peers if peer["dropped"]]


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


def near_lines(found: Row, now: int) -> list[str]:
    """Machines that are near and were not joined."""
    if found["discovery"] == "off":
        return ["discovery is off, so nobody is looked for; settings(5) has it"]
    if not found["near"]:
        only = ", but others are looked for only while one pairs; settings(5) has it"
        return [NONE_NEAR + (only if found["discovery"] == "pairing" else "")]
    rows: list[tuple[str, ...]] = [NEAR_HEADS]
    for near in found["near"]:
        state = f"pairing, number {near['number']}" if near["number"] else "not joined"
        addresses = " ".join(near["joining"] or near["addresses"]) or "-"
        rows.append((near["name"] or "-", state, moment_text(near["since"], now), near["instance"][:8], addresses))
    return columns(rows)


def time_text(nanoseconds: int) -> str:
    """A moment, in the local time of whoever reads it."""
    moment = datetime.fromtimestamp(nanoseconds / 1e9, UTC).astimezone()
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def moment_text(nanoseconds: int, now: int) -> str:
    """The same, no longer than it must be: of today the time, of this year the day too, else the day."""
    moment, today = (datetime.fromtimestamp(at / 1e9, UTC).astimezone() for at in (nanoseconds, now))
    if moment.date() == today.date():
        return moment.strftime("%H:%M:%S")
    return moment.strftime("%m-%d %H:%M" if moment.year == today.year else "%Y-%m-%d")

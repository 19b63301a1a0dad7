"""`caps`: who holds what, why somebody may use a path or not, and whether all that agrees with a policy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from cognu.errors import E, FileError, visible
from cognu.shell.commands.grants import not_in_force
from cognu.shell.commands.reading import chunks, opened
from cognu.shell.options import parse_count
from cognu.shell.policy import claims_of, differences, holder_name, parse_policy, policy_of
from cognu.shell.state import FAILED, Call
from cognu.shell.system import absolute

Row = dict[str, Any]


async def caps(call: Call) -> int:
    match call.operands:
        case [] | ["show"]:
            return await _show(call, None)
        case ["show", pid]:
            return await _show(call, parse_count(pid))
        case ["why", pid, path]:
            return await _why(call, parse_count(pid), path, "r")
        case ["why", pid, path, rights]:
            return await _why(call, parse_count(pid), path, rights)
        case ["check"]:
            policy = policy_of(claims_of(await _rows(call)))
            if "json" in call.options:
                await call.print(json.dumps({"policy": policy.splitlines()}))
            else:
                await call.write(policy.encode("utf-8", "surrogateescape"))
            return 0
        case ["check", policy]:
            return await _check(call, policy)
    raise call.usage("caps [show [PID] | why PID PATH [RIGHTS] | check [POLICY]]")


async def _rows(call: Call) -> list[Row]:
    return list((await call.system.rpc("caps"))["capabilities"])


async def _show(call: Call, pid: int | None) -> int:
    answer = await call.system.rpc("caps")
    rows: list[Row] = answer["capabilities"]
    idle: dict[str, dict[str, str]] = answer["not_in_force"] if pid is None else {}
    if pid is not None:
        rows = _with_ancestors(rows, pid)
        if not rows:
            raise FileError(E.SRCH, str(pid))  # who is there holds a namespace at least
    if "json" in call.options:
        await call.print(json.dumps({**answer, "capabilities": rows, "not_in_force": idle}))
    else:
        await call.print(*tree(rows))
        # These hold nothing: who wonders why a machine can't do what it was granted finds it here.
        await call.print(*(
            visible(f"grant {text} of {peer}: {not_in_force(why)}") for peer, texts in idle.items()
            for text, why in texts.items()
        ))  # fmt: skip
    return 0


def _with_ancestors(rows: list[Row], pid: int) -> list[Row]:
    """What a process holds, and what that was derived from."""
    by_slot = {row["slot"]: row for row in rows}
    wanted: set[int] = set()
    for row in rows:
        at = row["slot"] if row["holder"]["pid"] == pid else 0
        while at and at not in wanted:
            wanted.add(at)
            at = by_slot[at]["parent"]
    return [row for row in rows if row["slot"] in wanted]


def tree(rows: list[Row]) -> Iterator[str]:
    """The forest of capabilities, a tree for each server, children below what they were minted from."""
    children: dict[int, list[Row]] = {}
    for row in rows:
        children.setdefault(row["parent"], []).append(row)
    for root in sorted(children.get(0, []), key=lambda row: (row["server"], row["slot"])):
        yield f"{root['server']}"
        waiting = [(root, 1)]  # not by recursion: a tree may be deep
        while waiting:
            row, depth = waiting.pop()
            yield f"{'  ' * depth}{visible(describe(row))}"
            waiting += [(child, depth + 1) for child in reversed(children.get(row["slot"], []))]


def describe(row: Row) -> str:
    """Slot, rights, holder, badge, machine, and where it is used."""
    holder = row["holder"]
    words = [str(row["slot"]), row["rights"] or "-" if row["live"] else "gone", holder["kind"]]
    words += [str(holder["pid"])] if holder["pid"] else []
    words += [holder_name(holder)]
    words += [f"badge {row['badge']}"] if row["badge"] else []
    words += [f"({row['node']})"] if row["node"] else []
    # What is below a mount point nobody sees.
    seen = [use for use in row["uses"] if not use["place"].startswith("under ")]
    uses = [use["place"] if use["place"] == use["origin"] else f"{use['place']} = {use['origin']}" for use in seen]
    return " ".join(words) + (": " + ", ".join(uses) if uses else "")


async def _why(call: Call, pid: int, path: str, rights: str) -> int:
    # A path of that process's: `#x` is a device, what is relative begins at its own directory.
    answer = await call.system.rpc("why", pid=pid, path=path, rights=rights)
    if "json" in call.options:
        await call.print(json.dumps(answer))
    else:
        await call.print(*answer["steps"])
        if not answer["granted"]:
            await call.print("refused" + (f"; {answer['remedy']}" if answer["remedy"] else ""))
    return 0 if answer["granted"] else FAILED


async def _check(call: Call, policy: str) -> int:
    path = absolute(call.system.cwd, policy)
    data = b""
    async with opened(call.system, path, "r") as file:
        async for piece in chunks(file):
            data += piece
    found = differences(parse_policy(data, policy), claims_of(await _rows(call)))
    if "json" in call.options:
        await call.print(json.dumps([difference._asdict() for difference in found]))
    else:
        await call.print(
            *(f"more: {each.text}" if each.more else f"less: line {each.line}: {each.text}" for each in found)
        )
    return FAILED if found else 0

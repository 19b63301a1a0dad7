"""`top`: what the processes that one sees use, live. It reads `/proc/*/status` alone. And `clear`."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict, dataclass

from cognu.errors import E, FileError
from cognu.files.nstext import split_words
from cognu.files.stopping import ask_to_stop
from cognu.shell.commands.reading import opened
from cognu.shell.commands.windows import CLEAR, fitted, resized, window_of
from cognu.shell.options import parse_count, parse_seconds
from cognu.shell.state import INTERRUPTED, Call, decode, end_tasks
from cognu.shell.system import System, is_terminal

USUAL_DELAY = 2.0
CONTROL = "/dev/consctl"
HEADS = ("PID", "USER", "STATE", "CPU%", "MEMORY", "LIMIT", "FILES", "PROCS", "NODE", "PROGRAM")
AT_ONCE = 32
_UNITS = "KMGTPE"


@dataclass(frozen=True, slots=True)
class Sample:
    """One process at one moment. `cpu` and `started` in ns; `memory`, `limit` in bytes; `files` with all it started."""

    pid: int
    user: str
    state: str
    cpu: int
    started: int
    memory: int
    limit: int | None
    files: int
    processes: int
    node: str
    program: str


async def clear(call: Call) -> int:
    if is_terminal(call.streams.stdout):
        await call.streams.stdout.write(CLEAR.encode())
    return 0


async def top(call: Call) -> int:
    """Prints a table every `-d` seconds, `-n` times or, at a terminal, until `q`; elsewhere once if not told."""
    screen = is_terminal(call.streams.stdout) and "json" not in call.options
    if not screen or not is_terminal(call.streams.stdin):
        return await _print(call, screen)
    async with opened(call.system, CONTROL, "w") as control:
        # First, so that whoever sees the table can end it by a key.
        await control.write(b"rawon")
        printing = asyncio.create_task(_print(call, screen))
        listening = asyncio.create_task(_typed(call))
        try:
            await asyncio.wait([printing, listening], return_when=asyncio.FIRST_COMPLETED)
            return printing.result() if printing.done() else listening.result()
        finally:
            # A read that went on somewhere on the way would take what is typed next.
            await end_tasks([listening], ask_to_stop)
            await end_tasks([printing])


async def _typed(call: Call) -> int:
    """Wait for the key that ends it; the status: 0 for `q`, 130 for Ctrl-C, which is a key like others meanwhile."""
    while data := await call.streams.stdin.read():
        if b"\x03" in data:
            return INTERRUPTED
        if b"q" in data or b"Q" in data:
            return 0
    await asyncio.Event().wait()  # the input is over, and no reason to leave
    raise AssertionError


async def _print(call: Call, screen: bool) -> int:
    changed = asyncio.Event()
    following = [asyncio.create_task(resized(call, changed))] if screen else []
    try:
        return await _tables(call, screen, changed)
    finally:
        await end_tasks(following)


async def _tables(call: Call, screen: bool, changed: asyncio.Event) -> int:
    """One after the other, for as long as `top` says; each as much as the window shows."""
    options = call.options
    times, delay = options.value("n"), options.value("d")
    left = parse_count(times) if times is not None else None if screen else 1
    seconds = USUAL_DELAY if delay is None else parse_seconds(delay)
    before: dict[int, Sample] = {}
    then = 0
    while left is None or left > 0:
        now = call.system.clock.monotonic()
        samples = {sample.pid: sample for sample in await look(call.system)}
        if "json" in options:
            lines = [json.dumps([asdict(sample) for sample in samples.values()])]
        else:
            lines = table(list(samples.values()), before, now - then, call.system.clock.now())
        if screen and left != 1:
            lines = fitted(lines, await window_of(call))
            lines[0] = CLEAR + lines[0]
        elif before and "json" not in options:
            lines.insert(0, "")
        await call.print(*lines)
        before, then = samples, now
        if left is not None:
            left -= 1
        if left != 0:
            await _pause(call, seconds, changed)
    return 0


async def _pause(call: Call, seconds: float, changed: asyncio.Event) -> None:
    """For as long, or until the window's size changed."""
    tasks = [asyncio.create_task(call.system.clock.sleep(seconds)), asyncio.create_task(_cleared(changed))]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await end_tasks(tasks)


async def _cleared(changed: asyncio.Event) -> None:
    await changed.wait()
    changed.clear()


async def look(system: System) -> list[Sample]:
    """The processes there are; those that end meanwhile are left out."""
    names = [entry.name for entry in await system.list("/proc") if entry.name.isdigit()]
    found: list[Sample] = []
    for start in range(0, len(names), AT_ONCE):
        batch = names[start : start + AT_ONCE]
        answers = await asyncio.gather(*(_sample(system, name) for name in batch), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
            if answer is not None:
                found.append(answer)
    return found


async def _sample(system: System, name: str) -> Sample | None:
    try:
        file = await system.open(f"/proc/{name}/status", "r")
        try:
            text = b""
            while data := await file.read():
                text += data
        finally:
            await file.close()
    except FileError as error:
        if error.error in (E.NOENT, E.SRCH):
            return None
        raise
    return parse_status(decode(text))


def parse_status(text: str) -> Sample:
    """A process's status file. Raises BADMESSAGE without what every process has."""
    values: dict[str, str] = {}
    for line in text.splitlines():
        words = split_words(line)
        if len(words) == 2:
            values[words[0]] = words[1]
    memory_limit = _used(values, "memory")[1]
    try:
        return Sample(
            pid=int(values["pid"]),
            user=values["user"],
            state=values["state"],
            cpu=(int(values.get("utime", 0)) + int(values.get("stime", 0))) * 10**6,
            started=int(values["started"]),
            memory=int(values.get("memory", 0)),
            limit=memory_limit,
            files=_used(values, "files")[0],
            processes=_used(values, "processes")[0],
            node=values.get("node", "-"),
            program=values["name"],
        )
    except (KeyError, ValueError):
        raise FileError(E.BADMESSAGE, "status") from None


def _used(values: dict[str, str], resource: str) -> tuple[int, int | None]:
    """Used and limit of `limit.RESOURCE USED/LIMIT`. Raises BADMESSAGE."""
    used, _, limit = values.get(f"limit.{resource}", "0/-").partition("/")
    try:
        return int(used), None if limit == "-" else int(limit)
    except ValueError:
        raise FileError(E.BADMESSAGE, "status") from None


def table(samples: list[Sample], before: dict[int, Sample], elapsed: int, now: int) -> list[str]:
    """The lines to print, busiest first. CPU% is of one processor since the last look, `elapsed` ns ago; for a process
    that was not there then, since its start (`now` is the wall clock, in ns)."""

    def busy(sample: Sample) -> float:
        old = before.get(sample.pid)
        used, span = (sample.cpu - old.cpu, elapsed) if old is not None else (sample.cpu, now - sample.started)
        return max(0.0, 100 * used / span) if span > 0 else 0.0

    ordered = sorted(samples, key=lambda sample: (-busy(sample), sample.pid))
    rows = [HEADS] + [
        (
            str(sample.pid), sample.user, sample.state, f"{busy(sample):.1f}", size(sample.memory),
            "-" if sample.limit is None else size(sample.limit), str(sample.files), str(sample.processes), sample.node,
            sample.program,
        )
        for sample in ordered
    ]  # fmt: skip
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADS))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def size(count: int) -> str:
    """Bytes as people read them: `64M`, rounded up."""
    unit = -1
    while count >= 1024 * 10 and unit + 1 < len(_UNITS):
        count = -(-count // 1024)
        unit += 1
    return f"{count}{_UNITS[unit]}" if unit >= 0 else str(count)

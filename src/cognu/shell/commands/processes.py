"""Commands that start, list and end programs, and those on the shell itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from posixpath import normpath

from cognu.errors import E, FileError
from cognu.files.notes import SIGNALS, signal_line
from cognu.files.nstext import split_commands
from cognu.files.wants import NETWORK, NETWORK_RIGHTS, is_within
from cognu.shell.commands.grants import check_rights
from cognu.shell.commands.reading import chunks, opened
from cognu.shell.lexer import is_name
from cognu.shell.options import parse_count, parse_seconds, parse_size
from cognu.shell.programs import run_program, serve_program
from cognu.shell.state import Call, ExitShell, decode, encode
from cognu.shell.system import Directory, Grant, RunOptions, absolute
from cognu.shell.wants import NET

OF_JOBS = ("interrupt", "note term", "kill")
"""What a job can be sent: it may be the shell's own work, which is asked to end, or ended."""
SHOWN = 6
"""Mount points at most that are named."""


async def run(call: Call) -> int:
    options = call.options
    memory, cpu = options.value("memory"), options.value("cpu")
    environment = call.environment | dict(_variable(text) for text in options.values("env"))
    wanted = RunOptions(
        on=options.value("on"),
        grants=await typed_grants(call),
        directories=tuple(parse_directory(call.system.cwd, text) for text in options.values("dir")),
        memory=None if memory is None else parse_size(memory),
        cpu=None if cpu is None else parse_seconds(cpu),
        grant_files=tuple(absolute(call.system.cwd, path) for path in options.values("grants")),
        isolate="isolate" in options,
        handles=tuple(options.values("handle")),
    )
    await _tell_of_mounts(call, wanted.grants)
    call, name = replace(call, environment=environment), options.value("serve")
    if name is not None:
        return await serve_program(call, call.operands, wanted, name)
    return await run_program(call, call.operands, wanted, here=True)


async def _tell_of_mounts(call: Call, grants: Sequence[Grant]) -> None:
    """A grant is of a tree of one server: what is mounted in it is none of it, and may be all that was meant."""
    if not grants:
        return
    try:
        async with opened(call.system, f"/proc/{call.system.pid}/ns", "r") as file:
            text = decode(b"".join([data async for data in chunks(file)]))
    except FileError:
        return  # it may not see its own process; nothing is granted by this
    places = [command.words[-1] for command in split_commands(text) if command.words[0] in ("bind", "mount")]
    for grant in grants:
        below = sorted({place for place in places if place != grant.path and is_within(place, grant.path)})
        if below:
            more = f" and {len(below) - SHOWN} more" if len(below) > SHOWN else ""
            said = f"without what is mounted in it, which takes a grant of its own: {', '.join(below[:SHOWN])}{more}"
            await call.streams.stderr.write(encode(f"{call.argv[0]}: --grant {grant.path}: {said}\n"))


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not is_name(name):
        raise FileError(E.USAGE, text, "NAME=VALUE is wanted")
    return name, value


def parse_grant(cwd: str, text: str) -> Grant:
    """`PATH[:RIGHTS]`, rights out of `rwx`, read if none are named; or `net`. Raises `FileError(USAGE)`."""
    if text == NET:
        return Grant(NETWORK, NETWORK_RIGHTS)
    path, colon, rights = text.rpartition(":")
    if not colon or not rights or set(rights) - set("rwx"):
        path, rights = text, "r"
    if not path:
        raise FileError(E.USAGE, text, "PATH, PATH:rw or net is wanted")
    return Grant(absolute(cwd, path), "".join(right for right in "rwx" if right in rights))


async def typed_grants(call: Call) -> tuple[Grant, ...]:
    """The values of `--grant`. Raises `FileError(USAGE)`, also for rights that are none, unless a file is named so."""
    for text in call.options.values("grant"):
        await check_rights(call, text)
    return tuple(parse_grant(call.system.cwd, text) for text in call.options.values("grant"))


def parse_directory(cwd: str, text: str) -> Directory:
    """`HOST[::GUEST]`; the guest sees it under the name as typed if no other is given. Raises `FileError(USAGE)`."""
    host, separator, guest = text.partition("::")
    if not host or (separator and not guest):
        raise FileError(E.USAGE, text, "HOST or HOST::GUEST is wanted")
    return Directory(absolute(cwd, host), normpath(guest or host))


async def ps(call: Call) -> int:
    found = sorted(await call.system.processes(), key=lambda process: process.pid)
    if "json" in call.options:
        await call.print(json.dumps([asdict(process) for process in found]))
        return 0
    heads = ["PID", "PARENT", "USER", "STATE", "MEMORY", "CPU"]
    rows = [heads + (["WAITS FOR"] if "waits" in call.options else []) + ["COMMAND"]]
    for process in found:
        rows.append(
            [
                str(process.pid),
                str(process.parent),
                process.user,
                process.state,
                f"{-(-process.memory // 1024)}K",
                f"{process.cpu / 1e9:.2f}s",
                *([process.waits or "-"] if "waits" in call.options else []),
                " ".join(process.argv),
            ]
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    await call.print(*(line.rstrip() for line in lines))
    return 0


async def kill(call: Call) -> int:
    operands = list(call.operands)
    line = "kill"
    if operands and operands[0].startswith("-"):
        name = operands.pop(0)[1:]
        if name == "s" and operands:
            name = operands.pop(0)
        found = signal_line(name)
        if found is None:
            raise call.usage(f"the signals are {' '.join(SIGNALS)}", f"-{name}")
        line = found
    if not operands:
        raise call.usage("which process?")

    for text in operands:
        if not text.startswith("%"):
            parse_count(text)  # a word that is none ends nothing, not even those before it
        elif line not in OF_JOBS:
            raise call.usage("a job takes INT, TERM and KILL, its programs more", text)

    async def one(text: str) -> None:
        if text.startswith("%"):
            # A job's programs are killed by the second of two requests.
            task = call.shell.job(text).task
            for _ in range(1 if line == "interrupt" else 2):
                task.cancel()
                await asyncio.sleep(0)
        else:
            await call.system.control(parse_count(text), line)

    return await call.each(operands, one)


async def wait(call: Call) -> int:
    """Without operands wait for all jobs; else the last one's status (POSIX wait), of a job or of any process."""
    if not call.operands:
        await call.shell.wait_jobs()
        return 0
    status = 0
    for text in call.operands:
        if not text.startswith("%"):
            status = await call.system.wait(parse_count(text))
            continue
        job = call.shell.job(text)
        await asyncio.wait([job.task])
        call.shell.jobs.remove(job)
        status = job.status() or 0
    return status


async def jobs(call: Call) -> int:
    for job in list(call.shell.jobs):
        status = job.status()
        state = "running" if status is None else "done" if status == 0 else f"status {status}"
        await call.print(f"[{job.number}] {state}  {job.text}")
        if status is not None:
            call.shell.jobs.remove(job)
    return 0


async def env(call: Call) -> int:
    operands = list(call.operands)
    environment = dict(call.environment)
    while operands and "=" in operands[0]:
        name, value = _variable(operands.pop(0))
        environment[name] = value
    if operands:
        return await call.execute(replace(call, argv=tuple(operands), environment=environment))
    await call.print(*(f"{name}={environment[name]}" for name in sorted(environment)))
    return 0


async def unset(call: Call) -> int:
    for name in call.operands:
        if not is_name(name):
            raise call.usage("the name of a variable is wanted", name)
        call.shell.variables.pop(name, None)
    return 0


async def leave(call: Call) -> int:
    """`exit`: without a number the status is that of the last command."""
    if not call.operands:
        raise ExitShell(call.shell.status)
    status = parse_count(call.operands[0])
    if status > 255:
        raise call.usage("a status is at most 255", call.operands[0])
    raise ExitShell(status)


async def true(_call: Call) -> int:
    return 0


async def false(_call: Call) -> int:
    return 1


async def sleep(call: Call) -> int:
    await call.system.clock.sleep(parse_seconds(call.operands[0]))
    return 0

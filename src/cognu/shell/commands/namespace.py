"""Commands on the namespace and the working directory."""

from __future__ import annotations

import json

from cognu.errors import E, FileError
from cognu.shell.commands.reading import chunks, opened
from cognu.shell.options import parse_count
from cognu.shell.state import Call, decode, encode
from cognu.shell.system import Flags, Order


def _flags(call: Call) -> Flags:
    typed = {letter for letter in "ab" if letter in call.options}
    if len(typed) > 1:
        raise call.usage("-a puts it after, -b before what is there; one of them")
    if "c" in call.options and "r" in call.options:
        raise call.usage("-c lets new files go there, -r nothing; one of them")
    order: Order = "after" if "a" in typed else "before" if "b" in typed else "replace"
    return Flags(order, "c" in call.options, "r" in call.options)


async def bind(call: Call) -> int:
    new, old = call.operands
    await call.system.bind(new, old, _flags(call))
    return 0


async def mount(call: Call) -> int:
    service, old, *aname = call.operands
    await call.system.mount(service, old, _flags(call), aname[0] if aname else "")
    return 0


async def unmount(call: Call) -> int:
    *new, old = call.operands
    await call.system.unmount(new[0] if new else None, old)
    return 0


async def ns(call: Call) -> int:
    """The node writes a namespace as the commands that rebuild it (namespace(4) of Plan 9, `/proc/N/ns`)."""
    pid = parse_count(call.operands[0]) if call.operands else call.system.pid
    text = bytearray()
    try:
        async with opened(call.system, f"/proc/{pid}/ns", "r") as file:
            async for data in chunks(file):
                text += data
    except FileError as error:
        raise FileError(E.SRCH if error.error is E.NOENT else error.error, str(pid), error.detail) from None
    if "json" in call.options:
        text[:] = encode(json.dumps(decode(bytes(text)).splitlines()) + "\n")
    await call.write(bytes(text))
    return 0


async def cd(call: Call) -> int:
    variables = call.shell.variables
    target = call.operands[0] if call.operands else call.environment.get("HOME", "/")
    if target == "-":
        if "OLDPWD" not in variables:
            raise FileError(E.NOENT, "-", "there was no directory before this one")
        target = variables["OLDPWD"]
    before = call.system.cwd
    await call.system.chdir(target)
    variables["OLDPWD"] = before
    if call.operands == ["-"]:
        await call.print(call.system.cwd)
    return 0


async def pwd(call: Call) -> int:
    await call.print(call.system.cwd)
    return 0

"""`services`: what is in the registry of services, by attribute."""

from __future__ import annotations

import json

from cognu.errors import E, FileError
from cognu.files.nstext import split_words
from cognu.shell.commands.reading import opened
from cognu.shell.state import Call

USAGE = "services [--json] [ATTRIBUTE VALUE]..."
INDEX = "/mnt/registry/index"
ANY = "*"


async def services(call: Call) -> int:
    """The lines of those that have all these attributes, `*` with any value; 1 if there are none of those asked for."""
    if len(call.operands) % 2:
        raise call.usage(USAGE, call.operands[-1])
    wanted = list(zip(call.operands[::2], call.operands[1::2], strict=True))
    data = await _index(call)
    found = [(line, about_of(line)) for line in data.decode("utf-8", "replace").splitlines()]
    chosen = [(line, about) for line, about in found if all(_has(about, *pair) for pair in wanted)]
    if "json" in call.options:
        await call.print(json.dumps([about for _, about in chosen], ensure_ascii=False))
    else:
        await call.print(*(line for line, _ in chosen))
    return 1 if wanted and not chosen else 0


def about_of(line: str) -> dict[str, str]:
    """A line of the index: the attributes, with `name`. Raises BADMESSAGE."""
    name, *rest = split_words(line) or [""]
    if not name or len(rest) % 2:
        raise FileError(E.BADMESSAGE, INDEX, line[:80])
    return {"name": name} | dict(zip(rest[::2], rest[1::2], strict=True))


async def _index(call: Call) -> bytes:
    """Raises NOTHERE where there is no registry, as in a shell of another machine."""
    data = b""
    try:
        async with opened(call.system, INDEX, "r") as file:
            while piece := await file.read():
                data += piece
    except FileError as error:
        if error.error is not E.NOENT:
            raise
        raise FileError(E.NOTHERE, "services") from None
    return data


def _has(about: dict[str, str], name: str, value: str) -> bool:
    return name in about and value in (ANY, about[name])

"""The manual, as it is in this namespace: /man/SECTION/NAME."""

from __future__ import annotations

from cognu.man import SECTIONS, choose, rendered
from cognu.shell.commands.reading import chunks, opened, unique
from cognu.shell.state import Call, decode
from cognu.shell.system import is_terminal

PLACE = "/man"


async def man(call: Call) -> int:
    """Without a name: what pages there are, a line for each section."""
    known: list[tuple[str, str]] = []
    for found in unique(await call.system.list(PLACE)):
        entries = unique(await call.system.list(f"{PLACE}/{found.name}"))
        known += [(found.name, entry.name) for entry in entries]
    asked = call.operands[0] if len(call.operands) == 1 else ""
    sections = sorted({section for section, _ in known})
    if not call.operands or asked in sections:
        for title in [asked] if asked else sections:
            names = " ".join(name for section, name in known if section == title)
            await call.print(f"{title} {SECTIONS.get(title, '')}: {names}")
        return 0
    chosen, name = choose(known, list(call.operands))
    text = bytearray()
    async with opened(call.system, f"{PLACE}/{chosen}/{name}", "r") as page:
        async for data in chunks(page):
            text += data
    if is_terminal(call.streams.stdout):
        await call.print(rendered(decode(bytes(text))))
    else:
        await call.write(bytes(text))
    return 0

"""Commands on the store and on other nodes."""

from __future__ import annotations

import json

from cognu.errors import FileError
from cognu.shell.commands.processes import typed_grants
from cognu.shell.commands.reading import chunks
from cognu.shell.lexer import is_name
from cognu.shell.programs import could_not_run, wait_at_terminal, wait_for
from cognu.shell.state import PROMPT_VARIABLE, Call, encode
from cognu.shell.system import File, is_terminal

SCRIPT = "-"
"""In place of a command: the input is a script."""


async def _copy_out(call: Call, file: File) -> int:
    try:
        async for data in chunks(file):
            await call.write(data)
    finally:
        await file.close()
    return 0


async def put(call: Call) -> int:
    from cognu.shell.commands import COMMANDS  # the table that this is in

    name = call.options.value("name")
    if name is not None and (not name or "/" in name or name in (".", "..")):
        raise call.usage("a name is a word without a slash", name or "--name")
    digest = await call.system.put(call.operands[0], name)
    if name in COMMANDS and is_terminal(call.streams.stderr):
        note = f"put: {name} is a command of the shell too, which comes first; the program is: run {name}\n"
        await call.streams.stderr.write(encode(note))
    await call.print(json.dumps({"hash": digest, "name": name}) if "json" in call.options else digest)
    return 0


async def get(call: Call) -> int:
    return await _copy_out(call, await call.system.get(call.operands[0]))


async def fetch(call: Call) -> int:
    return await _copy_out(call, await call.system.fetch(call.operands[0]))


async def import_tree(call: Call) -> int:
    node, path, *at = call.operands
    await call.system.import_tree(node, path, at[0] if at else f"/n/{node}")
    return 0


async def export_tree(call: Call) -> int:
    path, *rest = call.operands
    name, equals, _ = path.partition("=")
    if equals and is_name(name):
        raise call.usage("variables go to programs without it; export is for files, to another machine", path)
    write = rest[-1:] == [":rw"]
    if write:
        rest.pop()
    if len(rest) > 1 or any(word.startswith(":") for word in rest):
        raise call.usage("export PATH [NODE] [:rw]", rest[-1])
    if rest and rest[0].endswith((":rw", ":r")):
        raise call.usage("with a blank before it: export PATH NODE :rw", rest[0])
    said = await call.system.export_tree(path, rest[0] if rest else None, write)
    if "json" in call.options:
        await call.print(json.dumps(said))
    else:
        await call.print(*(f"{peer} may: {', '.join(granted)}" for peer, granted in said.items()))
    return 0


async def cpu(call: Call) -> int:
    node, *argv = call.operands
    streams = call.streams
    grants = await typed_grants(call)
    at_terminal = is_terminal(streams.stdin)
    environment = call.environment
    if not argv and at_terminal:
        environment = environment | {PROMPT_VARIABLE: f"{node}% "}  # so that its user sees where a line goes
    try:
        child = await call.system.cpu(
            node, argv or ([] if at_terminal else [SCRIPT]), environment,
            streams.stdin, streams.stdout, streams.stderr, grants,
        )  # fmt: skip
    except FileError as error:
        return await could_not_run(call, error)
    if not argv and at_terminal:
        return await wait_at_terminal(call, child)
    return await wait_for(call, child)

"""Commands on the store and on other nodes."""

from __future__ import annotations

import json
import re

from cognu.errors import E, FileError, visible
from cognu.files.launch import TOKEN_LABEL
from cognu.shell.commands.reading import chunks, lines, opened
from cognu.shell.lexer import is_name
from cognu.shell.options import parse_count
from cognu.shell.state import Call, encode
from cognu.shell.system import File, absolute, is_terminal

TOKEN = re.compile("[a-z2-7]{32}")


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
    source = call.options.value("token")
    if source is not None:
        if len(call.operands) != 2 or "r" in call.options:
            raise call.usage("import --token FILE NODE PATH")
        node, place = call.operands
        token = await _token_in(call, source)
        await call.system.rpc(
            "redeem", peer=node, token=token, at=absolute(call.system.cwd, place), pid=call.system.pid
        )
        return 0
    node, path, *at = call.operands
    await call.system.import_tree(node, path, at[0] if at else f"/n/{node}", "r" in call.options)
    return 0


async def _token_in(call: Call, source: str) -> str:
    """The token in a file, or, for `-`, in the input; it is asked for at a terminal. Never told in an error."""
    if source != "-":
        async with opened(call.system, source, "r") as file:
            return token_of(await _first_line(file))
    if is_terminal(call.streams.stdin):
        await call.streams.stderr.write(b"token: ")
    return token_of(await _first_line(call.streams.stdin))


async def _first_line(file: File) -> bytes:
    async for line in lines(file):
        return line
    return b""


def token_of(line: bytes) -> str:
    """Raises USAGE for what is no token."""
    text = line.decode("ascii", "replace").strip().removeprefix(TOKEN_LABEL)
    if not TOKEN.fullmatch(text):
        raise FileError(E.USAGE, "token", "a line that `export --token` printed is asked for")
    return text


async def _export_token(call: Call, path: str, node: str, write: bool) -> int:
    """The token alone is the output, so that it can go where it is needed; who may use it and where is said beside."""
    options = call.options
    made = await call.system.rpc(
        "mint", path=absolute(call.system.cwd, path), peer=node, write=write,
        uses=parse_count(options.value("uses") or "1"), seconds=parse_count(options.value("for") or "600"),
        hide=options.values("hide"), show=options.values("show"),
    )  # fmt: skip
    if "json" in options:
        await call.print(json.dumps(made))
        return 0
    times = "once" if made["uses"] == 1 else f"{made['uses']} times"
    note = f"for {made['peer']}, {times} within {made['seconds']} s; there: import --token FILE {made['at']} PLACE\n"
    await call.streams.stderr.write(encode(note))
    await call.print(made["token"])
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
    if "token" in call.options:
        if not rest:
            raise call.usage("a token is for one machine: export --token PATH NODE", path)
        return await _export_token(call, path, rest[0], write)
    if any(name in call.options for name in ("uses", "for")):
        raise call.usage("--uses and --for go with --token; a grant lasts until it is taken back", path)
    hide, show = call.options.values("hide"), call.options.values("show")
    said = await call.system.export_tree(path, rest[0] if rest else None, write, hide, show)
    if "json" in call.options:
        await call.print(json.dumps(said))
    else:
        if not rest:
            note = "export: no NODE was named, so every machine that has joined may now use it\n"
            await call.streams.stderr.write(encode(note))
        await call.print(*(visible(f"{peer} may: {', '.join(granted)}") for peer, granted in said.items()))
        widened = await call.system.rpc("widened")
        for peer in said:
            for inner, outer in widened.get(peer, ()):
                await call.streams.stderr.write(
                    encode(visible(f"{peer}: {inner} shows what of it {outer} hides") + "\n")
                )
    return 0

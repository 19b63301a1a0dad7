"""`grants`: what other machines may do here, and what programs may use without being asked about."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cognu.errors import E, FileError, visible
from cognu.files.granttext import OF_TREES, path_of, with_path
from cognu.ninep.types import QTDIR
from cognu.shell.commands.reading import chunks, opened
from cognu.shell.state import Call, encode
from cognu.shell.system import absolute
from cognu.shell.wants import NET

USAGE = "grants [--json] [list | set [--never] WHO GRANT... | revoke WHO [GRANT]]"
LETTERS = "rwx"

Row = dict[str, Any]


async def grants(call: Call) -> int:
    never = "never" in call.options
    match call.operands:
        case [] | ["list"] if not never:
            return await _list(call)
        case ["set", who, first, *more]:
            return await _set(call, who, [first, *more], never)
        case ["revoke", who] if not never:
            return await _revoke(call, who, "")
        case ["revoke", who, grant] if not never:
            return await _revoke(call, who, grant)
    raise call.usage(USAGE)


async def _list(call: Call) -> int:
    peers: dict[str, list[str]] = await call.system.rpc("grants")
    programs: list[Row] = await call.system.rpc("programs")
    tokens: list[Row] = await call.system.rpc("tokens")
    idle: dict[str, dict[str, str]] = await call.system.rpc("not_in_force")
    if "json" in call.options:
        said = {"peers": peers, "programs": programs, "tokens": tokens, "not_in_force": idle}
        await call.print(json.dumps(said))
        return 0
    rows = [["KIND", "WHO", "GRANT"]]
    wider = {peer: dict(pairs) for peer, pairs in (await call.system.rpc("widened")).items()}
    for peer, texts in peers.items():
        more = wider.get(peer, {})
        notes = {text: f"  (shows what of it {more[text]} hides)" for text in more}
        notes |= {text: f"  ({not_in_force(why)})" for text, why in idle.get(peer, {}).items()}
        rows += [["peer", peer, text + notes.get(text, "")] for text in texts]
    rows += [["token", token["peer"], _token_text(token)] for token in tokens]
    for program in programs:
        name = program["name"] or program["program"]
        rows += [["program", name, text] for text in program["allow"]]
        rows += [["program", name, f"never {text}"] for text in program["never"]]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    rows = [[*row[:2], visible(row[2])] for row in rows]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    await call.print(*(line.rstrip() for line in lines))
    return 0


def not_in_force(why: str) -> str:
    return f"not in force: {why}" if why else "not in force yet"


def _token_text(token: Row) -> str:
    """What a token gives, by what it is taken back, and how it stands."""
    by = f", asked for by {token['by']}" if token["by"] else ""
    used = f", in use {token['open']} times" if token["open"] else ""
    left = f", to be redeemed {token['uses']} times within {token['seconds']} s" if token["uses"] else ""
    return f"token:{token['number']} {token['path']} ({token['rights']}){by}{used}{left}"


async def _set(call: Call, who: str, texts: list[str], never: bool) -> int:
    if await _is_peer(call, who):
        if never:
            raise call.usage("--never is for programs; a machine has what it was granted and no more", who)
        said = await call.system.rpc("grant", peer=who, grants=[peers_grant(call.system.cwd, text) for text in texts])
        return await _say(call, said, visible(f"{who} may: {', '.join(said['granted'])}"))
    program, name = await _program(call, who)
    for text in texts:
        await check_rights(call, text)
    paths = [programs_grant(call.system.cwd, text) for text in texts]
    missing = [path for path in paths if path != NET and not await _is_there(call, path.rpartition(":")[0])]
    if not never:
        paths = [await _resolved(call, text) for text in paths]
    with _known(who):
        said = await call.system.rpc("grant", program=program, name=name, grants=paths, never=never)
    keeping = [f"process {each['pid']} has {each['grant']}, and keeps it until it ends" for each in said["keeping"]]
    for path in missing:
        error = FileError(E.NOENT, path.rpartition(":")[0], "kept all the same, for when it is there")
        await call.streams.stderr.write(encode(f"{call.argv[0]}: {error}\n"))
    return await _say(call, said, *_about(said), *keeping)


async def _revoke(call: Call, who: str, text: str) -> int:
    if await _is_peer(call, who):
        if not text:
            raise call.usage("which grant? To part with the machine: cognu drop", who)
        grant = peers_grant(call.system.cwd, text)
        said = await call.system.rpc("revoke", peer=who, grant=grant)
        others = (await call.system.rpc("grants")).get(who, [])
        still = ", ".join(other for other in others if _covers(other, grant))
        line = f"revoked: {grant}; {who} still has it by {still}" if still else f"{who} may no longer: {grant}"
        return await _say(call, said, visible(line))
    program, _ = await _program(call, who)
    if text:
        await check_rights(call, text)
    grant = programs_grant(call.system.cwd, text, LETTERS) if text else ""
    with _known(who):
        said = await call.system.rpc("ungrant", program=program, grant=grant)
    return await _say(call, said, *_about(said))


def _covers(other: str, grant: str) -> bool:
    """Whether a machine has by `other` what `grant` gave it: to write is to read too, and a tree is all below it."""
    head, _, path = grant.partition(":")
    others_head, _, above = other.partition(":")
    kind, others_kind = (each.partition("+")[0] for each in (head, others_head))
    enough = others_kind == kind or (others_kind, kind) == ("write", "read")
    if not enough or kind not in OF_TREES:
        return False
    return f"{path_of(path).rstrip('/')}/".startswith(f"{path_of(above).rstrip('/')}/")


async def _say(call: Call, said: Any, *lines: str) -> int:
    await call.print(*([json.dumps(said)] if "json" in call.options else lines))
    return 0


def _about(row: Row) -> list[str]:
    name = row["name"] or row["program"]
    lines = [f"{name} may use {', '.join(row['allow'])}"] if row["allow"] else []
    lines += [f"{name} is never asked about {', '.join(row['never'])}"] if row["never"] else []
    return list(map(visible, lines)) or [f"{name} has what is typed when it is run, and no more"]


async def _resolved(call: Call, text: str) -> str:
    """What is allowed is what is there now, wherever a link may lead later; what is not there is taken as it is."""
    path, colon, rights = text.rpartition(":")
    if not colon:
        return text
    try:
        return f"{await call.system.resolve(path)}:{rights}"
    except FileError:
        return text


# -- words ------------------------------------------------------------------------------------------------------------


async def _is_peer(call: Call, who: str) -> bool:
    """A machine comes before a file of that name, which is `./WHO`: no file is in the way of taking something back."""
    return who in await call.system.rpc("grants")


@contextmanager
def _known(who: str) -> Iterator[None]:
    """What is no program here was as likely meant as a machine."""
    try:
        yield
    except FileError as error:
        if error.error is not E.NOTFOUND:
            raise
        raise FileError(E.NOPEER, who, "nor is there a program of that name") from None


async def _is_file(call: Call, who: str) -> bool:
    try:
        return not (await call.system.stat(absolute(call.system.cwd, who))).qid.type & QTDIR
    except FileError:
        return False


async def _program(call: Call, who: str) -> tuple[str, str]:
    """The hash of a file's content, and its name; else what the node may know it by."""
    if not await _is_file(call, who):
        return who, ""
    from blake3 import blake3

    from cognu.store.names import name_of_digest

    content = blake3()
    async with opened(call.system, absolute(call.system.cwd, who), "r") as file:
        async for piece in chunks(file):
            content.update(piece)
    return name_of_digest(content.digest()), who.rpartition("/")[2]


async def check_rights(call: Call, text: str) -> None:
    """Raises `FileError(USAGE)` if a program's grant ends in rights that are none, unless a file is named so.

    A name that ends so, of what is not there, is given with its rights: `odd:name:r`.
    """
    path, _, rights = text.rpartition(":")
    if path and rights.isalpha() and set(rights) - set(LETTERS) and not await _is_there(call, text):
        raise call.usage("rights are some of rwx, as in PATH:rw", text)


async def _is_there(call: Call, path: str) -> bool:
    try:
        await call.system.stat(absolute(call.system.cwd, path))
    except FileError:
        return False
    return True


def peers_grant(cwd: str, text: str) -> str:
    """A machine's grant as it was typed, its path made absolute."""
    return with_path(text, lambda path: absolute(cwd, path))


def programs_grant(cwd: str, text: str, usual: str = "r") -> str:
    """A program's, `PATH[:RIGHTS]` or `net`; `usual` are the rights if none are named."""
    if text == NET:
        return text
    path, colon, rights = text.rpartition(":")
    if not colon or not rights or set(rights) - set(LETTERS):
        path, rights = text, usual
    return f"{absolute(cwd, path)}:{rights}"

"""The verbs behind `cognu grants`: what peers may do here, and what programs may use, changed for good and at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from posixpath import normpath
from typing import Any

from cognu.errors import E, FileError
from cognu.files.launch import Grant
from cognu.files.process import Process, State
from cognu.files.wants import Said, is_within
from cognu.mesh.identity import Peer
from cognu.node.admitting import MAPPED, deny, withdraw
from cognu.node.grants import parse_grant
from cognu.node.node import Node
from cognu.node.programs import ProgramGrants, grant_text, less, parse_grant_text
from cognu.store.names import check_name, is_prefix

Arguments = dict[str, Any]


async def _programs(node: Node, arguments: Arguments) -> Any:
    return [_row(row) for row in node.programs.all()]


def _row(row: ProgramGrants) -> dict[str, Any]:
    return {
        "program": row.program,
        "name": row.name,
        "allow": [grant_text(grant) for grant in row.allow],
        "never": [grant_text(grant) for grant in row.never],
    }


async def _grant(node: Node, arguments: Arguments) -> Any:
    """To a program: allow it more, or (`never`) never be asked for that again. To a peer: let it do more.

    What is never to be had is taken from running ones at once, open files too, and what is below it. `keeping` are
    those that have it still, by a tree above it, which can't be taken in part, or by a directory that is mapped.
    """
    texts = [str(text) for text in arguments["grants"]]
    if "peer" in arguments:
        return await _grant_peer(node, arguments["peer"], texts)
    grants = [parse_grant_text(text) for text in texts]
    program, name = which(node, arguments["program"])
    never = bool(arguments.get("never"))
    name = arguments.get("name") or name
    row = node.programs.add(program, name, *(([], grants) if never else (grants, [])))
    keeping: list[dict[str, Any]] = []
    for process in _running(node, program):
        if process.wants is not None:
            process.wants.kept = Said(row.allow, row.never)
        for grant in grants if never else ():
            left = deny(process, grant) if process.wants is not None else _mapped(process, grant)
            keeping += [{"pid": process.pid, "grant": grant_text(each)} for each in left]
    return {**_row(row), "keeping": keeping}


def _mapped(process: Process, grant: Grant) -> list[Grant]:
    """The mapped directories by which a program has what is at that path or below. It has them under its own names."""
    sources = ["/" + normpath(mapping.source).lstrip("/") for mapping in process.launch.directories]
    found = [each for each in sources if is_within(each, grant.path) or is_within(grant.path, each)]
    return [Grant(each, MAPPED) for each in found if set(grant.rights) & set(MAPPED)]


async def _grant_peer(node: Node, name: str, texts: list[str]) -> Any:
    peer = node.book.find(name)
    await grant_peers(node, [peer], [parse_grant(text).text for text in texts])
    return {"peer": peer.name, "granted": list(node.book.find(peer.fingerprint).granted)}


async def grant_peers(node: Node, peers: Sequence[Peer], texts: Sequence[str]) -> None:
    """Each of the grants to each of the peers, or none: on record first, and then in force.

    What were in force and not on record could be neither seen nor taken back. Raises what `PeerExports.grant` and
    `PeerBook.update` do.
    """

    def record() -> None:
        known = [node.book.find(peer.fingerprint) for peer in peers]  # as they are now: one may be dropped meanwhile
        node.book.update(*(replace(each, granted=tuple(dict.fromkeys([*each.granted, *texts]))) for each in known))

    await node.exports.grant([(peer.fingerprint, text) for peer in peers for text in texts], record)


async def _ungrant(node: Node, arguments: Arguments) -> Any:
    """Take back what was said of a program: of one path, or all. Running ones lose it at once, open files too."""
    program, _ = which(node, arguments["program"])
    text = arguments.get("grant")
    grant = parse_grant_text(text) if text else None
    before = node.programs.get(program)
    row = node.programs.remove(program, grant)
    gone = less(before.allow, row.allow)
    for process in _running(node, program):
        if process.wants is None:
            continue
        process.wants.kept = Said(row.allow, row.never)
        for lost in gone:
            withdraw(process, lost)
    return _row(row)


def _running(node: Node, program: str) -> list[Process]:
    return [
        process
        for process in node.processes
        if process.score == program and process.state is not State.DEAD and not node.exports.is_from_afar(process)
    ]


def which(node: Node, word: str) -> tuple[str, str]:
    """A program's hash and name: by hash, name in /bin, the name it is remembered by, or a beginning of its hash.

    Raises NOTFOUND, AMBIGUOUS.
    """
    try:
        return check_name(word), ""
    except FileError:
        pass
    try:
        return node.store.named(word), word
    except FileError:
        pass
    found = [row for row in node.programs.all() if word and (row.name == word or _begins(row.program, word))]
    if len(found) > 1:
        raise FileError(E.AMBIGUOUS, word, ", ".join(row.program for row in found))
    if found:
        return found[0].program, found[0].name
    if is_prefix(word):
        return node.store.resolve(word), ""
    raise FileError(E.NOTFOUND, word)


def _begins(program: str, word: str) -> bool:
    return is_prefix(word) and program.startswith(word)


GRANTING: dict[str, Callable[[Node, Arguments], Awaitable[Any]]] = {
    "programs": _programs,
    "grant": _grant,
    "ungrant": _ungrant,
}

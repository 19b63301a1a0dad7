"""Carries out the commands that `nstext.describe` prints, on a process's namespace (namespace(6))."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

from cognu.errors import E, FileError
from cognu.files.chan import Chan
from cognu.files.launch import TOKEN_LABEL, told
from cognu.files.mounts import MREAD
from cognu.files.nstext import MAX_TEXT, Command, parse_options, split_commands
from cognu.files.process import Process
from cognu.files.readonly import read_only
from cognu.files.steps import Steps
from cognu.ninep.types import ORDWR, QTDIR

USAGE = {
    "bind": "bind [-abcr] SOURCE PLACE",
    "mount": "mount [-abcr] SERVICE PLACE [ANAME]",
    "unmount": "unmount [SOURCE] PLACE",
    "cd": "cd PLACE",
}


class Mounter(Protocol):
    """Given by the node: 9P over an open file."""

    def mount_service(self, chan: Chan, aname: str) -> Awaitable[Chan]:
        """Attach to `aname` of the server at the other end of `chan`, which it takes over; the root of that tree."""


def apply(process: Process, text: str, mounter: Mounter) -> Steps[None]:
    """Carry out the lines of `text` in order. An error names its line and ends it; the lines before stay done."""
    if len(text) > MAX_TEXT:
        raise FileError(E.TOOBIG, "ns", f"{MAX_TEXT} bytes at once")
    for line in split_commands(text):
        try:
            yield from command(process, line.words, mounter)
        except FileError as error:
            raise FileError(error.error, f"line {line.line}: {_told(line)}", _reason(error)) from None


def command(process: Process, words: list[str], mounter: Mounter) -> Steps[None]:
    """One command. Raises USAGE with what it takes, and what the namespace raises."""
    verb, rest = words[0], words[1:]
    if verb not in USAGE:
        raise FileError(E.USAGE, verb, "; ".join(USAGE.values()))
    namespace, cwd = process.namespace, process.cwd
    flags, operands = parse_options(rest) if verb in ("bind", "mount") else (0, rest)
    match verb, operands:
        case "bind", [source, place]:
            yield from namespace.bind(source, place, flags, cwd, process)
        case "mount", [service, place]:
            yield from _mount(process, service, place, "", flags, mounter)
        case "mount", [service, place, aname]:
            yield from _mount(process, service, place, aname, flags, mounter)
        case "unmount", [place]:
            yield from namespace.unmount(None, place, cwd, process)
        case "unmount", [source, place]:
            yield from namespace.unmount(source, place, cwd, process)
        case "cd", [place]:
            yield from change_directory(process, place)
        case _:
            raise FileError(E.USAGE, verb, USAGE[verb])


def change_directory(process: Process, place: str) -> Steps[None]:
    """chdir(2): the directory before what is mounted on it, so that later mounts on it show."""
    found = yield from process.namespace.find(place, process.cwd, process)
    if not found.qid.type & QTDIR:
        found.close()
        raise FileError(E.NOTDIR, place)
    before, process.cwd = process.cwd, found
    before.close()


def _mount(process: Process, service: str, place: str, aname: str, flags: int, mounter: Mounter) -> Steps[None]:
    namespace = process.namespace
    found = yield from namespace.find(service, process.cwd, process)
    chan = yield from namespace.open(found, ORDWR, process)
    root: Chan = yield mounter.mount_service(chan, aname)
    try:
        if flags & MREAD:
            whole = root
            try:
                root = yield from read_only(whole)
            finally:
                whole.close()
        where = yield from namespace.place(place, process.cwd, process)
        try:
            namespace.mount(root, where, flags)
        finally:
            where.close()
    finally:
        root.close()


def _told(line: Command) -> str:
    """Its text without the secret in it, if there is one."""
    secret = any(TOKEN_LABEL in word for word in line.words)
    return " ".join(map(told, line.words)) if secret else line.text


def _reason(error: FileError) -> str:
    """What the error says beyond its row's own text, which the new error says again."""
    return ": ".join(part for part in (error.subject, error.detail) if part)

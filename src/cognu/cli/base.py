"""`bind`, `unbind`, `import` on the host: the base namespace, a script in the node's home. Shells start from a copy."""

from __future__ import annotations

import os
import sys

import click

from cognu.cli.asking import ask, with_session
from cognu.cli.daemon import answers, make_home
from cognu.cli.setting import Setting, verb
from cognu.errors import E, FileError, from_oserror
from cognu.files.nstext import parse_options, quote, split_words
from cognu.shell.commands.mesh import token_of
from cognu.shell.session import NodeSession
from cognu.shell.system import absolute

BASE = "/proc/1/ns"
"""The namespace of the node's own process."""


@verb("bind", "cognu bind -b /n/pi/net /net")
@click.option("-a", "after", is_flag=True, help="Put it after what is there.")
@click.option("-b", "before", is_flag=True, help="Put it before what is there.")
@click.option("-c", "create", is_flag=True, help="Let new files go there.")
@click.option("-r", "read_only", is_flag=True, help="To be read only.")
@click.argument("new")
@click.argument("old")
def bind_verb(setting: Setting, after: bool, before: bool, create: bool, read_only: bool, new: str, old: str) -> None:
    """Make NEW appear at OLD in the node's base namespace, now and at every start.

    Both are paths of the namespace. It is a line in the file HOME/namespace; shells that run already stay as they are.
    """
    if after and before:
        raise FileError(E.USAGE, "bind", "-a puts it after, -b before what is there; one of them")
    if create and read_only:
        raise FileError(E.USAGE, "bind", "-c lets new files go there, -r nothing; one of them")
    letters = ("a" if after else "b" if before else "") + ("c" if create else "") + ("r" if read_only else "")
    change(setting, " ".join(["bind", *([f"-{letters}"] if letters else []), quote(new), quote(old)]))


@verb("unbind", "cognu unbind /n/pi/net /net")
@click.argument("words", nargs=-1, required=True, metavar="[NEW] OLD")
def unbind_verb(setting: Setting, words: tuple[str, ...]) -> None:
    """Undo `cognu bind` or `cognu import`: of NEW at OLD, or of all that they keep at OLD.

    The lines leave the file HOME/namespace, and what they made leaves the node's base namespace. Shells that run
    already stay as they are. What a bind without -a or -b took the place of is back when the node starts anew.
    """
    *new, old = words
    if len(new) > 1:
        raise click.UsageError("unbind [NEW] OLD")
    kept = read_script(setting)
    gone = [line for line in kept if _is_of(line, new[0] if new else None, old)]
    if not gone:
        raise FileError(E.NOTMOUNTED, " ".join(words), f"not by a line of {setting.namespace}")
    notes: list[str] = []
    if answers(setting):
        # In the order in which a union is taken apart: the last one first.
        notes = with_session(setting, lambda session: _take_off(session, gone[::-1]))
    write_script(setting, [line for line in kept if line not in gone])
    said = {"lines": gone, "script": setting.namespace, "notes": notes}
    setting.show(said, *(f"gone: {line}" for line in gone), *notes)


def _is_of(line: str, new: str | None, old: str) -> bool:
    """Whether a line of the script binds `new`, or anything if that is None, at `old`."""
    try:
        words = split_words(line)
        operands = parse_options(words[1:])[1]
    except FileError:
        return False  # it is none that `bind` wrote
    if words[:1] not in (["bind"], ["mount"]) or len(operands) < 2:
        return False
    return _plain(operands[1]) == _plain(old) and (new is None or _plain(operands[0]) == _plain(new))


def _plain(path: str) -> str:
    """One form for the paths that lead to the same by their text; a device's name stays."""
    return absolute("/", path) if not path.startswith("#") else path


async def _take_off(session: NodeSession, lines: list[str]) -> list[str]:
    """Undo lines in the base namespace; what could not be undone, for the user."""
    notes = []
    for line in lines:
        source, place = parse_options(split_words(line)[1:])[1][:2]
        try:
            await session.write_to(BASE, f"unmount {quote(source)} {quote(place)}\n".encode())
        except FileError as error:
            if error.error in (E.NOTMOUNTED, E.NOTINUNION, E.NOENT):
                continue  # its peer never came, or it is gone already
            notes.append(f"{place} stays as it is until the node starts anew: {error}")
    return notes


@verb("import", "cognu import pi /home/me /n/photos")
@click.option("--token", "source", metavar="FILE", help="What a token in FILE (- is the input) is for, at PATH here.")
@click.option("-r", "read_only", is_flag=True, help="To be read only, which the other machine sees to.")
@click.argument("node")
@click.argument("path")
@click.argument("at", required=False)
def import_verb(setting: Setting, source: str | None, read_only: bool, node: str, path: str, at: str | None) -> None:
    """Have another machine's tree at AT in the node's base namespace, now and at every start.

    Without AT it is where it always is, below /n/NODE, and this says whether it can be reached. What a token is for is
    there until this node stops.
    """
    if source is not None:
        if at is not None or read_only:
            raise click.UsageError("import --token FILE NODE PATH")
        place = absolute("/", path)
        ask(setting, "redeem", peer=node, token=_read_token(source), at=place, pid=1)
        setting.show({"path": place, "kept": False}, f"{place}: there, in shells started from now on")
        return
    there = absolute(f"/n/{node}", path.lstrip("/") or ".")
    if at is not None and absolute("/", at) != f"/n/{node}":
        try:
            change(setting, f"bind {'-r ' if read_only else ''}{quote(there)} {quote(at)}")
        except FileError as error:
            # The reason is copied: the name that `except` gives an error ends with it.
            why = error
            raise with_session(setting, lambda session: session.why_not_imported(node, there, at, why)) from None
        return
    with_session(setting, lambda session: session.import_tree(node, path, f"/n/{node}", read_only))
    setting.show({"path": there, "kept": False}, f"{there}: there already, in every shell; with AT it is there as well")


def _read_token(source: str) -> str:
    """From a file of the host, the input, or the terminal, where nobody sees it."""
    if source != "-":
        try:
            with open(source, "rb") as file:
                return token_of(file.readline(1024))
        except OSError as error:
            raise from_oserror(error, source) from None
    if sys.stdin.isatty():
        return token_of(str(click.prompt("token", hide_input=True, err=True)).encode())
    return token_of(sys.stdin.buffer.readline(1024))


def read_script(setting: Setting) -> list[str]:
    """The lines of HOME/namespace; none if there is no such file."""
    try:
        with open(setting.namespace, encoding="utf-8", errors="surrogateescape") as script:
            return script.read().removesuffix("\n").split("\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise from_oserror(error, setting.namespace) from None


def write_script(setting: Setting, lines: list[str]) -> None:
    """Replace HOME/namespace in one step; what was there stays if that fails."""
    fresh = f"{setting.namespace}.new"
    try:
        with open(fresh, "w", encoding="utf-8", errors="surrogateescape") as script:
            script.writelines(f"{line}\n" for line in lines)
            script.flush()
            os.fsync(script.fileno())
        os.replace(fresh, setting.namespace)
    except OSError as error:
        raise from_oserror(error, setting.namespace) from None


def change(setting: Setting, line: str) -> None:
    """Carry out a command on the base namespace, if the node runs, and keep it. What is refused is not kept."""
    if "\n" in line:
        raise FileError(E.ILSEQ, line, "the script has one command a line")
    runs = answers(setting)
    if runs:

        async def apply(session: NodeSession) -> None:
            try:
                await session.write_to(BASE, f"{line}\n".encode())
            except FileError as error:
                raise FileError(error.error, line, error.detail) from None

        with_session(setting, apply)
    make_home(setting)
    try:
        with open(setting.namespace, "a", encoding="utf-8") as script:
            script.write(f"{line}\n")
            script.flush()
            os.fsync(script.fileno())
    except OSError as error:
        raise from_oserror(error, setting.namespace) from None
    said = f"{line}: in {setting.namespace}; " + ("shells started from now on have it" if runs else "at the next start")
    setting.show({"line": line, "script": setting.namespace, "running": runs}, said)

"""`bind` and `import` on the host: the base namespace, a script in the node's home. Shells start from a copy."""

from __future__ import annotations

import os

import click

from cognu.cli.asking import with_session
from cognu.cli.daemon import answers, make_home
from cognu.cli.setting import Setting, verb
from cognu.errors import E, FileError, from_oserror
from cognu.files.nstext import quote
from cognu.shell.session import NodeSession
from cognu.shell.system import absolute

BASE = "/proc/1/ns"
"""The namespace of the node's own process."""


@verb("bind", "cognu bind -b /n/pi/net /net")
@click.option("-a", "after", is_flag=True, help="Put it after what is there.")
@click.option("-b", "before", is_flag=True, help="Put it before what is there.")
@click.option("-c", "create", is_flag=True, help="Let new files go there.")
@click.argument("new")
@click.argument("old")
def bind_verb(setting: Setting, after: bool, before: bool, create: bool, new: str, old: str) -> None:
    """Make NEW appear at OLD in the node's base namespace, now and at every start.

    Both are paths of the namespace. It is a line in the file HOME/namespace; shells that run already stay as they are.
    """
    if after and before:
        raise FileError(E.USAGE, "bind", "-a puts it after, -b before what is there; one of them")
    letters = ("a" if after else "b" if before else "") + ("c" if create else "")
    change(setting, " ".join(["bind", *([f"-{letters}"] if letters else []), quote(new), quote(old)]))


@verb("import", "cognu import pi /home/me /n/photos")
@click.argument("node")
@click.argument("path")
@click.argument("at", required=False)
def import_verb(setting: Setting, node: str, path: str, at: str | None) -> None:
    """Have another machine's tree at AT in the node's base namespace, now and at every start.

    Without AT it is where it always is, below /n/NODE, and this says whether it can be reached.
    """
    there = absolute(f"/n/{node}", path.lstrip("/") or ".")
    if at is not None and absolute("/", at) != f"/n/{node}":
        change(setting, f"bind {quote(there)} {quote(at)}")
        return
    with_session(setting, lambda session: session.stat(there))
    setting.show({"path": there}, there)


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

"""`grants`: what other machines may do here, and what programs may use without being asked about."""

from __future__ import annotations

import os
from typing import Any

import click

from cognu.cli.asking import ask
from cognu.cli.peers import host_grants
from cognu.cli.setting import Setting, VerbGroup, home_option, table, verb
from cognu.errors import E, FileError, from_oserror
from cognu.shell.hostpaths import translate

NET = "net"


@click.group(
    "grants", cls=VerbGroup, epilog="Example: cognu grants list",
    context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip
@home_option
@click.pass_context
def grants_verb(context: click.Context, home: str | None) -> None:
    """What other machines may do here, and what programs may use.

    Peers are granted read:PATH, write:PATH, net or run. Programs have what is typed when they are run; here is what
    they may use beyond that, PATH[:rwx] or net, and what they are never to be asked about again.
    """
    context.obj = context.ensure_object(Setting).with_options(home, False)


@verb("list", "cognu grants list")
def _list(setting: Setting) -> None:
    """List what was granted to whom."""
    peers: dict[str, list[str]] = ask(setting, "grants")
    programs: list[dict[str, Any]] = ask(setting, "programs")
    rows = [["peer", peer, text] for peer, texts in peers.items() for text in texts]
    for program in programs:
        name = program["name"] or program["program"]
        rows += [["program", name, text] for text in program["allow"]]
        rows += [["program", name, f"never {text}"] for text in program["never"]]
    setting.show({"peers": peers, "programs": programs}, *table([["KIND", "WHO", "GRANT"], *rows]))


@verb("set", "cognu grants set wc.wasm /home/me/notes:r")
@click.option("--never", is_flag=True, help="Refuse it without asking, from now on. For programs.")
@click.argument("who")
@click.argument("grants", nargs=-1, required=True, metavar="GRANT...")
def _set(setting: Setting, never: bool, who: str, grants: tuple[str, ...]) -> None:
    """Grant more to WHO: a machine that was joined, or a program (a file, a name in /bin, a hash).

    It holds at once, also for what runs, and for good. A program is known by the hash of its bytes: another version of
    it has nothing. What is said of a path takes the place of what was said of that path before.
    """
    peer, program, name = _who(setting, who)
    if peer:
        if never:
            raise FileError(E.USAGE, "--never", f"{peer} is a machine; it has what is granted and no more")
        said = ask(setting, "grant", peer=peer, grants=host_grants(grants))
        setting.show(said, f"{peer} may: {', '.join(said['granted'])}")
        return
    said = ask(setting, "grant", program=program, name=name, grants=_paths(grants), never=never)
    setting.show(said, *_say(said))


@verb("revoke", "cognu grants revoke pi read:/home/me")
@click.argument("who")
@click.argument("grant", required=False)
def _revoke(setting: Setting, who: str, grant: str | None) -> None:
    """Take a grant of WHO back; what runs under it ends at once, open files too.

    Of a program it may also be something it was never to be asked about; without GRANT it is all of that program.
    """
    peer, program, _ = _who(setting, who)
    if peer:
        if grant is None:
            raise FileError(E.USAGE, who, "which grant? To part with the machine: cognu drop")
        [text] = host_grants((grant,)) or [grant]
        setting.show(ask(setting, "revoke", peer=peer, grant=text), f"{peer} may no longer: {text}")
        return
    taken = _paths((grant,))[0] if grant is not None else ""
    said = ask(setting, "ungrant", program=program, grant=taken)
    setting.show(said, *_say(said))


def _who(setting: Setting, who: str) -> tuple[str, str, str]:
    """A peer's name, or the hash (or what the node may know it by) and name of a program. Raises AMBIGUOUS."""
    peers: dict[str, list[str]] = ask(setting, "grants")
    is_file = os.path.isfile(who)
    if who in peers:
        if is_file:
            raise FileError(E.AMBIGUOUS, who, f"the file is ./{who}")
        return who, "", ""
    if not is_file:
        return "", who, ""
    from cognu.store.names import name_of

    try:
        with open(who, "rb") as file:
            return "", name_of(file.read()), os.path.basename(who)
    except OSError as error:
        raise from_oserror(error, who) from None


def _paths(grants: tuple[str, ...]) -> list[str]:
    """Grants of programs as typed, with the host's paths by their names in the namespace."""
    found = []
    for text in grants:
        path, colon, rights = text.rpartition(":")
        if os.path.lexists(text) or not colon:
            path, colon, rights = text, "", ""
        found.append(text if text == NET else f"{translate(os.path.abspath(path))}{colon}{rights}")
    return found


def _say(row: dict[str, Any]) -> list[str]:
    name = row["name"] or row["program"]
    lines = [f"{name} may use {', '.join(row['allow'])}"] if row["allow"] else []
    lines += [f"{name} is never asked about {', '.join(row['never'])}"] if row["never"] else []
    return lines or [f"{name} has what is typed when it is run, and no more"]


for _command in (_list, _set, _revoke):
    grants_verb.add_command(_command)

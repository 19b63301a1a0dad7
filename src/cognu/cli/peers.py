"""`invite`, `join`, `drop`, `listen`: other machines."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import click

from cognu.cli.asking import ask
from cognu.cli.daemon import time_text
from cognu.cli.setting import Setting, filter_options, table, verb
from cognu.errors import E, FileError, visible
from cognu.files.granttext import split_listed, with_path
from cognu.mesh.codes import OFFER
from cognu.shell.hostpaths import translate

SHOWN = 8
"""Digits of an invitation's number that are shown; more are taken."""
_GRANT = click.option(
    "--grant", "grants", multiple=True, metavar="GRANT[,...]",
    help="Something it may do here: read:PATH, write:PATH, net, net:listen[=PORTS], run, cmd:NAME.",
)  # fmt: skip


def host_grants(texts: tuple[str, ...]) -> list[str]:
    """Grants as typed, split at commas, the host's paths by their names in the namespace. USAGE for none."""
    return [with_path(part, lambda path: translate(os.path.abspath(path))) for part in typed_grants(texts)]


def typed_grants(texts: tuple[str, ...]) -> list[str]:
    """The grants of options, split at commas. Raises `FileError(USAGE)` for an option without any."""
    found = [split_listed(text) for text in texts]
    if not all(found):
        raise FileError(E.USAGE, "grant", "an option that grants or asks for nothing; leave it away")
    return [part for parts in found for part in parts]


def may(name: str, described: list[str], other: str, ended: Sequence[str] = ()) -> list[str]:
    """Who may now do what, one line each, and what no longer."""
    no_longer = [f"{name} may no longer {text}" for text in ended]
    if not described:
        return [*no_longer, f"{name} may do nothing {other}{'' if ended else ' yet'}"]
    return [*no_longer, *(f"{name} may {text}" for text in described)]


@verb("invite", "cognu invite --grant read:/home/me,net,run")
@_GRANT
@click.option("--list", "listed", is_flag=True, help="The invitations that are open, by number.")
@click.option("--withdraw", metavar="NUMBER|TICKET", help="End one that is open; the beginning of its number will do.")
def invite_verb(setting: Setting, grants: tuple[str, ...], listed: bool, withdraw: str | None) -> None:
    """Make a ticket. It works once and for ten minutes, and grants nothing unless you say so."""
    if listed or withdraw is not None:
        if grants or (listed and withdraw is not None):
            raise click.UsageError("--list and --withdraw are for themselves")
        if withdraw is None:
            _list_invitations(setting)
        else:
            done: dict[str, Any] = ask(setting, "withdraw", invitation=withdraw)
            setting.show(done, f"withdrawn: {done['number'][:SHOWN]}; nobody can join with its ticket any more")
        return
    made: dict[str, Any] = ask(setting, "invite", grants=host_grants(grants))
    until = time_text(made["expires"] * 10**9)
    setting.show(
        made,
        *may("whoever joins with it", made["describe"], "here"),
        *([f"what is joined already keeps what it was granted: {', '.join(made['keeps'])}"] if made["keeps"] else []),
        f"there, until {until}:",
        f"  cognu join {made['ticket']}",
    )


def _list_invitations(setting: Setting) -> None:
    found: list[dict[str, Any]] = ask(setting, "invitations")
    rows = [["NUMBER", "UNTIL", "ATTEMPTS", "GRANTS"]]
    for row in found:
        until = time_text(row["expires"] * 10**9)
        rows.append([row["number"][:SHOWN], until, str(row["attempts"]), visible(",".join(row["grants"])) or "-"])
    setting.show(found, *table(rows))


@verb("join", "cognu join cognu-afke…")
@_GRANT
@click.argument("ticket")
def join_verb(setting: Setting, grants: tuple[str, ...], ticket: str) -> None:
    """Join the machine that made TICKET. It gets nothing in return unless you say so."""
    if ticket.strip().startswith(OFFER):
        from cognu.cli.pairing import join_offer

        join_offer(setting, grants, ticket)
        return
    joined: dict[str, Any] = ask(setting, "join", ticket=ticket, grants=host_grants(grants))
    peer = joined["peer"]
    setting.show(
        joined,
        f"joined {peer} ({joined['fingerprint']})",
        *may("this machine", joined["describe_received"], f"on {peer}", joined["ended_received"]),
        *may(peer, joined["describe_granted"], "here", joined["ended_granted"]),
        *(f"not in force here: {why}" for why in joined["not_in_force"]),
    )


@verb("drop", "cognu drop pi")
@click.argument("peer")
def drop_verb(setting: Setting, peer: str) -> None:
    """Part with a machine: what it was granted ends at once, and it must be invited again to come back.

    It is told, now if it is linked, else when it next calls.
    """
    done: dict[str, Any] = ask(setting, "drop", peer=peer)
    away = "" if done["told"] else ", which was not reached; it hears of it when it calls"
    setting.show(done, f"parted with {peer}{away}")


@verb("listen", "cognu listen 127.0.0.1:5640 --path /home/me")
@click.option("--path", default="/", show_default=True, help="The tree to serve, read-only.")
@click.option("--dialect", metavar="D", help="Speak 9P2000, 9P2000.u, 9P2000.L or 9P2000.ng only.")
@filter_options
@click.option("--stop", is_flag=True, help="Serve there no longer; ADDRESS is what was printed.")
@click.argument("address")
def listen_verb(
    setting: Setting, path: str, dialect: str | None, hide: tuple[str, ...], show: tuple[str, ...], stop: bool,
    address: str,
) -> None:  # fmt: skip
    """Serve ordinary 9P clients at ADDRESS, a Unix socket's path or a port of the loopback, until the node stops.

    On the loopback, where every user of this machine can connect, attaching asks for a token, which is printed.
    """
    from cognu.cli.addresses import parse_address

    where = parse_address(address)
    if where.kind not in ("unix", "tcp"):
        raise FileError(E.USAGE, address, "a Unix socket's PATH or unix!PATH; on the loopback HOST:PORT, tcp!HOST!PORT")
    there = os.path.abspath(where.where) if where.kind == "unix" else where.where
    if stop:
        if dialect or hide or show or path != "/":
            raise click.UsageError("--stop takes the address alone")
        setting.show(ask(setting, "unlisten", address=there), f"no longer served: {there}")
        return
    made: dict[str, Any] = ask(
        setting, "listen", address=there, path=translate(path), dialect=dialect, hide=list(hide), show=list(show)
    )
    lines = [f"9P at {made['address']}"]
    if made["token"]:
        lines.append(f"attach name: {made['token']}")
    setting.show(made, *lines)

"""`pair`: two machines become peers by a short code, shown on one and typed on the other."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Coroutine
from contextlib import nullcontext, suppress
from shutil import get_terminal_size
from typing import Any

import click

from cognu.cli.answers import echoing, fresh_line
from cognu.cli.asking import with_session
from cognu.cli.peers import host_grants, may, typed_grants
from cognu.cli.qr import drawn
from cognu.cli.setting import Setting, verb
from cognu.errors import CognuError, E, FileError, visible
from cognu.mesh.codes import OFFER, attempts_left, check_address, format_offer, parse_code, parse_offer
from cognu.mesh.identity import short
from cognu.mesh.tickets import PREFIX
from cognu.shell.session import NodeSession

Event = dict[str, Any]
YES = ("y", "yes")
_PROGRESS = {
    "heard": "{name} shows one that begins with {number}; looking on; if it is that one, type it again",
    "waiting": "waiting for the user of {peer} to agree",
}
NO_ROOM = "(this window is too small for the QR code)"
NO_ADDRESS = "this machine knows no address of its own on a network; if it has one, up --host says it"


@verb("pair", "cognu pair --grant read:/home/me")
@click.option("--grant", "grants", multiple=True, metavar="GRANT[,...]", help="Something the other may do here.")
@click.option("--ask", "asks", multiple=True, metavar="GRANT[,...]", help="Something to do there, if its user agrees.")
@click.option("--yes", is_flag=True, help="Agree to what the other asks for, without being asked.")
@click.argument("code", required=False)
@click.argument("address", required=False)
def pair_verb(
    setting: Setting, grants: tuple[str, ...], asks: tuple[str, ...], yes: bool, code: str | None, address: str | None
) -> None:
    """Show a code, or without one typed here, type the one that the other machine shows."""
    wish = {"grants": host_grants(grants), "asks": _asked(asks)}
    _talk(setting, {**wish, **(_typed(code, address) if code is not None else {})}, yes)


def join_offer(setting: Setting, grants: tuple[str, ...], text: str) -> None:
    """Pair with the machine whose QR code says `text`, where it was given to `join`."""
    _talk(setting, {"grants": host_grants(grants), "asks": [], **_typed(text, None)}, False)


def _talk(setting: Setting, arguments: dict[str, Any], yes: bool) -> None:
    """At a terminal a code that was wrong is asked for again, as long as the machine that shows it takes another."""
    while True:
        came_to: Event = {}
        try:
            again = _talk_once(setting, arguments, yes, came_to)
            if not again:
                return
        except KeyboardInterrupt:
            _tell_end(setting, came_to)
            raise click.Abort from None
        except FileError as error:
            if error.error is not E.WRONGCODE or setting.json or not sys.stdin.isatty():
                raise
            click.echo(f"cognu: {visible(error.detail)}; type it again, or Ctrl-C", err=True)
            again = _code_again()
        arguments = {**arguments, "code": again}


def _types(setting: Setting, arguments: dict[str, Any]) -> bool:
    """Whether a code was given, by whom another can be asked for."""
    return arguments.get("code") is not None and not setting.json and sys.stdin.isatty()


def _talk_once(setting: Setting, arguments: dict[str, Any], yes: bool, came_to: Event) -> str:
    with echoing(sys.stdin.fileno(), False) if _types(setting, arguments) else nullcontext():
        return with_session(setting, lambda session: _Talk(setting, session, yes, came_to).run(arguments))


def _tell_end(setting: Setting, came_to: Event) -> None:
    """What was done about it when a pairing was given up."""
    if came_to.get("event") == "paired":
        setting.show(came_to, *_paired(came_to))
        click.echo("cognu: it was too late to give it up: both machines had confirmed", err=True)
    else:
        click.echo(f"cognu: pairing was given up{_told_of_end(came_to)}", err=True)


def _told_of_end(came_to: Event) -> str:
    if not came_to:
        return "; no other machine had begun it with this one"
    name = came_to["peer"]
    if came_to["told"] is None:
        return f" while {name} confirmed it, which may have kept this machine: pair once more, or drop this one there"
    return f", and {name} was told so" if came_to["told"] else f"; {name} could not be told, and finds this one gone"


def _code_again() -> str:
    while True:
        try:
            return parse_code(_code_at_terminal()).digits
        except FileError as error:
            click.echo(f"cognu: {error.detail}; type it again, or Ctrl-C", err=True)


def _code_at_terminal() -> str:
    return str(click.prompt("code", hide_input=True, err=True))


def _asked(texts: tuple[str, ...]) -> list[str]:
    """The other machine's paths are by its own names: nothing of this host's is added."""
    return typed_grants(texts)


def _typed(code: str, address: str | None) -> dict[str, Any]:
    """The code and addresses of the command line; `-` is asked for, where nobody sees it, or read from the input."""
    if code == "-" and sys.stdin.isatty():
        while True:
            try:
                return _typed(_code_at_terminal(), address)
            except FileError as error:
                if error.error is not E.WRONGCODE:
                    raise
                click.echo(f"cognu: {error.detail}; type it again, or Ctrl-C", err=True)
    if code == "-":
        code = sys.stdin.readline(1024)
    if code.strip().startswith(OFFER):
        if address is not None:
            raise click.UsageError("what the QR code says has the addresses in it")
        offered, addresses = parse_offer(code)
        return {"code": offered.digits, "addresses": list(addresses)}
    if code.strip().startswith(PREFIX):
        raise click.UsageError("that is a ticket: cognu join TICKET")
    where = [check_address(address)] if address is not None else []
    return {"code": parse_code(code).digits, "addresses": where}


class _Talk:
    """What happens, as it is told; and the user's answers. `came_to` is filled with what came of giving it up."""

    def __init__(self, setting: Setting, session: NodeSession, yes: bool, came_to: Event) -> None:
        self._setting = setting
        self._session = session
        self._yes = yes
        self._came_to = came_to
        self._number = 0
        self._types = False
        self._anew: asyncio.Task[str] | None = None
        """Asks for another code, while the one that was typed is looked for and others are shown."""

    async def run(self, arguments: dict[str, Any]) -> str:
        """Until the two are paired: empty. Or another code that was typed in place of one that nobody shows."""
        self._types = _types(self._setting, arguments)
        begun: Event = await self._session.rpc("pair", **arguments)
        self._number = begun["pairing"]
        coming = self._next()
        try:
            while True:
                if again := await self._typed_anew(coming):
                    await self._session.rpc("forgo", pairing=self._number)
                    return again
                event: Event = await coming
                if event["event"] != "heard":
                    await self._end_anew()
                if event["event"] == "paired":
                    self._tell(event, _paired(event))
                    return ""
                coming = self._next()
                if event["event"] == "asked":
                    await self._ask(event, coming)
                elif event["event"] in _PROGRESS:
                    self._tell_progress(event)
                else:
                    self._tell(event, self._shown(event) if event["event"] == "code" else _tried(event))
        except BaseException:
            # The node may not have been asked what happens next just yet, and then would not miss who asks.
            with suppress(CognuError):
                self._came_to.update(await self._session.rpc("forgo", pairing=self._number))
            raise
        finally:
            await self._end_anew()
            coming.cancel()
            with suppress(asyncio.CancelledError, CognuError):
                await coming

    def _next(self) -> asyncio.Task[Event]:
        """What happens next; always waited for, since a pairing that nobody attends to is over."""
        return asyncio.create_task(self._session.rpc("attend", pairing=self._number))

    async def _typed_anew(self, coming: asyncio.Task[Event]) -> str:
        """A code that is typed before the next thing happens; empty if none is asked for, or is."""
        anew = self._anew
        if anew is None:
            return ""
        await asyncio.wait({coming, anew}, return_when=asyncio.FIRST_COMPLETED)
        if coming.done() and not anew.done() and (wrong := _wrong(coming)) is not None:
            click.echo(f"\ncognu: {visible(wrong.detail)}; type it again, or Ctrl-C", err=True)
            _ask_code()  # what is typed is waited for already
            await asyncio.wait({anew})
        if not anew.done():
            return ""
        self._anew = None
        return anew.result()

    async def _end_anew(self) -> None:
        anew, self._anew = self._anew, None
        if anew is not None:
            anew.cancel()
            await asyncio.wait({anew})
            click.echo(err=True)

    def _tell(self, event: Event, lines: list[str]) -> None:
        """With --json each event is a line."""
        for line in [json.dumps(event, ensure_ascii=False)] if self._setting.json else lines:
            click.echo(line)

    def _shown(self, event: Event) -> list[str]:
        """The commands that are shown ask for the code, so that no history and no list of processes has it."""
        there = [f"  cognu pair - {address}" for address in event["addresses"]]
        typed = f"on the other machine, within {event['seconds'] // 60} minutes: cognu pair -"
        if not there:
            return [f"code: {event['code']}", typed, NO_ADDRESS]
        lines = [f"code: {event['code']}", f"{typed}; if that finds nobody, one of these:", *there]
        return [*(_drawn(event["text"], len(lines)) if sys.stdout.isatty() else []), *lines]

    def _tell_progress(self, event: Event) -> None:
        if self._setting.json:
            self._tell(event, [])
            return
        if sys.stderr.isatty():
            asking = self._anew is not None
            click.echo(("\n" if asking else "") + _PROGRESS[event["event"]].format(**event), err=True)
            if asking:
                _ask_code()
        if event["event"] == "heard" and self._types and self._anew is None:
            self._anew = asyncio.create_task(_code_anew())

    async def _ask(self, event: Event, coming: asyncio.Task[Event]) -> None:
        """Bring the question before the user, and the answer back; if it is withdrawn meanwhile, `coming` says so."""
        lines = _question(event)
        at_terminal = sys.stdin.isatty() and not self._yes
        if self._setting.json:
            self._tell(event, [])
        if at_terminal or not self._setting.json:
            for line in lines:
                click.echo(line, err=True)
        if not self._yes and not at_terminal:
            await self._answer(False, False)
            raise FileError(E.NOTPAIRED, "pair", "who is asked for something answers at a terminal, or says --yes")
        said = True if self._yes else await _unless(coming, _yes_at_terminal())
        if said is not None:
            await self._answer(said, at_terminal)

    async def _answer(self, yes: bool, at_terminal: bool) -> None:
        # It may be over just now, which `attend` tells better.
        with suppress(FileError):
            await self._session.rpc("consent", pairing=self._number, yes=yes, at_terminal=at_terminal)


def _question(event: Event) -> list[str]:
    name = event["peer"]
    lines = [f"{name} ({short(event['fingerprint'])}, at {event['address']}) knows the code, and asks this of you:"]
    if event["known"]:
        lines.append(f"  {name} is a peer of this machine already")
    elif event["calls_itself"] != name:
        lines.append(f"  it calls itself {event['calls_itself']}, as a peer does that is another machine")
    lines += [f"  {name} wants to {text}" for text in event["describe_asks"]]
    lines += [f"  {name} may {text}, as you have said" for text in event["describe_grants"]]
    lines += [f"  this machine may {text}" for text in event["describe_offers"]]
    lines += [f"  {text}" for text in event["contradictions"]]
    return lines


def _tried(event: Event) -> list[str]:
    return [f"{event['address']} did not get through: {event['why']}; {attempts_left(event['left'])}"]


def _paired(event: Event) -> list[str]:
    name = event["peer"]
    return [
        f"paired with {name} ({event['fingerprint']})",
        *may("this machine", event["describe_received"], "there", event["ended_received"]),
        *may(name, event["describe_granted"], "here", event["ended_granted"]),
        *(f"not in force here: {why}" for why in event["not_in_force"]),
    ]


def _drawn(text: str, below: int) -> list[str]:
    """The QR code of an offer, with as many of its addresses as the window has room for above `below` lines."""
    size = get_terminal_size()
    code, addresses = parse_offer(text)
    for count in range(len(addresses), 0, -1):
        # The line after them is the cursor's.
        if lines := drawn(format_offer(code, addresses[:count]), size.columns, size.lines - below - 1):
            return lines
    return [NO_ROOM]


def _ask_code() -> None:
    click.echo("code: ", nl=False, err=True)


async def _code_anew() -> str:
    """A code that is typed at the terminal; empty for an empty line, which leaves it at the one before."""
    while typed := await fresh_line(sys.stdin.fileno(), _ask_code):
        click.echo(err=True)
        try:
            return parse_code(typed).digits
        except FileError as error:
            click.echo(f"cognu: {error.detail}; type it again, or Ctrl-C", err=True)
    click.echo(err=True)
    return ""


def _wrong(coming: asyncio.Task[Event]) -> FileError | None:
    """Why it has come to nothing, if the code may be mistyped."""
    failure = None if coming.cancelled() else coming.exception()
    return failure if isinstance(failure, FileError) and failure.error is E.WRONGCODE else None


async def _yes_at_terminal() -> bool:
    """Whether the line that is typed to the question says yes. Cancelled, it takes no byte."""
    with echoing(sys.stdin.fileno(), True):
        typed = await fresh_line(sys.stdin.fileno(), lambda: click.echo("agree? [y/N] ", nl=False, err=True))
    return typed.lower() in YES


async def _unless(over: asyncio.Task[Event], asking: Coroutine[Any, Any, bool]) -> bool | None:
    """The answer, or None if it is over before."""
    task = asyncio.create_task(asking)
    try:
        await asyncio.wait({over, task}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        if not task.done():
            task.cancel()
            click.echo(err=True)
        await asyncio.wait({task})

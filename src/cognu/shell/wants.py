"""What a program wanted and has no grant for: asked for at the terminal while it waits, else told when it failed.

Whether there is such a file is looked up here, in the user's own namespace: what is not there for the user either is
no question. The program hears of none of this.
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from posixpath import dirname
from typing import Any

from cognu.errors import CognuError, E, FileError
from cognu.files.wants import CREATING, NETWORK
from cognu.shell.hostpaths import TWICE
from cognu.shell.state import Call, decode, encode, end_tasks
from cognu.shell.system import Child, File, Grant, System, Want
from cognu.world.timing import unless

NET = "net"
"""How the network as a whole is typed as a grant."""
TOLD = 10
"""Things at most that are told of a program that failed; it may have tried very many before."""
CONTROL = "/dev/consctl"
CHOICES = "once, always or never? [not now] "
_ANSWERS = ("once", "always", "never", "no")


class Questions:
    """Asks whoever sits at the terminal, one thing at a time. `answer` gives the line that is typed to a question.

    `discard` drops what was typed before, where `answer` does not by itself.
    """

    def __init__(
        self, stderr: File, answer: Callable[[], Coroutine[Any, Any, bytes]],
        discard: Callable[[], Coroutine[Any, Any, None]] | None = None,
    ) -> None:  # fmt: skip
        self._stderr = stderr
        self._answer = answer
        self._discard = discard
        self._turn = asyncio.Lock()

    async def ask(self, text: str) -> str:
        """The line that is typed, without its end; empty at the end of the input, and where what was typed before can't
        be dropped, which is told: it could be taken for the answer."""
        async with self._turn:
            try:
                if self._discard is not None:
                    await self._discard()
            except FileError as error:
                await self._stderr.write(encode(f"{text}\n{error}\n"))
                return ""
            # Listening begins before the question shows: what was typed before that is no answer to it.
            answer = asyncio.create_task(self._answer())
            try:
                await asyncio.sleep(0)
                await self._stderr.write(encode(text))
                return decode(await answer).strip()
            finally:
                await end_tasks([answer])


async def discard_typed(system: System) -> None:
    """What was typed at the terminal in this namespace, and not read yet, is dropped. Raises what it refuses."""
    control = await system.open(CONTROL, "w")
    try:
        await control.write(b"discard")
    finally:
        await control.close()


async def line_of(file: File) -> bytes:
    """The next line of a file that gives at most a line at a time, as a terminal does; `b""` at its end."""
    line = b""
    while not line.endswith((b"\n", b"\r")) and (data := await file.read()):
        line += data
    return line


class Attendant:
    """Sees to one program's wants until it has ended. `name` is what the user calls it, `on` where it runs."""

    def __init__(self, call: Call, child: Child, name: str, on: str | None) -> None:
        self._call = call
        self._child = child
        self._name = name
        self._who = name if on is None else f"{name} on {on}"
        self._refused: list[Want] = []
        self._over = asyncio.Event()
        self._task = asyncio.create_task(self._attend())

    async def finish(self, status: int) -> None:
        """The program has ended: whoever is still being asked needn't answer. If it failed, say what it had not."""
        self._over.set()
        await asyncio.wait([self._task])
        self._task.result()
        if status:
            for want in self._refused[:TOLD]:
                await self._tell(want)

    async def close(self) -> None:
        """Ask nobody any more. May be called at any time, and again."""
        await end_tasks([self._task])
        await self._child.close()

    async def _attend(self) -> None:
        while (want := await self._child.want()) is not None:
            there = await _existing(self._call.system, want)
            settled = want.never is not None or want.steers  # refused by then, and no question
            if there is not None and (self._call.shell.ask is None or settled):
                self._refused.append(there)
                there = None
            if not settled and self._call.shell.ask is not None:
                yes = there is not None and await self._may_have(there)
                await self._told(self._child.answer(there or want, yes))

    async def _told(self, call: Coroutine[Any, Any, None]) -> None:
        try:
            await call
        except FileError as error:
            await self._complain(error)

    async def _may_have(self, want: Want) -> bool:
        """Ask, and have an answer for good kept."""
        await self._told(self._child.asked(want))
        chosen = await self._chosen(f"{self._who} wants to {_deed(want)}, which it was not granted\n{CHOICES}")
        if chosen in ("always", "never"):
            try:
                # What is allowed is what is there now, wherever the path may lead later.
                path = want.real if chosen == "always" else want.path
                grant = Grant(path, want.rights.replace(CREATING, ""))
                await self._call.system.remember(want.program, self._name, grant, chosen == "always")
            except FileError as error:
                await self._complain(FileError(E.NOTKEPT, str(error)))
        return chosen in ("once", "always")

    async def _chosen(self, text: str) -> str:
        ask = self._call.shell.ask
        assert ask is not None
        while True:
            typed = await unless(self._over, ask(text)) or ""
            if not typed:
                return "no"
            found = [answer for answer in _ANSWERS if answer.startswith(typed.lower())]
            if found:
                return found[-1]  # `n` is no more than a no
            text = CHOICES

    async def _tell(self, want: Want) -> None:
        grant = grant_of(want)
        # Typed on the host it would be the host's own.
        where = ", in a shell of the node: cognu sh" if grant.path.split("/")[1] in TWICE else ""
        remedy = f"run --grant {_word(_typed(grant))}{where}"
        if want.never is not None:
            remedy = (
                f"that is kept as never; grants revoke {_word(self._name)} {_word(_typed(want.never))} takes that back"
            )
        error = FileError(E.NOTGIVEN, f"{self._name}: {_shown(want.path)}", remedy)
        with suppress(FileError):
            await self._call.streams.stderr.write(encode(f"{error}\n"))

    async def _complain(self, error: CognuError) -> None:
        with suppress(FileError):
            await self._call.streams.stderr.write(encode(f"{self._name}: {error}\n"))


def grant_of(want: Want) -> Grant:
    """What has to be granted from the start: for a file that is to be made, its directory."""
    if CREATING in want.rights:
        return Grant(dirname(want.path), "rw")
    return Grant(want.path, want.rights)


def _typed(grant: Grant) -> str:
    """As run(1) and grants(1) take it."""
    return NET if grant.path == NETWORK else f"{grant.path}:{grant.rights}"


def _word(text: str) -> str:
    """As a shell takes it for one word; what can't be shown as it is, in the `$'...'` of the host's."""
    return shlex.quote(text) if text.isprintable() else f"$'{''.join(map(_spelled, text))}'"


def _spelled(char: str) -> str:
    if char.isprintable():
        return f"\\{char}" if char in "'\\" else char
    return f"\\x{ord(char):02x}" if char.isascii() else f"\\U{ord(char):08x}"


def _deed(want: Want) -> str:
    if want.path == NETWORK:
        return f"use the network ({NETWORK})"
    path, real = _shown(want.path), _shown(want.real)
    what = path if want.real in ("", want.path) else f"{path} (it is {real})"
    if CREATING in want.rights:
        return f"make {what}"
    return f"{' and '.join({'r': 'read', 'w': 'change', 'x': 'run'}[letter] for letter in want.rights)} {what}"


def _shown(path: str) -> str:
    """A name that can't steer the terminal at which it is asked about, nor pass for the question's own words."""
    return path if path.isprintable() else repr(path)


async def _existing(system: System, want: Want) -> Want | None:
    """The want, with `c` among its rights only if the file would have to be made; None if it can't be had."""
    try:
        real = await system.resolve(want.path)
    except FileError:
        return None
    try:
        await system.stat(real)
        return replace(want, rights=want.rights.replace(CREATING, ""), real=real)
    except FileError as error:
        if error.error is not E.NOENT or CREATING not in want.rights:
            return None
    return replace(want, real=real)

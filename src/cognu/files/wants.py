"""What a process wanted and has no grant for: kept for whoever started it, who may be asked while the process waits.

A path outside of a program's namespace does not exist for it, and it is not to notice more than that. So a question
is no error: the call of the program that would have ended with ENOENT (or, for want of a right, EACCES) waits until
somebody above the program has answered, and then either goes on or ends so. Nobody need be there to ask: then what was
wanted is only noted, and told when the program is over, to the user and never to the program.

Whether a path exists is for the one who is asked to find out, by an authority of its own; here paths are just text.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from cognu.errors import E, FileError
from cognu.files.launch import Grant

MOST = 4096
MOST_BYTES = 1 << 20
"""Different things noted of one process, and characters of their paths. Who wants more is refused without a word."""
NETWORK = "/net"
"""It is granted as a whole, to be read and written: a conversation's files only appear in the course of it."""
NETWORK_RIGHTS = "rw"
CREATING = "c"
"""Beside `rwx`: the file may not be there yet."""
LETTERS = "rwxc"
MAX_PATH = 4096

Reach = Callable[[str, str], Awaitable[bool]]
"""`(path, rights)`: whether the process may use that now. Absolute paths; letters out of `rwxc`."""


class Means(NamedTuple):
    """What the node gives: how a grant is made.

    `admit(path, rights, real)` puts a path into the process's namespace, if it is `real` that it leads to (empty: where
    it may); raises what is in the way. `lacks(path, rights)`: whether it is for want of a grant that the process can't
    use a path so; else the file's server has refused it. `real(path)` is where a path leads for whoever started the
    process, symbolic links and all; empty if nowhere. `steers(path)`: whether what it leads to
    steers the node or what runs on it, whatever it is called: that is granted in so many words, never by an answer.
    """

    admit: Callable[[str, str, str], Awaitable[None]]
    lacks: Callable[[str, str], bool]
    real: Callable[[str], Awaitable[str]]
    steers: Callable[[str], Awaitable[bool]]


class Want(NamedTuple):
    """`number` names it in the answer; `path` is the process's own, `rights` letters out of `rwxc`.

    `never` is what was said for good by which it was refused, which is no question then; nor is what `steers` the node.
    """

    number: int
    path: str
    rights: str
    never: Grant | None = None
    steers: bool = False


class Said(NamedTuple):
    """What is granted, and what refused, without asking."""

    allow: Sequence[Grant] = ()
    never: Sequence[Grant] = ()


def denies(never: Grant, path: str, rights: str) -> bool:
    """Whether that is refused by what was said of a path at or above this one."""
    return is_within(path, never.path) and bool(set(rights) & set(never.rights))


def _allows(allow: Sequence[Grant], path: str, rights: str) -> bool:
    wanted = set(rights) - {CREATING}
    return any(is_within(path, grant.path) and wanted <= set(grant.rights) for grant in allow)


def whole(path: str, rights: str) -> tuple[str, str]:
    """What a want is really for."""
    if is_within(path, NETWORK):
        return NETWORK, NETWORK_RIGHTS
    return path, rights


def _is_clean(path: str) -> bool:
    names = path.split("/")[1:]
    try:
        size = len(path.encode())
    except UnicodeEncodeError:
        return False
    return path.startswith("/") and not {"", ".", ".."} & set(names) and "\0" not in path and size <= MAX_PATH


def is_within(path: str, tree: str) -> bool:
    """Whether `path` is `tree` or below it; both absolute, without `.` and `..`."""
    return path == tree or path.startswith(tree.rstrip("/") + "/")


class Wants:
    """Of one process. Whoever will be asked may say so before it is known, by `begin`, what the process is to run."""

    def __init__(self) -> None:
        self.program = ""
        self._run = Said()
        self.kept = Said()
        self._means: Means | None = None
        self.given: dict[str, str] = {}  # paths that what is kept was found to cover, and where they led
        self._noted: list[Want] = []
        self._known: set[tuple[str, str]] = set()
        self._size = 0  # characters of the paths noted
        self._waiting: dict[int, asyncio.Future[bool]] = {}
        self._put: dict[
            int, Callable[[Want], None]
        ] = {}  # of those, what a person was asked, and who hears of no answer
        self._changed: set[asyncio.Future[None]] = set()
        self._asker: object | None = None
        self._ended = False

    # -- the process ----------------------------------------------------------------------------------------------

    def begin(self, program: str, means: Means, run: Said, kept: Said) -> None:
        """`program` is the hash of what it runs; `run` was said for this run, `kept` for all of them."""
        self.program, self._means = program, None if self._ended else means
        self._run, self.kept = run, kept

    async def reach(self, path: str, rights: str) -> bool:
        """Ask for a path, once for each, and wait for the answer; False at once if there is nobody to ask.

        Cancelled, as when the process is killed, the question is over; an answer to it finds nothing.
        """
        path, rights = whole(path, rights)
        means = self._means
        if not _is_clean(path) or means is None or not means.lacks(path, rights):
            return False  # what is not clean is no path that could be there
        if any(denies(grant, path, rights) for grant in self._run.never):
            return False
        for never in self.kept.never:
            if denies(never, path, rights):
                self._note(path, rights, never)
                return False
        if _allows(self._run.allow, path, rights):
            return await self._admitted(means, path, rights, "")
        if self.kept.allow:
            # What is kept is where a path led when that was said: a program that may change a link gets no more by it.
            real = await means.real(path)
            if real and _allows(self.kept.allow, real, rights):
                return await self._admitted(means, path, rights, real)
        steers = await means.steers(path)
        number = self._note(path, rights, steers=steers)
        if number is None or self._asker is None or steers:
            return False
        answer: asyncio.Future[bool]
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            return await answer
        finally:
            self._waiting.pop(number, None)
            if (unanswered := self._put.pop(number, None)) is not None:
                unanswered(self._noted[number])

    def _note(self, path: str, rights: str, never: Grant | None = None, steers: bool = False) -> int | None:
        """The number of a new want; None if it is none, or one too many."""
        if self._ended or (path, rights) in self._known:
            return None
        if len(self._noted) >= MOST or self._size + len(path) > MOST_BYTES:
            return None
        number = len(self._noted)
        self._known.add((path, rights))
        self._size += len(path)
        self._noted.append(Want(number, path, rights, never, steers))
        self._wake()
        return number

    async def _admitted(self, means: Means, path: str, rights: str, real: str) -> bool:
        """What was allowed for good may not have been there when the process began."""
        if real:
            self.given[path] = real
        try:
            await means.admit(path, rights, real)
        except FileError:
            return False  # it is not there now either
        return True

    def close(self) -> None:
        """The process is over. Nothing is kept of what could have given it more: that leads to all it had."""
        self._ended = True
        self._means = None
        self._refuse_all()
        self._wake()

    # -- whoever started it ---------------------------------------------------------------------------------------

    def begin_asking(self, asker: object) -> None:
        """From now on the process waits for `asker`'s answers. Raises BUSY if it waits for another's."""
        if self._asker is not None:
            raise FileError(E.BUSY, "wants", "somebody else is asked")
        self._asker = asker

    def end_asking(self, asker: object) -> None:
        """What is not answered is refused. Nothing happens if it is another who is asked."""
        if self._asker is asker:
            self._asker = None
            self._refuse_all()

    async def next(self, number: int) -> Want | None:
        """The want of that number, from 0, once there is one; None if there is none and the process is over."""
        while len(self._noted) <= number:
            if self._ended:
                return None
            changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._changed.add(changed)
            try:
                await changed
            finally:
                self._changed.discard(changed)
        return self._noted[number]

    def put(self, asker: object, number: int, unanswered: Callable[[Want], None]) -> None:
        """A person is asked from now on; `unanswered` is told if that ends without an answer. Nothing if it is over.

        Raises ACCES if it is another who is asked.
        """
        if self._waits_for(asker, number) is not None:
            self._put[number] = unanswered

    def _waits_for(self, asker: object, number: int) -> asyncio.Future[bool] | None:
        if self._asker is not asker:
            raise FileError(E.ACCES, "wants", "it was not opened for answers")
        waiting = self._waiting.get(number)
        return None if waiting is None or waiting.done() else waiting

    async def answer(self, asker: object, number: int, yes: bool, real: str = "") -> Want | None:
        """What was put to a person, or is allowed, and is answered so; None if it was neither, or is over.

        `real` is where it led when the question was put. Raises what keeps the path from being granted: it is a no.
        ACCES if it is another who is asked.
        """
        waiting = self._waits_for(asker, number)
        if waiting is None:
            return None
        want = self._noted[number]
        was_put = self._put.pop(number, None) is not None
        granted = False
        means = self._means
        try:
            if yes and means is not None:
                if await means.steers(want.path):
                    raise FileError(E.ACCES, want.path, "it steers the node, which is granted in so many words alone")
                await means.admit(want.path, want.rights, real)
                granted = True
        finally:
            if not waiting.done():
                waiting.set_result(granted)
        return want if yes or was_put else None

    def _refuse_all(self) -> None:
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_result(False)

    def _wake(self) -> None:
        for changed in self._changed:
            if not changed.done():
                changed.set_result(None)

"""Change notices for whoever has a namespace: a watch of a file, or of all members of a union directory.

Each member is watched under the capability that it was reached by, which must have the right to READ, at the beginning
and at each notice. If that is revoked, the watch is over, and says so; or, where others of a union are left, it has
lost something. Either takes the place of all that was told of the watch and not heard yet: of a name that came by what
was revoked nothing is left then.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable
from functools import partial

from cognu.errors import E, FileError
from cognu.files.chan import Chan
from cognu.files.dispatch import dispatch, may
from cognu.files.namespace import Namespace
from cognu.files.server import End, MaybeAsync, Notice, Tell
from cognu.files.steps import Steps, is_awaitable
from cognu.kernel import READ
from cognu.ninep.watches import BROKEN, ENDS, LOST, REVOKED

INBOX = 1024


class _Part:
    """One member's. It has a chan of its own, which keeps the authority to look."""

    __slots__ = ("chan", "end", "over", "tell", "token")

    def __init__(self, chan: Chan, tell: Tell) -> None:
        self.chan = chan.share()
        self.tell = tell
        self.end: End | None = None
        self.token = 0
        self.over = False

    def begin(self, kinds: int) -> MaybeAsync[None]:
        end = self.chan.server.watch(self.chan.fid, kinds, self.told)
        if is_awaitable(end):
            return self._begin_later(end)
        self._begun(end)
        return None

    async def _begin_later(self, end: Awaitable[End]) -> None:
        self._begun(await end)

    def _begun(self, end: End) -> None:
        if self.over:
            end()
        else:
            self.end = end

    def told(self, notice: Notice) -> None:
        if self.over:
            return
        if not may(self.chan, READ):
            notice = Notice(REVOKED)
        try:
            if notice.kind & ENDS:
                self.finish()
        finally:
            self.tell(notice)

    def finish(self) -> None:
        if self.over:
            return
        self.over = True
        self.chan.domain.authority.end(self.token)
        if self.end is not None:
            self.end()
        self.chan.close()


class Watching:
    """A watch under way. Whoever began it calls `end`, or is told that it is over."""

    def __init__(self, namespace: Namespace, chan: Chan, tell: Tell) -> None:
        self._namespace = namespace
        self._directory = chan.share()  # for the names that may be told
        self._tell = tell
        self._parts: list[_Part] = []
        self.over = False

    @property
    def chans(self) -> list[Chan]:
        """What is watched: each under the capability by which it may be told of. Not the caller's to close."""
        return [part.chan for part in self._parts if not part.over]

    def is_at(self, key: object) -> bool:
        """Whether it is of what is seen at the file that a mount table knows by `key`."""
        place = self._directory.path.mounted_on
        return key in (self._directory.key, None if place is None else place.key)

    def end(self) -> None:
        """Nothing is told any more. May be called again."""
        if self.over:
            return
        self.over = True
        self._namespace.watchings.discard(self)
        for part in self._parts:
            part.finish()
        self._directory.close()

    def mounts_changed(self, key: object) -> None:
        """Something was mounted at `key`, or unmounted there."""
        self._pass_on(Notice(BROKEN if self.is_at(key) else LOST))

    def begin(self, members: list[Chan], kinds: int) -> Steps[None]:
        """Raises what `FileServer.watch` does, and ACCES, REVOKED; then nothing is left of it."""
        self._namespace.watchings.add(self)
        try:
            for member in members:
                if self.over:
                    return
                part = _Part(member, self._told)
                self._parts.append(part)
                yield from dispatch(member, READ, part.begin, kinds)
                if not part.over:
                    part.token = member.domain.authority.begin(part.chan.cap, partial(part.told, Notice(REVOKED)))
        except BaseException:
            self.end()
            raise

    def _told(self, notice: Notice) -> None:
        if notice.kind & ENDS and any(not part.over for part in self._parts):
            notice = Notice(LOST)  # a member of the union is gone, and with it what it had
        self._pass_on(notice)

    def _pass_on(self, notice: Notice) -> None:
        if self.over:
            return
        shown = self._namespace.shown_notice(self._directory, notice)
        if notice.kind & ENDS:
            self.end()
        self._tell(shown)


class Inbox:
    """A `Tell` that keeps notices until they are asked for: at most `INBOX`; more give way to one LOST.

    Of equal notices without a name that wait there is one. A LOST, and what ends the watch, are in place of all before.
    """

    def __init__(self) -> None:
        self._notices: deque[Notice] = deque()
        self._came = asyncio.Event()

    def __call__(self, notice: Notice) -> None:
        if notice.kind & (ENDS | LOST):
            self._notices.clear()
        elif not notice.name and notice in self._notices:
            return
        elif len(self._notices) >= INBOX:
            self._notices.clear()
            self._notices.append(Notice(LOST))
        self._notices.append(notice)
        self._came.set()

    async def next(self) -> Notice:
        """The next notice. Cancelled, it takes none."""
        while not self._notices:
            self._came.clear()
            await self._came.wait()
        return self._notices.popleft()


def watch(namespace: Namespace, chan: Chan, kinds: int, tell: Tell) -> Steps[Watching]:
    """Have `tell` called when something of `kinds` happens to what is seen at `chan`, which stays the caller's.

    Raises NOTSUP if a server can't tell, ACCES without the right to READ, REVOKED. A notice may come before this
    returns; one that says that the watch is over is the last.
    """
    target, head = namespace.cross(chan)
    watching = Watching(namespace, target, tell)
    yield from watching.begin([target] if head is None else [member.chan for member in head.members], kinds)
    if watching.over:
        raise FileError(E.STALE, str(chan.path))
    return watching

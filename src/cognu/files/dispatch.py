"""The one place where a server's method is called.

Every operation, near and far, passes `dispatch`: check the capability, register the running operation under it,
call, check again before the answer goes out. Revoking a capability cancels what runs under it (`Authority` calls the
registered cancel), and the second check catches an answer that was ready at the same moment. A check at the entry
alone would let a read that was waiting bring data after the revocation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import ParamSpec, Protocol, TypeVar

from cognu.errors import E, FileError
from cognu.files.chan import Domain, Path
from cognu.files.steps import Steps, is_awaitable
from cognu.kernel import Cap

T = TypeVar("T")
P = ParamSpec("P")


class Held(Protocol):
    """What an operation goes through: a chan, or a device about to be attached."""

    @property
    def domain(self) -> Domain: ...

    @property
    def cap(self) -> Cap: ...

    @property
    def path(self) -> Path: ...

    @property
    def admitted(self) -> int: ...

    @property
    def lacking(self) -> int: ...

    def admit(self, rights: int) -> None: ...


def may(chan: Held, rights: int) -> bool:
    """Whether `dispatch` would let a call that needs `rights` through now."""
    return not chan.domain.kernel.check(chan.domain.pid, chan.cap[0], chan.cap[1], rights)


def dispatch(
    chan: Held, rights: int, method: Callable[P, T | Awaitable[T]], *args: P.args, **kwargs: P.kwargs
) -> Steps[T]:
    """Call `method` under the chan's capability, which must have all of `rights`; else raises ACCES or REVOKED."""
    domain = chan.domain
    if domain.authority.orphans:
        domain.authority.close_orphans()
    # Every operation passes here, so the kernel is asked again only of what it has not said yes to, or what died since.
    if domain.generations[chan.cap[0]] != chan.admitted or rights & chan.lacking:
        chan.admit(rights)
    result = method(*args, **kwargs)
    if is_awaitable(result):
        awaited: T = yield _guarded(chan, rights, result)
        return awaited
    return result


def at_once(chan: Held, rights: int, method: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
    """As `dispatch`, of a method that answers now or gives None. None too if it is refused: `dispatch` says by whom.

    For whoever uses the answer in the same step, so that nothing can be revoked between the check and that.
    """
    domain = chan.domain
    if domain.authority.orphans or domain.generations[chan.cap[0]] != chan.admitted or rights & chan.lacking:
        return None  # `dispatch` asks the kernel
    try:
        return method(*args, **kwargs)
    except FileError:
        return None


async def _guarded(chan: Held, rights: int, pending: Awaitable[T]) -> T:
    """Await under registration. A revocation cancels this task's wait alone, as asyncio.timeout() does with its own."""
    task = asyncio.current_task()
    assert task is not None
    revoked = False
    cancelling = task.cancelling()

    def revoke() -> None:
        nonlocal revoked
        revoked = True
        task.cancel()

    try:
        token = chan.domain.authority.begin(chan.cap, revoke)
    except FileError:
        _abandon(pending)  # revoked between the call and now
        raise
    try:
        result = await pending
    except asyncio.CancelledError:
        if revoked and task.uncancel() <= cancelling:
            raise FileError(E.REVOKED, str(chan.path)) from None
        raise
    except Exception:
        if revoked:
            await _withdraw(task, cancelling)
            raise FileError(E.REVOKED, str(chan.path)) from None
        raise
    finally:
        chan.domain.authority.end(token)
    if revoked:
        # The answer was there at the same moment; the cancellation is still to come and must not hit the caller.
        await _withdraw(task, cancelling)
        raise FileError(E.REVOKED, str(chan.path))
    # What it ran under lives, but it may not be the chan's any more: one that was lessened meanwhile has less.
    chan.domain.check(chan.cap, rights)
    return result


async def _withdraw(task: asyncio.Task[object], cancelling: int) -> None:
    """Take back one cancellation; if it was not delivered yet, here is the point at which it is."""
    if task.uncancel() > cancelling:
        return  # another one is under way, and stands
    try:
        await asyncio.sleep(0)
    except asyncio.CancelledError:
        if task.cancelling() > cancelling:
            raise


def _abandon(pending: Awaitable[object]) -> None:
    """What was begun and will not be awaited is ended."""
    if isinstance(pending, Coroutine):
        pending.close()
    elif isinstance(pending, asyncio.Future):
        pending.cancel()

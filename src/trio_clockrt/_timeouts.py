"""Timeouts that a clock's own timers drive, and those that say that the time was up.

On the run's own clock, a timeout is a scope of Trio's with a deadline. `move_on_after`
and `move_on_at` return Trio's own, unchanged, unless the length is so short, beside the
present, that rounding might swallow it. (Since Trio 0.27, the oldest that will do,
these count from when they are entered and take `shield`.)

Too slow is what has taken too long. Trio's `fail_after` looks at whether the scope has
caught anything, so there cancelling by hand is a timeout. `ScopeTimeout` asks whether
the deadline has come. The user may move that deadline, also when it has come and the
block is being left. Trio's `Cancelled` tells whether a deadline has cancelled a scope,
so the block asks that as well. Where Trio does not tell, a deadline that has been moved
may have come before. In doubt, the block was too slow.

A clock whose instants are not those of the run drives a timeout by a timer that cancels
the scope. The timer knows whether it has cancelled the scope, so nothing has to be
guessed. Like a scope of Trio's, such a timeout looks at the time once it has been
entered: if it waited for its timer, a block that is too late would receive what is
there already.
"""

from __future__ import annotations

import sys
from inspect import signature
from math import inf
from typing import TYPE_CHECKING, cast

import trio
from trio.lowlevel import enable_ki_protection

from ._block import SyncBlock
from ._durations import later
from ._post import post
from ._waiters import is_there, who_waits

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from ._activation import Activation

# A short length of time may be lost to rounding when it is added to an instant. One of
# SHORT or more is not lost for a hundred thousand years. And if this PART of a length
# is not lost now, the length is not lost before instants are a million times as large.
SHORT = 1e-3
PART = 1e-6

# Trio before 0.31 asks for no reason.
_REASON = {"reason"} & set(signature(trio.CancelScope.cancel).parameters)


def cancel(scope: trio.CancelScope, reason: str) -> None:
    """Cancel, and say why where Trio passes that on to the task."""
    scope.cancel(**dict.fromkeys(_REASON, reason))


def _source(cancelled: trio.Cancelled) -> str:
    """What a scope was cancelled by; Trio before 0.31 does not tell."""
    return getattr(cancelled, "source", "unknown")


def _cancellations(exc: BaseException | None) -> Iterator[trio.Cancelled]:
    """All that a scope has caught: one, or a group of them and of such groups."""
    if isinstance(exc, BaseExceptionGroup):
        for part in cast("BaseExceptionGroup[trio.Cancelled]", exc).exceptions:
            yield from _cancellations(part)
    else:
        yield cast("trio.Cancelled", exc)


class _Timeout(SyncBlock[trio.CancelScope, bool]):
    """A block with a limit: an instant, or so long after it has been entered."""

    # The deadline that the scope has been given, unless the user moves it.
    _deadline = inf

    def __init__(
        self,
        activation: Activation,
        *,
        after: float | None = None,
        at: float = 0.0,
        shield: bool,
        fail: bool,
    ) -> None:
        self._activation = activation
        self._timers = activation.timers
        self._after = after
        self.when = at
        self._scope = trio.CancelScope(shield=shield)
        self._fail = fail

    def _count_from_now(self) -> None:
        if self._after is not None:
            self.when = later(self._timers.now(), self._after)

    def _may_have_expired(self, exc: BaseException | None) -> bool:
        """Whether the scope's deadline may have been what has cancelled it.

        The user may move the deadline at any time, also when it has come already. A
        scope does not tell what has cancelled it, but what is raised in the block does.
        Where that tells nothing, a deadline that has been moved may have come before.
        """
        scope = self._scope
        if scope.deadline <= trio.current_time():
            return True
        by_hand = {"explicit", "nursery"}
        if scope.deadline == self._deadline:
            by_hand.add("unknown")
        return not by_hand.issuperset(map(_source, _cancellations(exc)))

    def _says(self) -> str:
        """That the time is up, for people to read."""
        name = "fail" if self._fail else "move_on"
        if self._after is None:
            limit = f"{name}_at({self.when!r})"
        else:
            limit = f"{name}_after({self._after!r})"
        source, maker = self._activation.source.name, self._activation.name
        return f"the time of {limit} is up, on the clock of {maker} ({source})"


class ScopeTimeout(_Timeout):
    """One that is a cancel scope with a deadline, on the run's own clock.

    It differs from Trio's own timeouts in two ways. A timeout of more than zero ends
    later than it begins. And if the block was cancelled by hand in time, it does not
    fail. Where it cannot be known what has cancelled the block, the timeout fails.
    """

    _usage = "`with clock.fail_after(seconds) as scope:`"

    @enable_ki_protection
    def __enter__(self) -> trio.CancelScope:
        self._enter_once()
        self._count_from_now()
        self._scope.deadline = self._deadline = self.when
        return self._scope.__enter__()

    @enable_ki_protection
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        scope = self._scope
        caught = scope.__exit__(exc_type, exc, traceback)
        if self._fail and scope.cancelled_caught and self._may_have_expired(exc):
            raise trio.TooSlowError(self._says()) from None
        return caught


class Timeout(_Timeout):
    """One that is a timer, where the run's clock is another.

    The deadline of the scope itself stays infinite, as it would be on the scale of the
    Trio run, which is another one. If the user sets it, that is one more limit.
    """

    _usage = "`with clock.move_on_after(seconds) as scope:`"
    _only_wakes = False
    _periodic = False
    _detour = 0
    _seq: int
    # Whether it has cancelled the scope, as the time is up, or as the clock is gone.
    _up = False
    _gone = False
    _over = False

    @enable_ki_protection
    def __enter__(self) -> trio.CancelScope:
        self._enter_once()
        self._timers.check()
        self._count_from_now()
        _, self._run = who_waits(self._timers)
        self._timers.add(self)
        self._scope.__enter__()
        # Trio's do so too: what is there already must not be received any more.
        if self.when <= self._timers.now():
            self._expire()
        return self._scope

    @enable_ki_protection
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self._over = True
        self._timers.discard(self)
        caught = self._scope.__exit__(exc_type, exc, traceback)
        if self._scope.cancelled_caught:
            # From None, as the Cancelled that told us is of no use to users.
            if self._gone:
                raise self._timers.life.gone() from None
            if self._fail and (self._up or self._may_have_expired(exc)):
                raise trio.TooSlowError(self._says()) from None
        return caught

    def _fire(self) -> bool:
        if self._run is not None and not is_there(self._run):
            post(self._run, self._fire)
        else:
            self._expire()
        return True

    def _expire(self) -> None:
        # It may have been cancelled by hand, in time.
        if not (self._over or self._scope.cancel_called):
            self._up = True
            cancel(self._scope, self._says())

    def _clock_gone(self) -> None:
        if is_there(self._run) and not (self._over or self._scope.cancel_called):
            self._gone = True
            cancel(self._scope, str(self._timers.life.gone()))

    def _give_up(self) -> None:
        self._timers.discard(self)

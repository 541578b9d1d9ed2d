"""Timeouts that a clock's own timers drive, where Trio's cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
from trio.lowlevel import enable_ki_protection

from ._block import SyncBlock
from ._durations import later
from ._post import post
from ._waiters import is_there, who_waits

if TYPE_CHECKING:
    from types import TracebackType

    from ._state import State


class Timeout(SyncBlock[trio.CancelScope, bool]):
    """A block that is cancelled at an instant, or so long after it has been entered.

    The deadline of the scope itself stays infinite, as it would be on the scale of the
    Trio run, which is another one.
    """

    _usage = "`with clock.move_on_after(seconds) as scope:`"
    _only_wakes = False
    _periodic = False

    def __init__(
        self,
        state: State,
        *,
        after: float | None = None,
        at: float = 0.0,
        shield: bool,
        fail: bool,
    ) -> None:
        self._state = state
        self._after = after
        self.when = at
        self._scope = trio.CancelScope(shield=shield)
        self._fail = fail
        self._gone = False
        self._over = False

    @enable_ki_protection
    def __enter__(self) -> trio.CancelScope:
        self._enter_once()
        self._state.check()
        if self._after is not None:
            self.when = later(self._state.now(), self._after)
        _, self._run = who_waits(self._state)
        self._state.add(self)
        self._scope.__enter__()
        return self._scope

    @enable_ki_protection
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self._over = True
        self._state.discard(self)
        caught = self._scope.__exit__(exc_type, exc, traceback)
        if self._scope.cancelled_caught:
            # From None, as nobody needs to see the Cancelled that told us.
            if self._gone:
                raise self._state.gone() from None
            if self._fail:
                raise trio.TooSlowError from None
        return caught

    def _fire(self) -> bool:
        if self._run is not None and not is_there(self._run):
            post(self._run, self._fire)
        elif not self._over:
            self._scope.cancel()
        return True

    def _clock_gone(self) -> None:
        if is_there(self._run) and not self._over:
            self._gone = not self._scope.cancel_called
            self._scope.cancel()

    def _not_set(self) -> None:
        self._state.discard(self)

    def _give_up(self) -> tuple[Timeout]:
        return (self,)

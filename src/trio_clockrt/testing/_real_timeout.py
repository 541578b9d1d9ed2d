"""A guard in real time around what happens in virtual time."""

from __future__ import annotations

from math import inf
from threading import TIMEOUT_MAX, Timer
from typing import TYPE_CHECKING

import trio
from trio.lowlevel import current_task, current_trio_token, enable_ki_protection

from .._block import SyncBlock
from .._post import post
from .._timeouts import cancel

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType


class RealTimeout(SyncBlock[trio.CancelScope, bool]):
    """A block that is cancelled, and says why, when it takes too long for people.

    Args:
        report: Tells what everybody is waiting for.
    """

    _usage = "`with control.fail_after_real(seconds):`"

    def __init__(self, seconds: float, report: Callable[[], str]) -> None:
        self._seconds = seconds
        self._report = report
        self._scope = trio.CancelScope()
        self._message = ""

    @enable_ki_protection
    def __enter__(self) -> trio.CancelScope:
        self._enter_once()
        try:
            current_task()
        except RuntimeError:
            raise RuntimeError(
                "fail_after_real() cancels what a Trio task does, so use it in one"
            ) from None
        self._run = current_trio_token()
        self._timer = Timer(min(self._seconds, TIMEOUT_MAX), self._expire)
        self._timer.daemon = True
        if self._seconds < inf:
            self._timer.start()
        return self._scope.__enter__()

    @enable_ki_protection
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self._timer.cancel()
        caught = self._scope.__exit__(exc_type, exc, traceback)
        if self._message and self._scope.cancelled_caught:
            # From None, as nobody needs to see the Cancelled that told us.
            raise trio.TooSlowError(self._message) from None
        return caught

    def _expire(self) -> None:
        post(self._run, self._cancel)

    def _cancel(self) -> None:
        # Somebody may have cancelled it by hand, in time.
        if not self._scope.cancel_called:
            reason = f"this has taken more than {self._seconds} real seconds"
            self._message = f"{reason}{self._report()}"
            cancel(self._scope, f"fail_after_real(): {reason}")

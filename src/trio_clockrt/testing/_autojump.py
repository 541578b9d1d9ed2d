"""When a whole Trio run has nothing to do, time goes to the next deadline at once."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

import trio
from trio.lowlevel import add_instrument

from ._trio_inside import anybody_runnable, anybody_waits_for_idleness, next_deadline
from ._worker_threads import any_worker_is_busy

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._virtual_time import VirtualTime


class Autojump(trio.abc.Instrument):
    """Tells Trio how long to wait for I/O, and moves the time when nothing happens.

    Trio asks `sleep_time` only when no task is runnable, then looks for I/O, and then
    calls `after_io_wait`. If there is still no task runnable, nothing will happen
    before the next deadline.
    """

    def __init__(self, time: VirtualTime, real: Callable[[], float]) -> None:
        self.threshold = inf
        self.ignore_threads = False
        # Whoever does not want a jump now.
        self.holds: set[object] = set()
        self._time = time
        self._real = real
        self._watching = False
        # Until when, in real time, Trio waits for something to happen; None if it does
        # not, or if there is nothing to jump to.
        self._patient_until: float | None = None

    def start(self) -> None:
        """A run begins."""
        self._watching = False
        self._patient_until = None

    def sleep_time(self, deadline: float) -> float:
        seconds = self._time.real_seconds_until(deadline)
        threshold = self.threshold
        if (
            threshold >= seconds
            or deadline == inf
            or self.holds
            or anybody_waits_for_idleness()
            or (not self.ignore_threads and any_worker_is_busy())
        ):
            self._patient_until = None
            return seconds
        if not self._watching:
            add_instrument(self)
            self._watching = True
        self._patient_until = self._real() + threshold if threshold > 0 else -inf
        return threshold

    # (Trio passes the timeout, and its base class names it.)
    def after_io_wait(self, timeout: float) -> None:  # noqa: ARG002
        until, self._patient_until = self._patient_until, None
        if until is None or self.holds or anybody_runnable():
            return
        if until == -inf or self._real() >= until:
            deadline = next_deadline()
            if deadline < inf:
                self._time.go_to(deadline)

"""When a whole Trio run has nothing to do, time goes to the next deadline at once."""

from __future__ import annotations

from math import inf
from threading import active_count
from typing import TYPE_CHECKING

import trio
from trio.lowlevel import add_instrument, current_trio_token

from .._alarm import post
from ._control_alarm import ControlAlarm
from ._trio_inside import TrioInside
from ._worker_threads import any_worker_is_busy

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio.lowlevel import TrioToken

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
        # Of the drivers in this run that are asleep.
        self._alarms: dict[ControlAlarm, None] = {}
        self._watching = False
        # Whether Trio waits, and may have to be told of an earlier deadline.
        self.waiting = False
        # When to jump, in real time, if nothing happens before.
        self._jump_at = inf

    def start(self) -> None:
        """A run begins."""
        self._run: TrioToken = current_trio_token()
        self._inside = TrioInside()
        self._alarms.clear()
        self._watching = False
        self.waiting = False
        self._jump_at = inf

    def make_alarm(self) -> ControlAlarm:
        self._watch()
        return ControlAlarm(self._alarms, self)

    def alarm_moved(self) -> None:
        """While Trio waits: by a host, by a signal handler or a finalizer."""
        post(self._run, int)

    def _watch(self) -> None:
        if not self._watching:
            add_instrument(self)
            self._watching = True

    def sleep_time(self, deadline: float) -> float:
        for alarm in self._alarms:
            if alarm.deadline < deadline:
                deadline = alarm.deadline
        self.waiting = True
        self._jump_at = inf
        threshold = self.threshold
        if (
            threshold < inf
            and deadline < inf
            and not self.holds
            and not self._inside.anybody_waits_for_idleness()
            # Python knows far sooner than Trio that there is no other thread at all.
            and (active_count() == 1 or self.ignore_threads or not any_worker_is_busy())
        ):
            if not self._watching:
                self._watch()
            if threshold == 0:
                self._jump_at = -inf
                return 0.0
            seconds = self._time.real_seconds_until(deadline)
            if threshold < seconds:
                self._jump_at = self._real() + threshold
                return threshold
            return seconds
        return self._time.real_seconds_until(deadline)

    # (Trio passes the timeout, and its base class names it.)
    def after_io_wait(self, timeout: float) -> None:  # noqa: ARG002
        self.waiting = False
        first = inf
        for alarm in self._alarms:
            if alarm.deadline < first:
                first = alarm.deadline
        if (
            self._jump_at < inf
            and not self.holds
            and (self._jump_at == -inf or self._jump_at <= self._real())
        ):
            deadline = min(first, self._inside.next_deadline())
            if deadline < inf:
                self._time.go_to(deadline)
        now = self._time.instant()
        if first <= now:
            for alarm in tuple(self._alarms):
                if alarm.deadline <= now and not alarm.state.fire_lone(now):
                    alarm.wake()

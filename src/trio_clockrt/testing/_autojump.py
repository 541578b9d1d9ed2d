"""When a whole Trio run has nothing to do, time goes to the next deadline at once."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

import trio
from trio.lowlevel import add_instrument, current_trio_token

from .._alarm import post
from ._control_alarm import ControlAlarm
from ._trio_inside import TrioInside

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio.lowlevel import TrioToken

    from ._idleness import Idleness
    from ._stand_alone import StandAlone
    from ._virtual_time import VirtualTime


class Autojump(trio.abc.Instrument):
    """Tells Trio how long to wait for I/O, and moves the time when nothing happens.

    Trio asks `sleep_time` only when no task is runnable, then looks for I/O, and then
    calls `after_io_wait`. If there is still no task runnable, nothing will happen
    before the next deadline.
    """

    def __init__(
        self,
        time: VirtualTime,
        idleness: Idleness,
        others: StandAlone,
        real: Callable[[], float],
    ) -> None:
        self._time = time
        self._idleness = idleness
        self._others = others
        self._real = real
        # Of the drivers in this run that are asleep.
        self._asleep: dict[ControlAlarm, None] = {}
        self._watching = False
        # Whether Trio waits, and may have to be told of an earlier deadline.
        self.waiting = False
        # When to jump, in real time, if nothing happens before.
        self._jump_at = inf

    def start(self) -> None:
        """A run begins."""
        self._run: TrioToken = current_trio_token()
        self._inside = TrioInside()
        self._asleep.clear()
        self._watching = False
        self.waiting = False
        self._jump_at = inf

    def make_alarm(self) -> ControlAlarm:
        self._watch()
        return ControlAlarm(self._asleep, self)

    def alarm_moved(self) -> None:
        """While Trio waits: by a host, by a signal handler or a finalizer."""
        post(self._run, int)

    def next_deadline(self) -> float:
        """The earliest deadline, of Trio's or of a clock in this run."""
        deadlines = [alarm.deadline for alarm in self._asleep]
        return min(self._inside.next_deadline(), *deadlines, inf)

    def only_periodic(self) -> bool:
        return self._inside.next_deadline() == inf and all(
            alarm.state.only_periodic() for alarm in self._asleep
        )

    def sleep_time(self, deadline: float) -> float:
        idleness = self._idleness
        for alarm in self._asleep:
            if alarm.deadline < deadline:
                deadline = alarm.deadline
        if self._others:
            deadline = min(deadline, self._others.next_deadline())
        self.waiting = True
        self._jump_at = inf
        seconds = self._time.real_seconds_until(deadline)
        if (
            idleness.threshold >= seconds
            or deadline == inf
            or idleness.holds
            or self._inside.anybody_waits_for_idleness()
        ):
            return seconds
        busy_for = idleness.wait_for_workers()
        if busy_for:
            return min(busy_for, seconds)
        if not self._watching:
            self._watch()
        patience = idleness.patience()
        if patience >= seconds:
            return seconds
        self._jump_at = self._real() + patience if patience else -inf
        return patience

    # (Trio passes the timeout, and its base class names it.)
    def after_io_wait(self, timeout: float) -> None:  # noqa: ARG002
        self.waiting = False
        first = inf
        for alarm in self._asleep:
            if alarm.deadline < first:
                first = alarm.deadline
        if (
            self._jump_at < inf
            and not self._idleness.holds
            and (self._jump_at == -inf or self._jump_at <= self._real())
        ):
            self._jump(min(first, self._inside.next_deadline_if_idle()))
        now = self._time.instant()
        # Time may also have come there by itself.
        if self._others and self._others.next_deadline() <= now:
            self._others.ring()
        if first <= now:
            for alarm in tuple(self._asleep):
                if alarm.deadline <= now and not alarm.state.fire_lone(now):
                    alarm.wake()

    def _jump(self, deadline: float) -> None:
        if self._others and deadline > -inf:
            deadline = min(deadline, self._others.next_deadline())
        if deadline < inf:
            self._time.go_to(deadline)

    def _watch(self) -> None:
        if not self._watching:
            add_instrument(self)
            self._watching = True

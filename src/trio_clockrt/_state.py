"""One activation of a clock: what its owners, its timers and its driver share."""

from __future__ import annotations

from collections import deque
from functools import partial
from math import inf
from threading import get_ident
from typing import TYPE_CHECKING, Protocol

from ._errors import ClockGone
from ._timer_queue import TimerQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator

    from ._time_source import TimeSource

# A driver lets other tasks run after so many timers or so many seconds on its own
# clock, whichever comes first. (Virtual time stands still while timers fire, so there
# it is always the number, and a run can be repeated.)
_TIMERS_PER_TURN = 1024
_SECONDS_PER_TURN = 0.001

# Reading a clock costs a good part of waking a task. After code that is not ours the
# clock is always read, as that may have taken any time.
_QUICK_TIMERS_PER_READING = 16


class Waiter(Protocol):
    """Somebody a timer wakes. When one of these is called, the timer is out of the
    queue; neither of them raises.
    """

    when: float

    def _fire(self) -> bool:
        """Do what is due, and tell whether that ran any code of the user's."""
        ...

    def _clock_gone(self) -> None: ...


class Dependent(Protocol):
    """Somebody who is told when the clock goes, whether or not a timer is pending."""

    def _clock_gone(self) -> None: ...


class Alarm(Protocol):
    """What wakes the driver. While the driver is awake the deadline is ``-inf``."""

    deadline: float

    def move(self, deadline: float) -> None: ...


class State:
    """The timers of an activation, and whether it is alive.

    Whoever waits for a timer holds this and never a `Clock`, so that waiting does not
    make anybody an owner.
    """

    source: TimeSource
    now: Callable[[], float]
    registered: int
    fired: int
    cancelled: int

    def __init__(self, source: TimeSource, alarm: Alarm) -> None:
        self.source = source
        self.now = source.instant
        self._alarm = alarm
        self._queue: TimerQueue[Waiter] = TimerQueue()
        self._pass: Generator[Waiter, None, None] | None = None
        self._firing = False
        # While the queue is being changed, the garbage collector may run a finalizer
        # that changes it too. That has to wait.
        self._changing = False
        self._postponed: deque[Callable[[], None]] = deque()
        # The thread that timers may be used from; None once the clock is gone.
        self._thread: int | None = get_ident()
        # Whoever is told of the end; a dictionary for its order.
        self.dependents: dict[Dependent, None] = {}
        self.registered = 0
        self.fired = 0
        self.cancelled = 0

    @property
    def alive(self) -> bool:
        return self._thread is not None

    @property
    def pending(self) -> int:
        return self.registered - self.fired - self.cancelled

    def check(self) -> None:
        """Refuse, unless a timer may be used here and now."""
        if self._thread != get_ident():
            if self._thread is None:
                raise ClockGone
            raise RuntimeError(
                "this clock's timers can only be used from the thread that activated "
                "it. From a worker thread, use trio.from_thread.run_sync(); in another "
                "run, activate another clock. A clock for many threads will come from "
                "InactiveClock.new_shared(), which is not there yet"
            )

    def add(self, waiter: Waiter) -> None:
        """Register."""
        if self._thread != get_ident():
            self.check()
        if self._changing:
            self._postponed.append(partial(self.add, waiter))
            return
        self._changing = True
        try:
            self._queue.add(waiter)
            self.registered += 1
            if waiter.when < self._alarm.deadline:
                self._alarm.move(waiter.when)
        finally:
            self._changing = False
        if self._postponed:
            self._catch_up()

    def discard(self, waiter: Waiter) -> None:
        """Cancel, if it is registered. The driver will not wake up for it."""
        self._replace((waiter,))

    def discard_all(self, waiters: Collection[Waiter]) -> None:
        """Cancel those that are registered."""
        self._replace(waiters)

    def move(self, waiter: Waiter, when: float) -> None:
        """Register for another instant, and no longer for what it is registered for."""
        self._replace((waiter,), waiter, when)

    def _replace(
        self, old: Collection[Waiter], new: Waiter | None = None, when: float = inf
    ) -> None:
        if self._thread != get_ident():
            if self._thread is None and new is None:
                return
            self.check()
        if self._changing:
            self._postponed.append(partial(self._replace, old, new, when))
            return
        self._changing = True
        try:
            queue, alarm_at = self._queue, self._alarm.deadline
            earliest = inf
            for waiter in old:
                self.cancelled += queue.discard(waiter)
                if waiter.when < earliest:
                    earliest = waiter.when
            if new is not None:
                new.when = when
                queue.add(new)
                self.registered += 1
                if when < earliest:
                    earliest = when
            if earliest <= alarm_at:
                self._rearm()
        finally:
            self._changing = False
        if self._postponed:
            self._catch_up()

    def next_deadline(self) -> float:
        if self._changing:
            raise RuntimeError("next_deadline is not known while timers are changing")
        self._changing = True
        try:
            return self._queue.next_deadline()
        finally:
            self._changing = False

    def fire_due(self, now: float | None) -> None:
        """Take a turn: fire what is due, or as much of it as fits into one."""
        self.check()
        if self._firing or self._changing:
            raise RuntimeError(
                "advance_timers() was called from inside a timer's callback; timers "
                "that are due now fire when the callback has returned"
            )
        begin = self.now()
        if now is None:
            now = begin
        elif now > begin:
            raise ValueError(
                f"`now` must not be ahead of the clock, which is at {begin!r}, but it "
                f"is {now!r}; leave it out to fire what is due"
            )
        if self._pass is None:
            self._pass = self._queue.due(now)
        self._firing = self._changing = True
        try:
            for count, waiter in enumerate(self._pass, 1):
                self._changing = False
                self.fired += 1
                slow = waiter._fire()
                if self._postponed:
                    self._catch_up()
                if (slow or not count % _QUICK_TIMERS_PER_READING) and (
                    count >= _TIMERS_PER_TURN or self.now() - begin > _SECONDS_PER_TURN
                ):
                    break
                self._changing = True
            else:
                self._pass = None
            self._changing = True
            self._rearm()
        finally:
            self._firing = self._changing = False
        if self._postponed:
            self._catch_up()

    def end(self) -> None:
        """The clock is gone: tell everybody who waits. Idempotent."""
        self._thread = None
        if self._pass is not None:
            self._pass.close()
            self._pass = None
        for waiter in self._queue.due(inf):
            self.cancelled += 1
            waiter._clock_gone()
        for dependent in list(self.dependents):
            dependent._clock_gone()
        self.dependents.clear()
        self._postponed.clear()

    def _catch_up(self) -> None:
        while self._postponed:
            self._postponed.popleft()()

    def _rearm(self) -> None:
        alarm = self._alarm
        if alarm.deadline != -inf:
            deadline = self._queue.next_deadline()
            if deadline != alarm.deadline:
                alarm.move(deadline)

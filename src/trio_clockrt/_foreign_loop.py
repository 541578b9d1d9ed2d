"""A loop that is not Trio's: it sleeps as it is told, and is told to sleep for less.

Such a loop calls `ClockDriver.advance_timers`, and sleeps until the deadline that it
returns. A timer that is set meanwhile, for an earlier instant, would fire late. So the
clock remembers what the loop was told, as the driver of a Trio run has its alarm, and
calls a function of the loop's. It may be called once too often, and never too seldom.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING
from weakref import ref

from trio.lowlevel import enable_ki_protection

from ._alarm import LONG_AGO, ManualAlarm
from ._callbacks import check_notice_result
from ._driver import ClockDriver

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._state import State


class LoopAlarm(ManualAlarm):
    """Calls the loop when a timer is due before the loop comes by.

    The deadline is when the loop comes by: what it was told, or the first timer's if
    that is earlier, as the loop has been called for that one. Nothing makes a loop
    sleep for longer. While it is awake, which is to say in its driver, both are
    ``-inf``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.deadline = self._told = inf
        # Whether the last owner has gone while the loop was awake.
        self._owner_gone = False

    def follow(self, driver: LoopDriver) -> None:
        self._loop_driver = ref(driver)

    def rise(self) -> None:
        self.deadline = self._told = -inf
        self._owner_gone = False

    def lie_down(self, until: float | None) -> None:
        """The loop is told this deadline, and sleeps until then."""
        driver = self._loop_driver()
        assert driver is not None
        state = driver._state
        self.deadline = self._told = inf if until is None else max(until, LONG_AGO)
        # In this order: a timer that was set before that has seen the loop awake.
        first = max(state.next_deadline(), LONG_AGO)
        if first < self.deadline or (self._owner_gone and not state.in_use):
            self.deadline = first
            driver.call_loop()

    def move(self, deadline: float) -> None:
        driver, deadline = self._loop_driver(), max(deadline, LONG_AGO)
        if deadline < self.deadline and driver is not None:
            driver._state.afterwards(driver.call_loop)
        self.deadline = min(deadline, self._told)

    def call(self) -> None:
        driver = self._loop_driver()
        if driver is not None and self.deadline != -inf:
            driver.call_loop()

    @enable_ki_protection
    def wake_soon(self, _: object = None) -> None:
        """Perhaps the clock is not used any more: from any thread, at any moment."""
        driver = self._loop_driver()
        if driver is None:
            return
        state = driver._state
        if self.deadline == -inf:
            self._owner_gone = True
        elif state.changing and state.is_here():
            state.afterwards(self.wake_soon)
        elif state.shared or not state.in_use:
            # An exception would tell nothing to the code that is interrupted here.
            state.keep_failure(driver.call_loop)


class LoopDriver(ClockDriver):
    """The driver that such a loop holds: the loop sleeps for what the driver tells."""

    def __init__(
        self, alarm: LoopAlarm, on_earlier: Callable[[], object], state: State
    ) -> None:
        super().__init__(state)
        self._alarm = alarm
        # Held here only, so that a clock that has lost its driver holds no loop.
        self._on_earlier = on_earlier
        alarm.follow(self)

    @property
    def next_deadline(self) -> float | None:
        return self._tell(self._next_deadline)

    @enable_ki_protection
    def advance_timers(self, now: float | None = None) -> float | None:
        return self._tell(lambda: super(LoopDriver, self).advance_timers(now))

    @enable_ki_protection
    def _tell(self, ask: Callable[[], float | None]) -> float | None:
        state, alarm = self._state, self._alarm
        in_a_callback = state.firing and alarm.deadline == -inf
        if in_a_callback or state.changing or not state.is_here():
            return ask()  # the loop is told afterwards, or is going to be refused
        try:
            alarm.rise()
            deadline = ask()
        except BaseException:
            if state.alive:
                # The loop looks there what it would have been told.
                alarm.lie_down(self._next_deadline())
            raise
        alarm.lie_down(deadline)
        return deadline

    def call_loop(self) -> None:
        result = self._on_earlier()
        if result is not None:
            check_notice_result(self._on_earlier, result, "on_earlier")

"""A loop that is not Trio's: it sleeps as it is told, and is told to sleep for less.

Such a loop calls `ClockDriver.advance_timers`, and sleeps until the deadline that the
driver returns. A timer that is set meanwhile, for an earlier instant, would fire late.
So the clock remembers what the loop was told, as the driver of a Trio run has its
alarm, and calls a function of the loop's. That function may be called once too often,
and never too seldom. To read `next_deadline` counts as being told, since a loop may
sleep for that.

While the loop is awake, the alarm is off. When the loop is told how long to sleep, the
alarm is set first, and then the driver looks once more, as the driver's task does.

The function is called when the change is done, as it may do anything. It is called in
the call that has made the change, which gets its exceptions. A change that the inbox
has put off has no such call any more, and an owner may go where no call is; then
`advance_timers` raises what the function has raised. On a shared clock, a thread leaves
its message, looks at the alarm, and calls the function itself, where a Trio run would
get a message.

The driver holds the function, and the timers do not. So what is left of a clock does
not hold a loop.
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

    from ._activation import Activation


class LoopAlarm(ManualAlarm):
    """Calls the loop when a timer is due before the loop comes by.

    The deadline is when the loop comes by: what it was told, or the first timer's if
    that is earlier, as the loop has been called for that one. Nothing makes a loop
    sleep for longer. While it is awake, which is to say in its driver, both are
    ``-inf``.
    """

    tells = True

    def __init__(self) -> None:
        self.deadline = self._told = inf
        # Whether the loop is to be called when nothing is busy any more, or when it has
        # been told how long to sleep.
        self._to_call = False

    def follow(self, driver: LoopDriver) -> None:
        self._loop_driver = ref(driver)

    def rise(self) -> None:
        self.deadline = self._told = -inf
        self._to_call = False

    def lie_down(self, until: float | None) -> None:
        """The loop is told this deadline, and sleeps until then."""
        driver = self._loop_driver()
        assert driver is not None
        timers = driver._timers
        self.deadline = self._told = inf if until is None else max(until, LONG_AGO)
        # In this order: a timer that was set before that has seen the loop awake.
        first = max(timers.next_deadline(), LONG_AGO)
        unused, self._to_call = self._to_call, False
        if first < self.deadline or (unused and not timers.life.in_use):
            self.deadline = first
            driver.call_loop()

    def move(self, deadline: float) -> None:
        deadline = max(deadline, LONG_AGO)
        if deadline < self.deadline:
            self._to_call = True
        self.deadline = min(deadline, self._told)

    def has_moved(self) -> None:
        if self._to_call and self.deadline != -inf:
            self._to_call = False
            self.tell(int)

    def tell(self, fn: Callable[[], object]) -> None:  # noqa: ARG002
        driver = self._loop_driver()
        if driver is not None and self.deadline != -inf:
            driver.call_loop()

    @enable_ki_protection
    def wake_soon(self) -> None:
        """Perhaps the clock is not used any more: from any thread, at any moment."""
        driver = self._loop_driver()
        if driver is None:
            return
        timers = driver._timers
        if self.deadline == -inf:
            self._to_call = True
        elif timers.busy and timers.is_here():
            if not self._to_call:
                self._to_call = True
                timers.inbox.append(None)
        elif timers.lock or not timers.life.in_use:
            # An exception would tell nothing to the code that is interrupted here.
            timers.failures.keep(driver.call_loop)


class LoopDriver(ClockDriver):
    """The driver that such a loop holds: the loop sleeps for what the driver tells."""

    def __init__(
        self,
        alarm: LoopAlarm,
        on_earlier: Callable[[], object],
        activation: Activation,
    ) -> None:
        super().__init__(activation)
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
        timers, alarm = self._timers, self._alarm
        in_a_callback = timers.firing and alarm.deadline == -inf
        if in_a_callback or timers.busy or not timers.is_here():
            return ask()  # the loop is told afterwards, or is going to be refused
        try:
            alarm.rise()
            deadline = ask()
        except BaseException:
            if timers.life.alive:
                # The loop looks there what it would have been told.
                alarm.lie_down(self._next_deadline())
            raise
        alarm.lie_down(deadline)
        return deadline

    def call_loop(self) -> None:
        result = self._on_earlier()
        if result is not None:
            check_notice_result(self._on_earlier, result, "on_earlier")

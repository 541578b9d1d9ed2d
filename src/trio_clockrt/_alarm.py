"""What wakes the driver, or does not have to.

In Trio, the alarm is an instrument, and a cancel scope with a deadline. The scope lets
Trio's loop wake up in time. The loop tells instruments when it has looked for I/O,
before it looks which deadlines have come. There the alarm wakes the tasks that are due,
and moves its own deadline on. So usually nothing is cancelled, and the driver's task
stays asleep: the alarm wakes the driver where callbacks are due, where the clock may
end, and on a shared clock. Trio reads its clock again for the deadlines. Where one has
come between these two readings, Trio cancels the scope, which calls the abort function
of the driver's task. That function declines, and does the same as the instrument. (To
be woken costs a task much less than to be cancelled: there is no `Cancelled` to make,
to raise and to catch.)

Trio logs an exception of an instrument, and goes on without the instrument. So the
alarm keeps exceptions for the driver, which raises them. Without the instrument, the
abort function does it all.

The alarm's deadline is ``-inf`` while the driver is awake. So a change needs no word
then: the driver sets the alarm, to infinity, and only after that looks for the first
deadline. A finalizer that sets a timer before that is seen by the look. One that sets a
timer after that moves the alarm. A timer moves the deadline only if it is the first, or
was.

(One thing is Trio's. A finalizer that runs while Trio's own loop is about to sleep
moves deadlines too late, the driver's like any other. Where that matters, the finalizer
should call `TrioToken.run_sync_soon`.)
"""

from __future__ import annotations

import sys
from abc import abstractmethod
from contextlib import suppress
from functools import partial
from math import inf
from sys import float_info
from typing import TYPE_CHECKING
from weakref import ref

import outcome
import trio
from trio.lowlevel import (
    Abort,
    Task,
    add_instrument,
    current_task,
    current_trio_token,
    enable_ki_protection,
    remove_instrument,
    reschedule,
    wait_task_rescheduled,
)

from ._pending import Alarm
from ._post import is_running, post

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._activation import Activation
    from ._driver import ClockDriver
    from ._lifetime import Lifetime
    from ._timers import Timers

# Sooner is the same, but ``-inf`` is the deadline of a driver that is awake.
LONG_AGO = -float_info.max


class DriverAlarm(Alarm):
    """Lets one task, the driver's, sleep until a deadline, which can be moved."""

    notes_origins = False
    tells = False

    def __init__(self) -> None:
        self.deadline = -inf
        self._token = current_trio_token()

    @abstractmethod
    def move(self, deadline: float) -> None:
        """Change the deadline; the driver must be asleep."""

    def has_moved(self) -> None: ...

    @enable_ki_protection
    def wake_soon(self) -> None:
        """Wake the driver if it is asleep by then; from any thread, and finalizers."""
        post(self._token, self.wake)

    def is_over(self) -> bool:
        """Whether the run has ended, and the driver in it will never wake up."""
        return not is_running(self._token)

    def tell(self, fn: Callable[[], object]) -> None:
        post(self._token, fn)

    def note_run(self) -> None: ...

    @abstractmethod
    def wake(self) -> None: ...

    @abstractmethod
    async def sleep(self) -> None:
        """Sleep until the deadline, which the timers may move in the meantime."""

    @abstractmethod
    def bind(self, timers: Timers) -> None:
        """Wake the driver for these."""

    def open(self) -> None:
        """The driver's task begins."""

    def close(self) -> None:
        """It ends."""


class TrioAlarm(DriverAlarm):
    """Sleeps until a deadline on the run's clock."""

    _scope: trio.CancelScope
    _task: Task
    _timers: Timers

    def bind(self, timers: Timers) -> None:
        self._timers = timers

    def open(self) -> None:
        self._task = current_task()
        self._bell = _Bell(self)
        add_instrument(self._bell)
        self._enter()

    def close(self) -> None:
        self.deadline = -inf
        # KeyError, if Trio has dropped it; RuntimeError, if the run has been dropped.
        with suppress(KeyError, RuntimeError):
            current_task()
            self._scope.__exit__(None, None, None)
            remove_instrument(self._bell)
        del self._timers, self._bell

    def _enter(self) -> None:
        self._scope = trio.CancelScope()
        self._scope.__enter__()

    def move(self, deadline: float) -> None:
        self.deadline = self._scope.deadline = max(deadline, LONG_AGO)

    def wake(self) -> None:
        if self.deadline != -inf:
            self.deadline = -inf
            # It may have come, and Trio would cancel the driver for that.
            self._scope.deadline = inf
            reschedule(self._task)

    def wake_due(self) -> None:
        """The deadline may have come."""
        timers = self._timers
        try:
            now = timers.now()
            if self.deadline > now:
                return
            if timers.wake_sleepers(now):
                self._scope.deadline = self.deadline
            else:
                self.wake()
        except BaseException as exc:
            timers.defect = exc
            self.wake()

    async def sleep(self) -> None:
        # From here on it can be moved; what has happened before, the timers see.
        self.deadline = inf
        self._timers.rearm()
        await wait_task_rescheduled(self._abort)
        if self._scope.cancel_called:
            self._scope.__exit__(None, None, None)
            self._enter()

    def _abort(self, _: object) -> Abort:
        if not self._scope.cancel_called:
            self.deadline = -inf
            return Abort.SUCCEEDED
        timers = self._timers
        woken = outcome.capture(timers.wake_sleepers, timers.now())
        self.deadline = -inf
        reschedule(self._task, woken)
        return Abort.FAILED


class _Bell(trio.abc.Instrument):
    """Trio's loop has looked for I/O."""

    # Not for the memory: Trio calls dir() for an instrument, and from then on CPython
    # takes its time for the attributes of an object that has a dictionary.
    __slots__ = ("_alarm",)

    def __init__(self, alarm: TrioAlarm) -> None:
        self._alarm = alarm

    def after_io_wait(self, timeout: float) -> None:  # noqa: ARG002
        if -inf < self._alarm.deadline < inf:
            self._alarm.wake_due()


class ManualAlarm(Alarm):
    """For a driver that never sleeps, as its caller does that.

    It notices when the driver is dropped: nothing else could make a timer fire.
    """

    deadline = -inf
    notes_origins = False
    tells = False

    def move(self, deadline: float) -> None: ...

    def has_moved(self) -> None: ...

    def wake_soon(self) -> None: ...

    def is_over(self) -> bool:
        return False

    def tell(self, fn: Callable[[], object]) -> None: ...

    def bind(self, driver: ClockDriver, activation: Activation) -> None:
        self._driver = ref(driver, partial(_lose_driver, activation.timers.life))

    def note_run(self) -> None: ...


# (At the exit of the interpreter, modules may have lost their names by then.)
@enable_ki_protection
def _lose_driver(
    life: Lifetime, _: object, is_exiting: Callable[[], bool] = sys.is_finalizing
) -> None:
    # At any moment, in any thread.
    if not is_exiting():
        life.end("the driver that came with it has been dropped")

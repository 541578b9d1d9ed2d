"""What wakes the driver of a clock whose time is under control.

A driver that sleeps is in a dictionary, where the code that moves the time finds it and
its deadline. So to sleep takes no deadline of Trio's. The alarm tells that code of
another deadline only while Trio waits, as otherwise the code is going to look.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Protocol

from trio.lowlevel import (
    Abort,
    Task,
    current_task,
    reschedule,
    wait_task_rescheduled,
)

from .._alarm import LONG_AGO, DriverAlarm

if TYPE_CHECKING:
    from .._timers import Timers


class TimeMover(Protocol):
    """What moves the time, and wakes drivers: `Autojump`, `OtherClocks`."""

    # Whether it may have to be told that a driver waits for another instant.
    waiting: bool
    notes_origins: bool

    def alarm_moved(self, deadline: float, /) -> None: ...

    def add_driven(self, alarm: ControlAlarm, /) -> None:
        """It has timers from now on."""
        ...


class ControlAlarm(DriverAlarm):
    """Sleeps until the code that moves the time wakes it.

    Args:
        asleep: Where it is to be found, while the driver sleeps.
        mover: What will wake it.
    """

    _task: Task
    timers: Timers

    def __init__(self, asleep: dict[ControlAlarm, None], mover: TimeMover) -> None:
        super().__init__()
        self._asleep = asleep
        self._mover = mover
        self.notes_origins = mover.notes_origins

    def bind(self, timers: Timers) -> None:
        self.timers = timers
        # Not before, as other threads look at the timers.
        self._mover.add_driven(self)

    def move(self, deadline: float) -> None:
        self.deadline = LONG_AGO if deadline == -inf else deadline
        if self._mover.waiting:
            self._mover.alarm_moved(self.deadline)

    def wake(self) -> None:
        if self.deadline != -inf:
            self._rise()
            reschedule(self._task)

    def _rise(self) -> None:
        self.deadline = -inf
        self._asleep.pop(self, None)

    def open(self) -> None:
        self._task = current_task()

    async def sleep(self) -> None:
        # From here on it can be moved; what has happened before, the timers see.
        self.deadline = inf
        self._asleep[self] = None
        self.timers.rearm()
        await wait_task_rescheduled(self._abort)

    def _abort(self, _: object) -> Abort:
        self._rise()
        return Abort.SUCCEEDED

"""What wakes the driver of a clock whose time is under control."""

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
    from .._state import State


class Keeper(Protocol):
    """What moves the time, and rings."""

    # Whether it may have to be told that a driver waits for another instant.
    waiting: bool
    notes_origins: bool

    def alarm_moved(self, deadline: float, /) -> None: ...


class ControlAlarm(DriverAlarm):
    """Sleeps until the keeper, which moves the time, rings.

    Args:
        asleep: Where it is to be found, while the driver sleeps.
        keeper: What will ring.
    """

    _task: Task
    state: State

    def __init__(self, asleep: dict[ControlAlarm, None], keeper: Keeper) -> None:
        super().__init__()
        self._asleep = asleep
        self._keeper = keeper
        self.notes_origins = keeper.notes_origins

    def tie(self, state: State) -> None:
        self.state = state

    def move(self, deadline: float) -> None:
        self.deadline = LONG_AGO if deadline == -inf else deadline
        if self._keeper.waiting:
            self._keeper.alarm_moved(self.deadline)

    def wake(self) -> None:
        if self.deadline != -inf:
            self._rise()
            reschedule(self._task)

    def _rise(self) -> None:
        self.deadline = -inf
        self._asleep.pop(self, None)

    async def sleep(self, state: State) -> None:
        self._task = current_task()
        # From here on it can be moved; what has happened before, the state sees.
        self.deadline = inf
        self._asleep[self] = None
        state.arm()
        await wait_task_rescheduled(self._abort)

    def _abort(self, _: object) -> Abort:
        self._rise()
        return Abort.SUCCEEDED

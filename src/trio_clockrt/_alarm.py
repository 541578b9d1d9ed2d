"""What wakes the driver, or does not have to."""

from __future__ import annotations

from abc import abstractmethod
from functools import partial
from math import inf
from sys import float_info
from typing import TYPE_CHECKING
from weakref import ref

import outcome
import trio
from trio.lowlevel import (
    Abort,
    current_task,
    current_trio_token,
    enable_ki_protection,
    reschedule,
    wait_task_rescheduled,
)

from ._post import post
from ._state import Alarm

if TYPE_CHECKING:
    from ._driver import ClockDriver
    from ._state import State

# Sooner is the same, but ``-inf`` is the deadline of a driver that is awake.
LONG_AGO = -float_info.max


class DriverAlarm(Alarm):
    """Lets one task, the driver's, sleep until a deadline, which can be moved."""

    notes_origins = False

    def __init__(self) -> None:
        self.deadline = -inf
        self._token = current_trio_token()

    def tie(self, state: State) -> None:
        """It is the alarm of this state."""

    @abstractmethod
    def move(self, deadline: float) -> None:
        """Change the deadline; the driver must be asleep."""

    @enable_ki_protection
    def wake_soon(self, _: object = None) -> None:
        """Wake the driver if asleep by then; from any thread, and from finalizers."""
        post(self._token, self.wake)

    def is_over(self) -> bool:
        """Whether the run has ended, so that a sleeping driver will never wake up."""
        return not post(self._token, int)

    def call(self) -> None: ...

    @abstractmethod
    def wake(self) -> None: ...

    @abstractmethod
    async def sleep(self, state: State) -> None:
        """Sleep until the deadline, which the state may move in the meantime."""


class TrioAlarm(DriverAlarm):
    """Sleeps until a deadline on the run's clock."""

    _scope: trio.CancelScope

    def move(self, deadline: float) -> None:
        self.deadline = deadline
        self._scope.deadline = deadline

    def wake(self) -> None:
        if self.deadline != -inf:
            self._scope.cancel()

    async def sleep(self, state: State) -> None:
        task = current_task()
        scope = self._scope = trio.CancelScope()

        def abort(_: object) -> Abort:
            if not scope.cancel_called:
                self.deadline = -inf
                return Abort.SUCCEEDED
            # It is our own deadline that has come. The sleeper need not wait until the
            # driver has its turn. To be woken costs it much less than to be cancelled,
            # and there is nothing to unwind.
            woken = outcome.capture(state.wake_sleepers, state.now())
            self.deadline = -inf
            reschedule(task, woken)
            return Abort.FAILED

        with scope:
            # From here on it can be moved; what has happened before, the state sees.
            self.deadline = inf
            state.arm()
            await wait_task_rescheduled(abort)


class ManualAlarm:
    """For a driver that never sleeps, as its caller does that.

    It notices when the driver is dropped: nothing else could make a timer fire.
    """

    deadline = -inf
    notes_origins = False

    def __init__(self) -> None:
        # Where tasks wait, if any do.
        self._token: trio.lowlevel.TrioToken | None = None

    def move(self, deadline: float) -> None: ...

    def wake_soon(self, _: object = None) -> None: ...

    def call(self) -> None: ...

    def is_over(self) -> bool:
        return False

    def tie(self, driver: ClockDriver, state: State) -> None:
        if not state.shared:
            state.note_run = self.note_run
        self._driver = ref(driver, partial(self._lose_driver, state))

    def note_run(self) -> None:
        """A task is going to wait."""
        self._token = current_trio_token()

    @enable_ki_protection
    def _lose_driver(self, state: State, _: object) -> None:
        # At any moment, in any thread, so that no task can be told here and now.
        state.lose_driver()
        if self._token is not None:
            post(self._token, state.tell_everybody)

"""What wakes the driver, or does not have to."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

import trio
from trio.lowlevel import (
    Abort,
    current_task,
    current_trio_token,
    enable_ki_protection,
    reschedule,
    wait_task_rescheduled,
)

if TYPE_CHECKING:
    from collections.abc import Callable


class TrioAlarm:
    """Lets one task sleep until a deadline on the run's clock, which can be moved."""

    def __init__(self) -> None:
        self.deadline = -inf
        self._scope = trio.CancelScope()
        self._token = current_trio_token()

    def move(self, deadline: float) -> None:
        """Change the deadline; somebody must be asleep."""
        self.deadline = deadline
        self._scope.deadline = deadline

    @enable_ki_protection
    def wake_soon(self, _: object = None) -> None:
        """Wake whoever is asleep by then; from any thread, and from finalizers."""
        self._post(self._wake)

    def is_over(self) -> bool:
        """Whether the run has ended, and whoever is still asleep will never wake up."""
        return not self._post(int)

    def _post(self, fn: Callable[[], object]) -> bool:
        try:
            self._token.run_sync_soon(fn, idempotent=True)
        except (trio.RunFinishedError, OSError):
            # OSError, as a run that has crashed has closed its sockets, no more.
            return False
        return True

    def _wake(self) -> None:
        if self.deadline != -inf:
            self._scope.cancel()

    async def sleep(self, deadline: float) -> None:
        """Sleep until the deadline, or what it has been moved to."""
        task = current_task()
        scope = self._scope = trio.CancelScope(deadline=deadline)

        def abort(_: object) -> Abort:
            self.deadline = -inf
            if scope.cancel_called:
                # It is our own deadline that has come. Being woken costs much less
                # than being cancelled, and there is nothing to unwind.
                reschedule(task)
                return Abort.FAILED
            return Abort.SUCCEEDED

        with scope:
            self.deadline = deadline
            await wait_task_rescheduled(abort)


class NoAlarm:
    """For a driver that never sleeps, as its caller does that."""

    deadline = -inf

    def move(self, deadline: float) -> None: ...

    def wake_soon(self, _: object = None) -> None: ...

    def is_over(self) -> bool:
        return False

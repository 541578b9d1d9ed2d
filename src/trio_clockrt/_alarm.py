"""What wakes the driver: a deadline of Trio's that can be moved while it sleeps."""

from __future__ import annotations

from math import inf

import trio
from trio.lowlevel import Abort, current_task, reschedule, wait_task_rescheduled


class TrioAlarm:
    """Lets one task sleep until a deadline on the run's clock."""

    def __init__(self) -> None:
        self.deadline = -inf
        self._scope = trio.CancelScope()

    def move(self, deadline: float) -> None:
        """Change the deadline; somebody must be asleep."""
        self.deadline = deadline
        self._scope.deadline = deadline

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

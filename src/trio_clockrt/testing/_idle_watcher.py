"""Sees when a run is idle, whose clock is not the control.

Trio does not tell when such a run is idle. So in each run that waits for the control, a
system task finds out with `wait_all_tasks_blocked`, and then goes round once more to
see, by an instrument, that no task was woken together with it: other tasks that wait
for idleness go first. With several runs, time jumps when all are idle, and a run is
idle until a task of it takes a step.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

import trio
from trio.lowlevel import add_instrument, current_trio_token

if TYPE_CHECKING:
    from ._idleness import Idleness, NextStep
    from ._other_clocks import OtherClocks
    from ._virtual_time import VirtualTime


class IdleWatcher(trio.abc.Instrument):
    """A system task that sees when a run, whose clock is another, is idle.

    As an instrument it is told of the end of the run, however that comes.
    """

    def __init__(self, mover: OtherClocks, time: VirtualTime, idleness: Idleness):
        self._mover = mover
        self._time = time
        self._idleness = idleness
        self._run = current_trio_token()
        self._scope = trio.CancelScope()
        self.step: NextStep | None = None

    @property
    def idle(self) -> bool:
        return self.step is not None and not self.step.taken

    def look_again(self) -> None:
        self._scope.cancel()

    async def watch(self) -> None:
        add_instrument(self._idleness.watch_tasks(self._is_waited_for))
        while True:
            with trio.CancelScope() as self._scope:
                await self._watch_once()

    def after_run(self) -> None:
        self._idleness.forget_run(self._run)
        self._mover.forget(self)

    def _is_waited_for(self) -> bool:
        """Whether time would jump, and there is something to jump to, or to fire."""
        idleness, mover = self._idleness, self._mover
        return (
            idleness.threshold < inf
            and not idleness.holds
            and (mover.next_deadline() < inf or mover.is_awake(self._run))
        )

    async def _watch_once(self) -> None:
        deadline = self._mover.next_deadline()
        if deadline == inf:
            await trio.sleep_forever()
        seconds = self._time.real_seconds_until(deadline)
        with trio.move_on_after(seconds) as due:
            if self._idleness.threshold == inf or self._idleness.holds:
                await trio.sleep_forever()
            await self._idleness.wait(then=self._jump)
        if due.cancelled_caught:
            self._mover.wake_due()

    def _jump(self, step: NextStep) -> bool:
        self.step = step
        return self._mover.jump()

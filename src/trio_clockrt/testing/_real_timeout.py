"""A guard in real time around what happens in virtual time.

The clock of the run is virtual, so a thread waits, and posts a message to the run. A
task in the block may wait for a worker that waits for virtual time, so the guard also
lets go of workers, see `_worker_threads.py`.
"""

from __future__ import annotations

from math import inf
from threading import TIMEOUT_MAX, Timer
from typing import TYPE_CHECKING

import trio
from trio.lowlevel import (
    current_task,
    current_trio_token,
    enable_ki_protection,
)

from .._block import SyncBlock
from .._post import post
from .._timeouts import cancel
from ._blame import with_children
from ._worker_threads import AbandonWorkers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from trio.lowlevel import Task


class RealTimeout(SyncBlock[trio.CancelScope, bool]):
    """A block that is cancelled, and says why, when it takes too long for people.

    Args:
        report: Tells what the tasks are waiting for.
    """

    _usage = "`with control.fail_after_real(seconds):`"

    def __init__(self, seconds: float, report: Callable[[], str]) -> None:
        self._seconds = seconds
        self._report = report
        self._scope = trio.CancelScope()
        self._message = ""
        self._over = False
        self._abandon: AbandonWorkers | None = None

    @enable_ki_protection
    def __enter__(self) -> trio.CancelScope:
        self._enter_once()
        try:
            self._task = current_task()
        except RuntimeError:
            raise RuntimeError(
                "fail_after_real() cancels what a Trio task does, so use it in one"
            ) from None
        self._run = current_trio_token()
        self._around = self._task.child_nurseries
        self._timer = Timer(min(self._seconds, TIMEOUT_MAX), self._expire)
        self._timer.daemon = True
        if self._seconds < inf:
            self._timer.start()
        return self._scope.__enter__()

    @enable_ki_protection
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self._over = True
        self._timer.cancel()
        in_vain = False
        if self._abandon is not None:
            self._abandon.end()
            # A nursery under a shield may have absorbed the Cancelled.
            in_vain = exc is None and self._abandon.has_interrupted
        caught = self._scope.__exit__(exc_type, exc, traceback)
        if self._message and (self._scope.cancelled_caught or in_vain):
            # From None, as the Cancelled that told us is of no use to users.
            raise trio.TooSlowError(self._message) from None
        return caught

    def _expire(self) -> None:
        post(self._run, self._cancel)

    def _cancel(self) -> None:
        if self._over:
            return
        # It may have been cancelled by hand, in time.
        if not self._scope.cancel_called:
            reason = f"this has taken more than {self._seconds} real seconds"
            self._message = f"{reason}{self._report()}"
            cancel(self._scope, f"fail_after_real(): {reason}")
        # A worker may wait for what only happens in virtual time, so for ever.
        self._abandon = AbandonWorkers(self._tasks)

    def _tasks(self) -> Iterator[Task]:
        """Those in the block."""
        yield self._task
        for nursery in self._task.child_nurseries:
            if nursery not in self._around:
                for task in nursery.child_tasks:
                    yield from with_children(task)

"""A Trio run that state machines move by steps: it is in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio
import trio.testing
from trio.testing import MockClock

T = TypeVar("T")


class StepwiseRun:
    """In virtual time, which stands still unless `jump` moves it.

    After each step everything has settled: no task can do anything more.
    """

    nursery: trio.Nursery

    def __init__(self) -> None:
        self.time = MockClock()
        self._started = threading.Event()
        self._thread = threading.Thread(
            target=trio.run, args=(self._main,), kwargs={"clock": self.time}
        )
        self._thread.start()
        self._started.wait()

    async def _main(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as self.nursery:
            self._started.set()
            await trio.sleep_forever()

    def do(self, fn: Callable[[], T]) -> T:
        """Call it in the run."""

        async def step() -> T:
            try:
                return fn()
            finally:
                await trio.testing.wait_all_tasks_blocked()

        return trio.from_thread.run(step, trio_token=self._token)

    def start(self, async_fn: Callable[[], Awaitable[None]]) -> None:
        """Start a task in the run."""
        self.do(lambda: self.nursery.start_soon(async_fn))

    def jump(self, seconds: float) -> None:
        self.do(lambda: self.time.jump(seconds))

    def close(self) -> None:
        """Cancel all of it."""
        cancel = self.nursery.cancel_scope.cancel
        trio.from_thread.run_sync(cancel, trio_token=self._token)
        self._thread.join()

"""A shared clock that is moved by steps, in two runs, and in threads beside them."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import outcome
import trio
from stepwise_run import StepwiseRun

from trio_clockrt import Clock, ClockDriver, InactiveClock

T = TypeVar("T")

# Whoever waits for so long, in real time, hangs.
TOO_LONG = 30

# Where tasks are, and where a clock may be used.
RUNS = ["home", "other"]
PLACES = [*RUNS, "a thread"]


def fork() -> int:
    """As `os.fork`, which warns of other threads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


class InThread(Generic[T]):
    """A call in a thread of its own, which is none of Trio's."""

    def __init__(self, fn: Callable[[], T]) -> None:
        self._fn = fn
        self._outcome: outcome.Outcome[T] | None = None
        # A daemon, so that one that hangs does not hang pytest as well.
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self._outcome = outcome.capture(self._fn)

    def result(self, timeout: float = TOO_LONG) -> T:
        self._thread.join(timeout)
        assert self._outcome is not None, "the thread hangs"
        return self._outcome.unwrap()


def in_thread(fn: Callable[[], T]) -> T:
    return InThread(fn).result()


class SharedClock:
    """One clock, in two Trio runs whose time stands still, on different scales.

    Whatever has been done has settled in both when it returns.
    """

    clock: Clock
    driver: ClockDriver

    def __init__(self) -> None:
        self.home = StepwiseRun()
        self.other = StepwiseRun()
        self.other.jump(1000)
        self._leave = trio.Event()
        self.home.start(self._block)

    async def _block(self) -> None:
        async with InactiveClock.new_shared().activate() as (self.clock, self.driver):
            await self._leave.wait()

    def place(self, name: str) -> Callable[[Callable[[], T]], T]:
        """What calls a function in this place."""
        if name == "a thread":
            return self.in_thread
        return self.in_home if name == "home" else self.in_other

    def in_place(self, name: str, fn: Callable[[], T]) -> T:
        return self.place(name)(fn)

    def run(self, name: str) -> StepwiseRun:
        return self.home if name == "home" else self.other

    def start(self, run: str, async_fn: Callable[[], Awaitable[None]]) -> None:
        """Start a task in this run."""
        self.run(run).start(async_fn)
        self.settle()

    def in_home(self, fn: Callable[[], T]) -> T:
        try:
            return self.home.do(fn)
        finally:
            self.settle()

    def in_other(self, fn: Callable[[], T]) -> T:
        try:
            return self.other.do(fn)
        finally:
            self.settle()

    def in_thread(self, fn: Callable[[], T]) -> T:
        try:
            return in_thread(fn)
        finally:
            self.settle()

    def jump(self, seconds: float) -> None:
        self.home.jump(seconds)
        self.settle()

    def settle(self) -> None:
        for _ in range(2):
            self.home.do(int)
            self.other.do(int)

    def pending(self) -> int:
        return self.home.do(lambda: self.driver.statistics().pending)

    def wait_until_pending(self, timers: int) -> None:
        """Threads are about to wait; they cannot be asked whether they do."""
        while self.pending() != timers:
            pass

    def end(self) -> None:
        """Leave the block."""
        self.home.do(self._leave.set)
        self.settle()

    def close(self) -> None:
        # In this order, so that nobody is told of the end.
        self.other.close()
        self.home.close()

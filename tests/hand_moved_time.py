"""Real time that a test moves, and an instrument that lets it do so."""

from __future__ import annotations

from collections.abc import Callable

import trio


class HandMovedTime:
    def __init__(self, now: float = 123.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def move(self, seconds: float) -> None:
        self.now += seconds


class WhenItWaits(trio.abc.Instrument):
    """Takes a step each time that the run is about to wait, which then goes on."""

    def __init__(self, *steps: Callable[[], object]) -> None:
        self.steps = list(steps)
        self.timeouts: list[float] = []

    def before_run(self) -> None:
        self.token = trio.lowlevel.current_trio_token()

    def before_io_wait(self, timeout: float) -> None:
        if timeout and self.steps:
            self.timeouts.append(timeout)
            self.steps.pop(0)()
            self.token.run_sync_soon(int)

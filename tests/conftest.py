"""Fixtures of more than one of the tests."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import pytest
import trio.testing
from shared_clock import SharedClock


@pytest.fixture
def shared() -> Iterator[SharedClock]:
    it = SharedClock()
    yield it
    it.close()


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What a person sees, also while output is captured."""
    terminal = io.StringIO()
    monkeypatch.setattr("_trio_clockrt_pytest_plugin.real_stderr", terminal)
    return terminal


class RealTimers:
    """In the place of `threading.Timer`: the time is up when the test says so."""

    expire: Callable[[], object] = int

    def __call__(self, _: float, expire: Callable[[], object]) -> RealTimers:
        self._expire = expire
        return self

    def start(self) -> None:
        self.expire = self._expire

    def cancel(self) -> None:
        self.expire = int

    def are_up(self) -> None:
        self.expire()

    async def are_up_when_all_wait(self) -> None:
        await trio.testing.wait_all_tasks_blocked()
        self.expire()


@pytest.fixture
def real_timers(monkeypatch: pytest.MonkeyPatch) -> RealTimers:
    """What `fail_after_real` measures with, whatever number of seconds it is told."""
    timers = RealTimers()
    monkeypatch.setattr("trio_clockrt.testing._real_timeout.Timer", timers)
    return timers

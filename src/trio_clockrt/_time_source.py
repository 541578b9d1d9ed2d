"""Where instants and system time come from.

In Trio, a clock reads the clock of the run that activates it, and knows nothing else
about instants; without Trio, it reads the system's. A `ClockControl` is a source of its
own, see `testing/_virtual_time.py`. To the library it is a `TimeControl`, which offers
its time and alarms. So the library need not import `testing`.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Protocol

import trio

from ._freezegun import check_not_frozen

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from ._alarm import DriverAlarm, ManualAlarm
    from ._foreign_loop import LoopAlarm


class TimeSource(Protocol):
    """A monotonic scale of instants and a wall clock."""

    name: str

    def instant(self) -> float: ...

    def now(self) -> float:
        """The instant too, for our own use: this reading does not count."""
        ...

    def system_time(self) -> datetime: ...


class SystemSource:
    """The operating system's time."""

    name = "system"
    # In a class, where freezegun does not look for what it could replace.
    instant = now = staticmethod(time.monotonic)

    def system_time(self) -> datetime:
        return datetime.now(timezone.utc)


class RunSource(SystemSource):
    """The time of a Trio run: the instants are those of its clock."""

    def __init__(self, run_clock: trio.abc.Clock) -> None:
        self.instant = self.now = run_clock.current_time
        self.name = type(run_clock).__name__
        # What Trio calls its own.
        if self.name == "SystemClock":
            self.name = "system"
            check_not_frozen(run_clock)


class TimeControl(trio.abc.Clock):
    """What moves time, and so wakes the drivers of the clocks that have this time."""

    _time_source: TimeSource

    @abstractmethod
    def _make_alarm(self) -> DriverAlarm:
        """Of a clock that a task drives, in this run."""

    @abstractmethod
    def _make_caller_driven_alarm(self, loop: LoopAlarm | None = None) -> ManualAlarm:
        """Of a clock that no task drives."""

    @abstractmethod
    def hold(self) -> AbstractContextManager[object]:
        """Time does not move by itself meanwhile."""

    @abstractmethod
    def _await_threads(self) -> AbstractContextManager[object]:
        """The same, but time may jump: what seems to be a deadlock is none."""

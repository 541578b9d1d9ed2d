"""Where instants and system time come from.

In Trio, a clock reads the clock of the run that activates it, and knows nothing else
about instants; without Trio, it reads the system's. A `ClockControl` is a source of its
own, see `testing/_virtual_time.py`: it offers that, and an alarm, by private attributes
which the activation looks for. So the library need not import `testing`.
"""

from __future__ import annotations

import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Protocol

from ._freezegun import check_not_frozen

if TYPE_CHECKING:
    import trio


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

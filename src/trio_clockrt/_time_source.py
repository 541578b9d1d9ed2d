"""Where instants and system time come from."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import trio


class TimeSource(Protocol):
    """A monotonic scale of instants and a wall clock."""

    name: str

    def instant(self) -> float: ...

    def system_time(self) -> datetime: ...


class SystemSource:
    """The operating system's time."""

    name = "system"
    instant = staticmethod(time.monotonic)

    def system_time(self) -> datetime:
        return datetime.now(timezone.utc)


class RunSource(SystemSource):
    """The time of a Trio run: the instants are those of its clock."""

    def __init__(self, run_clock: trio.abc.Clock) -> None:
        self.instant = run_clock.current_time
        name = type(run_clock).__name__
        # What Trio calls its own.
        self.name = "system" if name == "SystemClock" else name

"""Two scales of time that move only as they are told: instants, and system time."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from fractions import Fraction
from math import ceil, inf
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

_NANOSECONDS = 1_000_000_000


class _Base(NamedTuple):
    """What time it was when somebody moved it last."""

    # At this real time...
    real: float
    # ...so much had passed...
    nanoseconds: int
    # ...and this was the instant: as much, or less than a nanosecond less.
    instant: float
    # How many seconds pass for each second of real time.
    rate: float
    # What system time is ahead of what has passed, counted from 1970.
    ahead: int


class VirtualTime:
    """Instants that begin at zero and never go back, and a system time beside them.

    What is added up is counted in whole nanoseconds, so that ten times a tenth is one.
    What is gone to is kept as the very float, since whoever waits for it compares with
    that. It may be read and moved from any thread.
    """

    name = "ClockControl"

    def __init__(self, at: datetime, real: Callable[[], float]) -> None:
        self._real = real
        self._base = _Base(real(), 0, 0.0, 0.0, _since_epoch(at))
        # For whoever moves it. Readers take the base, which is replaced as a whole.
        self._lock = Lock()

    @property
    def rate(self) -> float:
        return self._base.rate

    @rate.setter
    def rate(self, rate: float) -> None:
        with self._lock:
            self._base = self._now()._replace(rate=rate)

    def instant(self) -> float:
        base = self._base
        return self._now().instant if base.rate else base.instant

    def system_nanoseconds(self) -> int:
        """The system time, counted from the beginning of 1970."""
        now = self._now()
        return now.nanoseconds + now.ahead

    def system_time(self) -> datetime:
        nanoseconds = self.system_nanoseconds()
        try:
            return EPOCH + timedelta(microseconds=nanoseconds // 1000)
        except OverflowError:
            raise OverflowError(
                f"the system time is {nanoseconds // _NANOSECONDS} seconds after the "
                "beginning of 1970, which no datetime can hold; instants have no bound"
            ) from None

    def real_seconds_until(self, instant: float) -> float:
        rate, seconds = self._base.rate, instant - self.instant()
        if seconds <= 0:
            return 0.0
        return seconds / rate if rate else inf

    def add(self, seconds: float) -> None:
        """Go forward by a finite length of time."""
        with self._lock:
            self._base = self._now(_nanoseconds(seconds))

    def go_to(self, instant: float) -> None:
        """Go forward to a finite instant, exactly; if it is past, nowhere."""
        with self._lock:
            now = self._now()
            # Rounded up, so that who adds a second arrives where somebody waits who
            # has added it to the float.
            nanoseconds = ceil(Fraction(instant) * _NANOSECONDS)
            self._base = now._replace(
                nanoseconds=max(now.nanoseconds, nanoseconds),
                instant=max(now.instant, instant),
            )

    def set_system_time(self, when: datetime) -> None:
        """Go to another system time: forward with the instants, or back without."""
        with self._lock:
            now = self._now()
            step = _since_epoch(when) - now.ahead - now.nanoseconds
            if step < 0:
                self._base = now._replace(ahead=now.ahead + step)
            else:
                self._base = self._now(step)

    def step_system_time(self, seconds: float) -> None:
        """Move the system time alone."""
        with self._lock:
            now = self._now()
            self._base = now._replace(ahead=now.ahead + _nanoseconds(seconds))

    def _now(self, more: int = 0) -> _Base:
        """What the base would be, if it were so many nanoseconds later."""
        base, real = self._base, self._real()
        more += int((real - base.real) * base.rate * _NANOSECONDS)
        if not more:
            return base._replace(real=real) if base.rate == 0 else base
        nanoseconds = base.nanoseconds + more
        instant = max(base.instant, nanoseconds / _NANOSECONDS)
        return base._replace(real=real, nanoseconds=nanoseconds, instant=instant)


def _nanoseconds(seconds: float) -> int:
    return round(Fraction(seconds) * _NANOSECONDS)


def _since_epoch(when: datetime) -> int:
    return (when - EPOCH) // timedelta(microseconds=1) * 1000

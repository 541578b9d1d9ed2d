"""Two scales of time that move only as they are told: instants, and system time."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from math import inf
from threading import RLock
from typing import TYPE_CHECKING

from attrs import define, evolve

if TYPE_CHECKING:
    from collections.abc import Callable

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

_NANOSECONDS = 1_000_000_000


@define(eq=False)
class _Base:
    """What time it was when somebody moved it last."""

    # At this real time...
    real: float
    # ...so much had passed...
    nanoseconds: int
    # ...and this was the instant: as much, to the nanosecond.
    instant: float
    # How many seconds pass for each second of real time.
    rate: float
    # What system time is ahead of what has passed, counted from 1970.
    ahead: int

    def plus(self, nanoseconds: int) -> _Base:
        return self.counting(self.nanoseconds + nanoseconds) if nanoseconds else self

    def counting(self, nanoseconds: int) -> _Base:
        instant = max(self.instant, nanoseconds / _NANOSECONDS)
        return _Base(self.real, nanoseconds, instant, self.rate, self.ahead)

    def gone_to(self, instant: float) -> _Base:
        nanoseconds = max(self.nanoseconds, to_nanoseconds(instant))
        return _Base(self.real, nanoseconds, instant, self.rate, self.ahead)


class VirtualTime:
    """Instants that begin at zero and never go back, and a system time beside them.

    What is added up is counted in whole nanoseconds, so that ten times a tenth is one.
    What is gone to is kept as the very float, since whoever waits for it compares with
    that. Whoever has added up floats may wait for the present nanosecond and still be a
    little ahead of it: see `is_about`. All this may be read and moved from any thread,
    and at any moment.
    """

    name = "ClockControl"

    def __init__(self, at: datetime, real: Callable[[], float]) -> None:
        self._real = real
        # Readers take the base, which is replaced as a whole.
        self._base = _Base(real(), 0, 0.0, 0.0, _since_epoch(at))
        # For whoever replaces it.
        self._lock = RLock()
        # What `reach` has reached. As there is one who calls that, and as it is the
        # later of the two that counts, it needs no lock.
        self._reached = 0.0

    @property
    def rate(self) -> float:
        return self._base.rate

    @rate.setter
    def rate(self, rate: float) -> None:
        self._move(lambda now: evolve(now, rate=rate))

    def instant(self) -> float:
        base, reached = self._base, self._reached
        if base.rate:
            return self._now(base).instant
        return reached if reached > base.instant else base.instant

    now = instant

    def system_nanoseconds(self) -> int:
        """The system time, counted from the beginning of 1970."""
        now = self._now(self._base)
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

    def tell(self) -> str:
        """The system time, for people to read, whatever it is."""
        try:
            return str(self.system_time())
        except OverflowError as error:
            return str(error)

    def real_seconds_until(self, instant: float) -> float:
        rate = self._base.rate
        if not rate:
            return 0.0 if instant <= self.instant() else inf
        return max(0.0, (instant - self.instant()) / rate)

    def is_about(self, instant: float) -> bool:
        """Whether an instant is ahead, but not by a nanosecond."""
        now = self._now(self._base)
        return now.instant < instant < inf and (
            to_nanoseconds(instant) <= now.nanoseconds
        )

    def nanoseconds(self) -> int:
        """How much has passed."""
        return self._now(self._base).nanoseconds

    def add(self, seconds: float) -> None:
        """Go forward by a finite length of time."""
        nanoseconds = to_nanoseconds(seconds)
        self._move(lambda now: now.plus(nanoseconds))

    def count_to(self, nanoseconds: int) -> None:
        """Go forward until so much has passed; if it is past, nowhere."""

        def move(now: _Base) -> _Base:
            # Not compared with what is counted: an instant that has been gone to may
            # be this very float, and be counted as a nanosecond more.
            past = nanoseconds / _NANOSECONDS < now.instant
            return now if past else now.counting(nanoseconds)

        self._move(move)

    def go_to(self, instant: float) -> None:
        """Go forward to an instant, exactly; if it is past, or infinite, nowhere."""

        def move(now: _Base) -> _Base:
            return now.gone_to(instant) if now.instant < instant < inf else now

        self._move(move)

    def reach(self, instant: float) -> float:
        """The same for those who do it all the time, and only one of them.

        Tells which instant it is then.
        """
        base = self._base
        if base.rate:
            self.go_to(instant)
        elif base.instant < instant < inf and self._reached < instant:
            self._reached = instant
            return instant
        return self.now()

    def set_system_time(self, when: datetime) -> None:
        """Go to another system time: forward with the instants, or back without."""

        def move(now: _Base) -> _Base:
            step = _since_epoch(when) - now.ahead - now.nanoseconds
            return evolve(now, ahead=now.ahead + step) if step < 0 else now.plus(step)

        self._move(move)

    def step_system_time(self, seconds: float) -> None:
        """Move the system time alone."""
        nanoseconds = to_nanoseconds(seconds)
        self._move(lambda now: evolve(now, ahead=now.ahead + nanoseconds))

    def _move(self, move: Callable[[_Base], _Base]) -> None:
        with self._lock:
            while True:
                base = self._base
                there = move(self._now(base))
                # A signal handler or a finalizer may have moved it just now, in this
                # thread. Between these lines none can run.
                if self._base is base:
                    self._base = there
                    return

    def _now(self, base: _Base) -> _Base:
        """What the base would be now."""
        real = self._real()
        if self._reached > base.instant:
            base = base.gone_to(self._reached)
        if not base.rate:
            return _Base(real, base.nanoseconds, base.instant, 0.0, base.ahead)
        more = int((real - base.real) * base.rate * _NANOSECONDS)
        # If not even a nanosecond has passed, the next reading is to count it.
        return evolve(base.plus(more), real=real) if more else base


def to_nanoseconds(seconds: float) -> int:
    """The nearest whole number of them."""
    numerator, denominator = seconds.as_integer_ratio()
    return (2 * numerator * _NANOSECONDS + denominator) // (2 * denominator)


def _since_epoch(when: datetime) -> int:
    return (when - EPOCH) // timedelta(microseconds=1) * 1000

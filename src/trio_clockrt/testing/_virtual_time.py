"""Two scales of time that move only as they are told: instants, and system time."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from math import inf
from typing import TYPE_CHECKING

from attrs import define, evolve

from .._lock import RLock

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import TypeVarTuple, Unpack

    ArgsT = TypeVarTuple("ArgsT")

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

NANOSECONDS = 1_000_000_000


@define(eq=False)
class _Base:
    """What time it was when somebody moved it last."""

    # At this real time (which is of interest while there is a rate)...
    real: float
    # ...so many nanoseconds had been counted...
    counted: int
    # ...and this was the instant: as much, or later if it has been gone to.
    instant: float
    # How many seconds pass for each second of real time.
    rate: float
    # What system time is ahead of what has passed, counted from 1970.
    ahead: int

    @property
    def nanoseconds(self) -> int:
        """How much has passed."""
        # Counted only now, as it takes long, and those who go to instants do not ask.
        if self.instant > self.counted / NANOSECONDS:
            return to_nanoseconds(self.instant)
        return self.counted

    def plus(self, nanoseconds: int) -> _Base:
        """Forward by so much."""
        if not nanoseconds:
            return self
        counted = self.nanoseconds + nanoseconds
        instant = max(self.instant, counted / NANOSECONDS)
        return _Base(self.real, counted, instant, self.rate, self.ahead)

    def counted_to(self, nanoseconds: int) -> _Base:
        """Forward until so much has passed; if it is past, nowhere."""
        instant = nanoseconds / NANOSECONDS
        # Not compared with what is counted: an instant that has been gone to may be
        # this very float, and be counted as a nanosecond more.
        if instant < self.instant:
            return self
        counted = max(nanoseconds, self.counted)
        return _Base(self.real, counted, instant, self.rate, self.ahead)

    def gone_to(self, instant: float) -> _Base:
        """Forward to an instant, exactly; if it is past, or infinite, nowhere."""
        if not self.instant < instant < inf:
            return self
        return _Base(self.real, self.counted, instant, self.rate, self.ahead)

    def at_rate(self, rate: float, real: float) -> _Base:
        if self.rate:
            # What has passed by then is counted, or less than a nanosecond.
            real = max(self.real, real)
        return evolve(self, rate=rate, real=real)

    def put_ahead(self, nanoseconds: int) -> _Base:
        """The system time alone, and in either direction."""
        return evolve(self, ahead=self.ahead + nanoseconds)

    def to_system_time(self, nanoseconds: int) -> _Base:
        """Forward with the instant, or back without."""
        step = nanoseconds - self.ahead - self.nanoseconds
        return self.put_ahead(step) if step < 0 else self.plus(step)


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
        self._move(_Base.at_rate, rate, self._real())

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
                f"the system time is {nanoseconds // NANOSECONDS} seconds after the "
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
        self._move(_Base.plus, to_nanoseconds(seconds))

    def count_to(self, nanoseconds: int) -> None:
        """Go forward until so much has passed; if it is past, nowhere."""
        self._move(_Base.counted_to, nanoseconds)

    def go_to(self, instant: float) -> float:
        """Go forward to an instant, exactly; if it is past, or infinite, nowhere.

        Tells which instant it is then.
        """
        return self._move(_Base.gone_to, instant)

    def reach(self, instant: float) -> float:
        """The same for those who do it all the time, and only one of them."""
        base = self._base
        if base.rate:
            return self.go_to(instant)
        if base.instant < instant < inf and self._reached < instant:
            self._reached = instant
            return instant
        return self.now()

    def set_system_time(self, when: datetime) -> None:
        """Go to another system time: forward with the instants, or back without."""
        self._move(_Base.to_system_time, _since_epoch(when))

    def step_system_time(self, seconds: float) -> None:
        """Move the system time alone."""
        self._move(_Base.put_ahead, to_nanoseconds(seconds))

    def _move(
        self, move: Callable[[_Base, Unpack[ArgsT]], _Base], *args: Unpack[ArgsT]
    ) -> float:
        with self._lock:
            while True:
                base = self._base
                there = move(self._now(base), *args)
                # A signal handler or a finalizer may have moved it just now, in this
                # thread. Between these lines none can run.
                if self._base is base:
                    self._base = there
                    return there.instant

    def _now(self, base: _Base) -> _Base:
        """What the base would be now."""
        if self._reached > base.instant:
            base = base.gone_to(self._reached)
        if not base.rate:
            return base
        real = self._real()
        more = int((real - base.real) * base.rate * NANOSECONDS)
        # If not even a nanosecond has passed, the next reading is to count it.
        return evolve(base.plus(more), real=real) if more else base


def to_nanoseconds(seconds: float) -> int:
    """The nearest whole number of them."""
    numerator, denominator = seconds.as_integer_ratio()
    return (2 * numerator * NANOSECONDS + denominator) // (2 * denominator)


def _since_epoch(when: datetime) -> int:
    return (when - EPOCH) // timedelta(microseconds=1) * 1000

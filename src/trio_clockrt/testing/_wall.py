"""What system time a control tells, so that no program that waits for one is early.

A program waits for a system time by what it has: it reads the system time, waits for
the rest, and expects to read that system time then, or a later one.

Where the time has been counted, it is told as it has been counted: lengths of time are
whole numbers of microseconds, and add up. But where it has gone to a deadline, that is
a float. Some weeks from where instants begin, floats are coarser than nanoseconds, and
a deadline may be less than the exact sum. So there it may have to be told a little
more. How much, what has been told before decides: a later reading is ahead of the
instant by at least as much as any reading before, and by what rounding may have taken
away meanwhile. No program can have waited for more.

Only readings at later instants are meant, as each wait ends later than it begins. At
one instant all readings are the same.

A program may also take it as a float, as `time.time` gives it, and that may be later.
So may be what `datetime.timestamp` makes of it. A program that waits for a whole second
by such floats arrives a fraction of a microsecond before it, so that moment counts as
that second.
"""

from __future__ import annotations

from math import inf, ulp

from attrs import frozen

from .._lock import RLock

NANOSECONDS = 1_000_000_000

# The length of a `timedelta` is rounded, and so is its sum with an instant. A tick is
# the sum of an instant and of a product, one factor of which, the period, has been
# rounded. Counting an instant rounds once more. Altogether that is less than so many
# units.
_ROUNDINGS = 3

# Parts of a nanosecond, so that what is less does not count as one.
_PARTS = 1024
_MICROSECOND = 1000 * _PARTS

_SECOND = NANOSECONDS * _PARTS

# No system time of a datetime is as far away, and no float overflows.
_LARGE = 1e300


@frozen
class _Told:
    """How far ahead of the instants system time has been told to be, in parts."""

    # Before this instant...
    instant: float
    before: float
    # ...and at it.
    there: float


class Wall:
    """The system time of a control. It may be read in any thread, at any moment."""

    def __init__(self) -> None:
        self._told = _Told(0.0, -inf, -inf)
        self._lock = RLock()

    def read(
        self,
        instant: float,
        nanoseconds: int,
        ahead: int,
        *,
        counted: bool,
        as_float: bool = False,
    ) -> int:
        """The system time, in nanoseconds since 1970.

        Args:
            instant: The present.
            nanoseconds: The same, in nanoseconds.
            ahead: What system time is ahead of that.
            counted: Whether that has been counted, or is a deadline gone to.
            as_float: Whether the program may take it as a float.
        """
        now = nanoseconds + ahead
        earliest = latest = now * _PARTS
        if not counted:
            there = _to_parts(instant) + ahead * _PARTS
            earliest = min(earliest, there)
            # Two parts more, as those of floats are rounded down.
            latest = max(latest, there) + _to_parts(_ROUNDINGS * ulp(instant)) + 2
        with self._lock:
            told = self._told
            lead = told.there if instant > told.instant else told.before
            if lead > -inf:
                now = max(now, int(latest + lead) // _MICROSECOND * 1000)
            now = max(now, (latest + _float_slack(now)) // _SECOND * NANOSECONDS)
            lead_now = _as_told(now, as_float) - earliest
            # A finalizer in this thread may have read it just now, and been told more.
            if lead_now > self._told.there:
                self._told = _Told(instant, lead, lead_now)
        return now

    def set(self, instant: float) -> None:
        """It has been set, so that what has been told before does not count."""
        self._told = _Told(instant, -inf, 0)


def to_nanoseconds(seconds: float) -> int:
    """The whole number of them that is meant.

    Where floats are coarser than nanoseconds, that is a whole number of microseconds,
    if this is its float: people mean decimals, and so does `timedelta`.
    """
    numerator, denominator = seconds.as_integer_ratio()
    microseconds = _nearest(numerator * 1_000_000, denominator)
    if microseconds / 1_000_000 == seconds:
        return microseconds * 1000
    return _nearest(numerator * NANOSECONDS, denominator)


def _nearest(numerator: int, denominator: int) -> int:
    return (2 * numerator + denominator) // (2 * denominator)


def _to_parts(seconds: float) -> int:
    numerator, denominator = seconds.as_integer_ratio()
    return numerator * NANOSECONDS * _PARTS // denominator


def _float_slack(now: int) -> int:
    """By how much a difference of timestamps may be too short, at most."""
    most = _MICROSECOND // 2 - 1
    return min(_to_parts(ulp(now / NANOSECONDS)), most) if now < _LARGE else most


def _as_told(now: int, as_float: bool) -> int:
    """The latest that a program may take it for, in parts."""
    if as_float and now < _LARGE:
        return max(now * _PARTS, _to_parts(now / NANOSECONDS))
    return now // 1000 * _MICROSECOND

"""What system time a control tells, so that no program that waits for one is early.

A program waits for a system time by what it has: it reads the system time, waits for
the rest, and expects to read that system time then, or a later one.

Where the time has been counted, it is told as it has been counted: lengths of time are
whole numbers of microseconds, and add up. A length that is not, such as the difference
of two floats, counts as the next whole nanosecond, so the count is no less than what a
program has waited for. But where time has gone to a deadline, that is a float. Some
weeks from where instants begin, floats are coarser than nanoseconds, and a deadline may
be less than the exact sum. So there it may have to be told a little more. How much,
what has been told before decides: a later reading is ahead of the instant by at least
as much as any reading before, and by what rounding may have taken away meanwhile. No
program can have waited for more.

Only readings at later instants are meant, as each wait ends later than it begins. At
one instant all readings are the same.

A program may also read the system time as a float, from `time.time` or
`datetime.timestamp`, and wait for the difference to another float. So the wall also
keeps how far such floats have been ahead. It keeps this twice: ahead of the count, for
moves by hand, which begin and end at counted times; and ahead of the instant, for
waits, which begin and end at instants. A float that is told is no less than the latest
float that such a wait may have been for. A system time that is told as no float is no
less than the latest whole second that such a wait may have been for.

The same for each microsecond, and not only for each second, would make system time go
too fast, as floats are coarse. So for microseconds only the last reading counts. If
what has passed since that reading is just the wait for the next microsecond, the wall
tells that one. The same for the next float, but not after a length of whole
microseconds: that has been meant exactly, and no float is waited for.
"""

from __future__ import annotations

from math import inf, nextafter, ulp

from attrs import frozen

from .._lock import RLock

NANOSECONDS = 1_000_000_000

# The length of a `timedelta` is rounded, and so is its sum with an instant. A tick is
# the sum of an instant and of a product, one factor of which, the period, has been
# rounded. Counting an instant rounds once more. Altogether that is less than so many
# units.
_ROUNDINGS = 3

# Parts of a nanosecond, so that what is less does not count as one. So small that each
# float from a microsecond on is a whole number of them.
_PARTS = 2**64
_MICROSECOND = 1000 * _PARTS
_SECOND = NANOSECONDS * _PARTS

_MOST_OFF = _MICROSECOND // 2 - 1

# No system time of a datetime is as far away, and no float overflows.
_LARGE = 1e300


@frozen
class _Lead:
    """How far what has been told was ahead of the time, in parts."""

    # What was told exactly, ahead of the earliest that the time may have been.
    exact: float = -inf
    # What was told as a float, ahead of the count, and ahead of the instant.
    of_count: float = -inf
    of_instant: float = -inf

    def or_more(self, other: _Lead) -> _Lead:
        return _Lead(
            max(self.exact, other.exact),
            max(self.of_count, other.of_count),
            max(self.of_instant, other.of_instant),
        )


@frozen
class _Reading:
    """What has been told last, in parts."""

    count: int
    there: int
    exact: int
    as_float: int
    stamp: int


_NOTHING = _Lead()


@frozen
class _Told:
    """What has been told until an instant: at most, and last."""

    instant: float
    # Before it...
    most_before: _Lead = _NOTHING
    last_before: _Reading | None = None
    # ...and with what has been told there.
    most: _Lead = _NOTHING
    last: _Reading | None = None


class Wall:
    """The system time of a control. It may be read in any thread, at any moment."""

    def __init__(self) -> None:
        self._told = _Told(0.0)
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
        count = earliest = latest = now * _PARTS
        there = _to_parts(instant) + ahead * _PARTS
        rounding = 0
        if not counted:
            rounding = _to_parts(ulp(instant))
            earliest = min(count, there)
            # Two parts more, as those of floats are rounded down.
            latest = max(count, there) + _ROUNDINGS * rounding + 2
        with self._lock:
            told = self._told
            most, last = told.most_before, told.last_before
            if instant > told.instant:
                most, last = told.most, told.last
            if most.exact > -inf:
                now = max(now, int(latest + most.exact) // _MICROSECOND * 1000)
                by_floats = latest + int(max(most.of_count, most.of_instant))
                now = max(now, (by_floats + _PARTS) // _SECOND * NANOSECONDS)
                if as_float and counted:
                    now = _up_to_float(now, count + int(most.of_count))
                elif as_float:
                    # Less than a unit for two roundings of half a unit.
                    by_floats = there + int(most.of_instant) + rounding
                    now = _up_to_float(now, by_floats - 1)
            if last is not None:
                passed = count - last.count if counted else there - last.there
                is_exact = counted and not passed % _MICROSECOND
                by_float = as_float and not is_exact
                now = _as_waited_for(now, last, passed, rounding, by_float)
            microsecond = now // 1000 * 1000
            exact = (now if as_float else microsecond) * _PARTS
            stamp = _timestamp(microsecond)
            taken = _float(now) if as_float else stamp
            lead = _Lead(exact - earliest, taken - count, taken - there)
            reading = _Reading(count, there, exact, taken, stamp)
            # A finalizer in this thread may have read it just now, and been told more.
            there_most = self._told.most.or_more(lead)
            self._told = _Told(instant, most, last, there_most, reading)
        return now

    def set(self, instant: float) -> None:
        """It has been set, so that what has been told before does not count."""
        self._told = _Told(instant, most=_Lead(0, 0, 0))


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


def length_to_nanoseconds(seconds: float) -> int:
    """The same for a length of time, rounded up, so that no wait is cut short.

    But not for as little as floats of decimals are off. What is less than half a
    nanosecond counts as none: instants tell it, and it would add up to too much.
    """
    nearest = to_nanoseconds(seconds)
    off = _to_parts(seconds) - nearest * _PARTS
    return nearest + (nearest > 0 and off > _ROUNDINGS * _to_parts(ulp(seconds)))


def _nearest(numerator: int, denominator: int) -> int:
    return (2 * numerator + denominator) // (2 * denominator)


def _to_parts(seconds: float) -> int:
    numerator, denominator = seconds.as_integer_ratio()
    return numerator * NANOSECONDS * _PARTS // denominator


def _float(now: int) -> int:
    """What `time.time` makes of it, in parts."""
    return _to_parts(now / NANOSECONDS) if abs(now) < _LARGE else now * _PARTS


def _timestamp(now: int) -> int:
    """A whole microsecond as `datetime.timestamp` gives it, in parts.

    That may be later or earlier, but not by as much as makes it another microsecond.
    """
    off = _float(now) - now * _PARTS
    return now * _PARTS + min(max(off, -_MOST_OFF), _MOST_OFF)


def _up_to_float(now: int, latest: int) -> int:
    """The first time, from *now* on, whose float is the last one up to *latest*."""
    if abs(now) >= _LARGE:
        return now
    seconds = latest / _SECOND
    if _to_parts(seconds) > latest:
        seconds = nextafter(seconds, -inf)
    if now / NANOSECONDS < seconds:
        before = nextafter(seconds, -inf)
        now = (_to_parts(before) + _to_parts(seconds)) // 2 // _PARTS
        while now / NANOSECONDS < seconds:
            now += 1
    return now


def _as_waited_for(
    now: int, last: _Reading, passed: int, rounding: int, by_float: bool
) -> int:
    """The next microsecond or float, if what has *passed* is just the wait for it."""
    if abs(now) >= _LARGE:
        return now
    # By no less than a unit of what has passed, and a nanosecond.
    rounding += (passed >> 52) + _PARTS
    if rounding < _MICROSECOND // 4:
        following = now // 1000 * 1000 + 1000
        stamp = _timestamp(following) - passed
        if (
            abs(following * _PARTS - passed - last.exact) <= rounding
            or abs(stamp - last.stamp) <= rounding
            or abs(stamp - last.as_float) <= rounding
        ):
            return following
    if by_float:
        seconds = nextafter(now / NANOSECONDS, inf)
        value = _to_parts(seconds)
        if (
            rounding < _to_parts(ulp(seconds)) // 4
            and abs(value - last.as_float - passed) <= rounding
        ):
            return _up_to_float(now, value)
    return now

"""What system time a control tells, so that no program that waits for one is early.

A program waits for a system time by what it has: it reads the system time, waits for
the rest, and expects to read that system time then, or a later one. There are two
reasons why it could read an earlier one.

* **Deadlines are floats.** Some weeks from where instants begin, floats are coarser
  than nanoseconds, and a deadline may be less than the exact sum. So for system time an
  instant counts as late as the exact sum can be of which it is the float: up to
  `_ROUNDINGS` units in the last place.
* **What has been read may have been rounded up itself**: by the above, or where a
  program takes it as a float, as `time.time` and `datetime.timestamp` give it. A wait
  that begins there is shorter by that. So system time stays as far ahead of the
  instants as it has ever been told to be. Only readings at later instants are meant, as
  each wait ends later than it begins: at one instant all readings are the same.

Both together are far less than a microsecond in the first decades. So what is counted
in whole microseconds, as `datetime` does, is told exactly.
"""

from __future__ import annotations

from math import ulp

from attrs import frozen

from .._lock import RLock

NANOSECONDS = 1_000_000_000

# A tick is a product and a sum of floats of which one, the period, has been rounded as
# well; the length of a `timedelta` is rounded once, and so is its sum. Each rounding
# is half a unit, and the first is multiplied by up to two.
_ROUNDINGS = 2

# Parts of a nanosecond, so that what is less does not count as one.
_PARTS = 1024
_MICROSECOND = 1000 * _PARTS

# No system time of a datetime is as far away, and no float overflows.
_LARGE = 1e300


@frozen
class _Told:
    """How far ahead of the instants system time has been told to be, in parts."""

    # Until this instant...
    instant: float
    until_then: int
    # ...and there.
    from_then: int


class Wall:
    """The system time of a control. It may be read in any thread, at any moment."""

    def __init__(self) -> None:
        self._told = _Told(0.0, 0, 0)
        self._lock = RLock()

    def read(self, instant: float, nanoseconds: int, ahead: int) -> int:
        """The system time, in nanoseconds since 1970.

        Args:
            instant: The present.
            nanoseconds: The same, counted.
            ahead: What system time is ahead of that.
        """
        while True:
            told = self._told
            lead = told.from_then if instant > told.instant else told.until_then
            here = _to_parts(instant) + ahead * _PARTS
            whole = (here + _slack(instant) + lead) // _MICROSECOND * 1000
            now = max(whole, nanoseconds + ahead)
            lead_now = _as_read(now, instant) - here
            if lead_now <= told.from_then:
                return now
            with self._lock:
                # Unless another thread, or a finalizer, has read it just now.
                if self._told is told:
                    self._told = _Told(instant, lead, lead_now)
                    return now

    def set(self, instant: float, nanoseconds: int, ahead: int) -> None:
        """It has been set, so that what has been told before does not count.

        At this very instant it is what has been counted.
        """
        counted = nanoseconds * _PARTS - _to_parts(instant)
        here = _to_parts(instant) + ahead * _PARTS
        self._told = _Told(
            instant,
            counted - _slack(instant),
            _as_read(nanoseconds + ahead, instant) - here,
        )


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


def _slack(instant: float) -> int:
    # Two parts more, as those of the instant and these have been rounded down.
    return _to_parts(_ROUNDINGS * ulp(instant)) + 2


def _as_read(now: int, instant: float) -> int:
    """The latest that a program may take it for."""
    as_float = now / NANOSECONDS if instant < _LARGE else 0.0
    return max(now * _PARTS, _to_parts(as_float))

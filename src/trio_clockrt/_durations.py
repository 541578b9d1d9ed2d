"""The one place that turns what users pass into seconds, and refuses the rest.

What is too far away never comes: an integer too large for a `float` is infinity. A
period must be finite, and long enough that adding it to the present changes the
present.
"""

from __future__ import annotations

from datetime import timedelta
from math import inf, isfinite, isnan, nextafter, ulp
from numbers import Real

from ._hints import about_value

# A period becomes too short to be told from zero as the clock's instants grow. This is
# to refuse at once what never made sense.
_SHORTEST_PERIOD = 1e-9

# Any number below this can be a float.
_LARGE = 1e300


def to_seconds(value: object, name: str) -> float:
    """A length of time: non-negative, possibly infinite."""
    if (type(value) is float or type(value) is int) and 0 <= value < _LARGE:
        return float(value)  # as most are
    seconds = _to_float(value, name, "a number of seconds or a timedelta")
    if isnan(seconds):
        raise ValueError(f"`{name}` must not be NaN")
    if seconds < 0:
        raise ValueError(f"`{name}` must be non-negative, but it is {_shown(value)}")
    return seconds


def later(now: float, seconds: float) -> float:
    """The deadline of a wait of so many *seconds*, which begins *now*.

    It is the sum, which users compute too. Where floats are so coarse that the sum is
    the present, it is the next float: a wait that ends when it begins would make no
    progress, and a loop that waits for what is left would never end.
    """
    deadline = now + seconds
    if deadline > now or not seconds:
        return deadline
    return nextafter(now, inf)


def to_period(value: object, name: str, now: float) -> float:
    """A length of time that can be repeated from *now* on: each tick after the last."""
    seconds = to_finite_seconds(value, name)
    if seconds == 0:
        raise ValueError(
            f"`{name}` must be longer than zero, but it is {_shown(value)}"
        )
    if seconds < _SHORTEST_PERIOD or seconds < ulp(now):
        raise ValueError(
            f"`{name}` must be at least a nanosecond, and long enough to be told from "
            f"zero at instant {now!r}, but it is {_shown(value)}"
        )
    return seconds


def to_step(value: object, name: str) -> float:
    """How far to move something: a finite length of time, in either direction."""
    seconds = _to_float(value, name, "a number of seconds or a timedelta")
    if not isfinite(seconds):
        raise ValueError(f"`{name}` must be finite, but it is {_shown(value)}")
    return seconds


def to_finite_seconds(value: object, name: str) -> float:
    """A length of time: non-negative and finite."""
    seconds = to_seconds(value, name)
    if seconds == inf:
        raise ValueError(f"`{name}` must be finite, but it is {_shown(value)}")
    return seconds


def to_finite_instant(value: object, name: str) -> float:
    instant = to_instant(value, name)
    if not isfinite(instant):
        raise ValueError(f"`{name}` must be finite, but it is {_shown(value)}")
    return instant


def to_count(value: object, name: str) -> int:
    """How many of something, at least one."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"`{name}` must be an integer, not {_shown(value)}")
    if value < 1:
        raise ValueError(f"`{name}` must be positive, but it is {_shown(value)}")
    return value


def to_rate(value: object, name: str) -> float:
    """A factor: non-negative and finite."""
    rate = _to_float(value, name, "a number")
    if rate < 0:
        # What MockClock says, to the letter, as tests look for that.
        raise ValueError(f"{name} must be >= 0") from ValueError(
            f"`{name}` must be non-negative, but it is {_shown(value)}; at 0 time "
            "stands still, and it never goes back"
        )
    if not isfinite(rate):
        raise ValueError(f"`{name}` must be finite, but it is {_shown(value)}")
    return rate


def to_instant(value: object, name: str) -> float:
    """A point on the clock's own scale, past or future, possibly infinite."""
    if isinstance(value, timedelta):
        raise TypeError(
            f"`{name}` must be an instant, a number on the scale of clock.instant(), "
            f"not a length of time: {_shown(value)}"
        )
    instant = _to_float(
        value, name, "an instant, a number on the scale of clock.instant()"
    )
    if isnan(instant):
        raise ValueError(f"`{name}` must not be NaN")
    return instant


def _to_float(value: object, name: str, wanted: str) -> float:
    if type(value) is float:
        return value
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, Real):
        hint = about_value(value)
        raise TypeError(f"`{name}` must be {wanted}, not {_shown(value)}{hint}")
    try:
        return float(value)
    except OverflowError:
        # An integer too large for a float, which is to say: never, or long ago.
        return inf if value == abs(value) else -inf


def _shown(value: object) -> str:
    try:
        return repr(value)
    except ValueError:  # as Python does not write out very large integers
        return f"a {type(value).__name__} too large to show"

"""Time under control, for tests and simulations."""

from ._clock_control import ClockControl

__all__ = ["ClockControl"]

ClockControl.__module__ = __name__

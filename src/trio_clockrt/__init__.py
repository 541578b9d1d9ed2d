"""A clock and timer runtime for Trio."""

from typing import TYPE_CHECKING

from ._clock import Clock
from ._driver import ClockDriver, DriverStatistics
from ._errors import ClockGone
from ._hints import look_elsewhere
from ._inactive_clock import InactiveClock, Isolated, Shared, open_clock
from ._periodic import MissedTick, PeriodicTimer
from ._public_names import show_public_names
from ._simple_clock import SimpleClock
from ._stopwatch import Stopwatch
from ._timer import Timer
from ._timer_group import TimerGroup
from ._timer_nursery import TimerNursery

__all__ = [
    "Clock",
    "ClockDriver",
    "ClockGone",
    "DriverStatistics",
    "InactiveClock",
    "Isolated",
    "MissedTick",
    "PeriodicTimer",
    "Shared",
    "SimpleClock",
    "Stopwatch",
    "Timer",
    "TimerGroup",
    "TimerNursery",
    "open_clock",
]

__version__ = "0.1.0"

show_public_names(__name__)

# Hidden from type checkers, which are to find what is not here.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name != "testing":
            look_elsewhere(__name__, name)
        # For annotations that name it. Only tests need it, so nothing else imports it.
        from importlib import import_module

        return import_module(".testing", __name__)

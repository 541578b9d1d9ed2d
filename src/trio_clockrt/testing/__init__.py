"""Time under control, for tests and simulations."""

from .._public_names import show_public_names
from ._clock_control import ClockControl

__all__ = ["ClockControl"]

show_public_names(__name__)

"""Time under control, for tests and simulations."""

from functools import partial
from typing import TYPE_CHECKING

from .._hints import look_elsewhere
from .._public_names import show_public_names
from ._clock_control import ClockControl

__all__ = ["ClockControl"]

show_public_names(__name__)

# Hidden from type checkers, which are to find what is not here.
if not TYPE_CHECKING:
    __getattr__ = partial(look_elsewhere, __name__)

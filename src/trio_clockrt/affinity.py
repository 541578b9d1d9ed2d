"""Processors, and a Trio run for each of them."""

from functools import partial
from typing import TYPE_CHECKING

from ._affinity import Affinity, available_affinities, pinned_affinities
from ._hints import look_elsewhere
from ._public_names import show_public_names
from ._run_per_core import run_per_core

__all__ = ["Affinity", "available_affinities", "pinned_affinities", "run_per_core"]

show_public_names(__name__)

# Hidden from type checkers, which are to find what is not here.
if not TYPE_CHECKING:
    __getattr__ = partial(look_elsewhere, __name__)

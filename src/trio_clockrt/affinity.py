"""Processors, and a Trio run for each of them."""

from ._affinity import Affinity, available_affinities, pinned_affinities
from ._public_names import show_public_names
from ._run_per_core import run_per_core

__all__ = ["Affinity", "available_affinities", "pinned_affinities", "run_per_core"]

show_public_names(__name__)

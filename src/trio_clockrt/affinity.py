"""Processors, and a Trio run for each of them."""

from ._affinity import Affinity, available_affinities, pinned_affinities
from ._run_per_core import run_per_core

__all__ = ["Affinity", "available_affinities", "pinned_affinities", "run_per_core"]

for _name in __all__:
    # In tracebacks and documentation, things are where users find them.
    globals()[_name].__module__ = __name__

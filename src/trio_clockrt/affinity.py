"""Processors, and which of them may be used."""

from ._affinity import Affinity, available_affinities, pinned_affinities

__all__ = ["Affinity", "available_affinities", "pinned_affinities"]

for _name in __all__:
    # In tracebacks and documentation, things are where users find them.
    globals()[_name].__module__ = __name__

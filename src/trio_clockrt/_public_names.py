"""In tracebacks and documentation, things are where users find them."""

from __future__ import annotations

import sys


def show_public_names(module_name: str) -> None:
    """Say of all that is in a module's ``__all__`` that it comes from there."""
    module = sys.modules[module_name]
    for name in module.__all__:
        # (In the module's globals, a lazy import has perhaps not happened yet.)
        getattr(module, name).__module__ = module_name

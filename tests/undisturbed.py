"""For tests that trace what Python does, and interrupt it at each place in turn."""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def undisturbed() -> Generator[None]:
    """No finalizer runs in here that belongs to what another test has left."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()

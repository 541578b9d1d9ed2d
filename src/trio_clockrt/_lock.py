"""A lock that a signal does not leave locked, and that a finalizer may take again."""

from __future__ import annotations

import sys
from operator import methodcaller
from threading import RLock
from typing import TYPE_CHECKING

__all__ = ["RLock"]

if sys.version_info[:2] == (3, 14) and not TYPE_CHECKING:
    # There, `with` looks for signals between taking a lock and remembering to give it
    # back, as Python does after each call. So this one is taken by an attribute.

    class RLock(type(RLock())):
        """As :func:`threading.RLock`."""

        _taken = property(methodcaller("acquire"))

        def __enter__(self) -> bool:
            return self._taken

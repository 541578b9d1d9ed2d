"""Numbers in the order in which they are drawn, from any thread and at any moment.

Registrations, groups and passes draw from one source. So numbers order the timers of
one deadline, and tell what was registered after a pass began. How many registrations
there have been is the last number less those that were drawn for something else; no
code counts on each registration.
"""

from __future__ import annotations

from contextlib import nullcontext
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._lock import RLock

_NO_LOCK = nullcontext()


class Numbers:
    """Draws numbers, and tells how many were those of registrations.

    Args:
        lock: Where several threads draw. Without the GIL, two of them might be given
            the same number.
    """

    def __init__(self, lock: RLock | None) -> None:
        self._lock = lock
        self._draw = count(1).__next__
        self._last = self._others = 0
        #: The next number, for a registration.
        self.next: Callable[[], int] = self._draw if lock is None else self._next

    def _next(self) -> int:
        with self._lock or _NO_LOCK:
            self._last = number = self._draw()
            return number

    def other(self) -> int:
        """The next number, for something else."""
        if self._lock is None:
            self._others += 1
            return self._draw()
        with self._lock:
            self._others += 1
            return self.next()

    def registered(self) -> int:
        if self._lock is None:
            return self.other() - self._others
        return self._last - self._others

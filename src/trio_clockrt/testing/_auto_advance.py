"""Time that moves by a step with each reading.

Only readings through a clock of this library count. Trio reads the clock of a run at
moments of its own, which no test could count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lock import RLock

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from ._virtual_time import VirtualTime


class AutoAdvance:
    """A time source for readers: each reading moves the time by a *step*.

    Args:
        limit: How far all readings may move it together.
        moved: What to call then.
    """

    def __init__(
        self,
        time: VirtualTime,
        step: float,
        limit: float,
        moved: Callable[[], None],
    ) -> None:
        self.name = time.name
        self.now = time.now
        self._time = time
        self._step = step
        self._left = limit
        self._moved = moved
        self._lock = RLock()

    def instant(self) -> float:
        instant = self._time.instant()
        self._advance()
        return instant

    def system_time(self) -> datetime:
        system_time = self._time.system_time()
        self._advance()
        return system_time

    def _advance(self) -> None:
        # Not held any longer, as a finalizer may read the time at any moment.
        with self._lock:
            step = min(self._step, self._left)
            self._left -= step
        if step:
            self._time.add(step)
            self._moved()

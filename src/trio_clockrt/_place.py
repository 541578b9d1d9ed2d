"""The place where a clock's timers are kept: a Trio run, or a thread.

A clock that a Trio task drives belongs to a run, one that a caller advances to a
thread. The token of the run tells runs apart: to compare threads would be cheaper, but
then a clock of a run that has crashed could be used in the next run of its thread. Each
use of a timer compares places, at some hundredths of a microsecond. When places differ,
and only then, `Timers.check` asks whether the clock's run is over, and ends the clock.
"""

from __future__ import annotations

import threading
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class _Threads(threading.local):
    def __init__(self) -> None:
        self.this = object()


#: Tells threads apart. (The numbers of threads that have ended are given to others.)
current_thread: Callable[[], object] = partial(getattr, _Threads(), "this")


class Place:
    """Where this has been made.

    Args:
        current: Tells places apart: it returns another object in each of them. Where
            there is no such place, it may raise RuntimeError.
    """

    __slots__ = ("_thread", "current", "this")

    def __init__(self, current: Callable[[], object]) -> None:
        self.current: Callable[[], object] = current
        self.this: object = current()
        self._thread = get_ident()

    def is_here(self) -> bool:
        # First what is cheap, for other threads.
        if get_ident() != self._thread:
            return False
        try:
            return self.current() is self.this
        except RuntimeError:
            return False

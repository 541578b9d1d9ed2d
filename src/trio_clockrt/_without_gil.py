"""What CPython without the GIL asks for.

There, an object belongs to the thread that made it. Another thread that drops the last
reference leaves the rest to that thread, which may be waiting, and so may never notice.
But if the thread of an object drops its own references, while another thread still has
one, then the object belongs to no thread any more. From then on it is freed in any
thread, as soon as it is dropped there.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from threading import Event, Thread
from typing import TypeVar

import outcome

T = TypeVar("T")

# Only CPython from 3.13 on can be without.
has_gil: Callable[[], bool] = getattr(sys, "_is_gil_enabled", lambda: True)


def made_for_no_thread(make: Callable[[], T]) -> T:
    """What it makes, whose end is noticed at once in any thread."""
    if has_gil():
        return make()

    def hand_over() -> None:
        made.append(outcome.capture(make))
        is_made.set()
        is_taken.wait()
        made.clear()

    made: list[outcome.Outcome[T]] = []
    is_made, is_taken = Event(), Event()
    thread = Thread(target=hand_over)
    thread.start()
    try:
        is_made.wait()
        return made[0].unwrap()
    finally:
        is_taken.set()
        thread.join()

"""What a program waits for, to show why it does not go on.

The report names the user's own lines: of each task, the innermost frame that is in no
library, and of each timer, the function and where it was made. Tasks of one place are
counted, and timers are listed as far as they come next.
"""

from __future__ import annotations

from collections import Counter
from heapq import nsmallest
from operator import attrgetter
from sys import _current_frames
from threading import enumerate as all_threads
from typing import TYPE_CHECKING

from trio.lowlevel import current_root_task

from .._waiters import ThreadWaiter
from ._await_chain import frames_of
from ._blame import outwards, own_frames, with_children
from ._trio_inside import main_task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import FrameType

    from trio.lowlevel import Task

    from .._pending import Waiter
    from .._timers import Timers
    from ._virtual_time import VirtualTime

_NEXT_TIMERS = 10
# Where in a library a task waits is of no interest, unless the user has started one of
# these functions, and nothing else.
_STARTED = ("trio", "trio_clockrt")


class Reporter:
    """Tells people about a control and what the current run does with it.

    Args:
        states: Tells the timers of all clocks that the control drives.
    """

    def __init__(
        self, time: VirtualTime, states: Callable[[], list[Timers]], seed: int
    ) -> None:
        self._time = time
        self._states = states
        self.seed = seed

    def report(self) -> str:
        """What time it is, where tasks wait, and which timers come next."""
        time, states = self._time, self._states()
        lines = [
            f"it is instant {time.instant()!r}; system time {time.tell()}; seed "
            f"{self.seed}"
        ]
        lines += _tasks()
        lines += _threads(states)
        callbacks = self._callbacks()
        for timer in nsmallest(_NEXT_TIMERS, callbacks, key=_when):
            lines.append(describe(timer))
        if len(callbacks) > _NEXT_TIMERS:
            lines.append(f"{len(callbacks) - _NEXT_TIMERS} timers more")
        return "".join(f"\n  - {line}" for line in lines)

    def due(self) -> list[str]:
        """Which timers are due, and have not fired yet."""
        now = self._time.now()
        due = [timer for timer in self._callbacks() if timer.when <= now]
        return [describe(timer) for timer in nsmallest(_NEXT_TIMERS, due, key=_when)]

    def fired(self) -> int:
        """How many timers have ever fired."""
        return sum(timers.fired for timers in self._states())

    def _callbacks(self) -> list[Waiter]:
        # Tasks that wait for a timer are listed with the other tasks.
        timers = (timer for each in self._states() for timer in each.waiters())
        return [timer for timer in timers if not timer._only_wakes]


_when = attrgetter("when")


def workers_wait_for(deadline: float) -> str:
    return (
        f"the next deadline is at {deadline!r}, but time waits for a worker thread, "
        "and that for a thread which waits for time. Use ignore_threads=True"
    )


def nothing_moves_to(deadline: float) -> str:
    return (
        f"the next deadline is at {deadline!r}, but nothing moves the time. Use "
        "autojump_threshold=0, or run_for()"
    )


def all_tasks() -> Iterator[Task]:
    """The tasks of the current run."""
    return with_children(current_root_task())


def place_of(task: Task) -> FrameType:
    """Where a task is in the user's own code, or else the frame of its function."""
    frames = list(frames_of(task))
    return (own_frames(frames) or frames[:1])[-1]


def place(frame: FrameType) -> str:
    code = frame.f_code
    return f"at {code.co_filename}:{frame.f_lineno}, in {code.co_name}"


def _tasks() -> Iterator[str]:
    # System tasks are none of theirs.
    of_the_user = set(with_children(main_task()))
    waiting: Counter[tuple[str, str]] = Counter()
    for task in all_tasks():
        frames = list(frames_of(task))
        places = [place(frame) for frame in own_frames(frames)]
        if places:
            # The innermost place in the user's own code.
            waiting[task.name, places[-1]] += 1
        elif frames and task in of_the_user:
            library = frames[0].f_globals["__name__"].partition(".")[0]
            if library in _STARTED:
                waiting[task.name, f"in {library}.{task.coro.__qualname__}"] += 1
    for (name, where), count in waiting.items():
        if count == 1:
            yield f"task {name} waits {where}"
        else:
            yield f"{count} tasks {name} wait {where}"


def threads_that_wait(states: Iterable[Timers]) -> list[int]:
    """Those in `Clock.delay_blocking`, on clocks with these timers."""
    waiters = [waiter for each in states for waiter in each.waiters()]
    return [waiter._thread for waiter in waiters if isinstance(waiter, ThreadWaiter)]


def _threads(states: Iterable[Timers]) -> Iterator[str]:
    frames = _current_frames()
    names = {thread.ident: thread.name for thread in all_threads()}
    for ident in threads_that_wait(states):
        own = own_frames([*outwards(frames.get(ident))])
        where = f" {place(own[0])}" if own else ""
        yield f"thread {names.get(ident, ident)} waits{where}"


def describe(timer: object) -> str:
    """Which timer it is, and if it has been noted, where it was made."""
    made_at = getattr(timer, "_made_at", None)
    where = f", made at {made_at}" if made_at else ""
    try:
        return f"{timer!r}{where}"
    except Exception:  # of the user's function
        return f"{object.__repr__(timer)}{where}"

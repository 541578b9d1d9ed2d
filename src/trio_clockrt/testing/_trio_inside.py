"""What there is no public way to ask Trio. Nothing else looks at its inside.

These are: who is runnable (which tasks, and whether the main task is), which task is
the main one, which tasks wait for the others to block, the next deadline, whether
Ctrl-C is pending, and what decides which task goes first. Two things are changed: a
task that waits sees an error, and a seed takes the place of Trio's dice.

If a release of Trio moves something, it is here that it has to be found again, and
tests fail loudly until it is.
"""

from __future__ import annotations

from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, NoReturn

from trio._core import _run
from trio._core._run import GLOBAL_RUN_CONTEXT

from .._lock import RLock

if TYPE_CHECKING:
    from collections.abc import Container
    from random import Random

    from trio.lowlevel import Task, TrioToken


# (Each function asks the context anew. A part of a run that is kept would keep all of
# the run alive, also if its host has dropped it.)


def is_idleness_awaited() -> bool:
    """Whether a task of this run is in `trio.testing.wait_all_tasks_blocked`."""
    return bool(GLOBAL_RUN_CONTEXT.runner.waiting_for_idle)


def cushions(*, but_not_of: Container[Task]) -> list[float]:
    """How long the tasks in there wait for, except some."""
    waiting = GLOBAL_RUN_CONTEXT.runner.waiting_for_idle.items()
    return [cushion for (cushion, _), task in waiting if task not in but_not_of]


def next_deadline() -> float:
    """The earliest deadline of this run, exactly."""
    return GLOBAL_RUN_CONTEXT.runner.deadlines.next_deadline()


def next_deadline_if_idle() -> float:
    """The same; ``-inf`` if a task is about to go on."""
    runner = GLOBAL_RUN_CONTEXT.runner
    return -inf if runner.runq else runner.deadlines.next_deadline()


def ctrl_c_is_pending() -> bool:
    """Whether Ctrl-C has come to this run, and the main task has not seen it yet."""
    return bool(GLOBAL_RUN_CONTEXT.runner.ki_pending)


def is_about_to_go_on(task: Task) -> bool:
    return task._next_send_fn is not None


def main_task() -> Task | None:
    """The one that runs the function that this run was given; none before it begins."""
    task: Task | None = GLOBAL_RUN_CONTEXT.runner.main_task
    return task


def interrupt(task: Task, error: BaseException) -> bool:
    """Let a task see an error where it waits, like Ctrl-C; tells whether it waits."""

    def raise_error() -> NoReturn:
        raise error

    if task._abort_func is None:
        return False
    task._attempt_abort(raise_error)
    return True


def decide_schedule(run: TrioToken, random: Random | None) -> None:
    """Let *random* decide which woken task of a run goes first; with None, Trio again.

    What Trio throws its dice with, and whether it puts the tasks in order before, are
    globals of all runs in all threads. While any run has a *random* of its own, objects
    that look at the current run are in their place.
    """
    # A finalizer may end a run at any moment, also here.
    with _lock:
        if random is None:
            _randoms.pop(run, None)
        else:
            _randoms[run] = random
        for name in ("_r", "_ALLOW_DETERMINISTIC_SCHEDULING"):
            found = getattr(_run, name)
            # What other code has put there meanwhile stays.
            while isinstance(found, _OfThisRun):
                found = found.otherwise
            setattr(_run, name, _OfThisRun(found) if _randoms else found)


class _OfThisRun:
    """The current run's own random numbers, or what there was before.

    It stays right for ever, should another program keep it as what to go back to. Trio
    asks for its truth, and then calls `shuffle`, in each pass of its loop, so these two
    ask no more than they have to.
    """

    def __init__(self, otherwise: Any) -> None:
        self.otherwise = otherwise

    def __getattr__(self, name: str) -> Any:
        return getattr(_random_of_this_run() or self.otherwise, name)

    def __bool__(self) -> bool:
        try:
            if GLOBAL_RUN_CONTEXT.runner.trio_token in _randoms:
                return True
        except AttributeError:  # outside of Trio
            pass
        return bool(self.otherwise)

    def shuffle(self, batch: list[Any]) -> None:
        if len(batch) > 1:  # a single task is the commonest case
            random = _random_of_this_run()
            if random is None:
                self.otherwise.shuffle(batch)
            else:
                # By a random number for each, so nothing compares tasks. All this is C.
                batch.sort(key=partial(next, iter(random.random, None)))


def _random_of_this_run() -> Random | None:
    try:
        return _randoms.get(GLOBAL_RUN_CONTEXT.runner.trio_token)
    except AttributeError:  # outside of Trio
        return None


_randoms: dict[TrioToken | None, Random] = {}
_lock = RLock()

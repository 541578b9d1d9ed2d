"""What there is no public way to ask Trio. Nothing else looks at its inside.

If a release of Trio moves something, it is here that it has to be found again.
"""

from __future__ import annotations

import inspect
from math import inf
from typing import TYPE_CHECKING, Any, NoReturn

import outcome
from trio._core import _run
from trio._core._run import GLOBAL_RUN_CONTEXT
from trio.lowlevel import (
    cancel_shielded_checkpoint,
    checkpoint,
    current_trio_token,
)

from .._lock import RLock
from ._await_chain import frames_of

if TYPE_CHECKING:
    from collections.abc import Container
    from random import Random

    from trio.lowlevel import Task, TrioToken


_CHECKPOINT = inspect.unwrap(checkpoint).__code__
_PAUSE = inspect.unwrap(cancel_shielded_checkpoint).__code__

# (Each time from the context, as whoever keeps a part of a run keeps all of it alive,
# also if its host has dropped it.)


def anybody_waits_for_idleness() -> bool:
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


def main_task_goes_on() -> bool:
    """Whether the main task is about to go on, and so cannot be interrupted yet."""
    main = main_task()
    return main is not None and main._next_send_fn is not None


def raise_in_main_task(error: BaseException) -> bool:
    """Let the main task see an error where it waits, as Ctrl-C would be raised.

    If it cannot be interrupted, or waits for a shielded child, the next one of its
    children and theirs sees it as well. Tells whether any of them will notice.
    """

    def raise_error() -> NoReturn:
        raise error

    main = main_task()
    tasks = [] if main is None else [main]
    runq = GLOBAL_RUN_CONTEXT.runner.runq
    for task in tasks:
        if task._abort_func is not None:
            runnable = len(runq)
            task._attempt_abort(raise_error)
            if len(runq) > runnable:
                return True
        elif _is_at_a_checkpoint(task):
            # It is about to go on, and Trio itself might raise something there.
            if not task._cancel_status.effectively_cancelled:
                task._next_send = outcome.Error(error)
            return True
        tasks += [
            child for nursery in task.child_nurseries for child in nursery.child_tasks
        ]
    return False


def _is_at_a_checkpoint(task: Task) -> bool:
    """Whether it is in `trio.lowlevel.checkpoint`, and goes on by itself."""
    codes = [frame.f_code for frame in frames_of(task)]
    inner = codes.index(_PAUSE) if _PAUSE in codes else 0
    return _CHECKPOINT in codes[:inner][-1:]


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
            # What somebody else has put there meanwhile stays.
            while isinstance(found, _OfThisRun):
                found = found.otherwise
            setattr(_run, name, _OfThisRun(found) if _randoms else found)


class _OfThisRun:
    """The current run's own random numbers, or what there was before.

    It stays right for ever, should somebody keep it as what to go back to.
    """

    def __init__(self, otherwise: Any) -> None:
        self.otherwise = otherwise

    def __getattr__(self, name: str) -> Any:
        return getattr(_random_of_this_run() or self.otherwise, name)

    def __bool__(self) -> bool:
        return bool(_random_of_this_run() or self.otherwise)


def _random_of_this_run() -> Random | None:
    try:
        return _randoms.get(current_trio_token())
    except RuntimeError:
        return None


_randoms: dict[TrioToken, Random] = {}
_lock = RLock()

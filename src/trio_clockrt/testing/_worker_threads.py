"""Whether a Trio run waits for something that a worker thread does."""

from __future__ import annotations

import inspect
import warnings
from typing import TYPE_CHECKING

import trio
from trio.lowlevel import wait_task_rescheduled
from trio.testing import active_thread_count

from ._await_chain import frames_of
from ._report import all_tasks

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from trio.lowlevel import Task

_RUN_SYNC = inspect.unwrap(trio.to_thread.run_sync).__code__
_THREADS = _RUN_SYNC.co_filename
_WAIT = inspect.unwrap(wait_task_rescheduled).__code__


def busy_workers() -> list[Task]:
    """The tasks that wait for a worker thread that does not itself wait for Trio."""
    if not active_thread_count():
        return []
    tasks = list(all_tasks())
    waiting = [task for task in tasks if _frames_of_a_wait_for_a_worker(task)]
    # Workers that may be abandoned wait for system tasks, of which nobody says whose
    # they are.
    abandonable = [
        task
        for task in waiting
        if _frames_of_a_wait_for_a_worker(task)[-1].f_locals["abandon_on_cancel"]
    ]
    asking = min(len(abandonable), sum(map(_is_asked_for_by_a_worker, tasks)))
    return [task for task in waiting if task not in abandonable[:asking]]


def warn_of(tasks: Sequence[Task]) -> None:
    for task in tasks:
        frames = _frames_of_a_wait_for_a_worker(task)
        waiter, worker = frames[0], frames[-1]
        warnings.warn_explicit(
            f"virtual time has been standing still for a second of real time, as the "
            f"task {task.name!r} waits for {worker.f_locals['sync_fn']!r} in a worker "
            "thread. If it is just working, all is well, and the warning filter "
            "'ignore:virtual time has been standing still' silences this. If it waits "
            "for something that only happens in virtual time, it will wait for ever: "
            "say ClockControl(ignore_threads=True), or move the time by hand",
            RuntimeWarning,
            waiter.f_code.co_filename,
            waiter.f_lineno,
        )


def _frames_of_a_wait_for_a_worker(task: Task) -> list[FrameType]:
    """Who waits for the worker, and the function of Trio's in which that happens.

    While its worker waits for Trio, in `trio.from_thread.run`, the task is busy with
    what the worker waits for; then, or if it does not wait, nothing.
    """
    frames = list(frames_of(task))
    codes = [frame.f_code for frame in frames]
    innermost = codes.index(_WAIT) if _WAIT in codes else 0
    if _RUN_SYNC in codes[:innermost][-1:]:
        return frames[:innermost][-2:]
    return []


def _is_asked_for_by_a_worker(task: Task) -> bool:
    outermost = [frame.f_code for frame in frames_of(task)][:1]
    # (A task may also do nothing but wait for a worker.)
    return any(
        code.co_filename == _THREADS and code is not _RUN_SYNC for code in outermost
    )

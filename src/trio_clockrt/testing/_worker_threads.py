"""Whether a Trio run waits for something that a worker thread does."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import trio
from trio.lowlevel import current_root_task, wait_task_rescheduled
from trio.testing import active_thread_count

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio.lowlevel import Task

_RUN_SYNC = inspect.unwrap(trio.to_thread.run_sync).__code__
_WAIT = inspect.unwrap(wait_task_rescheduled).__code__


def any_worker_is_busy() -> bool:
    """Whether a task waits for a worker thread that does not itself wait for Trio."""
    return active_thread_count() > 0 and any(map(_waits_for_a_worker, _tasks()))


def _waits_for_a_worker(task: Task) -> bool:
    # While its worker waits for Trio, in `trio.from_thread.run`, the task is busy with
    # what the worker waits for.
    codes = [frame.f_code for frame, _ in task.iter_await_frames()]
    return _WAIT in codes and _RUN_SYNC in codes[: codes.index(_WAIT)][-1:]


def _tasks() -> Iterator[Task]:
    root = current_root_task()
    tasks = [root] if root else []
    while tasks:
        task = tasks.pop()
        yield task
        for nursery in task.child_nurseries:
            tasks += nursery.child_tasks

"""Whether a Trio run waits for something that a worker thread does.

Trio does not tell. But a task that waits for a worker is inside a function of Trio's,
`to_thread.run_sync`, and its frames show that.

A task that is cancelled waits for its worker thread all the same: that is Trio's rule,
and a good one. But a worker that waits for virtual time, which waits for the worker,
never comes back. So where a person has pressed Ctrl-C while time stands still for a
worker, or the time of `fail_after_real` is up, or a deadlock has been proven, the task
goes on, as if it had said `abandon_on_cancel=True`. Trio's function keeps two lists
among its variables: which task a worker reports to, and what the cancellation would
have raised. A system task takes the place of the first, and the task sees the second.
Were there no such task, a worker that asks Trio for something afterwards, with
`from_thread.run`, would crash the run; the system task hands such a request on in the
way that Trio has for workers that have been abandoned.

A task that is shielded has no second list entry. If it is in the same wait a second
later, it is interrupted, by the look at Trio's inside that raises errors elsewhere:
with what Ctrl-C raises, or with a `Cancelled` which another system task has been
cancelled for, as no other code may make one.

Ctrl-C is seen at one attribute of Trio's. (To put a signal handler in the place of
Trio's would be public, but Trio restores its own only if it finds its own, and a
program may look at the handler or change it.)
"""

from __future__ import annotations

import inspect
from contextlib import suppress
from sys import _current_frames
from threading import Thread, Timer
from typing import TYPE_CHECKING, Any

import outcome
import trio
from trio.lowlevel import (
    Abort,
    add_instrument,
    checkpoint,
    current_task,
    current_trio_token,
    remove_instrument,
    reschedule,
    spawn_system_task,
    wait_task_rescheduled,
)
from trio.testing import active_thread_count

from .._post import post, wake_run
from ._await_chain import frames_of
from ._blame import outwards, with_children
from ._report import all_tasks
from ._trio_inside import interrupt, is_about_to_go_on, main_task

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from types import FrameType

    from trio.lowlevel import Task

# When other tasks wait for their worker threads no more, a task that is shielded may go
# on waiting for so many real seconds.
SHIELDED = 1.0

_RUN_SYNC = inspect.unwrap(trio.to_thread.run_sync).__code__
_THREADS = _RUN_SYNC.co_filename
_JOIN = Thread.join.__code__
_WAIT = inspect.unwrap(wait_task_rescheduled).__code__


def busy_workers() -> list[Task]:
    """The tasks that wait for a worker thread that does not itself wait for Trio."""
    if not active_thread_count():
        return []
    tasks = list(all_tasks())
    waiting = [task for task in tasks if _frames_of_a_wait_for_a_worker(task)]
    # Workers that may be abandoned wait for system tasks, and Trio does not tell
    # for which task each of them is.
    abandonable = [
        task
        for task in waiting
        if _frames_of_a_wait_for_a_worker(task)[-1].f_locals["abandon_on_cancel"]
    ]
    asking = min(len(abandonable), sum(map(_is_asked_for_by_a_worker, tasks)))
    return [task for task in waiting if task not in abandonable[:asking]]


def only_waits_for(threads: Collection[int], task: Task) -> bool:
    """Whether the worker thread of a task only waits for one of these to end.

    It waits so in `threading.Thread.join`. The thread that it waits for may do the
    same, and so on; if they wait in a circle, none will ever end. Of other waits it
    cannot be known whether they will end.
    """
    frames, known = _current_frames(), {*threads}
    reports_to = _registers(task)[0]
    # None if it has not even begun.
    thread = next(
        (
            ident
            for ident, frame in frames.items()
            for outer in outwards(frame)
            if outer.f_code.co_filename == _THREADS
            and outer.f_locals.get("task_register") is reports_to
        ),
        None,
    )
    while thread in frames and thread not in known:
        known.add(thread)
        thread = _joined(frames[thread])
    return thread in known


def _joined(frame: FrameType) -> int | None:
    """Which thread it is whose end a thread waits for, and nothing else."""
    for inner in outwards(frame):
        if inner.f_code is _JOIN and inner.f_locals["timeout"] is None:
            ident: int | None = inner.f_locals["self"].ident
            return ident
    return None


def what_it_waits_for(task: Task) -> tuple[str, FrameType]:
    """The function that a worker thread calls for a task, and the frame that waits."""
    frames = _frames_of_a_wait_for_a_worker(task)
    waiter, worker = frames[0], frames[-1]
    return repr(worker.f_locals["sync_fn"]), waiter


def _frames_of_a_wait_for_a_worker(task: Task) -> list[FrameType]:
    """The frames of a task that waits for a worker, with the function of Trio's.

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


def abandon_workers(tasks: Iterable[Task]) -> bool:
    """Those of these tasks that are cancelled do not wait for their workers any more.

    That is Trio's way with ``abandon_on_cancel=True``; else, a task waits even so. The
    worker thread goes on, as a daemon, and what it returns is dropped. Tells whether
    there were any.
    """
    in_vain = [task for task in tasks if _is_cancelled_in_vain(task)]
    # (Not where system tasks have ended, and Trio finalizes async generators.)
    with suppress(RuntimeError):
        for task in in_vain:
            spawn_system_task(_stand_in, task, name="trio_clockrt stand-in")
    return bool(in_vain)


class AbandonWorkers(trio.abc.Instrument):
    """Do what `abandon_workers` does from now on, also for tasks cancelled later.

    Trio does not cancel a task that is shielded. Such a task may be cleaning up, so it
    has some time left. If it then still waits for the same worker, it is interrupted.

    Args:
        tasks: Which tasks; called each time before the run waits for I/O.
        error: What tasks that are shielded see; by default `trio.Cancelled`.
    """

    def __init__(
        self, tasks: Callable[[], Iterable[Task]], error: BaseException | None = None
    ) -> None:
        self._tasks = tasks
        self._error = error
        self._run = current_trio_token()
        self._waits: dict[Task, list[Any]] = {}
        self._over = False
        self.has_interrupted = False
        add_instrument(self)
        if error is None:
            with suppress(RuntimeError):  # the run is shutting down
                spawn_system_task(self._be_cancelled, name="trio_clockrt cancelled")
        self._interrupt()

    def before_io_wait(self, timeout: float) -> None:  # noqa: ARG002
        if abandon_workers(self._tasks()):
            wake_run(self._run)  # as it is about to wait

    def after_run(self) -> None:
        self._timer.cancel()

    def end(self) -> None:
        self._over = True
        self._timer.cancel()
        remove_instrument(self)

    async def _be_cancelled(self) -> None:
        """Trio has no other way to get hold of what it raises then."""
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await checkpoint()
            except trio.Cancelled as cancelled:
                self._error = cancelled
                raise

    def _interrupt(self) -> None:
        """Interrupt each task that was in the same wait the last time."""
        if self._over:
            return
        before, self._waits = self._waits, {}
        program = set(with_children(main_task()))
        for task in self._tasks():
            if task in program and _frames_of_a_wait_for_a_worker(task):
                self._waits[task] = wait = _registers(task)[0]
                if before.get(task) is wait and self._error is not None:
                    self.has_interrupted = True
                    interrupt(task, self._error)
        self._timer = Timer(SHIELDED, post, [self._run, self._interrupt])
        self._timer.daemon = True
        self._timer.start()


def _registers(task: Task) -> tuple[list[Any], list[Any]]:
    """Which task a worker reports to, and what a cancellation would have raised."""
    variables = _frames_of_a_wait_for_a_worker(task)[-1].f_locals
    return variables["task_register"], variables["cancel_register"]


def _is_cancelled_in_vain(task: Task) -> bool:
    if not _frames_of_a_wait_for_a_worker(task) or is_about_to_go_on(task):
        return False
    _, cancelled = _registers(task)
    return cancelled[0] is not None


async def _stand_in(task: Task) -> None:
    """Wait for a worker in place of a task, which is cancelled and may go on."""
    if not _is_cancelled_in_vain(task):
        return  # the worker has come back meanwhile
    waits, (raise_cancel,) = _registers(task)
    waits[0] = current_task()
    reschedule(task, outcome.capture(raise_cancel))

    def abort(_: object) -> Abort:
        waits[0] = None
        return Abort.SUCCEEDED

    # The worker may still ask Trio for something, which Trio then does in a system
    # task, as for any worker that has been abandoned.
    run = current_trio_token()
    while not isinstance(
        message := await wait_task_rescheduled(abort), outcome.Outcome
    ):
        message.run_in_system_nursery(run)

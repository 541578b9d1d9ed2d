"""A task, or a thread, that a timer wakes or the end of a clock.

A waiter is claimed before it is woken: a key in a dictionary is taken out, see
`_timers.py`. So a task is rescheduled once, whether its instant comes, the clock ends
or Trio cancels the task. The abort function claims too. If it comes too late, it
declines, as the task is being woken already.

A task that waits for a clock of another place is woken by a message to the task's own
run. Before such a waiter touches its task, it checks that the task's run is the current
one.
"""

from __future__ import annotations

import os
from contextlib import suppress
from queue import SimpleQueue
from threading import get_ident
from typing import TYPE_CHECKING, cast

import outcome
import trio
from trio.lowlevel import (
    Abort,
    Task,
    TrioToken,
    checkpoint,
    current_task,
    current_trio_token,
    enable_ki_protection,
    reschedule,
    wait_task_rescheduled,
)

from ._end_of_run import note_run
from ._post import post

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._timers import Timers


def who_waits(timers: Timers) -> tuple[Task, TrioToken | None]:
    """The current task, and its run if that may end before the clock's driver does."""
    try:
        task = current_task()
    except RuntimeError:
        message = "only a Trio task can wait for a clock"
        if not timers.has_driver_task:
            message += (
                ". Outside of Trio, set a timer: "
                "`with clock.timer_group() as timers:`, and timers.call_later()"
            )
        elif timers.lock:
            message += ". In a thread without Trio, use clock.delay_blocking(seconds)"
        raise RuntimeError(message) from None
    if timers.in_one_run:
        return task, None
    timers.alarm.note_run()
    note_run(timers)
    return task, current_trio_token()


def is_there(run: TrioToken | None) -> bool:
    """Whether the current run is this one, or could not be any other.

    A run that has crashed leaves its waiters behind, and no code may touch them.
    """
    try:
        return run is None or run == current_trio_token()
    except RuntimeError:
        return False


# The thread that has forked this process off, if that is how it came about.
_forker: int | None = None


def _forked() -> None:
    global _forker
    _forker = get_ident()


with suppress(AttributeError):  # on Windows
    os.register_at_fork(after_in_child=_forked)


def is_in_worker_thread() -> bool:
    """Whether a task waits for this thread, which may then ask Trio for something.

    If that task has been cancelled, a thread that asks is too.
    """
    if get_ident() == _forker:
        return False  # it was one in the other process, where the task is
    try:
        trio.from_thread.check_cancelled()
    except RuntimeError:
        return False
    return True


def _is_running(task: Task | None) -> bool:
    try:
        return current_task() is task
    except RuntimeError:
        return False


class _Woken:
    """That waiting has come to its end, and to nothing else.

    One for all: Trio would make an `outcome.Value` each time, and mark it as used,
    which is a good part of what it costs to wake a task. It is the class itself: an
    object that all threads refer to would have them wait for each other, without the
    GIL, as Python counts the references.
    """

    @staticmethod
    def unwrap() -> None: ...


_WOKEN = cast("outcome.Outcome[None]", _Woken)


class _OneShot:
    """Something that an entry of the queue wakes, once."""

    __slots__ = ()

    _only_wakes = True
    _periodic = False
    _detour = 0


class TaskWaiter(_OneShot):
    """The current task, about to wait for an instant.

    To wait, in code that is protected from Ctrl-C: add it to the timers, and then
    ``await wait_task_rescheduled(waiter.abort)``.
    """

    __slots__ = ("_run", "_seq", "_task", "_timers", "when")

    _seq: int

    def __init__(self, timers: Timers, when: float) -> None:
        self._timers = timers
        # None once it is certain that it does not wait.
        self._task: Task | None
        if timers.in_one_run:
            self._run = None
            try:
                self._task = current_task()
            except RuntimeError:
                who_waits(timers)
        else:
            self._task, self._run = who_waits(timers)
        self.when = when

    def abort(self, _: object) -> Abort:
        if self._timers.discard(self):
            return Abort.SUCCEEDED
        return Abort.FAILED  # it has been claimed, and is being woken

    def _fire(self) -> bool:
        run = self._run
        if run is None or (is_there(run) and not _is_running(self._task)):
            if self._task is not None:
                reschedule(self._task, _WOKEN)
        else:
            # In its own run; and not while it is still running, about to wait, as a
            # signal handler has moved the time.
            post(run, self._fire)
        return False

    def _clock_gone(self) -> None:
        if self._task and self._timers.tasks.pop(self._seq, None) is not None:
            reschedule(self._task, outcome.Error(self._timers.life.gone()))

    def _give_up(self) -> None:
        self._timers.discard(self)
        self._task = None


class EndWaiter:
    """The current task, about to wait for the end."""

    __slots__ = ("_run", "_task", "_timers")

    def __init__(self, timers: Timers) -> None:
        self._timers = timers
        self._task, self._run = who_waits(timers)

    def abort(self, _: object) -> Abort:
        if self._timers.life.listeners.pop(self, self) is None:
            return Abort.SUCCEEDED
        return Abort.FAILED  # the end has claimed it, and wakes it

    def _clock_gone(self) -> None:
        if self._timers.life.listeners.pop(self, self) is None:
            reschedule(self._task)

    def _give_up(self) -> None:
        self._timers.life.listeners.pop(self, None)


class _AnyThread:
    """A place for messages that do not have to go anywhere."""

    @staticmethod
    def run_sync_soon(
        fn: Callable[[], object],
        *,
        idempotent: bool,  # noqa: ARG004
    ) -> None:
        fn()


class ThreadWaiter(_OneShot):
    """This thread, which is none of Trio's, about to wait for an instant."""

    _run = cast("TrioToken", _AnyThread)
    _seq: int

    def __init__(self, timers: Timers, when: float) -> None:
        self._timers = timers
        self.when = when
        # Reports say where it is.
        self._thread = get_ident()
        # (A lock would do, but not where a finalizer may be the one to release it.)
        self._news: SimpleQueue[outcome.Outcome[None]] = SimpleQueue()

    def wait(self) -> None:
        try:
            self._timers.add(self)
            self._news.get().unwrap()
        except BaseException:  # Ctrl-C, or what a signal handler raises
            self._timers.discard(self)
            raise

    def _fire(self) -> bool:
        self._news.put(outcome.Value(None))
        return False

    def _clock_gone(self) -> None:
        # (To be told once too often does no harm.)
        self._news.put(outcome.Error(self._timers.life.gone()))

    def _give_up(self) -> None: ...


@enable_ki_protection
async def wait_for_end(timers: Timers) -> None:
    """Return when the clock is gone; always a checkpoint."""
    if timers.is_usable():
        waiter = EndWaiter(timers)
        # From here on it is told, but the clock may have gone just before.
        if timers.life.alive:
            timers.life.listen(waiter)
            await wait_task_rescheduled(waiter.abort)
            return
    await checkpoint()

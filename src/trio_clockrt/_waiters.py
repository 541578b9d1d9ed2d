"""A task, or a thread, that a timer wakes or the end of a clock."""

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

from ._post import post

if TYPE_CHECKING:
    from ._state import State


def who_waits(state: State) -> tuple[Task, TrioToken | None]:
    """The current task, and its run if that may end before the clock's driver does."""
    try:
        task = current_task()
    except RuntimeError:
        message = "only a Trio task can wait for a clock"
        if not state.driven:
            message += (
                ". Outside of Trio, set a timer: "
                "`with clock.timer_group() as timers:`, and timers.call_later()"
            )
        elif state.shared:
            message += ". In a thread without Trio, use clock.delay_blocking(seconds)"
        raise RuntimeError(message) from None
    if state.in_one_run:
        return task, None
    state.note_run()
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


class TaskWaiter:
    """The current task, about to wait for an instant.

    To wait, in code that is protected from Ctrl-C: add it to the state, and then
    ``await wait_task_rescheduled(waiter.abort)``.
    """

    __slots__ = ("_run", "_state", "_task", "when")

    _only_wakes = True
    _periodic = False

    def __init__(self, state: State, when: float) -> None:
        self._state = state
        # None once it has been woken or cancelled.
        self._task: Task | None
        if state.in_one_run:
            self._run = None
            try:
                self._task = current_task()
            except RuntimeError:
                who_waits(state)
        else:
            self._task, self._run = who_waits(state)
        self.when = when

    def move(self, when: float) -> None:
        """Wait for another instant instead, if it has not been woken."""
        if self._task is not None:
            self._state.move(self, when)

    def wake(self) -> None:
        """Wake it before its time, on a shared clock: from any thread."""
        assert self._run is not None
        self._state.discard(self)
        post(self._run, self._fire)

    def abort(self, _: object) -> Abort:
        if self._task is None:
            return Abort.FAILED  # by a finalizer, and it is being woken just now
        # In this order, as the clock may end before discard() returns.
        self._task = None
        self._state.discard(self)
        return Abort.SUCCEEDED

    def _fire(self) -> bool:
        run = self._run
        if run is None or (is_there(run) and not _is_running(self._task)):
            # In one step, and first, as a finalizer may cancel or move it just now, and
            # as the end may have been posted as well.
            task, self._task = self._task, None
            if task is not None:
                reschedule(task, _WOKEN)
        else:
            # In its own run; and not while it is still running, about to wait, as a
            # signal handler has moved the time.
            post(run, self._fire)
        return False

    def _clock_gone(self) -> None:
        if self._task is not None and is_there(self._run):
            task, self._task = self._task, None
            reschedule(task, outcome.Error(self._state.gone()))

    def _not_set(self) -> None:
        self.abort(None)

    def _give_up(self) -> tuple[TaskWaiter]:
        return (self,)


class EndWaiter:
    """The current task, about to wait for the end."""

    __slots__ = ("_run", "_state", "_task")

    def __init__(self, state: State) -> None:
        self._state = state
        # None once it has been woken or cancelled.
        self._task: Task | None
        self._task, self._run = who_waits(state)

    def abort(self, _: object) -> Abort:
        if self._task is None:
            return Abort.FAILED  # as above
        self._task = None
        self._state.unwatch(self)
        return Abort.SUCCEEDED

    def _clock_gone(self) -> None:
        if self._task is not None and is_there(self._run):
            task, self._task = self._task, None
            reschedule(task)

    def _give_up(self) -> tuple[()]:
        return ()


class ThreadWaiter:
    """This thread, which is none of Trio's, about to wait for an instant."""

    _only_wakes = True
    _periodic = False
    _run = None

    def __init__(self, state: State, when: float) -> None:
        self._state = state
        self.when = when
        # Reports say where it is.
        self._thread = get_ident()
        # (A lock would do, but not where a finalizer may be the one to release it.)
        self._news: SimpleQueue[outcome.Outcome[None]] = SimpleQueue()

    def wait(self) -> None:
        try:
            self._state.add(self)
            self._news.get().unwrap()
        except BaseException:  # Ctrl-C, or what a signal handler raises
            self._state.discard(self)
            raise

    def _fire(self) -> bool:
        self._news.put(outcome.Value(None))
        return False

    def _clock_gone(self) -> None:
        self._news.put(outcome.Error(self._state.gone()))

    def _not_set(self) -> None: ...


@enable_ki_protection
async def wait_for_end(state: State) -> None:
    """Return when the clock is gone; always a checkpoint."""
    if state.is_usable():
        waiter = EndWaiter(state)
        # From here on the waiter is told, but the clock may have gone just before.
        if state.alive:
            state.watch(waiter)
            await wait_task_rescheduled(waiter.abort)
            return
    await checkpoint()

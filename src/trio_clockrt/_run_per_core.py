"""A Trio run for each core: if one of them fails, all stop.

`run_per_core` is a plain function, as `trio.run` is: it ends where a program has no
Trio run yet, and its result is a list, never something to await. In a Trio task it goes
into a worker thread, the one way in which Trio calls what blocks. Were it async, plain
code would need a run around it to get runs; were it both, depending on where it is
called, no reader could say what it returns.

What waits for the threads is a task all the same. In a worker thread, the task that
waits for the worker does so; elsewhere, it is the main task of a small run. So
cancellation and Ctrl-C arrive as in any task: without polling, at a moment of our
choosing, and on Windows too, where a thread that waits for a lock hears nothing of
Ctrl-C. That task has one wait, which cannot be aborted. It answers an attempt by
cancelling the runs, and raises afterwards what Trio has attempted to raise.

The runs tell that task when they have begun and ended, by messages, and only that task
decides to cancel them. A run that begins when others have failed already tells so too,
and is cancelled then.

A program that names cores has a reason to, and fails on a platform that cannot pin. A
program that only wants all cores is the same everywhere.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Awaitable, Callable, Iterable
from contextlib import ExitStack, nullcontext
from contextvars import copy_context
from functools import partial
from threading import Thread
from typing import TYPE_CHECKING, Generic, TypeVar

import trio
from trio.lowlevel import (
    Abort,
    current_clock,
    current_task,
    current_trio_token,
    enable_ki_protection,
    reschedule,
    wait_task_rescheduled,
)

from ._affinity import Affinity, available_affinities
from ._callbacks import check_async_fn
from ._clock import Clock
from ._inactive_clock import InactiveClock
from ._post import current_run, post
from ._processors import can_pin
from ._time_source import TimeControl
from ._typing import TypeVarTuple, Unpack
from ._waiters import is_in_worker_thread

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from trio.lowlevel import RaiseCancelT, TrioToken


ArgsT = TypeVarTuple("ArgsT")
T = TypeVar("T")


def run_per_core(
    async_fn: Callable[[Clock, Unpack[ArgsT]], Awaitable[T]],
    *args: Unpack[ArgsT],
    inactive: InactiveClock | None = None,
    affinities: Iterable[Affinity] | None = None,
) -> list[T]:
    """Run ``async_fn(clock, *args)`` on each core, and wait until all have ended.

    Each core has a thread of its own, pinned to it, and in there a Trio run of its own
    and a clock of its own, which ends with it. They share nothing. A thread starts with
    a copy of the caller's context (see :mod:`contextvars`).

    The runs are like the child tasks of a nursery. When one of them fails, the others
    are cancelled, and when all have ended their failures leave this function together,
    always in an exception group. A run that shields itself from being cancelled is
    waited for, too.

    This blocks the thread that calls it, as :func:`trio.run` does. Ctrl-C in the main
    thread cancels all the runs and is raised when they have ended, as it is, or in a
    group with their failures if there are any. A second Ctrl-C does not end the wait
    for them.

    In a Trio task, call it in a worker thread: ``await
    trio.to_thread.run_sync(run_per_core, async_fn)``. That is cancelled as a nursery
    is: the runs are cancelled at once, and waited for. If the clock of that task's run
    is a `~trio_clockrt.testing.ClockControl`, its time does not jump meanwhile, unless
    that of the runs' clocks comes from there too.

    Args:
        async_fn: An async function. It is called in several threads, with a
            `~trio_clockrt.Clock` and *args*.
        args: Its other positional arguments; for keyword arguments use
            `functools.partial`.
        inactive: A recipe for the clocks. Each run activates a clone, so this one can
            still be activated. By default they are plain clocks.
        affinities: Where to run: a run for each of these, in the order of the results.
            The same one may be there more than once. By default that is
            `available_affinities`, and on a platform that cannot pin threads they run
            as many, and are not pinned.

    Returns:
        list: what `async_fn` has returned, in the order of *affinities*.

    Raises:
        BaseExceptionGroup: what the runs have raised, in the same order; it is an
            ExceptionGroup if each of them is an Exception. A thread that cannot be
            pinned, see `Affinity.pin_current_thread`, is a failure of its run; so is
            an *async_fn* that turns out to be none when it is called.
        RuntimeError: if called in a Trio run, which it would block.
        ValueError: if there are no *affinities*.
        TypeError: if *async_fn* is not a function, *inactive* not a recipe, or one of
            *affinities* not an `Affinity`.

    Example::

        >>> async def main(clock, greeting):
        ...     await clock.delay(0.01)
        ...     return greeting.upper()
        >>> run_per_core(main, "hello", affinities=available_affinities()[:1] * 2)
        ['HELLO', 'HELLO']
    """
    check_async_fn(async_fn)
    if inactive is None:
        inactive = InactiveClock()
    _check_type("`inactive`", inactive, InactiveClock, ", a recipe for the clocks")
    if current_run() is not None:
        raise RuntimeError(
            "run_per_core() blocks until the runs on all cores have ended, and with it "
            "the Trio run that it is called in; in a Trio task use "
            "`await trio.to_thread.run_sync(run_per_core, ...)`"
        )
    in_worker = is_in_worker_thread()
    pinned = affinities is not None or can_pin()
    if affinities is None and in_worker:
        # Of the thread that will start the others. The worker may have been pinned with
        # another one that has started it, as Trio keeps them for the next task.
        affinities = trio.from_thread.run_sync(available_affinities)
    elif affinities is None:
        affinities = available_affinities()
    if not hasattr(affinities, "__iter__"):
        raise TypeError(
            "`affinities` must be a list of Affinity objects, such as "
            f"available_affinities()[:2], not {affinities!r}"
        )
    team: _Team[T] = _Team(inactive)
    for affinity in affinities:
        _check_type("each of `affinities`", affinity, Affinity)
        recipe = inactive.clone()
        recipe.relocate(None, affinity)
        main = partial(_call, async_fn, args)
        team.runs.append(_Run(team, main, recipe, affinity, pinned))
    if not team.runs:
        raise ValueError("`affinities` is empty: there must be at least one")
    return trio.from_thread.run(team.run) if in_worker else trio.run(team.run)


def _check_type(what: str, value: object, kind: type, hint: str = "") -> None:
    if not isinstance(value, kind):
        raise TypeError(f"{what} must be an {kind.__name__}{hint}, not {value!r}")


async def _call(
    async_fn: Callable[[Clock, Unpack[ArgsT]], Awaitable[T]],
    args: tuple[Unpack[ArgsT]],
    clock: Clock,
) -> T:
    awaitable = async_fn(clock, *args)
    if not inspect.isawaitable(awaitable):
        raise TypeError(
            f"run_per_core() needs an async function, but {async_fn!r} returned "
            f"{awaitable!r}, which cannot be awaited"
        )
    return await awaitable


class _Team(Generic[T]):
    """All the runs, and the task that waits for them.

    What is known about the runs is known in that task's own run, and changes only
    there: the others send messages. So nothing needs a lock. As it waits in Trio, it
    hears of being cancelled, and of Ctrl-C, as any task does, and on any platform.
    """

    def __init__(self, inactive: InactiveClock) -> None:
        self.runs: list[_Run[T]] = []
        self.cancelled = False
        # How many have not ended.
        self.running = 0
        # How many have not begun; and what keeps the time of their clocks from jumping
        # until then, if that time is not real. Nothing else tells that they will come.
        self._to_begin = 0
        self._beginning = ExitStack()
        self._inactive = inactive
        self._interruption: RaiseCancelT | None = None

    @enable_ki_protection
    async def run(self) -> list[T]:
        self.task = current_task()
        self.token = current_trio_token()
        self._to_begin = len(self.runs)
        with self._hold(), self._beginning:
            if self._inactive._control is not None:
                self._beginning.enter_context(self._inactive._control.hold())
            for run in self.runs:
                run.start()
            if self.running:
                # No thread may outlive this, so what interrupts it has to wait too.
                await wait_task_rescheduled(self._interrupt)
        return self._results()

    def one_has_begun(self) -> None:
        """Or never will."""
        self._to_begin -= 1
        if not self._to_begin:
            self._beginning.close()

    def cancel(self) -> None:
        self.cancelled = True
        for run in self.runs:
            run.cancel()

    def _interrupt(self, raise_cancel: RaiseCancelT) -> Abort:
        self._interruption = raise_cancel
        self.cancel()
        return Abort.FAILED

    def _hold(self) -> AbstractContextManager[object]:
        """Other threads are busy, which stops a control as waiting for a worker does.

        If it is the very control that moves the time in these threads, it goes on, but
        does not take it for a deadlock that here nothing happens.
        """
        clock = current_clock()
        if not isinstance(clock, TimeControl):
            return nullcontext()
        if self._inactive._control is clock:
            return clock._await_threads()
        return clock.hold()

    def _results(self) -> list[T]:
        failures = [run.error for run in self.runs if run.error is not None]
        if self._interruption is not None:
            try:
                self._interruption()
            except BaseException as exc:
                if not failures:
                    raise
                failures.append(exc)
        if failures:
            places = [str(run.processor) for run in self.runs if run.error is not None]
            raise BaseExceptionGroup(
                f"runs failed on processors {', '.join(places)}", failures
            )
        return [run.result for run in self.runs]


class _Run(Generic[T]):
    """One of the runs, and its thread.

    Attributes:
        processor: The index of its processor.
        result: What it has returned, if all went well.
        error: What it has raised.
    """

    result: T
    error: BaseException | None = None

    def __init__(
        self,
        team: _Team[T],
        main: Callable[[Clock], Awaitable[T]],
        recipe: InactiveClock,
        affinity: Affinity,
        pinned: bool,
    ) -> None:
        self._team = team
        self._main = main
        self._recipe = recipe
        self.processor = affinity.processor_index
        self._affinity = affinity
        self._pinned = pinned
        self._context = copy_context()
        self._scope = trio.CancelScope()
        # Where to cancel it, once that is known.
        self._token: TrioToken | None = None
        self._thread = Thread(
            target=self._in_thread,
            name=f"trio-clockrt core {self.processor}",
            # If what waits for it has crashed, Python should still get to exit.
            daemon=True,
        )

    # In the run that waits for this one:

    def start(self) -> None:
        try:
            self._thread.start()
        except Exception as exc:  # there are too many threads
            self.error = exc
            self._team.one_has_begun()
            self._team.cancel()
        else:
            self._team.running += 1

    def cancel(self) -> None:
        if self._token is not None:
            post(self._token, self._scope.cancel)

    def _begun(self, token: TrioToken) -> None:
        self._token = token
        self._team.one_has_begun()
        if self._team.cancelled:
            self.cancel()

    def _ended(self) -> None:
        self._thread.join()
        self._team.running -= 1
        if self._token is None:
            self._team.one_has_begun()
        if self.error is not None:
            self._team.cancel()
        if not self._team.running:
            reschedule(self._team.task)

    # In its own thread:

    def _in_thread(self) -> None:
        try:
            self._context.run(self._run)
        except BaseException as exc:
            self.error = exc
        post(self._team.token, self._ended)

    def _run(self) -> None:
        if self._pinned:
            self._affinity.pin_current_thread()
        trio.run(self._activate)

    async def _activate(self) -> None:
        with self._scope:
            async with self._recipe.activate() as (clock, _):
                post(self._team.token, partial(self._begun, current_trio_token()))
                self.result = await self._main(clock)

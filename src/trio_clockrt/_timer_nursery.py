"""Timers that live as long as a block, and become its child tasks if need be.

The nursery counts its children itself. It has to know when the last one ends: until
then a child may register timers, and afterwards no task may. Trio has no public way to
ask. With no children left, and no timers if it waits for these, the nursery closes in
the same step. So there is no moment in which a timer is accepted and then lost.

A cancelled nursery fires no timers, as a child that sleeps would not go on either. The
nursery asks its own scope. A scope further out cannot be asked in public, short of a
task that waits for being cancelled, and to save tasks is what timers are for. So there
the end of the body, or its exit, notices.

A callback's exception is raised again by a child task, which is the public way to put
an exception into a nursery.

Where the clock is driven elsewhere than in the nursery's run, a timer that comes up
stays unclaimed. The clock's place posts the timer to the nursery's run, which claims
and fires it, within the limits of a turn. So a timer can be cancelled until it fires
there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import Literal, NoReturn

import trio
from trio.lowlevel import (
    Abort,
    checkpoint_if_cancelled,
    current_task,
    current_trio_token,
    enable_ki_protection,
    reschedule,
    wait_task_rescheduled,
)

from ._activation import Activation
from ._block import AsyncBlock
from ._callbacks import check_async_fn, run_async_fn
from ._durations import later, to_instant, to_seconds
from ._hints import hints
from ._post import post
from ._timer import Timer
from ._timer_group import _NO_LOCK, TimerGroup
from ._timers import SECONDS_PER_TURN, TIMERS_PER_TURN
from ._typing import TypeVarTuple, Unpack
from ._waiters import is_there, who_waits

ArgsT = TypeVarTuple("ArgsT")


@hints
class TimerNursery(TimerGroup):
    """A nursery for timers; `Clock.open_timers` opens one.

    It is to timers what a Trio nursery is to tasks: a block that they cannot outlive.
    Besides calling functions, its timers can start child tasks.

    Timers may be registered, reset and cancelled for as long as the block has not
    ended: by its body, by callbacks, by child tasks, and by any other task that the
    nursery is handed to. An object that keeps timers, such as a cache, is given a timer
    nursery as one hands a nursery around.

    When the body, a callback or a child task raises an exception, everything in the
    nursery is cancelled, and the exception leaves the block in an exception group. The
    same happens, with `ClockGone`, if the clock goes while the nursery is open.

    Attributes:
        cancel_scope (trio.CancelScope): The scope around all of the nursery: its
            body, its child tasks and its timers. Once it is cancelled no timer fires.
            (If only a scope around the nursery is, that takes effect with the body's
            next checkpoint.)
    """

    def __init__(
        self,
        activation: Activation,
        nursery: trio.Nursery,
        run: trio.lowlevel.TrioToken | None,
    ) -> None:
        super().__init__(activation)
        self._maker = activation.name
        if run is not None and not self._timers.is_here():
            self._detour = -1
            # What is due, and comes from another run.
            self._due: deque[tuple[Timer, int]] = deque()
        self.cancel_scope: trio.CancelScope = nursery.cancel_scope
        self._start_soon: Callable[..., None] = nursery.start_soon
        self._run = run
        self._token = current_trio_token()
        # How many children of timers are running.
        self._children = 0
        # The parent task, once it is in the exit, and whether it sleeps there.
        self._parent: trio.lowlevel.Task | None = None
        self._parent_sleeps = False
        # Whether the block ends as soon as there are no children.
        self._closing = False

    @enable_ki_protection
    def start_later(
        self,
        seconds: float | timedelta,
        async_fn: Callable[[Unpack[ArgsT]], Awaitable[object]],
        *args: Unpack[ArgsT],
        name: object = None,
    ) -> Timer:
        """Start ``async_fn(*args)`` as a child task, this long from now.

        Until then there is no task, only a timer, which costs far less. The task runs
        in the context (see :mod:`contextvars`) in which the timer was registered.

        Args:
            seconds: How long from now, in seconds or as a `~datetime.timedelta`;
                ``inf`` for never.
            async_fn: An async function.
            args: Its positional arguments; for others use `functools.partial`.
            name: The name of the task; as for :meth:`trio.Nursery.start_soon`.

        Returns:
            Timer: the new timer. Once the task has started, cancelling the timer does
            nothing to it; resetting the timer starts another task.

        Raises:
            ValueError: if *seconds* is negative or NaN.
            TypeError: if *seconds* is not a length of time, or *async_fn* not a
                function.
            ClockGone: if the clock is gone.
            RuntimeError: if the nursery is closed, or if called from another thread
                than the clock's, unless it is shared.

        Example::

            >>> async def retry(clock, start):
            ...     await clock.delay(1)
            ...     print("done after", clock.instant() - start)
            >>> async def main():
            ...     async with trio_clockrt.open_clock() as clock:
            ...         async with clock.open_timers() as timers:
            ...             timers.start_later(5, retry, clock, clock.instant())
            >>> trio.run(main, clock=MockClock(autojump_threshold=0))
            done after 6.0
        """
        if self._closed:
            self._refuse()
        check_async_fn(async_fn)
        when = later(self._timers.now(), to_seconds(seconds, "seconds"))
        return self._register(_Start(self, when, async_fn, args, name))

    @enable_ki_protection
    def start_at(
        self,
        instant: float,
        async_fn: Callable[[Unpack[ArgsT]], Awaitable[object]],
        *args: Unpack[ArgsT],
        name: object = None,
    ) -> Timer:
        """Start ``async_fn(*args)`` as a child task, at an instant.

        Like `start_later`, but for a point on the scale of `SimpleClock.instant`. If
        it is past, the task starts as soon as possible.

        Example::

            >>> async def main():
            ...     async with trio_clockrt.open_clock() as clock:
            ...         async with clock.open_timers() as timers:
            ...             timers.start_at(clock.instant() + 5, trio.sleep, 1)
            >>> trio.run(main, clock=MockClock(autojump_threshold=0))
        """
        if self._closed:
            self._refuse()
        check_async_fn(async_fn)
        when = to_instant(instant, "instant")
        return self._register(_Start(self, when, async_fn, args, name))

    async def _wait_until_idle(self, *, for_timers: bool) -> None:
        # From here on it is told, but that may have been a moment ago.
        self._parent = current_task()
        while not self._close_if_idle(for_timers=for_timers):
            self._parent_sleeps = True
            await wait_task_rescheduled(self._abort_wait)

    def _close_if_idle(self, *, for_timers: bool) -> bool:
        with self._timers.lock or _NO_LOCK:
            if self._children or (for_timers and self._pending):
                return False
            # In the same breath, so that no finalizer registers one more.
            self._closed = True
            return True

    def _fire_elsewhere(self, timer: Timer, seq: int) -> None:
        self._due.append((timer, seq))
        post(self._token, self._fire_due)

    def _fire_due(self) -> None:
        begin = self._timers.now()
        for _ in range(TIMERS_PER_TURN):
            if not self._due:
                return
            timer, seq = self._due.popleft()
            if timer._claim(seq):
                timer._fire()
            if self._timers.now() - begin > SECONDS_PER_TURN:
                break
        post(self._token, self._fire_due)

    def _abort_wait(self, _: object) -> Abort:
        if not self._parent_sleeps:
            return Abort.FAILED  # by a finalizer, and it is being woken just now
        self._parent_sleeps = False
        return Abort.SUCCEEDED

    def _drained(self) -> None:
        # Not at once: a finalizer may have cancelled the last timer just before the
        # parent task goes to sleep.
        if self._parent is not None:
            post(self._token, self._wake_parent)

    def _wake_parent(self) -> None:
        if self._parent is not None and self._parent_sleeps:
            self._parent_sleeps = False
            reschedule(self._parent)

    def _start_child(self, timer: _Start) -> None:
        # In this order, against that of _let_go().
        context, args, fn = timer._context, timer._args, timer._fn
        name = fn if timer._name is None else timer._name
        start = partial(self._start_soon, name=name)
        context.run(start, self._run_child, fn, args)
        self._children += 1

    def _raise_in_child(
        self,
        fn: Callable[[BaseException], Awaitable[None]],
        exc: BaseException,
        what: str,
    ) -> None:
        # If its task has left the nursery without closing it, such as an async
        # generator that has not been finished, then Trio has told that task so.
        with suppress(RuntimeError):
            self._start_soon(fn, exc, name=f"{what} of {self._maker}")

    async def _run_child(
        self, async_fn: Callable[..., Awaitable[object]], args: tuple[object, ...]
    ) -> None:
        try:
            await run_async_fn(async_fn, args)
        finally:
            self._children -= 1
            if not self._children:
                self._drained()
                if self._closing:
                    self._close()

    def _is_over(self) -> bool:
        return (
            self._closing or not is_there(self._run) or self.cancel_scope.cancel_called
        )

    def _failed(self, exc: BaseException) -> bool:
        self._raise_in_child(_raise, exc, "failed callback of a timer")
        return True

    def _clock_gone(self) -> None:
        life = self._timers.life
        if life.retainers.pop(self, self) is not None:
            return
        exc = life.gone()
        self._raise_in_child(_raise_unless_cancelled, exc, "timers of the gone clock")

    def _close(self) -> None:
        super()._close()
        self._timers.life.release(self)

    def _give_up(self) -> None:
        self._refuse_more()
        self._cancel_all()
        self._close()

    def _close_when_childless(self) -> None:
        self._closing = True
        if not self._children:
            self._close()

    def __repr__(self) -> str:
        closed = ", closed" if self._closed else ""
        return (
            f"<TimerNursery, {len(self._pending)} timers pending, "
            f"{self._children} children{closed}>"
        )


class _Start(Timer):
    """A timer that becomes a child task."""

    __slots__ = ("_name",)

    _group: TimerNursery
    _fn: Callable[..., Awaitable[object]]

    def __init__(
        self,
        group: TimerNursery,
        when: float,
        async_fn: Callable[..., Awaitable[object]],
        args: tuple[object, ...],
        name: object,
    ) -> None:
        super().__init__(group, when, async_fn, args)
        self._name = name

    def _act(self) -> None:
        self._group._start_child(self)

    def _let_go(self) -> None:
        super()._let_go()
        self._name = None

    @staticmethod
    async def _nothing() -> None: ...


class TimerNurseryBlock(AsyncBlock[TimerNursery]):
    """The block of a `TimerNursery`."""

    _usage = "`async with clock.open_timers() as timers:`"

    def __init__(
        self,
        activation: Activation,
        on_exit: Literal["wait", "cancel"],
    ) -> None:
        if on_exit not in ("wait", "cancel"):
            raise ValueError(f"`on_exit` must be 'wait' or 'cancel', not {on_exit!r}")
        activation.timers.check()
        self._activation = activation
        self._on_exit = on_exit

    @enable_ki_protection
    async def __aenter__(self) -> TimerNursery:
        self._enter_once()
        timers = self._activation.timers
        timers.check()
        _, run = who_waits(timers)
        self._manager = trio.open_nursery()
        nursery = await self._manager.__aenter__()
        self._timers = TimerNursery(self._activation, nursery, run)
        timers.life.retain(self._timers)
        return self._timers

    @enable_ki_protection
    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        timers = self._timers
        error = exc
        try:
            if error is None:
                try:
                    if self._on_exit == "cancel":
                        timers.cancel_timers()
                    await timers._wait_until_idle(for_timers=self._on_exit == "wait")
                except BaseException as waiting_error:
                    error = waiting_error
            if error is not None:
                timers.cancel_timers()
            timers._close_when_childless()
            # To Trio, being cancelled while we waited is as if the body had been.
            if error is None:
                return await self._manager.__aexit__(None, None, None)
            if await self._manager.__aexit__(type(error), error, error.__traceback__):
                return True
            if error is not exc:
                raise error
            return False
        finally:
            timers._close()
            # A timer that is kept need not keep this task.
            timers._parent, timers._start_soon = None, _start_nothing
            del error  # it refers to this frame


def _start_nothing(*_: object, **__: object) -> None:
    """In the place of a nursery's, once the block has ended."""


async def _raise(exc: BaseException) -> NoReturn:
    try:
        raise exc
    finally:
        del exc  # it refers to this frame


async def _raise_unless_cancelled(exc: BaseException) -> NoReturn:
    try:
        # If this was cancelled before the clock went, that comes first.
        await checkpoint_if_cancelled()
        raise exc
    finally:
        del exc  # it refers to this frame

"""The clock that a program uses: time, delays, ticks, timeouts and timers.

This file checks what is passed, and picks what does the work. While a method waits, it
does not refer to its `Clock`, so that a task which sleeps is no owner: see
`_lifetime.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Literal, NoReturn

import trio
from trio.lowlevel import checkpoint, enable_ki_protection, wait_task_rescheduled

from ._activation import Activation
from ._affinity import Affinity
from ._durations import later, to_instant, to_seconds
from ._hints import hints
from ._periodic import MissedTick, PeriodicTimer
from ._post import current_run
from ._simple_clock import SimpleClock
from ._timeouts import PART, SHORT, ScopeTimeout, Timeout
from ._timer_group import TimerGroup, TimerGroupBlock
from ._timer_nursery import TimerNursery, TimerNurseryBlock
from ._timers import Timers
from ._typing import Self
from ._waiters import TaskWaiter, ThreadWaiter, is_in_worker_thread


@hints
class Clock(SimpleClock):
    """One clock object to pass around: time, delays, ticks, timeouts and timers.

    Get one from `open_clock` or `InactiveClock.activate`. It measures with the clock
    of the Trio run that it was activated in, whichever that is, so it also follows a
    `trio.testing.MockClock`. (Without Trio there is `InactiveClock.activate_manual`.)

    Its timers can only be used from the thread that activated it: from a worker thread,
    use :func:`trio.from_thread.run_sync`. (Those of a clock from
    `InactiveClock.new_shared` can be used from every thread.) Reading the time is
    allowed from everywhere and at any time. When the block that activated it has ended,
    the clock is gone, and everything that needs its timers raises `ClockGone`.

    Every `Clock` object is an owner of what has been activated, until it is closed or
    nothing refers to it any more. When there is no owner left, no pending timer, no
    waiting task and no open timer nursery, then the clock ends before its block does.
    Most programs never notice. Use `clone` and `close` where parts of a program use a
    clock for different lengths of time and it should end with the last of them.
    """

    _made_by = "`async with open_clock() as clock:`"

    # While it is open, what makes it an owner.
    _key: object | None = None

    def __init__(self, activation: Activation) -> None:
        super().__init__(activation.source)
        self._activation = activation
        self._timers = activation.timers
        self._key = activation.timers.life.own()

    @property
    def alive(self) -> bool:
        """Whether timers on this clock can still fire.

        Example::

            >>> async def main():
            ...     async with trio_clockrt.open_clock() as clock:
            ...         print(clock.alive)
            ...     print(clock.alive)
            >>> trio.run(main)
            True
            False
        """
        return self._timers.life.alive

    @property
    def affinity(self) -> Affinity | None:
        """The core that its recipe was relocated to: see `InactiveClock.relocate`.

        Example::

            >>> clock, driver = InactiveClock().activate_manual()
            >>> print(clock.affinity)
            None
        """
        return self._activation.affinity

    def clone(self) -> Clock:
        """Another `Clock` of the same activation: one more owner of it.

        They share everything, and differ only in when they are closed. A clone does
        not outlive the block of the activation. This may be called from any thread.

        To give one to a task, make it where you start the task: by the time the task
        runs, the original may have been closed.

        Raises:
            trio.ClosedResourceError: if this object is closed.

        Example::

            >>> async def main():
            ...     async with trio_clockrt.open_clock() as clock:
            ...         with clock.clone() as clone:
            ...             await clone.delay(0.1)
            ...         await clock.delay(0.1)
            >>> trio.run(main)
        """
        if self._key is None:
            self._refuse()
        return Clock(self._activation)

    def close(self) -> None:
        """Stop to be an owner; this object can only read the time from now on.

        The clock itself lives on as long as it has another owner or use. Tasks that
        wait go on waiting, and open timer nurseries stay open, for new timers too. (A
        `PeriodicTimer` is nothing that uses a clock, between two ticks.) Closing it
        again does nothing. This may be called from any thread, and ``with clock:``
        calls it at the end of the block. It counts at once. A `Clock` that is dropped
        is closed when Python frees it, which may be later: in a reference cycle, or
        when another thread drops it and there is no GIL.

        Example::

            >>> async def main():
            ...     async with trio_clockrt.open_clock() as clock:
            ...         clock.close()
            ...         try:
            ...             await clock.delay(1)
            ...         except trio.ClosedResourceError:
            ...             print("closed")
            >>> trio.run(main)
            closed
        """
        # If two threads do this at once, the second one takes out nothing.
        key, self._key = self._key, None
        if key is not None:
            self._timers.life.disown(key)

    # (At the exit of the interpreter, modules may have lost their names by then.)
    def __del__(self, _is_exiting: Callable[[], bool] = sys.is_finalizing) -> None:
        if not _is_exiting():
            self.close()

    def __enter__(self) -> Self:
        """Return the clock itself; the end of the block closes it."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _timers_drive_timeouts(self) -> bool:
        """Whether, as the instants are not those of the Trio run, its timeouts are no
        use either.
        """
        if self._key is None:
            self._refuse()
        timers = self._timers
        timers.check()
        return not (
            self._activation.on_run_clock and (timers.in_one_run or timers.is_here())
        )

    def _open_timers(self) -> Timers:
        """The timers, for something that needs them."""
        if self._key is None:
            self._refuse()
        return self._timers

    def _refuse(self) -> NoReturn:
        if not self._timers.life.alive:
            raise self._timers.life.gone()
        raise trio.ClosedResourceError(
            "this Clock object has been closed, so it can only read the time; give "
            "each task that needs timers for longer a clone() of its own beforehand"
        )

    @enable_ki_protection
    async def delay(self, seconds: float | timedelta) -> None:
        """Sleep for this long; never for less, and always a checkpoint.

        It does what :func:`trio.sleep` does, and like that it may wake a millisecond
        or two late. Where many tasks wait, it costs a fraction.

        The deadline is the float ``clock.instant() + seconds``. So what `instant` reads
        afterwards may be one unit in the last place less than asked for: 2.8 - 2.5 is
        less than 0.3. But a delay of more than zero always ends later than it began, so
        a loop that sleeps for what is left ends.

        The clock wakes tasks in the order of deadlines, and those with the same
        deadline in the order of registration. So after ``await clock.delay(10)`` every
        timer that had been set before for that instant or earlier has fired. Trio
        promises no such order between its own sleeps or timeouts and the timers. But
        in a run whose clock is a `~trio_clockrt.testing.ClockControl`, functions that
        timers call come before all tasks that wake at that instant.

        Args:
            seconds: How long, in seconds or as a `~datetime.timedelta`; zero is a
                checkpoint, and ``inf`` is until it is cancelled.

        Raises:
            ValueError: if *seconds* is negative or NaN.
            TypeError: if *seconds* is not a length of time.
            trio.ClosedResourceError: if this object is closed.
            ClockGone: if the clock is gone, or goes meanwhile.
            RuntimeError: if called from another thread than the clock's, unless
                it is shared.

        Example::

            >>> async def main():
            ...     async with trio_clockrt.open_clock() as clock:
            ...         await clock.delay(0.1)
            ...         await clock.delay(datetime.timedelta(hours=1))
            >>> trio.run(main, clock=MockClock(autojump_threshold=0))
        """
        if self._key is None:
            self._refuse()
        timers = self._timers
        timers.check()
        if type(seconds) is not float or not seconds > 0:
            seconds = to_seconds(seconds, "seconds")
            if seconds == 0:
                del self
                await checkpoint()
                return
        waiter = TaskWaiter(timers, later(timers.now(), seconds))
        timers.add(waiter)
        del self  # to wait makes no owner
        await wait_task_rescheduled(waiter.abort)

    @enable_ki_protection
    async def delay_until(self, instant: float) -> None:
        """Sleep until an instant; if that is past, it is a checkpoint.

        Args:
            instant: A point on the scale of `~SimpleClock.instant`; ``inf`` is until
                it is cancelled.

        Raises:
            ValueError: if *instant* is NaN.
            TypeError: if *instant* is not a number.
            trio.ClosedResourceError: if this object is closed.
            ClockGone: if the clock is gone, or goes meanwhile.
            RuntimeError: if called from another thread than the clock's, unless
                it is shared.

        Example::

            >>> async def main():
            ...     async with trio_clockrt.open_clock() as clock:
            ...         start = clock.instant()
            ...         await clock.delay_until(start + 60)
            ...         print(clock.instant() - start)
            >>> trio.run(main, clock=MockClock(autojump_threshold=0))
            60.0
        """
        timers = self._open_timers()
        timers.check()
        instant = to_instant(instant, "instant")
        if instant <= timers.now():
            del self
            await checkpoint()
        else:
            waiter = TaskWaiter(timers, instant)
            timers.add(waiter)
            del self  # to wait makes no owner
            await wait_task_rescheduled(waiter.abort)

    def delay_blocking(self, seconds: float | timedelta) -> None:
        """Sleep in a thread outside of Trio, on a shared clock; never for less.

        It is for clocks of `InactiveClock.new_shared`, and for threads that are none of
        Trio's. In a worker thread of :func:`trio.to_thread.run_sync` it does what
        :func:`trio.from_thread.run` with `delay` does, and so it ends early if the task
        is cancelled that waits for the thread.

        Args:
            seconds: How long, in seconds or as a `~datetime.timedelta`; zero returns at
                once, and ``inf`` is until the clock is gone.

        Raises:
            ValueError: if *seconds* is negative or NaN.
            TypeError: if *seconds* is not a length of time.
            trio.ClosedResourceError: if this object is closed.
            ClockGone: if the clock is gone, or goes meanwhile.
            RuntimeError: if called on a clock that is not shared, in a Trio run, or in
                the thread that calls `ClockDriver.advance_timers`.
            trio.Cancelled: in a worker thread, if the task is cancelled.

        Example::

            >>> def work(clock):
            ...     start = clock.instant()
            ...     clock.delay_blocking(60)
            ...     print(clock.instant() - start)
            >>> async def main():
            ...     async with InactiveClock.new_shared().activate() as (clock, driver):
            ...         await trio.to_thread.run_sync(work, clock)
            >>> trio.run(main, clock=ClockControl(autojump_threshold=0))
            60.0
        """
        timers = self._open_timers()
        if not timers.lock:
            if current_run() is not None:
                raise RuntimeError(
                    "delay_blocking() is for threads without Trio: in a Trio task, use "
                    "`await clock.delay(seconds)`"
                )
            raise RuntimeError(
                "delay_blocking() needs a clock for many threads, from "
                "InactiveClock.new_shared(); this one can only be used where it was "
                "activated. From a worker thread, trio.from_thread.run(clock.delay, "
                "seconds) does the same"
            )
        timers.check()
        if current_run() is not None:
            raise RuntimeError(
                "delay_blocking() would stop this whole Trio run, and not only this "
                "task: use `await clock.delay(seconds)`"
            )
        seconds = to_seconds(seconds, "seconds")
        if timers.is_here():
            raise RuntimeError(
                "delay_blocking() would wait for ever in the thread that activated the "
                "clock, as no other thread calls advance_timers(); set a timer, or "
                "wait in another thread"
            )
        if is_in_worker_thread():
            # Unless no task waits for it any more, as its run has ended, or crashed.
            with suppress(trio.RunFinishedError, OSError):
                trio.from_thread.run(self.delay, seconds)
                return
        if seconds:
            ThreadWaiter(timers, later(timers.now(), seconds)).wait()

    def periodic(
        self, period: float | timedelta, *, missed: MissedTick = MissedTick.DELAY
    ) -> PeriodicTimer:
        """An async iterator that ticks once per *period*, for the first time after one.

        Args:
            period: How long from one tick to the next, in seconds or as a
                `~datetime.timedelta`.
            missed: What to do after a missed tick.

        Returns:
            PeriodicTimer: the iterator; its ticks are the instants they were
            scheduled for.

        Raises:
            ValueError: if *period* is zero, negative, infinite or NaN.
            TypeError: if *period* is not a length of time.
            trio.ClosedResourceError: if this object is closed.
            ClockGone: if the clock is gone.
            RuntimeError: if called from another thread than the clock's, unless
                it is shared.

        Example::

            >>> async def main():
            ...     async with trio_clockrt.open_clock() as clock:
            ...         start = clock.instant()
            ...         async for tick in clock.periodic(0.25):
            ...             print(tick - start)
            ...             if clock.instant() >= start + 0.75:
            ...                 break
            >>> trio.run(main, clock=MockClock(autojump_threshold=0))
            0.25
            0.5
            0.75
        """
        return PeriodicTimer(self._open_timers(), period, missed)

    def move_on_after(
        self, seconds: float | timedelta, *, shield: bool = False
    ) -> AbstractContextManager[trio.CancelScope, bool]:
        """Cancel the block if it takes longer than this, and go on after it.

        If the time is up when the block is entered, its first checkpoint is cancelled.

        In the Trio run whose clock it measures with, the value of the block is a scope
        with a deadline, which may be moved. Anywhere else the clock's own timers cancel
        the scope, and its deadline stays infinite. From Trio 0.31 on, the
        `trio.Cancelled` in the block then tells which timeout it was, on which clock.

        Args:
            seconds: How long it may take, from when it is entered, in seconds or as
                a `~datetime.timedelta`; ``inf`` is no limit.
            shield: The initial value of `trio.CancelScope.shield`.

        Returns:
            A context manager whose value is a `trio.CancelScope`.

        Raises:
            ValueError: if *seconds* is negative or NaN.
            TypeError: if *seconds* is not a length of time.
            trio.ClosedResourceError: if this object is closed.
            ClockGone: if the clock is gone.
            RuntimeError: if called from another thread than the clock's, unless
                it is shared.

        Example::

            >>> async def main():
            ...     async with trio_clockrt.open_clock() as clock:
            ...         with clock.move_on_after(1) as scope:
            ...             await clock.delay(3600)
            ...         print(scope.cancelled_caught)
            >>> trio.run(main, clock=MockClock(autojump_threshold=0))
            True
        """
        seconds = to_seconds(seconds, "seconds")
        if self._timers_drive_timeouts():
            return Timeout(self._activation, after=seconds, shield=shield, fail=False)
        now = self._timers.now()
        if seconds and (seconds < SHORT or now + seconds * PART == now):
            return ScopeTimeout(
                self._activation, after=seconds, shield=shield, fail=False
            )
        return trio.move_on_after(seconds, shield=shield)

    def move_on_at(
        self, instant: float, *, shield: bool = False
    ) -> AbstractContextManager[trio.CancelScope, bool]:
        """Cancel the block if it is not done by an instant, and go on after it.

        Like `move_on_after`, but until a point on the scale of
        `~SimpleClock.instant`.

        Raises:
            ValueError: if *instant* is NaN.
            TypeError: if *instant* is not a number.
            trio.ClosedResourceError: if this object is closed.
            ClockGone: if the clock is gone.
            RuntimeError: if called from another thread than the clock's, unless
                it is shared.

        Example::

            >>> async def main():
            ...     async with trio_clockrt.open_clock() as clock:
            ...         with clock.move_on_at(clock.instant() + 1) as scope:
            ...             await clock.delay(3600)
            ...         print(scope.cancelled_caught)
            >>> trio.run(main, clock=MockClock(autojump_threshold=0))
            True
        """
        instant = to_instant(instant, "instant")
        if self._timers_drive_timeouts():
            return Timeout(self._activation, at=instant, shield=shield, fail=False)
        return trio.move_on_at(instant, shield=shield)

    def fail_after(
        self, seconds: float | timedelta, *, shield: bool = False
    ) -> AbstractContextManager[trio.CancelScope]:
        """Like `move_on_after`, but if the time is up, raise `trio.TooSlowError`.

        If you cancel the scope by hand, and the block is left in time, there is no
        error. (:func:`trio.fail_after` raises one then too.) If clean-up in the block
        takes until after the deadline, there is one. But where the clock's own timers
        cancel the scope, as outside of the Trio run whose clock it measures with, what
        counts is when you cancel the scope.

        A deadline that has come counts also if the block's clean-up, or another task,
        moves it then. From Trio 0.31 on, the `trio.Cancelled` tells that. Before Trio
        0.31, the block raises the error whenever the deadline has been moved and the
        scope is cancelled, even by hand. Where the clock's own timers cancel the scope,
        the same holds for a deadline that you give to the scope yourself. (The block
        may also raise the error for the deadline of a scope inside it: if that deadline
        has come, and this scope is then cancelled by hand before the scope inside is
        left.)

        Raises:
            trio.TooSlowError: from the block, if it was cancelled and the time was up.
            ValueError, TypeError, ClockGone, RuntimeError: as for `move_on_after`.

        Example::

            >>> async def main():
            ...     async with trio_clockrt.open_clock() as clock:
            ...         try:
            ...             with clock.fail_after(1):
            ...                 await clock.delay(3600)
            ...         except trio.TooSlowError:
            ...             print("too slow")
            >>> trio.run(main, clock=MockClock(autojump_threshold=0))
            too slow
        """
        seconds = to_seconds(seconds, "seconds")
        kind = Timeout if self._timers_drive_timeouts() else ScopeTimeout
        return kind(self._activation, after=seconds, shield=shield, fail=True)

    def fail_at(
        self, instant: float, *, shield: bool = False
    ) -> AbstractContextManager[trio.CancelScope]:
        """Like `move_on_at`, but if the time is up, raise `trio.TooSlowError`.

        What is up, and what is in time, is as for `fail_after`.

        Raises:
            trio.TooSlowError: from the block, if it was cancelled and the time was up.
            ValueError, TypeError, ClockGone, RuntimeError: as for `move_on_at`.

        Example::

            >>> async def main():
            ...     async with trio_clockrt.open_clock() as clock:
            ...         try:
            ...             with clock.fail_at(clock.instant() + 1):
            ...                 await clock.delay(3600)
            ...         except trio.TooSlowError:
            ...             print("too slow")
            >>> trio.run(main, clock=MockClock(autojump_threshold=0))
            too slow
        """
        instant = to_instant(instant, "instant")
        kind = Timeout if self._timers_drive_timeouts() else ScopeTimeout
        return kind(self._activation, at=instant, shield=shield, fail=True)

    def open_timers(
        self, *, on_exit: Literal["wait", "cancel"] = "wait"
    ) -> AbstractAsyncContextManager[TimerNursery]:
        """Open a nursery for timers, with ``async with``.

        Leaving the block waits for the child tasks that timers have started, as a
        Trio nursery does, and for pending timers too. A periodic timer is always
        pending, so it keeps the block open until it is cancelled. If the body raises,
        pending timers are cancelled, with either *on_exit*.

        Args:
            on_exit: With ``"cancel"``, the end of the body cancels the timers that
                are pending, and leaving waits for child tasks only. That is for
                timers that only make sense while the body runs.

        Returns:
            An async context manager whose value is a `TimerNursery`.

        Raises:
            ValueError: if *on_exit* is something else.
            trio.ClosedResourceError: if this object is closed.
            ClockGone: if the clock is gone.
            RuntimeError: if called from another thread than the clock's, unless
                it is shared.

        Example::

            >>> async def main():
            ...     async with trio_clockrt.open_clock() as clock:
            ...         async with clock.open_timers() as timers:
            ...             timers.call_later(60, print, "a minute later")
            >>> trio.run(main, clock=MockClock(autojump_threshold=0))
            a minute later
        """
        self._open_timers()
        return TimerNurseryBlock(self._activation, on_exit)

    def timer_group(self) -> AbstractContextManager[TimerGroup, None]:
        """Open a group of timers, with ``with``, on a clock that no Trio task drives.

        It is for clocks that you advance yourself: see
        `InactiveClock.activate_manual`. The end of the block, however it comes,
        cancels the timers that are pending. Open as many groups as you like. An
        exception of a callback comes out of `ClockDriver.advance_timers`.

        Returns:
            A context manager whose value is a `TimerGroup`.

        Raises:
            trio.ClosedResourceError: if this object is closed.
            ClockGone: if the clock is gone.
            RuntimeError: if a Trio task drives this clock, which has `open_timers` for
                that; or if called from another thread than the clock's, unless
                it is shared.

        Example::

            >>> clock, driver = InactiveClock().activate_manual()
            >>> with clock.timer_group() as timers:
            ...     timer = timers.call_later(0, print, "due")
            ...     driver.advance_timers()
            due
        """
        self._open_timers()
        return TimerGroupBlock(self._activation)

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a Clock cannot be copied or pickled, as it is alive, here: clone() makes "
            "another owner of it, and an InactiveClock can go to other processes"
        )

    def __repr__(self) -> str:
        closed = ", closed" if self._key is None else ""
        return f"<Clock {self._activation}{closed}>"

    # Hidden from type checkers, which are to find this mistake.
    if not TYPE_CHECKING:
        # Python asks this where it wants to unpack something. (With `__iter__`, a clock
        # would be an `Iterable`.)
        def __getitem__(self, index: object) -> NoReturn:
            raise TypeError(
                "a Clock cannot be unpacked or indexed. open_clock() makes a clock "
                "alone; to have its driver as well: "
                "`async with InactiveClock().activate() as (clock, driver):`"
            )

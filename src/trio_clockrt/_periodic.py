"""Ticks: the grid that periodic timers follow, and the async iterator over it.

A tick is the origin of the grid plus a whole number of periods, so ticks do not drift.
The next tick is always later than the one before, also where floats are coarser than
the period. `Timer` and iterator share the grid; one task at a time moves that of an
iterator, so `reset` leaves a note for the task, and wakes it, from any thread.
"""

from __future__ import annotations

import enum
from collections import deque
from datetime import timedelta
from math import inf
from typing import TYPE_CHECKING, NoReturn

import trio
from trio.lowlevel import (
    TrioToken,
    checkpoint,
    current_trio_token,
    enable_ki_protection,
    wait_task_rescheduled,
)

from ._durations import to_period
from ._hints import Hinted, hints
from ._no_copy import NoCopy
from ._post import post
from ._timers import Timers
from ._typing import Self
from ._waiters import TaskWaiter

_USAGE = "`async for tick in clock.periodic(period):`"


class MissedTick(enum.Enum):
    """What a periodic timer does after it has missed a tick.

    A tick of `Clock.periodic` is missed if its time passes while no task is waiting for
    it; one of `TimerGroup.call_every`, if it comes a whole period late. It always comes
    at once then, late, and this says what becomes of the ticks after it:

    * ``BURST`` catches up: each tick that was missed comes, one right after the other,
      until the timer is on time again. For work that has to be done once per period.
    * ``DELAY``, the default, moves on: a new grid starts at the late tick, and the next
      one comes a whole period after it. For work that needs a pause in between.
    * ``SKIP`` drops the other ticks that were missed, and waits for the next one on the
      old grid. For work that belongs to round times.

    Example::

        >>> async def ticks(missed):
        ...     async with trio_clockrt.open_clock() as clock:
        ...         start, times = clock.instant(), []
        ...         timer = clock.periodic(1, missed=missed)
        ...         await clock.delay(3.5)  # busy with something else
        ...         for _ in range(5):
        ...             await anext(timer)
        ...             times.append(clock.instant() - start)
        ...         return times
        >>> jumping = functools.partial(MockClock, autojump_threshold=0)
        >>> trio.run(ticks, trio_clockrt.MissedTick.BURST, clock=jumping())
        [3.5, 3.5, 3.5, 4.0, 5.0]
        >>> trio.run(ticks, trio_clockrt.MissedTick.DELAY, clock=jumping())
        [3.5, 4.5, 5.5, 6.5, 7.5]
        >>> trio.run(ticks, trio_clockrt.MissedTick.SKIP, clock=jumping())
        [3.5, 4.0, 5.0, 6.0, 7.0]
    """

    BURST = "burst"
    DELAY = "delay"
    SKIP = "skip"


class Grid:
    """The instants at which a periodic timer is due: ``origin + n * period``.

    Multiplied and never summed up, so that a tick is as exact after hours as at first.
    Each tick is later than the one before. Where floats have become coarser than the
    period, far from where the clock began, that leaves some ticks out.
    """

    __slots__ = ("_missed", "_n", "_origin", "_period", "next_tick")

    def __init__(self, now: float, period: float, missed: MissedTick) -> None:
        self._period = period
        self._missed = missed
        self.restart(now)

    def restart(self, origin: float) -> None:
        """Start anew, with the next tick one period after *origin*."""
        self.restart_at(origin)
        self._go_past(origin)

    def restart_at(self, tick: float) -> None:
        """Start anew, with this as the next tick."""
        self._origin = self.next_tick = tick
        self._n = 0.0

    def whole_period_late(self, now: float) -> bool:
        return now >= self._origin + (self._n + 1) * self._period

    def advance(self, now: float, *, missed: bool) -> None:
        """The next tick has come: in time, or *missed*, in which case it is *now*."""
        if not missed or self._missed is MissedTick.BURST:
            self._go_past(self.next_tick)
        elif self._missed is MissedTick.DELAY:
            self.restart(now)
        else:
            self._n = (now - self._origin) // self._period - 1
            self._go_past(now)

    def _go_past(self, instant: float) -> None:
        """Let the next tick be the first one that is later than this."""
        # One step, or up to three because of rounding. More of them, larger and larger
        # ones, are needed only where floats are coarser than the period.
        self._n += 1
        step = 0.5
        while (tick := self._origin + self._n * self._period) <= instant:
            self._n += max(step, 1)
            step *= 2
        self.next_tick = tick

    def __repr__(self) -> str:
        return f"every {self._period} s, {self._missed.name}"


class _TickWaiter(TaskWaiter):
    """A task that waits for a tick."""

    __slots__ = ("was_early",)

    _periodic = True

    def __init__(self, timers: Timers, when: float) -> None:
        super().__init__(timers, when)
        self.was_early = False

    def wake(self, run: TrioToken) -> None:
        """Wake it before its time, in its run: from any thread."""
        if self._timers.discard(self):
            self.was_early = True
            post(run, self._fire)


@hints
class PeriodicTimer(Hinted, NoCopy):
    """An async iterator that ticks once per period; made by `Clock.periodic`.

    Each tick yields the instant it was scheduled for. The grid of ticks starts when
    the timer is made: the first tick comes one period later, and however long the
    body of the loop takes, as long as it is less than a period the ticks do not
    drift. If it takes longer, the timer misses ticks, and does what its `MissedTick`
    says.

    One task at a time may wait for a tick; leave the loop whenever you like, there
    is nothing to close. Waiting is always a checkpoint, and if it is cancelled, no
    tick is lost. Between ticks, no task is waiting: it takes an open `Clock` somewhere
    to keep the clock alive then.

    Example::

        >>> async def main():
        ...     async with trio_clockrt.open_clock() as clock:
        ...         start = clock.instant()
        ...         async for tick in clock.periodic(0.5):
        ...             print(tick - start)
        ...             if tick - start >= 1.5:
        ...                 break
        >>> trio.run(main, clock=MockClock(autojump_threshold=0))
        0.5
        1.0
        1.5
    """

    __slots__ = ("_free", "_grid", "_last", "_resets", "_timers", "_waiting")

    _instead = "call periodic() again for another one"

    def __init__(
        self, timers: Timers, period: float | timedelta, missed: MissedTick
    ) -> None:
        timers.check()
        self._grid = make_grid(timers, period, missed)
        self._timers = timers
        # Taken out, in one step, by the task that waits.
        self._free: list[None] = [None]
        # What a task waits with, and in which run.
        self._waiting: tuple[_TickWaiter, TrioToken] | None = None
        # When it has been reset last. That may be in any thread, so it is left to the
        # next task that wants a tick.
        self._resets: deque[float] = deque(maxlen=1)
        # The last tick, which the next one has to be later than.
        self._last = -inf

    def __aiter__(self) -> Self:
        return self

    @enable_ki_protection
    async def __anext__(self) -> float:
        """Wait for the next tick.

        Returns:
            float: The instant that the tick was scheduled for.

        Raises:
            trio.BusyResourceError: if another task is waiting for a tick already.
            ClockGone: if the clock is gone, or goes meanwhile.
        """
        try:
            self._free.pop()
        except IndexError:
            raise trio.BusyResourceError(
                "another task is waiting for a tick of this timer already; make a "
                "timer for each task, they are cheap"
            ) from None
        try:
            while True:
                self._timers.check()
                self._restart_if_reset()
                tick, now = self._grid.next_tick, self._timers.now()
                if tick > now:
                    if await self._wait(tick):
                        self._last = tick
                        if not self._restart_if_reset():
                            self._grid.advance(tick, missed=False)
                        return tick
                else:
                    await checkpoint()
                    if not self._restart_if_reset():
                        self._last = tick
                        self._grid.advance(self._timers.now(), missed=tick < now)
                        return tick
        finally:
            self._free.append(None)

    def _restart_if_reset(self) -> bool:
        try:
            origin = self._resets.pop()
        except IndexError:
            return False
        # (Another thread may have read the time before the last tick, and said so
        # after it.)
        self._grid.restart(max(origin, self._last))
        return True

    async def _wait(self, tick: float) -> bool:
        """Tell whether the tick has come; or else it has been reset before."""
        waiter = _TickWaiter(self._timers, tick)
        self._timers.add(waiter)
        # For reset().
        self._waiting = waiter, current_trio_token()
        if self._resets:
            waiter.wake(current_trio_token())
        try:
            await wait_task_rescheduled(waiter.abort)
        finally:
            self._waiting = None
        # (On a shared clock, it may have been reset as the task was being woken.)
        return not (waiter.was_early or (self._timers.lock and self._resets))

    @enable_ki_protection
    def reset(self) -> None:
        """Start the grid anew: the next tick comes one period from now.

        A task that is waiting for a tick goes on waiting, for the new one.

        Raises:
            ClockGone: if the clock is gone.

        Example::

            >>> async def main():
            ...     async with trio_clockrt.open_clock() as clock:
            ...         start = clock.instant()
            ...         timer = clock.periodic(2)
            ...         await clock.delay(1.5)
            ...         timer.reset()
            ...         print(await anext(timer) - start)
            >>> trio.run(main, clock=MockClock(autojump_threshold=0))
            3.5
        """
        self._timers.check()
        self._resets.append(self._timers.now())
        waiting = self._waiting
        if waiting is not None:
            waiter, run = waiting
            waiter.wake(run)

    def __repr__(self) -> str:
        return f"<PeriodicTimer {self._grid!r}, next tick {self._grid.next_tick:.6f}>"

    # Hidden from type checkers, which are to find these mistakes.
    if not TYPE_CHECKING:
        # Python asks for the first of these in a loop. (With `__iter__`, a timer would
        # be an `Iterable`.)
        def __getitem__(self, index: object) -> NoReturn:
            raise TypeError(f"ticks need `async for`, not `for`: {_USAGE}")

        def __next__(self) -> NoReturn:
            raise TypeError(f"ticks need `await anext(ticks)`, not `next`: {_USAGE}")


def make_grid(timers: Timers, period: float | timedelta, missed: object) -> Grid:
    if not isinstance(missed, MissedTick):
        raise TypeError(
            f"`missed` must be a MissedTick, such as MissedTick.SKIP, not {missed!r}"
        )
    now = timers.now()
    return Grid(now, to_period(period, "period", now), missed)

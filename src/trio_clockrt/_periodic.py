"""Ticks: the grid that periodic timers follow, and the async iterator over it."""

from __future__ import annotations

import enum
from collections import deque
from datetime import timedelta
from typing import TYPE_CHECKING, NoReturn

import trio
from trio.lowlevel import (
    checkpoint,
    current_task,
    enable_ki_protection,
    wait_task_rescheduled,
)

from ._durations import to_period
from ._hints import Hinted, hints
from ._state import State
from ._typing import Self
from ._uncopied import Uncopied
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
    __slots__ = ()

    _periodic = True


@hints
class PeriodicTimer(Hinted, Uncopied):
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

    __slots__ = ("_free", "_grid", "_resets", "_state", "_task", "_waiter")

    _instead = "call periodic() again for another one"

    def __init__(
        self, state: State, period: float | timedelta, missed: MissedTick
    ) -> None:
        state.check()
        self._grid = make_grid(state, period, missed)
        self._state = state
        # Taken out, in one step, by the task that waits.
        self._free: list[None] = [None]
        # The task that waits for a tick.
        self._task: trio.lowlevel.Task | None = None
        # Of a shared clock: what it waits with, and when it has been reset last.
        self._waiter: TaskWaiter | None = None
        self._resets: deque[float] = deque(maxlen=1)

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
                self._state.check()
                self._restart_if_reset()
                tick, now = self._grid.next_tick, self._state.now()
                if tick > now:
                    ticked = await self._wait(tick)
                    if ticked is not None:
                        return ticked
                else:
                    await checkpoint()
                    # If it has not been reset meanwhile.
                    if not self._restart_if_reset() and self._grid.next_tick == tick:
                        self._grid.advance(self._state.now(), missed=tick < now)
                        return tick
        finally:
            self._free.append(None)

    def _restart_if_reset(self) -> bool:
        try:
            self._grid.restart(self._resets.pop())
        except IndexError:
            return False
        return True

    async def _wait(self, tick: float) -> float | None:
        """Return what has come, or None if it has been reset instead."""
        waiter = _TickWaiter(self._state, tick)
        self._state.add(waiter)
        self._task = current_task()
        # For reset(). Trio clears it as soon as anything wakes the task.
        self._task.custom_sleep_data = self._waiter = waiter
        if self._resets:
            waiter.wake()
        try:
            await wait_task_rescheduled(waiter.abort)
        finally:
            self._task = self._waiter = None
        moved = waiter.when != tick
        if (moved or self._state.shared) and (
            self._resets or self._state.now() < waiter.when
        ):
            # Not even now: it has been reset as it was being woken. (On a shared clock,
            # a reset that we have seen before may wake us a moment later.)
            self._state.discard(waiter)
            return None
        if self._grid.next_tick == waiter.when:  # it has not been reset meanwhile
            self._grid.advance(waiter.when, missed=False)
        return waiter.when

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
        self._state.check()
        if self._state.shared:
            # In any thread, so it is left to the task that waits.
            self._resets.append(self._state.now())
            waiter = self._waiter
            if waiter is not None:
                waiter.wake()
            return
        self._grid.restart(self._state.now())
        if self._task is not None and self._task.custom_sleep_data is not None:
            self._task.custom_sleep_data.move(self._grid.next_tick)

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


def make_grid(state: State, period: float | timedelta, missed: object) -> Grid:
    if not isinstance(missed, MissedTick):
        raise TypeError(
            f"`missed` must be a MissedTick, such as MissedTick.SKIP, not {missed!r}"
        )
    now = state.now()
    return Grid(now, to_period(period, "period", now), missed)

"""What makes a clock's timers fire, and the system task that does it in Trio.

The task fires what is due, and sleeps until the alarm wakes it. Whenever it has fired
something, it looks whether the clock is still used, and ends the clock if not. The last
use that goes while the driver sleeps wakes it for this look. When more was due than
fits into a turn, the task takes a checkpoint and goes on.

When the driver fails, it cancels the block of the activation before it ends the clock.
A task inside the block then sees `Cancelled` and not `ClockGone`, the block absorbs
that, and the defect leaves alone.

A clock without Trio has a caller in the place of the task. `advance_timers` raises
`ClockGone` in the same call that has fired the last timer of an unused clock, since a
caller that was told "nothing to do" would go to sleep for ever. When the caller drops
the driver, the clock ends, as nothing else could make its timers fire.

Statistics of lateness are about the last 1,024 timers. A list of numbers costs less to
keep than a histogram, and what was late yesterday is of no use in a percentile. The
maximum is about all.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import attrs
import trio
from trio.lowlevel import (
    Abort,
    cancel_shielded_checkpoint,
    checkpoint,
    current_task,
    enable_ki_protection,
    reschedule,
    spawn_system_task,
    wait_task_rescheduled,
)

from ._activation import Activation
from ._alarm import DriverAlarm
from ._durations import to_instant
from ._errors import ClockGone, raise_failures
from ._hints import Hinted, hints
from ._no_copy import NoCopy
from ._waiters import wait_for_end


@attrs.frozen
class DriverStatistics:
    """What a `ClockDriver` has had to do; from `ClockDriver.statistics`.

    Attributes:
        pending (int): Timers and waiting tasks that are registered now.
        registered (int): How often one has been registered, resets included.
        fired (int): How many have fired, each tick of a periodic timer included.
        cancelled (int): How many have been cancelled, or replaced by a reset.
        wakeups (int): How often the driver has been woken. With no timers that are
            due, this stands still.
        lateness_p50 (float | None): How long after its deadline a timer fired, in
            seconds: half of them were no later than this. This figure and the next
            are about the last 1,024 timers that have fired; None if none has. A timer
            that is set for the past counts from there.
        lateness_p99 (float | None): The same for 99 of 100 timers.
        lateness_max (float | None): The latest of all the timers so far.
    """

    pending: int
    registered: int
    fired: int
    cancelled: int
    wakeups: int
    lateness_p50: float | None
    lateness_p99: float | None
    lateness_max: float | None


@hints
class ClockDriver(Hinted, NoCopy):
    """Advances the timers of one activation.

    `InactiveClock.activate` makes one and runs it in a system task, so there is
    usually nothing to do with it but to look at it.
    """

    _instead = "activate another InactiveClock for another one"

    def __init__(self, activation: Activation) -> None:
        self._activation = activation
        self._timers = activation.timers
        self._wakeups = 0

    @property
    def next_deadline(self) -> float | None:
        """The instant at which the next timer is due, None if that is never.

        Example::

            >>> async def main():
            ...     async with InactiveClock().activate() as (clock, driver):
            ...         print(driver.next_deadline)
            ...         async with clock.open_timers(on_exit="cancel") as timers:
            ...             timer = timers.call_later(60, print, "a minute later")
            ...             print(driver.next_deadline == timer.when)
            >>> trio.run(main)
            None
            True
        """
        return self._next_deadline()

    def _next_deadline(self) -> float | None:
        timers = self._timers
        try:
            timers.check_place()
        except ClockGone:
            return None
        deadline = timers.next_deadline()
        return None if deadline == inf else deadline

    @enable_ki_protection
    def advance_timers(self, now: float | None = None) -> float | None:
        """Fire what is due, in the order of deadlines.

        On a clock that a Trio task drives, when very much is due, this fires only so
        much of it that other tasks do not have to wait long for their turn; then the
        deadline it returns is past, and the next call goes on. On other clocks it
        fires all that is due.

        Args:
            now: Fire what is due at this instant, which must not be ahead of the
                clock; at the clock's time by default.

        Returns:
            float | None: `next_deadline`.

        Raises:
            ClockGone: if the clock is gone. It is, as soon as it is unused, and so
                this also ends a clock that has no open `Clock` object, no pending
                timer, no waiting task and no open timer nursery when all that is due
                has fired.
            ValueError: if *now* is ahead of the clock, or NaN.
            RuntimeError: if called from inside a timer's callback, or from another
                thread than the clock's.
            Exception: what callbacks of a `TimerGroup` have raised, after everything
                that was due has fired: one exception as it is, more than one in an
                exception group. Nothing else is lost: periodic timers go on, and
                `next_deadline` tells what would have been returned.
            KeyboardInterrupt, SystemExit: and all else that is no `Exception`, raised
                by such a callback: at once, and as it is. What is due still stays
                pending. What had failed before comes out of the next call, or of the
                group's block.

        Example::

            >>> async def main():
            ...     async with InactiveClock().activate() as (clock, driver):
            ...         async with clock.open_timers() as timers:
            ...             timers.call_later(0, print, "due")
            ...             driver.advance_timers()
            ...             print("fired already")
            >>> trio.run(main)
            due
            fired already
        """
        timers = self._timers
        timers.fire_due(None if now is None else to_instant(now, "now"))
        if timers.failures:
            raise_failures(timers.failures.take())
        timers.life.end_if_unused()
        if not timers.life.alive:
            raise timers.life.gone()
        return self._next_deadline()

    def statistics(self) -> DriverStatistics:
        """Some counts, as a `DriverStatistics`.

        Example::

            >>> async def main():
            ...     async with InactiveClock().activate() as (clock, driver):
            ...         await clock.delay(10)
            ...         print(driver.statistics().fired)
            >>> trio.run(main, clock=MockClock(autojump_threshold=0))
            1
        """
        timers = self._timers
        pending, registered, fired, cancelled = timers.counts()
        lateness: Sequence[float | None] = sorted(timers.lateness.copy()) or [None]
        return DriverStatistics(
            pending=pending,
            registered=registered,
            fired=fired,
            cancelled=cancelled,
            wakeups=self._wakeups,
            lateness_p50=lateness[len(lateness) // 2],
            lateness_p99=lateness[len(lateness) * 99 // 100],
            lateness_max=timers.lateness_max if timers.lateness else None,
        )

    async def wait_gone(self) -> None:
        """Wait until the clock is gone.

        That is when the block that activated it ends, or earlier, when the
        clock is unused: every `Clock` object is closed or dropped, no timer is pending,
        no task waits, and no timer nursery is open. Waiting here does not keep it
        alive, but a `Clock` that a task has forgotten does, and so does your own.
        A clock that no Trio task drives notices its end in `advance_timers`.

        This is always a checkpoint.

        Raises:
            RuntimeError: if called from another thread than the clock's, unless
                it is shared.

        Example::

            >>> async def main():
            ...     async with InactiveClock().activate() as (clock, driver):
            ...         clock.close()
            ...         await driver.wait_gone()
            ...         print(clock.alive)
            >>> trio.run(main)
            False
        """
        timers = self._timers
        del self  # to wait does not keep a driver
        await wait_for_end(timers)

    def __repr__(self) -> str:
        return f"<ClockDriver {self._activation}>"


class DriverTask:
    """The system task in which a driver runs, from `start` to `stop`."""

    def __init__(self, driver: ClockDriver, alarm: DriverAlarm) -> None:
        self._driver = driver
        self._timers = driver._timers
        self._alarm = alarm
        self._scope = trio.CancelScope()
        self._stopped = False
        # The task in stop(), while it waits.
        self._stopper: trio.lowlevel.Task | None = None

    def start(self, block: trio.CancelScope) -> None:
        """Start; a defect will cancel the *block*, and then come out of `stop`."""
        self._block = block
        self._defect: BaseException | None = None
        spawn_system_task(
            self._run, name=f"trio_clockrt driver for {self._driver._activation.name}"
        )

    async def stop(self) -> BaseException | None:
        """Stop, and wait until that has happened, also if cancelled.

        Returns the defect, if there was one.
        """
        self._scope.cancel()
        if self._stopped:
            await cancel_shielded_checkpoint()
        else:
            self._stopper = current_task()
            await wait_task_rescheduled(lambda _: Abort.FAILED)
        return self._defect

    async def _run(self) -> None:
        because = (
            "the block that activated it, or the Trio run around that, has ended; use "
            "it inside"
        )
        try:
            with self._scope:
                await self._drive()
        except (trio.Cancelled, GeneratorExit):
            raise  # the run is shutting down, or has been dropped
        except BaseException as exc:
            self._fail(exc)
            because = "its driver has failed"
        finally:
            try:
                self._timers.life.end(because)
            except BaseException as exc:
                self._fail(exc)
            self._stopped = True
            if self._stopper is not None:
                reschedule(self._stopper)

    def _fail(self, exc: BaseException) -> None:
        self._defect = exc
        self._block.cancel()

    async def _drive(self) -> None:
        driver, alarm, timers = self._driver, self._alarm, self._timers
        alarm.open()
        try:
            while True:
                driver._wakeups += 1
                try:
                    deadline = driver.advance_timers()
                except ClockGone:
                    return
                if deadline is not None and deadline <= timers.now():
                    await checkpoint()
                else:
                    await alarm.sleep()
        finally:
            alarm.close()

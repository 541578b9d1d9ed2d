"""The one handle on time: `ClockControl`, which a test has in hand.

This file puts together what moves a control's time: `_virtual_time.py` counts it,
`_autojump.py` moves it when the control's run is idle, `_other_clocks.py` elsewhere,
and `_stepper.py` as a test says. It checks what is passed, and hands it on.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from math import inf
from typing import TYPE_CHECKING

import trio
from trio.lowlevel import current_task, current_trio_token, enable_ki_protection

from .._activating import activate_caller_driven
from .._clock import Clock
from .._durations import (
    to_count,
    to_finite_instant,
    to_finite_seconds,
    to_rate,
    to_seconds,
    to_step,
)
from .._hints import Hinted, hints, hints_of_calls
from .._no_copy import NoCopy
from .._post import wake_run
from .._simple_clock import SimpleClock
from .._time_source import TimeControl
from ._auto_advance import AutoAdvance
from ._autojump import Autojump
from ._caller_driven import CallerDrivenAlarm, CallerDrivenLoopAlarm
from ._idleness import Hold, Idleness
from ._other_clocks import OtherClocks
from ._real_timeout import RealTimeout
from ._report import Reporter, nothing_moves_to
from ._seed import SeededSchedule, check_seed, draw_seed
from ._stdlib import StdlibPatch
from ._stepper import Stepper, moves_nothing
from ._virtual_time import EPOCH, VirtualTime

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio.lowlevel import TrioToken

    from .._alarm import DriverAlarm
    from .._foreign_loop import LoopAlarm
    from .._time_source import TimeSource
    from .._timers import Timers


class _Real:
    # In a class, where freezegun does not look for what it could replace.
    clock = staticmethod(time.perf_counter)


@hints
class ClockControl(Hinted, NoCopy, TimeControl):
    """A clock for a Trio run that moves only as you tell it.

    It drives everything in the run that has to do with time: Trio's own sleeps and
    deadlines, the timers of every clock that is activated there, and their system
    time. Hand it to the function that starts the run::

        trio.run(main, clock=ClockControl(autojump_threshold=0))

    At one instant, functions that timers call come before the tasks that wake then,
    Trio's own sleeps and timeouts included; among these tasks, the *seed* decides.

    It can stand in for a `trio.testing.MockClock`, and is more exact: what is added up
    is counted in whole nanoseconds, and a jump to a deadline arrives at that very
    float. It may be used from any thread, and one run after another may have it.

    Args:
        at: What system time it is at first, a timezone-aware `~datetime.datetime`; the
            beginning of 1970 by default. Instants always begin at 0.0.
        rate: The initial `rate`.
        autojump_threshold: The initial `autojump_threshold`.
        io_grace: For how many real seconds more nothing must happen before time jumps,
            while a task waits for I/O: a socket, or another process.
        ignore_threads: Whether time jumps although a task waits for a worker thread of
            `trio.to_thread.run_sync`, as it does with a `trio.testing.MockClock`.
        auto_advance: How far each reading of the time moves it, in seconds or as a
            `~datetime.timedelta`. A reading tells the time before that. Only what reads
            through a `Clock`, a `SimpleClock` or a `Stopwatch` counts, nothing of
            Trio's own.
        auto_advance_limit: How far all readings together may move it, at most.
        detect_deadlocks: Whether a run that this is the clock of raises a RuntimeError
            in its main task, or in the test of pytest-trio, instead of waiting for
            ever, when nothing can wake it: no deadline that time will come to, no
            worker thread, no I/O, no `hold`. A worker thread that only waits for
            threads to end which wait for virtual time themselves, in
            `Clock.delay_blocking`, wakes no task. (In guest mode: use `hold` while the
            host is to wake it.) The error lists what the tasks and these threads wait
            for, and the next timers.
        seed: Decides what Trio leaves to chance: which of the tasks that are woken at
            once goes first. With the same integer, runs of the same program repeat.
            By default one is drawn, and `seed` tells which. Every run begins with the
            seed again, and another seed is another order. What comes from outside
            (I/O, threads, signals, a `rate`) may still come at another moment, and the
            order of Python's own sets is Python's. Other runs in the process do not
            notice.

    Raises:
        ValueError: if *at* has no timezone, or a number is negative or NaN.
        TypeError: if one of them is of another type.

    Example::

        >>> async def main():
        ...     async with trio_clockrt.open_clock() as clock:
        ...         await clock.delay(datetime.timedelta(days=365))
        ...         await trio.sleep(0.5)
        ...         print(clock.instant(), clock.system_time().date())
        >>> trio.run(main, clock=ClockControl(autojump_threshold=0))
        31536000.5 1971-01-01

    With a *seed*::

        >>> async def append(log, n):
        ...     log.append(n)
        >>> async def main(log):
        ...     async with trio.open_nursery() as nursery:
        ...         for n in range(100):
        ...             nursery.start_soon(append, log, n)
        >>> log1, log2 = [], []
        >>> trio.run(main, log1, clock=ClockControl(seed=42))
        >>> trio.run(main, log2, clock=ClockControl(seed=42))
        >>> log1 == log2
        True
    """

    _instead = "make another one, or hand this one around"
    # Whether it has been read or moved, which the pytest plugin wants to know.
    _used = False
    # Whether its time has been read, or handed to what may read it.
    _tells = False

    @hints_of_calls
    def __init__(
        self,
        at: datetime = EPOCH,
        *,
        rate: float = 0.0,
        autojump_threshold: float = inf,
        io_grace: float | timedelta = 0.0,
        ignore_threads: bool = False,
        auto_advance: float | timedelta = 0.0,
        auto_advance_limit: float | timedelta = inf,
        detect_deadlocks: bool = False,
        seed: int | None = None,
    ) -> None:
        if seed is None:
            seed = draw_seed()
        check_seed(seed)
        self._seed = seed
        # A place for another one, should a test want to move real time too.
        self._real_clock: Callable[[], float] = _Real.clock
        name = f"ClockControl with seed {seed}"
        self._time = VirtualTime(_aware(at, "at"), self._real_time, name)
        self._reporter = Reporter(self._time, self._states, seed)
        self._idleness = Idleness(self._time, self._real_time, self._reporter)
        self._idleness.io_grace = to_finite_seconds(io_grace, "io_grace")
        self._idleness.ignore_threads = _flag(ignore_threads, "ignore_threads")
        self._idleness.detect_deadlocks = _flag(detect_deadlocks, "detect_deadlocks")
        self._others = OtherClocks(self._time, self._idleness, self._wake_run)
        self._autojump = Autojump(
            self._time, self._idleness, self._others, self._real_time, self._reporter
        )
        # What clocks that this control moves read.
        self._time_source: TimeSource = self._time
        step = to_finite_seconds(auto_advance, "auto_advance")
        limit = to_seconds(auto_advance_limit, "auto_advance_limit")
        if step:
            self._time_source = AutoAdvance(self._time, step, limit, self._moved)
        self._stepper = Stepper(
            self._time,
            self._idleness,
            self._others,
            self._autojump,
            self._moved,
            self._settings_changed,
            self._reporter,
        )
        self._time.rate = to_rate(rate, "rate")
        self._idleness.threshold = to_seconds(autojump_threshold, "autojump_threshold")

    @property
    def seed(self) -> int:
        """What decides the order of tasks, and a run with the same one repeats.

        It is what the control was given, or a number that it has drawn. Every report
        and error of the control tells it.

        Example::

            >>> ClockControl(seed=7).seed
            7
            >>> ClockControl().seed < 2**32
            True
        """
        return self._seed

    @property
    def rate(self) -> float:
        """How many seconds pass for each second of real time.

        At 0.0, the default, time stands still unless it is moved. It can be set
        at any moment.

        Raises:
            ValueError: if it is set to something negative, infinite or NaN.
            TypeError: if it is set to something that is not a number.
            RuntimeError: if it is set in a Trio task while nothing has this control's
                time.

        Example::

            >>> control = ClockControl(rate=1000)
            >>> control.rate = 0
            >>> control.current_time() == control.current_time()
            True
        """
        return self._time.rate

    @rate.setter
    def rate(self, rate: float) -> None:
        rate = to_rate(rate, "rate")
        self._check_moves_something()
        self._time.rate = rate
        self._settings_changed()

    @property
    def autojump_threshold(self) -> float:
        """For how long nothing must happen before time jumps, in real seconds.

        When all tasks of the run have been waiting for this long, and no I/O has woken
        any, time jumps to the next deadline, whether it is Trio's or a timer's. At 0
        that is as soon as there is nothing else to do, so that sleeping takes no time.
        At ``inf``, the default, time never jumps. It can be set at any moment.

        Tasks in `trio.testing.wait_all_tasks_blocked` come first: while there are any,
        time does not jump. Nor does it while a task waits for a worker thread that is
        busy, and not itself waiting for Trio, or while there is a `hold`.

        When a worker thread, or a task that never waits, has kept time from jumping
        for a second of real time, there is a `RuntimeWarning`. It is also written to
        the real standard error where output is captured, again every ten seconds.
        Ctrl-C, while a worker thread does so, ends the waiting for that thread, and
        leaves it behind as a daemon.

        Raises:
            ValueError: if it is set to something negative or NaN.
            TypeError: if it is set to something that is not a number.
            RuntimeError: if it is set in a Trio task while nothing has this control's
                time.

        Example::

            >>> control = ClockControl(autojump_threshold=0)
            >>> trio.run(trio.sleep, 1_000_000, clock=control)
            >>> control.current_time()
            1000000.0
        """
        return self._idleness.threshold

    @autojump_threshold.setter
    def autojump_threshold(self, threshold: float) -> None:
        threshold = to_seconds(threshold, "autojump_threshold")
        self._check_moves_something()
        self._idleness.threshold = threshold
        self._settings_changed()

    def jump(self, seconds: float | timedelta) -> None:
        """Move the time forward in one leap, and system time with it.

        Everything that is due then fires as soon as the run goes on, in the order of
        deadlines, but at the new time. On clocks that no Trio task drives, it has fired
        when this returns.

        Args:
            seconds: How far, in seconds or as a `~datetime.timedelta`.

        Raises:
            ValueError: if *seconds* is negative, infinite or NaN.
            OverflowError: if no float is large enough for the instant.
            TypeError: if *seconds* is not a length of time.
            RuntimeError, Exception: as for `advance`.

        Example::

            >>> control = ClockControl()
            >>> for _ in range(10):
            ...     control.jump(0.1)
            >>> control.current_time()
            1.0
        """
        step = self._forward(seconds)
        self._check_moves_something()
        self._time.add(step)
        self._stepper.arrive()

    def advance(self, seconds: float | timedelta) -> None:
        """Move the time forward, from deadline to deadline where that is possible.

        That is, on clocks that no Trio task drives: those of `to_clock`, and of
        `InactiveClock.activate_manual`, in this thread. Time stops at each of their
        deadlines, so that a callback reads its own due time, and what it registers on
        the way fires too; everything due has fired when this returns.

        What Trio drives cannot go on before this returns. For tasks, it is one leap
        as in `jump`; to stop at each deadline there, use `run_for`.

        It goes to an instant, so far from now. If something else moves the time
        meanwhile, a callback or another thread, it does not go further for that: what
        had become due fires, once, and then it ends.

        Args:
            seconds: How far, in seconds or as a `~datetime.timedelta`.

        Raises:
            ValueError: if *seconds* is negative, infinite or NaN.
            OverflowError: if no float is large enough for the instant.
            TypeError: if *seconds* is not a length of time.
            RuntimeError: if called from inside a callback of such a clock; if a
                callback sets a timer for now again and again; or in a Trio task, if
                nothing has this control's time.
            Exception: what callbacks of a `TimerGroup` have raised, when everything has
                fired: one exception as it is, more than one in an exception group.
            KeyboardInterrupt, SystemExit: and all else that is no `Exception`, raised
                by such a callback: at once, and as it is. Time stays where it is, and
                what is due still stays pending. What had failed before comes out of
                the next call, or of the group's block.

        Example::

            >>> control = ClockControl()
            >>> clock = control.to_clock()
            >>> with clock.timer_group() as timers:
            ...     timer = timers.call_every(20, lambda: print(clock.instant()))
            ...     control.advance(60)
            20.0
            40.0
            60.0
        """
        step = self._forward(seconds)
        self._check_moves_something()
        self._stepper.advance(step)

    @enable_ki_protection
    async def run_for(self, seconds: float | timedelta) -> None:
        """Let the program run for so long, from deadline to deadline.

        Time stops at each deadline, Trio's or of a timer, until no task can do anything
        more. So a task that ticks ten times in ten periods does so here. What counts as
        nothing to do is the same as for `autojump_threshold`. While this runs, time
        does not jump by itself.

        It ends at an instant, so far from now. If the program itself moves the time
        past that, again and again, it ends without waiting for the program any more.

        Call it in a task of the run whose clock this is; or, if that is no run, of any
        that has clocks of this control.

        Args:
            seconds: How long, in seconds or as a `~datetime.timedelta`.

        Raises:
            ValueError: if *seconds* is negative, infinite or NaN.
            OverflowError: if no float is large enough for the instant.
            TypeError: if *seconds* is not a length of time.
            RuntimeError: if called outside of a Trio task, in the wrong run, in one
                where no clock of this control is to be found, or while another call is
                under way; or if a task or a timer waits for next to nothing again and
                again, so that time does not go on.
            Exception: as for `advance`.

        Example::

            >>> control = ClockControl()
            >>> async def tick():
            ...     while True:
            ...         await trio.sleep(20)
            ...         print(trio.current_time())
            >>> async def main():
            ...     async with trio.open_nursery() as nursery:
            ...         nursery.start_soon(tick)
            ...         await control.run_for(60)
            ...         nursery.cancel_scope.cancel()
            >>> trio.run(main, clock=control)
            20.0
            40.0
            60.0
        """
        self._used = True
        await self._stepper.run_for(self._forward(seconds))

    @enable_ki_protection
    async def run_until(self, instant: float) -> None:
        """Let the program run until an instant, as `run_for` does.

        Args:
            instant: A point on the scale of `current_time`; if it is past, this waits
                until no task can do anything more, no longer.

        Raises:
            ValueError: if *instant* is infinite or NaN.
            TypeError: if *instant* is not a number.
            RuntimeError, Exception: as for `run_for`.

        Example::

            >>> control = ClockControl()
            >>> async def main():
            ...     async with trio.open_nursery() as nursery:
            ...         nursery.start_soon(trio.sleep, 3)
            ...         await control.run_until(3.5)
            >>> trio.run(main, clock=control)
            >>> control.current_time()
            3.5
        """
        self._used = True
        await self._stepper.run_until(to_finite_instant(instant, "instant"))

    @enable_ki_protection
    async def run_until_idle(self, *, limit: int = 100_000) -> None:
        """Let the program run until nothing is left to wait for but periodic timers.

        Args:
            limit: How many deadlines to go to, at most. A task that sleeps again and
                again, without a periodic timer, would never be done.

        Raises:
            ValueError: if *limit* is not positive.
            TypeError: if *limit* is not an integer.
            RuntimeError: at the limit, with a list of what each task and timer waits
                for; otherwise as for `run_for`.
            Exception: as for `advance`.

        Example::

            >>> control = ClockControl()
            >>> async def main():
            ...     async with trio.open_nursery() as nursery:
            ...         for seconds in 10, 20, 30:
            ...             nursery.start_soon(trio.sleep, seconds)
            ...         await control.run_until_idle()
            ...     print(trio.current_time())
            >>> trio.run(main, clock=control)
            30.0
        """
        self._used = True
        await self._stepper.run_until_idle(to_count(limit, "limit"))

    def hold(self) -> AbstractContextManager[None]:
        """Keep time from jumping by itself, with ``with``.

        For what the control cannot know of: another process that has an answer to
        give, a thread that is none of Trio's. It may be entered from any thread, and
        while there is another one. Moving the time by hand still works.

        Example::

            >>> control = ClockControl(autojump_threshold=0)
            >>> async def main():
            ...     with control.hold():
            ...         with trio.move_on_after(60):
            ...             control.jump(1)
            ...             await trio.testing.wait_all_tasks_blocked()
            ...         print(trio.current_time())
            >>> trio.run(main, clock=control)
            1.0
        """
        return Hold(self._idleness.holds, self._settings_changed)

    def fail_after_real(
        self, seconds: float | timedelta
    ) -> AbstractContextManager[trio.CancelScope]:
        """Limit a block in real time, with ``with``, also if virtual time stands still.

        So a test that hangs fails, and says what it has been waiting for: what time it
        is, where the tasks are, which timers come next, and whether nothing moves the
        time to them.

        Args:
            seconds: How long the block may take, in real seconds or as a
                `~datetime.timedelta`.

        Returns:
            A context manager whose value is the cancel scope. It cannot interrupt code
            that does not reach a checkpoint. A task in the block that waits for a
            worker thread does not wait any longer; the thread is left behind as a
            daemon, and what it returns is dropped.

        Raises:
            ValueError: if *seconds* is negative or NaN.
            TypeError: if *seconds* is not a length of time.
            RuntimeError: if entered outside of a Trio task.
            trio.TooSlowError: at the end of the block, if it has taken longer.

        Example::

            >>> control = ClockControl()
            >>> async def main():
            ...     with control.fail_after_real(0.01):
            ...         await trio.sleep(60)  # nothing moves the time
            >>> try:
            ...     trio.run(main, clock=control)
            ... except trio.TooSlowError as error:
            ...     print(str(error).partition(";")[0])
            this has taken more than 0.01 real seconds
        """
        seconds = to_seconds(seconds, "seconds")
        return RealTimeout(seconds, self._why_it_is_slow)

    def set_time(self, when: datetime) -> None:
        """Move the system time to another time.

        Forwards, the instants move by as much, as in `jump`. Backwards, they cannot,
        and so that moves system time alone, as in `adjust_system_time`.

        Args:
            when: A timezone-aware `~datetime.datetime`.

        Raises:
            ValueError: if *when* has no timezone.
            TypeError: if *when* is not a `~datetime.datetime`.
            RuntimeError: in a Trio task, if nothing has this control's time.

        Example::

            >>> control = ClockControl()
            >>> y2k = datetime.datetime.fromisoformat("2000-01-01T00:00+00:00")
            >>> control.set_time(y2k)
            >>> control.current_time()
            946684800.0
        """
        when = _aware(when, "when")
        self._check_moves_something()
        self._time.set_system_time(when)
        self._stepper.arrive()

    def adjust_system_time(self, seconds: float | timedelta) -> None:
        """Step the system time alone, as NTP or an operator does it.

        The instants, and with them all timers, do not notice.

        Args:
            seconds: By how much, in seconds or as a `~datetime.timedelta`; negative
                for back.

        Raises:
            ValueError: if *seconds* is infinite or NaN.
            TypeError: if *seconds* is not a length of time.
            RuntimeError: in a Trio task, if nothing has this control's time.

        Example::

            >>> control = ClockControl()
            >>> control.adjust_system_time(-1)
            >>> print(control.to_simple_clock().system_time(), control.current_time())
            1969-12-31 23:59:59+00:00 0.0
        """
        step = to_step(seconds, "seconds")
        self._check_moves_something()
        self._time.step_system_time(step)

    def patch_stdlib(self) -> AbstractContextManager[None]:
        """Make the standard library tell this system time too, with ``with``.

        As long as the block lasts, `datetime.datetime.now`, `datetime.date.today`,
        `time.time`, `time.gmtime` and the like follow the control, each time that they
        are called: in the whole process, in every thread, and also where a module has
        imported them before. (`time.ctime` and `time.asctime` only where they are
        looked up in the module at each call.) `time.monotonic` and `time.perf_counter`
        stay real, and so does the local timezone; :doc:`testing` lists what else does.
        Blocks may overlap, and then the one that was opened last counts.

        This needs time-machine, an extra of this library: ``pip install 'time-machine
        >= 3, < 4'``. It takes the place of freezegun, whose ``freeze_time`` stops the
        clock of a Trio run too.

        Where a system time is read that no `~datetime.datetime` can hold, Python raises
        an error of its own; `time.time` can tell it.

        Raises:
            ImportError: if there is no time-machine.
            RuntimeError: if a ``freeze_time`` is under way, which would hide this one.

        Example::

            >>> y2k = datetime.datetime(2000, 1, 1, tzinfo=datetime.timezone.utc)
            >>> control = ClockControl(y2k)
            >>> with control.patch_stdlib():
            ...     control.jump(datetime.timedelta(days=59))
            ...     print(time.strftime("%d %B", time.gmtime()), time.time())
            29 February 951782400.0
        """
        self._used = self._tells = True
        return StdlibPatch(self._time)

    def to_clock(self) -> Clock:
        """A `Clock` that this control moves, and nothing else: no task drives it.

        For programs without Trio, where `advance` and `jump` fire its timers; and for
        tests in a run whose own clock is real, so that only what holds this clock is
        virtual. Tasks may wait for it, and time may jump by itself when nothing else
        happens: see `autojump_threshold`. (A real :func:`trio.sleep` counts as
        nothing.) That is in a run in which it is made, a task waits for it, or its
        `~trio_clockrt.Clock.timer_group` is opened. As for any clock, its timers
        belong to the thread that makes it.

        All that are made in a thread are owners of the same clock: see `Clock.clone`.

        Example::

            >>> control = ClockControl(autojump_threshold=0)
            >>> clock = control.to_clock()
            >>> trio.run(clock.delay, 3600)
            >>> clock.instant()
            3600.0
        """
        for alarm in self._others.here():
            if alarm.driver is not None and alarm.timers.life.alive:
                return Clock(alarm.activation)
        alarm = self._make_caller_driven_alarm()
        clock, alarm.driver = activate_caller_driven(
            self._time_source, alarm, "to_clock()"
        )
        return clock

    def to_simple_clock(self) -> SimpleClock:
        """A `SimpleClock` that tells this time, inside Trio and outside.

        Example::

            >>> control = ClockControl()
            >>> watch = control.to_simple_clock().stopwatch()
            >>> control.jump(1.5)
            >>> watch.elapsed()
            1.5
        """
        self._used = self._tells = True
        return SimpleClock(self._time_source)

    @hints_of_calls
    def start_clock(self) -> None:
        """Trio calls this as a run begins."""
        if not self._others.begin_run():
            raise RuntimeError(
                "this ClockControl is the clock of another Trio run, which has not "
                "ended yet; make a ClockControl for each run"
            )
        self._used = self._tells = True
        self._autojump.start()
        SeededSchedule(self._seed)

    def current_time(self) -> float:
        """The instant that it is, in seconds; Trio calls this.

        Example::

            >>> ClockControl().current_time()
            0.0
        """
        if not self._tells:  # as it costs more to set it
            self._used = self._tells = True
        return self._autojump.read()

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """How long to wait for I/O, in real seconds; Trio calls this."""
        return self._autojump.sleep_time(deadline)

    def _forward(self, seconds: float | timedelta) -> float:
        step = to_step(seconds, "seconds")
        if step < 0:
            # What MockClock says, to the letter, as tests look for that.
            raise ValueError("time can't go backwards") from ValueError(
                f"`seconds` must be non-negative, but it is {seconds!r}; to set back "
                "the system time alone, use adjust_system_time()"
            )
        if self._time.now() + step == inf:
            raise OverflowError(
                f"no float can hold the instant {step!r} seconds after "
                f"{self._time.now()!r}, so time has not been moved; a new ClockControl "
                "begins at 0.0"
            )
        return step

    def _check_moves_something(self) -> None:
        """To move what nothing knows of, in a program that waits, is a mistake."""
        if not self._tells and _is_in_a_task():
            raise moves_nothing()
        self._used = True

    def _make_alarm(self) -> DriverAlarm:
        self._used = self._tells = True
        if current_trio_token() == self._others.own_run:
            return self._autojump.make_alarm()
        return self._others.make_alarm()

    def _make_caller_driven_alarm(
        self, loop: LoopAlarm | None = None
    ) -> CallerDrivenAlarm:
        self._used = self._tells = True
        if loop is not None:
            return CallerDrivenLoopAlarm(self._others, loop)
        return CallerDrivenAlarm(self._others)

    def _await_threads(self) -> AbstractContextManager[None]:
        """A `hold` that lets time jump: only, what seems to be a deadlock is none."""
        return Hold(self._idleness.awaiting, self._settings_changed)

    def _real_time(self) -> float:
        return self._real_clock()

    def _states(self) -> list[Timers]:
        return [*self._autojump.states(), *self._others.states()]

    def _why_it_is_slow(self) -> str:
        deadline = self._stepper.next_deadline()
        # What lets the program run by hand holds.
        moves = self.rate or self.autojump_threshold < inf or self._idleness.holds
        stuck = not moves and self._time.now() < deadline < inf
        hint = f"; {nothing_moves_to(deadline)}" if stuck else ""
        return f"{hint}:{self._reporter.report()}"

    def _settings_changed(self) -> None:
        self._wake_run()
        self._others.settings_changed()

    def _moved(self) -> None:
        self._idleness.giving_way.give_way()
        self._wake_run()
        self._others.wake_due()
        self._stepper.time_has_moved()

    def _wake_run(self) -> None:
        """Let the run look at its deadlines again, if it may be waiting for I/O."""
        run = self._others.own_run
        if run is not None and not _is_in_a_task_of(run):
            wake_run(run)

    def __repr__(self) -> str:
        return f"<ClockControl, instant {self._time.now():.6f}, seed {self._seed}>"

    # Hidden from type checkers, which are to find these mistakes.
    if not TYPE_CHECKING:

        def __setattr__(self, name: str, value: object) -> None:
            # What is private, or of a user's subclass, is not ours to check.
            ours = type(self) is ClockControl and not name.startswith("_")
            if ours and not hasattr(ClockControl, name):
                getattr(self, name)  # which says so, and what it could have been
            super().__setattr__(name, value)


def _is_in_a_task_of(run: TrioToken) -> bool:
    try:
        current_task()
        return current_trio_token() == run
    except RuntimeError:
        return False


def _is_in_a_task() -> bool:
    try:
        current_task()
    except RuntimeError:
        return False
    return True


def _flag(given: object, name: str) -> bool:
    # Any string would do, "no" among them.
    if not isinstance(given, bool):
        raise TypeError(f"`{name}` must be True or False, not {given!r}")
    return given


def _aware(when: object, name: str) -> datetime:
    if not isinstance(when, datetime):
        raise TypeError(f"`{name}` must be a datetime with a timezone, not {when!r}")
    if when.utcoffset() is None:
        raise ValueError(
            f"`{name}` must have a timezone, such as datetime.timezone.utc, but "
            f"{when!r} has none"
        )
    return when

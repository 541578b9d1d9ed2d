"""The one handle on time."""

from __future__ import annotations

import time
from contextlib import contextmanager
from datetime import datetime, timedelta
from math import inf
from typing import TYPE_CHECKING

import trio
from trio.lowlevel import current_task, current_trio_token

from .._alarm import post
from .._durations import to_rate, to_seconds, to_step
from .._simple_clock import SimpleClock
from ._autojump import Autojump
from ._seed import SeededSchedule, check_seed
from ._stdlib import StdlibPatch
from ._virtual_time import EPOCH, VirtualTime

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from contextlib import AbstractContextManager

    from trio.lowlevel import TrioToken

    from .._alarm import DriverAlarm


class ClockControl(trio.abc.Clock):
    """A clock for a Trio run that moves only as you tell it.

    It drives everything in the run that has to do with time: Trio's own sleeps and
    deadlines, the timers of every clock that is activated there, and their system
    time. Hand it to whatever starts the run::

        trio.run(main, clock=ClockControl(autojump_threshold=0))

    It can stand in for a `trio.testing.MockClock`, and is more exact: what is added up
    is counted in whole nanoseconds, and a jump to a deadline arrives at that very
    float. It may be used from any thread, and one run after another may have it.

    Args:
        at: What system time it is at first, a timezone-aware `~datetime.datetime`; the
            beginning of 1970 by default. Instants begin at 0.0, whatever this is.
        rate: The initial `rate`.
        autojump_threshold: The initial `autojump_threshold`.
        ignore_threads: Whether time jumps although a task waits for a worker thread of
            `trio.to_thread.run_sync`, as it does with a `trio.testing.MockClock`.
        seed: With an integer, runs of the same program repeat: which of the tasks that
            are woken at once goes first, which Trio leaves to chance, is the same each
            time. Every run begins with the seed again, and another seed is another
            order. What comes from outside (I/O, threads, signals, a `rate`) may still
            come at another moment, and the order of Python's own sets is Python's.
            Other runs in the process do not notice.

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

    # A place for another one, should a test want to move real time too. In a class,
    # where freezegun does not look for what it could replace.
    _real_clock: Callable[[], float] = staticmethod(time.perf_counter)
    # Whether anybody has read or moved it, which the pytest plugin wants to know.
    _used = False

    def __init__(
        self,
        at: datetime = EPOCH,
        *,
        rate: float = 0.0,
        autojump_threshold: float = inf,
        ignore_threads: bool = False,
        seed: int | None = None,
    ) -> None:
        if seed is not None:
            check_seed(seed)
        self._seed = seed
        # Clocks that are activated in its run look for this.
        self._control = self
        self._time_source = VirtualTime(_aware(at, "at"), self._real_time)
        self._autojump = Autojump(self._time_source, self._real_time)
        # The run whose clock this is.
        self._run: TrioToken | None = None
        self._autojump.ignore_threads = ignore_threads
        self.rate = rate
        self.autojump_threshold = autojump_threshold

    @property
    def rate(self) -> float:
        """How many seconds pass for each second of real time.

        At 0.0, the default, time stands still unless somebody moves it. It can be set
        at any moment.

        Raises:
            ValueError: if it is set to something negative, infinite or NaN.
            TypeError: if it is set to something that is not a number.

        Example::

            >>> control = ClockControl(rate=1000)
            >>> control.rate = 0
            >>> control.current_time() == control.current_time()
            True
        """
        return self._time_source.rate

    @rate.setter
    def rate(self, rate: float) -> None:
        self._time_source.rate = to_rate(rate, "rate")
        self._wake_run()

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

        Raises:
            ValueError: if it is set to something negative or NaN.
            TypeError: if it is set to something that is not a number.

        Example::

            >>> control = ClockControl(autojump_threshold=0)
            >>> trio.run(trio.sleep, 1_000_000, clock=control)
            >>> control.current_time()
            1000000.0
        """
        return self._autojump.threshold

    @autojump_threshold.setter
    def autojump_threshold(self, threshold: float) -> None:
        self._autojump.threshold = to_seconds(threshold, "autojump_threshold")
        self._wake_run()

    def jump(self, seconds: float | timedelta) -> None:
        """Move the time forward in one leap, and system time with it.

        Everything that is due then fires as soon as the run goes on, in the order of
        deadlines, but at the new time.

        Args:
            seconds: How far, in seconds or as a `~datetime.timedelta`.

        Raises:
            ValueError: if *seconds* is negative, infinite or NaN.
            TypeError: if *seconds* is not a length of time.

        Example::

            >>> control = ClockControl()
            >>> for _ in range(10):
            ...     control.jump(0.1)
            >>> control.current_time()
            1.0
        """
        step = to_step(seconds, "seconds")
        if step < 0:
            # In the words of MockClock, for tests that look for them.
            raise ValueError("time can't go backwards")
        self._used = True
        self._time_source.add(step)
        self._wake_run()

    @contextmanager
    def hold(self) -> Generator[None]:
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
        hold = object()
        self._autojump.holds.add(hold)
        try:
            yield
        finally:
            self._autojump.holds.remove(hold)
            self._wake_run()

    def set_time(self, when: datetime) -> None:
        """Move the system time to another time.

        Forwards, the instants move by as much, as in `jump`. Backwards, they cannot,
        and so that moves system time alone, as in `adjust_system_time`.

        Args:
            when: A timezone-aware `~datetime.datetime`.

        Raises:
            ValueError: if *when* has no timezone.
            TypeError: if *when* is not a `~datetime.datetime`.

        Example::

            >>> control = ClockControl()
            >>> control.set_time(datetime.datetime.fromisoformat("2000-01-01T00:00Z"))
            >>> control.current_time()
            946684800.0
        """
        self._time_source.set_system_time(_aware(when, "when"))
        self._used = True
        self._wake_run()

    def adjust_system_time(self, seconds: float | timedelta) -> None:
        """Step the system time alone, as NTP or an operator does it.

        The instants, and with them all timers, do not notice.

        Args:
            seconds: By how much, in seconds or as a `~datetime.timedelta`; negative
                for back.

        Raises:
            ValueError: if *seconds* is infinite or NaN.
            TypeError: if *seconds* is not a length of time.

        Example::

            >>> control = ClockControl()
            >>> control.adjust_system_time(-1)
            >>> print(control.to_simple_clock().system_time(), control.current_time())
            1969-12-31 23:59:59+00:00 0.0
        """
        self._time_source.step_system_time(to_step(seconds, "seconds"))

    def patch_stdlib(self) -> AbstractContextManager[None]:
        """Make the standard library tell this system time too, with ``with``.

        As long as the block lasts, `datetime.datetime.now`, `datetime.date.today`,
        `time.time`, `time.gmtime` and the like follow the control, each time that they
        are called: in the whole process, in every thread, and also where somebody has
        imported them before. `time.monotonic` and `time.perf_counter` stay real, and
        so does the local timezone. Blocks may overlap, and then the one that was
        opened last counts.

        This needs time-machine: ``pip install 'trio-clockrt[time-machine]'``. It takes
        the place of freezegun, whose ``freeze_time`` stops the clock of a Trio run
        too.

        A system time that no `~datetime.datetime` can hold is whatever error Python
        has for it, where it is read; `time.time` can tell it.

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
        self._used = True
        return StdlibPatch(self._time_source)

    def to_simple_clock(self) -> SimpleClock:
        """A `SimpleClock` that tells this time, inside Trio and outside.

        Example::

            >>> control = ClockControl()
            >>> watch = control.to_simple_clock().stopwatch()
            >>> control.jump(1.5)
            >>> watch.elapsed()
            1.5
        """
        self._used = True
        return SimpleClock(self._time_source)

    def start_clock(self) -> None:
        """Trio calls this as a run begins."""
        if self._run is not None and post(self._run, int):
            raise RuntimeError(
                "this ClockControl is the clock of another Trio run, which has not "
                "ended yet; make a ClockControl for each run"
            )
        self._run = current_trio_token()
        self._autojump.start()
        if self._seed is not None:
            SeededSchedule(self._seed)

    def current_time(self) -> float:
        """The instant that it is, in seconds; Trio calls this.

        Example::

            >>> ClockControl().current_time()
            0.0
        """
        self._used = True
        return self._time_source.instant()

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """How long to wait for I/O, in real seconds; Trio calls this."""
        return self._autojump.sleep_time(deadline)

    def _make_alarm(self) -> DriverAlarm:
        return self._autojump.make_alarm()

    def _real_time(self) -> float:
        return self._real_clock()

    def _wake_run(self) -> None:
        """Let the run look at its deadlines again, if it may be waiting for I/O."""
        if self._run is not None and not _is_in_a_task_of(self._run):
            post(self._run, int)

    def __repr__(self) -> str:
        return f"<ClockControl, instant {self.current_time():.6f}>"


def _is_in_a_task_of(run: TrioToken) -> bool:
    try:
        current_task()
        return current_trio_token() == run
    except RuntimeError:
        return False


def _aware(when: object, name: str) -> datetime:
    if not isinstance(when, datetime):
        raise TypeError(f"`{name}` must be a datetime, not {when!r}")
    if when.utcoffset() is None:
        raise ValueError(
            f"`{name}` must have a timezone, such as datetime.timezone.utc, but "
            f"{when!r} has none"
        )
    return when

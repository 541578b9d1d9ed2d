"""When a whole Trio run has nothing to do, time goes to the next deadline at once.

Trio asks the clock how long to wait only when no task is runnable, then looks for I/O,
and then calls instruments. So without a task of its own, the control answers 0, or the
threshold, and looks in the instrument whether a task was woken. If not, time jumps. The
deadline that Trio has told the clock before may be out of date by then: the host of a
guest run, a signal handler or a finalizer may have changed it. So a jump asks for the
deadline anew. The only public way to ask is the statistics, which take longer the more
sockets there are, and tell a difference to the present, which is no exact answer. So
this is a look at Trio's inside, see `_trio_inside.py`.

The control wakes the drivers of its run itself. It knows the earliest deadline of each
driver that is asleep, and in the instrument, when time has got there, it wakes them:
tasks are woken as by the alarm of a real clock. That saves two deadlines of Trio's and
a pass of its loop for each virtual sleep. The library is tuned most here: a jump writes
a number of its own and takes no lock, and asks Python's count of threads before Trio's.

Callbacks come before Trio's own deadlines of the same instant. After the instrument,
Trio reads the clock once, to see which deadlines have expired. Where the instrument has
woken a driver, this one reading is the moment before Trio's next deadline. So Trio
finds nothing expired, and looks again in the next pass, when callbacks have been
called. No task has run meanwhile, and other threads read the right time. Each deadline
is hidden only once, as callbacks may set timers for now without end. If several drivers
are due at once, and one of their clocks has an open timer nursery, all is left to the
drivers.

Whether nothing will ever come is decided after I/O has been polled, like a jump: a
message to the run may have come just before. Other threads and signals cannot be seen,
so the error is an option, and `hold()` tells of them. Without that option, and where
time can go nowhere, Trio waits for ten seconds at most, and then the control looks
whether a task has gone on. That needs no thread, and costs nothing in a run that jumps.

A defect of our own cannot be raised in an instrument: Trio would log it and go on. So
it is kept, and raised when Trio asks next how long to wait.
"""

from __future__ import annotations

from _thread import _count as count_of_other_threads
from functools import partial
from math import inf, nextafter
from threading import get_ident
from typing import TYPE_CHECKING
from weakref import ref

import trio
from trio.lowlevel import add_instrument, current_trio_token

from .._post import current_run, wake_run
from ._blame import raise_in_program
from ._control_alarm import ControlAlarm
from ._report import nothing_moves_to, threads_that_wait, workers_wait_for
from ._stand_still import PASSES, SILENT
from ._trio_inside import (
    is_idleness_awaited,
    next_deadline,
    next_deadline_if_idle,
)
from ._worker_threads import abandon_workers, busy_workers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from trio.lowlevel import TrioToken

    from .._timers import Timers
    from ._idleness import Idleness
    from ._other_clocks import OtherClocks
    from ._report import Reporter
    from ._stand_still import NothingHappens, TasksGoOn
    from ._virtual_time import VirtualTime

# After how many real seconds to look again what worker threads wait for.
_LOOK_AGAIN = 0.05


class Autojump(trio.abc.Instrument):
    """Tells Trio how long to wait for I/O, and moves the time when nothing happens.

    Trio asks `sleep_time` only when no task is runnable, then looks for I/O, and then
    calls `after_io_wait`. If there is still no task runnable, nothing will happen
    before the next deadline.
    """

    # Not for the memory: Trio calls dir() for an instrument, and from then on CPython
    # takes its time for the attributes of an object that has a dictionary.
    __slots__ = (
        "_alarms",
        "_asleep",
        "_deadlocked",
        "_failure",
        "_first",
        "_hidden",
        "_idleness",
        "_jump_at",
        "_look_twice",
        "_others",
        "_passes",
        "_real",
        "_reporter",
        "_rests",
        "_run",
        "_silence",
        "_tasks_go_on",
        "_time",
        "notes_origins",
        "read",
        "waiting",
    )

    def __init__(
        self,
        time: VirtualTime,
        idleness: Idleness,
        others: OtherClocks,
        real: Callable[[], float],
        reporter: Reporter,
    ) -> None:
        self.notes_origins = idleness.detect_deadlocks
        self._time = time
        self._idleness = idleness
        self._others = others
        self._real = real
        # How Trio reads the clock...
        self.read: Callable[[], float] = time.instant
        # ...which has hidden deadlines up to here.
        self._hidden = -inf
        self._run: TrioToken
        self._reporter = reporter
        # Of the drivers in this run; and of those, the ones that are asleep.
        self._alarms: list[ref[ControlAlarm]] = []
        self._asleep: dict[ControlAlarm, None] = {}
        # How many passes of Trio's loop have gone by since the run was idle.
        self._passes = 0
        # Whether the run is idle now, and Trio is going to wait.
        self._rests = False
        self._tasks_go_on: TasksGoOn
        self._silence: NothingHappens
        # What Trio could not be told at once.
        self._failure: BaseException | None = None
        # Whether Trio waits, and may have to be told of an earlier deadline.
        self.waiting = False
        # The earliest deadline of these drivers, unless it has changed since then.
        self._first: float | None = None
        # When to jump, in real time, if nothing happens before...
        self._jump_at = inf
        # ...with a closer look than in the commonest case...
        self._look_twice = False
        # ...or to say that nothing ever will.
        self._deadlocked = False

    def start(self) -> None:
        """A run begins."""
        self._run = current_trio_token()
        self._asleep.clear()
        self._failure = None
        self.waiting = False
        self._passes = 0
        self._silence = self._idleness.watch_silence()
        self._silence.end()  # until the run waits
        self._tasks_go_on = self._idleness.watch_tasks(self._idleness.should_move)
        self._idleness.own_run = self._run
        self._first = None
        self._jump_at = inf
        self.read, self._hidden = self._time.instant, -inf
        add_instrument(self)
        add_instrument(_AfterRun(partial(self._run_is_over, self._run)))

    def _run_is_over(self, run: TrioToken) -> None:
        # By then another one may have begun.
        if self._run is run:
            self._asleep.clear()
        self._others.end_run(run)
        self._idleness.forget_run(run)
        self._others.settings_changed()

    def make_alarm(self) -> ControlAlarm:
        return ControlAlarm(self._asleep, self)

    def add_driven(self, alarm: ControlAlarm) -> None:
        self._alarms.append(ref(alarm, self._alarms.remove))

    def alarm_moved(self, _: float) -> None:
        """While Trio waits: by a host, by a signal handler or a finalizer."""
        self._first = None
        wake_run(self._run)

    def next_deadline(self) -> float:
        """The earliest deadline, of Trio's or of a clock in this run."""
        deadlines = [alarm.deadline for alarm in self._asleep]
        return min(next_deadline(), *deadlines, inf)

    def states(self) -> list[Timers]:
        alarms = [weak() for weak in list(self._alarms)]
        return [alarm.timers for alarm in alarms if alarm and alarm.timers.life.alive]

    def only_periodic(self) -> bool:
        return next_deadline() == inf and all(
            alarm.timers.only_periodic() for alarm in self._asleep
        )

    def sleep_time(self, deadline: float) -> float:
        if self._failure is not None:
            raise self._failure
        first = inf
        for alarm in self._asleep:
            if alarm.deadline < first:
                first = alarm.deadline
        self._first = first
        self.waiting = True
        idleness = self._idleness
        if (
            (deadline < inf or first < inf)
            and not idleness.threshold
            and not idleness.holds
            and self._others.newest is None
            and not idleness.io_grace
            # Python knows far sooner than Trio that there is no other thread at all.
            and not count_of_other_threads()
            and not is_idleness_awaited()
        ):
            self._jump_at, self._look_twice, self._rests = -inf, False, False
            return 0.0
        deadline = min(deadline, first, self._others.next_deadline())
        seconds = self._sleep_time(deadline)
        self._rests = seconds > 0
        return seconds

    def _sleep_time(self, deadline: float) -> float:
        idleness = self._idleness
        self._jump_at, self._look_twice, self._deadlocked = inf, True, False
        if self._time.is_about(deadline):
            self._time.reach(deadline)
            return 0.0
        seconds = self._time.real_seconds_until(deadline)
        if (
            idleness.threshold >= seconds
            or deadline == inf
            or idleness.holds
            or is_idleness_awaited()
        ):
            if seconds == inf and idleness.detect_deadlocks and self._is_forever():
                # Unless I/O, which is to be looked for now, wakes a task.
                self._jump_at, self._deadlocked = -inf, True
                return 0.0
            # (While time is moved by hand, the code that moves it tells people.)
            if seconds == inf and current_run() and not self._time.is_led:
                busy_for = idleness.wait_for_workers(anyhow=True)
                return self._until_looking_again(busy_for) or self._wait(deadline)
            return seconds
        try:
            busy_for = idleness.wait_for_workers()
        except Exception as error:  # a warning, where they are errors
            if raise_in_program(error):
                return 0.0
            busy_for = idleness.warn_later()
        if busy_for:
            if idleness.detect_deadlocks and self._is_forever():
                self._jump_at, self._deadlocked = -inf, True
                return 0.0
            return min(self._until_looking_again(busy_for), seconds)
        # Before I/O is looked for, as one of them may have something to say.
        idleness.giving_way.give_way()
        patience = idleness.patience()
        self._jump_at = self._real() + patience if patience else -inf
        return min(patience, seconds)

    def _wait(self, deadline: float) -> float:
        """How long Trio may wait before people are told that nothing happens."""
        silence = self._silence
        if silence.seconds_left(SILENT) <= 0:
            if self._is_forever():
                silence.tell_why(self._what_could_help(deadline))
            else:
                silence.begin()
        return silence.seconds_left(SILENT)

    def _until_looking_again(self, busy_for: float) -> float:
        if self._idleness.detect_deadlocks:
            # Worker threads do not tell when they begin to wait themselves.
            return min(busy_for, _LOOK_AGAIN)
        return busy_for

    # (Trio passes the timeout, and its base class names it.)
    def after_io_wait(self, timeout: float) -> None:  # noqa: ARG002
        try:
            waiting, self.waiting = self.waiting, False
            self._passes += 1
            if waiting and self._rests:
                self._passes = 0
            elif not self._passes % PASSES:
                self._tasks_go_on.look(self._passes)
            first, self._first = self._first, None
            if first is None:
                first = min([inf, *[alarm.deadline for alarm in self._asleep]])
            now = None
            if self._jump_at < inf and not self._idleness.holds:
                deadline = next_deadline_if_idle()
                if deadline > first:
                    deadline = first
                if waiting and deadline == -inf:
                    self._passes = 0  # as it was idle, and I/O has woken a task
                if self._look_twice:
                    self._jump(deadline)
                else:
                    now = self._time.reach(deadline)
            elif waiting and next_deadline_if_idle() == -inf:
                self._silence.end()  # something has happened
            if now is None:
                now = self._time.now()
                if self._time.rate:
                    self._let_trio_read(now)  # which is a moment later by itself
            others = self._others
            if others.newest is not None and others.next_deadline() <= now:
                others.wake_due()  # as time may also have come there by itself
            if first <= now:
                asleep = list(self._asleep)
                # No task goes on before a callback that is due on any of the clocks.
                for_drivers = len(asleep) > 1 and _with_callbacks(asleep, now)
                for alarm in asleep:
                    if alarm.deadline <= now and (
                        for_drivers or not alarm.timers.wake_sleepers(now)
                    ):
                        alarm.wake()
                        self._hide_deadlines(now)
        except BaseException as error:
            # Trio would log it, and go on without us. When it asks, it has to listen.
            self._failure = error

    def _hide_deadlines(self, now: float) -> None:
        """Let Trio's own deadlines expire a pass later, when the drivers have fired."""
        deadline = next_deadline()
        # Each only once, should callbacks set timers for now again and again.
        if self._hidden < deadline <= now:
            self._hidden = deadline
            self._let_trio_read(nextafter(deadline, -inf))

    def _let_trio_read(self, instant: float) -> None:
        """Let the next reading in this thread, and no other, be this instant.

        It is Trio's, which looks for expired deadlines right after `after_io_wait`.
        """
        thread = get_ident()

        def read() -> float:
            if get_ident() != thread:
                return self._time.instant()
            self.read = self._time.instant
            return instant

        self.read = read

    def _jump(self, deadline: float) -> None:
        if deadline == -inf:
            return  # I/O has woken a task
        if self._jump_at > -inf and self._jump_at > self._real():
            return
        deadline = min(deadline, self._others.next_deadline())
        if self._deadlocked:
            jumps = (
                deadline < inf and self._idleness.threshold < inf and not busy_workers()
            )
            comes = self._time.real_seconds_until(deadline) < inf
            if not jumps and not comes and self._is_forever():
                self._raise_deadlock(deadline)
        else:
            self._time.reach(deadline)
            self._others.wake_due()

    def _is_forever(self) -> bool:
        if is_idleness_awaited():
            return False
        states = [*self.states(), *self._others.states()]
        return self._idleness.is_forever(threads_that_wait(states))

    def _raise_deadlock(self, deadline: float) -> None:
        workers = busy_workers()
        error = RuntimeError(
            "deadlock: nothing will ever wake this program; "
            f"{self._what_could_help(deadline)}:{self._reporter.report()}"
        )
        told = raise_in_program(error)
        # They would never come back, so the task that sees the error does not wait for
        # them.
        if not abandon_workers(workers) and not told:
            raise error

    def _what_could_help(self, deadline: float) -> str:
        if deadline == inf:
            return "if a signal or another thread does, use hold()"
        if busy_workers() and self._idleness.threshold < inf:
            return workers_wait_for(deadline)
        return nothing_moves_to(deadline)


def _with_callbacks(asleep: Iterable[ControlAlarm], now: float) -> bool:
    """Whether more than one driver is due, and there may be callbacks among that."""
    due = [alarm.timers for alarm in asleep if alarm.deadline <= now]
    return len(due) > 1 and any(timers.life.retainers for timers in due)


class _AfterRun(trio.abc.Instrument):
    """One for each run, as Trio does not say which one it is that has ended."""

    def __init__(self, tell: Callable[[], None]) -> None:
        self._tell = tell

    def after_run(self) -> None:
        self._tell()

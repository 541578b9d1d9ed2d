"""Time that is moved by hand, from deadline to deadline.

A move has an end, which is computed as it begins. What callbacks, readings or other
threads do to the time meanwhile does not change that: where they move it further, the
move is over when what had been due has fired. So a callback that moves the time each
time that it is called cannot keep a move from ending.

A timer that is set for now again and again, or for a moment that is less than a
nanosecond later, does keep a move from ending, and so does a task that waits so. That
is an error, which names the timer or the task. `run_until_idle` counts deadlines, and
not seconds: a loop that sleeps for a second each time would take hours to get to any
number of seconds that a test may want.

A move asks little at each deadline, as a simulation has millions. Which clocks are here
is asked again only when one has been made, or has gone. While a timer fires, its clock
tells nothing of a changed deadline, as the move looks at that next, and tells the other
runs at the end. Nanoseconds are counted only where a caller needs them: a move to a
deadline does not.
"""

from __future__ import annotations

from _thread import _count as count_of_other_threads
from contextlib import contextmanager
from math import inf
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import trio
from trio.lowlevel import current_task, current_trio_token

from .._errors import raise_failures
from .._post import post
from ._idleness import Hold, settle_run

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from .._timers import Timers
    from ._autojump import Autojump
    from ._idleness import Idleness
    from ._other_clocks import OtherClocks
    from ._report import Reporter
    from ._virtual_time import Moment, VirtualTime

# How often timers may fire one after the other, and how many deadlines a program may
# have, with next to nothing in between, before that is an error.
_MOST_PASSES = 1_000_000
_MOST_STOPS = 100_000

# How often the program itself may move the time past the end of a move while it is
# waited for until it is idle.
_MOST_MOVES = 10

_deadline = attrgetter("deadline")

# What callbacks have raised, each with their group.
_Failures = list[tuple[Any, BaseException]]


class Stepper:
    """Moves the time, and lets timers and tasks do what is due on the way.

    Args:
        moved: What to call when time has moved.
        settings_changed: What to call when it may, or may not, move by itself.
        reporter: Tells what the program waits for.
    """

    def __init__(
        self,
        time: VirtualTime,
        idleness: Idleness,
        others: OtherClocks,
        autojump: Autojump,
        moved: Callable[[], None],
        settings_changed: Callable[[], None],
        reporter: Reporter,
    ) -> None:
        self._time = time
        self._idleness = idleness
        self._others = others
        self._autojump = autojump
        self._moved = moved
        self._settings_changed = settings_changed
        self._reporter = reporter
        # While the program is let run.
        self._hold: Hold | None = None
        # While it is waited for until it is idle.
        self._settling: _Settling | None = None

    def arrive(self) -> None:
        """Time has moved in one leap: fire what is due and can fire at once."""
        self._go_on_to(self._time.present())

    def time_has_moved(self) -> None:
        """From any thread."""
        settling = self._settling
        if settling is not None:
            settling.time_has_moved()

    def advance(self, seconds: float) -> None:
        """Stop at each deadline of a clock that no task drives, in this thread."""
        if any(alarm.timers.firing for alarm in self._others.here()):
            raise RuntimeError(
                "advance() was called from inside a timer's callback, which is part of "
                "another advance(); set another timer, or use jump()"
            )
        self._go_on_to(self._time.present().plus(seconds))

    async def run_for(self, seconds: float) -> None:
        await self._run(self._time.present().plus(seconds))

    async def run_until(self, instant: float) -> None:
        await self._run(self._time.present().gone_to(instant))

    async def _run(self, there: Moment) -> None:
        with self._letting_it_run() as failures:
            arrived, soon, stops = False, -inf, 0
            while await self._settle(failures, there.instant, _MOST_MOVES):
                deadline = self.next_deadline()
                if not there.has_come(deadline):
                    if arrived:
                        return
                    self._time.go_on_to(there)
                    arrived = True
                    continue
                stops = stops + 1 if deadline <= soon else 0
                if stops > _MOST_STOPS:
                    raise RuntimeError(
                        f"time has stopped {_MOST_STOPS} times at instant "
                        f"{self._time.now()!r}, or next to it. Does a task or a timer "
                        "wait for next to nothing, again and again? Then let it wait "
                        f"for longer, so that time goes on:{self._reporter.report()}"
                    )
                soon = _next_to(deadline)
                self._time.go_to(deadline)

    async def run_until_idle(self, limit: int) -> None:
        with self._letting_it_run() as failures:
            for n in range(limit + 1):
                if not await self._settle(failures, -inf, limit):
                    raise RuntimeError(
                        f"the program has moved the time {limit} times by itself in "
                        "run_until_idle(), without ever being idle. Does something "
                        "move it again and again, or read it with auto_advance? Then "
                        f"use run_for(), or a larger `limit`:{self._reporter.report()}"
                    )
                deadline = self.next_deadline()
                if deadline == inf or self._only_periodic():
                    return
                if n < limit:
                    self._time.go_to(deadline)
            raise RuntimeError(
                f"run_until_idle() has gone to {limit} deadlines, and there are others "
                f"still, the next one at {self.next_deadline()!r}. Does something "
                "wait again and again? Then use run_for(), or a larger "
                f"`limit`:{self._reporter.report()}"
            )

    def _go_on_to(self, there: Moment) -> None:
        failures: _Failures = []
        self._visit(failures, there)
        self._time.go_on_to(there)
        # Once more: a timer may have been set just before time has moved, and a
        # callback may have moved it further.
        self._visit(failures, self._time.present())
        self._finish(failures)

    def _visit(self, failures: _Failures, there: Moment) -> None:
        """Fire timers that no task drives, in this thread, each at its own time.

        That is what is due by *there*. If time is moved further meanwhile, what is due
        by then is left for the next visit.
        """
        others, time = self._others, self._time
        newest, here = others.newest, others.here()
        if any(alarm.timers.at_work for alarm in here):
            # A callback has called this, or a finalizer that has interrupted something.
            # That goes on first.
            return
        for alarm in here:
            # Ctrl-C may have come in between, and left what had failed before.
            alarm.timers.rearm()
            if alarm.timers.failures:
                failures += alarm.timers.failures.take()
        # Most deadlines are so early that there is no need to count.
        end = there.instant
        soon, passes = -inf, 0
        while here:
            if len(here) == 1:
                first = here[0]
                deadline = first.deadline
            else:
                # Not asked of the first one, which may have fired since, as a finalizer
                # or a signal handler has moved the time.
                deadline = min(map(_deadline, here))
                first = min(here, key=_deadline)
            if others.newest is not newest or not first.timers.life.alive:
                newest, here = others.newest, others.here()
                continue
            if deadline > end and not there.has_come(deadline):
                break
            passes = passes + 1 if deadline <= soon else 0
            if passes > _MOST_PASSES:
                seed = f". The seed is {self._reporter.seed}"
                failures.append((None, self._endless(_MOST_PASSES, seed)))
                self._finish(failures)
            soon = _next_to(deadline)
            if count_of_other_threads():
                self._idleness.giving_way.give_way()
            try:
                first.fire(time.go_to(deadline))
            except BaseException:
                self._put_off(failures, first.timers)
                self._moved()
                raise
            if first.timers.failures:
                failures += first.timers.failures.take()

    def _put_off(self, failures: _Failures, timers: Timers) -> None:
        """Keep them for the next call, or for the blocks of their timers."""
        for group, exc in failures:
            where = timers if group is None else group._timers
            where.failures.append((group, exc))
        failures.clear()

    def _endless(self, times: int, more: str) -> RuntimeError:
        due = self._reporter.due()
        which = f", and the next one is {due[0]}" if due else ""
        return RuntimeError(
            f"timers of a {self._time.name} have fired {times} times at instant "
            f"{self._time.now()!r}, or next to it{which}. Does a callback set a timer "
            "for now again and again? Then let it be a moment later, so that time goes "
            f"on{more}"
        )

    def _finish(self, failures: _Failures) -> None:
        while self._time.is_about(deadline := self.next_deadline()):
            self._time.go_to(deadline)
        self._moved()
        raise_failures(failures)

    async def _settle(self, failures: _Failures, end: float, most: int) -> bool:
        """Let the program do what is due, until there is nothing to do.

        Tells whether that is so. It is not if the program itself has moved the time
        past the *end*, more often than that.
        """
        self._visit(failures, self._time.present())
        self._moved()
        scope = trio.CancelScope()
        settling = _Settling(self._time, end, most, scope)
        with scope:
            self._settling = settling
            self._idleness.on_endless = settling.give_up
            try:
                for run in self._others.runs():
                    await settle_run(run, self._idleness)
                await self._idleness.wait()
            finally:
                self._settling, self._idleness.on_endless = None, int
        if settling.fired:
            raise self._endless(settling.fired, f":{self._reporter.report()}")
        # Not before, as a task that has begun just now may make a clock.
        if self._others.newest is None and not self._is_in_its_run():
            raise moves_nothing()
        return not scope.cancelled_caught

    @contextmanager
    def _letting_it_run(self) -> Generator[_Failures]:
        try:
            current_task()
        except RuntimeError:
            raise RuntimeError(
                "only a Trio task can let its program run; outside of Trio, use "
                "advance()"
            ) from None
        if self._others.belong_to_another_run():
            raise RuntimeError(
                "this ClockControl is the clock of another Trio run; call this in a "
                "task of that one"
            )
        if self._hold in self._idleness.holds:
            raise RuntimeError(
                "run_for(), run_until() or run_until_idle() is under way already, in "
                "another task; time cannot be in two places"
            )
        failures: _Failures = []
        self._hold = Hold(self._idleness.holds, self._settings_changed)
        self._time.is_led = True
        try:
            with self._hold:
                yield failures
        except BaseException as exc:
            raise_failures(failures, exc)
            raise
        finally:
            self._time.is_led = False
        raise_failures(failures)

    def _is_in_its_run(self) -> bool:
        try:
            return current_trio_token() == self._others.own_run
        except RuntimeError:  # outside of Trio
            return False

    def next_deadline(self) -> float:
        """The earliest that a task here waits for, or a driver can be told of."""
        deadline = self._others.next_deadline()
        if self._is_in_its_run():
            return min(deadline, self._autojump.next_deadline())
        return deadline

    def _only_periodic(self) -> bool:
        return self._others.only_periodic() and (
            not self._is_in_its_run() or self._autojump.only_periodic()
        )


def _next_to(deadline: float) -> float:
    """Until when time has moved by less than a nanosecond, or than floats tell."""
    return deadline + 5e-10 + abs(deadline) * 2.3e-16


class _Settling:
    """Ends the wait for a program that moves the time on again and again."""

    def __init__(
        self, time: VirtualTime, end: float, most: int, scope: trio.CancelScope
    ) -> None:
        self._time = time
        self._end = end
        self._left = most
        self._scope = scope
        self._run = current_trio_token()
        self.fired = 0

    def give_up(self, fired: int) -> None:
        """So many timers have fired one after the other, and no time has passed."""
        self.fired = fired
        post(self._run, self._scope.cancel)

    def time_has_moved(self) -> None:
        # (If two threads count at once, one time is not counted, which does no harm.)
        if self._time.now() > self._end:
            self._left -= 1
            if self._left < 0:
                post(self._run, self._scope.cancel)


def moves_nothing() -> RuntimeError:
    return RuntimeError(
        "this would move nothing: this ClockControl is not the clock of this Trio run, "
        "and no clock has been made from it. Use trio.run(main, clock=control), or "
        "first make a clock with control.to_clock(), control.to_simple_clock() or "
        "InactiveClock.from_control(control)"
    )

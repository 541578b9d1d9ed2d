"""Time that somebody moves by hand, from deadline to deadline."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from math import inf
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from trio.lowlevel import current_task, current_trio_token

from .._errors import raise_failures
from ._idleness import Hold, settle_run
from ._report import describe
from ._virtual_time import NANOSECONDS, to_nanoseconds

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from .._state import State
    from ._autojump import Autojump
    from ._idleness import Idleness
    from ._stand_alone import StandAlone
    from ._virtual_time import VirtualTime

# Whoever sets a timer for now in each callback would keep time from ever moving on.
_MOST_PASSES = 1_000_000

_deadline = attrgetter("deadline")


class ByHand:
    """Moves the time, and lets whoever is due do what is to be done on the way.

    Args:
        moved: What to call when time has moved.
        settings_changed: What to call when it may, or may not, move by itself.
    """

    def __init__(
        self,
        time: VirtualTime,
        idleness: Idleness,
        others: StandAlone,
        autojump: Autojump,
        moved: Callable[[], None],
        settings_changed: Callable[[], None],
    ) -> None:
        self._time = time
        self._idleness = idleness
        self._others = others
        self._autojump = autojump
        self._moved = moved
        self._settings_changed = settings_changed
        # While somebody lets the program run.
        self._hold: Hold | None = None

    def arrive(self) -> None:
        """Time has moved in one leap: fire whatever is due and can fire at once."""
        failures: list[tuple[Any, BaseException]] = []
        self._visit(failures)
        self._finish(failures)

    def advance(self, seconds: float) -> None:
        """Stop at each deadline of a clock that no task drives, in this thread."""
        if any(alarm.state.firing for alarm in self._others.here()):
            raise RuntimeError(
                "advance() was called from inside a timer's callback, which is part of "
                "another advance(); set another timer, or use jump()"
            )
        until = self._time.nanoseconds() + to_nanoseconds(seconds)
        failures: list[tuple[Any, BaseException]] = []
        self._visit(failures, until)
        self._time.count_to(until)
        # Once more, as one of these may have set a timer just before time has moved.
        self._visit(failures)
        self._finish(failures)

    async def run_for(self, seconds: float) -> None:
        until = self._time.nanoseconds() + to_nanoseconds(seconds)
        await self._run(until, partial(self._time.count_to, until))

    async def run_until(self, instant: float) -> None:
        arrive = partial(self._time.go_to, instant)
        await self._run(to_nanoseconds(instant), arrive)

    async def _run(self, until: int, arrive: Callable[[], object]) -> None:
        with self._letting_it_run() as failures:
            while True:
                await self._settle(failures)
                deadline = self.next_deadline()
                if deadline == inf or to_nanoseconds(deadline) > until:
                    break
                self._time.go_to(deadline)
            arrive()
            await self._settle(failures)

    async def run_until_idle(self, limit: int) -> None:
        with self._letting_it_run() as failures:
            for n in range(limit + 1):
                await self._settle(failures)
                deadline = self.next_deadline()
                if deadline == inf or self._only_periodic():
                    return
                if n < limit:
                    self._time.go_to(deadline)
            raise RuntimeError(
                f"run_until_idle() has gone to {limit} deadlines, and there are others "
                f"still, the next one at {self.next_deadline()!r}. Does something "
                "wait again and again? Then use run_for(), or a larger `limit`"
            )

    def _visit(self, failures: list[tuple[Any, BaseException]], until: int = 0) -> None:
        """Fire timers that no task drives, in this thread, each at its own time.

        That is whatever is due *until* then, and whatever is due already.
        """
        others, time = self._others, self._time
        newest, here = others.newest, others.here()
        if any(alarm.state.busy for alarm in here):
            # A callback has called this, or a finalizer that has interrupted something.
            # That goes on first.
            return
        for alarm in here:
            # Ctrl-C may have come in between, and left what had failed before.
            alarm.state.arm()
            if alarm.state.failures:
                failures += alarm.state.take_failures()
        # Most deadlines are so early that there is no need to count.
        end = until / NANOSECONDS
        last, passes = -inf, 0
        while here:
            # Not asked of the first one, which may have fired since, as a finalizer or
            # a signal handler has moved the time.
            deadline = min(map(_deadline, here))
            first = min(here, key=_deadline)
            if others.newest is not newest or not first.state.alive:
                newest, here = others.newest, others.here()
                continue
            if deadline > end and not self._comes(deadline, until):
                break
            if deadline > last:
                last, passes = deadline, 0
            elif passes < _MOST_PASSES:
                passes += 1
            else:
                failures.append((None, self._endless(first.state)))
                self._finish(failures)
            try:
                first.fire(time.go_to(deadline))
            except BaseException:
                self._put_off(failures, first.state)
                self._moved()
                raise
            if first.state.failures:
                failures += first.state.take_failures()

    def _put_off(self, failures: list[tuple[Any, BaseException]], state: State) -> None:
        """Keep them for the next call, or for the blocks of their timers."""
        for group, exc in failures:
            where = state if group is None else group._state
            where.failures.append((group, exc))
        failures.clear()

    def _comes(self, deadline: float, until: int) -> bool:
        """Whether that is until then, to the nanosecond, or has come already."""
        return deadline < inf and (
            to_nanoseconds(deadline) <= until
            or deadline <= self._time.now()
            or self._time.is_about(deadline)
        )

    def _endless(self, state: State) -> RuntimeError:
        timer = min(state.waiters(), key=attrgetter("when"))
        return RuntimeError(
            f"timers have fired {_MOST_PASSES} times at instant {self._time.now()!r}, "
            f"and the next one is {describe(timer)}. Does a callback set a timer for "
            "now again and again? Then let it be a moment later, so that time goes on"
        )

    def _finish(self, failures: list[tuple[Any, BaseException]]) -> None:
        while self._time.is_about(deadline := self.next_deadline()):
            self._time.go_to(deadline)
        self._moved()
        raise_failures(failures)

    async def _settle(self, failures: list[tuple[Any, BaseException]]) -> None:
        """Let everybody do what is due, until there is nothing to do."""
        self._visit(failures)
        self._moved()
        for run in self._others.runs():
            await settle_run(run, self._idleness)
        await self._idleness.wait()
        # Not before, as a task that has begun just now may make a clock.
        if self._others.newest is None and not self._is_in_its_run():
            raise RuntimeError(
                "this would move nothing: this ClockControl is not the clock of this "
                "Trio run, and no clock was made from it here. Use trio.run(main, "
                "clock=control), or make a clock with control.to_clock() or "
                "InactiveClock.from_control(control). (To move nothing but the time "
                "that it tells, use advance().)"
            )

    @contextmanager
    def _letting_it_run(self) -> Generator[list[tuple[Any, BaseException]]]:
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
        failures: list[tuple[Any, BaseException]] = []
        self._hold = Hold(self._idleness.holds, self._settings_changed)
        try:
            with self._hold:
                yield failures
        except BaseException as exc:
            raise_failures(failures, exc)
            raise
        raise_failures(failures)

    def _is_in_its_run(self) -> bool:
        try:
            return current_trio_token() == self._others.own_run
        except RuntimeError:  # outside of Trio
            return False

    def next_deadline(self) -> float:
        """The earliest that somebody here waits for, or can be told of."""
        deadline = self._others.next_deadline()
        if self._is_in_its_run():
            return min(deadline, self._autojump.next_deadline())
        return deadline

    def _only_periodic(self) -> bool:
        return self._others.only_periodic() and (
            not self._is_in_its_run() or self._autojump.only_periodic()
        )

"""The clocks of a control that are not driven in the run whose clock the control is.

Trio does not tell when a run is idle whose clock is another. So in each run that waits
for the control, a system task finds out with `wait_all_tasks_blocked`, and then goes
round once more to see, by an instrument, that no task was woken together with it: other
tasks that wait for idleness go first. With several runs, time jumps when all are idle,
and a run is idle until a task of it takes a step.

What no task drives fires in the thread that made it: where `advance()` is called, or by
a message to the run in which tasks wait. A callback that raises Ctrl-C, or the like, in
such a message has no caller. So the program sees that exception where Ctrl-C would be
raised, see `_blame.py`, as soon as the main task waits. Until then it is kept like a
failure, as the block of its timers may end before.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from math import inf
from typing import TYPE_CHECKING
from weakref import ref

import trio
from trio.lowlevel import add_instrument, current_trio_token, spawn_system_task

from .._alarm import LONG_AGO, ManualAlarm
from .._lock import RLock
from .._post import current_run, post
from ._blame import raise_in_program
from ._control_alarm import ControlAlarm
from ._trio_inside import is_about_to_go_on, main_task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from trio.lowlevel import TrioToken

    from .._activation import Activation
    from .._driver import ClockDriver
    from .._foreign_loop import LoopAlarm
    from .._timers import Timers
    from ._idleness import Idleness, NextStep
    from ._virtual_time import VirtualTime


class LoneAlarm(ManualAlarm):
    """Of a clock that no task drives: it knows when that has something to fire."""

    deadline = inf
    timers: Timers

    def __init__(self, keeper: StandAlone) -> None:
        super().__init__()
        self._keeper = keeper
        self.notes_origins = keeper.notes_origins
        # The run in which something waits for it.
        self._token: TrioToken | None = None
        # Holds the driver where the user is given none.
        self.driver: ClockDriver | None = None
        # The run that it was told of last, if that is over. (Not the token, which may
        # be another one just now: time may move in any thread.)
        self._over: TrioToken | None = None
        # Whether a caller lets it fire, which will look at the deadline afterwards.
        self._firing = False

    def bind(self, driver: ClockDriver, activation: Activation) -> None:
        super().bind(driver, activation)
        self.activation, self.timers = activation, activation.timers
        self._keeper.add(self)
        with suppress(RuntimeError):  # without Trio
            self.note_run()

    def move(self, deadline: float) -> None:
        self.deadline = deadline if deadline > LONG_AGO else LONG_AGO
        if not self._firing:
            self._keeper.alarm_moved(self.deadline)

    def note_run(self) -> None:
        self._token = current_trio_token()
        self._keeper.watch_this_run()

    def run(self) -> TrioToken | None:
        """Where it can be told that it is due."""
        run = self._token
        if run in (None, self._over) and self.timers.is_here():
            return current_run()
        return None if run is self._over else run

    def fire(self, now: float) -> None:
        """Fire what is due; what fails is kept, and Ctrl-C leaves at once.

        The caller looks at the deadline afterwards, and tells others.
        """
        try:
            self._firing = True
            self.timers.turn(now)
        finally:
            self._firing = False
            if self.deadline == inf:
                self.timers.life.end_if_unused()

    def _fire_if_due(self) -> None:
        timers, now = self.timers, self.timers.now()
        if self.deadline <= now and not timers.at_work and timers.is_usable():
            try:
                self.fire(now)
            except BaseException as exc:
                # No code of the user's has called this, so it goes where Ctrl-C would.
                failure = (None, exc)
                timers.failures.append(failure)
                self._raise_in_program(failure)
            self._keeper.alarm_moved(self.deadline)

    def _raise_in_program(self, failure: tuple[object, BaseException]) -> None:
        # Until then it is kept, as the block of the timers may end before.
        if failure in self.timers.failures:
            main = main_task()
            if raise_in_program(failure[1]):
                self.timers.failures.remove(failure)
            elif main is not None and is_about_to_go_on(main):
                post(current_trio_token(), partial(self._raise_in_program, failure))

    def fire_soon(self) -> None:
        run = self.run()
        if run is not None and not post(run, self._fire_if_due):
            self._over = run


class LoneLoopAlarm(LoneAlarm):
    """The same, of a clock whose driver a loop has that sleeps as it is told."""

    def __init__(self, keeper: StandAlone, loop: LoopAlarm) -> None:
        super().__init__(keeper)
        self._loop = loop

    def move(self, deadline: float) -> None:
        super().move(deadline)
        self._loop.move(deadline)

    tells = True

    def has_moved(self) -> None:
        self._loop.has_moved()

    def wake_soon(self) -> None:
        self._loop.wake_soon()


class StandAlone:
    """Tells these clocks that time has moved, and moves it when their runs are idle."""

    # Alarms ask whether they should say that their deadline has changed.
    waiting = True

    def __init__(
        self, time: VirtualTime, idleness: Idleness, wake_run: Callable[[], None]
    ) -> None:
        # The run whose clock the control is, while there is one: then time moves there.
        self.own_run: TrioToken | None = None
        self.notes_origins = idleness.detect_deadlocks
        # What was made last, if there have been any of these clocks at all. (No count,
        # as they are made in many threads.)
        self.newest: ref[LoneAlarm] | ref[ControlAlarm] | None = None
        self._time = time
        self._idleness = idleness
        self._wake_own_run = wake_run
        # Of the drivers in other runs; and those of them that are asleep.
        self._driven: list[ref[ControlAlarm]] = []
        self._asleep: dict[ControlAlarm, None] = {}
        # Of the clocks that no task drives, in the order in which they were made.
        self._lone: list[ref[LoneAlarm]] = []
        self._watchers: dict[TrioToken, _Watcher] = {}
        self._lock = RLock()

    def add(self, alarm: LoneAlarm) -> None:
        newest = ref(alarm, self._lone.remove)
        self._lone.append(newest)
        self.newest = newest

    def make_alarm(self) -> ControlAlarm:
        self.watch_this_run()
        alarm = ControlAlarm(self._asleep, self)
        newest = ref(alarm, self._driven.remove)
        self._driven.append(newest)
        self.newest = newest
        return alarm

    def here(self) -> list[LoneAlarm]:
        """Of the clocks that no task drives, those that may be used here."""
        # Those that are gone are nowhere.
        return [
            alarm
            for weak in tuple(self._lone)
            if (alarm := weak()) is not None
            and alarm.timers.life.alive
            and alarm.timers.is_here()
        ]

    def begin_run(self) -> bool:
        """The current run is to have this clock; tells whether it can."""
        with self._lock:
            if self.belong_to_another_run():
                return False
            self.own_run = current_trio_token()
            return True

    def end_run(self, run: TrioToken) -> None:
        with self._lock:
            if self.own_run is run:
                self.own_run = None

    def belong_to_another_run(self) -> bool:
        """Whether a run has this clock, and it is not the current one."""
        run = self.own_run
        return run not in (None, current_trio_token()) and post(run, int)

    def runs(self) -> set[TrioToken]:
        """The other runs in which a task waits."""
        return self._all_runs() - {current_trio_token()}

    def next_deadline(self) -> float:
        """The earliest deadline of which a driver or a run can be told."""
        deadlines = [alarm.deadline for alarm in tuple(self._asleep)]
        deadlines += [alarm.deadline for alarm in self._all_lone() if alarm.run()]
        return min(deadlines, default=inf)

    def states(self) -> list[Timers]:
        states = [alarm.timers for alarm in self._all_driven()]
        return states + [alarm.timers for alarm in self._all_lone()]

    def only_periodic(self) -> bool:
        states = [alarm.timers for alarm in tuple(self._asleep)]
        states += [alarm.timers for alarm in self._all_lone() if alarm.run()]
        return all(timers.only_periodic() for timers in states)

    def ring(self) -> None:
        """Time has moved: tell the drivers and runs in which something is due."""
        now = self._time.instant()
        for sleeping in tuple(self._asleep):
            if sleeping.deadline <= now:
                sleeping.wake_soon()
                self._forget_if_crashed(sleeping)
        for alarm in self._all_lone():
            if alarm.deadline <= now:
                alarm.fire_soon()
        self.look_again()

    def _forget_if_crashed(self, sleeping: ControlAlarm) -> None:
        if sleeping.is_over():
            self._asleep.pop(sleeping, None)

    def alarm_moved(self, deadline: float) -> None:
        self._wake_own_run()
        if self._time.is_about(deadline):
            self._time.go_to(deadline)
        if deadline <= self._time.instant():
            self.ring()
        else:
            self.look_again()

    def look_again(self) -> None:
        """The watchers should: deadlines or settings have changed."""
        for run, watcher in tuple(self._watchers.items()):
            post(run, watcher.look_again)

    def settings_changed(self) -> None:
        for run in self._all_runs():
            post(run, self.watch_this_run)
        self.look_again()

    def watch_this_run(self) -> None:
        """Begin to move time when this run has nothing to do, if that is wanted."""
        run = current_trio_token()
        wanted = self._idleness.threshold < inf or self._time.rate
        if wanted and self.own_run is None and run not in self._watchers:
            watcher = self._watchers[run] = _Watcher(self, self._time, self._idleness)
            try:
                spawn_system_task(watcher.watch, name="trio_clockrt autojump")
            except RuntimeError:  # the run is shutting down
                del self._watchers[run]
            else:
                add_instrument(watcher)

    def forget(self, watcher: _Watcher) -> None:
        for run, known in tuple(self._watchers.items()):
            if known is watcher:
                self._watchers.pop(run, None)
        self.look_again()  # perhaps only this run was not idle

    def jump(self) -> bool:
        """Go to the next deadline, if all runs are idle."""
        with self._lock:
            watchers = tuple(self._watchers.values())
            if (
                self.own_run
                or self._idleness.holds
                or not all(watcher.idle for watcher in watchers)
            ):
                return False
            for watcher in watchers:
                watcher.step = None  # until it has looked again
            for sleeping in tuple(self._asleep):
                self._forget_if_crashed(sleeping)
            self._time.go_to(self.next_deadline())
        self.ring()
        return True

    def _all_runs(self) -> set[TrioToken]:
        runs = {alarm._token for alarm in self._all_driven()}
        lone = (alarm.run() for alarm in self._all_lone())
        runs.update(run for run in lone if run is not None)
        return runs

    def is_awake(self, run: TrioToken) -> bool:
        """Whether a driver in this run has something to do."""
        return any(
            alarm.deadline == -inf and alarm._token == run
            for alarm in self._all_driven()
        )

    def _all_driven(self) -> Iterator[ControlAlarm]:
        for weak in tuple(self._driven):
            alarm = weak()
            if alarm is not None and alarm.timers.life.alive:
                yield alarm

    def _all_lone(self) -> Iterator[LoneAlarm]:
        for weak in tuple(self._lone):
            alarm = weak()
            if alarm is not None and alarm.timers.life.alive:
                yield alarm


class _Watcher(trio.abc.Instrument):
    """A system task that sees when a run, whose clock is another, is idle.

    As an instrument it is told of the end of the run, however that comes.
    """

    def __init__(self, keeper: StandAlone, time: VirtualTime, idleness: Idleness):
        self._keeper = keeper
        self._time = time
        self._idleness = idleness
        self._run = current_trio_token()
        self._scope = trio.CancelScope()
        self.step: NextStep | None = None

    @property
    def idle(self) -> bool:
        return self.step is not None and not self.step.taken

    def look_again(self) -> None:
        self._scope.cancel()

    async def watch(self) -> None:
        add_instrument(self._idleness.watch_tasks(self._is_waited_for))
        while True:
            with trio.CancelScope() as self._scope:
                await self._watch_once()

    def after_run(self) -> None:
        self._idleness.forget_run(self._run)
        self._keeper.forget(self)

    def _is_waited_for(self) -> bool:
        """Whether time would jump, and there is something to jump to, or to fire."""
        idleness, keeper = self._idleness, self._keeper
        return (
            idleness.threshold < inf
            and not idleness.holds
            and (keeper.next_deadline() < inf or keeper.is_awake(self._run))
        )

    async def _watch_once(self) -> None:
        deadline = self._keeper.next_deadline()
        if deadline == inf:
            await trio.sleep_forever()
        seconds = self._time.real_seconds_until(deadline)
        with trio.move_on_after(seconds) as due:
            if self._idleness.threshold == inf or self._idleness.holds:
                await trio.sleep_forever()
            await self._idleness.wait(then=self._jump)
        if due.cancelled_caught:
            self._keeper.ring()

    def _jump(self, step: NextStep) -> bool:
        self.step = step
        return self._keeper.jump()

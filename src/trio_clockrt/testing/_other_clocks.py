"""The clocks of a control that are not driven in the run whose clock the control is.

These are the clocks that no task drives, see `_caller_driven.py`, and those that
drivers in other runs drive. They are told when time has moved. Where no run has the
control as its clock, they also move the time, when all the runs that wait for it are
idle: see `_idle_watcher.py`.

Other threads add to these dictionaries and lists, and take out of them. So a look at
one copies it with `list`, which is one step, also without the GIL. (`tuple` is none.)
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING
from weakref import ref

from trio.lowlevel import add_instrument, current_trio_token, spawn_system_task

from .._lock import RLock
from .._post import is_running, post
from ._control_alarm import ControlAlarm
from ._idle_watcher import IdleWatcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from trio.lowlevel import TrioToken

    from .._timers import Timers
    from ._caller_driven import CallerDrivenAlarm
    from ._idleness import Idleness
    from ._virtual_time import VirtualTime


class OtherClocks:
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
        self.newest: ref[CallerDrivenAlarm] | ref[ControlAlarm] | None = None
        self._time = time
        self._idleness = idleness
        self._wake_own_run = wake_run
        # Of the drivers in other runs; and those of them that are asleep.
        self._driven: list[ref[ControlAlarm]] = []
        self._asleep: dict[ControlAlarm, None] = {}
        # Of the clocks that no task drives, in the order in which they were made.
        self._caller_driven: list[ref[CallerDrivenAlarm]] = []
        self._watchers: dict[TrioToken, IdleWatcher] = {}
        self._lock = RLock()

    def add(self, alarm: CallerDrivenAlarm) -> None:
        newest = ref(alarm, self._caller_driven.remove)
        self._caller_driven.append(newest)
        self.newest = newest

    def make_alarm(self) -> ControlAlarm:
        self.watch_this_run()
        return ControlAlarm(self._asleep, self)

    def add_driven(self, alarm: ControlAlarm) -> None:
        newest = ref(alarm, self._driven.remove)
        self._driven.append(newest)
        self.newest = newest

    def here(self) -> list[CallerDrivenAlarm]:
        """Of the clocks that no task drives, those that may be used here."""
        # Those that are gone are nowhere.
        return [
            alarm
            for weak in list(self._caller_driven)
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
        return run not in (None, current_trio_token()) and is_running(run)

    def runs(self) -> set[TrioToken]:
        """The other runs in which a task waits."""
        return self._all_runs() - {current_trio_token()}

    def next_deadline(self) -> float:
        """The earliest deadline of which a driver or a run can be told."""
        deadlines = [alarm.deadline for alarm in list(self._asleep)]
        deadlines += [
            alarm.deadline for alarm in self._all_caller_driven() if alarm.run()
        ]
        return min(deadlines, default=inf)

    def states(self) -> list[Timers]:
        states = [alarm.timers for alarm in self._all_driven()]
        return states + [alarm.timers for alarm in self._all_caller_driven()]

    def only_periodic(self) -> bool:
        states = [alarm.timers for alarm in list(self._asleep)]
        states += [alarm.timers for alarm in self._all_caller_driven() if alarm.run()]
        return all(timers.only_periodic() for timers in states)

    def wake_due(self) -> None:
        """Time has moved: tell the drivers and runs in which something is due."""
        now = self._time.instant()
        for sleeping in list(self._asleep):
            if sleeping.deadline <= now:
                sleeping.wake_soon()
                self._forget_if_crashed(sleeping)
        for alarm in self._all_caller_driven():
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
            self.wake_due()
        else:
            self.look_again()

    def look_again(self) -> None:
        """The watchers should: deadlines or settings have changed."""
        for run, watcher in list(self._watchers.items()):
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
            watcher = self._watchers[run] = IdleWatcher(
                self, self._time, self._idleness
            )
            try:
                spawn_system_task(watcher.watch, name="trio_clockrt autojump")
            except RuntimeError:  # the run is shutting down
                del self._watchers[run]
            else:
                add_instrument(watcher)

    def forget(self, watcher: IdleWatcher) -> None:
        for run, known in list(self._watchers.items()):
            if known is watcher:
                self._watchers.pop(run, None)
        self.look_again()  # perhaps only this run was not idle

    def jump(self) -> bool:
        """Go to the next deadline, if all runs are idle."""
        with self._lock:
            watchers = list(self._watchers.values())
            if (
                self.own_run
                or self._idleness.holds
                or not all(watcher.idle for watcher in watchers)
            ):
                return False
            for watcher in watchers:
                watcher.step = None  # until it has looked again
            for sleeping in list(self._asleep):
                self._forget_if_crashed(sleeping)
            self._time.go_to(self.next_deadline())
        self.wake_due()
        return True

    def _all_runs(self) -> set[TrioToken]:
        runs = {alarm._token for alarm in self._all_driven()}
        lone = (alarm.run() for alarm in self._all_caller_driven())
        runs.update(run for run in lone if run is not None)
        return runs

    def is_awake(self, run: TrioToken) -> bool:
        """Whether a driver in this run has something to do."""
        return any(
            alarm.deadline == -inf and alarm._token == run
            for alarm in self._all_driven()
        )

    def _all_driven(self) -> Iterator[ControlAlarm]:
        for weak in list(self._driven):
            alarm = weak()
            if alarm is not None and alarm.timers.life.alive:
                yield alarm

    def _all_caller_driven(self) -> Iterator[CallerDrivenAlarm]:
        for weak in list(self._caller_driven):
            alarm = weak()
            if alarm is not None and alarm.timers.life.alive:
                yield alarm

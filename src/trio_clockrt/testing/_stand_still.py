"""Virtual time that stands still although it should move: people are told.

While a task never waits, Trio does not ask the clock. So the instrument counts the
passes of Trio's loop since Trio has asked last, and looks at the real clock each 32
passes. The tasks that are about to go on at that moment are named.

A callback that sets a timer for now, again and again, keeps the driver busy, whose name
tells people nothing. So a report names the timers that are due. While a move by hand
waits for the program to settle, timers that fire and passes of Trio's loop are counted;
after 100,000 of both, the move ends with an error. (Very many timers of one instant are
no chain: they fire in a few passes.) For this count, a run is idle only if no timer was
due when Trio asked how long to wait.

A run that nothing known will wake is told of after ten seconds. If a task has gone on
by then, the ten seconds begin anew.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

import trio
from trio.lowlevel import add_instrument, remove_instrument

from ._blame import first_task, raise_in_program, with_children
from ._report import all_tasks, place, place_of
from ._terminal import note_ctrl_c, tell
from ._trio_inside import (
    ctrl_c_is_pending,
    is_about_to_go_on,
    main_task,
    next_deadline_if_idle,
)
from ._worker_threads import AbandonWorkers, busy_workers, what_it_waits_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import FrameType

    from trio.lowlevel import Task

    from ._report import Reporter
    from ._virtual_time import VirtualTime

# After how many passes of Trio's loop to look at the real time.
PASSES = 32
# While time stands still, so many timers may fire, one in each pass of Trio's loop.
_MOST_FIRED = 100_000
# A run that nothing known will wake is told of after so many real seconds. (A message
# of a thread, or a signal, may still be on its way.)
SILENT = 10.0
# People are told again after so many real seconds.
_AGAIN = 10.0
# So many tasks are named.
_NAMED = 10
_SILENCE = (
    "If it is just working, all is well, and the warning filter 'ignore:virtual time "
    "has been standing still' silences this."
)


class StandStill:
    """Since when time has been standing still in a run, and when people were told."""

    def __init__(
        self, time: VirtualTime, real: Callable[[], float], reporter: Reporter
    ) -> None:
        self._time = time
        self._real = real
        self._reporter = reporter
        self.begin()

    def begin(self) -> None:
        self._at = self._time.now()
        self._since = self._real()
        self._warned = False
        # Never, so far.
        self._told_at = self._said_at = -inf

    def end(self) -> None:
        self._at = -inf

    @property
    def lasts(self) -> bool:
        return self._at == self._time.now()

    def seconds_left(self, patience: float) -> float:
        """Until people are to be told; it begins now, unless it has begun already."""
        if not self.lasts:
            self.begin()
        return max(self._since + patience, self._told_at + _AGAIN) - self._real()

    def tell(
        self, reasons: Iterable[tuple[str, FrameType]], *, warning: bool = True
    ) -> None:
        """Say why, and once, if asked to, with a warning.

        Raises:
            RuntimeWarning: if warnings are errors.
        """
        now = self._real()
        seconds = now - self._since
        how_long = "a second" if seconds < 2 else f"{seconds:.0f} seconds"
        warning, self._warned = warning and not self._warned, warning or self._warned
        aloud = now >= self._said_at + _AGAIN
        self._told_at = now
        if aloud:
            self._said_at = now
        for reason, frame in reasons:
            tell(
                f"virtual time has been standing still for {how_long} of real time "
                f"(seed {self._reporter.seed}), as {reason}",
                frame,
                warning=warning,
                aloud=aloud,
            )

    def warn_again(self, after: float) -> None:
        """No task could be told of the warning, an error; it is to be tried again."""
        self._warned = False
        self._told_at = self._real() + after - _AGAIN


class WorkersAreBusy(StandStill, trio.abc.Instrument):
    """The current run waits for worker threads.

    One Ctrl-C is to end that. Trio can only cancel the task that waits for a worker,
    which then waits all the same. So from then on, until the run ends, such a task
    does not wait for its worker any more.
    """

    def __init__(
        self, time: VirtualTime, real: Callable[[], float], reporter: Reporter
    ) -> None:
        super().__init__(time, real, reporter)
        add_instrument(self)

    def after_io_wait(self, timeout: float) -> None:  # noqa: ARG002
        if self.lasts and ctrl_c_is_pending() and busy_workers():
            remove_instrument(self)
            note_ctrl_c()
            AbandonWorkers(all_tasks, KeyboardInterrupt())

    def tell_of(self, tasks: Iterable[Task], *, warning: bool) -> None:
        self.tell(map(_why_workers, tasks), warning=warning)


class NothingHappens(StandStill):
    """The run waits, and nothing is known that could wake it."""

    def tell_why(self, hint: str) -> None:
        reason = (
            f"nothing is known that will ever wake this program; {hint}. With "
            f"detect_deadlocks=True this is an error:{self._reporter.report()}"
        )
        self.tell([(reason, place_of(first_task()))], warning=False)


class TasksGoOn(StandStill, trio.abc.Instrument):
    """There is always a task of the run that can go on, so the run is never idle.

    As an instrument it counts the passes of Trio's loop itself; otherwise the
    caller counts them and calls `look`.

    Args:
        patience: For how many real seconds this may last before people are told.
        wanted: Whether time should move if the run were idle.
        endless: Called with how many timers have fired, if that seems to be for ever.
    """

    def __init__(
        self,
        time: VirtualTime,
        real: Callable[[], float],
        reporter: Reporter,
        patience: float,
        wanted: Callable[[], bool],
        endless: Callable[[int], None],
    ) -> None:
        super().__init__(time, real, reporter)
        self._patience = patience
        self._wanted = wanted
        self._endless = endless
        self._passes = 0
        self._fired_before = 0

    def begin(self) -> None:
        super().begin()
        self._looks = 0
        self._fired = self._reporter.fired()

    def before_io_wait(self, timeout: float) -> None:  # noqa: ARG002
        if next_deadline_if_idle() > -inf:
            # A timer that is set for now may wake its driver by a message.
            fired, before = self._reporter.fired(), self._fired_before
            self._fired_before = fired
            if fired == before:
                self._passes = 0
                return
        self._passes += 1
        if not self._passes % PASSES:
            self.look(self._passes)

    def look(self, passes: int) -> None:
        """So many passes of Trio's loop have gone by since the run was idle."""
        if passes == PASSES or not (self.lasts and self._wanted()):
            self.begin()
            return
        self._looks += 1
        if self._looks * PASSES > _MOST_FIRED:
            fired = self._reporter.fired() - self._fired
            if fired > _MOST_FIRED:
                self._endless(fired)
        if self.seconds_left(self._patience) <= 0:
            tasks = [task for task in all_tasks() if is_about_to_go_on(task)]
            try:
                self.tell([_why_tasks(tasks, self._reporter)])
            except Exception as error:  # a warning, where they are errors
                if raise_in_program(error, never_wait=tasks):
                    return
                self.warn_again(self._patience)


def _why_workers(task: Task) -> tuple[str, FrameType]:
    what, frame = what_it_waits_for(task)
    reason = (
        f"the task {task.name!r} waits for {what} in a worker thread. {_SILENCE} If it "
        "waits for something that only happens in virtual time, it will wait for ever: "
        "say ClockControl(ignore_threads=True), or move the time by hand. (Ctrl-C and "
        "fail_after_real() end the wait, and leave the thread as it is.)"
    )
    return reason, frame


def _why_tasks(tasks: list[Task], reporter: Reporter) -> tuple[str, FrameType]:
    timers = reporter.due()
    frame = place_of((tasks or [first_task()])[0])
    if timers:
        # Their driver goes on as well, and is no task of the user's.
        tasks = [task for task in tasks if task in set(with_children(main_task()))]
    reasons, advice = list[str](), list[str]()
    if timers:
        reasons.append(f"a timer is due all the time: {'; '.join(timers)}")
        advice.append("If a callback sets a timer for now, let it be a moment later")
    if tasks or not timers:
        named = [f"{task.name!r} {place(place_of(task))}" for task in tasks[:_NAMED]]
        reasons.append(f"there is always a task that can go on: {'; '.join(named)}")
        advice.append(
            "If it waits for a time, it will wait for ever, as time only moves when no "
            "task can go on: let it sleep for more than 0 seconds, or until then"
        )
    return f"{'; and '.join(reasons)}. {_SILENCE} {'. '.join(advice)}", frame

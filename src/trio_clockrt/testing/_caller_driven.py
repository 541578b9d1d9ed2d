"""The alarm of a control's clock that no task drives.

What no task drives fires in the thread that made the clock: where `advance()` is
called, or by a message to the run in which tasks wait. A callback that raises Ctrl-C,
or the like, in such a message has no caller. So the program sees that exception where
Ctrl-C would be raised, see `_blame.py`, as soon as the main task waits. Until then it
is kept like a failure, as the block of its timers may end before.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from math import inf
from typing import TYPE_CHECKING

from trio.lowlevel import current_trio_token

from .._alarm import LONG_AGO, ManualAlarm
from .._post import current_run, post
from ._blame import raise_in_program
from ._trio_inside import is_about_to_go_on, main_task

if TYPE_CHECKING:
    from trio.lowlevel import TrioToken

    from .._activation import Activation
    from .._driver import ClockDriver
    from .._foreign_loop import LoopAlarm
    from .._timers import Timers
    from ._other_clocks import OtherClocks


class CallerDrivenAlarm(ManualAlarm):
    """Of a clock that no task drives: it knows when that has something to fire."""

    deadline = inf
    timers: Timers

    def __init__(self, mover: OtherClocks) -> None:
        super().__init__()
        self._mover = mover
        self.notes_origins = mover.notes_origins
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
        self._mover.add(self)
        with suppress(RuntimeError):  # without Trio
            self.note_run()

    def move(self, deadline: float) -> None:
        self.deadline = deadline if deadline > LONG_AGO else LONG_AGO
        if not self._firing:
            self._mover.alarm_moved(self.deadline)

    def note_run(self) -> None:
        self._token = current_trio_token()
        self._mover.watch_this_run()

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
            self._mover.alarm_moved(self.deadline)

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


class CallerDrivenLoopAlarm(CallerDrivenAlarm):
    """The same, of a clock whose driver a loop has that sleeps as it is told."""

    def __init__(self, mover: OtherClocks, loop: LoopAlarm) -> None:
        super().__init__(mover)
        self._loop = loop

    def move(self, deadline: float) -> None:
        super().move(deadline)
        self._loop.move(deadline)

    tells = True

    def has_moved(self) -> None:
        self._loop.has_moved()

    def wake_soon(self) -> None:
        self._loop.wake_soon()

"""To fire: a pass over what is due, and the tasks that only have to be woken.

A *pass* fires what was due when it began. It has a limit: the number of the last
registration before it. What is registered later, for now or for the past, is set aside
when it comes up, and goes back when the pass is over. So a callback that sets a timer
for now cannot keep others waiting, and a pass may pause: the driver fires for a
millisecond of its own clock, or so many timers, and other tasks get a turn. A caller
that drives a clock decides about turns itself, so there a pass fires all.

Outside of Trio, Ctrl-C may interrupt each line. What was going on is lost then, and
nothing else: an entry that was taken out of the queue and not claimed goes back, and
the pass ends. Whether the clock is in use is asked of the dictionaries, and never of a
count.

Tasks are woken in a second loop, `Timers.wake_sleepers`. The alarm calls that loop from
inside Trio's loop, where no callback may run. So the driver's task need not go on for
each wake-up: a delay of one task alone takes 10.6 us of CPU time in place of 18.3, and
one of 100 tasks at once 3.4 in place of 3.7 (CPython 3.11).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._inbox import Inbox
from ._pending import TASKS

if TYPE_CHECKING:
    from ._queue import Entry

# A driver lets other tasks run after so many timers or so many seconds on its own
# clock, whichever comes first. (Virtual time stands still while timers fire, so there
# it is always the number, and a run can be repeated.)
TIMERS_PER_TURN = 1024
SECONDS_PER_TURN = 0.001

# Reading a clock costs a good part of waking a task. After code that is not ours the
# clock is always read, as that may have taken any time.
_QUICK_TIMERS_PER_READING = 16

_NONE: dict[int, Any] = {}


class Timers(Inbox):
    """The pending timers and waiters of one activation, which fire."""

    busy: bool
    firing: bool
    fired: int
    lateness_max: float
    defect: BaseException | None

    def _take_turn(self) -> None:
        try:
            self.fire_due(None)
        except BaseException as exc:
            # Here this would be a crash of the whole run.
            self.defect = exc
            self.alarm.wake_soon()

    def fire_due(self, now: float | None) -> None:
        """Take a turn: fire what is due, or as much of it as fits into one."""
        self.check_place()
        if self.at_work:
            raise RuntimeError(
                "advance_timers() was called from inside a timer's callback; timers "
                "that are due now fire when the callback has returned"
            )
        if self.defect is not None:
            raise self.defect
        begin = self.now()
        if now is not None and now > begin:
            raise ValueError(
                f"`now` must not be ahead of the clock, which is at {begin!r}, but it "
                f"is {now!r}; leave it out to fire what is due"
            )
        self.turn(begin, now)

    def turn(self, begin: float, until: float | None = None) -> None:
        """The same, where it is certain that this is the place and the moment.

        Args:
            begin: The time now.
            until: Begin a new pass, and fire what is due at this instant.
        """
        try:
            self.firing = self.busy = True
            if until is not None:
                self._end_pass()
            if self._until is None:
                self._limit = self.numbers.other()
                self._until = begin if until is None else until
            self._turn(begin)
            self.busy = True
            if self.place is not None:
                self._move_alarm()
        except BaseException:
            # Outside of Trio: Ctrl-C, or something like it from a callback.
            self.busy = True
            self._end_pass()
            self.inbox.append(None)
            raise
        finally:
            self.firing = self.busy = False
            if self.alarm.tells or self._has_mail():
                self.rearm()

    def _turn(self, begin: float) -> None:
        queue, groups, lateness = self.queue, self.groups, self.lateness
        until, limit, reading, done = self._until, self._limit, begin, 0
        assert until is not None
        entry: Entry | None = None
        try:
            while True:
                if self.inbox:
                    self._drain()
                entry = queue.pop(until)
                if entry is None:
                    self._end_pass()
                    return
                when, seq, group = entry
                if seq > limit:
                    self._aside.append(entry)
                    continue
                waiters = groups.get(group, _NONE)
                waiter = waiters.get(seq)
                if waiter is None:
                    queue.dead -= 1
                    continue
                if waiter._detour:
                    if not waiter._comes_up(seq):
                        continue
                elif waiters.pop(seq, None) is None:
                    continue
                done += 1
                self.fired += 1
                late = reading - when
                lateness.append(late)
                if late > self.lateness_max:
                    self.lateness_max = late
                self.busy = False
                slow = waiter._fire()
                if slow or not done % _QUICK_TIMERS_PER_READING:
                    if self.place is None:
                        return  # a callback has forked this process off, say
                    reading = self.now()
                    if self.has_driver_task and (
                        done >= TIMERS_PER_TURN or reading - begin > SECONDS_PER_TURN
                    ):
                        return
                self.busy = True
        except BaseException:
            # What has been taken out of the queue, and not claimed yet.
            if entry is not None and queue.is_alive(entry):
                queue.push(entry)
            raise

    def _end_pass(self) -> None:
        self._until = None
        if self._aside:
            aside, self._aside = self._aside, []
            for entry in aside:
                self.queue.push(entry)

    def wake_sleepers(self, now: float) -> bool:
        """The deadline has come: do what can be done without a turn of the driver's.

        That is, wake the tasks that wait, if nothing else is due: no task may go on
        before the callbacks that come before it, or with it, nor before the clock is
        gone, if nothing uses it but these. Tells whether that was all there is to do.
        """
        if self._until is not None or self.busy or self.lock or not self.life.owners:
            return False
        queue, tasks = self.queue, self.tasks
        due: list[Entry] = []
        try:
            self.busy = True
            while (entry := queue.pop(now)) is not None:
                if entry[2] == TASKS:
                    due.append(entry)
                    if len(due) <= TIMERS_PER_TURN:
                        continue
                elif queue.is_alive(entry):
                    due.append(entry)
                else:
                    queue.dead -= 1
                    continue
                for put_back in due:
                    queue.push(put_back)
                return False
            # The code that wakes them does not have to be told.
            self.alarm.deadline = self._first_deadline()
        finally:
            self.busy = False
        for when, seq, _ in due:
            waiter = tasks.pop(seq, None)
            if waiter is None:
                queue.dead -= 1
            else:
                self.fired += 1
                late = now - when
                self.lateness.append(late)
                if late > self.lateness_max:
                    self.lateness_max = late
                waiter._fire()
        if self.inbox:
            self.rearm()
        return True

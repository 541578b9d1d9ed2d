"""What is pending on a clock: to file, to cancel, to fire.

Each timer, and each task or thread that waits, has a number. The number is a key in the
dictionary of its group, which is `Timers.tasks` for all that is no timer, and it is in
an entry of the queue: see `_queue.py`. To take the key out is to claim the entry. Each
change of these dictionaries is one step, so any thread that may use the clock changes
them, at any moment, and a timer fires once or is cancelled once. Two things need more
care: the queue, beyond a `heappush`, and the deadline of the driver's alarm. One piece
of code at a time works on these, in the clock's place, and sets the flag `busy`.

So there is an *inbox*, a deque. A thread elsewhere leaves a message there, and so does
a finalizer or a signal handler that has interrupted the busy code. A message is an
entry to be filed, the deadline of an entry that has died, or None: look at the alarm
again. The busy code clears the flag first, and looks into the inbox then. So either
that look finds the message, or the flag was clear already, and the sender of the
message does the work.

Another thread leaves its message first, and then compares it with the alarm's deadline.
The place moves that deadline first, and looks into the inbox then. If the look finds
nothing, the deadline was moved before the message was left. Then the other thread sees
the new deadline, and tells the place. This takes two things of the threads: that a look
at an empty deque and an `append` to it come one after the other, and that a thread sees
what the other had done before. Without the GIL, the lock of the deque gives both, if
both sides take it. `bool` does not, so the last look calls `rotate(0)` before, which
does nothing else. With the GIL there is nothing to ask for.

A message is taken out of the inbox after it has been read. Outside of Trio, Ctrl-C may
come in between, and a message that is read twice does no harm, while a lost one would
be a timer that never fires. Several threads can leave more than one thread can read. So
no code reads until the inbox is empty: it reads what was there when it began, and a
thread that finds very many messages pauses for a moment. What another thread has set
for now fires where its message is read, as to wake the driver's task takes two passes
more of Trio's loop. (The usual way is a lock around the queue. But a finalizer may run
under that lock and ask for it again, or for a lock of a thread that waits for this
one.)

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

On a shared clock there is one lock more, `Timers.lock`, for a timer that changes
together with its key: another thread may reset the timer at the same moment. No message
is posted under that lock, as Trio takes a lock of its own for messages.
"""

from __future__ import annotations

from collections import deque
from heapq import heappush
from math import inf, nan
from sys import maxsize
from time import sleep
from typing import TYPE_CHECKING, Any, Protocol

from ._errors import ClockGone
from ._failures import Failures
from ._lifetime import Lifetime
from ._lock import RLock
from ._numbers import Numbers
from ._place import Place
from ._queue import FEW, RUN, Entry, Queue

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio.lowlevel import TrioToken

# A driver lets other tasks run after so many timers or so many seconds on its own
# clock, whichever comes first. (Virtual time stands still while timers fire, so there
# it is always the number, and a run can be repeated.)
TIMERS_PER_TURN = 1024
SECONDS_PER_TURN = 0.001

# Reading a clock costs a good part of waking a task. After code that is not ours the
# clock is always read, as that may have taken any time.
_QUICK_TIMERS_PER_READING = 16

# How many of the timers that fired last the percentiles of lateness are about.
_LATENESS_SAMPLES = 1024

# So many may be in the inbox until the place has something else to do; and so many are
# read in a message, before others in the place get a turn.
_MESSAGES = 1024

# How often to look into the inbox again before something else has its turn.
_LOOKS = 4

# A thread that leaves more than twice as many pauses each time, for so many seconds or
# the shortest sleep there is, as several threads can leave more than one can read.
_PAUSE = 1e-6

#: The number of the group of what is no timer.
TASKS = 0

_NONE: dict[int, Any] = {}

# The place of a clock that may be used anywhere.
_ANYWHERE = object()


def _anywhere() -> object:
    return _ANYWHERE


class Waiter(Protocol):
    """What has an entry in the queue. None of these methods raises."""

    when: float
    _seq: int

    @property
    def _run(self) -> TrioToken | None: ...

    @property
    def _only_wakes(self) -> bool:
        """Whether firing it only wakes a task, and does nothing else."""
        ...

    @property
    def _periodic(self) -> bool:
        """Whether it comes again and again, and nothing waits for it in particular."""
        ...

    @property
    def _detour(self) -> int:
        """0 for all but timers, which may have to be asked: see `Timer`."""
        ...

    def _fire(self) -> bool:
        """Do what is due, and tell whether that ran any code of the user's."""
        ...

    def _clock_gone(self) -> None: ...

    def _give_up(self) -> None: ...


class Alarm(Protocol):
    """What wakes the driver. While the driver is awake the deadline is ``-inf``."""

    deadline: float
    # Whether timers are to remember where they were made, which reports tell.
    notes_origins: bool
    # Whether to say when it has moved, and nothing is busy any more.
    tells: bool

    def move(self, deadline: float) -> None: ...

    def has_moved(self) -> None:
        """This may raise."""
        ...

    def wake_soon(self) -> None:
        """Wake the driver, if it is asleep: from any thread, and at any moment."""
        ...

    def is_over(self) -> bool:
        """Whether the driver has gone without a word."""
        ...

    def tell(self, fn: Callable[[], object]) -> None:
        """Have it called in the clock's place, from another one."""
        ...

    def note_run(self) -> None:
        """Something is going to wait in the Trio run that is here."""
        ...


class Timers:
    """The pending timers and waiters of one activation.

    Args:
        now: Tells the instant.
        place: Where this is.
        alarm: What wakes the driver.
        has_driver_task: Whether a Trio task drives the clock, or else a caller.
        shared: Whether it may be used anywhere, and not only in its place.
    """

    def __init__(
        self,
        now: Callable[[], float],
        place: Place,
        alarm: Alarm,
        *,
        has_driver_task: bool,
        shared: bool,
    ) -> None:
        self.now = now
        self.alarm = alarm
        self.has_driver_task = has_driver_task
        # Whether only tasks of the driver's own run can wait.
        self.in_one_run = has_driver_task and not shared
        self.is_here = place.is_here
        self.made_in = place.this
        # What tells whether timers may be used here, compared with...
        self.current: Callable[[], object] = place.current
        # ...this, which is None once the clock is gone.
        self.place: object | None = place.this
        # For timers that change together with their entries.
        self.lock: RLock | None = RLock() if shared else None
        if shared:
            self.current, self.place = _anywhere, _ANYWHERE
        self.numbers = Numbers(self.lock)
        self.number = self.numbers.next
        self.tasks: dict[int, Waiter] = {}
        self.groups: dict[int, dict[int, Any]] = {TASKS: self.tasks}
        self.queue = Queue(self.groups)
        self.inbox: deque[Entry | float | None] = deque()
        self.busy = False
        self.firing = False
        # Of the pass that is under way, if any: up to which instant and which number it
        # fires, and what is set aside.
        self._until: float | None = None
        self._limit = 0
        self._aside: list[Entry] = []
        self.failures = Failures()
        self.defect: BaseException | None = None
        self.life = Lifetime(self, alarm.wake_soon)
        self.fired = 0
        self.lateness: deque[float] = deque(maxlen=_LATENESS_SAMPLES)
        self.lateness_max: float = 0.0

    # --- whether they may be used ---

    def check(self) -> None:
        """Refuse, unless a timer may be used here and now."""
        try:
            if self.current() is self.place:
                return
        except RuntimeError:
            pass
        # A run that has crashed, or that its host has dropped, could not say so.
        if self.place is not None and self.alarm.is_over():
            self.life.end("its Trio run crashed, or was dropped")
        if self.place is None:
            raise self.life.gone()
        raise RuntimeError(
            "this clock's timers can only be used from the thread that activated it, "
            + (
                "and in that Trio run. From a worker thread, use "
                "trio.from_thread.run_sync(); in another run, activate another clock. "
                if self.has_driver_task
                else "whose loop calls advance_timers(). "
            )
            + "A clock for many threads comes from InactiveClock.new_shared()"
        )

    @property
    def at_work(self) -> bool:
        """Whether a callback, or what has interrupted the work, is asking."""
        return self.firing or self.busy

    def is_usable(self) -> bool:
        """Refuse if a timer may not be used here; False if the clock is gone."""
        try:
            self.check()
        except ClockGone:
            return False
        return True

    def check_place(self) -> None:
        """Refuse, unless the driver may be used here and now."""
        self.check()
        if self.lock and not self.is_here():
            place = "Trio run" if self.has_driver_task else "thread"
            raise RuntimeError(
                "the driver of a shared clock can only be used where the clock was "
                f"activated, in that {place}; the clock itself can be used anywhere"
            )

    # --- to register, and to cancel ---

    def add(self, waiter: Waiter) -> None:
        """Register what is no timer, after a `check`."""
        waiter._seq = seq = self.number()
        self.tasks[seq] = waiter
        if self.place is None and self.tasks.pop(seq, None) is not None:
            raise self.life.gone()  # meanwhile
        try:
            self.file(waiter.when, seq, TASKS)
        except BaseException:  # what is told of an earlier deadline, or Ctrl-C
            waiter._give_up()
            raise

    def discard(self, waiter: Waiter) -> bool:
        """Claim it, unless something else has; tells whether it was there."""
        if self.tasks.pop(waiter._seq, None) is None:
            return False
        self.killed(waiter.when)
        return True

    def file(self, when: float, seq: int, group: int) -> None:
        """It has a number in its group: now it gets an entry."""
        entry = when, seq, group
        if self.busy or (self.lock and not self.is_here()):
            self._leave(entry, when)
            return
        if len(self.queue.new) < RUN:
            heappush(self.queue.new, entry)
        else:
            try:
                self.busy = True
                self.queue.push(entry)
            finally:
                self.busy = False
        alarm = self.alarm
        if when < alarm.deadline or self.inbox:
            try:
                self.busy = True
                # Asked again, as a finalizer may have set an earlier one just now.
                if when < alarm.deadline:
                    alarm.move(when)
            finally:
                self.busy = False
            if self.inbox:
                self._look_again()
            if alarm.tells:
                # In the call that has set the timer: it gets what this raises.
                alarm.has_moved()

    def refile(self, when: float, seq: int, group: int) -> None:
        """The same, in the middle of the work on the queue."""
        heappush(self.queue.new, (when, seq, group))

    def killed(self, filed: float, how_many: int = 1) -> None:
        """Entries have been claimed, the first of which is filed for this deadline."""
        if self.lock and not self.is_here():
            # (One is enough: to count them exactly is not worth a message each.)
            # (Nothing makes a loop that is not Trio's sleep for longer.)
            self._leave(filed, filed if self.has_driver_task else nan)
            return
        queue = self.queue
        queue.dead += how_many
        if self.busy:
            self.inbox.append(None)
            return
        if queue.dead > FEW:
            try:
                self.busy = True
                queue.sweep_if_worth_it()
            finally:
                self.busy = False
        if filed <= self.alarm.deadline or self.inbox:
            self.rearm()

    def _leave(self, what: Entry | float, when: float) -> None:
        self.inbox.append(what)
        if self.is_here():
            return  # the busy code, which this has interrupted, looks
        # In this order: see the head of this file.
        deadline, crowd = self.alarm.deadline, len(self.inbox)
        urgent = when < deadline or (when == deadline and what is when)
        if urgent or crowd > _MESSAGES:
            self.alarm.tell(self.read)
            if self.has_driver_task and crowd > 2 * _MESSAGES:
                sleep(_PAUSE)
        elif not (self.has_driver_task or self.life.owners):
            # That was perhaps the last thing to wait for: only the driver can tell.
            self.alarm.wake_soon()

    # --- the place ---

    def rearm(self) -> None:
        """Let the alarm ring at the first deadline."""
        self._look_again()
        if self.alarm.tells:
            self.failures.keep(self.alarm.has_moved)

    def _look_again(self) -> None:
        """Read the inbox, and move the alarm."""
        for _ in range(_LOOKS):
            if self.place is None or self.busy:
                return
            try:
                self.busy = True
                if self.inbox:
                    self._drain()
                self._move_alarm()
            finally:
                self.busy = False
            if not self._has_mail():
                return
        # Other threads may go on without an end.
        self.alarm.tell(self.read)

    def _has_mail(self) -> bool:
        """Whether there is anything in the inbox; see above."""
        if self.lock is None:
            return bool(self.inbox)  # what leaves it has interrupted this very thread
        self.inbox.rotate(0)
        return bool(self.inbox)

    def _drain(self, at_most: int = maxsize) -> bool:
        """Read what is in the inbox; tells whether there was any."""
        inbox, queue = self.inbox, self.queue
        # No more than that, as other threads may go on without an end.
        how_many = min(len(inbox), at_most)
        for _ in range(how_many):
            item = inbox[0]
            if type(item) is tuple:
                queue.push(item)
            elif item is not None:
                queue.dead += 1
            # Only now, as Ctrl-C, outside of Trio, must not lose what another thread
            # has left. An entry that is filed twice does no harm.
            inbox.popleft()
        queue.sweep_if_worth_it()
        return how_many > 0

    def _move_alarm(self) -> None:
        alarm = self.alarm
        if alarm.deadline != -inf:
            deadline = self._first_deadline()
            if deadline != alarm.deadline:
                alarm.move(deadline)
            if deadline == inf:
                self.life.look_if_unused()

    def _first_deadline(self) -> float:
        """The first deadline of what is alive, exactly; infinity if there is none."""
        queue, groups, until = self.queue, self.groups, self._until
        deadline = inf
        while (entry := queue.first()) is not None:
            when, seq, group = entry
            waiter = groups.get(group, _NONE).get(seq)
            if waiter is not None and waiter._detour <= 0:
                if until is None or when > until:
                    deadline = when
                    break
                if seq <= self._limit:
                    return when
                self._aside.append(entry)
            queue.pop()
            if waiter is None:
                queue.dead -= 1
            elif waiter._detour > 0:
                waiter._file_later(seq)
        if not self._aside:
            return deadline
        # What has been set aside comes when the pass has nothing left.
        aside = [entry[0] for entry in self._aside if queue.is_alive(entry)]
        return min(aside, default=deadline)

    def read(self) -> None:
        """Another thread has left something that the place has to know of."""
        if self.place is None or self.busy:
            return
        if len(self.inbox) > _MESSAGES:
            try:
                self.busy = True
                self._drain(_MESSAGES)
            finally:
                self.busy = False
            self.alarm.tell(self.read)
        # (A driver that is awake looks before it sleeps.)
        elif self.alarm.deadline != -inf:
            self.rearm()
            if self.alarm.deadline <= self.now():
                self._take_turn()

    def _take_turn(self) -> None:
        """Fire what is due without the driver's task, which would wake up later."""
        try:
            self.fire_due(None)
        except BaseException as exc:
            # Here this would be a crash of the whole run.
            self.defect = exc
            self.alarm.wake_soon()

    def next_deadline(self) -> float:
        """The first deadline, of the queue and the inbox."""
        if self.busy:
            raise RuntimeError("next_deadline is not known while timers are changing")
        found = False
        try:
            self.busy = True
            found = self._drain()
            return self._first_deadline()
        finally:
            self.busy = False
            if found or self.inbox:
                self.rearm()

    # --- to fire ---

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
        """The alarm rings: do what can be done without a turn of the driver's.

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
            # What rings does not have to be told.
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

    # --- what there is ---

    def any_pending(self) -> bool:
        return any(list(self.groups.values()))

    def waiters(self) -> list[Waiter]:
        """All that is pending, in no order; from any thread."""
        groups = list(self.groups.values())
        return [waiter for group in groups for waiter in list(group.values())]

    def only_periodic(self) -> bool:
        """Whether nothing is pending but what comes again and again."""
        return all(waiter._periodic for waiter in self.waiters())

    def counts(self) -> tuple[int, int, int, int]:
        """How many are pending, and have been registered, fired and cancelled."""
        registered, fired = self.numbers.registered(), self.fired
        pending = sum(map(len, list(self.groups.values())))
        return pending, registered, fired, registered - fired - pending

    def new_group(self, pending: dict[int, Any]) -> int:
        """The number of a group whose timers are in this dictionary."""
        number = self.numbers.other()
        self.groups[number] = pending
        return number

    def forget_all(self) -> None:
        """The clock is gone. From any thread, and at any moment."""
        self.groups.clear()
        # Not cleared, as the place may be busy with them.
        self.queue, self.inbox = Queue(self.groups), deque()

    def forked(self) -> None:
        self.tasks.clear()
        self.forget_all()
        if self.lock:
            self.lock = RLock()  # the thread that had it is in the other process

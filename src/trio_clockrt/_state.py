"""One activation of a clock: what its owners, its timers and its driver share."""

from __future__ import annotations

import os
from collections import deque
from contextlib import suppress
from functools import partial
from math import inf
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakSet, ref

from ._errors import ClockGone
from ._timer_queue import TimerQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator

    from ._affinity import Affinity
    from ._time_source import TimeSource
    from ._timer_group import TimerGroup

# A driver lets other tasks run after so many timers or so many seconds on its own
# clock, whichever comes first. (Virtual time stands still while timers fire, so there
# it is always the number, and a run can be repeated.)
TIMERS_PER_TURN = 1024
SECONDS_PER_TURN = 0.001

# Reading a clock costs a good part of waking a task. After code that is not ours the
# clock is always read, as that may have taken any time.
_QUICK_TIMERS_PER_READING = 16

# How often the next deadline is looked for again, because of what finalizers have put
# off. Where other threads do so too, they may go on without an end.
_LOOKS = 4

# How many of the timers that fired last the percentiles of lateness are about.
_LATENESS_SAMPLES = 1024


_only_wakes: Callable[[Waiter], bool] = attrgetter("_only_wakes")


class Waiter(Protocol):
    """What a timer wakes. When one of these is called, the timer is out of the
    queue; neither of them raises.
    """

    when: float

    @property
    def _only_wakes(self) -> bool:
        """Whether firing it only wakes a task, and does nothing else."""
        ...

    @property
    def _periodic(self) -> bool:
        """Whether it comes again and again, so that its end is not waited for."""
        ...

    def _fire(self) -> bool:
        """Do what is due, and tell whether that ran any code of the user's."""
        ...

    def _clock_gone(self) -> None: ...

    def _not_set(self) -> None:
        """It has been registered, and an exception leaves the call that did so."""
        ...


class Dependent(Protocol):
    """What is told when the clock goes, whether or not a timer is pending."""

    def _clock_gone(self) -> None: ...


class Alarm(Protocol):
    """What wakes the driver. While the driver is awake the deadline is ``-inf``."""

    deadline: float
    # Whether timers are to remember where they were made, for reports on them.
    notes_origins: bool

    def move(self, deadline: float) -> None: ...

    def wake_soon(self, _: object = None) -> None:
        """Wake the driver, if it is asleep: from any thread, and at any moment."""
        ...

    def is_over(self) -> bool:
        """Whether the driver has gone without a word."""
        ...

    def call(self) -> None:
        """Ask a loop that is not Trio's to come; this raises what that raises."""
        ...


class Ownership:
    """What every open `Clock` of an activation holds, and nothing else.

    It is one and the same object for all of them, so Python's own counting of
    references tells when the last one is gone, in any thread.
    """


class State:
    """The timers of an activation, and whether it is alive.

    All that waits for a timer holds this and never a `Clock`, so that waiting makes no
    owner.

    Args:
        source: What time it is.
        alarm: What wakes the driver.
        here: Tells places apart; timers may be used only where it tells the same as
            when this is made. Places are Trio runs if a task *drives* the clock, and
            threads if a caller does. It may raise RuntimeError elsewhere.
        on_run_clock: Whether its instants are those of the Trio run.
        name: The task or function that activated the clock, for people to read.
        affinity: Which core it has been relocated to.
    """

    # Whether it is used from many threads: see `SharedState`.
    shared = False

    source: TimeSource
    now: Callable[[], float]
    driven: bool
    in_one_run: bool
    on_run_clock: bool
    name: str
    affinity: Affinity | None
    firing: bool
    notes_origins: bool
    # If no task drives it: a task is going to wait, in the run that is here.
    note_run: Callable[[], None]
    registered: int
    fired: int
    cancelled: int
    lateness_max: float
    _gone_because: str

    def __init__(
        self,
        source: TimeSource,
        alarm: Alarm,
        here: Callable[[], object],
        *,
        driven: bool,
        on_run_clock: bool,
        name: str,
        affinity: Affinity | None,
    ) -> None:
        self.source = source
        self.now = source.now
        self.driven = driven
        # Whether only tasks of the driver's own run can wait.
        self.in_one_run = driven and not self.shared
        self.on_run_clock = on_run_clock
        self.notes_origins = alarm.notes_origins
        self.name = name
        self.affinity = affinity
        self._alarm = alarm
        self._here = here
        # None once the clock is gone.
        self._home: object | None = here()
        self._queue: TimerQueue[Waiter] = TimerQueue()
        self._ownership: Callable[[], Ownership | None] = lambda: None
        self._pass: Generator[Waiter, None, None] | None = None
        self.firing = False
        # While the queue is being changed, the garbage collector may run a finalizer
        # that changes it too. That has to wait.
        self._changing = False
        self._postponed: deque[Callable[[], None]] = deque()
        # What is told of the end: dependents keep the clock alive, watchers do not.
        # Dictionaries for their order.
        self._dependents: dict[Any, None] = {}
        self._watchers: dict[Any, None] = {}
        # Those that are open, whose timers hold what is the user's.
        self.groups: dict[TimerGroup, None] = {}
        # What callbacks of which group have raised, until it is taken. (Without a
        # group, the first call that asks gets it.)
        self.failures: deque[tuple[object, BaseException]] = deque()
        self.registered = 0
        self.fired = 0
        self.cancelled = 0
        self.lateness: deque[float] = deque(maxlen=_LATENESS_SAMPLES)
        self.lateness_max = 0.0
        _alive.add(self)

    @property
    def alive(self) -> bool:
        return self._home is not None

    @property
    def busy(self) -> bool:
        """Whether it is firing, or changing: a callback or a finalizer is asking."""
        return self.firing or self.changing

    @property
    def changing(self) -> bool:
        """Whether the queue is being changed, so that it must not be looked at."""
        return self._changing

    @property
    def in_use(self) -> bool:
        """Whether it has an owner, a timer, a waiter or an open nursery.

        (An open `TimerGroup` without timers does not count.)
        """
        return (
            self._ownership() is not None or bool(self._queue) or bool(self._dependents)
        )

    def counts(self) -> tuple[int, int, int, int]:
        """How many are pending, and have been registered, fired and cancelled."""
        # In this order, as it may go on in another thread: first what comes last.
        fired, cancelled, registered = self.fired, self.cancelled, self.registered
        if not self.alive:
            cancelled = registered - fired
        return registered - fired - cancelled, registered, fired, cancelled

    def own(self) -> Ownership:
        """Be owned by all that hold the result."""
        ownership = self._ownership()
        if ownership is None:
            ownership = Ownership()
            self._ownership = ref(ownership, self._alarm.wake_soon)
        return ownership

    def is_usable(self) -> bool:
        """Refuse if a timer may not be used here; False if the clock is gone."""
        try:
            self.check()
        except ClockGone:
            return False
        return True

    def check(self) -> None:
        """Refuse, unless a timer may be used here and now."""
        # As in _is_here(), which would take as long again.
        try:
            if self._here() is self._home:
                return
        except RuntimeError:
            pass
        # A run that has crashed, or that its host has dropped, could not say so.
        if self._home is not None and self._alarm.is_over():
            self.end("its Trio run crashed, or was dropped")
        if self._home is None:
            raise self.gone()
        raise RuntimeError(
            "this clock's timers can only be used from the thread that activated it, "
            + (
                "and in that Trio run. From a worker thread, use "
                "trio.from_thread.run_sync(); in another run, activate another clock. "
                if self.driven
                else "whose loop calls advance_timers(). "
            )
            + "A clock for many threads comes from InactiveClock.new_shared()"
        )

    def check_home(self) -> None:
        """Refuse, unless the driver may be used here and now."""
        self.check()

    def gone(self) -> ClockGone:
        """What to raise once the clock is gone."""
        return ClockGone(
            "this clock is gone, and no timer on it can fire any more: "
            + self._gone_because
        )

    def is_here(self) -> bool:
        """Whether its timers may be used in this place."""
        try:
            return self._here() is self._home
        except RuntimeError:
            return False

    def join(self, dependent: Dependent) -> None:
        """Keep the clock alive, and be told of its end, until `leave`."""
        self._dependents[dependent] = None

    def leave(self, dependent: Dependent) -> None:
        """Idempotent."""
        self._dependents.pop(dependent, None)
        self._wake_if_unused()

    def may_call(self) -> bool:
        """Whether there may be timers that do more than wake a task.

        Those are in a block, which depends on the clock.
        """
        return bool(self._dependents)

    def watch(self, watcher: Dependent) -> None:
        """Be told of the end, without keeping the clock alive."""
        self._watchers[watcher] = None

    def unwatch(self, watcher: Dependent) -> None:
        self._watchers.pop(watcher, None)

    def add(self, waiter: Waiter) -> None:
        """Register, after a `check`."""
        if self._home is None:
            raise self.gone()  # meanwhile
        if self._changing:
            self._postponed.append(partial(self.keep_failure, self.add, waiter))
            return
        try:
            self._changing = True
            self._queue.add(waiter)
            self.registered += 1
            if waiter.when < self._alarm.deadline:
                self._alarm.move(waiter.when)
        finally:
            self._changing = False
        if self._postponed:
            try:
                self._catch_up()
            except BaseException:
                waiter._not_set()
                raise

    def discard(self, waiter: Waiter) -> None:
        """Cancel, if it is registered. The driver will not wake up for it."""
        self._replace((waiter,))

    def discard_all(self, waiters: Collection[Waiter]) -> None:
        """Cancel those that are registered."""
        self._replace(waiters)

    def move(self, waiter: Waiter, when: float) -> None:
        """Register for another instant, after a `check`, and not for the old one."""
        self._replace((waiter,), waiter, when)

    def _replace(
        self, old: Collection[Waiter], new: Waiter | None = None, when: float = inf
    ) -> None:
        if self._home is None:
            return  # what is left is about to be told
        if self._changing:
            replace = partial(self.keep_failure, self._replace, old, new, when)
            self._postponed.append(replace)
            return
        try:
            self._changing = True
            queue, alarm_at = self._queue, self._alarm.deadline
            earliest = inf
            for waiter in old:
                self.cancelled += queue.discard(waiter)
                if waiter.when < earliest:
                    earliest = waiter.when
            if new is not None:
                new.when = when
                queue.add(new)
                self.registered += 1
                if when < earliest:
                    earliest = when
            if earliest <= alarm_at:
                self._rearm()
        finally:
            self._changing = False
        if self._postponed:
            self._catch_up()

    def afterwards(self, fn: Callable[[], object]) -> None:
        """Call it when the change that is under way is done.

        That is before what finalizers have put off, so that an exception leaves the
        call that makes the change, and no other.
        """
        self._postponed.appendleft(partial(self._call_and_go_on, fn))

    def _call_and_go_on(self, fn: Callable[[], object]) -> None:
        try:
            fn()
        finally:
            self._catch_up()

    def keep_failure(self, fn: Callable[..., object], *args: Any) -> None:
        """Call a function whose exception `advance_timers` is to raise."""
        try:
            fn(*args)
        except Exception as exc:
            self.failures.append((None, exc))

    def take_failures(self, group: object = None) -> list[tuple[object, BaseException]]:
        """What callbacks have raised, those of one *group* or all."""
        taken: list[tuple[object, BaseException]] = []
        # As any thread may do on a shared clock, which may add more meanwhile.
        with suppress(IndexError):
            for _ in range(len(self.failures)):
                failure = self.failures.popleft()
                if group is None or failure[0] in (None, group):
                    taken.append(failure)
                else:
                    self.failures.append(failure)
        return taken

    def next_deadline(self) -> float:
        if self.changing:
            raise RuntimeError("next_deadline is not known while timers are changing")
        deadline = inf
        for _ in range(_LOOKS):
            try:
                self._changing = True
                deadline = self._queue.next_deadline()
            finally:
                self._changing = False
            if not self._postponed:
                break
            self._catch_up()
        return deadline

    def waiters(self) -> list[Waiter]:
        """All that is pending, in no order; from any thread."""
        with suppress(RuntimeError):
            return list(self._queue)
        return self.waiters()  # it has changed meanwhile

    def only_periodic(self) -> bool:
        """Whether nothing is pending but what comes again and again."""
        return all(waiter._periodic for waiter in self.waiters())

    def fire_due(self, now: float | None) -> None:
        """Take a turn: fire what is due, or as much of it as fits into one."""
        self.check_home()
        if self.busy:
            raise RuntimeError(
                "advance_timers() was called from inside a timer's callback; timers "
                "that are due now fire when the callback has returned"
            )
        if self._postponed:
            self._catch_up()
        begin = reading = self.now()
        if now is not None and now > begin:
            raise ValueError(
                f"`now` must not be ahead of the clock, which is at {begin!r}, but it "
                f"is {now!r}; leave it out to fire what is due"
            )
        try:
            self.firing = self._changing = True
            if now is not None:
                self._end_pass()
            if self._pass is None:
                self._pass = self._queue.due(begin if now is None else now)
            for count, waiter in enumerate(self._pass, 1):
                self._changing = False
                slow = self._fire(waiter, reading - waiter.when)
                if slow or not count % _QUICK_TIMERS_PER_READING:
                    if not self.alive:
                        return  # a callback has forked this process off
                    reading = self.now()
                    if self.driven and (
                        count >= TIMERS_PER_TURN or reading - begin > SECONDS_PER_TURN
                    ):
                        break
                self._changing = True
            else:
                self._pass = None
            self._changing = True
            self._rearm()
        except BaseException:
            # Outside of Trio: Ctrl-C, or something like it from a callback.
            self._changing = True
            self._end_pass()
            if self.alive:
                self._rearm()
            raise
        finally:
            self.firing = self._changing = False
        if self._postponed:
            self._catch_up()

    def fire_lone(self, now: float) -> bool:
        """Fire the first timer, if it is due and alone at its deadline.

        That is cheaper than a pass, and what else is due is left to the next one. For
        callers that know that this is the place and the moment. Tells whether there was
        one.
        """
        try:
            self.firing = self._changing = True
            waiters = self._queue.pop_first(now, few=1)
            if not waiters:
                return False
            self._changing = False
            try:
                self._fire(waiters[0], now - waiters[0].when)
            finally:
                self._changing = True
                self._rearm()
        finally:
            self.firing = self._changing = False
        if self._postponed:
            self._catch_up()
        return True

    def wake_sleepers(self, now: float) -> bool:
        """The alarm rings: do what can be done without a turn of the driver's.

        That is, wake the tasks that wait for this instant, if nothing else is due: no
        task may go on before the callbacks that come before it, or with it, nor before
        the clock is gone, if only these use it. Tells whether that was all there
        is to do.
        """
        if self._pass is not None:
            return False  # it has not been looked whether it is done
        queue = self._queue
        try:
            self._changing = True
            sleepers = queue.pop_first(now, _only_wakes)
            deadline = queue.next_deadline()
            unused = self._ownership() is None and not self.in_use
            if deadline <= now or unused:
                for sleeper in sleepers:
                    queue.add(sleeper)
                return False
            # The caller, which rings, does not have to be told.
            self._alarm.deadline = deadline
        finally:
            self._changing = False
        for sleeper in sleepers:
            self._fire(sleeper, now - sleeper.when)
        return True

    def arm(self) -> None:
        """Let the alarm ring at the earliest deadline; the driver is going to sleep."""
        self._rearm_undisturbed()
        if self._postponed:
            self._catch_up()

    def _rearm_undisturbed(self) -> None:
        """The same, but for what finalizers put off meanwhile."""
        try:
            self._changing = True
            self._rearm()
        finally:
            self._changing = False

    def end_if_unused(self) -> None:
        if not self.in_use:
            self.end(
                "every Clock object of it had been closed or dropped, and nothing was "
                "pending; give each task that needs it a clone() of its own"
            )

    def end(self, because: str) -> None:
        """The clock is gone: tell all that waits. Idempotent."""
        if self._home is not None:
            # In a run that has crashed no task can be told.
            anybody_there = self.is_here()
            self._gone_because = because
            self._home = None
            self._end(anybody_there)

    def lose_driver(self) -> None:
        """The clock is gone, and `tell_everybody` follows, where tasks wait."""
        self._gone_because = "the driver that came with it has been dropped"
        self._home = None
        self._let_go()

    def tell_everybody(self) -> None:
        self._end(True)

    def forked(self) -> None:
        """This is a child of the process with the driver, and nothing but a copy.

        No task here can be told, and to wake the driver, or a task, would wake one in
        the parent process.
        """
        self._gone_because = (
            f"it was activated in another process, of which process {os.getpid()} is a "
            "fork; activate a clock here, or start processes in another way than fork"
        )
        self._home = None
        self._ownership = lambda: None
        self._dependents, self._watchers = {}, {}

    def _end(self, anybody_there: bool) -> None:
        self._let_go()
        self._end_pass()
        self._postponed.clear()
        for waiter in self._queue.due(inf):
            if anybody_there:
                waiter._clock_gone()
        dependents = [*self._dependents, *self._watchers]
        self._dependents, self._watchers = {}, {}
        if anybody_there:
            for dependent in dependents:
                dependent._clock_gone()

    def _let_go(self) -> None:
        """What can never fire holds nothing alive."""
        groups, self.groups = self.groups, {}
        for group in groups:
            group._let_go()

    def __str__(self) -> str:
        pending = self.counts()[0]
        timers = "1 timer" if pending == 1 else f"{pending} timers"
        return f"{self.source.name}, {timers}, {'alive' if self.alive else 'gone'}"

    def _fire(self, waiter: Waiter, late: float) -> bool:
        """Fire what has been taken out of the queue; tells whether that was slow."""
        self.fired += 1
        self.lateness.append(late)
        if late > self.lateness_max:
            self.lateness_max = late
        if self._postponed:
            self._catch_up()
            if waiter in self._queue:
                return False  # meanwhile it has been set for another instant
        return waiter._fire()

    def _catch_up(self) -> None:
        while self._postponed and self.alive:
            self._postponed.popleft()()

    def _end_pass(self) -> None:
        if self._pass is not None:
            self._pass.close()
            self._pass = None

    def _rearm(self) -> None:
        """Let the alarm ring at the earliest deadline, if the driver is asleep."""
        alarm = self._alarm
        if alarm.deadline != -inf:
            deadline = self._queue.next_deadline()
            if deadline != alarm.deadline:
                alarm.move(deadline)
            if deadline == inf:
                self._wake_if_unused()

    def _wake_if_unused(self) -> None:
        if self._alarm.deadline != -inf and not self.in_use:
            self._alarm.wake_soon()


_alive: WeakSet[State] = WeakSet()


def _forked() -> None:
    for state in _alive:
        state.forked()


with suppress(AttributeError):  # on Windows
    os.register_at_fork(after_in_child=_forked)

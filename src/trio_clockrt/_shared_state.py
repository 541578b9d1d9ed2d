"""One activation that is used from many threads: what is done to it are messages."""

from __future__ import annotations

from collections import deque
from functools import partial
from math import inf
from threading import get_ident
from time import sleep
from typing import TYPE_CHECKING, Any
from weakref import ref

import trio
from trio.lowlevel import (
    RunVar,
    TrioToken,
    add_instrument,
    current_trio_token,
    enable_ki_protection,
)

from ._lock import RLock
from ._post import post
from ._state import State
from ._timer_queue import TimerQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import Protocol

    from ._state import Dependent, Waiter

    class SharedDependent(Dependent, Protocol):
        # Where it has to be told; None if anywhere will do.
        _run: TrioToken | None

        def _give_up(self) -> Collection[Waiter]:
            """Its run is over: what it has left in the queue."""
            ...


# So many messages may wait until the driver has something else to do; and so many are
# read before others in the driver's run get a turn.
_MESSAGES = 1024

# A thread that leaves more than twice as many pauses each time, for so many seconds or
# as short as it can, as several threads can leave more than one can read.
_PAUSE = 1e-6


class SharedState(State):
    """The timers of an activation that is used from many threads.

    The queue is in the hands of the place where the driver is. What others want done
    to it are messages, which are read there, one after the other: at once if it is
    there that they are left, and otherwise as soon as the driver has to know of them.

    All that has to be told of the end is a dependent, and takes part in that by what
    Python does in one step: of all threads that take it out of the dictionary, one gets
    it. So the end may come in any thread, and at any moment.

    The `lock` is for timers that change together with the message about it. A
    thread that has it calls nothing that might wait for another lock.
    """

    shared = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lock = RLock()
        self._thread = get_ident()
        self._reading = False
        self._defect: BaseException | None = None
        # What is to be called when the messages have been read.
        self._afterwards: list[Callable[[], object]] = []
        if self.driven:
            self.note_run()

    def check(self) -> None:
        if self._home is None:
            raise self.gone()

    def is_here(self) -> bool:
        # First what is cheap, as other threads wait for the answer.
        return get_ident() == self._thread and super().is_here()

    def check_home(self) -> None:
        self.check()
        if not self.is_here():
            place = "Trio run" if self.driven else "thread"
            raise RuntimeError(
                "the driver of a shared clock can only be used where the clock was "
                f"activated, in that {place}; the clock itself can be used anywhere"
            )

    @property
    def in_use(self) -> bool:
        return super().in_use or bool(self._postponed)

    @property
    def changing(self) -> bool:
        return self._changing or self._reading

    def counts(self) -> tuple[int, int, int, int]:
        if self.is_here():
            self._catch_up()
        return super().counts()

    def note_run(self) -> None:
        """A task of this run is going to wait, or the driver to work."""
        _this_run().note(self)

    def join(self, dependent: Dependent) -> None:
        self._tell_of_the_end(dependent, self._dependents)

    def watch(self, watcher: Dependent) -> None:
        self._tell_of_the_end(watcher, self._watchers)

    def leave(self, dependent: Dependent) -> None:
        self._dependents.pop(dependent, None)
        if not self.in_use:
            self._alarm.wake_soon()
        else:
            self._wake_loop_if_unused()

    def add(self, waiter: Waiter) -> None:
        if self._home is None:
            raise self.gone()
        self._tell_of_the_end(waiter, self._dependents)
        urgent = self.replace((), waiter)
        try:
            self.deliver(urgent)
        except BaseException:
            waiter._not_set()
            raise

    def discard(self, waiter: Waiter) -> None:
        self._dependents.pop(waiter, None)
        self.deliver(self.replace((waiter,)))

    def discard_all(self, waiters: Collection[Waiter]) -> None:
        self.deliver(self.replace(waiters))

    def replace(self, old: Collection[Waiter], new: Waiter | None = None) -> bool:
        """Leave the message that *new* is to be registered, and *old* no more.

        `deliver` has to follow, without the lock, and be told the result: whether the
        driver has to read it sooner than it would anyway.
        """
        if self._home is None:
            return False
        when = inf if new is None else new.when
        self._postponed.append(partial(self._replace, old, new, when))
        if not self.driven:
            # Nothing makes a loop sleep for longer.
            crowded = new is not None and len(self._postponed) > _MESSAGES
            return when < self._alarm.deadline or crowded
        for waiter in old:
            when = min(when, waiter.when)
        return when <= self._alarm.deadline or len(self._postponed) > _MESSAGES

    def deliver(self, urgent: bool) -> None:
        """Read what has been left, or see to it that it is read in time."""
        if self.is_here():
            self._catch_up()
        elif urgent:
            self._wake_reader()
            if self.driven and len(self._postponed) > 2 * _MESSAGES:
                sleep(_PAUSE)
        else:
            self._wake_loop_if_unused()

    def _wake_reader(self) -> None:
        home = self._home
        if isinstance(home, TrioToken):
            post(home, self._read_some)
        else:
            self._alarm.call()

    def _wake_loop_if_unused(self) -> None:
        # Messages are still to be read, so only the driver can tell whether it is used.
        if not self.driven and self._ownership() is None:
            self._alarm.wake_soon()

    def _read_some(self) -> None:
        if self.alive:
            self._read(_MESSAGES)
            # (A driver that is awake looks before it sleeps.)
            if self._alarm.deadline != -inf:
                # Asked only once, as more may come at any moment: both move the alarm.
                if self._postponed:
                    self._rearm_and_look_again()
                else:
                    self._take_turn()

    def _take_turn(self) -> None:
        """Fire what is due without the driver's task, which would wake up later."""
        try:
            if self._pass is not None or not self.fire_lone(self.now()):
                super().fire_due(None)
        except BaseException as exc:
            # Here this would be a crash of the whole run.
            self._defect = exc
            self._alarm.wake_soon()

    def fire_due(self, now: float | None) -> None:
        if self._defect is not None:
            raise self._defect
        super().fire_due(now)

    def _catch_up(self) -> None:
        if self.changing:
            return  # the code that changes the queue goes on
        self._read(len(self._postponed))
        if self._alarm.deadline != -inf and not self.firing:
            self._rearm_and_look_again()

    def _rearm_and_look_again(self) -> None:
        self._rearm_undisturbed()
        calls, self._afterwards = self._afterwards, []
        if self._postponed:
            # The thread that left it may have seen an earlier alarm than there is now.
            self._wake_reader()
        else:
            for fn in calls:
                fn()

    def afterwards(self, fn: Callable[[], object]) -> None:
        self._afterwards.append(fn)

    def _read(self, how_many: int) -> None:
        # The end, which may come in another thread, leaves this one alone.
        messages = self._postponed
        try:
            self._reading = True
            for _ in range(min(how_many, len(messages))):
                messages[0]()
                # Only now, as Ctrl-C, outside of Trio, must not lose the message of
                # another thread; to read it twice does no harm.
                del messages[0]
        finally:
            self._reading = False

    def _rearm(self) -> None:
        if not self._reading:  # but after the last message
            super()._rearm()

    def wake_sleepers(self, now: float) -> bool:  # noqa: ARG002
        return False  # they may be anywhere

    def _fire(self, waiter: Waiter, late: float) -> bool:
        self._dependents.pop(waiter, None)
        return super()._fire(waiter, late)

    def _tell_of_the_end(self, who: Any, dependents: dict[Any, None]) -> None:
        dependents[who] = None
        if self._home is None:
            # It has come just now, perhaps without seeing this one.
            self._tell(who, dependents)

    def _tell(self, who: SharedDependent, dependents: dict[Any, None]) -> None:
        if dependents.pop(who, who) is not None:
            return  # another thread has
        if who._run is None:
            who._clock_gone()
        else:
            post(who._run, who._clock_gone)

    def _end(self, anybody_there: bool) -> None:  # noqa: ARG002
        self._let_go()
        if not self._changing:
            self._end_pass()
        self._queue = TimerQueue()
        self._postponed = deque()
        for dependents in (self._dependents, self._watchers):
            for who in list(dependents):
                self._tell(who, dependents)

    def lose_driver(self) -> None:
        super().lose_driver()
        self._end(True)

    def forked(self) -> None:
        super().forked()
        self.lock = RLock()  # its owner is in the other process

    def forget_run(self, run: TrioToken) -> None:
        """It is over, and has perhaps left something behind."""
        if self._home == run:
            self.end("the Trio run that activated it has ended")
        for dependents in (self._dependents, self._watchers):
            for who in list(dependents):
                if who._run == run and dependents.pop(who, who) is None:
                    self.discard_all(who._give_up())


class _EndOfRun(trio.abc.Instrument):
    """Tells shared clocks of the end of a run, however that comes."""

    def __init__(self, run: TrioToken) -> None:
        self._run = run
        # No WeakSet: while one is gone through, states may end in other threads.
        self._states: dict[ref[SharedState], None] = {}

    def note(self, state: SharedState) -> None:
        self._states[ref(state, self._forget)] = None

    def _forget(self, state: ref[SharedState]) -> None:
        self._states.pop(state, None)

    @enable_ki_protection
    def after_run(self) -> None:
        for reference in list(self._states):
            state = reference()
            if state is not None:
                state.forget_run(self._run)


_ends: RunVar[_EndOfRun | None] = RunVar("shared clocks", None)


def _this_run() -> _EndOfRun:
    end = _ends.get()
    if end is None:
        end = _EndOfRun(current_trio_token())
        _ends.set(end)
        add_instrument(end)
    return end

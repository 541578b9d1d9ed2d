"""Timers on a clock that is used from many threads."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from ._post import post
from ._state import SECONDS_PER_TURN, TIMERS_PER_TURN
from ._timer import PeriodicCallback
from ._timer_group import TimerGroup
from ._timer_nursery import TimerNursery
from ._waiters import is_there

if TYPE_CHECKING:
    from collections.abc import Collection

    from ._shared_state import SharedState
    from ._timer import Timer


class Entry:
    """That a timer is set for an instant; it stands in the queue for the timer.

    To reset the timer makes another one. So wherever and whenever this one comes up,
    it can be told that it is out of date.
    """

    __slots__ = ("_group", "_timer", "when")

    _only_wakes = False

    def __init__(self, group: SharedTimerGroup, timer: Timer, when: float) -> None:
        self._group = group
        self._timer = timer
        self.when = when

    @property
    def _periodic(self) -> bool:
        return self._timer._periodic

    @property
    def _made_at(self) -> str:
        return self._timer._made_at

    def _fire(self) -> bool:
        self._group._fire(self._timer, self)
        return True

    def _clock_gone(self) -> None: ...

    def _not_set(self) -> None: ...

    def __repr__(self) -> str:
        return repr(self._timer)


class SharedTimerGroup(TimerGroup):
    """Timers that may be set, reset and cancelled from any thread.

    A timer changes together with the message about it: with the state's lock.
    """

    _state: SharedState
    # For each timer the entry that is not out of date.
    _pending: dict[Timer, Any]

    def _register(self, timer: Timer) -> Timer:
        with self._state.lock:
            self._check()
            urgent = self._set(timer, timer.when)
        self._state.deliver(urgent)
        return timer

    def _move(self, timer: Timer, when: float) -> None:
        with self._state.lock:
            self._check()
            timer._restart(when)
            urgent = self._set(timer, when)
        self._state.deliver(urgent)

    def _check(self) -> None:
        if self._closed:
            self._refuse()
        self._state.check()

    def _set(self, timer: Timer, when: float) -> bool:
        # A finalizer may set or cancel it at any moment, as it has the lock too.
        new, old = Entry(self, timer, when), list[Entry]()
        while self._pending.setdefault(timer, new) is not new:
            # (If that has been cancelled just now, the new one, which does no harm.)
            old.append(self._pending.pop(timer, new))
        timer.when = when
        urgent = self._state.replace(old, new)
        current = self._pending.get(timer)
        if current is not new:
            urgent = self._state.replace([new]) or urgent
            if current is not None:
                timer.when = current.when
        return urgent

    def _cancel(self, timer: Timer) -> bool:
        state = self._state
        with state.lock:
            # In one step, as a finalizer may cancel it too.
            entry = self._pending.pop(timer, None)
            if entry is None or not state.alive:
                return False
            self._note(timer)
            urgent = state.replace([entry])
        state.deliver(urgent)
        if not self._pending:
            self._drained()
        return True

    def cancel_timers(self) -> None:
        state = self._state
        with state.lock:
            for timer in list(self._pending):
                self._note(timer)
            entries = self._take_all()
            if not entries:
                return
            urgent = state.replace(entries)
        state.deliver(urgent)
        self._drained()

    def _take_all(self) -> Collection[Any]:
        pending, self._pending = self._pending, {}
        return list(pending.values())

    def _fire(self, timer: Timer, entry: Entry) -> None:
        state, over, urgent = self._state, self._is_over(), False
        # Not with the lock, as a control's time is another's code.
        now = state.now() if timer._periodic else 0.0
        with state.lock:
            # (In another run, the end may come before what has been due.)
            if self._pending.get(timer) is not entry or not state.alive:
                return
            current = self._pending.pop(timer, None)
            if current is not entry:
                if current is not None:  # a finalizer has reset it just now
                    self._pending.setdefault(timer, current)
                return
            if isinstance(timer, PeriodicCallback) and not over:
                urgent = self._set(timer, timer._next(now))
            else:
                self._note(timer)
        if timer._periodic:
            state.deliver(urgent)
        if not self._pending:
            self._drained()
        if not over:
            timer._run()


class SharedTimerNursery(SharedTimerGroup, TimerNursery):
    """Such timers in a nursery, in whose run they fire, wherever the driver is."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        # What is due, and comes from another run.
        self._due: deque[tuple[Timer, Entry]] = deque()

    def _fire(self, timer: Timer, entry: Entry) -> None:
        if is_there(self._run):
            super()._fire(timer, entry)
        else:
            self._due.append((timer, entry))
            post(self._token, self._fire_due)

    def _fire_due(self) -> None:
        begin = self._state.now()
        for _ in range(TIMERS_PER_TURN):
            if not self._due:
                return
            super()._fire(*self._due.popleft())
            if self._state.now() - begin > SECONDS_PER_TURN:
                break
        post(self._token, self._fire_due)

    def _close_if_idle(self, *, for_timers: bool) -> bool:
        with self._state.lock:
            return super()._close_if_idle(for_timers=for_timers)

    def _clock_gone(self) -> None:
        self._pending.clear()
        super()._clock_gone()

    def _give_up(self) -> Collection[Any]:
        with self._state.lock:
            self._closed = True
            self._state.groups.pop(self, None)
            self._let_go()
            return self._take_all()

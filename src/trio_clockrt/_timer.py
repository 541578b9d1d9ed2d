"""A handle on something that is to happen later.

A pending timer is a key in the dictionary of its group: its number, `Timer._seq`. To
set the timer again is to put in a new key, and to take out the old one, which leaves a
dead entry in the queue. A timer that is reset to later, while its entry waits behind
the alarm's deadline, takes the cheap way: it notes a new number in `Timer._detour`, and
changes its key when the entry comes up. A shared clock has no such way, as another
thread may look at the timer meanwhile.

What can never fire holds nothing alive. A timer may be reset for as long as its group
is open, so until then it keeps its function, arguments and context. An object whose
timer calls its own method is a cycle, and the end of the block breaks that cycle. When
the clock goes, groups that are open let go as well, at any moment and in any thread. So
a timer reads its context first and its function last, and lets go in the opposite
order: the code that fires a timer has all three, or a function that does nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from contextvars import Context, copy_context
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from weakref import ref

import trio
from trio.lowlevel import enable_ki_protection

import trio_clockrt

from ._callbacks import call, check_result
from ._durations import later, to_seconds
from ._hints import Hinted, hints
from ._no_copy import NoCopy

if TYPE_CHECKING:
    from ._periodic import Grid


@hints
class Timer(Hinted, NoCopy):
    """A timer of a `TimerGroup` or a `TimerNursery`, which make them.

    A timer belongs to its group until the group's block ends, and it can be used
    again and again: `reset` makes it pending, also after it has fired. You
    need not keep it: a pending timer stays pending when nothing refers to it. When
    the block has ended, or its clock is gone, a timer that you have kept lets go of its
    function, their arguments and the context.

    Attributes:
        when (float): The instant that it is set for, on the scale of
            `SimpleClock.instant`; if it is no longer pending, the one that it was last
            set for. In a callback of `~TimerGroup.call_every` this is the next one
            already.
    """

    __slots__ = (
        "__weakref__",
        "_args",
        "_context",
        "_detour",
        "_fn",
        "_group",
        "_made_at",
        "_seq",
        "when",
    )

    when: float
    _instead = "set another one in a TimerGroup or TimerNursery"
    _only_wakes = False
    _periodic = False

    def __init__(
        self,
        group: trio_clockrt.TimerGroup,
        when: float,
        fn: Callable[..., object],
        args: tuple[object, ...],
    ) -> None:
        self.when = when
        self._group = group
        self._fn = fn
        self._args = args
        self._context = copy_context()
        # The key that it is pending with, if it is...
        self._seq = 0
        # ...and, if it has been reset to later than what is filed in the queue, the one
        # to go on with. (Less than 0: see `_comes_up`.)
        self._detour = group._detour
        if group._notes_origins:
            self._made_at = _place_in_user_code()

    @property
    def pending(self) -> bool:
        """Whether it is still to fire; it is not once it has fired or been cancelled.

        Example::

            >>> async def main():
            ...     async with trio_clockrt.open_clock() as clock:
            ...         async with clock.open_timers() as timers:
            ...             timer = timers.call_later(1, print, "fired")
            ...             print(timer.pending)
            ...         print(timer.pending)
            >>> trio.run(main, clock=MockClock(autojump_threshold=0))
            True
            fired
            False
        """
        group = self._group
        return self._seq in group._pending and group._timers.place is not None

    @enable_ki_protection
    def cancel(self) -> bool:
        """Make sure that it does not fire, or for a periodic timer: not again.

        Returns:
            bool: True if it was pending, False if it had fired or been cancelled.

        Raises:
            RuntimeError: if called from another thread than the clock's, unless
                it is shared.

        Example::

            >>> async def main():
            ...     async with trio_clockrt.open_clock() as clock:
            ...         async with clock.open_timers() as timers:
            ...             timer = timers.call_later(1, print, "fired")
            ...             print(timer.cancel(), timer.cancel())
            >>> trio.run(main)
            True False
        """
        return self._group._cancel(self)

    @enable_ki_protection
    def reset(self, seconds: float | timedelta) -> None:
        """Make it pending again, to fire this long from now.

        It does not matter whether it was pending, has fired or has been cancelled.
        A periodic timer goes on from there in steps of its period.

        Args:
            seconds: How long from now, in seconds or as a `~datetime.timedelta`;
                ``inf`` for never.

        Raises:
            ValueError: if *seconds* is negative or NaN.
            TypeError: if *seconds* is not a length of time.
            ClockGone: if the clock is gone.
            RuntimeError: if the timer's group is closed, or if called from another
                thread than the clock's, unless it is shared.

        Example::

            >>> async def main():
            ...     async with trio_clockrt.open_clock() as clock:
            ...         async with clock.open_timers() as timers:
            ...             start = clock.instant()
            ...             idle = timers.call_later(30, print, "no answer")
            ...             await clock.delay(20)
            ...             idle.reset(30)
            ...             print("at", idle.when - start)
            >>> trio.run(main, clock=MockClock(autojump_threshold=0))
            at 50.0
            no answer
        """
        group = self._group
        timers = group._timers
        if group._closed:
            group._refuse()
        timers.check()
        when = later(timers.now(), to_seconds(seconds, "seconds"))
        if (
            when > self.when > timers.alarm.deadline
            and self._detour >= 0
            and self._seq in group._pending
            # (It may be just about to fire, or another thread may look at it.)
            and not (timers.busy or timers.lock)
        ):
            # Later: what is filed in the queue is put right when it comes up.
            self.when, self._detour = when, timers.number()
        else:
            group._set_again(self, when)

    def _file_later(self, seq: int) -> None:
        """The entry of this number has come up, but the timer was reset to later."""
        group, new = self._group, self._detour
        if self._renumber(seq, new, self.when):
            group._timers.refile(self.when, new, group._id)

    def _renumber(self, seq: int, new: int, when: float) -> bool:
        """Be pending with a new number; tells whether it still was with the old one."""
        pending = self._group._pending
        pending[new] = self
        # Each in one step, as a finalizer may reset it before or in between.
        self._seq = new if self._seq == seq else self._seq
        self.when = when if self._seq == new else self.when
        self._detour = min(self._detour, 0) if self._seq == new else self._detour
        if pending.pop(seq, None) is not None and self._seq == new:
            return True
        pending.pop(new, None)  # a finalizer has cancelled it
        return False

    def _comes_up(self, seq: int) -> bool:
        """The entry of this number has come up: claim it; tells whether to fire."""
        if self._detour > 0:
            self._file_later(seq)
        else:
            self._group._fire_elsewhere(self, seq)
        return False

    def _claim(self, seq: int) -> bool:
        """The same, where it is due, in the run of its group."""
        return self._group._pending.pop(seq, None) is not None

    def _fire(self) -> bool:
        group = self._group
        # As in _note(), which would take twice as long.
        group._idle.append(ref(self))
        if len(group._idle) > group._sweep_at:
            group._sweep()
        if not group._pending:
            group._drained()
        if group._is_over():
            return False
        self._run()
        return True

    def _run(self) -> None:
        try:
            self._act()
        except BaseException as exc:
            if not self._group._failed(exc):
                raise

    def _act(self) -> None:
        # In this order, against that of _let_go().
        context, args, fn = self._context, self._args, self._fn
        result = context.run(call, fn, args)
        if result is not None:
            check_result(fn, result)

    def _let_go(self) -> None:
        """It can never fire again; hold on to nothing of the user's.

        This may come at any moment, in any thread. A driver that is just about to fire
        it calls the right function, with its arguments, or one that does nothing.
        """
        self._fn = self._nothing
        self._args = ()
        self._context = _NO_CONTEXT

    @staticmethod
    def _nothing() -> Any: ...

    def __repr__(self) -> str:
        pending = "pending" if self.pending else "not pending"
        if self._context is _NO_CONTEXT:
            block = "a closed block" if self._group._closed else "a clock that is gone"
            return f"<Timer of {block}, at {self.when:.6f}, {pending}>"
        name = getattr(self._fn, "__qualname__", None) or repr(self._fn)
        return f"<Timer for {name}, at {self.when:.6f}, {pending}>"


# Of timers that have let go of theirs.
_NO_CONTEXT = Context()

_NO_LOCK = nullcontext()


def _place_in_user_code() -> str:
    libraries = (os.path.dirname(__file__), os.path.dirname(trio.__file__))
    frame = sys._getframe(1)
    while frame.f_back and frame.f_code.co_filename.startswith(libraries):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}, in {frame.f_code.co_name}"


class PeriodicCallback(Timer):
    """A timer that is pending again whenever it fires."""

    __slots__ = ("_grid",)

    _periodic = True

    def __init__(
        self,
        group: trio_clockrt.TimerGroup,
        grid: Grid,
        fn: Callable[..., object],
        args: tuple[object, ...],
    ) -> None:
        super().__init__(group, grid.next_tick, fn, args)
        self._grid = grid
        self._detour = -1

    def _comes_up(self, seq: int) -> bool:
        group = self._group
        if group._detour:
            group._fire_elsewhere(self, seq)
            return False
        return self._claim(seq)

    def _claim(self, seq: int) -> bool:
        """Be set for the next tick, and tell whether this one is still to come."""
        group = self._group
        if group._is_over():
            return super()._claim(seq)
        timers, pending = group._timers, group._pending
        # Not with the lock, as a control's time is another's code.
        now = timers.now()
        with timers.lock or _NO_LOCK:
            if self._seq != seq or seq not in pending:
                return False  # cancelled or reset, while we looked at the clock
            grid, new = self._grid, timers.number()
            if grid.next_tick != self.when:  # it has been reset
                grid.restart_at(self.when)
            grid.advance(now, missed=grid.whole_period_late(now))
            when = grid.next_tick
            if not self._renumber(seq, new, when):
                return False
        timers.file(when, new, group._id)
        return new in pending

    def _fire(self) -> bool:
        if self._group._is_over():
            return super()._fire()
        self._run()
        return True

"""A handle on something that is to happen later."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
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
from ._uncopied import Uncopied

if TYPE_CHECKING:
    from ._periodic import Grid


@hints
class Timer(Hinted, Uncopied):
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
        "_fn",
        "_group",
        "_made_at",
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
        if group._state.notes_origins:
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
        return self in self._group._pending and self._group._state.alive

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
        group, state = self._group, self._group._state
        if group._closed:
            group._refuse()
        state.check()
        group._move(self, later(state.now(), to_seconds(seconds, "seconds")))

    def _fire(self) -> bool:
        group = self._group
        try:
            del group._pending[self]
        except KeyError:
            return False  # cancelled by a finalizer, at the last moment
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

    def _restart(self, when: float) -> None:
        """It has been reset to this instant."""

    def _clock_gone(self) -> None:
        self._group._pending.pop(self, None)

    def _not_set(self) -> None: ...

    def __repr__(self) -> str:
        pending = "pending" if self.pending else "not pending"
        if self._context is _NO_CONTEXT:
            block = "a closed block" if self._group._closed else "a clock that is gone"
            return f"<Timer of {block}, at {self.when:.6f}, {pending}>"
        name = getattr(self._fn, "__qualname__", None) or repr(self._fn)
        return f"<Timer for {name}, at {self.when:.6f}, {pending}>"


# Of timers that have let go of theirs.
_NO_CONTEXT = Context()


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

    def _restart(self, when: float) -> None:
        self._grid.restart_at(when)

    def _next(self, now: float) -> float:
        self._grid.advance(now, missed=self._grid.whole_period_late(now))
        return self._grid.next_tick

    def _fire(self) -> bool:
        group, when = self._group, self.when
        if self in group._pending and not group._is_over():
            now = group._state.now()
            if self not in group._pending or self.when != when:
                return True  # cancelled or reset while we looked at the clock
            group._state.move(self, self._next(now))
            if self not in group._pending:
                group._state.discard(self)
                return True
            self._run()
            return True
        return super()._fire()

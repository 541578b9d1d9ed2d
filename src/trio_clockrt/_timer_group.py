"""Timers that call a function: no tasks, and all of them end together.

A group is one dictionary of pending timers, by number: see `_timers.py`. To register
puts a key into the dictionary before the entry goes into the queue, so a timer that
comes up always has its key. To end the block takes all keys out.

The group remembers timers that have fired or been cancelled, which may be reset, by
weak references, so that these timers can let go of their functions as the block ends.
The dead references are swept out when the list has doubled. Pending timers have no weak
reference: it would be a quarter of a timer's memory, and a weak reference with a
callback costs twice the time.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta
from math import inf
from types import TracebackType
from typing import NoReturn
from weakref import ref

from trio.lowlevel import enable_ki_protection

from ._activation import Activation
from ._block import SyncBlock
from ._callbacks import check_callback
from ._durations import later, to_instant, to_seconds
from ._errors import ClockGone, raise_failures
from ._hints import Hinted, hints
from ._no_copy import NoCopy
from ._periodic import MissedTick, make_grid
from ._post import current_run
from ._timer import PeriodicCallback, Timer
from ._typing import TypeVarTuple, Unpack

ArgsT = TypeVarTuple("ArgsT")

# So many timers may be remembered in vain.
_FEW = 64

_NO_LOCK = nullcontext()


@hints
class TimerGroup(Hinted, NoCopy):
    """Timers that call functions. Where there is Trio, see `TimerNursery`.

    `Clock.timer_group` opens one, for clocks that no Trio task drives. An exception of
    a callback does not keep other timers from firing, and comes out of
    `ClockDriver.advance_timers`. Ctrl-C, :func:`sys.exit` and all else that is no
    `Exception` comes out of it at once.

    A timer of a group calls a synchronous function. It costs no task: waiting, it is
    one entry in the clock's queue. Timers fire in the order of their deadlines, those
    with the same deadline in the order in which they were registered. The function
    runs in the context (see :mod:`contextvars`) in which it was registered.
    """

    _instead = "open another one, with timer_group() or open_timers()"

    # What its timers do when they come up: see `Waiter._detour`.
    _detour = 0

    def __init__(self, activation: Activation) -> None:
        self._timers = timers = activation.timers
        self._notes_origins = activation.notes_origins
        self._closed = False
        # In the order of registration.
        self._pending: dict[int, Timer] = {}
        self._id = timers.new_group(self._pending)
        # Those that are not pending any more, but may be reset; the dead ones are swept
        # out when there are so many. (Pending timers are not to have weak references.)
        self._idle: list[ref[Timer]] = []
        self._sweep_at: float = _FEW
        timers.life.groups[self] = None

    @enable_ki_protection
    def call_later(
        self,
        seconds: float | timedelta,
        fn: Callable[[Unpack[ArgsT]], object],
        *args: Unpack[ArgsT],
    ) -> Timer:
        """Call ``fn(*args)`` once, this long from now.

        Args:
            seconds: How long from now, in seconds or as a `~datetime.timedelta`;
                ``inf`` for never.
            fn: A synchronous function.
            args: Its positional arguments; for others use `functools.partial`.

        Returns:
            Timer: the new timer, with which it can be cancelled or reset.

        Raises:
            ValueError: if *seconds* is negative or NaN.
            TypeError: if *seconds* is not a length of time, or *fn* not a synchronous
                function.
            ClockGone: if the clock is gone.
            RuntimeError: if the group is closed, or if called from another thread
                than the clock's, unless it is shared.

        Example::

            >>> async def main():
            ...     async with trio_clockrt.open_clock() as clock:
            ...         async with clock.open_timers() as timers:
            ...             timers.call_later(2, print, "two seconds later")
            ...             timers.call_later(1, print, "one second later")
            >>> trio.run(main, clock=MockClock(autojump_threshold=0))
            one second later
            two seconds later
        """
        if self._closed:
            self._refuse()
        check_callback(fn)
        when = later(self._timers.now(), to_seconds(seconds, "seconds"))
        return self._register(Timer(self, when, fn, args))

    @enable_ki_protection
    def call_at(
        self,
        instant: float,
        fn: Callable[[Unpack[ArgsT]], object],
        *args: Unpack[ArgsT],
    ) -> Timer:
        """Call ``fn(*args)`` once, at an instant; if that is past, as soon as possible.

        Like `call_later`, but for a point on the scale of `SimpleClock.instant`.

        Example::

            >>> async def main():
            ...     async with trio_clockrt.open_clock() as clock:
            ...         deadline = clock.instant() + 3600
            ...         async with clock.open_timers() as timers:
            ...             timers.call_at(deadline, print, "time is up")
            ...             timers.call_at(deadline - 60, print, "one minute left")
            >>> trio.run(main, clock=MockClock(autojump_threshold=0))
            one minute left
            time is up
        """
        if self._closed:
            self._refuse()
        check_callback(fn)
        return self._register(Timer(self, to_instant(instant, "instant"), fn, args))

    @enable_ki_protection
    def call_every(
        self,
        period: float | timedelta,
        fn: Callable[[Unpack[ArgsT]], object],
        *args: Unpack[ArgsT],
        missed: MissedTick = MissedTick.DELAY,
    ) -> Timer:
        """Call ``fn(*args)`` once per period, for the first time one period from now.

        Being woken a little late does not make the calls drift. When one comes a
        whole period late, that is a missed tick, and *missed* says how it goes on: see
        `MissedTick`. To
        repeat something async, use `Clock.periodic` in a task of its own.

        Args:
            period: How long from one call to the next, in seconds or as a
                `~datetime.timedelta`.
            fn: A synchronous function.
            args: Its positional arguments; for others use `functools.partial`.
            missed: What to do after a missed tick.

        Returns:
            Timer: the new timer. It stays pending until it is cancelled, and so keeps
            a block open that waits for its timers.

        Raises:
            ValueError: if *period* is zero, negative, infinite or NaN.
            TypeError, ClockGone, RuntimeError: as for `call_later`.

        Example::

            >>> async def main():
            ...     async with trio_clockrt.open_clock() as clock:
            ...         async with clock.open_timers(on_exit="cancel") as timers:
            ...             timers.call_every(10, print, "still alive")
            ...             await clock.delay(35)
            >>> trio.run(main, clock=MockClock(autojump_threshold=0))
            still alive
            still alive
            still alive
        """
        if self._closed:
            self._refuse()
        check_callback(fn)
        grid = make_grid(self._timers, period, missed)
        return self._register(PeriodicCallback(self, grid, fn, args))

    @enable_ki_protection
    def cancel_timers(self) -> None:
        """Cancel every pending timer of this group, and nothing else.

        Example::

            >>> async def main():
            ...     async with trio_clockrt.open_clock() as clock:
            ...         async with clock.open_timers() as timers:
            ...             for n in range(1000):
            ...                 timers.call_later(n, print, n)
            ...             timers.cancel_timers()
            >>> trio.run(main)
        """
        if self._pending:
            self._timers.is_usable()  # or else it says so
            self._cancel_all()
            self._drained()

    def _cancel_all(self) -> None:
        pending, first, count = self._pending, inf, 0
        try:
            for seq in list(pending):
                timer = pending.pop(seq, None)
                if timer is not None:
                    count += 1
                    first = min(first, timer.when)
                    self._note(timer)
        finally:
            self._timers.killed(first, count)

    def _refuse(self) -> NoReturn:
        self._timers.check()
        raise RuntimeError(
            f"this {type(self).__name__} is closed: its block has ended, and its "
            "timers with it. Open another one, or keep this one open for longer"
        )

    def _register(self, timer: Timer) -> Timer:
        timers = self._timers
        timers.check()
        if timers.lock is None:
            timer._seq = seq = timers.number()
            self._pending[seq] = timer
        else:
            with timers.lock:
                self._check_again()
                timer._seq = seq = timers.number()
                self._pending[seq] = timer
        timers.file(timer.when, seq, self._id)
        return timer

    def _set_again(self, timer: Timer, when: float) -> None:
        timers, pending = self._timers, self._pending
        with timers.lock or _NO_LOCK:
            self._check_again()
            new = timers.number()
            pending[new] = timer
            before = timer.when
            # Each in one step, as a finalizer may reset it too, before or in between.
            old, timer._seq = timer._seq, new
            timer.when = when if timer._seq == new else timer.when
            if timer._detour > 0:
                timer._detour = 0
            replaced = pending.pop(old, None)
        try:
            timers.file(when, new, self._id)
        finally:
            if replaced is not None:
                timers.killed(before)

    def _check_again(self) -> None:
        """Another thread may have closed it meanwhile."""
        if self._closed:
            self._refuse()

    def _cancel(self, timer: Timer) -> bool:
        timers, pending = self._timers, self._pending
        if timer._seq not in pending:
            return False
        try:
            timers.check()
        except ClockGone:
            return False
        if timers.lock is None:
            claimed = pending.pop(timer._seq, None)
        else:
            with timers.lock:
                claimed = pending.pop(timer._seq, None)
        if claimed is None:
            return False  # a finalizer or another thread has claimed it just now
        # As in _note(), which would take twice as long.
        self._idle.append(ref(timer))
        if len(self._idle) > self._sweep_at:
            self._sweep()
        timers.killed(timer.when)
        if not pending:
            self._drained()
        return True

    def _fire_elsewhere(self, timer: Timer, seq: int) -> None:
        """A timer has come up in the place of the clock, and this is another run's."""

    def _is_over(self) -> bool:
        """Whether no timer may fire any more, even if it is pending."""
        return self._closed

    def _drained(self) -> None:
        """No timer is pending any more."""

    def _failed(self, exc: BaseException) -> bool:
        """A callback has raised; tells whether that is kept for later.

        Ctrl-C, `sys.exit` and all else that is no `Exception` is no failure of the
        callback's. It leaves at once, and what is due still is for the next time.
        """
        if not isinstance(exc, Exception):
            return False
        self._timers.failures.append((self, exc))
        return True

    def _refuse_more(self) -> None:
        # A thread that registers a timer looks at this with the lock.
        with self._timers.lock or _NO_LOCK:
            self._closed = True

    def _close(self) -> None:
        """No timer will ever be pending again. Idempotent."""
        try:
            self._refuse_more()
            self.cancel_timers()
        except KeyboardInterrupt:
            # Outside of Trio, where no other code would do it.
            self._refuse_more()
            self.cancel_timers()
            raise
        finally:
            self._timers.life.groups.pop(self, None)
            self._timers.groups.pop(self._id, None)
            self._let_go()

    def _note(self, timer: Timer) -> None:
        """It is not pending any more."""
        self._idle.append(ref(timer))
        if len(self._idle) > self._sweep_at:
            self._sweep()

    def _sweep(self) -> None:
        # Finalizers may note others meanwhile, at the end; but they do not sweep.
        self._sweep_at = inf
        try:
            idle = self._idle
            count = len(idle)
            # Each once: all references to a timer are one object.
            alive = {id(kept): kept for kept in idle[:count] if kept() is not None}
            idle[:count] = alive.values()
        finally:
            self._sweep_at = 2 * len(self._idle) + _FEW

    def _let_go(self) -> None:
        """No timer can ever fire again: at any moment, and in any thread."""
        for timer in list(self._pending.values()):
            timer._let_go()
        self._pending.clear()
        idle, self._idle = self._idle, []
        for reference in idle:
            kept = reference()
            if kept is not None:
                kept._let_go()

    def __repr__(self) -> str:
        closed = ", closed" if self._closed else ""
        return f"<TimerGroup, {len(self._pending)} timers pending{closed}>"


class TimerGroupBlock(SyncBlock[TimerGroup, None]):
    """The block of a `TimerGroup` that is no nursery."""

    _usage = "`with clock.timer_group() as timers:`"

    def __init__(self, activation: Activation) -> None:
        activation.timers.check()
        if activation.timers.has_driver_task:
            raise RuntimeError(
                "a Trio task drives this clock, and no caller would see the exceptions "
                "of its callbacks: use `async with clock.open_timers() as timers:`. "
                "timer_group() is for the clocks of activate_manual()"
            )
        self._activation = activation

    @enable_ki_protection
    def __enter__(self) -> TimerGroup:
        self._enter_once()
        self._activation.timers.check()
        if current_run() is not None:
            # A control that moves the time may want to see when this run is idle.
            self._activation.timers.alarm.note_run()
        self._timers = TimerGroup(self._activation)
        return self._timers

    @enable_ki_protection
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._timers._close()
        # What no call has raised, as time moved by itself, or Ctrl-C came after it.
        raise_failures(self._timers._timers.failures.take(self._timers), exc)

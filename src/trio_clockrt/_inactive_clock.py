"""The recipe of a clock: from it a block makes one clock, see `_activating.py`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, NoReturn

from trio.lowlevel import enable_ki_protection

import trio_clockrt

from ._activating import USAGE, ActivationBlock, activate_caller_driven
from ._affinity import Affinity
from ._alarm import ManualAlarm
from ._block import AsyncBlock
from ._callbacks import check_notice
from ._clock import Clock
from ._driver import ClockDriver
from ._foreign_loop import LoopAlarm, LoopDriver
from ._hints import Hinted, hints
from ._time_source import SystemSource, TimeControl, TimeSource

if TYPE_CHECKING:
    import trio_clockrt.testing

# A bare `InactiveClock` means one of Isolated clocks. (At run
# time, Python before 3.13 knows no defaults here.)
if TYPE_CHECKING:
    from typing_extensions import TypeVar

    S = TypeVar("S", "Isolated", "Shared", default="Isolated")
else:
    from typing import TypeVar

    S = TypeVar("S", "Isolated", "Shared")


class Isolated:
    """Says of an `InactiveClock` that its clocks belong to where they are activated.

    Each has timers of its own, which can only be used in that Trio run, or in that
    thread, and which share nothing with those of others.
    """


class Shared:
    """Says of an `InactiveClock` that its clock can be used from every thread."""


@hints
class InactiveClock(Hinted, Generic[S]):
    """A recipe for a clock, to be activated once: in a Trio run, or without Trio.

    Until then it is plain data: it has no timers and no time.

    Example::

        >>> async def main():
        ...     async with InactiveClock().activate() as (clock, driver):
        ...         await clock.delay(60)
        ...         print(driver.statistics().fired)
        >>> trio.run(main, clock=MockClock(autojump_threshold=0))
        1
    """

    def __init__(self: InactiveClock[Isolated]) -> None:
        self._shared = False
        # Taken out in one step, by whichever thread is the first.
        self._left: list[None] = [None]
        # Whose time it is to follow, if it is not the run's.
        self._control: trio_clockrt.testing.ClockControl | None = None
        self._affinity: Affinity | None = None

    @classmethod
    def new_shared(cls) -> InactiveClock[Shared]:
        """A recipe for a clock that can be used from every thread.

        That is, by tasks of the Trio run that activates it, by those of other runs in
        other threads, and by threads without Trio: see `Clock.delay_blocking`. Its
        instants are those of the run that activates it, wherever they are read. The
        driver stays in that run, and when the clock is gone there, it is gone for all.

        It costs more than a clock for each run, which needs no lock and wakes no
        task in other threads.

        Example::

            >>> async def elsewhere(clock):
            ...     await clock.delay(0.01)
            ...     return "done"
            >>> async def main():
            ...     async with InactiveClock.new_shared().activate() as (clock, driver):
            ...         other_run = functools.partial(trio.run, elsewhere, clock)
            ...         print(await trio.to_thread.run_sync(other_run))
            >>> trio.run(main)
            done
        """
        return _make_recipe(shared=True)

    @classmethod
    def from_control(
        cls, control: trio_clockrt.testing.ClockControl
    ) -> InactiveClock[Isolated]:
        """A recipe for a clock that a `~trio_clockrt.testing.ClockControl` moves.

        Activated in the run whose clock the control is, that is a clock as any other.
        In any other run, only this clock is virtual, and Trio's own time stays real:
        the timeouts of the clock are driven by its timers, and the deadlines of their
        scopes stay infinite. Without Trio, with `activate_manual`, the timers fire in
        `~trio_clockrt.testing.ClockControl.advance` as well.

        Raises:
            TypeError: if *control* is something else.

        Example::

            >>> control = ClockControl(autojump_threshold=0)
            >>> async def main():
            ...     recipe = InactiveClock.from_control(control)
            ...     async with recipe.activate() as (clock, driver):
            ...         await clock.delay(3600)
            ...         print(clock.instant())
            >>> trio.run(main)
            3600.0
        """
        _check_control(control)
        return _make_recipe(control=control)

    def clone(self: InactiveClock[Isolated]) -> InactiveClock[Isolated]:
        """Another recipe for such a clock, whether or not this one is used up.

        Example::

            >>> recipe = InactiveClock()
            >>> async def main():
            ...     async with recipe.clone().activate() as (clock1, driver1):
            ...         async with recipe.clone().activate() as (clock2, driver2):
            ...             print(driver1 is driver2)
            >>> trio.run(main)
            False
        """
        self._check_isolated("clone")
        return _make_recipe(control=self._control, affinity=self._affinity)

    def relocate(
        self: InactiveClock[Isolated], source: Affinity | None, destination: Affinity
    ) -> None:
        """Say which core this recipe is for.

        It changes nothing about the clock but its `Clock.affinity`, as its timers are
        made in the thread that activates it, and near to that. Pin that thread: see
        `Affinity.pin_current_thread`.

        Args:
            source: The core that it comes from, or None if that is not known.
            destination: The core that it is for.

        Raises:
            TypeError: if one of them is something else, or if the clock is shared,
                which belongs to no core.
            ValueError: if their counts are not those of one machine.
            RuntimeError: if it has been activated already.

        Example::

            >>> core0, core1 = trio_clockrt.affinity.pinned_affinities([2])
            >>> recipe = InactiveClock()
            >>> recipe.relocate(None, core1)
            >>> clock, driver = recipe.activate_manual()
            >>> clock.affinity == core1
            True
        """
        self._check_isolated("relocate")
        if source is not None:
            _check_affinity(source, "source")
        _check_affinity(destination, "destination")
        if source is not None and not source._is_in_machine_of(destination):
            raise ValueError(
                "`source` and `destination` must be of one machine, but their counts "
                f"do not fit: {source!r}, {destination!r}"
            )
        self._check()
        self._affinity = destination

    def activate(self) -> AbstractAsyncContextManager[tuple[Clock, ClockDriver]]:
        """Make the clock run, for as long as an ``async with`` block lasts.

        The driver runs in a system task. It measures with the clock of the Trio run,
        and without timers it does not wake up at all.

        Leaving the block stops the driver and waits until it has stopped, also if
        the block is being cancelled. After that the clock is gone: a task or
        thread that still waits for it elsewhere is woken with `ClockGone`. An exception
        that leaves the block is not wrapped into anything.

        Returns:
            An async context manager whose value is ``(clock, driver)``, a `Clock` and
            its `ClockDriver`.

        Raises:
            RuntimeError: if this recipe has been activated before, or if the block is
                entered outside of a Trio task.
        """
        self._check()
        return ActivationBlock(self)

    def activate_manual(
        self, *, on_earlier: Callable[[], object] | None = None
    ) -> tuple[Clock, ClockDriver]:
        """Make the clock run without Trio: you call `ClockDriver.advance_timers`.

        For other event loops, for threads, and for programs that only want timers. Set
        timers in `Clock.timer_group`, from the thread that called this. The clock
        measures with the operating system's time, its instants are those of
        :func:`time.monotonic`, and it follows no clock of any Trio run.

        Hold on to the driver: when nothing refers to it, the clock is gone. It is gone
        too when `ClockDriver.advance_timers` finds that it is unused.

        Trio tasks may wait for such a clock, and open timer nurseries, while other code
        in the same thread calls `ClockDriver.advance_timers`: another task, or the host
        of a guest run.

        A loop that sleeps until the deadline it was told does not notice a timer that
        is set meanwhile, for an earlier instant. Pass *on_earlier*, which makes it wake
        up: see :doc:`other_loops`. It is called

        * when a timer becomes the next one to be due, earlier than what
          `ClockDriver.advance_timers` has returned, or `ClockDriver.next_deadline` has
          told, last; or when neither has been asked yet;
        * when the clock is no longer used, so that the next
          `ClockDriver.advance_timers` raises `ClockGone`.

        While `ClockDriver.advance_timers` is under way it is not called, as that
        returns the deadline. It is called at the end of the call that sets the timer:
        in the thread of the clock, or on a shared clock in any thread. An owner may go
        in any thread and at any moment. It should do no more than wake the loop, as
        :meth:`asyncio.loop.call_soon_threadsafe` does, and in a way that lasts: the
        loop may be just about to sleep. A call too many does no harm.

        An exception that it raises leaves the call that set the timer, which stays set;
        a task, a thread or a timeout does not begin to wait then. Where no such call
        is to be found (a finalizer has set the timer in the middle of something else,
        or an owner has gone), it comes out of the next `ClockDriver.advance_timers`.

        Args:
            on_earlier: A synchronous function without arguments.

        Returns:
            tuple[Clock, ClockDriver]: the clock and its driver.

        Raises:
            TypeError: if *on_earlier* is something else.
            RuntimeError: if this recipe has been activated before.

        Example::

            >>> clock, driver = InactiveClock().activate_manual()
            >>> with clock, clock.timer_group() as timers:
            ...     for n in range(3):
            ...         timer = timers.call_later(n / 100, print, n)
            ...     while (deadline := driver.advance_timers()) is not None:
            ...         time.sleep(max(0, deadline - clock.instant()))
            0
            1
            2

        With a loop that wants to be told::

            >>> recipe = InactiveClock()
            >>> tell = functools.partial(print, "sleep for less")
            >>> clock, driver = recipe.activate_manual(on_earlier=tell)
            >>> with clock.timer_group() as timers:
            ...     timer = timers.call_later(60, print, "a minute later")
            ...     print(driver.advance_timers() == timer.when)
            ...     later = timers.call_later(90, print, "too late to matter")
            ...     sooner = timers.call_later(30, print, "half a minute later")
            sleep for less
            True
            sleep for less
        """
        loop = make_driver = None
        if on_earlier is not None:
            check_notice(on_earlier, "on_earlier")
            loop = LoopAlarm()
            make_driver = partial(LoopDriver, loop, on_earlier)
        self._take()
        source: TimeSource = SystemSource()
        alarm = loop or ManualAlarm()
        if self._control is not None:
            source = self._control._time_source
            alarm = self._control._make_caller_driven_alarm(loop)
        return activate_caller_driven(
            source,
            alarm,
            "activate_manual()",
            self._shared,
            self._affinity,
            make_driver or ClockDriver,
        )

    def _check_isolated(self, what: str) -> None:
        if self._shared:
            raise TypeError(
                f"a shared clock has no {what}(): there is one of it, for all threads. "
                "Activate it once, and hand its Clock around; or use a recipe for "
                "each thread, InactiveClock()"
            )

    def _check(self) -> None:
        if not self._left:
            self._refuse()

    def _take(self) -> None:
        try:
            self._left.pop()
        except IndexError:
            self._refuse()

    def _put_back(self) -> None:
        self._left.append(None)

    def _refuse(self) -> NoReturn:
        instead = "activate a clone() of it, or call open_clock() again"
        if self._shared:
            instead = "hand its Clock around, or activate another new_shared()"
        raise RuntimeError(
            "this InactiveClock has been activated already, and a recipe makes one "
            f"clock only; {instead}"
        ) from None

    def __reduce__(self) -> tuple[Callable[..., InactiveClock[Any]], tuple[Any, ...]]:
        # A copy is a clone; it shares nothing with this one.
        return _make_recipe, (self._shared, self._control, self._affinity)

    def __repr__(self) -> str:
        about = ["InactiveClock"]
        if self._shared:
            about.append("shared")
        if self._control is not None:
            about.append(f"of {self._control!r}")
        if self._affinity is not None:
            about.append(f"for {self._affinity!r}")
        if not self._left:
            about.append("activated already")
        return f"<{', '.join(about)}>"

    # Hidden from type checkers, which are to find these mistakes.
    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            raise AttributeError(
                f"'InactiveClock' object has no attribute {name!r}: it is a recipe, "
                f"still to be activated: {USAGE}"
            )

        def __aenter__(self) -> NoReturn:
            raise TypeError(f"an InactiveClock has to be activated: {USAGE}")

        def __aexit__(self, *exc_info: object) -> None: ...


def _check_control(control: object) -> None:
    if not isinstance(control, TimeControl):
        raise TypeError(f"`control` must be a ClockControl, not {control!r}")


def _check_affinity(affinity: object, name: str) -> None:
    if not isinstance(affinity, Affinity):
        raise TypeError(
            f"`{name}` must be an Affinity, not {affinity!r}: "
            "relocate(source, destination), of which the first may be None"
        )


def _make_recipe(
    shared: bool = False,
    control: trio_clockrt.testing.ClockControl | None = None,
    affinity: Affinity | None = None,
) -> InactiveClock[Any]:
    recipe: InactiveClock[Any] = InactiveClock()
    recipe._shared, recipe._control, recipe._affinity = shared, control, affinity
    return recipe


def open_clock() -> AbstractAsyncContextManager[Clock]:
    """Open a clock, with ``async with``, for programs that do not need the driver.

    The same as activating a new `InactiveClock`, see `InactiveClock.activate`, but
    the value of the block is the `Clock` alone.

    Example::

        >>> async def main():
        ...     async with trio_clockrt.open_clock() as clock:
        ...         await clock.delay(0.1)
        >>> trio.run(main)
    """
    return _OpenClock()


class _OpenClock(AsyncBlock[Clock]):
    """An activation that keeps the driver to itself."""

    _usage = "`async with open_clock() as clock:`"

    def __init__(self) -> None:
        self._activation = InactiveClock().activate()

    @enable_ki_protection
    async def __aenter__(self) -> Clock:
        clock, _ = await self._activation.__aenter__()
        return clock

    @enable_ki_protection
    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        return await self._activation.__aexit__(exc_type, exc, traceback)

"""From a recipe to a running clock, for as long as a block lasts.

The block of an activation is a cancel scope and not a nursery. A nursery would add a
child task whose only work is to wait for the driver, and would wrap the body's
exceptions in a group that had to be unwrapped again. The block needs two things: to be
cancelled when the driver fails, which is what a scope is for, and to wait for the
driver's end in every case. It waits with an abort function that always declines, so
neither cancellation nor Ctrl-C ends that wait, which is one pass of the scheduler long.
Trio delivers them at the next checkpoint.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

import trio
from trio.lowlevel import (
    current_clock,
    current_task,
    current_trio_token,
    enable_ki_protection,
)

from ._activation import Activation
from ._affinity import Affinity
from ._alarm import DriverAlarm, ManualAlarm, TrioAlarm
from ._block import AsyncBlock
from ._clock import Clock
from ._driver import ClockDriver, DriverTask
from ._place import current_thread
from ._time_source import RunSource, TimeControl, TimeSource
from ._without_gil import made_for_no_thread

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

if TYPE_CHECKING:
    from ._inactive_clock import InactiveClock

USAGE = "`async with InactiveClock().activate() as (clock, driver):`"


class _Pair(tuple[Clock, ClockDriver]):
    """A clock and its driver."""

    __slots__ = ()

    # Hidden from type checkers, which are to find this mistake.
    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            raise AttributeError(
                f"this has no attribute {name!r}: it is a pair, a Clock and its "
                f"ClockDriver; unpack it: {USAGE}, or `clock, driver = "
                "InactiveClock().activate_manual()`. For a clock alone: "
                "`async with open_clock() as clock:`",
                name=name,
                obj=self,
            )


def _pair(clock: Clock, driver: ClockDriver) -> tuple[Clock, ClockDriver]:
    return _Pair((clock, driver))


class ActivationBlock(AsyncBlock[tuple[Clock, ClockDriver]]):
    """The block in which a clock is alive.

    It refers to the driver's task and never to the `Clock`.
    """

    _usage = USAGE

    def __init__(self, recipe: InactiveClock[Any]) -> None:
        self._recipe = recipe

    @enable_ki_protection
    async def __aenter__(self) -> tuple[Clock, ClockDriver]:
        self._recipe._check()
        try:
            name = current_task().name
        except RuntimeError:
            raise RuntimeError(
                "a clock can only be activated inside a Trio run: use `async with` in "
                "an async function that trio.run() runs"
            ) from None
        run_clock = current_clock()
        control: TimeControl | None = self._recipe._control
        if control is None and isinstance(run_clock, TimeControl):
            control = run_clock
        source: TimeSource
        alarm: DriverAlarm
        if control is None:
            source, alarm = RunSource(run_clock), TrioAlarm()
        else:
            source, alarm = control._time_source, control._make_alarm()
        activation = Activation(
            source,
            alarm,
            current_trio_token,
            has_driver_task=True,
            shared=self._recipe._shared,
            on_run_clock=control in (None, run_clock),
            name=name,
            affinity=self._recipe._affinity,
        )
        alarm.bind(activation.timers)
        driver = ClockDriver(activation)
        # All that a nursery would add to this scope is a place to wait for the
        # driver, which is no child of this block.
        self._scope = trio.CancelScope()
        self._task = DriverTask(driver, alarm)
        self._recipe._take()
        try:
            self._task.start(self._scope)
        except RuntimeError:
            self._recipe._put_back()
            raise RuntimeError(
                "the Trio run is shutting down, and its system nursery is closed: it "
                "is too late to activate a clock"
            ) from None
        self._scope.__enter__()
        return _pair(Clock(activation), driver)

    @enable_ki_protection
    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        defect = await self._task.stop()
        if defect is None:
            return self._scope.__exit__(exc_type, exc, traceback)
        try:
            # Being cancelled because of the defect is not the body's own error.
            if self._scope.__exit__(exc_type, exc, traceback):
                exc = None
        except BaseException as rest:
            exc = rest
        if exc is None:
            raise defect
        raise BaseExceptionGroup(
            "the clock's driver failed, and so did the block", [exc, defect]
        )


def activate_caller_driven(
    source: TimeSource,
    alarm: ManualAlarm,
    name: str,
    shared: bool = False,
    affinity: Affinity | None = None,
    make_driver: Callable[[Activation], ClockDriver] = ClockDriver,
) -> tuple[Clock, ClockDriver]:
    """Make a clock that no Trio task drives, in the current thread."""
    activation = Activation(
        source,
        alarm,
        current_thread,
        has_driver_task=False,
        shared=shared,
        on_run_clock=False,
        name=name,
        affinity=affinity,
    )
    make = partial(make_driver, activation)
    driver = made_for_no_thread(make) if shared else make()
    alarm.bind(driver, activation)
    return _pair(Clock(activation), driver)

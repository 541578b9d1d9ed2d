"""What is dropped in one thread is noticed in others, also without the GIL."""

from __future__ import annotations

from functools import partial
from math import inf

import pytest
import trio
from shared_clock import InThread, in_thread

from trio_clockrt import Clock, ClockGone, InactiveClock
from trio_clockrt.affinity import available_affinities, run_per_core
from trio_clockrt.testing import ClockControl

either = pytest.mark.parametrize("has_gil", [True, False])


@either
def test_a_driver_is_dropped_in_another_thread_than_its_maker_s(
    has_gil: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its maker waits meanwhile, and runs no Python code."""
    if not has_gil:
        monkeypatch.setattr("trio_clockrt._without_gil.has_gil", lambda: False)
    clock, driver = InactiveClock.new_shared().activate_manual()
    waiter = InThread(partial(clock.delay_blocking, inf))
    drivers = [driver]
    del driver
    in_thread(drivers.clear)
    with pytest.raises(ClockGone):
        waiter.result()


@either
def test_such_a_driver_fires(has_gil: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not has_gil:
        monkeypatch.setattr("trio_clockrt._without_gil.has_gil", lambda: False)
    calls: list[str] = []
    told: list[str] = []
    recipe = InactiveClock.new_shared()
    clock, driver = recipe.activate_manual(on_earlier=lambda: told.append("earlier"))
    with clock.timer_group() as timers:
        in_thread(lambda: timers.call_later(0, calls.append, "called"))
        assert told == ["earlier"]
        driver.advance_timers()
        assert calls == ["called"]


def test_a_clock_is_counted_once_it_has_timers() -> None:
    """Other threads look at all clocks of a control while this one is activated."""

    async def main() -> None:
        for where in own, elsewhere:
            alarm = where._make_alarm()
            assert where._states() == []
            del alarm

    own, elsewhere = ClockControl(), ClockControl()
    trio.run(main, clock=own)


def test_one_control_moves_the_time_of_four_runs() -> None:
    async def main(clock: Clock) -> None:
        for _ in range(20):
            await clock.delay(1)

    core, *_ = available_affinities()
    recipe = InactiveClock.from_control(ClockControl(autojump_threshold=0))
    run_per_core(main, inactive=recipe, affinities=[core] * 4)

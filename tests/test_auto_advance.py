"""Time that moves by a step with each reading: `auto_advance`."""

from __future__ import annotations

import datetime
import inspect
import sys
import threading
from pathlib import Path

import pytest
import trio
import trio.testing
from trio.lowlevel import checkpoint

from trio_clockrt import Clock, open_clock
from trio_clockrt.testing import ClockControl

if sys.version_info < (3, 11):
    pass

SOURCE = Path(inspect.getfile(ClockControl)).parent


def jumping() -> ClockControl:
    return ClockControl(autojump_threshold=0)


@pytest.fixture(name="control")
def new_control() -> ClockControl:
    return ClockControl()


@pytest.fixture
def clock(control: ClockControl) -> Clock:
    return control.to_clock()


# --- time that moves because somebody looks at it ---


def test_each_reading_moves_it() -> None:
    control = ClockControl(auto_advance=0.1)
    simple, clock = control.to_simple_clock(), control.to_clock()
    assert simple.instant() == 0.0  # the time before
    assert control.current_time() == 0.1
    assert clock.instant() == 0.1
    assert clock.system_time().microsecond == 200_000
    watch = simple.stopwatch()
    assert watch.elapsed() == pytest.approx(0.1)
    for _ in range(5):
        simple.system_time()
    assert control.current_time() == 1.0


def test_what_does_not_move_it() -> None:
    async def main() -> None:
        async with open_clock() as clock:
            await clock.delay(1)
            async for tick in clock.periodic(1):
                assert tick == 2
                break
            with clock.move_on_after(1):
                await trio.sleep_forever()
            async with clock.open_timers() as timers:
                timers.call_later(1, int)
        assert trio.current_time() == control.current_time() == 4

    control = ClockControl(auto_advance=10, autojump_threshold=0)
    trio.run(main, clock=control)
    assert control.current_time() == 4
    lone = control.to_clock()
    with lone.timer_group() as timers:
        assert timers.call_later(1, int).when == 5
        control.advance(1)
    assert control.current_time() == 5


def test_a_limit_for_all_readings_together() -> None:
    control = ClockControl(
        auto_advance=datetime.timedelta(seconds=2),
        auto_advance_limit=datetime.timedelta(seconds=5),
    )
    simple, clock = control.to_simple_clock(), control.to_clock()
    readings = [read.instant() for read in (simple, clock) * 3]
    assert readings == [0, 2, 4, 5, 5, 5]
    control.jump(1)
    assert [simple.instant(), simple.instant()] == [6, 6]


def test_no_limit_is_left_to_begin_with() -> None:
    control = ClockControl(auto_advance=1, auto_advance_limit=0)
    assert control.to_simple_clock().instant() == 0
    assert control.current_time() == 0


def test_a_reading_makes_timers_due() -> None:
    async def main() -> None:
        async with open_clock() as clock, trio.open_nursery() as nursery:
            nursery.start_soon(clock.delay, 3)
            nursery.start_soon(trio.sleep, 3)
            await trio.testing.wait_all_tasks_blocked()
            while clock.instant() < 2:
                await checkpoint()
        assert control.current_time() == 3

    control = ClockControl(auto_advance=1)
    trio.run(main, clock=control)


def test_a_reading_of_another_thread_makes_timers_due() -> None:
    async def main() -> None:
        async with open_clock() as clock, trio.open_nursery() as nursery:
            nursery.start_soon(clock.delay, 1)
            await trio.testing.wait_all_tasks_blocked()
            thread = threading.Thread(target=clock.instant)
            thread.start()
        thread.join()

    trio.run(main, clock=ClockControl(auto_advance=1))

"""Runs that crash beside others with the same control; for test_stand_alone.py."""

from __future__ import annotations

import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import trio
import trio.testing

from trio_clockrt import InactiveClock
from trio_clockrt.testing import ClockControl

# What the crashed runs leave behind, as long as anybody is interested.
left: list[object] = []


class Crash(trio.abc.Clock):
    """Makes the run crash when it would wait for a certain instant."""

    def __init__(self, go_on: threading.Event) -> None:
        self.ready = threading.Event()
        self.go_on = go_on

    def start_clock(self) -> None: ...

    def current_time(self) -> float:
        return 0.0

    def deadline_to_sleep_time(self, deadline: float) -> float:
        if deadline == 60:
            self.ready.set()
            self.go_on.wait()
            raise ZeroDivisionError
        return 0.0


def crash(control: ClockControl, clock: Crash) -> None:
    async def main() -> None:
        left.append(trio.lowlevel.current_root_task())
        lone = control.to_clock()
        async with trio.open_nursery() as nursery:
            async with InactiveClock.from_control(control).activate() as (driven, _):
                nursery.start_soon(driven.delay, 5)
                nursery.start_soon(lone.delay, 4)
                for _ in range(5):
                    await trio.lowlevel.checkpoint()
                await trio.sleep(60)

    with pytest.raises(trio.TrioInternalError) as caught:
        trio.run(main, clock=clock)
    left.append(caught)


def crash_before_others_wait(control: ClockControl) -> None:
    go_on = threading.Event()
    go_on.set()
    with ThreadPoolExecutor() as pool:
        pool.submit(crash, control, Crash(go_on)).result(30)


def crash_before_it_jumps() -> None:
    control = ClockControl(autojump_threshold=0)
    crash_before_others_wait(control)
    trio.run(control.to_clock().delay, 10)
    assert control.current_time() == 10


def crash_while_another_run_waits() -> None:
    async def main() -> None:
        clock = control.to_clock()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(clock.delay, 10)
            await trio.testing.wait_all_tasks_blocked()
            await trio.testing.wait_all_tasks_blocked()
            go_on.set()

    control = ClockControl(autojump_threshold=0)
    go_on = threading.Event()
    with ThreadPoolExecutor() as pool:
        crashing = Crash(go_on)
        future = pool.submit(crash, control, crashing)
        crashing.ready.wait()
        trio.run(main)
        future.result(30)
    assert control.current_time() == 10


def crash_before_run_for() -> None:
    control = ClockControl()
    crash_before_others_wait(control)
    trio.run(control.run_for, 10)
    assert control.current_time() == 10


def crash_in_run_for() -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(control.run_for, 10)
            for _ in range(3):
                await trio.lowlevel.checkpoint()
            go_on.set()

    control = ClockControl()
    go_on = threading.Event()
    with ThreadPoolExecutor() as pool:
        crashing = Crash(go_on)
        future = pool.submit(crash, control, crashing)
        crashing.ready.wait()
        trio.run(main)
        future.result(30)
    assert control.current_time() == 10


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # Trio's, about what the crashes leave behind
    crash_before_it_jumps()
    crash_while_another_run_waits()
    crash_before_run_for()
    crash_in_run_for()
    print("as it should be")

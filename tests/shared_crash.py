"""Shared clocks of Trio runs that never end properly; for test_shared_end.py."""

from __future__ import annotations

import gc
import sys
import threading
import warnings
from collections.abc import Awaitable, Callable
from math import inf

import outcome
import pytest
import trio
import trio.testing
from crashed_run import Crash, nothing_is_left
from shared_clock import InThread, SharedClock, in_thread

from trio_clockrt import Clock, ClockDriver, ClockGone, InactiveClock, Timer
from trio_clockrt._lifetime import _forked

if sys.version_info < (3, 11):
    from exceptiongroup import ExceptionGroup


def crash(main: Callable[[], Awaitable[object]]) -> None:
    with pytest.raises(trio.TrioInternalError) as caught:
        trio.run(main, clock=Crash())
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def the_driver_crashes() -> None:
    clocks: list[Clock] = []
    drivers: list[ClockDriver] = []
    told: list[str] = []

    async def drive() -> None:
        async with InactiveClock.new_shared().activate() as (clock, driver):
            clocks.append(clock)
            drivers.append(driver)
            activated.set()
            await trio.to_thread.run_sync(crash_now.wait)
            await trio.sleep_until(60)

    async def wait() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(delay)
            nursery.start_soon(open_timers)
            nursery.start_soon(time_out)
            nursery.start_soon(drivers[0].wait_gone)
            await trio.testing.wait_all_tasks_blocked()
            ready.release()

    async def delay() -> None:
        with pytest.raises(ClockGone):
            await clocks[0].delay(inf)
        told.append("delay")

    async def open_timers() -> None:
        with pytest.raises(ExceptionGroup):
            async with clocks[0].open_timers() as timers:
                timers.call_later(inf, int)
        told.append("timers")

    async def time_out() -> None:
        with pytest.raises(ClockGone):
            with clocks[0].move_on_after(inf):
                await trio.sleep_forever()
        told.append("timeout")

    def wait_blocking() -> None:
        ready.release()
        with pytest.raises(ClockGone):
            clocks[0].delay_blocking(inf)

    activated, crash_now = threading.Event(), threading.Event()
    ready = threading.Semaphore(0)
    driving = InThread(lambda: crash(drive))
    activated.wait()
    waiting = [InThread(wait_blocking), InThread(lambda: trio.run(wait))]
    for _ in waiting:
        ready.acquire()
    crash_now.set()
    driving.result()
    for thread in waiting:
        thread.result()
    assert sorted(told) == ["delay", "timeout", "timers"]
    assert not clocks[0].alive
    del driving, waiting, thread
    clocks.clear()
    drivers.clear()
    assert nothing_is_left()


def a_driver_whose_run_only_it_has_been_used_in_crashes() -> None:
    """Nobody waits for it in its own run, but a thread elsewhere."""

    async def drive() -> None:
        async with InactiveClock.new_shared().activate() as (clock, _):
            clocks.append(clock)
            await trio.sleep_until(60)

    clocks: list[Clock] = []
    crash(drive)
    # Not when it is collected as garbage: at once.
    assert not clocks[0].alive
    with pytest.raises(ClockGone, match="Trio run"):
        clocks[0].delay_blocking(inf)


def a_guest_run_is_dropped() -> None:
    async def drive() -> None:
        async with InactiveClock.new_shared().activate() as (clock, _):
            clocks.append(clock)
            await trio.sleep_until(60)

    todo: list[Callable[[], object]] = []
    results: list[outcome.Outcome[None]] = []
    clocks: list[Clock] = []
    trio.lowlevel.start_guest_run(
        drive, run_sync_soon_threadsafe=todo.append, done_callback=results.append
    )
    while not clocks:
        todo.pop(0)()
    thread = InThread(lambda: clocks[0].delay_blocking(inf))
    state = clocks[0]._timers
    while not state.tasks:
        pass
    todo.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()
    with pytest.raises(ClockGone):
        thread.result()


def a_waiting_run_crashes() -> None:
    shared = SharedClock()
    clock, driver = shared.clock, shared.driver
    calls: list[str] = []
    timers: list[Timer] = []

    async def wait() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(driver.wait_gone)
            for seconds in (1, inf):
                nursery.start_soon(clock.delay, seconds)
                nursery.start_soon(clock.periodic(3600).__anext__)
                nursery.start_soon(wait_in_a_nursery, seconds)
                nursery.start_soon(wait_in_a_timeout, seconds)

    async def wait_in_a_nursery(seconds: float) -> None:
        async with clock.open_timers() as opened:
            timers.append(opened.call_later(seconds, calls.append, "nobody is there"))
            opened.start_later(seconds, trio.sleep, 1)

    async def wait_in_a_timeout(seconds: float) -> None:
        with clock.move_on_after(seconds):
            await trio.sleep_until(60)

    crash(wait)
    assert len(timers) == 2
    assert shared.pending() == 0
    shared.jump(1)
    for timer in timers:
        assert not timer.pending
        assert not timer.cancel()
        for use in (
            lambda timer=timer: timer.reset(1),
            lambda timer=timer: timer._group.call_later(1, int),
        ):
            with pytest.raises(RuntimeError, match="closed"):
                in_thread(use)
    assert calls == []
    clock.close()
    shared.settle()
    assert not clock.alive
    shared.close()


def a_worker_thread_survives_its_run() -> None:
    shared = SharedClock()
    log: list[float] = []
    crashed, over = threading.Event(), threading.Event()

    def work() -> None:
        crashed.wait()
        shared.clock.delay_blocking(1)
        log.append(shared.clock.instant())
        over.set()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, work)
            nursery.start_soon(trio.sleep_until, 60)

    crash(main)
    crashed.set()
    shared.wait_until_pending(1)
    shared.jump(1)
    over.wait()
    assert log == [1]
    shared.close()


def this_is_a_fork() -> None:
    clocks = [InactiveClock().activate_manual(), InactiveClock().activate_manual()]
    # As Python does; here, as the child of a real fork measures no coverage.
    _forked()
    for clock, _ in clocks:
        with pytest.raises(ClockGone, match="fork"):
            clock.timer_group()


def main() -> None:
    the_driver_crashes()
    a_driver_whose_run_only_it_has_been_used_in_crashes()
    a_guest_run_is_dropped()
    a_waiting_run_crashes()
    a_worker_thread_survives_its_run()
    this_is_a_fork()
    assert nothing_is_left()
    print("as it should be")


if __name__ == "__main__":
    main()

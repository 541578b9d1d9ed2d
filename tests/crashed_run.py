"""Clocks of Trio runs that never end properly; for test_hard_moments.py."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable

import outcome
import pytest
import trio
import trio.testing

from trio_clockrt import (
    Clock,
    ClockDriver,
    ClockGone,
    InactiveClock,
    Timer,
    TimerNursery,
    open_clock,
)
from trio_clockrt._time_source import SystemSource
from trio_clockrt._timers import Timers

clocks: list[Clock] = []
drivers: list[ClockDriver] = []
timers: list[TimerNursery] = []
pending: list[Timer] = []


class Crash(trio.abc.Clock):
    """Makes the run crash when it would wait for a certain instant."""

    def start_clock(self) -> None: ...

    def current_time(self) -> float:
        return 0.0

    def deadline_to_sleep_time(self, deadline: float) -> float:
        if deadline == 60:
            raise ZeroDivisionError
        return 0.0


async def crash() -> None:
    async with InactiveClock().activate() as (clock, driver):
        clocks.append(clock)
        drivers.append(driver)
        async with clock.open_timers() as opened:
            timers.append(opened)
            pending.append(opened.call_later(60, int))
            opened.start_later(0, clock.delay, 60)
            await clock.delay(60)


def nothing_is_left() -> bool:
    """Whether Python frees all activations, now that nothing refers to them.

    It takes the collector some passes. The coroutines of a crashed run leave their
    blocks when they are collected, and wait again there, which makes new ones. Before
    CPython 3.15, a weak reference is cleared in the first pass, and proves nothing.
    """
    for _ in range(10):
        gc.collect()
        if not any(issubclass(type(thing), Timers) for thing in gc.get_objects()):
            return True
    return False


async def use_it_later() -> None:
    assert clocks[0].alive  # as nobody has noticed yet
    for use in (
        clocks[0].open_timers,
        lambda: timers[0].call_later(1, int),
        drivers[0].advance_timers,
    ):
        with pytest.raises(ClockGone):
            use()
    with pytest.raises(ClockGone):
        await clocks[0].delay(1)
    await drivers[0].wait_gone()
    # Another clock does not get into trouble.
    async with open_clock() as another:
        await another.delay(0.001)


def crash_a_run() -> None:
    with pytest.raises(trio.TrioInternalError) as caught:
        trio.run(crash, clock=Crash())
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    trio.run(use_it_later)
    assert not clocks[0].alive
    assert clocks[0].instant() == 0.0
    del caught
    forget()
    assert nothing_is_left()


def crash_a_run_and_never_look() -> None:
    with pytest.raises(trio.TrioInternalError):
        trio.run(crash, clock=Crash())
    assert clocks[0].alive
    forget()
    assert nothing_is_left()


def crash_and_notice(use: Callable[[], object]) -> object:
    """Use something of a crashed run, as the first who notices."""
    forget()
    with pytest.raises(trio.TrioInternalError):
        trio.run(crash, clock=Crash())
    return use()


def notice_it_in_every_way() -> None:
    assert crash_and_notice(lambda: drivers[0].next_deadline) is None
    assert crash_and_notice(lambda: timers[0].cancel_timers()) is None
    assert crash_and_notice(lambda: pending[-1].cancel()) is False
    assert crash_and_notice(lambda: trio.run(drivers[0].wait_gone)) is None
    forget()
    assert nothing_is_left()


def drop_a_guest_run() -> None:
    todo: list[Callable[[], object]] = []
    results: list[outcome.Outcome[None]] = []
    trio.lowlevel.start_guest_run(
        crash, run_sync_soon_threadsafe=todo.append, done_callback=results.append
    )
    while not clocks:
        todo.pop(0)()
    [clock] = clocks
    assert clock.alive
    todo.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()
    with pytest.raises(ClockGone):
        clock.open_timers()
    del clock
    forget()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert nothing_is_left()


def forget() -> None:
    for things in (clocks, timers, drivers, pending):
        things.clear()


async def crash_while_waiting() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_gone)
        for seconds in (1, 2, 3600):
            nursery.start_soon(clocks[0].delay, seconds)
            nursery.start_soon(wait_in_a_nursery, seconds)
            nursery.start_soon(wait_in_a_timeout, seconds)


async def wait_gone() -> None:
    await drivers[0].wait_gone()


async def wait_in_a_nursery(seconds: float) -> None:
    async with clocks[0].open_timers() as opened:
        opened.call_later(seconds, calls.append, "nobody is there")
        opened.start_later(seconds, trio.sleep, 1)


async def wait_in_a_timeout(seconds: float) -> None:
    with clocks[0].move_on_after(seconds):
        await trio.sleep_until(60)


async def wait_in_another_run() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(clocks[0].delay, 1)
        nursery.start_soon(wait_gone)
        await trio.testing.wait_all_tasks_blocked()
        now[0] += 1
        drivers[0].advance_timers()
        await trio.testing.wait_all_tasks_blocked()
        assert len(nursery.child_tasks) == 1
        drivers.clear()


def crash_among_the_waiters_of_a_manual_clock() -> None:
    SystemSource.instant = SystemSource.now = staticmethod(lambda: now[0])
    clock, driver = InactiveClock().activate_manual()
    clocks.append(clock)
    drivers.append(driver)
    del driver
    with pytest.raises(trio.TrioInternalError):
        trio.run(crash_while_waiting, clock=Crash())
    with clock.timer_group() as group:
        group.call_later(1, calls.append, "outside")
        group.call_later(2, calls.append, "in another run")
        now[0] += 1
        drivers[0].advance_timers()
        assert drivers[0].statistics().pending == 1  # of those, none is left
        trio.run(wait_in_another_run)
    assert calls == ["outside", "in another run"]
    assert not clock.alive


calls: list[str] = []
now = [1000.0]


def main() -> None:
    crash_a_run()
    crash_a_run_and_never_look()
    notice_it_in_every_way()
    drop_a_guest_run()
    crash_among_the_waiters_of_a_manual_clock()
    print("as it should be")


if __name__ == "__main__":
    main()

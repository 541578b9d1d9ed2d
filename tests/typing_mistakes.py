"""What must not type-check.

Each mistake is marked as one. If a type checker no longer finds it, the checker reports
that the mark is not needed. Nothing in here runs.
"""

from __future__ import annotations

import datetime

import trio

import trio_clockrt
from trio_clockrt import Clock, InactiveClock, Isolated, Shared, TimerNursery, testing
from trio_clockrt.affinity import Affinity, pinned_affinities, run_per_core


def two(first: int, second: str) -> None: ...


async def two_async(first: int, second: str) -> None: ...


async def times(clock: Clock, timers: TimerNursery) -> None:
    await clock.delay(1)
    await clock.delay(0.5)
    await clock.delay(datetime.timedelta(1))
    await clock.delay("1")  # type: ignore[arg-type]
    await clock.delay(None)  # type: ignore[arg-type]
    await clock.delay_until(datetime.timedelta(1))  # type: ignore[arg-type]
    await clock.delay_until(datetime.datetime.now())  # type: ignore[arg-type]
    await clock.sleep(1)  # type: ignore[attr-defined]
    clock.now()  # type: ignore[attr-defined]
    timers.call_later(1, print).stop()  # type: ignore[attr-defined]
    timers.call_soon(print)  # type: ignore[attr-defined]
    clock[0]  # type: ignore[index]
    clock.periodic("1")  # type: ignore[arg-type]
    clock.periodic(1, missed="burst")  # type: ignore[arg-type]
    clock.move_on_at(datetime.timedelta(1))  # type: ignore[arg-type]
    clock.fail_after(1, True)  # type: ignore[call-arg]
    clock.open_timers(on_exit="abandon")  # type: ignore[arg-type]
    timers.call_at(datetime.timedelta(1), print)  # type: ignore[arg-type]


def callbacks(timers: TimerNursery) -> None:
    timers.call_later(1, two, 1, "two")
    timers.call_later(1, two, 1)  # type: ignore[arg-type]
    timers.call_later(1, two, "one", "two")  # type: ignore[arg-type]
    timers.call_every(1, two, 1, 2)  # type: ignore[arg-type]
    timers.call_at(1, None)  # type: ignore[arg-type]
    timers.call_later(1, print, 1, sep="")  # type: ignore[call-arg]
    timers.start_at(1, two_async, 1, "two", second="two")  # type: ignore[call-arg]
    timers.start_later(1, two_async, 1, "two", name="two")
    timers.start_later(1, two_async, 1)  # type: ignore[arg-type]
    timers.start_later(1, two, 1, "two")  # type: ignore[arg-type]
    timers.start_at(1, two_async(1, "two"))  # type: ignore[arg-type]


async def blocks(clock: Clock) -> None:
    async with InactiveClock().activate() as (activated, driver):
        _: tuple[Clock, trio_clockrt.ClockDriver] = (activated, driver)
    async with InactiveClock().activate() as wrong:
        wrong.delay(1)  # type: ignore[attr-defined]
    async with trio_clockrt.open_clock() as (_clock, _driver):  # type: ignore[misc]
        pass
    with InactiveClock().activate():  # type: ignore[attr-defined]
        pass
    scope: trio.CancelScope
    with clock.move_on_after(1) as scope:
        scope.cancel()
    with clock.fail_at(1) as scope:
        scope.cancel()
    async for tick in clock.periodic(1):
        tick.is_integer()
        tick.upper()  # type: ignore[attr-defined]
    for _ in clock.periodic(1):  # type: ignore[attr-defined]
        pass


async def recipes(core: Affinity) -> None:
    isolated: InactiveClock = InactiveClock()
    same: InactiveClock[Isolated] = isolated.clone()
    isolated = same
    isolated.relocate(None, core)
    shared: InactiveClock[Shared] = InactiveClock.new_shared()
    async with shared.activate() as (clock, _):
        clock.delay_blocking(1)
        clock.delay_blocking("1")  # type: ignore[arg-type]
    shared.clone()  # type: ignore[misc]
    shared.relocate(None, core)  # type: ignore[misc]
    isolated.relocate(None, None)  # type: ignore[arg-type]
    isolated = InactiveClock.new_shared()  # type: ignore[assignment]
    run_per_core(on_core, 1, inactive=shared)  # type: ignore[arg-type]


async def on_core(clock: Clock, first: int) -> str:
    return "result"


def cores(affinities: list[Affinity]) -> None:
    results: list[str] = run_per_core(on_core, 1)
    results = run_per_core(on_core, 1, inactive=InactiveClock(), affinities=affinities)
    results.sort()
    run_per_core(on_core)  # type: ignore[arg-type]
    run_per_core(on_core, "one")  # type: ignore[arg-type]
    run_per_core(two, 1, "two")  # type: ignore[arg-type]
    run_per_core(on_core, 1, affinities=4)  # type: ignore[arg-type]
    run_per_core(on_core, 1, affinities=affinities[0])  # type: ignore[arg-type]
    run_per_core(on_core, 1, inactive=None, name="one")  # type: ignore[call-arg]
    pinned_affinities(2)  # type: ignore[arg-type]
    pinned_affinities(["2"])  # type: ignore[list-item]
    Affinity(0, 1, 0, 1)  # type: ignore[call-arg]


async def cores_from_a_task() -> None:
    results: list[str] = await trio.to_thread.run_sync(run_per_core, on_core, 1)
    results.sort()


def elsewhere() -> None:
    from trio_clockrt import ClockControl  # type: ignore[attr-defined]

    trio_clockrt.run_per_core(on_core, 1)  # type: ignore[attr-defined]
    ClockControl().tick(1)
    testing.ClockControl().tick(1)  # type: ignore[attr-defined]


def loops(recipe: InactiveClock) -> None:
    clock, driver = recipe.activate_manual(on_earlier=print)
    driver.tick()  # type: ignore[attr-defined]
    clock.timer_group()
    recipe.activate_manual(on_earlier=two)  # type: ignore[arg-type]
    recipe.activate_manual(print)  # type: ignore[call-arg]


def private() -> None:
    trio_clockrt.Clock()  # type: ignore[call-arg]
    trio_clockrt.PeriodicTimer()  # type: ignore[call-arg]
    trio_clockrt.TimerNursery()  # type: ignore[call-arg]

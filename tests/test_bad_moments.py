"""Every public call, at every moment at which it must be refused: one table."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import pytest
import trio

import trio_clockrt
from trio_clockrt import (
    Clock,
    ClockDriver,
    ClockGone,
    InactiveClock,
    PeriodicTimer,
    Timer,
    TimerGroup,
    TimerNursery,
)


@attrs.define
class Things:
    """All that is made of one activation."""

    clock: Clock
    driver: ClockDriver
    timers: TimerNursery
    timer: Timer
    ticks: PeriodicTimer


Use = Callable[[Things], object]

# What the owner of a clock can do with it.
OF_A_CLOCK: dict[str, Use] = {
    "delay": lambda it: it.clock.delay(1),
    "delay zero": lambda it: it.clock.delay(0),
    "delay_until": lambda it: it.clock.delay_until(1),
    "delay_until past": lambda it: it.clock.delay_until(-1),
    "periodic": lambda it: it.clock.periodic(1),
    "move_on_after": lambda it: it.clock.move_on_after(1),
    "move_on_at": lambda it: it.clock.move_on_at(1),
    "fail_after": lambda it: it.clock.fail_after(1),
    "fail_at": lambda it: it.clock.fail_at(1),
    "open_timers": lambda it: it.clock.open_timers(),
    "timer_group": lambda it: it.clock.timer_group(),
}
OF_A_NURSERY: dict[str, Use] = {
    "call_later": lambda it: it.timers.call_later(1, int),
    "call_at": lambda it: it.timers.call_at(1, int),
    "call_every": lambda it: it.timers.call_every(1, int),
    "start_later": lambda it: it.timers.start_later(1, trio.sleep, 1),
    "start_at": lambda it: it.timers.start_at(1, trio.sleep, 1),
    "Timer.reset": lambda it: it.timer.reset(1),
}
OF_OTHERS: dict[str, Use] = {
    "PeriodicTimer.__anext__": lambda it: it.ticks.__anext__(),
    "PeriodicTimer.reset": lambda it: it.ticks.reset(),
    "advance_timers": lambda it: it.driver.advance_timers(),
}
# What does nothing any more once the clock has gone, and is refused elsewhere.
UNTIL_GONE: dict[str, Use] = {
    "Timer.cancel": lambda it: it.timer.cancel(),
    "cancel_timers": lambda it: it.timers.cancel_timers(),
    "wait_gone": lambda it: it.driver.wait_gone(),
    "next_deadline": lambda it: it.driver.next_deadline,
}
# What is allowed at any time, from anywhere.
ALWAYS: dict[str, Use] = {
    "instant": lambda it: it.clock.instant(),
    "system_time": lambda it: it.clock.system_time(),
    "stopwatch": lambda it: it.clock.stopwatch().elapsed(),
    "system": lambda it: it.clock.system(),
    "alive": lambda it: it.clock.alive,
    "close": lambda it: it.clock.close(),
    "statistics": lambda it: it.driver.statistics(),
    "pending": lambda it: it.timer.pending,
    "when": lambda it: it.timer.when,
    "repr": lambda it: [repr(thing) for thing in attrs.astuple(it, recurse=False)],
}

TABLES = OF_A_CLOCK, OF_A_NURSERY, OF_OTHERS, UNTIL_GONE, ALWAYS
ELSEWHERE = {
    "affinity",
    "clone",
    "cancel_scope",
    "delay_blocking",
    "open_clock",
    "activate",
}


def test_the_table_is_complete() -> None:
    methods = {
        name
        for cls in (Clock, TimerGroup, TimerNursery, Timer, PeriodicTimer, ClockDriver)
        for name in dir(cls)
        if not name.startswith("_")
    }
    in_the_table = {
        name.split()[0].rpartition(".")[2] for table in TABLES for name in table
    }
    assert methods - in_the_table - ELSEWHERE == set()
    assert set(trio_clockrt.__all__) >= {"Clock", "TimerNursery", "Timer"}


async def do(use: Use, things: Things) -> object:
    result = use(things)
    return await result if inspect.isawaitable(result) else result


async def with_things(check: Callable[[Things], Awaitable[None]]) -> Things:
    """Checks before the end, and that nothing was registered meanwhile."""
    async with InactiveClock().activate() as (clock, driver):
        ticks = clock.periodic(1)
        async with clock.open_timers(on_exit="cancel") as timers:
            timer = timers.call_later(3600, int)
            things = Things(clock, driver, timers, timer, ticks)
            before = driver.statistics()
            await check(things)
            assert attrs.evolve(driver.statistics(), wakeups=before.wakeups) == before
            assert timer.pending
    return things


def parametrize(*tables: dict[str, Use]) -> pytest.MarkDecorator:
    cases = {name: use for table in tables for name, use in table.items()}
    return pytest.mark.parametrize("use", cases.values(), ids=cases)


@parametrize(OF_A_CLOCK, OF_A_NURSERY, OF_OTHERS)
async def test_after_the_end(use: Use) -> None:
    async def nothing(things: Things) -> None:
        pass

    things = await with_things(nothing)
    with pytest.raises(ClockGone, match="this clock is gone") as caught:
        await do(use, things)
    assert "block that activated it" in str(caught.value)
    assert "use it inside" in str(caught.value)
    assert things.driver.statistics().pending == 0


@parametrize(UNTIL_GONE, ALWAYS)
async def test_allowed_after_the_end(use: Use) -> None:
    async def nothing(things: Things) -> None:
        pass

    await do(use, await with_things(nothing))


@parametrize(OF_A_CLOCK)
async def test_while_closed(use: Use) -> None:
    async def check(things: Things) -> None:
        with things.clock.clone() as closed:
            pass
        with pytest.raises(trio.ClosedResourceError, match=r"clone\(\)"):
            await do(use, attrs.evolve(things, clock=closed))

    await with_things(check)


@parametrize(ALWAYS)
async def test_allowed_while_closed(use: Use) -> None:
    async def check(things: Things) -> None:
        with things.clock.clone() as closed:
            pass
        await do(use, attrs.evolve(things, clock=closed))

    await with_things(check)


@parametrize(OF_A_CLOCK, OF_A_NURSERY, OF_OTHERS, UNTIL_GONE)
@pytest.mark.parametrize("in_another_run", [False, True])
async def test_in_another_thread(use: Use, in_another_run: bool) -> None:
    def elsewhere(things: Things) -> None:
        with pytest.raises(RuntimeError, match=r"new_shared\(\)") as caught:
            if in_another_run:
                trio.run(do, use, things)
            else:
                # Without a run there is nobody to wait.
                result: Any = use(things)
                result.send(None)
        assert "from_thread.run_sync()" in str(caught.value)

    async def check(things: Things) -> None:
        await trio.to_thread.run_sync(elsewhere, things)

    await with_things(check)


@parametrize(ALWAYS)
async def test_allowed_in_another_thread(use: Use) -> None:
    async def check(things: Things) -> None:
        clone = things.clock.clone()
        things = attrs.evolve(things, clock=clone)
        await trio.to_thread.run_sync(trio.run, do, use, things)

    await with_things(check)


@parametrize(OF_A_CLOCK, OF_A_NURSERY, OF_OTHERS, UNTIL_GONE)
def test_outside_of_trio_where_the_run_has_been(use: Use) -> None:
    async def nothing(things: Things) -> None:
        pass

    things = trio.run(with_things, nothing)
    if use in UNTIL_GONE.values():
        return
    with pytest.raises(ClockGone):
        result: Any = use(things)
        result.send(None)


def test_entering_outside_of_trio() -> None:
    for block in (InactiveClock().activate(), trio_clockrt.open_clock()):
        with pytest.raises(RuntimeError, match=r"inside a Trio run.*trio\.run\(\)"):
            block.__aenter__().send(None)


async def test_entering_a_second_time() -> None:
    recipe = InactiveClock()
    async with recipe.activate() as (clock, _driver):
        for again in (recipe.activate, recipe.activate_manual):
            with pytest.raises(RuntimeError, match=r"activate a clone\(\) of it"):
                again()
        block = clock.open_timers()
        async with block:
            with pytest.raises(RuntimeError, match="entered already"):
                await block.__aenter__()
        with pytest.raises(RuntimeError, match="entered already"):
            await block.__aenter__()
    clock_block = trio_clockrt.open_clock()
    async with clock_block:
        with pytest.raises(RuntimeError, match=r"open_clock\(\) again"):
            await clock_block.__aenter__()


@parametrize(OF_A_NURSERY)
async def test_when_the_nursery_is_closed(use: Use) -> None:
    async with InactiveClock().activate() as (clock, driver):
        async with clock.open_timers() as timers:
            timer = timers.call_later(0, int)
        things = Things(clock, driver, timers, timer, clock.periodic(1))
        with pytest.raises(RuntimeError, match="this TimerNursery is closed"):
            await do(use, things)
        assert driver.statistics().pending == 0

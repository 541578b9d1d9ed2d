"""After the block, whatever was in it: no task, timer, thread, descriptor or object."""

from __future__ import annotations

import gc
import os
import sys
import threading
import tracemalloc
import weakref
from collections.abc import Callable, Coroutine

import attrs
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from trio_clockrt import Clock, ClockGone, InactiveClock, Timer, open_clock

if sys.version_info < (3, 11):
    from exceptiongroup import ExceptionGroup


@attrs.frozen
class Footprint:
    tasks: int
    threads: int
    descriptors: int

    def __le__(self, other: Footprint) -> bool:
        # Idle threads of Trio's end by themselves, which need not be ours.
        return (
            self.tasks == other.tasks
            and self.threads <= other.threads
            and self.descriptors <= other.descriptors
        )


def footprint() -> Footprint:
    directory = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"
    return Footprint(
        trio.lowlevel.current_statistics().tasks_living,
        threading.active_count(),
        len(os.listdir(directory)),
    )


@pytest.mark.skipif(os.name != "posix", reason="counts descriptors in a directory")
async def test_ten_thousand_delays_and_a_hundred_thousand_timers() -> None:
    gone: list[str] = []
    references: list[weakref.ref[object]] = []

    def callback() -> None:
        raise AssertionError

    async def wait_elsewhere(clock: Clock, seconds: float) -> None:
        with pytest.raises(ClockGone):
            await clock.delay(seconds)
        gone.append("delay")

    async def timers_elsewhere(clock: Clock) -> None:
        with pytest.raises(ExceptionGroup) as caught:
            async with clock.open_timers() as timers:
                for n in range(100_000):
                    timer = timers.call_later(60 + n % 1000, callback)
                references.append(weakref.ref(timers))
                references.append(weakref.ref(timer))
        assert [type(error) for error in caught.value.exceptions] == [ClockGone]
        gone.append("timers")

    await trio.testing.wait_all_tasks_blocked()
    before = footprint()
    async with trio.open_nursery() as nursery:
        async with InactiveClock().activate() as (clock, driver):
            nursery.start_soon(timers_elsewhere, clock)
            for n in range(10_000):
                nursery.start_soon(wait_elsewhere, clock, 60 + n / 100)
            await trio.testing.wait_all_tasks_blocked()
            assert driver.statistics().pending == 110_000
            references.append(weakref.ref(driver._timers))
        assert driver.statistics().pending == 0
    assert sorted(gone) == ["delay"] * 10_000 + ["timers"]
    assert footprint() <= before
    del clock, driver, nursery
    gc.collect()
    assert [reference() for reference in references] == [None] * 3


async def test_a_clock_is_freed_without_the_garbage_collector() -> None:
    async def use() -> list[weakref.ref[object]]:
        async with InactiveClock().activate() as (clock, driver):
            async with clock.open_timers() as timers:
                timer = timers.call_later(0, int)
            await clock.delay(0.001)
            return [weakref.ref(thing) for thing in (clock, driver, timers, timer)]

    gc.collect()
    gc.disable()
    try:
        references = await use()
        assert [reference() for reference in references] == [None] * 4
    finally:
        gc.enable()


# --- small ---


@pytest.mark.parametrize("how", ["call_at", "call_every", "start_at"])
async def test_a_timer_is_some_three_hundred_bytes(how: str) -> None:
    async with open_clock() as clock:
        async with clock.open_timers(on_exit="cancel") as timers:

            def register(seconds: float) -> Timer:
                if how == "call_at":
                    return timers.call_at(later + seconds, int)
                if how == "call_every":
                    return timers.call_every(1e4 + seconds, int)
                return timers.start_at(later + seconds, trio.lowlevel.checkpoint)

            later = clock.instant() + 1e4
            # That would be a good deal more in one version of Python or another.
            assert not hasattr(register(0), "__dict__")
            gc.collect()
            tracemalloc.start()
            try:
                # In pairs, so that cells are counted too.
                for n in range(1_000):
                    register(n)
                    register(n + 1e-5)
                gc.collect()
                size, _ = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            limit = 600 if how == "call_every" else 390
            assert 200 < size / 2_000 < limit


# --- flat, however long it goes on ---

# How much of it; `make soak` takes more.
TIMERS = int(os.environ.get("SOAK_TIMERS", "30000"))
# Bytes; threads of a test runner may want some while we count.
SLACK = 100_000


async def memory_growth(
    work: Callable[[int], Coroutine[object, object, None]], rounds: int
) -> int:
    """By how many bytes the last nine tenths of the rounds have raised the peak."""
    before = footprint()
    tracemalloc.start()
    try:
        for n in range(rounds // 10):
            await work(n)
        gc.collect()
        _, early = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        for n in range(rounds // 10, rounds):
            await work(n)
        gc.collect()
        _, late = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert footprint() <= before
    return late - early


@pytest.mark.skipif(os.name != "posix", reason="counts descriptors in a directory")
async def test_a_thousand_activations_in_a_row(autojump_clock: MockClock) -> None:
    async def activate(n: int) -> None:
        async with open_clock() as clock:
            clone = clock.clone()
            async with clone.open_timers(on_exit="cancel") as timers:
                timers.call_later(1, int)
                timers.start_later(1, clock.delay, 1)
                timers.call_every(1, int)
                await clock.delay(1)
                with clock.move_on_after(0):
                    await clone.periodic(60).__anext__()

    assert await memory_growth(activate, 1000) < SLACK


@pytest.mark.skipif(os.name != "posix", reason="counts descriptors in a directory")
async def test_timers_with_distinct_far_deadlines(mock_clock: MockClock) -> None:
    # A thousand pending at a time; each is registered, reset, and cancelled or fired.
    batch = 1000

    async def use(n: int) -> None:
        pending = [
            timers.call_later(1e6 + (n * batch + k) / 7, int) for k in range(batch)
        ]
        for k, timer in enumerate(pending):
            timer.reset(2e6 + (n * batch + k) / 3)
        for k, timer in enumerate(pending):
            if k % 2:
                timer.cancel()
            else:
                timer.reset(k / batch)
        mock_clock.jump(1)
        await clock.delay(0)
        while driver.statistics().pending:
            await trio.lowlevel.checkpoint()

    async with InactiveClock().activate() as (clock, driver):
        async with clock.open_timers() as timers:
            assert await memory_growth(use, TIMERS // batch) < SLACK
        statistics = driver.statistics()
        assert statistics.fired == TIMERS // 2
        assert statistics.cancelled == 2 * TIMERS

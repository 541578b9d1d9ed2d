"""Clocks of different threads share nothing, unless they are made for that."""

from __future__ import annotations

import sys
import threading
from types import FrameType, ModuleType
from typing import Any

import pytest
import trio

import trio_clockrt
from trio_clockrt import Clock, ClockDriver, InactiveClock
from trio_clockrt.affinity import pinned_affinities, run_per_core

PACKAGE = trio_clockrt.__path__[0]


class Touched:
    """Every object of which a function is called by this library, or in it."""

    def __init__(self) -> None:
        # Kept, so that no other object gets the same number.
        self.objects: dict[int, object] = {}
        self.calls = 0

    def __call__(self, frame: FrameType, event: str, arg: Any) -> None:
        if frame.f_code.co_filename.startswith(PACKAGE):
            if event == "call":
                self.note(frame.f_locals.get("self"))
            elif event == "c_call":
                self.note(getattr(arg, "__self__", None))

    def note(self, thing: object) -> None:
        self.calls += 1
        if not isinstance(thing, (type, ModuleType, type(None), str, float, int)):
            self.objects[id(thing)] = thing


async def use(clock: Clock, driver: ClockDriver, calls: list[int]) -> None:
    async with clock.open_timers() as timers, trio.open_nursery() as nursery:
        for n in range(100):
            nursery.start_soon(clock.delay, n / 1e5)
            timers.call_later(n / 1e5, calls.append, n).reset(n / 1e5)
            timers.start_later(n / 1e5, clock.delay, 0)
            timers.call_later(60, print).cancel()
    with clock.clone() as clone:
        await clone.periodic(1e-4).__anext__()
    assert driver.statistics().fired >= 299


def test_firing_on_one_clock_never_touches_another() -> None:
    async def main() -> None:
        async with recipe.clone().activate() as (clock, driver):
            calls: list[int] = []
            await trio.to_thread.run_sync(both_there.wait)
            touched = Touched()
            sys.setprofile(touched)
            try:
                await use(clock, driver, calls)
            finally:
                sys.setprofile(None)
            assert sorted(calls) == list(range(100))
            everything.append(touched)
            await trio.to_thread.run_sync(both_there.wait)

    recipe = InactiveClock()
    both_there = threading.Barrier(2)
    everything: list[Touched] = []
    threads = [threading.Thread(target=trio.run, args=[main]) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first, second = everything
    assert min(first.calls, second.calls) > 5000
    shared = first.objects.keys() & second.objects.keys()
    assert [first.objects[number] for number in shared] == []


def test_each_run_has_its_own_timers() -> None:
    async def main(clock: Clock) -> Any:
        async with clock.open_timers() as timers:
            timers.call_later(0, int)
        return clock.affinity

    cores = pinned_affinities([1]) * 2
    assert run_per_core(main, affinities=cores) == cores


def test_a_clock_of_another_thread() -> None:
    async def main() -> None:
        async with InactiveClock().activate() as (clock, _):
            with pytest.raises(RuntimeError, match=r"new_shared\(\)"):
                await trio.to_thread.run_sync(trio.run, clock.delay, 1)

    trio.run(main)

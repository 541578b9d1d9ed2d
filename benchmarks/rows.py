"""The rows of the table: what is measured, beside what, and with which goal.

Each contender is a function of a size, from 0 to 1. It does as much as that asks for,
and returns what one operation has cost. The first contender of a row is ours.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import os
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial
from random import Random
from statistics import median
from tempfile import TemporaryDirectory
from threading import Semaphore, Thread
from typing import Any

import attrs
import trio
from trio.lowlevel import checkpoint
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_clockrt import Clock, InactiveClock, open_clock
from trio_clockrt.affinity import available_affinities, run_per_core
from trio_clockrt.testing import ClockControl

Contender = Callable[[float], float]
Wait = Callable[[float], Awaitable[object]]

# Waits that are due at once.
AT_ONCE = 1e-6


@attrs.frozen
class Row:
    """One line of the table.

    Attributes:
        name: What to call it on the command line.
        what: The same for people.
        contenders: Ours first, then the peer that it is compared with.
        goal: Our cost is to be at most so many times that of the peer; if there is no
            peer, at most so much. None if the row is for information.
        unit: Of what the contenders return.
        rounds: At most so many.
    """

    name: str
    what: str
    contenders: dict[str, Contender]
    goal: float | None
    unit: str = "us"
    rounds: int = 1000


class Cost:
    """What a block has cost, for each of so many operations."""

    each = 0.0

    def __init__(self, operations: int) -> None:
        self.operations = operations

    @contextmanager
    def measured(self) -> Generator[None]:
        # What others leave behind is not at the expense of this one.
        gc.collect()
        # Not the time on the wall: a program that waits is idle, which costs nothing.
        begin = time.process_time()
        yield
        self.each = (time.process_time() - begin) * 1e6 / self.operations


def times(size: float, most: int, least: int = 1) -> int:
    return max(int(most * size), least)


def nothing() -> None:
    """What timers call."""


# --- waiting ---


async def bare_checkpoint(_: float) -> None:
    await checkpoint()


def delay(clock: Clock) -> Wait:
    return clock.delay


def sleep(_: Clock) -> Wait:
    return trio.sleep


def bare(_: Clock) -> Wait:
    return bare_checkpoint


async def wait_in_loops(
    find: Callable[[Clock], Wait], tasks: int, waits: int, longest: float
) -> float:
    """Each task waits again and again, for random times up to the longest."""
    cost, random, running = Cost(tasks * waits), Random(0), tasks
    start, end = trio.Event(), trio.Event()

    async def loop(wait: Wait) -> None:
        nonlocal running
        plan = [random.uniform(AT_ONCE, longest) for _ in range(waits)]
        await start.wait()
        for seconds in plan:
            await wait(seconds)
        running -= 1
        if not running:
            end.set()
        # To end here would cost more than some of the waits.
        await trio.sleep_forever()

    async with open_clock() as clock, trio.open_nursery() as nursery:
        for _ in range(tasks):
            nursery.start_soon(loop, find(clock))
        await wait_all_tasks_blocked()
        with cost.measured():
            start.set()
            await end.wait()
        nursery.cancel_scope.cancel()
    return cost.each


def waits(
    find: Callable[[Clock], Wait],
    tasks: int,
    most: int,
    longest: float,
    clock: Callable[[], trio.abc.Clock] | None = None,
) -> Contender:
    def contender(size: float) -> float:
        # Never so few that the start and the end of the loops show.
        each = times(size, most // tasks, 30 if size == 1 else 1)
        return trio.run(
            wait_in_loops, find, tasks, each, longest, clock=clock and clock()
        )

    return contender


async def asyncio_in_loops(tasks: int, waits: int, longest: float) -> float:
    cost, random = Cost(tasks * waits), Random(0)

    async def loop() -> None:
        plan = [random.uniform(AT_ONCE, longest) for _ in range(waits)]
        await start.wait()
        for seconds in plan:
            await asyncio.sleep(seconds)

    start = asyncio.Event()
    running = [asyncio.ensure_future(loop()) for _ in range(tasks)]
    await asyncio.sleep(0)
    with cost.measured():
        start.set()
        await asyncio.gather(*running)
    return cost.each


def asyncio_waits(
    tasks: int, most: int, longest: float, loop: str = "asyncio:new_event_loop"
) -> Contender:
    def contender(size: float) -> float:
        each = times(size, most // tasks, 30 if size == 1 else 1)
        return in_asyncio(asyncio_in_loops(tasks, each, longest), loop)

    return contender


def in_asyncio(main: Any, make_loop: str) -> float:
    """Run it in an event loop that a function makes: `module:function`."""
    module, _, function = make_loop.partition(":")
    try:
        loop = getattr(importlib.import_module(module), function)()
    except ImportError:
        main.close()
        raise
    try:
        return float(loop.run_until_complete(main))
    finally:
        loop.close()


def virtual(find: Callable[[Clock], Wait], tasks: int, clock: Any) -> Contender:
    return waits(find, tasks, 20_000, 100.0, partial(clock, autojump_threshold=0))


# --- timers ---


async def set_and_cancel(size: float) -> float:
    cost = Cost(times(size, 50_000))
    async with open_clock() as clock, clock.open_timers(on_exit="cancel") as timers:
        timers.call_later(5, nothing)
        await wait_all_tasks_blocked()
        with cost.measured():
            for n in range(cost.operations):
                timers.call_later(10 + n * 1e-3, nothing).cancel()
                if not n % 100:
                    await checkpoint()
    return cost.each


async def set_and_cancel_in_asyncio(size: float) -> float:
    cost, loop = Cost(times(size, 50_000)), asyncio.get_running_loop()
    loop.call_later(5, nothing)
    with cost.measured():
        for n in range(cost.operations):
            loop.call_later(10 + n * 1e-3, nothing).cancel()
            if not n % 100:
                await asyncio.sleep(0)
    return cost.each


async def start_and_cancel_tasks(size: float) -> float:
    cost = Cost(times(size, 2_000))
    with cost.measured():
        async with trio.open_nursery() as nursery:
            for _ in range(cost.operations):
                nursery.start_soon(trio.sleep, 10)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    return cost.each


async def reset(size: float) -> float:
    cost = Cost(times(size, 50_000))
    async with open_clock() as clock, clock.open_timers(on_exit="cancel") as timers:
        timers.call_later(5, nothing)
        pending = [timers.call_later(10 + n * 1e-3, nothing) for n in range(1000)]
        await wait_all_tasks_blocked()
        with cost.measured():
            for n in range(cost.operations):
                pending[n % 1000].reset(20)
                if not n % 100:
                    await checkpoint()
    return cost.each


async def reset_in_asyncio(size: float) -> float:
    cost, loop = Cost(times(size, 50_000)), asyncio.get_running_loop()
    pending = [loop.call_later(10 + n * 1e-3, nothing) for n in range(1000)]
    with cost.measured():
        for n in range(cost.operations):
            pending[n % 1000].cancel()
            pending[n % 1000] = loop.call_later(20, nothing)
            if not n % 100:
                await asyncio.sleep(0)
    return cost.each


async def fire(size: float) -> float:
    """Random instants within a second, on the way to which the run does nothing."""
    cost, random = Cost(times(size, 300_000)), Random(0)
    async with open_clock() as clock, clock.open_timers() as timers:
        begin = clock.instant() + 3 * size
        for _ in range(cost.operations):
            timers.call_at(begin + random.random() * size, nothing)
        await clock.delay_until(begin)
        with cost.measured():
            await clock.delay_until(begin + size)
    return cost.each


async def fire_in_asyncio(size: float) -> float:
    cost, random = Cost(times(size, 300_000)), Random(0)
    loop = asyncio.get_running_loop()
    begin = loop.time() + 3 * size
    for _ in range(cost.operations):
        loop.call_at(begin + random.random() * size, nothing)
    await asyncio.sleep(begin - loop.time())
    with cost.measured():
        await asyncio.sleep(begin + size - loop.time())
    return cost.each


async def longest_gap(size: float) -> float:
    """Of another task that always goes on, while as many timers fire."""
    random, left = Random(0), times(size, 300_000)

    def fired() -> None:
        nonlocal left
        left -= 1

    async with open_clock() as clock, clock.open_timers() as timers:
        begin = clock.instant() + 3 * size
        for _ in range(left):
            timers.call_at(begin + random.random() * size, fired)
        await clock.delay_until(begin)
        longest, last = 0.0, time.perf_counter()
        while left:
            await checkpoint()
            now = time.perf_counter()
            longest, last = max(longest, now - last), now
    return longest * 1e3


async def register(pending: int, size: float) -> float:
    cost, random = Cost(times(size, 20_000)), Random(0)
    async with open_clock() as clock, clock.open_timers(on_exit="cancel") as timers:
        for _ in range(times(size, pending)):
            timers.call_later(random.uniform(100, 200), nothing)
        plan = [random.uniform(100, 200) for _ in range(cost.operations)]
        with cost.measured():
            for seconds in plan:
                timers.call_later(seconds, nothing)
    return cost.each


async def memory_of_timers(size: float) -> float:
    many = times(size, 10_000)
    async with open_clock() as clock, clock.open_timers(on_exit="cancel") as timers:
        return traced(lambda: [timers.call_later(60, nothing) for _ in range(many)])


async def memory_of_tasks(size: float) -> float:
    many = times(size, 10_000)
    async with trio.open_nursery() as nursery:
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(many):
            nursery.start_soon(trio.sleep, 60)
        await wait_all_tasks_blocked()
        used = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        nursery.cancel_scope.cancel()
    return used / many


def traced(make: Callable[[], list[object]]) -> float:
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    made = make()
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return used / len(made)


async def wake_ups(size: float) -> float:
    """Of the driver, while nothing is due."""
    async with (
        InactiveClock().activate() as (clock, driver),
        clock.open_timers(on_exit="cancel") as timers,
    ):
        for _ in range(1000):
            timers.call_later(3600, nothing)
        await wait_all_tasks_blocked()
        before = driver.statistics().wakeups
        await trio.sleep(size)
        return driver.statistics().wakeups - before


# --- without Trio ---


def chain(size: float) -> float:
    """Each callback sets the timer for the next one."""
    cost = Cost(times(size, 100_000))
    left, control = cost.operations, ClockControl()

    def go_on() -> None:
        nonlocal left
        left -= 1
        if left:
            timers.call_later(1, go_on)

    with control.to_clock().timer_group() as timers:
        timers.call_later(1, go_on)
        with cost.measured():
            control.advance(cost.operations)
    assert not left
    return cost.each


def chain_in_simpy(size: float) -> float:
    cost = Cost(times(size, 100_000))
    left = cost.operations
    environment: Any = importlib.import_module("simpy").Environment()

    def go_on(_: object) -> None:
        nonlocal left
        left -= 1
        if left:
            environment.timeout(1).callbacks.append(go_on)

    environment.timeout(1).callbacks.append(go_on)
    with cost.measured():
        environment.run()
    return cost.each


def advance_at_random(size: float) -> float:
    """To set the timers counts as well."""
    cost, random, control = Cost(times(size, 200_000)), Random(0), ClockControl()
    with control.to_clock().timer_group() as timers, cost.measured():
        for _ in range(cost.operations):
            timers.call_later(random.random() * 1000, nothing)
        control.advance(1001)
    return cost.each


def simpy_at_random(size: float) -> float:
    cost, random = Cost(times(size, 200_000)), Random(0)
    environment: Any = importlib.import_module("simpy").Environment()

    def fired(_: object) -> None:
        nothing()

    with cost.measured():
        for _ in range(cost.operations):
            environment.timeout(random.random() * 1000).callbacks.append(fired)
        environment.run()
    return cost.each


# --- the rest ---


async def enter_timeouts(of_the_clock: bool, size: float) -> float:
    cost = Cost(times(size, 50_000))
    async with open_clock() as clock:
        move_on_after = clock.move_on_after if of_the_clock else trio.move_on_after
        with cost.measured():
            for _ in range(cost.operations):
                with move_on_after(60):
                    pass
    return cost.each


async def read(of_the_clock: bool, size: float) -> float:
    cost = Cost(times(size, 200_000))
    async with open_clock() as clock:
        instant = clock.instant if of_the_clock else trio.current_time
        with cost.measured():
            for _ in range(cost.operations):
                instant()
    return cost.each


def import_time(what: str, beside: str, _: float) -> float:
    """In another process, in ms, and without what has been imported before."""
    code = (
        f"import {beside}, time; begin = time.perf_counter(); import {what}; "
        "print((time.perf_counter() - begin) * 1e3)"
    )
    with TemporaryDirectory() as folder:
        # For the first time, Python compiles it.
        cache = {"PYTHONPYCACHEPREFIX": folder, "PYTHONDONTWRITEBYTECODE": ""}
        _cold, took = [
            subprocess.check_output(
                [sys.executable, "-c", code], env=os.environ | cache
            )
            for _ in range(2)
        ]
    return float(took)


async def from_another_thread(way: str, size: float) -> float:
    """How long it takes, on the wall, until a run that sleeps calls a function."""
    calls, took = times(size, 1000), list[float]()
    token = trio.lowlevel.current_trio_token()

    def arrive(begin: float) -> None:
        took.append((time.perf_counter() - begin) * 1e6)
        arrived.release()

    def call() -> None:
        for _ in range(calls):
            time.sleep(0.0003)  # so that the run sleeps again
            begin = time.perf_counter()
            if way == "call_later":
                timers.call_later(0, arrive, begin)
            else:
                trio.from_thread.run_sync(arrive, begin, trio_token=token)
            arrived.acquire()
        trio.from_thread.run_sync(done.set, trio_token=token)

    arrived, done = Semaphore(0), trio.Event()
    async with (
        InactiveClock.new_shared().activate() as (clock, _),
        clock.open_timers(on_exit="cancel") as timers,
    ):
        timers.call_later(3600, nothing)
        Thread(target=call).start()
        await done.wait()
    return median(took)


def runs_at_once(find: Callable[[Clock], Wait], size: float) -> float:
    """Waiting for what is due at once, in a run for each core, on the wall."""
    cores, each = available_affinities(), times(size, 500)

    async def work(_: Clock) -> None:
        await wait_in_loops(find, 100, each, AT_ONCE)

    begin = time.perf_counter()
    run_per_core(work)
    return (time.perf_counter() - begin) * 1e6 / (len(cores) * 100 * each)


def in_trio(fn: Callable[..., Awaitable[float]], *args: object) -> Contender:
    return lambda size: trio.run(partial(fn, *args, size))


def asyncio_runs(fn: Callable[[float], Any], loop: str) -> Contender:
    return lambda size: in_asyncio(fn(size), loop)


def rows() -> Iterator[Row]:
    for tasks, longest, goal in (
        (1000, AT_ONCE, 0.18),
        (1000, 0.005, 0.24),
        (100, AT_ONCE, 0.21),
        (10, 0.005, 0.65),
        (1, AT_ONCE, 0.65),
    ):
        most = {AT_ONCE: 20_000 if tasks > 1 else 500, 0.005: 10 * tasks + 2000}
        many = f"{tasks:,} task" + "s" * (tasks > 1)
        when = "due at once" if longest == AT_ONCE else "at random times"
        yield Row(
            f"delay-{tasks}" + "-random" * (longest != AT_ONCE),
            f"delay, {many} {when}",
            {
                "delay": waits(delay, tasks, most[longest], longest),
                "trio.sleep": waits(sleep, tasks, most[longest], longest),
            },
            goal,
        )
    ours = {"delay": waits(delay, 1000, 20_000, AT_ONCE)}
    yield Row(
        "delay-asyncio",
        "delay, 1,000 tasks due at once",
        ours | {"asyncio.sleep": asyncio_waits(1000, 20_000, AT_ONCE)},
        0.85,
    )
    yield Row(
        "delay-checkpoint",
        "delay, 1,000 tasks due at once",
        ours | {"a bare checkpoint": waits(bare, 1000, 20_000, AT_ONCE)},
        2.0,
    )
    ours = {"call_later + cancel": in_trio(set_and_cancel)}
    asyncio_loop, uvloop = "asyncio:new_event_loop", "uvloop:new_event_loop"
    for name, peer, contender, goal in (
        ("cancel-asyncio", "asyncio", asyncio_loop, 1.05),
        ("cancel-uvloop", "uvloop", uvloop, 1.3),
    ):
        peers = {peer: asyncio_runs(set_and_cancel_in_asyncio, contender)}
        yield Row(name, "call_later + cancel, 1 ms apart", ours | peers, goal)
    yield Row(
        "cancel-task",
        "call_later + cancel, 1 ms apart",
        ours | {"a Trio task": in_trio(start_and_cancel_tasks)},
        0.05,
    )
    yield Row(
        "reset",
        "reset to later",
        {
            "reset": in_trio(reset),
            "asyncio, cancel + call_later": asyncio_runs(
                reset_in_asyncio, asyncio_loop
            ),
        },
        0.4,
    )
    yield Row(
        "fire",
        "firing 300,000 timers at random instants",
        {
            "timers": in_trio(fire),
            "asyncio": asyncio_runs(fire_in_asyncio, asyncio_loop),
        },
        0.95,
        rounds=3,
    )
    yield Row(
        "gap",
        "the longest gap of another task meanwhile",
        {"timers": in_trio(longest_gap)},
        20,
        "ms",
        rounds=5,
    )
    yield Row(
        "register",
        "to register at 1,000,000 pending",
        {
            "at 1,000,000": in_trio(register, 1_000_000),
            "at 1,000": in_trio(register, 1_000),
        },
        1.4,
        rounds=3,
    )
    yield Row(
        "memory",
        "memory of a pending timer",
        {"a timer": in_trio(memory_of_timers), "a Trio task": in_trio(memory_of_tasks)},
        0.12,
        "bytes",
        rounds=2,
    )
    for tasks, goal in (1, 0.22), (100, 0.24), (1000, 0.28):
        yield Row(
            f"virtual-{tasks}",
            f"virtual delay, {tasks:,} task" + "s" * (tasks > 1),
            {
                "delay, ClockControl": virtual(delay, tasks, ClockControl),
                "trio.sleep, MockClock": virtual(sleep, tasks, MockClock),
            },
            goal,
        )
    yield Row(
        "virtual-solipsism",
        "virtual delay, 100 tasks",
        {
            "delay, ClockControl": virtual(delay, 100, ClockControl),
            "async-solipsism": asyncio_waits(
                100, 20_000, 100.0, "async_solipsism:EventLoop"
            ),
        },
        0.85,
    )
    yield Row(
        "virtual-sleep",
        "trio.sleep, 1 task, virtual",
        {
            "ClockControl": virtual(sleep, 1, ClockControl),
            "MockClock": virtual(sleep, 1, MockClock),
        },
        0.82,
    )
    yield Row(
        "advance-chain",
        "advance, a chain of callbacks",
        {"advance": chain, "simpy": chain_in_simpy},
        3.5,
    )
    yield Row(
        "advance-random",
        "to set 200,000 timers at random, and advance",
        {"advance": advance_at_random, "simpy": simpy_at_random},
        0.9,
        rounds=3,
    )
    yield Row(
        "timeout",
        "to enter and leave move_on_after",
        {
            "clock.move_on_after": in_trio(enter_timeouts, True),
            "trio.move_on_after": in_trio(enter_timeouts, False),
        },
        1.1,
    )
    yield Row(
        "instant",
        "to read the time",
        {
            "clock.instant": in_trio(read, True),
            "trio.current_time": in_trio(read, False),
        },
        1.0,
    )
    yield Row(
        "idle",
        "wake-ups in a second in which nothing is due",
        {"1,000 timers": in_trio(wake_ups)},
        0,
        "wake-ups",
        rounds=2,
    )
    yield Row(
        "import",
        "import trio_clockrt, after Trio",
        {
            "import trio_clockrt": partial(import_time, "trio_clockrt", "trio"),
            "import trio": partial(import_time, "trio", "time"),
        },
        0.10,
        "ms",
    )
    ways = "call_later", "from_thread.run_sync"
    yield Row(
        "from-a-thread",
        "until a function is called from another thread",
        {way: in_trio(from_another_thread, way) for way in ways},
        None,
    )
    yield Row(
        "runs-at-once",
        "delay, 100 tasks due at once, in a run on each core",
        {
            "delay": partial(runs_at_once, delay),
            "trio.sleep": partial(runs_at_once, sleep),
        },
        None,
        rounds=3,
    )

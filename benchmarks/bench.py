"""What waits and timers cost, as ratios to what one would use instead.

A figure tells as much about the machine as about the code. So each one comes with
those that it is to be compared with, taken in turn with it in the same process, and
the ratios are the result. They are taken within each round; the median counts.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import platform
import time
import tracemalloc
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from random import Random
from statistics import median
from threading import Semaphore, Thread
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import simpy
import trio
from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from trio.lowlevel import cancel_shielded_checkpoint, checkpoint
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_clockrt import Clock, InactiveClock, Timer, open_clock
from trio_clockrt.affinity import available_affinities, run_per_core
from trio_clockrt.testing import ClockControl

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Iterator

    Contender = Callable[[], "Laps"]
    # {phase: {contender: its cost in each round}}
    Figures = dict[str, dict[str, list[float]]]
    Meter = Callable[[], float]
    Wait = Callable[[float], Awaitable[object]]
    ControlledClock = ClockControl | MockClock

TimerT = TypeVar("TimerT", Timer, asyncio.TimerHandle)


def cpu() -> float:
    # Not the time on the wall: a program that waits is idle, which costs nothing.
    return time.process_time() * 1e6


def memory() -> float:
    return tracemalloc.get_traced_memory()[0]


class Laps:
    """What each phase has cost, per operation."""

    def __init__(self, operations: int, meter: Meter = cpu) -> None:
        self.operations = operations
        self.costs: dict[str, float] = {}
        self._meter = meter

    @contextmanager
    def lap(self, phase: str) -> Generator[None]:
        # What others leave behind is not at our expense. What we do is, and so the
        # collector stays on.
        gc.collect()
        begin = self._meter()
        yield
        self.costs[phase] = (self._meter() - begin) / self.operations


async def bare_checkpoint(_: float) -> None:
    await checkpoint()


WAITS: dict[str, Callable[[Clock], Wait]] = {
    "clock.delay": lambda clock: clock.delay,
    "trio.sleep": lambda _: trio.sleep,
    "checkpoint": lambda _: bare_checkpoint,
}


async def waiting(
    find: Callable[[Clock], Wait],
    tasks: int,
    waits: int,
    longest: float,
    span: str = "",
) -> Laps:
    laps = Laps(tasks * waits)
    random = Random(0)
    start, end = trio.Event(), trio.Event()
    running = tasks

    async def loop(wait: Wait) -> None:
        nonlocal running
        plan = [random.uniform(1e-6, longest) for _ in range(waits)]
        await start.wait()
        for seconds in plan:
            await wait(seconds)
        running -= 1
        if not running:
            end.set()
        # Ending here would cost more than some of the waits.
        await trio.sleep_forever()

    async with open_clock() as clock, trio.open_nursery() as nursery:
        for _ in range(tasks):
            nursery.start_soon(loop, find(clock))
        await wait_all_tasks_blocked()
        if not span:
            span = f"up to {longest * 1000:g} ms" if longest > 1e-6 else "due at once"
        with laps.lap(f"{tasks:,} task{'s' * (tasks > 1)}, {span}"):
            start.set()
            await end.wait()
        nursery.cancel_scope.cancel()
    return laps


def virtual_time(tasks: int, waits: int) -> dict[str, Contender]:
    """Waits that take no time, as the clock jumps to the next deadline."""

    def waits_for(wait: str, make: Callable[..., ControlledClock]) -> Contender:
        args = WAITS[wait], tasks, waits, 100.0, "virtual"
        return lambda: trio.run(waiting, *args, clock=make(autojump_threshold=0))

    return {
        "clock.delay": waits_for("clock.delay", ClockControl),
        "trio.sleep": waits_for("trio.sleep", ClockControl),
        "trio.sleep, MockClock": waits_for("trio.sleep", MockClock),
    }


def chain_of_callbacks(operations: int) -> Laps:
    """Each of them sets the timer for the next one."""
    laps = Laps(operations)
    left = operations
    control = ClockControl()

    def go_on() -> None:
        nonlocal left
        left -= 1
        if left:
            timers.call_later(1.0, go_on)

    with control.to_clock().timer_group() as timers:
        timers.call_later(1.0, go_on)
        with laps.lap("virtual: a chain of callbacks"):
            control.advance(operations)
    assert not left
    return laps


def simpy_callbacks(operations: int) -> Laps:
    laps = Laps(operations)
    left = operations
    environment: Any = simpy.Environment()  # as its types are not complete

    def go_on(_: object) -> None:
        nonlocal left
        left -= 1
        if left:
            environment.timeout(1.0).callbacks.append(go_on)

    environment.timeout(1.0).callbacks.append(go_on)
    with laps.lap("virtual: a chain of callbacks"):
        environment.run()
    assert not left
    return laps


def simpy_process(operations: int) -> Laps:
    laps = Laps(operations)
    environment = simpy.Environment()

    def wait() -> Generator[simpy.Event, None, None]:
        for _ in range(operations):
            yield environment.timeout(1.0)

    environment.process(wait())
    with laps.lap("virtual: a chain of callbacks"):
        environment.run()
    return laps


def nothing() -> None:
    """What the timers call."""


def make_plan(operations: int) -> list[float]:
    random = Random(0)
    return [random.uniform(10, 60) for _ in range(operations)]


async def lap_timers(
    laps: Laps,
    call_later: Callable[[float, Callable[[], object]], TimerT],
    reset: Callable[[TimerT, float], TimerT],
    turn: Callable[[], Awaitable[object]],
) -> Laps:
    # The turns of the loop are for asyncio, which sweeps cancelled timers out there.
    plan = make_plan(laps.operations)
    with laps.lap("schedule"):
        timers = [call_later(delay, nothing) for delay in plan]
    with laps.lap("reset"):
        timers = list(map(reset, timers, reversed(plan)))
    with laps.lap("cancel"):
        for timer in timers:
            timer.cancel()
        await turn()
    # Alone, every timer is the next to be due, of which the driver has to be told.
    # In most programs something else is due before it.
    for phase in "schedule + cancel, alone", "schedule + cancel":
        with laps.lap(phase):
            for number, delay in enumerate(plan):
                call_later(delay, nothing).cancel()
                if not number % 100:
                    await turn()
        call_later(5, nothing)
    return laps


async def clock_timers(operations: int, meter: Meter = cpu) -> Laps:
    def reset(timer: Timer, delay: float) -> Timer:
        timer.reset(delay)
        return timer

    laps = Laps(operations, meter)
    async with open_clock() as clock, clock.open_timers(on_exit="cancel") as timers:
        await wait_all_tasks_blocked()
        await lap_timers(laps, timers.call_later, reset, checkpoint)
    return laps


async def asyncio_timers(operations: int, meter: Meter = cpu) -> Laps:
    def reset(timer: asyncio.TimerHandle, delay: float) -> asyncio.TimerHandle:
        timer.cancel()
        return loop.call_later(delay, nothing)

    loop = asyncio.get_running_loop()
    laps = Laps(operations, meter)
    return await lap_timers(laps, loop.call_later, reset, lambda: asyncio.sleep(0))


async def sleeping_tasks(operations: int, meter: Meter = cpu) -> Laps:
    laps = Laps(operations, meter)
    plan = make_plan(operations)
    async with trio.open_nursery() as nursery:
        with laps.lap("schedule"):
            for delay in plan:
                nursery.start_soon(trio.sleep, delay)
            await wait_all_tasks_blocked()
        with laps.lap("cancel"):
            nursery.cancel_scope.cancel()
            while nursery.child_tasks:
                await cancel_shielded_checkpoint()
    return laps


def trace(contender: Contender) -> Laps:
    tracemalloc.start()
    laps = contender()
    tracemalloc.stop()
    laps.costs = {"memory of a pending timer": laps.costs["schedule"]}
    return laps


class Entry:
    __slots__ = ("when",)

    def __init__(self, when: float) -> None:
        self.when = when


async def from_another_thread(calls: int, way: str) -> Laps:
    """How long it takes until something is called in a run that sleeps."""
    laps = Laps(calls)
    took: list[float] = []
    token = trio.lowlevel.current_trio_token()

    def arrive(begin: float) -> None:
        took.append((time.perf_counter() - begin) * 1e6)
        arrived.release()

    def call_later(begin: float) -> None:
        timers.call_later(0, arrive, begin)

    def run_sync(begin: float) -> None:
        trio.from_thread.run_sync(arrive, begin, trio_token=token)

    def call() -> None:
        send = {"call_later": call_later, "from_thread.run_sync": run_sync}[way]
        for _ in range(calls):
            # So that the run sleeps again.
            time.sleep(0.0003)
            send(time.perf_counter())
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
    laps.costs["from another thread"] = median(took)
    return laps


def on_each_core(cores: int, wait: str, operations: int) -> Laps:
    """Waiting for what is due at once, in a run for each of so many cores."""
    laps = Laps(cores * operations)

    async def work(clock: Clock) -> None:
        await waiting(lambda _: WAITS[wait](clock), 100, operations // 100, 1e-6)

    begin = time.perf_counter()
    run_per_core(work, affinities=available_affinities()[:cores])
    cost = (time.perf_counter() - begin) * 1e6 / laps.operations
    laps.costs[f"{cores} run{'s' * (cores > 1)} at once"] = cost
    return laps


class Benchmark(NamedTuple):
    # The first contender is ours, and what the others are compared with.
    contenders: dict[str, Contender]
    most_rounds: int = 100


def benchmarks(shrink: int) -> Iterator[Benchmark]:
    def in_trio(fn: Callable[..., Awaitable[Laps]], *args: object) -> Contender:
        return lambda: trio.run(fn, *args)

    def timers(many: int, few: int, meter: Meter) -> dict[str, Contender]:
        return {
            "call_later": in_trio(clock_timers, many, meter),
            "asyncio": lambda: asyncio.run(asyncio_timers(many, meter)),
            "sleeping task": in_trio(sleeping_tasks, few, meter),
        }

    for longest, most in (1e-6, 5000), (0.005, 100):
        for tasks in 1, 100, 1000:
            # Never so few that the start and the end of the loops show.
            args = tasks, max(most // shrink // tasks, 30), longest
            yield Benchmark({n: in_trio(waiting, f, *args) for n, f in WAITS.items()})
    for tasks in 1, 100, 1000:
        yield Benchmark(virtual_time(tasks, max(20_000 // shrink // tasks, 30)))
    few, many, most = 10_000 // shrink, 100_000 // shrink, 1_000_000 // shrink
    yield Benchmark(timers(many, few, cpu))
    pending = timers(few, few, memory).items()
    yield Benchmark({n: partial(trace, c) for n, c in pending}, most_rounds=1)
    yield Benchmark(
        {
            "advance": partial(chain_of_callbacks, most),
            "simpy, callbacks": partial(simpy_callbacks, most),
            "simpy, a process": partial(simpy_process, most),
        },
        most_rounds=2,
    )
    calls = 2000 // shrink
    ways = "call_later", "from_thread.run_sync"
    yield Benchmark({w: in_trio(from_another_thread, calls, w) for w in ways})
    for cores in sorted({1, len(available_affinities())}):
        yield Benchmark(
            {w: partial(on_each_core, cores, w, many) for w in WAITS}, most_rounds=3
        )


def measure(benchmark: Benchmark, rounds: int) -> dict[str, list[Laps]]:
    """The laps of each contender, as many as there are rounds."""
    results: dict[str, list[Laps]] = {name: [] for name in benchmark.contenders}
    for _ in range(min(rounds, benchmark.most_rounds)):
        for name, contender in benchmark.contenders.items():
            results[name].append(contender())
    return results


def add_rows(table: Table, results: dict[str, list[Laps]]) -> Figures:
    figures: Figures = {}
    ours, reference = next(iter(results.items()))
    for phase in reference[0].costs:
        table.add_section()
        unit = "bytes" if phase.startswith("memory") else "us"
        table.add_row(f"[bold]{phase}[/]", "", unit)
        figures[phase] = {}
        for name, laps in results.items():
            if phase in laps[0].costs:
                costs = figures[phase][name] = [lap.costs[phase] for lap in laps]
                ratio = median(map(float.__truediv__, costs, figures[phase][ours]))
                table.add_row(
                    f"  {name}",
                    f"{laps[0].operations:,}",
                    f"{median(costs):,.2f}",
                    f"{ratio:5.2f} x {ours}" if name != ours else "",
                )
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer and smaller rounds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="save every figure")
    options = parser.parse_args()
    rounds, shrink = (2, 10) if options.quick else (5, 1)

    python = f"{platform.python_implementation()} {platform.python_version()}"
    about = f"{python}, Trio {trio.__version__}, {os.cpu_count()} CPUs"
    table = Table("what", title=about, box=box.SIMPLE)
    for figure in "how many", "each":
        table.add_column(figure, justify="right")
    table.add_column("ratio")
    figures: Figures = {}
    console = Console(stderr=True)
    # A thread that refreshes the display would count as ours.
    with Progress(console=console, transient=True, auto_refresh=False) as progress:
        for benchmark in progress.track(list(benchmarks(shrink))):
            figures |= add_rows(table, measure(benchmark, rounds))
    Console().print(table)
    if options.json is not None:
        options.json.write_text(json.dumps({"about": about, "figures": figures}))


if __name__ == "__main__":
    main()

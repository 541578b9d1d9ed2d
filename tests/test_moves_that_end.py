"""Moving the time ends at its instant, or with an error that names what keeps it."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from math import inf, nextafter, ulp

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from model_settings import VALUES
from trio.testing import MockClock

from trio_clockrt import (
    Clock,
    ClockGone,
    InactiveClock,
    MissedTick,
    TimerGroup,
    open_clock,
)
from trio_clockrt.testing import ClockControl, _stepper

lengths = st.builds(
    lambda digits, power: digits * 10.0**power,
    st.integers(1, 9999),
    st.integers(-12, 5),
)
starts = st.just(0.0) | lengths

Move = Callable[[ClockControl, float], object]


def advance(control: ClockControl, seconds: float) -> None:
    control.advance(seconds)


def jump(control: ClockControl, seconds: float) -> None:
    control.jump(seconds)


def about(instant: float) -> float:
    """A nanosecond less, or as little as floats tell."""
    return nextafter(instant - 1e-9, 0)


# --- callbacks that move the time, without Trio ---


@pytest.mark.parametrize("move", [advance, jump])
@VALUES
@given(starts, lengths, lengths, st.sampled_from(MissedTick))
def test_a_periodic_callback_moves_the_time(
    move: Move, start: float, length: float, step: float, missed: MissedTick
) -> None:
    ticks = 0

    def tick() -> None:
        nonlocal ticks
        ticks += 1
        control.jump(step)

    control = ClockControl()
    control.jump(start)
    clock = control.to_clock()
    period = max(step, length / 100, 1e-6)
    with clock.timer_group() as timers:
        timers.call_every(period, tick, missed=missed)
        before = clock.instant()
        move(control, length)
        assert ticks <= 2 * length / period + 3
        assert clock.instant() >= about(before + length)
        most = (ticks + 1) * max(step * 1.01, 2 * ulp(clock.instant()))
        assert clock.instant() <= before + length + most + 1e-6


@pytest.mark.parametrize("move", [advance, jump])
def test_a_periodic_callback_reads_the_time(move: Move) -> None:
    control = ClockControl(auto_advance=1)
    clock = control.to_clock()
    ticks = list[float]()
    with clock.timer_group() as timers:
        timer = timers.call_every(1, lambda: ticks.append(clock.instant()))
        move(control, 1)
        assert ticks == [1, 2]
        assert timer.pending
        move(control, 1)
        assert ticks == sorted(set(ticks))


def test_what_was_due_by_then_has_fired() -> None:
    control = ClockControl()
    fired = list[str]()
    with control.to_clock().timer_group() as timers:
        timers.call_later(1, control.jump, 5)
        timers.call_later(1, fired.append, "with it")
        timers.call_later(3, fired.append, "on the way")
        timers.call_later(6, fired.append, "at the new time")
        timers.call_later(6.5, fired.append, "later")
        control.advance(2)
        assert fired == ["with it", "on the way", "at the new time"]
        assert control.current_time() == 6


def test_a_manual_clock() -> None:
    control = ClockControl()
    clock, driver = InactiveClock.from_control(control).activate_manual()
    with clock, clock.timer_group() as timers:
        timers.call_every(1, control.jump, 1)
        control.advance(10)
        assert control.current_time() <= 14
        driver.advance_timers()
        assert control.current_time() <= 15


def test_another_thread_moves_the_time() -> None:
    def move() -> None:
        while not stop:
            control.jump(1)

    stop = False
    control = ClockControl()
    with control.to_clock().timer_group() as timers:
        timers.call_every(1, int)
        thread = threading.Thread(target=move)
        thread.start()
        try:
            for _ in range(10):
                control.advance(1)
        finally:
            stop = True
            thread.join()


@pytest.mark.parametrize("start", [0, 2.8, 1e5, 1e9])
@pytest.mark.parametrize("moment", [0, 1e-300, 1e-17, 1e-12])
def test_a_callback_sets_itself_for_next_to_now(
    moment: float, start: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def again() -> None:
        timers.call_later(moment, again)

    monkeypatch.setattr(_stepper, "_MOST_PASSES", 2000)
    control = ClockControl()
    control.jump(start)
    with control.to_clock().timer_group() as timers:
        again()
        with pytest.raises(RuntimeError, match=r"fired 2000 times .*again"):
            control.advance(1)


# --- tasks that move the time ---


async def run_for(control: ClockControl, seconds: float) -> None:
    await control.run_for(seconds)


async def run_until(control: ClockControl, seconds: float) -> None:
    await control.run_until(control.current_time() + seconds)


RUNS = [run_for, run_until]
Run = Callable[[ClockControl, float], Awaitable[None]]


@pytest.mark.parametrize("run", RUNS)
@VALUES
@given(starts, lengths, lengths)
def test_a_timer_moves_the_time_while_the_program_runs(
    run: Run, start: float, length: float, step: float
) -> None:
    async def main() -> None:
        async with open_clock() as clock:
            async with clock.open_timers(on_exit="cancel") as timers:
                timers.call_every(max(step, length / 20, 1e-6), control.jump, step)
                await run(control, length)
                assert control.current_time() >= about(start + length)

    control = ClockControl()
    control.jump(start)
    trio.run(main, clock=control)


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("own", [True, False])
def test_a_reading_moves_the_time_while_the_program_runs(own: bool, run: Run) -> None:
    async def main() -> None:
        recipe = InactiveClock.from_control(control)
        async with recipe.activate() as (clock, _):
            async with clock.open_timers(on_exit="cancel") as timers:
                timers.call_every(1, clock.instant)
                await run(control, 1)
                assert 1 <= control.current_time() <= 20
                await run(control, 1)

    control = ClockControl(auto_advance=1)
    trio.run(main, clock=control if own else MockClock())


@pytest.mark.parametrize("own", [True, False])
def test_a_task_moves_the_time_while_the_program_runs(own: bool) -> None:
    async def tick(clock: Clock) -> None:
        async for _ in clock.periodic(1):
            control.jump(1)

    async def main() -> None:
        recipe = InactiveClock.from_control(control)
        async with recipe.activate() as (clock, _), trio.open_nursery() as nursery:
            nursery.start_soon(tick, clock)
            await control.run_for(10)
            assert 10 <= control.current_time() <= 30
            nursery.cancel_scope.cancel()

    control = ClockControl()
    trio.run(main, clock=control if own else MockClock())


def test_what_a_task_has_to_do_at_the_end_is_done() -> None:
    """Some moves past the end do not keep the program from becoming idle."""

    async def work(clock: Clock) -> None:
        await clock.delay(10)
        for _ in range(3):
            clock.instant()
            await trio.lowlevel.checkpoint()
        done.append(clock.instant())

    async def main() -> None:
        async with open_clock() as clock, trio.open_nursery() as nursery:
            nursery.start_soon(work, clock)
            await control.run_for(10)
            assert done == [13]

    done = list[float]()
    control = ClockControl(auto_advance=1)
    trio.run(main, clock=control)


def test_another_thread_moves_the_time_while_the_program_runs() -> None:
    def move() -> None:
        while not stop.is_set():
            control.jump(1)

    async def tick(clock: Clock) -> None:
        async for _ in clock.periodic(1):
            pass

    async def main() -> None:
        async with open_clock() as clock, trio.open_nursery() as nursery:
            nursery.start_soon(tick, clock)
            thread = threading.Thread(target=move)
            thread.start()
            try:
                for _ in range(3):
                    await control.run_for(1)
            finally:
                stop.set()
                thread.join()
            nursery.cancel_scope.cancel()

    stop = threading.Event()
    control = ClockControl()
    trio.run(main, clock=control)


@pytest.mark.parametrize("run", RUNS)
def test_a_task_waits_for_next_to_nothing(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def crawl(clock: Clock) -> None:
        while True:
            await clock.delay(1e-17)

    async def main() -> None:
        async with open_clock() as clock, trio.open_nursery() as nursery:
            await clock.delay_until(0)
            nursery.start_soon(crawl, clock)
            with pytest.raises(
                RuntimeError, match=r"stopped 1000 times(.|\n)*task .*crawl waits at "
            ):
                await run(control, 1)
            assert control.current_time() < nextafter(2.8, 3) + 1e-9
            nursery.cancel_scope.cancel()

    monkeypatch.setattr(_stepper, "_MOST_STOPS", 1000)
    control = ClockControl()
    control.jump(2.8)
    trio.run(main, clock=control)


# --- run_until_idle() names what keeps it ---


async def poll(clock: Clock) -> None:
    while True:
        await clock.delay(1)


async def sleep_again_and_again(clock: Clock) -> None:
    while await sleep(1):
        pass


async def sleep(seconds: float) -> bool:
    await trio.sleep(seconds)
    return True


@pytest.mark.parametrize("task", [poll, sleep_again_and_again])
def test_it_names_the_task(task: Callable[[Clock], Awaitable[None]]) -> None:
    async def main() -> None:
        async with open_clock() as clock, trio.open_nursery() as nursery:
            nursery.start_soon(task, clock)
            with pytest.raises(
                RuntimeError, match=rf"10 deadlines(.|\n)*{task.__name__}"
            ):
                await control.run_until_idle(limit=10)
            nursery.cancel_scope.cancel()

    control = ClockControl()
    trio.run(main, clock=control)


def test_it_names_the_timer() -> None:
    def again(timers: TimerGroup) -> None:
        timers.call_later(1, again, timers)

    async def main() -> None:
        with control.to_clock().timer_group() as timers:
            again(timers)
            with pytest.raises(RuntimeError, match=r"Timer for .*again"):
                await control.run_until_idle(limit=10)

    control = ClockControl()
    trio.run(main)


def test_it_ends_where_the_program_moves_the_time() -> None:
    async def main() -> None:
        async with open_clock() as clock:
            async with clock.open_timers(on_exit="cancel") as timers:
                timers.call_every(1, control.jump, 1)
                timers.call_later(5, int)
                with pytest.raises(
                    RuntimeError,
                    match=r"moved the time 100 times(.|\n)*Timer for .*jump",
                ):
                    await control.run_until_idle(limit=100)

    control = ClockControl()
    trio.run(main, clock=control)


# --- a control that moves nothing ---

Y2K = datetime.datetime(2000, 1, 1, tzinfo=datetime.timezone.utc)

MOVES: list[Callable[[ClockControl], object]] = [
    partial(ClockControl.jump, seconds=1),
    partial(ClockControl.advance, seconds=1),
    partial(ClockControl.set_time, when=Y2K),
    partial(ClockControl.adjust_system_time, seconds=1),
    lambda control: setattr(control, "rate", 1),
    lambda control: setattr(control, "autojump_threshold", 0),
]


@pytest.mark.parametrize("move", MOVES)
async def test_it_says_so(move: Callable[[ClockControl], object]) -> None:
    """The task that has the wrong control would wait for ever."""
    control = ClockControl(rate=0, autojump_threshold=inf)
    with pytest.raises(
        RuntimeError, match=r"would move nothing.*trio\.run\(main, clock"
    ):
        move(control)
    assert control.current_time() == 0
    move(control)  # now that it has been read


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize(
    "use",
    [
        ClockControl.to_clock,
        ClockControl.to_simple_clock,
        ClockControl.current_time,
        ClockControl.patch_stdlib,
        lambda control: InactiveClock.from_control(control).activate_manual(),
    ],
)
async def test_one_that_is_in_use_moves(
    use: Callable[[ClockControl], object], move: Callable[[ClockControl], object]
) -> None:
    control = ClockControl()
    used = use(control)
    move(control)
    del used


@pytest.mark.parametrize("move", MOVES)
def test_outside_of_trio_it_is_prepared(move: Callable[[ClockControl], object]) -> None:
    async def main() -> None:
        move(control)

    control = ClockControl()
    move(control)
    trio.run(main, clock=control)


def test_the_driver_goes_as_time_comes_to_a_deadline() -> None:
    """At each reading of the real time, as a finalizer may drop it anywhere."""
    readings = nth = 0

    def real_time() -> float:
        nonlocal readings
        readings += 1
        if readings == nth:
            drivers.clear()
        return 0.0

    for n in range(1, 40):
        nth = n
        control = ClockControl(rate=1)
        control._real_clock = real_time
        clock, driver = InactiveClock.from_control(control).activate_manual()
        drivers, readings = [driver], 0
        del driver
        with suppress(ClockGone), clock.timer_group() as timers:
            for _ in range(2):
                timers.call_later(1, int)
            control.advance(2)
            assert control.current_time() == 2
    assert drivers

"""Waiting makes progress: a wait of more than zero ends later than it began."""

from __future__ import annotations

import datetime
from collections.abc import Awaitable, Callable
from contextlib import suppress
from math import inf, nextafter

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from model_settings import VALUES
from trio.testing import MockClock

from trio_clockrt import Clock, InactiveClock, MissedTick, open_clock
from trio_clockrt.testing import ClockControl

# A loop needs one wait, and some more for what rounding has left.
ENOUGH = 20

# From what is no nanosecond to three decades.
lengths = st.builds(
    lambda digits, power: digits * 10.0**power,
    st.integers(1, 9999),
    st.integers(-21, 5),
)
starts = st.just(0.0) | lengths


def jumping() -> ClockControl:
    return ClockControl(autojump_threshold=0)


# --- loops that wait for what is left ---

Wait = Callable[[Clock, float], Awaitable[object]]


async def delay(clock: Clock, left: float) -> None:
    await clock.delay(left)


async def delay_in_a_thread(clock: Clock, left: float) -> None:
    await trio.to_thread.run_sync(clock.delay_blocking, left)


async def call_later(clock: Clock, left: float) -> None:
    async with clock.open_timers() as timers:
        timers.call_later(left, int)


async def start_later(clock: Clock, left: float) -> None:
    async with clock.open_timers() as timers:
        timers.start_later(left, trio.lowlevel.checkpoint)


async def reset(clock: Clock, left: float) -> None:
    async with clock.open_timers() as timers:
        timer = timers.call_later(1, int)
        timer.reset(left)


async def move_on_after(clock: Clock, left: float) -> None:
    with clock.move_on_after(left):
        await trio.sleep_forever()


async def fail_after(clock: Clock, left: float) -> None:
    with pytest.raises(trio.TooSlowError), clock.fail_after(left):
        await trio.sleep_forever()


async def move_on_at(clock: Clock, left: float) -> None:
    with clock.move_on_at(later(clock, left)):
        await trio.sleep_forever()


async def fail_at(clock: Clock, left: float) -> None:
    with pytest.raises(trio.TooSlowError), clock.fail_at(later(clock, left)):
        await trio.sleep_forever()


def later(clock: Clock, left: float) -> float:
    now = clock.instant()
    return max(now + left, nextafter(now, inf))


async def wait_in_a_loop(clock: Clock, wait: Wait, length: float) -> None:
    start, waits = clock.instant(), 0
    while (left := length - (clock.instant() - start)) > 0:
        before = clock.instant()
        await wait(clock, left)
        assert clock.instant() > before
        waits += 1
        assert waits <= ENOUGH


TIMEOUTS = [move_on_after, move_on_at, fail_after, fail_at]
WAITS = [delay, call_later, start_later, reset, move_on_after, fail_after]


@pytest.mark.parametrize("wait", WAITS)
@VALUES
@given(starts, lengths)
def test_on_the_clock_of_the_run(wait: Wait, start: float, length: float) -> None:
    async def main() -> None:
        async with open_clock() as clock:
            await wait_in_a_loop(clock, wait, length)

    control = jumping()
    control.jump(start)
    trio.run(main, clock=control)


@pytest.mark.parametrize("wait", WAITS)
@VALUES
@given(starts, lengths)
def test_on_a_mock_clock(wait: Wait, start: float, length: float) -> None:
    async def main() -> None:
        async with open_clock() as clock:
            await wait_in_a_loop(clock, wait, length)

    mock = MockClock(autojump_threshold=0)
    mock.jump(start)
    trio.run(main, clock=mock)


@pytest.mark.parametrize("wait", WAITS)
@VALUES
@given(starts, lengths)
def test_on_a_stand_alone_clock(wait: Wait, start: float, length: float) -> None:
    async def main() -> None:
        async with InactiveClock.from_control(control).activate() as (clock, _):
            await wait_in_a_loop(clock, wait, length)

    control = jumping()
    control.jump(start)
    trio.run(main)


@pytest.mark.parametrize("wait", [*WAITS, delay_in_a_thread])
@VALUES
@given(starts, lengths)
def test_on_a_shared_clock(wait: Wait, start: float, length: float) -> None:
    async def main() -> None:
        async with InactiveClock.new_shared().activate() as (clock, _):
            await wait_in_a_loop(clock, wait, length)

    control = jumping()
    control.jump(start)
    trio.run(main, clock=control)


@VALUES
@given(starts, lengths)
def test_with_callbacks_without_trio(start: float, length: float) -> None:
    def look() -> None:
        calls.append(clock.instant())
        assert len(set(calls)) == len(calls) <= ENOUGH
        left = length - (clock.instant() - calls[0])
        if left > 0:
            timers.call_later(left, look)

    control = ClockControl()
    control.jump(start)
    clock = control.to_clock()
    calls = list[float]()
    with clock.timer_group() as timers:
        look()
        control.advance(length)
        control.advance(length)
    assert clock.instant() - calls[0] >= length
    assert calls[-1] - calls[0] >= length


def test_each_wait_is_as_short_as_it_can_be() -> None:
    async def main() -> None:
        async with open_clock() as clock:
            await clock.delay(2.8)
            await clock.delay(1e-17)
            assert clock.instant() == nextafter(2.8, 3)
            await clock.delay(1.2)
            assert clock.instant() == nextafter(2.8, 3) + 1.2

    trio.run(main, clock=jumping())


@pytest.mark.parametrize("wait", [delay, *TIMEOUTS])
@pytest.mark.parametrize("start", [1e9, 1e15, 1e18, 1e300])
@pytest.mark.parametrize("length", [1e-9, 0.05, 100, 1e9])
@pytest.mark.parametrize("kind", [ClockControl, MockClock, None])
def test_wherever_the_clock_has_got_to(
    kind: type[ClockControl | MockClock] | None, length: float, start: float, wait: Wait
) -> None:
    """Where floats are 0.125 apart, and where they are years apart."""

    async def main() -> None:
        async with recipe.activate() as (clock, _):
            for _ in range(3):
                before = clock.instant()
                await wait(clock, length)
                assert clock.instant() > before

    if kind is None:
        control = jumping()
        control.jump(start)
        recipe, run_clock = InactiveClock.from_control(control), None
    else:
        recipe, run_clock = InactiveClock(), kind(autojump_threshold=0)
        run_clock.jump(start)
    trio.run(main, clock=run_clock)


@pytest.mark.parametrize("length", [1e-15, 0.05])
def test_time_goes_far_before_the_block_is_entered(length: float) -> None:
    async def main() -> None:
        async with open_clock() as clock:
            blocks = [clock.move_on_after(length), clock.fail_after(length)]
            control.jump(1e9)
            for block in blocks:
                before = clock.instant()
                with suppress(trio.TooSlowError), block:
                    await trio.sleep_forever()
                assert clock.instant() > before

    control = jumping()
    trio.run(main, clock=control)


def test_zero_does_not_wait() -> None:
    async def main() -> None:
        async with open_clock() as clock:
            await clock.delay(0)
            async with clock.open_timers() as timers:
                assert timers.call_later(0, int).when == 1e9
            with clock.move_on_after(0):
                await trio.sleep_forever()
            assert clock.instant() == 1e9

    control = jumping()
    control.jump(1e9)
    trio.run(main, clock=control)


# --- moving ---

MOVES = [ClockControl.jump, ClockControl.advance]


@pytest.mark.parametrize("move", MOVES)
@VALUES
@given(starts, lengths)
def test_a_loop_that_moves_by_what_is_left(
    move: Callable[[ClockControl, float], None], start: float, length: float
) -> None:
    control = ClockControl()
    control.jump(start)
    begin, moves = control.current_time(), 0
    while (left := length - (control.current_time() - begin)) > 0:
        before = control.current_time()
        move(control, left)
        assert control.current_time() > before
        moves += 1
        assert moves <= ENOUGH


@VALUES
@given(starts, lengths)
def test_a_loop_that_runs_for_what_is_left(start: float, length: float) -> None:
    async def main() -> None:
        begin, moves = trio.current_time(), 0
        while (left := length - (trio.current_time() - begin)) > 0:
            before = trio.current_time()
            await control.run_for(left)
            assert trio.current_time() > before
            moves += 1
            assert moves <= ENOUGH

    control = ClockControl()
    control.jump(start)
    trio.run(main, clock=control)


@VALUES
@given(starts, lengths)
def test_each_reading_moves_the_time(start: float, length: float) -> None:
    control = ClockControl(auto_advance=length)
    control.jump(start)
    simple = control.to_simple_clock()
    assert simple.instant() < simple.instant() < simple.instant()


def test_tiny_moves_add_up() -> None:
    control = ClockControl()
    for _ in range(1000):
        control.advance(1e-10)
    assert control.current_time() == pytest.approx(1e-7)
    control.advance(1)
    assert control.current_time() == pytest.approx(1.0000001, abs=1e-9)


def test_to_move_by_zero_moves_nothing() -> None:
    control = ClockControl()
    control.jump(1e9)
    control.jump(0)
    control.advance(datetime.timedelta(0))
    assert control.current_time() == 1e9


# --- ticks ---


@pytest.mark.parametrize("missed", MissedTick)
@pytest.mark.parametrize("far", [1.0, 1e9, 1e13])
def test_each_tick_is_later_than_the_one_before(far: float, missed: MissedTick) -> None:
    """Also where the clock has gone so far that floats are coarser than the period."""

    async def main() -> None:
        async with open_clock() as clock:
            timer = clock.periodic(1e-7, missed=missed)
            control.jump(far)
            ticks = [await anext(timer) for _ in range(100)]
            assert sorted(set(ticks)) == ticks
            before = clock.instant()
            timer.reset()
            assert await anext(timer) > before
            assert clock.instant() > before

    control = jumping()
    trio.run(main, clock=control)


@pytest.mark.parametrize("missed", [MissedTick.DELAY, MissedTick.SKIP])
def test_calls_are_at_instants_of_their_own(missed: MissedTick) -> None:
    control = ClockControl()
    clock = control.to_clock()
    calls = list[float]()
    with clock.timer_group() as timers:
        timers.call_every(1e-8, lambda: calls.append(clock.instant()), missed=missed)
        control.jump(1e9)
        control.advance(1e-5)
    assert calls[0] == 1e9
    assert len(set(calls)) == len(calls) > 10

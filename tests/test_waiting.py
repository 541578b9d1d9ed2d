"""Tasks that wait for a clock: delays, timeouts, stopwatch, and its readings."""

from __future__ import annotations

import datetime
from math import inf

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from trio_clockrt import Clock, InactiveClock, SimpleClock, open_clock
from trio_clockrt.testing import ClockControl

# --- delay ---


async def test_delay_takes_exactly_so_long(autojump_clock: MockClock) -> None:
    async with open_clock() as clock:
        start = trio.current_time()
        await clock.delay(1.5)
        assert trio.current_time() == start + 1.5
        await clock.delay(2)
        assert trio.current_time() == start + 3.5
        await clock.delay(datetime.timedelta(minutes=1))
        assert trio.current_time() == start + 63.5


async def test_delay_until_an_instant(autojump_clock: MockClock) -> None:
    async with open_clock() as clock:
        start = clock.instant()
        await clock.delay_until(start + 0.1)
        assert clock.instant() == start + 0.1
        for past in (start, start + 0.1, -inf, -(10**400)):
            with trio.testing.assert_checkpoints():
                await clock.delay_until(past)
        assert clock.instant() == start + 0.1


async def test_a_delay_of_zero_is_a_checkpoint() -> None:
    async with open_clock() as clock:
        for zero in (0, 0.0, -0.0, datetime.timedelta()):
            with trio.testing.assert_checkpoints():
                await clock.delay(zero)


@pytest.mark.parametrize("never", [inf, 10**400, 1e308])
async def test_a_delay_that_never_ends(never: float, autojump_clock: MockClock) -> None:
    async with InactiveClock().activate() as (clock, driver):
        for wait in (clock.delay, clock.delay_until):
            with trio.move_on_after(1e9) as scope:
                await wait(never)
            assert scope.cancelled_caught
        assert driver.statistics().pending == 0


async def test_delays_end_in_order_and_never_early(autojump_clock: MockClock) -> None:
    order: list[float] = []

    async def wait(clock: Clock, seconds: float) -> None:
        await clock.delay(seconds)
        assert clock.instant() == start + seconds
        order.append(seconds)

    async with open_clock() as clock, trio.open_nursery() as nursery:
        start = clock.instant()
        for seconds in (3.0, 1.0, 2.0, 1.0001, 0.5, 1e6):
            nursery.start_soon(wait, clock, seconds)
    assert order == [0.5, 1.0, 1.0001, 2.0, 3.0, 1e6]


@pytest.mark.parametrize("kind", [MockClock, ClockControl])
def test_what_is_due_together_with_a_delay_has_fired_when_that_ends(
    kind: type[MockClock | ClockControl],
) -> None:
    async def main() -> None:
        async with open_clock() as clock, clock.open_timers(on_exit="cancel") as timers:
            ticks: list[int] = []
            timers.call_every(1, ticks.append, 1)
            await clock.delay(10)
            assert len(ticks) == 10

    for _ in range(20):  # as Trio shuffles those who are woken
        trio.run(main, clock=kind(autojump_threshold=0))


async def test_a_new_earliest_timer_wakes_the_driver_earlier(
    mock_clock: MockClock,
) -> None:
    order: list[str] = []

    async def wait(seconds: float, name: str) -> None:
        await clock.delay(seconds)
        order.append(name)

    async with open_clock() as clock, trio.open_nursery() as nursery:
        nursery.start_soon(wait, 10, "late")
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(wait, 5, "early")
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(5)
        await trio.testing.wait_all_tasks_blocked()
        assert order == ["early"]
        mock_clock.jump(5)
        await trio.testing.wait_all_tasks_blocked()
        assert order == ["early", "late"]


@pytest.mark.parametrize("seconds", [0.0, 1.0, inf])
async def test_a_cancelled_delay_leaves_no_timer(seconds: float) -> None:
    async with InactiveClock().activate() as (clock, driver):
        with trio.CancelScope() as scope:
            scope.cancel()
            await clock.delay(seconds)
        assert scope.cancelled_caught
        with trio.move_on_after(0.001) as scope:
            await clock.delay(seconds + 1)
        assert scope.cancelled_caught
        assert driver.statistics().pending == 0
        assert driver.next_deadline is None


async def test_cancelled_and_due_at_once(mock_clock: MockClock) -> None:
    # Both at the same time, in either order: one of the two, and no timer left.
    async def wait(clock: Clock) -> None:
        with trio.move_on_at(1):
            await clock.delay_until(1)
        ended.append(clock.instant())

    ended: list[float] = []
    async with InactiveClock().activate() as (clock, driver):
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(wait, clock)
            await trio.testing.wait_all_tasks_blocked()
            mock_clock.jump(1)
        assert ended == [1.0] * 10
        assert driver.statistics().pending == 0


async def test_thousands_of_delays_at_one_instant(autojump_clock: MockClock) -> None:
    async with InactiveClock().activate() as (clock, driver):
        async with trio.open_nursery() as nursery:
            for _ in range(5_000):
                nursery.start_soon(clock.delay, 1)
        assert clock.instant() == 1
        assert driver.statistics().fired == 5_000
        assert driver.statistics().pending == 0


# --- timeouts ---


async def test_move_on(autojump_clock: MockClock) -> None:
    async with open_clock() as clock:
        for manager in (
            clock.move_on_after(2),
            clock.move_on_after(datetime.timedelta(seconds=2)),
            clock.move_on_at(clock.instant() + 6),
        ):
            before = clock.instant()
            with manager as scope:
                assert scope.deadline == before + 2
                await trio.sleep_forever()
            assert clock.instant() == before + 2
            assert scope.cancelled_caught


async def test_fail(autojump_clock: MockClock) -> None:
    async with open_clock() as clock:
        for manager in (clock.fail_after(2), clock.fail_at(clock.instant() + 4)):
            before = clock.instant()
            with pytest.raises(trio.TooSlowError), manager as scope:
                assert scope.deadline == before + 2
                await clock.delay(3600)
            assert clock.instant() == before + 2
        with clock.fail_after(10), clock.fail_at(clock.instant() + 10):
            await clock.delay(9)


async def test_timeouts_count_from_when_they_are_entered(
    autojump_clock: MockClock,
) -> None:
    async with open_clock() as clock:
        move_on, fail = clock.move_on_after(2), clock.fail_after(5)
        await clock.delay(100)
        with move_on, fail:
            await trio.sleep_forever()
        assert clock.instant() == 102


async def test_timeouts_can_be_shielded_and_infinite(
    autojump_clock: MockClock,
) -> None:
    async with open_clock() as clock:
        with trio.move_on_after(1):
            for manager in (
                clock.move_on_after(inf, shield=True),
                clock.move_on_at(inf, shield=True),
                clock.fail_after(inf, shield=True),
                clock.fail_at(inf, shield=True),
            ):
                with manager as scope:
                    assert scope.shield
                    await clock.delay(1)
        assert clock.instant() == 4


async def test_a_timeout_of_zero_cancels_at_the_first_checkpoint() -> None:
    async with open_clock() as clock:
        with clock.move_on_after(0) as scope:
            await clock.delay(60)
        assert scope.cancelled_caught


# --- the time ---


async def test_instants_are_those_of_the_run(mock_clock: MockClock) -> None:
    async with open_clock() as clock:
        mock_clock.jump(12.5)
        assert clock.instant() == trio.current_time() == 12.5


async def test_system_time_is_aware_and_in_utc() -> None:
    async with open_clock() as clock:
        for reading in (clock.system_time(), SimpleClock.system().system_time()):
            now = datetime.datetime.now(datetime.timezone.utc)
            assert reading.utcoffset() == datetime.timedelta(0)
            assert abs(now - reading) < datetime.timedelta(hours=1)


async def test_a_stopwatch_measures_on_its_clock(mock_clock: MockClock) -> None:
    async with open_clock() as clock:
        mock_clock.jump(1)
        watch = clock.stopwatch()
        assert watch.start == 1
        assert watch.elapsed() == 0
        mock_clock.jump(2.5)
        assert watch.elapsed() == 2.5
        assert repr(watch) == "<Stopwatch at 2.500000 s>"
        with pytest.raises(AttributeError):
            watch.start = 5  # type: ignore[misc]


def test_a_simple_clock_works_without_trio() -> None:
    clock = SimpleClock.system()
    watch = clock.stopwatch()
    assert 0 <= watch.elapsed() <= clock.instant()
    assert repr(clock) == "<SimpleClock system>"


# --- whatever runs the run ---


class FixedClock(trio.abc.Clock):
    """The least that a clock can be: somebody else moves it."""

    def __init__(self) -> None:
        self.now = -5.0

    def start_clock(self) -> None:
        pass

    def current_time(self) -> float:
        return self.now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        return 0 if deadline <= self.now else inf


def test_it_follows_any_clock_of_the_run() -> None:
    run_clock = FixedClock()
    woken: list[float] = []

    async def wait(clock: Clock, until: float) -> None:
        await clock.delay_until(until)
        woken.append(until)

    async def main() -> None:
        async with open_clock() as clock, trio.open_nursery() as nursery:
            for until in (-4.5, -0.25, 0.25, 4.5):
                nursery.start_soon(wait, clock, until)
            for now in (-4.75, -4.5, 0.0, 0.25, 4.0, 5.0):
                run_clock.now = now
                assert clock.instant() == now
                await trio.testing.wait_all_tasks_blocked()
                assert woken == [u for u in (-4.5, -0.25, 0.25, 4.5) if u <= now]

    trio.run(main, clock=run_clock)

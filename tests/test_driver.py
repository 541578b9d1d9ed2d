"""What drives the timers: wake-ups, turns, statistics."""

from __future__ import annotations

import collections
import functools
import sys
import threading
from collections.abc import Callable

import attrs
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from trio_clockrt import Clock, ClockDriver, InactiveClock, open_clock

if sys.version_info < (3, 11):
    from exceptiongroup import ExceptionGroup


class StepCounter(trio.abc.Instrument):
    """Counts the steps of driver tasks."""

    def __init__(self) -> None:
        self.steps = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if "trio_clockrt driver" in task.name:
            self.steps += 1


async def count_driver_steps(work: Callable[[], object]) -> int:
    """How many steps the drivers need until everything has settled after *work*."""
    await trio.testing.wait_all_tasks_blocked()
    counter = StepCounter()
    trio.lowlevel.add_instrument(counter)
    work()
    await trio.testing.wait_all_tasks_blocked()
    trio.lowlevel.remove_instrument(counter)
    return counter.steps


# --- tickless ---


async def test_without_timers_it_never_wakes_up(mock_clock: MockClock) -> None:
    async with InactiveClock().activate() as (clock, driver):
        await trio.testing.wait_all_tasks_blocked()
        before = driver.statistics().wakeups
        for _ in range(10):
            assert await count_driver_steps(lambda: mock_clock.jump(1e6)) == 0
        assert driver.statistics().wakeups == before
        assert clock.alive


async def test_it_wakes_up_only_for_what_is_due(mock_clock: MockClock) -> None:
    async with open_clock() as clock, clock.open_timers(on_exit="cancel") as timers:
        assert await count_driver_steps(lambda: timers.call_at(10, int)) == 0
        assert await count_driver_steps(lambda: timers.call_at(5, int)) == 0
        assert await count_driver_steps(lambda: mock_clock.jump(4)) == 0
        assert await count_driver_steps(lambda: mock_clock.jump(1)) == 1
        assert await count_driver_steps(lambda: mock_clock.jump(4)) == 0
        assert await count_driver_steps(lambda: mock_clock.jump(1)) == 1
        assert await count_driver_steps(lambda: mock_clock.jump(1e6)) == 0


async def test_a_cancelled_timer_wakes_nobody(mock_clock: MockClock) -> None:
    async with InactiveClock().activate() as (clock, driver):
        async with clock.open_timers(on_exit="cancel") as timers:
            timers.call_at(10, int)
            one, two = timers.call_at(5, int), timers.call_at(5, int)
            assert await count_driver_steps(one.cancel) == 0
            assert driver.next_deadline == 5
            assert await count_driver_steps(lambda: two.reset(15)) == 0
            assert driver.next_deadline == 10
            assert await count_driver_steps(lambda: mock_clock.jump(9)) == 0
            timers.cancel_timers()
            assert driver.statistics().pending == 0
            assert await count_driver_steps(lambda: mock_clock.jump(1e6)) == 0


async def test_what_was_fired_by_hand_wakes_nobody(mock_clock: MockClock) -> None:
    async with InactiveClock().activate() as (clock, driver):
        async with clock.open_timers(on_exit="cancel") as timers:
            timers.call_at(5, int)
            timers.call_at(10, int)
            await trio.testing.wait_all_tasks_blocked()
            assert driver.statistics().wakeups == 1

            def jump_and_advance() -> None:
                mock_clock.jump(5)
                driver.advance_timers()

            assert await count_driver_steps(jump_and_advance) == 0
            assert driver.statistics().wakeups == 1
            assert driver.statistics().fired == 1


async def test_leaving_a_nursery_wakes_nobody(mock_clock: MockClock) -> None:
    async with InactiveClock().activate() as (clock, driver):
        await trio.testing.wait_all_tasks_blocked()
        async with clock.open_timers():
            pass
        await trio.testing.wait_all_tasks_blocked()
        assert driver.statistics().wakeups == 1


async def test_a_reset_can_make_a_timer_the_earliest(mock_clock: MockClock) -> None:
    calls: list[str] = []
    async with open_clock() as clock, clock.open_timers() as timers:
        timers.call_at(10, calls.append, "ten")
        timer = timers.call_at(20, calls.append, "five")
        assert await count_driver_steps(lambda: timer.reset(5)) == 0
        assert await count_driver_steps(lambda: mock_clock.jump(5)) == 1
        assert calls == ["five"]
        mock_clock.jump(5)
    assert calls == ["five", "ten"]


# --- advance_timers ---


async def test_advance_timers_fires_what_is_due(mock_clock: MockClock) -> None:
    calls: list[float] = []
    async with InactiveClock().activate() as (clock, driver):
        async with clock.open_timers() as timers:
            for instant in (1.0, 2.0, 3.0):
                timers.call_at(instant, calls.append, instant)
            await trio.testing.wait_all_tasks_blocked()
            mock_clock.jump(2.5)
            assert driver.advance_timers(0) == 1.0
            assert driver.advance_timers(1) == 2.0
            assert calls == [1.0]
            assert driver.advance_timers(2.5) == 3.0  # which is the time
            assert calls == [1.0, 2.0]
            assert driver.advance_timers() == 3.0
            assert calls == [1.0, 2.0]
            # What the task was to wake up for has fired already.
            assert await count_driver_steps(lambda: None) <= 1
            mock_clock.jump(0.5)
            assert driver.advance_timers() is None
    assert calls == [1.0, 2.0, 3.0]


async def test_now_must_not_be_ahead_of_the_clock(mock_clock: MockClock) -> None:
    async with InactiveClock().activate() as (_, driver):
        with pytest.raises(ValueError, match=r"`now`.*at 0\.0.*is 0\.5"):
            driver.advance_timers(0.5)


async def test_advance_timers_inside_a_callback_is_refused() -> None:
    async with InactiveClock().activate() as (clock, driver):

        def callback() -> None:
            with pytest.raises(RuntimeError, match="from inside a timer's callback"):
                driver.advance_timers()
            called.append(True)

        called: list[bool] = []
        async with clock.open_timers() as timers:
            timers.call_later(0, callback)
        assert called


async def test_the_task_calls_advance_timers(monkeypatch: pytest.MonkeyPatch) -> None:
    original = ClockDriver.advance_timers
    threads: set[int] = set()

    def advance_timers(self: ClockDriver, now: float | None = None) -> float | None:
        threads.add(threading.get_ident())
        return original(self, now)

    monkeypatch.setattr(ClockDriver, "advance_timers", advance_timers)
    async with open_clock() as clock:
        await clock.delay(0.001)
    assert threads == {threading.get_ident()}


# --- turns ---


@pytest.mark.parametrize("spread", [0.0, 1e-9], ids=["one deadline", "many"])
async def test_other_tasks_get_their_turn_when_very_much_is_due(
    spread: float, mock_clock: MockClock
) -> None:
    async with open_clock() as clock:
        turns = 0
        at_turn: list[int] = []
        async with clock.open_timers(on_exit="cancel") as timers:
            for n in range(100_000):
                timers.call_at(1 + n * spread, lambda: at_turn.append(turns))
            mock_clock.jump(2)
            while len(at_turn) < 100_000:
                turns += 1
                await trio.lowlevel.checkpoint()
        assert turns >= 90
        assert (
            max(map(at_turn.count, set(at_turn))) <= 2 * 1024
        )  # at most two turns of the driver in a row


async def test_other_tasks_get_their_turn_when_very_many_tasks_are_woken(
    mock_clock: MockClock,
) -> None:
    turns = 0
    woken_at_turn: collections.Counter[int] = collections.Counter()

    async def wait(clock: Clock) -> None:
        await clock.delay(1)
        woken_at_turn[turns] += 1

    async with open_clock() as clock, trio.open_nursery() as nursery:
        for _ in range(100_000):
            nursery.start_soon(wait, clock)
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(1)
        while sum(woken_at_turn.values()) < 100_000:
            turns += 1
            await trio.lowlevel.checkpoint()
    # At most two turns of the driver in a row, and tasks that were woken before.
    assert max(woken_at_turn.values()) <= 3 * 1024


async def test_a_turn_fires_so_many(mock_clock: MockClock) -> None:
    calls: list[int] = []
    async with InactiveClock().activate() as (clock, driver):
        async with clock.open_timers(on_exit="cancel") as timers:
            for n in range(3000):
                timers.call_at(0, calls.append, n)
            for fired in (1024, 2048, 3000):
                driver.advance_timers()
                assert calls == list(range(fired))


class TickingClock(trio.abc.Clock):
    """A clock that moves whenever somebody looks at it."""

    def __init__(self, step: float) -> None:
        self.now = 0.0
        self.step = step

    def start_clock(self) -> None: ...

    def current_time(self) -> float:
        self.now += self.step
        return self.now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        return deadline - self.now


def test_a_turn_ends_when_its_time_is_up() -> None:
    woken: list[int] = []

    async def wait(clock: Clock, n: int) -> None:
        await clock.delay_until(5)
        woken.append(n)

    async def main() -> None:
        async with InactiveClock().activate() as (clock, driver):
            async with trio.open_nursery() as nursery:
                for n in range(1000):
                    nursery.start_soon(wait, clock, n)
                await trio.testing.wait_all_tasks_blocked()
                run_clock.step = 0.0003
                run_clock.now = 5.0
                before = driver.statistics()
                driver.advance_timers()
                # One look at the clock for 16 tasks, and the fourth says 1.2 ms.
                assert driver.statistics().fired - before.fired == 64
                run_clock.step = 0.0

    run_clock = TickingClock(0.0)
    trio.run(main, clock=run_clock)
    assert sorted(woken) == list(range(1000))


def test_a_slow_periodic_callback_ends_the_turn() -> None:
    def work() -> None:
        run_clock.now += 0.1

    async def main() -> None:
        async with InactiveClock().activate() as (clock, driver):
            async with clock.open_timers(on_exit="cancel") as timers:
                for _ in range(10):
                    timers.call_every(1, work)
                run_clock.now = 1.5
                driver.advance_timers()
                assert driver.statistics().fired == 1

    run_clock = TickingClock(0.0)
    trio.run(main, clock=run_clock)


def test_a_slow_callback_ends_the_turn() -> None:
    class SteppedClock(trio.abc.Clock):
        """A clock that moves while timers fire, because they move it."""

        now = 0.0

        def start_clock(self) -> None: ...

        def current_time(self) -> float:
            return self.now

        def deadline_to_sleep_time(self, deadline: float) -> float:
            return deadline - self.now

    run_clock = SteppedClock()
    turns = 0
    at_turn: list[int] = []

    def callback() -> None:
        run_clock.now += 0.01
        at_turn.append(turns)

    async def main() -> None:
        nonlocal turns
        async with open_clock() as clock, clock.open_timers() as timers:
            for _ in range(10):
                timers.call_at(0, callback)
            while len(at_turn) < 10:
                turns += 1
                await trio.lowlevel.checkpoint()

    trio.run(main, clock=run_clock)
    assert len(set(at_turn)) >= 5  # at most two turns of the driver between ours


async def test_cancelled_between_two_turns(mock_clock: MockClock) -> None:
    calls: list[int] = []
    async with open_clock() as clock:
        with pytest.raises(ExceptionGroup) as caught:
            async with clock.open_timers() as timers:
                for n in range(5_000):
                    timers.call_at(1, calls.append, n)
                mock_clock.jump(1)
                while not calls:
                    await trio.lowlevel.checkpoint()
                raise KeyError
        assert caught.group_contains(KeyError)
        assert 0 < len(calls) < 5_000


async def test_the_clock_ends_between_two_turns(mock_clock: MockClock) -> None:
    calls: list[int] = []

    async def use() -> None:
        with pytest.raises(ExceptionGroup):
            async with clock.open_timers() as timers:
                timers.call_at(1, lambda: timers.call_at(0, int))
                for n in range(5_000):
                    timers.call_at(1, calls.append, n)
                mock_clock.jump(1)

    async with trio.open_nursery() as nursery:
        async with InactiveClock().activate() as (clock, driver):
            nursery.start_soon(use)
            while not calls:
                await trio.lowlevel.checkpoint()
    assert 0 < len(calls) < 5_000
    statistics = driver.statistics()
    assert statistics.fired == len(calls) + 1
    assert statistics.cancelled == 5_002 - statistics.fired


async def test_now_is_before_what_a_turn_has_left(mock_clock: MockClock) -> None:
    calls: list[int] = []
    async with InactiveClock().activate() as (clock, driver):
        async with clock.open_timers(on_exit="cancel") as timers:
            for n in range(3000):
                timers.call_at(n, calls.append, n)
            mock_clock.jump(2999)
            assert driver.advance_timers() == 1024
            assert driver.advance_timers(now=1023.5) == 1024
            assert driver.advance_timers(now=1025) == 1026
            assert calls == [*range(1026)]
            while driver.advance_timers() is not None:
                pass
            assert calls == [*range(3000)]


async def test_timers_that_are_always_due_do_not_keep_the_driver_from_stopping(
    mock_clock: MockClock,
) -> None:
    def again() -> None:
        timer.reset(0)

    async with open_clock() as clock:
        async with clock.open_timers(on_exit="cancel") as timers:
            timer = timers.call_later(0, again)
            for _ in range(10):
                await trio.lowlevel.checkpoint()


# --- statistics ---


async def test_statistics(mock_clock: MockClock) -> None:
    async with InactiveClock().activate() as (clock, driver):
        async with clock.open_timers(on_exit="cancel") as timers:
            await trio.testing.wait_all_tasks_blocked()
            before = driver.statistics()
            timer = timers.call_at(1, int)
            timers.call_at(2, int)
            timers.call_every(1, int)
            timers.call_at(3, int).cancel()
            timer.reset(1)
            mock_clock.jump(1)
            await trio.testing.wait_all_tasks_blocked()
            statistics = driver.statistics()
            assert attrs.asdict(statistics) == {
                "pending": 2,  # one for the next tick
                "registered": 6,
                "fired": 2,
                "cancelled": 2,
                "wakeups": before.wakeups + 1,
                "lateness_p50": 0.0,
                "lateness_p99": 0.0,
                "lateness_max": 0.0,
            }
            with pytest.raises(attrs.exceptions.FrozenInstanceError):
                statistics.fired = 0  # type: ignore[misc]
            assert repr(driver) == "<ClockDriver MockClock, 2 timers, alive>"
            assert repr(clock) == "<Clock MockClock, 2 timers, alive>"
    assert driver.statistics().pending == 0


async def test_lateness(mock_clock: MockClock) -> None:
    async with InactiveClock().activate() as (clock, driver):
        statistics = driver.statistics()
        assert statistics.lateness_p50 is statistics.lateness_max is None
        async with clock.open_timers() as timers:
            for n in range(100):
                timers.call_at(n, int)
            mock_clock.jump(99)
        statistics = driver.statistics()
        assert statistics.lateness_p50 == 50
        assert statistics.lateness_p99 == 99
        assert statistics.lateness_max == 99
        # Of what was late long ago only the maximum remains.
        async with clock.open_timers() as timers:
            for _ in range(1024):
                timers.call_later(1, int)
            mock_clock.jump(1.5)
        statistics = driver.statistics()
        assert statistics.lateness_p50 == statistics.lateness_p99 == 0.5
        assert statistics.lateness_max == 99


@pytest.mark.parametrize("late_first", [True, False])
async def test_lateness_is_about_so_many(
    late_first: bool, mock_clock: MockClock
) -> None:
    # Of 1,024, half of them late, the median is the first of the later half.
    async with InactiveClock().activate() as (clock, driver):
        for late in (late_first, not late_first):
            async with clock.open_timers() as timers:
                # One of those that come first is too many, and forgotten.
                for _ in range(512 + (late == late_first)):
                    timers.call_later(0 if late else 10, int)
                mock_clock.jump(10)
        assert driver.statistics().lateness_p50 == 10


async def test_lateness_that_slow_callbacks_cause() -> None:
    class SteppedClock(trio.abc.Clock):
        now = 0.0

        def start_clock(self) -> None: ...

        def current_time(self) -> float:
            return self.now

        def deadline_to_sleep_time(self, deadline: float) -> float:
            self.now = max(self.now, min(deadline, 10.0))
            return 0.0

    def work() -> None:
        run_clock.now += 2.0

    async def main() -> None:
        async with InactiveClock().activate() as (clock, driver):
            async with clock.open_timers() as timers:
                for _ in range(3):
                    timers.call_at(1.0, work)
            statistics = driver.statistics()
            assert (statistics.lateness_p50, statistics.lateness_max) == (2.0, 4.0)

    run_clock = SteppedClock()
    await trio.to_thread.run_sync(functools.partial(trio.run, main, clock=run_clock))


async def test_an_exception_as_the_alarm_rings(mock_clock: MockClock) -> None:
    """Trio would log it, and go on without the alarm; the block gets it."""

    def now() -> float:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        async with open_clock() as clock:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(clock.delay, 1)
                await trio.testing.wait_all_tasks_blocked()
                clock._timers.now = now
                mock_clock.jump(1)

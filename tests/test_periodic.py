"""Ticks: the async iterator, and how periodic timers miss them."""

from __future__ import annotations

import datetime

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from trio_clockrt import ClockGone, MissedTick, PeriodicTimer, open_clock


async def take(timer: PeriodicTimer, count: int) -> list[float]:
    return [await timer.__anext__() for _ in range(count)]


async def test_it_ticks_once_per_period_and_yields_the_instant(
    autojump_clock: MockClock,
) -> None:
    async with open_clock() as clock:
        await clock.delay(10)
        seen: list[tuple[float, float]] = []
        async for tick in clock.periodic(0.5):
            seen.append((tick, clock.instant()))
            if len(seen) == 3:
                break
        assert seen == [(10.5, 10.5), (11.0, 11.0), (11.5, 11.5)]


async def test_the_grid_starts_when_the_timer_is_made(
    autojump_clock: MockClock,
) -> None:
    async with open_clock() as clock:
        timer = clock.periodic(datetime.timedelta(seconds=2))
        await clock.delay(1.5)
        assert await take(timer, 2) == [2, 4]


async def test_a_busy_consumer_does_not_make_it_drift(
    autojump_clock: MockClock,
) -> None:
    async with open_clock() as clock:
        ticks = []
        timer = clock.periodic(1)
        for work in (0.9, 0.1, 1.0, 0.5):
            ticks.append(await timer.__anext__())
            await clock.delay(work)
        # Work that takes just a period misses nothing: the tick is due, not past.
        assert ticks == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("missed", "expected"),
    [
        (MissedTick.BURST, [(1, 3.5), (2, 3.5), (3, 3.5), (4, 4), (5, 5)]),
        (MissedTick.DELAY, [(1, 3.5), (4.5, 4.5), (5.5, 5.5), (6.5, 6.5)]),
        (MissedTick.SKIP, [(1, 3.5), (4, 4), (5, 5), (6, 6)]),
    ],
)
async def test_a_missed_tick_comes_at_once(
    missed: MissedTick,
    expected: list[tuple[float, float]],
    autojump_clock: MockClock,
) -> None:
    async with open_clock() as clock:
        timer = clock.periodic(1, missed=missed)
        await clock.delay(3.5)
        seen = []
        for _ in expected:
            with trio.testing.assert_checkpoints():
                seen.append((await timer.__anext__(), clock.instant()))
        assert seen == expected


async def test_delay_is_the_default(autojump_clock: MockClock) -> None:
    async with open_clock() as clock:
        timer = clock.periodic(1)
        await clock.delay(2.25)
        assert await take(timer, 2) == [1, 3.25]


async def test_skipping_stays_strictly_after_now(autojump_clock: MockClock) -> None:
    async with open_clock() as clock:
        timer = clock.periodic(1, missed=MissedTick.SKIP)
        await clock.delay(3)
        assert await take(timer, 2) == [1, 4]


async def test_a_tick_that_was_missed_again_and_again(
    autojump_clock: MockClock,
) -> None:
    async with open_clock() as clock:
        burst = clock.periodic(1, missed=MissedTick.BURST)
        skip = clock.periodic(1, missed=MissedTick.SKIP)
        for seconds in (2.5, 2.0):
            await clock.delay(seconds)
            await burst.__anext__()
            await skip.__anext__()
        assert await take(burst, 4) == [3, 4, 5, 6]
        assert await take(skip, 2) == [5, 7]  # at 6, so that 6 is dropped


async def test_a_consumer_that_is_woken_late_has_not_missed_its_tick(
    mock_clock: MockClock,
) -> None:
    async def consume() -> None:
        seen.extend(await take(timer, 2))

    async with open_clock() as clock, trio.open_nursery() as nursery:
        seen: list[float] = []
        timer = clock.periodic(1)
        nursery.start_soon(consume)
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(1.5)
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(0.5)
    assert seen == [1, 2]


async def test_a_cancelled_wait_loses_no_tick(autojump_clock: MockClock) -> None:
    async with open_clock() as clock:
        timer = clock.periodic(1)
        with clock.move_on_after(0.5):
            await timer.__anext__()
        assert await timer.__anext__() == 1
        await clock.delay(1)
        with trio.CancelScope() as scope:
            scope.cancel()
            await timer.__anext__()
        assert scope.cancelled_caught
        assert await timer.__anext__() == 2


async def test_reset_starts_the_grid_anew(autojump_clock: MockClock) -> None:
    async with open_clock() as clock:
        timer = clock.periodic(1)
        await clock.delay(0.75)
        timer.reset()
        assert await take(timer, 2) == [1.75, 2.75]


async def test_reset_moves_whoever_is_waiting(autojump_clock: MockClock) -> None:
    async def consume() -> None:
        seen.extend(await take(timer, 2))

    async with open_clock() as clock, trio.open_nursery() as nursery:
        seen: list[float] = []
        timer = clock.periodic(1)
        nursery.start_soon(consume)
        await clock.delay(0.75)
        timer.reset()
    assert seen == [1.75, 2.75]


async def test_reset_when_the_tick_has_come_but_not_been_seen(
    autojump_clock: MockClock,
) -> None:
    async def consume() -> None:
        seen.extend(await take(timer, 2))

    async with open_clock() as clock, trio.open_nursery() as nursery:
        seen: list[float] = []
        timer = clock.periodic(1)
        nursery.start_soon(consume)
        await trio.testing.wait_all_tasks_blocked()
        async with clock.open_timers() as timers:
            # Fires after the consumer was woken, and before it has run.
            timers.call_at(1, timer.reset)
    assert seen == [1, 2]


@pytest.mark.parametrize("missed", MissedTick)
async def test_reset_while_a_missed_tick_is_on_its_way(
    missed: MissedTick, autojump_clock: MockClock
) -> None:
    async def consume() -> None:
        seen.append(await timer.__anext__())

    async def reset() -> None:
        timer.reset()

    async with open_clock() as clock:
        for _ in range(10):  # in either order
            seen: list[float] = []
            timer = clock.periodic(1, missed=missed)
            start = clock.instant()
            await clock.delay(2.5)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(consume)
                nursery.start_soon(reset)
            assert seen in ([start + 1], [start + 3.5])


async def test_the_clock_goes_while_a_missed_tick_is_on_its_way(
    autojump_clock: MockClock,
) -> None:
    async def consume(timer: PeriodicTimer) -> None:
        with pytest.raises(ClockGone):
            await take(timer, 2)
        ended.append(True)

    ended: list[bool] = []
    for _ in range(10):  # in either order
        async with trio.open_nursery() as nursery, open_clock() as clock:
            timer = clock.periodic(1)
            await clock.delay(2.5)
            nursery.start_soon(consume, timer)
    assert len(ended) == 10


async def test_one_consumer_at_a_time(autojump_clock: MockClock) -> None:
    async with open_clock() as clock, trio.open_nursery() as nursery:
        timer = clock.periodic(1)
        nursery.start_soon(timer.__anext__)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError, match="another task"):
            await timer.__anext__()
        await clock.delay(2.5)
        assert await timer.__anext__() == 2


async def test_ticks_are_as_exact_after_hours(autojump_clock: MockClock) -> None:
    async with open_clock() as clock:
        timer = clock.periodic(0.1)
        for n in range(1, 10_001):
            assert await timer.__anext__() == n * 0.1


@pytest.mark.parametrize("missed", MissedTick)
@pytest.mark.parametrize(
    ("period", "far"), [(1e-3, 1e12), (1e-3, 1e17), (1 / 3, 1.2e20), (1e-9, 1e300)]
)
async def test_a_jump_to_where_instants_are_coarser_than_the_period(
    missed: MissedTick, period: float, far: float, mock_clock: MockClock
) -> None:
    async with open_clock() as clock:
        timer = clock.periodic(period, missed=missed)
        mock_clock.jump(far)
        assert await timer.__anext__() == period
        with trio.CancelScope() as scope:
            scope.cancel()
            await timer.__anext__()


async def test_repr() -> None:
    async with open_clock() as clock:
        assert "every 2.0 s, SKIP" in repr(clock.periodic(2, missed=MissedTick.SKIP))


class GridModel:
    """The ticks of a periodic timer, as the design tells them."""

    def __init__(self, period: float, missed: MissedTick) -> None:
        self.period = period
        self.missed = missed
        self.restart(0.0)

    def restart(self, now: float) -> None:
        self.origin, self.n = now, 1

    @property
    def tick(self) -> float:
        return self.origin + self.n * self.period

    def advance(self, now: float, *, missed: bool) -> None:
        if not missed or self.missed is MissedTick.BURST:
            self.n += 1
        elif self.missed is MissedTick.DELAY:
            self.restart(now)
        else:
            while self.tick <= now:
                self.n += 1


periods = st.sampled_from([0.1, 0.25, 1.0, 3.0, 1e-6, 86400.0])
work = st.tuples(st.just("work"), st.floats(0, 5))
steps = st.one_of(
    work,
    work,
    st.tuples(st.just("cancelled"), st.floats(0, 1.5)),
    st.tuples(st.sampled_from(["reset", "reset while waiting", "two consumers"])),
)


@given(periods, st.lists(steps, max_size=30), st.sampled_from(MissedTick))
def test_ticks_against_a_model(
    period: float, steps: list[tuple[str, float]], missed: MissedTick
) -> None:
    async def main() -> None:
        async with open_clock() as clock, trio.open_nursery() as nursery:
            timer = clock.periodic(period, missed=missed)
            model = GridModel(period, missed)
            for what, *periods in steps:
                now = clock.instant()
                if what == "work":
                    await clock.delay(periods[0] * period)
                elif what == "reset":
                    timer.reset()
                    model.restart(now)
                elif what == "cancelled":
                    if model.tick > now + periods[0] * period:
                        with trio.move_on_after(periods[0] * period) as scope:
                            await timer.__anext__()
                        assert scope.cancelled_caught
                elif model.tick > now:
                    # Somebody is waiting meanwhile.
                    nursery.start_soon(timer.__anext__)
                    await trio.lowlevel.checkpoint()
                    await trio.lowlevel.checkpoint()
                    with pytest.raises(trio.BusyResourceError):
                        await timer.__anext__()
                    if what == "reset while waiting":
                        timer.reset()
                        model.restart(now)
                    await clock.delay_until(model.tick)
                    await trio.testing.wait_all_tasks_blocked()
                    model.advance(model.tick, missed=False)
                now = clock.instant()
                expected = model.tick
                assert await timer.__anext__() == expected
                assert clock.instant() == max(now, expected)
                model.advance(clock.instant(), missed=expected < now)

    trio.run(main, clock=MockClock(autojump_threshold=0))


@given(periods, st.lists(st.floats(0, 5), max_size=30), st.sampled_from(MissedTick))
def test_call_every_against_a_model(
    period: float, jumps: list[float], missed: MissedTick
) -> None:
    async def main() -> None:
        run_clock = trio.lowlevel.current_clock()
        assert isinstance(run_clock, MockClock)
        calls: list[tuple[float, float]] = []
        expected: list[tuple[float, float]] = []
        model = GridModel(period, missed)
        async with open_clock() as clock:
            async with clock.open_timers(on_exit="cancel") as timers:

                def call() -> None:
                    calls.append((clock.instant(), timer.when))

                timer = timers.call_every(period, call, missed=missed)
                for periods in jumps:
                    run_clock.jump(periods * period)
                    await trio.testing.wait_all_tasks_blocked()
                    now = clock.instant()
                    while model.tick <= now:
                        # Late by less than a period is not too late.
                        too_late = now >= model.origin + (model.n + 1) * period
                        model.advance(now, missed=too_late)
                        expected.append((now, model.tick))
                    assert calls == expected

    trio.run(main, clock=MockClock())


@pytest.mark.parametrize("missed", MissedTick)
async def test_hours(missed: MissedTick, autojump_clock: MockClock) -> None:
    period = 0.7
    ticks: list[float] = []
    calls: list[float] = []
    async with open_clock() as clock, clock.open_timers(on_exit="cancel") as timers:
        timers.call_every(period, lambda: calls.append(clock.instant()), missed=missed)
        async for tick in clock.periodic(period, missed=missed):
            ticks.append(tick)
            if len(ticks) == 10_000:
                break
            # Works for nearly a period each time.
            await clock.delay(0.699)
    assert ticks == [n * period for n in range(1, 10_001)]
    assert calls == ticks
    assert ticks[-1] / 3600 > 1.9


def test_a_tick_that_is_a_little_more_than_a_whole_number_of_periods() -> None:
    """0.5 // 0.1 is 4."""

    async def main() -> None:
        async with open_clock() as clock:
            timer = clock.periodic(0.1, missed=MissedTick.SKIP)
            await clock.delay(0.5)
            assert await timer.__anext__() == 0.1
            assert await timer.__anext__() == pytest.approx(0.6)

    trio.run(main, clock=MockClock(autojump_threshold=0))

import pytest
import trio
from cache import Cache
from trio_clockrt import InactiveClock
from trio_clockrt.testing import ClockControl


async def test_a_cache_of_its_own_time():
    control = ClockControl()
    clock = control.to_clock()
    reports = iter(["sunny", "rainy"])

    async def load(key):
        await trio.sleep(0.001)
        return next(reports)

    with clock.timer_group() as timers:
        cache = Cache(clock, timers, load)
        assert (await cache.get("Oslo"))[0] == "sunny"
        control.advance(59)
        assert (await cache.get("Oslo"))[0] == "sunny"
        control.advance(1)
        assert (await cache.get("Oslo"))[0] == "rainy"


async def test_it_does_not_wait_for_a_real_sleep():
    clock = ClockControl(autojump_threshold=0).to_clock()

    async def load(key):
        await trio.sleep(0.1)
        return "too late"

    with clock.timer_group() as timers:
        cache = Cache(clock, timers, load)
        with pytest.raises(OSError, match="Oslo"):
            await cache.get("Oslo")
    assert clock.instant() == 3 * 5 + 1 + 2 + 4


async def test_a_clock_with_a_driver():
    control = ClockControl()
    hours = []
    async with InactiveClock.from_control(control).activate() as (clock, _):
        async with clock.open_timers(on_exit="cancel") as timers:
            timers.call_every(3600, lambda: hours.append(clock.instant() / 3600))
            await control.run_for(5 * 3600)
    assert hours == [1, 2, 3, 4, 5]

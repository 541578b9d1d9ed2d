from datetime import datetime, timezone

import pytest
import trio
from cache import Cache

NOON = datetime(2026, 6, 1, 12, tzinfo=timezone.utc)

pytestmark = pytest.mark.virtual_time(at=NOON)


class Weather:
    """What the cache asks, instead of a server."""

    def __init__(self, clock):
        self.clock = clock
        self.asked = []
        self.answers = True

    async def load(self, key):
        self.asked.append(self.clock.instant())
        if not self.answers:
            await trio.sleep_forever()
        return f"report {len(self.asked)}"


@pytest.fixture
def weather(active_clock):
    return Weather(active_clock)


@pytest.fixture
async def cache(active_clock, weather):
    async with active_clock.open_timers(on_exit="cancel") as timers:
        yield Cache(active_clock, timers, weather.load)


async def test_it_asks_again_after_a_minute(active_clock, cache, weather):
    for _ in range(121):
        await cache.get("Oslo")
        await active_clock.delay(1)
    assert weather.asked == [0, 60, 120]


async def test_it_gives_up(active_clock, cache, weather):
    weather.answers = False
    with pytest.raises(OSError, match="Oslo"):
        await cache.get("Oslo")
    assert weather.asked == [0, 6, 13]
    assert active_clock.instant() == 13 + 5 + 4


async def test_it_waits_for_a_slow_answer(active_clock, cache, weather):
    async def load(key):
        await trio.sleep(4.999)
        return "at last"

    cache.load = load
    assert (await cache.get("Oslo"))[0] == "at last"


# --- wall time ---


async def test_when_it_was(active_clock, cache):
    await active_clock.delay(90)
    _, when = await cache.get("Oslo")
    assert when == datetime(2026, 6, 1, 12, 1, 30, tzinfo=timezone.utc)


async def test_it_does_not_mind_the_wall_clock(
    active_clock, cache, weather, clock_control
):
    await cache.get("Oslo")
    clock_control.adjust_system_time(-3600)  # an operator sets it back
    await active_clock.delay(60)
    _, when = await cache.get("Oslo")
    assert weather.asked == [0, 60]
    assert when == datetime(2026, 6, 1, 11, 1, tzinfo=timezone.utc)


async def test_the_next_morning(cache, weather, clock_control):
    await cache.get("Oslo")
    clock_control.set_time(datetime(2026, 6, 2, 8, tzinfo=timezone.utc))
    await clock_control.run_for(0)
    _, when = await cache.get("Oslo")
    assert weather.asked == [0, 20 * 3600]
    assert when == datetime(2026, 6, 2, 8, tzinfo=timezone.utc)

import pytest
import trio
from cache import Cache
from trio_clockrt import open_clock


async def test_it_asks_again_after_a_minute():
    answers = iter(["sunny", "rainy"])

    async def load(key):
        return next(answers)

    async with open_clock() as clock, clock.open_timers(on_exit="cancel") as timers:
        cache = Cache(clock, timers, load)
        assert (await cache.get("Oslo"))[0] == "sunny"
        await trio.sleep(59.9)
        assert (await cache.get("Oslo"))[0] == "sunny"
        await trio.sleep(0.2)
        assert (await cache.get("Oslo"))[0] == "rainy"


async def test_it_gives_up():
    async def load(key):
        await trio.sleep_forever()

    async with open_clock() as clock, clock.open_timers(on_exit="cancel") as timers:
        start = trio.current_time()
        with pytest.raises(OSError, match="Oslo"):
            await Cache(clock, timers, load).get("Oslo")
        # Three times 5 seconds, and pauses of 1, 2 and 4.
        assert 21.9 < trio.current_time() - start < 22.1

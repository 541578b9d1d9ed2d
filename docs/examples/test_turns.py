import pytest
import trio
from cache import Cache


# Somebody asks at the very instant at which the report gets too old.
@pytest.mark.virtual_time(seeds=20)
async def test_just_in_time(active_clock):
    reports = iter(["old", "new"])
    got = []

    async def load(key):
        await trio.lowlevel.checkpoint()
        return next(reports)

    async def ask_again(cache):
        await trio.sleep(60)
        got.append((await cache.get("Oslo"))[0])

    async with active_clock.open_timers(on_exit="cancel") as timers:
        cache = Cache(active_clock, timers, load)
        await cache.get("Oslo")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask_again, cache)
    assert got in (["old"], ["new"])

import pytest
import trio
from cache import Cache


# A report is asked for at the very instant at which another task drops it.
@pytest.mark.virtual_time(seeds=20)
async def test_just_in_time(active_clock):
    reports = iter(["old", "new"])
    got = []

    async def load(key):
        await trio.lowlevel.checkpoint()
        return next(reports)

    async def ask_again(cache):
        await trio.sleep(30)
        got.append((await cache.get("Oslo"))[0])

    async def drop(cache):
        await trio.sleep(30)
        del cache.kept["Oslo"]

    async with active_clock.open_timers(on_exit="cancel") as timers:
        cache = Cache(active_clock, timers, load)
        await cache.get("Oslo")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask_again, cache)
            nursery.start_soon(drop, cache)
    assert got in (["old"], ["new"])

from pass_it_around import connect_with_retries
from trio_clockrt import open_clock


async def test_it_backs_off(autojump_clock):
    async with open_clock() as clock:
        watch = clock.stopwatch()
        await connect_with_retries(clock)
        assert watch.elapsed() == 7

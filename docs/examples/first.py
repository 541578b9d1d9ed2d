import trio
from trio_clockrt import open_clock


async def main():
    async with open_clock() as clock:
        watch = clock.stopwatch()
        await clock.delay(1.5)
        print(f"{watch.elapsed():.1f} seconds later")


trio.run(main)

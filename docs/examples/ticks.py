import trio
from trio_clockrt import MissedTick, open_clock


async def main():
    async with open_clock() as clock:
        start = clock.instant()
        work = iter([0.2, 0.2, 2.5, 0.2, 0.2])
        async for tick in clock.periodic(1, missed=MissedTick.SKIP):
            late = clock.instant() - tick
            print(f"tick for second {tick - start:.0f}, {late:.1f} s late")
            seconds = next(work, None)
            if seconds is None:
                break
            await clock.delay(seconds)


trio.run(main)

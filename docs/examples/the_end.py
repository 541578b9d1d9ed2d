import trio
from trio_clockrt import ClockGone, open_clock


async def heartbeat(clock):
    try:
        async for _ in clock.periodic(1):
            print("still alive")
    except ClockGone:
        print("the clock is gone")


async def main():
    async with trio.open_nursery() as nursery:
        async with open_clock() as clock:
            nursery.start_soon(heartbeat, clock)
            await clock.delay(2.5)
        # The heartbeat outlives its clock, and is told so.


trio.run(main)

"""A clock that another task keeps for a while."""

import trio

from trio_clockrt import InactiveClock


async def remind(clock):
    with clock:
        await clock.delay(2)
        print("do not forget")


async def main():
    async with trio.open_nursery() as nursery:
        async with InactiveClock().activate() as (clock, driver):
            nursery.start_soon(remind, clock.clone())
            clock.close()  # we do not need it any more
            await driver.wait_gone()
            print("the clock has no owner any more")


trio.run(main)

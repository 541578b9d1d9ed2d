import trio
from trio_clockrt import open_clock


async def serve(clock, connection):
    """Answer what comes; hang up after 30 seconds without anything."""
    async with clock.open_timers(on_exit="cancel") as timers:
        idle = timers.call_later(30, timers.cancel_scope.cancel)
        timers.call_every(10, print, "  (still connected)")
        async for message in connection:
            print("received", message)
            idle.reset(30)
    if timers.cancel_scope.cancelled_caught:
        print("hung up")


async def main():
    async with open_clock() as clock, trio.open_nursery() as nursery:
        client, server = trio.open_memory_channel(0)
        nursery.start_soon(serve, clock, server)
        await client.send("hello")
        await clock.delay(25)
        await client.send("are you still there?")
        # From here on the client is silent.


trio.run(main)

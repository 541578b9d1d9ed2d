import trio
import trio.testing
from trio_clockrt import open_clock


async def beat(clock, stream):
    """Say something once per second."""
    async for _ in clock.periodic(1):
        await stream.send_all(b"still there\n")


async def serve(clock, stream):
    """Echo what comes, with a heartbeat; hang up after 5 seconds without anything."""
    async with clock.open_timers(on_exit="cancel") as timers:
        idle = timers.call_later(5, timers.cancel_scope.cancel)
        timers.start_later(0, beat, clock, stream)
        async for data in stream:
            idle.reset(5)
            with clock.fail_after(2):  # for a client that does not read
                await stream.send_all(data)
        timers.cancel_scope.cancel()  # the client has hung up: end the heartbeat too


async def main():
    async with open_clock() as clock, trio.open_nursery() as nursery:
        client, server = trio.testing.memory_stream_pair()
        nursery.start_soon(serve, clock, server)
        await clock.delay(1.5)
        await client.send_all(b"hello\n")
        await clock.delay(10)
        print((await client.receive_some()).decode(), end="")


if __name__ == "__main__":
    trio.run(main)

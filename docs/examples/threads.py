import threading

import trio

from trio_clockrt import Clock, ClockGone, InactiveClock


def measure(clock: Clock) -> str:
    # In a thread without Trio.
    start = clock.instant()
    clock.delay_blocking(0.02)
    return "20 ms and no less" if clock.instant() >= start + 0.02 else "less"


async def serve(clock: Clock) -> str:
    # A task of another Trio run, in another thread.
    with clock.move_on_after(0.02) as scope:
        await trio.sleep_forever()
    return "timed out" if scope.cancelled_caught else "done"


def wait_for_the_end(clock: Clock) -> None:
    with clock:
        try:
            clock.delay_blocking(3600)
        except ClockGone:
            print("the clock is gone")


async def main() -> None:
    recipe = InactiveClock.new_shared()
    async with recipe.activate() as (clock, _):
        print(await trio.to_thread.run_sync(measure, clock))
        print(await trio.to_thread.run_sync(trio.run, serve, clock))
        thread = threading.Thread(target=wait_for_the_end, args=[clock.clone()])
        thread.start()
    await trio.to_thread.run_sync(thread.join)


trio.run(main)

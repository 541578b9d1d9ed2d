import trio
from trio_clockrt import Clock, open_clock


async def connect(attempt):
    if attempt < 3:
        raise OSError("no answer")
    return "connection"


async def connect_with_retries(clock: Clock):
    for attempt in range(10):
        if attempt:
            await clock.delay(2 ** (attempt - 1))
        try:
            with clock.fail_after(5):
                return await connect(attempt)
        except (OSError, trio.TooSlowError):
            pass
    raise OSError("no answer, ten times")


async def main():
    async with open_clock() as clock:
        watch = clock.stopwatch()
        connection = await connect_with_retries(clock)
        print(f"{connection} after {watch.elapsed():.0f} seconds")


if __name__ == "__main__":
    trio.run(main)

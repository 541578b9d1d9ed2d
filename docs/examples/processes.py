import trio
import trio_parallel

from trio_clockrt import InactiveClock


async def job(recipe: InactiveClock, number: int) -> int:
    async with recipe.activate() as (clock, _):
        await clock.delay(0.01)
        return number * number


def run_job(recipe: InactiveClock, number: int) -> int:
    # In the worker process.
    return trio.run(job, recipe, number)


async def main() -> None:
    results = {}

    async def ask(number: int) -> None:
        results[number] = await trio_parallel.run_sync(run_job, recipe, number)

    recipe = InactiveClock()
    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(ask, number)
    print(sorted(results.items()))


if __name__ == "__main__":
    trio.run(main)

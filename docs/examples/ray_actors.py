import ray
import trio

from trio_clockrt import InactiveClock


@ray.remote
class Worker:
    """An actor: a process of its own, with a Trio run for each call."""

    def __init__(self, recipe: InactiveClock) -> None:
        self.recipe = recipe

    def work(self, jobs: list[float]) -> list[float]:
        return trio.run(self._work, jobs)

    async def _work(self, jobs: list[float]) -> list[float]:
        done = []

        async def job(seconds: float) -> None:
            await clock.delay(seconds)
            done.append(seconds)

        async with self.recipe.clone().activate() as (clock, _):
            async with trio.open_nursery() as nursery:
                for seconds in jobs:
                    nursery.start_soon(job, seconds)
        return done


ray.init(num_cpus=2, include_dashboard=False)
workers = [Worker.remote(InactiveClock()) for _ in range(2)]
results = [worker.work.remote([0.3, 0.1, 0.2]) for worker in workers]
print(ray.get(results))
ray.shutdown()

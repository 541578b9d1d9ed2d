import threading

import trio

from trio_clockrt import InactiveClock
from trio_clockrt.affinity import pinned_affinities


async def main(recipe: InactiveClock) -> None:
    async with recipe.activate() as (clock, driver):
        await clock.delay(0.01)
        fired[clock.affinity.processor_index] = driver.statistics().fired


def thread(recipe: InactiveClock) -> None:
    # (Here the thread would pin itself to its core.)
    trio.run(main, recipe)


fired = {}
root = InactiveClock()
threads = []
for core in pinned_affinities([2]):
    recipe = root.clone()
    recipe.relocate(None, core)
    threads.append(threading.Thread(target=thread, args=[recipe]))
for each in threads:
    each.start()
for each in threads:
    each.join()
for core, timers in sorted(fired.items()):
    print(f"core {core}: {timers} timer fired")

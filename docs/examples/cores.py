"""A search that all cores take part in."""

import queue
from contextlib import suppress

from trio_clockrt.affinity import available_affinities, run_per_core


async def search(clock, places, needle):
    found = None
    with suppress(queue.Empty):
        async for _ in clock.periodic(0.001):
            place = places.get_nowait()
            if needle in place:
                found = place
    return found


places = queue.SimpleQueue()
for n in range(100):
    places.put(f"haystack {n}")

cores = available_affinities()
results = run_per_core(search, places, "42", affinities=cores)
print("a result for each core:", len(results) == len(cores))
print("found:", [place for place in results if place])

"""What worker processes do; for test_processes.py, as they have to import it."""

from __future__ import annotations

from multiprocessing.connection import Connection

import trio
from trio.testing import MockClock

from trio_clockrt import InactiveClock
from trio_clockrt.affinity import Affinity


def use(recipe: InactiveClock) -> tuple[float, Affinity | None]:
    """Activate it in a Trio run of this process."""

    async def main() -> tuple[float, Affinity | None]:
        async with recipe.activate() as (clock, driver):
            async with clock.open_timers() as timers:
                timers.call_later(60, fired.append, "callback")
            with clock.move_on_after(5):
                await clock.delay(3600)
            assert driver.statistics().pending == 0
            return clock.instant(), clock.affinity

    fired: list[str] = []
    result = trio.run(main, clock=MockClock(autojump_threshold=0))
    assert fired == ["callback"]
    return result


def use_in_a_process(pipe: Connection, recipe: InactiveClock) -> None:
    pipe.send(use(recipe))
    pipe.close()

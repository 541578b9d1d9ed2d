"""What chance decides in a run, decided by a seed: the same each time."""

from __future__ import annotations

from random import Random, SystemRandom

import trio
from trio.lowlevel import add_instrument, current_trio_token

from ._trio_inside import decide_schedule

# Few enough digits to type.
_SEEDS = 2**32
# When a test fails, the pytest plugin tells of the last one.
drawn: list[int] = []


def draw_seed() -> int:
    # Not with the random numbers of the `random` module, which programs seed too.
    seed = SystemRandom().randrange(_SEEDS)
    drawn[:] = [seed]
    return seed


def random_for(what: str, seed: int) -> Random:
    """The source of random numbers for one of the things that a seed decides.

    Each has one of its own, so that the others do not notice how many it takes.
    """
    return Random(f"{what} {seed}")


class SeededSchedule(trio.abc.Instrument):
    """Seeds the schedule of the current run, which has just begun, until it ends.

    Trio tells an instrument of the end however it comes: also when the run crashes, and
    when the host of a guest run abandons it and it is collected as garbage.
    """

    def __init__(self, seed: int) -> None:
        # Neither the run nor its tasks, which would keep an abandoned run alive.
        self._run = current_trio_token()
        add_instrument(self)
        decide_schedule(self._run, random_for("schedule", seed))

    def after_run(self) -> None:
        decide_schedule(self._run, None)


def check_seed(seed: object) -> None:
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise TypeError(
            f"`seed` must be an integer, or None to have one drawn, not {seed!r}"
        )
    if seed < 0:
        raise ValueError(f"`seed` must be non-negative, but it is {seed!r}")

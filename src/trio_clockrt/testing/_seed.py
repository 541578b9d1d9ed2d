"""A schedule that repeats: the same tasks go first in each run with the same seed."""

from __future__ import annotations

from random import Random

import trio
from trio.lowlevel import add_instrument, current_trio_token

from ._trio_inside import decide_schedule


class SeededSchedule(trio.abc.Instrument):
    """Seeds the schedule of the current run, which has just begun, until it ends.

    Trio tells an instrument of the end however it comes: also when the run crashes, and
    when the host of a guest run abandons it and it is collected as garbage.
    """

    def __init__(self, seed: int) -> None:
        # Neither the run nor its tasks, which would keep an abandoned run alive.
        self._run = current_trio_token()
        add_instrument(self)
        decide_schedule(self._run, Random(seed))

    def after_run(self) -> None:
        decide_schedule(self._run, None)


def check_seed(seed: object) -> None:
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise TypeError(
            "`seed` must be an integer, or None for a schedule that does not repeat, "
            f"not {seed!r}"
        )
    if seed < 0:
        # As Random takes it for the same seed without the sign.
        raise ValueError(f"`seed` must be non-negative, but it is {seed!r}")

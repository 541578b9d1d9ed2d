"""What chance decides in a run, decided by a seed: the same each time.

Trio leaves to chance in which order the tasks of a batch go on, with one source of
random numbers for all runs in all threads. If a second global says so, Trio puts the
batch in order first, by when the tasks were started, and then shuffles it. That is what
makes a run repeat. A batch is collected from sets and in the order of addresses, but
each of these is emptied in one go. (Such are the tasks of an event or a cancel scope,
scopes with one deadline, and the tasks in `wait_all_tasks_blocked`.) Parking lots,
locks, channels and `TrioToken.run_sync_soon` are queues. Cancellation goes through sets
too, so abort functions are called in any order; those of Trio and of this library do
not mind. There remains what comes from outside: when I/O and other threads wake a task,
a `rate`, when the garbage collector runs, and what a program does in the order of a
set, of which `Nursery.child_tasks` is one.

Each control has a seed, and draws one if it is given none, so a run that fails can be
repeated. All errors that name a clock of a control name the seed, as part of the name
of the control's time. A note on each exception that leaves `trio.run` cannot be had:
Trio calls a clock only for the time, and instruments see neither an exception nor the
outcome of a task.

While a seeded run is under way, objects that look at the current run are in the place
of the two globals, so that other runs have what they had before: see `_trio_inside.py`.
Each run begins with the seed again. So what happens in a test cannot depend on how many
runs there were before.
"""

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

"""What there is no public way to ask Trio. Nothing else looks at its inside.

If a release of Trio moves something, it is here that it has to be found again.
"""

from __future__ import annotations

from math import inf
from threading import RLock
from typing import TYPE_CHECKING, Any

from trio._core import _run
from trio._core._run import GLOBAL_RUN_CONTEXT
from trio.lowlevel import current_trio_token

if TYPE_CHECKING:
    from collections.abc import Container
    from random import Random

    from trio.lowlevel import Task, TrioToken


class TrioInside:
    """The inside of the current run."""

    def __init__(self) -> None:
        self._runner = GLOBAL_RUN_CONTEXT.runner

    def anybody_waits_for_idleness(self) -> bool:
        """Whether a task is in `trio.testing.wait_all_tasks_blocked`."""
        return bool(self._runner.waiting_for_idle)

    def cushions(self, *, but_not_of: Container[Task]) -> list[float]:
        """How long the tasks in there wait for, except some."""
        waiting = self._runner.waiting_for_idle.items()
        return [cushion for (cushion, _), task in waiting if task not in but_not_of]

    def next_deadline(self) -> float:
        """The earliest deadline, exactly."""
        return self._runner.deadlines.next_deadline()

    def next_deadline_if_idle(self) -> float:
        """The same; ``-inf`` if a task is about to go on."""
        runner = self._runner
        return -inf if runner.runq else runner.deadlines.next_deadline()


def decide_schedule(run: TrioToken, random: Random | None) -> None:
    """Let *random* decide which woken task of a run goes first; with None, Trio again.

    What Trio throws its dice with, and whether it puts the tasks in order before, are
    globals of all runs in all threads. While any run has a *random* of its own, objects
    that look at the current run are in their place.
    """
    # A finalizer may end a run at any moment, also here.
    with _lock:
        if random is None:
            _randoms.pop(run, None)
        else:
            _randoms[run] = random
        for name in ("_r", "_ALLOW_DETERMINISTIC_SCHEDULING"):
            found = getattr(_run, name)
            # What somebody else has put there meanwhile stays.
            while isinstance(found, _OfThisRun):
                found = found.otherwise
            setattr(_run, name, _OfThisRun(found) if _randoms else found)


class _OfThisRun:
    """The current run's own random numbers, or what there was before.

    It stays right for ever, should somebody keep it as what to go back to.
    """

    def __init__(self, otherwise: Any) -> None:
        self.otherwise = otherwise

    def __getattr__(self, name: str) -> Any:
        return getattr(_random_of_this_run() or self.otherwise, name)

    def __bool__(self) -> bool:
        return bool(_random_of_this_run() or self.otherwise)


def _random_of_this_run() -> Random | None:
    try:
        return _randoms.get(current_trio_token())
    except RuntimeError:
        return None


_randoms: dict[TrioToken, Random] = {}
_lock = RLock()

"""What there is no public way to ask Trio. Nothing else looks at its inside.

If a release of Trio moves something, it is here that it has to be found again.
"""

from __future__ import annotations

from math import inf

from trio._core._run import GLOBAL_RUN_CONTEXT


class TrioInside:
    """The inside of the current run."""

    def __init__(self) -> None:
        self._runner = GLOBAL_RUN_CONTEXT.runner

    def anybody_waits_for_idleness(self) -> bool:
        """Whether a task is in `trio.testing.wait_all_tasks_blocked`."""
        return bool(self._runner.waiting_for_idle)

    def next_deadline(self) -> float:
        """The earliest deadline, exactly; ``-inf`` if a task is about to go on."""
        runner = self._runner
        return -inf if runner.runq else runner.deadlines.next_deadline()

"""What there is no public way to ask Trio. Nothing else looks at its inside.

If a release of Trio moves something, it is here that it has to be found again.
"""

from __future__ import annotations

from trio._core._run import GLOBAL_RUN_CONTEXT


def anybody_runnable() -> bool:
    """Whether a task of the current run is about to go on."""
    return bool(GLOBAL_RUN_CONTEXT.runner.runq)


def anybody_waits_for_idleness() -> bool:
    """Whether a task of the current run is in `trio.testing.wait_all_tasks_blocked`."""
    return bool(GLOBAL_RUN_CONTEXT.runner.waiting_for_idle)


def next_deadline() -> float:
    """The earliest deadline of the current run, exactly."""
    return GLOBAL_RUN_CONTEXT.runner.deadlines.next_deadline()

"""The end of a run in which something waits for a clock that may outlive it.

That is a clock of another run, or one without Trio. Trio calls the instruments of a run
when it ends, also when it crashes, and when a guest run that its host has abandoned is
collected as garbage. So an instrument tells the clock, which forgets what waited there:
a crashed run leaves its tasks as they are, and no code may touch them. The tasks of a
clock that has its driver in the same run need no such word, as the driver ends before.

A run that has crashed holds nothing alive. A clock that was activated there is gone: at
once if it is shared, as each shared clock is noted here, and otherwise from its first
use on. When nothing outside refers to the clock, Python frees all of it. That may take
the cyclic collector three passes. The coroutines of the run leave their blocks as they
are collected; in Trio's nurseries they wait again there; and what was made by that goes
with the next pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import ref

import trio
from trio.lowlevel import (
    RunVar,
    TrioToken,
    add_instrument,
    current_trio_token,
    enable_ki_protection,
)

if TYPE_CHECKING:
    from ._pending import Pending


class _EndOfRun(trio.abc.Instrument):
    """Tells clocks of the end of a run in which something waits for them."""

    def __init__(self, run: TrioToken) -> None:
        self._run = run
        # No WeakSet: while one is gone through, clocks may end in other threads.
        self._clocks: dict[ref[Pending], None] = {}

    def note(self, timers: Pending) -> None:
        self._clocks[ref(timers, self._forget)] = None

    def _forget(self, timers: ref[Pending]) -> None:
        self._clocks.pop(timers, None)

    @enable_ki_protection
    def after_run(self) -> None:
        for reference in list(self._clocks):
            timers = reference()
            if timers is not None:
                timers.life.forget_run(self._run)


_ends: RunVar[_EndOfRun | None] = RunVar("clocks that are waited for", None)


def note_run(timers: Pending) -> None:
    """Something in this run waits for a clock that may outlive the run."""
    end = _ends.get()
    if end is None:
        end = _EndOfRun(current_trio_token())
        _ends.set(end)
        add_instrument(end)
    end.note(timers)

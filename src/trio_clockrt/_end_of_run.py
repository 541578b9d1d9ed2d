"""The end of a run in which something waits for a clock that may outlive it."""

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
    from ._timers import Timers


class _EndOfRun(trio.abc.Instrument):
    """Tells clocks of the end of a run in which something waits for them."""

    def __init__(self, run: TrioToken) -> None:
        self._run = run
        # No WeakSet: while one is gone through, clocks may end in other threads.
        self._clocks: dict[ref[Timers], None] = {}

    def note(self, timers: Timers) -> None:
        self._clocks[ref(timers, self._forget)] = None

    def _forget(self, timers: ref[Timers]) -> None:
        self._clocks.pop(timers, None)

    @enable_ki_protection
    def after_run(self) -> None:
        for reference in list(self._clocks):
            timers = reference()
            if timers is not None:
                timers.life.forget_run(self._run)


_ends: RunVar[_EndOfRun | None] = RunVar("clocks that are waited for", None)


def note_run(timers: Timers) -> None:
    """Something in this run waits for a clock that may outlive the run."""
    end = _ends.get()
    if end is None:
        end = _EndOfRun(current_trio_token())
        _ends.set(end)
        add_instrument(end)
    end.note(timers)

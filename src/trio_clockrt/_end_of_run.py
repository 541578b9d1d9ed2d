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
    from ._lifetime import Lifetime


class _EndOfRun(trio.abc.Instrument):
    """Tells clocks of the end of a run in which something waits for them."""

    def __init__(self, run: TrioToken) -> None:
        self._run = run
        # No WeakSet: while one is gone through, clocks may end in other threads.
        self._lives: dict[ref[Lifetime], None] = {}

    def note(self, life: Lifetime) -> None:
        self._lives[ref(life, self._forget)] = None

    def _forget(self, life: ref[Lifetime]) -> None:
        self._lives.pop(life, None)

    @enable_ki_protection
    def after_run(self) -> None:
        for reference in list(self._lives):
            life = reference()
            if life is not None:
                life.forget_run(self._run)


_ends: RunVar[_EndOfRun | None] = RunVar("clocks that are waited for", None)


def note_run(life: Lifetime) -> None:
    """Something in this run waits for a clock that may outlive the run."""
    end = _ends.get()
    if end is None:
        end = _EndOfRun(current_trio_token())
        _ends.set(end)
        add_instrument(end)
    end.note(life)

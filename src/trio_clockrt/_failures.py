"""What callbacks have raised, until a call takes it.

A callback of a `TimerGroup` may raise at a moment when other timers are due. What it
raises is kept, if that is an `Exception`, until everything due has fired. Then
`advance_timers` takes it, or the group's block as it ends.

Control flow is not a failure: Ctrl-C, and all else that is no `Exception`, leaves the
call that fires at once, and the pass ends there. What has failed before stays here for
the next call. If Ctrl-C leaves the group's block too, it refers to these failures as
its context, since to most programs an exception group is no Ctrl-C: see `_errors.py`.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Failures(deque[tuple[object, BaseException]]):
    """Exceptions, each with the group of timers that it belongs to.

    Without a group, the first call that asks gets it.
    """

    def keep(self, fn: Callable[..., object], *args: Any) -> None:
        """Call a function whose exception `advance_timers` is to raise."""
        try:
            fn(*args)
        except Exception as exc:
            self.append((None, exc))

    def take(self, group: object = None) -> list[tuple[object, BaseException]]:
        """Those of one *group*, or all."""
        taken: list[tuple[object, BaseException]] = []
        # As any thread may do on a shared clock, which may add more meanwhile.
        with suppress(IndexError):
            for _ in range(len(self)):
                failure = self.popleft()
                if group is None or failure[0] in (None, group):
                    taken.append(failure)
                else:
                    self.append(failure)
        return taken

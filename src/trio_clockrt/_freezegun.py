"""freezegun stops the clock of a Trio run, and so all that waits: it is refused.

freezegun replaces functions in modules, `time.perf_counter` in Trio's too. What is
taken at import time into a class stays real, so a control, and the instants of the
system's clock, do not notice. Their wall clock is frozen, as users of freezegun expect.
But Trio's own clock stands still, and users would hardly find the reason. So to
activate a clock there is an error. Freezing that begins after the activation is not
noticed, as that would take a look at each use.

Two cures exist. A control's `patch_stdlib` is the better one. To let freezegun leave
Trio alone is the lesser one: freezegun looks at the callers, five frames up, and so
`time.time()` becomes real in tasks too.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import trio


def is_freezing() -> bool:
    """Whether freezegun's `freeze_time` is under way, in whichever way."""
    return str(time.perf_counter.__module__).startswith("freezegun")


def check_not_frozen(run_clock: trio.abc.Clock) -> None:
    """Refuse a clock of Trio's own that freezegun has stopped."""
    if is_freezing() and _stands_still(run_clock):
        raise RuntimeError(
            "freezegun has stopped the clock of this Trio run, so that each task that "
            "waits there would wait for ever. Instead of freeze_time, use a control's "
            "system time: `trio.run(..., clock=control)` with `control = "
            "ClockControl(at)`, and in it `with control.patch_stdlib():`. Or let "
            'freezegun leave Trio alone, with `freeze_time(..., ignore=["trio."])`; '
            "then time.time() is not frozen everywhere"
        )


def _stands_still(run_clock: trio.abc.Clock) -> bool:
    # Freezegun may also let time go on, or not have replaced what Trio uses. A clock
    # that goes is seen to within this many readings, however coarse it is.
    start = run_clock.current_time()
    return all(run_clock.current_time() == start for _ in range(10_000))

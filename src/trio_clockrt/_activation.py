"""One activation of a clock: what its owners, its driver and its blocks share.

`Activation` has what is asked once or shown to people: the time source, the alarm, the
names. What is asked at each use is in its `Timers`. Neither refers to a `Clock`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._end_of_run import note_run
from ._pending import Alarm
from ._place import Place
from ._timers import Timers

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._affinity import Affinity
    from ._time_source import TimeSource


class Activation:
    """A clock that has been activated, and what people are told about it.

    What waits for a timer holds this and never a `Clock`, so that waiting makes nothing
    an owner.

    Args:
        source: What time it is.
        alarm: What wakes the driver.
        current: Tells places apart, see `Place`; these are Trio runs if a task *drives*
            the clock, and threads if a caller does.
        on_run_clock: Whether its instants are those of the Trio run.
        name: What activated the clock, for people to read.
        affinity: Which core it has been relocated to.
    """

    def __init__(
        self,
        source: TimeSource,
        alarm: Alarm,
        current: Callable[[], object],
        *,
        has_driver_task: bool,
        shared: bool,
        on_run_clock: bool,
        name: str,
        affinity: Affinity | None,
    ) -> None:
        self.source = source
        self.alarm = alarm
        self.on_run_clock = on_run_clock
        self.notes_origins: bool = alarm.notes_origins
        self.name = name
        self.affinity = affinity
        self.shared = shared
        self.timers: Timers = Timers(
            source.now,
            Place(current),
            alarm,
            has_driver_task=has_driver_task,
            shared=shared,
        )
        if has_driver_task and shared:
            note_run(self.timers)

    def __str__(self) -> str:
        pending = self.timers.counts()[0]
        timers = "1 timer" if pending == 1 else f"{pending} timers"
        alive = "alive" if self.timers.life.alive else "gone"
        return f"{self.source.name}, {timers}, {alive}"

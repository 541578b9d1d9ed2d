"""How long something takes."""

import attrs

from ._hints import Hinted, hints
from ._time_source import TimeSource


@hints
@attrs.frozen(repr=False)
class Stopwatch(Hinted):
    """Measures the time since it was made; get one from `SimpleClock.stopwatch`.

    A stopwatch never stops, and it goes on working when its clock is gone. For
    laps, make another one.

    Attributes:
        start (float): The instant at which it was made.
    """

    _source: TimeSource
    start: float

    def elapsed(self) -> float:
        """Seconds on the clock since the stopwatch was made.

        Example::

            >>> async def main():
            ...     async with trio_clockrt.open_clock() as clock:
            ...         watch = clock.stopwatch()
            ...         await clock.delay(2.5)
            ...         print(watch.elapsed())
            >>> trio.run(main, clock=MockClock(autojump_threshold=0))
            2.5
        """
        return self._source.instant() - self.start

    def __repr__(self) -> str:
        return f"<Stopwatch at {self._source.now() - self.start:.6f} s>"

"""Reading the time, which needs no driver."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from ._hints import Hinted, hints
from ._stopwatch import Stopwatch
from ._time_source import SystemSource, TimeSource
from ._typing import Self


@hints
class SimpleClock(Hinted):
    """Tells the time and measures it, without timers.

    For code that only reads the time: it takes a `SimpleClock`, and a test or a
    program hands it whichever it likes, a `Clock` included. Get one from `system`.
    """

    _made_by = "SimpleClock.system() or control.to_simple_clock()"

    if not TYPE_CHECKING:

        def __new__(cls, *args: object) -> Self:
            if not args:
                raise TypeError(
                    f"a {cls.__name__} has no public constructor: use {cls._made_by}"
                )
            return super().__new__(cls)

        def __getnewargs__(self) -> tuple[object, ...]:
            return (self._source,)

    def __init__(self, source: TimeSource) -> None:
        self._source = source

    @classmethod
    def system(cls) -> SimpleClock:
        """The operating system's clock. It works anywhere, also outside Trio.

        Its instants are those of :func:`time.monotonic`. They are on another scale
        than the instants of a `Clock`, so do not compare the two. Called on `Clock`,
        this gives a `SimpleClock` too: it has no timers.

        Example::

            >>> clock = trio_clockrt.SimpleClock.system()
            >>> earlier = clock.instant()
            >>> clock.instant() >= earlier
            True
        """
        return SimpleClock(SystemSource())

    def instant(self) -> float:
        """The time now, in seconds on this clock's monotonic scale.

        The scale begins anywhere, so an instant means something only beside other
        instants of the same clock. It never goes back. For the `Clock` of an
        activation it is the scale of :func:`trio.current_time` in the Trio run
        that activated it.

        Example::

            >>> async def main():
            ...     async with trio_clockrt.open_clock() as clock:
            ...         return clock.instant() == trio.current_time()
            >>> trio.run(main, clock=MockClock())
            True
        """
        return self._source.instant()

    def system_time(self) -> datetime:
        """The wall-clock time now, as a timezone-aware `~datetime.datetime` in UTC.

        NTP or an operator may set it, so it can jump in either direction: measure
        lengths of time with `instant` or `stopwatch`.

        Example::

            >>> trio_clockrt.SimpleClock.system().system_time().tzname()
            'UTC'
        """
        return self._source.system_time()

    def stopwatch(self) -> Stopwatch:
        """Start to measure: a new `Stopwatch` that begins now.

        Example::

            >>> watch = trio_clockrt.SimpleClock.system().stopwatch()
            >>> watch.elapsed() >= 0
            True
        """
        return Stopwatch(self._source, self._source.instant())

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._source.name}>"

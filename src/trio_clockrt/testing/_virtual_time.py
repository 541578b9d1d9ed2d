"""Two scales of time that move only as they are told: instants, and system time.

What callers add up is counted in whole nanoseconds, so that ten times a tenth is one.
An instant that time goes to is kept as the very float, since a task that waits for it
compares with that. A program that has added up floats may wait for the present
nanosecond and still be a little ahead of it; or, where floats are coarser than
nanoseconds, by a unit in the last place: see `VirtualTime.is_about`.

Moving forward by more than zero always changes the instant, also where the length is no
nanosecond, or where floats have become coarser than the length. A loop that moves the
time by what is left would not end otherwise.

All this may be read and moved from any thread, and at any moment: a reader takes a
`Moment`, which is replaced as a whole.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from math import inf, nextafter
from typing import TYPE_CHECKING

from attrs import define, evolve

from .._durations import later
from .._lock import RLock
from ._wall import NANOSECONDS, Wall, length_to_nanoseconds, to_nanoseconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import TypeVarTuple, Unpack

    ArgsT = TypeVarTuple("ArgsT")

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@define(eq=False)
class Moment:
    """What time it is, or was when it was moved last."""

    # At this real time (which is of interest while there is a rate)...
    real: float
    # ...so many nanoseconds had been counted...
    counted: int
    # ...and this was the instant: as much, or later if it has been gone to.
    instant: float
    # How many seconds pass for each second of real time.
    rate: float
    # What system time is ahead of what has passed, counted from 1970.
    ahead: int

    @property
    def nanoseconds(self) -> int:
        """How much has passed."""
        # Counted only now, as it takes long, and a move to an instant does not ask.
        if self.instant > self.counted / NANOSECONDS:
            return to_nanoseconds(self.instant)
        return self.counted

    @property
    def is_counted(self) -> bool:
        return self.instant == self.counted / NANOSECONDS

    def system_time(self, wall: Wall, *, as_float: bool = False) -> int:
        """In nanoseconds since 1970."""
        return wall.read(
            self.instant,
            self.nanoseconds,
            self.ahead,
            counted=self.is_counted,
            as_float=as_float,
        )

    def has_come(self, deadline: float) -> bool:
        """Whether it is that late, to the nanosecond or to what floats tell."""
        return deadline <= self.instant or (
            deadline < inf
            and (
                to_nanoseconds(deadline) <= self.nanoseconds
                or deadline == nextafter(self.instant, inf)
            )
        )

    def plus(self, seconds: float) -> Moment:
        """Forward by so much."""
        there = self.counting(length_to_nanoseconds(seconds))
        if there.instant > self.instant or not seconds:
            return there
        # That is no nanosecond, or floats do not tell it.
        return there.gone_to(later(self.instant, seconds))

    def counting(self, nanoseconds: int) -> Moment:
        """Forward by so many."""
        if not nanoseconds:
            return self
        counted = self.nanoseconds + nanoseconds
        instant = max(self.instant, counted / NANOSECONDS)
        return Moment(self.real, counted, instant, self.rate, self.ahead)

    def gone_on_to(self, there: Moment) -> Moment:
        """Forward to another moment; if it is past, nowhere."""
        # Not compared by what is counted: an instant that has been gone to may be
        # this very float, and be counted as a nanosecond more.
        if there.instant < self.instant:
            return self
        counted = max(there.counted, self.counted)
        return Moment(self.real, counted, there.instant, self.rate, self.ahead)

    def gone_to(self, instant: float) -> Moment:
        """Forward to an instant, exactly; if it is past, or infinite, nowhere."""
        if not self.instant < instant < inf:
            return self
        return Moment(self.real, self.counted, instant, self.rate, self.ahead)

    def at_rate(self, rate: float, real: float) -> Moment:
        if self.rate:
            # What has passed by then is counted, or less than a nanosecond.
            real = max(self.real, real)
        return evolve(self, rate=rate, real=real)

    def put_ahead(self, nanoseconds: int) -> Moment:
        """The system time alone, and in either direction."""
        return evolve(self, ahead=self.ahead + nanoseconds)

    def to_system_time(self, nanoseconds: int, wall: Wall) -> Moment:
        """Forward with the instant, or back without."""
        step = nanoseconds - self.system_time(wall)
        there = self.counting(max(step, 0))
        return evolve(there, ahead=nanoseconds - there.nanoseconds)


class VirtualTime:
    """The time of a control, which can be read and moved.

    Args:
        name: Whose time it is: errors that name a clock say so.
    """

    def __init__(self, at: datetime, real: Callable[[], float], name: str) -> None:
        self.name = name
        self._real = real
        self._base = Moment(real(), 0, 0.0, 0.0, _since_epoch(at))
        # For replacing it.
        self._lock = RLock()
        # What `reach` has reached. As it has one caller, and as the later of the two
        # counts, it needs no lock.
        self._reached = 0.0
        self._wall = Wall()
        # Whether a move goes from deadline to deadline, and so to what is about now.
        self.is_led = False

    @property
    def rate(self) -> float:
        return self._base.rate

    @rate.setter
    def rate(self, rate: float) -> None:
        self._move(Moment.at_rate, rate, self._real())

    def instant(self) -> float:
        base, reached = self._base, self._reached
        if base.rate:
            return self._now(base).instant
        return reached if reached > base.instant else base.instant

    now = instant

    def system_nanoseconds(self) -> int:
        """The system time for `time.time_ns`, counted from the beginning of 1970."""
        return self.present().system_time(self._wall, as_float=True)

    def system_time(self) -> datetime:
        nanoseconds = self.present().system_time(self._wall)
        try:
            return EPOCH + timedelta(microseconds=nanoseconds // 1000)
        except OverflowError:
            raise OverflowError(
                f"the system time is {nanoseconds // NANOSECONDS} seconds after the "
                "beginning of 1970, which no datetime can hold; instants have no bound"
            ) from None

    def tell(self) -> str:
        """The system time, for people to read, in any year."""
        try:
            return str(self.system_time())
        except OverflowError as error:
            return str(error)

    def real_seconds_until(self, instant: float) -> float:
        rate = self._base.rate
        if not rate:
            return 0.0 if instant <= self.instant() else inf
        return max(0.0, (instant - self.instant()) / rate)

    def is_about(self, instant: float) -> bool:
        """Whether to go to an instant that is ahead by less than is told apart."""
        now = self.present()
        return not self.is_led and now.instant < instant and now.has_come(instant)

    def present(self) -> Moment:
        return self._now(self._base)

    def add(self, seconds: float) -> None:
        """Go forward by a finite length of time."""
        self._move(Moment.plus, seconds)

    def go_on_to(self, there: Moment) -> None:
        """Go forward to a moment; if it is past, nowhere."""
        self._move(Moment.gone_on_to, there)

    def go_to(self, instant: float) -> float:
        """Go forward to an instant, exactly; if it is past, or infinite, nowhere.

        Tells which instant it is then.
        """
        return self._move(Moment.gone_to, instant).instant

    def reach(self, instant: float) -> float:
        """The same for a caller that does it all the time, and is the only one."""
        base = self._base
        if base.rate:
            return self.go_to(instant)
        if base.instant < instant < inf and self._reached < instant:
            self._reached = instant
            return instant
        return self.now()

    def set_system_time(self, when: datetime) -> None:
        """Go to another system time: forward with the instants, or back without."""
        there = self._move(Moment.to_system_time, _since_epoch(when), self._wall)
        self._wall.set(there.instant)

    def step_system_time(self, seconds: float) -> None:
        """Move the system time alone."""
        self._move(Moment.put_ahead, to_nanoseconds(seconds))

    def _move(
        self, move: Callable[[Moment, Unpack[ArgsT]], Moment], *args: Unpack[ArgsT]
    ) -> Moment:
        with self._lock:
            while True:
                base = self._base
                there = move(self._now(base), *args)
                # A signal handler or a finalizer may have moved it just now, in this
                # thread. Between these lines none can run.
                if self._base is base:
                    self._base = there
                    return there

    def _now(self, base: Moment) -> Moment:
        """What the base would be now."""
        if self._reached > base.instant:
            base = base.gone_to(self._reached)
        if not base.rate:
            return base
        real = self._real()
        more = int((real - base.real) * base.rate * NANOSECONDS)
        # If not even a nanosecond has passed, the next reading is to count it.
        return evolve(base.counting(more), real=real) if more else base


def _since_epoch(when: datetime) -> int:
    return (when - EPOCH) // timedelta(microseconds=1) * 1000

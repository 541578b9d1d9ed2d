"""What is pending on a clock, and where it may be used.

Each timer, and each task or thread that waits, has a number. The number is a key in the
dictionary of its group, which is `Timers.tasks` for all that is no timer, and it is in
an entry of the queue: see `_queue.py`. To take the key out is to claim the entry. Each
change of these dictionaries is one step, so any thread that may use the clock changes
them, at any moment, and a timer fires once or is cancelled once. Two things need more
care: the queue, beyond a `heappush`, and the deadline of the driver's alarm. One piece
of code at a time works on these, in the clock's place, and sets the flag `busy`.

On a shared clock there is one lock more, `Timers.lock`, for a timer that changes
together with its key: another thread may reset the timer at the same moment. No message
is posted under that lock, as Trio takes a lock of its own for messages.

Three classes make one object, in three files, each with an idea of its own: `Pending`
here, `Inbox` in `_inbox.py`, and `Timers` in `_timers.py`, which the rest of the
library has. (An object for each would be one more attribute to look up wherever a timer
is set, cancelled or fired.)
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

from ._errors import ClockGone
from ._failures import Failures
from ._lifetime import Lifetime
from ._lock import RLock
from ._numbers import Numbers
from ._place import Place
from ._queue import Entry, Queue

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio.lowlevel import TrioToken

# How many of the timers that fired last the percentiles of lateness are about.
_LATENESS_SAMPLES = 1024

#: The number of the group of what is no timer.
TASKS = 0

# The place of a clock that may be used anywhere.
_ANYWHERE = object()


def _anywhere() -> object:
    return _ANYWHERE


class Waiter(Protocol):
    """What has an entry in the queue. None of these methods raises."""

    when: float
    _seq: int

    @property
    def _run(self) -> TrioToken | None: ...

    @property
    def _only_wakes(self) -> bool:
        """Whether firing it only wakes a task, and does nothing else."""
        ...

    @property
    def _periodic(self) -> bool:
        """Whether it comes again and again, and nothing waits for it in particular."""
        ...

    @property
    def _detour(self) -> int:
        """0 for all but timers, which may have to be asked: see `Timer`."""
        ...

    def _fire(self) -> bool:
        """Do what is due, and tell whether that ran any code of the user's."""
        ...

    def _clock_gone(self) -> None: ...

    def _give_up(self) -> None: ...


class Alarm(Protocol):
    """What wakes the driver. While the driver is awake the deadline is ``-inf``."""

    deadline: float
    # Whether timers are to remember where they were made, which reports tell.
    notes_origins: bool
    # Whether to say when it has moved, and nothing is busy any more.
    tells: bool

    def move(self, deadline: float) -> None: ...

    def has_moved(self) -> None:
        """This may raise."""
        ...

    def wake_soon(self) -> None:
        """Wake the driver, if it is asleep: from any thread, and at any moment."""
        ...

    def is_over(self) -> bool:
        """Whether the driver has gone without a word."""
        ...

    def tell(self, fn: Callable[[], object]) -> None:
        """Have it called in the clock's place, from another one."""
        ...

    def note_run(self) -> None:
        """Something is going to wait in the Trio run that is here."""
        ...


class Pending:
    """The timers and waiters of one activation, and the place where they are.

    Args:
        now: Tells the instant.
        place: Where this is.
        alarm: What wakes the driver.
        has_driver_task: Whether a Trio task drives the clock, or else a caller.
        shared: Whether it may be used anywhere, and not only in its place.
    """

    def __init__(
        self,
        now: Callable[[], float],
        place: Place,
        alarm: Alarm,
        *,
        has_driver_task: bool,
        shared: bool,
    ) -> None:
        self.now = now
        self.alarm = alarm
        self.has_driver_task = has_driver_task
        # Whether only tasks of the driver's own run can wait.
        self.in_one_run: bool = has_driver_task and not shared
        self.is_here: Callable[[], bool] = place.is_here
        self.made_in: object = place.this
        # What tells whether timers may be used here, compared with...
        self.current: Callable[[], object] = place.current
        # ...this, which is None once the clock is gone.
        self.place: object | None = place.this
        # For timers that change together with their entries.
        self.lock: RLock | None = RLock() if shared else None
        if shared:
            self.current, self.place = _anywhere, _ANYWHERE
        self.numbers: Numbers = Numbers(self.lock)
        self.number: Callable[[], int] = self.numbers.next
        self.tasks: dict[int, Waiter] = {}
        self.groups: dict[int, dict[int, Any]] = {TASKS: self.tasks}
        self.queue: Queue = Queue(self.groups)
        self.inbox: deque[Entry | float | None] = deque()
        self.busy: bool = False
        self.firing: bool = False
        # Of the pass that is under way, if any: up to which instant and which number it
        # fires, and what is set aside.
        self._until: float | None = None
        self._limit = 0
        self._aside: list[Entry] = []
        self.failures: Failures = Failures()
        self.defect: BaseException | None = None
        self.life: Lifetime = Lifetime(self, alarm.wake_soon)
        self.fired: int = 0
        self.lateness: deque[float] = deque(maxlen=_LATENESS_SAMPLES)
        self.lateness_max: float = 0.0

    # --- whether they may be used ---

    def check(self) -> None:
        """Refuse, unless a timer may be used here and now."""
        try:
            if self.current() is self.place:
                return
        except RuntimeError:
            pass
        # A run that has crashed, or that its host has dropped, could not say so.
        if self.place is not None and self.alarm.is_over():
            self.life.end("its Trio run crashed, or was dropped")
        if self.place is None:
            raise self.life.gone()
        raise RuntimeError(
            "this clock's timers can only be used from the thread that activated it, "
            + (
                "and in that Trio run. From a worker thread, use "
                "trio.from_thread.run_sync(); in another run, activate another clock. "
                if self.has_driver_task
                else "whose loop calls advance_timers(). "
            )
            + "A clock for many threads comes from InactiveClock.new_shared()"
        )

    @property
    def at_work(self) -> bool:
        """Whether a callback, or what has interrupted the work, is asking."""
        return self.firing or self.busy

    def is_usable(self) -> bool:
        """Refuse if a timer may not be used here; False if the clock is gone."""
        try:
            self.check()
        except ClockGone:
            return False
        return True

    def check_place(self) -> None:
        """Refuse, unless the driver may be used here and now."""
        self.check()
        if self.lock and not self.is_here():
            place = "Trio run" if self.has_driver_task else "thread"
            raise RuntimeError(
                "the driver of a shared clock can only be used where the clock was "
                f"activated, in that {place}; the clock itself can be used anywhere"
            )

    # --- what there is ---

    def any_pending(self) -> bool:
        return any(list(self.groups.values()))

    def waiters(self) -> list[Waiter]:
        """All that is pending, in no order; from any thread."""
        groups = list(self.groups.values())
        return [waiter for group in groups for waiter in list(group.values())]

    def only_periodic(self) -> bool:
        """Whether nothing is pending but what comes again and again."""
        return all(waiter._periodic for waiter in self.waiters())

    def counts(self) -> tuple[int, int, int, int]:
        """How many are pending, and have been registered, fired and cancelled."""
        registered, fired = self.numbers.registered(), self.fired
        pending = sum(map(len, list(self.groups.values())))
        return pending, registered, fired, registered - fired - pending

    def new_group(self, pending: dict[int, Any]) -> int:
        """The number of a group whose timers are in this dictionary."""
        number = self.numbers.other()
        self.groups[number] = pending
        return number

    def forget_all(self) -> None:
        """The clock is gone. From any thread, and at any moment."""
        self.groups.clear()
        # Not cleared, as the place may be busy with them.
        self.queue = Queue(self.groups)
        self.inbox = deque()

    def forked(self) -> None:
        self.tasks.clear()
        self.forget_all()
        if self.lock:
            self.lock = RLock()  # the thread that had it is in the other process

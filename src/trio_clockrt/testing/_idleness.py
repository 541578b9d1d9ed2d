"""When a Trio run has nothing to do, as far as a control is concerned.

That is when no task is runnable, no task waits in `wait_all_tasks_blocked`, no `hold()`
is open, and no task waits for what a worker thread does. A task that waits on a
descriptor is given `io_grace` real seconds more. `Idleness` has the settings for this,
and autojump, moves by hand and the watchers of other runs ask it.
"""

from __future__ import annotations

from contextlib import suppress
from math import inf
from threading import TIMEOUT_MAX, Timer
from time import sleep
from typing import TYPE_CHECKING
from weakref import WeakSet

import trio
from trio.lowlevel import (
    Abort,
    RunVar,
    add_instrument,
    cancel_shielded_checkpoint,
    current_statistics,
    current_task,
    current_trio_token,
    enable_ki_protection,
    remove_instrument,
    reschedule,
    spawn_system_task,
    wait_task_rescheduled,
)
from trio.testing import wait_all_tasks_blocked

from .._block import SyncBlock
from .._post import is_running, post
from ._blame import raise_in_program
from ._giving_way import GivingWay
from ._stand_still import NothingHappens, TasksGoOn, WorkersAreBusy
from ._trio_inside import cushions
from ._worker_threads import busy_workers, only_waits_for

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from trio.lowlevel import Task, TrioToken
    from typing_extensions import Self

    from ._report import Reporter
    from ._virtual_time import VirtualTime

# How long a task may keep time from moving before people are told.
_UNNOTICED = 1.0


class Idleness:
    """What a control has been told about it. All times here are real."""

    def __init__(
        self, time: VirtualTime, real: Callable[[], float], reporter: Reporter
    ) -> None:
        self.threshold = inf
        self.io_grace = 0.0
        self.ignore_threads = False
        self.detect_deadlocks = False
        # The blocks in which time must not jump.
        self.holds: set[Hold] = set()
        # The blocks that wait for other threads, in which time may jump.
        self.awaiting: set[Hold] = set()
        self._time = time
        self._real = real
        self._reporter = reporter
        # What to call when timers fire one after the other, and time stands still.
        self.on_endless: Callable[[int], object] = int
        # The run whose clock the control is.
        self.own_run: TrioToken | None = None
        self.giving_way = GivingWay()
        # In a run that has waited for worker threads.
        self._workers: RunVar[WorkersAreBusy | None] = RunVar("workers", default=None)

    def patience(self) -> float:
        """For how long nothing must happen in the current run before time jumps."""
        return self.threshold + self.grace()

    def grace(self) -> float:
        return self.io_grace if self.io_grace and _waiting_for_io() else 0.0

    def is_forever(self, threads: Collection[int]) -> bool:
        """Whether the current run, which waits for no time, waits for nothing else.

        As far as can be seen from here: other threads may wake it, which are none of
        Trio's, and so may signals.

        Args:
            threads: Those that are known to wait for time themselves.
        """
        return not (self.holds or self.awaiting or _waiting_for_io()) and all(
            only_waits_for(threads, task) for task in busy_workers()
        )

    def forget_run(self, run: TrioToken) -> None:
        """It is over; if it has crashed, its blocks have not ended."""
        for holds in (self.holds, self.awaiting):
            holds.difference_update([hold for hold in holds if hold.run == run])

    def wait_for_workers(self, *, anyhow: bool = False) -> float:
        """How long to wait for the worker threads of the current run, at most.

        Zero if none is busy; otherwise look again after so long, or when something
        has happened.

        Args:
            anyhow: Whether time would not move without them either.

        Raises:
            RuntimeWarning: if they have been busy for long, and warnings are errors.
        """
        workers = self._workers.get()
        if self.ignore_threads or not (busy := busy_workers()):
            if workers is not None:
                workers.end()
            return 0.0
        if workers is None:
            workers = WorkersAreBusy(self._time, self._real, self._reporter)
            self._workers.set(workers)
        while (seconds := workers.seconds_left(_UNNOTICED)) <= 0:
            workers.tell_of(busy, warning=not anyhow)
        return seconds

    def warn_later(self) -> float:
        """No task could be told now; how long to wait before it is tried again."""
        workers = self._workers.get()
        assert workers is not None
        workers.warn_again(_UNNOTICED)
        return _UNNOTICED

    def watch_silence(self) -> NothingHappens:
        return NothingHappens(self._time, self._real, self._reporter)

    def watch_tasks(self, wanted: Callable[[], bool]) -> TasksGoOn:
        """Tell people of tasks that always go on where that is *wanted*."""
        return TasksGoOn(
            self._time, self._real, self._reporter, _UNNOTICED, wanted, self._endless
        )

    def _endless(self, fired: int) -> None:
        self.on_endless(fired)

    def should_move(self) -> bool:
        """Whether time is to move when the run has nothing to do."""
        if self.threshold < inf and not self.holds:
            return True
        # Or else, a task waits here for just that.
        return len(cushions(but_not_of=_waiting_for_idleness)) < len(
            cushions(but_not_of=())
        )

    async def wait(self, *, then: Callable[[NextStep], bool] | None = None) -> None:
        """Wait until the current run is idle, but for tasks that wait here.

        Tasks in `trio.testing.wait_all_tasks_blocked` go first.

        Args:
            then: Called when it is, after the `patience` of an autojump. If it returns
                False, this goes on, until the run is idle once more.
        """
        task = current_task()
        _waiting_for_idleness.add(task)
        # (What calls something then watches by itself, and so does the control's run.)
        watched = then is not None or self.own_run == current_trio_token()
        watch = None if watched else self.watch_tasks(self.should_move)
        if watch is not None:
            add_instrument(watch)
        try:
            while True:
                self.giving_way.give_way()
                # Trio wakes the tasks with the smallest cushion, and all others begin
                # again. So a task that wants to go last needs the largest.
                others = cushions(but_not_of=_waiting_for_idleness)
                patience = self.patience() if then else self.grace()
                await wait_all_tasks_blocked(max([patience, *others]))
                with NextStep() as step:
                    # The tasks that have been woken together with this one go on now.
                    await cancel_shielded_checkpoint()
                    if cushions(but_not_of=_waiting_for_idleness):
                        continue
                    while not step.taken and (seconds := self._wait_for_workers(then)):
                        await step.wait(real_seconds=seconds)
                    if not step.taken:
                        if then is None or then(step):
                            return
                        await step.wait()
        finally:
            if watch is not None:
                remove_instrument(watch)
            _waiting_for_idleness.discard(task)

    def _wait_for_workers(self, then: object) -> float:
        try:
            return self.wait_for_workers()
        except Exception as error:  # a warning, where they are errors
            if then is None:
                raise
            # Not in the system task that watches.
            return inf if raise_in_program(error) else self.warn_later()


class Hold(SyncBlock[None, None]):
    """While it is open, it is one of the *holds*."""

    _usage = "`with control.hold():`"

    def __init__(self, holds: set[Hold], settings_changed: Callable[[], None]):
        self._holds = holds
        self._settings_changed = settings_changed

    #: In which it has been entered.
    run: TrioToken | None = None

    @enable_ki_protection
    def __enter__(self) -> None:
        self._enter_once()
        with suppress(RuntimeError):  # outside of Trio
            self.run = current_trio_token()
        self._holds.add(self)

    @enable_ki_protection
    def __exit__(self, *exc_info: object) -> None:
        self._holds.discard(self)
        self._settings_changed()


class NextStep(trio.abc.Instrument):
    """Notices when any task takes a step that does not itself wait for idleness."""

    taken = False

    def __enter__(self) -> Self:
        self._task = current_task()
        self._run = current_trio_token()
        self._waiting = False
        add_instrument(self)
        return self

    def __exit__(self, *exc_info: object) -> None:
        remove_instrument(self)

    def before_task_step(self, task: Task) -> None:
        if task not in _waiting_for_idleness:
            self.taken = True
            self._wake()

    async def wait(self, *, real_seconds: float = inf) -> None:
        """Wait for a step, or for so long; the time of the run may be virtual."""
        timer = Timer(min(real_seconds, TIMEOUT_MAX), post, [self._run, self._wake])
        timer.daemon = True
        if real_seconds < inf:
            timer.start()
        self._waiting = True
        try:
            await wait_task_rescheduled(self._abort)
        finally:
            timer.cancel()

    def _wake(self) -> None:
        if self._waiting:
            self._waiting = False
            reschedule(self._task)

    def _abort(self, _: object) -> Abort:
        if not self._waiting:
            return Abort.FAILED  # by a finalizer, and it is being woken just now
        self._waiting = False
        return Abort.SUCCEEDED


# (Weakly, as a run that crashes leaves its tasks as they are.)
_waiting_for_idleness: WeakSet[Task] = WeakSet()


async def settle_run(run: TrioToken, idleness: Idleness) -> None:
    """Wait until another run is idle, or over."""
    settled = trio.Event()
    here = current_trio_token()

    def begin() -> None:
        try:
            spawn_system_task(wait, name="trio_clockrt run_for")
        except RuntimeError:  # the run is shutting down
            post(here, settled.set)

    async def wait() -> None:
        try:
            await idleness.wait()
        finally:
            post(here, settled.set)

    if post(run, begin):
        while not settled.is_set() and is_running(run):
            # Trio does not promise to call what is posted to a run that ends.
            await trio.to_thread.run_sync(sleep, 0.001)


def _waiting_for_io() -> bool:
    """Whether a task of the current run waits for a descriptor, besides Trio's own."""
    statistics = current_statistics().io_statistics
    # Their names depend on the platform.
    names = (name for name in dir(statistics) if name.startswith("tasks_waiting"))
    return sum(int(getattr(statistics, name)) for name in names) > 1

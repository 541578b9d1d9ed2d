"""A shared clock, used in the run that drives it, in another run and in threads."""

from __future__ import annotations

import contextvars
import sys
from collections import deque
from collections.abc import Callable
from datetime import timedelta
from math import inf

import pytest
import trio
from shared_clock import PLACES, RUNS, SharedClock, in_thread

from trio_clockrt import (
    Clock,
    InactiveClock,
    MissedTick,
    PeriodicTimer,
    Timer,
    TimerNursery,
)
from trio_clockrt._pending import Waiter
from trio_clockrt._timers import Timers

if sys.version_info < (3, 11):
    from exceptiongroup import ExceptionGroup


# --- waiting ---


@pytest.mark.parametrize("run", RUNS)
def test_delays(run: str, shared: SharedClock) -> None:
    clock, log = shared.clock, list[float]()

    async def wait() -> None:
        await clock.delay(1)
        log.append(clock.instant())
        await clock.delay(timedelta(seconds=1))
        log.append(clock.instant())
        await clock.delay_until(2.5)
        log.append(clock.instant())
        for past in (0, -inf, 2.5):
            await clock.delay_until(past)
        await clock.delay(0)
        log.append(clock.instant())

    shared.start(run, wait)
    assert shared.pending() == 1
    shared.jump(0.5)
    assert log == []
    for _ in range(4):
        shared.jump(0.5)
    assert log == [1, 2, 2.5, 2.5]
    assert shared.pending() == 0


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("seconds", [1, 60, inf])
def test_a_cancelled_waiter_leaves_no_timer(
    run: str, seconds: float, shared: SharedClock
) -> None:
    scope = trio.CancelScope()

    async def wait() -> None:
        with scope:
            await shared.clock.delay(seconds)

    shared.start(run, wait)
    assert shared.pending() == 1
    shared.run(run).do(scope.cancel)
    assert scope.cancelled_caught
    assert shared.pending() == 0
    wakeups = shared.driver.statistics().wakeups
    shared.jump(3600)
    assert shared.driver.statistics().wakeups == wakeups


@pytest.mark.parametrize("run", RUNS)
def test_waiters_are_woken_in_the_order_of_deadlines(
    run: str, shared: SharedClock
) -> None:
    log: list[float] = []

    def wait(seconds: float) -> None:
        async def task() -> None:
            await shared.clock.delay(seconds)
            log.append(seconds)

        shared.start(run, task)

    order = [3.0, 1.0, 2.0, 1.0001, 0.5, 60.0]
    for seconds in order:
        wait(seconds)
    for seconds in sorted(order):
        shared.jump(seconds - shared.clock.instant())
    assert log == sorted(order)


def test_instants_are_those_of_the_driver_everywhere(shared: SharedClock) -> None:
    shared.jump(5)
    for name in PLACES:
        assert shared.place(name)(shared.clock.instant) == 5
        assert shared.place(name)(shared.clock.stopwatch().elapsed) == 0
        assert shared.place(name)(lambda: shared.clock.alive)
    assert shared.in_other(trio.current_time) == 1000


def test_a_task_in_another_run_while_its_own_time_goes_on(shared: SharedClock) -> None:
    log: list[float] = []

    async def wait() -> None:
        await shared.clock.delay(1)
        log.append(shared.clock.instant())

    shared.start("other", wait)
    shared.other.jump(3600)
    shared.settle()
    assert log == []
    shared.jump(1)
    assert log == [1]


def test_from_thread(shared: SharedClock) -> None:
    async def main() -> None:
        await trio.to_thread.run_sync(in_worker)
        log.append("done")

    def in_worker() -> None:
        trio.from_thread.run(shared.clock.delay, 1)
        trio.from_thread.run_sync(log.append, f"at {shared.clock.instant()}")

    log: list[str] = []
    trio.from_thread.run_sync(
        shared.other.nursery.start_soon, main, trio_token=shared.other._token
    )
    shared.wait_until_pending(1)
    shared.jump(1)
    while len(log) < 2:
        shared.settle()
    assert log == ["at 1.0", "done"]


# --- ticks ---


@pytest.mark.parametrize("run", RUNS)
def test_ticks(run: str, shared: SharedClock) -> None:
    ticks: list[float] = []

    async def tick() -> None:
        async for instant in shared.clock.periodic(1):
            ticks.append(instant)
            assert shared.clock.instant() == instant
            if len(ticks) == 3:
                return

    shared.start(run, tick)
    for _ in range(12):
        shared.jump(0.5)
    assert ticks == [1, 2, 3]
    assert shared.pending() == 0


@pytest.mark.parametrize("missed", MissedTick)
def test_missed_ticks_in_another_run(missed: MissedTick, shared: SharedClock) -> None:
    ticks: list[float] = []
    timer = shared.in_other(lambda: shared.clock.periodic(1, missed=missed))

    async def tick() -> None:
        while True:
            await timer.__anext__()
            ticks.append(shared.clock.instant())

    shared.jump(2.5)
    shared.start("other", tick)
    for _ in range(4):
        shared.jump(0.5)
    assert (
        ticks
        == {
            MissedTick.BURST: [2.5, 2.5, 3, 4],
            MissedTick.DELAY: [2.5, 3.5, 4.5],
            MissedTick.SKIP: [2.5, 3, 4],
        }[missed]
    )


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("run", RUNS)
def test_reset_while_somebody_waits(run: str, place: str, shared: SharedClock) -> None:
    ticks: list[float] = []
    timer = shared.clock.periodic(2)

    async def tick() -> None:
        while True:
            ticks.append(await timer.__anext__())

    shared.start(run, tick)
    shared.jump(1.5)
    shared.place(place)(timer.reset)
    assert shared.pending() == 1
    shared.jump(1.5)
    assert ticks == []
    shared.jump(0.5)
    assert ticks == [3.5]
    shared.place(place)(timer.reset)
    shared.place(place)(timer.reset)
    shared.jump(2)
    assert ticks == [3.5, 5.5]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("run", RUNS)
def test_reset_while_nobody_waits(run: str, place: str, shared: SharedClock) -> None:
    ticks: list[float] = []
    timer = shared.clock.periodic(2)

    async def tick() -> None:
        ticks.append(await timer.__anext__())

    for _ in range(2):
        shared.jump(1.5)
        shared.place(place)(timer.reset)
    shared.start(run, tick)
    shared.jump(1.5)
    assert ticks == []
    shared.jump(0.5)
    assert ticks == [5]
    # A tick that is overdue is not missed, if there is a reset.
    shared.jump(2.5)
    shared.place(place)(timer.reset)
    shared.start(run, tick)
    assert ticks == [5]
    shared.jump(2)
    assert ticks == [5, 9.5]


def test_reset_as_an_overdue_tick_comes(shared: SharedClock) -> None:
    # It takes a checkpoint to come.
    ticks: list[float] = []
    timer = shared.clock.periodic(2)

    class Resets(trio.abc.Instrument):
        def after_task_step(self, task: trio.lowlevel.Task) -> None:
            if task is waiting[0]:
                trio.lowlevel.remove_instrument(self)
                timer.reset()

    async def tick() -> None:
        waiting.append(trio.lowlevel.current_task())
        trio.lowlevel.add_instrument(Resets())
        ticks.append(await timer.__anext__())

    waiting: list[trio.lowlevel.Task] = []
    shared.jump(2)
    shared.start("other", tick)
    assert ticks == []
    shared.jump(2)
    assert ticks == [4]


@pytest.mark.parametrize("run", RUNS)
def test_a_reset_that_has_been_seen_already_wakes_nobody_early(
    run: str, shared: SharedClock
) -> None:
    """The thread that resets is held up, while a task begins to wait."""

    class Resets(deque[float]):
        def append(self, reset_at: float) -> None:
            super().append(reset_at)
            shared.start(run, tick)

    async def tick() -> None:
        ticks.append(await timer.__anext__())

    ticks: list[float] = []
    timer = shared.clock.periodic(2)
    timer._resets = Resets()
    shared.jump(1)
    shared.in_thread(timer.reset)
    assert ticks == []
    assert shared.pending() == 1
    shared.jump(2)
    assert ticks == [3]


def test_a_reset_as_the_tick_comes(shared: SharedClock) -> None:
    """It has come, but the task that waits for it has not gone on yet."""

    async def tick() -> None:
        ticks.append(await timer.__anext__())

    def jump_and_reset() -> None:
        in_thread(lambda: shared.home.jump(2))
        timer.reset()

    ticks: list[float] = []
    timer = shared.clock.periodic(2)
    shared.start("other", tick)
    shared.in_other(jump_and_reset)
    assert ticks == []
    shared.jump(2)
    assert ticks == [4]


def test_two_consumers_in_two_runs(shared: SharedClock) -> None:
    timer = shared.clock.periodic(1)
    ticks: list[float] = []

    async def first() -> None:
        ticks.append(await timer.__anext__())

    async def second() -> None:
        with pytest.raises(trio.BusyResourceError):
            await timer.__anext__()
        ticks.append(-1)

    shared.start("home", first)
    shared.start("other", second)
    shared.jump(1)
    assert ticks == [-1, 1]


def test_a_cancelled_tick_is_not_lost(shared: SharedClock) -> None:
    timer: PeriodicTimer = shared.clock.periodic(1)
    ticks: list[float] = []
    scope = trio.CancelScope()

    async def tick() -> None:
        with scope:
            await timer.__anext__()
        ticks.append(await timer.__anext__())

    shared.start("other", tick)
    shared.in_other(scope.cancel)
    assert shared.pending() == 1
    shared.jump(1)
    assert ticks == [1]


# --- timeouts ---


TIMEOUTS: dict[str, Callable[[Clock], object]] = {
    "move_on_after": lambda clock: clock.move_on_after(1),
    "move_on_at": lambda clock: clock.move_on_at(1),
    "fail_after": lambda clock: clock.fail_after(1),
    "fail_at": lambda clock: clock.fail_at(1),
}


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("kind", TIMEOUTS)
def test_timeouts(kind: str, run: str, shared: SharedClock) -> None:
    log: list[str] = []

    async def use() -> None:
        block: trio.CancelScope
        timeout = getattr(shared.clock, kind)
        try:
            with timeout(1) as block:
                log.append(f"{block.deadline}")
                await trio.sleep_forever()
        except trio.TooSlowError:
            log.append("too slow")
        assert block.cancelled_caught
        log.append(f"at {shared.clock.instant()}")

    async def use_in_time() -> None:
        with getattr(shared.clock, kind)(3) as block:
            await shared.clock.delay(0)
        assert not block.cancelled_caught

    shared.start(run, use)
    shared.start(run, use_in_time)
    shared.jump(0.5)
    assert log == ["1.0" if run == "home" else "inf"]
    shared.jump(0.5)
    assert log[1:] == ["too slow"] * kind.startswith("fail") + ["at 1.0"]
    assert shared.pending() == 0


def test_a_timeout_in_another_run_is_over_before_it_is_told(
    shared: SharedClock,
) -> None:
    """The message that its time is up arrives too late."""

    async def use() -> None:
        with shared.clock.move_on_after(1) as scope:
            # The driver fires, and its message has to wait until this task pauses.
            in_thread(lambda: shared.home.jump(1))
        await trio.lowlevel.checkpoint()
        log.append(scope.cancel_called)

    log: list[bool] = []
    shared.start("other", use)
    assert log == [False]
    assert shared.driver.statistics().fired == 1


# --- timers ---


async def keep_open(shared: SharedClock, opened: list[TimerNursery]) -> None:
    async with shared.clock.open_timers(on_exit="cancel") as timers:
        opened.append(timers)
        await trio.sleep_forever()


def open_timers(shared: SharedClock, run: str) -> TimerNursery:
    opened: list[TimerNursery] = []
    shared.start(run, lambda: keep_open(shared, opened))
    return opened[0]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("run", RUNS)
def test_timers_from_anywhere(run: str, place: str, shared: SharedClock) -> None:
    log: list[str] = []
    timers, do = open_timers(shared, run), shared.place(place)
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("where", default="")

    def callback(what: str) -> None:
        assert trio.lowlevel.current_trio_token() is shared.run(run)._token
        log.append(f"{what}{variable.get()} at {shared.clock.instant()}")

    async def child(what: str) -> None:
        callback(what)
        await shared.clock.delay(1)
        callback(f"{what}, done")

    def register() -> tuple[Timer, ...]:
        variable.set(" there")
        return (
            timers.call_later(1, callback, "later"),
            timers.call_at(2, callback, "at"),
            timers.start_later(2.5, child, "start"),
            timers.start_at(4, child, "start at"),
            timers.call_every(2.25, callback, "every"),
        )

    registered = do(register)
    assert shared.pending() == 5
    assert all(timer.pending for timer in registered)
    for _ in range(20):
        shared.jump(0.25)
    assert log == [
        "later there at 1.0",
        "at there at 2.0",
        "every there at 2.25",
        "start there at 2.5",
        "start, done there at 3.5",
        "start at there at 4.0",
        "every there at 4.5",
        "start at, done there at 5.0",
    ]
    assert [timer.pending for timer in registered] == [False] * 4 + [True]
    assert do(registered[4].cancel)
    assert not do(registered[4].cancel)
    assert shared.pending() == 0


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("run", RUNS)
def test_reset_and_cancel_from_anywhere(
    run: str, place: str, shared: SharedClock
) -> None:
    log: list[str] = []
    timers, do = open_timers(shared, run), shared.place(place)

    def note(what: str) -> None:
        log.append(f"{what} at {shared.clock.instant()}")

    earlier = do(lambda: timers.call_at(60, note, "earlier"))
    later = do(lambda: timers.call_at(1, note, "later"))
    again = do(lambda: timers.call_at(0, note, "again"))
    never = do(lambda: timers.call_at(1, note, "never"))
    every = do(lambda: timers.call_every(60, note, "every"))
    assert log == ["again at 0.0"]
    do(lambda: earlier.reset(1))
    do(lambda: later.reset(2))
    do(lambda: again.reset(3))
    do(lambda: every.reset(2.5))
    assert do(never.cancel)
    assert earlier.when == 1
    assert shared.pending() == 4
    for _ in range(8):
        shared.jump(0.5)
    assert log[1:] == ["earlier at 1.0", "later at 2.0", "every at 2.5", "again at 3.0"]
    assert every.when == 62.5
    do(lambda: again.reset(3))
    do(lambda: never.reset(3))
    do(timers.cancel_timers)
    assert [timer.pending for timer in (again, never, every)] == [False] * 3
    assert shared.pending() == 0
    do(timers.cancel_timers)
    wakeups = shared.driver.statistics().wakeups
    shared.jump(60)
    assert shared.driver.statistics().wakeups == wakeups
    assert len(log) == 5


@pytest.mark.parametrize("run", RUNS)
def test_exceptions_of_callbacks_go_to_the_nursery(
    run: str, shared: SharedClock
) -> None:
    errors: list[BaseException] = []

    async def use() -> None:
        try:
            async with shared.clock.open_timers() as timers:
                opened.append(timers)
                await trio.sleep_forever()
        except ExceptionGroup as group:
            errors.extend(group.exceptions)

    def fail() -> None:
        raise KeyError

    opened: list[TimerNursery] = []
    shared.start(run, use)
    in_thread(lambda: opened[0].call_later(1, fail))
    shared.jump(1)
    assert [type(error) for error in errors] == [KeyError]
    assert shared.pending() == 0


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("on_exit", ["wait", "cancel"])
def test_leaving_the_block(
    on_exit: str, run: str, place: str, shared: SharedClock
) -> None:
    opened: list[TimerNursery] = []
    log: list[str] = []
    leave = trio.Event()

    async def use() -> None:
        async with shared.clock.open_timers(on_exit=on_exit) as timers:  # type: ignore[arg-type]
            opened.append(timers)
            await leave.wait()
        log.append(f"left at {shared.clock.instant()}")

    async def child() -> None:
        await shared.clock.delay(2)
        log.append("child")

    do = shared.place(place)
    shared.start(run, use)
    [timers] = opened
    do(lambda: timers.start_later(1, child))
    cancelled = do(lambda: timers.call_later(60, log.append, "never"))
    shared.jump(1)
    shared.in_place(run, leave.set)
    if on_exit == "wait":
        do(cancelled.cancel)
        do(lambda: timers.call_later(5, log.append, "timer"))
    else:
        assert not cancelled.pending
        # It is open until the last child has ended.
        do(lambda: timers.call_later(5, log.append, "never"))
    shared.jump(2)
    shared.jump(3)
    assert log == (
        ["child", "timer", "left at 6.0"]
        if on_exit == "wait"
        else ["child", "left at 3.0"]
    )
    for use_it in (lambda: timers.call_later(1, int), lambda: cancelled.reset(1)):
        with pytest.raises(RuntimeError, match="closed"):
            do(use_it)
    assert not do(cancelled.cancel)
    assert shared.pending() == 0


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("how", ["cancel", "cancel_timers"])
def test_the_last_timer_is_cancelled_from_elsewhere(
    how: str, run: str, place: str, shared: SharedClock
) -> None:
    opened: list[Timer] = []
    log: list[str] = []

    async def use() -> None:
        async with shared.clock.open_timers() as timers:
            opened.append(timers.call_later(inf, int))
        log.append("left")

    shared.start(run, use)
    assert log == []
    group = opened[0]._group
    shared.place(place)(opened[0].cancel if how == "cancel" else group.cancel_timers)
    assert log == ["left"]
    assert shared.pending() == 0


def test_a_cancelled_nursery_fires_no_timers(shared: SharedClock) -> None:
    timers = open_timers(shared, "other")
    log: list[str] = []

    def cancel() -> None:
        timers.cancel_scope.cancel()
        log.append("cancelled")

    in_thread(lambda: timers.call_later(1, cancel))
    in_thread(lambda: timers.call_later(1, log.append, "never"))
    in_thread(lambda: timers.call_every(1, log.append, "never"))
    shared.jump(1)
    assert log == ["cancelled"]
    assert shared.pending() == 0


@pytest.mark.parametrize("how", ["cancel", "reset", "close"])
def test_a_timer_that_is_on_its_way_to_another_run(
    how: str, shared: SharedClock
) -> None:
    """It is due, and its run does not know yet."""
    log: list[str] = []
    timers = open_timers(shared, "other")
    timer = shared.in_other(lambda: timers.call_at(1, log.append, "fired"))

    async def change_it() -> None:
        in_thread(lambda: shared.home.jump(1))
        # The driver has fired it.
        assert timer.pending
        if how == "cancel":
            assert timer.cancel()
        elif how == "reset":
            timer.reset(1)
        else:
            timers.cancel_scope.cancel()

    shared.start("other", change_it)
    assert log == []
    assert timer.pending == (how == "reset")
    assert shared.pending() == (how == "reset")
    shared.jump(1)
    assert log == (["fired"] if how == "reset" else [])


def test_very_many_timers_are_due_in_another_run(shared: SharedClock) -> None:
    log: list[int] = []
    timers = open_timers(shared, "other")

    def register() -> None:
        for n in range(6000):
            timers.call_at(1 + n % 3, log.append, n)

    in_thread(register)
    assert shared.pending() == 6000
    for _ in range(3):
        # All of them are on their way before the first has arrived.
        shared.in_other(lambda: in_thread(lambda: shared.home.jump(1)))
    assert log == [*range(0, 6000, 3), *range(1, 6000, 3), *range(2, 6000, 3)]


def test_callbacks_that_take_long_let_the_tasks_of_their_run_go_on(
    shared: SharedClock,
) -> None:
    log: list[str] = []
    timers = open_timers(shared, "other")

    def slow() -> None:
        in_thread(lambda: shared.home.jump(1))
        log.append("callback")

    async def wait() -> None:
        while not log:
            await trio.lowlevel.checkpoint()
        log.append("task")

    for _ in range(3):
        in_thread(lambda: timers.call_at(1, slow))
    trio.from_thread.run_sync(
        shared.other.nursery.start_soon, wait, trio_token=shared.other._token
    )
    shared.home.jump(1)
    shared.settle()
    assert sorted(log) == ["callback"] * 3 + ["task"]
    assert log[-1] == "callback"


# --- what wakes the driver ---


@pytest.mark.parametrize("place", PLACES)
def test_only_what_is_earliest_wakes_the_driver(
    place: str, shared: SharedClock
) -> None:
    timers = open_timers(shared, "other")
    do = shared.place(place)
    far = do(lambda: timers.call_at(3600, int))
    near = do(lambda: timers.call_at(60, int))
    assert shared.home.do(lambda: shared.driver.next_deadline) == 60
    wakeups = shared.driver.statistics().wakeups
    do(near.cancel)
    assert shared.home.do(lambda: shared.driver.next_deadline) == 3600
    shared.jump(100)
    assert shared.driver.statistics().wakeups == wakeups
    do(lambda: far.reset(10))
    shared.jump(10)
    assert shared.driver.statistics().wakeups == wakeups + 1
    assert not far.pending


@pytest.mark.parametrize("place", PLACES)
def test_a_later_timer_when_the_earliest_goes(place: str, shared: SharedClock) -> None:
    # The driver has not had to know of it before.
    timers, log = open_timers(shared, "other"), list[str]()
    do = shared.place(place)
    earliest = do(lambda: timers.call_at(60, int))
    do(lambda: timers.call_at(70, log.append, "later"))
    do(earliest.cancel)
    shared.jump(70)
    assert log == ["later"]


def test_more_messages_than_the_driver_has_to_read_at_once(
    shared: SharedClock,
) -> None:
    timers = open_timers(shared, "other")
    in_thread(lambda: timers.call_at(1, int))

    def many() -> None:
        for n in range(5000):
            timers.call_at(60 + n, int)

    in_thread(many)
    shared.settle()
    # Before anybody asks, which reads them all.
    assert len(shared.driver._timers.inbox) <= 1024
    assert shared.pending() == 5001


# --- who may do what where ---


@pytest.mark.parametrize("place", ["other", "a thread"])
def test_the_driver_is_refused_elsewhere(place: str, shared: SharedClock) -> None:
    do = shared.place(place)
    for use in (
        shared.driver.advance_timers,
        lambda: shared.driver.next_deadline,
    ):
        with pytest.raises(RuntimeError, match="in that Trio run"):
            do(use)
    assert do(shared.driver.statistics).pending == 0


@pytest.mark.parametrize(
    "use",
    [
        lambda clock: clock.move_on_after(1).__enter__(),
        lambda clock: clock.delay(1).send(None),
        lambda clock: clock.periodic(1).__anext__().send(None),
        lambda clock: clock.open_timers().__aenter__().send(None),
    ],
)
def test_what_needs_a_task_is_refused_in_a_thread(
    use: Callable[[Clock], object], shared: SharedClock
) -> None:
    with pytest.raises(RuntimeError):
        shared.in_thread(lambda: use(shared.clock))
    assert shared.pending() == 0


@pytest.mark.parametrize("place", PLACES)
def test_bad_input(place: str, shared: SharedClock) -> None:
    timers = open_timers(shared, "other")
    do, timer = shared.place(place), shared.in_home(lambda: timers.call_at(60, int))

    async def async_fn() -> None: ...

    uses: list[Callable[[], object]] = [
        lambda: timers.call_later(-1, int),
        lambda: timers.call_later(float("nan"), int),
        lambda: timers.call_later("1", int),  # type: ignore[arg-type]
        lambda: timers.call_at(True, int),
        lambda: timers.call_later(1, async_fn),
        lambda: timers.start_later(1, None),  # type: ignore[arg-type]
        lambda: timers.call_every(0, int),
        lambda: timer.reset(-1),
        lambda: shared.clock.periodic(-1),
        lambda: shared.clock.move_on_after(-1),
        lambda: shared.clock.open_timers(on_exit="later"),  # type: ignore[arg-type]
    ]
    for use in uses:
        with pytest.raises((ValueError, TypeError)):
            do(use)
    assert shared.pending() == 1
    with pytest.raises(RuntimeError, match="open_timers"):
        do(shared.clock.timer_group)


@pytest.mark.virtual_time
async def test_what_is_due_when_its_nursery_is_cancelled_does_not_fire() -> None:
    calls: list[str] = []
    async with (
        InactiveClock.new_shared().activate() as (clock, _),
        clock.open_timers() as timers,
    ):
        once = timers.call_later(1, calls.append, "once")
        every = timers.call_every(1, calls.append, "every")
        timers.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await clock.delay(2)
        assert not once.pending
        assert not every.pending
    assert calls == []


@pytest.mark.virtual_time
async def test_a_reset_just_before_the_task_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def add(self: Timers, waiter: Waiter) -> None:
        monkeypatch.undo()
        self.add(waiter)
        ticks.reset()  # as another thread does

    async with InactiveClock.new_shared().activate() as (clock, driver):
        ticks = clock.periodic(5)
        monkeypatch.setattr(Timers, "add", add)
        assert await ticks.__anext__() == clock.instant() == 5
        assert driver.statistics().pending == 0

"""Finalizers: the garbage collector may run them in the middle of anything."""

from __future__ import annotations

import collections
import gc
import heapq
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from sys import maxsize
from typing import Any

import pytest
import trio
import trio.testing
from at_each_line import traced
from interrupted import Interrupted
from trio.testing import MockClock

from trio_clockrt import (
    Clock,
    ClockDriver,
    ClockGone,
    InactiveClock,
    Timer,
    TimerNursery,
    _queue,
    _timer_nursery,
    _timers,
    _waiters,
    open_clock,
)
from trio_clockrt._alarm import TrioAlarm
from trio_clockrt._lifetime import Lifetime
from trio_clockrt._periodic import Grid
from trio_clockrt._time_source import SystemSource
from trio_clockrt._timers import Timers
from trio_clockrt.testing import ClockControl

# --- inside a single call ---


class Finalizer:
    """Runs once, in the middle of something."""

    def __init__(self, driver: ClockDriver, does: Callable[[], object]) -> None:
        self.driver = driver
        self.does = does
        self.ran = False

    def __call__(self) -> None:
        if not self.ran:
            self.ran = True
            # Perhaps they are refused, in the middle of the work on the queue.
            with suppress(RuntimeError):
                _ = self.driver.next_deadline
            with suppress(RuntimeError):
                self.driver.advance_timers()
            self.does()


# How many timers each of them registers and cancels.
COUNTED = {"call_at": (1, 0), "register": (1, 0), "reset": (1, 1), "cancel": (0, 1)}


@pytest.mark.parametrize("does", ["register", "reset", "cancel"])
@pytest.mark.parametrize(
    "call", ["call_at", "reset", "cancel", "advance_timers", "next_deadline"]
)
async def test_it_is_done_when_the_call_has_returned(
    call: str, does: str, mock_clock: MockClock
) -> None:
    async def attempt(here: int) -> bool:
        calls: list[str] = []
        start = clock.instant()
        before = driver.statistics()
        async with clock.open_timers() as timers:
            own = timers.call_at(start + 5, calls.append, "own")
            other = timers.call_at(start + 10, calls.append, "other")
            await trio.testing.wait_all_tasks_blocked()  # the driver is asleep
            uses: dict[str, Callable[[], object]] = {
                "register": lambda: timers.call_at(start + 3, calls.append, "new"),
                "reset": lambda: other.reset(3),
                "cancel": other.cancel,
            }
            finalizer = Finalizer(driver, uses[does])
            uses = {
                "call_at": lambda: timers.call_at(start + 4, calls.append, "own"),
                "reset": lambda: own.reset(4),
                "cancel": own.cancel,
                "advance_timers": driver.advance_timers,
                "next_deadline": lambda: driver.next_deadline,
            }
            with traced(finalizer, here) as lines:
                uses[call]()
            if not finalizer.ran:
                timers.cancel_timers()
                return False
            # All of it has been counted, once.
            statistics = driver.statistics()
            own_part, its_part = COUNTED.get(call, (0, 0)), COUNTED[does]
            registered = statistics.registered - before.registered
            assert registered == 2 + own_part[0] + its_part[0]
            cancelled = statistics.cancelled - before.cancelled
            assert cancelled == own_part[1] + its_part[1]
            assert other.pending == (does != "cancel")
            first = {"call_at": 4, "reset": 4, "cancel": 10}.get(call, 5)
            if does != "cancel":
                first = 3
            mock_clock.jump(first - 0.5)
            await trio.testing.wait_all_tasks_blocked()
            assert calls == []
            mock_clock.jump(0.5)
            await trio.testing.wait_all_tasks_blocked()
            if (call, does) != ("cancel", "cancel"):
                assert len(calls) == 1
            timers.cancel_timers()
        return here <= len(lines)

    async with InactiveClock().activate() as (clock, driver):
        here = 1
        while await attempt(here):
            here += 1
    assert here > 10


async def test_while_the_alarm_is_being_set(
    mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    original = TrioAlarm.move

    def move(self: TrioAlarm, deadline: float) -> None:
        if deadline == 3600 and todo:
            todo.pop()()
        original(self, deadline)

    async with open_clock() as clock:
        async with clock.open_timers(on_exit="cancel") as timers:
            timers.call_at(3600, int)
            todo = [lambda: timers.call_at(1, calls.append, "called")]
            monkeypatch.setattr(TrioAlarm, "move", move)
            await trio.testing.wait_all_tasks_blocked()
            assert todo == []
            mock_clock.jump(1)
            await trio.testing.wait_all_tasks_blocked()
            assert calls == ["called"]


@pytest.mark.parametrize("what", ["one-shot", "periodic"])
async def test_reset_to_the_present_as_it_is_being_woken(
    what: str, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[float] = []

    def popping(heap: list[float]) -> float:
        if todo:
            todo.pop()(0)
        return heapq.heappop(heap)

    async with InactiveClock().activate() as (clock, driver):
        async with clock.open_timers(on_exit="cancel") as timers:

            def call() -> None:
                calls.append(clock.instant())

            if what == "one-shot":
                timer = timers.call_at(10, call)
            else:
                timer = timers.call_every(10, call)
            timers.call_at(10.0001, int)  # so that there is a heap
            todo = [timer.reset]
            monkeypatch.setattr(_queue, "heappop", popping)
            mock_clock.jump(10)
            await trio.testing.wait_all_tasks_blocked()
            assert todo == []
            assert calls == [10]
            assert timer.pending == (what == "periodic")
            assert driver.statistics().pending == 1 + (what == "periodic")
        clock.close()
        await driver.wait_gone()


@pytest.mark.parametrize(
    ("what", "how"),
    [
        ("one-shot", "cancel"),
        ("one-shot", "cancel_timers"),
        ("periodic", "cancel"),
        ("periodic", "cancel_timers"),
        ("one-shot", "reset"),
        ("periodic", "reset"),
    ],
)
def test_at_each_line_of_firing(what: str, how: str) -> None:
    """Where newer Pythons may collect garbage; here, a trace function does it."""

    def attempt(here: int) -> bool:
        now[0] = 0.0
        clock, driver = InactiveClock().activate_manual()
        with clock.timer_group() as timers:
            if what == "one-shot":
                timer = timers.call_at(10, int)
            else:
                timer = timers.call_every(10, int)
            uses: dict[str, Callable[[], object]] = {
                "cancel": timer.cancel,
                "cancel_timers": timers.cancel_timers,
                "reset": lambda: timer.reset(5),
            }
            now[0] = 10.0
            with traced(uses[how], here) as lines:
                driver.advance_timers()
            done = here > len(lines)
            if how == "reset" and not done:
                assert timer.pending
                assert timer.when in (15, 20)
                assert driver.next_deadline == timer.when
            elif how.startswith("cancel") and not done:
                assert not timer.pending
            timer.cancel()
        assert driver.statistics().pending == 0
        clock.close()
        with pytest.raises(ClockGone):
            driver.advance_timers()
        return not done

    now = [0.0]
    with pytest.MonkeyPatch.context() as patch:
        for name in "instant", "now":
            patch.setattr(SystemSource, name, staticmethod(lambda: now[0]))
        here = 1
        while attempt(here):
            here += 1
    assert here > 20


@pytest.mark.parametrize("how", ["cancel", "reset"])
def test_as_a_timer_that_was_reset_comes_up(how: str) -> None:
    """Its entry is for the old deadline, and it is filed for the new one then."""

    def attempt(here: int) -> bool:
        control = ClockControl()
        clock, driver = InactiveClock.from_control(control).activate_manual()
        with clock.timer_group() as timers:
            timers.call_later(5, int)
            timer = timers.call_later(10, control.current_time)
            timer.reset(20)
            use = timer.cancel if how == "cancel" else partial(timer.reset, 35)
            with traced(use, here) as lines:
                control.jump(15)
            if here > len(lines):
                return False
            assert timer.pending == (how == "reset")
            assert driver.next_deadline in ((35, 50) if how == "reset" else (None,))
            assert driver.statistics().fired == 1
        return True

    here = 1
    while attempt(here):
        here += 1
    assert here > 20


def test_a_periodic_timer_is_cancelled_as_it_is_set_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def advance(*args: Any, **kwargs: Any) -> None:
        advancing(*args, **kwargs)
        timer.cancel()

    advancing = Grid.advance
    monkeypatch.setattr(Grid, "advance", advance)
    calls: list[int] = []
    control = ClockControl()
    clock, driver = InactiveClock.from_control(control).activate_manual()
    with clock.timer_group() as timers:
        timer = timers.call_every(10, calls.append, 1)
        control.jump(15)
        assert driver.next_deadline is None
        assert calls == []
        assert driver.statistics().cancelled == 2  # it has been set again


@pytest.mark.parametrize("comes", ["up", "to its end"])
def test_another_timer_is_cancelled_in_the_middle(comes: str) -> None:
    control = ClockControl()
    clock, driver = InactiveClock.from_control(control).activate_manual()
    with clock.timer_group() as timers:
        pending = Interrupted()
        timers._pending = timers._timers.groups[timers._id] = pending
        timers.call_later(5, int)
        timer = timers.call_later(10, int)
        if comes == "up":
            timer.reset(20)
            pending.before_setting.append(timer.cancel)
            control.jump(15)
        else:
            pending.before_popping.append(timer.cancel)
            timers.cancel_timers()
        assert not timer.pending
        assert driver.statistics().pending == 0


async def test_between_two_turns(mock_clock: MockClock) -> None:
    """A timer is set at each of the last lines of a turn that is not the last."""

    async def attempt(here: int) -> int:
        async with InactiveClock().activate() as (clock, driver):
            async with clock.open_timers() as timers:
                for _ in range(2000):
                    timers.call_later(1, int)
                await trio.testing.wait_all_tasks_blocked()
                mock_clock.jump(1)
                with traced(lambda: timers.call_later(1, int), here) as lines:
                    assert driver.advance_timers() == clock.instant()
                assert driver.statistics().fired == 1024
                assert driver.statistics().registered == 2000 + (here <= len(lines))
                timers.cancel_timers()
                return len(lines)

    lines = await attempt(maxsize)
    for here in range(lines - 40, lines):
        await attempt(here)


def test_as_ctrl_c_ends_a_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def time() -> float:
        if interrupted:
            interrupted.clear()
            raise KeyboardInterrupt
        return 1000.0

    def callback() -> None:
        timers.call_later(0, calls.append, "late")
        todo.append(lambda: timers.call_later(0, calls.append, "finalizer's"))
        interrupted.append(True)

    def ending(self: Timers) -> None:
        if todo:
            todo.pop()()
        end_pass(self)

    calls: list[str] = []
    interrupted: list[bool] = []
    todo: list[Callable[[], object]] = []
    end_pass = Timers._end_pass
    monkeypatch.setattr(Timers, "_end_pass", ending)
    for name in "instant", "now":
        monkeypatch.setattr(SystemSource, name, staticmethod(time))
    clock, driver = InactiveClock().activate_manual()
    with clock.timer_group() as timers:
        timers.call_later(0, callback)
        timers.call_later(0, calls.append, "due")
        with pytest.raises(KeyboardInterrupt):
            driver.advance_timers()
        assert not todo
        assert calls == []
        while driver.advance_timers() is not None:
            pass
        assert calls == ["due", "late", "finalizer's"]


def test_after_the_last_timer_of_a_clock() -> None:
    def attempt(here: int) -> bool:
        calls: list[str] = []
        clock, driver = InactiveClock().activate_manual()
        with clock, clock.timer_group() as timers:
            timers.call_later(0, calls.append, "last")
            clock.close()
            with traced(
                lambda: timers.call_later(0, calls.append, "one more"), here
            ) as lines:
                try:
                    # Nothing but the finalizer's timer keeps it alive.
                    while True:
                        driver.advance_timers()
                except ClockGone:
                    assert "one more" in calls or here > len(lines) - 10
            assert calls[0] == "last"
        return here <= len(lines)

    here = 1
    while attempt(here):
        here += 1
    assert here > 20


# --- at any moment ---


HOOKS = ["heappush", "heappop", "heapify"]


@pytest.mark.parametrize("spread", [0, 1e-7, 1e-3], ids=["equal", "near", "far"])
@pytest.mark.parametrize("hook", HOOKS)
def test_finalizers_that_use_timers_at_any_moment(
    spread: float, hook: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The garbage collector may run them in the middle of whatever the queue does; so
    # let it run in the middle of this.
    original: Any = getattr(_queue, hook)

    def collecting(*args: object) -> object:
        gc.collect(0)
        return original(*args)

    for module in (_queue, _timers):
        if hasattr(module, hook):
            monkeypatch.setattr(module, hook, collecting)

    class Connection:
        def __init__(self, instant: float) -> None:
            self.idle = timers.call_at(instant, calls.append, "idle")
            self.cycle = self

        def __del__(self) -> None:
            done["cancelled"] += self.idle.cancel()
            done["finalized"] += 1
            if done["finalized"] % 3 == 1:
                self.idle.reset(5)
            elif done["finalized"] % 3 == 2:
                timers.call_at(3, calls.append, "new")
            else:
                with suppress(RuntimeError):  # refused in the middle of something
                    driver.advance_timers()
                with suppress(RuntimeError):
                    assert driver.next_deadline is not None

    calls: list[object] = []
    done: collections.Counter[str] = collections.Counter()
    timers: TimerNursery
    driver: ClockDriver

    async def main() -> None:
        nonlocal timers, driver
        async with InactiveClock().activate() as (clock, driver):
            async with clock.open_timers() as timers:
                for n in range(60):
                    for k in range(3):
                        Connection(1 + n * spread + k * spread / 10)
                    timers.call_at(1 + n * spread, calls.append, n)
                    if not n % 20:
                        await trio.lowlevel.checkpoint()
                await clock.delay_until(2)
                assert [call for call in calls if isinstance(call, int)] == [*range(60)]
                gc.collect()
                assert done["finalized"] == 180
            # Each was either cancelled in time or has fired, and 60 were set again.
            assert calls.count("idle") == 180 - done["cancelled"] + 60
            assert calls.count("new") == 60
            assert driver.statistics().pending == 0

    gc.collect()
    gc.disable()
    try:
        trio.run(main, clock=MockClock(autojump_threshold=0))
    finally:
        gc.enable()


@pytest.mark.parametrize("ends_first", [False, True])
async def test_a_finalizer_that_cancels_whoever_is_just_being_woken(
    ends_first: bool, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    class CancelsWhenFreed:
        def __init__(self, scope: trio.CancelScope) -> None:
            self.scope = scope

        def __del__(self) -> None:
            self.scope.cancel()

    def popping(heap: list[float]) -> float:
        hostages.clear()  # in the middle of taking out the tasks that are due
        return heapq.heappop(heap)

    def telling(*args: Any) -> None:
        hostages.clear()  # in the middle of telling them of the end
        tell(*args)

    async def wait(clock: Clock, seconds: float) -> None:
        with trio.CancelScope() as scope:
            hostages.append(CancelsWhenFreed(scope))
            await clock.delay(seconds)
        cancelled.append(scope.cancelled_caught)

    hostages: list[CancelsWhenFreed] = []
    cancelled: list[bool] = []
    async with trio.open_nursery() as nursery:
        async with open_clock() as clock:
            nursery.start_soon(wait, clock, 1)
            nursery.start_soon(wait, clock, 1.0001)
            await trio.testing.wait_all_tasks_blocked()
            tell = Lifetime._tell
            monkeypatch.setattr(_queue, "heappop", popping)
            monkeypatch.setattr(Lifetime, "_tell", telling)
            if not ends_first:
                mock_clock.jump(2)
                await trio.testing.wait_all_tasks_blocked()
    assert cancelled == [True, True]


@pytest.mark.parametrize(
    "what", ["delay", "the end of a delay", "wait_gone", "open_timers"]
)
async def test_a_finalizer_cancels_whoever_is_about_to_be_scheduled(
    what: str, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where newer Pythons may collect garbage: as a function of Trio's begins."""

    def rescheduling(*args: Any) -> None:
        monkeypatch.undo()
        scope.cancel()
        trio.lowlevel.reschedule(*args)

    async def wait() -> None:
        with scope:
            if what == "wait_gone":
                await driver.wait_gone()
            elif what == "open_timers":
                async with clock.open_timers() as timers:
                    timers.call_at(1, int)
            else:
                with suppress(ClockGone):
                    await clock.delay(1)
            woken.append(what)
            await trio.lowlevel.checkpoint()

    scope = trio.CancelScope()
    woken: list[str] = []
    async with trio.open_nursery() as nursery:
        async with InactiveClock().activate() as (clock, driver):
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            for module in _waiters, _timer_nursery:
                monkeypatch.setattr(module, "reschedule", rescheduling)
            if what in ("delay", "open_timers"):
                mock_clock.jump(1)
                await trio.testing.wait_all_tasks_blocked()
    assert woken == [what]
    assert scope.cancelled_caught


async def test_a_finalizer_that_cancels_the_timer_that_is_just_firing(
    mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    class CancelsWhenFreed:
        def __init__(self, timer: Timer) -> None:
            self.timer = timer

        def __del__(self) -> None:
            cancelled.append(self.timer.cancel())

    def popping(heap: list[float]) -> float:
        hostages.clear()  # in the middle of taking out the timer
        return heapq.heappop(heap)

    calls: list[str] = []
    cancelled: list[bool] = []
    async with InactiveClock().activate() as (clock, driver):
        async with clock.open_timers() as timers:
            hostages = [CancelsWhenFreed(timers.call_at(1, calls.append, "freed"))]
            timers.call_at(1.0001, calls.append, "other")
            monkeypatch.setattr(_queue, "heappop", popping)
            mock_clock.jump(2)
        assert cancelled == [True]
        assert calls == ["other"]
        assert driver.statistics().pending == 0


@pytest.mark.parametrize("which", ["a timer", "a tick"])
async def test_a_finalizer_that_resets_whoever_is_just_being_woken(
    which: str, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    class ResetsWhenFreed:
        def __del__(self) -> None:
            if which == "a timer":
                timer.reset(2)
            else:
                ticks.reset()

    def popping(heap: list[float]) -> float:
        hostages.clear()  # in the middle of taking out whoever is due
        return heapq.heappop(heap)

    async def tick() -> None:
        await ticks.__anext__()
        calls.append(clock.instant())

    calls: list[float] = []
    hostages = [ResetsWhenFreed()]
    async with InactiveClock().activate() as (clock, driver):
        async with clock.open_timers() as timers, trio.open_nursery() as nursery:
            ticks = clock.periodic(2)
            if which == "a timer":
                timer = timers.call_at(2, lambda: calls.append(clock.instant()))
            else:
                nursery.start_soon(tick)
                await trio.testing.wait_all_tasks_blocked()
            timers.call_at(2.0001, int)  # so that there is a heap
            monkeypatch.setattr(_queue, "heappop", popping)
            mock_clock.jump(2)
            await trio.testing.wait_all_tasks_blocked()
            assert hostages == []
            assert calls == []
            assert driver.next_deadline == 2.0001
            mock_clock.jump(2)
        assert calls == [4]
        assert driver.statistics().pending == 0


@pytest.mark.parametrize("where", [(Timers, "check"), (Timers, "killed")])
async def test_a_finalizer_cancels_the_timer_that_is_being_cancelled(
    where: tuple[type[Any], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def cancelling(*args: Any) -> Any:
        monkeypatch.undo()
        results.append(timer.cancel())
        return getattr(cls, name)(*args)

    cls, name = where
    results: list[bool] = []
    async with InactiveClock().activate() as (clock, driver):
        async with clock.open_timers() as timers:
            timer = timers.call_later(3600, print, "never")
            monkeypatch.setattr(cls, name, cancelling)
            results.append(timer.cancel())
            assert sorted(results) == [False, True]
            assert driver.statistics().pending == 0

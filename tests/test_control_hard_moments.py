"""`ClockControl` where it is easily caught off guard."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from functools import partial
from math import inf
from typing import Any

import outcome
import pytest
import trio
import trio.lowlevel
from conftest import RealTimers
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_clockrt import Clock, InactiveClock, open_clock
from trio_clockrt._queue import Queue
from trio_clockrt._timers import Timers
from trio_clockrt.testing import ClockControl, _idleness

if sys.version_info < (3, 11):
    from exceptiongroup import ExceptionGroup


def jumping(**kwargs: Any) -> ClockControl:
    return ClockControl(autojump_threshold=0, **kwargs)


# --- passes that the driver has left open, as so much was due ---


@pytest.mark.parametrize("with_sleeper", [False, True])
def test_a_timer_for_now_after_as_many_as_fit_into_a_turn(with_sleeper: bool) -> None:
    async def main() -> None:
        async with open_clock() as clock, trio.open_nursery() as nursery:
            if with_sleeper:
                nursery.start_soon(clock.delay, 3600)
                await wait_all_tasks_blocked()
            async with clock.open_timers() as timers:
                for _ in range(1024):
                    timers.call_later(1, calls.append, 1)
                control.jump(1)
                await wait_all_tasks_blocked()
                assert len(calls) == 1024
                timers.call_later(0, calls.append, 0)
            assert calls[1024:] == [0]
            assert clock.instant() == 1
            await wait_all_tasks_blocked()
            assert len(nursery.child_tasks) == with_sleeper
            nursery.cancel_scope.cancel()

    calls: list[int] = []
    control = ClockControl()
    trio.run(main, clock=control)


# --- holds ---


def test_a_hold_just_before_a_jump() -> None:
    class Holds(trio.abc.Instrument):
        def before_io_wait(self, timeout: float) -> None:
            if not instants:
                hold.__enter__()
                instants.append(control.current_time())

        def after_io_wait(self, timeout: float) -> None:
            instants.append(control.current_time())
            if len(instants) == 2:
                hold.__exit__(None, None, None)

    async def main() -> None:
        await trio.lowlevel.checkpoint()
        trio.lowlevel.add_instrument(Holds())
        await trio.sleep(5)

    instants: list[float] = []
    control = jumping()
    hold = control.hold()
    trio.run(main, clock=control)
    assert instants[:2] == [0, 0]
    assert control.current_time() == 5


# --- worker threads ---


def test_a_worker_that_may_be_abandoned_waits_for_trio() -> None:
    async def main() -> None:
        def ask() -> None:
            trio.from_thread.run(trio.sleep, 10)

        with trio.fail_after(60):
            await trio.to_thread.run_sync(ask, abandon_on_cancel=True)
        assert control.current_time() == 10

    control = jumping()
    trio.run(main, clock=control)


def test_a_busy_worker_beside_one_that_waits_for_trio() -> None:
    async def main() -> None:
        def ask() -> None:
            trio.from_thread.run(trio.sleep, 10)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, ask)
            nursery.start_soon(
                partial(trio.to_thread.run_sync, ask, abandon_on_cancel=True)
            )
            with trio.move_on_after(1) as scope:
                await trio.to_thread.run_sync(event.wait, 0.05)
            assert not scope.cancelled_caught
            assert control.current_time() == 0

    event = threading.Event()
    control = jumping()
    trio.run(main, clock=control)
    assert control.current_time() == 10


@pytest.mark.parametrize("abandon", [False, True])
def test_a_task_that_does_nothing_but_wait_for_a_worker(abandon: bool) -> None:
    async def main() -> None:
        with trio.fail_after(1):
            async with trio.open_nursery() as nursery:
                work = partial(event.wait, 0.05)
                nursery.start_soon(
                    partial(trio.to_thread.run_sync, work, abandon_on_cancel=abandon)
                )
        assert trio.current_time() == 0

    event = threading.Event()
    trio.run(main, clock=jumping())


def test_a_deadlock_while_a_worker_waits_for_trio() -> None:
    async def main() -> None:
        def ask() -> None:
            trio.from_thread.run(event.wait)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, ask)
            with pytest.raises(RuntimeError, match="deadlock"):
                await trio.sleep_forever()
            event.set()

    event = trio.Event()
    trio.run(main, clock=ClockControl(detect_deadlocks=True))


# --- runs that crash ---

CRASH = """
import gc
import trio
from trio.lowlevel import spawn_system_task
from trio_clockrt.testing import ClockControl, _idleness

async def crash():
    raise ZeroDivisionError

async def main():
    with control.hold():
        await control.run_for(1)

async def begin():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(main)
        await trio.lowlevel.checkpoint()
        raise_it = trio.lowlevel.current_clock()
        raise_it.deadline_to_sleep_time = None  # not callable
        await trio.sleep_forever()

control = ClockControl(autojump_threshold=0)
kept = []
try:
    trio.run(begin, clock=control)
except trio.TrioInternalError as error:
    kept.append(error)  # as tests do, and with it all frames
del control.deadline_to_sleep_time

async def again():
    await trio.sleep(5)
    await control.run_for(5)
    print(trio.current_time())

trio.run(again, clock=control)
"""


def test_another_run_after_one_that_has_crashed() -> None:
    process = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CRASH)],
        capture_output=True,
        text=True,
        check=True,
        timeout=50,
    )
    assert process.stdout == "10.0\n", process.stderr


# --- reports ---


def test_a_report_on_what_cannot_be_shown(real_timers: RealTimers) -> None:
    class Rude:
        def __call__(self) -> None: ...

        def __repr__(self) -> str:
            raise ZeroDivisionError

    async def main() -> None:
        async with open_clock() as clock, clock.open_timers(on_exit="cancel") as timers:
            timers.call_later(1, Rude())
            with control.fail_after_real(0.01):
                trio.lowlevel.spawn_system_task(real_timers.are_up_when_all_wait)
                await trio.sleep_forever()

    control = ClockControl()
    with pytest.raises(ExceptionGroup) as caught:
        trio.run(main, clock=control)
    assert caught.group_contains(trio.TooSlowError, match="Timer object at")


# --- in the middle of something ---


def interrupting(
    monkeypatch: pytest.MonkeyPatch, method: str, fn: Callable[[], object]
) -> None:
    """As a finalizer or a signal handler does, while the queue is being changed."""
    cls: Any = Timers if method in ("file", "killed") else Queue
    original = getattr(cls, method)

    def interrupted(*args: Any) -> Any:
        if method != "pop" or args[-1] > 0:  # the instant of what is due
            monkeypatch.undo()
            fn()
        return original(*args)

    monkeypatch.setattr(cls, method, interrupted)


@pytest.mark.parametrize("move", ["jump", "advance"])
def test_it_is_moved_while_a_timer_is_being_set(
    move: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, float]] = []
    control = ClockControl()
    clock = control.to_clock()

    def note(what: str) -> None:
        calls.append((what, clock.instant()))

    with clock.timer_group() as timers:
        timers.call_later(2, note, "first")
        interrupting(monkeypatch, "file", lambda: getattr(control, move)(3))
        timers.call_later(1, note, "second")
        assert clock.instant() == 3
        control.advance(0)
    # (What advance() does is what it always does.)
    assert sorted(calls) == [("first", 3 if move == "jump" else 2), ("second", 3)]


def test_it_is_moved_while_a_sleeper_is_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with open_clock() as clock, trio.open_nursery() as nursery:
            nursery.start_soon(clock.delay, 5)
            nursery.start_soon(clock.delay, 6)
            await wait_all_tasks_blocked()
            interrupting(monkeypatch, "pop", lambda: control.jump(1))
        assert trio.current_time() == 6

    control = jumping()
    trio.run(main, clock=control)


@pytest.mark.parametrize("when", [0.0, 5.0])
def test_a_finalizer_sets_a_timer_as_a_sleeper_is_woken(
    when: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with open_clock() as clock, clock.open_timers() as timers:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(clock.delay, 5)
                await wait_all_tasks_blocked()
                interrupting(
                    monkeypatch,
                    "pop",
                    lambda: timers.call_at(when, log.append, 1),
                )
        assert log == [1]
        assert trio.current_time() == 5

    log: list[int] = []
    trio.run(main, clock=jumping())


def test_a_finalizer_cancels_a_sleeper_as_it_is_woken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        async with InactiveClock().activate() as (clock, driver):
            with trio.CancelScope() as scope:
                interrupting(monkeypatch, "pop", scope.cancel)
                await clock.delay(5)
            statistics = driver.statistics()
            assert statistics.pending == 0
            assert statistics.registered == statistics.fired + statistics.cancelled

    trio.run(main, clock=jumping())


def test_a_finalizer_cancels_a_timer_as_it_fires(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    control = ClockControl()
    with control.to_clock().timer_group() as timers:
        timer = timers.call_later(1, pytest.fail)
        interrupting(monkeypatch, "pop", timer.cancel)
        control.advance(1)
        assert not timer.pending


def test_a_finalizer_sets_a_timer_as_another_has_fired(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def note() -> None:
        log.append(clock.instant())

    def fire() -> None:
        note()
        interrupting(monkeypatch, "first", lambda: timers.call_later(1, note))

    log: list[float] = []
    control = ClockControl()
    clock = control.to_clock()
    with clock.timer_group() as timers:
        timers.call_later(1, fire)
        timers.call_later(5, note)
        control.advance(5)
    assert log == [1, 2, 5]


def test_a_finalizer_resets_a_ticker_as_it_is_woken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        async with open_clock() as clock:
            timer = clock.periodic(5)
            interrupting(monkeypatch, "pop", timer.reset)
            assert await timer.__anext__() == 10

    trio.run(main, clock=jumping())


@pytest.mark.parametrize("where", ["reschedule", "TaskWaiter._fire"])
@pytest.mark.parametrize("jumps", [True, False])
def test_a_finalizer_resets_a_ticker_in_the_midst_of_it(
    where: str, jumps: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with InactiveClock().activate() as (clock, driver):
            timer = clock.periodic(5)
            name = f"trio_clockrt._waiters.{where}"
            original = pkgutil.resolve_name(name.replace("ters.", "ters:"))

            def resetting(*args: Any) -> Any:
                monkeypatch.undo()
                timer.reset()
                return original(*args)

            monkeypatch.setattr(name, resetting)
            ticks = []
            for _ in range(3):
                tick = await timer.__anext__()
                assert clock.instant() == tick
                ticks.append(tick)
            # It has come, or has been reset; but it is never early.
            assert ticks in ([5, 10, 15], [10, 15, 20])
            assert driver.statistics().pending == 0

    trio.run(main, clock=jumping() if jumps else MockClock(autojump_threshold=0))


# --- many at once ---


@pytest.mark.parametrize("many", [1, 3, 64, 65, 2000])
@pytest.mark.parametrize("callbacks", [0, 2])
def test_many_wait_for_the_same_instants(many: int, callbacks: int) -> None:
    async def wait(clock: Clock, instant: float) -> None:
        await clock.delay_until(instant)
        assert trio.current_time() == instant
        log.append(instant)

    async def main() -> None:
        async with InactiveClock().activate() as (clock, driver):
            async with clock.open_timers() as timers, trio.open_nursery() as nursery:
                for _ in range(many):
                    for instant in instants:
                        nursery.start_soon(wait, clock, instant)
                    await wait_all_tasks_blocked()
                    for _ in range(callbacks):
                        timers.call_at(2.0, log.append, 2.0)
            statistics = driver.statistics()
            assert statistics.fired == statistics.registered == len(log)

    log: list[float] = []
    instants = [1.0, 2.0, 3.0, 3.0 + 1e-9]
    trio.run(main, clock=jumping())
    assert log == sorted(instants * many + [2.0] * callbacks * many)


@pytest.mark.parametrize("rate", [0.0, 1000.0])
def test_a_leap_over_many_sleepers(rate: float) -> None:
    async def main() -> None:
        async with open_clock() as clock, trio.open_nursery() as nursery:
            for n in range(1000):
                nursery.start_soon(clock.delay, 1 + n / 1000)
            await wait_all_tasks_blocked()
            control.jump(2)

    control = ClockControl(rate=rate)
    trio.run(main, clock=control)
    assert control.current_time() >= 2


# --- far away ---


def test_far_away() -> None:
    control = ClockControl()
    control.advance(1e300)
    assert control.current_time() == pytest.approx(1e300)
    control.jump(1e300)

    async def main() -> None:
        await control.run_for(1)

    trio.run(main, clock=control)
    assert control.current_time() == pytest.approx(2e300)


@pytest.mark.parametrize("others", [0, 1])
def test_a_sleeper_is_cancelled_just_before_it_is_woken(
    others: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        def wake_sleepers(self: Timers, now: float) -> bool:
            monkeypatch.undo()
            scope.cancel()
            return self.wake_sleepers(now)

        async with open_clock() as clock, trio.open_nursery() as nursery:
            for _ in range(others):
                nursery.start_soon(clock.delay, 3600)
            with trio.CancelScope() as scope:
                monkeypatch.setattr(Timers, "wake_sleepers", wake_sleepers)
                await clock.delay(5)
            assert scope.cancelled_caught
            assert clock.instant() == 5
            control.autojump_threshold = inf
            await wait_all_tasks_blocked()
            assert len(nursery.child_tasks) == others
            nursery.cancel_scope.cancel()

    control = jumping()
    trio.run(main, clock=control)


def test_it_is_moved_as_a_task_begins_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a signal handler, when the waiter is registered, but does not wait yet."""

    async def main() -> None:
        def add(self: Timers, waiter: Any) -> None:
            monkeypatch.undo()
            self.add(waiter)
            control.jump(5)

        clock = control.to_clock()
        monkeypatch.setattr(Timers, "add", add)
        await clock.delay(5)
        with trio.CancelScope() as scope:
            scope.cancel()
            monkeypatch.setattr(Timers, "add", add)
            await clock.delay(5)
        assert clock.instant() == 10

    control = ClockControl()
    trio.run(main)


def test_the_last_timer_is_cancelled_as_its_nursery_begins_to_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        async def sleep(abort: Any) -> None:
            monkeypatch.undo()
            timer.cancel()
            await trio.lowlevel.wait_task_rescheduled(abort)

        async with open_clock() as clock, clock.open_timers() as timers:
            timer = timers.call_later(1, int)
            name = "trio_clockrt._timer_nursery.wait_task_rescheduled"
            monkeypatch.setattr(name, sleep)

    trio.run(main, clock=ClockControl())


def test_a_host_moves_a_clock_that_a_task_waits_for() -> None:
    """Between two ticks of a guest run, where no task is the current one."""
    todo: list[Callable[[], object]] = []
    arrived = threading.Semaphore(0)
    results: list[outcome.Outcome[None]] = []

    def run_sync_soon(fn: Callable[[], object]) -> None:
        todo.append(fn)
        arrived.release()

    async def main() -> None:
        async with open_clock() as clock:
            waiting.append(clock)
            await control.to_clock().delay(5)

    def tick_until(condition: Callable[[], object]) -> None:
        while not condition():
            arrived.acquire()
            todo.pop(0)()

    waiting: list[Clock] = []
    control = ClockControl()
    trio.lowlevel.start_guest_run(
        main,
        run_sync_soon_threadsafe=run_sync_soon,
        done_callback=results.append,
    )
    tick_until(lambda: waiting)
    delay = waiting[0].delay(5)
    with pytest.raises(RuntimeError, match="only a Trio task can wait"):
        delay.send(None)
    control.jump(5)
    tick_until(lambda: results)
    results[0].unwrap()
    assert control.current_time() == 5


def test_a_control_whose_jump_has_been_taken_away() -> None:
    class TakesAway(trio.abc.Instrument):
        def before_io_wait(self, timeout: float) -> None:
            if not noted and timeout == 0:
                noted.append(True)
                scope.deadline = inf
                trio.lowlevel.current_trio_token().run_sync_soon(lambda: None)

    async def main() -> None:
        await trio.lowlevel.checkpoint()
        trio.lowlevel.add_instrument(TakesAway())
        with scope:
            with control.fail_after_real(0.01):
                await trio.sleep_forever()

    noted: list[bool] = []
    scope = trio.CancelScope(deadline=1000)
    control = jumping()
    with pytest.raises(trio.TooSlowError):
        trio.run(main, clock=control)
    assert control.current_time() == 0


def test_a_finalizer_cancels_run_for_as_it_is_being_woken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It waits for a worker thread, and wakes up as that comes back."""

    def work() -> None:
        release.wait()

    async def waiting(abort: Callable[[object], trio.lowlevel.Abort]) -> None:
        release.set()
        await trio.lowlevel.wait_task_rescheduled(abort)

    def rescheduling(task: trio.lowlevel.Task) -> None:
        monkeypatch.undo()
        scope.cancel()
        trio.lowlevel.reschedule(task)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, work)
            with scope:
                await control.run_for(1)
        assert scope.cancelled_caught
        assert trio.current_time() == 0

    release = threading.Event()
    scope = trio.CancelScope()
    control = ClockControl()
    monkeypatch.setattr(_idleness, "wait_task_rescheduled", waiting)
    monkeypatch.setattr(_idleness, "reschedule", rescheduling)
    trio.run(main, clock=control)

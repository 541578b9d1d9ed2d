"""Shared clocks that end, and timers that change, just as something else goes on."""

from __future__ import annotations

import re
import sys
from functools import partial
from math import inf
from typing import Any

import pytest
import trio
import trio.testing
from interrupted import Interrupted
from shared_clock import SharedClock, in_thread
from trio.testing import MockClock

from trio_clockrt import ClockGone, InactiveClock, Timer, TimerNursery, _inbox
from trio_clockrt._end_of_run import _EndOfRun
from trio_clockrt._pending import TASKS
from trio_clockrt._queue import Queue
from trio_clockrt._timers import Timers
from trio_clockrt.testing import ClockControl

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup, ExceptionGroup


# --- the end ---


@pytest.mark.parametrize("moment", ["before", "after"])
def test_it_ends_as_a_thread_begins_to_wait(moment: str) -> None:
    clock, driver = InactiveClock.new_shared().activate_manual()
    clock._timers.tasks = tasks = Interrupted()
    where = tasks.before_setting if moment == "before" else tasks.after_setting
    where.append(partial(clock._timers.life.end, "by now"))
    with pytest.raises(ClockGone):
        in_thread(partial(clock.delay_blocking, inf))
    assert not tasks
    assert driver.next_deadline is None


@pytest.mark.parametrize("moment", ["before", "after"])
def test_it_ends_as_a_task_begins_to_wait_for_that(moment: str) -> None:
    clock, driver = InactiveClock.new_shared().activate_manual()
    drivers = [driver]
    waiting = driver.wait_gone()
    del driver
    clock._timers.life.listeners = watchers = Interrupted()
    where = watchers.before_setting if moment == "before" else watchers.after_setting
    where.append(drivers.clear)

    async def main() -> None:
        await waiting
        assert not drivers

    trio.run(main)
    assert not watchers


def test_another_thread_claims_what_is_just_firing() -> None:
    """By then it has been looked up, and not been claimed."""

    async def main() -> None:
        with trio.CancelScope() as scope:
            # (The first look is at what its deadline is.)
            tasks.after_getting += [scope.cancel, int]
            trio.lowlevel.current_trio_token().run_sync_soon(control.jump, 1)
            await clock.delay(1)
        assert scope.cancelled_caught
        assert driver.statistics().fired == 0

    control = ClockControl()
    clock, driver = InactiveClock.from_control(control).activate_manual()
    timers = clock._timers
    timers.tasks = timers.groups[TASKS] = tasks = Interrupted()
    trio.run(main)


async def test_a_task_stops_to_wait_just_after_the_end() -> None:
    """Its run has not been told yet."""
    clock, driver = InactiveClock.new_shared().activate_manual()
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(driver.wait_gone)
            await trio.testing.wait_all_tasks_blocked()
            in_thread(partial(clock._timers.life.end, "by a thread"))
            assert not clock.alive
            scope.cancel()
    await trio.testing.wait_all_tasks_blocked()


async def test_a_nursery_ends_just_after_the_clock() -> None:
    """By the time that the run is told, there is nothing to tell the nursery."""
    clock, driver = InactiveClock.new_shared().activate_manual()
    with pytest.raises(ExceptionGroup) as caught:
        async with clock.open_timers():
            in_thread(partial(clock._timers.life.end, "by a thread"))
            assert driver.next_deadline is None
            raise ZeroDivisionError
    assert caught.group_contains(ZeroDivisionError)
    assert not caught.group_contains(ClockGone)
    await trio.testing.wait_all_tasks_blocked()


def test_it_ends_as_its_queue_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    def file(*args: Any) -> Any:
        drivers.clear()
        return original(*args)

    original = Timers.file
    clock, driver = InactiveClock.new_shared().activate_manual()
    drivers = [driver]
    del driver
    with clock.timer_group() as timers:
        monkeypatch.setattr(Timers, "file", file)
        timer = timers.call_later(0, int)
        assert not clock.alive
        assert not timer.pending
        with pytest.raises(ClockGone):
            timer.reset(1)


def test_a_message_after_the_end(shared: SharedClock) -> None:
    timers = shared.clock._timers
    shared.end()
    shared.home.do(timers.read)
    with pytest.raises(ClockGone):
        timers.add(Anything())  # type: ignore[arg-type]


class Anything:
    """Waits for a timer, or whatever."""

    _seq = 0


def test_a_run_ends_as_a_clock_is_collected() -> None:
    class Fake:
        @property
        def life(self) -> Fake:
            return self

        def forget_run(self, run: object) -> None:
            forgotten.append(run)
            fakes.clear()

    async def main() -> None:
        end = _EndOfRun(trio.lowlevel.current_trio_token())
        for fake in fakes:
            end.note(fake)  # type: ignore[arg-type]
        del fake
        end.after_run()
        assert end._clocks == {}

    forgotten: list[object] = []
    fakes = [Fake(), Fake()]
    trio.run(main)
    assert len(forgotten) == 1


def test_it_is_in_a_fork() -> None:
    # As there, but where coverage is measured; for the rest see test_shared_end.py.
    clock, driver = InactiveClock.new_shared().activate_manual()
    clock._timers.life.forked()
    with pytest.raises(ClockGone, match="fork"):
        clock.delay_blocking(1)
    assert driver.next_deadline is None


def test_a_group_ends_as_its_timer_is_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    def check(*_: object) -> None:
        monkeypatch.undo()
        in_thread(lambda: block.__exit__(None, None, None))

    clock, driver = InactiveClock.new_shared().activate_manual()
    block = clock.timer_group()
    timer = block.__enter__().call_later(60, int)
    monkeypatch.setattr(Timers, "check", check)
    with pytest.raises(RuntimeError, match="closed"):
        timer.reset(1)
    assert not timer.pending
    assert driver.next_deadline is None


def test_messages_that_nobody_reads() -> None:
    clock, driver = InactiveClock.new_shared().activate_manual()

    def many() -> None:
        with clock.timer_group() as timers:
            for _ in range(2000):
                timers.call_later(60, int)

    in_thread(many)
    assert driver.next_deadline is None
    assert driver.statistics().cancelled == 2000


def test_a_defect_as_a_message_is_read() -> None:
    async def main() -> None:
        async with InactiveClock.new_shared().activate() as (clock, driver):
            async with clock.open_timers() as timers:
                await trio.testing.wait_all_tasks_blocked()
                driver._timers._turn = None  # type: ignore[assignment,method-assign]
                in_thread(lambda: timers.call_later(0, int))
                await trio.sleep_forever()

    with pytest.raises(TypeError, match="NoneType"):
        trio.run(main)


# --- others who go on without an end ---


def test_the_next_deadline_while_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def first(self: Queue) -> Any:
        in_thread(lambda: timers.call_at(inf, int))
        asked.append(None)
        assert len(asked) < 100
        return original(self)

    original, asked = Queue.first, list[None]()
    clock, driver = InactiveClock.new_shared().activate_manual()
    with clock.timer_group() as timers:
        in_thread(lambda: timers.call_at(1e9, int))
        monkeypatch.setattr(Queue, "first", first)
        assert driver.next_deadline == 1e9
        monkeypatch.undo()
        assert driver.statistics().pending == 1 + len(asked)


def test_a_timer_while_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def push(*args: Any) -> None:
        original(*args)
        if left and not fired:
            left.pop()
            in_thread(lambda: timers.call_later(3600, int))

    original = Queue.push
    timers: TimerNursery
    left, fired = [None] * 500, list[str]()
    time = MockClock()

    async def main() -> None:
        nonlocal timers
        async with InactiveClock.new_shared().activate() as (clock, _):
            async with clock.open_timers(on_exit="cancel") as timers:
                timers.call_later(60, int)
                await trio.testing.wait_all_tasks_blocked()
                monkeypatch.setattr(Queue, "push", push)
                in_thread(lambda: timers.call_later(1, fired.append, "fired"))
                for _ in range(20):
                    await trio.lowlevel.checkpoint()
                time.jump(1)
                for _ in range(20):
                    await trio.lowlevel.checkpoint()
                assert fired
                assert left

    trio.run(main, clock=time)


@pytest.mark.parametrize("many", [1000, 3000])
def test_whoever_says_too_much_pauses(
    many: int, shared: SharedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def set_many() -> None:
        for n in range(many):
            timers.call_at(60 + n, int)

    timers, pauses = open_timers(shared), list[float]()
    monkeypatch.setattr(_inbox, "sleep", pauses.append)
    shared.home.do(set_many)
    assert pauses == []
    shared.home.do(lambda: in_thread(set_many))  # nobody reads it meanwhile
    assert len(pauses) == max(0, many - 2048)
    assert shared.pending() == 2 * many


def open_timers(shared: SharedClock) -> TimerNursery:
    async def use() -> None:
        async with shared.clock.open_timers() as timers:
            opened.append(timers)
            await trio.sleep_forever()

    opened: list[TimerNursery] = []
    shared.start("home", use)
    return opened[0]


# --- reports ---


def test_run_until_idle() -> None:
    control = ClockControl()
    timers_made: list[Timer] = []

    async def main() -> None:
        async with InactiveClock.new_shared().activate() as (clock, _):
            async with clock.open_timers(on_exit="cancel") as timers:
                timers_made.append(timers.call_every(1, int))
                timers_made.append(timers.call_later(60, int))
                await control.run_until_idle()
                assert clock.instant() == 60

    trio.run(main, clock=control)


def test_a_report_of_its_timers() -> None:
    async def main() -> None:
        async with InactiveClock.new_shared().activate() as (clock, _):
            async with clock.open_timers() as timers:
                timers.call_later(inf, int)
                await trio.sleep_forever()

    control = ClockControl(autojump_threshold=0, detect_deadlocks=True)
    with pytest.raises(BaseExceptionGroup) as caught:
        trio.run(main, clock=control)
    [error] = caught.value.exceptions
    assert re.search(r"Timer for int.*made at .*bad_moments", str(error))

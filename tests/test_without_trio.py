"""Clocks that no Trio task drives: timers without Trio, and waiting in Trio."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from math import inf
from typing import Any

import pytest
import trio
import trio.testing
from hand_moved_time import HandMovedTime
from trio.lowlevel import Task, TrioToken

from trio_clockrt import (
    Clock,
    ClockDriver,
    ClockGone,
    InactiveClock,
    TimerGroup,
)
from trio_clockrt._time_source import SystemSource
from trio_clockrt._timers import Timers
from trio_clockrt._waiters import who_waits

if sys.version_info < (3, 11):
    from exceptiongroup import ExceptionGroup


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> HandMovedTime:
    time = HandMovedTime(1000.0)
    for name in "instant", "now":
        monkeypatch.setattr(SystemSource, name, staticmethod(time))
    return time


# --- driving it ---


def test_timers_in_order(time: HandMovedTime) -> None:
    calls: list[str] = []
    clock, driver = InactiveClock().activate_manual()
    with clock.timer_group() as timers:
        assert driver.advance_timers() is None
        timers.call_later(2, calls.append, "two")
        timers.call_at(1001, calls.append, "one")
        timers.call_later(2, calls.append, "two again")
        ticking = timers.call_every(1.5, calls.append, "tick")
        assert driver.advance_timers() == driver.next_deadline == 1001
        assert calls == []
        time.now += 2
        assert driver.advance_timers() == 1003
        assert calls == ["one", "tick", "two", "two again"]
        ticking.cancel()
        assert driver.advance_timers() is None
    assert driver.statistics().lateness_max == 1.0


def test_everything_that_is_due_fires_at_once(time: HandMovedTime) -> None:
    calls: list[int] = []
    clock, driver = InactiveClock().activate_manual()
    with clock.timer_group() as timers:
        for n in range(20_000):
            timers.call_later(n / 1e4, calls.append, n)
        time.now += 2
        assert driver.advance_timers() is None
    assert calls == list(range(20_000))


def test_what_a_callback_registers_for_now_is_for_the_next_time(
    time: HandMovedTime,
) -> None:
    calls: list[int] = []

    def again() -> None:
        calls.append(len(calls))
        timers.call_later(0, again)

    clock, driver = InactiveClock().activate_manual()
    with clock.timer_group() as timers:
        timers.call_later(0, again)
        for n in range(3):
            assert driver.advance_timers() == time.now
            assert len(calls) == n + 1


def test_now_must_not_be_ahead(time: HandMovedTime) -> None:
    calls: list[int] = []
    clock, driver = InactiveClock().activate_manual()
    with clock.timer_group() as timers:
        timers.call_later(1, calls.append, 1)
        timers.call_later(2, calls.append, 2)
        time.now += 5
        with pytest.raises(ValueError, match=r"at 1005.*is 1006"):
            driver.advance_timers(1006)
        assert driver.advance_timers(1001) == 1002
        assert calls == [1]


def test_advancing_inside_a_callback_is_refused() -> None:
    clock, driver = InactiveClock().activate_manual()
    with clock.timer_group() as timers:
        timers.call_later(0, driver.advance_timers)
        with pytest.raises(RuntimeError, match="inside a timer's callback"):
            driver.advance_timers()


# --- the group ---


def test_pending_timers_end_with_the_block(time: HandMovedTime) -> None:
    clock, driver = InactiveClock().activate_manual()
    with pytest.raises(KeyError):
        with clock.timer_group() as timers:
            timer = timers.call_later(1, print, "never")
            assert repr(timers) == "<TimerGroup, 1 timers pending>"
            raise KeyError
    assert not timer.pending
    assert repr(timers) == "<TimerGroup, 0 timers pending, closed>"
    time.now += 2
    assert driver.advance_timers() is None
    for use in (
        lambda: timers.call_later(1, print),
        lambda: timers.call_at(1, print),
        lambda: timers.call_every(1, print),
        lambda: timer.reset(1),
    ):
        with pytest.raises(RuntimeError, match="TimerGroup is closed"):
            use()
    assert timer.cancel() is False
    timers.cancel_timers()


def test_groups_are_independent(time: HandMovedTime) -> None:
    calls: list[int] = []
    clock, driver = InactiveClock().activate_manual()
    with clock.timer_group() as one:
        with clock.timer_group() as two:
            one.call_later(1, calls.append, 1)
            two.call_later(1, calls.append, 2)
            two.cancel_timers()
            two.call_later(2, calls.append, 3)
        time.now += 5
        driver.advance_timers()
    assert calls == [1]


def test_a_callback_closes_its_own_group(time: HandMovedTime) -> None:
    calls: list[int] = []
    clock, driver = InactiveClock().activate_manual()
    block = clock.timer_group()
    timers = block.__enter__()
    timers.call_later(0, block.__exit__, None, None, None)
    timers.call_later(0, calls.append, 1)
    assert driver.advance_timers() is None
    assert calls == []


def test_blocks_used_as_something_else() -> None:
    clock, _driver = InactiveClock().activate_manual()
    block: Any = clock.timer_group()
    with pytest.raises(AttributeError, match=r"`with clock.timer_group\(\) as timers"):
        block.call_later(1, print)
    with block:
        with pytest.raises(RuntimeError, match="entered already"):
            block.__enter__()

    async def enter() -> None:
        async with block:
            raise AssertionError

    with pytest.raises(TypeError, match="`with`, not `async with`"):
        enter().send(None)


async def test_a_clock_that_trio_drives_has_no_groups() -> None:
    async with InactiveClock().activate() as (clock, _driver):
        with pytest.raises(RuntimeError, match=r"open_timers\(\)"):
            clock.timer_group()


# --- errors of callbacks ---


def fail(error: BaseException) -> None:
    raise error


def test_one_error_comes_out_bare_after_everything_due_has_fired() -> None:
    calls: list[int] = []
    clock, driver = InactiveClock().activate_manual()
    with clock.timer_group() as timers:
        error = KeyError("bare")
        timers.call_later(0, calls.append, 1)
        timers.call_later(0, fail, error)
        timers.call_later(0, calls.append, 2)
        with pytest.raises(KeyError) as caught:
            driver.advance_timers()
        assert caught.value is error
        assert calls == [1, 2]
        assert driver.advance_timers() is None  # it is raised once


def test_several_errors_come_out_as_a_group() -> None:
    calls: list[int] = []
    clock, driver = InactiveClock().activate_manual()
    with clock.timer_group() as one, clock.timer_group() as two:
        errors = [KeyError(), ValueError()]
        one.call_later(0, fail, errors[0])
        two.call_later(0, fail, errors[1])
        one.call_later(0, calls.append, 1)
        with pytest.raises(ExceptionGroup) as caught:
            driver.advance_timers()
        assert list(caught.value.exceptions) == errors
        assert calls == [1]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
def test_errors_that_are_no_exceptions(error: BaseException) -> None:
    clock, driver = InactiveClock().activate_manual()
    with clock.timer_group() as timers:
        timers.call_later(0, fail, error)
        with pytest.raises(type(error)) as caught:
            driver.advance_timers()
        assert caught.value is error


def test_an_async_callback_shows_later() -> None:
    async def async_fn() -> None:
        raise AssertionError

    clock, driver = InactiveClock().activate_manual()
    with clock.timer_group() as timers:
        timers.call_later(0, lambda: async_fn())
        with pytest.raises(TypeError, match="is never awaited"):
            driver.advance_timers()


def test_a_periodic_timer_goes_on_after_an_error(time: HandMovedTime) -> None:
    clock, driver = InactiveClock().activate_manual()
    with clock.timer_group() as timers:
        timers.call_every(1, fail, KeyError())
        for _ in range(3):
            time.now += 1
            with pytest.raises(KeyError):
                driver.advance_timers()
        assert driver.next_deadline == 1004


def test_an_error_with_the_last_timer_comes_before_the_end() -> None:
    clock, driver = InactiveClock().activate_manual()
    block = clock.timer_group()
    timers = block.__enter__()

    def close_and_fail() -> None:
        clock.close()
        block.__exit__(None, None, None)
        raise KeyError

    timers.call_later(0, close_and_fail)
    with pytest.raises(KeyError):
        driver.advance_timers()
    with pytest.raises(ClockGone):
        driver.advance_timers()


def test_errors_make_no_cyclic_garbage() -> None:
    clock, driver = InactiveClock().activate_manual()
    gc.collect()
    gc.disable()
    try:
        with clock.timer_group() as timers:
            for how_many in (1, 2):
                for _ in range(how_many):
                    timers.call_later(0, lambda: "".index("x"))
                with suppress(ValueError, ExceptionGroup):
                    driver.advance_timers()
        del timers
        assert gc.collect() == 0
    finally:
        gc.enable()


# --- life ---


def test_a_recipe_makes_one_clock_only() -> None:
    recipe = InactiveClock()
    _clock, _driver = recipe.activate_manual()
    for again in (recipe.activate_manual, recipe.activate):
        with pytest.raises(RuntimeError, match=r"clone\(\)"):
            again()
    recipe.clone().activate_manual()


def test_without_owners_and_timers_it_is_gone(time: HandMovedTime) -> None:
    calls: list[int] = []
    clock, driver = InactiveClock().activate_manual()
    with clock.timer_group() as timers:
        clock.close()
        timers.call_later(1, calls.append, 1)
        assert driver.advance_timers() == 1001
        time.now += 1
        alive = [clock.alive]
        with pytest.raises(ClockGone, match="had been closed or dropped"):
            driver.advance_timers()
        assert [*alive, clock.alive] == [True, False]
        assert calls == [1]
        with pytest.raises(ClockGone):
            timers.call_later(1, print)
    assert repr(driver) == "<ClockDriver system, 0 timers, gone>"
    assert clock.instant() == 1001


def test_dropping_the_clock(time: HandMovedTime) -> None:
    clock, driver = InactiveClock().activate_manual()
    assert driver.advance_timers() is None
    del clock
    with pytest.raises(ClockGone):
        driver.advance_timers()


def test_dropping_the_driver_ends_the_clock(time: HandMovedTime) -> None:
    calls: list[int] = []
    clock, driver = InactiveClock().activate_manual()
    with clock.timer_group() as timers:
        timer = timers.call_later(1, calls.append, 1)
        alive = [clock.alive]
        del driver
        assert [*alive, clock.alive] == [True, False]
        assert not timer.pending
        with pytest.raises(ClockGone, match="the driver that came with it has"):
            timers.call_later(1, print)
        with pytest.raises(ClockGone):
            timer.reset(1)
    with pytest.raises(ClockGone):
        clock.timer_group()


def test_dropping_the_driver_in_another_thread() -> None:
    clock, driver = InactiveClock().activate_manual()
    drivers = [driver]
    del driver
    thread = threading.Thread(target=drivers.clear)
    thread.start()
    thread.join()
    assert not clock.alive
    with pytest.raises(ClockGone, match="the driver that came with it has"):
        clock.timer_group()


@pytest.mark.parametrize("how", ["register", "reset", "cancel"])
def test_a_finalizer_drops_the_driver_in_the_middle_of_a_change(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, driver = InactiveClock().activate_manual()
    drivers = [driver]
    del driver
    with clock.timer_group() as timers:
        first = timers.call_later(1000.0, int)
        second = timers.call_later(2000.0, int)

        # The garbage collector may do that at any allocation.
        def dropping(method: Callable[..., object]) -> Callable[..., object]:
            def wrapper(*args: object) -> object:
                drivers.clear()
                return method(*args)

            return wrapper

        for name in ("file", "killed"):
            original = getattr(Timers, name)
            monkeypatch.setattr(Timers, name, dropping(original))
        if how == "register":
            assert not timers.call_at(3000.0, int).pending
        elif how == "reset":
            first.reset(500.0)
        else:
            first.cancel()
        assert drivers == []
        assert not clock.alive
        assert not first.pending
        assert not second.pending
        assert "0 timers" in repr(clock)


@pytest.mark.parametrize("how", ["cancel", "leave the block"])
def test_ctrl_c_puts_nothing_off(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*args: Any) -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    clock, driver = InactiveClock().activate_manual()
    with pytest.raises(KeyboardInterrupt):
        with clock.timer_group() as timers:
            timer = timers.call_later(3600, int)
            other = timers.call_later(3600, int)
            monkeypatch.setattr(Timers, "killed", killed)
            if how == "cancel":
                timer.cancel()
    assert not timer.pending
    assert not other.pending
    assert driver.next_deadline is None


def test_it_is_freed_without_the_garbage_collector() -> None:
    gc.disable()
    try:
        clock, driver = InactiveClock().activate_manual()
        with clock.timer_group() as timers:
            timer = timers.call_later(0, int)
            driver.advance_timers()
        references: list[weakref.ref[object]] = [
            weakref.ref(thing) for thing in (clock, driver, timers, timer)
        ]
        references.append(weakref.ref(clock._timers))
        del clock, driver, timers, timer
        assert [reference() for reference in references] == [None] * 5
    finally:
        gc.enable()


def test_timers_belong_to_their_thread() -> None:
    finished: list[bool] = []

    def elsewhere(clock: Clock, driver: ClockDriver, timers: TimerGroup) -> None:
        for use in (
            clock.timer_group,
            lambda: timers.call_later(1, print),
            lambda: timer.reset(1),
            lambda: timer.cancel(),
            driver.advance_timers,
        ):
            with pytest.raises(RuntimeError, match=r"new_shared\(\)"):
                use()
        assert clock.clone().instant() > 0
        finished.append(True)

    clock, driver = InactiveClock().activate_manual()
    with clock.timer_group() as timers:
        timer = timers.call_later(60, print)
        due = timers.call_later(0, print)
        thread = threading.Thread(target=elsewhere, args=(clock, driver, timers))
        thread.start()
        thread.join()
        assert timer.pending
        assert due.pending
    assert finished


def test_only_tasks_can_wait() -> None:
    clock, driver = InactiveClock().activate_manual()
    waits: list[Any] = [
        clock.delay(1),
        clock.delay_until(clock.instant() + 1),
        clock.periodic(1).__anext__(),
        clock.open_timers().__aenter__(),
        driver.wait_gone(),
    ]
    for wait in waits:
        with pytest.raises(RuntimeError, match=r"only a Trio task.*timer_group\(\)"):
            wait.send(None)
    with pytest.raises(RuntimeError, match="only a Trio task"):
        with clock.move_on_after(1):
            raise AssertionError
    assert driver.statistics().registered == 0
    assert driver.advance_timers() is None


# --- in Trio, all the same ---


@contextmanager
def manual() -> Generator[tuple[Clock, ClockDriver]]:
    clock, driver = InactiveClock().activate_manual()
    with clock:
        yield clock, driver


async def test_tasks_can_wait_for_it(time: HandMovedTime) -> None:
    woken: list[str] = []

    async def delay(clock: Clock) -> None:
        await clock.delay(1)
        woken.append("delay")

    async def tick(clock: Clock) -> None:
        ticks = clock.periodic(1)
        assert [await anext(ticks) for _ in range(3)] == [1001, 1002, 1003]
        woken.append("ticks")

    async def timers(clock: Clock) -> None:
        async with clock.open_timers() as timers:
            timers.call_later(2, woken.append, "call")
            timers.start_later(2, delay, clock)

    with manual() as (clock, driver):
        async with trio.open_nursery() as nursery:
            for use in (delay, tick, timers):
                nursery.start_soon(use, clock)
            for _ in range(3):
                await trio.testing.wait_all_tasks_blocked()
                time.now += 1
                driver.advance_timers()
    assert woken[:2] == ["delay", "call"]
    assert sorted(woken[2:]) == ["delay", "ticks"]


async def test_timeouts_on_it(time: HandMovedTime) -> None:
    async def move_on_after(clock: Clock) -> None:
        with clock.move_on_after(1) as scope:
            await trio.sleep_forever()
        assert scope.cancelled_caught
        assert scope.deadline == inf  # which would be on another scale

    async def move_on_at(clock: Clock) -> None:
        with clock.move_on_at(1001, shield=True) as scope:
            assert scope.shield
            await trio.sleep_forever()
        assert scope.cancelled_caught

    async def fail_after(clock: Clock) -> None:
        with pytest.raises(trio.TooSlowError) as caught:
            with clock.fail_after(1):
                await trio.sleep_forever()
        assert caught.value.__suppress_context__

    async def fail_at(clock: Clock) -> None:
        with pytest.raises(trio.TooSlowError):
            with clock.fail_at(1001):
                await trio.sleep_forever()

    async def in_time(clock: Clock) -> None:
        with clock.fail_after(1), clock.move_on_after(1) as scope:
            await trio.lowlevel.checkpoint()
        assert not scope.cancelled_caught

    async def from_outside(clock: Clock) -> None:
        with trio.CancelScope() as outer:
            with clock.fail_after(60):
                outer.cancel()
                await trio.sleep_forever()
        assert outer.cancelled_caught

    async def error(clock: Clock) -> None:
        with pytest.raises(KeyError):
            with clock.fail_after(60):
                raise KeyError

    with manual() as (clock, driver):
        async with trio.open_nursery() as nursery:
            for use in (
                move_on_after,
                move_on_at,
                fail_after,
                fail_at,
                in_time,
                from_outside,
                error,
            ):
                nursery.start_soon(use, clock)
            await trio.testing.wait_all_tasks_blocked()
            time.now += 1
            driver.advance_timers()
        assert driver.statistics().pending == 0


async def test_timeouts_count_from_when_they_are_entered(time: HandMovedTime) -> None:
    with manual() as (clock, driver):
        block = clock.move_on_after(10)
        time.now += 100
        with block as scope:
            assert driver.next_deadline == 1110
            time.now += 10
            driver.advance_timers()
            await trio.sleep_forever()
        assert scope.cancelled_caught
        with pytest.raises(RuntimeError, match="entered already"):
            block.__enter__()


async def test_a_timeout_whose_clock_goes() -> None:
    async def wait(clock: Clock) -> None:
        block = clock.move_on_after(inf)
        with pytest.raises(ClockGone) as caught:
            with block:
                await trio.sleep_forever()
        with pytest.raises(ClockGone):
            clock.move_on_after(1)
        assert caught.value.__suppress_context__

    async def does_not_notice(clock: Clock) -> None:
        with clock.fail_after(60):
            with trio.CancelScope(shield=True):
                await dropped.wait()

    dropped = trio.Event()
    clock, driver = InactiveClock().activate_manual()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, clock)
        nursery.start_soon(does_not_notice, clock)
        await trio.testing.wait_all_tasks_blocked()
        del driver
        dropped.set()


async def test_whoever_waits_when_the_driver_is_dropped() -> None:
    clock, driver = InactiveClock().activate_manual()

    async def wait() -> None:
        with pytest.raises(ClockGone):
            await clock.delay(60)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        del driver


@pytest.mark.parametrize("in_another_thread", [False, True])
async def test_whoever_waits_when_the_driver_is_dropped_anywhere(
    in_another_thread: bool,
) -> None:
    told: list[str] = []
    clock, driver = InactiveClock().activate_manual()

    async def delay() -> None:
        with pytest.raises(ClockGone, match="the driver that came with it has"):
            await clock.delay(60)
        told.append("delay")

    async def timers() -> None:
        with pytest.raises(ExceptionGroup) as caught:
            async with clock.open_timers() as timers:
                timers.call_later(60, int)
        assert caught.group_contains(ClockGone)
        told.append("timers")

    async def timeout() -> None:
        with pytest.raises(ClockGone):
            with clock.move_on_after(60):
                await trio.sleep_forever()
        told.append("timeout")

    async def cancelled_first() -> None:
        with clock.move_on_after(60) as scope:
            scope.cancel()
            with trio.CancelScope(shield=True):
                await dropped.wait()
            await trio.lowlevel.checkpoint()
        assert scope.cancelled_caught
        told.append("cancelled")

    async def cancelled() -> None:
        with trio.CancelScope() as scope:
            scopes.append(scope)
            await clock.delay(60)
        told.append("cancelled")

    dropped = trio.Event()
    scopes: list[trio.CancelScope] = []
    async with trio.open_nursery() as nursery:
        for wait in (delay, timers, timeout, cancelled_first):
            nursery.start_soon(wait)
        drivers = [driver]
        del driver
        nursery.start_soon(wait_gone, drivers)
        if not in_another_thread:
            nursery.start_soon(cancelled)
        await trio.testing.wait_all_tasks_blocked()
        if in_another_thread:
            await trio.to_thread.run_sync(drivers.clear)
        else:
            drivers.clear()
            scopes[0].cancel()  # before it is told
        dropped.set()
    told.sort()
    both = ["cancelled"] * (1 if in_another_thread else 2)
    assert told == [*both, "delay", "timeout", "timers"]


async def wait_gone(drivers: list[ClockDriver]) -> None:
    await drivers[0].wait_gone()


async def test_the_driver_is_dropped_between_a_check_and_its_waiter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, driver = InactiveClock().activate_manual()
    drivers = [driver]
    del driver

    def dropping(seconds: object, name: str) -> float:
        drivers.clear()
        return 60.0

    monkeypatch.setattr("trio_clockrt._clock.to_seconds", dropping)
    with pytest.raises(ClockGone):
        await clock.delay(60)  # an int, so that it is converted


@pytest.mark.parametrize("what", ["timeout", "wait_gone"])
async def test_the_driver_is_dropped_as_a_task_begins_to_wait(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, driver = InactiveClock().activate_manual()
    drivers = [driver]
    del driver

    def dropping(state: Timers) -> tuple[Task, TrioToken | None]:
        drivers.clear()
        return who_waits(state)

    module = "_timeouts" if what == "timeout" else "_waiters"
    monkeypatch.setattr(f"trio_clockrt.{module}.who_waits", dropping)
    if what == "timeout":
        with pytest.raises(ClockGone):
            with clock.move_on_after(60):
                raise AssertionError
    else:
        await drivers[0].wait_gone()
    assert not clock.alive
    await trio.lowlevel.checkpoint()


async def test_wait_gone(time: HandMovedTime) -> None:
    clock, driver = InactiveClock().activate_manual()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(driver.wait_gone)
        await trio.testing.wait_all_tasks_blocked()
        clock.close()
        with pytest.raises(ClockGone):
            driver.advance_timers()


def test_a_thread_after_the_one_that_made_it() -> None:
    # The operating system gives the number of the one to the other.
    def run(fn: Callable[[], None]) -> None:
        thread = threading.Thread(target=fn)
        thread.start()
        thread.join()

    def make() -> None:
        clock, driver = InactiveClock().activate_manual()
        made.append((clock, driver, threading.get_ident()))

    def use() -> None:
        clock, driver, _ = made[0]
        with pytest.raises(RuntimeError, match="from the thread that activated it"):
            driver.advance_timers()
        with pytest.raises(RuntimeError, match="from the thread that activated it"):
            with clock.timer_group():
                raise AssertionError
        used.append(threading.get_ident())

    made: list[tuple[Clock, ClockDriver, int]] = []
    used: list[int] = []
    run(make)
    run(use)
    assert used

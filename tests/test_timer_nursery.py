"""Timers in a block: callbacks, child tasks, and what leaving the block means."""

from __future__ import annotations

import contextvars
import datetime
import functools
import linecache
import re
import signal
import sys
import weakref
from collections.abc import Callable, Generator
from contextlib import suppress
from math import inf
from operator import methodcaller
from types import FrameType
from typing import Any, Literal, NoReturn

import pytest
import trio
import trio.testing
from trio.testing import MockClock
from undisturbed import undisturbed

from trio_clockrt import (
    Clock,
    ClockGone,
    InactiveClock,
    MissedTick,
    Timer,
    TimerNursery,
    _timer_group,
    _timer_nursery,
    open_clock,
)

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup, ExceptionGroup

# --- callbacks ---


async def test_call_later_and_call_at(autojump_clock: MockClock) -> None:
    calls: list[tuple[float, object]] = []

    def call(*args: object) -> None:
        calls.append((clock.instant(), args))

    async with open_clock() as clock:
        async with clock.open_timers() as timers:
            timers.call_later(3, call, "later", 3)
            timers.call_at(2, call, "at", 2)
            timers.call_later(datetime.timedelta(seconds=1), call)
            timer = timers.call_later(0, call, "at once")
            assert timer.pending
            assert calls == []
        assert calls == [
            (0, ("at once",)),
            (1, ()),
            (2, ("at", 2)),
            (3, ("later", 3)),
        ]


async def test_a_past_instant_is_as_soon_as_possible(mock_clock: MockClock) -> None:
    calls: list[float] = []
    async with open_clock() as clock:
        mock_clock.jump(10)
        async with clock.open_timers() as timers:
            for instant in (5.0, -inf, 10.0):
                assert timers.call_at(instant, calls.append, instant).when == instant
    assert calls == [-inf, 5.0, 10.0]


async def test_the_order_is_deadline_and_then_registration(
    autojump_clock: MockClock,
) -> None:
    calls: list[str] = []
    async with open_clock() as clock, clock.open_timers() as timers:
        for instant in (2.0, 1.0, 2.0005):
            for name in "abc":
                timers.call_at(instant, calls.append, f"{instant}{name}")
        again = timers.call_at(1.0, calls.append, "1.0z")
        timers.call_at(1.0, calls.append, "1.0d")
        again.reset(1.0)  # registered anew, so it is the last one now
    assert calls == [
        *("1.0a", "1.0b", "1.0c", "1.0d", "1.0z"),
        *("2.0a", "2.0b", "2.0c"),
        *("2.0005a", "2.0005b", "2.0005c"),
    ]


async def test_callbacks_and_tasks_share_one_order(autojump_clock: MockClock) -> None:
    order: list[str] = []
    async with open_clock() as clock, clock.open_timers() as timers:

        async def waiter(instant: float) -> None:
            await clock.delay_until(instant)
            order.append(f"task {instant}")

        for instant in (1.0, 2.0, 3.0):
            timers.start_at(0, waiter, instant)
            timers.call_at(instant + 0.5, order.append, f"callback {instant + 0.5}")
    assert order == [
        *("task 1.0", "callback 1.5", "task 2.0"),
        *("callback 2.5", "task 3.0", "callback 3.5"),
    ]


async def test_what_a_callback_registers_for_now_fires_in_the_next_pass(
    mock_clock: MockClock,
) -> None:
    calls: list[str] = []
    async with InactiveClock().activate() as (clock, driver):
        async with clock.open_timers() as timers:

            def first() -> None:
                calls.append("first")
                for name, instant in (("now", 1.0), ("past", -1.0)):
                    timers.call_at(instant, calls.append, name)
                assert driver.next_deadline == 1.0

            timers.call_at(1.0, first)
            timers.call_at(1.0, calls.append, "second")
            mock_clock.jump(1)
            assert driver.advance_timers() == -1.0
            assert calls == ["first", "second"]
            assert driver.advance_timers() is None
            assert calls == ["first", "second", "past", "now"]


async def test_callbacks_that_cancel_and_reset_what_is_due_with_them(
    mock_clock: MockClock,
) -> None:
    calls: list[str] = []
    async with InactiveClock().activate() as (clock, driver):
        async with clock.open_timers() as timers:

            def first() -> None:
                assert cancelled.cancel()
                moved.reset(5)
                itself.reset(2)
                calls.append("first")

            itself = timers.call_at(1, first)
            cancelled = timers.call_at(1, calls.append, "cancelled")
            moved = timers.call_at(1, calls.append, "moved")
            timers.call_at(1, calls.append, "last")
            mock_clock.jump(1)
            assert driver.advance_timers() == 3
            assert calls == ["first", "last"]
            assert itself.cancel()
            mock_clock.jump(5)
    assert calls == ["first", "last", "moved"]


async def test_callbacks_run_in_the_context_they_were_registered_in(
    autojump_clock: MockClock,
) -> None:
    var: contextvars.ContextVar[str] = contextvars.ContextVar("var", default="unset")
    seen: list[str] = []

    async def child() -> None:
        seen.append(var.get())

    async with open_clock() as clock, clock.open_timers() as timers:
        var.set("one")
        timers.call_later(1, lambda: seen.append(var.get()))
        timers.start_later(3, child)
        var.set("two")
        timers.call_later(2, lambda: seen.append(var.get()))
        timers.start_later(4, child)
        var.set("three")
    assert seen == ["one", "two", "one", "two"]


# --- call_every ---


async def test_call_every_stays_on_its_grid(autojump_clock: MockClock) -> None:
    calls: list[float] = []
    async with open_clock() as clock:
        await clock.delay(0.5)
        async with clock.open_timers(on_exit="cancel") as timers:
            timer = timers.call_every(
                datetime.timedelta(seconds=0.1), lambda: calls.append(clock.instant())
            )
            assert timer.when == 0.6
            await clock.delay_until(100.95)
            assert timer.pending
    assert len(calls) == 1004
    assert calls[:1000] == pytest.approx([0.5 + n * 0.1 for n in range(1, 1001)])


@pytest.mark.parametrize(
    ("missed", "expected"),
    [
        (MissedTick.BURST, [3.75, 3.75, 3.75, 4, 5, 6]),
        (MissedTick.DELAY, [3.75, 4.75, 5.75]),
        (MissedTick.SKIP, [3.75, 4, 5, 6]),
    ],
)
async def test_call_every_that_fires_a_whole_period_late(
    missed: MissedTick, expected: list[float], mock_clock: MockClock
) -> None:
    calls: list[float] = []
    async with open_clock() as clock, clock.open_timers(on_exit="cancel") as timers:
        timers.call_every(1, lambda: calls.append(clock.instant()), missed=missed)
        mock_clock.jump(3.75)
        for _ in range(10):
            await trio.testing.wait_all_tasks_blocked()
            mock_clock.jump(0.25)
    assert calls == expected


@pytest.mark.parametrize("missed", MissedTick)
async def test_call_every_does_not_drift_from_being_woken_late(
    missed: MissedTick, mock_clock: MockClock
) -> None:
    async with open_clock() as clock, clock.open_timers(on_exit="cancel") as timers:
        timer = timers.call_every(1, int, missed=missed)
        for n in range(1, 20):
            mock_clock.jump(1.9 if n == 1 else 1)
            await trio.testing.wait_all_tasks_blocked()
            assert timer.when == n + 1


async def test_a_periodic_callback_that_stops_itself(
    autojump_clock: MockClock,
) -> None:
    calls: list[float] = []
    async with open_clock() as clock, clock.open_timers() as timers:

        def call() -> None:
            calls.append(timer.when)
            if len(calls) == 3:
                assert timer.cancel()

        timer = timers.call_every(1, call)
    assert calls == [2, 3, 4]


async def test_resetting_a_periodic_timer(autojump_clock: MockClock) -> None:
    calls: list[float] = []
    async with open_clock() as clock, clock.open_timers(on_exit="cancel") as timers:
        timer = timers.call_every(1, lambda: calls.append(clock.instant()))
        await clock.delay(2.5)
        timer.reset(0.25)
        await clock.delay(1.5)
        timer.cancel()
        await clock.delay(5)
        timer.reset(3)
        await clock.delay(5)
    assert calls == [1, 2, 2.75, 3.75, 12, 13, 14]


# --- Timer ---


async def test_cancel_tells_whether_it_was_pending(autojump_clock: MockClock) -> None:
    calls: list[int] = []
    async with open_clock() as clock, clock.open_timers() as timers:
        timer = timers.call_later(1, calls.append, 1)
        assert timer.cancel() is True
        assert not timer.pending
        assert timer.cancel() is False
        fired = timers.call_later(1, calls.append, 2)
        await clock.delay(1)
        assert fired.cancel() is False
    assert calls == [2]


async def test_reset_makes_it_pending_again(autojump_clock: MockClock) -> None:
    calls: list[float] = []
    async with open_clock() as clock, clock.open_timers() as timers:
        timer = timers.call_later(1, lambda: calls.append(clock.instant()))
        await clock.delay(0.5)
        timer.reset(1)  # while pending
        assert timer.when == 1.5
        await clock.delay(2)
        timer.reset(datetime.timedelta(seconds=1))  # after it has fired
        await clock.delay(2)
        timer.reset(1)
        timer.cancel()
        timer.reset(2)  # after it has been cancelled
    assert calls == [1.5, 3.5, 6.5]


async def test_a_timer_nobody_holds_fires(autojump_clock: MockClock) -> None:
    calls: list[int] = []
    async with open_clock() as clock, clock.open_timers() as timers:
        timer = timers.call_later(1, calls.append, 1)
        ref = weakref.ref(timer)
        del timer
        assert ref() is not None
        await clock.delay(2)
        assert ref() is None
    assert calls == [1]


async def test_repr_of_timers() -> None:
    def callback() -> None: ...

    async with open_clock() as clock, clock.open_timers() as timers:
        timer = timers.call_later(1, callback)
        assert "callback, at" in repr(timer)
        assert ", pending" in repr(timer)
        timer.cancel()
        assert "not pending" in repr(timer)
        partial = timers.call_later(1, functools.partial(callback))
        assert "functools.partial" in repr(partial)
        assert "1 timers pending, 0 children" in repr(timers)
        timers.cancel_timers()
    assert "closed" in repr(timers)


# --- child tasks ---


async def test_start_later_and_start_at(autojump_clock: MockClock) -> None:
    log: list[tuple[float, str]] = []

    async def child(name: str) -> None:
        log.append((clock.instant(), name))
        await clock.delay(10)
        log.append((clock.instant(), f"{name} is done"))

    async with open_clock() as clock:
        async with clock.open_timers() as timers:
            timers.start_later(2, child, "later")
            timer = timers.start_at(1, child, "at")
            await clock.delay(5)
            assert not timer.pending
            assert timer.cancel() is False
        assert clock.instant() == 12
    assert log == [
        *((1, "at"), (2, "later")),
        *((11, "at is done"), (12, "later is done")),
    ]


async def test_the_name_of_a_child_task(autojump_clock: MockClock) -> None:
    names: list[str] = []

    async def child() -> None:
        names.append(trio.lowlevel.current_task().name)

    async with open_clock() as clock, clock.open_timers() as timers:
        timers.start_later(1, child)
        timers.start_later(2, child, name="the second")
        timers.start_later(3, functools.partial(child))
    assert names[0].endswith(".child")
    assert names[1] == "the second"
    assert names[2].endswith(".child")


async def test_a_timer_that_was_reset_starts_another_task(
    autojump_clock: MockClock,
) -> None:
    starts: list[float] = []

    async def child() -> None:
        starts.append(clock.instant())
        if len(starts) < 3:
            timer.reset(5)

    async with open_clock() as clock, clock.open_timers() as timers:
        timer = timers.start_later(1, child)
    assert starts == [1, 6, 11]


async def test_children_keep_the_nursery_open_for_new_timers(
    autojump_clock: MockClock,
) -> None:
    log: list[float] = []

    async def child(timers: TimerNursery) -> None:
        await clock.delay(10)
        timers.call_later(5, lambda: log.append(clock.instant()))

    async with open_clock() as clock:
        async with clock.open_timers() as timers:
            timers.start_later(1, child, timers)
        assert log == [16]


# --- leaving ---


async def test_leaving_waits_for_one_shot_timers(autojump_clock: MockClock) -> None:
    calls: list[int] = []
    async with open_clock() as clock:
        async with clock.open_timers() as timers:
            timers.call_later(60, calls.append, 1)
        assert calls == [1]
        assert clock.instant() == 60


async def test_a_periodic_timer_keeps_it_open_until_it_is_cancelled(
    autojump_clock: MockClock,
) -> None:
    async def later(timer: Timer) -> None:
        await trio.sleep(99.5)
        timer.cancel()

    calls: list[None] = []
    async with open_clock() as clock, trio.open_nursery() as nursery:
        async with clock.open_timers() as timers:
            timer = timers.call_every(1, calls.append, None)
            nursery.start_soon(later, timer)
        assert clock.instant() == 99.5
        assert len(calls) == 99


async def test_cancel_timers_from_elsewhere_lets_it_leave(
    autojump_clock: MockClock,
) -> None:
    async def later(timers: TimerNursery) -> None:
        await trio.sleep(1)
        timers.cancel_timers()

    async with open_clock() as clock, trio.open_nursery() as nursery:
        async with clock.open_timers() as timers:
            for n in range(100):
                timers.call_later(60 + n, raise_value_error)
            nursery.start_soon(later, timers)
        assert clock.instant() == 1


async def test_on_exit_cancel(autojump_clock: MockClock) -> None:
    log: list[float] = []

    async def child(timers: TimerNursery) -> None:
        await clock.delay(10)
        log.append(clock.instant())
        # Nobody waits for this one.
        timers.call_later(1, raise_value_error)

    async with InactiveClock().activate() as (clock, driver):
        async with clock.open_timers(on_exit="cancel") as timers:
            timers.call_later(60, raise_value_error)
            timers.call_every(60, raise_value_error)
            timers.start_later(60, child, timers)
            timers.start_later(0, child, timers)
            await clock.delay(1)
        assert log == [10]
        assert clock.instant() == 10
        assert driver.statistics().pending == 0
        assert len(timers._pending) == 0


@pytest.mark.parametrize("on_exit", ["wait", "cancel"])
async def test_leaving_with_nothing_to_wait_for_is_not_a_cancel_point(
    on_exit: Literal["wait", "cancel"],
) -> None:
    async with open_clock() as clock:
        with trio.CancelScope() as scope:
            async with clock.open_timers(on_exit=on_exit):
                scope.cancel()
        assert not scope.cancelled_caught


def registrations(timers: TimerNursery, timer: Timer) -> list[Callable[[], object]]:
    return [
        lambda: timers.call_later(1, print),
        lambda: timers.call_at(1, print),
        lambda: timers.call_every(1, print),
        lambda: timers.start_later(1, trio.sleep, 1),
        lambda: timers.start_at(1, trio.sleep, 1),
        lambda: timer.reset(1),
    ]


async def test_a_closed_nursery_refuses_timers() -> None:
    async with InactiveClock().activate() as (clock, driver):
        async with clock.open_timers() as timers:
            timer = timers.call_later(1, print)
            timer.cancel()
        for register in registrations(timers, timer):
            with pytest.raises(RuntimeError, match="TimerNursery is closed"):
                register()
        assert driver.statistics().registered == 1
        timers.cancel_timers()
        assert timer.cancel() is False


async def test_registering_from_elsewhere_while_it_is_leaving(
    autojump_clock: MockClock,
) -> None:
    # Whatever the order of events is, a timer that was accepted fires, or is dropped
    # with the nursery; it is never lost while somebody waits for it.
    async def register(timers: TimerNursery) -> None:
        try:
            timers.call_later(1, calls.append, "fired")
        except RuntimeError:
            calls.append("refused")

    async with open_clock() as clock:
        for _ in range(20):
            calls: list[str] = []
            async with trio.open_nursery() as nursery:
                async with clock.open_timers() as timers:
                    timer = timers.call_later(60, print)
                    await trio.testing.wait_all_tasks_blocked()
                    nursery.start_soon(register, timers)
                    timer.cancel()
            assert calls in (["fired"], ["refused"])


# --- errors and cancellation ---


def raise_value_error() -> NoReturn:
    raise ValueError


async def raise_value_error_soon() -> NoReturn:
    raise ValueError


@pytest.mark.parametrize("on_exit", ["wait", "cancel"])
@pytest.mark.parametrize("leaving", [False, True])
@pytest.mark.parametrize("kind", ["callback", "child"])
async def test_an_error_cancels_the_nursery_and_leaves_it_in_a_group(
    on_exit: Literal["wait", "cancel"],
    leaving: bool,
    kind: str,
    autojump_clock: MockClock,
) -> None:
    calls: list[str] = []

    async def child() -> None:
        try:
            await clock.delay(60)
        except trio.Cancelled:
            calls.append("cancelled")
            raise

    async with InactiveClock().activate() as (clock, driver):
        with pytest.raises(ExceptionGroup) as caught:
            async with clock.open_timers(on_exit=on_exit) as timers:
                timers.start_later(0, child)
                await clock.delay(0)
                await trio.testing.wait_all_tasks_blocked()
                timers.call_later(60, calls.append, "never")
                if kind == "callback":
                    timers.call_later(1, raise_value_error)
                else:
                    timers.start_later(1, raise_value_error_soon)
                if on_exit == "cancel":
                    await clock.delay(1)
                if not leaving:
                    await clock.delay(60)
        [error] = caught.value.exceptions
        assert isinstance(error, ValueError)
        assert clock.instant() == 1
        assert calls == ["cancelled"]
        assert driver.statistics().pending == 0


async def test_several_errors_leave_together(autojump_clock: MockClock) -> None:
    def fail(error: type[Exception]) -> NoReturn:
        raise error

    async with open_clock() as clock:
        with pytest.raises(ExceptionGroup) as caught:
            async with clock.open_timers() as timers:
                timers.call_later(1, fail, ValueError)
                timers.call_later(1, fail, KeyError)
                timers.start_later(1, raise_value_error_soon)
        assert sorted(type(error).__name__ for error in caught.value.exceptions) == [
            *("KeyError", "ValueError", "ValueError")
        ]


async def test_an_error_of_the_body_cancels_everything(
    autojump_clock: MockClock,
) -> None:
    async with InactiveClock().activate() as (clock, driver):
        with pytest.raises(ExceptionGroup) as caught:
            async with clock.open_timers() as timers:
                timers.call_later(1, print)
                timers.call_every(1, print)
                timers.start_later(0, trio.sleep_forever)
                await clock.delay(0.5)
                raise KeyError
        [error] = caught.value.exceptions
        assert isinstance(error, KeyError)
        assert clock.instant() == 0.5
        assert driver.statistics().pending == 0


@pytest.mark.parametrize("leaving", [False, True])
async def test_its_cancel_scope_is_around_everything(
    leaving: bool, autojump_clock: MockClock
) -> None:
    async with InactiveClock().activate() as (clock, driver):
        async with clock.open_timers() as timers:
            timers.call_later(60, print)
            timers.start_later(0, trio.sleep_forever)
            timers.call_later(1, timers.cancel_scope.cancel)
            if not leaving:
                await trio.sleep_forever()
        assert timers.cancel_scope.cancelled_caught
        assert clock.instant() == 1
        assert driver.statistics().pending == 0


async def test_cancelled_from_outside_while_leaving(autojump_clock: MockClock) -> None:
    async with InactiveClock().activate() as (clock, driver):
        with clock.move_on_after(5) as scope:
            async with clock.open_timers() as timers:
                timers.call_later(60, print)
        assert scope.cancelled_caught
        assert clock.instant() == 5
        assert driver.statistics().pending == 0


async def test_children_that_register_timers_while_they_are_cancelled(
    autojump_clock: MockClock,
) -> None:
    async def child(timers: TimerNursery) -> None:
        try:
            await trio.sleep_forever()
        finally:
            timers.call_later(1, print, "nobody waits for this")
            with trio.CancelScope(shield=True):
                await clock.delay(0.5)
            timers.call_later(1, print, "nor for this")

    async with InactiveClock().activate() as (clock, driver):
        with clock.move_on_after(5):
            async with clock.open_timers() as timers:
                timers.start_later(0, child, timers)
        assert clock.instant() == 5.5
        assert driver.statistics().pending == 0


@pytest.mark.filterwarnings("ignore:.*strict_exception_groups")
def test_in_a_run_without_strict_exception_groups() -> None:
    async def main() -> None:
        async with InactiveClock().activate() as (clock, driver):
            with clock.move_on_after(5) as scope:
                async with clock.open_timers() as timers:
                    timers.call_later(60, print)
            assert scope.cancelled_caught
            with pytest.raises(ValueError, match=r"^$"):
                async with clock.open_timers() as timers:
                    timers.call_later(1, raise_value_error)
            with pytest.raises(KeyError):
                async with clock.open_timers():
                    raise KeyError
            assert driver.statistics().pending == 0

    trio.run(
        main,
        clock=MockClock(autojump_threshold=0),
        strict_exception_groups=False,
    )


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, StopIteration])
def test_any_exception_of_a_callback_gets_out(error: type[BaseException]) -> None:
    def fail() -> NoReturn:
        raise error

    async def main() -> None:
        async with open_clock() as clock, clock.open_timers() as timers:
            timers.call_later(1, fail)

    with pytest.raises(BaseExceptionGroup) as caught:
        trio.run(main, clock=MockClock(autojump_threshold=0))
    [inner] = caught.value.exceptions
    # Python does not let a coroutine raise StopIteration.
    if error is StopIteration:
        assert isinstance(inner, RuntimeError)
        assert isinstance(inner.__cause__, StopIteration)
    else:
        assert isinstance(inner, error)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_interrupts_a_callback() -> None:
    reached: list[str] = []

    def callback() -> None:
        reached.append("before")
        signal.raise_signal(signal.SIGINT)
        reached.append("after")

    async def main() -> None:
        async with open_clock() as clock, clock.open_timers() as timers:
            timers.call_later(0, callback)
            timers.call_later(60, print)

    with pytest.raises(BaseExceptionGroup) as caught:
        trio.run(main)
    assert reached == ["before"]
    assert isinstance(caught.value.exceptions[0], KeyboardInterrupt)


async def test_a_cancelled_nursery_fires_nothing_more(
    autojump_clock: MockClock,
) -> None:
    async with InactiveClock().activate() as (clock, driver):
        async with clock.open_timers() as timers:
            every = timers.call_every(1, raise_value_error)
            once = timers.call_later(2, raise_value_error)
            start = timers.start_later(3, raise_value_error_soon)
            timers.cancel_scope.cancel()
            late = timers.call_later(0, raise_value_error)
            with trio.CancelScope(shield=True):
                await clock.delay(5)
            for timer in (every, once, start, late):
                assert not timer.pending
        assert driver.statistics().pending == 0


async def test_a_periodic_callback_fails_once(autojump_clock: MockClock) -> None:
    async def shielded() -> None:
        with trio.CancelScope(shield=True):
            await clock.delay(5)

    async with open_clock() as clock:
        with pytest.raises(ExceptionGroup) as caught:
            async with clock.open_timers() as timers:
                timers.start_later(0, shielded)
                timers.call_every(1, raise_value_error)
        assert len(caught.value.exceptions) == 1
        assert clock.instant() == 5


async def test_methods_with_odd_attributes(autojump_clock: MockClock) -> None:
    def decorate(fn: Callable[..., object]) -> Callable[..., None]:
        def wrapper(*args: object) -> None:
            calls.append(len(args))

        wrapper.func = fn  # type: ignore[attr-defined]
        return wrapper

    class Thing:
        @decorate
        async def method(self) -> None: ...

    calls: list[int] = []
    async with open_clock() as clock:
        async with clock.open_timers() as timers:
            timers.call_later(0, Thing().method)
    assert calls == [1]


# --- in the same step ---


class AtExit(trio.abc.Instrument):
    """Calls a function as soon as a task has exited, before any other goes on."""

    def __init__(self, name: str, fn: Callable[[], None]) -> None:
        self.name = name
        self.fn = fn

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        if self.name in task.name:
            self.fn()


async def shielded_child(clock: Clock) -> None:
    with trio.CancelScope(shield=True):
        await clock.delay(10)


async def test_a_failed_nursery_is_closed_as_soon_as_its_last_child_ends(
    autojump_clock: MockClock,
) -> None:
    def register() -> None:
        with pytest.raises(RuntimeError, match="is closed"):
            timers.call_later(0, int)
        refused.append(clock.instant())

    refused: list[float] = []
    async with open_clock() as clock:
        trio.lowlevel.add_instrument(AtExit("shielded_child", register))
        with pytest.raises(ExceptionGroup):
            async with clock.open_timers() as timers:
                timers.start_later(0, shielded_child, clock)
                await clock.delay(1)
                raise KeyError
        assert refused == [10]


async def test_a_failed_nursery_without_children_is_closed_at_once() -> None:
    class Register(trio.abc.Instrument):
        def after_task_step(self, task: trio.lowlevel.Task) -> None:
            if failed and not refused:
                with pytest.raises(RuntimeError, match="is closed"):
                    timers.call_later(100, int)
                refused.append(True)

    failed: list[bool] = []
    refused: list[bool] = []
    async with open_clock() as clock:
        trio.lowlevel.add_instrument(Register())
        with pytest.raises(ExceptionGroup):
            async with clock.open_timers() as timers:
                failed.append(True)
                raise KeyError
        assert refused


@pytest.mark.parametrize("on_exit", ["wait", "cancel"])
def test_no_timer_is_accepted_and_lost_at_the_exit(
    on_exit: Literal["wait", "cancel"],
) -> None:
    """A finalizer registers one; a trace function, here, at each line of the exit."""

    async def attempt(here: int) -> bool:
        lines = 0

        def trace(frame: FrameType, event: str, arg: object) -> Any:
            nonlocal lines
            if frame.f_code.co_filename not in files:
                return None
            line = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
            # (Nothing can come between the condition before that and the assignment.)
            if event == "line" and line.strip() != "self._closed = True":
                lines += 1
                if lines == here:
                    sys.settrace(None)
                    with suppress(RuntimeError):
                        timers.call_later(100, calls.append, "called")
                        accepted.append(here)
            return trace

        calls: list[str] = []
        accepted: list[int] = []
        async with open_clock() as clock:
            before = sys.gettrace()
            try:
                with undisturbed():
                    async with clock.open_timers(on_exit=on_exit) as timers:
                        sys.settrace(trace)
            finally:
                sys.settrace(before)
            if on_exit == "wait":
                assert len(calls) == len(accepted)
        return here <= lines

    files = {_timer_nursery.__file__, _timer_group.__file__}
    here = 1
    while trio.run(attempt, here, clock=MockClock(autojump_threshold=0)):
        here += 1
    assert here > 10


async def test_a_failed_nursery_cancels_its_timers_without_waiting_for_children(
    autojump_clock: MockClock,
) -> None:
    async def look() -> None:
        await clock.delay(5)
        log.append((timer.pending, driver.statistics().pending))

    log: list[tuple[bool, int]] = []
    async with InactiveClock().activate() as (clock, driver):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(look)
            with pytest.raises(ExceptionGroup):
                async with clock.open_timers() as timers:
                    timer = timers.call_later(60, raise_value_error)
                    timers.start_later(0, shielded_child, clock)
                    await clock.delay(1)
                    raise KeyError
        # Only the child's delay is left.
        assert log == [(False, 1)]


# --- what shows only when it is due ---


async def coroutine_function() -> None:
    raise AssertionError


class Awaitable:
    def __await__(self) -> Generator[None, None, None]:
        raise AssertionError


def not_async() -> int:
    return 5


async def error_when_due(register: Callable[[TimerNursery], Timer]) -> BaseException:
    async with open_clock() as clock:
        with pytest.raises(ExceptionGroup) as caught:
            async with clock.open_timers() as timers:
                register(timers)
    [error] = caught.value.exceptions
    return error


async def test_a_callback_that_returns_an_awaitable(autojump_clock: MockClock) -> None:
    for fn in (lambda: coroutine_function(), lambda: Awaitable()):
        error = await error_when_due(methodcaller("call_later", 1, fn))
        assert isinstance(error, TypeError)
        assert re.search(r"synchronous.*<lambda>.*start_later\(\)", str(error))


async def test_an_async_fn_that_returns_none(autojump_clock: MockClock) -> None:
    error = await error_when_due(
        lambda timers: timers.start_later(1, not_async)  # type: ignore[arg-type]
    )
    assert isinstance(error, TypeError)
    assert re.search(r"async function.*not_async.*returned 5.*call_later", str(error))


async def test_the_block_of_another_clock(autojump_clock: MockClock) -> None:
    calls: list[str] = []

    async def use(clock: Clock, name: str) -> None:
        async with clock.open_timers() as timers:
            timers.call_later(1, calls.append, name)

    async with open_clock() as one, open_clock() as two:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(use, one, "one")
            nursery.start_soon(use, two, "two")
        assert sorted(calls) == ["one", "two"]


@pytest.mark.parametrize("readings", [2, 3])
@pytest.mark.parametrize("how", ["cancel", "reset"])
def test_a_periodic_timer_is_changed_just_as_it_fires(how: str, readings: int) -> None:
    class Hooked(trio.abc.Clock):
        """A run's clock is Python, so anything may happen while somebody reads it."""

        now = 0.0
        readings = -1

        def start_clock(self) -> None: ...

        def current_time(self) -> float:
            self.readings -= 1
            if not self.readings:
                if how == "cancel":
                    made[0].cancel()
                else:
                    made[0].reset(5)
            return self.now

        def deadline_to_sleep_time(self, deadline: float) -> float:
            return deadline - self.now

    async def main() -> None:
        async with InactiveClock().activate() as (clock, driver):
            async with clock.open_timers(on_exit="cancel") as timers:
                timer = timers.call_every(1, calls.append, "periodic")
                made.append(timer)
                timers.call_at(1.5, calls.append, "other")
                run_clock.now = 1.0
                # The driver's, and then those of the timer.
                run_clock.readings = readings
                driver.advance_timers()
                run_clock.readings = -1
                assert calls == []
                assert timer.pending == (how == "reset")
                assert driver.statistics().pending == 1 + (how == "reset")
                assert driver.next_deadline == 1.5
                run_clock.now = 6.0
                driver.advance_timers()
                assert calls == ["other", *(["periodic"] if how == "reset" else [])]

    run_clock = Hooked()
    made: list[Timer] = []
    calls: list[str] = []
    trio.run(main, clock=run_clock)


async def test_a_callback_raises_clock_gone_and_another_cancels(
    autojump_clock: MockClock,
) -> None:
    # It is an exception of the callback like any other.
    async with open_clock() as gone:
        pass
    async with open_clock() as clock:
        with pytest.raises(ExceptionGroup) as caught:
            async with clock.open_timers() as timers:
                timers.call_later(1, gone.move_on_after, 1)
                timers.call_later(1, timers.cancel_scope.cancel)
        assert [type(error) for error in caught.value.exceptions] == [ClockGone]

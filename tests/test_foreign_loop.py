"""A loop that is not Trio's is told of earlier deadlines: `on_earlier`."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from math import inf
from types import FrameType
from typing import Any

import pytest
import trio
import trio.testing
from at_each_line import traced
from hand_moved_time import HandMovedTime
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from model_settings import MODEL

from trio_clockrt import Clock, ClockDriver, ClockGone, InactiveClock, Timer, TimerGroup
from trio_clockrt._foreign_loop import LoopAlarm
from trio_clockrt._time_source import SystemSource
from trio_clockrt._timers import Timers
from trio_clockrt.testing import ClockControl

if sys.version_info < (3, 11):
    from exceptiongroup import ExceptionGroup

Activate = Callable[..., "tuple[Clock, ClockDriver]"]


@pytest.fixture(autouse=True)
def time(monkeypatch: pytest.MonkeyPatch) -> HandMovedTime:
    time = HandMovedTime(1000.0)
    for name in "instant", "now":
        monkeypatch.setattr(SystemSource, name, staticmethod(time))
    return time


def isolated(*, on_earlier: Callable[[], object]) -> tuple[Clock, ClockDriver]:
    return InactiveClock().activate_manual(on_earlier=on_earlier)


def shared(*, on_earlier: Callable[[], object]) -> tuple[Clock, ClockDriver]:
    return InactiveClock.new_shared().activate_manual(on_earlier=on_earlier)


def controlled(*, on_earlier: Callable[[], object]) -> tuple[Clock, ClockDriver]:
    control = ClockControl()
    control.jump(1000)
    recipe = InactiveClock.from_control(control)
    return recipe.activate_manual(on_earlier=on_earlier)


every_kind = pytest.mark.parametrize("activate", [isolated, shared, controlled])
own_time = pytest.mark.parametrize("activate", [isolated, shared])


class Loop:
    """Counts how often it is called."""

    def __init__(self, activate: Activate) -> None:
        self.calls = 0
        self.then: Callable[[], object] = int
        self.clock, self.driver = activate(on_earlier=self.call)

    def call(self) -> None:
        self.calls += 1
        self.then()

    def called(self) -> int:
        """How often since this was asked last."""
        calls, self.calls = self.calls, 0
        return calls

    def advance(self) -> float | None:
        deadline = self.driver.advance_timers()
        assert not self.called()
        return deadline


@pytest.fixture
def loop(activate: Activate) -> Loop:
    return Loop(activate)


def fail() -> None:
    raise ZeroDivisionError


def count(attempt: Callable[[int], bool]) -> int:
    """Interrupt it at each line: how many there are."""
    here = 1
    while attempt(here):
        here += 1
    return here


def in_a_thread(fn: Callable[[], object]) -> None:
    """Do it in another thread, and raise here what it raises."""

    def run() -> None:
        try:
            fn()
        except BaseException as exc:
            raised.append(exc)

    raised: list[BaseException] = []
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if raised:
        raise raised.pop()


# --- when ---


@every_kind
def test_before_the_first_call(loop: Loop) -> None:
    with loop.clock.timer_group() as timers:
        timers.call_later(60, int)
        assert loop.called() == 1
        timers.call_later(90, int)
        assert not loop.called()
        timers.call_later(30, int)
        assert loop.called() == 1
        assert loop.advance() == 1030


@every_kind
def test_earlier_than_what_it_was_told(loop: Loop) -> None:
    assert loop.advance() is None
    with loop.clock.timer_group() as timers:
        for seconds, earlier in (60, 1), (60, 0), (61, 0), (inf, 0), (59, 1), (0, 1):
            timers.call_later(seconds, int)
            assert loop.called() == earlier, seconds
        assert loop.advance() == 1059
        timers.call_at(1058, int)
        assert loop.called() == 1
        timers.call_at(-inf, int)
        assert loop.called() == 1
        timers.call_at(-inf, int)
        timers.call_at(-1e300, int)
        assert not loop.called()
        assert loop.driver.next_deadline == -inf
        assert loop.advance() == 1058
        timers.call_every(1, int)
        assert loop.called() == 1


@every_kind
def test_what_is_later_is_not_told(loop: Loop) -> None:
    with loop.clock.timer_group() as timers:
        timer = timers.call_later(10, int)
        loop.called()
        assert loop.advance() == 1010
        # It wakes up at 1010 in any case.
        for _ in range(3):
            timer.cancel()
            timer.reset(10)
            timer.reset(50)
            timer = timers.call_later(20, int)
        assert not loop.called()
        timer.reset(9)
        assert loop.called() == 1


@every_kind
def test_the_first_one_changes_before_the_loop_looks(loop: Loop) -> None:
    with loop.clock.timer_group() as timers:
        timers.call_later(10, int)
        loop.called()
        assert loop.advance() == 1010
        first = timers.call_later(5, int)
        assert loop.called() == 1
        first.cancel()
        assert not loop.called()
        timers.call_later(7, int)
        assert loop.called() == 1


@every_kind
def test_what_is_long_past(loop: Loop) -> None:
    with loop.clock.timer_group() as timers:
        timers.call_later(10, int)
        loop.called()
        assert loop.advance() == 1010
        first = timers.call_at(-inf, int)
        assert loop.called() == 1
        first.cancel()
        timers.call_later(5, int)
        assert loop.called() == 1


@every_kind
def test_reading_the_next_deadline_is_being_told(loop: Loop) -> None:
    with loop.clock.timer_group() as timers:
        timer = timers.call_later(10, int)
        loop.called()
        assert loop.advance() == 1010
        timer.cancel()
        assert loop.driver.next_deadline is None
        timers.call_later(30, int)
        assert loop.called() == 1


@every_kind
def test_not_while_it_advances(loop: Loop) -> None:
    def set_another() -> None:
        timers.call_later(20, int)
        timers.call_later(10, int)
        assert loop.driver.next_deadline == 1010
        timers.call_later(5, int)
        with pytest.raises(RuntimeError, match="inside a timer's callback"):
            loop.driver.advance_timers()
        timers.call_later(4, int)

    with loop.clock.timer_group() as timers:
        timers.call_later(0, set_another)
        loop.called()
        assert loop.advance() == 1004
        timers.call_later(3, int)
        assert loop.called() == 1


@own_time
def test_what_is_due_later_in_turn(loop: Loop, time: HandMovedTime) -> None:
    with loop.clock.timer_group() as timers:
        timers.call_every(10, int)
        timers.call_later(15, int)
        loop.called()
        for now, deadline in (1000, 1010), (1010, 1015), (1015, 1020), (1020, 1030):
            time.now = now
            assert loop.advance() == deadline
        timers.call_later(9, int)
        assert loop.called() == 1


@every_kind
def test_after_an_exception_of_a_callback(loop: Loop) -> None:
    with loop.clock.timer_group() as timers:
        timers.call_later(0, fail)
        later = timers.call_later(10, int)
        loop.called()
        with pytest.raises(ZeroDivisionError):
            loop.driver.advance_timers()
        assert not loop.called()
        timers.call_later(11, int)
        assert not loop.called()
        timers.call_later(9, int)
        assert loop.called() == 1
        with pytest.raises(ValueError, match="ahead of the clock"):
            loop.driver.advance_timers(5000)
        later.reset(8)
        assert loop.called() == 1


@every_kind
async def test_tasks(loop: Loop) -> None:
    async with trio.open_nursery() as nursery:
        for use in (
            partial(loop.clock.delay, 50),
            partial(loop.clock.delay_until, 1040),
            loop.clock.periodic(30).__anext__,
            partial(wait_at_most, loop.clock, 20),
        ):
            nursery.start_soon(use)
            await trio.testing.wait_all_tasks_blocked()
            assert loop.called() == 1
        async with loop.clock.open_timers(on_exit="cancel") as timers:
            timers.start_later(10, trio.sleep, 0)
            assert loop.called() == 1
            assert loop.advance() == 1010
        nursery.cancel_scope.cancel()
    assert not loop.called()
    assert loop.advance() is None


async def wait_at_most(clock: Clock, seconds: float) -> None:
    with clock.move_on_after(seconds):
        await trio.sleep_forever()


# --- what it may do ---


@every_kind
def test_it_sees_the_timer_and_may_set_others(loop: Loop) -> None:
    def look() -> None:
        deadlines.append(loop.driver.next_deadline)
        if len(deadlines) == 1:
            timers.call_later(5, int)

    deadlines: list[float | None] = []
    loop.then = look
    with loop.clock.timer_group() as timers:
        timers.call_later(10, int)
    assert deadlines == [1010, 1005]


@every_kind
def test_it_may_advance_the_timers(loop: Loop) -> None:
    log: list[str] = []
    loop.then = lambda: loop.driver.advance_timers()
    with loop.clock.timer_group() as timers:
        timer = timers.call_later(0, log.append, "fired")
        assert log == ["fired"]
        assert not timer.pending
        timer.reset(0)
        assert log == ["fired"] * 2


@every_kind
async def test_it_may_advance_for_a_task(loop: Loop) -> None:
    loop.then = lambda: loop.driver.advance_timers(1000)
    await loop.clock.delay_until(loop.clock.instant())
    with loop.clock.move_on_after(0) as scope:
        await trio.sleep_forever()
    assert scope.cancelled_caught


# --- exceptions ---


@every_kind
def test_an_exception_leaves_the_call_and_the_timer_stays(loop: Loop) -> None:
    log: list[object] = []
    loop.then = fail
    with loop.clock.timer_group() as timers:
        for set_one, when in (
            (timers.call_later, 3),
            (timers.call_every, 2),
            (timers.call_at, 1000),
        ):
            with pytest.raises(ZeroDivisionError):
                set_one(when, log.append, when)
        assert loop.driver.next_deadline == 1000
        loop.called()
        assert loop.advance() == 1002
        assert log == [1000]
        loop.then = int
        timer = timers.call_later(50, log.append, "reset")
        loop.then = fail
        with pytest.raises(ZeroDivisionError):
            timer.reset(1)
        assert timer.when == loop.driver.next_deadline == 1001


@every_kind
async def test_after_an_exception_no_task_waits(loop: Loop) -> None:
    loop.then = fail
    ticks = loop.clock.periodic(10)
    for _ in range(2):
        for wait in (
            partial(loop.clock.delay, 10),
            partial(loop.clock.delay_until, 1010),
            ticks.__anext__,
            partial(wait_at_most, loop.clock, 10),
        ):
            with pytest.raises(ZeroDivisionError):
                await wait()
            assert loop.driver.statistics().pending == 0
        assert loop.driver.next_deadline is None
    await trio.testing.wait_all_tasks_blocked()


@own_time
async def test_an_exception_after_it_has_advanced(
    loop: Loop, time: HandMovedTime
) -> None:
    """The task that does not wait is not woken either."""

    def advance_and_fail() -> None:
        time.now += 10
        loop.driver.advance_timers()
        raise ZeroDivisionError

    loop.then = advance_and_fail
    with pytest.raises(ZeroDivisionError):
        await loop.clock.delay(10)
    with trio.move_on_after(0):
        await trio.sleep_forever()
    await trio.testing.wait_all_tasks_blocked()


@every_kind
def test_what_it_returns_is_nothing_to_await(activate: Activate) -> None:
    clock, _driver = activate(on_earlier=lambda: async_function())
    with clock.timer_group() as timers:
        with pytest.raises(TypeError, match=r"`on_earlier` must be .* never awaited"):
            timers.call_later(1, int)
    clock, _driver = activate(on_earlier=lambda: 3)
    with clock.timer_group() as timers:
        timers.call_later(1, int)


async def async_function() -> None:
    raise AssertionError


def generator_function() -> Iterator[None]:
    yield


@pytest.mark.parametrize("bad", [3, "wake", object(), [print]])
def test_what_is_no_function(bad: Any) -> None:
    recipe = InactiveClock()
    with pytest.raises(TypeError, match=r"`on_earlier` must be a synchronous function"):
        recipe.activate_manual(on_earlier=bad)
    recipe.activate_manual()  # it has not been used up


@pytest.mark.parametrize(
    "bad", [async_function, generator_function, partial(async_function)]
)
@pytest.mark.parametrize("recipe", ["isolated", "shared", "controlled"])
def test_functions_that_would_not_run(bad: Any, recipe: str) -> None:
    recipes: dict[str, InactiveClock[Any]] = {
        "isolated": InactiveClock(),
        "shared": InactiveClock.new_shared(),
        "controlled": InactiveClock.from_control(ClockControl()),
    }
    with pytest.raises(TypeError, match=r"is async or a generator"):
        recipes[recipe].activate_manual(on_earlier=bad)
    with pytest.raises(TypeError, match="positional"):
        recipes[recipe].activate_manual(print)  # type: ignore[call-arg]


def test_a_coroutine_object() -> None:
    bad: Any = async_function()
    with pytest.raises(TypeError, match="it is <coroutine"):
        InactiveClock().activate_manual(on_earlier=bad)


# --- the end ---


@every_kind
def test_closing_the_last_owner(loop: Loop) -> None:
    other = loop.clock.clone()
    assert loop.advance() is None
    loop.clock.close()
    assert not loop.called()
    other.close()
    assert loop.called() == 1
    with pytest.raises(ClockGone):
        loop.driver.advance_timers()
    assert loop.driver.next_deadline is None
    with pytest.raises(ClockGone):
        loop.driver.advance_timers()
    assert not loop.called()


@every_kind
def test_cancelling_the_last_timer(loop: Loop) -> None:
    with loop.clock.timer_group() as timers:
        timer = timers.call_later(inf, int)
        assert loop.advance() is None
        loop.clock.close()
        loop.called()
        timer.cancel()
        assert loop.called() == 1
        with pytest.raises(ClockGone):
            loop.driver.advance_timers()


@every_kind
async def test_the_last_task_that_waits(loop: Loop) -> None:
    clock = loop.clock
    del loop.clock
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(clock.delay, inf)
            nursery.start_soon(use_a_nursery, clock)
            await trio.testing.wait_all_tasks_blocked()
            assert loop.advance() is None
            clock.close()
            loop.called()
            loop.then = fail  # which an abort function must not do
            scope.cancel()
    assert loop.called()
    with pytest.raises((ZeroDivisionError, ExceptionGroup)):
        loop.driver.advance_timers()
    with pytest.raises(ClockGone):
        loop.driver.advance_timers()


async def use_a_nursery(clock: Clock) -> None:
    async with clock.open_timers():
        await trio.sleep_forever()


@every_kind
def test_the_last_owner_goes_in_another_thread(loop: Loop) -> None:
    owners = [loop.clock]
    del loop.clock
    loop.then = fail  # and no code can catch it
    assert loop.advance() is None
    in_a_thread(owners.clear)
    assert loop.called() == 1
    with pytest.raises(ZeroDivisionError):
        loop.driver.advance_timers()
    with pytest.raises(ClockGone):
        loop.driver.advance_timers()


@own_time
@pytest.mark.parametrize("when", ["advancing", "looking"])
def test_the_last_owner_goes_as_it_goes_to_sleep(
    loop: Loop, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closing(self: Timers) -> float:
        deadline = next_deadline(self)
        owners.clear()
        return deadline

    next_deadline = Timers.next_deadline
    owners = [loop.clock]
    del loop.clock
    monkeypatch.setattr(Timers, "next_deadline", closing)
    if when == "advancing":
        assert loop.driver.advance_timers() is None
    else:
        assert loop.driver.next_deadline is None
    assert loop.called() == 1
    monkeypatch.undo()
    with pytest.raises(ClockGone):
        loop.driver.advance_timers()


def test_a_control_ends_it() -> None:
    control = ClockControl()
    recipe = InactiveClock.from_control(control)
    loop = Loop(recipe.activate_manual)
    clock = loop.clock
    del loop.clock
    with clock.timer_group() as timers:
        timers.call_later(10, int)
        loop.called()
        assert loop.advance() == 10
        clock.close()
        assert not loop.called()
        control.advance(20)
        assert loop.called() == 1
        with pytest.raises(ClockGone):
            loop.driver.advance_timers()


def test_dropping_the_driver_frees_the_loop() -> None:
    gc.disable()
    try:
        loop = Loop(isolated)
        clock = loop.clock
        with clock.timer_group() as timers:
            timer = timers.call_later(1, int)
        weak = weakref.ref(loop)
        del loop.driver
        del loop
        assert weak() is None
        assert not clock.alive
        assert not timer.pending
    finally:
        gc.enable()


@every_kind
@pytest.mark.parametrize("how", ["register", "reset", "close"])
def test_a_finalizer_drops_the_driver_in_the_middle_of_a_change(
    activate: Activate, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dropping(method: Callable[..., object]) -> Callable[..., object]:
        def wrapper(*args: object) -> object:
            drivers.clear()
            return method(*args)

        return wrapper

    calls: list[int] = []
    clock, driver = activate(on_earlier=lambda: calls.append(1))
    drivers = [driver]
    del driver
    with clock.timer_group() as timers:
        timer = timers.call_later(60, int)
        assert calls == [1]
        for name in "file", "killed":
            original = getattr(Timers, name)
            monkeypatch.setattr(Timers, name, dropping(original))
        if how == "register":
            timers.call_later(1, int)
        elif how == "reset":
            timer.reset(1)
        else:
            drivers.clear()
            clock.close()
        assert calls == [1]
        assert not clock.alive


# --- finalizers and signal handlers ---


every_change = pytest.mark.parametrize("how", ["add", "cancel", "reset", "look"])


def changes(loop: Loop, timers: TimerGroup) -> dict[str, Callable[[], object]]:
    """What interrupts these is told once they are done."""
    timer = timers.call_later(60, int)
    loop.called()
    assert loop.advance() == 1060
    return {
        "add": lambda: timers.call_later(50, int),
        "cancel": timer.cancel,
        "reset": lambda: timer.reset(50),
        "look": lambda: loop.driver.next_deadline,
    }


@every_kind
@every_change
def test_in_the_middle_of_a_change(activate: Activate, how: str) -> None:
    """What a finalizer sets then is told when the change is done."""

    def attempt(here: int) -> bool:
        loop = Loop(activate)
        with loop.clock.timer_group() as timers:
            change = changes(loop, timers)[how]
            with traced(lambda: timers.call_later(5, int), here) as lines:
                told = change()
            if here > len(lines):
                return False
            # Perhaps once for each of the two.
            assert loop.called() in (1, 2) or (how == "look" and told == 1005)
            assert loop.advance() == 1005
        return True

    assert count(attempt) > 5


@every_kind
def test_an_exception_for_what_a_finalizer_has_set(activate: Activate) -> None:
    def attempt(here: int) -> bool:
        def finalizer() -> None:
            with suppress(ZeroDivisionError):
                timers.call_later(5, log.append, "finalizer")
            with suppress(ZeroDivisionError):
                other.reset(4)

        log: list[str] = []
        loop = Loop(activate)
        with loop.clock.timer_group() as timers:
            other = timers.call_later(60, log.append, "reset")
            loop.called()
            assert loop.advance() == 1060
            loop.then = fail
            with suppress(ZeroDivisionError), traced(finalizer, here) as lines:
                timers.call_later(30, log.append, "set")
            if here > len(lines):
                return False
            loop.then = int
            assert loop.called()
            assert loop.advance() == 1004
            assert loop.driver.statistics().pending == 3
        return True

    assert count(attempt) > 5


@every_kind
@pytest.mark.parametrize("how", ["advancing", "looking"])
def test_just_as_it_goes_to_sleep(
    loop: Loop, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop has been told 1060 by then, so it has to be called."""

    def setting(self: Timers) -> float:
        deadline = next_deadline(self)
        patch.undo()
        timers.call_later(5, int)
        return deadline

    next_deadline = Timers.next_deadline
    with loop.clock.timer_group() as timers, monkeypatch.context() as patch:
        timers.call_later(60, int)
        loop.called()
        patch.setattr(Timers, "next_deadline", setting)
        if how == "advancing":
            assert loop.driver.advance_timers() == 1060
        else:
            assert loop.driver.next_deadline == 1060
        assert loop.called() == 1
        assert loop.advance() == 1005


@every_kind
@every_change
def test_the_last_owner_goes_in_the_middle(activate: Activate, how: str) -> None:
    def attempt(here: int) -> bool:
        loop = Loop(activate)
        owners = [loop.clock]
        with loop.clock.timer_group() as timers:
            del loop.clock
            change = changes(loop, timers)[how]
            with traced(owners.clear, here) as lines:
                change()
            if here > len(lines):
                return False
            loop.called()
        with pytest.raises(ClockGone):
            loop.driver.advance_timers()
        return True

    assert count(attempt) > 5


@every_kind
def test_ctrl_c_as_it_goes_to_sleep(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outside of Trio, nothing can put that off; but the next call sees to it."""

    def interrupted(self: LoopAlarm, until: float | None) -> None:
        patch.undo()
        raise KeyboardInterrupt

    with loop.clock.timer_group() as timers, monkeypatch.context() as patch:
        timers.call_later(60, int)
        loop.called()
        patch.setattr(LoopAlarm, "lie_down", interrupted)
        with pytest.raises(KeyboardInterrupt):
            loop.driver.advance_timers()
        assert loop.advance() == 1060
        timers.call_later(5, int)
        assert loop.called() == 1


@every_kind
def test_a_signal_handler_at_any_moment(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each line a timer may be set: the loop is told of it, or called."""

    moment = lines = 0

    def trace_calls(frame: FrameType, event: str, arg: object) -> Any:
        return trace if "trio_clockrt" in frame.f_code.co_filename else None

    def trace(frame: FrameType, event: str, arg: object) -> Any:
        nonlocal lines
        if event == "line":
            lines += 1
            if lines == moment:
                sys.settrace(None)
                timers.call_at(1005, int)
        return trace

    before = sys.gettrace()
    while lines >= moment:
        moment, lines = moment + 1, 0
        with loop.clock.timer_group() as timers:
            timers.call_at(1060, int)
            loop.driver.advance_timers()
            loop.called()
            sys.settrace(trace_calls)
            try:
                told = loop.driver.advance_timers()
            finally:
                sys.settrace(before)
            if lines >= moment:
                called = loop.called()
                assert told == 1005 or called, moment
                assert loop.advance() == 1005
    assert moment > 20


# --- other threads ---


def test_timers_of_other_threads() -> None:
    loop = Loop(shared)
    with loop.clock.timer_group() as timers:
        for first, earlier in (60, 1), (61, 1), (30, 1):
            # (More often than it must: the loop has not read of the first one yet.)
            in_a_thread(partial(timers.call_later, first, int))
            assert loop.called() == earlier
        assert loop.driver.next_deadline == 1030
        assert not loop.called()
        for seconds, earlier in (60, 0), (30, 0), (inf, 0), (29.0, 1):
            in_a_thread(partial(timers.call_later, seconds, int))
            assert loop.called() == earlier
        assert loop.advance() == 1029
        in_a_thread(timers.cancel_timers)
        assert not loop.called()
        assert loop.advance() is None


def test_it_is_called_in_the_thread_that_sets_the_timer() -> None:
    def use() -> None:
        threads.append(threading.current_thread())
        timers.call_later(60, int)
        with pytest.raises(RuntimeError, match="where the clock was activated"):
            loop.then = loop.driver.advance_timers
            timers.call_later(50, int)

    loop = Loop(shared)
    loop.then = lambda: threads.append(threading.current_thread())
    threads: list[threading.Thread] = []
    with loop.clock.timer_group() as timers:
        in_a_thread(use)
        assert threads[0] is threads[1] is not threading.current_thread()
        assert loop.driver.next_deadline == 1050


def test_an_exception_leaves_the_call_in_another_thread() -> None:
    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            await loop.clock.delay(10)
        with pytest.raises(ZeroDivisionError):
            await wait_at_most(loop.clock, 10)
        await trio.testing.wait_all_tasks_blocked()

    def use() -> None:
        with pytest.raises(ZeroDivisionError):
            loop.clock.delay_blocking(10)
        trio.run(main)
        with pytest.raises(ZeroDivisionError):
            timers.call_later(20, int)

    loop = Loop(shared)
    loop.then = fail
    with loop.clock.timer_group() as timers:
        in_a_thread(use)
        loop.called()
        assert loop.advance() == 1020
        assert loop.driver.statistics().pending == 1


def test_a_task_in_another_thread_is_the_last() -> None:
    async def main() -> None:
        with trio.move_on_after(0):
            await clock.delay(inf)
        clock.close()
        with trio.CancelScope() as scope:
            async with owner.open_timers():
                owner.close()
                loop.called()
                scope.cancel()
                await trio.lowlevel.checkpoint()

    loop = Loop(shared)
    clock, owner = loop.clock, loop.clock.clone()
    del loop.clock
    in_a_thread(partial(trio.run, main))
    assert loop.called()
    with pytest.raises(ClockGone):
        loop.driver.advance_timers()


def test_another_thread_cancels_the_last_timer() -> None:
    loop = Loop(shared)
    with loop.clock.timer_group() as timers:
        timer = timers.call_later(inf, int)
        assert loop.advance() is None
        loop.clock.close()
        assert loop.called() == 1
        assert loop.advance() is None
        in_a_thread(timer.cancel)
        assert loop.called() == 1
        with pytest.raises(ClockGone):
            loop.driver.advance_timers()


def test_very_many_messages() -> None:
    """A loop that sleeps for ever does not let them pile up."""

    def use() -> None:
        for _ in range(1100):
            timers.call_later(60, int)

    loop = Loop(shared)
    with loop.clock.timer_group() as timers:
        timers.call_later(10, int)
        loop.called()
        assert loop.advance() == 1010
        in_a_thread(use)
        assert 0 < loop.called() < 100
        assert loop.advance() == 1010


def test_very_many_messages_while_it_is_awake() -> None:
    def use() -> None:
        for _ in range(1100):
            timers.call_later(60, int)

    loop = Loop(shared)
    with loop.clock.timer_group() as timers:
        timers.call_later(0, in_a_thread, use)
        loop.called()
        assert loop.advance() == 1060


def test_a_message_while_the_loop_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """It sees the loop awake, and the loop sees it, or is called."""

    def setting(self: Timers) -> float:
        deadline = next_deadline(self)
        patch.undo()
        in_a_thread(lambda: timers.call_later(5, int))
        assert not loop.calls
        return deadline

    next_deadline = Timers.next_deadline
    loop = Loop(shared)
    with loop.clock.timer_group() as timers, monkeypatch.context() as patch:
        timers.call_later(60, int)
        loop.called()
        patch.setattr(Timers, "next_deadline", setting)
        assert loop.driver.advance_timers() == 1060
        assert loop.called() == 1
        assert loop.advance() == 1005


def test_a_loop_in_real_time_that_never_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """If one call were lost, it would sleep for ever."""

    def chain(n: int) -> None:
        if n:
            in_a_thread(lambda: timers.call_later(0, chain, n - 1))
        else:
            done.append(None)

    def set_some() -> None:
        for _ in range(200):
            fired = threading.Event()
            timers.call_later(0.0001, fired.set)
            assert fired.wait(60)
        timers.call_later(0, chain, 100)

    monkeypatch.undo()
    done: list[None] = []
    wake_up = threading.Event()
    clock, driver = shared(on_earlier=wake_up.set)
    with clock.timer_group() as timers:
        thread = threading.Thread(target=set_some)
        thread.start()
        while not done:
            deadline = driver.advance_timers()
            if not done:
                left = deadline and max(0, deadline - clock.instant())
                assert wake_up.wait(left) or deadline is not None
                wake_up.clear()
        thread.join()


# --- a control ---


def test_beside_what_else_a_control_moves() -> None:
    def set_another() -> None:
        log.append(loop.clock.instant())
        timers.call_later(2, log.append, "another")
        assert not loop.called()  # it has been, and has not come by yet

    log: list[object] = []
    control = ClockControl()
    loop = Loop(InactiveClock.from_control(control).activate_manual)
    other = control.to_clock()
    with loop.clock.timer_group() as timers, other.timer_group() as others:
        others.call_later(5, log.append, "other")
        assert not loop.called()
        timers.call_later(10, log.append, "late")
        assert loop.called() == 1
        assert loop.advance() == 10
        timers.call_later(3, set_another)
        assert loop.called() == 1
        control.advance(6)
        assert log == [3.0, "another", "other"]
        control.jump(4)
        assert log[3:] == ["late"]
        timers.call_later(1, int)
        assert not loop.called()  # it comes by at 10
        assert loop.advance() == 11


# --- never late ---

lengths = st.one_of(st.integers(0, 10), st.just(inf))


class NeverLate(RuleBasedStateMachine):
    """A loop that only sleeps for what it was told, or until it is called."""

    @initialize(kind=st.sampled_from(["isolated", "shared", "controlled"]))
    def make(self, kind: str) -> None:
        self.now = 0.0
        self.control: ClockControl | None = None
        self.patch = pytest.MonkeyPatch()
        recipe: InactiveClock[Any] = InactiveClock()
        if kind == "controlled":
            self.control = ClockControl()
            recipe = InactiveClock.from_control(self.control)
        elif kind == "shared":
            recipe = InactiveClock.new_shared()
        for name in "instant", "now":
            self.patch.setattr(SystemSource, name, lambda _: self.now)
        self.called = False
        self.until = inf
        self.clock, self.driver = recipe.activate_manual(on_earlier=self.on_earlier)
        self.elsewhere = in_a_thread if kind == "shared" else lambda fn: fn()
        self.block = self.clock.timer_group()
        self.timers: TimerGroup = self.block.__enter__()
        self.known: list[Timer] = []
        self.due: dict[int, float] = {}

    def teardown(self) -> None:
        self.block.__exit__(None, None, None)
        self.patch.undo()

    def on_earlier(self) -> None:
        self.called = True

    def fire(self, number: int) -> None:
        assert self.due.pop(number) == self.now

    @rule(seconds=lengths, elsewhere=st.booleans())
    def set(self, seconds: float, elsewhere: bool) -> None:
        number = len(self.known)
        self.due[number] = self.now + seconds

        def set_one() -> None:
            self.known.append(self.timers.call_later(seconds, self.fire, number))

        self.elsewhere(set_one) if elsewhere else set_one()

    @precondition(lambda self: self.known)
    @rule(data=st.data(), seconds=lengths, elsewhere=st.booleans())
    def reset(self, data: st.DataObject, seconds: float, elsewhere: bool) -> None:
        number = data.draw(st.integers(0, len(self.known) - 1))
        self.due[number] = self.now + seconds
        reset = partial(self.known[number].reset, seconds)
        self.elsewhere(reset) if elsewhere else reset()

    @precondition(lambda self: self.known)
    @rule(data=st.data(), elsewhere=st.booleans())
    def cancel(self, data: st.DataObject, elsewhere: bool) -> None:
        number = data.draw(st.integers(0, len(self.known) - 1))
        self.due.pop(number, None)
        cancel = self.known[number].cancel
        self.elsewhere(cancel) if elsewhere else cancel()

    @rule()
    def sleep_for_the_next_deadline_instead(self) -> None:
        deadline = self.driver.next_deadline
        self.until = inf if deadline is None else deadline

    @rule()
    def comes_by_without_a_reason(self) -> None:
        self.until = self.now

    @invariant()
    def loop(self) -> None:
        """Time passes until all that can happen without the loop being woken has."""
        while self.called or self.until <= self.now:
            self.called = False
            deadline = self.driver.advance_timers()
            assert not self.called
            self.until = inf if deadline is None else deadline

    @rule(seconds=st.integers(1, 10))
    def time_passes(self, seconds: int) -> None:
        end = self.now + seconds
        while self.until <= end:
            self.go_to(self.until)
            self.loop()
        self.go_to(end)

    def go_to(self, instant: float) -> None:
        if self.control is not None:
            # As a jump would fire what is due, without the loop.
            self.control._time.go_to(instant)
        self.now = instant

    @invariant()
    def nothing_is_late(self) -> None:
        assert all(when >= self.now for when in self.due.values())


TestNeverLate = NeverLate.TestCase
TestNeverLate.settings = MODEL

"""What can never fire holds nothing alive, without the garbage collector."""

from __future__ import annotations

import gc
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar, copy_context
from functools import partial
from typing import Any
from weakref import ref

import pytest
import trio
from kinds_of_clock import Open, own, own_shared, stand_alone
from shared_clock import SharedClock, in_thread
from trio.testing import MockClock

from trio_clockrt import (
    Clock,
    ClockGone,
    InactiveClock,
    Timer,
    TimerGroup,
    TimerNursery,
    open_clock,
)


class Thing:
    """Something of the user's."""

    timer: Timer

    def method(self, *args: object) -> None: ...

    async def async_method(self, *args: object) -> None: ...


variable: ContextVar[Thing] = ContextVar("variable")


@pytest.fixture(autouse=True)
def _no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def in_context(thing: Thing, fn: Callable[..., Timer], *args: Any) -> Timer:
    context = copy_context()
    context.run(variable.set, thing)
    return context.run(fn, *args)


def call_method(group: TimerGroup, thing: Thing, seconds: float) -> Timer:
    return group.call_later(seconds, thing.method)


def pass_it(group: TimerGroup, thing: Thing, seconds: float) -> Timer:
    return group.call_later(seconds, lambda _: None, thing)


def have_a_context(group: TimerGroup, thing: Thing, seconds: float) -> Timer:
    return in_context(thing, group.call_later, seconds, int)


def call_it_every(group: TimerGroup, thing: Thing, seconds: float) -> Timer:
    return group.call_every(seconds or 1e-3, thing.method)


def start_method(group: TimerGroup, thing: Thing, seconds: float) -> Timer:
    assert isinstance(group, TimerNursery)
    return group.start_later(seconds, thing.async_method)


def be_its_name(group: TimerGroup, thing: Thing, seconds: float) -> Timer:
    assert isinstance(group, TimerNursery)
    return group.start_later(seconds, trio.sleep, 0, name=thing)


CALLS = [call_method, pass_it, have_a_context, call_it_every]
STARTS = [start_method, be_its_name]
Hold = Callable[[TimerGroup, Thing, float], Timer]
each_call = pytest.mark.parametrize("hold", CALLS)
each_timer = pytest.mark.parametrize("hold", [*CALLS, *STARTS])


class Kept:
    """Three timers that are kept: pending, cancelled and fired, each for a thing."""

    def __init__(self, group: TimerGroup, hold: Hold) -> None:
        self.timers: list[Timer] = []
        self.things: list[ref[Thing]] = []
        for seconds in 1e6, 1e6, 0:
            thing = Thing()
            # A cycle, if the timer calls its method.
            thing.timer = hold(group, thing, seconds)
            self.timers.append(thing.timer)
            self.things.append(ref(thing))
        self.timers[1].cancel()

    def check_that_they_hold(self) -> None:
        assert all(thing() for thing in self.things)
        self.timers[1].reset(1e6)
        self.timers[1].cancel()

    def check_that_they_let_go(self, error: type[Exception], said: str) -> None:
        assert [thing() for thing in self.things] == [None] * 3
        for timer in self.timers:
            assert said in repr(timer)
            assert not timer.pending
            assert not timer.cancel()
            with pytest.raises(error):
                timer.reset(1)


each_kind = pytest.mark.parametrize("open_it", [own, own_shared, stand_alone])


# --- the block has ended ---


@each_kind
@each_timer
async def test_the_end_of_a_nursery(
    hold: Hold, open_it: Open, autojump_clock: MockClock
) -> None:
    async with open_it() as clock:
        async with clock.open_timers(on_exit="cancel") as timers:
            kept = Kept(timers, hold)
            await clock.delay(1)
            kept.check_that_they_hold()
        kept.check_that_they_let_go(RuntimeError, "of a closed block")


@pytest.mark.parametrize("shared", [False, True])
@each_call
def test_the_end_of_a_group(hold: Hold, shared: bool) -> None:
    recipe: InactiveClock[Any] = InactiveClock()
    if shared:
        recipe = InactiveClock.new_shared()
    clock, driver = recipe.activate_manual()
    with clock.timer_group() as timers:
        kept = Kept(timers, hold)
        driver.advance_timers()
        kept.check_that_they_hold()
    kept.check_that_they_let_go(RuntimeError, "of a closed block")


async def test_the_task_of_the_nursery(autojump_clock: MockClock) -> None:
    kept: list[Timer] = []
    things: list[ref[Thing]] = []

    async def use(clock: Clock) -> None:
        thing = Thing()
        things.append(ref(thing))
        variable.set(thing)
        async with clock.open_timers() as timers:
            kept.append(timers.call_later(1, thing.method))

    async with open_clock() as clock:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(use, clock)
        assert things[0]() is None
        assert not kept[0].pending


# --- the clock is gone ---


@asynccontextmanager
async def endable(
    open_it: Open,
) -> AsyncGenerator[tuple[Clock, Callable[[], Awaitable[None]]]]:
    """A clock, and what ends it."""
    leave, left = trio.Event(), trio.Event()

    async def hold(*, task_status: trio.TaskStatus[Clock]) -> None:
        async with open_it() as clock:
            task_status.started(clock)
            await leave.wait()
        left.set()

    async def end() -> None:
        leave.set()
        await left.wait()

    async with trio.open_nursery() as nursery:
        clock: Clock = await nursery.start(hold)
        yield clock, end
        leave.set()


@pytest.mark.parametrize("open_it", [own, own_shared])
@each_timer
async def test_the_end_of_the_clock(
    hold: Hold, open_it: Open, autojump_clock: MockClock
) -> None:
    async with endable(open_it) as (clock, end):
        with suppress(BaseException):
            async with clock.open_timers() as timers:
                kept = Kept(timers, hold)
                await clock.delay(1)
                kept.check_that_they_hold()
                with trio.CancelScope(shield=True):
                    await end()
                    kept.check_that_they_let_go(ClockGone, "of a clock that is gone")
                    checked = True
        assert checked


@pytest.mark.parametrize("shared", [False, True])
@each_call
def test_nobody_holds_the_driver_any_more(hold: Hold, shared: bool) -> None:
    recipe: InactiveClock[Any] = InactiveClock()
    if shared:
        recipe = InactiveClock.new_shared()
    clock, driver = recipe.activate_manual()
    with clock.timer_group() as timers:
        kept = Kept(timers, hold)
        driver.advance_timers()
        kept.check_that_they_hold()
        del driver
        kept.check_that_they_let_go(ClockGone, "of a clock that is gone")


@each_call
def test_nobody_uses_the_clock_any_more(hold: Hold) -> None:
    clock, driver = InactiveClock().activate_manual()
    with clock.timer_group() as timers:
        thing = Thing()
        thing.timer = hold(timers, thing, 0)
        timer, reference = thing.timer, ref(thing)
        del thing
        timer.cancel()
        clock.close()
        with pytest.raises(ClockGone):
            driver.advance_timers()
        assert reference() is None


# --- while the group is open ---


def test_timers_that_nobody_keeps_are_freed() -> None:
    clock, driver = InactiveClock().activate_manual()
    things: list[ref[Thing]] = []
    with clock.timer_group() as timers:
        for n in range(1000):
            thing = Thing()
            things.append(ref(thing))
            timer = timers.call_later(n % 2, thing.method)
            if n % 2:
                timer.cancel()
        del thing, timer
        driver.advance_timers()
        assert [thing() for thing in things] == [None] * 1000


def test_a_timer_that_is_cancelled_again_and_again() -> None:
    clock, _driver = InactiveClock().activate_manual()
    with clock.timer_group() as timers:
        thing = Thing()
        reference, timer = ref(thing), timers.call_later(1, thing.method)
        others = [timers.call_later(1, int) for _ in range(100)]
        del thing
        for _ in range(1000):
            timer.cancel()
            timer.reset(1)
        for other in others:
            other.cancel()
        timers.cancel_timers()
        assert reference() is not None
        timer.reset(1)
        assert timer.pending
    assert reference() is None


def test_a_callback_that_ends_its_block() -> None:
    log: list[str] = []
    clock, driver = InactiveClock().activate_manual()
    block = clock.timer_group()
    timers = block.__enter__()

    def end(what: str) -> str:
        block.__exit__(None, None, None)
        log.append(what)
        return what

    timers.call_later(0, end, "ended")
    timers.call_later(0, log.append, "never")
    driver.advance_timers()
    assert log == ["ended"]


@pytest.mark.parametrize("run", ["home", "other"])
def test_a_shared_clock_in_another_run(run: str, shared: SharedClock) -> None:
    kept: list[Kept] = []
    leave = trio.Event()

    async def use() -> None:
        async with shared.clock.open_timers(on_exit="cancel") as timers:
            kept.append(Kept(timers, call_method))
            await leave.wait()

    shared.start(run, use)
    shared.jump(1)
    in_thread(kept[0].check_that_they_hold)
    shared.in_place(run, leave.set)
    kept[0].check_that_they_let_go(RuntimeError, "of a closed block")


def test_the_name_of_a_timer_that_holds() -> None:
    clock, _driver = InactiveClock().activate_manual()
    with clock.timer_group() as timers:
        assert "Thing.method" in repr(timers.call_later(1, Thing().method))
        assert "partial" in repr(timers.call_later(1, partial(int)))

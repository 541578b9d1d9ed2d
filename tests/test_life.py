"""How a clock begins and ends."""

from __future__ import annotations

import gc
import signal
import sys
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any

import pytest
import trio
import trio.testing
from trio.lowlevel import current_root_task

from trio_clockrt import (
    Clock,
    ClockDriver,
    ClockGone,
    InactiveClock,
    TimerNursery,
    open_clock,
)
from trio_clockrt._periodic import Grid
from trio_clockrt._waiters import EndWaiter

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup, ExceptionGroup


def driver_tasks() -> list[trio.lowlevel.Task]:
    root = current_root_task()
    assert root is not None
    return [
        task
        for nursery in root.child_nurseries
        for task in nursery.child_tasks
        if "trio_clockrt driver" in task.name
    ]


# --- entering ---


async def test_a_recipe_becomes_a_clock_and_its_driver() -> None:
    async with InactiveClock().activate() as (clock, driver):
        assert isinstance(clock, Clock)
        assert isinstance(driver, ClockDriver)
        assert clock.alive


async def test_the_driver_is_a_system_task_that_says_whose_it_is() -> None:
    assert driver_tasks() == []
    async with open_clock():
        [task] = driver_tasks()
        assert trio.lowlevel.current_task().name in task.name
    assert driver_tasks() == []


async def test_a_recipe_makes_one_clock_only() -> None:
    recipe = InactiveClock()
    early = recipe.activate()
    async with recipe.activate():
        with pytest.raises(RuntimeError, match=r"clone\(\)"):
            recipe.activate()
        with pytest.raises(RuntimeError, match=r"clone\(\)"):
            await early.__aenter__()
        assert len(driver_tasks()) == 1
    assert "activated already" in repr(recipe)
    async with recipe.clone().activate() as (clock, _):
        assert clock.alive


def test_entering_outside_of_trio_says_so_and_does_not_use_up_the_recipe() -> None:
    recipe = InactiveClock()
    with pytest.raises(RuntimeError, match="inside a Trio run"):
        recipe.activate().__aenter__().send(None)

    async def main() -> None:
        async with recipe.activate() as (clock, _):
            await clock.delay(0)

    trio.run(main)


async def test_activations_are_independent_of_each_other() -> None:
    async with open_clock() as outer:
        async with open_clock() as inner:
            await inner.delay(0.001)
            await outer.delay(0.001)
        with pytest.raises(ClockGone):
            await inner.delay(0.001)
        await outer.delay(0.001)


# --- leaving ---


async def test_leaving_waits_until_the_driver_has_stopped() -> None:
    async with open_clock() as clock:
        await trio.testing.wait_all_tasks_blocked()
        assert len(driver_tasks()) == 1
    assert driver_tasks() == []
    assert not clock.alive


async def test_leaving_before_the_driver_has_taken_its_first_step() -> None:
    async with open_clock():
        pass
    assert driver_tasks() == []


async def test_leaving_is_a_schedule_point_and_not_a_cancel_point() -> None:
    had_a_turn: list[bool] = []

    async def other() -> None:
        had_a_turn.append(True)

    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            async with open_clock():
                nursery.start_soon(other)
                scope.cancel()
            assert had_a_turn
        assert not scope.cancelled_caught


async def test_leaving_while_cancelled() -> None:
    with trio.move_on_after(0) as scope:
        async with open_clock() as clock:
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert not clock.alive
    assert driver_tasks() == []


@pytest.mark.parametrize(
    "error",
    [
        ValueError("bare"),
        KeyboardInterrupt("bare"),
        ExceptionGroup("as it was", [ValueError()]),
        StopIteration(),
        StopAsyncIteration(),
        GeneratorExit(),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("make", [open_clock, lambda: InactiveClock().activate()])
async def test_an_exception_leaves_the_block_as_it_was_raised(
    error: BaseException, make: type[AbstractAsyncContextManager[object]]
) -> None:
    async def body() -> None:
        async with make():
            raise error

    # An `async def` cannot let StopIteration out, so look at what leaves the block.
    block = make()
    await block.__aenter__()
    assert not await block.__aexit__(type(error), error, None)
    if not isinstance(error, StopIteration):
        with pytest.raises(type(error)) as caught:
            await body()
        assert caught.value is error
        assert caught.value.__context__ is None


# --- whoever still waits ---


async def test_whoever_waits_elsewhere_is_woken_with_clock_gone() -> None:
    woken: list[str] = []

    async def delay(clock: Clock, seconds: float) -> None:
        with pytest.raises(ClockGone, match="block that activated it"):
            await clock.delay(seconds)
        woken.append(f"delay {seconds}")

    async def delay_until(clock: Clock) -> None:
        with pytest.raises(ClockGone):
            await clock.delay_until(clock.instant() + 60)
        woken.append("delay_until")

    async def periodic(clock: Clock) -> None:
        with pytest.raises(ClockGone):
            async for _ in clock.periodic(60):
                raise AssertionError
        woken.append("periodic")

    async def timers_with_something_pending(clock: Clock) -> None:
        with pytest.raises(ExceptionGroup) as caught:
            async with clock.open_timers() as timers:
                timers.call_later(60, print)
        assert caught.group_contains(ClockGone, depth=1)
        woken.append("timers, leaving")

    async def timers_with_a_busy_body(clock: Clock) -> None:
        with pytest.raises(ExceptionGroup) as caught:
            async with clock.open_timers(on_exit="cancel"):
                await trio.sleep_forever()
        assert caught.group_contains(ClockGone, depth=1)
        woken.append("timers, in their body")

    async with trio.open_nursery() as nursery, open_clock() as clock:
        nursery.start_soon(delay, clock, 60)
        nursery.start_soon(delay, clock, float("inf"))
        nursery.start_soon(delay_until, clock)
        nursery.start_soon(periodic, clock)
        nursery.start_soon(timers_with_something_pending, clock)
        nursery.start_soon(timers_with_a_busy_body, clock)
        await trio.testing.wait_all_tasks_blocked()
        assert woken == []
    assert sorted(woken) == [
        "delay 60",
        "delay inf",
        "delay_until",
        "periodic",
        "timers, in their body",
        "timers, leaving",
    ]


async def test_a_waiter_that_was_cancelled_first_gets_cancelled() -> None:
    scope = trio.CancelScope()

    async def waiter(clock: Clock) -> None:
        with scope:
            await clock.delay(60)

    async with trio.open_nursery() as nursery, open_clock() as clock:
        nursery.start_soon(waiter, clock)
        await trio.testing.wait_all_tasks_blocked()
        scope.cancel()
    assert scope.cancelled_caught


async def test_a_timer_nursery_that_was_cancelled_first_is_cancelled() -> None:
    cancelled, gone = trio.Event(), trio.Event()

    async def shielded() -> None:
        with trio.CancelScope(shield=True):
            opened[0].cancel_scope.cancel()
            cancelled.set()
            await gone.wait()

    async def use(clock: Clock) -> None:
        async with clock.open_timers() as timers:
            opened.append(timers)
            timers.start_later(0, shielded)
            await clock.delay(3600)
        assert timers.cancel_scope.cancelled_caught

    opened: list[TimerNursery] = []
    async with trio.open_nursery() as nursery:
        async with open_clock() as clock:
            nursery.start_soon(use, clock)
            await cancelled.wait()
        gone.set()


async def test_a_gone_clock_refuses_timers_and_still_tells_the_time() -> None:
    async with InactiveClock().activate() as (clock, driver):
        watch = clock.stopwatch()
        ticks = clock.periodic(1)
        async with clock.open_timers() as timers:
            timer = timers.call_later(60, print)
            timer.cancel()
        manager = clock.open_timers()
    for use in (
        lambda: clock.periodic(1),
        lambda: clock.move_on_after(1),
        lambda: clock.move_on_at(1),
        lambda: clock.fail_after(1),
        lambda: clock.fail_at(1),
        clock.open_timers,
        ticks.reset,
        lambda: timers.call_later(1, print),
        lambda: timer.reset(1),
        driver.advance_timers,
    ):
        with pytest.raises(ClockGone):
            use()
    for wait in (
        clock.delay(1),
        clock.delay(0),
        clock.delay_until(clock.instant() - 1),
        ticks.__anext__(),
        manager.__aenter__(),
    ):
        with pytest.raises(ClockGone):
            await wait
    assert not timer.pending
    assert timer.cancel() is False
    timers.cancel_timers()
    assert clock.instant() >= watch.start
    assert watch.elapsed() >= 0
    assert clock.system_time().tzinfo is not None
    assert driver.next_deadline is None
    assert "gone" in repr(clock)
    assert "gone" in repr(driver)


def test_a_clock_of_a_run_that_is_over_is_gone() -> None:
    async def main() -> Clock:
        async with open_clock() as clock:
            return clock

    clock = trio.run(main)

    async def later() -> None:
        with pytest.raises(ClockGone):
            await clock.delay(1)

    assert not clock.alive
    assert clock.instant() > 0
    trio.run(later)


# --- defects in the driver ---


class Defect(Exception):
    pass


def break_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make drivers fail when they wake up with a timer that is due."""

    def advance_timers(self: ClockDriver) -> float | None:
        if self.statistics().pending:
            raise Defect
        return None

    monkeypatch.setattr(ClockDriver, "advance_timers", advance_timers)


async def test_a_defect_in_the_driver_cancels_the_block_and_comes_out_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    break_driver(monkeypatch)
    with pytest.raises(Defect):
        async with open_clock() as clock:
            await clock.delay(0.001)
            raise AssertionError
    assert not clock.alive


async def test_a_defect_and_an_error_of_the_body_come_out_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    break_driver(monkeypatch)
    with pytest.raises(ExceptionGroup, match="driver failed") as caught:
        async with open_clock() as clock:
            try:
                await clock.delay(0.001)
            finally:
                raise ValueError
    assert [type(exc) for exc in caught.value.exceptions] == [ValueError, Defect]


async def test_who_waits_elsewhere_when_the_driver_fails_sees_clock_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def wait_elsewhere(clock: Clock) -> None:
        with pytest.raises(ClockGone):
            await clock.delay(60)

    async with trio.open_nursery() as nursery, open_clock() as clock:
        nursery.start_soon(wait_elsewhere, clock)
        await trio.testing.wait_all_tasks_blocked()
        break_driver(monkeypatch)
        with pytest.raises(Defect):
            async with open_clock() as broken:
                nursery.start_soon(wait_elsewhere, broken)
                await broken.delay(0.001)
        with pytest.raises(ClockGone, match="its driver has failed"):
            await broken.delay(0)


async def test_a_defect_and_a_group_with_cancellations_in_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fail_when_cancelled() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError

    break_driver(monkeypatch)
    with pytest.raises(BaseExceptionGroup) as caught:
        async with open_clock() as clock, trio.open_nursery() as nursery:
            nursery.start_soon(fail_when_cancelled)
            nursery.start_soon(trio.sleep_forever)
            await clock.delay(0.001)
    nested, defect = caught.value.exceptions
    assert isinstance(defect, Defect)
    assert isinstance(nested, ExceptionGroup)
    [error] = nested.exceptions
    assert isinstance(error, ValueError)


async def test_a_defect_while_others_are_told_of_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def clock_gone(self: EndWaiter) -> None:
        original(self)
        raise Defect

    original = EndWaiter._clock_gone
    monkeypatch.setattr(EndWaiter, "_clock_gone", clock_gone)
    async with trio.open_nursery() as nursery:
        with pytest.raises(Defect):
            async with InactiveClock().activate() as (_clock, driver):
                nursery.start_soon(driver.wait_gone)
                await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


@pytest.mark.skipif(
    trio.__version__.startswith("0.27."), reason="Trio 0.27 does not notice that"
)
async def test_a_timer_nursery_that_its_task_has_abandoned() -> None:
    # Trio says so to the task, and the clock is not to make that any worse.
    async def generator(clock: Clock) -> AsyncGenerator[None, None]:
        async with clock.open_timers(on_exit="cancel"):
            yield

    async def use(clock: Clock) -> None:
        generators.append(generator(clock))
        await generators[0].__anext__()

    generators: list[AsyncGenerator[None, None]] = []
    with pytest.raises(ExceptionGroup) as caught:
        async with open_clock() as clock, trio.open_nursery() as nursery:
            nursery.start_soon(use, clock)
    [error] = caught.value.exceptions
    assert "Nursery stack corrupted" in str(error)
    with suppress(RuntimeError, BaseExceptionGroup):
        await generators[0].aclose()


async def test_a_defect_while_a_timer_fires(monkeypatch: pytest.MonkeyPatch) -> None:
    def advance(self: object, now: float, *, missed: bool) -> None:
        raise Defect

    monkeypatch.setattr(Grid, "advance", advance)
    with pytest.raises(Defect):
        async with open_clock() as clock, clock.open_timers() as timers:
            timer = timers.call_every(0.001, print)
    assert not timer.pending


# --- hard moments ---


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_while_leaving_is_not_lost_and_does_not_leave_the_driver() -> None:
    tasks: list[trio.lowlevel.Task] = []

    @trio.lowlevel.enable_ki_protection
    def interrupt() -> None:
        signal.raise_signal(signal.SIGINT)

    async def main() -> None:
        async with open_clock():
            await trio.testing.wait_all_tasks_blocked()
            # Delivered when the main task is next ready to be interrupted, which is
            # while it waits for the driver.
            interrupt()
        tasks.extend(driver_tasks())
        await trio.lowlevel.checkpoint()

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)
    assert tasks == []


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("method", ["__aenter__", "__aexit__"])
def test_ctrl_c_between_the_block_of_open_clock_and_its_activation(method: str) -> None:
    class InterruptsFirst:
        def __init__(self, activation: Any) -> None:
            self.activation = activation

        async def __aenter__(self) -> object:
            if method == "__aenter__":
                signal.raise_signal(signal.SIGINT)
            return await self.activation.__aenter__()

        async def __aexit__(self, *exc_info: object) -> bool | None:
            if method == "__aexit__":
                signal.raise_signal(signal.SIGINT)
            result: bool | None = await self.activation.__aexit__(*exc_info)
            return result

    clocks: list[Clock] = []

    async def main() -> None:
        block: Any = open_clock()
        block._activation = InterruptsFirst(block._activation)
        async with block as clock:
            clocks.append(clock)
        assert driver_tasks() == []
        clocks.append(clock)
        await trio.lowlevel.checkpoint()

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)
    # It was put off until after the block.
    assert len(clocks) == 2
    assert not clocks[0].alive


def test_a_block_in_a_system_task_when_the_run_ends() -> None:
    ended: list[tuple[type[BaseException], bool]] = []

    async def system_task() -> None:
        try:
            async with open_clock() as clock:
                await clock.delay(60)
        except (ClockGone, trio.Cancelled) as exc:
            ended.append((type(exc), clock.alive))

    async def main() -> None:
        trio.lowlevel.spawn_system_task(system_task)
        await trio.testing.wait_all_tasks_blocked()

    trio.run(main)
    assert ended in ([(ClockGone, False)], [(trio.Cancelled, False)])


def test_a_block_that_ends_after_the_system_nursery_has_closed() -> None:
    ended: list[str] = []

    async def generator() -> AsyncGenerator[Clock, None]:
        try:
            async with open_clock() as clock:
                yield clock
        finally:
            ended.append("alive" if clock.alive else "gone")
            recipe = InactiveClock()
            with pytest.raises(RuntimeError, match="closed"):
                await recipe.activate().__aenter__()
            ended.append(repr(recipe))

    async def main() -> None:
        # Held until the run ends, when Trio finalises what is left.
        generators.append(generator())
        clock = await generators[0].__anext__()
        await clock.delay(0.001)

    generators: list[AsyncGenerator[Clock, None]] = []
    trio.run(main)
    assert ended == ["gone", "<InactiveClock>"]


# --- threads ---


async def test_timers_belong_to_the_thread_of_their_clock() -> None:
    def elsewhere() -> None:
        async def main() -> None:
            for wait in (clock.delay(1), clock.delay(0), ticks.__anext__()):
                with pytest.raises(RuntimeError, match=r"new_shared\(\)"):
                    await wait

        for use in (
            lambda: clock.move_on_after(1),
            lambda: clock.periodic(1),
            clock.open_timers,
            lambda: timers.call_later(1, print),
            lambda: timer.cancel(),
            lambda: timer.reset(1),
            timers.cancel_timers,
            driver.advance_timers,
        ):
            with pytest.raises(RuntimeError, match=r"new_shared\(\)"):
                use()
        trio.run(main)
        assert clock.instant() > 0
        assert clock.system_time().year > 2000

    async with InactiveClock().activate() as (clock, driver):
        ticks = clock.periodic(1)
        async with clock.open_timers(on_exit="cancel") as timers:
            timer = timers.call_later(60, print)
            await trio.to_thread.run_sync(elsewhere)
            assert timer.pending
            assert driver.statistics().registered == 1
            assert threading.active_count() > 0


# --- nothing stays ---


async def cyclic_garbage(work: Callable[[], Awaitable[None]]) -> int:
    """How many objects the second time leaves to the garbage collector."""
    await work()
    gc.collect()
    gc.disable()
    try:
        await work()
        return gc.collect()
    finally:
        gc.enable()


def test_a_clock_makes_no_cyclic_garbage() -> None:
    async def main() -> None:
        async with open_clock() as clock:
            await clock.delay(0.001)
            async with clock.open_timers() as timers:
                timers.call_later(0, int)
                timers.start_later(0, trio.lowlevel.checkpoint)
            ticks = clock.periodic(0.001)
            await ticks.__anext__()
            with clock.move_on_after(0):
                await clock.delay(60)

    async def without() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.lowlevel.checkpoint)
        with trio.move_on_after(0):
            await trio.sleep(60)

    assert trio.run(cyclic_garbage, main) <= trio.run(cyclic_garbage, without)


@pytest.mark.skipif(
    trio.__version__.startswith("0.27."), reason="Trio 0.27 makes some itself"
)
@pytest.mark.parametrize("at_the_exit", [False, True])
@pytest.mark.parametrize("what", ["the body", "a callback", "a child", "the clock"])
def test_a_nursery_that_fails_makes_no_cyclic_garbage(
    what: str, at_the_exit: bool
) -> None:
    async def fail() -> None:
        raise KeyError

    async def child(clock: Clock) -> None:
        with suppress(BaseExceptionGroup):
            async with clock.open_timers() as timers:
                timers.call_later(60, int)
                if what == "the body":
                    raise KeyError
                if what == "a callback":
                    timers.call_later(0, divmod, 1, 0)
                if what == "a child":
                    timers.start_later(0, fail)
                if not at_the_exit:
                    await trio.sleep_forever()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            async with open_clock() as clock:
                nursery.start_soon(child, clock)
                await trio.testing.wait_all_tasks_blocked()

    assert trio.run(cyclic_garbage, main) == 0

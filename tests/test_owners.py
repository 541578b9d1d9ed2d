"""Who keeps a clock alive, and what happens when nobody does."""

from __future__ import annotations

import gc
import signal
import sys
import threading
import weakref
from collections.abc import Callable

import pytest
import trio
import trio.testing
from crashed_run import Crash
from trio.lowlevel import current_root_task, current_statistics
from trio.testing import MockClock

from trio_clockrt import (
    Clock,
    ClockDriver,
    ClockGone,
    InactiveClock,
    PeriodicTimer,
    open_clock,
)
from trio_clockrt._alarm import TrioAlarm, _lose_driver
from trio_clockrt.testing import ClockControl

if sys.version_info < (3, 11):
    from exceptiongroup import ExceptionGroup


def driver_tasks() -> list[str]:
    root = current_root_task()
    assert root is not None
    return [
        task.name
        for nursery in root.child_nurseries
        for task in nursery.child_tasks
        if "trio_clockrt driver" in task.name
    ]


# --- closing ---


async def test_closing_the_only_owner_ends_the_clock_inside_of_its_block() -> None:
    async with InactiveClock().activate() as (clock, driver):
        clock.close()
        with trio.fail_after(5):
            await driver.wait_gone()
        assert not clock.alive
        with pytest.raises(ClockGone):
            driver.advance_timers()
        await trio.testing.wait_all_tasks_blocked()
        assert driver_tasks() == []
        await trio.lowlevel.checkpoint()  # the block is not cancelled


async def test_the_last_owner_counts() -> None:
    async with InactiveClock().activate() as (clock, driver):
        clones = [clock.clone() for _ in range(3)]
        clones.append(clones[0].clone())
        clock.close()
        for clone in clones:
            await trio.testing.wait_all_tasks_blocked()
            assert clone.alive
            await clone.delay(0)
            assert driver.advance_timers() is None
            clone.close()
            clone.close()
        await driver.wait_gone()
        assert not clock.alive


async def test_a_closed_clock_refuses_timers_and_tells_the_time() -> None:
    async with InactiveClock().activate() as (clock, driver):
        with clock.clone() as closed:
            ticks = closed.periodic(0.001)
            block = closed.open_timers()
            move_on = closed.move_on_after(60)
        assert closed.alive
        assert repr(closed) == "<Clock system, 0 timers, alive, closed>"
        for use in (
            closed.clone,
            lambda: closed.periodic(1),
            lambda: closed.move_on_after(1),
            lambda: closed.move_on_at(1),
            lambda: closed.fail_after(1),
            lambda: closed.fail_at(1),
            closed.open_timers,
            closed.timer_group,
        ):
            with pytest.raises(trio.ClosedResourceError, match=r"clone\(\)"):
                use()
        for wait in (closed.delay(1), closed.delay(0), closed.delay_until(0)):
            with pytest.raises(trio.ClosedResourceError, match="has been closed"):
                await wait
        assert driver.statistics().registered == 0
        assert closed.instant() <= clock.instant()
        assert closed.stopwatch().elapsed() >= 0
        assert closed.system_time().tzinfo is not None
        # What was made before goes on.
        await ticks.__anext__()
        async with block as timers:
            timers.call_later(0, int)
        with move_on:
            await clock.delay(0.001)
    for use in (closed.clone, lambda: closed.periodic(1)):
        with pytest.raises(ClockGone):
            use()


async def test_a_gone_clock_can_still_be_cloned_and_closed() -> None:
    async with open_clock() as clock:
        pass
    clone = clock.clone()
    assert not clone.alive
    assert clone.instant() >= 0
    with clone:
        with pytest.raises(ClockGone):
            await clone.delay(1)
    clock.close()


async def test_with_closes_also_after_an_error() -> None:
    async with InactiveClock().activate() as (clock, driver):
        with pytest.raises(KeyError):
            with clock as entered:
                assert entered is clock
                raise KeyError
        await driver.wait_gone()


# --- what keeps a clock alive ---


async def test_a_waiting_task_keeps_it_alive(mock_clock: MockClock) -> None:
    async with InactiveClock().activate() as (clock, driver):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(clock.delay, 10)
            await trio.testing.wait_all_tasks_blocked()
            clock.close()
            await trio.testing.wait_all_tasks_blocked()
            assert clock.alive
            mock_clock.jump(10)
        await driver.wait_gone()


@pytest.mark.parametrize("kind", [MockClock, ClockControl])
def test_it_is_gone_when_the_last_one_who_waits_goes_on(
    kind: type[MockClock | ClockControl],
) -> None:
    async def wait(clock: Clock, ticks: PeriodicTimer) -> None:
        await anext(ticks)
        assert not clock.alive
        with pytest.raises(ClockGone):
            await anext(ticks)

    async def main() -> None:
        async with open_clock() as clock, trio.open_nursery() as nursery:
            nursery.start_soon(wait, clock, clock.periodic(1))
            await trio.testing.wait_all_tasks_blocked()
            clock.close()

    for _ in range(20):  # as Trio shuffles those who are woken
        trio.run(main, clock=kind(autojump_threshold=0))


async def test_a_task_that_waits_forever_keeps_it_alive() -> None:
    async with InactiveClock().activate() as (clock, driver):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(clock.delay, float("inf"))
            await trio.testing.wait_all_tasks_blocked()
            clock.close()
            await trio.testing.wait_all_tasks_blocked()
            assert driver.next_deadline is None
            assert clock.alive
            nursery.cancel_scope.cancel()
        await driver.wait_gone()


async def test_an_open_nursery_keeps_it_alive(mock_clock: MockClock) -> None:
    calls: list[int] = []
    async with InactiveClock().activate() as (clock, driver):
        async with clock.open_timers() as timers:
            clock.close()
            timers.call_later(1, calls.append, 1)
            mock_clock.jump(1)
            await trio.testing.wait_all_tasks_blocked()
            assert calls == [1]
            assert clock.alive
            timers.call_later(1, calls.append, 2)
            mock_clock.jump(1)
        assert calls == [1, 2]
        await driver.wait_gone()


async def test_a_nursery_that_ends_with_an_error_lets_go() -> None:
    async with InactiveClock().activate() as (clock, driver):
        with pytest.raises(ExceptionGroup):
            async with clock.open_timers() as timers:
                clock.close()
                timers.call_later(60, int)
                raise KeyError
        await driver.wait_gone()


async def test_nobody_owns_a_clock_by_iterating_or_waiting_for_its_end() -> None:
    async with InactiveClock().activate() as (clock, driver):
        ticks = clock.periodic(60)
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(driver.wait_gone)
            await trio.testing.wait_all_tasks_blocked()
            clock.close()
        with pytest.raises(ClockGone):
            await ticks.__anext__()


# --- garbage ---


async def test_dropping_the_only_owner_ends_the_clock() -> None:
    async with InactiveClock().activate() as (clock, driver):
        del clock
        await driver.wait_gone()


async def test_an_owner_in_cyclic_garbage(mock_clock: MockClock) -> None:
    gc.disable()
    try:
        async with InactiveClock().activate() as (clock, driver):
            cycle: list[object] = [clock]
            cycle.append(cycle)
            del clock, cycle
            await trio.testing.wait_all_tasks_blocked()
            assert driver.advance_timers() is None
            gc.collect()
            await driver.wait_gone()
    finally:
        gc.enable()


async def test_nothing_inside_keeps_an_owner_alive(mock_clock: MockClock) -> None:
    async def in_a_delay(clock: Clock) -> None:
        waiting = clock.delay(10)
        del clock
        await waiting

    async def until(clock: Clock) -> None:
        waiting = clock.delay_until(10)
        del clock
        await waiting

    async def ticking(clock: Clock) -> None:
        ticks = clock.periodic(10)
        del clock
        await ticks.__anext__()

    async def timers(clock: Clock) -> None:
        block = clock.open_timers()
        del clock
        async with block as timers:
            timers.call_later(10, int)
            timers.start_later(10, trio.lowlevel.checkpoint)

    async def with_a_timeout(clock: Clock) -> None:
        timeout = clock.fail_after(100)
        stopwatch = clock.stopwatch()
        del clock
        with timeout:
            await trio.sleep(10)
        assert stopwatch.elapsed() == 10

    references: list[weakref.ref[Clock]] = []
    gc.disable()
    try:
        async with InactiveClock().activate() as (clock, driver):
            async with trio.open_nursery() as nursery:
                for use in (in_a_delay, until, ticking, timers, with_a_timeout):
                    clone = clock.clone()
                    references.append(weakref.ref(clone))
                    nursery.start_soon(use, clone)
                    del clone
                await trio.testing.wait_all_tasks_blocked()
                references.append(weakref.ref(clock))
                del clock
                # Trio 0.27 keeps the arguments of the tasks themselves.
                kept = 5 if trio.__version__.startswith("0.27.") else 0
                alive = [reference for reference in references if reference()]
                assert len(alive) == kept
                mock_clock.jump(10)
            await driver.wait_gone()
    finally:
        gc.enable()


@pytest.mark.parametrize("make", [open_clock, lambda: InactiveClock().activate()])
async def test_the_block_does_not_keep_its_clock(
    make: Callable[[], trio.abc.AsyncResource],
) -> None:
    gc.disable()
    try:
        async with make():
            await trio.testing.wait_all_tasks_blocked()
            assert driver_tasks() == []
    finally:
        gc.enable()


async def test_dropped_in_another_thread() -> None:
    async with InactiveClock().activate() as (clock, driver):
        owners = [clock]
        del clock
        await trio.testing.wait_all_tasks_blocked()
        await trio.to_thread.run_sync(owners.clear)
        await driver.wait_gone()


async def test_many_threads_clone_and_close() -> None:
    def work(clock: Clock) -> None:
        for _ in range(100):
            with clock.clone() as clone:
                clone.clone().close()
                assert clone.alive
                assert clone.instant() > 0

    async with InactiveClock().activate() as (clock, driver):
        threads = [threading.Thread(target=work, args=[clock]) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            await trio.to_thread.run_sync(thread.join)
        assert clock.alive
        clock.close()
        await driver.wait_gone()


def test_dropped_in_a_thread_after_the_run() -> None:
    async def main() -> Clock:
        async with open_clock() as clock:
            return clock

    owners = [trio.run(main)]
    thread = threading.Thread(target=owners.clear)
    thread.start()
    thread.join()


# Trio, too, complains when its tasks are thrown away.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_dropped_when_nothing_can_be_posted_to_the_run_any_more() -> None:
    owners: list[Clock] = []

    async def main() -> None:
        async with open_clock() as one, open_clock() as two:
            owners.extend([one.clone(), two.clone()])
            await two.delay(60)

    with pytest.raises(trio.TrioInternalError) as caught:
        trio.run(main, clock=Crash())
    del owners[0]
    with pytest.raises(ClockGone, match="run crashed"):
        owners[0].open_timers()
    assert not owners[0].alive
    owners.clear()
    del caught
    gc.collect()


async def test_an_end_that_is_found_by_hand_is_the_end_of_the_task_too(
    mock_clock: MockClock,
) -> None:
    async with InactiveClock().activate() as (clock, driver):
        async with trio.open_nursery() as nursery:
            tasks = current_statistics().tasks_living
            nursery.start_soon(clock.delay, 1)
            await trio.testing.wait_all_tasks_blocked()
            clock.close()
            await trio.testing.wait_all_tasks_blocked()
            assert clock.alive
            mock_clock.jump(1)
            with pytest.raises(ClockGone):
                driver.advance_timers()
            await trio.testing.wait_all_tasks_blocked()
            assert current_statistics().tasks_living == tasks - 1


async def test_dropped_by_a_finalizer_in_the_middle_of_everything(
    mock_clock: MockClock,
) -> None:
    # Each allocation may run the garbage collector, and that a finalizer.
    class Finalized:
        def __init__(self, clock: Clock) -> None:
            self.clock = clock
            self.cycle = self

        def __del__(self) -> None:
            self.clock.close()

    before = gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    try:
        async with InactiveClock().activate() as (clock, driver):
            async with clock.open_timers() as timers:
                for n in range(300):
                    Finalized(clock.clone())
                    timers.call_later(n / 1000, int)
                Finalized(clock)
                gc.collect()
                with pytest.raises(trio.ClosedResourceError):
                    clock.clone()
                mock_clock.jump(1)
            await driver.wait_gone()
    finally:
        gc.set_threshold(*before)


# --- races ---


async def test_a_new_waiter_before_the_driver_has_noticed() -> None:
    async with InactiveClock().activate() as (clock, driver):
        ticks = clock.periodic(0.001)
        await trio.testing.wait_all_tasks_blocked()
        clock.close()
        await ticks.__anext__()
        await driver.wait_gone()


async def test_advance_timers_fires_what_is_left_and_then_says_that_it_is_gone(
    mock_clock: MockClock,
) -> None:
    async with InactiveClock().activate() as (clock, driver):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(clock.delay, 1)
            nursery.start_soon(clock.delay, 2)
            await trio.testing.wait_all_tasks_blocked()
            clock.close()
            mock_clock.jump(1)
            assert driver.advance_timers() == 2
            mock_clock.jump(1)
            with pytest.raises(ClockGone):
                driver.advance_timers()
            with pytest.raises(ClockGone):
                driver.advance_timers()
            assert not clock.alive
        await trio.testing.wait_all_tasks_blocked()
        assert driver_tasks() == []


async def test_the_driver_ends_although_somebody_else_has_found_that_it_may() -> None:
    async with InactiveClock().activate() as (clock, driver):
        async with clock.open_timers() as timers:
            timers.call_later(3600, int)
            clock.close()
            await trio.testing.wait_all_tasks_blocked()
            timers.cancel_timers()
        with pytest.raises(ClockGone):
            driver.advance_timers()
        await trio.testing.wait_all_tasks_blocked()
        assert driver_tasks() == []


async def test_a_gone_clock_keeps_nothing() -> None:
    async def use(clock: Clock) -> None:
        try:
            async with clock.open_timers() as timers:
                references.append(weakref.ref(timers))
                timers.call_later(3600, int)
        except ExceptionGroup:
            pass

    references: list[weakref.ref[object]] = []
    async with trio.open_nursery() as nursery:
        async with InactiveClock().activate() as (clock, driver):
            nursery.start_soon(use, clock)
            nursery.start_soon(driver.wait_gone)
            await trio.testing.wait_all_tasks_blocked()
    gc.collect()
    assert [reference() for reference in references] == [None]
    assert clock.instant() > 0


async def test_a_callback_closes_the_clock(mock_clock: MockClock) -> None:
    calls: list[int] = []
    async with InactiveClock().activate() as (clock, driver):

        def close() -> None:
            clock.close()
            with pytest.raises(trio.ClosedResourceError):
                clock.open_timers()

        async with clock.open_timers() as timers:
            timers.call_later(1, close)
            timers.call_later(1, calls.append, 1)
            timers.call_later(2, calls.append, 2)
            mock_clock.jump(1)
            await trio.testing.wait_all_tasks_blocked()
            assert calls == [1]
            mock_clock.jump(1)
        assert calls == [1, 2]
        await driver.wait_gone()


# --- waiting for the end ---


async def test_wait_gone_waits_for_the_block_as_well() -> None:
    finished: list[bool] = []

    async def wait(driver: ClockDriver) -> None:
        await driver.wait_gone()
        finished.append(True)

    async with trio.open_nursery() as nursery:
        async with InactiveClock().activate() as (clock, driver):
            nursery.start_soon(wait, driver)
            await trio.testing.wait_all_tasks_blocked()
            assert clock.alive
            assert not finished
    assert finished


async def test_wait_gone_is_a_checkpoint_and_can_be_cancelled() -> None:
    async with InactiveClock().activate() as (clock, driver):
        with trio.move_on_after(0) as scope:
            await driver.wait_gone()
        assert scope.cancelled_caught
        assert clock.alive
    with trio.testing.assert_checkpoints():
        await driver.wait_gone()
    with trio.CancelScope() as scope:
        scope.cancel()
        await driver.wait_gone()
    assert scope.cancelled_caught


async def test_wait_gone_belongs_to_the_run() -> None:
    async def wait() -> None:
        with pytest.raises(RuntimeError, match=r"new_shared\(\)"):
            await driver.wait_gone()

    async with InactiveClock().activate() as (clock, driver):
        await trio.to_thread.run_sync(trio.run, wait)
        assert clock.alive


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_while_waiting_for_the_end() -> None:
    async def main() -> None:
        async with InactiveClock().activate() as (clock, driver):
            trio.lowlevel.current_trio_token().run_sync_soon(
                signal.raise_signal, signal.SIGINT
            )
            await driver.wait_gone()
            del clock

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)


async def test_a_closed_clock_says_so_in_another_thread_too() -> None:
    def elsewhere() -> None:
        with pytest.raises(trio.ClosedResourceError):
            closed.clone()

    async with open_clock() as clock:
        closed = clock.clone()
        closed.close()
        await trio.to_thread.run_sync(elsewhere)


def test_two_threads_activate_one_recipe() -> None:
    recipe = InactiveClock()
    early = recipe.activate()
    recipe.activate_manual()

    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"clone\(\)"):
            await early.__aenter__()

    trio.run(main)


# --- between the driver's look and its sleep ---


@pytest.mark.parametrize("what", ["register", "cancel and close"])
async def test_a_finalizer_before_the_driver_is_asleep(
    what: str, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    async def sleep(self: TrioAlarm) -> None:
        if todo:
            todo.pop()()
        await original(self)

    def register() -> None:
        timers.call_at(1, calls.append, "one")

    def cancel_and_close() -> None:
        hour.cancel()
        clock.close()

    original = TrioAlarm.sleep
    monkeypatch.setattr(TrioAlarm, "sleep", sleep)
    todo: list[Callable[[], None]] = []
    async with InactiveClock().activate() as (clock, driver):
        async with clock.open_timers(on_exit="cancel") as timers:
            hour = timers.call_at(3600, calls.append, "hour")
            todo.append(register if what == "register" else cancel_and_close)
            await trio.testing.wait_all_tasks_blocked()
            assert not todo
            mock_clock.jump(1)
            await trio.testing.wait_all_tasks_blocked()
            assert calls == (["one"] if what == "register" else [])
        clock.close()
        await driver.wait_gone()


def test_what_the_exit_of_the_interpreter_drops_stays_as_it_is() -> None:
    """Modules may have lost their names by then, and the driver has gone before."""
    clock, driver = InactiveClock().activate_manual()
    clock.__del__(lambda: True)
    _lose_driver(clock._timers.life, None, lambda: True)
    assert driver.advance_timers() is None
    assert clock.alive

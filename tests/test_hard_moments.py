"""Clocks that end, or are used, at the worst of moments."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from trio_clockrt import Clock, ClockGone, InactiveClock, TimerNursery, open_clock

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup


# --- Ctrl-C ---


@trio.lowlevel.enable_ki_protection
def interrupt_soon() -> None:
    """It is delivered where the main task may be interrupted next."""
    signal.raise_signal(signal.SIGINT)


@contextmanager
def interrupted() -> Generator[None]:
    """KeyboardInterrupt leaves the block, bare or in groups, and nothing else does."""
    try:
        yield
    except KeyboardInterrupt:
        return
    except BaseExceptionGroup as group:
        _, others = group.split(KeyboardInterrupt)
        if others is None:
            return
        raise
    raise AssertionError("no KeyboardInterrupt")


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize(
    "phase", ["entry", "body", "callback", "child", "exit of the nursery", "exit"]
)
def test_ctrl_c(phase: str) -> None:
    clocks: list[Clock] = []

    async def child() -> None:
        if phase == "child":
            signal.raise_signal(signal.SIGINT)

    async def main() -> None:
        if phase == "entry":
            interrupt_soon()
        async with open_clock() as clock:
            clocks.append(clock)
            if phase == "body":
                signal.raise_signal(signal.SIGINT)
            async with clock.open_timers() as timers:
                if phase == "callback":
                    timers.call_later(1, signal.raise_signal, signal.SIGINT)
                timers.start_later(1, child)
                timers.call_later(3600, int)
                await clock.delay(2)
                if phase == "exit of the nursery":
                    interrupt_soon()
                elif phase == "exit":
                    timers.cancel_timers()
            if phase == "exit":
                interrupt_soon()
        await trio.lowlevel.checkpoint()

    with interrupted():
        trio.run(main, clock=MockClock(autojump_threshold=0))
    assert not any(clock.alive for clock in clocks)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_while_nobody_can_be_interrupted_but_the_main_task() -> None:
    async def main() -> None:
        async with open_clock() as clock:
            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(clock.delay, 3600)
                trio.lowlevel.current_trio_token().run_sync_soon(interrupt_soon)
                await clock.delay(3600)

    with interrupted():
        trio.run(main)


# --- the end of the run ---


@pytest.mark.parametrize("shielded", [False, True])
def test_the_run_shuts_down_around_an_open_block(shielded: bool) -> None:
    # A system task is cancelled together with the driver.
    ended: list[str] = []

    async def system_task() -> None:
        try:
            async with open_clock() as clock:
                with trio.CancelScope(shield=shielded):
                    await clock.delay(3600)
        except (ClockGone, trio.Cancelled) as error:
            ended.append(type(error).__name__)
            assert not clock.alive
            with pytest.raises(ClockGone):
                clock.open_timers()

    async def main() -> None:
        trio.lowlevel.spawn_system_task(system_task)
        await trio.testing.wait_all_tasks_blocked()

    trio.run(main)
    assert ended in ([["ClockGone"]] if shielded else [["ClockGone"], ["Cancelled"]])


def test_timers_in_a_system_task_when_the_run_shuts_down() -> None:
    ended: list[str] = []

    async def system_task() -> None:
        try:
            async with open_clock() as clock, clock.open_timers() as timers:
                timers.call_every(1, int)
                timers.start_later(3600, trio.sleep_forever)
        except BaseExceptionGroup as group:
            gone, cancelled = group.split(ClockGone)
            ended.append(f"{gone is not None} {cancelled is not None}")
            if cancelled is not None:
                raise cancelled from None
        except trio.Cancelled:
            ended.append("cancelled")
            raise

    async def main() -> None:
        trio.lowlevel.spawn_system_task(system_task)
        await trio.testing.wait_all_tasks_blocked()

    for _ in range(20):  # which one is cancelled first is up to Trio
        trio.run(main)
    assert len(ended) == 20


def test_the_main_task_fails_beside_a_clock() -> None:
    clocks: list[Clock] = []

    async def use() -> None:
        async with open_clock() as clock:
            clocks.append(clock)
            await clock.delay(3600)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(use)
            await trio.testing.wait_all_tasks_blocked()
            raise KeyError

    with pytest.raises(BaseExceptionGroup) as caught:
        trio.run(main)
    [error] = caught.value.exceptions
    assert isinstance(error, KeyError)
    assert not clocks[0].alive


async def test_an_async_generator_that_is_closed_with_its_clock() -> None:
    async def ticks() -> AsyncGenerator[float, None]:
        async with open_clock() as clock:
            async for tick in clock.periodic(0.001):
                yield tick

    generator = ticks()
    await generator.__anext__()
    await generator.aclose()


def test_an_async_generator_with_timers_that_the_run_finalises() -> None:
    ended: list[type[BaseException]] = []

    async def generator() -> AsyncGenerator[None, None]:
        async with open_clock() as clock:
            try:
                yield
                raise AssertionError
            except BaseException as error:
                ended.append(type(error))
                # The driver and its run have gone before.
                with pytest.raises(ClockGone):
                    await clock.delay(1)
                raise

    async def main() -> None:
        generators.append(generator())
        await generators[0].__anext__()

    generators: list[AsyncGenerator[None, None]] = []
    trio.run(main)
    assert ended == [GeneratorExit]


def test_a_clock_of_a_run_that_has_crashed() -> None:
    # In a process of its own, as what is left of such a run may disturb later ones.
    script = Path(__file__).with_name("crashed_run.py")
    process = subprocess.run(
        [sys.executable, script], capture_output=True, check=False, text=True
    )
    assert process.stdout == "as it should be\n", process.stderr


# --- activations around and beside each other ---


async def test_two_clocks_in_one_run_share_its_time(autojump_clock: MockClock) -> None:
    log: list[str] = []
    async with open_clock() as one, open_clock() as two:
        async with one.open_timers() as first, two.open_timers() as second:
            for seconds in (1, 2, 3):
                first.call_later(seconds, log.append, f"one at {seconds}")
                second.call_later(seconds + 0.5, log.append, f"two at {seconds}.5")
        assert one.instant() == two.instant() == trio.current_time() == 3.5
    assert log == [
        "one at 1",
        "two at 1.5",
        "one at 2",
        "two at 2.5",
        "one at 3",
        "two at 3.5",
    ]


async def test_the_outer_clock_ends_first(autojump_clock: MockClock) -> None:
    async with open_clock() as inner:
        outer_block = open_clock()
        outer = await outer_block.__aenter__()
        await outer.delay(1)
        await outer_block.__aexit__(None, None, None)
        assert not outer.alive
        await inner.delay(1)


async def test_a_recipe_from_one_clock_to_the_next(autojump_clock: MockClock) -> None:
    recipe = InactiveClock()
    for _ in range(10):
        recipe = recipe.clone()
        async with recipe.activate() as (clock, _driver):
            await clock.delay(1)


async def test_a_thousand_clocks_at_once(autojump_clock: MockClock) -> None:
    ended = 0

    async def use(seconds: float) -> None:
        nonlocal ended
        async with open_clock() as clock:
            await clock.delay(seconds)
        ended += 1

    async with trio.open_nursery() as nursery:
        for n in range(1000):
            nursery.start_soon(use, n / 100)
    assert ended == 1000


# --- what callbacks do ---


Do = Callable[[Clock, TimerNursery, trio.CancelScope], object]


async def run_callback(do: Do) -> tuple[list[str], trio.CancelScope]:
    """With a timer before it, one after it that is due as well, and one for later."""
    log: list[str] = []
    with trio.CancelScope() as scope:
        async with open_clock() as clock, clock.open_timers() as timers:
            timers.call_later(1, log.append, "before")
            timers.call_later(1, do, clock, timers, scope)
            timers.call_later(1, log.append, "after")
            timers.call_later(2, log.append, "later")
    assert not clock.alive
    return log, scope


async def test_a_callback_cancels_the_scope_around_the_activation(
    autojump_clock: MockClock,
) -> None:
    log, scope = await run_callback(lambda clock, timers, scope: scope.cancel())
    assert scope.cancelled_caught
    assert log == ["before", "after"]  # it was being left already when it was cancelled


async def test_a_callback_cancels_the_scope_of_its_nursery(
    autojump_clock: MockClock,
) -> None:
    log, scope = await run_callback(
        lambda clock, timers, scope: timers.cancel_scope.cancel()
    )
    assert not scope.cancelled_caught
    assert log == ["before"]


async def test_a_callback_closes_the_clock(autojump_clock: MockClock) -> None:
    log, _ = await run_callback(lambda clock, timers, scope: clock.close())
    assert log == ["before", "after", "later"]


async def test_a_callback_registers_cancels_and_resets(
    autojump_clock: MockClock,
) -> None:
    log: list[tuple[float, str]] = []

    def note(what: str) -> None:
        log.append((clock.instant(), what))

    def everything() -> None:
        note("everything")
        assert not mine.pending
        mine.reset(3)
        victim.cancel()
        late.reset(1)
        timers.call_later(0, note, "registered for now")
        timers.call_at(0, note, "registered for the past")
        timers.start_later(0, child)
        if len(log) > 5:
            mine.cancel()

    async def child() -> None:
        note("child")

    async with open_clock() as clock, clock.open_timers() as timers:
        mine = timers.call_at(1, everything)
        victim = timers.call_at(1, note, "never")
        late = timers.call_at(1.5, note, "reset")
    assert sorted(log) == sorted(
        [
            (1, "everything"),
            (1, "registered for the past"),
            (1, "registered for now"),
            (1, "child"),
            (2, "reset"),
            (4, "everything"),
            (4, "registered for the past"),
            (4, "registered for now"),
            (4, "child"),
            (5, "reset"),
        ]
    )


async def test_a_callback_raises_what_it_has_caught_from_a_timer(
    autojump_clock: MockClock,
) -> None:
    def use_a_closed_nursery() -> None:
        closed.call_later(1, int)

    async with open_clock() as clock:
        async with clock.open_timers() as closed:
            pass
        with pytest.raises(BaseExceptionGroup) as caught:
            async with clock.open_timers() as timers:
                timers.call_later(1, use_a_closed_nursery)
                timers.call_later(2, int)
        [error] = caught.value.exceptions
        assert isinstance(error, RuntimeError)
        await clock.delay(1)


async def test_a_callback_leaves_the_block_of_the_clock(
    autojump_clock: MockClock,
) -> None:
    # It cannot wait for the end, but it can make somebody leave.
    leave = trio.Event()
    told: list[Any] = []

    async def elsewhere(clock: Clock) -> None:
        try:
            async with clock.open_timers() as timers:
                timers.call_later(1, leave.set)
                timers.call_later(1, told.append, "due too")
                timers.call_later(2, told.append, "never")
        except BaseExceptionGroup as group:
            told.extend(type(error) for error in group.exceptions)

    async with trio.open_nursery() as nursery:
        async with open_clock() as clock:
            nursery.start_soon(elsewhere, clock)
            await leave.wait()
    assert told == ["due too", ClockGone]

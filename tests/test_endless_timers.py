"""Timers that are set for now again and again: people are told which ones they are."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import trio

from trio_clockrt import Clock, InactiveClock, TimerGroup, TimerNursery, open_clock
from trio_clockrt.testing import ClockControl


def call_again(timers: TimerGroup) -> None:
    def again() -> None:
        timers.call_later(0, again)

    again()


def start_again(timers: TimerNursery) -> None:
    async def once_more() -> None:
        timers.start_later(0, once_more)

    timers.start_later(0, once_more)


async def run_for(control: ClockControl) -> None:
    await control.run_for(10)


async def run_until(control: ClockControl) -> None:
    await control.run_until(10)


async def run_until_idle(control: ClockControl) -> None:
    await control.run_until_idle()


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("move", [run_for, run_until, run_until_idle])
def test_a_driver_whose_timers_are_always_due(
    move: Callable[[ClockControl], Any], beside: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if a task has its part in it."""

    async def main() -> None:
        recipe = InactiveClock.from_control(control)
        async with recipe.activate() as (clock, _):
            for start in call_again, start_again:
                async with clock.open_timers(on_exit="cancel") as timers:
                    start(timers)
                    with pytest.raises(RuntimeError) as caught:
                        await move(control)
                    messages.append(str(caught.value))
                    timers.cancel_scope.cancel()

    monkeypatch.setattr("trio_clockrt.testing._stand_still._MOST_FIRED", 500)
    messages: list[str] = []
    control = ClockControl(seed=7)
    trio.run(main, clock=None if beside else control)
    for message in messages:
        first, second, *_ = message.splitlines()
        assert re.match("timers of a .* have fired 5[0-9][0-9] times at", first)
        assert "so that time goes on:" in first
        assert second.endswith("; seed 7")
    assert "and the next one is <Timer for call_again.<locals>.again, " in messages[0]


def test_very_many_timers_at_one_instant(monkeypatch: pytest.MonkeyPatch) -> None:
    """They fire in a few passes, which is as it should be, also while a task spins."""

    async def main() -> None:
        async with open_clock() as clock, clock.open_timers() as timers:
            for _ in range(3000):
                timers.call_later(5, int)
            timers.start_later(5, spin)
            await control.run_for(5)

    async def spin() -> None:
        for _ in range(100):
            await trio.lowlevel.checkpoint()

    monkeypatch.setattr("trio_clockrt.testing._stand_still._MOST_FIRED", 500)
    control = ClockControl()
    trio.run(main, clock=control)


class RealTime:
    now = 0.0

    def __call__(self) -> float:
        self.now += 0.25
        return self.now


async def main_driven(control: ClockControl, end: Callable[[Clock], Any]) -> None:
    recipe = InactiveClock.from_control(control)
    async with recipe.activate() as (clock, _):
        async with clock.open_timers(on_exit="cancel") as timers:
            call_again(timers)
            await end(clock)


async def main_lone(control: ClockControl, end: Callable[[Clock], Any]) -> None:
    clock = control.to_clock()
    with clock.timer_group() as timers:
        call_again(timers)
        await end(clock)


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("main", [main_driven, main_lone])
def test_a_run_that_would_jump_is_told_of_them(
    main: Any, beside: bool, terminal: io.StringIO
) -> None:
    async def wait(clock: Clock) -> None:
        with trio.CancelScope() as scope:
            scopes.append(scope)
            await clock.delay(60)

    class UntilTold(trio.abc.Instrument):
        def before_io_wait(self, timeout: float) -> None:
            if terminal.getvalue():
                for scope in scopes:
                    scope.cancel()

    scopes: list[trio.CancelScope] = []
    control = ClockControl(autojump_threshold=0, seed=7)
    control._real_clock = RealTime()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trio.run(
            main,
            control,
            wait,
            clock=None if beside else control,
            instruments=[UntilTold()],
        )
    (warning,) = caught
    text = str(warning.message)
    timer = "<Timer for call_again.<locals>.again, at 0.000000, pending>"
    assert f", as a timer is due all the time: {timer}. If it is just" in text
    assert "a task that can go on" not in text
    assert "of real time (seed 7), as" in text
    assert text.endswith("let it be a moment later")


def test_a_task_is_named_beside_them(terminal: io.StringIO) -> None:
    async def spin(_: Clock) -> None:
        while not terminal.getvalue():  # noqa: ASYNC110
            await trio.sleep(0)  # noqa: ASYNC115

    control = ClockControl(autojump_threshold=0)
    control._real_clock = RealTime()
    with pytest.warns(RuntimeWarning, match="due all the time: .*; and .*, in spin"):
        trio.run(main_driven, control, spin, clock=control)


def test_waits_that_take_no_time(terminal: io.StringIO) -> None:
    """Trio's, so short that they are over in the pass in which they begin."""

    async def main() -> None:
        await trio.sleep(5)
        while not terminal.getvalue():  # noqa: ASYNC110
            await trio.sleep(1e-20)

    control = ClockControl(autojump_threshold=0, seed=7)
    control._real_clock = RealTime()
    with pytest.warns(RuntimeWarning, match="task that can go on: .*, in main"):
        trio.run(main, clock=control)

"""What all ways of moving the time have in common."""

from __future__ import annotations

import datetime
import inspect
import sys
from collections.abc import Awaitable, Callable
from math import inf, nan
from pathlib import Path

import pytest
import trio
import trio.testing
from trio.lowlevel import current_statistics

from trio_clockrt import Clock, InactiveClock, open_clock
from trio_clockrt.testing import ClockControl, _idleness

if sys.version_info < (3, 11):
    pass

SOURCE = Path(inspect.getfile(ClockControl)).parent


def jumping() -> ClockControl:
    return ClockControl(autojump_threshold=0)


@pytest.fixture(name="control")
def new_control() -> ClockControl:
    return ClockControl()


@pytest.fixture
def clock(control: ClockControl) -> Clock:
    return control.to_clock()


def check_that_nothing_is_left(control: ClockControl) -> None:
    assert not control._idleness.holds
    assert not _idleness._waiting_for_idleness


# --- bad input ---

BAD: list[tuple[str, Callable[[ClockControl], object], type[Exception], str]] = [
    ("advance back", lambda c: c.advance(-1), ValueError, "^time can't go backwards$"),
    ("advance nan", lambda c: c.advance(nan), ValueError, "`seconds`.*nan"),
    ("advance inf", lambda c: c.advance(inf), ValueError, "`seconds`.*inf"),
    ("advance str", lambda c: c.advance("1"), TypeError, "`seconds`.*'1'"),  # type: ignore[arg-type]
    ("advance bool", lambda c: c.advance(True), TypeError, "`seconds`.*True"),
    (
        "auto negative",
        lambda c: ClockControl(auto_advance=-1),
        ValueError,
        "`auto_advance`.*-1",
    ),
    (
        "auto inf",
        lambda c: ClockControl(auto_advance=inf),
        ValueError,
        "`auto_advance`.*inf",
    ),
    (
        "auto str",
        lambda c: ClockControl(auto_advance="1"),  # type: ignore[arg-type]
        TypeError,
        "`auto_advance`.*'1'",
    ),
    (
        "limit negative",
        lambda c: ClockControl(auto_advance_limit=-1),
        ValueError,
        "`auto_advance_limit`.*-1",
    ),
    (
        "limit nan",
        lambda c: ClockControl(auto_advance_limit=nan),
        ValueError,
        "`auto_advance_limit`.*NaN",
    ),
    (
        "grace negative",
        lambda c: ClockControl(io_grace=-1),
        ValueError,
        "`io_grace`.*-1",
    ),
    ("grace inf", lambda c: ClockControl(io_grace=inf), ValueError, "`io_grace`.*inf"),
    (
        "grace None",
        lambda c: ClockControl(io_grace=None),  # type: ignore[arg-type]
        TypeError,
        "`io_grace`.*None",
    ),
    (
        "from None",
        lambda c: InactiveClock.from_control(None),  # type: ignore[arg-type]
        TypeError,
        "`control` must be a ClockControl, not None",
    ),
    (
        "from a class",
        lambda c: InactiveClock.from_control(ClockControl),  # type: ignore[arg-type]
        TypeError,
        "`control` must be a ClockControl, not <class",
    ),
    (
        "from another clock",
        lambda c: InactiveClock.from_control(trio.testing.MockClock()),  # type: ignore[arg-type]
        TypeError,
        "`control` must be a ClockControl",
    ),
]


@pytest.mark.parametrize(
    ("use", "error", "message"),
    [case[1:] for case in BAD],
    ids=[case[0] for case in BAD],
)
def test_bad_input(
    use: Callable[[ClockControl], object], error: type[Exception], message: str
) -> None:
    control = ClockControl()
    control.jump(1)
    clock = control.to_clock()
    with clock.timer_group() as timers:
        timer = timers.call_later(0, int)
        with pytest.raises(error, match=message):
            use(control)
        assert timer.pending
    assert control.current_time() == 1


BAD_ASYNC: list[
    tuple[str, Callable[[ClockControl], Awaitable[None]], type[Exception], str]
] = [
    ("for back", lambda c: c.run_for(-1), ValueError, "^time can't go backwards$"),
    ("for nan", lambda c: c.run_for(nan), ValueError, "`seconds`.*nan"),
    ("for inf", lambda c: c.run_for(inf), ValueError, "`seconds`.*inf"),
    ("for str", lambda c: c.run_for("1"), TypeError, "`seconds`.*'1'"),  # type: ignore[arg-type]
    ("until inf", lambda c: c.run_until(inf), ValueError, "`instant`.*inf"),
    ("until nan", lambda c: c.run_until(nan), ValueError, "`instant`.*NaN"),
    (
        "until timedelta",
        lambda c: c.run_until(datetime.timedelta(1)),  # type: ignore[arg-type]
        TypeError,
        "`instant`.*timedelta",
    ),
    (
        "limit 0",
        lambda c: c.run_until_idle(limit=0),
        ValueError,
        "`limit`.*positive.*0",
    ),
    ("limit -1", lambda c: c.run_until_idle(limit=-1), ValueError, "`limit`.*-1"),
    (
        "limit float",
        lambda c: c.run_until_idle(limit=1.0),  # type: ignore[arg-type]
        TypeError,
        "`limit`.*1.0",
    ),
    ("limit bool", lambda c: c.run_until_idle(limit=True), TypeError, "`limit`.*True"),
]


@pytest.mark.parametrize(
    ("use", "error", "message"),
    [case[1:] for case in BAD_ASYNC],
    ids=[case[0] for case in BAD_ASYNC],
)
def test_bad_async_input(
    use: Callable[[ClockControl], Awaitable[None]],
    error: type[Exception],
    message: str,
) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 1)
            await trio.testing.wait_all_tasks_blocked()
            before = current_statistics().tasks_living
            with pytest.raises(error, match=message):
                await use(control)
            assert control.current_time() == 1
            assert current_statistics().tasks_living == before
            check_that_nothing_is_left(control)
            nursery.cancel_scope.cancel()

    control = ClockControl()
    control.jump(1)
    trio.run(main, clock=control)


@pytest.mark.parametrize("when", [0, -10])
def test_a_timer_that_is_always_due(
    when: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def again() -> None:
        timers.call_at(clock.instant() + when, again)

    monkeypatch.setattr("trio_clockrt.testing._stepper._MOST_PASSES", 1000)
    control = ClockControl(detect_deadlocks=True)
    clock = control.to_clock()
    message = (
        r"1000 times at instant 5.0, .*<Timer for .*again,.*, made at .*, in again"
    )
    with clock.timer_group() as timers:
        timers.call_later(5, again)
        with pytest.raises(RuntimeError, match=message):
            control.advance(10)
        assert control.current_time() == 5
        with pytest.raises(RuntimeError, match=message):
            trio.run(control.run_for, 10)
        assert control.current_time() == 5


def test_many_timers_at_one_instant_after_the_other() -> None:
    def again() -> None:
        log.append(clock.instant())
        if len(log) % 3:
            timers.call_later(0, again)
        elif len(log) < 30:
            timers.call_later(1, again)

    log: list[float] = []
    clock = (control := ClockControl()).to_clock()
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("trio_clockrt.testing._stepper._MOST_PASSES", 3)
        with clock.timer_group() as timers:
            timers.call_later(1, again)
            control.advance(20)
    assert log == sorted([*range(1, 11)] * 3)


def test_further_than_any_float() -> None:
    control = ClockControl()
    clock = control.to_clock()
    message = r"no float can hold the instant 1e\+308 seconds after 1e\+308"
    with clock.timer_group() as timers:
        timers.call_later(1e308, int)
        control.advance(1e308)
        timer = timers.call_later(1e307, int)
        for move in (control.jump, control.advance):
            with pytest.raises(OverflowError, match=message):
                move(1e308)
        with pytest.raises(OverflowError, match=message):
            trio.run(control.run_for, 1e308, clock=control)
        assert timer.pending
        assert control.current_time() == 1e308
        assert timers.call_later(1e308, int).when == inf
        control.jump(7e307)
    assert clock.instant() == 1.7e308


# --- floats that have been added up ---


@pytest.mark.parametrize("period", [0.1, 0.3, 0.7, 1.1])
@pytest.mark.parametrize("times", [1, 3, 6, 7, 30])
def test_as_many_ticks_as_periods(period: float, times: int) -> None:
    async def main() -> None:
        async with open_clock() as clock, clock.open_timers(on_exit="cancel") as timers:
            timers.call_every(period, calls.append, "driven")
            await driven.run_for(period * times)

    calls: list[str] = []
    driven, lone = ClockControl(), ClockControl()
    trio.run(main, clock=driven)
    assert calls == ["driven"] * times
    calls.clear()
    with lone.to_clock().timer_group() as timers:
        timers.call_every(period, calls.append, "lone")
        lone.advance(period * times)
    assert calls == ["lone"] * times


@pytest.mark.parametrize("where", ["here", "in another thread"])
def test_ten_tenths_of_sleep_in_ten_tenths_of_jumps(where: str) -> None:
    async def sleep() -> None:
        for _ in range(10):
            await trio.sleep(0.1)
            slept.append(trio.current_time())

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sleep)
            for n in range(10):
                await trio.testing.wait_all_tasks_blocked()
                assert len(slept) == n
                if where == "here":
                    control.jump(0.1)
                else:
                    await trio.to_thread.run_sync(control.jump, 0.1)

    slept: list[float] = []
    control = ClockControl()
    trio.run(main, clock=control)
    assert slept == pytest.approx([n / 10 for n in range(1, 11)])
    assert control.current_time() == 1


@pytest.mark.parametrize("move", ["advance", "jump"])
def test_a_callback_moves_the_time_further(move: str) -> None:
    """Everything that is due has fired when the outer one returns."""
    control = ClockControl()
    with control.to_clock().timer_group() as timers:
        timers.call_at(1, control.jump, 5)
        late = timers.call_at(3, log_time, control, log := list[float]())
        last = timers.call_at(20, int)
        getattr(control, move)(1)
        assert control.current_time() == 6
        assert (late.pending, last.pending) == (False, True)
    assert log == [6]


def log_time(control: ClockControl, log: list[float]) -> None:
    log.append(control.current_time())

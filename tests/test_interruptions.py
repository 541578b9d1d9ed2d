"""Cancelled at every await, and interrupted by Ctrl-C at every call of the library."""

from __future__ import annotations

import ast
import inspect
import re
import signal
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest
import trio
import trio.testing
from trio.lowlevel import Task, current_statistics
from trio.testing import MockClock
from undisturbed import undisturbed

import trio_clockrt
from trio_clockrt import (
    Clock,
    ClockDriver,
    ClockGone,
    InactiveClock,
    Timer,
    TimerNursery,
    open_clock,
)
from trio_clockrt._time_source import SystemSource
from trio_clockrt._timers import Timers

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

SOURCE = Path(trio_clockrt.__file__).parent
# (There is a test of its own for the runs on several cores.)
BESIDE_THE_LIBRARY = {"__main__.py", "_demo.py", "_run_per_core.py"}
# Awaits that do not wait, or do only in rare cases.
MAY_NOT_WAIT = ("__aenter__", "checkpoint_if_cancelled")
# Where Python looks for signals: as a function begins or goes on, and after calls.
EVENTS = {"call", "c_return"}


@contextmanager
def ends_with(error: type[Exception]) -> Generator[None]:
    """The block raises this in a group, unless it is interrupted first."""
    try:
        yield
        raise AssertionError("it should not have ended by itself")
    except BaseExceptionGroup as group:
        _, rest = group.split(error)
        if rest is not None:
            raise rest from None


class Scenario:
    """Something of everything that can wait, and what it has opened so far."""

    def __init__(self, *, crowded: bool) -> None:
        self.crowded = crowded
        self.clocks: list[Clock] = []
        self.drivers: list[ClockDriver] = []
        self.timers: list[TimerNursery] = []
        self.finished = False

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            async with InactiveClock().activate() as (clock, driver):
                self.clocks.append(clock)
                self.drivers.append(driver)
                nursery.start_soon(self.from_elsewhere, clock.clone())
                nursery.start_soon(driver.wait_gone)
                await self.waits(clock)
                await self.has_timers(clock)
                if self.crowded:
                    await self.has_too_many_timers(clock)
            await driver.wait_gone()
        async with open_clock() as clock:
            self.clocks.append(clock)
            clock.close()
            await trio.testing.wait_all_tasks_blocked()
        self.finished = True

    async def waits(self, clock: Clock) -> None:
        await clock.delay(0)
        await clock.delay(1)
        await clock.delay_until(0)
        await clock.delay_until(clock.instant() + 1)
        ticks = clock.periodic(1)
        await ticks.__anext__()
        with clock.move_on_after(1.5):
            await trio.sleep_forever()
        await ticks.__anext__()  # late

    async def has_timers(self, clock: Clock) -> None:
        async with clock.open_timers() as timers:
            self.timers.append(timers)
            timers.call_later(1, int)
            timers.start_later(1, clock.delay, 1)
            ticking = timers.call_every(1, int)
            timers.call_later(3.5, ticking.cancel)
        with ends_with(ZeroDivisionError):
            async with clock.open_timers(on_exit="cancel") as timers:
                self.timers.append(timers)
                timers.call_later(1, divmod, 1, 0)
                await clock.delay(2)

    async def has_too_many_timers(self, clock: Clock) -> None:
        async with clock.open_timers(on_exit="cancel") as timers:
            for _ in range(1500):  # more than fit into a turn of the driver
                timers.call_later(1, int)
            await trio.sleep(1)
            await trio.testing.wait_all_tasks_blocked()

    async def from_elsewhere(self, clock: Clock) -> None:
        """Is told that the clock is gone."""
        with ends_with(ClockGone), clock:
            async with clock.open_timers() as timers:
                self.timers.append(timers)
                timers.call_later(3600, int)

    def check_that_nothing_is_left(self) -> None:
        for clock in self.clocks:
            assert not clock.alive
            life = clock._timers.life
            assert life.retainers == life.listeners == {}
        for driver in self.drivers:
            assert driver.statistics().pending == 0
        for timers in self.timers:
            assert timers._pending == {}
            with pytest.raises(ClockGone):
                timers.call_later(1, int)


# --- cancelled ---


def awaits_of_the_library() -> set[tuple[str, int]]:
    return {
        (str(path), node.lineno)
        for path in SOURCE.glob("*.py")
        if path.name not in BESIDE_THE_LIBRARY
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Await)
        and not any(name in ast.unparse(node) for name in MAY_NOT_WAIT)
    }


class CancelThere(trio.abc.Instrument):
    """Cancels a scope the n-th time that a task waits at an await of the library."""

    def __init__(self, n: int, scope: trio.CancelScope) -> None:
        self.n = n
        self.scope = scope
        self.count = 0
        self.seen: set[tuple[str, int]] = set()

    def after_task_step(self, task: Task) -> None:
        if inspect.getcoroutinestate(task.coro) != inspect.CORO_SUSPENDED:
            return
        lines = {
            (frame.f_code.co_filename, line)
            for frame, line in task.iter_await_frames()
            if Path(frame.f_code.co_filename).parent == SOURCE
        }
        if lines:
            self.seen |= lines
            self.count += 1
            if self.count == self.n:
                self.scope.cancel()


def test_cancelled_at_every_await() -> None:
    seen: set[tuple[str, int]] = set()

    async def main(n: int) -> bool:
        before = current_statistics().tasks_living
        scenario = Scenario(crowded=True)
        with trio.CancelScope() as scope:
            cancel = CancelThere(n, scope)
            trio.lowlevel.add_instrument(cancel)
            await scenario.run()
        trio.lowlevel.remove_instrument(cancel)
        seen.update(cancel.seen)
        assert scenario.finished or scope.cancelled_caught
        scenario.check_that_nothing_is_left()
        assert current_statistics().tasks_living == before
        return cancel.count >= n

    n = 1
    while trio.run(main, n, clock=MockClock(autojump_threshold=0)):
        n += 1
    assert awaits_of_the_library() - seen == set()
    assert n > 20


# --- Ctrl-C ---


Place = tuple[str, CodeType, int]
TraceFunction = Callable[[FrameType, str, Any], Any]


def run_interrupted(here: Place | None) -> tuple[bool, set[Place]]:
    """Tells whether it was interrupted, and where it has been until then."""

    def profile(frame: FrameType, event: str, arg: object) -> None:
        if event not in EVENTS or Path(frame.f_code.co_filename).parent != SOURCE:
            return
        place = (event, frame.f_code, frame.f_lasti)
        places.add(place)
        if place == here:
            sys.setprofile(None)
            signal.raise_signal(signal.SIGINT)

    async def main() -> None:
        sys.setprofile(profile)
        try:
            await scenario.run()
        finally:
            sys.setprofile(None)

    places: set[Place] = set()
    scenario = Scenario(crowded=False)
    before = sys.getprofile()
    interrupted = True
    try:
        with undisturbed():
            trio.run(main, clock=MockClock(autojump_threshold=0))
        interrupted = False
    except KeyboardInterrupt:
        pass
    except BaseExceptionGroup as group:
        _, others = group.split(KeyboardInterrupt)
        assert others is None
    finally:
        sys.setprofile(before)
    assert interrupted or scenario.finished
    scenario.check_that_nothing_is_left()
    return interrupted, places


def test_ctrl_c_at_every_call(ctrl_c: None) -> None:
    interrupted, places = run_interrupted(None)
    assert not interrupted
    results = [run_interrupted(here)[0] for here in places]
    # (A place may be missed: which task comes first is up to Trio.)
    assert sum(results) > 0.9 * len(places) > 100


def use_without_trio(
    clock: Clock, driver: ClockDriver, move: Callable[[], None]
) -> None:
    with clock.timer_group() as timers:
        for when in (1, 1, 1, 1 + 1e-6, 1 + 1e-6, 1 + 2e-6, 5, 9, 9, 9 + 1e-6):
            timer = timers.call_at(when, partial(timers.call_at, when + 5, int))
            timers.call_at(when, int).cancel()
            timer.reset(when)
        ticking = timers.call_every(3, int)
        for _ in range(6):
            move()
            driver.advance_timers()
            timer.reset(0)
        for when in range(100):
            timers.call_at(when, int)
            timers.call_at(when, int)
        ticking.cancel()


# Python looks for signals neither here, at the begin of a `finally`...
FILES = {str(path) for path in SOURCE.glob("*.py")}
NO_PLACES = {
    (str(path), number)
    for path in SOURCE.glob("*.py")
    for number, line in enumerate(path.read_text().splitlines(), 1)
    if re.fullmatch(r" *self\.(firing = self\.)?busy = False", line)
}
# ...and whoever is interrupted as these begin has not left the block.
EXITS = {"__exit__", "_close"}


@contextmanager
def ctrl_c_at_line(here: tuple[object, int]) -> Generator[dict[object, int]]:
    """Raises KeyboardInterrupt before a line of the library runs for the n-th time."""

    def trace(frame: FrameType, event: str, arg: object) -> TraceFunction | None:
        code = frame.f_code
        if code.co_filename not in FILES or code.co_name in EXITS:
            return None
        line = (code.co_filename, frame.f_lineno)
        if event == "line" and line not in NO_PLACES:
            count[line] = count.get(line, 0) + 1
            if here == (line, count[line]):
                sys.settrace(None)
                raise KeyboardInterrupt
        return trace

    count: dict[object, int] = {}
    before = sys.gettrace()
    with undisturbed():
        sys.settrace(trace)
        try:
            yield count
        finally:
            sys.settrace(before)


@pytest.mark.parametrize("kind", [InactiveClock, InactiveClock.new_shared])
def test_ctrl_c_at_every_line_without_trio(
    kind: Callable[[], InactiveClock[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Outside of Trio nothing can put it off. What was going on may get lost, but no
    # more: the block ends, the clock goes on, and it ends when nobody uses it.
    def move() -> None:
        now[0] += 2.0

    def interrupted(here: tuple[object, int]) -> tuple[bool, dict[object, int]]:
        now[:] = [0.0]
        calls: list[int] = []
        clock, driver = kind().activate_manual()
        finished = False
        with suppress(KeyboardInterrupt), ctrl_c_at_line(here) as count:
            use_without_trio(clock, driver, move)
            finished = True
        with clock.timer_group() as timers:
            for when in (300, 200, 200 + 1e-6, 200, 100):
                timers.call_at(when, calls.append, int(when))
            now[:] = [1000.0]
            assert driver.advance_timers() is None
        assert calls == [100, 200, 200, 200, 300]
        clock.close()
        with pytest.raises(ClockGone):
            driver.advance_timers()
        return not finished, count

    now = [0.0]
    for name in "instant", "now":
        monkeypatch.setattr(SystemSource, name, staticmethod(lambda: now[0]))

    def apart(here: tuple[object, int]) -> tuple[bool, dict[object, int]]:
        """In a generator, which keeps to itself what it handles.

        CPython, from 3.11 on, goes on handling an exception if a trace function raises
        another one in the last line of a handler. Nothing else can raise there.
        """
        return next(interrupted(here) for _ in [None])

    finished, lines = apart((None, 0))
    assert not finished
    for line, count in lines.items():
        for n in {1, 2, count}:
            assert apart((line, n))[0] or n > count
    assert sys.exc_info() == (None, None, None)
    assert len(lines) > 200


@pytest.mark.parametrize(
    "what",
    [
        "call_later",
        "call_at",
        "call_every",
        "start_later",
        "start_at",
        "reset",
        "cancel",
        "cancel_timers",
        "advance_timers",
    ],
)
def test_ctrl_c_waits_until_it_is_done(
    what: str, ctrl_c: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def use(driver: ClockDriver, timers: TimerNursery, timer: Timer) -> object:
        uses: dict[str, Callable[[], object]] = {
            "call_later": lambda: timers.call_later(1, int),
            "call_at": lambda: timers.call_at(1, int),
            "call_every": lambda: timers.call_every(1, int),
            "start_later": lambda: timers.start_later(1, trio.sleep, 0),
            "start_at": lambda: timers.start_at(1, trio.sleep, 0),
            "reset": lambda: timer.reset(1),
            "cancel": timer.cancel,
            "cancel_timers": timers.cancel_timers,
            "advance_timers": driver.advance_timers,
        }
        return uses[what]()

    def interrupted(method: Callable[..., object]) -> Callable[..., object]:
        def wrapper(*args: object) -> object:
            signal.raise_signal(signal.SIGINT)
            return method(*args)

        return wrapper

    done: list[str] = []

    async def main() -> None:
        async with InactiveClock().activate() as (clock, driver):
            async with clock.open_timers(on_exit="cancel") as timers:
                timer = timers.call_later(2, int)
                await trio.testing.wait_all_tasks_blocked()
                for name in ("file", "killed", "fire_due"):
                    original = getattr(Timers, name)
                    monkeypatch.setattr(Timers, name, interrupted(original))
                use(driver, timers, timer)
                monkeypatch.undo()
                done.append(what)
                await trio.lowlevel.checkpoint()
                raise AssertionError

    with pytest.raises(BaseExceptionGroup) as caught:
        trio.run(main, clock=MockClock())
    assert [type(error) for error in caught.value.exceptions] == [KeyboardInterrupt]
    assert done == [what]


def test_ctrl_c_in_a_finalizer_does_not_keep_the_driver(ctrl_c: None) -> None:
    places: list[str] = []

    def profile(frame: FrameType, event: str, arg: object) -> None:
        if event == "call" and frame.f_code.co_name == "wake_soon":
            sys.setprofile(None)
            places.append("wake_soon")
            signal.raise_signal(signal.SIGINT)

    async def main() -> None:
        async with InactiveClock().activate() as (clock, driver):
            await trio.testing.wait_all_tasks_blocked()
            before = sys.getprofile()
            sys.setprofile(profile)
            del clock
            sys.setprofile(before)
            with trio.CancelScope(shield=True):
                try:
                    await driver.wait_gone()
                except KeyboardInterrupt:
                    await driver.wait_gone()
                    raise

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)
    assert places == ["wake_soon"]

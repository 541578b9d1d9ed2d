"""Ctrl-C, `sys.exit` and the like in a callback without Trio: they leave at once."""

from __future__ import annotations

import asyncio
import datetime
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from math import inf
from typing import Any, NoReturn

import pytest
import trio
from hand_moved_time import HandMovedTime
from trio.lowlevel import checkpoint
from trio.testing import wait_all_tasks_blocked

from trio_clockrt import Clock, ClockDriver, InactiveClock
from trio_clockrt._time_source import SystemSource
from trio_clockrt.testing import ClockControl

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup, ExceptionGroup


class OwnControlFlow(BaseException):
    """What another program may have for going on elsewhere."""


CONTROL_FLOW: list[Callable[[], BaseException]] = [
    KeyboardInterrupt,
    SystemExit,
    GeneratorExit,
    asyncio.CancelledError,
    OwnControlFlow,
    partial(BaseExceptionGroup, "several", [KeyboardInterrupt()]),
]
each_error = pytest.mark.parametrize("make_error", CONTROL_FLOW)


def fail(error: BaseException) -> NoReturn:
    raise error


class Moved:
    """A clock without Trio, and what moves it."""

    clock: Clock

    def move(self, seconds: float) -> None:
        raise NotImplementedError

    def next_deadline(self) -> float | None:
        raise NotImplementedError


class Manual(Moved):
    recipe: InactiveClock[Any]
    driver: ClockDriver

    def __init__(self) -> None:
        self.control = ClockControl()
        self.clock, self.driver = self.make().activate_manual()

    def make(self) -> InactiveClock[Any]:
        return InactiveClock.from_control(self.control)

    def move(self, seconds: float) -> None:
        self.control.jump(seconds)

    def next_deadline(self) -> float | None:
        return self.driver.next_deadline


class ByTheDriver(Manual):
    """Its timers are fired by the caller of advance_timers()."""

    def make(self) -> InactiveClock[Any]:
        return InactiveClock()

    def move(self, seconds: float) -> None:
        system_time.now += seconds
        self.driver.advance_timers()


class SharedByTheDriver(ByTheDriver):
    def make(self) -> InactiveClock[Any]:
        return InactiveClock.new_shared()


class ByAdvance(Manual):
    def move(self, seconds: float) -> None:
        self.control.advance(seconds)


class BySetTime(Manual):
    def move(self, seconds: float) -> None:
        self.control.set_time(
            self.clock.system_time() + datetime.timedelta(seconds=seconds)
        )


class OtherClocks(ByAdvance):
    def __init__(self) -> None:
        self.control = ClockControl()
        self.clock = self.control.to_clock()

    def next_deadline(self) -> float | None:
        deadline = min(
            (timer.when for timer in self.clock._timers.waiters()), default=inf
        )
        return None if deadline == inf else deadline


system_time = HandMovedTime(0.0)

each_kind = pytest.mark.parametrize(
    "kind", [Manual, ByTheDriver, SharedByTheDriver, ByAdvance, BySetTime, OtherClocks]
)


@pytest.fixture(autouse=True)
def _time_in_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    system_time.now = 0.0
    for name in "instant", "now":
        monkeypatch.setattr(SystemSource, name, system_time)


@each_kind
@each_error
def test_it_leaves_at_once(
    make_error: Callable[[], BaseException], kind: type[Moved]
) -> None:
    it, log, error = kind(), list[str](), make_error()
    with it.clock.timer_group() as timers:
        timers.call_at(1, log.append, "before")
        timers.call_at(1, fail, error)
        timers.call_at(1, log.append, "with it")
        timers.call_at(1.5, log.append, "later")
        timers.call_at(2, log.append, "last")
        timers.call_at(7, log.append, "not yet due")
        with pytest.raises(type(error)) as caught:
            it.move(2)
        assert caught.value is error
        assert log == ["before"]
        assert it.next_deadline() == 1
        it.move(1)
        assert log == ["before", "with it", "later", "last"]
        assert it.next_deadline() == 7


@each_kind
def test_alone_at_its_deadline(kind: type[Moved]) -> None:
    it, log = kind(), list[str]()
    with it.clock.timer_group() as timers:
        timers.call_at(1, fail, SystemExit())
        timers.call_at(2, log.append, "later")
        with pytest.raises(SystemExit):
            it.move(1)
        assert it.next_deadline() == 2
        it.move(1)
    assert log == ["later"]


@each_kind
def test_the_timer_itself(kind: type[Moved]) -> None:
    it, calls = kind(), 0

    def count() -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt

    with it.clock.timer_group() as timers:
        once = timers.call_at(0.5, fail, SystemExit())
        again = timers.call_every(1, count)
        with pytest.raises(SystemExit):
            it.move(0.5)
        assert not once.pending
        it.move(0.5)
        with pytest.raises(KeyboardInterrupt):
            it.move(1)
        assert again.pending
        assert again.when == it.next_deadline() == 3
        it.move(1)
    assert calls == 3


@each_kind
def test_what_failed_before_comes_out_of_the_next_call(kind: type[Moved]) -> None:
    it, error, failure = kind(), SystemExit(), KeyError()
    with it.clock.timer_group() as timers, it.clock.timer_group() as others:
        others.call_at(1, fail, failure)
        timers.call_at(2, fail, error)
        timers.call_at(3, fail, ValueError())
        with pytest.raises(SystemExit):
            it.move(3)
        with pytest.raises(ExceptionGroup) as caught:
            it.move(3)
        assert caught.value.exceptions[0] is failure
        assert [type(exc) for exc in caught.value.exceptions] == [KeyError, ValueError]


@each_kind
def test_what_failed_before_comes_out_of_its_block(kind: type[Moved]) -> None:
    it, failure = kind(), KeyError()
    with it.clock.timer_group() as timers:
        timers.call_at(2, fail, SystemExit())
        with pytest.raises(KeyError) as caught:
            with it.clock.timer_group() as others:
                others.call_at(1, fail, failure)
                with pytest.raises(SystemExit):
                    it.move(3)
        assert caught.value is failure


@each_kind
@pytest.mark.parametrize("kind_of_error", [KeyboardInterrupt, OwnControlFlow])
def test_it_leaves_the_block_bare(
    kind_of_error: type[BaseException], kind: type[Moved]
) -> None:
    it, failure, error, before = kind(), KeyError(), kind_of_error(), OSError()
    with pytest.raises(kind_of_error) as caught:
        with it.clock.timer_group() as timers:
            timers.call_at(1, fail, failure)
            timers.call_at(2, fail, error)
            try:
                raise before
            except OSError:
                it.move(3)
    assert caught.value is error
    # But it tells of the failure, and of what there was before.
    group = error.__context__
    assert isinstance(group, ExceptionGroup)
    assert group.exceptions == (failure,)
    assert group.__context__ is before


@each_kind
@pytest.mark.parametrize(
    "error", [GeneratorExit(), BaseExceptionGroup("one", [SystemExit()]), OSError()]
)
def test_what_would_be_dropped_is_grouped_with_failures(
    error: BaseException, kind: type[Moved]
) -> None:
    it, failure = kind(), KeyError()
    with pytest.raises(BaseExceptionGroup) as caught:
        with it.clock.timer_group() as timers:
            timers.call_at(1, fail, failure)
            timers.call_at(2, fail, SystemExit())
            with pytest.raises(SystemExit):
                it.move(3)
            raise error
    assert caught.value.exceptions == (error, failure)


def test_a_clock_that_is_gone_by_then() -> None:
    control = ClockControl()
    clock, driver = InactiveClock.from_control(control).activate_manual()
    drivers = [driver]

    def lose_it() -> None:
        drivers.clear()
        raise SystemExit

    del driver
    with clock.timer_group() as timers:
        timers.call_later(1, lose_it)
        kept = timers.call_later(1, int)
        with pytest.raises(SystemExit):
            control.advance(1)
        assert not clock.alive
        assert not kept.pending


async def test_the_end_is_noticed() -> None:
    control = ClockControl()
    clock, driver = InactiveClock.from_control(control).activate_manual()
    with clock.timer_group() as timers:
        timers.call_later(1, fail, SystemExit())
        clock.close()
        with pytest.raises(SystemExit):
            control.advance(1)
    with trio.fail_after(20):
        await driver.wait_gone()


@pytest.mark.usefixtures("ctrl_c")
def test_real_ctrl_c() -> None:
    calls = 0

    def work() -> None:
        nonlocal calls
        calls += 1
        if calls == 5:
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(1000):
                pass  # where Python notices

    control = ClockControl()
    with control.to_clock().timer_group() as timers:
        timers.call_every(1, work)
        with pytest.raises(KeyboardInterrupt):
            control.advance(7 * 86400)
        assert calls == control.current_time() == 5


def test_a_program_that_exits() -> None:
    program = """
import sys
from trio_clockrt.testing import ClockControl
control = ClockControl()
with control.to_clock().timer_group() as timers:
    timers.call_later(1, divmod, 1, 0)
    timers.call_later(2, sys.exit, 7)
    timers.call_later(3, print, "too late")
    control.advance(5)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (7, "", "")


# --- in a Trio task ---


async def test_it_comes_out_of_run_for() -> None:
    control, log = ClockControl(), list[str]()
    clock = control.to_clock()
    with clock.timer_group() as timers:
        timers.call_at(1, fail, KeyError())
        timers.call_at(2, fail, SystemExit())
        timers.call_at(3, log.append, "later")
        with pytest.raises(SystemExit) as caught:
            await control.run_for(5)
        assert caught.value.__context__ is None
        assert clock.instant() == 2
        with pytest.raises(KeyError):
            await control.run_for(5)
        assert log == ["later"]


def test_ctrl_c_while_it_runs() -> None:
    control, failure = ClockControl(), KeyError()

    async def interrupt() -> None:
        await trio.sleep(2)
        raise KeyboardInterrupt

    async def main() -> None:
        with clock.timer_group() as timers:
            timers.call_at(1, fail, failure)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(interrupt)
                await control.run_for(5)

    clock = control.to_clock()
    with pytest.raises(BaseExceptionGroup) as caught:
        trio.run(main, clock=control)
    assert caught.value.subgroup(KeyboardInterrupt)
    assert caught.value.subgroup(KeyError)


# --- where time moves by itself, and nobody has called ---


def jumping() -> ClockControl:
    return ClockControl(autojump_threshold=0)


@each_error
def test_it_reaches_the_main_task(make_error: Callable[[], BaseException]) -> None:
    error, log = make_error(), list[str]()

    async def main() -> None:
        clock = jumping().to_clock()
        with clock.timer_group() as timers:
            timers.call_later(1, fail, error)
            timers.call_later(1, log.append, "goes on")
            with pytest.raises(type(error)) as caught:
                await trio.sleep_forever()
            assert caught.value is error
            await clock.delay(1)

    trio.run(main)
    assert log == ["goes on"]


def test_it_ends_the_program() -> None:
    async def main() -> None:
        with jumping().to_clock().timer_group() as timers:
            timers.call_later(1, divmod, 1, 0)
            timers.call_later(2, fail, SystemExit(7))
            await trio.sleep_forever()

    with pytest.raises(SystemExit) as caught:
        trio.run(main)
    assert caught.value.code == 7


def test_the_main_task_is_about_to_go_on() -> None:
    log: list[str] = []

    async def main() -> None:
        clock = jumping().to_clock()
        with clock.timer_group() as timers:
            # Fires after the task has been woken.
            timers.call_at(2, timers.call_at, 3, fail, SystemExit())
            await clock.delay_until(3)
            log.append("woken")
            await trio.sleep_forever()

    with pytest.raises(SystemExit):
        trio.run(main)
    assert log == ["woken"]


def test_the_main_task_cannot_be_interrupted() -> None:
    log: list[str] = []

    async def main() -> None:
        clock = jumping().to_clock()
        with clock.timer_group() as timers:
            timers.call_at(1, fail, SystemExit())
            timers.call_at(2, log.append, "goes on")
            waiting = trio.lowlevel.current_task()
            timers.call_at(3, trio.lowlevel.reschedule, waiting)
            await trio.lowlevel.wait_task_rescheduled(
                lambda _: trio.lowlevel.Abort.FAILED
            )
            log.append("the block ends")

    with pytest.raises(SystemExit):
        trio.run(main)
    assert log == ["goes on", "the block ends"]


def test_the_block_ends_before_it_has_reached_the_main_task() -> None:
    async def main() -> None:
        clock = jumping().to_clock()
        with pytest.raises(SystemExit):
            with clock.timer_group() as timers:
                timers.call_at(2, timers.call_at, 3, fail, SystemExit())
                await clock.delay(3)
        await wait_all_tasks_blocked()
        await checkpoint()

    trio.run(main)


def test_a_later_call_takes_it_along() -> None:
    # Not reached the main task, it is like what has failed.
    async def main() -> None:
        control = jumping()
        clock = control.to_clock()
        with clock.timer_group() as timers, clock.timer_group() as others:
            waiting = trio.lowlevel.current_task()
            others.call_at(1, fail, SystemExit(1))
            timers.call_at(2, trio.lowlevel.reschedule, waiting)
            await trio.lowlevel.wait_task_rescheduled(
                lambda _: trio.lowlevel.Abort.FAILED
            )
            timers.call_at(3, int)
            timers.call_at(4, fail, SystemExit(2))
            with pytest.raises(SystemExit) as caught:
                control.advance(5)
            assert caught.value.code == 2
            with pytest.raises(SystemExit) as caught:
                control.advance(5)
            assert caught.value.code == 1

    trio.run(main)

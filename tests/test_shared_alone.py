"""Shared clocks that a caller advances, or a guest run, or a run in real time."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from functools import partial
from math import inf

import pytest
import trio
import trio.testing
from shared_clock import InThread, in_thread
from stepwise_run import StepwiseRun
from test_guest_mode import Host

from trio_clockrt import Clock, ClockDriver, ClockGone, InactiveClock, TimerGroup
from trio_clockrt._queue import Queue
from trio_clockrt._time_source import SystemSource

# --- without Trio: the caller advances ---


class Time:
    now = 1000.0


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    for name in "instant", "now":
        monkeypatch.setattr(SystemSource, name, staticmethod(lambda: time.now))
    return time


@pytest.fixture
def other() -> Iterator[StepwiseRun]:
    run = StepwiseRun()
    yield run
    run.close()


def wait_until_pending(driver: ClockDriver, timers: int) -> None:
    while driver.statistics().pending != timers:
        pass


def test_the_loop_itself_does_not_wait(time: Time) -> None:
    clock, driver = InactiveClock.new_shared().activate_manual()
    with pytest.raises(RuntimeError, match=r"no other thread calls advance_timers\(\)"):
        clock.delay_blocking(1)
    assert driver.next_deadline is None


def test_a_loop_advances_and_threads_wait(time: Time) -> None:
    clock, driver = InactiveClock.new_shared().activate_manual()
    log: list[float] = []

    def wait(seconds: float) -> None:
        clock.delay_blocking(seconds)
        log.append(clock.instant())

    threads = [InThread(partial(wait, n)) for n in (1, 2)]
    wait_until_pending(driver, 2)
    assert driver.next_deadline == 1001
    for thread in threads:
        time.now += 0.5
        driver.advance_timers()
        time.now += 0.5
        driver.advance_timers()
        thread.result()
    assert log == [1001, 1002]
    assert driver.advance_timers() is None
    clock.close()
    with pytest.raises(ClockGone):
        driver.advance_timers()


@pytest.mark.parametrize("how", ["dropped", "in a cycle", "closed"])
def test_the_end_of_the_driver(how: str, time: Time, other: StepwiseRun) -> None:
    clock, driver = InactiveClock.new_shared().activate_manual()
    told: list[str] = []

    async def delay() -> None:
        with pytest.raises(ClockGone):
            await clock.delay(inf)
        told.append("delay")

    async def time_out() -> None:
        with pytest.raises(ClockGone):
            with clock.fail_after(60):
                await trio.sleep_forever()
        told.append("timeout")

    async def wait_gone() -> None:
        waiting = drivers.pop().wait_gone()
        await waiting
        told.append("wait_gone")

    drivers = [driver]
    thread = InThread(partial(clock.delay_blocking, inf))
    for waiter in (delay, time_out, wait_gone):
        other.start(waiter)
    wait_until_pending(driver, 3)
    if how == "closed":
        with clock.timer_group() as timers:
            timers.call_later(1, int)
        clock.close()
        driver.advance_timers()
        assert clock.alive  # as somebody waits
    if how == "in a cycle":
        cycle: list[object] = [driver]
        cycle.append(cycle)
        del cycle
    del driver
    if how == "in a cycle":
        gc.collect()
    assert not clock.alive
    with pytest.raises(ClockGone, match="driver"):
        thread.result()
    other.do(int)
    assert sorted(told) == ["delay", "timeout", "wait_gone"]


def test_timers_of_other_threads(time: Time) -> None:
    clock, driver = InactiveClock.new_shared().activate_manual()
    log: list[str] = []
    opened: list[TimerGroup] = []
    register, close = threading.Event(), threading.Event()

    def use() -> None:
        with clock.timer_group() as timers:
            opened.append(timers)
            timers.call_later(1, note, "theirs")
            fails = timers.call_later(1, fail)
            fails.reset(2)
            timers.call_later(3, note, "never").cancel()
            timers.call_every(1, note, "every")
            register.set()
            close.wait()
        with pytest.raises(RuntimeError, match="closed"):
            fails.reset(1)

    def note(what: str) -> None:
        assert threading.current_thread() is threading.main_thread()
        log.append(what)

    def fail() -> None:
        raise KeyError

    thread = InThread(use)
    register.wait()
    with clock.timer_group() as mine:
        mine.call_later(1, note, "mine")
        time.now += 1
        assert driver.advance_timers() == 1002
        time.now += 1
        with pytest.raises(KeyError):
            driver.advance_timers()
        assert log == ["theirs", "every", "mine", "every"]
        mine.call_later(1, note, "mine")
        close.set()
        thread.result()
        assert driver.statistics().pending == 1
        time.now += 1
        assert driver.advance_timers() is None
    assert log[4:] == ["mine"]
    assert repr(opened[0]) == "<TimerGroup, 0 timers pending, closed>"


def test_failures_that_nobody_has_seen(time: Time) -> None:
    clock, driver = InactiveClock.new_shared().activate_manual()

    def fail(error: Exception) -> None:
        raise error

    def fail_late() -> None:
        # Its group ends while other timers fire.
        with pytest.raises(KeyError):
            in_thread(lambda: block.__exit__(None, None, None))

    with clock.timer_group() as mine:
        block = clock.timer_group()
        theirs = in_thread(block.__enter__)
        mine.call_later(0, fail, ZeroDivisionError())
        in_thread(lambda: theirs.call_later(0, fail, KeyError()))
        mine.call_later(0, fail_late)
        with pytest.raises(ZeroDivisionError):
            driver.advance_timers()


def test_the_driver_is_refused_in_other_threads(time: Time) -> None:
    _clock, driver = InactiveClock.new_shared().activate_manual()
    for use in (driver.advance_timers, lambda: driver.next_deadline):
        with pytest.raises(RuntimeError, match="in that thread"):
            in_thread(use)


def test_tasks_and_nurseries_in_two_runs(time: Time, other: StepwiseRun) -> None:
    clock, driver = InactiveClock.new_shared().activate_manual()
    log: list[str] = []

    async def wait() -> None:
        async with clock.open_timers() as timers:
            timers.call_later(1, log.append, "callback")
            timers.start_later(1, child)
            await clock.delay(2)
            log.append("woken")

    async def child() -> None:
        log.append("child")

    another = StepwiseRun()
    for run in (other, another):
        run.start(wait)
    for _ in range(2):
        time.now += 1
        driver.advance_timers()
        for run in (other, another):
            run.do(int)
    assert sorted(log) == sorted(["callback", "child", "woken"] * 2)
    assert driver.statistics().pending == 0
    another.close()


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_does_not_lose_what_others_have_said(
    time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: object) -> None:
        monkeypatch.undo()
        for name in "instant", "now":
            monkeypatch.setattr(SystemSource, name, staticmethod(lambda: time.now))
        raise KeyboardInterrupt

    clock, driver = InactiveClock.new_shared().activate_manual()
    thread = InThread(partial(clock.delay_blocking, 1))
    while not clock._timers.inbox:
        pass
    monkeypatch.setattr(Queue, "push", interrupted)
    with pytest.raises(KeyboardInterrupt):
        driver.advance_timers()
    time.now += 1
    driver.advance_timers()
    thread.result()


# --- guest runs ---


def test_a_guest_run_drives() -> None:
    log: list[str] = []

    def wait(clock: Clock) -> None:
        clock.delay_blocking(0.001)
        log.append("thread")

    async def main() -> None:
        async with InactiveClock.new_shared().activate() as (clock, driver):
            thread = InThread(partial(wait, clock))
            async with clock.open_timers() as timers:
                in_thread(lambda: timers.call_later(0.001, log.append, "timer"))
            await trio.to_thread.run_sync(thread.result)
            assert driver.statistics().pending == 0

    Host().run(main)
    assert sorted(log) == ["thread", "timer"]


def test_a_guest_run_waits() -> None:
    log: list[str] = []

    async def main(clock: Clock) -> None:
        await clock.delay(0.001)
        async for _ in clock.periodic(0.001):
            break
        async with clock.open_timers() as timers:
            timers.call_later(0.001, log.append, "timer")
        with clock.move_on_after(0.001):
            await trio.sleep_forever()
        log.append("done")

    async def drive() -> None:
        async with InactiveClock.new_shared().activate() as (clock, _):
            await trio.to_thread.run_sync(Host().run, partial(main, clock))

    trio.run(drive)
    assert log == ["timer", "done"]


# --- real time ---


@pytest.mark.parametrize("who", ["thread", "task", "timer", "reset"])
async def test_a_new_earliest_timer_wakes_a_driver_that_sleeps(who: str) -> None:
    # Nothing else happens in this run until then.
    done = trio.Event()
    token = trio.lowlevel.current_trio_token()
    async with InactiveClock.new_shared().activate() as (clock, _):
        async with clock.open_timers(on_exit="cancel") as timers:
            far = timers.call_later(3600, done.set)
            await trio.testing.wait_all_tasks_blocked()

            def elsewhere() -> None:
                if who == "thread":
                    clock.delay_blocking(0.001)
                elif who == "task":
                    trio.run(clock.delay, 0.001)
                elif who == "timer":
                    timers.call_later(0.001, done.set)
                    return
                else:
                    far.reset(0.001)
                    return
                token.run_sync_soon(done.set)

            InThread(elsewhere)
            await done.wait()


async def test_nothing_wakes_a_driver_without_timers() -> None:
    async with InactiveClock.new_shared().activate() as (clock, driver):
        async with clock.open_timers() as timers:
            await trio.testing.wait_all_tasks_blocked()
            wakeups = driver.statistics().wakeups

            def elsewhere() -> None:
                timer = timers.call_later(3600, int)
                timer.reset(1800)
                timer.reset(3600)
                timer.cancel()

            for _ in range(10):
                await trio.to_thread.run_sync(elsewhere)
            assert driver.statistics().wakeups == wakeups
            assert driver.statistics().pending == 0

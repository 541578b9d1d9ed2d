"""The end of a shared clock, and of those who wait for it, in every order."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from shared_clock import PLACES, RUNS, TOO_LONG, InThread, SharedClock, fork, in_thread

from trio_clockrt import Clock, ClockDriver, ClockGone, InactiveClock, Timer

if sys.version_info < (3, 11):
    from exceptiongroup import ExceptionGroup


# --- the clock ends first ---


class Waiters:
    """One of each kind, in a run; they tell how they end."""

    def __init__(self, clock: Clock, driver: ClockDriver) -> None:
        self.log: list[str] = []
        self.timers: list[Timer] = []
        self._clock = clock
        self._driver = driver

    def all(self) -> Sequence[Callable[[], Awaitable[None]]]:
        ways = [
            self.delay,
            self.delay_for_ever,
            self.delay_until,
            self.tick,
            self.time_out,
            self.open_timers,
            self.leave_timers,
        ]
        return [partial(self.told, way) for way in ways] + [self.wait_gone]

    async def told(self, way: Callable[[Clock], Awaitable[None]]) -> None:
        clock, self_ = self._clock, self
        del self
        try:
            await way(clock)
        except ClockGone:
            self_.log.append(f"{way.__name__} told")
        except ExceptionGroup as group:
            _, others = group.split(ClockGone)
            self_.log.append(f"{way.__name__} told{others or ''}")

    async def delay(self, clock: Clock) -> None:
        await clock.delay(60)

    async def delay_for_ever(self, clock: Clock) -> None:
        await clock.delay(inf)

    async def delay_until(self, clock: Clock) -> None:
        await clock.delay_until(60)

    async def tick(self, clock: Clock) -> None:
        await clock.periodic(60).__anext__()

    async def time_out(self, clock: Clock) -> None:
        with clock.move_on_after(60) as scope:
            # In the run of the driver it is Trio's.
            if scope.deadline != inf:
                raise ClockGone
            await trio.sleep_forever()

    async def open_timers(self, clock: Clock) -> None:
        async with clock.open_timers() as timers:
            self.timers.append(timers.call_later(60, self.log.append, "too late"))
            self.timers.append(timers.call_every(60, self.log.append, "too late"))
            await trio.sleep_forever()

    async def leave_timers(self, clock: Clock) -> None:
        async with clock.open_timers() as timers:
            self.timers.append(timers.call_later(60, self.log.append, "too late"))

    async def wait_gone(self) -> None:
        await self._driver.wait_gone()
        self.log.append("wait_gone told")


EVERYBODY = sorted(
    f"{who} told"
    for who in (
        "delay",
        "delay_for_ever",
        "delay_until",
        "tick",
        "time_out",
        "open_timers",
        "leave_timers",
        "wait_gone",
    )
)


@pytest.mark.parametrize("run", RUNS)
def test_leaving_the_block_tells_everybody(run: str, shared: SharedClock) -> None:
    waiters = Waiters(shared.clock, shared.driver)
    for waiter in waiters.all():
        shared.start(run, waiter)
    threads = [
        InThread(partial(shared.clock.delay_blocking, seconds)) for seconds in (60, inf)
    ]
    expected = 7 + 2 + (run == "other")
    shared.wait_until_pending(expected)
    shared.end()
    assert sorted(waiters.log) == EVERYBODY
    for thread in threads:
        with pytest.raises(ClockGone, match="block that activated it"):
            thread.result()
    assert not shared.clock.alive
    assert shared.driver.statistics().pending == 0
    for timer in waiters.timers:
        assert not timer.pending
        assert not in_thread(timer.cancel)
    shared.jump(100)
    assert len(waiters.log) == len(EVERYBODY)


@pytest.mark.parametrize("place", PLACES)
def test_after_the_end(place: str, shared: SharedClock) -> None:
    opened: list[Timer] = []

    async def timers() -> None:
        with pytest.raises(ExceptionGroup):
            async with shared.clock.open_timers() as timers:
                opened.append(timers.call_later(60, int))
                await trio.sleep_forever()

    shared.start("other", timers)
    ticks = shared.clock.periodic(1)
    shared.jump(1)
    shared.end()
    do, clock = shared.place(place), shared.clock
    uses: list[Callable[[], object]] = [
        lambda: clock.periodic(1),
        lambda: clock.move_on_after(1),
        lambda: clock.fail_at(1),
        lambda: clock.open_timers(),
        lambda: clock.timer_group(),
        lambda: clock.delay(1).send(None),
        lambda: clock.delay_blocking(0),
        lambda: opened[0].reset(1),
        lambda: opened[0]._group.call_later(1, int),
        ticks.reset,
        lambda: ticks.__anext__().send(None),
        shared.driver.advance_timers,
    ]
    for use in uses:
        with pytest.raises(ClockGone):
            do(use)
    do(opened[0]._group.cancel_timers)
    assert do(lambda: shared.driver.next_deadline) is None
    assert do(clock.instant) == 1
    assert not do(lambda: clock.clone().alive)
    do(clock.close)


def test_what_is_on_its_way_to_another_run(shared: SharedClock) -> None:
    """It is due, and its run hears of that and of the end together."""
    opened: list[Timer] = []
    fired: list[str] = []

    async def use() -> None:
        with pytest.raises(ExceptionGroup) as caught:
            async with shared.clock.open_timers() as timers:
                opened.append(timers.call_later(1, fired.append, "once"))
                opened.append(timers.call_every(1, fired.append, "every"))
                await trio.sleep_forever()
        assert isinstance(caught.value.exceptions[0], ClockGone)
        fired.append("told")

    async def end() -> None:
        in_thread(lambda: shared.home.jump(1))
        in_thread(lambda: shared.home.do(shared._leave.set))
        assert not any(timer.pending for timer in opened)

    shared.start("other", use)
    shared.start("other", end)
    shared.settle()
    assert fired == ["told"]


@pytest.mark.parametrize("how", ["exception", "cancellation", "defect"])
def test_the_run_of_the_driver_ends(how: str) -> None:
    async def drive() -> None:
        with trio.CancelScope() as scope:
            async with InactiveClock.new_shared().activate() as (clock, driver):
                clocks.append(clock)
                activated.set()
                await trio.to_thread.run_sync(end.wait)
                if how == "exception":
                    raise KeyError
                if how == "cancellation":
                    scope.cancel()
                else:
                    driver.advance_timers = None  # type: ignore[assignment,method-assign]
                    await clock.delay(0.001)
                await trio.sleep_forever()

    async def wait() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(told)
            nursery.start_soon(told_by_timers)
            await trio.testing.wait_all_tasks_blocked()
            ready.release()

    async def told() -> None:
        with pytest.raises(ClockGone):
            await clocks[0].delay(inf)

    async def told_by_timers() -> None:
        with pytest.raises(ExceptionGroup) as caught:
            async with clocks[0].open_timers() as timers:
                timers.call_later(inf, int)
        assert isinstance(caught.value.exceptions[0], ClockGone)

    def wait_blocking() -> None:
        ready.release()
        clocks[0].delay_blocking(inf)

    clocks: list[Clock] = []
    activated, end = threading.Event(), threading.Event()
    ready = threading.Semaphore(0)
    driving = InThread(lambda: trio.run(drive))
    assert activated.wait(TOO_LONG)
    waiting = [InThread(lambda: trio.run(wait)), InThread(wait_blocking)]
    for _ in waiting:
        assert ready.acquire(timeout=TOO_LONG)
    end.set()
    if how == "cancellation":
        driving.result()
    else:
        expected = KeyError if how == "exception" else TypeError
        with pytest.raises(expected):
            driving.result()
    waiting[0].result()
    with pytest.raises(ClockGone):
        waiting[1].result()


# --- who waits ends first ---


def test_a_waiting_run_ends_with_whoever_waits_in_it(shared: SharedClock) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for waiter in Waiters(shared.clock, shared.driver).all():
                nursery.start_soon(waiter)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()

    in_thread(lambda: trio.run(main))
    assert shared.pending() == 0
    assert shared.clock.alive
    shared.clock.close()
    shared.settle()
    assert not shared.clock.alive


def test_a_waiting_run_that_fails(shared: SharedClock) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for waiter in Waiters(shared.clock, shared.driver).all():
                nursery.start_soon(waiter)
            await trio.testing.wait_all_tasks_blocked()
            raise KeyError

    with pytest.raises(ExceptionGroup):
        in_thread(lambda: trio.run(main))
    assert shared.pending() == 0


@pytest.mark.parametrize("run", RUNS)
def test_whoever_waits_keeps_it_alive(run: str, shared: SharedClock) -> None:
    log: list[str] = []

    async def wait() -> None:
        clock = clocks.pop()
        waiting = clock.delay(1)
        del clock
        await waiting
        log.append("woken")

    clocks = [shared.clock.clone()]
    shared.start(run, wait)
    shared.clock.close()
    shared.settle()
    assert shared.clock.alive
    shared.jump(1)
    assert log == ["woken"]
    assert not shared.clock.alive


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("how", ["cancel", "leave"])
def test_the_last_user_goes(how: str, run: str, shared: SharedClock) -> None:
    scope, leave = trio.CancelScope(), trio.Event()

    async def use() -> None:
        with scope:
            async with shared.clock.open_timers() as timers:
                timer = timers.call_later(60, int)
                await leave.wait()
                timer.cancel()

    shared.start(run, use)
    shared.clock.close()
    shared.settle()
    assert shared.clock.alive
    shared.in_place(run, scope.cancel if how == "cancel" else leave.set)
    assert not shared.clock.alive


def test_a_thread_keeps_it_alive(shared: SharedClock) -> None:
    thread = InThread(lambda: shared.clock.delay_blocking(1))
    shared.wait_until_pending(1)
    shared.clock.close()
    shared.settle()
    assert shared.clock.alive
    shared.jump(1)
    thread.result()
    assert not shared.clock.alive


# --- owners ---


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("how", ["close", "with", "drop", "cycle"])
def test_owners_in_every_place(how: str, place: str, shared: SharedClock) -> None:
    do = shared.place(place)
    clones = [do(shared.clock.clone) for _ in range(3)]
    shared.clock.close()
    shared.settle()
    while clones:
        assert shared.clock.alive
        clone = clones.pop()
        if how == "close":
            do(clone.close)
            with pytest.raises(trio.ClosedResourceError if clones else ClockGone):
                do(clone.clone)
        elif how == "with":

            def use(clone: Clock = clone) -> None:
                with clone as entered:
                    assert entered is clone

            do(use)
        else:
            holding: list[Any] = [clone]
            del clone
            if how == "cycle":
                holding.append(holding)
                cycle, holding = holding, [None]
                del cycle
                do(gc.collect)
            else:
                do(holding.clear)
    shared.settle()
    assert not shared.clock.alive


# --- runs that crash, interpreters that exit ---


SCRIPTS = Path(__file__).parent


def run_script(script: str, *args: str) -> str:
    process = subprocess.run(
        [sys.executable, SCRIPTS / script, *args],
        capture_output=True,
        check=False,
        text=True,
        timeout=TOO_LONG,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_runs_that_crash() -> None:
    # In a process of its own, as what is left of such a run may disturb later ones.
    assert run_script("shared_crash.py") == "as it should be\n"


EXIT = """
import sys, threading, trio
from trio_clockrt import ClockGone, InactiveClock

def wait():
    ready.release()
    try:
        clock.delay_blocking(float("inf"))
    except ClockGone:
        sys.stdout.write("told\\n")

async def wait_in_a_run():
    ready.release()
    try:
        await clock.delay(3600)
    except ClockGone:
        sys.stdout.write("told\\n")

async def main():
    global clock
    async with InactiveClock.new_shared().activate() as (clock, driver):
        for target, args in (wait, ()), (trio.run, (wait_in_a_run,)):
            threading.Thread(target=target, args=args, daemon=DAEMON).start()
        for _ in range(2):
            await trio.to_thread.run_sync(ready.acquire)
        END

ready = threading.Semaphore(0)
"""

END_OF_THE_MAIN_THREAD = EXIT + "trio.run(main)"
END_BESIDE_A_DAEMON = (
    EXIT
    + "threading.Thread(target=trio.run, args=(main,), daemon=True).start()\n"
    + "leave.acquire()"
)


@pytest.mark.parametrize("daemon", ["True", "False"])
@pytest.mark.parametrize("end", ["pass", "sys.exit()"])
def test_the_interpreter_exits(daemon: str, end: str) -> None:
    program = END_OF_THE_MAIN_THREAD.replace("DAEMON", daemon).replace("END", end)
    process = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        check=False,
        text=True,
        timeout=TOO_LONG,
    )
    assert process.stderr == ""
    if daemon == "False":
        assert process.stdout == "told\n" * 2


def test_the_interpreter_exits_while_daemons_drive_and_wait() -> None:
    program = END_BESIDE_A_DAEMON.replace("DAEMON", "True").replace(
        "END", "leave.release(); await trio.sleep_forever()"
    )
    program = program.replace(
        "ready = threading", "leave = threading.Semaphore(0)\nready = threading"
    )
    process = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        check=False,
        text=True,
        timeout=TOO_LONG,
    )
    assert (process.returncode, process.stderr) == (0, "")


# --- nothing is left ---


def test_nothing_keeps_a_clock_that_is_gone(shared: SharedClock) -> None:
    waiters = Waiters(shared.clock, shared.driver)
    for run in RUNS:
        for waiter in waiters.all():
            shared.start(run, waiter)
    state = weakref.ref(shared.clock._timers)
    timer = weakref.ref(waiters.timers[0])
    shared.end()
    del waiter, shared.clock, shared.driver, waiters._clock, waiters._driver
    waiters.timers.clear()
    gc.collect()
    assert timer() is None
    assert state() is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_in_a_fork(shared: SharedClock) -> None:
    opened: list[Timer] = []

    async def timers() -> None:
        async with shared.clock.open_timers() as timers:
            opened.append(timers.call_later(60, int))
            await trio.sleep_forever()

    shared.start("other", timers)
    thread = InThread(lambda: shared.clock.delay_blocking(60))
    shared.wait_until_pending(2)
    ticks = shared.clock.periodic(1)
    uses: list[Callable[[], object]] = [
        lambda: shared.clock.delay_blocking(1),
        lambda: shared.clock.delay_blocking(0),
        lambda: shared.clock.open_timers(),
        lambda: opened[0].reset(1),
        lambda: opened[0]._group.call_later(1, int),
        ticks.reset,
        shared.driver.advance_timers,
    ]
    # As by another thread that is gone in the child.
    shared.clock._timers.lock.acquire()  # type: ignore[union-attr]
    pid = fork()
    if not pid:
        status = 1
        try:
            assert not shared.clock.alive
            assert not in_thread(opened[0].cancel)
            for use in uses:
                with pytest.raises(ClockGone, match="fork"):
                    in_thread(use)
            shared.clock.instant()
            shared.clock.close()
            status = 0
        finally:
            os._exit(status)
    shared.clock._timers.lock.release()  # type: ignore[union-attr]
    assert os.waitpid(pid, 0)[1] == 0
    assert shared.pending() == 2
    shared.jump(60)
    thread.result()

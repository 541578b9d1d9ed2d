"""Threads that wait for a shared clock, and are none of its Trio runs."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from math import inf

import pytest
import trio
from shared_clock import TOO_LONG, InThread, SharedClock, in_thread

from trio_clockrt import Clock, ClockGone, InactiveClock, open_clock
from trio_clockrt.testing import ClockControl


def test_it_takes_exactly_so_long(shared: SharedClock) -> None:
    log: list[float] = []

    def wait(seconds: float | timedelta) -> None:
        shared.clock.delay_blocking(seconds)
        log.append(shared.clock.instant())

    for seconds in (2, timedelta(seconds=1), 2.5):
        thread = InThread(partial(wait, seconds))
        shared.wait_until_pending(1)
        while shared.pending():
            shared.jump(0.5)
        thread.result()
    assert log == [2, 3, 5.5]


@pytest.mark.parametrize("never", [inf, 10**400])
def test_for_ever(never: float, shared: SharedClock) -> None:
    thread = InThread(lambda: shared.clock.delay_blocking(never))
    shared.wait_until_pending(1)
    shared.jump(1e9)
    assert shared.pending() == 1
    shared.end()
    with pytest.raises(ClockGone):
        thread.result()


def test_zero_returns_at_once(shared: SharedClock) -> None:
    for zero in (0, 0.0, timedelta()):
        in_thread(partial(shared.clock.delay_blocking, zero))
    assert shared.driver.statistics().registered == 0


def test_many_threads(shared: SharedClock) -> None:
    log: list[int] = []

    def wait(n: int) -> None:
        shared.clock.delay_blocking(n)
        log.append(n)

    threads = [InThread(partial(wait, n)) for n in range(1, 21)]
    shared.wait_until_pending(20)
    for n in range(1, 21):
        shared.jump(1)
        threads[n - 1].result()
    assert log == [*range(1, 21)]


@pytest.mark.parametrize("bad", [-1, float("nan"), "1", True, None])
def test_bad_input(bad: float, shared: SharedClock) -> None:
    with pytest.raises((ValueError, TypeError)):
        in_thread(lambda: shared.clock.delay_blocking(bad))
    assert shared.pending() == 0


@pytest.mark.parametrize("run", ["home", "other"])
def test_inside_of_trio(run: str, shared: SharedClock) -> None:
    with pytest.raises(RuntimeError, match="await"):
        shared.run(run).do(lambda: shared.clock.delay_blocking(1))


async def test_on_an_isolated_clock() -> None:
    async with open_clock() as clock:
        with pytest.raises(RuntimeError, match="new_shared"):
            await trio.to_thread.run_sync(clock.delay_blocking, 1)
        with pytest.raises(RuntimeError, match="in a Trio task, use"):
            clock.delay_blocking(1)


def test_on_a_closed_and_on_a_gone_clock(shared: SharedClock) -> None:
    clone = shared.clock.clone()
    clone.close()
    with pytest.raises(trio.ClosedResourceError):
        in_thread(lambda: clone.delay_blocking(1))
    shared.end()
    for clock in (clone, shared.clock):
        for seconds in (0, 1):
            with pytest.raises(ClockGone):
                in_thread(partial(clock.delay_blocking, seconds))


# --- Ctrl-C ---

# Its `with` looks for signals when it has taken a lock, before it knows that. Here that
# is the lock of Trio's around messages to a run. See docs/threads.rst.
leaves_locks_locked = pytest.mark.skipif(
    sys.version_info[:2] == (3, 14),
    reason="a signal may leave a lock of Trio's locked on CPython 3.14",
)


@leaves_locks_locked
@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C has to wait there")
@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_in_the_main_thread(shared: SharedClock) -> None:
    def interrupt() -> None:
        shared.wait_until_pending(1)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    thread = InThread(interrupt)
    with pytest.raises(KeyboardInterrupt):
        shared.clock.delay_blocking(inf)
    thread.result()
    assert shared.pending() == 0


@leaves_locks_locked
@pytest.mark.skipif(sys.platform == "win32", reason="signals have to wait there")
def test_a_signal_handler_that_raises(shared: SharedClock) -> None:
    class Terminated(Exception): ...

    def handler(*_: object) -> None:
        raise Terminated

    def interrupt() -> None:
        shared.wait_until_pending(1)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, handler)
    try:
        thread = InThread(interrupt)
        with pytest.raises(Terminated):
            shared.clock.delay_blocking(60)
        thread.result()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert shared.pending() == 0


# --- worker threads of Trio's ---


@pytest.mark.parametrize("run", ["home", "other"])
def test_in_a_worker_thread(run: str, shared: SharedClock) -> None:
    log: list[float] = []

    async def main() -> None:
        await trio.to_thread.run_sync(shared.clock.delay_blocking, 1)
        log.append(shared.clock.instant())
        await trio.to_thread.run_sync(shared.clock.delay_blocking, 0)
        log.append(shared.clock.instant())

    start_soon(shared, run, main)
    shared.wait_until_pending(1)
    shared.jump(1)
    until(lambda: len(log) == 2)
    assert log == [1, 1]


@pytest.mark.parametrize("run", ["home", "other"])
def test_a_worker_thread_that_is_cancelled(run: str, shared: SharedClock) -> None:
    scope = trio.CancelScope()
    log: list[str] = []

    def work() -> None:
        try:
            shared.clock.delay_blocking(60)
        except trio.Cancelled:
            log.append("cancelled")
            raise

    async def main() -> None:
        with scope:
            await trio.to_thread.run_sync(work)
        log.append(f"caught {scope.cancelled_caught}")

    start_soon(shared, run, main)
    shared.wait_until_pending(1)
    shared.in_place(run, scope.cancel)
    until(lambda: len(log) == 2)
    assert log == ["cancelled", "caught True"]
    assert shared.pending() == 0


def test_a_worker_thread_that_is_abandoned(shared: SharedClock) -> None:
    scope = trio.CancelScope()
    abandoned, over = threading.Event(), threading.Event()
    errors: list[BaseException] = []

    def work() -> None:
        abandoned.wait()
        try:
            shared.clock.delay_blocking(60)
        except BaseException as error:
            errors.append(error)
        over.set()

    async def main() -> None:
        with scope:
            await trio.to_thread.run_sync(work, abandon_on_cancel=True)
        abandoned.set()

    start_soon(shared, "other", main)
    shared.in_other(scope.cancel)
    assert over.wait(TOO_LONG)
    assert [type(error) for error in errors] == [trio.Cancelled]
    assert shared.pending() == 0


def start_soon(
    shared: SharedClock, run: str, async_fn: Callable[[], Awaitable[object]]
) -> None:
    """Without waiting until it has settled, as it will not while a thread works."""
    target = shared.run(run)
    trio.from_thread.run_sync(
        target.nursery.start_soon, async_fn, trio_token=target._token
    )


def until(condition: Callable[[], bool]) -> None:
    while not condition():
        pass


# --- virtual time ---


def test_time_jumps_while_a_worker_thread_waits() -> None:
    def work(clock: Clock) -> float:
        clock.delay_blocking(3600)
        clock.delay_blocking(0.5)
        return clock.instant()

    async def main() -> None:
        async with InactiveClock.new_shared().activate() as (clock, driver):
            assert await trio.to_thread.run_sync(work, clock) == 3600.5
            async with trio.open_nursery() as nursery:
                for seconds in (60, 61):
                    nursery.start_soon(
                        trio.to_thread.run_sync, clock.delay_blocking, seconds
                    )
            assert clock.instant() == 3661.5
            assert driver.statistics().pending == 0

    trio.run(main, clock=ClockControl(autojump_threshold=0))

"""Threads that wait for virtual time, while a task waits for them: a deadlock."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
import trio

from trio_clockrt import Clock, ClockGone, InactiveClock
from trio_clockrt.testing import ClockControl

if sys.version_info < (3, 11):
    from exceptiongroup import ExceptionGroup


def delay(clock: Clock, waits: threading.Semaphore) -> None:
    waits.release()
    with pytest.raises(ClockGone):
        clock.delay_blocking(60)


async def wait_for_threads(waits: threading.Semaphore) -> None:
    async with InactiveClock.new_shared().activate() as (clock, _):
        sleeper = threading.Thread(target=delay, args=[clock, waits], name="sleeper")
        # Nor can it go on that waits for that one.
        other = threading.Thread(target=sleeper.join)
        sleeper.start()
        other.start()
        await trio.to_thread.run_sync(other.join)


async def wait_in_a_child(waits: threading.Semaphore) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_for_threads, waits)


@pytest.mark.parametrize(
    ("threshold", "hint"),
    [
        (0, "the next deadline is at 60.0, but time waits for a worker thread"),
        (float("inf"), "the next deadline is at 60.0, but nothing moves the time"),
    ],
)
@pytest.mark.parametrize("wait", [wait_for_threads, wait_in_a_child])
def test_a_deadlock_with_threads(
    wait: Callable[[threading.Semaphore], Any], threshold: float, hint: str
) -> None:
    waits = threading.Semaphore(0)
    control = ClockControl(autojump_threshold=threshold, detect_deadlocks=True)
    with pytest.raises((RuntimeError, ExceptionGroup)) as caught:
        trio.run(wait, waits, clock=control)
    error: BaseException = caught.value
    while isinstance(error, ExceptionGroup):
        (error,) = error.exceptions
    assert f"deadlock: nothing will ever wake this program; {hint}" in str(error)
    line = delay.__code__.co_firstlineno + 3
    assert f"thread sleeper waits at {__file__}:{line}, in delay" in str(error)


IN_A_CIRCLE = """
import threading
import trio
from trio_clockrt.testing import ClockControl

def wait_for_the_other():
    begin.wait()
    other = next(one for one in threads if one is not threading.current_thread())
    other.join()

begin = threading.Event()
threads = [threading.Thread(target=wait_for_the_other, daemon=True) for _ in range(2)]

async def main():
    for thread in threads:
        thread.start()
    begin.set()
    await trio.to_thread.run_sync(threads[0].join)

try:
    trio.run(main, clock=ClockControl(detect_deadlocks=True))
except RuntimeError as error:
    print(str(error).partition(":")[0])
"""


def test_threads_that_wait_for_each_other() -> None:
    """In a process of its own, as they never end."""
    command = [sys.executable, "-c", IN_A_CIRCLE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("deadlock\n", "")


def work(event: threading.Event) -> None:
    event.wait()


def with_a_limit(thread: threading.Thread, event: threading.Event) -> None:
    thread.join(0.01)
    event.set()


def for_real_work(thread: threading.Thread, event: threading.Event) -> None:
    threading.Timer(0.01, event.set).start()
    thread.join()


@pytest.mark.parametrize("join", [with_a_limit, for_real_work])
def test_waiting_for_a_thread_is_no_deadlock_by_itself(
    join: Callable[[threading.Thread, threading.Event], None],
) -> None:
    """Nobody knows what a thread is going to do that waits for something else."""

    async def main() -> None:
        event = threading.Event()
        thread = threading.Thread(target=work, args=[event])
        thread.start()
        with trio.fail_after(60):
            await trio.to_thread.run_sync(join, thread, event)
        thread.join()

    control = ClockControl(autojump_threshold=0, detect_deadlocks=True)
    trio.run(main, clock=control)
    assert control.current_time() == 0

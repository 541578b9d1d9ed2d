"""A program that nothing will wake any more says so, and so does one that is slow."""

from __future__ import annotations

import itertools
import math
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from types import ModuleType
from typing import Any

import pytest
import trio
import trio.testing
from conftest import RealTimers

from trio_clockrt import InactiveClock, open_clock
from trio_clockrt.testing import ClockControl
from trio_clockrt.testing._blame import raise_in_program

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup, ExceptionGroup


def message_of(error: BaseException | None) -> str:
    """What the one error says, in however many groups it is."""
    while isinstance(error, BaseExceptionGroup):
        assert len(error.exceptions) == 1
        error = error.exceptions[0]
    assert isinstance(error, RuntimeError)
    return str(error)


def leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error


def deadlock(main: Callable[[], Any], **kwargs: Any) -> str:
    control = ClockControl(detect_deadlocks=True, **kwargs)
    with pytest.raises((RuntimeError, ExceptionGroup)) as caught:
        trio.run(main, clock=control)
    message = message_of(caught.value)
    assert message.startswith("deadlock: nothing will ever wake this program")
    return message


def test_the_report_says_what_everybody_waits_for() -> None:
    async def wait_for_godot() -> None:
        await trio.Event().wait()

    async def main() -> None:
        async with open_clock() as clock, clock.open_timers(on_exit="cancel") as timers:
            for n in range(12):
                timers.call_later(n + 1, int)
            timers.call_every(0.5, str)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait_for_godot)
                await clock.delay(60)

    message = deadlock(main, seed=5)
    lines = message.splitlines()
    time = "instant 0.0; system time 1970-01-01 00:00:00+00:00"
    assert lines[1] == f"  - it is {time}; seed 5"
    assert sum("wait_for_godot waits at" in line for line in lines) == 1
    assert sum("main waits at" in line and __file__ in line for line in lines) == 1
    assert lines[4].startswith("  - <Timer for str, at 0.500000, pending>, made at ")
    assert lines[4].endswith(", in main")
    assert lines[5].startswith("  - <Timer for int, at 1.000000, pending>")
    assert lines[-1] == "  - 3 timers more"


def test_tasks_that_are_nothing_but_trio_s() -> None:
    async def main() -> None:
        semaphore = trio.Semaphore(0)
        async with open_clock() as clock, trio.open_nursery() as nursery:
            nursery.start_soon(trio.Event().wait, name="waiter")
            nursery.start_soon(semaphore.acquire)
            nursery.start_soon(clock.delay, 60)
            for _ in range(3):
                nursery.start_soon(trio.sleep_forever)

    tasks = [line for line in deadlock(main).splitlines() if " wait" in line]
    place = f"{__file__}:{main.__code__.co_firstlineno + 2}, in main"
    # Only those of the program: none of what drives the clock, or Trio.
    assert sorted(tasks) == [
        "  - 3 tasks trio.sleep_forever wait in trio.sleep_forever",
        f"  - task {__name__}.{main.__qualname__} waits at {place}",
        "  - task trio.Semaphore.acquire waits in trio.Semaphore.acquire",
        "  - task trio_clockrt._clock.Clock.delay waits in trio_clockrt.Clock.delay",
        "  - task waiter waits in trio.Event.wait",
    ]


def test_a_main_task_that_is_nothing_but_trio_s() -> None:
    message = deadlock(trio.sleep_forever)
    assert "task trio.sleep_forever waits in trio.sleep_forever" in message
    assert message.count(" waits ") == 1


def test_code_that_belongs_to_no_module() -> None:
    names: dict[str, Any] = {"trio": trio}
    exec("async def main(): await trio.sleep_forever()", names)
    assert "waits at <string>:1, in main" in deadlock(names["main"])


def test_nothing_to_jump_to() -> None:
    async def main() -> None:
        async with open_clock() as clock:
            await clock.delay(60)
            await trio.sleep_forever()

    assert "it is instant 60.0" in deadlock(main, autojump_threshold=0)
    assert "it is instant 60.0" in deadlock(main, autojump_threshold=0.001)


def test_in_a_time_that_no_datetime_can_hold() -> None:
    async def main() -> None:
        await trio.sleep_until(1e15)
        await trio.sleep_forever()

    assert "no datetime can hold" in deadlock(main, autojump_threshold=0)


def test_the_program_may_go_on() -> None:
    async def main() -> None:
        for _ in range(2):
            with pytest.raises(RuntimeError, match="deadlock"):
                await trio.sleep_forever()
        control.jump(1)
        await trio.sleep_until(1)

    control = ClockControl(detect_deadlocks=True)
    trio.run(main, clock=control)


def test_a_child_that_is_shielded() -> None:
    async def child() -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep_forever()

    async def parent() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.start_soon(child)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(parent)

    with pytest.raises(ExceptionGroup) as caught:
        trio.run(main, clock=ClockControl(detect_deadlocks=True))
    # The main task has been told, and is cancelled; so who still waits is told.
    messages = list(map(str, leaves(caught.value)))
    assert len(messages) == 2
    for message in messages:
        assert message.startswith("deadlock: nothing will ever wake this program")
        assert ", in child" in message


CRASH = """
import trio_clockrt.testing._autojump
import trio
from trio_clockrt.testing import ClockControl

async def main():
{body}

control = ClockControl(autojump_threshold=0, detect_deadlocks=True)
try:
    trio.run(main, clock=control)
except trio.TrioInternalError as error:
    print(repr(error.__cause__).partition(":")[0])
"""


def crash(body: str) -> str:
    """The cause, in a process of its own, as a run that crashes leaves its tasks."""
    code = CRASH.format(body=textwrap.indent(textwrap.dedent(body), "    "))
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_main_task_that_cannot_be_interrupted() -> None:
    cause = crash("""
        def abort(raise_cancel):
            return trio.lowlevel.Abort.FAILED

        await trio.lowlevel.wait_task_rescheduled(abort)
    """)
    assert cause == "RuntimeError('deadlock\n"


def test_trio_does_not_swallow_what_goes_wrong() -> None:
    cause = crash("""
        def fail():
            raise ZeroDivisionError

        await trio.lowlevel.checkpoint()
        trio_clockrt.testing._autojump.next_deadline_if_idle = fail
        await trio.sleep(1)
    """)
    assert cause == "ZeroDivisionError()\n"


def test_what_is_no_deadlock() -> None:
    async def main() -> None:
        # A worker thread, even where time does not wait for it.
        await trio.to_thread.run_sync(event.wait, 0.01)
        # Waiting for idleness.
        await trio.testing.wait_all_tasks_blocked(0.001)
        # A thread that is none of Trio's.
        token = trio.lowlevel.current_trio_token()
        answer = trio.Event()
        thread = threading.Timer(0.01, token.run_sync_soon, [answer.set])
        with control.hold():
            thread.start()
            await answer.wait()
        thread.join()
        # I/O.
        left, right = trio.socket.socketpair()
        with left, right:
            thread = threading.Timer(0.01, os.write, [right.fileno(), b"x"])
            thread.start()
            assert await left.recv(1) == b"x"
        thread.join()
        # What has come just now.
        token.run_sync_soon(answer.set)

    event = threading.Event()
    control = ClockControl(detect_deadlocks=True, ignore_threads=True)
    trio.run(main, clock=control)


def test_i_o_that_comes_while_it_is_looked_for() -> None:
    class WakesMain(trio.abc.Instrument):
        def __init__(self) -> None:
            self.run = trio.lowlevel.current_trio_token()

        def before_io_wait(self, timeout: float) -> None:
            if timeout == 0 and not answer.is_set():
                self.run.run_sync_soon(answer.set)

    async def main() -> None:
        trio.lowlevel.add_instrument(WakesMain())
        await answer.wait()

    answer = trio.Event()
    trio.run(main, clock=ClockControl(detect_deadlocks=True))


def test_without_the_option_it_is_not_looked_for() -> None:
    async def main() -> None:
        with trio.CancelScope() as scope:
            token = trio.lowlevel.current_trio_token()
            thread = threading.Timer(0.01, token.run_sync_soon, [scope.cancel])
            thread.start()
            await trio.sleep_forever()
        thread.join()

    trio.run(main, clock=ClockControl())


def test_a_deadline_that_comes_while_it_is_looked_for() -> None:
    class Changes(trio.abc.Instrument):
        def before_io_wait(self, timeout: float) -> None:
            if timeout == 0 and control.current_time() == 1:
                scope.deadline = 1000

    async def main() -> None:
        await trio.sleep(1)
        trio.lowlevel.add_instrument(Changes())
        with scope:
            await trio.sleep_forever()

    scope = trio.CancelScope()
    control = ClockControl(detect_deadlocks=True, autojump_threshold=0)
    trio.run(main, clock=control)
    assert control.current_time() == 1000


# --- what goes wrong in a place where nobody can be told ---


@pytest.mark.filterwarnings("error")
def test_a_slow_thread_where_warnings_are_errors() -> None:
    real_time = [0.0]

    def work() -> None:
        # Trio waits for this thread, and looks again when it is told to.
        while not warned:
            real_time[0] += 1
            control.rate = 0
            event.wait(0.001)

    async def main() -> None:
        with pytest.raises(RuntimeWarning, match="work"), trio.fail_after(1):
            try:
                await trio.to_thread.run_sync(work, abandon_on_cancel=True)
            finally:
                warned.append(True)

    event = threading.Event()
    warned: list[bool] = []
    control = ClockControl(autojump_threshold=0)
    control._real_clock = lambda: real_time[0]
    trio.run(main, clock=control)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("by_hand", [False, True])
def test_a_slow_thread_beside_the_run_where_warnings_are_errors(
    by_hand: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        clock = control.to_clock()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, partial(event.wait))
            with pytest.raises(RuntimeWarning, match="wait"):
                if by_hand:
                    await control.run_for(5)
                else:
                    await clock.delay(5)
            event.set()
            await clock.delay(5)

    monkeypatch.setattr("trio_clockrt.testing._idleness._UNNOTICED", 0.01)
    event = threading.Event()
    control = ClockControl(autojump_threshold=0)
    trio.run(main)
    assert control.current_time() >= 5


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("beside", [False, True])
def test_nobody_can_be_told_of_a_slow_thread(
    beside: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The main task waits for it itself; so it is tried again."""
    told: list[bool] = []

    def tell(error: BaseException) -> bool:
        told.append(raise_in_program(error))
        if len(told) == 2:
            enough.set()
        return told[-1]

    async def main() -> None:
        if beside:
            trio.lowlevel.spawn_system_task(wait_beside)
        else:
            control.rate = 0
        with trio.move_on_after(3600):
            await trio.to_thread.run_sync(enough.wait)

    async def wait_beside() -> None:
        await control.to_clock().delay(3600)

    where = "_idleness" if beside else "_autojump"
    monkeypatch.setattr("trio_clockrt.testing._idleness._UNNOTICED", 0.001)
    monkeypatch.setattr(f"trio_clockrt.testing.{where}.raise_in_program", tell)
    enough = threading.Event()
    control = ClockControl(autojump_threshold=0)
    trio.run(main, clock=None if beside else control)
    assert told[:2] == [False, False]


@pytest.mark.parametrize("anyio", [None, ModuleType("anyio")])
def test_a_report_where_others_are_simulated(
    anyio: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "anyio", anyio)
    assert "deadlock" in deadlock(trio.sleep_forever)


# --- in real time ---


async def test_fail_after_real_says_what_it_waited_for(real_timers: RealTimers) -> None:
    control = ClockControl()
    async with InactiveClock.from_control(control).activate() as (clock, _):
        with pytest.raises(trio.TooSlowError) as caught:
            with control.fail_after_real(0.01):
                trio.lowlevel.spawn_system_task(real_timers.are_up_when_all_wait)
                await clock.delay(60)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("this has taken more than 0.01 real seconds; the next ")
    assert lines[1].startswith("  - it is instant 0.0;")
    assert any("test_fail_after_real_says_what_it_waited_for" in line for line in lines)


NOTHING_MOVES = "the next deadline is at 60.0, but nothing moves the time. Use auto"


@pytest.mark.parametrize(
    ("arguments", "seconds", "says_so"),
    [
        ({}, 60, True),
        ({}, math.inf, False),
        ({"rate": 1}, 60, False),
        # An autojump that a thread keeps from jumping.
        ({"autojump_threshold": 0}, 60, False),
    ],
)
def test_fail_after_real_says_that_nobody_moves_the_time(
    arguments: dict[str, Any], seconds: float, says_so: bool, real_timers: RealTimers
) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, partial(event.wait))
            with pytest.raises(trio.TooSlowError) as caught:
                with control.fail_after_real(0.01):
                    trio.lowlevel.spawn_system_task(real_timers.are_up_when_all_wait)
                    await trio.sleep(seconds)
            event.set()
        first = str(caught.value).splitlines()[0]
        assert (NOTHING_MOVES in first) == says_so

    event = threading.Event()
    control = ClockControl(**arguments)
    trio.run(main, clock=control)


def test_fail_after_real_around_a_task_that_moves_the_time(
    real_timers: RealTimers,
) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, partial(event.wait))
            with pytest.raises(trio.TooSlowError) as caught:
                with control.fail_after_real(0.01):
                    trio.lowlevel.spawn_system_task(real_timers.are_up_when_all_wait)
                    await control.run_for(60)
            event.set()
        assert "nothing moves" not in str(caught.value)

    event = threading.Event()
    control = ClockControl()
    trio.run(main, clock=control)


def test_a_deadlock_where_nobody_moves_the_time() -> None:
    assert NOTHING_MOVES in deadlock(partial(trio.sleep, 60))


def test_fail_after_real_while_time_flies() -> None:
    async def main() -> None:
        with control.fail_after_real(timedelta(milliseconds=10)):
            for hour in itertools.count():
                await trio.sleep_until(hour * 3600)

    control = ClockControl(autojump_threshold=0)
    with pytest.raises(trio.TooSlowError):
        trio.run(main, clock=control)


async def test_fail_after_real_in_time() -> None:
    control = ClockControl()
    before = set(threading.enumerate())
    for seconds in (60, math.inf, 1e300):
        with control.fail_after_real(seconds) as scope:
            await trio.lowlevel.checkpoint()
        assert not scope.cancel_called
    with pytest.raises(ZeroDivisionError):
        with control.fail_after_real(60):
            raise ZeroDivisionError
    with control.fail_after_real(60) as scope:
        scope.cancel()
        await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    for timer in set(threading.enumerate()) - before:
        timer.join()


async def test_fail_after_real_of_zero() -> None:
    with pytest.raises(trio.TooSlowError):
        with ClockControl().fail_after_real(0):
            await trio.sleep_forever()


@pytest.mark.parametrize(
    ("seconds", "error"),
    [(-1, ValueError), (math.nan, ValueError), ("1", TypeError), (True, TypeError)],
)
async def test_bad_input(seconds: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"`seconds`"):
        ClockControl().fail_after_real(seconds)


def test_outside_of_trio() -> None:
    with pytest.raises(RuntimeError, match="Trio task"):
        with ClockControl().fail_after_real(1):
            raise AssertionError

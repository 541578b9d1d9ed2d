"""A `ClockControl` beside the clock of a Trio run, or without any run."""

from __future__ import annotations

import gc
import queue
import subprocess
import sys
import threading
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from math import inf
from pathlib import Path
from typing import Any

import outcome
import pytest
import trio
from trio.lowlevel import checkpoint
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_clockrt import Clock, ClockGone, InactiveClock, open_clock
from trio_clockrt._post import post
from trio_clockrt.testing import ClockControl

if sys.version_info < (3, 11):
    from exceptiongroup import ExceptionGroup


def jumping(**kwargs: Any) -> ClockControl:
    return ClockControl(autojump_threshold=0, **kwargs)


@pytest.fixture(name="control")
def new_control() -> ClockControl:
    return ClockControl()


@asynccontextmanager
async def driven(control: ClockControl) -> AsyncGenerator[Clock]:
    async with InactiveClock.from_control(control).activate() as (clock, _):
        yield clock


@asynccontextmanager
async def lone(control: ClockControl) -> AsyncGenerator[Clock]:
    yield control.to_clock()


@asynccontextmanager
async def manual(control: ClockControl) -> AsyncGenerator[Clock]:
    clock, driver = InactiveClock.from_control(control).activate_manual()
    yield clock
    del driver


Open = Callable[[ClockControl], AbstractAsyncContextManager[Clock]]
each_kind = pytest.mark.parametrize("open_it", [driven, lone, manual])


async def note_after(clock: Clock, seconds: float, log: list[float]) -> None:
    await clock.delay(seconds)
    log.append(clock.instant())


# --- what is virtual, and what is not ---


@each_kind
async def test_only_what_holds_the_clock_is_virtual(
    open_it: Open, mock_clock: MockClock
) -> None:
    control = ClockControl()

    async def wait() -> None:
        with trio.move_on_after(5) as scope:
            await trio.sleep_forever()
        assert scope.cancelled_caught
        log.append(-5.0)

    log: list[float] = []
    async with open_it(control) as clock, trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        for seconds in (3, 1, 2):
            nursery.start_soon(note_after, clock, seconds, log)
        await wait_all_tasks_blocked()
        control.jump(1)
        await wait_all_tasks_blocked()
        assert log == [1]
        mock_clock.jump(4)
        await wait_all_tasks_blocked()
        assert log == [1]
        control.jump(9)
        await wait_all_tasks_blocked()
        assert log == [1, 10, 10]
        mock_clock.jump(1)
    assert log == [1, 10, 10, -5]
    assert control.current_time() == 10
    assert trio.current_time() == 5


@each_kind
async def test_its_timeouts(open_it: Open, mock_clock: MockClock) -> None:
    control = jumping()
    async with open_it(control) as clock:
        with clock.move_on_after(1) as scope:
            assert scope.deadline == inf
            await trio.sleep_forever()
        assert scope.cancelled_caught
        assert control.current_time() == 1
        with clock.move_on_at(3, shield=True) as scope:
            assert scope.shield
            await trio.sleep_forever()
        assert control.current_time() == 3
        with pytest.raises(trio.TooSlowError):
            with clock.fail_after(1) as scope:
                assert scope.deadline == inf
                await trio.sleep_forever()
        with pytest.raises(trio.TooSlowError):
            with clock.fail_at(6):
                await trio.sleep_forever()
        assert control.current_time() == 6
        # Who is done in time leaves nothing behind to jump to.
        with clock.fail_after(10), clock.move_on_after(inf):
            await checkpoint()
        await note_after(clock, 1, [])
        assert control.current_time() == 7


@each_kind
async def test_what_is_due_already(open_it: Open) -> None:
    """Nobody has to move the time for that."""
    control = ClockControl()
    async with open_it(control) as clock:
        control.jump(5)
        await wait_all_tasks_blocked()
        for timeout in (
            clock.move_on_after(0),
            clock.move_on_at(4),
            clock.move_on_at(-inf),
        ):
            with timeout as scope:
                await trio.sleep_forever()
            assert scope.cancelled_caught
        await clock.delay(0)
        await clock.delay_until(-inf)
        log: list[float] = []
        async with clock.open_timers() as timers:
            for instant in (5, -inf, 4):
                timers.call_at(instant, log.append, instant)
        assert log in ([-inf, 4, 5], [5, -inf, 4])
        assert control.current_time() == 5


@each_kind
async def test_timers(open_it: Open) -> None:
    control = jumping()
    log: list[tuple[str, float]] = []

    def note(what: str) -> None:
        log.append((what, control.current_time()))

    async with open_it(control) as clock:
        async with clock.open_timers() as timers:
            ticking = timers.call_every(2, note, "tick")
            timers.call_later(3, note, "later")
            timers.start_later(5, note_after, clock, 1, [])
            timers.call_at(7, ticking.cancel)
        assert control.current_time() == 7
        async for tick in clock.periodic(1):
            note("periodic")
            if tick == 9:
                break
    assert log == [
        ("tick", 2),
        ("later", 3),
        ("tick", 4),
        ("tick", 6),
        ("periodic", 8),
        ("periodic", 9),
    ]


async def test_exceptions_of_callbacks_in_a_timer_nursery() -> None:
    clock = jumping().to_clock()
    with pytest.raises(ExceptionGroup) as caught:
        async with clock.open_timers() as timers:
            timers.call_later(1, divmod, 1, 0)
            await trio.sleep_forever()
    (error,) = caught.value.exceptions
    assert isinstance(error, ZeroDivisionError)


def test_in_the_run_whose_clock_it_is() -> None:
    async def main() -> None:
        async with driven(control) as clock:
            with clock.move_on_after(5) as scope:
                assert scope.deadline == 5
                await trio.sleep_forever()
            assert clock.instant() == trio.current_time() == 5
            named = f"ClockControl with seed {control.seed}"
            assert repr(clock) == f"<Clock {named}, 0 timers, alive>"

    control = jumping()
    trio.run(main, clock=control)


@pytest.mark.parametrize("open_it", [lone, manual])
def test_a_clock_without_driver_in_that_run(open_it: Open) -> None:
    async def main() -> None:
        async with open_it(control) as clock, open_clock() as own:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(note_after, clock, 3, log)
                nursery.start_soon(note_after, own, 2, log)
                nursery.start_soon(note_after, own, 4, log)
                await trio.sleep(1)
                log.append(trio.current_time())
                with clock.timer_group() as timers:
                    timers.call_at(5, lambda: log.append(clock.instant()))
                    await trio.sleep_until(6)
                    log.append(trio.current_time())

    log: list[float] = []
    control = jumping()
    trio.run(main, clock=control)
    assert log == [1, 2, 3, 4, 5, 6]


def test_beside_another_control() -> None:
    async def main() -> None:
        async with driven(other) as clock:
            with clock.move_on_after(5) as scope:
                assert scope.deadline == inf
                await clock.delay(7)
            assert (clock.instant(), trio.current_time()) == (5, 0)
            await trio.sleep(3)
            assert (clock.instant(), trio.current_time()) == (5, 3)

    control, other = jumping(), jumping()
    trio.run(main, clock=control)


def test_a_rate_in_the_run_whose_clock_it_is() -> None:
    async def main() -> None:
        await control.to_clock().delay(1)
        assert control.current_time() >= 1

    control = ClockControl(rate=1e6)
    trio.run(main, clock=control)


def test_the_second_run_of_a_clock() -> None:
    """In which nobody waits for it, but for its timers."""
    log: list[float] = []
    control = jumping()
    clock = control.to_clock()
    trio.run(clock.delay, 1, clock=control)
    with clock.timer_group() as timers:
        timers.call_at(50, lambda: log.append(clock.instant()))
        trio.run(trio.sleep, 100, clock=control)
    assert log == [50]
    assert control.current_time() == 101


# --- the end ---


async def test_whoever_still_waits_is_told() -> None:
    async def wait(use: Callable[[Clock], Awaitable[None]], clock: Clock) -> None:
        with pytest.raises(ClockGone):
            await use(clock)
        log.append("told")

    async def time_out(clock: Clock) -> None:
        with clock.move_on_after(5):
            await trio.sleep_forever()

    async def fail(clock: Clock) -> None:
        with clock.fail_after(5):
            await trio.sleep_forever()

    async def delay(clock: Clock) -> None:
        await clock.delay(5)

    log: list[str] = []
    control = jumping()
    async with trio.open_nursery() as nursery:
        with control.hold():
            async with driven(control) as clock:
                for use in (time_out, fail, delay):
                    nursery.start_soon(wait, use, clock)
                await wait_all_tasks_blocked()
    assert log == ["told"] * 3
    with pytest.raises(ClockGone):
        clock.move_on_after(1)
    assert clock.instant() == 0


async def test_a_driver_that_somebody_drops() -> None:
    async def wait() -> None:
        with pytest.raises(ClockGone):
            await clock.delay(10)

    control = jumping()
    clock, driver = InactiveClock.from_control(control).activate_manual()
    async with trio.open_nursery() as nursery:
        with control.hold():
            nursery.start_soon(wait)
            await wait_all_tasks_blocked()
            del driver
            gc.collect()
            await wait_all_tasks_blocked()
    # Nothing of it is left to jump to.
    await control.to_clock().delay(20)
    assert control.current_time() == 20
    assert clock.instant() == 20
    assert not clock.alive


async def test_a_clock_ends_when_nobody_uses_it() -> None:
    control = jumping()
    clock, driver = InactiveClock.from_control(control).activate_manual()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(clock.delay, 5)
        nursery.start_soon(driver.wait_gone)
        await wait_all_tasks_blocked()
        clock.close()
    assert control.current_time() == 5
    assert not clock.alive


async def test_an_end_in_a_timeout_that_has_been_cancelled() -> None:
    control = ClockControl()
    async with driven(control) as clock:
        with clock.move_on_after(1) as scope:
            scope.cancel()
            await checkpoint()
        assert scope.cancelled_caught
    async with trio.open_nursery() as nursery:

        async def wait() -> None:
            with clock.move_on_after(1) as scope:
                started.set()
                with trio.CancelScope(shield=True):
                    await release.wait()
                scope.cancel()

        started, release = trio.Event(), trio.Event()
        async with driven(control) as clock:
            nursery.start_soon(wait)
            await started.wait()
        release.set()


# --- jumping ---


@each_kind
async def test_it_jumps_when_the_run_is_idle(open_it: Open) -> None:
    control = jumping()
    log: list[float] = []
    async with open_it(control) as clock:
        async with trio.open_nursery() as nursery:
            for seconds in (3, 1 / 3, 2, 1e6 / 7):
                nursery.start_soon(note_after, clock, seconds, log)
            for _ in range(100):
                await checkpoint()
                assert control.current_time() == 0
    assert log == [1 / 3, 2, 3, 1e6 / 7]


@each_kind
async def test_hold(open_it: Open) -> None:
    control = jumping()
    async with open_it(control) as clock, trio.open_nursery() as nursery:
        with control.hold():
            nursery.start_soon(clock.delay, 5)
            for _ in range(3):
                await wait_all_tasks_blocked()
            assert control.current_time() == 0
            control.jump(1)
    assert control.current_time() == 5


@each_kind
async def test_a_hold_at_the_last_moment(
    open_it: Open, autojump_clock: MockClock
) -> None:
    control = jumping()
    async with open_it(control) as clock, trio.open_nursery() as nursery:
        nursery.start_soon(clock.delay, 5)
        for _ in range(5):
            await checkpoint()
        # By now somebody is watching.
        with control.hold():
            await trio.sleep(10)
            assert control.current_time() == 0
    assert control.current_time() == 5


@each_kind
async def test_worker_threads(open_it: Open) -> None:
    def work() -> None:
        started.release()
        release.acquire()
        times.append(control.current_time())

    async def let_go() -> None:
        await wait_all_tasks_blocked()
        started.acquire()
        release.release()

    control = jumping()
    started, release = threading.Semaphore(0), threading.Semaphore(0)
    times: list[float] = []
    async with open_it(control) as clock, trio.open_nursery() as nursery:
        nursery.start_soon(clock.delay, 5)
        nursery.start_soon(let_go)
        with clock.fail_after(1):
            await trio.to_thread.run_sync(work)
    assert times == [0]
    assert control.current_time() == 5


async def test_a_worker_thread_that_waits_for_this_clock() -> None:
    control = jumping()
    clock = control.to_clock()
    await trio.to_thread.run_sync(trio.from_thread.run, clock.delay, 5)
    assert control.current_time() == 5


async def test_worker_threads_that_are_ignored() -> None:
    control = jumping(ignore_threads=True)
    clock = control.to_clock()
    release = threading.Event()
    with clock.move_on_after(5) as scope:
        await trio.to_thread.run_sync(release.wait, abandon_on_cancel=True)
    release.set()
    assert scope.cancelled_caught


@each_kind
@pytest.mark.parametrize("cushion", [0, 0.001])
async def test_tasks_that_wait_for_idleness_go_first(
    open_it: Open, cushion: float
) -> None:
    async def wait() -> None:
        for _ in range(3):
            await wait_all_tasks_blocked(cushion)
            log.append(control.current_time())

    control = jumping()
    log: list[float] = []
    async with open_it(control) as clock, trio.open_nursery() as nursery:
        nursery.start_soon(clock.delay, 5)
        nursery.start_soon(wait)
    assert log == [0, 0, 0]


@each_kind
async def test_settings_change_while_it_waits(open_it: Open) -> None:
    control = ClockControl()
    async with open_it(control) as clock:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(clock.delay, 5)
            await wait_all_tasks_blocked()
            assert control.current_time() == 0
            control.autojump_threshold = 0
        assert control.current_time() == 5
        async with trio.open_nursery() as nursery:
            nursery.start_soon(clock.delay, 5)
            control.autojump_threshold = 10_000
            await wait_all_tasks_blocked(0.001)
            control.autojump_threshold = inf
            await wait_all_tasks_blocked(0.001)
            assert control.current_time() == 5
            await trio.to_thread.run_sync(setattr, control, "autojump_threshold", 0)
        assert control.current_time() == 10


@pytest.mark.parametrize("open_it", [driven, lone])
async def test_another_thread_moves_it(open_it: Open) -> None:
    control = ClockControl()
    async with open_it(control) as clock, trio.open_nursery() as nursery:
        nursery.start_soon(clock.delay, 5)
        await wait_all_tasks_blocked()
        await trio.to_thread.run_sync(control.jump, 5)
    assert control.current_time() == 5


@pytest.mark.parametrize("by_hand", [False, True])
async def test_another_thread_moves_it_and_the_run_fires(by_hand: bool) -> None:
    """What it is told of may have been done by then."""
    control = ClockControl()
    clock = control.to_clock()
    log: list[float] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(note_after, clock, 5, log)
        await wait_all_tasks_blocked()
        with clock.timer_group() as timers:
            timers.call_later(5, log.append, -5)
            thread = threading.Thread(target=control.jump, args=[5])
            thread.start()
            thread.join()
            assert log == []
            if by_hand:
                control.advance(0)
                assert log == [-5]
            await wait_all_tasks_blocked()
            assert log == [-5, 5]


def test_time_jumps_to_timers_of_a_clock_that_was_there_before() -> None:
    """Also if no task ever waits for that clock itself."""

    async def main() -> None:
        event = trio.Event()
        with clock.timer_group() as timers, trio.fail_after(20):
            timers.call_later(3600, event.set)
            await event.wait()

    control = jumping()
    clock = control.to_clock()
    for hours in (1, 2):
        trio.run(main)
        assert clock.instant() == hours * 3600


@each_kind
def test_rate(open_it: Open) -> None:
    """A second of Trio's is two seconds here."""

    async def main() -> None:
        async with open_it(control) as clock:
            await clock.delay(10)
            assert (clock.instant(), trio.current_time()) == (10, 5)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(clock.delay, 10)
                await trio.sleep(1)
                control.rate = 0
                await trio.sleep(100)
                assert clock.instant() == 12
                control.rate = 8
            assert (clock.instant(), trio.current_time()) == (20, 107)
            with clock.move_on_after(8):
                await trio.sleep_forever()
            assert (clock.instant(), trio.current_time()) == (28, 108)
            control.rate = 0

    real = MockClock(autojump_threshold=0)
    control = ClockControl()
    control._real_clock = real.current_time
    control.rate = 2
    trio.run(main, clock=real)


# --- without Trio ---


def test_two_of_one_thread_are_one_clock(control: ClockControl) -> None:
    one, two = control.to_clock(), control.to_clock()
    with one.timer_group() as timers:
        timer = timers.call_later(1, int)
        one.close()
        assert two.alive
        two.close()
        control.advance(1)
        assert not timer.pending
    for clock in one, two:
        assert not clock.alive
    three = control.to_clock()
    assert three.alive
    named = f"ClockControl with seed {control.seed}"
    assert repr(three) == f"<Clock {named}, 0 timers, alive>"
    # What is activated by hand has a driver of its own.
    _, driver = InactiveClock.from_control(control).activate_manual()
    del three
    gc.collect()
    assert control.to_clock().alive
    assert driver.next_deadline is None


def test_each_thread_has_a_clock_of_its_own(control: ClockControl) -> None:
    def use_it() -> None:
        with pytest.raises(RuntimeError, match="from the thread that activated it"):
            clock.timer_group()
        mine = control.to_clock()
        with mine.timer_group() as timers:
            timers.call_later(1, log.append, "mine")
            control.advance(1)
        assert clock.instant() == 1

    log: list[str] = []
    clock = control.to_clock()
    with clock.timer_group() as timers:
        timers.call_later(1, log.append, "main")
        with ThreadPoolExecutor() as pool:
            pool.submit(use_it).result(30)
        assert log == ["mine"]
        control.advance(0)
    assert log == ["mine", "main"]


def test_a_recipe_may_be_cloned(control: ClockControl) -> None:
    recipe = InactiveClock.from_control(control)
    clock, driver = recipe.activate_manual()
    with pytest.raises(RuntimeError, match="activated already"):
        recipe.activate_manual()
    another, _driver = recipe.clone().activate_manual()
    control.jump(1)
    assert clock.instant() == another.instant() == 1
    assert driver.advance_timers() is None
    with clock.timer_group() as timers:
        timers.call_later(1, int)
        assert driver.next_deadline == 2
        assert driver.advance_timers() == 2


# --- several runs, in several threads ---


@each_kind
def test_it_jumps_when_all_runs_are_idle(open_it: Open) -> None:
    async def main(*lengths: float) -> list[float]:
        log: list[float] = []
        async with open_it(control) as clock:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(note_after, clock, lengths[0], log)
                await wait_all_tasks_blocked()
                ready.release()
            for seconds in lengths[1:]:
                await note_after(clock, seconds, log)
                for _ in range(50):
                    await checkpoint()
        return log

    control = jumping()
    ready = threading.Semaphore(0)
    with ThreadPoolExecutor() as pool:
        with control.hold():
            one = pool.submit(trio.run, main, 3, 3, 3)
            two = pool.submit(trio.run, main, 2, 2, 2, 2)
            ready.acquire()
            ready.acquire()
        assert one.result(30) == [3, 6, 9]
        assert two.result(30) == [2, 4, 6, 8]
    assert control.current_time() == 9


def test_a_run_that_is_busy_keeps_time_from_jumping() -> None:
    async def busy() -> None:
        async with driven(control) as clock:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(clock.delay, 1)
                for _ in range(5):
                    await checkpoint()
                ready.set()
                # Until the other one has been found idle, some times.
                for _ in range(3):
                    settled.acquire()
                    assert control.current_time() == 0

    async def other() -> None:
        ready.wait()
        clock = control.to_clock()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(note_after, clock, 5, log)
            for _ in range(3):
                await wait_all_tasks_blocked()
                settled.release()

    control = jumping()
    log: list[float] = []
    ready, settled = threading.Event(), threading.Semaphore(0)
    with ThreadPoolExecutor() as pool:
        one, two = pool.submit(trio.run, busy), pool.submit(trio.run, other)
        one.result(30)
        two.result(30)
    assert log == [5]


def test_a_run_that_ends_meanwhile() -> None:
    async def short() -> None:
        async with driven(control) as clock:
            with trio.move_on_after(0):
                await clock.delay(1)
            ready.set()
            go_on.wait()

    async def other() -> None:
        clock = control.to_clock()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(clock.delay, 5)
            await wait_all_tasks_blocked()
            await wait_all_tasks_blocked()
            assert control.current_time() == 0
            go_on.set()

    control = jumping()
    ready, go_on = threading.Event(), threading.Event()
    with ThreadPoolExecutor() as pool:
        future = pool.submit(trio.run, short)
        ready.wait()
        trio.run(other)
        future.result(30)
    assert control.current_time() == 5


def test_a_run_that_crashes() -> None:
    # In a process of its own, as what is left of such a run may disturb later ones.
    script = Path(__file__).with_name("stand_alone_crash.py")
    process = subprocess.run(
        [sys.executable, script], capture_output=True, check=False, text=True
    )
    assert process.stdout == "as it should be\n", process.stderr


def test_the_same_run_again_and_again() -> None:
    async def main() -> None:
        async with driven(control) as clock:
            await clock.delay(1)
            await control.to_clock().delay(1)

    control = jumping()
    for _ in range(3):
        trio.run(main)
    assert control.current_time() == 6
    assert not control._others._watchers


def test_waiting_in_a_run_that_shuts_down() -> None:
    """It is too late there for somebody to watch, and for waiting too."""

    async def generator() -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            with pytest.raises(trio.Cancelled):
                await clock.delay(1)
            log.append("cancelled")

    async def main() -> None:
        generators.append(generator())
        await generators[0].__anext__()

    control = jumping()
    clock = control.to_clock()
    log: list[str] = []
    generators: list[AsyncGenerator[None, None]] = []
    trio.run(main)
    assert log == ["cancelled"]
    assert not control._others._watchers
    trio.run(clock.delay, 1)
    assert control.current_time() == 1


# --- run_for() with several runs ---


@pytest.mark.parametrize("open_it", [driven, lone])
@pytest.mark.parametrize("own", [False, True])
def test_ten_ticks_in_another_run(open_it: Open, own: bool) -> None:
    async def tick() -> None:
        async with open_it(control) as clock:
            with trio.CancelScope() as scope:
                token = trio.lowlevel.current_trio_token()
                stop.append(lambda: token.run_sync_soon(scope.cancel))
                ready.set()
                while True:
                    await clock.delay(20)
                    # What it does meanwhile counts.
                    for _ in range(20):
                        await checkpoint()
                    await trio.to_thread.run_sync(log.append, clock.instant())

    async def main() -> None:
        ready.wait()
        await control.run_for(200)
        assert log == [20 * n for n in range(1, 11)]

    control = ClockControl()
    log: list[float] = []
    stop: list[Callable[[], None]] = []
    ready = threading.Event()
    with ThreadPoolExecutor() as pool:
        future = pool.submit(trio.run, tick)
        try:
            trio.run(main, clock=control if own else None)
        finally:
            stop[0]()
        future.result(30)


def test_a_run_that_shuts_down_while_others_wait_for_it() -> None:
    async def generator() -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            # Nobody can start a task here any more.
            closed.set()
            go_on.wait()

    async def short() -> None:
        clock = control.to_clock()
        clocks.append(clock)
        with clock.move_on_after(0):
            await trio.sleep_forever()
        generators.append(generator())
        await generators[0].__anext__()

    async def main() -> None:
        closed.wait()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(control.run_for, 5)
            await checkpoint()
            await checkpoint()
            go_on.set()
        assert control.current_time() == 5

    control = ClockControl()
    clocks: list[Clock] = []
    closed, go_on = threading.Event(), threading.Event()
    generators: list[AsyncGenerator[None, None]] = []
    with ThreadPoolExecutor() as pool:
        future = pool.submit(trio.run, short)
        trio.run(main)
        future.result(30)


def test_the_next_run_begins_as_another_thread_finds_the_last_one_over(
    control: ClockControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who forgets the run that is over must not forget the one that has begun."""
    clock = control.to_clock()

    async def in_the_first_run() -> None:
        with clock.timer_group():
            pass

    trio.run(in_the_first_run)
    in_the_next_run, looked = threading.Event(), threading.Event()

    def post_to(run: trio.lowlevel.TrioToken, fn: Callable[[], object]) -> bool:
        # (It also tells runs that are there of the jump.)
        if there := post(run, fn):
            return there
        in_the_next_run.set()
        looked.wait()
        return False

    def jump() -> None:
        control.jump(5)

    async def main() -> None:
        monkeypatch.undo()
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(clock.delay, 5)
                await wait_all_tasks_blocked()
                looked.set()
                await trio.to_thread.run_sync(thread.join)
                await trio.to_thread.run_sync(control.jump, 5)

    with clock.timer_group() as timers:
        timers.call_later(5, int)
        monkeypatch.setattr("trio_clockrt.testing._caller_driven.post", post_to)
        thread = threading.Thread(target=jump)
        thread.start()
        in_the_next_run.wait()
        trio.run(main)


async def test_an_instant_that_is_not_a_nanosecond_away() -> None:
    control = ClockControl()
    clock = control.to_clock()
    for _ in range(3):
        control.jump(0.1)
    assert clock.instant() < 0.1 + 0.2
    with trio.fail_after(20):
        await clock.delay_until(0.1 + 0.2)


# --- in guest mode ---


def test_a_host_moves_it(control: ClockControl) -> None:
    todo: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
    results: list[outcome.Outcome[None]] = []
    log: list[float] = []
    ready = threading.Event()

    async def main() -> None:
        async with driven(control) as clock, trio.open_nursery() as nursery:
            nursery.start_soon(note_after, clock, 5, log)
            nursery.start_soon(note_after, control.to_clock(), 5, log)
            await wait_all_tasks_blocked()
            ready.set()
            await note_after(control.to_clock(), 10, log)

    def step_until(condition: Callable[[], object]) -> None:
        while not condition():
            todo.get()()

    trio.lowlevel.start_guest_run(
        main, run_sync_soon_threadsafe=todo.put, done_callback=results.append
    )
    step_until(ready.is_set)
    control.advance(5)
    step_until(lambda: len(log) == 2)
    control.autojump_threshold = 0
    step_until(lambda: results)
    results[0].unwrap()
    assert log == [5, 5, 10]


# --- what is left behind ---


def use_driven(control: ClockControl) -> Clock:
    async def main() -> Clock:
        async with driven(control) as clock:
            await clock.delay(5)
            with clock.move_on_after(1):
                await trio.sleep_forever()
            return clock

    return trio.run(main)


def use_lone(control: ClockControl) -> Clock:
    clock = control.to_clock()
    trio.run(clock.delay, 6)
    return clock


def use_own_run(control: ClockControl) -> Clock:
    async def main() -> Clock:
        async with open_clock() as clock:
            await control.to_clock().delay(6)
            return clock

    return trio.run(main, clock=control)


def use_by_hand(control: ClockControl) -> Clock:
    clock = control.to_clock()
    with clock.timer_group() as timers:
        timers.call_later(5, int)
        control.advance(6)
    trio.run(control.run_for, 0)
    return clock


uses = pytest.mark.parametrize("use", [use_driven, use_lone, use_own_run, use_by_hand])


@uses
def test_nothing_is_left(use: Callable[[ClockControl], Clock]) -> None:
    control = jumping()
    clock = use(control)
    assert clock.instant() == 6
    left: list[weakref.ref[object]] = [
        weakref.ref(thing)
        for thing in (
            control,
            clock,
            clock._activation,
            clock._timers,
            clock._timers.alarm,
        )
    ]
    del clock, control
    gc.collect()
    assert [ref() for ref in left] == [None] * len(left)


@uses
def test_the_clock_lives_without_its_control(
    use: Callable[[ClockControl], Clock],
) -> None:
    clock = use(jumping())
    gc.collect()
    assert clock.instant() == 6


def test_waiting_without_the_control() -> None:
    clock = jumping().to_clock()
    gc.collect()
    trio.run(clock.delay, 5)
    assert clock.instant() == 5


def test_clocks_that_are_gone_leave_nothing_in_their_control() -> None:
    control = jumping()
    for _ in range(3):
        use_driven(control)
        InactiveClock.from_control(control).activate_manual()
    gc.collect()
    assert not control._others.states()


def test_in_another_run_than_the_one_whose_clock_it_is() -> None:
    """Time moves where the control is the clock; when that run is over, here."""

    async def here() -> None:
        async with InactiveClock.from_control(control).activate() as (clock, _):
            async with clock.open_timers() as timers:
                for seconds in (5, 1000):
                    timers.call_later(seconds, log.append, f"here {seconds}")
                ready.set()
            assert clock.instant() == 1000

    async def there() -> None:
        with control.hold():
            thread.start()
            while not ready.is_set():
                await checkpoint()
        for seconds in (3, 30):
            await trio.sleep(seconds)
            log.append(f"there {trio.current_time()}")

    log: list[str] = []
    ready = threading.Event()
    control = jumping()
    thread = threading.Thread(target=trio.run, args=(here,))
    trio.run(there, clock=control)
    thread.join()
    # (What is due here may be told a little later than what is due there.)
    assert sorted(log) == ["here 1000", "here 5", "there 3.0", "there 33.0"]

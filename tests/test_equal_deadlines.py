"""What happens first at one instant, under a control that is the clock of the run.

Callbacks of timers come before the tasks that wake with them, Trio's own included. The
seed decides which of these tasks goes first.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta, timezone
from typing import cast

import outcome
import pytest
import trio
import trio.lowlevel

from trio_clockrt import Clock, open_clock
from trio_clockrt.testing import ClockControl

Move = Callable[[ClockControl], Awaitable[None]]
MINUTE_1 = datetime(1970, 1, 1, 0, 1, tzinfo=timezone.utc)


async def by_itself(control: ClockControl) -> None:
    control.autojump_threshold = 0


async def jump(control: ClockControl) -> None:
    control.jump(60)


async def advance(control: ClockControl) -> None:
    control.advance(timedelta(minutes=1))


async def set_time(control: ClockControl) -> None:
    control.set_time(MINUTE_1)


async def run_for(control: ClockControl) -> None:
    await control.run_for(60)


async def run_until(control: ClockControl) -> None:
    await control.run_until(60)


async def run_until_idle(control: ClockControl) -> None:
    await control.run_until_idle()


@pytest.fixture(
    params=[
        by_itself,
        jump,
        advance,
        set_time,
        run_for,
        run_until,
        run_until_idle,
    ]
)
def move(request: pytest.FixtureRequest) -> Move:
    """All the ways in which time may come there."""
    return cast("Move", request.param)


@pytest.mark.parametrize("seed", range(10))
def test_callbacks_come_before_all_who_wake_then(move: Move, seed: int) -> None:
    log: list[str] = []
    event = trio.Event()

    async def sleep() -> None:
        await trio.sleep(60)
        log.append("slept")

    async def delay(clock: Clock) -> None:
        await clock.delay(60)
        log.append("delayed")

    async def time_out() -> None:
        with trio.move_on_after(60):
            await trio.sleep_forever()
        log.append("timed out")

    async def hear_in_time() -> None:
        with trio.fail_after(60):
            await event.wait()

    async def main() -> None:
        async with (
            open_clock() as clock,
            open_clock() as other_clock,
            clock.open_timers() as timers,
            trio.open_nursery() as nursery,
        ):
            for _ in range(2):
                nursery.start_soon(sleep)
                nursery.start_soon(delay, clock)
                nursery.start_soon(delay, other_clock)
                nursery.start_soon(time_out)
            nursery.start_soon(hear_in_time)
            await trio.testing.wait_all_tasks_blocked()
            timers.call_later(60, log.append, "called")
            timers.call_later(60, event.set)
            await move(control)

    control = ClockControl(seed=seed)
    trio.run(main, clock=control)
    assert log[0] == "called"
    assert sorted(log[1:]) == 4 * ["delayed"] + 2 * ["slept"] + 2 * ["timed out"]


@pytest.mark.parametrize("n", range(10))
def test_a_rate(n: int) -> None:
    """Time passes each time that the clock is read, so also in between."""

    async def main() -> None:
        event = trio.Event()
        async with (
            open_clock() as clock,
            clock.open_timers() as timers,
            trio.open_nursery() as nursery,
        ):
            timers.call_at(60, event.set)
            nursery.start_soon(keep_busy, event)
            with trio.fail_at(60):
                control.rate = 10_000
                await event.wait()

    async def keep_busy(event: trio.Event) -> None:
        while not event.is_set():
            await trio.lowlevel.checkpoint()

    control = ClockControl()
    control._real_clock = itertools.count(0, (n + 1) * 3e-5).__next__
    trio.run(main, clock=control)


def test_tasks_that_wake_at_once_take_turns_by_the_seed() -> None:
    """A child counts ticks, and the test looks at the last one."""

    async def main(log: list[int]) -> None:
        counted = 0

        async def count(clock: Clock) -> None:
            nonlocal counted
            async for _ in clock.periodic(1):
                counted += 1

        async with open_clock() as clock, trio.open_nursery() as nursery:
            nursery.start_soon(count, clock)
            await clock.delay(10)
            log.append(counted)
            nursery.cancel_scope.cancel()

    def results_of(seed: int) -> set[int]:
        log: list[int] = []
        for _ in range(5):
            trio.run(main, log, clock=ClockControl(autojump_threshold=0, seed=seed))
        return {*log}

    results = [results_of(seed) for seed in range(20)]
    assert all(len(one) == 1 for one in results)
    assert set.union(*results) == {9, 10}


# --- callbacks without end do not keep others waiting ---


def test_a_callback_that_comes_again_at_once() -> None:
    async def main() -> None:
        def again() -> None:
            timers.call_later(0, again)

        async with (
            open_clock() as clock,
            clock.open_timers(on_exit="cancel") as timers,
        ):
            timers.call_later(60, again)
            for seconds in 60, 0:
                with trio.move_on_after(seconds):
                    await trio.sleep_forever()

    trio.run(main, clock=ClockControl(autojump_threshold=0))


def test_callbacks_of_two_clocks_that_call_each_other() -> None:
    """So a driver is woken in each pass of the loop."""

    async def main() -> None:
        def ping() -> None:
            if not done:
                timers2.call_later(0, pong)

        def pong() -> None:
            timers1.call_later(0, ping)

        done = False

        async with (
            open_clock() as clock1,
            open_clock() as clock2,
            clock1.open_timers(on_exit="cancel") as timers1,
            clock2.open_timers(on_exit="cancel") as timers2,
        ):
            timers1.call_later(60, ping)
            for seconds in 60, 0:
                with trio.move_on_after(seconds):
                    await trio.sleep_forever()
            done = True

    trio.run(main, clock=ClockControl(autojump_threshold=0))


# --- nobody sees that Trio's deadlines are put off ---


class Looks(trio.abc.Instrument):
    """Reads the time at the very moment, in another thread and in this one."""

    def __init__(self, control: ClockControl) -> None:
        self.control = control
        self.elsewhere: list[float] = []
        self.here: list[float] = []

    def after_io_wait(self, timeout: float) -> None:
        thread = threading.Thread(target=self.look)
        thread.start()
        thread.join()
        self.here.append(self.control.current_time())

    def look(self) -> None:
        self.elsewhere.append(self.control.current_time())


def test_whoever_reads_the_time_then() -> None:
    woken: list[float] = []

    async def sleep() -> None:
        await trio.sleep(60)
        woken.append(trio.current_time())

    async def main() -> None:
        async with open_clock() as clock:
            async with clock.open_timers() as timers, trio.open_nursery() as nursery:
                nursery.start_soon(sleep)
                timers.call_later(60, lambda: woken.append(clock.instant()))
                await trio.testing.wait_all_tasks_blocked()
                trio.lowlevel.add_instrument(looks)
            trio.lowlevel.remove_instrument(looks)

    control = ClockControl(autojump_threshold=0, ignore_threads=True)
    looks = Looks(control)
    trio.run(main, clock=control)
    assert woken == [60, 60]
    assert {*looks.elsewhere} <= {0.0, 60.0}
    assert looks.elsewhere == sorted(looks.elsewhere)
    assert looks.here == sorted(looks.here)


def test_in_guest_mode() -> None:
    log: list[str] = []

    async def main() -> None:
        async with open_clock() as clock, clock.open_timers() as timers:
            timers.call_later(60, log.append, "called")
            await trio.sleep(60)
            log.append("slept")

    todo: list[Callable[[], object]] = []
    ends: list[outcome.Outcome[None]] = []
    arrived = threading.Semaphore(0)

    def run_soon(fn: Callable[[], object]) -> None:
        todo.append(fn)
        arrived.release()

    trio.lowlevel.start_guest_run(
        main,
        run_sync_soon_threadsafe=run_soon,
        done_callback=ends.append,
        clock=ClockControl(autojump_threshold=0),
    )
    while not ends:
        arrived.acquire()
        todo.pop(0)()
    ends[0].unwrap()
    assert log == ["called", "slept"]


def test_a_control_is_as_good_as_new_in_its_next_run() -> None:
    async def main() -> None:
        async with open_clock() as clock, clock.open_timers() as timers:
            timers.call_later(60, log.append, "called")
            await trio.sleep(60)
            log.append("slept")

    control = ClockControl(autojump_threshold=0)
    for _ in range(3):
        log: list[str] = []
        trio.run(main, clock=control)
        assert log == ["called", "slept"]

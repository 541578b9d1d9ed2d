"""A clock in a Trio run that is a guest of another event loop."""

from __future__ import annotations

import queue
from collections.abc import Awaitable, Callable

import outcome
import trio

from trio_clockrt import InactiveClock, Timer, TimerNursery, open_clock


class Host:
    """As little as a host loop can be."""

    def __init__(self) -> None:
        self.todo: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()

        self.results: list[outcome.Outcome[None]] = []

    def start(self, main: Callable[[], Awaitable[None]]) -> None:
        trio.lowlevel.start_guest_run(
            main,
            run_sync_soon_threadsafe=self.todo.put,
            done_callback=self.results.append,
        )

    def step(self) -> None:
        self.todo.get()()

    def run(self, main: Callable[[], Awaitable[None]]) -> None:
        async def guest() -> None:
            with scope:
                await main()

        scope = trio.CancelScope()
        self.start(guest)
        try:
            while not self.results:
                self.step()
        finally:
            # No other test could run Trio in this thread, if the guest stayed.
            scope.cancel()
            while not self.results:
                self.step()
        self.results[0].unwrap()


def test_waiting_and_timers() -> None:
    calls: list[int] = []

    async def main() -> None:
        async with open_clock() as clock:
            start = clock.instant()
            await clock.delay(0.01)
            assert clock.instant() >= start + 0.01
            async with clock.open_timers() as timers:
                timers.call_later(0.01, calls.append, 1)
            async for _ in clock.periodic(0.001):
                break

    Host().run(main)
    assert calls == [1]


def test_the_host_uses_timers_between_ticks() -> None:
    # The run has nothing to wake up for but what the host does to its timers.
    host = Host()
    log: list[str] = []

    def host_does(timers: TimerNursery) -> None:
        far = timers.call_later(3600, log.append, "never")
        near = timers.call_later(3600, log.append, "near")
        near.reset(0.001)
        timers.call_later(0.002, host.todo.put, lambda: host_goes_on(timers, far))

    def host_goes_on(timers: TimerNursery, far: Timer) -> None:
        assert far.cancel()
        log.append("cancelled")
        timers.start_later(0, child)

    async def child() -> None:
        log.append("child")

    async def main() -> None:
        async with InactiveClock().activate() as (clock, driver):
            async with clock.open_timers() as timers:
                host.todo.put(lambda: host_does(timers))
                await clock.delay(0.001)
            assert driver.statistics().pending == 0

    host.run(main)
    assert log == ["near", "cancelled", "child"]


def test_the_host_closes_the_clock_between_ticks() -> None:
    host = Host()

    async def main() -> None:
        async with InactiveClock().activate() as (clock, driver):
            host.todo.put(clock.close)
            await driver.wait_gone()
            assert not clock.alive

    host.run(main)


def test_the_host_advances_the_timers_between_ticks() -> None:
    host = Host()
    calls: list[str] = []

    async def main() -> None:
        async with InactiveClock().activate() as (clock, driver):

            def host_does() -> None:
                timers.call_later(0, calls.append, "due")
                timers.start_later(0, child)
                # More than once where it takes long, so that other tasks have a turn.
                while driver.advance_timers() is not None:
                    pass
                calls.append("advanced")

            async def child() -> None:
                calls.append("child")

            async with clock.open_timers() as timers:
                timers.call_later(0.001, host.todo.put, host_does)
                while len(calls) < 3:
                    await trio.lowlevel.checkpoint()

    host.run(main)
    assert calls == ["due", "advanced", "child"]


def test_the_host_cancels_everything_between_ticks() -> None:
    host = Host()
    cancelled: list[bool] = []

    async def main() -> None:
        with trio.CancelScope() as scope:
            async with InactiveClock().activate() as (clock, driver):
                async with clock.open_timers() as timers:
                    timers.call_later(3600, int)
                    host.todo.put(timers.cancel_timers)
                    host.todo.put(scope.cancel)
                    await clock.delay(3600)
        cancelled.append(scope.cancelled_caught)
        assert driver.statistics().pending == 0

    host.run(main)
    assert cancelled == [True]

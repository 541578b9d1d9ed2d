"""All that is done to timers of a shared clock, in the middle of everything else.

A trace function runs it: at each line of the library in turn, in another thread, or in
the same one, as a finalizer would.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

import pytest
import trio
import trio.testing
from at_each_line import traced
from model_settings import STEPS
from shared_clock import InThread, in_thread
from stepwise_run import StepwiseRun
from trio.testing import MockClock

from trio_clockrt import Clock, ClockDriver, InactiveClock, Timer, TimerNursery


class Scene:
    """Two timers, what may be done to them, and what has become of it."""

    def __init__(
        self, timers: TimerNursery, driver: ClockDriver, time: MockClock
    ) -> None:
        self.timers = timers
        self.driver = driver
        self.time = time
        self.now = time.current_time()
        self.fired: list[tuple[str, float]] = []
        self.results: list[object] = []
        self.named: dict[str, Timer] = {}
        self.count = itertools.count()
        self.set("first", 40)
        self.set("second", 60)

    def set(self, name: str, seconds: float) -> None:
        # In this order, as another thread may want it fired at once.
        when = self.now + seconds
        self.named[name] = self.timers.call_at(when, self.fire, name)

    def fire(self, name: str) -> None:
        self.fired.append((name, self.time.current_time()))

    # --- what is done ---

    def register(self) -> None:
        self.set(f"third {next(self.count)}", 50)

    def register_now(self) -> None:
        self.set(f"at once {next(self.count)}", 0)

    def cancel(self) -> None:
        self.results.append(self.named["first"].cancel())

    def reset(self) -> None:
        self.named["first"].reset(50)

    def reset_now(self) -> None:
        self.named["first"].reset(0)

    def cancel_timers(self) -> None:
        self.timers.cancel_timers()

    def cancel_second(self) -> None:
        self.named["second"].cancel()

    def ask(self) -> None:
        with suppress(RuntimeError):  # in the middle of something
            _ = self.driver.next_deadline
        with suppress(RuntimeError):
            self.driver.advance_timers()

    # --- what always holds ---

    async def check(self, *, count: bool) -> None:
        """To count what is pending reads all messages, which hides who has not."""
        await trio.testing.wait_all_tasks_blocked()
        pending = [
            (name, timer.when) for name, timer in self.named.items() if timer.pending
        ]
        if count:
            assert self.driver.statistics().pending == len(pending)
        assert self.results.count(True) <= 1
        self.fired.clear()
        for when in sorted({when for _, when in pending}):
            self.time.jump(when - self.time.current_time())
            await trio.testing.wait_all_tasks_blocked()
        assert sorted(self.fired) == sorted(pending)
        assert not any(timer.pending for timer in self.named.values())
        assert self.driver.statistics().pending == 0


DEEDS: dict[str, Callable[[Scene], None]] = {
    "register": Scene.register,
    "register now": Scene.register_now,
    "cancel": Scene.cancel,
    "cancel another": Scene.cancel_second,
    "cancel all": Scene.cancel_timers,
    "reset": Scene.reset,
    "reset to now": Scene.reset_now,
}


async def from_a_thread(scene: Scene) -> None:
    """What is interrupted is the driver, as it reads of it."""
    InThread(lambda: DEEDS["cancel"](scene)).result()
    await trio.testing.wait_all_tasks_blocked()


async def fire(scene: Scene) -> None:
    scene.time.jump(40)
    await trio.testing.wait_all_tasks_blocked()


def at_once(deed: Callable[[Scene], None]) -> Callable[[Scene], Awaitable[None]]:
    async def do(scene: Scene) -> None:
        deed(scene)
        await trio.testing.wait_all_tasks_blocked()

    return do


INTERRUPTED = {name: at_once(deed) for name, deed in DEEDS.items()}
INTERRUPTED["read"] = from_a_thread
INTERRUPTED["fire"] = fire


# At each line, if there is time for it; else at every other one, with these or those
# deeds.
STRIDE = 1 if STEPS >= 100_000 else 2


@pytest.mark.parametrize("where", ["another thread", "the same thread"])
@pytest.mark.parametrize("deed", [*DEEDS, "ask"])
@pytest.mark.parametrize("interrupted", INTERRUPTED)
def test_at_each_line(interrupted: str, deed: str, where: str) -> None:
    if deed == "ask" and where == "another thread":
        return  # it is refused there
    do = Scene.ask if deed == "ask" else DEEDS[deed]

    async def attempt(
        here: int, timers: TimerNursery, driver: ClockDriver, time: MockClock
    ) -> bool:
        threads: list[InThread[None]] = []
        scene = Scene(timers, driver, time)

        def interrupt() -> None:
            if where == "the same thread":
                do(scene)
                return
            thread = InThread(lambda: do(scene))
            if driver._timers.lock._is_owned():  # type: ignore[union-attr]
                threads.append(thread)  # it has to wait
            else:
                thread.result()

        await trio.testing.wait_all_tasks_blocked()  # the driver is asleep
        with traced(interrupt, here) as lines:
            await INTERRUPTED[interrupted](scene)
        for thread in threads:
            thread.result()
        await scene.check(count=where == "the same thread")
        return here <= len(lines)

    async def main() -> None:
        async with InactiveClock.new_shared().activate() as (clock, driver):
            async with clock.open_timers() as timers:
                here = 1 + len(deed) % STRIDE
                while await attempt(here, timers, driver, time):
                    here += STRIDE
                timers.cancel_timers()
        assert here > 10

    time = MockClock()
    trio.run(main, clock=time)


@pytest.mark.parametrize("other", ["register", "cancel another"])
def test_what_can_wait_comes_as_what_cannot_is_read(other: str) -> None:
    """The driver moves its alarm, whether or not there is more to read."""

    async def attempt(
        here: int, timers: TimerNursery, driver: ClockDriver, time: MockClock
    ) -> bool:
        scene = Scene(timers, driver, time)
        await trio.testing.wait_all_tasks_blocked()
        with traced(lambda: in_thread(lambda: DEEDS[other](scene)), here) as lines:
            in_thread(lambda: scene.set("earlier", 30))
            await trio.testing.wait_all_tasks_blocked()
        await scene.check(count=False)
        return here <= len(lines)

    async def main() -> None:
        async with InactiveClock.new_shared().activate() as (clock, driver):
            async with clock.open_timers(on_exit="cancel") as timers:
                here = 1
                while await attempt(here, timers, driver, time):
                    here += 1
        assert here > 10

    time = MockClock()
    trio.run(main, clock=time)


@pytest.mark.parametrize("what", ["register", "cancel", "fire"])
def test_statistics_elsewhere_at_each_line(what: str) -> None:
    """The driver goes on while another thread asks for its figures."""

    async def keep_open() -> None:
        async with clock.open_timers() as timers:
            opened.append(timers)
            await trio.sleep_forever()

    def do() -> None:
        timer = opened[0].call_later(0 if what == "fire" else 60, int)
        if what == "cancel":
            timer.cancel()

    async def main() -> None:
        async with InactiveClock.new_shared().activate() as activated:
            activations.append(activated)
            await trio.sleep_forever()

    activations: list[tuple[Clock, ClockDriver]] = []
    opened: list[TimerNursery] = []
    home = StepwiseRun()
    home.start(main)
    [(clock, driver)] = activations
    home.start(keep_open)
    here, lines = 0, [0]
    while here <= len(lines):
        here += 1
        with traced(lambda: home.do(do), here) as lines:
            it = driver.statistics()
        assert it.registered == it.pending + it.fired + it.cancelled
    assert here > 10
    home.close()
    it = driver.statistics()
    assert it.pending == 0
    assert it.registered == it.fired + it.cancelled


@pytest.mark.parametrize("first", ["timer", "nursery"])
def test_the_last_user_goes_at_each_line(first: str) -> None:
    """What the driver reads is of one, and what leaves meanwhile is another."""

    async def attempt(here: int) -> bool:
        async def use() -> None:
            async with clock.open_timers(on_exit="cancel") as timers:
                opened.append(timers.call_later(60, int))
                await leave.wait()

        opened: list[Timer] = []
        leave = trio.Event()
        async with InactiveClock.new_shared().activate() as (clock, driver):
            in_thread(partial(other.start, use))
            clock.close()
            await trio.testing.wait_all_tasks_blocked()
            assert clock.alive
            deeds: list[Callable[[], object]] = [
                opened[0].cancel,
                lambda: in_thread(partial(other.do, leave.set)),
            ]
            if first == "nursery":
                deeds.reverse()
            with traced(deeds[1], here) as lines:
                InThread(deeds[0]).result()
                await trio.testing.wait_all_tasks_blocked()
            if here > len(lines):
                deeds[1]()
            await driver.wait_gone()
        return here <= len(lines)

    async def main() -> None:
        here = 1
        while await attempt(here):
            here += 1
        assert here > 10

    other = StepwiseRun()
    try:
        trio.run(main, clock=MockClock())
    finally:
        other.close()


@pytest.mark.parametrize("interrupted", ["reset", "wait", "tick"])
def test_ticks_that_are_reset_at_each_line(interrupted: str) -> None:
    async def attempt(here: int) -> bool:
        async def tick() -> None:
            ticks.append(await ticker.__anext__())

        async def wait() -> None:
            nursery.start_soon(tick)
            await trio.testing.wait_all_tasks_blocked()

        ticks: list[float] = []
        async with InactiveClock.new_shared().activate() as (clock, driver):
            async with trio.open_nursery() as nursery:
                start = time.current_time()
                ticker = clock.periodic(4)
                if interrupted != "wait":
                    await wait()
                time.jump(4 if interrupted == "tick" else 2)
                interrupt = partial(in_thread, ticker.reset)
                with traced(interrupt, here) as lines:
                    if interrupted == "wait":
                        await wait()
                    elif interrupted == "reset":
                        ticker.reset()
                    await trio.testing.wait_all_tasks_blocked()
                if here > len(lines):
                    ticker.reset()
                    await trio.testing.wait_all_tasks_blocked()
                if interrupted == "tick":
                    # Whichever was first.
                    assert ticks in ([], [start + 4])
                    ticks.clear()
                    if nursery.child_tasks == frozenset():
                        await wait()
                time.jump(3)
                await trio.testing.wait_all_tasks_blocked()
                assert ticks == []
                time.jump(1)
                await trio.testing.wait_all_tasks_blocked()
                assert ticks == [time.current_time()]
                assert driver.statistics().pending == 0
        return here <= len(lines)

    async def main() -> None:
        here = 1
        while await attempt(here):
            here += 1
        assert here > 10

    time = MockClock()
    trio.run(main, clock=time)

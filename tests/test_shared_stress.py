"""Eight threads do anything to one shared clock, at random.

Four of them are Trio runs, one of which drives the clock. They register timers, reset
and cancel them, those of each other too, wait, clone and close clocks, leave garbage
that cancels timers, and end without a word. Each timer has to fire once, or to be
cancelled; and never early, nor after its nursery.

It is some thousand operations in the suite, and 200,000 for `make stress`.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import random
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from math import inf

import pytest
import trio
from shared_clock import InThread

from trio_clockrt import (
    Clock,
    ClockGone,
    InactiveClock,
    PeriodicTimer,
    Timer,
    TimerNursery,
)

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

OPERATIONS = int(os.environ.get("STRESS_OPERATIONS", "30000"))
SEED = os.environ.get("STRESS_SEED") or str(random.randrange(10**9))
HANDS = 8
# So long without an end, in seconds, is a deadlock, or something lost.
DEADLOCK = 60 + OPERATIONS / 1000
FAR = 3600.0


class SuddenEnd(BaseException):
    """Ends a run, or a thread, that has more to do."""


class Nursery:
    """An open `TimerNursery`, as seen by all threads."""

    def __init__(self, timers: TimerNursery) -> None:
        self.timers = timers
        # Whether its timers may go by themselves, and whether they must have.
        self.ending = False
        self.ended = False


class Record:
    """What has been done to a timer, and what it has done.

    (A list counts without a lock, whichever threads do it.)
    """

    timer: Timer

    def __init__(self, story: Story, nursery: Nursery, *, private: bool) -> None:
        self.story = story
        self.nursery = nursery
        # Whether only one thread sets and cancels it, which then knows more of it.
        self.private = private
        self.due = self.earliest = inf
        self.certain = True
        self.sets: list[None] = []
        self.resets: list[None] = []
        self.cancels: list[None] = []
        self.fired: list[float] = []
        self.cancelled_last = False

    def about_to_set(self, seconds: float) -> None:
        self.new = self.story.clock.instant() + seconds
        self.earliest = min(self.earliest, self.new)

    def has_been_set(self) -> None:
        # If it was not due, it has not fired, and will not before the new deadline.
        self.certain = self.certain and self.due > self.story.clock.instant()
        if self.private and self.certain:
            self.earliest = self.new
        self.due = self.new
        self.cancelled_last = False

    def cancel(self) -> None:
        if self.timer.cancel():
            self.cancels.append(None)
            self.cancelled_last = True
        else:
            self.certain = False

    def fire(self) -> None:
        now = self.story.clock.instant()
        self.fired.append(now)
        if now < self.earliest:
            self.story.complain(f"fired at {now}, before {self.earliest}")
        if self.nursery.ended:
            self.story.complain("fired after its nursery")

    async def fire_in_a_task(self) -> None:
        self.fire()

    def check(self) -> None:
        if self.timer.pending:
            self.story.complain("still pending")
        resets = len(self.resets)
        most = 1 + resets - len(self.cancels)
        # A reset may have come before it fired, or afterwards.
        least = 0 if self.nursery.ending else most - resets
        if not least <= len(self.fired) <= most:
            self.story.complain(
                f"fired {len(self.fired)} times, but should have {least} to {most}"
            )
        if (
            self.private
            and not (self.nursery.ending or self.cancelled_last)
            and (not self.fired or self.fired[-1] < self.due)
        ):
            self.story.complain(f"lost: due at {self.due}, fired at {self.fired}")


class Garbage:
    """It cancels a timer whenever, and wherever, it is collected."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.cycle = self

    def __del__(self) -> None:
        self.record.cancel()


class Story:
    """All that happens to one clock."""

    clock: Clock

    def __init__(self, seed: str, operations: int) -> None:
        self.seed = seed
        self.operations = operations
        self.complaints: list[str] = []
        self.nurseries: list[Nursery] = []
        self.records: list[Record] = []
        self.shared_records: list[Record] = []
        # Somebody waits for each of them, over and over.
        self.tickers: list[PeriodicTimer] = []
        self.at_work = [None] * HANDS
        self.all_done = threading.Event()

    def complain(self, what: str) -> None:
        self.complaints.append(what)

    def far_away(self) -> float:
        return self.clock.instant() + FAR / 2

    def one_is_done(self) -> None:
        self.at_work.pop()
        if not self.at_work:
            self.all_done.set()


class Hand:
    """A thread, and those that follow it, with dice of its own."""

    def __init__(self, story: Story, name: str) -> None:
        self.story = story
        self.dice = random.Random(f"{story.seed} {name}")
        self.records: list[Record] = []
        self.clock = story.clock.clone()
        self.ticker = story.clock.periodic(self.dice.random() / 500 + 1e-4)
        story.tickers.append(self.ticker)
        self.left = story.operations // HANDS
        self.is_done = False

    # --- operations ---

    def do_something(self) -> None:
        self.left -= 1
        what = self.dice.random()
        if what < 0.4:
            self.register()
        elif what < 0.65:
            self.reset()
        elif what < 0.9:
            self.cancel()
        elif what < 0.95:
            self.own()
        else:
            self.dice.choice(self.story.tickers).reset()

    def length(self) -> float:
        return self.dice.choice([0.0, FAR, self.dice.random() / 200])

    def register(self) -> None:
        nurseries = self.story.nurseries[:]
        if not nurseries:
            return
        nursery, seconds = self.dice.choice(nurseries), self.length()
        record = Record(self.story, nursery, private=self.dice.random() < 0.5)
        timers = nursery.timers
        record.about_to_set(seconds)
        try:
            kind = self.dice.randrange(3)
            if kind == 0:
                record.timer = timers.call_later(seconds, record.fire)
            elif kind == 1:
                instant = self.story.clock.instant() + seconds
                record.timer = timers.call_at(instant, record.fire)
            else:
                record.timer = timers.start_later(seconds, record.fire_in_a_task)
        except RuntimeError:
            assert nursery.ending
            return
        record.has_been_set()
        self.story.records.append(record)
        if record.private:
            self.records.append(record)
        elif self.dice.random() < 0.2:
            Garbage(record)
        else:
            self.story.shared_records.append(record)

    def choose(self) -> Record | None:
        records = self.dice.choice([self.records, self.story.shared_records])[-100:]
        return self.dice.choice(records) if records else None

    def reset(self) -> None:
        record = self.choose()
        if record is None:
            return
        seconds = self.length()
        record.about_to_set(seconds)
        try:
            record.timer.reset(seconds)
        except RuntimeError:
            assert record.nursery.ending
        else:
            record.resets.append(None)
            record.has_been_set()

    def cancel(self) -> None:
        record = self.choose()
        if record is not None:
            record.cancel()

    def own(self) -> None:
        clone = self.clock.clone()
        if self.dice.random() < 0.5:
            self.clock.close()
        self.clock = clone  # or the other is just dropped
        with clone.clone() as another:
            assert another.alive
        assert clone.alive

    # --- waiting ---

    def block(self) -> None:
        start, seconds = self.clock.instant(), self.dice.random() / 500
        self.clock.delay_blocking(seconds)
        assert self.clock.instant() >= start + seconds

    async def wait(self) -> None:
        start, seconds = self.clock.instant(), self.dice.random() / 500
        kind = self.dice.randrange(4)
        if kind == 0:
            await self.clock.delay(seconds)
            assert self.clock.instant() >= start + seconds
        elif kind == 1:
            with self.clock.move_on_after(seconds) as scope:
                await self.clock.delay(FAR)
            assert scope.cancelled_caught
            assert self.clock.instant() >= start + seconds
        elif kind == 2:
            timer = self.clock.periodic(seconds + 1e-6)
            if self.dice.random() < 0.5:
                timer.reset()
            assert await timer.__anext__() >= start + seconds
        else:
            with trio.move_on_after(seconds):
                await self.clock.delay(self.length())

    # --- plain threads ---

    def work(self) -> None:
        while self.left > 0:
            self.do_something()
            if self.dice.random() < 0.1:
                self.block()
            if self.dice.random() < 0.005:
                raise SuddenEnd

    def work_in_threads(self) -> None:
        try:
            while self.left > 0:
                with suppress(SuddenEnd):
                    InThread(self.work).result(DEADLOCK)
        finally:
            self.story.one_is_done()

    # --- Trio runs ---

    async def work_in_a_task(self) -> None:
        while self.left > 0:
            self.do_something()
            if self.dice.random() < 0.1:
                await trio.lowlevel.checkpoint()
            if self.dice.random() < 0.1:
                await self.wait()
            if self.dice.random() < 0.002:
                raise SuddenEnd

    async def tick(self) -> None:
        before = -inf
        while True:
            tick = await self.ticker.__anext__()
            assert before < tick <= self.story.clock.instant()
            before = tick

    async def work_with_timers(self) -> None:
        opened: list[Nursery] = []
        try:
            async with self.clock.open_timers() as timers:
                opened.append(Nursery(timers))
                await self.work_with(opened[0])
        finally:
            for nursery in opened:
                nursery.ended = True

    async def work_with(self, nursery: Nursery) -> None:
        story = self.story
        story.nurseries.append(nursery)
        try:
            async with trio.open_nursery() as tasks:
                tasks.start_soon(story.clock.delay, inf)
                tasks.start_soon(self.tick)
                tasks.start_soon(self.work_in_a_task)
                await self.work_in_a_task()
                tasks.cancel_scope.cancel()
        except BaseException:
            # Its timers go now.
            nursery.ending = True
            story.nurseries.remove(nursery)
            raise
        story.one_is_done()
        await trio.to_thread.run_sync(story.all_done.wait)
        # What is pending is to fire, if it does so soon.
        for record in story.records[:]:
            if record.nursery is nursery and record.timer.when > story.far_away():
                record.cancel()

    async def work_in_this_run(self) -> None:
        while not self.is_done:
            with sudden_end():
                await self.work_with_timers()
                self.is_done = True

    def work_in_runs(self) -> None:
        while not self.is_done:
            with sudden_end():
                trio.run(self.work_with_timers)
                self.is_done = True


@contextmanager
def sudden_end() -> Generator[None]:
    try:
        yield
    except BaseExceptionGroup as group:
        _, others = group.split(SuddenEnd)
        if others is not None:
            raise others from None


async def tell(story: Story) -> None:
    async with InactiveClock.new_shared().activate() as (story.clock, driver):
        hands = [Hand(story, f"hand {n}") for n in range(HANDS)]
        threads = [InThread(hand.work_in_runs) for hand in hands[1:4]]
        threads += [InThread(hand.work_in_threads) for hand in hands[4:]]
        await hands[0].work_in_this_run()
        for thread in threads:
            await trio.to_thread.run_sync(thread.result, DEADLOCK)
        gc.collect()
        for record in story.records:
            record.check()
        statistics = driver.statistics()
        assert statistics.pending == 0
        assert statistics.registered == statistics.fired + statistics.cancelled
        assert all(nursery.ended for nursery in story.nurseries)
    for hand in hands:
        with pytest.raises(ClockGone):
            hand.clock.open_timers()
    for record in story.records:
        assert not record.timer.cancel()


def test_stress(capfd: pytest.CaptureFixture[str]) -> None:
    story = Story(SEED, OPERATIONS)
    interval = sys.getswitchinterval()
    with capfd.disabled():
        faulthandler.dump_traceback_later(DEADLOCK, exit=True)
    sys.setswitchinterval(1e-5)
    try:
        trio.run(tell, story)
        assert story.complaints == []
    except BaseException:
        print(f"to do it again: STRESS_OPERATIONS={OPERATIONS} STRESS_SEED={SEED}")
        raise
    finally:
        sys.setswitchinterval(interval)
        faulthandler.cancel_dump_traceback_later()
    fired = sum(len(record.fired) for record in story.records)
    cancelled = sum(len(record.cancels) for record in story.records)
    assert fired > OPERATIONS / 20
    assert cancelled > OPERATIONS / 20

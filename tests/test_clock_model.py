"""A clock with its owners, waiters and timers, held against a list that is searched."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from math import inf
from typing import Any, Protocol, TypeVar

import attrs
import hypothesis.strategies as st
import pytest
import trio
from hypothesis import settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from model_settings import MODEL
from shared_clock import in_thread
from stepwise_run import StepwiseRun

from trio_clockrt import (
    Clock,
    ClockDriver,
    ClockGone,
    InactiveClock,
    Timer,
    TimerNursery,
)

if sys.version_info < (3, 11):
    from exceptiongroup import ExceptionGroup

T = TypeVar("T")

OLDEST_TRIO = trio.__version__.startswith("0.27")

# Few different ones, so that many are the same.
lengths = st.sampled_from([0.0, 0.25, 1.0, 1.0 + 2**-30, 2.0, 60.0, 3600.0, inf])
index = st.integers(0, 1000)


class Hand(Protocol):
    def do(self, fn: Callable[[], T], /) -> T: ...


@attrs.define(eq=False)
class Pending:
    """Whatever is registered, according to the model."""

    deadline: float
    registration: int
    wakes: bool  # a task, or a callback
    run: StepwiseRun
    scope: trio.CancelScope | None = None
    timer: Timer | None = None


@attrs.define(eq=False)
class Nursery:
    timers: TimerNursery
    leave: trio.Event
    run: StepwiseRun


class ClockMachine(RuleBasedStateMachine):
    clock: Clock
    driver: ClockDriver

    def __init__(self) -> None:
        super().__init__()
        self.run = self.make_run()
        # Where tasks are started, and what uses clocks and timers.
        self.tasks: StepwiseRun = self.run
        self.hand: Hand = self.run
        self.now = 0.0
        self.alive = True
        self.open: list[Clock] = []
        self.closed: list[Clock] = []
        self.nurseries: list[Nursery] = []
        self.pending: list[Pending] = []
        self.idle_timers: list[tuple[Timer, Nursery]] = []
        self.registrations = 0
        # What has happened, in fact and according to the model.
        self.called: list[int] = []
        self.should_have_been_called: list[int] = []
        self.woken: list[int] = []
        self.should_have_been_woken: list[int] = []
        self.told: list[str] = []
        self.should_have_been_told: list[str] = []

    @initialize()
    def activate(self) -> None:
        self.leave = trio.Event()

        async def block() -> None:
            async with self.make_recipe().activate() as (clock, self.driver):
                self.open += [clock, clock.clone(), clock.clone()]
                del clock
                await self.leave.wait()

        self.run.start(block)

    def make_run(self) -> StepwiseRun:
        return StepwiseRun()

    def make_recipe(self) -> InactiveClock[Any]:
        return InactiveClock()

    # --- what the model says ---

    def register(self, seconds: float, *, wakes: bool) -> Pending:
        pending = Pending(self.now + seconds, self.registrations, wakes, self.tasks)
        self.registrations += 1
        self.pending.append(pending)
        return pending

    def settle(self) -> None:
        """The driver has had its turn."""
        due = [pending for pending in self.pending if pending.deadline <= self.now]
        due.sort(key=lambda pending: (pending.deadline, pending.registration))
        for pending in due:
            self.pending.remove(pending)
            if pending.wakes:
                self.should_have_been_woken.append(pending.registration)
            else:
                self.should_have_been_called.append(pending.registration)
        if not (self.open or self.pending or self.nurseries):
            self.end()

    def end(self) -> None:
        if not self.alive:
            return
        self.alive = False
        for pending in self.pending:
            if pending.wakes:
                self.should_have_been_told.append("waiter")
        self.should_have_been_told += ["ClockGone"] * len(self.nurseries)
        self.pending.clear()
        self.nurseries.clear()
        self.idle_timers.clear()

    # --- owners ---

    @precondition(lambda self: self.open)
    @rule(which=index)
    def clone(self, which: int) -> None:
        clone = self.hand.do(self.open[which % len(self.open)].clone)
        assert clone.alive == self.alive
        self.open.append(clone)

    @precondition(lambda self: self.open)
    @rule(which=index, in_the_run=st.booleans())
    def close(self, which: int, in_the_run: bool) -> None:
        clock = self.open.pop(which % len(self.open))
        if in_the_run:
            self.hand.do(clock.close)
        else:
            clock.close()
        self.closed.append(clock)
        self.run.do(lambda: None)
        self.settle()

    @precondition(lambda self: self.open)
    @rule(which=index, in_the_run=st.booleans())
    def drop(self, which: int, in_the_run: bool) -> None:
        dropped = [self.open.pop(which % len(self.open))]
        if in_the_run:
            self.hand.do(dropped.clear)
        else:
            dropped.clear()
        self.run.do(lambda: None)
        self.settle()

    @precondition(lambda self: self.open)
    @rule(which=index)
    def drop_in_a_cycle(self, which: int) -> None:
        gc.disable()  # so that it stays in the youngest generation
        cycle: list[object] = [self.open.pop(which % len(self.open))]
        cycle.append(cycle)
        del cycle
        gc.collect(0)
        gc.enable()
        self.run.do(lambda: None)
        self.settle()

    # --- waiters ---

    @precondition(lambda self: self.open)
    @rule(which=index, seconds=lengths, until=st.booleans())
    def wait(self, which: int, seconds: float, until: bool) -> None:
        clock = self.open[which % len(self.open)]
        scope = trio.CancelScope()
        registration = -1
        if seconds and self.alive:
            pending = self.register(seconds, wakes=True)
            pending.scope = scope
            registration = pending.registration
        elif self.alive:
            self.should_have_been_woken.append(-1)
        else:
            self.should_have_been_told.append("waiter")

        async def waiter(clock: Clock) -> None:
            waiting = (
                clock.delay_until(self.now + seconds) if until else clock.delay(seconds)
            )
            del clock
            try:
                with scope:
                    await waiting
                    self.woken.append(registration)
            except ClockGone:
                self.told.append("waiter")

        self.tasks.do(lambda: self.tasks.nursery.start_soon(waiter, clock))
        self.settle()

    @precondition(lambda self: any(pending.scope for pending in self.pending))
    @rule(which=index)
    def cancel_a_waiter(self, which: int) -> None:
        waiting = [pending for pending in self.pending if pending.scope]
        pending = waiting[which % len(waiting)]
        assert pending.scope is not None
        pending.run.do(pending.scope.cancel)
        assert pending.scope.cancelled_caught
        self.pending.remove(pending)
        self.settle()

    # --- timers ---

    @precondition(lambda self: self.open and len(self.nurseries) < 3)
    @rule(which=index)
    def open_nursery(self, which: int) -> None:
        clock = self.open[which % len(self.open)]
        if not self.alive:
            with pytest.raises(ClockGone):
                self.hand.do(clock.open_timers)
            return

        async def nursery(clock: Clock) -> None:
            block = clock.open_timers(on_exit="cancel")
            del clock
            leave, run = trio.Event(), self.tasks
            try:
                async with block as timers:
                    self.nurseries.append(Nursery(timers, leave, run))
                    await leave.wait()
            except ExceptionGroup as group:
                self.told += [type(error).__name__ for error in group.exceptions]

        self.tasks.do(lambda: self.tasks.nursery.start_soon(nursery, clock))

    @precondition(lambda self: self.nurseries)
    @rule(which=index)
    def close_nursery(self, which: int) -> None:
        nursery = self.nurseries.pop(which % len(self.nurseries))
        nursery.run.do(nursery.leave.set)
        self.pending = [
            pending
            for pending in self.pending
            if pending.timer is None or pending.timer._group is not nursery.timers
        ]
        self.idle_timers = [
            (timer, owner) for timer, owner in self.idle_timers if owner is not nursery
        ]
        with pytest.raises((RuntimeError, ClockGone)):
            self.hand.do(lambda: nursery.timers.call_later(1, int))
        self.settle()

    @precondition(lambda self: self.nurseries)
    @rule(which=index, seconds=lengths, at=st.booleans())
    def call(self, which: int, seconds: float, at: bool) -> None:
        nursery = self.nurseries[which % len(self.nurseries)]
        pending = self.register(seconds, wakes=False)

        def register() -> None:
            callback, number = self.called.append, pending.registration
            if at:
                timer = nursery.timers.call_at(self.now + seconds, callback, number)
            else:
                timer = nursery.timers.call_later(seconds, callback, number)
            assert timer.when == self.now + seconds
            assert timer.pending or not seconds  # as it may have fired elsewhere
            pending.timer = timer
            self.idle_timers.append((timer, nursery))

        self.hand.do(register)
        self.settle()

    @precondition(lambda self: self.idle_timers)
    @rule(which=index)
    def cancel_a_timer(self, which: int) -> None:
        timer, _ = self.idle_timers[which % len(self.idle_timers)]
        mine = [pending for pending in self.pending if pending.timer is timer]
        assert self.hand.do(timer.cancel) == bool(mine)
        assert self.hand.do(timer.cancel) is False
        self.pending = [pending for pending in self.pending if pending not in mine]

    @precondition(lambda self: self.idle_timers)
    @rule(which=index, seconds=lengths)
    def reset_a_timer(self, which: int, seconds: float) -> None:
        timer, _ = self.idle_timers[which % len(self.idle_timers)]
        self.pending = [
            pending for pending in self.pending if pending.timer is not timer
        ]
        pending = self.register(seconds, wakes=False)
        pending.timer = timer
        timer._args = (pending.registration,)
        self.hand.do(lambda: timer.reset(seconds))
        assert timer.when == self.now + seconds
        self.settle()

    @precondition(lambda self: self.closed)
    @rule(which=index)
    def use_a_closed_clock(self, which: int) -> None:
        clock = self.closed[which % len(self.closed)]
        expected = trio.ClosedResourceError if self.alive else ClockGone
        for use in (clock.open_timers, lambda: clock.periodic(1), clock.clone):
            with pytest.raises(expected):
                self.hand.do(use)
        clock.close()

    # --- time ---

    @precondition(lambda self: self.alive)
    @rule(seconds=st.sampled_from([0.25, 1.0, 2.0, 60.0, 1e6]), by_hand=st.booleans())
    def jump(self, seconds: float, by_hand: bool) -> None:
        self.now += seconds
        told: list[str] = []

        def jump() -> None:
            self.run.time.jump(seconds)
            if by_hand:
                try:
                    self.driver.advance_timers()
                except ClockGone:
                    told.append("caller")

        self.run.do(jump)
        self.settle()
        # The oldest Trio keeps what a waiting coroutine has been called with, so that a
        # dropped clock may be an owner until whoever waits has been woken.
        if told or (by_hand and not OLDEST_TRIO):
            assert told == ["caller"] * (not self.alive)

    # --- the end, and another beginning ---

    @precondition(lambda self: self.alive and self.registrations > 3)
    @rule()
    def leave_the_block(self) -> None:
        self.run.do(self.leave.set)
        self.end()

    @precondition(lambda self: not self.alive)
    @rule()
    def advance_a_gone_clock(self) -> None:
        with pytest.raises(ClockGone):
            self.run.do(self.driver.advance_timers)
        self.run.start(self.driver.wait_gone)

    @precondition(lambda self: not self.alive)
    @rule()
    def activate_another(self) -> None:
        self.run.do(self.leave.set)
        self.open.clear()
        self.closed.clear()
        self.registrations = 0
        self.alive = True
        self.activate()

    # --- what always holds ---

    @invariant()
    def agrees_with_the_model(self) -> None:
        self.check_order()
        assert sorted(self.woken) == sorted(self.should_have_been_woken)
        assert sorted(self.told) == sorted(self.should_have_been_told)
        if not hasattr(self, "driver"):
            return
        statistics = self.run.do(self.driver.statistics)
        assert statistics.pending == len(self.pending)
        assert statistics.registered == (
            statistics.pending + statistics.fired + statistics.cancelled
        )
        deadline = min((pending.deadline for pending in self.pending), default=inf)
        next_deadline = self.run.do(lambda: self.driver.next_deadline)
        assert next_deadline == (None if deadline == inf else deadline)
        for clock in self.open + self.closed:
            assert clock.alive == self.alive
            assert clock.instant() == self.now

    def check_order(self) -> None:
        assert self.called == self.should_have_been_called

    def teardown(self) -> None:
        self.run.close()


class SettlingRun(StepwiseRun):
    """After each step, the other runs have settled too."""

    def __init__(self, runs: list[StepwiseRun]) -> None:
        super().__init__()
        self._runs = runs
        runs.append(self)

    def do(self, fn: Callable[[], T]) -> T:
        try:
            return super().do(fn)
        finally:
            self.settle()

    def settle(self) -> None:
        # There and back again.
        for run in self._runs * 2:
            StepwiseRun.do(run, int)


class Thread:
    """Does everything in a thread that is none of Trio's."""

    def __init__(self, run: SettlingRun) -> None:
        self._run = run

    def do(self, fn: Callable[[], T]) -> T:
        try:
            return in_thread(fn)
        finally:
            self._run.settle()


class SharedClockMachine(ClockMachine):
    """The same, by hands in two runs and a thread; but one step after the other."""

    def make_run(self) -> StepwiseRun:
        self.runs: list[StepwiseRun] = []
        home = SettlingRun(self.runs)
        self.hands: list[Hand] = [home, SettlingRun(self.runs), Thread(home)]
        return home

    def make_recipe(self) -> InactiveClock[Any]:
        return InactiveClock.new_shared()

    @rule(which=st.integers(0, 2), tasks_in=st.integers(0, 1))
    def change_hands(self, which: int, tasks_in: int) -> None:
        self.hand, self.tasks = self.hands[which], self.runs[tasks_in]

    def check_order(self) -> None:
        # The runs are not in step, as far as this goes.
        assert sorted(self.called) == sorted(self.should_have_been_called)

    def teardown(self) -> None:
        for run in reversed(self.runs):
            run.close()


TestSharedClock = SharedClockMachine.TestCase
TestSharedClock.settings = settings(MODEL, max_examples=MODEL.max_examples // 10)
TestClock = ClockMachine.TestCase
TestClock.settings = MODEL

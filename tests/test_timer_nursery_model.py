"""A timer nursery, held against a list of what is pending and a set of children."""

from __future__ import annotations

import sys
from collections.abc import Callable
from math import inf
from typing import Literal

import attrs
import hypothesis.strategies as st
import pytest
import trio
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from model_settings import MODEL
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
    from exceptiongroup import BaseExceptionGroup

lengths = st.sampled_from([0.0, 0.25, 1.0, 2.0, 60.0, inf])
index = st.integers(0, 1000)


class Failure(Exception):
    pass


@attrs.define(eq=False)
class Model:
    """A timer, according to the model."""

    number: int
    does: str
    timer: Timer = attrs.field(init=False)
    deadline: float = inf
    registration: int = 0
    period: float = 0.0


@attrs.define(eq=False)
class Child:
    number: int
    may_end: trio.Event = attrs.field(factory=trio.Event)
    fails: bool = False


class TimerNurseryMachine(RuleBasedStateMachine):
    clock: Clock
    driver: ClockDriver
    timers: TimerNursery

    def __init__(self) -> None:
        super().__init__()
        self.run = StepwiseRun()
        self.now = 0.0
        self.phase = "closed"  # or "body", or "leaving"
        self.on_exit = "wait"
        self.registrations = 0
        self.made: list[Model] = []  # in the nursery that is open, or was last
        self.pending: list[Model] = []
        self.children: list[Child] = []
        # What has happened, in fact and according to the model.
        self.log: list[int] = []
        self.expected_log: list[int] = []
        self.started: list[int] = []
        self.expected_started: list[int] = []
        self.outcomes: list[list[str]] = []
        self.expected_outcomes: list[list[str]] = []

    @initialize()
    def activate(self) -> None:
        self.clock_ends = trio.Event()

        async def block() -> None:
            async with InactiveClock().activate() as (self.clock, self.driver):
                await self.clock_ends.wait()

        self.run.start(block)

    # --- what the model says ---

    def register(self, model: Model, deadline: float) -> None:
        model.deadline = deadline
        model.registration = self.registrations
        self.registrations += 1
        self.pending = [other for other in self.pending if other is not model]
        self.pending.append(model)

    def settle(self) -> None:
        """The driver has had its turns, and everybody else too."""
        errors: list[str] = []
        cancelled = False
        due = [model for model in self.pending if model.deadline <= self.now]
        due.sort(key=lambda model: (model.deadline, model.registration))
        for model in due:
            if cancelled:
                break
            if model not in self.pending:
                continue  # cancelled by one before it
            self.pending.remove(model)
            if model.does == "start":
                self.expected_started.append(model.number)
                continue
            if model.period:
                late = self.now >= model.deadline + model.period
                since = self.now if late else model.deadline
                self.register(model, since + model.period)
            self.expected_log.append(model.number)
            if model.does == "fail":
                errors.append("Failure")
            elif model.does == "cancel the scope":
                cancelled = True
            elif model.does == "reset itself":
                self.register(model, self.now + 1.0)
            elif model.does == "cancel the oldest":
                self.pending = [
                    other for other in self.pending if other is not self.made[0]
                ]
            elif model.does == "cancel all":
                self.pending.clear()
        if errors or cancelled:
            self.close(errors)
        self.leave_if_idle()

    def leave_if_idle(self) -> None:
        timers_keep_it = self.pending and self.on_exit == "wait"
        if self.phase == "leaving" and not self.children and not timers_keep_it:
            self.close([])

    def close(self, errors: list[str]) -> None:
        self.phase = "closed"
        self.pending.clear()
        self.children.clear()
        self.expected_outcomes.append(errors)

    # --- the block ---

    @precondition(lambda self: self.phase == "closed")
    @rule(on_exit=st.sampled_from(["wait", "cancel"]))
    def open(self, on_exit: Literal["wait", "cancel"]) -> None:
        self.phase, self.on_exit = "body", on_exit
        self.made.clear()
        self.body_may_end = trio.Event()
        self.body_fails = False

        async def block() -> None:
            outcome: list[str] = []
            try:
                async with self.clock.open_timers(on_exit=on_exit) as self.timers:
                    await self.body_may_end.wait()
                    if self.body_fails:
                        raise Failure
            except BaseExceptionGroup as group:
                outcome = sorted(type(error).__name__ for error in group.exceptions)
            self.outcomes.append(outcome)

        self.run.start(block)

    @precondition(lambda self: self.phase == "body" and len(self.made) > 2)
    @rule()
    def body_ends(self) -> None:
        self.phase = "leaving"
        self.run.do(self.body_may_end.set)
        if self.on_exit == "cancel":
            self.pending.clear()
        self.leave_if_idle()

    @precondition(lambda self: self.phase == "body" and len(self.made) > 5)
    @rule()
    def body_raises(self) -> None:
        self.body_fails = True
        self.run.do(self.body_may_end.set)
        self.close(["Failure"])

    @precondition(lambda self: self.phase != "closed" and len(self.made) > 5)
    @rule()
    def cancel_the_scope(self) -> None:
        self.run.do(self.timers.cancel_scope.cancel)
        self.close([])

    @precondition(lambda self: self.phase != "closed" and len(self.made) > 5)
    @rule()
    def the_clock_ends(self) -> None:
        self.run.do(self.clock_ends.set)
        self.close(["ClockGone"])
        with pytest.raises(ClockGone):
            self.run.do(lambda: self.timers.call_later(1, int))
        self.activate()

    @precondition(lambda self: self.phase == "closed" and self.made)
    @rule()
    def use_a_closed_nursery(self) -> None:
        for use in (
            lambda: self.timers.call_later(1, int),
            lambda: self.timers.start_later(1, trio.sleep, 1),
            lambda: self.timers.call_every(1, int),
            lambda: self.made[0].timer.reset(1),
        ):
            with pytest.raises((RuntimeError, ClockGone)):
                self.run.do(use)
        for model in self.made:
            assert not model.timer.pending
            assert self.run.do(model.timer.cancel) is False

    # --- timers ---

    def make(self, does: str, register: Callable[[Model], Timer]) -> Model:
        model = Model(len(self.expected_log) + len(self.made) * 1000, does)
        self.made.append(model)
        model.timer = self.run.do(lambda: register(model))
        return model

    def callback(self, model: Model) -> None:
        self.log.append(model.number)
        if model.does == "fail":
            raise Failure
        if model.does == "cancel the scope":
            self.timers.cancel_scope.cancel()
        elif model.does == "reset itself":
            model.timer.reset(1.0)
        elif model.does == "cancel the oldest":
            self.made[0].timer.cancel()
        elif model.does == "cancel all":
            self.timers.cancel_timers()

    @precondition(lambda self: self.phase != "closed")
    @rule(
        seconds=lengths,
        at=st.booleans(),
        does=st.sampled_from(
            ["nothing"] * 5
            + ["fail", "reset itself", "reset itself", "cancel the oldest"]
            + ["cancel all", "cancel the scope"]
        ),
    )
    def call(self, seconds: float, at: bool, does: str) -> None:
        if not seconds:  # it would do that before it has been returned
            does = "nothing"
        if at:
            model = self.make(
                does,
                lambda m: self.timers.call_at(self.now + seconds, self.callback, m),
            )
        else:
            model = self.make(
                does, lambda m: self.timers.call_later(seconds, self.callback, m)
            )
        self.register(model, self.now + seconds)
        self.settle()

    @precondition(lambda self: self.phase != "closed")
    @rule(period=st.sampled_from([0.25, 1.0, 7.0]))
    def call_every(self, period: float) -> None:
        model = self.make(
            "nothing", lambda m: self.timers.call_every(period, self.callback, m)
        )
        model.period = period
        self.register(model, self.now + period)

    @precondition(lambda self: self.phase != "closed")
    @rule(seconds=lengths, at=st.booleans())
    def start(self, seconds: float, at: bool) -> None:
        async def child(model: Model) -> None:
            self.started.append(model.number)
            child = Child(model.number)
            self.children.append(child)
            await child.may_end.wait()
            if child.fails:
                raise Failure

        if at:
            model = self.make(
                "start", lambda m: self.timers.start_at(self.now + seconds, child, m)
            )
        else:
            model = self.make(
                "start", lambda m: self.timers.start_later(seconds, child, m)
            )
        self.register(model, self.now + seconds)
        self.settle()

    @precondition(lambda self: self.phase != "closed" and self.made)
    @rule(which=index)
    def cancel(self, which: int) -> None:
        model = self.made[which % len(self.made)]
        assert self.run.do(model.timer.cancel) == (model in self.pending)
        self.pending = [other for other in self.pending if other is not model]
        self.settle()

    @precondition(lambda self: self.phase != "closed" and self.made)
    @rule(which=index, seconds=st.sampled_from([0.25, 1.0, 60.0]))
    def reset(self, which: int, seconds: float) -> None:
        model = self.made[which % len(self.made)]
        timer = model.timer
        self.run.do(lambda: timer.reset(seconds))
        self.register(model, self.now + seconds)
        assert timer.when == model.deadline

    @precondition(lambda self: self.phase != "closed" and len(self.pending) > 3)
    @rule()
    def cancel_timers(self) -> None:
        self.run.do(self.timers.cancel_timers)
        self.pending.clear()
        self.settle()

    # --- children ---

    @precondition(lambda self: self.children)
    @rule(which=index)
    def a_child_ends(self, which: int) -> None:
        child = self.children.pop(which % len(self.children))
        self.run.do(child.may_end.set)
        self.settle()

    @precondition(lambda self: self.children and len(self.made) > 5)
    @rule(which=index)
    def a_child_fails(self, which: int) -> None:
        child = self.children.pop(which % len(self.children))
        child.fails = True
        self.run.do(child.may_end.set)
        self.close(["Failure"])

    # --- time ---

    @precondition(lambda self: self.phase != "closed")
    @rule(seconds=st.sampled_from([0.25, 0.25, 1.0, 2.0, 60.0]))
    def jump(self, seconds: float) -> None:
        self.now += seconds
        self.run.jump(seconds)
        self.settle()

    # --- what always holds ---

    @invariant()
    def agrees_with_the_model(self) -> None:
        assert self.log == self.expected_log
        assert sorted(self.started) == sorted(self.expected_started)
        assert self.outcomes == self.expected_outcomes
        if self.phase == "closed":
            return
        for model in self.made:
            assert model.timer.pending == (model in self.pending)
            if model in self.pending:
                assert model.timer.when == model.deadline
        assert self.driver.statistics().pending == len(self.pending)
        assert repr(self.timers) == (
            f"<TimerNursery, {len(self.pending)} timers pending, "
            f"{len(self.children)} children>"
        )

    def teardown(self) -> None:
        self.run.close()


TestTimerNursery = TimerNurseryMachine.TestCase
TestTimerNursery.settings = MODEL

"""`ClockControl` against simple models, and against `trio.testing.MockClock`."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

import attrs
import trio
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from trio.testing import MockClock

from trio_clockrt import Clock, TimerNursery, open_clock
from trio_clockrt.testing import ClockControl

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)

# --- the two scales ---

lengths = st.integers(0, 10**15)  # nanoseconds
rates = st.sampled_from([0, 1, 2, 1000])


class Time(RuleBasedStateMachine):
    """Counts in whole nanoseconds, in which all lengths of time are given here."""

    def __init__(self) -> None:
        super().__init__()
        self.real = 0
        self.passed = 0
        self.ahead = 0
        self.rate = 0
        self.last = 0.0

    @initialize(at=st.integers(0, 10**9))
    def make(self, at: int) -> None:
        self.control = ClockControl(EPOCH + datetime.timedelta(seconds=at))
        self.control._real_clock = lambda: self.real
        self.control.rate = 0
        self.ahead = at * 10**9

    @rule(seconds=st.integers(0, 10**6))
    def real_time_passes(self, seconds: int) -> None:
        self.real += seconds
        self.passed += seconds * self.rate * 10**9

    @rule(length=lengths)
    def jump(self, length: int) -> None:
        self.control.jump(datetime.timedelta(microseconds=length // 1000))
        self.passed += length // 1000 * 1000

    @rule(rate=rates)
    def set_rate(self, rate: int) -> None:
        self.control.rate = rate
        self.rate = rate

    @rule(length=lengths, sign=st.sampled_from([-1, 1]))
    def adjust_system_time(self, length: int, sign: int) -> None:
        step = sign * (length // 1000)
        self.control.adjust_system_time(datetime.timedelta(microseconds=step))
        self.ahead += step * 1000

    @rule(seconds=st.integers(-(10**6), 10**6))
    def set_time(self, seconds: int) -> None:
        now = (self.passed + self.ahead) // 1000 * 1000
        when = now + seconds * 10**9
        self.control.set_time(EPOCH + datetime.timedelta(microseconds=when // 1000))
        step = when - self.passed - self.ahead
        if step < 0:
            self.ahead += step
        else:
            self.passed += step

    @invariant()
    def both_scales_are_right(self) -> None:
        if hasattr(self, "control"):
            instant = self.control.current_time()
            assert instant == self.passed / 10**9
            assert instant >= self.last
            self.last = instant
            system_time = self.control.to_simple_clock().system_time()
            microseconds = (system_time - EPOCH) // datetime.timedelta(microseconds=1)
            assert microseconds == (self.passed + self.ahead) // 1000


TestTime = Time.TestCase


@given(st.lists(st.floats(0, 1e15)))
def test_a_jump_arrives_where_it_should_and_never_before(instants: list[float]) -> None:
    async def main() -> None:
        latest = 0.0
        for instant in instants:
            await trio.sleep_until(instant)
            latest = max(latest, instant)
            assert trio.current_time() == latest

    trio.run(main, clock=ClockControl(autojump_threshold=0))


# --- programs ---


@attrs.frozen
class Sleep:
    seconds: int


@attrs.frozen
class Delay:
    seconds: int


@attrs.frozen
class Timeout:
    seconds: int
    body: Sequence[Step]


@attrs.frozen
class Spawn:
    body: Sequence[Step]


@attrs.frozen
class CallLater:
    seconds: int


@attrs.frozen
class CancelAll:
    pass


Step = Sleep | Delay | Timeout | Spawn | CallLater | CancelAll

few_seconds = st.integers(0, 20)
leaves = st.lists(
    st.builds(Sleep, few_seconds)
    | st.builds(Delay, few_seconds)
    | st.builds(CallLater, few_seconds)
    | st.builds(CancelAll),
    max_size=4,
)
programs = st.recursive(
    leaves,
    lambda bodies: st.lists(
        st.builds(Sleep, few_seconds)
        | st.builds(Timeout, few_seconds, bodies)
        | st.builds(Spawn, bodies),
        max_size=4,
    ),
    max_leaves=8,
)


class Execution:
    """Runs a program, with a log of what happens when."""

    def __init__(self) -> None:
        self.log: list[tuple[float, str]] = []
        self.number = 0

    def length(self, seconds: int) -> float:
        # A fraction that no other step has, so that no two things happen at once:
        # what would be first then is up to chance.
        self.number += 1
        return seconds + 2.0**-self.number

    def note(self, what: str) -> None:
        self.log.append((trio.current_time(), what))

    async def run(self, program: Sequence[Step]) -> None:
        async with open_clock() as clock:
            async with clock.open_timers() as timers, trio.open_nursery() as nursery:
                await self.steps(program, clock, timers, nursery)
                self.note("end of the body")
        self.note("end")

    async def steps(
        self,
        steps: Sequence[Step],
        clock: Clock,
        timers: TimerNursery,
        nursery: trio.Nursery,
    ) -> None:
        for step in steps:
            if isinstance(step, Sleep):
                await trio.sleep(self.length(step.seconds))
            elif isinstance(step, Delay):
                await clock.delay(self.length(step.seconds))
            elif isinstance(step, Timeout):
                with trio.move_on_after(self.length(step.seconds)) as scope:
                    await self.steps(step.body, clock, timers, nursery)
                self.note(f"timeout: {scope.cancelled_caught}")
            elif isinstance(step, CallLater):
                length = self.length(step.seconds)
                timers.call_later(length, self.note, f"timer after {length}")
            elif isinstance(step, CancelAll):
                nursery.cancel_scope.cancel()
            else:
                await trio.sleep(self.length(0))
                nursery.start_soon(self.steps, step.body, clock, timers, nursery)
                await trio.sleep(self.length(0))
            self.note(str(type(step)))


def run(program: Sequence[Step], clock: trio.abc.Clock) -> list[tuple[float, str]]:
    execution = Execution()
    trio.run(execution.run, program, clock=clock)
    return execution.log


@given(programs)
def test_programs_behave_as_with_mock_clock(program: Sequence[Step]) -> None:
    log = run(program, ClockControl(autojump_threshold=0))
    assert log == run(program, MockClock(autojump_threshold=0))

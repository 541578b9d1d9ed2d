"""Nothing is early on the wall: after waiting for a system time, it has come."""

from __future__ import annotations

import datetime
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from types import FrameType
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from model_settings import VALUES

from trio_clockrt import Clock, MissedTick, open_clock
from trio_clockrt.testing import ClockControl

# There is more to choose from.
MORE_VALUES = settings(VALUES, max_examples=max(300, VALUES.max_examples))

UTC = datetime.timezone.utc
Y2K = datetime.datetime(2000, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
DAY = timedelta(days=1)

# To three decades, which is where the largest of these floats are 0.1 us apart.
microseconds = st.integers(1, 10**15)
instants = st.floats(0, 1e9, allow_subnormal=False)


def jumping(at: datetime.datetime = Y2K) -> ClockControl:
    return ClockControl(at, autojump_threshold=0)


# --- ways to wait for a system time ---

Wait = Callable[[Clock, timedelta], Awaitable[None]]


async def delay(clock: Clock, left: timedelta) -> None:
    await clock.delay(left)


async def delay_until(clock: Clock, left: timedelta) -> None:
    await clock.delay_until(clock.instant() + left.total_seconds())


async def sleep(clock: Clock, left: timedelta) -> None:
    await trio.sleep(left.total_seconds())


async def call_later(clock: Clock, left: timedelta) -> None:
    async with clock.open_timers() as timers:
        timers.call_later(left, int)


async def move_on_after(clock: Clock, left: timedelta) -> None:
    with clock.move_on_after(left):
        await trio.sleep_forever()


async def run_for(clock: Clock, left: timedelta) -> None:
    control = trio.lowlevel.current_clock()
    assert isinstance(control, ClockControl)
    await control.run_for(left)


WAITS = [delay, delay_until, sleep, call_later, move_on_after, run_for]


@pytest.mark.parametrize("wait", WAITS)
@VALUES
@given(instants, st.lists(microseconds, min_size=1, max_size=3))
def test_what_is_waited_for_has_come(
    wait: Wait, start: float, lengths: list[int]
) -> None:
    async def main() -> None:
        async with open_clock() as clock:
            for length in lengths:
                left = length * MICROSECOND
                when = clock.system_time() + left
                await wait(clock, left)
                assert when <= clock.system_time() <= when + MICROSECOND

    control = jumping()
    control.jump(start)
    trio.run(main, clock=control)


@VALUES
@given(instants, microseconds)
def test_a_stand_alone_clock(start: float, length: int) -> None:
    control = ClockControl(Y2K)
    control.jump(start)
    clock = control.to_clock()
    when = clock.system_time() + length * MICROSECOND
    log = list[datetime.datetime]()
    with clock.timer_group() as timers:
        timers.call_later(length * MICROSECOND, lambda: log.append(clock.system_time()))
        control.advance(length * MICROSECOND)
    assert when <= log[0] <= when + MICROSECOND
    assert when <= clock.system_time() <= when + MICROSECOND


@VALUES
@given(st.integers(0, 10**6), st.integers(1, 10**9))
def test_many_waits_one_after_the_other(start: int, length: int) -> None:
    """What rounding takes away each time does not add up."""

    async def main() -> None:
        async with open_clock() as clock:
            when = clock.system_time()
            for _ in range(100):
                when += length * MICROSECOND
                await clock.delay((when - clock.system_time()).total_seconds())
                assert clock.system_time() == when

    control = jumping()
    control.jump(timedelta(minutes=start))
    trio.run(main, clock=control)


@VALUES
@given(st.integers(0, 10**9), st.integers(1, 10**9), st.sampled_from(MissedTick))
def test_ticks(start: int, period: int, missed: MissedTick) -> None:
    async def main() -> None:
        async with open_clock() as clock:
            when = clock.system_time()
            timer = clock.periodic(period * MICROSECOND, missed=missed)
            for _ in range(100):
                await anext(timer)
                when += period * MICROSECOND
                assert when <= clock.system_time() <= when + MICROSECOND

    control = jumping()
    control.jump(start)
    trio.run(main, clock=control)


def test_a_job_at_each_midnight() -> None:
    async def main() -> None:
        async with open_clock() as clock:
            for days in range(1, 1000):
                now = clock.system_time()
                midnight = (now + DAY).replace(
                    hour=0, minute=0, second=0, microsecond=0
                )
                await clock.delay(midnight - now)
                assert clock.system_time() == Y2K + days * DAY
                await clock.delay(12345.678901)

    trio.run(main, clock=jumping())


def test_a_daily_tick() -> None:
    async def main() -> None:
        async with open_clock() as clock:
            async for tick in clock.periodic(DAY):
                assert clock.system_time().timetz() == at.timetz()
                if tick > 1000 * 86400:
                    break

    at = Y2K + timedelta(hours=3, microseconds=1)
    trio.run(main, clock=jumping(at))


# --- as floats ---


@VALUES
@given(instants, microseconds, st.integers(1, 10**9))
def test_timestamps(start: float, length: int, seconds: int) -> None:
    """A float may be later than the system time that it is made of."""

    async def main() -> None:
        async with open_clock() as clock:
            await clock.delay(length * MICROSECOND)
            now = clock.system_time()
            when = now.replace(microsecond=0) + timedelta(seconds=seconds)
            await clock.delay(when.timestamp() - now.timestamp())
            assert when <= clock.system_time() <= when + MICROSECOND

    control = jumping()
    control.jump(start)
    trio.run(main, clock=control)


@VALUES
@given(instants, st.integers(1, 10**9))
def test_what_the_standard_library_tells(start: float, length: int) -> None:
    async def main() -> None:
        whole = int(time.time()) + length
        await trio.sleep(whole - time.time())
        assert whole <= time.time() < whole + 1e-6
        assert time.time_ns() >= whole * 10**9
        now = datetime.datetime.now(UTC)
        assert whole <= now.timestamp() < whole + 1e-6
        nanoseconds = (time.time_ns() // 1000 + length) * 1000
        await trio.sleep((nanoseconds - time.time_ns()) / 10**9)
        assert time.time_ns() >= nanoseconds

    control = jumping()
    control.jump(start)
    with control.patch_stdlib():
        trio.run(main, clock=control)


# The beginning of 1970, where floats tell the instants' own units; and others.
ATS = [
    datetime.datetime(1970, 1, 1, tzinfo=UTC),
    Y2K,
    datetime.datetime(2024, 5, 17, 3, 4, 5, 678901, tzinfo=UTC),
    datetime.datetime(1960, 1, 1, tzinfo=UTC),
]

# What is left until a time so much later, and whether it has come.
Ask = Callable[[Clock, int], tuple[float, Callable[[], bool]]]


def by_seconds(clock: Clock, length: int) -> tuple[float, Callable[[], bool]]:
    now = clock.system_time()
    when = now + length * MICROSECOND
    return (when - now).total_seconds(), lambda: clock.system_time() >= when


def by_timestamps(clock: Clock, length: int) -> tuple[float, Callable[[], bool]]:
    now = clock.system_time()
    when = now + length * MICROSECOND
    left = when.timestamp() - now.timestamp()
    return left, lambda: clock.system_time() >= when


def to_midnight(clock: Clock, length: int) -> tuple[float, Callable[[], bool]]:
    now = clock.system_time()
    when = now.replace(hour=0, minute=0, second=0, microsecond=0)
    when += (1 + length // 10**12) * DAY
    left = when.timestamp() - now.timestamp()
    return left, lambda: clock.system_time() >= when


def by_now(_: Clock, length: int) -> tuple[float, Callable[[], bool]]:
    now = datetime.datetime.now(UTC)
    when = now + length * MICROSECOND
    left = when.timestamp() - now.timestamp()
    return left, lambda: datetime.datetime.now(UTC) >= when


def by_nanoseconds(_: Clock, length: int) -> tuple[float, Callable[[], bool]]:
    when = (time.time_ns() // 1000 + length) * 1000
    return (when - time.time_ns()) / 10**9, lambda: time.time_ns() >= when


def to_a_microsecond(_: Clock, length: int) -> tuple[float, Callable[[], bool]]:
    now = time.time()
    when = (int(now * 10**6) + length) / 10**6
    return when - now, lambda: time.time() >= when


def to_any_float(_: Clock, length: int) -> tuple[float, Callable[[], bool]]:
    now = time.time()
    when = now + length / 2**20
    return when - now, lambda: time.time() >= when


TO_THE_MICROSECOND = [
    by_seconds,
    by_timestamps,
    to_midnight,
    by_now,
    by_nanoseconds,
    to_a_microsecond,
]


async def to_wait(clock: Clock, left: float) -> None:
    await clock.delay(left)


async def to_sleep(clock: Clock, left: float) -> None:
    await trio.sleep(left)


async def to_run(clock: Clock, left: float) -> None:
    control = trio.lowlevel.current_clock()
    assert isinstance(control, ClockControl)
    await control.run_for(left)


async def to_jump(clock: Clock, left: float) -> None:
    control = trio.lowlevel.current_clock()
    assert isinstance(control, ClockControl)
    control.jump(left)


def programs(asks: Sequence[Ask], moves: list[Any]) -> st.SearchStrategy[list[Any]]:
    # A power of ten, as short waits are as many as long ones.
    length = st.integers(0, 14).flatmap(lambda power: st.integers(1, 10**power))
    step = st.tuples(st.sampled_from(asks), st.sampled_from(moves), length)
    return st.lists(step, min_size=1, max_size=5)


def check(at: datetime.datetime, start: float, program: list[Any]) -> None:
    async def main() -> None:
        async with open_clock() as clock:
            for ask, move, length in program:
                left, has_come = ask(clock, length)
                await move(clock, max(left, 0))
                assert has_come(), (ask, move, clock)

    control = jumping(at)
    control.jump(start)
    with control.patch_stdlib():
        trio.run(main, clock=control)


@MORE_VALUES
@given(
    st.sampled_from(ATS),
    instants,
    programs(TO_THE_MICROSECOND, [to_wait, to_sleep, to_run, to_jump]),
)
def test_a_program_that_waits_in_all_these_ways(
    at: datetime.datetime, start: float, program: list[Any]
) -> None:
    check(at, start, program)


@MORE_VALUES
@given(
    st.sampled_from(ATS),
    instants,
    programs([*TO_THE_MICROSECOND, to_any_float], [to_wait, to_sleep]),
)
def test_any_float_that_is_waited_for(
    at: datetime.datetime, start: float, program: list[Any]
) -> None:
    """(What is moved by hand is counted in nanoseconds, and floats may be finer.)"""
    check(at, start, program)


@pytest.mark.parametrize(
    ("start", "left"),
    [
        (20_451_248, 38.702876329422),
        (188_485_086, 112.08165144920349),
        (696_479_738, 105.30471956729889),
    ],
)
def test_what_is_counted_is_a_part_of_a_nanosecond_less(
    start: int, left: float
) -> None:
    control = ClockControl(Y2K)
    control.jump(start / 10**9)
    with control.patch_stdlib():
        when = time.time() + left
        control.jump(when - time.time())
        assert time.time() == when


@pytest.mark.parametrize("far", [1e250, 1e295, 1e305])
def test_farther_away_than_any_datetime(far: float) -> None:
    control = ClockControl()
    with control.patch_stdlib():
        for _ in range(3):
            control.jump(far)
            assert time.time() == pytest.approx(control.current_time())


def test_a_loop_until_a_float_that_is_no_nanosecond() -> None:
    async def main() -> None:
        await trio.sleep(0.1)
        when = time.time() + 0.2
        assert when != 0.3
        loops = 0
        while (left := when - time.time()) > 0:
            await trio.sleep(left)
            loops += 1
            assert loops == 1

    control = ClockControl(autojump_threshold=0)
    with control.patch_stdlib():
        trio.run(main, clock=control)


def test_each_midnight_by_timestamps() -> None:
    async def main() -> None:
        async with open_clock() as clock:
            for days in range(1, 5000):
                now, when = clock.system_time(), Y2K + days * DAY
                await clock.delay(when.timestamp() - now.timestamp())
                assert when <= clock.system_time() <= when + MICROSECOND
                time.time()
                await clock.delay(12345.678901 + days / 3)

    control = jumping()
    with control.patch_stdlib():
        trio.run(main, clock=control)


# --- what is told exactly ---


@VALUES
@given(st.lists(st.integers(0, 10**14), max_size=20))
def test_what_is_counted_is_told_exactly(lengths: list[int]) -> None:
    control = ClockControl(Y2K)
    simple = control.to_simple_clock()
    for length in lengths:
        control.jump(length * MICROSECOND)
        assert simple.system_time() == simple.system_time()
    assert simple.system_time() == Y2K + sum(lengths) * MICROSECOND


@VALUES
@given(st.sampled_from(ATS[:3]), st.lists(st.integers(0, 10**14), max_size=20))
def test_what_is_counted_is_told_exactly_by_the_standard_library(
    at: datetime.datetime, lengths: list[int]
) -> None:
    """To the nanosecond from 1970 on; before, floats become finer as time goes on."""
    control = ClockControl(at)
    simple = control.to_simple_clock()
    with control.patch_stdlib():
        start = time.time_ns()
        for length in lengths:
            control.jump(length * MICROSECOND)
            simple.system_time()
            time.time()
        assert time.time_ns() == start + sum(lengths) * 1000
        assert simple.system_time() == at + sum(lengths) * MICROSECOND
        assert time.time() == time.time_ns() / 10**9


def test_a_wait_that_happens_to_reach_the_next_float_is_told_exactly() -> None:
    lengths = [283, 5, 446, 1000, 12124657629756, 100000000000000, 707]
    control = ClockControl(datetime.datetime(1970, 1, 1, tzinfo=UTC))
    with control.patch_stdlib():
        start = time.time_ns()
        for length in lengths:
            control.jump(length * MICROSECOND)
            time.time()
        assert time.time_ns() == start + sum(lengths) * 1000


@VALUES
@given(st.integers(0, 10**14), st.floats(1e-6, 1e6))
def test_a_jump_for_what_is_left_reaches_a_float(past: int, seconds: float) -> None:
    """Where such floats are coarser than nanoseconds."""
    control = ClockControl(Y2K)
    with control.patch_stdlib():
        control.jump(past * MICROSECOND)
        target = time.time() + seconds
        control.jump(target - time.time())
        assert time.time() >= target


@VALUES
@given(
    instants,
    st.integers(-(10**15), 10**15),
    st.integers(0, 10**6),
    st.datetimes(datetime.datetime(1900, 1, 1), datetime.datetime(9998, 1, 1)).map(
        lambda when: when.replace(tzinfo=UTC)
    ),
)
def test_what_is_set_is_told_exactly(
    start: float, step: int, fraction: int, when: datetime.datetime
) -> None:
    control = ClockControl(Y2K)
    control.jump(start)
    simple = control.to_simple_clock()
    before = simple.system_time()
    control.adjust_system_time(step * MICROSECOND)
    assert simple.system_time() == before + step * MICROSECOND
    control.set_time(when)
    assert simple.system_time() == when
    control.adjust_system_time(fraction * MICROSECOND)
    assert simple.system_time() == when + fraction * MICROSECOND
    control.set_time(when)
    assert simple.system_time() == when
    control.jump(fraction * MICROSECOND)
    assert simple.system_time() >= when + fraction * MICROSECOND


def test_to_set_what_is_told_moves_nothing() -> None:
    async def main() -> None:
        async with open_clock() as clock:
            await clock.delay(1e8)
            for _ in range(1000):
                now, instant = clock.system_time(), clock.instant()
                control.set_time(now)
                assert (clock.system_time(), clock.instant()) == (now, instant)
                await clock.delay(timedelta(seconds=0.1))
                assert clock.system_time() == now + timedelta(seconds=0.1)

    control = jumping()
    trio.run(main, clock=control)


def test_each_reading_at_an_instant_is_the_same() -> None:
    """Also where floats are coarser than the microseconds that are told."""
    control = ClockControl()
    simple = control.to_simple_clock()
    for far in (2.0**31, 1e10, 2e11):
        control.jump(far)
        assert len({simple.system_time() for _ in range(100)}) == 1


def test_far_away_too() -> None:
    """In year 9000, floats are 30 us apart."""

    async def main() -> None:
        async with open_clock() as clock:
            for microseconds in 1, 10, 100, 12345, 86_400_000_001:
                when = clock.system_time() + microseconds * MICROSECOND
                await clock.delay(microseconds * MICROSECOND)
                assert when <= clock.system_time() <= when + 200 * MICROSECOND

    control = jumping()
    control.jump(timedelta(days=7000 * 365.25))
    trio.run(main, clock=control)


def test_other_threads_read_too() -> None:
    """As all of them have been told a time, none may find it early."""

    async def wait(clock: Clock, length: timedelta) -> None:
        when = await trio.to_thread.run_sync(clock.system_time) + length
        await clock.delay(length)
        assert await trio.to_thread.run_sync(clock.system_time) >= when

    async def main() -> None:
        async with open_clock() as clock, trio.open_nursery() as nursery:
            await clock.delay(1e9 + 1 / 3)
            for n in range(1, 50):
                nursery.start_soon(wait, clock, n * MICROSECOND)

    trio.run(main, clock=jumping())


def test_another_reading_comes_in_between() -> None:
    """At each line, as a finalizer or another thread may read the time anywhere."""
    left = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        if not frame.f_code.co_filename.endswith("_wall.py"):
            return trace if "trio_clockrt" in frame.f_code.co_filename else None
        if event == "line":
            left -= 1
            if not left:
                sys.settrace(None)
                control.jump(1e-6)
                in_between.append(simple.system_time())
        return trace

    before = sys.gettrace()
    for nth in range(1, 100):
        control = ClockControl(Y2K)
        simple, left = control.to_simple_clock(), nth
        in_between = list[datetime.datetime]()
        sys.settrace(trace)
        try:
            told = simple.system_time()
        finally:
            sys.settrace(before)
        assert told in (Y2K, Y2K + MICROSECOND)
        assert in_between in ([], [Y2K + MICROSECOND])
        assert simple.system_time() >= Y2K + len(in_between) * MICROSECOND
    assert not in_between

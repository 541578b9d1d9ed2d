"""Moving time by hand: from deadline to deadline, and by looking at it."""

from __future__ import annotations

import datetime
import gc
import inspect
import queue
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partial
from math import inf, nan
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import attrs
import hypothesis.strategies as st
import outcome
import pytest
import trio
import trio.testing
from hypothesis import given
from trio.lowlevel import Task, checkpoint, current_statistics
from undisturbed import undisturbed

from trio_clockrt import Clock, ClockGone, InactiveClock, Timer, TimerGroup, open_clock
from trio_clockrt.testing import ClockControl, _idleness
from trio_clockrt.testing._caller_driven import CallerDrivenAlarm
from trio_clockrt.testing._other_clocks import OtherClocks
from trio_clockrt.testing._stepper import Stepper
from trio_clockrt.testing._virtual_time import VirtualTime

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup, ExceptionGroup

SOURCE = Path(inspect.getfile(ClockControl)).parent


def jumping() -> ClockControl:
    return ClockControl(autojump_threshold=0)


@pytest.fixture(name="control")
def new_control() -> ClockControl:
    return ClockControl()


@pytest.fixture
def clock(control: ClockControl) -> Clock:
    return control.to_clock()


# --- advance(), on clocks that nobody drives ---


def test_a_callback_reads_its_own_due_time(control: ClockControl, clock: Clock) -> None:
    # None of these is a whole number of nanoseconds.
    instants = [0.1 + 0.2, 1 / 3, 2**0.5, 1e6 / 7]
    log: list[tuple[float, float]] = []
    with clock.timer_group() as timers:
        for instant in reversed(instants):
            timers.call_at(
                instant, lambda: log.append((clock.instant(), control.current_time()))
            )
        control.advance(1e6)
    assert log == [(instant, instant) for instant in instants]
    assert control.current_time() == 1e6


def test_ten_tenths_are_one(control: ClockControl, clock: Clock) -> None:
    log: list[float] = []
    with clock.timer_group() as timers:
        for n in range(20):
            timers.call_later(n / 20 + 1 / 300, lambda: log.append(clock.instant()))
        for _ in range(10):
            control.advance(0.1)
    assert control.current_time() == 1.0
    assert log == [n / 20 + 1 / 300 for n in range(20)]


def test_what_is_due_at_the_end_has_fired(control: ClockControl, clock: Clock) -> None:
    log: list[str] = []
    with clock.timer_group() as timers:
        timers.call_later(0, log.append, "now")
        timers.call_later(1, log.append, "then")
        timers.call_later(1.000001, log.append, "later")
        control.advance(0)
        assert log == ["now"]
        control.advance(datetime.timedelta(seconds=1))
        assert log == ["now", "then"]


def test_it_fires_what_has_been_due_for_ever(
    control: ClockControl, clock: Clock
) -> None:
    log: list[float] = []
    control.jump(1)
    with clock.timer_group() as timers:
        for instant in (0.5, -1e300, -inf, inf):
            timers.call_at(instant, log.append, instant)
        control.advance(1)
    assert log == [-inf, -1e300, 0.5]


def test_timers_that_are_registered_on_the_way(
    control: ClockControl, clock: Clock
) -> None:
    def again() -> None:
        log.append(clock.instant())
        timers.call_later(0.5, again)
        timers.call_later(0, log.append, -clock.instant())

    log: list[float] = []
    with clock.timer_group() as timers:
        timers.call_later(1, again)
        control.advance(2)
    assert log == [1, -1, 1.5, -1.5, 2, -2]


def test_a_tick_for_each_period(control: ClockControl, clock: Clock) -> None:
    log: list[float] = []
    with clock.timer_group() as timers:
        timer = timers.call_every(0.1, lambda: log.append(clock.instant()))
        control.advance(1)
        assert log == [n * 0.1 for n in range(1, 11)]
        timer.reset(0.05)
        log.clear()
        control.advance(0.2)
        assert log == pytest.approx([1.05, 1.15])


def test_several_clocks_in_one_order(control: ClockControl, clock: Clock) -> None:
    recipe = InactiveClock.from_control(control)
    another, driver = recipe.activate_manual()
    third, third_driver = recipe.clone().activate_manual()
    log: list[float] = []
    with (
        clock.timer_group() as timers1,
        another.timer_group() as timers2,
        third.timer_group() as timers3,
    ):
        for timers, when in (timers1, 1), (timers2, 2), (timers3, 3), (timers1, 4):
            timers.call_at(when, lambda: log.append(control.current_time()))
            timers.call_at(when + 10, log.append, when + 10)
        control.advance(5)
        assert log == [1, 2, 3, 4]
        del third_driver
        control.advance(7)
        assert log == [1, 2, 3, 4, 11, 12]
        assert driver.next_deadline is None
        driver.advance_timers()


def test_what_callbacks_do_to_others(control: ClockControl, clock: Clock) -> None:
    log: list[str] = []
    with clock.timer_group() as timers:
        cancelled = timers.call_later(2, log.append, "cancelled")
        moved = timers.call_later(2, log.append, "moved")
        timers.call_later(1, cancelled.cancel)
        timers.call_later(1, moved.reset, 3)
        timers.call_later(3, timers.cancel_timers)
        control.advance(3.5)
        assert log == []
        assert not moved.pending
        moved.reset(1)
        control.advance(1)
        assert log == ["moved"]
    control.advance(10)


def test_a_clock_ends_on_the_way(control: ClockControl) -> None:
    clock, driver = InactiveClock.from_control(control).activate_manual()
    with clock.timer_group() as timers:
        timers.call_later(1, clock.close)
        control.advance(2)
        assert not clock.alive
        with pytest.raises(ClockGone):
            timers.call_later(1, int)
        with pytest.raises(ClockGone):
            driver.advance_timers()
    assert control.current_time() == 2


@pytest.mark.parametrize("what", ["jump", "advance", "set", "drop"])
def test_a_signal_handler_at_each_line_of_advance(what: str) -> None:
    """Here a trace function is the handler."""
    codes = {
        code
        for kind in (Stepper, VirtualTime, OtherClocks, CallerDrivenAlarm)
        for method in vars(kind).values()
        if (code := getattr(method, "__code__", None)) is not None
    }

    def attempt(here: int) -> bool:
        lines = 0

        def trace(frame: FrameType, event: str, arg: object) -> Any:
            nonlocal lines
            if frame.f_code not in codes:
                return trace
            if event == "line":
                lines += 1
                if lines == here:
                    sys.settrace(None)
                    handler()
            return trace

        def handler() -> None:
            if what in ("jump", "advance"):
                with suppress(RuntimeError):  # in a callback
                    getattr(control, what)(1.5)
            elif what == "set":
                set_for[:] = [control.current_time() + 0.25]
                timers1.call_later(0.25, log.append, "set")
            else:
                drivers.clear()

        control = ClockControl()
        set_for, log = list[float](), list[str]()
        clock1 = control.to_clock()
        clock2, driver = InactiveClock.from_control(control).activate_manual()
        drivers = [driver]
        del driver
        with clock1.timer_group() as timers1, clock2.timer_group() as timers2:
            timers2.call_at(1, log.append, "1")
            timers1.call_at(2, log.append, "2")
            timers2.call_at(3, log.append, "3")
            timers2.call_at(3, log.append, "3 too")
            before = sys.gettrace()
            sys.settrace(trace)
            try:
                with undisturbed():
                    control.advance(4)
            finally:
                sys.settrace(before)
        assert control.current_time() >= 4
        assert ("set" in log) == any(when <= 4 for when in set_for)
        fired = [name for name in log if name != "set"]
        if what == "drop":
            assert "2" in fired
            assert sorted(fired) == fired
        else:
            assert fired == ["1", "2", "3", "3 too"]
        return here <= lines

    here = 1
    while attempt(here):
        here += 1
    assert here > 100


def test_clocks_are_made_and_go_on_the_way(control: ClockControl, clock: Clock) -> None:
    def make_another() -> None:
        another, driver = InactiveClock.from_control(control).activate_manual()
        group = another.timer_group()
        more = group.__enter__()
        made.append((another, driver, group))
        more.call_later(0.25, lambda: log.append(another.instant()))
        more.call_later(1.5, log.append, nan)

    made: list[object] = []
    log: list[float] = []
    with clock.timer_group() as timers:
        timers.call_later(1, make_another)
        timers.call_later(1.5, lambda: log.append(clock.instant()))
        timers.call_later(2, made.clear)
        timers.call_later(3, lambda: log.append(clock.instant()))
        control.advance(4)
    assert log == [1.25, 1.5, 3]


@pytest.mark.parametrize("go", [ClockControl.advance, ClockControl.jump])
def test_a_deadline_that_counts_as_a_nanosecond_more(
    control: ClockControl, clock: Clock, go: Callable[[ClockControl, float], None]
) -> None:
    # A float this large tells no nanoseconds apart.
    deadline = 10_000_000.000000003
    with clock.timer_group() as timers:
        fired = timers.call_at(deadline, int)
        control.jump(9_999_999)
        control.jump(3e-9)
        go(control, 1)
        assert clock.instant() == deadline
        assert not fired.pending


def test_a_callback_jumps_further_than_floats_tell(
    control: ClockControl, clock: Clock
) -> None:
    # In two centuries and a half, floats are two microseconds apart.
    start = 2.0**33
    control.jump(start)
    with clock.timer_group() as timers:
        timers.call_later(0, control.jump, 2.5e-6)
        control.advance(1e-6)
    assert clock.instant() == start + 2.5e-6


def test_clocks_of_another_thread_stay_as_they_are(control: ClockControl) -> None:
    def use_it() -> None:
        clock = control.to_clock()
        with clock.timer_group() as timers:
            timers.call_later(1, lambda: log.append(clock.instant()))
            ready.release()
            go_on.acquire()
            assert log == []
            control.advance(0)
            assert log == [5]

    log: list[float] = []
    ready, go_on = threading.Semaphore(0), threading.Semaphore(0)
    thread = threading.Thread(target=use_it, daemon=True)
    thread.start()
    ready.acquire()
    control.advance(5)
    assert log == []
    go_on.release()
    thread.join()
    assert log == [5]


def test_a_clock_that_trio_drives_leaps(control: ClockControl) -> None:
    async def main() -> None:
        async with open_clock() as clock, clock.open_timers() as timers:
            for when in (1, 2, 3):
                timers.call_at(when, lambda: log.append(clock.instant()))
            await trio.testing.wait_all_tasks_blocked()
            control.advance(2)
            assert log == []
            await trio.testing.wait_all_tasks_blocked()
            assert log == [2, 2]
            control.advance(1)

    log: list[float] = []
    trio.run(main, clock=control)
    assert log == [2, 2, 3]


def test_a_leap_to_what_is_due_wakes_each_kind_of_waiter(control: ClockControl) -> None:
    """Two tasks at one deadline, a task alone, a timer alone, and nobody after it."""

    async def wait(clock: Clock, instant: float) -> None:
        await clock.delay_until(instant)
        log.append(instant)

    async def main() -> None:
        async with open_clock() as clock, trio.open_nursery() as nursery:
            for instant in (1, 2, 2, 3, 5):
                nursery.start_soon(wait, clock, instant)
            async with clock.open_timers() as timers:
                timers.call_at(4, log.append, 4)
                timers.call_at(-inf, log.append, 0)
                for count in (2, 4, 5, 6):
                    await trio.testing.wait_all_tasks_blocked()
                    control.jump(1)
                    await trio.testing.wait_all_tasks_blocked()
                    assert len(log) == count
            control.jump(1)
            clock.close()

    log: list[float] = []
    trio.run(main, clock=control)
    assert log == [0, 1, 2, 2, 3, 4, 5]


def test_a_signal_handler_moves_it_meanwhile(control: ClockControl) -> None:
    """It may come at any moment, here as real time is looked at."""

    def real() -> float:
        if handlers:
            handlers.pop()()
        return 0.0

    handlers: list[Callable[[], object]] = []
    control._real_clock = real
    control.rate = 1
    # At first the time is looked at only to see whether a float can hold what follows.
    handlers += [lambda: control.jump(1), int]
    control.jump(2)
    assert control.current_time() == 3


def test_a_host_sets_timers_while_trio_waits() -> None:
    async def main() -> None:
        async with open_clock() as clock, open_clock() as another:
            async with another.open_timers() as timers:
                opened.append(timers)
                forever = timers.call_later(inf, int)
                await clock.delay(5)
                log.append(clock.instant())
                await finished.wait()
                forever.cancel()

    todo: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
    results: list[outcome.Outcome[None]] = []
    opened: list[TimerGroup] = []
    log: list[float] = []
    finished = trio.Event()
    control = jumping()
    trio.lowlevel.start_guest_run(
        main,
        run_sync_soon_threadsafe=todo.put,
        done_callback=results.append,
        clock=control,
    )
    while not log:
        todo.get()()
    # Until it waits, with nothing to jump to.
    while not control._autojump.waiting:
        todo.get()()
    opened[0].call_later(3, lambda: log.append(control.current_time()))
    opened[0].call_later(4, finished.set)
    while not results:
        todo.get()()
    results[0].unwrap()
    assert log == [5, 8]
    assert control.current_time() == 9


# --- what callbacks raise ---


@pytest.mark.parametrize("move", [ClockControl.advance, ClockControl.jump])
def test_an_exception_comes_out_bare(
    move: Callable[[ClockControl, float], None], control: ClockControl, clock: Clock
) -> None:
    log: list[float] = []
    with clock.timer_group() as timers:
        timers.call_later(1, divmod, 1, 0)
        timers.call_every(2, lambda: log.append(clock.instant()))
        with pytest.raises(ZeroDivisionError):
            move(control, 3)
        # Everything has fired, and time has gone all the way.
        assert len(log) == 1
        assert control.current_time() == 3
        move(control, 1)
        assert len(log) == 2


def test_several_come_out_in_a_group(control: ClockControl, clock: Clock) -> None:
    another, _driver = InactiveClock.from_control(control).activate_manual()
    with clock.timer_group() as timers, another.timer_group() as timers2:
        timers.call_later(1, divmod, 1, 0)
        timers2.call_later(2, int, "x")
        timers.call_later(3, [].pop)
        with pytest.raises(ExceptionGroup, match="callbacks of timers failed") as got:
            control.advance(3)
    types = [type(exc) for exc in got.value.exceptions]
    assert types == [ZeroDivisionError, ValueError, IndexError]
    assert control.current_time() == 3


def test_an_exception_comes_out_of_set_time(
    control: ClockControl, clock: Clock
) -> None:
    with clock.timer_group() as timers:
        timers.call_later(1, divmod, 1, 0)
        with pytest.raises(ZeroDivisionError):
            control.set_time(
                datetime.datetime(2000, 1, 1, tzinfo=datetime.timezone.utc)
            )


def test_ctrl_c_in_a_callback(control: ClockControl, clock: Clock) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    log: list[str] = []
    with clock.timer_group() as timers:
        timers.call_later(1, interrupt)
        timers.call_later(2, log.append, "later")
        with pytest.raises(KeyboardInterrupt):
            control.advance(2)
        assert log == []
        control.advance(0)
        assert log == []
        control.advance(1)
    assert log == ["later"]


@pytest.mark.parametrize("raises", [None, IndexError])
def test_what_nobody_has_seen_comes_out_of_the_block(
    raises: type[Exception] | None,
) -> None:
    # Time moves by itself here, so there is nobody else to be told.
    async def main() -> None:
        clock = control.to_clock()
        with clock.timer_group() as others:
            others.call_later(5, [].pop)
            with clock.timer_group() as timers:
                timers.call_later(1, divmod, 1, 0)
                timers.call_later(2, divmod, 1, 0)
                await clock.delay(10)
                if raises is not None:
                    raise raises
            raise AssertionError

    control = jumping()
    with pytest.raises(BaseExceptionGroup) as caught:
        trio.run(main)
    inner, outer = caught.value.exceptions
    assert isinstance(outer, IndexError)
    assert isinstance(inner, ExceptionGroup)
    types = [type(exc) for exc in inner.exceptions]
    assert types == [IndexError] * bool(raises) + [ZeroDivisionError] * 2


# --- inside a callback ---


def test_advance_in_a_callback_is_refused(control: ClockControl, clock: Clock) -> None:
    log: list[float] = []
    with clock.timer_group() as timers:
        timers.call_later(1, control.advance, 5)
        timers.call_later(3, lambda: log.append(clock.instant()))
        with pytest.raises(RuntimeError, match="inside a timer's callback"):
            control.advance(2)
        assert control.current_time() == 2
        control.advance(1)
    assert log == [3]


def test_advance_timers_in_a_callback_is_refused(control: ClockControl) -> None:
    clock, driver = InactiveClock.from_control(control).activate_manual()
    with clock.timer_group() as timers:
        timers.call_later(1, driver.advance_timers)
        with pytest.raises(RuntimeError, match="inside a timer's callback"):
            control.advance(1)
        assert driver.advance_timers() is None


def test_jump_in_a_callback(control: ClockControl, clock: Clock) -> None:
    another, _driver = InactiveClock.from_control(control).activate_manual()
    log: list[float] = []
    with clock.timer_group() as timers, another.timer_group() as timers2:
        timers.call_later(1, control.jump, 100)
        timers2.call_later(5, lambda: log.append(clock.instant()))
        timers.call_later(6, lambda: log.append(-clock.instant()))
        timers.call_later(102, lambda: log.append(clock.instant()))
        control.advance(10)
        # The other clock's are due within the jump, its own after the callback.
        assert log == [101, -101]
        assert control.current_time() == 101
        control.advance(1)
    assert log == [101, -101, 102]


# --- a random program, against a list that is sorted ---


@attrs.define(eq=False)
class Planned:
    """What a timer of the program should do next."""

    when: float
    period: float
    timer: Timer
    order: int = 0


@attrs.define
class Model:
    """A list, searched for the earliest."""

    planned: list[Planned] = attrs.Factory(list)
    registrations: int = 0

    def register(self, planned: Planned, when: float) -> None:
        if planned in self.planned:
            self.planned.remove(planned)
        planned.when, planned.order = when, self.registrations
        self.registrations += 1
        self.planned.append(planned)

    def advance(self, until: float) -> Iterator[tuple[int, float]]:
        while self.planned:
            first = min(self.planned, key=lambda p: (p.when, p.order))
            if first.when > until:
                return
            yield id(first), first.when
            self.planned.remove(first)
            if first.period:
                self.register(first, first.when + first.period)


# Quarters of a second, so that everything is exact, and meets.
quarters = st.integers(0, 20).map(lambda n: n / 4)
uses = st.lists(
    st.one_of(
        st.tuples(st.just("call_later"), quarters, st.just(0)),
        st.tuples(st.just("call_every"), quarters.filter(bool), st.just(0)),
        st.tuples(st.just("reset"), quarters, st.integers(0, 100)),
        st.tuples(st.just("cancel"), st.just(0.0), st.integers(0, 100)),
        st.tuples(st.just("advance"), quarters, st.just(0)),
    ),
    max_size=40,
)


@given(uses)
def test_a_random_program(program: list[tuple[str, float, int]]) -> None:
    control = ClockControl()
    clock = control.to_clock()
    model = Model()
    made: list[Planned] = []
    log: list[tuple[int, float]] = []

    def make(
        timers: TimerGroup, seconds: float, call: Callable[..., Timer], period: float
    ) -> None:
        def fire() -> None:
            log.append((id(planned), clock.instant()))

        planned = Planned(0.0, period, call(seconds, fire))
        made.append(planned)
        model.register(planned, control.current_time() + seconds)

    with clock.timer_group() as timers:
        for what, seconds, n in program:
            now = control.current_time()
            if what == "call_later":
                make(timers, seconds, timers.call_later, 0)
            elif what == "call_every":
                make(timers, seconds, timers.call_every, seconds)
            elif what == "advance":
                log.clear()
                expected = list(model.advance(now + seconds))
                control.advance(seconds)
                assert log == expected
                assert control.current_time() == now + seconds
            elif made:
                planned = made[n % len(made)]
                assert planned.timer.pending == (planned in model.planned)
                if what == "reset":
                    planned.timer.reset(seconds)
                    model.register(planned, now + seconds)
                else:
                    assert planned.timer.cancel() == (planned in model.planned)
                    if planned in model.planned:
                        model.planned.remove(planned)


# --- time that moves because somebody looks at it ---


def test_each_reading_moves_it() -> None:
    control = ClockControl(auto_advance=0.1)
    simple, clock = control.to_simple_clock(), control.to_clock()
    assert simple.instant() == 0.0  # the time before
    assert control.current_time() == 0.1
    assert clock.instant() == 0.1
    assert clock.system_time().microsecond == 200_000
    watch = simple.stopwatch()
    assert watch.elapsed() == pytest.approx(0.1)
    for _ in range(5):
        simple.system_time()
    assert control.current_time() == 1.0


def test_what_does_not_move_it() -> None:
    async def main() -> None:
        async with open_clock() as clock:
            await clock.delay(1)
            async for tick in clock.periodic(1):
                assert tick == 2
                break
            with clock.move_on_after(1):
                await trio.sleep_forever()
            async with clock.open_timers() as timers:
                timers.call_later(1, int)
        assert trio.current_time() == control.current_time() == 4

    control = ClockControl(auto_advance=10, autojump_threshold=0)
    trio.run(main, clock=control)
    assert control.current_time() == 4
    lone = control.to_clock()
    with lone.timer_group() as timers:
        assert timers.call_later(1, int).when == 5
        control.advance(1)
    assert control.current_time() == 5


def test_a_limit_for_all_readings_together() -> None:
    control = ClockControl(
        auto_advance=datetime.timedelta(seconds=2),
        auto_advance_limit=datetime.timedelta(seconds=5),
    )
    simple, clock = control.to_simple_clock(), control.to_clock()
    readings = [read.instant() for read in (simple, clock) * 3]
    assert readings == [0, 2, 4, 5, 5, 5]
    control.jump(1)
    assert [simple.instant(), simple.instant()] == [6, 6]


def test_no_limit_is_left_to_begin_with() -> None:
    control = ClockControl(auto_advance=1, auto_advance_limit=0)
    assert control.to_simple_clock().instant() == 0
    assert control.current_time() == 0


def test_a_reading_makes_timers_due() -> None:
    async def main() -> None:
        async with open_clock() as clock, trio.open_nursery() as nursery:
            nursery.start_soon(clock.delay, 3)
            nursery.start_soon(trio.sleep, 3)
            await trio.testing.wait_all_tasks_blocked()
            while clock.instant() < 2:
                await checkpoint()
        assert control.current_time() == 3

    control = ClockControl(auto_advance=1)
    trio.run(main, clock=control)


def test_a_reading_of_another_thread_makes_timers_due() -> None:
    async def main() -> None:
        async with open_clock() as clock, trio.open_nursery() as nursery:
            nursery.start_soon(clock.delay, 1)
            await trio.testing.wait_all_tasks_blocked()
            thread = threading.Thread(target=clock.instant)
            thread.start()
        thread.join()

    trio.run(main, clock=ClockControl(auto_advance=1))


# --- run_for(), and its like ---


async def tick_with_sleep(
    control: ClockControl, clock: Clock, note: Callable[[], None]
) -> None:
    while True:
        await trio.sleep(20)
        note()


async def tick_with_delay(
    control: ClockControl, clock: Clock, note: Callable[[], None]
) -> None:
    while True:
        await clock.delay(20)
        note()


async def tick_with_periodic(
    control: ClockControl, clock: Clock, note: Callable[[], None]
) -> None:
    async for _ in clock.periodic(20):
        note()


async def tick_with_call_every(
    control: ClockControl, clock: Clock, note: Callable[[], None]
) -> None:
    async with clock.open_timers() as timers:
        timers.call_every(20, note)


async def tick_with_timeouts(
    control: ClockControl, clock: Clock, note: Callable[[], None]
) -> None:
    while True:
        with clock.move_on_after(20):
            await trio.sleep_forever()
        note()


async def tick_with_timer_group(
    control: ClockControl, clock: Clock, note: Callable[[], None]
) -> None:
    with control.to_clock().timer_group() as timers:
        timers.call_every(20, note)
        await trio.sleep_forever()


async def tick_beside(
    control: ClockControl, clock: Clock, note: Callable[[], None]
) -> None:
    await tick_with_delay(control, control.to_clock(), note)


@pytest.mark.parametrize(
    "tick",
    [
        tick_with_sleep,
        tick_with_delay,
        tick_with_periodic,
        tick_with_call_every,
        tick_with_timeouts,
        tick_with_timer_group,
        tick_beside,
    ],
)
def test_ten_ticks_in_ten_periods(
    tick: Callable[[ClockControl, Clock, Callable[[], None]], Awaitable[None]],
    control: ClockControl,
) -> None:
    async def main() -> None:
        async with open_clock() as clock, trio.open_nursery() as nursery:
            nursery.start_soon(
                tick, control, clock, lambda: log.append(trio.current_time())
            )
            await control.run_for(200)
            assert log == [20 * n for n in range(1, 11)]
            await control.run_for(datetime.timedelta(seconds=19.5))
            assert len(log) == 10
            await control.run_for(0.5)
            assert len(log) == 11
            nursery.cancel_scope.cancel()

    log: list[float] = []
    trio.run(main, clock=control)
    assert control.current_time() == 220


def test_run_for_is_exact(control: ClockControl) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 1 / 3)
            for _ in range(10):
                await control.run_for(0.1)
        assert trio.current_time() == 1.0

    trio.run(main, clock=control)


def test_run_until(control: ClockControl) -> None:
    async def wait(instant: float) -> None:
        await trio.sleep_until(instant)
        log.append(trio.current_time())

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for instant in (1 / 3, 2 / 3, 1, 1):
                nursery.start_soon(wait, instant)
            await control.run_until(2 / 3)
            assert log == [1 / 3, 2 / 3]
            assert control.current_time() == 2 / 3
            # What is past is a moment to settle.
            nursery.start_soon(wait, 0)
            await control.run_until(-5)
            assert log == [1 / 3, 2 / 3, 2 / 3]
            await control.run_until(1)
        assert log[3:] == [1, 1]

    log: list[float] = []
    trio.run(main, clock=control)


def test_run_until_while_time_passes_by_itself(control: ClockControl) -> None:
    def real() -> float:
        return now[0]

    now = [100.0]
    control._real_clock = real
    control.rate = 2
    trio.run(control.run_until, 5, clock=control)
    assert control.current_time() == 5
    now[0] += 3
    assert control.current_time() == 11
    trio.run(control.run_until, 5, clock=control)
    assert control.current_time() == 11


def test_run_until_idle(control: ClockControl) -> None:
    async def tick(clock: Clock) -> None:
        async for tick in clock.periodic(7):
            assert tick == clock.instant()
            log.append(tick)

    async def main() -> None:
        async with open_clock() as clock, trio.open_nursery() as nursery:
            await control.run_until_idle()
            async with clock.open_timers(on_exit="cancel") as timers:
                timers.call_every(5, lambda: log.append(clock.instant()))
                nursery.start_soon(tick, clock)
                await control.run_until_idle()
                assert log == []
                timers.call_later(13, log.append, 13)
                await control.run_until_idle()
                assert log == [5, 7, 10, 13]
                nursery.start_soon(trio.sleep, 4)
                await control.run_until_idle()
                assert log == [5, 7, 10, 13, 14, 15]
            assert trio.current_time() == 17
            nursery.cancel_scope.cancel()

    log: list[float] = []
    trio.run(main, clock=control)


def test_run_until_idle_has_a_limit(control: ClockControl) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tick_for_ever)
            with pytest.raises(RuntimeError, match=r"gone to 5 deadlines.*6\.0.*limit"):
                await control.run_until_idle(limit=5)
            assert log == [1, 2, 3, 4, 5]
            assert trio.current_time() == 5
            nursery.cancel_scope.cancel()

    async def tick_for_ever() -> None:
        while True:
            await trio.sleep(1)
            log.append(trio.current_time())

    log: list[float] = []
    trio.run(main, clock=control)


def test_run_until_idle_within_its_limit(control: ClockControl) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for seconds in (1, 2, 3):
                nursery.start_soon(trio.sleep, seconds)
            await control.run_until_idle(limit=3)
        await control.run_until_idle(limit=1)

    trio.run(main, clock=control)
    assert control.current_time() == 3


def test_run_until_idle_minds_what_it_can_reach() -> None:
    def use_it() -> None:
        clock = control.to_clock()
        with clock.timer_group() as timers:
            timers.call_later(1, int)
            ready.release()
            go_on.acquire()

    async def main() -> None:
        thread = threading.Thread(target=use_it, daemon=True)
        thread.start()
        ready.acquire()
        clock = control.to_clock()
        with clock.timer_group() as timers:
            timers.call_every(1, int)
            timers.call_later(2.5, int)
            await control.run_until_idle(limit=10)
        assert control.current_time() == 2.5
        go_on.release()
        thread.join()

    control = ClockControl()
    ready, go_on = threading.Semaphore(0), threading.Semaphore(0)
    trio.run(main)


def test_time_does_not_jump_meanwhile() -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 100)
            await control.run_for(10)
            assert trio.current_time() == 10
            await control.run_until(20)
            assert trio.current_time() == 20
        assert trio.current_time() == 100

    control = jumping()
    trio.run(main, clock=control)


def test_tasks_that_wait_for_idleness_go_first(control: ClockControl) -> None:
    async def wait(cushion: float) -> None:
        for _ in range(3):
            await trio.testing.wait_all_tasks_blocked(cushion)
            log.append(trio.current_time())

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 1)
            nursery.start_soon(wait, 0)
            nursery.start_soon(wait, 0.001)
            nursery.start_soon(wait, 0.002)
            await control.run_for(1)

    log: list[float] = []
    trio.run(main, clock=control)
    assert log == [0] * 9
    assert control.current_time() == 1


def test_it_waits_for_io_and_threads(control: ClockControl) -> None:
    async def pong(stream: trio.SocketStream) -> None:
        while data := await stream.receive_some(1):
            await trio.to_thread.run_sync(lambda: None)
            await stream.send_all(data)

    async def ping(stream: trio.SocketStream) -> None:
        for _ in range(10):
            await trio.sleep(1)
            with trio.fail_after(0.5):
                for _ in range(10):
                    await stream.send_all(b"x")
                    await stream.receive_some(1)
        log.append(trio.current_time())

    async def main() -> None:
        left, right = (
            trio.SocketStream(trio.socket.from_stdlib_socket(end))
            for end in socket.socketpair()
        )
        async with left, right, trio.open_nursery() as nursery:
            nursery.start_soon(pong, right)
            nursery.start_soon(ping, left)
            await control.run_for(10)
            assert log == [10]
            nursery.cancel_scope.cancel()

    log: list[float] = []
    trio.run(main, clock=control)


def test_exceptions_come_out_of_run_for(control: ClockControl) -> None:
    async def main() -> None:
        clock = control.to_clock()
        with clock.timer_group() as timers:
            timers.call_later(1, divmod, 1, 0)
            with pytest.raises(ZeroDivisionError):
                await control.run_for(2)
            assert control.current_time() == 2
            timers.call_later(1, divmod, 1, 0)
            timers.call_later(2, [].pop)
            with pytest.raises(ExceptionGroup) as caught:
                await control.run_until_idle()
            assert len(caught.value.exceptions) == 2
            assert control.current_time() == 4
            timers.call_later(1, divmod, 1, 0)
            timers.call_later(2, int)
            with pytest.raises(ExceptionGroup) as caught:
                await control.run_until_idle(limit=1)
            limit, error = caught.value.exceptions
            assert isinstance(limit, RuntimeError)
            assert isinstance(error, ZeroDivisionError)
        with clock.timer_group() as timers:
            with pytest.raises(BaseExceptionGroup) as cancelled:
                with trio.CancelScope() as scope:
                    timers.call_later(1, scope.cancel)
                    timers.call_later(1, divmod, 1, 0)
                    await control.run_for(10)
            (error,) = cancelled.value.exceptions
            assert isinstance(error, ZeroDivisionError)
            assert scope.cancelled_caught

    trio.run(main, clock=control)


# --- who may call it ---


let_run = pytest.mark.parametrize(
    "let_run",
    [
        lambda control: control.run_for(60),
        lambda control: control.run_until(60),
        lambda control: control.run_until_idle(),
    ],
)
LetRun = Callable[[ClockControl], Awaitable[None]]


@let_run
def test_outside_of_trio(let_run: LetRun, control: ClockControl) -> None:
    with pytest.raises(RuntimeError, match=r"only a Trio task.*advance\(\)"):
        let_run(control).__await__().__next__()
    assert control.current_time() == 0


def test_two_at_once(control: ClockControl) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(control.run_for, 5)
            nursery.start_soon(trio.sleep, 3)
            # Enough for it to begin, and too little for it to end.
            await checkpoint()
            await checkpoint()
            for use in (
                partial(control.run_for, 1),
                partial(control.run_until, 1),
                control.run_until_idle,
            ):
                with pytest.raises(RuntimeError, match="is under way already"):
                    await use()
        assert trio.current_time() == 5
        await control.run_for(1)

    trio.run(main, clock=control)


def test_in_the_wrong_run(control: ClockControl) -> None:
    async def wrong() -> None:
        with pytest.raises(RuntimeError, match="the clock of another Trio run"):
            await control.run_for(1)

    async def main() -> None:
        await trio.to_thread.run_sync(trio.run, wrong)
        assert trio.current_time() == 0

    trio.run(main, clock=control)
    # Now that it is over, anybody may who has a clock of it.
    clock = control.to_clock()
    trio.run(control.run_for, 1)
    assert clock.instant() == 1
    assert control.current_time() == 1


@let_run
def test_in_a_run_in_which_it_moves_nothing(let_run: LetRun) -> None:
    async def main() -> None:
        other.to_simple_clock()
        with pytest.raises(RuntimeError, match=r"not the clock of this.*to_clock\(\)"):
            await let_run(other)
        assert other.current_time() == 0

    other = ClockControl()
    trio.run(main)
    trio.run(main, clock=ClockControl())
    # It may have been the clock of a run that is over.
    trio.run(trio.lowlevel.checkpoint, clock=other)
    trio.run(main)


@let_run
def test_in_a_run_in_which_a_clock_is_made_just_now(let_run: LetRun) -> None:
    async def sleep() -> None:
        await control.to_clock().delay(60)
        log.append(control.current_time())

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sleep)
            await let_run(control)
        # Now it has nothing left to do.
        await let_run(control)

    log: list[float] = []
    control = ClockControl()
    trio.run(main)
    assert log == [60]


# --- cancelled, and interrupted ---


def check_that_nothing_is_left(control: ClockControl) -> None:
    assert not control._idleness.holds
    assert not control._idleness.holds
    assert not _idleness._waiting_for_idleness


class CancelThere(trio.abc.Instrument):
    """Cancels a scope the n-th time that a task waits in something of the control."""

    def __init__(self, n: int, scope: trio.CancelScope) -> None:
        self.n = n
        self.scope = scope
        self.count = 0

    def after_task_step(self, task: Task) -> None:
        if inspect.getcoroutinestate(task.coro) == inspect.CORO_SUSPENDED and any(
            Path(frame.f_code.co_filename).parent == SOURCE
            for frame, _ in task.iter_await_frames()
        ):
            self.count += 1
            if self.count == self.n:
                self.scope.cancel()


@pytest.mark.parametrize("beside", [False, True])
def test_cancelled_at_every_await(beside: bool) -> None:
    async def worker() -> None:
        while True:
            await trio.sleep(1)
            await trio.to_thread.run_sync(lambda: None)

    async def main(n: int) -> bool:
        clock = control.to_clock()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(clock.delay, 1.5)
            nursery.start_soon(worker)
            await trio.testing.wait_all_tasks_blocked()
            with trio.CancelScope() as scope:
                cancel = CancelThere(n, scope)
                trio.lowlevel.add_instrument(cancel)
                await control.run_for(1.5)
                await control.run_until(2)
            trio.lowlevel.remove_instrument(cancel)
            check_that_nothing_is_left(control)
            assert scope.cancelled_caught or control.current_time() == 2
            await control.run_until(2)
            check_that_nothing_is_left(control)
            nursery.cancel_scope.cancel()
        return scope.cancelled_caught

    n = 0
    cancelled = True
    while cancelled:
        n += 1
        control = ClockControl()
        cancelled = trio.run(main, n, clock=None if beside else control)
    assert n > 8


Place = tuple[str, CodeType, int]


def run_interrupted(here: Place | None) -> tuple[bool, set[Place]]:
    """Tells whether it was interrupted, and where it has been until then."""

    def profile(frame: FrameType, event: str, arg: object) -> None:
        code = frame.f_code
        if event in {"call", "c_return"} and (
            Path(code.co_filename).parent == SOURCE
            or code.co_filename.endswith("contextlib.py")
        ):
            place = (event, code, frame.f_lasti)
            places.add(place)
            if place == here:
                sys.setprofile(None)
                signal.raise_signal(signal.SIGINT)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 1)
            nursery.start_soon(trio.sleep, 2)
            sys.setprofile(profile)
            try:
                await control.run_for(1.5)
                await control.run_until_idle()
                with control.hold():
                    await checkpoint()
                await checkpoint()
            finally:
                sys.setprofile(None)
                nursery.cancel_scope.cancel()

    places: set[Place] = set()
    control = ClockControl()
    before = sys.getprofile()
    interrupted = True
    try:
        with undisturbed():
            trio.run(main, clock=control)
        interrupted = False
    except KeyboardInterrupt:
        pass
    except BaseExceptionGroup as group:
        _, others = group.split(KeyboardInterrupt)
        assert others is None
    finally:
        sys.setprofile(before)
    check_that_nothing_is_left(control)
    return interrupted, places


def test_ctrl_c_at_every_call(ctrl_c: None) -> None:
    gc.collect()
    interrupted, places = run_interrupted(None)
    assert not interrupted
    results = [run_interrupted(here)[0] for here in places]
    # (A place may be missed: which task comes first is up to Trio.)
    assert sum(results) > 0.9 * len(places) > 50


# --- bad input ---

BAD: list[tuple[str, Callable[[ClockControl], object], type[Exception], str]] = [
    ("advance back", lambda c: c.advance(-1), ValueError, "^time can't go backwards$"),
    ("advance nan", lambda c: c.advance(nan), ValueError, "`seconds`.*nan"),
    ("advance inf", lambda c: c.advance(inf), ValueError, "`seconds`.*inf"),
    ("advance str", lambda c: c.advance("1"), TypeError, "`seconds`.*'1'"),  # type: ignore[arg-type]
    ("advance bool", lambda c: c.advance(True), TypeError, "`seconds`.*True"),
    (
        "auto negative",
        lambda c: ClockControl(auto_advance=-1),
        ValueError,
        "`auto_advance`.*-1",
    ),
    (
        "auto inf",
        lambda c: ClockControl(auto_advance=inf),
        ValueError,
        "`auto_advance`.*inf",
    ),
    (
        "auto str",
        lambda c: ClockControl(auto_advance="1"),  # type: ignore[arg-type]
        TypeError,
        "`auto_advance`.*'1'",
    ),
    (
        "limit negative",
        lambda c: ClockControl(auto_advance_limit=-1),
        ValueError,
        "`auto_advance_limit`.*-1",
    ),
    (
        "limit nan",
        lambda c: ClockControl(auto_advance_limit=nan),
        ValueError,
        "`auto_advance_limit`.*NaN",
    ),
    (
        "grace negative",
        lambda c: ClockControl(io_grace=-1),
        ValueError,
        "`io_grace`.*-1",
    ),
    ("grace inf", lambda c: ClockControl(io_grace=inf), ValueError, "`io_grace`.*inf"),
    (
        "grace None",
        lambda c: ClockControl(io_grace=None),  # type: ignore[arg-type]
        TypeError,
        "`io_grace`.*None",
    ),
    (
        "from None",
        lambda c: InactiveClock.from_control(None),  # type: ignore[arg-type]
        TypeError,
        "`control` must be a ClockControl, not None",
    ),
    (
        "from a class",
        lambda c: InactiveClock.from_control(ClockControl),  # type: ignore[arg-type]
        TypeError,
        "`control` must be a ClockControl, not <class",
    ),
    (
        "from another clock",
        lambda c: InactiveClock.from_control(trio.testing.MockClock()),  # type: ignore[arg-type]
        TypeError,
        "`control` must be a ClockControl",
    ),
]


@pytest.mark.parametrize(
    ("use", "error", "message"),
    [case[1:] for case in BAD],
    ids=[case[0] for case in BAD],
)
def test_bad_input(
    use: Callable[[ClockControl], object], error: type[Exception], message: str
) -> None:
    control = ClockControl()
    control.jump(1)
    clock = control.to_clock()
    with clock.timer_group() as timers:
        timer = timers.call_later(0, int)
        with pytest.raises(error, match=message):
            use(control)
        assert timer.pending
    assert control.current_time() == 1


BAD_ASYNC: list[
    tuple[str, Callable[[ClockControl], Awaitable[None]], type[Exception], str]
] = [
    ("for back", lambda c: c.run_for(-1), ValueError, "^time can't go backwards$"),
    ("for nan", lambda c: c.run_for(nan), ValueError, "`seconds`.*nan"),
    ("for inf", lambda c: c.run_for(inf), ValueError, "`seconds`.*inf"),
    ("for str", lambda c: c.run_for("1"), TypeError, "`seconds`.*'1'"),  # type: ignore[arg-type]
    ("until inf", lambda c: c.run_until(inf), ValueError, "`instant`.*inf"),
    ("until nan", lambda c: c.run_until(nan), ValueError, "`instant`.*NaN"),
    (
        "until timedelta",
        lambda c: c.run_until(datetime.timedelta(1)),  # type: ignore[arg-type]
        TypeError,
        "`instant`.*timedelta",
    ),
    (
        "limit 0",
        lambda c: c.run_until_idle(limit=0),
        ValueError,
        "`limit`.*positive.*0",
    ),
    ("limit -1", lambda c: c.run_until_idle(limit=-1), ValueError, "`limit`.*-1"),
    (
        "limit float",
        lambda c: c.run_until_idle(limit=1.0),  # type: ignore[arg-type]
        TypeError,
        "`limit`.*1.0",
    ),
    ("limit bool", lambda c: c.run_until_idle(limit=True), TypeError, "`limit`.*True"),
]


@pytest.mark.parametrize(
    ("use", "error", "message"),
    [case[1:] for case in BAD_ASYNC],
    ids=[case[0] for case in BAD_ASYNC],
)
def test_bad_async_input(
    use: Callable[[ClockControl], Awaitable[None]],
    error: type[Exception],
    message: str,
) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 1)
            await trio.testing.wait_all_tasks_blocked()
            before = current_statistics().tasks_living
            with pytest.raises(error, match=message):
                await use(control)
            assert control.current_time() == 1
            assert current_statistics().tasks_living == before
            check_that_nothing_is_left(control)
            nursery.cancel_scope.cancel()

    control = ClockControl()
    control.jump(1)
    trio.run(main, clock=control)


@pytest.mark.parametrize("when", [0, -10])
def test_a_timer_that_is_always_due(
    when: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def again() -> None:
        timers.call_at(clock.instant() + when, again)

    monkeypatch.setattr("trio_clockrt.testing._stepper._MOST_PASSES", 1000)
    control = ClockControl(detect_deadlocks=True)
    clock = control.to_clock()
    message = (
        r"1000 times at instant 5.0, .*<Timer for .*again,.*, made at .*, in again"
    )
    with clock.timer_group() as timers:
        timers.call_later(5, again)
        with pytest.raises(RuntimeError, match=message):
            control.advance(10)
        assert control.current_time() == 5
        with pytest.raises(RuntimeError, match=message):
            trio.run(control.run_for, 10)
        assert control.current_time() == 5


def test_many_timers_at_one_instant_after_the_other() -> None:
    def again() -> None:
        log.append(clock.instant())
        if len(log) % 3:
            timers.call_later(0, again)
        elif len(log) < 30:
            timers.call_later(1, again)

    log: list[float] = []
    clock = (control := ClockControl()).to_clock()
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("trio_clockrt.testing._stepper._MOST_PASSES", 3)
        with clock.timer_group() as timers:
            timers.call_later(1, again)
            control.advance(20)
    assert log == sorted([*range(1, 11)] * 3)


def test_further_than_any_float() -> None:
    control = ClockControl()
    clock = control.to_clock()
    message = r"no float can hold the instant 1e\+308 seconds after 1e\+308"
    with clock.timer_group() as timers:
        timers.call_later(1e308, int)
        control.advance(1e308)
        timer = timers.call_later(1e307, int)
        for move in (control.jump, control.advance):
            with pytest.raises(OverflowError, match=message):
                move(1e308)
        with pytest.raises(OverflowError, match=message):
            trio.run(control.run_for, 1e308, clock=control)
        assert timer.pending
        assert control.current_time() == 1e308
        assert timers.call_later(1e308, int).when == inf
        control.jump(7e307)
    assert clock.instant() == 1.7e308


# --- floats that have been added up ---


@pytest.mark.parametrize("period", [0.1, 0.3, 0.7, 1.1])
@pytest.mark.parametrize("times", [1, 3, 6, 7, 30])
def test_as_many_ticks_as_periods(period: float, times: int) -> None:
    async def main() -> None:
        async with open_clock() as clock, clock.open_timers(on_exit="cancel") as timers:
            timers.call_every(period, calls.append, "driven")
            await driven.run_for(period * times)

    calls: list[str] = []
    driven, lone = ClockControl(), ClockControl()
    trio.run(main, clock=driven)
    assert calls == ["driven"] * times
    calls.clear()
    with lone.to_clock().timer_group() as timers:
        timers.call_every(period, calls.append, "lone")
        lone.advance(period * times)
    assert calls == ["lone"] * times


@pytest.mark.parametrize("where", ["here", "in another thread"])
def test_ten_tenths_of_sleep_in_ten_tenths_of_jumps(where: str) -> None:
    async def sleep() -> None:
        for _ in range(10):
            await trio.sleep(0.1)
            slept.append(trio.current_time())

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sleep)
            for n in range(10):
                await trio.testing.wait_all_tasks_blocked()
                assert len(slept) == n
                if where == "here":
                    control.jump(0.1)
                else:
                    await trio.to_thread.run_sync(control.jump, 0.1)

    slept: list[float] = []
    control = ClockControl()
    trio.run(main, clock=control)
    assert slept == pytest.approx([n / 10 for n in range(1, 11)])
    assert control.current_time() == 1


@pytest.mark.parametrize("move", ["advance", "jump"])
def test_a_callback_moves_the_time_further(move: str) -> None:
    """Everything that is due has fired when the outer one returns."""
    control = ClockControl()
    with control.to_clock().timer_group() as timers:
        timers.call_at(1, control.jump, 5)
        late = timers.call_at(3, log_time, control, log := list[float]())
        last = timers.call_at(20, int)
        getattr(control, move)(1)
        assert control.current_time() == 6
        assert (late.pending, last.pending) == (False, True)
    assert log == [6]


def log_time(control: ClockControl, log: list[float]) -> None:
    log.append(control.current_time())

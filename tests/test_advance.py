"""`ClockControl.advance`: timers that no task drives fire on the way, in order."""

from __future__ import annotations

import datetime
import inspect
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from math import inf, nan
from pathlib import Path
from types import FrameType
from typing import Any

import attrs
import hypothesis.strategies as st
import outcome
import pytest
import trio
import trio.testing
from hypothesis import given
from undisturbed import undisturbed

from trio_clockrt import Clock, ClockGone, InactiveClock, Timer, TimerGroup, open_clock
from trio_clockrt.testing import ClockControl
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

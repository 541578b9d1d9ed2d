"""`run_for`, `run_until` and `run_until_idle`: the program runs as time goes on."""

from __future__ import annotations

import datetime
import gc
import inspect
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from types import CodeType, FrameType

import pytest
import trio
import trio.testing
from trio.lowlevel import Task, checkpoint
from undisturbed import undisturbed

from trio_clockrt import Clock, open_clock
from trio_clockrt.testing import ClockControl, _idleness

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

"""`run_per_core()`: results, failures, Ctrl-C, and being cancelled."""

from __future__ import annotations

import contextvars
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest
import trio
from undisturbed import undisturbed

import trio_clockrt
from trio_clockrt import Clock, ClockGone, InactiveClock
from trio_clockrt.affinity import (
    Affinity,
    available_affinities,
    pinned_affinities,
    run_per_core,
)
from trio_clockrt.testing import ClockControl

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup, ExceptionGroup

CAN_PIN = hasattr(os, "sched_setaffinity")
SOURCE = Path(trio_clockrt.__file__).parent


@pytest.fixture(autouse=True)
def _pretend_to_pin(monkeypatch: pytest.MonkeyPatch) -> None:
    if not CAN_PIN:
        monkeypatch.setattr(os, "sched_setaffinity", print, raising=False)


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    assert core_threads() == []


def core_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("trio-clockrt core")]


def cores(n: int) -> list[Affinity]:
    """So many, on however many there are."""
    return (available_affinities() * n)[:n]


class Roles:
    """Gives each run a number, in the order in which they come, and lets them meet."""

    def __init__(self, n: int) -> None:
        self._numbers = count()
        self._barrier = threading.Barrier(n)
        self.cancelled: list[int] = []
        self.ended: list[int] = []

    def next(self) -> int:
        number = next(self._numbers)
        self._barrier.wait()
        return number

    async def wait_to_be_cancelled(self, number: int = -1) -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            self.cancelled.append(number)
            raise


# --- what it does ---


class FakeMachine:
    """Has eight processors, and knows which of them a thread is pinned to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._here = threading.local()
        monkeypatch.setattr(os, "sched_setaffinity", self._pin, raising=False)
        monkeypatch.setattr(os, "sched_getaffinity", self._usable, raising=False)

    def _usable(self, _: int) -> set[int]:
        return set(range(8)) if self.cpu is None else {self.cpu}

    def _pin(self, _: int, cpus: set[int]) -> None:
        [self._here.cpu] = cpus

    @property
    def cpu(self) -> int | None:
        return getattr(self._here, "cpu", None)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> FakeMachine:
    return FakeMachine(monkeypatch)


@pytest.mark.parametrize("n", [1, 2, 8])
def test_results_are_in_the_order_of_affinities(machine: FakeMachine, n: int) -> None:
    turns = [threading.Event() for _ in range(8)]
    turns[n - 1].set()

    async def main(clock: Clock, factor: int) -> int:
        # The last one ends first.
        cpu = machine.cpu
        assert cpu is not None
        await trio.to_thread.run_sync(turns[cpu].wait)
        turns[cpu - 1].set()
        return cpu * factor

    affinities = pinned_affinities([8])[:n]
    assert run_per_core(main, 10, affinities=affinities) == [10 * i for i in range(n)]
    assert machine.cpu is None


def test_by_default_there_is_a_run_for_each_processor(machine: FakeMachine) -> None:
    async def main(clock: Clock) -> int | None:
        return machine.cpu

    assert run_per_core(main) == list(range(8))


@pytest.mark.skipif(not CAN_PIN, reason="threads cannot be pinned")
def test_threads_are_really_pinned() -> None:
    async def main(clock: Clock) -> set[int]:
        return os.sched_getaffinity(0)

    before = os.sched_getaffinity(0)
    assert run_per_core(main) == [{cpu} for cpu in sorted(before)]
    # Affinities may come from anything, and may repeat.
    [first, *_] = available_affinities()
    again = run_per_core(main, affinities=(first for _ in range(3)))
    assert again == [{min(before)}] * 3
    assert os.sched_getaffinity(0) == before


def test_each_has_its_own_of_everything() -> None:
    async def main(clock: Clock) -> tuple[Clock, object, threading.Thread]:
        await clock.delay(0.001)
        async with clock.open_timers() as timers:
            timers.call_later(0, roles.next)
        thread = threading.current_thread()
        return clock, trio.lowlevel.current_trio_token(), thread

    roles = Roles(4)
    results = run_per_core(main, affinities=cores(4))
    for column in zip(*results, strict=True):
        assert len(set(map(id, column))) == 4
    for clock, _, thread in results:
        with pytest.raises(ClockGone):
            clock.open_timers()
        assert not thread.is_alive()


def test_threads_have_telling_names() -> None:
    async def main(clock: Clock) -> str:
        return threading.current_thread().name

    names = [f"trio-clockrt core {affinity.processor_index}" for affinity in cores(3)]
    assert run_per_core(main, affinities=cores(3)) == names


def test_context_variables() -> None:
    async def main(clock: Clock) -> str:
        before = variable.get()
        variable.set("from a run")
        roles.next()
        return before

    variable = contextvars.ContextVar[str]("variable")
    variable.set("from the caller")
    roles = Roles(2)
    assert run_per_core(main, affinities=cores(2)) == ["from the caller"] * 2
    assert variable.get() == "from the caller"


def test_a_recipe_is_cloned() -> None:
    async def main(clock: Clock) -> bool:
        return clock.alive

    recipe = InactiveClock()
    for _ in range(2):
        assert run_per_core(main, inactive=recipe, affinities=cores(2)) == [True] * 2
    with recipe.activate_manual()[0] as clock:
        assert clock.instant() > 0


def test_one_control_moves_the_clocks_of_all_runs() -> None:
    async def main(clock: Clock) -> float:
        await clock.delay(3600)
        return clock.instant()

    # None of them goes ahead before the others have begun.
    control = ClockControl(autojump_threshold=0)
    recipe = InactiveClock.from_control(control)
    assert run_per_core(main, inactive=recipe, affinities=cores(8)) == [3600] * 8
    assert control.to_simple_clock().instant() == 3600


@pytest.mark.skipif(not CAN_PIN, reason="threads cannot be pinned")
def test_time_goes_on_when_one_of_them_never_begins() -> None:
    async def main(clock: Clock) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await clock.delay(3600)

    recipe = InactiveClock.from_control(ClockControl(autojump_threshold=0))
    outside = pinned_affinities([len(available_affinities()) + 1])[-1]
    with pytest.raises(ExceptionGroup):
        run_per_core(main, inactive=recipe, affinities=[*cores(2), outside])


def test_the_threads_have_ended_when_it_returns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main(clock: Clock) -> int:
        return 5

    def run(thread: threading.Thread) -> None:
        original_run(thread)
        somebody_waits.wait()

    def join(thread: threading.Thread) -> None:
        somebody_waits.set()
        original_join(thread)

    somebody_waits = threading.Event()
    original_run, original_join = threading.Thread.run, threading.Thread.join
    monkeypatch.setattr(threading.Thread, "run", run)
    monkeypatch.setattr(threading.Thread, "join", join)
    assert run_per_core(main, affinities=cores(2)) == [5, 5]
    assert core_threads() == []


# --- what it refuses ---


async def nothing(clock: Clock) -> None:
    raise AssertionError("it should not have been called")


def generator(clock: Clock) -> Iterator[None]:
    yield


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: run_per_core(nothing(None)),  # type: ignore[arg-type]
            TypeError,
            "pass the function and its arguments apart",
        ),
        (
            lambda: run_per_core(None),  # type: ignore[arg-type]
            TypeError,
            "`async_fn` must be an async function, not None",
        ),
        (
            lambda: run_per_core(generator),  # type: ignore[arg-type]
            TypeError,
            "is a generator function",
        ),
        (
            lambda: run_per_core(nothing, inactive=ClockControl()),  # type: ignore[arg-type]
            TypeError,
            "`inactive` must be an InactiveClock, a recipe for the clocks, not <",
        ),
        (
            lambda: run_per_core(nothing, affinities=4),  # type: ignore[arg-type]
            TypeError,
            "available_affinities()[:2], not 4",
        ),
        (
            lambda: run_per_core(nothing, affinities=cores(1)[0]),  # type: ignore[arg-type]
            TypeError,
            "available_affinities()[:2], not Affinity",
        ),
        (
            lambda: run_per_core(nothing, affinities=[*cores(1), 1]),  # type: ignore[list-item]
            TypeError,
            "each of `affinities` must be an Affinity, not 1",
        ),
        (
            lambda: run_per_core(nothing, affinities=[]),
            ValueError,
            "`affinities` is empty: there must be at least one",
        ),
    ],
)
def test_bad_input(
    call: Callable[[], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value)


def test_a_function_that_is_not_async() -> None:
    def main(clock: Clock) -> int:
        return 5

    with pytest.raises(ExceptionGroup) as caught:
        run_per_core(main, affinities=cores(1))  # type: ignore[arg-type]
    [error] = caught.value.exceptions
    assert type(error) is TypeError
    assert "returned 5, which cannot be awaited" in str(error)


async def test_in_a_trio_task_it_would_block() -> None:
    with pytest.raises(RuntimeError, match=r"to_thread\.run_sync\(run_per_core, "):
        run_per_core(nothing)


# --- failures ---


@pytest.mark.parametrize("n", [1, 2, 8])
def test_a_failure_cancels_the_others(n: int) -> None:
    async def main(clock: Clock) -> None:
        number = roles.next()
        if number == 0:
            raise error
        await roles.wait_to_be_cancelled(number)

    roles = Roles(n)
    error = ValueError("as it was raised")
    with pytest.raises(ExceptionGroup) as caught:
        run_per_core(main, affinities=cores(n))
    assert caught.value.exceptions == (error,)
    assert caught.value.__context__ is None
    assert sorted(roles.cancelled) == list(range(1, n))


def test_all_failures_come_out_in_the_order_of_affinities(machine: FakeMachine) -> None:
    async def main(clock: Clock) -> None:
        roles.next()
        raise ExceptionGroup(f"on core {machine.cpu}", [ValueError()])

    roles = Roles(8)
    with pytest.raises(ExceptionGroup, match=r"processors 0, 1, .*, 7$") as caught:
        run_per_core(main)
    messages = [str(error) for error in caught.value.exceptions]
    assert messages == [f"on core {cpu} (1 sub-exception)" for cpu in range(8)]


def test_failures_while_being_cancelled(machine: FakeMachine) -> None:
    async def main(clock: Clock) -> None:
        roles.next()
        if machine.cpu == 1:
            raise KeyError("first")
        try:
            await roles.wait_to_be_cancelled()
        finally:
            if machine.cpu == 2:
                raise IndexError("second")

    roles = Roles(3)
    with pytest.raises(ExceptionGroup) as caught:
        run_per_core(main, affinities=pinned_affinities([3]))
    assert [type(error) for error in caught.value.exceptions] == [KeyError, IndexError]


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_what_is_no_exception(kind: type[BaseException]) -> None:
    async def main(clock: Clock) -> None:
        if roles.next() == 0:
            raise kind
        await trio.sleep_forever()

    roles = Roles(2)
    with pytest.raises(BaseExceptionGroup) as caught:
        run_per_core(main, affinities=cores(2))
    assert not isinstance(caught.value, ExceptionGroup)
    assert [type(error) for error in caught.value.exceptions] == [kind]


def test_a_run_that_shields_itself_is_waited_for() -> None:
    async def main(clock: Clock) -> None:
        if roles.next() == 0:
            raise ValueError
        try:
            await roles.wait_to_be_cancelled()
        finally:
            with trio.CancelScope(shield=True):
                await clock.delay(0.001)
                roles.ended.append(1)

    roles = Roles(2)
    with pytest.raises(ExceptionGroup):
        run_per_core(main, affinities=cores(2))
    assert roles.ended == [1]


def test_a_run_that_ends_well_although_it_is_cancelled() -> None:
    async def main(clock: Clock) -> int:
        if roles.next() == 0:
            raise ValueError
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            return 5
        raise AssertionError

    roles = Roles(2)
    with pytest.raises(ExceptionGroup) as caught:
        run_per_core(main, affinities=cores(2))
    assert [type(error) for error in caught.value.exceptions] == [ValueError]


@pytest.mark.skipif(not CAN_PIN, reason="threads cannot be pinned")
def test_a_thread_that_cannot_be_pinned() -> None:
    async def main(clock: Clock) -> None:
        await trio.sleep_forever()

    outside = pinned_affinities([len(available_affinities()) + 1])[-1]
    with pytest.raises(ExceptionGroup) as caught:
        run_per_core(main, affinities=[*cores(1), outside, *cores(1)])
    [error] = caught.value.exceptions
    assert type(error) is ValueError
    assert repr(outside) in str(error)


def test_where_threads_cannot_be_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(clock: Clock) -> int:
        return roles.next()

    monkeypatch.delattr(os, "sched_setaffinity")
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    roles = Roles(3)
    assert sorted(run_per_core(main)) == [0, 1, 2]
    # Somebody who says which has a reason to.
    with pytest.raises(ExceptionGroup) as caught:
        run_per_core(main, affinities=available_affinities()[:1])
    assert [type(error) for error in caught.value.exceptions] == [NotImplementedError]


@pytest.mark.parametrize("nth", [0, 1, 2])
def test_a_thread_that_cannot_be_started(
    nth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that have been started are cancelled as soon as they have begun."""

    def start(thread: threading.Thread) -> None:
        if next(starts) >= nth:
            raise RuntimeError("can't start new thread")
        original(thread)

    async def main(clock: Clock) -> None:
        await roles.wait_to_be_cancelled()

    roles = Roles(3)
    starts = count()
    original = threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(ExceptionGroup) as caught:
        run_per_core(main, affinities=cores(3))
    messages = [str(error) for error in caught.value.exceptions]
    assert messages == ["can't start new thread"] * (3 - nth)
    assert len(roles.cancelled) == nth


# --- Ctrl-C ---


uses_ctrl_c = pytest.mark.usefixtures("ctrl_c")


def press_ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


@uses_ctrl_c
@pytest.mark.parametrize("n", [1, 2, 8])
def test_ctrl_c_stops_all(n: int) -> None:
    async def main(clock: Clock) -> None:
        number = roles.next()
        if number == 0:
            press_ctrl_c()
        await roles.wait_to_be_cancelled(number)

    roles = Roles(n)
    with pytest.raises(KeyboardInterrupt):
        run_per_core(main, affinities=cores(n))
    assert sorted(roles.cancelled) == list(range(n))


@uses_ctrl_c
def test_a_second_ctrl_c_does_not_lose_a_run() -> None:
    async def main(clock: Clock) -> None:
        number = roles.next()
        if number == 0:
            press_ctrl_c()
        try:
            await roles.wait_to_be_cancelled(number)
        finally:
            with trio.CancelScope(shield=True):
                press_ctrl_c()
                await clock.delay(0.001)
                roles.ended.append(number)

    roles = Roles(2)
    with pytest.raises(KeyboardInterrupt):
        run_per_core(main, affinities=cores(2))
    assert sorted(roles.ended) == [0, 1]


@uses_ctrl_c
def test_ctrl_c_comes_with_the_failures_there_are() -> None:
    async def main(clock: Clock) -> None:
        number = roles.next()
        if number == 0:
            press_ctrl_c()
        try:
            await roles.wait_to_be_cancelled()
        finally:
            if number == 0:
                raise ValueError

    roles = Roles(2)
    with pytest.raises(BaseExceptionGroup) as caught:
        run_per_core(main, affinities=cores(2))
    kinds = [type(error) for error in caught.value.exceptions]
    assert kinds == [ValueError, KeyboardInterrupt]


@uses_ctrl_c
def test_ctrl_c_beside_a_trio_run() -> None:
    """The main task is the one that waits."""

    async def main(clock: Clock) -> None:
        number = roles.next()
        if number == 0:
            press_ctrl_c()
        await roles.wait_to_be_cancelled(number)

    roles = Roles(2)
    with pytest.raises(KeyboardInterrupt):
        trio.run(
            trio.to_thread.run_sync, partial(run_per_core, main, affinities=cores(2))
        )
    assert sorted(roles.cancelled) == [0, 1]


Place = tuple[str, CodeType, int]


@uses_ctrl_c
def test_ctrl_c_at_every_call() -> None:
    """Wherever Python may notice it in the main thread, no thread is lost."""

    async def main(clock: Clock) -> int:
        await clock.delay(0.001)
        return 5

    def run_interrupted(here: Place | None) -> bool:
        def profile(frame: FrameType, event: str, arg: object) -> None:
            if Path(frame.f_code.co_filename).parent != SOURCE:
                return
            place = (event, frame.f_code, frame.f_lasti)
            places.add(place)
            if place == here:
                sys.setprofile(None)
                press_ctrl_c()

        before = sys.getprofile()
        sys.setprofile(profile)
        try:
            with undisturbed():
                assert run_per_core(main, affinities=affinities) == [5, 5]
        except KeyboardInterrupt:
            return True
        finally:
            sys.setprofile(before)
            assert core_threads() == []
        return False

    affinities = cores(2)
    places: set[Place] = set()
    assert not run_interrupted(None)
    interrupted = [run_interrupted(here) for here in places.copy()]
    # (The last ones come too late, and which message comes last is left to chance.)
    assert sum(interrupted) > 0.8 * len(interrupted) > 20


CTRL_C = """
import os, signal, threading
import trio
from trio_clockrt.affinity import available_affinities, run_per_core

async def main(clock):
    if barrier.wait() == 0:
        print("ready", flush=True)
    try:
        await trio.sleep_forever()
    finally:
        os.write(1, b"stopped\\n")  # in one go

signal.signal(signal.SIGINT, signal.default_int_handler)
barrier = threading.Barrier(4)
run_per_core(main, affinities=available_affinities()[:1] * 4)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sends no SIGINT")
def test_ctrl_c_ends_a_program() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CTRL_C],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate()
    assert output == "stopped\n" * 4
    assert errors.splitlines()[-1] == "KeyboardInterrupt"
    assert process.returncode == -signal.SIGINT


# --- from a Trio task ---


async def in_worker(main: Callable[..., Any], n: int, **options: Any) -> Any:
    fn = partial(run_per_core, main, affinities=cores(n), **options)
    return await trio.to_thread.run_sync(fn)


async def test_results_in_a_task() -> None:
    async def main(clock: Clock) -> int:
        await clock.delay(0.001)
        return 5

    assert await trio.to_thread.run_sync(run_per_core, main) == (
        [5] * len(available_affinities())
    )


async def test_a_worker_that_has_been_pinned(machine: FakeMachine) -> None:
    """As those are that Trio has first started from a pinned thread."""

    async def main(clock: Clock) -> int | None:
        return machine.cpu

    def work() -> list[int | None]:
        available_affinities()[0].pin_current_thread()
        return run_per_core(main)

    assert await trio.to_thread.run_sync(work) == list(range(8))


async def test_failures_in_a_task() -> None:
    async def main(clock: Clock) -> None:
        number = roles.next()
        if number == 0:
            raise ValueError
        await roles.wait_to_be_cancelled(number)

    roles = Roles(2)
    with pytest.raises(ExceptionGroup) as caught:
        await in_worker(main, 2)
    assert [type(error) for error in caught.value.exceptions] == [ValueError]
    assert roles.cancelled == [1]


@pytest.mark.parametrize("n", [1, 2, 8])
async def test_a_task_that_is_cancelled(n: int) -> None:
    async def main(clock: Clock) -> None:
        number = roles.next()
        if number == 0:
            run.run_sync_soon(scope.cancel)
        await roles.wait_to_be_cancelled(number)

    roles = Roles(n)
    run = trio.lowlevel.current_trio_token()
    with trio.CancelScope() as scope:
        await in_worker(main, n)
    assert scope.cancelled_caught
    assert sorted(roles.cancelled) == list(range(n))
    assert core_threads() == []


async def test_failures_while_the_task_is_cancelled() -> None:
    async def main(clock: Clock) -> None:
        number = roles.next()
        if number == 0:
            run.run_sync_soon(scope.cancel)
        try:
            await trio.sleep_forever()
        finally:
            if number == 0:
                raise ValueError

    roles = Roles(2)
    run = trio.lowlevel.current_trio_token()
    with pytest.raises(ExceptionGroup) as caught:
        with trio.CancelScope() as scope:
            await in_worker(main, 2)
    assert [type(error) for error in caught.value.exceptions] == [ValueError]


async def test_a_task_that_has_been_cancelled_before() -> None:
    def late() -> None:
        run.run_sync_soon(scope.cancel)
        run.run_sync_soon(cancelled.set)
        cancelled.wait()
        run_per_core(nothing)

    run = trio.lowlevel.current_trio_token()
    cancelled = threading.Event()
    with trio.CancelScope() as scope:
        await trio.to_thread.run_sync(late)
    assert scope.cancelled_caught


def test_a_task_that_abandons_it() -> None:
    """The runs end with the Trio run around them."""

    async def main(clock: Clock) -> None:
        roles.next()
        try:
            await roles.wait_to_be_cancelled()
        finally:
            roles.ended.append(1)

    async def abandon() -> None:
        fn = partial(run_per_core, main, affinities=cores(2))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                partial(trio.to_thread.run_sync, fn, abandon_on_cancel=True)
            )
            await trio.to_thread.run_sync(roles.next)
            nursery.cancel_scope.cancel()
        assert roles.ended == []

    roles = Roles(3)
    trio.run(abandon)
    assert roles.ended == [1, 1]


def test_virtual_time_stands_still_meanwhile() -> None:
    async def main(clock: Clock) -> bool:
        await clock.delay(0.01)  # in real time
        return type(trio.lowlevel.current_clock()) is ClockControl

    async def virtual() -> None:
        with trio.fail_after(60):
            assert await in_worker(main, 2) == [False] * 2
        assert trio.current_time() == 0
        # As it does for any worker thread that a task waits for.
        await trio.sleep(1)

    trio.run(virtual, clock=ClockControl(autojump_threshold=0))


def test_virtual_time_that_the_runs_wait_for() -> None:
    async def main(clock: Clock) -> float:
        await clock.delay(3600)
        return clock.instant()

    async def virtual() -> None:
        recipe = InactiveClock.from_control(control)
        for instant in await in_worker(main, 2, inactive=recipe):
            assert instant >= 3600

    control = ClockControl(autojump_threshold=0)
    trio.run(virtual, clock=control)


class _Sleep(trio.abc.Instrument):
    """Tells when a run is going to sleep for longer than a moment."""

    def __init__(self) -> None:
        self.begun = threading.Event()

    def before_io_wait(self, timeout: float) -> None:
        if timeout > 0:
            self.begun.set()


def test_a_run_that_is_busy_is_no_deadlock() -> None:
    async def main(clock: Clock, run: trio.lowlevel.TrioToken) -> None:
        # The run that waits for this one has nothing else to do.
        sleep.begun.clear()
        run.run_sync_soon(int)
        sleep.begun.wait()

    async def virtual() -> None:
        recipe = InactiveClock.from_control(control)
        run = trio.lowlevel.current_trio_token()
        await in_worker(partial(main, run=run), 1, inactive=recipe)

    sleep = _Sleep()
    control = ClockControl(detect_deadlocks=True)
    trio.run(virtual, clock=control, instruments=[sleep])


async def test_two_at_once() -> None:
    async def main(clock: Clock) -> int:
        return roles.next()

    results: list[int] = []

    async def run() -> None:
        results.extend(await in_worker(main, 2))

    roles = Roles(4)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        nursery.start_soon(run)
    assert sorted(results) == [0, 1, 2, 3]


def test_one_inside_the_other() -> None:
    async def inner(clock: Clock) -> int:
        return next(numbers)

    async def main(clock: Clock) -> list[int]:
        results: list[int] = await in_worker(inner, 2)
        return results

    numbers = count()
    results = run_per_core(main, affinities=cores(2))
    assert sorted(results[0] + results[1]) == [0, 1, 2, 3]

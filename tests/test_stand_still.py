"""Where virtual time stands still, a person is told, and can end that."""

from __future__ import annotations

import io
import re
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from conftest import RealTimers
from hand_moved_time import HandMovedTime, WhenItWaits

from trio_clockrt.testing import ClockControl
from trio_clockrt.testing._blame import raise_in_program

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup


class RealTime:
    """It moves on with each pass of Trio's loop in which a task can go on."""

    now = 0.0

    def __call__(self) -> float:
        self.now += 0.25
        return self.now


def jumping(**kwargs: Any) -> ClockControl:
    control = ClockControl(autojump_threshold=0, **kwargs)
    control._real_clock = RealTime()
    return control


@contextmanager
def warnings_are_recorded() -> Generator[list[warnings.WarningMessage]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught


def leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in leaves(inner)]
    return [error]


SAID = "trio_clockrt: virtual time has been standing still for "


# --- tasks that go on and on ---


async def spin(until: Callable[[], object]) -> None:
    while not until():  # noqa: ASYNC110
        await trio.sleep(0)  # noqa: ASYNC115


def line_in_spin() -> int:
    return spin.__code__.co_firstlineno + 2


def test_a_task_that_spins(terminal: io.StringIO) -> None:
    def told_twice() -> bool:
        return terminal.getvalue().count(SAID) == 2

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(spin, told_twice, name="busy one")
            await trio.sleep(1)

    control = jumping()
    with warnings_are_recorded() as caught:
        trio.run(main, clock=control)
    assert control.current_time() == 1
    (warning,) = caught
    assert warning.category is RuntimeWarning
    text = str(warning.message)
    where = f"'busy one' at {__file__}:{line_in_spin()}, in spin"
    assert "standing still for a second of real time" in text
    assert f"there is always a task that can go on: {where}. " in text
    assert "filter 'ignore:virtual time has been standing still'" in text
    assert (warning.filename, warning.lineno) == (__file__, line_in_spin())
    first, second = terminal.getvalue().strip().split("\n\n")
    assert first == f"trio_clockrt: {text}"
    # After ten seconds more, or a moment later.
    seconds = re.search("for ([0-9]+) seconds", second)
    assert seconds is not None
    assert 10 < int(seconds[1]) < 30
    assert second == first.replace("a second of", f"{seconds[1]} seconds of")


def run_for(control: ClockControl) -> Any:
    return control.run_for(5)


def wait_beside(control: ClockControl) -> Any:
    return control.to_clock().delay(5)


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("wait", [run_for, wait_beside])
def test_a_task_that_spins_while_time_is_moved_otherwise(
    wait: Callable[[ClockControl], Any], beside: bool, terminal: io.StringIO
) -> None:
    async def main() -> None:
        clock = control.to_clock()
        async with trio.open_nursery() as nursery:
            # Another task sleeps, or else Trio would not have to look at the time.
            nursery.start_soon(spin, terminal.getvalue, name="busy one")
            await wait(control)
        assert clock.instant() == 5

    control = jumping()
    if wait is run_for:
        control.autojump_threshold = float("inf")
    with warnings_are_recorded() as caught:
        trio.run(main, clock=None if beside else control)
    assert "'busy one'" in str(caught[0].message)
    assert len(caught) == 1


def test_a_function_of_trio_s_that_never_waits(terminal: io.StringIO) -> None:
    """There is no line of the user's to be named."""

    source = """async def spin():
        while not said():
            await checkpoint()"""
    # As if it were a part of Trio.
    where = trio.sleep.__code__.co_filename
    names: dict[str, Any] = {
        "said": terminal.getvalue,
        "checkpoint": trio.lowlevel.checkpoint,
    }
    exec(compile(source, where, "exec"), names)
    with warnings_are_recorded() as caught:
        trio.run(names["spin"], clock=jumping())
    assert caught[0].filename == where
    assert "spin' at " in str(caught[0].message)


@pytest.mark.filterwarnings("error")
def test_a_main_task_that_spins_where_warnings_are_errors(
    terminal: io.StringIO,
) -> None:
    """Trio has no way to raise an error there, but people are told."""
    trio.run(spin, lambda: SAID in terminal.getvalue(), clock=jumping())


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("seconds", [0, 1])
def test_a_child_that_spins_where_warnings_are_errors(seconds: float) -> None:
    """The main task sees the error in its nursery, or where it sleeps."""

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(spin, lambda: False)
            await trio.sleep(seconds)

    with pytest.raises(BaseExceptionGroup) as caught:
        trio.run(main, clock=jumping())
    (error,) = leaves(caught.value)
    assert isinstance(error, RuntimeWarning)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("passes", [0, 1])
def test_a_main_task_that_spins_in_a_nursery(passes: int) -> None:
    """Be it open, or just being closed: a nursery further out will do."""

    async def main() -> None:
        for _ in range(passes):
            await trio.lowlevel.checkpoint()
        async with trio.open_nursery():
            while True:
                async with trio.open_nursery():
                    await trio.lowlevel.checkpoint()

    with pytest.raises(BaseExceptionGroup) as caught:
        trio.run(main, clock=jumping())
    (error,) = leaves(caught.value)
    assert isinstance(error, RuntimeWarning)


@pytest.mark.filterwarnings("error")
def test_a_child_that_spins_beside_what_cannot_be_interrupted() -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(spin_and_tell)
            await trio.to_thread.run_sync(told.wait)

    async def spin_and_tell() -> None:
        try:
            await spin(lambda: False)
        finally:
            told.set()

    told = threading.Event()
    with pytest.raises(BaseExceptionGroup) as caught:
        trio.run(main, clock=jumping())
    (error,) = leaves(caught.value)
    assert isinstance(error, RuntimeWarning)


@pytest.mark.filterwarnings("error")
def test_nobody_can_be_told_of_a_task_that_spins(
    terminal: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The main task waits for what cannot be cancelled; so it is tried again."""
    told: list[bool] = []

    def tell(error: BaseException, **kwargs: Any) -> bool:
        told.append(raise_in_program(error, **kwargs))
        return told[-1]

    async def main() -> None:
        trio.lowlevel.spawn_system_task(spin_beside)
        await trio.to_thread.run_sync(enough.wait)

    async def spin_beside() -> None:
        # Not at a checkpoint, where it could be told.
        while len(told) < 3:
            await trio.lowlevel.cancel_shielded_checkpoint()
        enough.set()

    monkeypatch.setattr("trio_clockrt.testing._stand_still.raise_in_program", tell)
    enough = threading.Event()
    trio.run(main, clock=jumping())
    assert told == [False] * 3
    # People are not told each time.
    assert terminal.getvalue().count(SAID) == 1


def move_by_hand(control: ClockControl, n: int) -> None:
    if not n % 4:
        control.jump(0.001)


def never(control: ClockControl, n: int) -> None:
    control.autojump_threshold = float("inf")


@pytest.mark.parametrize("step", [move_by_hand, never])
def test_tasks_that_go_on_as_they_should(
    step: Callable[[ClockControl, int], None], terminal: io.StringIO
) -> None:
    async def main() -> None:
        for n in range(2000):
            step(control, n)
            await trio.lowlevel.checkpoint()

    control = jumping()
    with warnings_are_recorded() as caught:
        trio.run(main, clock=control)
    assert caught == []
    assert terminal.getvalue() == ""


@pytest.mark.parametrize("beside", [False, True])
def test_a_program_that_rests_now_and_then(beside: bool, terminal: io.StringIO) -> None:
    async def main() -> None:
        async def work() -> None:
            for n in range(2000):
                if n % 50:
                    await trio.lowlevel.checkpoint()
                else:
                    # For I/O: a message to this run.
                    event = trio.Event()
                    run.run_sync_soon(event.set)
                    await event.wait()

        run = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work)
            if beside:
                await control.to_clock().delay(1)
            else:
                await trio.sleep(1)

    control = jumping()
    with warnings_are_recorded() as caught:
        trio.run(main, clock=None if beside else control)
    assert caught == []


def test_a_program_under_hold() -> None:
    async def main() -> None:
        with control.hold():
            for _ in range(2000):
                await trio.lowlevel.checkpoint()

    control = jumping()
    trio.run(main, clock=control)


# --- worker threads ---


class Worker:
    """Works until it is told that this is enough."""

    def __init__(self) -> None:
        self.started = threading.Semaphore(0)
        self.enough = threading.Event()
        self.ended = threading.Semaphore(0)
        # Something to be done in the worker thread.
        self.when_started: Callable[[], object] = int

    def __call__(self) -> str:
        self.started.release()
        self.when_started()
        self.enough.wait()
        self.ended.release()
        return "done"


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker()
    yield worker
    worker.enough.set()


def test_a_worker_is_spoken_of_again_and_again(
    worker: Worker, terminal: io.StringIO
) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, worker)
            await trio.sleep(30)

    def pass_time(seconds: float) -> None:
        said.append(terminal.getvalue().count(SAID))
        real.move(seconds)

    said: list[int] = []
    real = HandMovedTime()
    control = jumping()
    control._real_clock = real
    steps = [partial(pass_time, seconds) for seconds in (1, 9, 1, 10, 0)]
    script = WhenItWaits(*steps, worker.enough.set)
    with warnings_are_recorded() as caught:
        trio.run(main, clock=control, instruments=[script])
    assert said == [0, 1, 1, 2, 3]
    assert script.timeouts == [1, 10, 1, 10, 10, 10]
    (warning,) = caught
    assert f"trio_clockrt: {warning.message}\n" in terminal.getvalue()
    assert "standing still for 21 seconds of real time" in terminal.getvalue()


@pytest.mark.parametrize("action", ["always", "error"])
def test_where_time_has_nowhere_to_go(
    action: Any, worker: Worker, terminal: io.StringIO
) -> None:
    """A worker may well do real work then; so it is said, and is no warning."""
    real = HandMovedTime()
    control = jumping()
    control._real_clock = real
    steps = [partial(real.move, seconds) for seconds in (1, 5, 5)]
    script = WhenItWaits(*steps, worker.enough.set)
    main = partial(trio.to_thread.run_sync, worker)
    with warnings_are_recorded() as caught:
        warnings.simplefilter(action)
        trio.run(main, clock=control, instruments=[script])
    assert caught == []
    assert script.timeouts == [1, 10, 5, 10]
    assert terminal.getvalue().count(SAID) == 2
    assert "standing still for a second of real time" in terminal.getvalue()


def test_time_that_has_moved_meanwhile(worker: Worker) -> None:
    """The second begins anew, also if nobody has looked in between."""
    real = HandMovedTime()

    def move() -> None:
        real.move(0.9)
        control.jump(1)

    async def main() -> None:
        with trio.move_on_after(3):
            await trio.to_thread.run_sync(worker)

    control = jumping()
    control._real_clock = real
    script = WhenItWaits(move, move, worker.enough.set)
    trio.run(main, clock=control, instruments=[script])
    assert script.timeouts == [1, 1, 1]


def test_the_second_is_over_just_now(worker: Worker) -> None:
    """It is in one reading of the real time, and was not in the one before."""

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, worker)
            await trio.sleep(30)

    def look() -> None:
        looks.append(control.current_time())

    looks: list[float] = []
    control = jumping()
    script = WhenItWaits(*[look] * 8, worker.enough.set)
    with warnings_are_recorded():
        trio.run(main, clock=control, instruments=[script])
    assert looks == [0] * 8


def wait_for(worker: Worker) -> None:
    """Until people have been told three times."""

    async def main() -> None:
        with trio.move_on_after(3600):
            await trio.to_thread.run_sync(worker)

    real = HandMovedTime()
    control = ClockControl(autojump_threshold=0)
    control._real_clock = real
    steps = [partial(real.move, 10)] * 3
    trio.run(main, clock=control, instruments=[WhenItWaits(*steps, worker.enough.set)])


def test_what_the_filters_of_python_ignore_is_not_said(
    worker: Worker, terminal: io.StringIO
) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "virtual time has been standing still")
        wait_for(worker)
    assert terminal.getvalue() == ""


@pytest.mark.filterwarnings("error")
def test_it_is_said_where_warnings_are_errors(
    worker: Worker, terminal: io.StringIO
) -> None:
    """The error may not be seen before the worker is done, here: for ever."""
    wait_for(worker)
    assert terminal.getvalue().count(SAID) == 3
    for seconds in 10, 20, 30:
        assert terminal.getvalue().count(f"{SAID}{seconds} seconds") == 1


@pytest.mark.parametrize("captured", [False, True])
def test_without_pytest(
    captured: bool, worker: Worker, terminal: io.StringIO, monkeypatch: Any
) -> None:
    """What Python has shown on the terminal is not said once more."""

    def show(*args: Any) -> None:
        print(warnings.formatwarning(*args[:4]), file=sys.stderr)

    monkeypatch.setattr("_trio_clockrt_pytest_plugin.real_stderr", None)
    monkeypatch.setattr(sys, "__stderr__", terminal)
    monkeypatch.setattr(sys, "stderr", io.StringIO() if captured else terminal)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", show)
        wait_for(worker)
    text = terminal.getvalue()
    assert text.count("standing still for 10 seconds") == 1
    assert text.count("RuntimeWarning: virtual time") == (not captured)
    assert text.count(SAID) == 2 + captured


@pytest.mark.parametrize("closed", [False, True])
def test_where_there_is_no_terminal(
    closed: bool, worker: Worker, terminal: io.StringIO, monkeypatch: Any
) -> None:
    terminal.close()
    if not closed:
        monkeypatch.setattr("_trio_clockrt_pytest_plugin.real_stderr", None)
        monkeypatch.setattr(sys, "__stderr__", None)
    with warnings_are_recorded() as caught:
        wait_for(worker)
    assert len(caught) == 1


# --- an end to that ---


def press_ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


def wait_here(control: ClockControl, worker: Worker) -> Any:
    return trio.to_thread.run_sync(worker)


async def wait_in_a_child(control: ClockControl, worker: Worker) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, worker)


async def wait_under_a_shield(control: ClockControl, worker: Worker) -> None:
    """It is reached by the cancellation later than the others."""

    async def wait() -> None:
        with scope:
            await trio.to_thread.run_sync(worker)

    scope = trio.CancelScope(shield=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        try:
            await trio.sleep_forever()
        finally:
            scope.shield = False


@pytest.mark.parametrize("by_hand", [False, True])
@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("wait", [wait_here, wait_in_a_child, wait_under_a_shield])
def test_one_ctrl_c_ends_it(
    wait: Any,
    beside: bool,
    by_hand: bool,
    worker: Worker,
    ctrl_c: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        clock = control.to_clock()
        async with trio.open_nursery() as nursery:
            if by_hand:
                nursery.start_soon(control.run_for, 60)
            else:
                nursery.start_soon(clock.delay if beside else trio.sleep, 60)
            await trio.to_thread.run_sync(other.acquire)
            with trio.fail_after(60):
                await wait(control, worker)

    other = threading.Semaphore()
    control = ClockControl() if by_hand else ClockControl(autojump_threshold=0)
    # If this test fails, pytest is to go on.
    monkeypatch.setattr("trio_clockrt.testing._stand_still.note_ctrl_c", int)
    script = WhenItStandsStill(worker, press_ctrl_c)
    with pytest.raises(BaseException) as caught:  # noqa: PT011
        trio.run(main, clock=None if beside else control, instruments=[script])
    assert [type(leaf) for leaf in leaves(caught.value)] == [KeyboardInterrupt]
    assert not worker.enough.is_set()


class WhenItStandsStill(trio.abc.Instrument):
    """Takes a step once the run waits for a worker, and nothing else goes on."""

    def __init__(self, worker: Worker, step: Callable[[], object]) -> None:
        self.step: Callable[[], object] | None = step
        self.started = False
        worker.when_started = self.begin

    def before_run(self) -> None:
        self.token = trio.lowlevel.current_trio_token()

    def begin(self) -> None:
        self.started = True
        self.token.run_sync_soon(int)

    def before_io_wait(self, timeout: float) -> None:
        if self.started and timeout and self.step is not None:
            self.step()
            self.step = None
            self.token.run_sync_soon(int)


def test_ctrl_c_while_time_does_not_stand_still(worker: Worker, ctrl_c: None) -> None:
    """As always in Trio: the worker is waited for."""

    async def main() -> None:
        await trio.to_thread.run_sync(worker)
        ended.append(trio.current_time())

    def press() -> None:
        press_ctrl_c()
        trio.lowlevel.current_trio_token().run_sync_soon(
            trio.lowlevel.current_trio_token().run_sync_soon, worker.enough.set
        )

    ended: list[float] = []
    script = WhenItStandsStill(worker, press)
    clock = ClockControl(autojump_threshold=0, ignore_threads=True)
    with pytest.raises(KeyboardInterrupt):
        trio.run(main, clock=clock, instruments=[script])
    assert ended == [0.0]


def test_a_cancelled_task_waits_for_its_worker(worker: Worker) -> None:
    """As always in Trio, also if time stands still for that."""

    async def main() -> None:
        with scope, trio.fail_after(60):
            assert await trio.to_thread.run_sync(worker) == "done"
        assert scope.cancel_called

    scope = trio.CancelScope()
    script = WhenItWaits(
        worker.started.acquire, scope.cancel, int, int, worker.enough.set
    )
    trio.run(main, clock=ClockControl(autojump_threshold=0), instruments=[script])


@pytest.mark.parametrize("child", [False, True])
def test_fail_after_real_ends_it(
    child: bool, worker: Worker, real_timers: RealTimers
) -> None:
    async def wait_outside() -> None:
        await trio.to_thread.run_sync(outside)
        ended.append("outside")

    async def main() -> None:
        async with trio.open_nursery() as around:
            around.start_soon(wait_outside)
            await trio.to_thread.run_sync(outside.started.acquire)
            around.cancel_scope.cancel()
            # Only in the block a task does not wait for its worker.
            with trio.CancelScope(shield=True):
                with pytest.raises(trio.TooSlowError, match="real seconds"):
                    with control.fail_after_real(0.01):
                        wait = wait_in_a_child if child else wait_here
                        await wait(control, worker)
                await trio.to_thread.run_sync(int)
            ended.append("block")
            outside.enough.set()

    outside = Worker()
    worker.when_started = real_timers.are_up
    ended: list[str] = []
    control = ClockControl(autojump_threshold=0)
    trio.run(main, clock=control)
    assert not worker.enough.is_set()
    assert ended == ["block", "outside"]


async def wait_shielded(control: ClockControl, worker: Worker) -> None:
    with trio.CancelScope(shield=True):
        await trio.to_thread.run_sync(worker)


async def wait_in_a_shielded_child(control: ClockControl, worker: Worker) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_shielded, control, worker)


async def wait_for_a_child_in_a_shield(control: ClockControl, worker: Worker) -> None:
    with trio.CancelScope(shield=True):
        await wait_in_a_child(control, worker)


SHIELDED = [wait_shielded, wait_in_a_shielded_child, wait_for_a_child_in_a_shield]


@pytest.mark.parametrize("wait", SHIELDED)
def test_fail_after_real_ends_it_under_a_shield(
    wait: Any, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        with control.fail_after_real(0.01):
            await wait(control, worker)

    monkeypatch.setattr("trio_clockrt.testing._worker_threads.SHIELDED", 0.01)
    control = ClockControl(autojump_threshold=0)
    with pytest.raises(trio.TooSlowError, match="real seconds"):
        trio.run(main, clock=control)
    assert not worker.enough.is_set()


def test_a_block_that_ends_when_it_is_to_be_looked_at_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        with pytest.raises(trio.TooSlowError), control.fail_after_real(0.01):
            try:
                await trio.sleep_forever()
            finally:
                # Nothing reads messages meanwhile.
                while not trio.lowlevel.current_statistics().run_sync_soon_queue_size:
                    pass
        # What has been sent is read, and no more comes.
        await trio.testing.wait_all_tasks_blocked()
        for thread in threading.enumerate():
            if isinstance(thread, threading.Timer):
                thread.join()

    monkeypatch.setattr("trio_clockrt.testing._worker_threads.SHIELDED", 0)
    control = ClockControl()
    trio.run(main, clock=control)


def test_a_shielded_worker_has_some_time_to_come_back(worker: Worker) -> None:
    """As what cleans up waits like that."""

    async def main() -> None:
        with control.fail_after_real(0.01) as scope:
            try:
                await trio.sleep_forever()
            finally:
                assert scope.cancel_called
                worker.when_started = worker.enough.set
                with trio.CancelScope(shield=True):
                    results.append(await trio.to_thread.run_sync(worker))

    results: list[str] = []
    control = ClockControl()
    with pytest.raises(trio.TooSlowError):
        trio.run(main, clock=control)
    assert results == ["done"]


@pytest.mark.parametrize("wait", SHIELDED)
def test_one_ctrl_c_ends_it_under_a_shield(
    wait: Any, worker: Worker, ctrl_c: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait, control, worker)
            await trio.sleep(60)

    monkeypatch.setattr("trio_clockrt.testing._worker_threads.SHIELDED", 0.01)
    control = ClockControl(autojump_threshold=0)
    script = WhenItStandsStill(worker, press_ctrl_c)
    with pytest.raises(BaseException) as caught:  # noqa: PT011
        trio.run(main, clock=control, instruments=[script])
    assert {type(leaf) for leaf in leaves(caught.value)} == {KeyboardInterrupt}
    assert not worker.enough.is_set()


async def test_fail_after_real_whose_time_is_up_just_after_the_block() -> None:
    control = ClockControl()
    before = set(threading.enumerate())
    with control.fail_after_real(0) as scope:
        (timer,) = set(threading.enumerate()) - before or {threading.current_thread()}
        if timer is not threading.current_thread():
            timer.join()
    await trio.testing.wait_all_tasks_blocked()
    assert not scope.cancel_called


# --- workers that have been left behind ---


def test_a_worker_left_behind_may_still_ask_trio(
    worker: Worker, real_timers: RealTimers
) -> None:
    async def answer() -> str:
        await trio.lowlevel.checkpoint()
        return "yes"

    def work() -> None:
        worker()
        answers.append(trio.from_thread.run(answer))
        answers.append(trio.from_thread.run_sync(str, "of course"))
        with pytest.raises(trio.Cancelled):
            trio.from_thread.check_cancelled()
        answered.release()

    async def main() -> None:
        with pytest.raises(trio.TooSlowError):
            with control.fail_after_real(0.01):
                await trio.to_thread.run_sync(work)
        worker.enough.set()
        await trio.to_thread.run_sync(answered.acquire)
        # What it returns is dropped, and its token is back.
        limiter = trio.to_thread.current_default_thread_limiter()
        while limiter.borrowed_tokens:
            await trio.lowlevel.checkpoint()

    worker.when_started = real_timers.are_up
    answers: list[str] = []
    answered = threading.Semaphore(0)
    control = ClockControl(autojump_threshold=0)
    trio.run(main, clock=control)
    assert answers == ["yes", "of course"]


def test_a_worker_that_comes_back_just_now(real_timers: RealTimers) -> None:
    """Either it is left behind, or it is not; both are fine."""
    left_behind = set[bool]()
    for seed in range(1000):
        worker = Worker()
        worker.when_started = real_timers.are_up
        left_behind.add(comes_back(worker, seed))
        if len(left_behind) == 2:
            return
    raise AssertionError(f"each time the same: {left_behind}")


def comes_back(worker: Worker, seed: int) -> bool:
    def come_back() -> None:
        worker.enough.set()
        while not trio.lowlevel.current_statistics().run_sync_soon_queue_size:
            worker.ended.acquire(timeout=0.001)

    class ComesBack(trio.abc.Instrument):
        armed = False

        def before_io_wait(self, timeout: float) -> None:
            # Trio calls this after it has been decided to leave the worker behind.
            if self.armed and not worker.enough.is_set():
                come_back()

    async def main() -> None:
        script = ComesBack()
        with control.fail_after_real(0.01) as scope:
            watch = WatchForCancel(scope, script)
            trio.lowlevel.add_instrument(watch)
            results.append(await trio.to_thread.run_sync(worker))

    class WatchForCancel(trio.abc.Instrument):
        """It adds the other one when that is the last."""

        def __init__(self, scope: trio.CancelScope, script: ComesBack) -> None:
            self.scope, self.script = scope, script

        def after_task_step(self, task: trio.lowlevel.Task) -> None:
            if self.scope.cancel_called and not self.script.armed:
                self.script.armed = True
                trio.lowlevel.add_instrument(self.script)

    results: list[str] = []
    control = ClockControl(autojump_threshold=0, seed=seed)
    try:
        trio.run(main, clock=control)
    except trio.TooSlowError:
        return False
    return results == ["done"]


# --- in a process of its own, as a person sees it ---

PROGRAM = """
import threading
import pytest
import trio
from trio_clockrt import InactiveClock, open_clock
from trio_clockrt.testing import ClockControl

async def wait_for_a_timer():
    event = threading.Event()
    async with open_clock() as clock, clock.open_timers() as timers:
        timers.call_later(5, event.set)
        await trio.to_thread.run_sync(event.wait)

async def wait_for_threads():
    async with InactiveClock.new_shared().activate() as (clock, _):
        def delay():
            with pytest.raises(Exception):
                clock.delay_blocking(60)
        threads = [threading.Thread(target=delay) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            await trio.to_thread.run_sync(thread.join)

@pytest.fixture
def anyio_backend():
    return "trio"

@pytest.mark.trio
@pytest.mark.virtual_time
@pytest.mark.parametrize("wait", [wait_for_a_timer, wait_for_threads])
async def test_pytest_trio(wait):
    await wait()

@pytest.mark.anyio
@pytest.mark.virtual_time
async def test_anyio():
    await wait_for_a_timer()

def test_neither():
    trio.run(wait_for_a_timer, clock=ClockControl(autojump_threshold=0))

def test_another():
    raise AssertionError("it goes on")
"""

TESTS = [
    "test_pytest_trio[wait_for_a_timer]",
    "test_pytest_trio[wait_for_threads]",
    "test_anyio",
    "test_neither",
]


@pytest.mark.skipif(sys.platform == "win32", reason="no signal can be sent to it")
@pytest.mark.parametrize("name", TESTS)
def test_a_person_sees_it_and_presses_ctrl_c(name: str, tmp_path: Path) -> None:
    file = tmp_path / "test_it.py"
    file.write_text(PROGRAM)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
    command += ["-p", "trio_clockrt.pytest_plugin"]
    command += [f"{file}::{name}", f"{file}::test_another"]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Ctrl-C works as Python has it, also where the one who runs this ignores it.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.default_int_handler),
    ) as process:
        give_up = threading.Timer(60, process.kill)
        give_up.start()
        assert process.stderr is not None
        assert any(line.startswith(SAID) for line in process.stderr)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate()
        give_up.cancel()
    assert process.returncode == pytest.ExitCode.INTERRUPTED
    assert "! KeyboardInterrupt !" in output
    assert "it goes on" not in output

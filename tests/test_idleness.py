"""When a run has nothing to do: sockets, processes, and worker threads."""

from __future__ import annotations

import socket
import threading
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import trio
from hand_moved_time import HandMovedTime, WhenItWaits
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_clockrt.testing import ClockControl


def jumping(**kwargs: Any) -> ClockControl:
    return ClockControl(autojump_threshold=0, **kwargs)


@pytest.fixture
def real() -> HandMovedTime:
    return HandMovedTime()


beside = pytest.mark.parametrize("beside", [False, True])


def run(control: ClockControl, main: Callable[[], Any], *, beside: bool) -> None:
    """Run it with this clock, or with Trio's own and a clock of the control."""
    trio.run(main, clock=None if beside else control)


async def sleep(control: ClockControl, seconds: float, *, beside: bool) -> None:
    if beside:
        await control.to_clock().delay(seconds)
    else:
        await trio.sleep(seconds)


# --- I/O ---


@contextmanager
def sockets() -> Generator[tuple[trio.SocketStream, socket.socket]]:
    near, far = socket.socketpair()
    with far:
        yield trio.SocketStream(trio.socket.from_stdlib_socket(near)), far


class Answer(trio.abc.Instrument):
    """Somebody out of sight, who answers when the run waits for I/O some more."""

    def __init__(self, far: socket.socket, patience: int) -> None:
        self.far = far
        self.patience = patience

    def before_io_wait(self, timeout: float) -> None:
        self.patience -= 1
        if not self.patience:
            self.far.send(b"x")


@beside
def test_io_grace(beside: bool) -> None:
    async def main() -> None:
        async def time_out() -> None:
            await sleep(control, 30, beside=beside)
            raise AssertionError

        with sockets() as (stream, far):
            async with stream, trio.open_nursery() as nursery:
                nursery.start_soon(time_out)
                thread = threading.Thread(target=answer, args=[far])
                thread.start()
                assert await stream.receive_some(1) == b"x"
                assert control.current_time() == 0
                thread.join()
                nursery.cancel_scope.cancel()

    def answer(far: socket.socket) -> None:
        far.sendall(b"x")

    control = jumping(io_grace=60)
    run(control, main, beside=beside)


def test_the_grace_begins_anew_after_each_wait() -> None:
    """It is about real time, which has not passed here."""

    async def main() -> None:
        with sockets() as (stream, far):
            async with stream:
                trio.lowlevel.add_instrument(Answer(far, 2))
                token = trio.lowlevel.current_trio_token()
                thread = threading.Thread(target=token.run_sync_soon, args=[int])
                with trio.fail_after(30):
                    thread.start()
                    assert await stream.receive_some(1) == b"x"
                thread.join()

    trio.run(main, clock=jumping(io_grace=60))


@beside
def test_time_jumps_after_the_grace(beside: bool) -> None:
    async def main() -> None:
        async def wait(stream: trio.SocketStream) -> None:
            await stream.receive_some(1)

        with sockets() as (stream, _):
            async with stream, trio.open_nursery() as nursery:
                nursery.start_soon(wait, stream)
                await sleep(control, 30, beside=beside)
                assert control.current_time() == 30
                nursery.cancel_scope.cancel()

    control = jumping(io_grace=0.001)
    run(control, main, beside=beside)


@beside
def test_no_grace_where_nobody_waits_for_io(beside: bool) -> None:
    async def main() -> None:
        with sockets() as (stream, _):
            async with stream:
                await sleep(control, 30, beside=beside)

    control = jumping(io_grace=10_000)
    run(control, main, beside=beside)
    assert control.current_time() == 30


def test_a_grace_longer_than_what_is_waited_for() -> None:
    async def main() -> None:
        with sockets() as (stream, _):
            async with stream:
                with trio.move_on_after(1) as scope:
                    await stream.receive_some(1)
                assert scope.cancelled_caught

    trio.run(main, clock=jumping(io_grace=10_000, rate=1000))


def test_another_process() -> None:
    async def main() -> None:
        with trio.fail_after(30):
            await trio.run_process(["true"])
        assert control.current_time() == 0

    control = jumping(io_grace=60)
    trio.run(main, clock=control)


# --- worker threads that take long ---


class Worker:
    """Works until it is told that this is enough."""

    def __init__(self) -> None:
        self.started = threading.Semaphore(0)
        self.enough = threading.Event()

    def __call__(self) -> None:
        self.started.release()
        self.enough.wait()


@contextmanager
def nothing_else_is_said() -> Generator[list[warnings.WarningMessage]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught


def test_a_warning_after_a_second(real: HandMovedTime) -> None:
    async def work() -> None:
        await trio.to_thread.run_sync(worker)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work, name="slow one")
            await trio.sleep(30)
        assert control.current_time() == 30

    def pass_time(seconds: float) -> None:
        told.append(len(caught))
        real.now += seconds

    worker = Worker()
    control = jumping()
    control._real_clock = real
    told: list[int] = []
    script = WhenItWaits(
        lambda: pass_time(0.75),
        lambda: pass_time(0.25),
        lambda: pass_time(100),
        lambda: pass_time(100),
        worker.enough.set,
    )
    with nothing_else_is_said() as caught:
        trio.run(main, clock=control, instruments=[script])
    # It looks again when the second is over, and says it once.
    assert script.timeouts[:2] == [1, 0.25]
    assert told == [0, 0, 1, 1]
    (warning,) = caught
    assert warning.category is RuntimeWarning
    assert "a second of real time" in str(warning.message)
    assert "'slow one'" in str(warning.message)
    assert "Worker object" in str(warning.message)
    assert "If it is just working, all is well" in str(warning.message)
    assert "ClockControl(ignore_threads=True)" in str(warning.message)
    assert warning.filename == __file__
    line = work.__code__.co_firstlineno + 1
    assert warning.lineno == line


def test_a_warning_while_run_for_waits(real: HandMovedTime) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for worker in workers:
                nursery.start_soon(trio.to_thread.run_sync, worker)
            await control.run_for(5)
        assert control.current_time() == 5

    def pass_time(seconds: float) -> None:
        told.append(len(caught))
        assert control.current_time() == 0
        real.now += seconds

    def let_go() -> None:
        for worker in workers:
            worker.enough.set()

    workers = Worker(), Worker()
    control = ClockControl()
    control._real_clock = real
    told: list[int] = []
    script = WhenItWaits(*[partial(pass_time, 0.5)] * 5, let_go)
    with nothing_else_is_said() as caught:
        trio.run(main, clock=control, instruments=[script])
    assert [warning.category for warning in caught] == [RuntimeWarning] * 2
    assert told == [0, 0, 2, 2, 2]


@pytest.mark.parametrize("by_hand", [False, True])
def test_a_warning_beside_the_clock_of_the_run(
    by_hand: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work() -> None:
        while not caught:
            event.wait(0.001)

    async def main() -> None:
        clock = control.to_clock()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, work)
            if by_hand:
                await control.run_for(5)
            else:
                await clock.delay(5)
        assert clock.instant() == 5

    monkeypatch.setattr("trio_clockrt.testing._idleness._UNNOTICED", 0.01)
    event = threading.Event()
    control = ClockControl() if by_hand else jumping()
    with nothing_else_is_said() as caught:
        trio.run(main)
    assert len(caught) == 1


def test_the_second_begins_with_each_worker(real: HandMovedTime) -> None:
    async def main() -> None:
        for _ in range(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(control.run_for, 1)
                worker = Worker()
                nursery.start_soon(trio.to_thread.run_sync, worker)
                await trio.to_thread.run_sync(worker.started.acquire)
                await wait_all_tasks_blocked()
                real.now += 0.9
                worker.enough.set()
        assert control.current_time() == 5

    control = ClockControl()
    control._real_clock = real
    with nothing_else_is_said() as caught:
        trio.run(main, clock=control)
    assert caught == []


def test_each_run_has_a_second_of_its_own(real: HandMovedTime) -> None:
    async def slow() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, worker)
            await control.to_clock().delay(5)

    async def other() -> None:
        with scope:
            await control.to_clock().delay(5)

    def run_another() -> None:
        script = WhenItWaits(scope.cancel)
        run = partial(trio.run, other, instruments=[script])
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        assert script.steps == []
        real.now += 1

    worker = Worker()
    scope = trio.CancelScope()
    control = jumping()
    control._real_clock = real
    script = WhenItWaits(run_another, worker.enough.set)
    with nothing_else_is_said() as caught:
        trio.run(slow, instruments=[script])
    (warning,) = caught
    assert "Worker object" in str(warning.message)


def test_no_warning_where_threads_are_ignored(real: HandMovedTime) -> None:
    async def main() -> None:
        worker = Worker()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, worker)
            await trio.to_thread.run_sync(worker.started.acquire)
            real.now += 10
            await trio.sleep(30)
            worker.enough.set()

    control = jumping(ignore_threads=True)
    control._real_clock = real
    with nothing_else_is_said() as caught:
        trio.run(main, clock=control)
    assert caught == []


def test_another_function_that_waits_like_a_worker() -> None:
    """A task that waits for a thread otherwise is idle."""

    async def main() -> None:
        worker = Worker()
        thread = threading.Thread(target=worker)
        thread.start()
        await trio.to_thread.run_sync(lambda: None)
        await trio.sleep(5)
        worker.enough.set()
        thread.join()

    control = jumping()
    trio.run(main, clock=control)
    assert control.current_time() == 5


def test_cancelled_while_a_worker_is_busy() -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, worker)
            await trio.to_thread.run_sync(worker.started.acquire)
            # (A MockClock does not wait for the worker.)
            with trio.move_on_after(5) as scope:
                await control.run_for(1)
            assert scope.cancelled_caught
            assert trio.current_time() == 5
            worker.enough.set()
        assert clock.instant() == 0
        await control.run_for(1)
        assert clock.instant() == 1

    worker = Worker()
    control = ClockControl()
    clock = control.to_clock()
    trio.run(main, clock=MockClock(autojump_threshold=0))

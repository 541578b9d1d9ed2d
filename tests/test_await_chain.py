"""Whatever a task waits through, a control sees what it waits for."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
from contextlib import closing, contextmanager
from typing import Any

import pytest
import trio

from trio_clockrt.testing import ClockControl

Wait = Callable[[], Coroutine[Any, Any, object]]


class Awaits:
    """An awaitable that hands on to a coroutine."""

    def __init__(self, wait: Wait) -> None:
        self.wait = wait

    def __await__(self) -> Generator[Any, Any, object]:
        return self.wait().__await__()


async def within(outer: Callable[[Wait], Awaitable[object]], wait: Wait) -> object:
    return await outer(wait)


class Iterates:
    """An iterator whose next item is a coroutine."""

    def __init__(self, wait: Wait) -> None:
        self.wait = wait

    def __aiter__(self) -> Iterates:
        return self

    async def __anext__(self) -> object:
        return await self.wait()


async def generate(wait: Wait) -> AsyncGenerator[object, object]:
    try:
        yield None
    finally:
        await wait()


async def nothing() -> None: ...


@contextmanager
def not_awaited() -> Generator[Coroutine[Any, Any, object]]:
    with closing(nothing()) as coroutine:
        yield coroutine


async def with_default(iterator: Any) -> None:
    with not_awaited() as default:
        await anext(iterator, default)


async def next_of_generator(wait: Wait) -> None:
    generator = generate(wait)
    await anext(generator)
    await with_default(generator)


async def loop(wait: Wait) -> None:
    async for _ in generate(wait):
        pass


async def send(wait: Wait) -> None:
    generator = generate(wait)
    await generator.asend(None)
    with not_awaited() as sent, pytest.raises(StopAsyncIteration):
        await generator.asend(sent)


async def close(wait: Wait) -> None:
    generator = generate(wait)
    await generator.asend(None)
    await generator.aclose()


ways = pytest.mark.parametrize(
    "way",
    [
        pytest.param(lambda wait: wait(), id="a coroutine"),
        pytest.param(Awaits, id="an awaitable"),
        pytest.param(
            lambda wait: Awaits(lambda: within(Awaits, wait)), id="two awaitables"
        ),
        pytest.param(lambda wait: anext(Iterates(wait)), id="an iterator"),
        pytest.param(lambda wait: with_default(Iterates(wait)), id="anext"),
        pytest.param(next_of_generator, id="anext of a generator"),
        pytest.param(loop, id="a generator"),
        pytest.param(send, id="asend"),
        pytest.param(close, id="aclose"),
    ],
)
Way = Callable[[Wait], Awaitable[object]]


class WhenItWaits(trio.abc.Instrument):
    """Lets a worker go when the run waits in real time, as nothing else will end it."""

    def __init__(self, worker: threading.Event) -> None:
        self.worker = worker

    def before_io_wait(self, timeout: float) -> None:
        if timeout:
            self.worker.set()


@ways
def test_a_busy_worker_thread(way: Way) -> None:
    async def work() -> None:
        await trio.to_thread.run_sync(enough.wait, abandon_on_cancel=True)

    async def main() -> None:
        with trio.fail_after(1):
            await way(work)
        assert trio.current_time() == 0

    enough = threading.Event()
    control = ClockControl(autojump_threshold=0)
    try:
        trio.run(main, clock=control, instruments=[WhenItWaits(enough)])
    finally:
        enough.set()


@ways
def test_a_report(way: Way) -> None:
    async def wait_for_godot() -> None:
        await trio.sleep_forever()

    async def main() -> None:
        with pytest.raises(RuntimeError, match="deadlock") as caught:
            await way(wait_for_godot)
        assert f"waits at {__file__}:{line}, in wait_for_godot" in str(caught.value)

    line = wait_for_godot.__code__.co_firstlineno + 1
    trio.run(main, clock=ClockControl(detect_deadlocks=True))


class AnswersEverything:
    """An iterator of somebody else's: nobody can tell what it waits for."""

    def __init__(self, wait: Wait) -> None:
        self.inside = wait().__await__()
        self.send = self.inside.send
        self.throw = self.inside.throw

    def __await__(self) -> Any:
        return self

    def __iter__(self) -> Any:
        raise AssertionError

    def __next__(self) -> object:
        return next(self.inside)

    def __getattr__(self, name: str) -> object:
        return self


def test_what_nobody_can_look_behind() -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match=", in main"):
            await AnswersEverything(trio.sleep_forever)

    trio.run(main, clock=ClockControl(detect_deadlocks=True))

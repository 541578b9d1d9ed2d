"""Time does not jump while something real is under way: sockets, threads, processes.

It is some tens of times in the suite, and a thousand for `make soak`.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trio_clockrt.testing import ClockControl

RUNS = int(os.environ.get("SOAK_JUMPS", "30"))
# Each starts a process.
PROCESS_RUNS = RUNS // 5

MOCK = partial(MockClock, autojump_threshold=0)
CONTROL = partial(ClockControl, autojump_threshold=0)


def false_jumps(
    program: Callable[[], Awaitable[object]],
    clock: Callable[[], trio.abc.Clock],
    runs: int = RUNS,
    timeout: float = 1,
) -> int:
    """How many of these runs a jump of time has disturbed."""

    async def main() -> bool:
        try:
            with trio.fail_after(timeout):
                await program()
        except trio.TooSlowError:
            return True
        return trio.current_time() != start

    jumps = 0
    for _ in range(runs):
        its_clock = clock()
        start = its_clock.current_time()
        jumps += trio.run(main, clock=its_clock)
    return jumps


async def echo(stream: trio.abc.Stream) -> None:
    async for data in stream:
        await stream.send_all(data)


async def talk(stream: trio.abc.Stream) -> None:
    for n in range(10):
        data = bytes(n + 1)
        await stream.send_all(data)
        while data:
            data = data[len(await stream.receive_some(len(data))) :]
    await stream.aclose()


async def over_a_socketpair() -> None:
    here, there = map(trio.socket.from_stdlib_socket, socket.socketpair())
    with here, there:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(echo, trio.SocketStream(there))
            await talk(trio.SocketStream(here))


async def over_tcp() -> None:
    async with trio.open_nursery() as nursery:
        listeners: Any = await nursery.start(
            partial(trio.serve_tcp, echo, 0, host="127.0.0.1")
        )
        address = listeners[0].socket.getsockname()
        await talk(await trio.open_tcp_stream(*address))
        nursery.cancel_scope.cancel()


async def in_a_thread() -> None:
    await trio.to_thread.run_sync(time.sleep, 0.05)


async def in_a_process() -> None:
    await trio.run_process(["true"])


@pytest.mark.parametrize("program", [over_a_socketpair, over_tcp])
def test_sockets(program: Callable[[], Awaitable[object]]) -> None:
    assert false_jumps(program, CONTROL) <= false_jumps(program, MOCK)


def test_sockets_with_a_grace() -> None:
    clock = partial(CONTROL, io_grace=10)
    assert false_jumps(over_tcp, clock) == 0


def test_a_worker_thread_that_really_sleeps() -> None:
    assert false_jumps(in_a_thread, CONTROL, RUNS // 5) == 0


def test_a_worker_thread_that_waits_for_trio() -> None:
    async def main() -> None:
        await trio.to_thread.run_sync(trio.from_thread.run, trio.sleep, 3600)
        assert trio.current_time() == 3600

    for _ in range(RUNS):
        trio.run(main, clock=CONTROL())


def test_a_process() -> None:
    clock = partial(CONTROL, io_grace=10)
    assert false_jumps(in_a_process, clock, PROCESS_RUNS, timeout=30) == 0

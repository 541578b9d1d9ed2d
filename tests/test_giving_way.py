"""A run that jumps all the time lets other threads have a turn."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

import pytest
import trio

from trio_clockrt.testing import ClockControl

ROUND_TRIPS = 300
# A run that gives way needs some thousands. One that does not makes more than this
# before the other threads have had so many turns.
FAR_MORE_JUMPS = 50_000


def jumps(control: ClockControl) -> tuple[Callable[[float], Any], Any]:
    return trio.sleep, control


def jumps_beside(control: ClockControl) -> tuple[Callable[[float], Any], Any]:
    async def sleep(seconds: float) -> None:
        await control.to_clock().delay(seconds)

    return sleep, None


def is_moved(control: ClockControl) -> tuple[Callable[[float], Any], Any]:
    return control.run_for, control


ways = pytest.mark.parametrize("way", [jumps, jumps_beside, is_moved])


@ways
def test_other_threads_go_on_beside_a_heartbeat(way: Any) -> None:
    async def heartbeat() -> int:
        for thread in threads:
            thread.start()
        for beats in range(FAR_MORE_JUMPS):
            if beats == 100:
                begin.set()
            if done.is_set():
                return beats
            await sleep(0.1)
        return FAR_MORE_JUMPS

    def echo() -> None:
        for _ in range(ROUND_TRIPS):
            there.get()
            back.put(1)

    def call() -> None:
        begin.wait()
        for _ in range(ROUND_TRIPS):
            there.put(1)
            back.get()
        done.set()

    there: queue.SimpleQueue[int] = queue.SimpleQueue()
    back: queue.SimpleQueue[int] = queue.SimpleQueue()
    begin, done = threading.Event(), threading.Event()
    threads = [threading.Thread(target=target) for target in (echo, call)]
    control = ClockControl(autojump_threshold=0)
    sleep, clock = way(control)
    # (Whether they would starve otherwise depends on what else the machine does.)
    beats = trio.run(heartbeat, clock=clock)
    for thread in threads:
        thread.join()
    assert beats < FAR_MORE_JUMPS


@ways
@pytest.mark.parametrize("others", [0, 1])
def test_it_sleeps_now_and_then_where_there_are_other_threads(
    way: Any, others: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def heartbeat() -> None:
        for _ in range(100):
            await sleep(0.1)
        real.clear()
        real.append(0.0)
        slept.clear()
        for beat in range(100):
            real.append(beat / 10_000)
            await sleep(0.1)

    real = [0.0]
    slept: list[float] = []
    module = "trio_clockrt.testing._giving_way"
    monkeypatch.setattr(f"{module}.GivingWay._now", lambda _: real[-1])
    monkeypatch.setattr(f"{module}.GivingWay._sleep", lambda _, s: slept.append(s))
    monkeypatch.setattr(f"{module}.count_of_other_threads", lambda: others)
    if others:
        # A real one, as time only jumps unseen where there is none.
        thread = threading.Thread(target=(done := threading.Event()).wait)
        thread.start()
    control = ClockControl(autojump_threshold=0)
    sleep, clock = way(control)
    trio.run(heartbeat, clock=clock)
    if others:
        done.set()
        thread.join()
        # Not each time, as that would take longer than all the rest.
        assert 20 < len(slept) < 60
        assert set(slept) == {0}
    else:
        assert slept == []

"""A run that jumps all the time lets other threads have a turn."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from contextlib import suppress
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


# Without Trio, each a function that calls another at each move.
Beat = Callable[[], None]


class Enough(BaseException):
    pass


def advances(beat: Beat) -> None:
    control = ClockControl()
    while True:
        control.advance(0.1)
        beat()


def jumps_alone(beat: Beat) -> None:
    control = ClockControl()
    while True:
        control.jump(0.1)
        beat()


def reads(beat: Beat) -> None:
    clock = ClockControl(auto_advance=0.1).to_clock()
    while True:
        clock.instant()
        beat()


def advances_far(beat: Beat) -> None:
    control = ClockControl()
    with control.to_clock().timer_group() as timers:
        timers.call_every(0.1, beat)
        control.advance(1e6)


moves = pytest.mark.parametrize("move", [advances, jumps_alone, reads, advances_far])


class RoundTrips:
    """Of two other threads."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self._begin = threading.Event()
        self._there: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._back: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._beats = 0
        self._threads = [
            threading.Thread(target=target) for target in (self._echo, self._call)
        ]
        for thread in self._threads:
            thread.start()

    def beat(self) -> None:
        if self._beats == 100:
            self._begin.set()
        if self.done.is_set() or self._beats == FAR_MORE_JUMPS:
            raise Enough
        self._beats += 1

    def end(self) -> int:
        for thread in self._threads:
            thread.join()
        return self._beats

    def _echo(self) -> None:
        for _ in range(ROUND_TRIPS):
            self._there.get()
            self._back.put(1)

    def _call(self) -> None:
        self._begin.wait()
        for _ in range(ROUND_TRIPS):
            self._there.put(1)
            self._back.get()
        self.done.set()


# (Whether they would starve otherwise depends on what else the machine does.)
@ways
def test_other_threads_go_on_beside_a_heartbeat(way: Any) -> None:
    async def heartbeat() -> None:
        while True:
            trips.beat()
            await sleep(0.1)

    control = ClockControl(autojump_threshold=0)
    sleep, clock = way(control)
    trips = RoundTrips()
    with suppress(Enough):
        trio.run(heartbeat, clock=clock)
    assert trips.end() < FAR_MORE_JUMPS


@moves
def test_other_threads_go_on_beside_moves(move: Callable[[Beat], None]) -> None:
    trips = RoundTrips()
    with suppress(Enough):
        move(trips.beat)
    assert trips.end() < FAR_MORE_JUMPS


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


@moves
@pytest.mark.parametrize("others", [0, 1])
def test_moves_sleep_now_and_then_where_there_are_other_threads(
    move: Callable[[Beat], None], others: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def beat() -> None:
        real.append(len(real) / 10_000)
        if len(real) == 100:
            raise Enough

    real = [0.0]
    slept: list[float] = []
    module = "trio_clockrt.testing._giving_way"
    monkeypatch.setattr(f"{module}.GivingWay._now", lambda _: real[-1])
    monkeypatch.setattr(f"{module}.GivingWay._sleep", lambda _, s: slept.append(s))
    monkeypatch.setattr(f"{module}.count_of_other_threads", lambda: others)
    monkeypatch.setattr(
        "trio_clockrt.testing._stepper.count_of_other_threads", lambda: others
    )
    with suppress(Enough):
        move(beat)
    assert slept == ([0] * len(slept) if others else [])
    assert 20 < len(slept) < 60 or not others

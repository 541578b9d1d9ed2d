"""The queue of entries that may be dead, held against a list that is searched."""

from __future__ import annotations

import heapq
import random
import tracemalloc
from math import inf

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
)
from model_settings import MODEL

from trio_clockrt import _queue
from trio_clockrt._queue import FEW, RUN, Entry, Queue

# Many collisions: the same deadline, neighbours, both signs, and the two ends of time.
deadlines = st.one_of(
    st.sampled_from([0.0, 0.5, 1.0, 1.0 + 2**-52, 1e5, inf, -inf, 1e308, -1e308]),
    st.integers(-3, 12).map(lambda n: n / 4096),
    st.integers(0, 5).map(lambda n: 1000 + n / 1000),
    st.floats(allow_nan=False),
)


class QueueMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        # Small enough for all that happens to a large queue.
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(_queue, "RUN", 8)
        self.patch.setattr(_queue, "FEW", 4)
        self.groups: dict[int, dict[int, None]] = {0: {}, 1: {}, 2: {}}
        self.queue = Queue(self.groups)
        self.number = 0
        self.pending: list[Entry] = []

    @rule(when=deadlines, group=st.integers(0, 2))
    def push(self, when: float, group: int) -> None:
        self.number += 1
        entry = when, self.number, group
        self.groups[group][self.number] = None
        self.queue.push(entry)
        self.pending.append(entry)

    @rule(when=deadlines, how_many=st.integers(2, 30))
    def push_equals(self, when: float, how_many: int) -> None:
        for n in range(how_many):
            self.push(when, n % 3)

    def claim(self, entry: Entry) -> None:
        self.pending.remove(entry)
        del self.groups[entry[2]][entry[1]]

    def kill(self, entry: Entry) -> None:
        self.claim(entry)
        self.queue.dead += 1
        self.queue.sweep_if_worth_it()

    @precondition(lambda self: self.pending)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        self.kill(data.draw(st.sampled_from(self.pending)))

    @precondition(lambda self: len(self.pending) > 10)
    @rule(keep=st.integers(0, 3), seed=st.integers(0, 1000))
    def cancel_most(self, keep: int, seed: int) -> None:
        entries = self.pending.copy()
        random.Random(seed).shuffle(entries)
        for entry in entries[keep:]:
            self.kill(entry)

    @rule(until=deadlines)
    def pop(self, until: float) -> None:
        entry = self.queue.pop(until)
        while entry is not None and not self.queue.is_alive(entry):
            self.queue.dead -= 1
            entry = self.queue.pop(until)
        first = min(self.pending, default=None)
        if first is None or first[0] > until:
            assert entry is None
        else:
            assert entry == first
            self.claim(first)

    @invariant()
    def all_are_there(self) -> None:
        assert len(self.queue) == len(self.pending) + self.queue.dead

    @invariant()
    def dead_are_few(self) -> None:
        assert self.queue.dead <= max(4, len(self.pending))

    @invariant()
    def nothing_is_later_than_the_first(self) -> None:
        first = self.queue.first()
        if first is None:
            assert not self.pending
        else:
            assert first <= min(self.pending, default=first)

    def teardown(self) -> None:
        left = [self.queue.pop() for _ in range(len(self.queue))]
        assert left == sorted(entry for entry in left if entry is not None)
        assert self.queue.pop() is None
        assert set(self.pending) <= set(left)
        self.patch.undo()


TestQueue = QueueMachine.TestCase
TestQueue.settings = MODEL


@pytest.mark.parametrize("spread", [0.0, 1.0], ids=["one deadline", "many"])
def test_cancelled_timers_leave_nothing_behind(spread: float) -> None:
    pending = dict.fromkeys([0])
    queue = Queue({0: pending})
    queue.push((1000.0, 0, 0))
    before = peak = 0
    tracemalloc.start()
    try:
        for number in range(1, 30_000):
            if number == 1000:  # by now the dead have been swept out
                before, _ = tracemalloc.get_traced_memory()
                tracemalloc.reset_peak()
            pending[number] = None
            queue.push((1000.0 + number * spread, number, 0))
            del pending[number]
            queue.dead += 1
            queue.sweep_if_worth_it()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < 100_000  # bytes; one reference per timer would be more


@pytest.mark.parametrize("keep", [0, 1, RUN // 2, RUN, 3 * RUN])
def test_as_many_are_dead_as_alive_and_a_few(keep: int) -> None:
    pending: dict[int, None] = {}
    queue = Queue({0: pending})
    random_numbers = random.Random(keep)
    for number in range(5 * RUN):
        pending[number] = None
        queue.push((random_numbers.random(), number, 0))
    for number in range(keep, 5 * RUN):
        del pending[number]
        queue.dead += 1
        queue.sweep_if_worth_it()
        assert queue.dead <= max(FEW, len(pending))
    assert len(queue) <= 2 * max(FEW, keep)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_ctrl_c_while_they_are_sorted(
    which: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outside of Trio it may come at any moment, and no entry is lost."""
    calls = 0

    def heapify(heap: list[Entry]) -> None:
        nonlocal calls
        calls += 1
        if calls == which + 1:
            raise KeyboardInterrupt
        heapq.heapify(heap)

    pending = dict.fromkeys(range(3 * RUN))
    queue = Queue({0: pending})
    for number in range(2 * RUN):
        queue.push((-number, number, 0))
    monkeypatch.setattr(_queue, "heapify", heapify)
    try:
        for number in range(2 * RUN, 3 * RUN):
            queue.push((-number, number, 0))
    except KeyboardInterrupt:
        assert which < 2
    found = set[int]()
    while (entry := queue.pop()) is not None:
        found.add(entry[1])
    assert found >= set(range(2 * RUN))

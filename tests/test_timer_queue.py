"""The queue of pending timers, held against a list that is searched."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable, Generator
from math import inf, nextafter

import attrs
import hypothesis.strategies as st
import pytest
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
)
from model_settings import MODEL

from trio_clockrt._queue import Queue


@attrs.define(eq=False)
class Entry:
    when: float
    registration: int = 0


# Many collisions: the same deadline, neighbours within a millisecond, neighbouring
# milliseconds, both signs, and the two ends of time.
deadlines = st.one_of(
    st.sampled_from([0.0, 0.5, 1.0, 1.0 + 2**-52, 1e5, inf, -inf, 1e308, -1e308]),
    st.integers(-3, 12).map(lambda n: n / 4096),
    st.integers(0, 5).map(lambda n: 1000 + n / 1000),
    st.floats(allow_nan=False),
)


class QueueMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.queue: Queue[Entry] = Queue()
        self.registrations = 0
        self.pending: list[Entry] = []
        self.idle: list[Entry] = []
        # The pass under way, the time it fires up to, and what it is still to fire.
        self.running: Generator[Entry, None, None] | None = None
        self.until = -inf
        self.expected: list[Entry] = []

    def in_order(self, until: float) -> list[Entry]:
        due = [entry for entry in self.pending if entry.when <= until]
        return sorted(due, key=lambda entry: (entry.when, entry.registration))

    def register(self, entry: Entry, when: float) -> None:
        entry.when = when
        entry.registration = self.registrations
        self.registrations += 1
        self.queue.add(entry)
        self.pending.append(entry)

    @rule(when=deadlines)
    def add(self, when: float) -> None:
        self.register(Entry(when), when)

    @rule(when=deadlines, how_many=st.integers(2, 100))
    def add_equals(self, when: float, how_many: int) -> None:
        for _ in range(how_many):
            self.add(when)

    @precondition(lambda self: self.pending)
    @rule(data=st.data())
    def discard(self, data: st.DataObject) -> None:
        entry = self.pending.pop(data.draw(st.integers(0, len(self.pending) - 1)))
        assert self.queue.discard(entry)
        assert not self.queue.discard(entry)
        self.idle.append(entry)
        if entry in self.expected:
            self.expected.remove(entry)

    @precondition(lambda self: len(self.pending) > 20)
    @rule(keep=st.integers(0, 3), seed=st.integers(0, 1000))
    def discard_most(self, keep: int, seed: int) -> None:
        entries = self.pending.copy()
        random.Random(seed).shuffle(entries)
        for entry in entries[keep:]:
            self.pending.remove(entry)
            self.queue.discard(entry)
        self.expected = [entry for entry in self.expected if entry in self.pending]

    @precondition(lambda self: self.idle)
    @rule(when=deadlines)
    def register_again(self, when: float) -> None:
        self.register(self.idle.pop(), when)

    @precondition(lambda self: self.running is None)
    @rule(now=deadlines)
    def begin_pass(self, now: float) -> None:
        self.running = self.queue.due(now)
        self.expected = self.in_order(now)
        # A generator does nothing before its first step.
        self.until = now
        self.step()

    @precondition(lambda self: self.running is not None)
    @rule()
    def step(self) -> None:
        assert self.running is not None
        fired = next(self.running, None)
        if fired is None:
            assert not self.expected
            self.end_pass()
        else:
            assert fired is self.expected.pop(0)
            self.pending.remove(fired)
            self.idle.append(fired)

    @precondition(lambda self: self.running is not None)
    @rule()
    def finish_pass(self) -> None:
        while self.running is not None:
            self.step()

    @precondition(lambda self: self.running is not None)
    @rule()
    def close_pass(self) -> None:
        assert self.running is not None
        self.running.close()
        self.end_pass()

    @precondition(lambda self: self.running is None)
    @rule(now=deadlines, wanted=st.booleans())
    def pop_first(self, now: float, wanted: bool) -> None:
        due = self.in_order(now)
        first = list(self.queue.pop_first(now, lambda _: wanted))
        equals = [entry for entry in due if entry.when == due[0].when]
        if not wanted or len(equals) > 64:
            assert not first
        else:
            assert first == equals
        for entry in first:
            assert entry not in self.queue
            self.pending.remove(entry)
            self.idle.append(entry)

    def end_pass(self) -> None:
        self.running = None
        self.until = -inf
        self.expected = []

    @invariant()
    def next_deadline(self) -> None:
        if self.expected:
            assert self.queue.next_deadline() == self.expected[0].when
        else:
            first = min((entry.when for entry in self.pending), default=inf)
            assert self.queue.next_deadline() == first

    @invariant()
    def all_entries(self) -> None:
        entries = list(self.queue)
        assert len(entries) == len(self.pending)
        assert set(entries) == set(self.pending)
        assert bool(self.queue) == bool(entries)

    def teardown(self) -> None:
        if self.running is not None:
            self.running.close()
        assert list(self.queue.due(inf)) == self.in_order(inf)


TestQueue = QueueMachine.TestCase
TestQueue.settings = MODEL


def test_a_deadline_is_never_rounded() -> None:
    queue: Queue[Entry] = Queue()
    early, late = Entry(1.0001), Entry(1.0002)  # in the same cell
    queue.add(late)
    queue.add(early)
    assert queue.next_deadline() == 1.0001
    assert list(queue.due(1.00009)) == []
    assert list(queue.due(1.0001)) == [early]
    assert queue.next_deadline() == 1.0002
    assert list(queue.due(1.00019)) == []
    assert list(queue.due(1.0002)) == [late]
    assert queue.next_deadline() == inf


def test_what_is_registered() -> None:
    queue: Queue[Entry] = Queue()
    assert not queue
    instants = [-inf, -1.0, 1.0, 1.0, 1.0, 1.0 + 1e-9, 1e15, 1e300, inf]
    entries = [Entry(when) for when in instants]
    for entry in entries:
        assert entry not in queue
        queue.add(entry)
        assert queue
        assert entry in queue
        assert Entry(entry.when) not in queue
    late = Entry(0.0)
    for entry in queue.due(1.0):
        assert entry not in queue
        if entry is entries[0]:
            queue.add(late)
        assert late in queue
    for entry in [late, *entries[5:]]:
        assert queue
        assert entry in queue
        queue.discard(entry)
        assert entry not in queue
    assert not queue


def test_the_first_ones() -> None:
    queue: Queue[Entry] = Queue()
    # Alone in its cell, with neighbours in it, and not alone at its deadline.
    entries = [Entry(when) for when in (0.5, 1.0, 1.0001, 1.0002, 1.0002, inf)]
    for entry in entries:
        queue.add(entry)
    for first in [entries[:1], entries[1:2], entries[2:3], entries[3:5], entries[5:]]:
        when = first[0].when
        assert not queue.pop_first(nextafter(when, -inf), lambda _: True)
        assert not queue.pop_first(when, lambda _: False)
        assert not queue.pop_first(when, wanting(first[1:]))
        assert set(queue) == set(entries[entries.index(first[0]) :])
        assert list(queue.pop_first(when, wanting(first))) == first
    assert not queue
    assert not queue.pop_first(inf, lambda _: True)


def test_the_first_one_of_many() -> None:
    queue: Queue[Entry] = Queue()
    entries = [Entry(1.0) for _ in range(1000)]
    for entry in entries:
        queue.add(entry)
    assert not queue.pop_first(1.0, lambda _: True)
    assert list(queue.due(1.0)) == entries


def wanting(expected: list[Entry]) -> Callable[[Entry], bool]:
    return lambda entry: entry in expected


def test_discarding_what_is_not_registered_does_nothing() -> None:
    queue: Queue[Entry] = Queue()
    assert not queue.discard(Entry(1.0))
    entries = [Entry(1.0), Entry(1.0001), Entry(1.0001), Entry(2.0)]
    for entry in entries:
        queue.add(entry)
    for when in (0.0, 1.0, 1.0001, 1.0002, 2.0, 3.0):
        assert not queue.discard(Entry(when))
    assert list(queue.due(inf)) == entries
    assert not queue.discard(entries[0])


@pytest.mark.parametrize(
    "spread", [0.0, 1e-9, 1.0], ids=["one deadline", "one cell", "many cells"]
)
@pytest.mark.parametrize("opened", [False, True])
def test_cancelled_timers_leave_nothing_behind(spread: float, opened: bool) -> None:
    queue: Queue[Entry] = Queue()
    queue.add(Entry(1000.0))
    if opened:
        queue.next_deadline()
    before = peak = 0
    tracemalloc.start()
    try:
        for count in range(30_000):
            if count == 1000:  # by now every heap has been rebuilt once
                before, _ = tracemalloc.get_traced_memory()
                tracemalloc.reset_peak()
            entry = Entry(1000.0 + count * spread)
            queue.add(entry)
            queue.discard(entry)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < 100_000  # bytes; one reference per timer would be more


@pytest.mark.parametrize("count", [1000, 1001])
@pytest.mark.parametrize("keep", [30, 31, 300])
def test_a_heap_that_was_rebuilt_is_in_order_and_small(keep: int, count: int) -> None:
    queue: Queue[Entry] = Queue()
    entries = [Entry(random.Random(n).uniform(0, 1e6)) for n in range(count)]
    for entry in entries:
        queue.add(entry)
    assert queue.next_deadline() == min(entry.when for entry in entries)
    for entry in entries[keep:]:
        queue.discard(entry)
    # At most as many stale keys as others, and some.
    heap = queue._cells.heap()
    assert len(heap) <= 2 * keep + 64
    left = sorted(entries[:keep], key=lambda entry: entry.when)
    assert list(queue.due(5e5)) == [entry for entry in left if entry.when <= 5e5]
    assert list(queue.due(inf)) == [entry for entry in left if entry.when > 5e5]


@pytest.mark.parametrize("keep", [2, 3, 100])
def test_a_heap_does_not_grow_with_what_is_discarded(keep: int) -> None:
    queue: Queue[Entry] = Queue()
    for n in range(keep):
        queue.add(Entry(n))
    queue.next_deadline()
    heap = queue._cells.heap()
    longest = 0
    for n in range(2000):
        entry = Entry(1000 + n)
        queue.add(entry)
        queue.discard(entry)
        longest = max(longest, len(heap))
    assert longest <= 2 * keep + 64 + 3
    assert len(list(queue.due(inf))) == keep

"""The pending timers: register, discard, what is due, what is next.

Nothing in here knows what time it is, what a timer does when it fires, or which
thread it is in. The queue files *entries*: objects with a deadline in ``when``,
which must not change while the entry is in the queue.

The entries are filed twice over, by the same idea: a dictionary that knows its
smallest key. The outer one holds *cells*, keyed by a coarse tick, about a millisecond;
a cell holds its entries, keyed by exact deadline. A cell is storage and never
rounding: it only means that most entries are never compared with each other, because
they are discarded, or come up, while their whole cell is still unsorted. An entry
that is alone in its place, in a cell or at a deadline, needs no container there.

Outside of Trio, Ctrl-C may interrupt all this anywhere. So each step leaves the queue
in order: a key is in its heap before it is in the dictionary, and a container that
would be empty is taken out first.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from math import inf, nan
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

# A power of two, so that multiplying by it is exact and no two deadlines can end up
# in cells of the wrong order.
_CELLS_PER_SECOND = 1024.0

# A heap is put in order again once more than half of it is stale and it is larger
# than this.
_MIN_STALE = 64

# Up to so many with the same deadline can be taken out at once.
_FEW = 64


class Entry(Protocol):
    """What the queue files; told apart by identity."""

    when: float


EntryT = TypeVar("EntryT", bound=Entry)


class _SortedKeys(dict[float, Any]):
    """A dictionary that knows its smallest key, from the first time it is asked.

    The keys are in a heap beside the dictionary. A removed key stays in the heap,
    stale, until it surfaces there or the heap is rebuilt.
    """

    __slots__ = ("_heap",)

    def __init__(self) -> None:
        self._heap: list[float] | None = None

    def insert(self, key: float, value: object) -> Any:
        """Put *value* there unless the key is taken; returns what is there then."""
        there = self.get(key)
        if there is None:
            if self._heap is not None:
                heappush(self._heap, key)
            self[key] = there = value
        return there

    def remove(self, key: float) -> None:
        del self[key]
        heap = self._heap
        if heap is not None and len(heap) > 2 * len(self) + _MIN_STALE:
            heap[:] = self._in_order()

    def heap(self) -> list[float]:
        """The heap; it stays the same object, and a key in it may be stale."""
        if self._heap is None:
            self._heap = self._in_order()
        return self._heap

    def first(self) -> float:
        """The smallest key; there must be one."""
        heap = self._heap or self.heap()
        while (key := heap[0]) not in self:
            heappop(heap)
        return key

    def _in_order(self) -> list[float]:
        keys = list(self)
        heapify(keys)
        return keys


class _Equals(dict[Any, None]):
    """Entries with the same deadline, in the order of registration."""


class TimerQueue(Generic[EntryT]):
    """Entries in the order of (deadline, registration)."""

    def __init__(self) -> None:
        # {tick: entry or {deadline: entry or _Equals}}
        self._cells = _SortedKeys()
        # While a pass is under way: the time up to which it fires, and what has been
        # registered for that time or earlier since the pass began. (No deadline is
        # less than or equal to NaN.)
        self._pass_until = nan
        self._late: dict[EntryT, None] = {}

    def add(self, entry: EntryT) -> None:
        """Register an entry."""
        when = entry.when
        if when <= self._pass_until:
            self._late[entry] = None
            return
        try:
            tick: float = int(when * _CELLS_PER_SECOND)
        except OverflowError:
            tick = _end_of_time(when)
        cells = self._cells
        if tick not in cells:  # as most are
            if cells._heap is not None:
                heappush(cells._heap, tick)
            cells[tick] = entry
            return
        cell = cells[tick]
        if type(cell) is not _SortedKeys:
            loner = cell
            cell = _SortedKeys()
            cell[loner.when] = loner
            cells[tick] = cell
        place = cell.insert(when, entry)
        if place is entry:
            return
        if type(place) is _Equals:
            place[entry] = None
        else:
            cell[when] = _Equals(((place, None), (entry, None)))

    def discard(self, entry: EntryT) -> bool:
        """Take out an entry, if it is registered; tells whether it was."""
        if self._late and entry in self._late:
            del self._late[entry]
            return True
        when = entry.when
        try:
            tick: float = int(when * _CELLS_PER_SECOND)
        except OverflowError:
            tick = _end_of_time(when)
        cell = self._cells.get(tick)
        if cell is entry:
            self._cells.remove(tick)
            return True
        if type(cell) is not _SortedKeys:
            return False
        place: Any = cell.get(when)
        if place is not entry:
            if type(place) is not _Equals or entry not in place:
                return False
            if len(place) > 1:
                del place[entry]
                return True
        if len(cell) == 1:
            self._cells.remove(tick)
        cell.remove(when)
        if place is not entry:
            del place[entry]  # as a pass may have it in its hands
        return True

    def __contains__(self, entry: EntryT) -> bool:
        when = entry.when
        cell = self._cells.get(_tick(when))
        place = cell.get(when) if type(cell) is _SortedKeys else cell
        return (
            place is entry
            or entry in self._late
            or (type(place) is _Equals and entry in place)
        )

    def __iter__(self) -> Iterator[EntryT]:
        """All entries, in no order; nothing may change meanwhile."""
        for cell in self._cells.values():
            for place in cell.values() if type(cell) is _SortedKeys else (cell,):
                if type(place) is _Equals:
                    yield from place
                else:
                    yield place
        yield from self._late

    def __bool__(self) -> bool:
        return bool(self._cells or self._late)

    def next_deadline(self) -> float:
        """The earliest deadline, exactly; infinity if there is none."""
        cells = self._cells
        deadline = inf
        if cells:
            # As in first(), which would take as long again.
            heap = cells._heap or cells.heap()
            while (tick := heap[0]) not in cells:
                heappop(heap)
            cell = cells[tick]
            deadline = cell.first() if type(cell) is _SortedKeys else cell.when
        # What was registered for the next pass counts once this one has nothing left.
        if self._late and (not cells or deadline > self._pass_until):
            return min(entry.when for entry in self._late)
        return deadline

    def pop_first(
        self, now: float, wanted: Callable[[EntryT], bool] = bool, few: int = _FEW
    ) -> Sequence[EntryT]:
        """Take out all that has the first deadline, if that is due and *wanted*.

        Where it is more than a *few*, they stay there: `due` is made for many. No pass
        may be under way.
        """
        cells = self._cells
        if not cells:
            return ()
        heap = cells._heap or cells.heap()
        while (tick := heap[0]) not in cells:
            heappop(heap)
        cell = cells[tick]
        if type(cell) is not _SortedKeys:
            if cell.when > now or not wanted(cell):
                return ()
            del cells[tick]
            heappop(heap)
            return (cell,)
        when = cell.first()
        place = cell[when]
        entries = tuple(place) if type(place) is _Equals else (place,)
        if when > now or len(entries) > few or not all(map(wanted, entries)):
            return ()
        if len(cell) == 1:
            cells.remove(tick)
        cell.remove(when)
        return entries

    def due(self, now: float) -> Generator[EntryT, None, None]:
        """Make one pass: take out each entry that is due at *now*, in order.

        The caller may register and discard between two steps, and may pause as long
        as it likes, but may not begin another pass before this one is exhausted or
        closed. An entry that is registered for *now* or earlier meanwhile is left
        for the next pass.
        """
        entry: EntryT
        cells = self._cells
        self._pass_until = now
        try:
            while cells:
                # As in first(), which would take as long again.
                ticks = cells._heap or cells.heap()
                tick = ticks[0]
                cell = cells.get(tick)
                if cell is None:
                    heappop(ticks)
                    continue
                if type(cell) is not _SortedKeys:
                    if cell.when > now:
                        return
                    del cells[tick]
                    heappop(ticks)
                    yield cell
                    continue
                # Until this cell is empty, or the rest of it is not due, no earlier
                # one can appear.
                heap = cell.heap()
                while heap:
                    when = heap[0]
                    if when > now:
                        return
                    place: Any = cell.get(when)
                    if type(place) is _Equals:
                        # A copy, as taking the first out of a dictionary is slow; so
                        # some of it may have been discarded meanwhile. It shrinks on
                        # the way, or everything in it would be freed at once.
                        entries = list(place)
                        entries.reverse()
                        while entries:
                            entry = entries.pop()
                            if entry in place:
                                if len(place) == 1:
                                    if len(cell) == 1:
                                        cells.remove(tick)
                                    cell.remove(when)
                                del place[entry]
                                yield entry
                        continue
                    if place is None:
                        heappop(heap)
                        continue
                    if len(cell) == 1:
                        cells.remove(tick)
                    del cell[when]
                    heappop(heap)
                    yield place
        finally:
            self._pass_until = nan
            if self._late:
                late, self._late = self._late, {}
                for entry in late:
                    self.add(entry)


def _tick(when: float) -> float:
    try:
        return int(when * _CELLS_PER_SECOND)
    except OverflowError:
        return _end_of_time(when)


def _end_of_time(when: float) -> float:
    """The tick of what is too far away to have one: one cell at either end."""
    return inf if when > 0 else -inf

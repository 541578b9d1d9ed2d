"""The queue: entries in the order of (deadline, registration), the dead among them.

An entry is three numbers: the deadline that it is filed for, the number of its
registration, and the number of the group that it belongs to. An entry is never changed,
and never taken out before it comes up. It is alive while its number is a key in the
dictionary of its group; to take that key out, with `dict.pop`, is to claim the entry:
to fire it, to cancel it, or to tell of the end. So to cancel costs the queue nothing,
and the queue skips what is dead when it comes up. When more than half of the entries
are dead, the queue sweeps them out.

A timer that has been reset to later keeps its entry, and is filed again when that entry
comes up. So a living entry may be filed for an earlier deadline than its timer's, and
never for a later one.

What is new is in a heap. When the heap has grown large, what is alive in it becomes a
*run*, a sorted list, and the heads of the runs are in a heap of their own. So most
timers, which are cancelled or reset before they come up, cost one `heappush` into a
small heap. To keep a million timers in one heap takes longer for each of them; to sort
a million at once would stop the program for most of a second.

A dictionary for each deadline, in cells of a millisecond, was here before. Such cells
need no dead entries, but cost twice as much for a timer that is cancelled. The group's
dictionary in the place of its number was tried as well. The garbage collector does not
look at a tuple of numbers; with a dictionary in each, a full collection takes three
times as long.

`heappush` is one step for everything that may interrupt Python code, as `heappush`
compares numbers only. So a finalizer or a signal handler may push an entry at any
moment, also while the queue is popping one. All else is for one piece of code at a
time, which is *busy* then: see `_timers.py`.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush, heapreplace
from math import inf
from typing import Any

#: The deadline, the number of the registration, the number of the group.
Entry = tuple[float, int, int]

# So many new entries become a run. Small enough to be sorted in no time.
RUN = 2048

# So many dead entries are never worth a sweep.
FEW = 256


class Queue:
    """Entries that may be dead.

    Args:
        groups: The dictionaries of the groups, by their numbers.
    """

    __slots__ = ("_groups", "_heads", "_in_runs", "dead", "new")

    def __init__(self, groups: dict[int, dict[int, Any]]) -> None:
        self._groups = groups
        self.new: list[Entry] = []
        # The first entry of each run, the run with the first one last.
        self._heads: list[tuple[Entry, list[Entry]]] = []
        self._in_runs = 0
        # How many are dead; only a guess where a signal has interrupted the count.
        self.dead: int = 0

    def __len__(self) -> int:
        """How many entries there are, the dead ones included."""
        return len(self.new) + self._in_runs

    def is_alive(self, entry: Entry) -> bool:
        return entry[1] in self._groups.get(entry[2], ())

    def push(self, entry: Entry) -> None:
        new = self.new
        heappush(new, entry)
        if len(new) > RUN:
            self._sort([new], self._heads)

    def first(self) -> Entry | None:
        """The first entry, which may be dead."""
        new, heads = self.new, self._heads
        if heads and (not new or heads[0][0] < new[0]):
            return heads[0][0]
        return new[0] if new else None

    def pop(self, until: float = inf) -> Entry | None:
        """Take out the first entry, if its deadline is not later; it may be dead."""
        new, heads = self.new, self._heads
        if not heads or (new and new[0] < heads[0][0]):
            return heappop(new) if new and new[0][0] <= until else None
        entry, run = heads[0]
        if entry[0] > until:
            return None
        # In this order, as Ctrl-C in between is to leave an entry twice, which does no
        # harm: the second one is dead.
        if len(run) > 1:
            heapreplace(heads, (run[-2], run))
        else:
            heappop(heads)
        run.pop()
        self._in_runs -= 1
        return entry

    def sweep_if_worth_it(self) -> None:
        """See to it that no more are dead than alive, but for a few."""
        if self.dead > FEW and 2 * self.dead > len(self):
            self._sort([self.new, *[run for _, run in self._heads]], [])

    def _sort(
        self, old: list[list[Entry]], keep: list[tuple[Entry, list[Entry]]]
    ) -> None:
        """Forget what is dead in these lists, and make runs of the rest."""
        before = self.new, self._heads, self._in_runs
        heads = keep.copy()
        try:
            # What a finalizer pushes meanwhile goes into the new list.
            self.new = []
            for entries in old:
                alive = [entry for entry in entries if self.is_alive(entry)]
                self.dead -= len(entries) - len(alive)
                if 2 * len(alive) > RUN:
                    alive.sort(reverse=True)
                    heads.append((alive[-1], alive))
                else:
                    self.new += alive
            heapify(self.new)
            heapify(heads)
            self._heads, self._in_runs = heads, sum(len(run) for _, run in heads)
            if not keep:
                self.dead = 0
        except BaseException:  # Ctrl-C, outside of Trio
            new, self._heads, self._in_runs = before
            self.new += new
            heapify(self.new)
            raise

"""How long a clock lives: its owners, its end, and what is told of the end.

A clock is alive until its driver ends, or until nothing uses it any more. It is used
while it has an owner, a pending timer, a waiting task, or an open nursery of timers.

Each open `Clock` object is an owner, and has a key of its own in a dictionary. To close
a `Clock` takes the key out, in one step, in any thread: so the last one that goes finds
the dictionary empty, and tells the clock's place. A `Clock` that is dropped closes
itself when Python collects it. (Python's own count of references was asked before. But
without the GIL, a thread that drops the last reference to an object of another thread's
leaves that to the other thread, which may be asleep.)

The end may come at any moment, in any thread, and from two threads at once: one of them
gets the one item that there is to pop. The clock counts as gone before any task or
thread is told. Each task or thread that waits is in a dictionary, and to take it out is
to claim it. So what begins to wait as the clock ends either is claimed here, or claims
itself back and is refused: a task is put into the dictionary first, and looks whether
the clock is gone after that; the end says that the clock is gone first, and looks into
the dictionary after that. (For this order, and without the GIL, it takes no more than
that a thread which sees a change of a dictionary also sees what the other thread had
done before that change. The locks of dictionaries see to that.)

`ClockDriver.wait_gone` is told of the end without being a use: a listener, and no
dependent.

The end lets open groups go of what is the user's. A fork does not: in the child, groups
let go when their blocks end. Finalizers would run in the child that are for the parent,
such as that of a temporary directory.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakSet, ref

from ._errors import ClockGone
from ._post import post

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio.lowlevel import TrioToken

    from ._pending import Pending
    from ._timer_group import TimerGroup


class Listener(Protocol):
    """What is told of the end."""

    @property
    def _run(self) -> TrioToken | None:
        """The run where it has to be told; None is the place of the clock."""
        ...

    def _clock_gone(self) -> None:
        """Claim it, if nothing else has, and tell it."""
        ...

    def _give_up(self) -> None:
        """Its run is over: it will never wait again."""
        ...


class Lifetime:
    """Whether a clock is alive, and for how long."""

    def __init__(self, timers: Pending, wake_soon: Callable[[], object]) -> None:
        # These hold this, and are to be freed without the garbage collector.
        self._held_by = ref(timers)
        # Lets the driver look whether the clock is used; from any thread, and at any
        # moment.
        self.wake_soon: Callable[[], object] = wake_soon
        self.owners: dict[object, None] = {}
        # In the order in which they have come. What keeps the clock alive...
        self.retainers: dict[Listener, None] = {}
        # ...and what does not.
        self.listeners: dict[Listener, None] = {}
        # The groups that are open, whose timers hold what is the user's.
        self.groups: dict[TimerGroup, None] = {}
        self._because = ""
        # The thread that ends the clock takes it out.
        self._left: list[None] = [None]
        _activations.add(timers)

    @property
    def _timers(self) -> Pending:
        timers = self._held_by()
        assert timers is not None
        return timers

    @property
    def alive(self) -> bool:
        return bool(self._left)

    @property
    def in_use(self) -> bool:
        """Whether it has an owner, a timer, a waiter or an open nursery.

        (No task waits for an open `TimerGroup` without timers.)
        """
        return bool(self.owners or self.retainers) or self._timers.any_pending()

    def gone(self) -> ClockGone:
        """What to raise once the clock is gone."""
        return ClockGone(
            "this clock is gone, and no timer on it can fire any more: " + self._because
        )

    def own(self) -> object:
        """One more owner: the key to `disown` it with."""
        key = object()
        self.owners[key] = None
        return key

    def disown(self, key: object) -> None:
        self.owners.pop(key, None)
        if not self.owners:
            self.wake_soon()

    def retain(self, retainer: Listener) -> None:
        """Keep the clock alive, and be told of its end, until `release`."""
        self._add(self.retainers, retainer)

    def release(self, retainer: Listener) -> None:
        """Idempotent."""
        if self.retainers.pop(retainer, self) is None:
            self.look_if_unused()

    def listen(self, listener: Listener) -> None:
        """Be told of the end, without keeping the clock alive."""
        self._add(self.listeners, listener)

    def look_if_unused(self) -> None:
        """Nothing may use it any more, from now on: let the driver look."""
        if not self.owners and not self.in_use:
            self.wake_soon()

    def end_if_unused(self) -> None:
        if not self.in_use:
            self.end(
                "every Clock object of it had been closed or dropped, and nothing was "
                "pending; give each task that needs it a clone() of its own"
            )

    def end(self, because: str) -> None:
        """The clock is gone: tell everything that waits. Idempotent."""
        try:
            self._left.pop()
        except IndexError:
            return
        timers = self._timers
        # Of a run that has crashed there is nothing to be told.
        here = timers.is_here()
        self._because = because
        timers.place = None
        self._let_go()
        for listener in self._listeners(timers):
            self._tell(listener, here)
        timers.forget_all()

    def forget_run(self, run: TrioToken) -> None:
        """A Trio run is over, and has perhaps left something behind."""
        timers = self._timers
        if timers.made_in == run:
            self.end("the Trio run that activated it has ended")
        for listener in self._listeners(timers):
            if listener._run == run:
                listener._give_up()

    def _listeners(self, timers: Pending) -> list[Listener]:
        # Each list is made in one step, as other threads may add and take out.
        tasks: list[Listener] = list(timers.tasks.values())
        return tasks + list(self.retainers) + list(self.listeners)

    def forked(self) -> None:
        """This is a child of the process with the driver, and nothing but a copy.

        There is nothing to be told, and what wakes the driver, or a task, would wake
        one in the parent process.
        """
        self._because = (
            f"it was activated in another process, of which process {os.getpid()} is a "
            "fork; activate a clock here, or start processes in another way than fork"
        )
        self._left.clear()
        timers = self._timers
        timers.place = None
        timers.forked()
        self.retainers, self.listeners = {}, {}
        self.wake_soon = int

    def _add(self, listeners: dict[Listener, None], listener: Listener) -> None:
        listeners[listener] = None
        if not self.alive:
            # It has ended just now, perhaps without seeing this one.
            # (All that wait in the clock's own run are told before that ends.)
            self._tell(listener, False)

    def _tell(self, listener: Any, here: bool) -> None:
        if listener._run is not None:
            post(listener._run, listener._clock_gone)
        elif here:
            listener._clock_gone()

    def _let_go(self) -> None:
        """What can never fire holds nothing alive."""
        for group in list(self.groups):
            self.groups.pop(group, None)
            group._let_go()


_activations: WeakSet[Pending] = WeakSet()


def _forked() -> None:
    for timers in list(_activations):
        timers.life.forked()


with suppress(AttributeError):  # on Windows
    os.register_at_fork(after_in_child=_forked)

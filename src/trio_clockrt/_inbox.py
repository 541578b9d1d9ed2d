"""To file, and to cancel: one piece of code works on the queue, others leave messages.

So there is an *inbox*, a deque. A thread elsewhere leaves a message there, and so does
a finalizer or a signal handler that has interrupted the busy code. A message is an
entry to be filed, the deadline of an entry that has died, or None: look at the alarm
again. The busy code clears the flag first, and looks into the inbox then. So either
that look finds the message, or the flag was clear already, and the sender of the
message does the work.

Another thread leaves its message first, and then compares it with the alarm's deadline.
The place moves that deadline first, and looks into the inbox then. If the look finds
nothing, the deadline was moved before the message was left. Then the other thread sees
the new deadline, and tells the place. This takes two things of the threads: that a look
at an empty deque and an `append` to it come one after the other, and that a thread sees
what the other had done before. Without the GIL, the lock of the deque gives both, if
both sides take it. `bool` does not, so the last look calls `rotate(0)` before, which
does nothing else. With the GIL there is nothing to ask for.

A message is taken out of the inbox after it has been read. Outside of Trio, Ctrl-C may
come in between, and a message that is read twice does no harm, while a lost one would
be a timer that never fires. Several threads can leave more than one thread can read. So
no code reads until the inbox is empty: it reads what was there when it began, and a
thread that finds very many messages pauses for a moment. What another thread has set
for now fires where its message is read, as to wake the driver's task takes two passes
more of Trio's loop. (The usual way is a lock around the queue. But a finalizer may run
under that lock and ask for it again, or for a lock of a thread that waits for this
one.)
"""

from __future__ import annotations

from abc import abstractmethod
from heapq import heappush
from math import inf, nan
from sys import maxsize
from time import sleep
from typing import TYPE_CHECKING, Any

from ._pending import TASKS, Pending
from ._queue import FEW, RUN, Entry

if TYPE_CHECKING:
    from ._pending import Waiter

# So many may be in the inbox until the place has something else to do; and so many are
# read in a message, before others in the place get a turn.
_MESSAGES = 1024

# How often to look into the inbox again before something else has its turn.
_LOOKS = 4

# A thread that leaves more than twice as many pauses each time, for so many seconds or
# the shortest sleep there is, as several threads can leave more than one can read.
_PAUSE = 1e-6

_NONE: dict[int, Any] = {}


class Inbox(Pending):
    """Files entries, and moves the alarm."""

    busy: bool

    # --- to register, and to cancel ---

    def add(self, waiter: Waiter) -> None:
        """Register what is no timer, after a `check`."""
        waiter._seq = seq = self.number()
        self.tasks[seq] = waiter
        if self.place is None and self.tasks.pop(seq, None) is not None:
            raise self.life.gone()  # meanwhile
        try:
            self.file(waiter.when, seq, TASKS)
        except BaseException:  # what is told of an earlier deadline, or Ctrl-C
            waiter._give_up()
            raise

    def discard(self, waiter: Waiter) -> bool:
        """Claim it, unless something else has; tells whether it was there."""
        if self.tasks.pop(waiter._seq, None) is None:
            return False
        self.killed(waiter.when)
        return True

    def file(self, when: float, seq: int, group: int) -> None:
        """It has a number in its group: now it gets an entry."""
        entry = when, seq, group
        if self.busy or (self.lock and not self.is_here()):
            self._leave(entry, when)
            return
        if len(self.queue.new) < RUN:
            heappush(self.queue.new, entry)
        else:
            try:
                self.busy = True
                self.queue.push(entry)
            finally:
                self.busy = False
        alarm = self.alarm
        if when < alarm.deadline or self.inbox:
            try:
                self.busy = True
                # Asked again, as a finalizer may have set an earlier one just now.
                if when < alarm.deadline:
                    alarm.move(when)
            finally:
                self.busy = False
            if self.inbox:
                self._look_again()
            if alarm.tells:
                # In the call that has set the timer: it gets what this raises.
                alarm.has_moved()

    def refile(self, when: float, seq: int, group: int) -> None:
        """The same, in the middle of the work on the queue."""
        heappush(self.queue.new, (when, seq, group))

    def killed(self, filed: float, how_many: int = 1) -> None:
        """Entries have been claimed, the first of which is filed for this deadline."""
        if self.lock and not self.is_here():
            # (One is enough: to count them exactly is not worth a message each.)
            # (Nothing makes a loop that is not Trio's sleep for longer.)
            self._leave(filed, filed if self.has_driver_task else nan)
            return
        queue = self.queue
        queue.dead += how_many
        if self.busy:
            self.inbox.append(None)
            return
        if queue.dead > FEW:
            try:
                self.busy = True
                queue.sweep_if_worth_it()
            finally:
                self.busy = False
        if filed <= self.alarm.deadline or self.inbox:
            self.rearm()

    def _leave(self, what: Entry | float, when: float) -> None:
        self.inbox.append(what)
        if self.is_here():
            return  # the busy code, which this has interrupted, looks
        # In this order: see the head of this file.
        deadline, crowd = self.alarm.deadline, len(self.inbox)
        urgent = when < deadline or (when == deadline and what is when)
        if urgent or crowd > _MESSAGES:
            self.alarm.tell(self.read)
            if self.has_driver_task and crowd > 2 * _MESSAGES:
                sleep(_PAUSE)
        elif not (self.has_driver_task or self.life.owners):
            # That was perhaps the last thing to wait for: only the driver can tell.
            self.alarm.wake_soon()

    # --- the place ---

    def rearm(self) -> None:
        """Set the alarm to the first deadline."""
        self._look_again()
        if self.alarm.tells:
            self.failures.keep(self.alarm.has_moved)

    def _look_again(self) -> None:
        """Read the inbox, and move the alarm."""
        for _ in range(_LOOKS):
            if self.place is None or self.busy:
                return
            try:
                self.busy = True
                if self.inbox:
                    self._drain()
                self._move_alarm()
            finally:
                self.busy = False
            if not self._has_mail():
                return
        # Other threads may go on without an end.
        self.alarm.tell(self.read)

    def _has_mail(self) -> bool:
        """Whether there is anything in the inbox; see above."""
        if self.lock is None:
            return bool(self.inbox)  # what leaves it has interrupted this very thread
        self.inbox.rotate(0)
        return bool(self.inbox)

    def _drain(self, at_most: int = maxsize) -> bool:
        """Read what is in the inbox; tells whether there was any."""
        inbox, queue = self.inbox, self.queue
        # No more than that, as other threads may go on without an end.
        how_many = min(len(inbox), at_most)
        for _ in range(how_many):
            item = inbox[0]
            if type(item) is tuple:
                queue.push(item)
            elif item is not None:
                queue.dead += 1
            # Only now, as Ctrl-C, outside of Trio, must not lose what another thread
            # has left. An entry that is filed twice does no harm.
            inbox.popleft()
        queue.sweep_if_worth_it()
        return how_many > 0

    def _move_alarm(self) -> None:
        alarm = self.alarm
        if alarm.deadline != -inf:
            deadline = self._first_deadline()
            if deadline != alarm.deadline:
                alarm.move(deadline)
            if deadline == inf:
                self.life.look_if_unused()

    def _first_deadline(self) -> float:
        """The first deadline of what is alive, exactly; infinity if there is none."""
        queue, groups, until = self.queue, self.groups, self._until
        deadline = inf
        while (entry := queue.first()) is not None:
            when, seq, group = entry
            waiter = groups.get(group, _NONE).get(seq)
            if waiter is not None and waiter._detour <= 0:
                if until is None or when > until:
                    deadline = when
                    break
                if seq <= self._limit:
                    return when
                self._aside.append(entry)
            queue.pop()
            if waiter is None:
                queue.dead -= 1
            elif waiter._detour > 0:
                waiter._file_later(seq)
        if not self._aside:
            return deadline
        # What has been set aside comes when the pass has nothing left.
        aside = [entry[0] for entry in self._aside if queue.is_alive(entry)]
        return min(aside, default=deadline)

    def read(self) -> None:
        """Another thread has left something that the place has to know of."""
        if self.place is None or self.busy:
            return
        if len(self.inbox) > _MESSAGES:
            try:
                self.busy = True
                self._drain(_MESSAGES)
            finally:
                self.busy = False
            self.alarm.tell(self.read)
        # (A driver that is awake looks before it sleeps.)
        elif self.alarm.deadline != -inf:
            self.rearm()
            if self.alarm.deadline <= self.now():
                self._take_turn()

    def next_deadline(self) -> float:
        """The first deadline, of the queue and the inbox."""
        if self.busy:
            raise RuntimeError("next_deadline is not known while timers are changing")
        found = False
        try:
            self.busy = True
            found = self._drain()
            return self._first_deadline()
        finally:
            self.busy = False
            if found or self.inbox:
                self.rearm()

    @abstractmethod
    def _take_turn(self) -> None:
        """Fire what is due without the driver's task, which would wake up later."""

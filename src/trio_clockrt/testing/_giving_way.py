"""A run that jumps all the time gives other threads a turn.

That is at a jump, and at each deadline of `advance`, and no more than each 0.2 ms. To
sleep takes some 65 microseconds on Linux, a jump ten; and at most jumps no other thread
wants a turn, but there is no way to ask.
"""

from __future__ import annotations

from _thread import _count as count_of_other_threads
from time import perf_counter, sleep

# For how many real seconds to go on without that: to sleep takes longer than to jump,
# and most of the time no other thread wants a turn.
_TURN = 0.0002


class GivingWay:
    """Remembers when it was done last.

    A thread that waits for the GIL asks for it after some milliseconds. But Trio lets
    go of the GIL whenever it looks for I/O, and takes it again before another thread
    has woken up, which then begins to wait anew. While this thread sleeps, the other
    one has time for that.
    """

    # As attributes, where freezegun does not look for what it could replace.
    _now = staticmethod(perf_counter)
    _sleep = staticmethod(sleep)

    def __init__(self) -> None:
        self._done_at = 0.0

    def give_way(self) -> None:
        # Python counts its threads in no time.
        if count_of_other_threads() and self._now() - self._done_at > _TURN:
            self._sleep(0)
            self._done_at = self._now()

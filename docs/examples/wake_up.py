"""A loop around a selector, with timers that other threads set."""

import contextlib
import selectors
import socket
import threading

from trio_clockrt import ClockGone, InactiveClock


class Loop:
    """Waits for sockets and for timers; a byte in a socket of its own wakes it."""

    def __init__(self):
        self._selector = selectors.DefaultSelector()
        self._wakes, self._woken = socket.socketpair()
        for end in self._wakes, self._woken:
            end.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ, self._drain)
        self.clock, self._driver = InactiveClock.new_shared().activate_manual(
            on_earlier=self.wake_up
        )

    def wake_up(self):
        # If the socket is full, the loop is going to wake up.
        with contextlib.suppress(BlockingIOError):
            self._wakes.send(b"!")

    def _drain(self):
        self._woken.recv(1000)

    def run(self):
        while True:
            try:
                deadline = self._driver.advance_timers()
            except ClockGone:
                break
            seconds = None
            if deadline is not None:
                seconds = max(0, deadline - self.clock.instant())
            for key, _ in self._selector.select(seconds):
                key.data()
        for resource in self._selector, self._wakes, self._woken:
            resource.close()


def worker(clock, timers):
    timers.call_later(0.01, print, "set by a thread, fires in the loop")
    clock.delay_blocking(0.02)
    print("a thread has slept")
    timers.cancel_timers()
    clock.close()


loop = Loop()
with loop.clock.timer_group() as timers:
    timers.call_later(3600, print, "much later")
    thread = threading.Thread(target=worker, args=(loop.clock, timers))
    thread.start()
    loop.run()
    thread.join()
print("the clock is gone")

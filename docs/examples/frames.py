"""A loop that draws frames, and waits for events when there is nothing to draw."""

import queue

from trio_clockrt import InactiveClock


class Events:
    """What ``pygame.event`` is: a queue that threads may post to."""

    def __init__(self):
        self._queue = queue.SimpleQueue()

    def post(self, event):
        self._queue.put(event)

    def wait(self, seconds):
        try:
            return self._queue.get(timeout=seconds)
        except queue.Empty:
            return None


class Window:
    def __init__(self):
        self._events = Events()
        self.clock, self._driver = InactiveClock().activate_manual(
            on_earlier=self._wake_up
        )
        self._running = True
        self._hint = None

    def _wake_up(self):
        self._events.post("timer")

    def close(self):
        self._running = False

    def draw(self, timers):
        print("a frame")
        # For what fades, a frame is enough to set the next timer. Without `on_earlier`
        # it would fire in an hour.
        if self._hint is None:
            self._hint = timers.call_later(0.01, self._fade, timers)

    def _fade(self, timers):
        print("the hint fades")
        timers.call_later(0.01, self.close)

    def run(self):
        with self.clock, self.clock.timer_group() as timers:
            timers.call_later(3600, print, "an hour later")
            while True:
                deadline = self._driver.advance_timers()
                if not self._running:
                    break
                if self._hint is None:
                    self.draw(timers)
                seconds = None
                if deadline is not None:
                    seconds = max(0, deadline - self.clock.instant())
                self._events.wait(seconds)


Window().run()
print("closed")

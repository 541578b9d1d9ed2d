"""A clock in asyncio: its timers fire in the loop, and wake it in time."""

import asyncio

from trio_clockrt import ClockGone, InactiveClock


class AsyncioClock:
    """Advances the timers of a clock as long as the asyncio loop runs."""

    def __init__(self):
        self._loop = asyncio.get_running_loop()
        self._handle = None
        self.gone = asyncio.Event()
        self.clock, self._driver = InactiveClock().activate_manual(
            on_earlier=self._advance_soon
        )

    def _advance_soon(self):
        self._loop.call_soon_threadsafe(self._advance)

    def _advance(self):
        if self._handle is not None:
            self._handle.cancel()
        try:
            self._driver.advance_timers()
        except ClockGone:
            self.gone.set()
        finally:
            # Also if a callback has failed, which asyncio reports.
            deadline = self._driver.next_deadline
            if deadline is not None:
                seconds = max(0, deadline - self.clock.instant())
                self._handle = self._loop.call_later(seconds, self._advance)


async def main():
    driven = AsyncioClock()
    with driven.clock as clock, clock.timer_group() as timers:
        start = clock.instant()

        def say(what):
            print(f"{clock.instant() - start:.1f} s: {what}")

        timers.call_later(0.5, say, "the first one")
        await asyncio.sleep(0.1)
        # The loop is going to sleep for another 0.4 s.
        timers.call_later(0.1, say, "the earlier one")
        await asyncio.sleep(0.2)
        say("a task of asyncio")
        await asyncio.sleep(0.3)
    await driven.gone.wait()
    print("the clock is gone")


asyncio.run(main())

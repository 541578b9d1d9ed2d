"""A program whose log tells which task went when; for test_seed.py.

Its tasks are woken together by everything that Trio keeps in sets, or in the order of
addresses in memory, and by this library's timers.
"""

from __future__ import annotations

import sys

import trio

from trio_clockrt import Clock, MissedTick, open_clock
from trio_clockrt.testing import ClockControl

TASKS = 12


class Program:
    def __init__(self) -> None:
        self.log: list[str] = []

    def note(self, what: str, n: int) -> None:
        self.log.append(f"{trio.current_time():g} {what} {n}")

    async def sleep(self, n: int) -> None:
        for _ in range(3):
            await trio.sleep(1)
            self.note("slept", n)

    async def wait(self, event: trio.Event, n: int) -> None:
        await event.wait()
        self.note("heard of it", n)

    async def receive(self, channel: trio.MemoryReceiveChannel[int], n: int) -> None:
        async with channel:
            async for item in channel:
                self.note(f"received {item}", n)
                await trio.lowlevel.checkpoint()

    async def take_turns(self, lock: trio.Lock, n: int) -> None:
        for _ in range(2):
            async with lock:
                self.note("locked", n)
                await trio.sleep(0.25)

    async def be_cancelled(self, n: int) -> None:
        try:
            # All of them at once, the inner ones too.
            with trio.move_on_at(2), trio.move_on_at(2), trio.move_on_at(2):
                await trio.sleep_forever()
        finally:
            self.note("cancelled", n)

    async def be_shut_down(self, n: int) -> None:
        try:
            with trio.CancelScope():
                await trio.sleep_forever()
        finally:
            self.note("shut down", n)

    async def delay(self, clock: Clock, n: int) -> None:
        for _ in range(3):
            await clock.delay(1)
            self.note("delayed", n)

    async def tick(self, clock: Clock, n: int) -> None:
        with clock.move_on_after(3):
            async for _ in clock.periodic(0.5, missed=MissedTick.BURST):
                self.note("ticked", n)

    async def timers(self, clock: Clock, n: int) -> None:
        async with clock.open_timers() as timers:
            for when in (1, 2):
                timers.call_at(when, self.note, "called", n)
                timers.start_at(when, self.sleep, n)

    async def main(self) -> None:
        event, lock = trio.Event(), trio.Lock()
        send, receive = trio.open_memory_channel[int](3)
        async with open_clock() as clock, trio.open_nursery() as nursery:
            async with trio.open_nursery() as inner:
                for n in range(TASKS):
                    nursery.start_soon(self.sleep, n)
                    nursery.start_soon(self.wait, event, n)
                    nursery.start_soon(self.receive, receive.clone(), n)
                    nursery.start_soon(self.take_turns, lock, n)
                    nursery.start_soon(self.be_cancelled, n)
                    nursery.start_soon(self.delay, clock, n)
                    nursery.start_soon(self.tick, clock, n)
                    nursery.start_soon(self.timers, clock, n)
                    inner.start_soon(self.be_shut_down, n)
                receive.close()
                await trio.sleep(1)
                event.set()
                async with send:
                    for n in range(3 * TASKS):
                        await send.send(n)
                inner.cancel_scope.cancel()


def log_of(seed: int | None) -> list[str]:
    program = Program()
    trio.run(program.main, clock=ClockControl(autojump_threshold=0, seed=seed))
    return program.log


if __name__ == "__main__":
    print(*log_of(int(sys.argv[1])), sep="\n")

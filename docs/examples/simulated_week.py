"""A week of a service with 200 clients, in some seconds; and the same log each time.

Clients send a heartbeat every hour, and ask for something now and then. The server
answers from a cache, or from a backend that fails at times, so clients try again. From
time to time a client is away for so long that the server hangs up.

`Service` does all that with tasks. Several of them are often woken at the same instant,
and Trio leaves it to chance which goes first; so for the same log each time it takes a
control with a seed. `CallbackService` does it with timers alone, in which there is no
chance, and without Trio.
"""

from functools import partial
from random import Random

import trio
from trio_clockrt import open_clock
from trio_clockrt.testing import ClockControl

CLIENTS = 200
MINUTE, HOUR, DAY = 60, 3600, 24 * 3600


class Backend:
    """What both services have: a log, dice, and a cache in front of what is slow."""

    def __init__(self, clock, timers):
        self.clock = clock
        self.timers = timers
        self.random = Random(1)
        self.log = []
        self.cache = {}

    def note(self, *words):
        self.log.append(f"{self.clock.instant():.3f} {' '.join(map(str, words))}")

    def look_up(self, key):
        """Find an answer, or None. An answer that is not asked for is forgotten."""
        if key in self.cache:
            self.cache[key].reset(30 * MINUTE)
            return "cached"
        if self.random.random() < 0.3:
            return None
        self.cache[key] = self.timers.call_later(30 * MINUTE, self.forget, key)
        return "fresh"

    def forget(self, key):
        del self.cache[key]
        self.note("forgot", key)

    def report(self):
        self.note(len(self.cache), "entries in the cache")

    # What clients do depends on dice.

    def pause(self):
        return self.random.uniform(MINUTE, 2 * HOUR)

    def key(self):
        return self.random.randrange(1000)

    def is_going_away(self):
        return self.random.random() < 0.02

    def backoff(self, attempt):
        return 2**attempt * self.random.uniform(0.5, 1)


class Service(Backend):
    """With tasks: two for each client, one of them the server's."""

    async def run(self):
        async with trio.open_nursery() as nursery:
            for n in range(CLIENTS):
                nursery.start_soon(self.be_client, n, nursery)
            async for _ in self.clock.periodic(DAY):
                self.report()

    async def serve(self, n, requests, answers):
        with requests, answers, trio.CancelScope() as connection:
            idle = self.timers.call_later(3 * HOUR, connection.cancel)
            async for key in requests:
                idle.reset(3 * HOUR)
                if key is None:
                    self.note("heartbeat of", n)
                else:
                    await answers.send(self.look_up(key))
        if connection.cancelled_caught:
            self.note("hung up on", n)

    async def be_client(self, n, nursery):
        while True:
            requests, for_server = trio.open_memory_channel(1)
            from_server, answers = trio.open_memory_channel(1)
            nursery.start_soon(self.serve, n, for_server, from_server)
            heartbeat = self.timers.call_every(HOUR, self.beat, requests)
            try:
                with requests, answers:
                    while True:
                        await self.clock.delay(self.pause())
                        if self.is_going_away():
                            heartbeat.cancel()
                            await self.clock.delay(4 * HOUR)
                        await self.ask(n, self.key(), requests, answers)
            except trio.BrokenResourceError:
                self.note(n, "connects again")

    def beat(self, requests):
        requests.send_nowait(None)

    async def ask(self, n, key, requests, answers):
        for attempt in range(4):
            await requests.send(key)
            answer = await answers.receive()
            if answer is not None:
                self.note(n, "got", key, answer)
                return
            await self.clock.delay(self.backoff(attempt))
        self.note(n, "gave up on", key)


class CallbackService(Backend):
    """With timers: each later step is a function to be called later."""

    def __init__(self, clock, timers):
        super().__init__(clock, timers)
        self.idle = {}
        self.heartbeats = {}

    def start(self):
        self.timers.call_every(DAY, self.report)
        for n in range(CLIENTS):
            self.connect(n)

    def connect(self, n):
        self.idle[n] = self.timers.call_later(3 * HOUR, self.hang_up, n)
        self.heartbeats[n] = self.timers.call_every(HOUR, self.beat, n)
        self.ask_soon(n)

    def hang_up(self, n):
        self.note("hung up on", n)

    def beat(self, n):
        self.idle[n].reset(3 * HOUR)
        self.note("heartbeat of", n)

    def ask_soon(self, n):
        self.timers.call_later(self.pause(), self.wake_up, n)

    def wake_up(self, n):
        if self.is_going_away():
            self.heartbeats[n].cancel()
            self.timers.call_later(4 * HOUR, self.ask, n, self.key(), 0)
        else:
            self.ask(n, self.key(), 0)

    def ask(self, n, key, attempt):
        if not self.idle[n].pending:
            self.note(n, "connects again")
            self.connect(n)
            return
        self.idle[n].reset(3 * HOUR)
        answer = self.look_up(key)
        if answer is not None:
            self.note(n, "got", key, answer)
        elif attempt < 4:
            self.timers.call_later(self.backoff(attempt), self.ask, n, key, attempt + 1)
            return
        else:
            self.note(n, "gave up on", key)
        self.ask_soon(n)


def simulate(days, *, seed=None):
    """The log of so many days, of the service with tasks."""

    async def main():
        async with open_clock() as clock, clock.open_timers(on_exit="cancel") as timers:
            # Before any other timer, so that nothing else fires at this instant.
            timers.call_later(days * DAY, timers.cancel_scope.cancel)
            service = Service(clock, timers)
            await service.run()
        return service.log

    return trio.run(main, clock=ClockControl(autojump_threshold=0, seed=seed))


def simulate_callbacks(days):
    """The log of so many days, of the service with callbacks."""
    control = ClockControl()
    clock = control.to_clock()
    with clock.timer_group() as timers:
        service = CallbackService(clock, timers)
        service.start()
        control.advance(days * DAY)
    return service.log


if __name__ == "__main__":
    for run in partial(simulate, seed=1), simulate_callbacks:
        log = run(days=7)
        print(*log[-3:], f"{len(log)} events", sep="\n")

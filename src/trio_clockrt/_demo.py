"""The program that ``python -m trio_clockrt`` runs: an echo server and its timers.

Every connection has an idle timer, which each message resets, and the server has a
heartbeat. Most clients keep talking, some hang up, and some fall silent and wait until
the idle timer closes their connection.

`Records` is what the server writes down, and what the timers are judged by. Nothing in
it depends on how fast the machine is: a timer may be as late as it likes, but it must
not be overtaken by one with a later deadline.
"""

from __future__ import annotations

from math import floor, inf
from random import uniform
from statistics import quantiles
from typing import TYPE_CHECKING

import attrs
import trio

from ._inactive_clock import InactiveClock
from ._periodic import MissedTick

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._clock import Clock
    from ._driver import DriverStatistics
    from ._timer import Timer
    from ._timer_nursery import TimerNursery

_HOST = "127.0.0.1"
_PROGRESS_PERIOD = 0.1
_MOMENT = 0.001

# A single byte, which TCP cannot tear apart.
_MESSAGE = b"!"


@attrs.frozen
class Plan:
    """How much is to happen; all times are in proportion to the whole."""

    connections: int = 500
    seconds: float = 5.0

    @property
    def idle(self) -> float:
        """How long a connection may be silent, and how long a request may take."""
        return self.seconds / 5

    @property
    def heartbeat(self) -> float:
        # However short the run, this stays a period that a clock can tell from zero.
        return max(self.seconds / 50, 0.001)

    def pause(self) -> float:
        """How long a client waits between two messages."""
        return self.idle * uniform(0.3, 0.7)


@attrs.define
class Records:
    """What the server has seen, and what is wrong with that.

    Counts of what was *expected* follow from when messages came and from the clock,
    and never from what a timer did.

    Attributes:
        lost: Timers that had not fired when the driver got past their deadlines.
        early: Timers that have fired before their deadlines.
        doubled: Timers that have fired once more than they were set, or after they
            had been cancelled.
    """

    connections: int = 0
    messages: int = 0
    request_timeouts: int = 0
    idle_closes: int = 0
    idle_closes_expected: int = 0
    heartbeats: int = 0
    heartbeats_expected: int = 0
    lost: int = 0
    early: int = 0
    doubled: int = 0
    _lateness: list[float] = attrs.field(factory=list[float], init=False)
    # All that was due before this instant must have fired, as timers fire in order.
    _horizon: float = attrs.field(default=-inf, init=False)

    def lateness(self) -> dict[str, float]:
        """In milliseconds; empty if no timer has fired."""
        late = [1000 * seconds for seconds in self._lateness]
        if not late:
            return {}
        # Before Python 3.13, a single sample has no quantiles.
        samples = late * 2 if len(late) == 1 else late
        cuts = quantiles(samples, n=100, method="inclusive")
        return {"p50": cuts[49], "p99": cuts[98], "max": max(late)}

    def fired(self, deadline: float, now: float) -> None:
        """A timer has fired that was set."""
        self.early += now < deadline
        self._lateness.append(now - deadline)
        self.driven_to(min(deadline, now))

    def driven_to(self, instant: float) -> None:
        """The driver has fired what was due before this instant."""
        self._horizon = max(self._horizon, instant)

    def overdue(self, deadline: float) -> bool:
        return deadline < self._horizon

    def judge_heartbeats(self, first: float, period: float, now: float) -> None:
        """Every one that is due by *now* has had its chance."""
        self.heartbeats_expected = max(0, floor((now - first) / period) + 1)
        missing = self.heartbeats_expected - self.heartbeats
        self.lost += max(0, missing)
        self.doubled += max(0, -missing)


@attrs.define(eq=False)
class IdleRecord:
    """One connection's idle timer, as far as the server's own records tell."""

    _records: Records
    _idle: float
    # When the connection has to be closed: never, unless the timer is set.
    _deadline: float = attrs.field(default=inf, init=False)

    def armed(self, heard: float, when: float, now: float) -> None:
        """A message was *heard*, and *now* the timer has been set, it says to *when*.

        We take its word for that only as far as we have seen it ourselves.
        """
        self._set(min(max(when, heard + self._idle), now + self._idle))

    def cancelled(self) -> None:
        self._set(inf)

    def fired(self, now: float) -> None:
        records, deadline = self._records, self._deadline
        if deadline == inf:
            records.doubled += 1
        else:
            records.lost += records.overdue(deadline)
            records.idle_closes_expected += now >= deadline
            records.fired(deadline, now)
            self._deadline = inf

    def _set(self, deadline: float) -> None:
        # A message may save the connection even after the deadline, but not after the
        # driver has been past it.
        if self._records.overdue(self._deadline):
            self._records.lost += 1
            self._records.idle_closes_expected += 1
        self._deadline = deadline


@attrs.frozen
class Report:
    """The outcome of a run."""

    plan: Plan
    records: Records
    driver: DriverStatistics

    @property
    def faults(self) -> str:
        """What is wrong with the timers: an empty string if nothing is."""
        records = self.records
        counts = (
            (records.lost, "lost"),
            (records.early, "early"),
            (records.doubled, "doubled"),
        )
        return ", ".join(f"{count} {kind}" for count, kind in counts if count)

    def as_dict(self) -> dict[str, object]:
        """All of it, for JSON."""
        return {
            "plan": attrs.asdict(self.plan),
            **attrs.asdict(self.records, filter=lambda field, _: field.name[0] != "_"),
            "lateness_ms": self.records.lateness(),
            "driver": attrs.asdict(self.driver),
        }


@attrs.define(eq=False)
class Heartbeat:
    """The server's heartbeat. It has to beat once per period, however late."""

    _clock: Clock
    _records: Records
    _period: float
    _timer: Timer = attrs.field(init=False)
    _first: float = attrs.field(init=False)
    _due: float = attrs.field(init=False)

    def start(self, timers: TimerNursery) -> None:
        self._timer = timers.call_every(
            self._period, self._beat, missed=MissedTick.BURST
        )
        self._first = self._due = self._timer.when

    def _beat(self) -> None:
        self._records.heartbeats += 1
        self._records.fired(self._due, self._clock.instant())
        # By now the timer is set for the beat after this one.
        self._due = self._timer.when

    async def stop(self) -> None:
        """Let it catch up if it is late, then stop it, and judge it."""
        beats = -1
        # Each turn of the driver must bring a beat, or none will ever come.
        while (
            self._timer.when <= (now := self._clock.instant())
            and beats < self._records.heartbeats
        ):
            beats = self._records.heartbeats
            await self._clock.delay(self._period)
        self._timer.cancel()
        self._records.judge_heartbeats(self._first, self._period, now)


@attrs.define(eq=False)
class Demo:
    """The echo server and its clients."""

    clock: Clock
    timers: TimerNursery
    plan: Plan
    records: Records

    async def serve(self, stream: trio.abc.Stream) -> None:
        """The server's side of a connection."""
        clock, idle = self.clock, self.plan.idle
        record = IdleRecord(self.records, idle)
        self.records.connections += 1
        with trio.CancelScope() as scope:
            heard = clock.instant()
            timer = self.timers.call_later(idle, self._on_idle, record, scope)
            record.armed(heard, timer.when, clock.instant())
            try:
                # A message that was read just before it got too late changes nothing.
                while (
                    message := await stream.receive_some()
                ) and not scope.cancel_called:
                    heard = clock.instant()
                    timer.reset(idle)
                    record.armed(heard, timer.when, clock.instant())
                    self.records.messages += 1
                    await stream.send_all(message)
            except trio.BrokenResourceError:
                pass  # the client has left without waiting for the echo
            finally:
                timer.cancel()
                record.cancelled()
                self.records.idle_closes += scope.cancel_called

    def _on_idle(self, record: IdleRecord, scope: trio.CancelScope) -> None:
        record.fired(self.clock.instant())
        scope.cancel()

    async def talk(
        self, stream: trio.abc.Stream, until: float, *, fall_silent: bool
    ) -> None:
        """The client's side of a connection, which may be closed at any moment.

        It measures nothing: on a slow machine, what it sees is no fault of a timer.
        """
        try:
            while self.clock.instant() < until:
                with self.clock.fail_after(self.plan.idle):
                    await stream.send_all(_MESSAGE)
                    if not await stream.receive_some():
                        return
                await self.clock.delay(self.plan.pause())
            if fall_silent:
                await stream.receive_some()
        except trio.TooSlowError:
            self.records.request_timeouts += 1
        except trio.BrokenResourceError:
            pass

    async def run(self) -> None:
        """Have the server and all clients at work for as long as planned."""
        clock, plan = self.clock, self.plan
        start = clock.instant()
        async with trio.open_nursery() as nursery:
            listeners = await trio.open_tcp_listeners(0, host=_HOST)
            nursery.start_soon(trio.serve_listeners, self.serve, listeners)
            port = listeners[0].socket.getsockname()[1]
            for number in range(plan.connections):
                nursery.start_soon(self._client, number, port, start)
            await clock.delay_until(start + plan.seconds)
            # What is late has its chance first: this one is due after all of them.
            now = clock.instant()
            await clock.delay(_MOMENT)
            self.records.driven_to(now)
            nursery.cancel_scope.cancel()

    async def _client(self, number: int, port: int, start: float) -> None:
        # One in ten falls silent, early enough to be closed before the end, and one
        # hangs up, early enough to show if its cancelled timer should fire after all.
        until = inf
        if number % 10 < 2:
            until = start + self.plan.seconds * uniform(0.1, 0.6)
        await self.clock.delay(uniform(0, self.plan.idle))
        async with await trio.open_tcp_stream(_HOST, port) as stream:
            await self.talk(stream, until, fall_silent=number % 10 == 0)


async def run_demo(
    plan: Plan, on_progress: Callable[[float, Records], object]
) -> Report:
    """Run the whole program in this Trio run.

    Calls ``on_progress(elapsed, records)`` now and then.
    """
    records = Records()
    async with InactiveClock().activate() as (clock, driver):
        async with clock.open_timers(on_exit="cancel") as timers:
            stopwatch = clock.stopwatch()

            def show() -> None:
                on_progress(stopwatch.elapsed(), records)

            timers.call_every(_PROGRESS_PERIOD, show)
            heartbeat = Heartbeat(clock, records, plan.heartbeat)
            heartbeat.start(timers)
            await Demo(clock, timers, plan, records).run()
            await heartbeat.stop()
            show()
        return Report(plan, records, driver.statistics())

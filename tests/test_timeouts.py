"""Timeouts on each kind of clock: over on entry, cancelled by hand, what they say."""

from __future__ import annotations

import sys
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import (
    AbstractContextManager,
    asynccontextmanager,
    suppress,
)
from datetime import timedelta
from inspect import signature
from math import inf
from typing import Any

import pytest
import trio
from kinds_of_clock import Open, own, own_shared, stand_alone
from shared_clock import SharedClock
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_clockrt import Clock, ClockGone, InactiveClock, _timeouts, open_clock
from trio_clockrt.testing import ClockControl

if sys.version_info < (3, 11):
    from exceptiongroup import ExceptionGroup

Make = Callable[[Clock, float], AbstractContextManager[trio.CancelScope]]


def jumping() -> ClockControl:
    return ClockControl(autojump_threshold=0)


@asynccontextmanager
async def from_control() -> AsyncGenerator[Clock]:
    recipe = InactiveClock.from_control(jumping())
    async with recipe.activate() as (clock, _):
        yield clock


@asynccontextmanager
async def manual_of_a_control() -> AsyncGenerator[Clock]:
    clock, driver = InactiveClock.from_control(jumping()).activate_manual()
    yield clock
    del driver


@asynccontextmanager
async def manual() -> AsyncGenerator[Clock]:
    clock, driver = InactiveClock().activate_manual()
    yield clock
    del driver


@asynccontextmanager
async def manual_shared() -> AsyncGenerator[Clock]:
    clock, driver = InactiveClock.new_shared().activate_manual()
    yield clock
    del driver


@asynccontextmanager
async def limited_by_hand() -> AsyncGenerator[Clock]:
    yield ClockControl().to_clock()


ON_SCOPES = [own, own_shared]
MOVED_BY_JUMPS = [from_control, stand_alone, manual_of_a_control]
each_kind = pytest.mark.parametrize(
    "open_it", [*ON_SCOPES, *MOVED_BY_JUMPS, manual, manual_shared]
)
each_virtual_kind = pytest.mark.parametrize("open_it", [*ON_SCOPES, *MOVED_BY_JUMPS])
each_run_clock = pytest.mark.parametrize(
    "run_clock", [jumping, lambda: MockClock(autojump_threshold=0)]
)

TIMEOUTS: dict[str, Make] = {
    "move_on_after": lambda clock, seconds: clock.move_on_after(seconds),
    "move_on_at": lambda clock, seconds: clock.move_on_at(clock.instant() + seconds),
    "fail_after": lambda clock, seconds: clock.fail_after(seconds),
    "fail_at": lambda clock, seconds: clock.fail_at(clock.instant() + seconds),
}
each_timeout = pytest.mark.parametrize("name", list(TIMEOUTS))
each_failing = pytest.mark.parametrize("name", ["fail_after", "fail_at"])


async def receive_at_once(block: AbstractContextManager[trio.CancelScope]) -> str:
    """What becomes of a block in which a message is there already."""
    send, receive = trio.open_memory_channel[str](1)
    send.send_nowait("the message")
    received = "moved on"
    try:
        with block:
            received = await receive.receive()
    except trio.TooSlowError:
        return "too slow"
    return received


# --- over on entry ---


@each_run_clock
@each_kind
@each_timeout
def test_the_time_is_up_on_entry(
    name: str, open_it: Open, run_clock: Callable[[], ClockControl]
) -> None:
    async def main() -> None:
        async with open_it() as clock:
            said = await receive_at_once(TIMEOUTS[name](clock, 0))
            assert said == ("too slow" if name.startswith("fail") else "moved on")

    trio.run(main, clock=run_clock())


@each_kind
def test_the_instant_is_past_on_entry(open_it: Open) -> None:
    async def main() -> None:
        async with open_it() as clock:
            past = clock.instant() - 1
            assert await receive_at_once(clock.move_on_at(past)) == "moved on"
            assert await receive_at_once(clock.fail_at(past)) == "too slow"

    trio.run(main, clock=jumping())


@each_virtual_kind
def test_it_counts_from_entry(open_it: Open) -> None:
    async def main() -> None:
        async with open_it() as clock:
            after, at = clock.fail_after(timedelta(seconds=1)), clock.fail_at(1)
            await clock.delay(2)
            assert await receive_at_once(after) == "the message"
            assert await receive_at_once(at) == "too slow"

    trio.run(main, clock=jumping())


@each_kind
@each_timeout
def test_without_a_checkpoint_nothing_is_cancelled(name: str, open_it: Open) -> None:
    async def main() -> None:
        async with open_it() as clock:
            with TIMEOUTS[name](clock, 0) as scope:
                pass
            assert not scope.cancelled_caught

    trio.run(main, clock=jumping())


def test_an_instant_that_time_has_got_to_but_for_a_rounding_error() -> None:
    # What tenths add up to is counted as the same nanosecond.
    async def main() -> None:
        control = jumping()
        clock = control.to_clock()
        for _ in range(3):
            control.jump(0.1)
        assert clock.instant() < 0.1 + 0.1 + 0.1
        assert await receive_at_once(clock.move_on_at(0.1 + 0.1 + 0.1)) == "moved on"

    trio.run(main)


@each_timeout
def test_over_on_entry_in_another_run(name: str, shared: SharedClock) -> None:
    said: list[str] = []

    async def main() -> None:
        said.append(await receive_at_once(TIMEOUTS[name](shared.clock, 0)))

    shared.start("other", main)
    assert said == ["too slow" if name.startswith("fail") else "moved on"]


# --- cancelled by hand ---


@each_run_clock
@each_virtual_kind
@each_failing
def test_cancelled_by_hand_in_time(
    name: str, open_it: Open, run_clock: Callable[[], ClockControl]
) -> None:
    async def main() -> None:
        async with open_it() as clock:
            start = clock.instant()
            with TIMEOUTS[name](clock, 10) as scope:
                await clock.delay(1)
                scope.cancel()
                await clock.delay(1)
            assert scope.cancelled_caught
            assert clock.instant() == start + 1

    trio.run(main, clock=run_clock())


@pytest.mark.parametrize("open_it", MOVED_BY_JUMPS)
@each_failing
def test_cancelled_by_hand_in_time_and_left_late(name: str, open_it: Open) -> None:
    async def main() -> None:
        async with open_it() as clock:
            with TIMEOUTS[name](clock, 10) as scope:
                scope.cancel()
                with trio.CancelScope(shield=True):
                    await clock.delay(20)
                await clock.delay(1)
            assert scope.cancelled_caught

    trio.run(main, clock=jumping())


@each_failing
def test_cancelled_by_hand_in_another_run(name: str, shared: SharedClock) -> None:
    ended: list[bool] = []

    async def main() -> None:
        with TIMEOUTS[name](shared.clock, 10) as scope:
            scope.cancel()
            await trio.sleep(10)
        ended.append(scope.cancelled_caught)

    shared.start("other", main)
    assert ended == [True]


@each_virtual_kind
def test_cancelled_by_hand_when_the_time_was_up(open_it: Open) -> None:
    async def main() -> None:
        async with open_it() as clock:
            with pytest.raises(trio.TooSlowError):
                with clock.fail_after(10) as scope:
                    with trio.CancelScope(shield=True):
                        await clock.delay(20)
                    scope.cancel()
                    await clock.delay(1)

    trio.run(main, clock=jumping())


def test_a_real_guard_that_is_cancelled_by_hand() -> None:
    async def main() -> None:
        with control.fail_after_real(0) as scope:
            scope.cancel()
            with trio.CancelScope(shield=True):
                for thread in threading.enumerate():
                    if isinstance(thread, threading.Timer):
                        thread.join()
                await wait_all_tasks_blocked()
            await trio.sleep(1)
        assert scope.cancelled_caught

    control = jumping()
    trio.run(main, clock=control)


@each_virtual_kind
def test_nothing_but_the_own_cancellation_fails(open_it: Open) -> None:
    async def main() -> None:
        async with open_it() as clock:
            with trio.CancelScope() as outer:
                with clock.fail_after(10) as scope:
                    outer.cancel()
                    await clock.delay(20)
            assert outer.cancelled_caught
            assert not scope.cancelled_caught
            with pytest.raises(KeyError):
                with clock.fail_after(1):
                    with trio.CancelScope(shield=True):
                        await clock.delay(2)
                    raise KeyError

    trio.run(main, clock=jumping())


@each_virtual_kind
def test_an_error_beside_the_cancellation_comes_out(open_it: Open) -> None:
    async def fail(clock: Clock) -> None:
        try:
            await clock.delay(20)
        finally:
            raise KeyError

    async def main() -> None:
        async with open_it() as clock:
            with pytest.raises(ExceptionGroup) as caught:
                with clock.fail_after(10) as scope:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(fail, clock)
                        nursery.start_soon(clock.delay, 20)
            assert [type(error) for error in caught.value.exceptions] == [KeyError]
            assert scope.cancelled_caught

    trio.run(main, clock=jumping())


# --- on the run's own clock, the deadline is the user's ---


@each_failing
def test_the_deadline_can_be_moved(name: str) -> None:
    async def main() -> None:
        async with open_clock() as clock:
            with TIMEOUTS[name](clock, 10) as scope:
                assert scope.deadline == 10
                scope.deadline = 30
                await clock.delay(20)
            with pytest.raises(trio.TooSlowError):
                with TIMEOUTS[name](clock, 10) as scope:
                    scope.deadline = clock.instant() + 1
                    await clock.delay(5)
            assert clock.instant() == 21

    trio.run(main, clock=jumping())


Move = Callable[[trio.CancelScope], None]


def later(scope: trio.CancelScope) -> None:
    scope.deadline = trio.current_time() + 5


def never(scope: trio.CancelScope) -> None:
    scope.deadline = inf


def relatively(scope: trio.CancelScope) -> None:
    scope.relative_deadline = 5


# Trio before 0.31 does not tell why a scope was cancelled.
tells_why = pytest.mark.skipif(
    not hasattr(trio.Cancelled, "source"), reason="this Trio does not tell why"
)
if hasattr(trio.CancelScope, "relative_deadline"):
    each_move = pytest.mark.parametrize("move", [later, never, relatively])
else:
    each_move = pytest.mark.parametrize("move", [later, never])


@each_move
@each_run_clock
@each_virtual_kind
@each_failing
def test_the_deadline_is_moved_when_the_time_was_up(
    name: str, open_it: Open, run_clock: Callable[[], ClockControl], move: Move
) -> None:
    async def main() -> None:
        async with open_it() as clock:
            start = clock.instant()
            with pytest.raises(trio.TooSlowError, match=name):
                with TIMEOUTS[name](clock, 1) as scope:
                    try:
                        await clock.delay(10)
                    finally:
                        move(scope)
            assert clock.instant() == start + 1

    trio.run(main, clock=run_clock())


@each_move
@each_run_clock
@each_virtual_kind
@each_failing
def test_another_task_moves_the_deadline_as_the_time_is_up(
    name: str, open_it: Open, run_clock: Callable[[], ClockControl], move: Move
) -> None:
    async def move_at(clock: Clock, scope: trio.CancelScope, instant: float) -> None:
        await clock.delay_until(instant)
        move(scope)

    async def main() -> None:
        async with open_it() as clock, trio.open_nursery() as nursery:
            with pytest.raises(trio.TooSlowError):
                with TIMEOUTS[name](clock, 1) as scope:
                    nursery.start_soon(move_at, clock, scope, clock.instant() + 1)
                    try:
                        await clock.delay(0.5)
                        await clock.delay(10)
                    finally:
                        assert scope.cancel_called
                        with trio.CancelScope(shield=True):
                            await wait_all_tasks_blocked()

    trio.run(main, clock=run_clock())


@each_move
@each_failing
def test_the_deadline_is_moved_in_another_run(
    name: str, move: Move, shared: SharedClock
) -> None:
    ended: list[bool] = []

    async def main() -> None:
        with pytest.raises(trio.TooSlowError):
            with TIMEOUTS[name](shared.clock, 1) as scope:
                try:
                    await trio.sleep_forever()
                finally:
                    move(scope)
        ended.append(scope.cancelled_caught)

    shared.start("other", main)
    shared.jump(1)
    assert ended == [True]


@each_move
@each_virtual_kind
@each_failing
def test_what_child_tasks_raise_tells_it_too(
    name: str, open_it: Open, move: Move
) -> None:
    async def main() -> None:
        async with open_it() as clock:
            with pytest.raises(trio.TooSlowError):
                with TIMEOUTS[name](clock, 1) as scope:
                    try:
                        async with trio.open_nursery() as nursery:
                            nursery.start_soon(clock.delay, 10)
                            nursery.start_soon(clock.delay, 20)
                    finally:
                        move(scope)

    trio.run(main, clock=jumping())


@tells_why
@pytest.mark.parametrize("kind", [own, own_shared, limited_by_hand])
@each_failing
def test_the_deadline_is_moved_for_a_while(name: str, kind: Open) -> None:
    """Where the library's timers drive the timeout, that is one limit more."""

    async def main() -> None:
        async with kind() as clock:
            with pytest.raises(trio.TooSlowError):
                with TIMEOUTS[name](clock, 10) as scope:
                    before, scope.deadline = scope.deadline, trio.current_time() + 1
                    try:
                        await trio.sleep(2)
                    finally:
                        scope.deadline = before

    trio.run(main, clock=jumping())


@tells_why
@each_run_clock
@pytest.mark.parametrize("open_it", ON_SCOPES)
@each_failing
def test_cancelled_by_hand_in_time_for_the_moved_deadline(
    name: str, open_it: Open, run_clock: Callable[[], ClockControl]
) -> None:
    async def main() -> None:
        async with open_it() as clock:
            with TIMEOUTS[name](clock, 10) as scope:
                for _ in range(10):
                    await clock.delay(5)
                    scope.deadline += 5
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(clock.delay, 1)
                    scope.cancel()
            assert scope.cancelled_caught

    trio.run(main, clock=run_clock())


@pytest.mark.parametrize("open_it", ON_SCOPES)
@each_failing
def test_older_releases_of_trio_do_not_tell_why(
    name: str, open_it: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with open_it() as clock:
            with TIMEOUTS[name](clock, 10) as scope:
                scope.cancel()
                await clock.delay(1)
            assert scope.cancelled_caught
            # Then a block that may have been too late counts as that.
            with pytest.raises(trio.TooSlowError):
                with TIMEOUTS[name](clock, 10) as scope:
                    scope.deadline += 5
                    scope.cancel()
                    await clock.delay(1)

    monkeypatch.setattr(_timeouts, "_source", lambda _: "unknown")
    trio.run(main, clock=jumping())


@each_failing
@each_kind
def test_it_can_be_entered_once(name: str, open_it: Open) -> None:
    async def main() -> None:
        async with open_it() as clock:
            block = TIMEOUTS[name](clock, 1)
            with block:
                pass
            with pytest.raises(RuntimeError, match="entered already"):
                block.__enter__()

    trio.run(main, clock=jumping())


@each_failing
@each_kind
def test_a_shield(name: str, open_it: Open) -> None:
    async def main() -> None:
        async with open_it() as clock:
            with getattr(clock, name)(1, shield=True) as scope:
                assert scope.shield

    trio.run(main, clock=jumping())


# --- what they say ---


@each_virtual_kind
@each_failing
def test_the_error_says_which_timeout_it_was(name: str, open_it: Open) -> None:
    async def main() -> None:
        async with open_it() as clock:
            limit = 10.0 if name == "fail_after" else clock.instant() + 10
            with pytest.raises(trio.TooSlowError) as caught:
                with TIMEOUTS[name](clock, 10):
                    await clock.delay(20)
        assert f"{name}({limit!r})" in str(caught.value)
        assert "(ClockControl with seed " in str(caught.value)
        assert caught.value.__suppress_context__

    trio.run(main, clock=jumping())


@pytest.mark.skipif(
    "reason" not in signature(trio.CancelScope.cancel).parameters,
    reason="this Trio does not pass reasons on",
)
@pytest.mark.parametrize("open_it", MOVED_BY_JUMPS)
@each_timeout
def test_the_cancellation_says_which_timeout_it_was(name: str, open_it: Open) -> None:
    async def main() -> None:
        async with open_it() as clock:
            limit = 10.0 if name.endswith("after") else clock.instant() + 10
            cancelled = list[trio.Cancelled]()
            with suppress(trio.TooSlowError), TIMEOUTS[name](clock, 10):
                try:
                    await clock.delay(20)
                except trio.Cancelled as exc:
                    cancelled.append(exc)
                    raise
        reason: Any = getattr(cancelled[0], "reason", None)
        assert f"{name}({limit!r})" in reason
        assert "(ClockControl with seed " in reason

    trio.run(main, clock=jumping())


def test_older_releases_of_trio_take_no_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class OldScope:
        cancelled = False

        def cancel(self) -> None:
            self.cancelled = True

    scope: Any = OldScope()
    monkeypatch.setattr(_timeouts, "_REASON", set())
    _timeouts.cancel(scope, "a reason")
    assert scope.cancelled


async def test_the_end_of_the_clock_comes_out_first() -> None:
    recipe = InactiveClock.new_shared()
    clock, driver = recipe.activate_manual()
    drivers = [driver]
    del driver

    async def fail() -> None:
        with pytest.raises(ClockGone, match="the driver that came with it has"):
            with clock.fail_after(10):
                await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fail)
        await wait_all_tasks_blocked()
        drivers.clear()

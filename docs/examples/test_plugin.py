from datetime import datetime, timezone

import pytest
import trio.testing
from pass_it_around import connect_with_retries
from trio_clockrt import open_clock

NEW_YEARS_EVE = datetime(2026, 12, 31, 23, 0, tzinfo=timezone.utc)


# Time jumps whenever all tasks wait.
async def test_it_backs_off(autojump_clock_control, active_clock):
    watch = active_clock.stopwatch()
    await connect_with_retries(active_clock)
    assert watch.elapsed() == 7


# Time moves when the test says so.
async def test_idle_connection(clock_control, active_clock):
    async with active_clock.open_timers(on_exit="cancel") as timers:
        idle = timers.call_later(60, timers.cancel_scope.cancel)
        clock_control.jump(59)
        await trio.testing.wait_all_tasks_blocked()
        assert idle.pending
        clock_control.jump(1)
        await trio.testing.wait_all_tasks_blocked()
    assert timers.cancel_scope.cancelled_caught


# The fixtures of a test run on its control too.
@pytest.fixture
async def after_the_party():
    await trio.sleep(7200)


@pytest.mark.virtual_time(at=NEW_YEARS_EVE)
async def test_next_year(after_the_party, active_clock):
    assert active_clock.system_time().year == 2027


# A test that is not async begins its runs by itself.
def test_a_program(autojump_clock_control):
    async def main():
        async with open_clock() as clock:
            await connect_with_retries(clock)

    trio.run(main, clock=autojump_clock_control)
    assert autojump_clock_control.current_time() == 7

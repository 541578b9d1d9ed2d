from datetime import datetime, timedelta, timezone

import pytest
from trio_clockrt import open_clock
from trio_clockrt.testing import ClockControl

NEW_YEARS_EVE = datetime(2026, 12, 31, 23, 0, tzinfo=timezone.utc)


@pytest.fixture
def control():
    return ClockControl(NEW_YEARS_EVE, autojump_threshold=0)


async def test_a_party(control):
    async with open_clock() as clock:
        watch = clock.stopwatch()
        await clock.delay(timedelta(hours=2))
        assert clock.system_time().year == 2027
        # Somebody sets the clock on the wall; nothing that waits notices.
        control.adjust_system_time(timedelta(hours=-2))
        assert clock.system_time() == NEW_YEARS_EVE
        assert watch.elapsed() == 7200

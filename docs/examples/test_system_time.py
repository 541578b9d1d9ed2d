from datetime import datetime, timedelta, timezone

import pytest

NEW_YEARS_EVE = datetime(2026, 12, 31, 23, 0, tzinfo=timezone.utc)


@pytest.mark.virtual_time(at=NEW_YEARS_EVE)
async def test_a_party(active_clock, clock_control):
    await active_clock.delay(timedelta(hours=2))
    assert active_clock.system_time().year == 2027
    # An operator sets the wall clock; nothing that waits notices.
    clock_control.adjust_system_time(timedelta(hours=-2))
    assert active_clock.system_time() == NEW_YEARS_EVE
    assert active_clock.instant() == 7200

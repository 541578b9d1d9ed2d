import pytest
from pass_it_around import connect_with_retries


@pytest.mark.virtual_time
async def test_it_backs_off(active_clock):
    await connect_with_retries(active_clock)
    assert active_clock.instant() == 7

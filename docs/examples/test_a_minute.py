import pytest
import trio


@pytest.mark.virtual_time
async def test_a_minute(active_clock):
    with active_clock.move_on_after(60):
        await trio.sleep_forever()
    assert active_clock.instant() == 60

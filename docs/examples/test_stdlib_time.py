from datetime import datetime, timezone

import pytest
import trio


def stamp(text):
    return f"{datetime.now(timezone.utc):%d %B, %H:%M}: {text}"


@pytest.mark.virtual_time(at=datetime(2026, 12, 31, 23, tzinfo=timezone.utc))
async def test_a_party(clock_control):
    with clock_control.patch_stdlib():
        assert stamp("hello") == "31 December, 23:00: hello"
        await trio.sleep(90 * 60)
        assert stamp("goodbye") == "01 January, 00:30: goodbye"

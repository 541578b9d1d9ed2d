"""Fixtures of more than one of the tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from shared_clock import SharedClock


@pytest.fixture
def shared() -> Iterator[SharedClock]:
    it = SharedClock()
    yield it
    it.close()

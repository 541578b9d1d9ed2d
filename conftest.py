"""What the examples in the documentation may use without importing it."""

from __future__ import annotations

import datetime
import functools
import math

import pytest
import trio
from trio.testing import MockClock

import trio_clockrt


@pytest.fixture(autouse=True)
def _names_for_examples(doctest_namespace: dict[str, object]) -> None:
    doctest_namespace.update(
        InactiveClock=trio_clockrt.InactiveClock,
        MockClock=MockClock,
        datetime=datetime,
        functools=functools,
        math=math,
        trio=trio,
        trio_clockrt=trio_clockrt,
    )

"""Fixtures, and what the examples in docstrings may use without importing it."""

from __future__ import annotations

import datetime
import functools
import math
import signal
import threading
import time
from collections.abc import Iterator

import pytest
import trio
from hypothesis import settings
from trio.testing import MockClock

import trio_clockrt
from trio_clockrt.testing import ClockControl

pytest_plugins = ["pytester"]
# It names a plugin that is there already, which pytest would try to load once more.
collect_ignore = ["src/trio_clockrt/pytest_plugin.py"]

# How long an example takes says something about the machine, and what else it does.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


@pytest.fixture(autouse=True)
def _names_for_examples(doctest_namespace: dict[str, object]) -> None:
    doctest_namespace.update(
        ClockControl=ClockControl,
        InactiveClock=trio_clockrt.InactiveClock,
        MockClock=MockClock,
        datetime=datetime,
        functools=functools,
        math=math,
        threading=threading,
        time=time,
        trio=trio,
        trio_clockrt=trio_clockrt,
    )


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C works as Python has it, also where the parent process ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)

"""Fixtures of more than one of the tests."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from shared_clock import SharedClock


@pytest.fixture
def shared() -> Iterator[SharedClock]:
    it = SharedClock()
    yield it
    it.close()


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What a person sees, also while output is captured."""
    terminal = io.StringIO()
    monkeypatch.setattr("_trio_clockrt_pytest_plugin.real_stderr", terminal)
    return terminal

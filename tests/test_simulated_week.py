"""A simulation in docs/examples: the same log each time, with a seed or without tasks.

It is six hours in the suite, and a week, twenty times, for `make soak`.
"""

from __future__ import annotations

import os
import runpy
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).parent.parent / "docs" / "examples" / "simulated_week.py"
DAYS = float(os.environ.get("SOAK_DAYS", "0.25"))
RUNS = int(os.environ.get("SOAK_RUNS", "3"))


@pytest.fixture
def program() -> dict[str, Any]:
    return runpy.run_path(str(PROGRAM))


def as_bytes(log: list[str]) -> bytes:
    return "\n".join(log).encode()


def words(log: bytes) -> set[str]:
    return {word for word in log.decode().split() if word.isalpha()}


EVERYTHING = {"heartbeat", "got", "fresh", "cached", "forgot", "gave", "connects"}


def test_with_a_seed(program: dict[str, Any]) -> None:
    first = as_bytes(program["simulate"](DAYS, seed=1))
    assert words(first) >= EVERYTHING
    for _ in range(RUNS - 1):
        assert as_bytes(program["simulate"](DAYS, seed=1)) == first


def test_without_a_seed(program: dict[str, Any]) -> None:
    """It is not the program's own dice that makes the logs the same."""
    simulate = program["simulate"]
    assert as_bytes(simulate(DAYS, seed=2)) != as_bytes(simulate(DAYS, seed=1))
    assert as_bytes(simulate(DAYS)) != as_bytes(simulate(DAYS))


def test_callbacks_alone(program: dict[str, Any]) -> None:
    first = as_bytes(program["simulate_callbacks"](DAYS))
    assert words(first) >= EVERYTHING
    for _ in range(RUNS - 1):
        assert as_bytes(program["simulate_callbacks"](DAYS)) == first

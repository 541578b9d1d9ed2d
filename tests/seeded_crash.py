"""Seeded runs that never end properly; for test_seed.py."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio._core import _run

from trio_clockrt.testing import ClockControl

inside: Any = _run


def found() -> tuple[object, object]:
    return inside._r, inside._ALLOW_DETERMINISTIC_SCHEDULING


class Crash(ClockControl):
    def deadline_to_sleep_time(self, deadline: float) -> float:
        raise ZeroDivisionError


def crash_a_run() -> None:
    with pytest.raises(trio.TrioInternalError) as caught:
        trio.run(trio.sleep, 60, clock=Crash(seed=1))
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def drop_a_guest_run() -> None:
    async def main() -> None:
        while True:
            await trio.lowlevel.checkpoint()

    before = found()
    todo: list[Callable[[], object]] = []
    control = ClockControl(seed=1)
    trio.lowlevel.start_guest_run(
        main,
        run_sync_soon_threadsafe=todo.append,
        done_callback=print,
        clock=control,
    )
    todo.pop(0)()
    assert found() != before
    todo.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()
    assert found() == before
    # The control may have another run.
    trio.run(trio.lowlevel.checkpoint, clock=control)


def main() -> None:
    before = found()
    for end in (crash_a_run, drop_a_guest_run):
        end()
        assert found() == before
    print("as it should be")


if __name__ == "__main__":
    main()

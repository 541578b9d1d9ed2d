"""Blocks that open clocks of different kinds."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from trio_clockrt import Clock, InactiveClock, open_clock
from trio_clockrt.testing import ClockControl

Open = Callable[[], AbstractAsyncContextManager[Clock]]


@asynccontextmanager
async def own() -> AsyncGenerator[Clock]:
    async with open_clock() as clock:
        yield clock


@asynccontextmanager
async def own_shared() -> AsyncGenerator[Clock]:
    async with InactiveClock.new_shared().activate() as (clock, _):
        yield clock


@asynccontextmanager
async def stand_alone() -> AsyncGenerator[Clock]:
    yield ClockControl(autojump_threshold=0).to_clock()

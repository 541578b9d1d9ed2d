"""Clocks beyond one process: recipes travel, clocks do not."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable

import pytest
import trio
import worker_processes
from shared_clock import TOO_LONG, fork, in_thread

from trio_clockrt import Clock, ClockGone, InactiveClock, open_clock
from trio_clockrt.affinity import Affinity, pinned_affinities, run_per_core

CORES = pinned_affinities([1, 1])
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def make_recipes() -> list[tuple[InactiveClock, Affinity | None]]:
    recipe = InactiveClock()
    relocated = [recipe.clone() for _ in CORES]
    for clone, core in zip(relocated, CORES, strict=True):
        clone.relocate(None, core)
    return [(recipe, None), *zip(relocated, CORES, strict=True)]


def test_spawned_processes() -> None:
    context = multiprocessing.get_context("spawn")
    started = []
    for recipe, core in make_recipes():
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(
            target=worker_processes.use_in_a_process, args=(sender, recipe)
        )
        process.start()
        sender.close()
        started.append((process, receiver, core))
    for process, receiver, core in started:
        assert receiver.recv() == (65, core)
        process.join()
        receiver.close()
        assert process.exitcode == 0


async def test_trio_parallel() -> None:
    trio_parallel = pytest.importorskip("trio_parallel")
    async with trio_parallel.open_worker_context() as context:
        async with trio.open_nursery() as nursery:
            for recipe, core in make_recipes():

                async def use(
                    recipe: InactiveClock = recipe, core: Affinity | None = core
                ) -> None:
                    result = await context.run_sync(worker_processes.use, recipe)
                    assert result == (65, core)

                nursery.start_soon(use)


@needs_fork
@pytest.mark.parametrize("shared", [False, True])
async def test_in_a_fork_within_the_run(shared: bool) -> None:
    if shared:
        block = InactiveClock.new_shared().activate()
    else:
        block = InactiveClock().activate()
    async with block as (clock, driver):
        async with clock.open_timers(on_exit="cancel") as timers:
            timer = timers.call_later(3600, int)
            pid = fork()
            if not pid:
                status = 1
                try:
                    assert not clock.alive
                    assert not timer.pending
                    assert not timer.cancel()
                    for use in (
                        clock.open_timers,
                        lambda: clock.periodic(1),
                        lambda: clock.move_on_after(1),
                        lambda: timers.call_later(1, int),
                        lambda: timer.reset(1),
                        driver.advance_timers,
                    ):
                        with pytest.raises(ClockGone, match="fork"):
                            use()
                    clock.clone().close()
                    status = 0
                finally:
                    os._exit(status)
            assert os.waitpid(pid, 0)[1] == 0  # noqa: ASYNC222
            assert timer.pending


@needs_fork
def test_a_fork_activates_its_own() -> None:
    async def main() -> None:
        async with open_clock() as clock:
            await clock.delay(0.001)

    pid = fork()
    if not pid:
        status = 1
        try:
            trio.run(main)
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0


@needs_fork
@pytest.mark.parametrize("make", [InactiveClock, InactiveClock.new_shared])
def test_a_fork_in_a_callback(make: Callable[[], InactiveClock]) -> None:
    """In the child, no other timer fires that is due."""
    pids: list[int] = []
    fired: list[str] = []
    clock, driver = make().activate_manual()
    try:
        with clock.timer_group() as timers:
            timers.call_later(0, lambda: pids.append(fork()))
            timers.call_later(0, fired.append, "fired")
            driver.advance_timers()
    except ClockGone:
        os._exit(0 if pids == [0] and not fired else 1)
    finally:
        if pids == [0]:
            os._exit(1)
    assert os.waitpid(pids[0], 0)[1] == 0
    assert fired == ["fired"]


@needs_fork
async def test_a_fork_in_a_worker_thread() -> None:
    """In the child, no task waits for that thread."""

    async def main(clock: Clock) -> int:
        return 5

    def in_child() -> bool:
        clock, _driver = in_thread(InactiveClock.new_shared().activate_manual)
        clock.delay_blocking(0)
        return run_per_core(main, affinities=pinned_affinities([1])) == [5]

    def in_worker() -> int:
        pid = fork()
        if not pid:
            status = 1
            try:
                signal.alarm(TOO_LONG)  # ends it, if it hangs
                signal.set_wakeup_fd(-1)  # of the other process; Trio would warn
                status = 0 if in_child() else 1
            finally:
                os._exit(status)
        return os.waitpid(pid, 0)[1]

    assert await trio.to_thread.run_sync(in_worker) == 0

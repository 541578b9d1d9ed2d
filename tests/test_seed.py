"""`ClockControl(seed=...)`: runs that repeat, and other runs that do not notice."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import outcome
import pytest
import trio
import trio.lowlevel
from seeded_run import log_of
from trio._core import _run

from trio_clockrt import open_clock
from trio_clockrt.testing import ClockControl

NAMES = ("_r", "_ALLOW_DETERMINISTIC_SCHEDULING")
inside: Any = _run


class CountingRandom(random.Random):
    def __init__(self) -> None:
        super().__init__()
        self.times = 0

    def random(self) -> float:
        self.times += 1
        return super().random()


@pytest.fixture(autouse=True)
def dice(monkeypatch: pytest.MonkeyPatch) -> Iterator[CountingRandom]:
    """What every run takes that has no seed; and it has to be there again afterwards.

    (pytest-trio has changed both for Hypothesis.)
    """
    dice = CountingRandom()
    monkeypatch.setattr(_run, "_r", dice)
    monkeypatch.setattr(_run, "_ALLOW_DETERMINISTIC_SCHEDULING", False)
    yield dice
    assert found() == (dice, False)


def found() -> tuple[object, object]:
    """What Trio would throw dice with, by its very own names."""
    return inside._r, inside._ALLOW_DETERMINISTIC_SCHEDULING


# --- it repeats ---


def test_one_seed_is_one_schedule() -> None:
    log = log_of(1)
    assert len(log) > 300
    for _ in range(19):
        assert log_of(1) == log


def test_in_other_processes() -> None:
    """Where addresses and hashes differ, and with them the order in sets."""
    program = Path(__file__).with_name("seeded_run.py")
    processes = [
        subprocess.Popen(
            [sys.executable, program, "1"],
            env=os.environ | {"PYTHONHASHSEED": str(n)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(4)
    ]
    logs = {process.communicate()[0] for process in processes}
    assert logs == {"\n".join(log_of(1)) + "\n"}


def test_other_seeds_are_other_schedules() -> None:
    logs = [log_of(seed) for seed in (0, 1, 2, 2**100)]
    assert all(log != other for log in logs for other in logs if log is not other)
    assert all(sorted(log) != log for log in logs)


def test_every_run_begins_with_the_seed_again() -> None:
    control = ClockControl(seed=1)
    assert order(control) == order(control) == order(ClockControl(seed=1))


async def note(log: list[int], n: int) -> None:
    log.append(n)


async def note_all(log: list[int]) -> None:
    async with trio.open_nursery() as nursery:
        for n in range(100):
            nursery.start_soon(note, log, n)


def order(control: ClockControl | None) -> list[int]:
    log: list[int] = []
    trio.run(note_all, log, clock=control)
    return log


# --- without a seed, one is drawn ---


def test_a_drawn_seed_repeats_too() -> None:
    control = ClockControl()
    assert order(control) == order(ClockControl(seed=control.seed))


def test_drawn_seeds_differ() -> None:
    """All of ten the same is as good as impossible."""
    assert len({ClockControl().seed for _ in range(10)}) > 1


def test_drawing_does_not_disturb_the_program() -> None:
    random.seed(1)
    before = random.getstate()
    order(ClockControl())
    assert random.getstate() == before


def test_who_looks_sees_the_seed() -> None:
    control = ClockControl(seed=12345, autojump_threshold=0, detect_deadlocks=True)
    assert control.seed == 12345
    assert repr(control) == "<ClockControl, instant 0.000000, seed 12345>"
    with pytest.raises(RuntimeError, match=r"deadlock: (.|\n)*; seed 12345\n"):
        trio.run(trio.sleep_forever, clock=control)

    async def main() -> None:
        with control.fail_after_real(0.001), control.hold():
            await trio.sleep(60)

    with pytest.raises(trio.TooSlowError, match=r"; seed 12345\n"):
        trio.run(main, clock=control)

    async def be_slow() -> None:
        async with open_clock() as clock:
            with clock.fail_after(1):
                await clock.delay(2)

    with pytest.raises(trio.TooSlowError, match=r"ClockControl with seed 12345\)$"):
        trio.run(be_slow, clock=control)

    async def spin() -> None:
        while not warned:
            await trio.lowlevel.checkpoint()

    control._real_clock = iter(range(10**6)).__next__
    with pytest.warns(RuntimeWarning, match=r"seed (is )?12345") as warned:
        trio.run(spin, clock=control)


def test_an_endless_callback_names_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trio_clockrt.testing._stepper._MOST_PASSES", 1000)
    control = ClockControl(seed=12345)

    def again() -> None:
        timers.call_later(0, again)

    with control.to_clock() as clock, clock.timer_group() as timers:
        again()
        with pytest.raises(RuntimeError, match=r"seed (is )?12345"):
            control.advance(1)


def test_a_seed_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        ClockControl().seed = 1  # type: ignore[misc]


# --- other runs do not notice ---


def test_without_a_control_nothing_is_touched(dice: CountingRandom) -> None:
    async def main() -> None:
        assert found() == (dice, False)

    trio.run(main)
    ClockControl()
    trio.run(main)


def test_a_seed_takes_no_dice_of_others(dice: CountingRandom) -> None:
    order(ClockControl(seed=1))
    assert dice.times == 0


def test_runs_in_other_threads(dice: CountingRandom) -> None:
    """All of them under way at once, and ending one by one."""
    orders: dict[str, list[int]] = {}

    async def note_all_at_once(name: str) -> None:
        await trio.to_thread.run_sync(everybody.wait)
        for _ in range(10):
            # In this order, unless a seed has shuffled them.
            log: list[int] = []
            await note_all(log)
            orders[name] = log
            in_order = log in ([*range(100)], [*range(99, -1, -1)])
            assert in_order == (name == "none")

    def run(name: str, seed: int | None) -> None:
        clock = None if seed is None else ClockControl(seed=seed)
        trio.run(note_all_at_once, name, clock=clock)

    everybody = threading.Barrier(4)
    threads = [
        threading.Thread(target=run, args=case)
        for case in [("none", None), ("1", 1), ("2", 2), ("3", 3)]
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(orders) == {"none", "1", "2", "3"}
    assert dice.times > 0


def test_a_run_in_the_middle_of_another(dice: CountingRandom) -> None:
    async def main() -> list[int]:
        times = dice.times
        log: list[int] = []
        await trio.to_thread.run_sync(order, None)
        assert dice.times > times
        await trio.to_thread.run_sync(order, ClockControl(seed=2))
        times = dice.times
        await note_all(log)
        assert dice.times == times
        return log

    log = trio.run(main, clock=ClockControl(seed=1))
    assert sorted(log) != log


def test_a_clock_around_it() -> None:
    class Around(trio.abc.Clock):
        # Not to be put into a dictionary, that is.
        __hash__ = None  # type: ignore[assignment]

        def start_clock(self) -> None:
            control.start_clock()

        def current_time(self) -> float:
            return control.current_time()

        def deadline_to_sleep_time(self, deadline: float) -> float:
            return control.deadline_to_sleep_time(deadline)

    control = ClockControl(seed=1)
    log: list[int] = []
    trio.run(note_all, log, clock=Around())
    assert log == order(ClockControl(seed=1))


# --- it is undone, however the run ends; see `dice` ---


def test_an_exception() -> None:
    async def main() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        trio.run(main, clock=ClockControl(seed=1))


def test_runs_that_never_end_properly() -> None:
    # In a process of its own, as what is left of them may disturb later ones.
    script = Path(__file__).with_name("seeded_crash.py")
    process = subprocess.run(
        [sys.executable, script], capture_output=True, check=False, text=True
    )
    assert process.stdout == "as it should be\n", process.stderr


def test_a_run_that_cannot_begin() -> None:
    async def main() -> None:
        with pytest.raises(trio.TrioInternalError, match="internal error"):
            await trio.to_thread.run_sync(order, control)
        # This one goes on as it was.
        log: list[int] = []
        await note_all(log)
        assert sorted(log) != log

    control = ClockControl(seed=1)
    trio.run(main, clock=control)


def test_a_guest_run() -> None:
    todo: list[Callable[[], object]] = []
    results: list[outcome.Outcome[None]] = []
    log: list[int] = []
    trio.lowlevel.start_guest_run(
        note_all,
        log,
        run_sync_soon_threadsafe=todo.append,
        done_callback=results.append,
        clock=ClockControl(seed=1),
    )
    while not results:
        todo.pop(0)()
    results[0].unwrap()
    assert log == order(ClockControl(seed=1))


# --- others who change what Trio throws its dice with ---


def test_others_who_use_it() -> None:
    """As Hypothesis does with what Trio gives it; here, outside of the run."""

    async def main() -> None:
        await trio.to_thread.run_sync(lambda: inside._r.seed(5))
        await trio.to_thread.run_sync(use_it)

    def use_it() -> None:
        assert not inside._ALLOW_DETERMINISTIC_SCHEDULING
        assert inside._r.uniform(0, 1) == random.Random(5).uniform(0, 1)

    trio.run(main, clock=ClockControl(seed=1))


def test_others_who_change_it_meanwhile(
    dice: CountingRandom, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        monkeypatch.setattr(_run, "_r", theirs)
        monkeypatch.setattr(_run, "_ALLOW_DETERMINISTIC_SCHEDULING", True)

    with monkeypatch.context() as monkeypatch:
        theirs = CountingRandom()
        trio.run(main, clock=ClockControl(seed=1))
        assert found() == (theirs, True)
        order(ClockControl(seed=1))
        assert found() == (theirs, True)
    # They put back what they had found, and that is none of a seed's any more.
    order(None)
    assert dice.times > 0
    order(ClockControl(seed=1))
    assert found() == (dice, False)


def test_trio_still_throws_its_dice_with_these() -> None:
    """If this fails, a release of Trio has moved something: see _trio_inside.py."""
    assert set(NAMES) <= set(_run.unrolled_run.__code__.co_names)
    users = [
        name
        for name, module in sys.modules.items()
        if name.startswith("trio.") and any(hasattr(module, name) for name in NAMES)
    ]
    assert users == ["trio._core._run"]


# --- bad input ---


@pytest.mark.parametrize(
    ("seed", "error", "message"),
    [
        (True, TypeError, "`seed` must be an integer, .* not True"),
        (1.0, TypeError, "`seed` must be an integer, .* not 1.0"),
        ("1", TypeError, "`seed` must be an integer, .* not '1'"),
        (-1, ValueError, "`seed` must be non-negative, but it is -1"),
    ],
)
def test_bad_seeds(seed: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ClockControl(seed=seed)

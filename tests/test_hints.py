"""Names from other libraries raise errors that name the right one."""

from __future__ import annotations

import abc
import copy
import datetime
import doctest
import inspect
import pickle
import subprocess
import sys
import traceback
from collections.abc import Iterable, Sequence
from typing import Any
from unittest.mock import Mock, create_autospec

import pytest
import trio

import trio_clockrt
from trio_clockrt import (
    Clock,
    ClockDriver,
    InactiveClock,
    SimpleClock,
    Timer,
    TimerGroup,
    TimerNursery,
    open_clock,
)
from trio_clockrt._hints import _ELSEWHERE, _GUESSES, Hinted, hints
from trio_clockrt.testing import ClockControl

CLASSES: dict[str, Any] = {
    cls.__name__: cls
    for cls in (
        SimpleClock,
        Clock,
        ClockControl,
        ClockDriver,
        TimerGroup,
        TimerNursery,
        Timer,
    )
}


async def things() -> dict[str, Any]:
    """One of each class, and of their kinds for shared clocks."""
    found: dict[str, Any] = {}
    for recipe in (InactiveClock(), InactiveClock.new_shared()):
        kind = "" if not found else "shared "
        async with recipe.activate() as (clock, driver):
            async with clock.open_timers(on_exit="cancel") as timers:
                manual, found[f"{kind}manual ClockDriver"] = (
                    recipe.new_shared() if kind else InactiveClock()
                ).activate_manual(on_earlier=int)
                with manual.timer_group() as group:
                    found |= {
                        f"{kind}Clock": clock,
                        f"{kind}ClockDriver": driver,
                        f"{kind}TimerNursery": timers,
                        f"{kind}Timer": timers.call_later(1, int),
                        f"{kind}periodic Timer": timers.call_every(1, int),
                        f"{kind}TimerGroup": group,
                    }
    found["SimpleClock"] = SimpleClock.system()
    found["ClockControl"] = ClockControl()
    return found


@pytest.mark.parametrize(
    ("kind", "guess", "instead"),
    [
        ("Clock", "sleep", "`await clock.delay(seconds)`"),
        ("Clock", "sleep_until", "`await clock.delay_until(instant)`"),
        ("Clock", "now", "`clock.instant()`, or `clock.system_time()`"),
        ("Clock", "time", "`clock.instant()`, or `clock.system_time()`"),
        ("Clock", "current_time", "`clock.instant()`, or `clock.system_time()`"),
        ("Clock", "call_later", "`async with clock.open_timers() as timers:`"),
        ("Clock", "start_soon", "`async with clock.open_timers() as timers:`"),
        ("Clock", "timeout", "`with clock.move_on_after(seconds):`"),
        ("Clock", "interval", "`async for tick in clock.periodic(period):`"),
        ("Clock", "advance", "`control.jump(seconds)`"),
        ("Clock", "statistics", ".activate() as (clock, driver):`"),
        ("SimpleClock", "delay", "`async with open_clock() as clock:`"),
        ("SimpleClock", "now", "`clock.instant()`, or `clock.system_time()`"),
        ("ClockControl", "instant", "`control.current_time()`"),
        ("ClockControl", "tick", "`control.jump(seconds)`"),
        ("ClockControl", "move_to", "`control.set_time(when)`"),
        ("ClockControl", "freeze", "`with control.patch_stdlib():`"),
        ("ClockControl", "autojump", "`control.autojump_threshold`"),
        ("ClockDriver", "tick", "`driver.advance_timers()`"),
        ("manual ClockDriver", "tick", "`driver.advance_timers()`"),
        ("TimerGroup", "start_soon", "TimerNursery has, from `async with"),
        ("TimerGroup", "call_soon", "`timers.call_later(seconds, fn, *args)`"),
        ("TimerNursery", "start_soon", "`timers.start_later(seconds, async_fn"),
        ("shared TimerNursery", "start_soon", "`timers.start_later(seconds, async_fn"),
        ("Timer", "stop", "`timer.cancel()`"),
        ("periodic Timer", "restart", "`timer.reset(seconds)`"),
    ],
)
async def test_guesses(kind: str, guess: str, instead: str) -> None:
    thing = (await things())[kind]
    with pytest.raises(AttributeError) as caught:
        getattr(thing, guess)
    message = str(caught.value)
    shown = kind.rpartition(" ")[2]
    assert f" object has no attribute {guess!r}; what it may mean here: " in message
    assert message.startswith((f"{shown!r}", "'SimpleClock'"))
    assert instead in message
    assert (caught.value.name, caught.value.obj) == (guess, thing)


async def test_all_guesses() -> None:
    """None of them is the name of something that there is."""
    found = await things()
    for name, thing in found.items():
        for names in _GUESSES[name.rpartition(" ")[2]]:
            for guess in names.split():
                assert not hasattr(thing, guess), (name, guess)
                assert not hasattr(type(thing), guess), (name, guess)
                assert getattr(thing, guess, 3) == 3


async def test_typing_errors_are_python_s_own() -> None:
    found = await things()
    for thing, typo in (
        (found["Clock"], "instnt"),
        (found["SimpleClock"], "instnt"),
        (found["ClockControl"], "curent_time"),
        (found["ClockDriver"], "advance_timer"),
        (found["TimerNursery"], "call_latr"),
        (found["TimerGroup"], "call_latr"),
        (found["Timer"], "cancl"),
    ):
        with pytest.raises(AttributeError) as caught:
            getattr(thing, typo)
        name = type(thing).__name__
        assert str(caught.value) == f"{name!r} object has no attribute {typo!r}"
        assert "Did you mean" in "".join(
            traceback.format_exception_only(type(caught.value), caught.value)
        ) or sys.version_info < (3, 12)


def test_setting_a_guess() -> None:
    control: Any = ClockControl()
    with pytest.raises(AttributeError, match=r"`control\.autojump_threshold`"):
        control.autojump = 0
    with pytest.raises(AttributeError, match=r"no attribute 'autojump_treshold'$"):
        control.autojump_treshold = 0


@pytest.mark.parametrize("name", CLASSES)
async def test_they_are_not_to_be_seen(name: str) -> None:
    cls, thing = CLASSES[name], (await things())[name]
    guesses = {guess for names in _GUESSES[name] for guess in names.split()}
    assert guesses.isdisjoint(dir(cls))
    assert guesses.isdisjoint(dir(thing))
    assert guesses.isdisjoint(found for found, _ in inspect.getmembers(cls))
    assert guesses.isdisjoint(found for found, _ in inspect.getmembers(thing))
    for mock in Mock(spec=cls), Mock(spec=thing), create_autospec(cls):
        for guess in guesses:
            with pytest.raises(AttributeError):
                getattr(mock, guess)
    public = [found for found in dir(cls) if not found.startswith("_")]
    assert public
    assert set(public) <= set(dir(thing))


def test_a_subclass_may_have_such_names() -> None:
    class Both(SimpleClock, abc.ABC):
        def now(self) -> float:
            return self.instant()

    clock = Both(SimpleClock.system()._source)
    assert clock.now() <= clock.instant()
    assert "now" in dir(clock)
    assert "now" in dir(Both)
    assert "sleep" not in dir(clock)
    assert SimpleClock.system().__class__ is SimpleClock


def test_what_there_is_by_now_is_no_guess() -> None:
    class Timer(Hinted):
        def stop(self) -> str:
            return "stopped"

    assert hints(Timer) is Timer
    assert Timer().stop() == "stopped"
    assert not hasattr(Timer(), "restart")


def test_copies_of_a_clock() -> None:
    clock = SimpleClock.system()
    before = clock.instant()
    for copied in copy.copy(clock), copy.deepcopy(clock):
        assert copied.instant() >= before
    assert pickle.loads(pickle.dumps(clock)).instant() >= before


# --- pairs ---


async def test_a_pair_that_is_not_unpacked() -> None:
    async with InactiveClock().activate() as pair:
        for made in pair, InactiveClock().activate_manual():
            wrong: Any = made
            with pytest.raises(AttributeError, match=r"a pair.*as \(clock") as caught:
                await wrong.delay(1)
            assert (caught.value.name, caught.value.obj) == ("delay", made)
            clock, driver = made
            assert isinstance(clock, Clock)
            assert isinstance(driver, ClockDriver)
            assert isinstance(made, tuple)
            assert made == (clock, driver)
            assert hash(made) == hash((clock, driver))
            assert repr(made) == repr((clock, driver))
            assert made[0] is clock
            assert not hasattr(made, "instant")
            assert copy.copy(made) == made
            match made:
                case (Clock(), ClockDriver()):
                    pass
                case _:
                    raise AssertionError


async def test_a_clock_that_is_unpacked() -> None:
    wrong: Any = open_clock()
    with pytest.raises(TypeError, match=r"InactiveClock\(\)\.activate\(\) as \(clock"):
        async with wrong as (_clock, _driver):
            raise AssertionError
    async with open_clock() as clock:
        wrong = clock
        for use in (list, tuple, lambda wrong: wrong[0], lambda wrong: 1 in wrong):
            with pytest.raises(TypeError, match="cannot be unpacked"):
                use(wrong)
        assert not isinstance(clock, (Iterable, Sequence))


# --- names of other modules ---


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("ClockControl", "`from trio_clockrt.testing import ClockControl`"),
        ("run_per_core", "`from trio_clockrt.affinity import run_per_core`"),
        ("Affinity", "`from trio_clockrt.affinity import Affinity`"),
        ("clock_control", "argument of the test"),
        ("sleep", "`await clock.delay(seconds)`"),
    ],
)
def test_imports_from_the_wrong_module(name: str, instead: str) -> None:
    for code in (
        f"from trio_clockrt import {name}",
        f"from trio_clockrt import Clock, {name} as other",
        f"import trio_clockrt; trio_clockrt.{name}",
    ):
        with pytest.raises(ImportError) as caught:
            exec(code, {})
        assert instead in str(caught.value)
        assert caught.value.name == "trio_clockrt"


def test_modules_that_are_not_imported_yet() -> None:
    code = (
        "import trio_clockrt\n"
        "try:\n"
        "    trio_clockrt.affinity\n"
        "except AttributeError as exc:\n"
        "    print(exc)\n"
        "from trio_clockrt import testing, affinity, pytest_plugin\n"
        "print(trio_clockrt.affinity is affinity)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines() == [
        "module 'trio_clockrt' has no attribute 'affinity': write "
        "`import trio_clockrt.affinity` first",
        "True",
    ], done.stderr


def test_other_names_of_the_module() -> None:
    assert not hasattr(trio_clockrt, "opn_clock")
    assert getattr(trio_clockrt, "opn_clock", 3) == 3
    with pytest.raises(AttributeError) as caught:
        trio_clockrt.opn_clock  # type: ignore[attr-defined]  # noqa: B018
    assert str(caught.value) == "module 'trio_clockrt' has no attribute 'opn_clock'"
    assert (caught.value.name, caught.value.obj) == ("opn_clock", trio_clockrt)
    with pytest.raises(ImportError, match="cannot import name 'opn_clock'"):
        exec("from trio_clockrt import opn_clock", {})
    assert not set(dir(trio_clockrt)) & set(_ELSEWHERE)
    names: dict[str, Any] = {}
    exec("from trio_clockrt import *", names)
    assert names.keys() - {"__builtins__"} == set(trio_clockrt.__all__)
    inspect.getmembers(trio_clockrt)
    inspect.unwrap(trio_clockrt)  # type: ignore[arg-type]
    doctest.DocTestFinder().find(trio_clockrt)


# --- dates ---


async def test_a_date_where_an_instant_or_a_length_is_due() -> None:
    when: Any = datetime.datetime(2030, 1, 1, tzinfo=datetime.timezone.utc)
    control = ClockControl()
    async with open_clock() as clock, clock.open_timers() as timers:
        for use in (
            clock.move_on_at,
            clock.fail_at,
            clock.move_on_after,
            lambda when: timers.call_at(when, int),
            lambda when: timers.call_later(when, int),
            lambda when: timers.start_at(when, trio.sleep, 0),
            control.jump,
        ):
            with pytest.raises(TypeError, match=r"`when - clock\.system_time\(\)`"):
                use(when)
        for wait in clock.delay, clock.delay_until, control.run_until:
            with pytest.raises(TypeError, match=r"`when - clock\.system_time\(\)`"):
                await wait(when)


async def test_what_they_say_of_dates_is_right(autojump_clock_control: Any) -> None:
    async with open_clock() as clock:
        when = clock.system_time() + datetime.timedelta(days=1)
        await clock.delay(when - clock.system_time())
        assert clock.system_time() == when


async def test_the_class_is_that_of_the_object() -> None:
    async with open_clock() as clock:
        with pytest.raises(AttributeError, match=r"^'Clock' object has no"):
            clock.now  # type: ignore[attr-defined]  # noqa: B018

"""Names from other libraries raise errors that name the right one."""

from __future__ import annotations

import abc
import copy
import datetime
import doctest
import importlib
import inspect
import pickle
import subprocess
import sys
import traceback
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any
from unittest.mock import Mock, create_autospec

import pytest
import trio

import trio_clockrt
from trio_clockrt import (
    Clock,
    ClockDriver,
    InactiveClock,
    PeriodicTimer,
    SimpleClock,
    Stopwatch,
    Timer,
    TimerGroup,
    TimerNursery,
    open_clock,
)
from trio_clockrt._hints import _ARGUMENTS, _ELSEWHERE, _GUESSES, Hinted, hints
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
        PeriodicTimer,
        Stopwatch,
        InactiveClock,
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
                        f"{kind}PeriodicTimer": clock.periodic(1),
                        f"{kind}Stopwatch": clock.stopwatch(),
                        f"{kind}InactiveClock": recipe,
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
        ("Clock", "open_nursery", "`async with clock.open_timers() as timers:`"),
        ("Clock", "delay_until_system_time", "delay(when - clock.system_time())`"),
        ("Clock", "set_timeout", "`timers.call_later`"),
        ("Clock", "set_interval", "`async for tick in clock.periodic(period):`"),
        ("Clock", "run_until", "`await control.run_for(seconds)`"),
        ("Clock", "autojump_threshold", "a ClockControl from trio_clockrt.testing"),
        ("Clock", "is_alive", "`clock.alive`"),
        ("Clock", "driver", "as (clock, driver):`"),
        ("Clock", "copy", "`clock.clone()`"),
        ("Clock", "start_clock", "`trio.run(main, clock=ClockControl())`"),
        ("SimpleClock", "call_every", "`async with open_clock() as clock:`"),
        ("ClockControl", "move", "`control.jump(seconds)`"),
        ("ClockControl", "jump_to", "`await control.run_until(instant)`"),
        ("ClockControl", "run_all", "`await control.run_until_idle()`"),
        ("ClockControl", "pause", "`with control.hold():`"),
        ("ClockControl", "speed", "`control.rate`"),
        ("ClockControl", "detect_deadlocks", "`ClockControl(detect_deadlocks=True)`"),
        ("ClockControl", "clock", "`control.to_clock()`"),
        ("ClockControl", "reset", "another `ClockControl()`"),
        ("ClockDriver", "run_forever", "`driver.advance_timers()`"),
        ("ClockDriver", "pending", "`driver.statistics().pending`"),
        ("ClockDriver", "time_until_next", "`driver.next_deadline - clock.instant()`"),
        ("TimerGroup", "at", "`timers.call_at(instant, fn, *args)`"),
        ("TimerGroup", "close", "`timers.cancel_timers()`"),
        ("TimerGroup", "run", "`driver.advance_timers()`"),
        ("TimerGroup", "pending", "each timer, which `call_later`"),
        ("TimerGroup", "call_soon_threadsafe", "`InactiveClock.new_shared()`"),
        ("TimerNursery", "at", "`timers.call_at(instant, fn, *args)`"),
        ("TimerNursery", "start_every", "`timers.call_every(period, fn, *args)`"),
        ("TimerNursery", "create_task", "`timers.start_later(seconds, async_fn"),
        ("TimerNursery", "wait", "leave the block"),
        ("Timer", "remaining", "`timer.when - clock.instant()`"),
        ("Timer", "fire", "`timer.reset(0)`"),
        ("Timer", "is_pending", "`timer.pending`"),
        ("Timer", "snooze", "`timer.reset(seconds)`"),
        ("PeriodicTimer", "tick", "`await anext(ticks)`"),
        ("PeriodicTimer", "cancel", "leave the loop"),
        ("shared PeriodicTimer", "restart", "`ticks.reset()`"),
        ("Stopwatch", "stop", "`watch.elapsed()`"),
        ("Stopwatch", "restart", "`clock.stopwatch()`"),
    ],
)
async def test_guesses(kind: str, guess: str, instead: str) -> None:
    thing = (await things())[kind]
    with pytest.raises(AttributeError) as caught:
        getattr(thing, guess)
    message = str(caught.value)
    shown = kind.rpartition(" ")[2]
    assert f" object has no attribute {guess!r}; what it may mean here: " in message
    assert message.startswith(f"{shown!r}")
    assert instead in message
    assert (caught.value.name, caught.value.obj) == (guess, thing)


@pytest.mark.parametrize(
    ("guess", "instead"),
    [
        ("shared", "`InactiveClock.new_shared()`"),
        ("new", "`InactiveClock()`"),
        ("open", "`async with open_clock() as clock:`"),
        ("from_clock", "`InactiveClock.from_control(control)`"),
    ],
)
def test_guesses_of_constructors(guess: str, instead: str) -> None:
    for cls in InactiveClock, InactiveClock[trio_clockrt.Shared]:
        with pytest.raises(AttributeError, match=r"^type object 'Inact") as caught:
            getattr(cls, guess)
        assert instead in str(caught.value)
    with pytest.raises(AttributeError, match="it is a recipe, still to be activated"):
        getattr(InactiveClock(), guess)


async def test_all_guesses() -> None:
    """None of them is the name of something that there is."""
    found = await things()
    for name, thing in found.items():
        for names in _GUESSES[name.rpartition(" ")[2]]:
            for guess in names.split():
                assert not hasattr(thing, guess), (name, guess)
                assert not hasattr(type(thing), guess), (name, guess)
                assert getattr(thing, guess, 3) == 3


async def test_each_class_answers_for_itself() -> None:
    """And does not say of itself what is only true of its base class."""
    found = await things()
    for name, base, wrong in (
        ("Clock", "SimpleClock", "a SimpleClock only reads the time"),
        ("TimerNursery", "TimerGroup", "a TimerGroup has no tasks"),
    ):
        assert wrong in "".join(_GUESSES[base].values())
        for guess in " ".join(_GUESSES[base]).split():
            if not hasattr(found[name], guess):
                with pytest.raises(AttributeError) as caught:
                    getattr(found[name], guess)
                assert wrong not in str(caught.value)


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
        (found["PeriodicTimer"], "rset"),
        (found["Stopwatch"], "elapsd"),
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


# --- ticks ---


async def test_ticks_that_are_not_awaited() -> None:
    async with open_clock() as clock:
        ticks: Any = clock.periodic(1)
        for use in (list, tuple, lambda ticks: ticks[0], lambda ticks: 1 in ticks):
            with pytest.raises(TypeError, match=r"`async for tick in clock\.periodic"):
                use(ticks)
        with pytest.raises(TypeError, match=r"`await anext\(ticks\)`"):
            next(ticks)
        assert not isinstance(ticks, (Iterable, Sequence))
        assert isinstance(ticks, AsyncIterator)


# --- arguments ---


@pytest.mark.parametrize(
    ("argument", "instead"),
    [
        ("autojump", "`autojump_threshold=0`"),
        ("start_time", "`at=when`"),
        ("tick", "`rate=1.0`"),
        ("auto_tick_seconds", "`auto_advance=seconds`"),
        ("random_seed", "`seed=seed`"),
        ("detect_deadlock", "`detect_deadlocks=True`"),
        ("timeout", "`with control.fail_after_real(seconds):`"),
    ],
)
def test_guesses_of_arguments(argument: str, instead: str) -> None:
    wrong: Any = ClockControl
    with pytest.raises(TypeError, match=f"has no argument '{argument}'") as caught:
        wrong(**{argument: 1})
    assert instead in str(caught.value)


def test_arguments_that_nothing_is_known_of() -> None:
    wrong: Any = ClockControl
    with pytest.raises(TypeError, match="unexpected keyword argument 'autojump_tre"):
        wrong(autojump_treshold=0)


def test_the_arguments_that_there_are() -> None:
    known = inspect.signature(ClockControl).parameters
    assert "autojump_threshold" in known
    assert not set(known) & set(_ARGUMENTS)


# --- the clock of a run ---


class Mine(ClockControl):
    pass


@pytest.mark.parametrize("wrong", [ClockControl, Mine, SimpleClock.system()])
def test_what_cannot_be_the_clock_of_a_run(wrong: Any) -> None:
    with pytest.raises(trio.TrioInternalError) as caught:
        trio.run(trio.sleep, 0, clock=wrong)
    told = "`trio.run(main, clock=ClockControl())`"
    assert told in str(caught.value.__cause__)


# --- names of other modules ---


CONTROL = "`from trio_clockrt.testing import ClockControl`"


@pytest.mark.parametrize(
    ("module", "name", "instead"),
    [
        ("trio_clockrt", "ClockControl", CONTROL),
        ("trio_clockrt", "VirtualClock", CONTROL),
        ("trio_clockrt", "run_per_core", "`from trio_clockrt.affinity import run_per"),
        ("trio_clockrt", "Affinity", "`from trio_clockrt.affinity import Affinity`"),
        ("trio_clockrt", "clock_control", "argument of the test"),
        ("trio_clockrt", "sleep", "`await clock.delay(seconds)`"),
        ("trio_clockrt", "open_timers", "`async with clock.open_timers() as timers:`"),
        ("trio_clockrt", "periodic", "`async for tick in clock.periodic(period):`"),
        ("trio_clockrt", "Driver", "`from trio_clockrt import ClockDriver`"),
        ("trio_clockrt", "SharedClock", "`async with InactiveClock.new_shared()."),
        ("trio_clockrt", "TooSlowError", "`trio.TooSlowError`"),
        ("trio_clockrt", "freeze_time", "`with control.patch_stdlib():`"),
        ("trio_clockrt.testing", "MockClock", CONTROL),
        ("trio_clockrt.testing", "FakeClock", CONTROL),
        ("trio_clockrt.testing", "clock_control", "argument of the test"),
        ("trio_clockrt.testing", "autojump_clock", "clock_control and autojump_"),
        ("trio_clockrt.testing", "virtual_time", "`@pytest.mark.virtual_time`"),
        ("trio_clockrt.testing", "open_clock", "`from trio_clockrt import open_clock`"),
        ("trio_clockrt.affinity", "ClockControl", CONTROL),
        ("trio_clockrt.affinity", "Clock", "`from trio_clockrt import Clock`"),
        ("trio_clockrt.pytest_plugin", "active_clock", "argument of the test"),
        ("trio_clockrt.pytest_plugin", "ClockControl", CONTROL),
    ],
)
def test_imports_from_the_wrong_module(module: str, name: str, instead: str) -> None:
    for code in (
        f"from {module} import {name}",
        f"from {module} import __name__, {name} as other",
    ):
        with pytest.raises(ImportError) as caught:
            exec(code, {})
        assert instead in str(caught.value)
        assert caught.value.name == module
    found = importlib.import_module(module)
    with pytest.raises(AttributeError) as missed:
        getattr(found, name)
    assert instead in str(missed.value)
    assert (missed.value.name, missed.value.obj) == (name, found)
    # Programs look so which features there are.
    assert not hasattr(found, name)


@pytest.mark.parametrize("module", ["testing", "affinity", "pytest_plugin"])
def test_other_names_of_modules(module: str) -> None:
    module = f"trio_clockrt.{module}"
    with pytest.raises(ImportError, match=rf"cannot import name 'opn' from '{module}'"):
        exec(f"from {module} import opn", {})
    found = sys.modules[module]
    with pytest.raises(AttributeError, match=rf"^module '{module}' has no .* 'opn'$"):
        found.opn  # noqa: B018
    assert set(dir(found)) & set(_ELSEWHERE) <= set(getattr(found, "__all__", ()))


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

"""Names from other libraries, and what to write here.

A guess is a class attribute that raises AttributeError. A `__getattr__` would do too,
but in some versions of Python it slows down each look-up of what is there. `dir` does
not show guesses, so neither do editors, nor mocks with a ``spec``, nor Python where it
suggests what may have been meant. Type checkers do not see them.
"""

from __future__ import annotations

import sys
from abc import ABCMeta
from datetime import datetime
from typing import TYPE_CHECKING, NoReturn, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

T = TypeVar("T")

_INSTANT = "`clock.instant()`, or `clock.system_time()` for the wall clock"
_WALL = "`clock.system_time()`, an aware datetime in UTC"
_DELAY = "`await clock.delay(seconds)`"
_TIMERS = (
    "`async with clock.open_timers() as timers:`, and there `timers.call_later`, "
    "`call_at`, `call_every`, or `start_later` for a task"
)
_TIMEOUT = "`with clock.move_on_after(seconds):`, or `fail_after` for an exception"
_TICKS = "`async for tick in clock.periodic(period):`"
_STOPWATCH = "`clock.stopwatch()`, and its `elapsed()`"
_CONTROL = (
    "a clock only tells the time; a ClockControl from trio_clockrt.testing moves it, "
    "with `control.jump(seconds)` or `await control.run_for(seconds)`"
)
_DRIVER = (
    "that is the driver's: `async with InactiveClock().activate() as (clock, driver):`"
)
_NO_TIMERS = (
    "a SimpleClock only reads the time; take a Clock, from `async with open_clock() as "
    "clock:`"
)
_JUMP = "`control.jump(seconds)`, or `await control.run_for(seconds)` in a run"
_OF_ITS_CLOCK = (
    "a control moves the time; the clock of its run, or `control.to_clock()`, has that"
)
_PATCH = "`with control.patch_stdlib():`"
_OF_THE_CLOCK = "that is the clock's, which comes with the driver"
_ADVANCE = "`driver.advance_timers()`"
_CALL = "`timers.call_later(seconds, fn, *args)`"
_EVERY = "`timers.call_every(period, fn, *args)`"
_START = "`timers.start_later(seconds, async_fn, *args)`, where 0 is for now"
_TASKS = (
    "a TimerGroup has no tasks; a TimerNursery has, from `async with "
    "clock.open_timers() as timers:`"
)
_CANCEL = "`timer.cancel()`"
_RESET = "`timer.reset(seconds)`"

# For each class the guesses, separated by blanks, and what is meant.
_GUESSES: dict[str, dict[str, str]] = {
    "SimpleClock": {
        "now time current_time monotonic perf_counter get_time": _INSTANT,
        "utcnow today wall_time wall_clock time_ns": _WALL,
        "elapsed timer measure": _STOPWATCH,
        "sleep delay sleep_until delay_until periodic move_on_after move_on_at "
        "fail_after fail_at open_timers timer_group call_later call_at": _NO_TIMERS,
        "jump advance run_for shift set_time move_to tick forward": _CONTROL,
    },
    "Clock": {
        "sleep wait": _DELAY,
        "sleep_until wait_until": "`await clock.delay_until(instant)`",
        "sleep_forever": "`await clock.delay(math.inf)`",
        "call_later call_at call_every call_soon start_later start_at start_soon "
        "set_timer add_timer timer timers run_later": _TIMERS,
        "timeout timeout_at wait_for move_on fail deadline": _TIMEOUT,
        "after": f"{_DELAY}, or to call a function: {_TIMERS}",
        "interval every ticker ticks tick repeat": _TICKS,
        "advance_timers statistics wait_gone next_deadline": _DRIVER,
        "aclose stop shutdown": "`clock.close()`; the end of its block ends the clock",
        "activate": "it is active already; what is activated is an InactiveClock",
    },
    "ClockControl": {
        "instant now time monotonic": "`control.current_time()`, or the `instant()` of "
        "a clock; `control.to_simple_clock().system_time()` for the wall clock",
        "system_time utcnow wall_time": "`control.to_simple_clock().system_time()`",
        "tick shift forward fast_forward elapse step skip sleep advance_time": _JUMP,
        "move_to travel_to set_system_time": "`control.set_time(when)`",
        "freeze freeze_time travel start stop": _PATCH,
        "autojump": "the attribute `control.autojump_threshold`, which 0 turns on",
        "delay delay_until periodic move_on_after fail_after open_timers timer_group "
        "call_later stopwatch": _OF_ITS_CLOCK,
        "activate": "`InactiveClock.from_control(control).activate()`",
        "run": "`trio.run(main, clock=control)`",
    },
    "ClockDriver": {
        "advance tick update step poll process run run_once run_pending": _ADVANCE,
        "stats": "`driver.statistics()`",
        "next_timer deadline next_timeout": "`driver.next_deadline`",
        "wait_closed join wait": "`await driver.wait_gone()`",
        "stop close aclose shutdown": "`clock.close()`; the end of its block ends it",
        "instant system_time stopwatch delay delay_until periodic move_on_after "
        "fail_after open_timers timer_group alive": _OF_THE_CLOCK,
        "call_later call_at call_every": _TIMERS,
    },
    "TimerGroup": {
        "call_soon set_timeout set_timer add_timer after schedule": _CALL,
        "every set_interval interval call_repeatedly repeat": _EVERY,
        "cancel cancel_all clear stop": "`timers.cancel_timers()`",
        "start_later start_at start_soon": _TASKS,
    },
    "TimerNursery": {
        "start_soon start spawn run_later": _START,
    },
    "Timer": {
        "stop delete remove kill close": _CANCEL,
        "restart start again reschedule rearm refresh": _RESET,
        "active is_active cancelled fired expired done": "`timer.pending`",
        "deadline due instant": "`timer.when`",
    },
}

# What is to be imported from elsewhere.
_TESTING = "from trio_clockrt.testing import ClockControl"
_AFFINITY = "from trio_clockrt.affinity import"
_FIXTURE = "is a fixture of the pytest plugin: make it an argument of the test"
_METHOD = "is a method of the clock here: `async with open_clock() as clock:`, and"
_ELSEWHERE: dict[str, str] = {
    "ClockControl": f"is not here: `{_TESTING}`",
    "MockClock": f"is Trio's; what this library has for it is: `{_TESTING}`",
    "run_per_core": f"is not here: `{_AFFINITY} run_per_core`",
    "Affinity": f"is not here: `{_AFFINITY} Affinity`",
    "available_affinities": f"is not here: `{_AFFINITY} available_affinities`",
    "pinned_affinities": f"is not here: `{_AFFINITY} pinned_affinities`",
    "active_clock": _FIXTURE,
    "clock_control": _FIXTURE,
    "autojump_clock_control": _FIXTURE,
    "sleep": f"{_METHOD} {_DELAY}",
    "delay": f"{_METHOD} {_DELAY}",
    "move_on_after": f"{_METHOD} {_TIMEOUT}",
    "fail_after": f"{_METHOD} {_TIMEOUT}",
    "timeout": f"{_METHOD} {_TIMEOUT}",
}
_MODULES = ("affinity", "pytest_plugin")


def look_elsewhere(name: str) -> NoReturn:
    """The `__getattr__` of the package.

    What is elsewhere is an ImportError, also for `hasattr`: ``from ... import`` makes a
    message of its own of every AttributeError.
    """
    if name in _ELSEWHERE:
        raise ImportError(
            f"cannot import name {name!r} from 'trio_clockrt': it {_ELSEWHERE[name]}",
            name="trio_clockrt",
        )
    message = f"module 'trio_clockrt' has no attribute {name!r}"
    if name in _MODULES:
        message += f": write `import trio_clockrt.{name}` first"
    raise AttributeError(message, name=name, obj=sys.modules["trio_clockrt"])


def about_value(value: object) -> str:
    """What to say of a value of the wrong type."""
    if isinstance(value, datetime):
        return (
            ". For a system time, use what takes a length of time (delay, "
            "move_on_after, call_later ...), and pass `when - clock.system_time()`, "
            "where `when` has a timezone and is to come"
        )
    return ""


class _Guess:
    """No attribute."""

    def __init__(self, name: str, instead: str) -> None:
        self._name = name
        self._instead = instead

    def __get__(self, thing: object, owner: type) -> NoReturn:
        # Users know the public class, and not ours that derive from it.
        names = [cls.__name__ for cls in owner.__mro__]
        known = next(name for name in names if name in _GUESSES)
        whose = f"{known!r} object"
        if thing is None:
            thing, whose = owner, f"type object {known!r}"
        raise AttributeError(
            f"{whose} has no attribute {self._name!r}; what it may mean here: "
            f"{self._instead}",
            name=self._name,
            obj=thing,
        )


def _without_guesses(cls: type, names: Iterable[str]) -> list[str]:
    found: dict[str, object] = {}
    for base in reversed(cls.__mro__):
        found.update(vars(base))
    return [name for name in names if type(found.get(name)) is not _Guess]


if TYPE_CHECKING:

    class Hinted:
        __slots__ = ()

else:

    class _Hinted(ABCMeta):
        # (Not only a `type`, so that there are no two metaclasses where one of these
        # classes, or a user's that derives from it, is abstract.)
        def __dir__(cls) -> list[str]:
            return _without_guesses(cls, super().__dir__())

    class Hinted(metaclass=_Hinted):
        """Base class of what has `hints`."""

        __slots__ = ()

        def __dir__(self) -> list[str]:
            return _without_guesses(type(self), super().__dir__())


def hints(cls: type[T]) -> type[T]:
    """Class decorator: give the class its guesses."""
    for names, instead in _GUESSES[cls.__name__].items():
        for name in names.split():
            if not hasattr(cls, name):  # or else it is no guess any more
                setattr(cls, name, _Guess(name, instead))
    return cls

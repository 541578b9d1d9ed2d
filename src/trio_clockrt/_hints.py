"""Names from other libraries, and what to write here.

A user of another library writes `clock.sleep`, and the error names `clock.delay`. One
table has these guesses, and a decorator puts them into the classes. A guess is a class
attribute that raises AttributeError. A `__getattr__` was tried first: on CPython 3.10
and 3.11, a class that has one costs 45 ns for each attribute that is there. `dir` does
not show guesses, so neither do editors, nor mocks with a ``spec``, nor Python where it
suggests what may have been meant. Type checkers do not see them.

What is looked for in the wrong module is an AttributeError of that module's
`__getattr__`, as programs ask `hasattr` for features. But of an AttributeError, ``from
... import`` makes a message of its own, so there it is an ImportError. The instruction
that asks tells which of the two it is. A guessed argument is looked up around
`ClockControl.__init__`.
"""

from __future__ import annotations

import sys
from abc import ABCMeta
from datetime import datetime
from functools import wraps
from opcode import opmap
from typing import TYPE_CHECKING, NoReturn, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

T = TypeVar("T")
P = ParamSpec("P")

_INSTANT = "`clock.instant()`, or `clock.system_time()` for the wall clock"
_WALL = "`clock.system_time()`, an aware datetime in UTC"
_DELAY = "`await clock.delay(seconds)`"
_DATE = (
    "`await clock.delay(when - clock.system_time())`, where `when` has a timezone and "
    "is to come"
)
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
_OF_A_RUN = (
    "the clock of a run is a ClockControl: `trio.run(main, clock=ClockControl())`"
)
_DRIVER = (
    "that is the driver's: `async with InactiveClock().activate() as (clock, driver):`"
)
_NO_TIMERS = (
    "a SimpleClock only reads the time; take a Clock, from `async with open_clock() as "
    "clock:`"
)
_JUMP = "`control.jump(seconds)`, or `await control.run_for(seconds)` in a run"
_JUMP_TO = (
    "`await control.run_until(instant)`, or in one leap "
    "`control.jump(instant - control.current_time())`"
)
_OF_ITS_CLOCK = (
    "a control moves the time; the clock of its run, or `control.to_clock()`, has that"
)
_ITS_CLOCK = "`control.to_clock()`, or `InactiveClock.from_control(control)`"
_PATCH = "`with control.patch_stdlib():`"
_HOLD = "`with control.hold():`, in which time does not jump by itself"
_OF_THE_CLOCK = "that is the clock's, which comes with the driver"
_ADVANCE = "`driver.advance_timers()`"
_CALL = "`timers.call_later(seconds, fn, *args)`"
_CALL_AT = "`timers.call_at(instant, fn, *args)`"
_EVERY = "`timers.call_every(period, fn, *args)`"
_START = "`timers.start_later(seconds, async_fn, *args)`, where 0 is for now"
_TASKS = (
    "a TimerGroup has no tasks; a TimerNursery has, from `async with "
    "clock.open_timers() as timers:`"
)
_CANCEL = "`timer.cancel()`"
_RESET = "`timer.reset(seconds)`"
_EACH_TIMER = "that is of each timer, which `call_later` and the like return"

# For each class the guesses, separated by blanks, and what is meant.
_GUESSES: dict[str, dict[str, str]] = {
    "SimpleClock": {
        "now time current_time monotonic monotonic_ns perf_counter perf_counter_ns "
        "get_time timestamp seconds": _INSTANT,
        "utcnow utc_now now_utc today wall_time wall_clock time_ns datetime date "
        "system_now current_system_time": _WALL,
        "elapsed timer measure": _STOPWATCH,
        "sleep delay sleep_until delay_until periodic move_on_after move_on_at "
        "fail_after fail_at open_timers timer_group call_later call_at call_every "
        "start_later": _NO_TIMERS,
        "jump jump_to advance run_for run_until run_until_idle shift set_time move_to "
        "tick forward rate autojump autojump_threshold freeze patch_stdlib": _CONTROL,
        "start_clock": _OF_A_RUN,
    },
    "Clock": {
        "sleep sleep_for delay_for wait": _DELAY,
        "sleep_until wait_until delay_until_time": "`await clock.delay_until(instant)`",
        "delay_until_system_time delay_until_datetime sleep_until_system_time": _DATE,
        "sleep_forever": "`await clock.delay(math.inf)`",
        "call_later call_at call_every call_soon start_later start_at start_soon "
        "set_timer add_timer timer timers run_later call_repeatedly set_timeout "
        "schedule add_job enter enterabs run_at run_every at nursery "
        "timer_nursery": _TIMERS,
        "open_nursery": f"{_TIMERS}; for tasks that start at once, "
        "`trio.open_nursery()`",
        "timeout timeout_at timeout_after wait_for move_on fail deadline cancel_scope "
        "cancel_after": _TIMEOUT,
        "after": f"{_DELAY}, or to call a function: {_TIMERS}",
        "interval set_interval every ticker ticks tick repeat": _TICKS,
        "advance_timers statistics wait_gone next_deadline driver": _DRIVER,
        "aclose stop shutdown": "`clock.close()`; the end of its block ends the clock",
        "activate open start run": "it is active already; what is activated is an "
        "InactiveClock",
        "is_alive closed is_closed gone is_gone": "`clock.alive`",
        "copy share": "`clock.clone()`, one more owner of the same clock",
        "new_shared": "that is of the recipe: `InactiveClock.new_shared().activate()`",
    },
    "PeriodicTimer": {
        "tick next wait get": f"`await anext(ticks)`, or {_TICKS}",
        "cancel stop close aclose": "nothing is to be stopped: leave the loop",
        "restart start again": "`ticks.reset()`",
    },
    "Stopwatch": {
        "stop lap time read seconds elapsed_time total": "`watch.elapsed()`",
        "reset restart": "another one, from `clock.stopwatch()`",
    },
    "ClockControl": {
        "instant now time monotonic monotonic_ns": "`control.current_time()`, or the "
        "`instant()` of a clock; `control.to_simple_clock().system_time()` for the "
        "wall clock",
        "system_time current_system_time utcnow wall_time": "`control.to_simple_clock()"
        ".system_time()`",
        "elapsed timer": "`control.to_simple_clock().stopwatch()`",
        "tick shift forward fast_forward elapse step skip sleep advance_time "
        "advance_by jump_by move wind pass_time": _JUMP,
        "jump_to advance_to skip_to forward_to run_to go_to goto seek "
        "sleep_until": _JUMP_TO,
        "move_to travel_to set_system_time set_now set_current_time": "`control."
        "set_time(when)`",
        "run_all run_until_complete run_pending settle": "`await control."
        "run_until_idle()`",
        "run_next run_once jump_to_next": "`await control.run_until(instant)`, which "
        "stops at each deadline on the way",
        "wait_all_tasks_blocked": "`await trio.testing.wait_all_tasks_blocked()`",
        "freeze": f"{_PATCH} for the standard library; or {_HOLD}",
        "freeze_time travel start stop patch patch_time": _PATCH,
        "pause resume unfreeze": _HOLD,
        "autojump auto_jump autojump_clock": "the attribute `control."
        "autojump_threshold`, which 0 turns on",
        "speed time_scale": "the attribute `control.rate`",
        "random_seed reseed": "`ClockControl(seed=seed)`, and `control.seed`",
        "auto_tick auto_tick_seconds auto_advance auto_advance_limit": "an argument: "
        "`ClockControl(auto_advance=seconds)`",
        "at": "an argument: `ClockControl(at=when)`",
        "io_grace": "an argument: `ClockControl(io_grace=seconds)`",
        "ignore_threads": "an argument: `ClockControl(ignore_threads=True)`",
        "detect_deadlocks": "an argument: `ClockControl(detect_deadlocks=True)`",
        "delay delay_until periodic move_on_after move_on_at fail_after fail_at "
        "open_timers timer_group call_later call_at call_every start_later alive "
        "stopwatch": _OF_ITS_CLOCK,
        "clock make_clock open_clock": _ITS_CLOCK,
        "activate": "`InactiveClock.from_control(control).activate()`",
        "run": "`trio.run(main, clock=control)`",
        "reset": "another `ClockControl()`, as time never goes back",
        "statistics": f"{_ITS_CLOCK}, whose driver has that",
    },
    "InactiveClock": {
        "shared": "`InactiveClock.new_shared()`",
        "isolated new_isolated new": "`InactiveClock()`",
        "open open_clock": "`async with open_clock() as clock:`",
        "from_clock": "`InactiveClock.from_control(control)`",
    },
    "ClockDriver": {
        "advance advance_to tick update step poll process run run_once run_pending "
        "run_due next fire fire_timers process_timers": _ADVANCE,
        "start run_forever": "in Trio it runs by itself; without Trio, call "
        f"{_ADVANCE} again and again",
        "stats": "`driver.statistics()`",
        "pending": "`driver.statistics().pending`",
        "next_timer deadline next_timeout timeout": "`driver.next_deadline`",
        "time_until_next": "`driver.next_deadline - clock.instant()`",
        "wait_closed join wait": "`await driver.wait_gone()`",
        "stop close aclose shutdown cancel": "`clock.close()`; the end of its block "
        "ends it",
        "instant system_time stopwatch delay delay_until periodic move_on_after "
        "fail_after open_timers timer_group alive is_alive gone clock": _OF_THE_CLOCK,
        "call_later call_at call_every call_soon timers": _TIMERS,
    },
    "TimerGroup": {
        "call_soon": f"{_CALL}, where 0 is for now",
        "set_timeout set_timer add_timer after schedule later call_in "
        "call_after run_later run_in add enter schedule_once delay": _CALL,
        "at run_at schedule_at enterabs": _CALL_AT,
        "every set_interval interval call_repeatedly repeat call_periodically "
        "call_periodic run_every start_every start_periodic periodic add_job": _EVERY,
        "call_soon_threadsafe": f"{_CALL}, from any thread if its clock is of an "
        "`InactiveClock.new_shared()`",
        "cancel cancel_all clear stop": "`timers.cancel_timers()`",
        "close aclose shutdown": "`timers.cancel_timers()`; the end of the block "
        "closes the group",
        "open start run run_pending": "the group is open already; its timers fire by "
        "themselves where Trio drives the clock, and elsewhere in "
        "`driver.advance_timers()` or `control.advance(seconds)`",
        "reset remove pending": _EACH_TIMER,
        "start_later start_at start_soon": _TASKS,
    },
    "TimerNursery": {
        "start_soon start spawn run_later spawn_later create_task start_task start_in "
        "start_after": _START,
        "start_every start_periodic": f"{_EVERY}; for a task, {_TICKS}",
        "wait join": "leave the block, which waits for its timers and tasks",
    },
    "Timer": {
        "stop delete remove kill close abort": _CANCEL,
        "pause": f"{_CANCEL}, and later {_RESET}",
        "restart start again reschedule rearm refresh resume modify extend postpone "
        "snooze delay shift": _RESET,
        "reset_at": "`timer.reset(instant - clock.instant())`",
        "active is_active is_pending is_alive scheduled": "`timer.pending`",
        "cancelled fired expired done cancel_called": "`not timer.pending`: a timer is "
        "pending until it has fired or been cancelled",
        "deadline due instant time next_run_time": "`timer.when`",
        "remaining time_left time_remaining seconds": "`timer.when - clock.instant()`",
        "fire call run trigger": "`timer.reset(0)`",
        "wait join": "an event that its function sets: `timers.call_later(seconds, "
        "event.set)`",
    },
}

# Arguments of ClockControl.
_AT = "`at=when`, a datetime with a timezone"
_ARGUMENTS = {
    name: instead
    for names, instead in {
        "autojump auto_jump auto_jump_threshold threshold jump virtual": "`"
        "autojump_threshold=0`",
        "now time start start_time initial_time system_time when date "
        "time_to_freeze": _AT,
        "tick speed time_scale": "`rate=1.0`, in virtual seconds for each real one",
        "auto_tick auto_tick_seconds": "`auto_advance=seconds`",
        "random_seed": "`seed=seed`",
        "detect_deadlock deadlock_detection": "`detect_deadlocks=True`",
        "timeout": "`with control.fail_after_real(seconds):`",
    }.items()
    for name in names.split()
}

# What is to be imported from elsewhere.
_TESTING = "from trio_clockrt.testing import ClockControl"
_AFFINITY = "from trio_clockrt.affinity import"
_FIXTURE = "is a fixture of the pytest plugin: make it an argument of the test"
_MARK = "is a mark of the pytest plugin: `@pytest.mark.virtual_time`"
_NO_MOCK = f"is Trio's; what this library has for it is: `{_TESTING}`"
_NAMED_CONTROL = f"is named ClockControl here: `{_TESTING}`"
_METHOD = "is a method of the clock here: `async with open_clock() as clock:`, and"
_PATCHING = f"is a method of a ClockControl here: {_PATCH}"
_OF_TRIO = "is Trio's: `trio."
_ELSEWHERE: dict[str, str] = {
    name: instead
    for names, instead in {
        "ClockControl": f"is not here: `{_TESTING}`",
        "MockClock": _NO_MOCK,
        "VirtualClock FakeClock TestClock ManualClock Control": _NAMED_CONTROL,
        "run_per_core": f"is not here: `{_AFFINITY} run_per_core`",
        "Affinity": f"is not here: `{_AFFINITY} Affinity`",
        "available_affinities": f"is not here: `{_AFFINITY} available_affinities`",
        "pinned_affinities": f"is not here: `{_AFFINITY} pinned_affinities`",
        "active_clock clock_control autojump_clock_control": _FIXTURE,
        "mock_clock autojump_clock": "is a fixture of pytest-trio; what this library "
        "has for it are the fixtures clock_control and autojump_clock_control",
        "virtual_time": _MARK,
        "sleep delay": f"{_METHOD} {_DELAY}",
        "delay_until sleep_until": f"{_METHOD} `await clock.delay_until(instant)`",
        "move_on_after move_on_at fail_after fail_at timeout Timeout": f"{_METHOD} "
        f"{_TIMEOUT}",
        "open_timers call_later call_at call_every Nursery": f"{_METHOD} {_TIMERS}",
        "periodic every Interval Ticker": f"{_METHOD} {_TICKS}",
        "stopwatch": f"{_METHOD} {_STOPWATCH}",
        "instant now current_time system_time": f"{_METHOD} {_INSTANT}",
        "timer_group": "is a method of a clock without Trio here: `clock, driver = "
        "InactiveClock().activate_manual()`, and `with clock.timer_group() as timers:`",
        "activate": "is a method here: `async with InactiveClock().activate() as "
        "(clock, driver):`",
        "Driver": "is named ClockDriver here: `from trio_clockrt import ClockDriver`",
        "TimerHandle": "is named Timer here: `from trio_clockrt import Timer`",
        "ClockGoneError": "is named ClockGone here: `from trio_clockrt import "
        "ClockGone`",
        "SharedClock open_shared_clock new_shared": "is made from a recipe here: "
        "`async with InactiveClock.new_shared().activate() as (clock, driver):`",
        "SystemClock": "is named SimpleClock here: `SimpleClock.system()`",
        "patch_stdlib freeze_time travel": _PATCHING,
        "TooSlowError": f"{_OF_TRIO}TooSlowError`",
        "Cancelled": f"{_OF_TRIO}Cancelled`",
        "ClosedResourceError": f"{_OF_TRIO}ClosedResourceError`",
        "wait_all_tasks_blocked": f"{_OF_TRIO}testing.wait_all_tasks_blocked`",
        "current_clock": f"{_OF_TRIO}lowlevel.current_clock()`; a Clock of this "
        "library is passed around, from `async with open_clock() as clock:`",
    }.items()
    for name in names.split()
}
_MODULES = ("affinity", "pytest_plugin")


def look_elsewhere(module: str, name: str) -> NoReturn:
    """The `__getattr__` of the public modules.

    What is elsewhere is an AttributeError, as `hasattr` has to see, but in ``from ...
    import`` an ImportError: of an AttributeError, that makes a message of its own.
    """
    package = sys.modules["trio_clockrt"]
    instead = _ELSEWHERE.get(name)
    if module != "trio_clockrt" and name in package.__all__:
        instead = f"is not here: `from trio_clockrt import {name}`"
    message = f"module {module!r} has no attribute {name!r}"
    if instead is not None:
        if _is_importing_from():
            raise ImportError(
                f"cannot import name {name!r} from {module!r}: it {instead}",
                name=module,
            )
        message += f": it {instead}"
    elif module == "trio_clockrt" and name in _MODULES:
        message += f": write `import trio_clockrt.{name}` first"
    raise AttributeError(message, name=name, obj=sys.modules[module])


def _is_importing_from() -> bool:
    """Whether the code that asks for the attribute is a ``from ... import``."""
    frame = sys._getframe(2)
    if frame.f_code.co_name == "__getattr__":
        assert frame.f_back is not None
        frame = frame.f_back
    return frame.f_code.co_code[frame.f_lasti] == opmap["IMPORT_FROM"]


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


def hints_of_calls(method: Callable[P, None]) -> Callable[P, None]:
    """Decorator for methods of ClockControl that are called in wrong ways."""

    @wraps(method)
    def hinting(*args: P.args, **kwargs: P.kwargs) -> None:
        if not args:
            raise TypeError(
                "the clock of this run is the class ClockControl, and not an object; "
                "call the class: `trio.run(main, clock=ClockControl())`"
            )
        for name in kwargs:
            if name in _ARGUMENTS:
                raise TypeError(
                    f"ClockControl() has no argument {name!r}; what it may mean here: "
                    f"{_ARGUMENTS[name]}"
                )
        method(*args, **kwargs)

    return hinting


def hints(cls: type[T]) -> type[T]:
    """Class decorator: give the class its guesses."""
    for names, instead in _GUESSES[cls.__name__].items():
        for name in names.split():
            if not hasattr(cls, name):  # or else it is no guess any more
                setattr(cls, name, _Guess(name, instead))
    return cls

"""The pytest plugin: what time it is in a test.

It is no part of the package, and imports the package only when a test uses it: pytest
loads plugins before tools that measure coverage have started, and a module that is
imported by then counts as never run. The entry point has the name of the public module.
So pytest, ``-p`` and `pytest_plugins` all mean one plugin, and it is loaded once.

A test has one control, for all that ask for it: the mark, the ini option, the test or
its fixtures, in any order. It is the clock of the test's run, so it has to be there
before the run begins. pytest-trio begins the run with the test, and takes the clock
from the arguments of the test function; so the plugin passes one argument more, and
takes it out again before the function is called. AnyIO begins the run with the first
async fixture, which may come before the one that makes the control; so the plugin opens
AnyIO's runner in a fixture that comes before all others. That function of AnyIO's is
not documented, but has been the same since AnyIO 4.0. The plugin opens AnyIO's run only
if AnyIO would: for an async function, or an async fixture, with `anyio_backend` among
the fixtures. Other functions with that fixture call `anyio.run()` by themselves. A test
with the mark `trio` is pytest-trio's, whichever other marks it has, as pytest-trio has
replaced the function when AnyIO looks at it; in `trio_mode` that is each async test.

A test has the seed 0, unless it is given another. A seed derived from the name of the
test would do as well, but would change with the name. To repeat what has failed is to
run it again.

To ask for a control that nothing uses is a mistake, and the test fails. So a control
notes whether it has been read or moved. A run reads it at once.
"""

from __future__ import annotations

import os
import shlex
import sys
from argparse import ArgumentTypeError
from contextlib import suppress
from functools import partial, wraps
from inspect import isasyncgenfunction, iscoroutinefunction
from math import inf
from typing import TYPE_CHECKING, Any, TextIO, cast
from weakref import WeakSet

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    import trio

    from trio_clockrt import Clock
    from trio_clockrt.testing import ClockControl


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini(
        "virtual_time", "run all Trio tests in virtual time?", "bool", default=False
    )
    parser.addini(
        "virtual_time_detect_deadlocks",
        "fail tests in virtual time that nothing can wake any more?",
        "bool",
        default=False,
    )
    parser.addini(
        "virtual_time_seeds",
        "with how many seeds, that is schedules, to run each test in virtual time",
        default="",
    )
    group = parser.getgroup("trio-clockrt")
    group.addoption(
        "--clock-seeds",
        type=_count,
        metavar="N",
        help="run each test in virtual time N times, each time with another schedule",
    )
    group.addoption(
        "--clock-seed",
        type=_seed,
        metavar="K",
        help="run each test in virtual time once, with this seed for its schedule",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("clock_seeds") and config.getoption("clock_seed") is not None:
        raise pytest.UsageError(
            "--clock-seeds is for many seeds, --clock-seed for one: use one of them"
        )
    try:
        _ini_seeds(config)
    except ArgumentTypeError as error:
        raise pytest.UsageError(f"the ini option virtual_time_seeds {error}") from None
    config.addinivalue_line(
        "markers",
        "virtual_time(seeds=1, **arguments): run the test and its fixtures on a "
        "ClockControl with these arguments, which jumps unless they say otherwise; "
        "`seeds` is how many schedules to run it with. virtual_time(False): do not.",
    )
    # Nothing is captured at this moment, as faulthandler's plugin relies on too.
    global real_stderr
    with suppress(OSError):  # there may be none
        stream = open(os.dup(2), "w", errors="backslashreplace")  # noqa: SIM115
        config.add_cleanup(partial(_close, stream, real_stderr))
        real_stderr = stream


def _close(stream: TextIO, outer: TextIO | None) -> None:
    """Go back to what the pytest has that has run this one, if any."""
    global real_stderr
    stream.close()
    real_stderr = outer


# Where the package writes what has to be seen at the terminal, in spite of capturing...
real_stderr: TextIO | None = None
# ...and notes here that Ctrl-C has ended what a test was waiting for.
interrupted = False


# --- what a test asks for, and what it gets ---


class _VirtualTime:
    """The control of a test, as its mark, the ini option and its fixtures want it."""

    def __init__(self, item: pytest.Function) -> None:
        self.arguments: dict[str, Any] = {}
        self._mark = mark = item.get_closest_marker("virtual_time")
        #: Whether there is anything that a plugin runs on Trio.
        runs = _is_async(item) or _is_for_anyio(item)
        if mark is None:
            marked, virtual = False, runs and item.config.getini("virtual_time")
        else:
            virtual, self.arguments = _read(mark)
            # The mark of a class or a module is for the async tests there.
            marked = virtual and (runs or mark in item.own_markers)
        self.seeds: int | None = self.arguments.pop("seeds", None)
        self.asked_for = "clock_control" in item.fixturenames
        if virtual or "autojump_clock_control" in item.fixturenames:
            self.arguments.setdefault("autojump_threshold", 0)
        if item.config.getini("virtual_time_detect_deadlocks"):
            self.arguments.setdefault("detect_deadlocks", True)
        #: The ini option alone is no reason to fail a test that cannot have a control.
        self.has_to_drive = marked or self.asked_for
        self.wanted = self.has_to_drive or (virtual and runs)
        #: Why there can be none.
        self.refusal: BaseException | None = None
        #: If it is wanted.
        self.control: ClockControl
        #: Whether pytest-trio may be given it.
        self.takes_clock = False

    def make_control(self) -> ClockControl:
        from trio_clockrt.testing import ClockControl

        try:
            self.control = ClockControl(**self.arguments)
        except (TypeError, ValueError) as error:
            assert self._mark is not None
            raise _wrong(
                self._mark,
                f"{error}; it takes the arguments of ClockControl, and `seeds`",
            ) from None
        return self.control

    def control_of_next_run(self) -> ClockControl:
        """Each example of Hypothesis begins at the same time, unless it cannot."""
        if self.control._used and not self.asked_for:
            return self.make_control()
        return self.control


def _read(mark: pytest.Mark) -> tuple[bool, dict[str, Any]]:
    arguments = {**mark.kwargs}
    virtual = mark.args[0] if mark.args else True
    if not isinstance(virtual, bool) or len(mark.args) > 1:
        raise _wrong(
            mark, "it takes keyword arguments, such as `at`, or else True or False"
        )
    if arguments and not virtual:
        raise _wrong(mark, "False takes no arguments")
    if "seeds" in arguments:
        if "seed" in arguments:
            raise _wrong(
                mark,
                "it takes `seed`, for one schedule, or `seeds`, for many, not both",
            )
        seeds = arguments["seeds"]
        if isinstance(seeds, bool) or not isinstance(seeds, int) or seeds < 1:
            raise _wrong(mark, "`seeds` must be an integer of 1 or more")
    return virtual, arguments


def _wrong(mark: pytest.Mark, reason: str) -> BaseException:
    given = [*map(repr, mark.args)]
    given += [f"{name}={value!r}" for name, value in mark.kwargs.items()]
    return _failure(f"virtual_time({', '.join(given)}): {reason}")


def _count(given: str) -> int:
    if not given.isdecimal() or int(given) == 0:
        raise ArgumentTypeError(f"must be a number of 1 or more, not {given!r}")
    return int(given)


def _seed(given: str) -> int:
    if not given.isdecimal():
        raise ArgumentTypeError(f"must be a number of 0 or more, not {given!r}")
    return int(given)


def _ini_seeds(config: pytest.Config) -> int | None:
    given = config.getini("virtual_time_seeds")
    return _count(given) if given else None


def _failure(reason: str) -> BaseException:
    return pytest.fail.Exception(reason, pytrace=False)


def _is_async(item: pytest.Function) -> bool:
    return iscoroutinefunction(_function_of(item)[2])


def _is_for_pytest_trio(item: pytest.Function) -> bool:
    """Whether that runs the test. It is the first to take it."""
    return item.get_closest_marker("trio") is not None and _is_loaded(
        item, "pytest_trio.plugin"
    )


def _is_for_anyio(item: pytest.Function) -> bool:
    """Whether that runs anything of the test: itself, or only its fixtures."""
    return (
        _has_anyio(item)
        and not _is_for_pytest_trio(item)
        and (_is_async(item) or _has_async_fixtures(item))
    )


def _has_anyio(item: pytest.Function) -> bool:
    return "anyio_backend" in item.fixturenames and _is_loaded(
        item, "anyio.pytest_plugin"
    )


def _is_loaded(item: pytest.Item, plugin: str) -> bool:
    module = sys.modules.get(plugin)
    return module is not None and item.config.pluginmanager.is_registered(module)


# Remembered, as older releases of AnyIO put functions in their place that are not
# async. All tests are looked at before the first one is run.
_async_fixtures: WeakSet[Any] = WeakSet()


def _has_async_fixtures(item: pytest.Function) -> bool:
    definitions = item._fixtureinfo.name2fixturedefs
    fixtures = {
        fixture for name in item.fixturenames for fixture in definitions.get(name, ())
    }
    _async_fixtures.update(
        fixture
        for fixture in fixtures
        if iscoroutinefunction(fixture.func) or isasyncgenfunction(fixture.func)
    )
    return not _async_fixtures.isdisjoint(fixtures)


def _function_of(item: pytest.Function) -> tuple[object, str, Any]:
    """Where the function is, which Hypothesis calls once for each example."""
    hypothesis = getattr(item.obj, "hypothesis", None)
    if hypothesis is None:
        return item, "obj", item.obj
    return hypothesis, "inner_test", hypothesis.inner_test


def _parameters_of(item: pytest.Item) -> dict[str, object]:
    params: dict[str, object] = getattr(getattr(item, "callspec", None), "params", {})
    return params


def _time_of(item: pytest.Function) -> _VirtualTime:
    return cast("_VirtualTime", item.funcargs["_virtual_time"])


# --- many schedules ---


@pytest.hookimpl(trylast=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    try:
        time = _VirtualTime(metafunc.definition)
    except pytest.fail.Exception:
        return  # the test will fail with the same, and the others of its module run
    config = metafunc.config
    if (
        time.wanted
        and "seed" not in time.arguments
        and config.getoption("clock_seed") is None
    ):
        seeds = config.getoption("clock_seeds") or time.seeds or _ini_seeds(config)
        if seeds:
            metafunc.parametrize(
                "_virtual_time", range(seeds), indirect=True, ids="seed={}".format
            )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        arguments: dict[str, Any] = getattr(item, "funcargs", None) or {}
        time: _VirtualTime | None = arguments.get("_virtual_time")
        lines: list[str] = []
        if time is not None and time.wanted and time.control._used:
            lines += _how_to_repeat(item, time)
        if drawn := _seeds_drawn():
            lines.append(
                "The test has made a ClockControl without a seed, and this has drawn "
                f"{drawn[0]}. To repeat it, make it with `seed={drawn[0]}`."
            )
        if lines:
            report.sections.append(("virtual time", "\n".join(lines) + "\n"))
    return report


def _how_to_repeat(item: pytest.Item, time: _VirtualTime) -> list[str]:
    seed, explored, option = time.control.seed, True, ""
    if "_virtual_time" in _parameters_of(item):
        count = item.config.getoption("clock_seeds")
        if not (count or time.seeds):
            count = _ini_seeds(item.config)
        if count:
            option = f" --clock-seeds={count}"
    elif item.config.getoption("clock_seed") == seed:
        option = f" --clock-seed={seed}"
    else:
        explored = False
    lines = [
        f"The schedule has the seed {seed}. To repeat it, run",
        f"    pytest{option} {shlex.quote(_id_from_where_pytest_runs(item))}",
    ]
    if explored:
        # A mark alone would make a control jump that stands still.
        jumps = "autojump_threshold" in time.arguments
        arguments = f"seed={seed}" + ("" if jumps else ", autojump_threshold=math.inf")
        lines.append(f"or mark the test with @pytest.mark.virtual_time({arguments}).")
    return lines


def _id_from_where_pytest_runs(item: pytest.Item) -> str:
    # The path in a node id begins at pytest's root directory. On the command line, it
    # has to begin where pytest was called.
    path = str(item.path)
    with suppress(ValueError):  # on Windows, it is on another drive
        path = os.path.relpath(path, item.config.invocation_params.dir)
    _, colons, name = item.nodeid.partition("::")
    return f"{path}{colons}{name}"


def _seeds_drawn() -> list[int]:
    """The last one of a control made in the test, if the package has been imported."""
    module = sys.modules.get("trio_clockrt.testing._seed")
    return [] if module is None else cast("list[int]", module.drawn)


# --- fixtures ---


# Both of these come before all other fixtures of a test, as those may begin its run.
@pytest.fixture(autouse=True)
def _virtual_time(request: pytest.FixtureRequest) -> _VirtualTime:
    _seeds_drawn().clear()
    time = _VirtualTime(request.node)
    seed = getattr(request, "param", request.config.getoption("clock_seed"))
    # With none given, a test has the same one each time.
    time.arguments.setdefault("seed", seed or 0)
    if time.wanted:
        time.make_control()
    return time


@pytest.fixture(autouse=True)
def _anyio_run(
    request: pytest.FixtureRequest, _virtual_time: _VirtualTime
) -> Generator[None]:
    if not (_virtual_time.wanted and _is_for_anyio(request.node)):
        yield
        return
    from anyio.pytest_plugin import extract_backend_and_options, get_runner

    time = _virtual_time
    name, options = extract_backend_and_options(
        request.getfixturevalue("anyio_backend")
    )
    clock = options.get("clock", time.control)
    if name != "trio":
        time.refusal = _failure(
            f"a ClockControl can only drive Trio, but this test runs on {name}: let "
            "the fixture `anyio_backend` return 'trio'"
        )
        # If a test is for Trio as well, the other cases of it stay real.
        is_a_case = "anyio_backend" in _parameters_of(request.node)
        if time.has_to_drive and not (time.asked_for or is_a_case):
            raise time.refusal
    elif clock is not time.control and time.has_to_drive:
        raise _two_clocks(time, clock)
    if name != "trio" or clock is not time.control:
        time.wanted = time.has_to_drive = False
        yield
        return
    # As long as this runner is held, AnyIO takes no other.
    with get_runner(name, {**options, "clock": clock}) as runner:
        if runner.run_fixture(_current_clock, {}) is not clock:
            raise _failure(
                "the run of this test has begun before the test, with another clock, "
                "because of an async fixture of a wider scope: give that fixture the "
                "scope of a function, or the test the mark virtual_time(False)"
            )
        yield


async def _current_clock() -> trio.abc.Clock:
    import trio

    return trio.lowlevel.current_clock()


@pytest.fixture
def clock_control(_virtual_time: _VirtualTime) -> ClockControl:
    """A `ClockControl`, which is the clock of the test's run, and moves as it is told.

    In a test with the mark ``virtual_time`` it is as the mark has made it.
    """
    time = _virtual_time
    if time.refusal is not None:
        raise time.refusal
    # A call of `request.getfixturevalue` is seen no earlier.
    time.asked_for = time.has_to_drive = True
    if not time.wanted:
        time.wanted = True
        time.make_control()
    return time.control


@pytest.fixture
def autojump_clock_control(clock_control: ClockControl) -> ClockControl:
    """The `clock_control`, which jumps whenever nothing else is left to do."""
    if clock_control.autojump_threshold == inf:
        clock_control.autojump_threshold = 0
    return clock_control


@pytest.fixture
async def active_clock(_trio_run: None) -> AsyncGenerator[Clock]:
    """A `Clock` that is alive until the test ends, on the clock of the test's run."""
    from trio_clockrt import open_clock

    async with open_clock() as clock:
        yield clock


@pytest.fixture
def _trio_run(request: pytest.FixtureRequest) -> None:
    given = "has neither"
    if _is_for_pytest_trio(request.node):
        if not _has_anyio(request.node):
            return
        given = "has both: pytest-trio runs it, and AnyIO its fixtures, in another run"
    elif _has_anyio(request.node):
        backend = request.getfixturevalue("anyio_backend_name")
        if backend == "trio":
            return
        given = f"runs on {backend}"
    raise _failure(
        f"the fixture `active_clock` {_NEEDS_TRIO} {given}; elsewhere, use "
        "`open_clock()`"
    )


_NEEDS_TRIO = (
    "needs an async test that runs on Trio, under pytest-trio (`trio_mode = true`, or "
    "the mark `trio`) or AnyIO (the mark `anyio`), but this test"
)


# --- calling tests, by pytest-trio, AnyIO or pytest itself ---

# pytest-trio takes the clock of a run from the arguments of the test, and allows one.
# So the plugin takes out all arguments that are the control, passes it once as _CLOCK,
# and passes their names as _NAMES. The test function gets them back by these names.
_CLOCK = "_trio_clockrt_clock"
_NAMES = "_trio_clockrt_names"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    __tracebackhide__ = True
    if not isinstance(item, pytest.Function):
        return (yield)
    place, name, function = _function_of(item)
    replaced = place is not item
    if _is_async(item) and _time_of(item).wanted:
        if _is_for_pytest_trio(item):
            setattr(place, name, _without_clock(function))
            _time_of(item).takes_clock = replaced = True
        elif _is_for_anyio(item):
            setattr(place, name, _in_a_nursery(function))
            replaced = True
    try:
        # Within this, pytest-trio and AnyIO replace the function by one that runs it.
        return (yield)
    finally:
        # All cases of a test share what Hypothesis has, and each is to look async.
        if replaced:
            setattr(place, name, function)


def _without_clock(function: Any) -> object:
    @wraps(function)
    async def without_clock(*args: object, **kwargs: Any) -> None:
        __tracebackhide__ = True
        control = kwargs.pop(_CLOCK, None)
        kwargs.update(dict.fromkeys(kwargs.pop(_NAMES, ()), control))
        await function(*args, **kwargs)

    return without_clock


def _in_a_nursery(function: Any) -> object:
    """Run a test in a nursery, which can cancel it when an error is to be raised there.

    Trio cannot raise an error in a task that never waits. pytest-trio has a nursery
    around each test and fixture.
    """
    import outcome
    import trio

    @wraps(function)
    async def in_a_nursery(*args: object, **kwargs: object) -> None:
        __tracebackhide__ = True
        async with trio.open_nursery():
            result = await outcome.acapture(function, *args, **kwargs)
        # Outside of the nursery, which would put the test's exception into a group.
        result.unwrap()

    return in_a_nursery


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(
    pyfuncitem: pytest.Function,
) -> Generator[None, object, object]:
    __tracebackhide__ = True
    global interrupted
    interrupted = False
    time = _time_of(pyfuncitem)
    if time.takes_clock:
        _give_clock(pyfuncitem, time)
    try:
        result = yield
    except (pytest.fail.Exception, pytest.skip.Exception) as error:
        # What pytest itself says then, depending on its version.
        if time.has_to_drive and "async def function" in str(error):
            raise _failure(f"virtual time {_NEEDS_TRIO} has neither") from None
        raise
    except BaseException as error:
        if interrupted:
            # Perhaps in a group of exceptions, and pytest would go on.
            raise KeyboardInterrupt from error
        raise
    if time.has_to_drive and not time.control._used:
        raise _failure(
            f"nothing has used the {time.control} of this test: no Trio run had it as "
            "its clock, and it was neither read nor moved. Under pytest-trio and AnyIO "
            "it drives async tests that have asked for it before they begin, by their "
            "arguments, fixtures or marks. Other tests hand it over by themselves: ask "
            "for `clock_control`, and `trio.run(..., clock=clock_control)`"
        )
    return result


def _give_clock(item: pytest.Function, time: _VirtualTime) -> None:
    import trio

    place, name, run = _function_of(item)

    def with_clock(*args: object, **kwargs: object) -> object:
        __tracebackhide__ = True
        clocks = {
            name: arg for name, arg in kwargs.items() if isinstance(arg, trio.abc.Clock)
        }
        others = [clock for clock in clocks.values() if clock is not time.control]
        if others and time.has_to_drive:
            raise _two_clocks(time, others[0])
        if not others:
            # pytest-trio takes one such argument, also if several are the same clock.
            kwargs[_NAMES] = [*clocks]
            for name in clocks:
                del kwargs[name]
            kwargs[_CLOCK] = time.control if clocks else time.control_of_next_run()
        return run(*args, **kwargs)

    setattr(place, name, with_clock)


def _two_clocks(time: _VirtualTime, other: object) -> BaseException:
    return _failure(
        f"this test has two clocks, {time.control} and {other!r}, but its run can have "
        "only one: let it ask for one of them, in its arguments, its fixtures and the "
        "mark virtual_time"
    )

"""The pytest plugin, with each of the plugins that run async tests."""

from __future__ import annotations

import importlib.metadata
import re
import shlex
from textwrap import dedent

import pytest

HEAD = """
import pytest
import trio
from datetime import datetime, timezone
from trio.testing import MockClock
from trio_clockrt import open_clock
from trio_clockrt.testing import ClockControl
"""
CONFTEST = (
    HEAD
    + """
@pytest.fixture
def anyio_backend():
    return "trio"
"""
)


class Project:
    """A project with tests. By their mark, some plugin runs those that are async."""

    def __init__(self, pytester: pytest.Pytester, mark: str | None = None) -> None:
        self.pytester = pytester
        self.mark = mark
        pytester.makeconftest(CONFTEST)

    def run(self, source: str, *args: str, **outcomes: int) -> pytest.RunResult:
        """Run tests, and expect what becomes of them."""
        source = HEAD + dedent(source)
        if self.mark is not None:
            marked = rf"\1@pytest.mark.{self.mark}\n\1\2"
            source = re.sub("(?m)^( *)(async def test_)", marked, source)
        # Hypothesis remembers the source of tests by their path.
        name = f"test_{self.pytester.path.name}"
        path = self.pytester.makepyfile(**{name: source})
        result = self.pytester.runpytest(path, "-p", "no:cacheprovider", *args)
        result.assert_outcomes(**(outcomes or {"passed": 1}))
        return result

    def fail(self, source: str, *lines: str, **outcomes: int) -> None:
        """Run tests, and expect that they say this."""
        result = self.run(source, **(outcomes or {"failed": 1}))
        result.stdout.fnmatch_lines([f"*{line}*" for line in lines])


@pytest.fixture(autouse=True)
def _not_on_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    """On CI, pytest says in full a second time what it has said."""
    for name in ["CI", "BUILD_NUMBER"]:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(params=["trio", "anyio"])
def project(pytester: pytest.Pytester, request: pytest.FixtureRequest) -> Project:
    return Project(pytester, request.param)


@pytest.fixture
def trio_project(pytester: pytest.Pytester) -> Project:
    return Project(pytester, "trio")


@pytest.fixture
def anyio_project(pytester: pytest.Pytester) -> Project:
    return Project(pytester, "anyio")


@pytest.fixture
def plain_project(pytester: pytest.Pytester) -> Project:
    return Project(pytester)


@pytest.fixture
def _all_virtual(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nvirtual_time = true")


# --- the control ---


def test_a_control_that_stands_still(project: Project) -> None:
    project.run(
        """
        async def test_it(clock_control):
            assert trio.lowlevel.current_clock() is clock_control
            assert clock_control.autojump_threshold == float("inf")
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(trio.sleep, 60)
                    await trio.testing.wait_all_tasks_blocked()
                    assert trio.current_time() == 0
                    clock_control.jump(60)
            assert trio.current_time() == 60
        """
    )


def test_a_deadlock(project: Project) -> None:
    source = """
        async def test_it(clock_control):
            await trio.sleep_forever()
        """
    project.pytester.makeini("[pytest]\nvirtual_time_detect_deadlocks = true")
    result = project.run(source, failed=1)
    result.stdout.fnmatch_lines(["*deadlock: nothing will ever wake*"])
    # Nobody wants to know what the other plugin waits for.
    tasks = [line for line in result.outlines if " - task " in line]
    assert len(tasks) == 1
    assert tasks[0].endswith(", in test_it")


# What deadlocks, and fixtures that say when they are torn down as after any failure.
DEADLOCKS = """
        pytestmark = pytest.mark.virtual_time(detect_deadlocks=True)

        async def alone():
            await trio.sleep_forever()

        async def with_a_child():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(alone)
                await alone()

        async def shielded():
            with trio.CancelScope(shield=True):
                await alone()

        async def with_a_shielded_child():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(shielded)

        async def twice():
            try:
                await alone()
            finally:
                await alone()

        @pytest.fixture
        async def plain(active_clock):
            yield
            print("torn down: plain")

        @pytest.fixture
        async def polite(active_clock):
            try:
                yield
            finally:
                await active_clock.delay(3)
                print("torn down: polite at", active_clock.instant())

        @pytest.fixture
        async def busy():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(alone)
                yield
                print("torn down: busy")
                nursery.cancel_scope.cancel()
"""


def test_a_deadlock_leaves_fixtures_alone(project: Project) -> None:
    """They are torn down as after any other failure."""
    result = project.run(
        DEADLOCKS
        + """
        @pytest.mark.parametrize(
            "wait", [alone, with_a_child, with_a_shielded_child, twice]
        )
        async def test_it(wait, plain, polite, busy, active_clock):
            await active_clock.delay(2)
            await wait()
        """,
        "-s",
        failed=4,
    )
    for line in ("plain", "polite at 5.0", "busy"):
        assert sum(f"torn down: {line}" in out for out in result.outlines) == 4
    assert result.stdout.str().count("Error: deadlock: nothing will ever wake") >= 5


def test_deadlocks_of_fixtures(project: Project) -> None:
    outcomes = {"failed": 2}
    if project.mark == "anyio":  # which runs them in the phases of pytest
        outcomes = {"passed": 1, "errors": 2}
    result = project.run(
        DEADLOCKS
        + """
        @pytest.fixture
        async def at_first(plain):
            await alone()

        @pytest.fixture
        async def at_last(plain):
            yield
            await alone()

        async def test_first(plain, polite, busy, at_first, active_clock):
            pass

        async def test_last(plain, polite, busy, at_last, active_clock):
            await active_clock.delay(2)
        """,
        "-s",
        **outcomes,
    )
    for line in ("plain", "polite", "busy"):
        assert sum(f"torn down: {line}" in out for out in result.outlines) == 2
    result.stdout.fnmatch_lines(["*deadlock: nothing*", "*deadlock: nothing*"])


# What never waits, so that virtual time stands still. Real time flies, to get there.
SPINS = """
        import itertools

        pytestmark = [
            pytest.mark.virtual_time, pytest.mark.filterwarnings("error")
        ]

        @pytest.fixture(autouse=True)
        def _real_time_flies(clock_control):
            clock_control._real_clock = itertools.count().__next__

        async def alone():
            while True:
                await trio.sleep(0)

        async def in_a_child():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(alone)

        async def in_a_grandchild():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(in_a_child)

        async def beside_the_test():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(alone)
                await trio.sleep(60)

        async def among_many():
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(alone)
                await alone()

        @pytest.fixture
        async def plain():
            yield
            print("torn down: plain")

        @pytest.fixture
        async def polite():
            try:
                yield
            finally:
                await trio.sleep(3)
                print("torn down: polite at", trio.current_time())
"""


def test_a_task_that_never_waits_leaves_fixtures_alone(project: Project) -> None:
    """Where the warning of it is an error, which leaves the test as any other."""
    result = project.run(
        SPINS
        + """
        @pytest.mark.parametrize(
            "spin",
            [alone, in_a_child, in_a_grandchild, beside_the_test, among_many],
        )
        async def test_it(spin, plain, polite):
            await trio.sleep(2)
            await spin()
        """,
        "-s",
        failed=5,
    )
    for line in ("plain", "polite at 5.0"):
        assert sum(f"torn down: {line}" in out for out in result.outlines) == 5
    assert result.stdout.str().count("RuntimeWarning: virtual time has been") == 5


def test_fixtures_that_never_wait_leave_others_alone(project: Project) -> None:
    if project.mark == "anyio":
        pytest.skip("under AnyIO a fixture is in no nursery, so no error can end it")
    result = project.run(
        SPINS
        + """
        @pytest.fixture
        async def at_first(plain):
            await alone()

        @pytest.fixture
        async def at_last(plain):
            yield
            await alone()

        async def test_first(plain, polite, at_first):
            pass

        async def test_last(plain, polite, at_last):
            pass
        """,
        "-s",
        failed=2,
    )
    for line in ("plain", "polite"):
        assert sum(f"torn down: {line}" in out for out in result.outlines) == 2
    assert result.stdout.str().count("RuntimeWarning: virtual time has been") == 2


def test_a_worker_that_keeps_time_leaves_fixtures_alone(project: Project) -> None:
    """The test cannot be interrupted, so nothing is, but people are told."""
    result = project.run(
        SPINS
        + """
        import io
        import _trio_clockrt_pytest_plugin as plugin

        async def test_it(plain, polite, clock_control, monkeypatch):
            def work():
                while "standing still" not in plugin.real_stderr.getvalue():
                    clock_control.rate = 0  # so that the run looks again

            monkeypatch.setattr(plugin, "real_stderr", io.StringIO())
            with trio.fail_after(60):
                await trio.to_thread.run_sync(work)
        """,
        "-s",
    )
    result.stdout.fnmatch_lines_random(["*torn down: polite at*", "*torn down: plain"])


def test_a_control_that_jumps(project: Project) -> None:
    project.run(
        """
        async def test_it(autojump_clock_control):
            await trio.sleep(1e6)
            assert autojump_clock_control.current_time() == 1e6
        """
    )


def test_there_is_one_control_for_all_who_ask(project: Project) -> None:
    project.run(
        """
        @pytest.fixture
        def new_year(clock_control):
            clock_control.set_time(datetime(2000, 1, 1, tzinfo=timezone.utc))

        @pytest.fixture
        async def a_day_later(new_year):
            await trio.sleep(86400)

        async def test_it(a_day_later, autojump_clock_control):
            async with open_clock() as clock:
                assert clock.system_time().day == 2
        """
    )


def test_it_is_enough_that_a_fixture_asks(project: Project) -> None:
    project.run(
        """
        @pytest.fixture
        async def a_day_later(autojump_clock_control):
            await trio.sleep(86400)

        async def test_it(a_day_later):
            assert trio.current_time() == 86400
            await trio.sleep(86400)
        """
    )


def test_each_test_has_its_own(project: Project) -> None:
    project.run(
        """
        @pytest.mark.parametrize("n", range(3))
        async def test_it(n, autojump_clock_control):
            assert trio.current_time() == 0
            await trio.sleep(1)
        """,
        passed=3,
    )


def test_a_fixture_that_is_asked_for_late(trio_project: Project) -> None:
    trio_project.run(
        """
        @pytest.fixture
        def late(request):
            return request.getfixturevalue("autojump_clock_control")

        async def test_it(late):
            await trio.sleep(60)
            assert late.current_time() == 60
        """
    )


def test_a_test_that_is_not_async(plain_project: Project) -> None:
    plain_project.run(
        """
        def test_run(autojump_clock_control):
            trio.run(trio.sleep, 60, clock=autojump_clock_control)
            assert autojump_clock_control.current_time() == 60

        def test_clock(clock_control):
            clock_control.to_simple_clock()

        def test_stdlib(clock_control):
            with clock_control.patch_stdlib():
                pass

        def test_read(clock_control):
            clock_control.current_time()

        def test_jump(clock_control):
            clock_control.jump(1)

        def test_set_time(clock_control):
            clock_control.set_time(datetime.now(timezone.utc))
        """,
        passed=6,
    )


def test_tests_that_want_nothing_are_left_alone(project: Project) -> None:
    project.run(
        """
        async def test_real():
            assert type(trio.lowlevel.current_clock()).__name__ == "SystemClock"

        def test_own():
            trio.run(trio.sleep, 60, clock=ClockControl(autojump_threshold=0))
        """,
        passed=2,
    )


# --- a control that drives nothing ---

UNUSED = "nothing has used the <ClockControl, instant 0.000000, seed *> of this test"


def test_nobody_uses_the_control(plain_project: Project) -> None:
    plain_project.fail(
        """
        def test_it(autojump_clock_control):
            trio.run(trio.lowlevel.checkpoint)
        """,
        UNUSED,
    )


def test_an_unused_control_comes_too_late(trio_project: Project) -> None:
    trio_project.fail(
        """
        async def test_it(request):
            request.getfixturevalue("clock_control")
        """,
        UNUSED,
    )


def test_a_runner_that_takes_no_clock(plain_project: Project) -> None:
    plain_project.pytester.makeconftest(
        """
        import pytest, trio

        @pytest.hookimpl(tryfirst=True)
        def pytest_pyfunc_call(pyfuncitem):
            trio.run(pyfuncitem.obj)
            return True
        """
    )
    plain_project.fail(
        """
        @pytest.mark.virtual_time
        async def test_it():
            pass
        """,
        UNUSED,
    )


def test_whoever_fails_anyway_is_told_nothing_else(plain_project: Project) -> None:
    result = plain_project.run(
        """
        def test_failed(clock_control):
            assert False

        def test_skipped(clock_control):
            pytest.skip()
        """,
        failed=1,
        skipped=1,
    )
    result.stdout.no_fnmatch_line("*nothing has used*")


# --- the mark ---


def test_mark(project: Project) -> None:
    project.run(
        """
        @pytest.fixture
        async def fixture():
            await trio.sleep(60)
            yield
            assert trio.current_time() == 120
            await trio.sleep(60)

        @pytest.mark.virtual_time
        async def test_it(fixture):
            assert trio.current_time() == 60
            await trio.sleep(60)
        """
    )


def test_arguments_of_the_mark(project: Project) -> None:
    project.run(
        """
        Y2K = datetime(2000, 1, 1, tzinfo=timezone.utc)

        @pytest.mark.virtual_time(at=Y2K, rate=1000, autojump_threshold=5)
        async def test_it():
            control = trio.lowlevel.current_clock()
            assert control.to_simple_clock().system_time().year == 2000
            assert control.rate == 1000
            assert control.autojump_threshold == 5
        """
    )


def test_the_control_that_the_mark_has_made(project: Project) -> None:
    project.run(
        """
        @pytest.fixture
        def control(clock_control):
            return clock_control

        @pytest.fixture
        async def at_first(control):
            await trio.sleep(1)

        @pytest.mark.virtual_time(autojump_threshold=1e-9)
        async def test_it(at_first, autojump_clock_control):
            assert autojump_clock_control is trio.lowlevel.current_clock()
            assert autojump_clock_control.autojump_threshold == 1e-9
        """
    )


def test_marks_of_modules_and_classes(project: Project) -> None:
    project.run(
        """
        pytestmark = pytest.mark.virtual_time(rate=2)

        async def test_module():
            assert trio.lowlevel.current_clock().rate == 2
            await trio.sleep(1000)

        def test_module_sync():
            pass

        @pytest.mark.virtual_time(rate=3)
        class TestClass:
            async def test_class(self):
                assert trio.lowlevel.current_clock().rate == 3

            @pytest.mark.virtual_time(rate=4)
            async def test_function(self):
                assert trio.lowlevel.current_clock().rate == 4

            @pytest.mark.virtual_time(False)
            async def test_without(self):
                clock = trio.lowlevel.current_clock()
                assert type(clock).__name__ == "SystemClock"

            def test_sync(self, clock_control):
                assert clock_control.rate == 3
                assert clock_control.autojump_threshold == 0
                trio.run(trio.sleep, 60, clock=clock_control)
        """,
        passed=6,
    )


def test_a_mark_on_what_is_not_async(project: Project) -> None:
    project.fail(
        """
        @pytest.mark.virtual_time
        def test_it():
            trio.run(trio.lowlevel.checkpoint)
        """,
        UNUSED,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("rates=3", "*got an unexpected keyword argument 'rates'*takes the"),
        ("autojump=0", "*no argument 'autojump'*`autojump_threshold=0`*"),
        ("rate=-1", "rate must be >= 0; *the arguments of ClockControl, and `seeds`"),
        ("0", "*takes keyword arguments, such as `at`, or else True or False"),
        ("datetime.min", "*such as `at`"),
        ("False, rate=1", "False takes no arguments"),
        (
            "seeds=2, seed=1",
            "*`seed`, for one schedule, or `seeds`, for many, not both",
        ),
        ("seeds=0", "`seeds` must be an integer of 1 or more"),
        ("seeds='3'", "`seeds` must be an integer of 1 or more"),
        ("seeds=True", "`seeds` must be an integer of 1 or more"),
    ],
)
def test_a_bad_mark(trio_project: Project, arguments: str, message: str) -> None:
    shown = arguments.replace("datetime.min", "datetime.datetime(1, 1, 1, 0, 0)")
    trio_project.fail(
        f"""
        @pytest.mark.virtual_time({arguments})
        async def test_it():
            pass

        async def test_another():
            pass
        """,
        "ERROR at setup of test_it",
        f"virtual_time({shown}): {message}",
        errors=1,
        passed=1,
    )


def test_a_mark_that_says_true(trio_project: Project) -> None:
    trio_project.run(
        """
        @pytest.mark.virtual_time(True, rate=2)
        async def test_it():
            assert trio.lowlevel.current_clock().rate == 2
        """
    )


def test_an_async_test_that_no_plugin_runs(plain_project: Project) -> None:
    message = (
        "virtual time needs an async test * or the mark `trio`*this test has neither"
    )
    plain_project.fail(
        """
        @pytest.mark.virtual_time
        async def test_mark():
            pass

        async def test_control(clock_control):
            pass
        """,
        message,
        message,
        failed=2,
    )


def test_two_clocks(trio_project: Project) -> None:
    trio_project.fail(
        """
        @pytest.mark.virtual_time
        async def test_mark(mock_clock):
            pass

        @pytest.fixture
        def fixture(clock_control):
            pass

        async def test_fixture(fixture, mock_clock):
            pass

        async def test_both(clock_control, autojump_clock):
            pass

        async def test_other_order(autojump_clock, clock_control):
            pass
        """,
        *["this test has two clocks, <ClockControl, * and <MockClock"] * 4,
        failed=4,
    )


def test_one_control_by_two_names(project: Project) -> None:
    project.run(
        """
        from hypothesis import HealthCheck, given, settings, strategies

        unchecked = [HealthCheck.function_scoped_fixture]

        @pytest.fixture
        def alias(clock_control):
            return clock_control

        async def test_it(alias, autojump_clock_control, clock_control):
            assert alias is autojump_clock_control is clock_control
            assert trio.lowlevel.current_clock() is clock_control
            await trio.sleep(60)

        @settings(max_examples=3, database=None, suppress_health_check=unchecked)
        @given(x=strategies.booleans())
        async def test_examples(x, autojump_clock_control, clock_control):
            assert autojump_clock_control is clock_control
            assert trio.lowlevel.current_clock() is clock_control
            await trio.sleep(60)
        """,
        passed=2,
    )


@pytest.mark.usefixtures("_all_virtual")
def test_two_clocks_of_pytest_trio_are_its_own_affair(trio_project: Project) -> None:
    trio_project.run(
        """
        async def test_it(mock_clock):
            assert trio.lowlevel.current_clock() is mock_clock
        """
    )
    trio_project.fail(
        """
        async def test_it(mock_clock, autojump_clock):
            pass
        """,
        "Expected at most one Clock",
    )


def test_pytest_trio_refuses_what_is_not_async(trio_project: Project) -> None:
    trio_project.fail(
        """
        @pytest.mark.trio
        def test_it(clock_control):
            pass
        """,
        "is marked trio but is not async",
    )


# --- the ini option ---


@pytest.mark.usefixtures("_all_virtual")
def test_everything_in_virtual_time(project: Project) -> None:
    project.run(
        """
        @pytest.fixture
        async def fixture(clock_control):
            await trio.sleep(60)

        async def test_plain():
            await trio.sleep(60)

        async def test_with_control(fixture):
            await trio.sleep(60)

        @pytest.mark.virtual_time(False)
        async def test_without():
            assert type(trio.lowlevel.current_clock()).__name__ == "SystemClock"

        @pytest.mark.virtual_time(rate=3)
        async def test_mark():
            assert trio.lowlevel.current_clock().rate == 3

        def test_sync():
            pass

        def test_sync_with_control(clock_control):
            assert clock_control.autojump_threshold == float("inf")
            clock_control.jump(1)
        """,
        passed=6,
    )


@pytest.mark.usefixtures("_all_virtual")
def test_who_brings_a_clock_keeps_it(project: Project) -> None:
    project.run(
        """
        @pytest.fixture
        def my_clock():
            return MockClock(autojump_threshold=0)

        @pytest.fixture
        def anyio_backend(my_clock):
            return "trio", {"clock": my_clock}

        async def test_it(my_clock):
            assert trio.lowlevel.current_clock() is my_clock
        """
    )


# --- AnyIO ---


def test_anyio_begins_the_run_with_the_control(anyio_project: Project) -> None:
    anyio_project.run(
        """
        @pytest.fixture(autouse=True)
        async def before_others():
            await trio.sleep(60)

        async def test_it(autojump_clock_control):
            assert trio.current_time() == 60
        """
    )


def test_anyio_with_options(anyio_project: Project) -> None:
    anyio_project.run(
        """
        class Log(trio.abc.Instrument):
            began = False

            def before_run(self):
                self.began = True

        log = Log()

        @pytest.fixture
        def anyio_backend(clock_control):
            return "trio", {"clock": clock_control, "instruments": [log]}

        async def test_it(autojump_clock_control):
            await trio.sleep(60)
            assert log.began
        """
    )


def test_anyio_with_two_clocks(anyio_project: Project) -> None:
    anyio_project.fail(
        """
        @pytest.fixture
        def anyio_backend():
            return "trio", {"clock": MockClock()}

        @pytest.mark.virtual_time
        async def test_it():
            pass
        """,
        "this test has two clocks, <ClockControl, * and <MockClock",
        errors=1,
    )


ASYNCIO = """
        @pytest.fixture(params=["asyncio", "trio"])
        def anyio_backend(request):
            return request.param
"""


ON_ASYNCIO = "a ClockControl can only drive Trio, but this test runs on asyncio"


def test_anyio_with_asyncio_as_well(anyio_project: Project) -> None:
    """Who asks for a control is told, once. A mark is for Trio, and asyncio stays."""
    result = anyio_project.run(
        ASYNCIO
        + """
        @pytest.fixture
        def asks(clock_control):
            pass

        @pytest.fixture
        async def asks_too(asks, autojump_clock_control):
            pass

        async def test_control(asks_too):
            pass

        @pytest.mark.virtual_time
        async def test_mark(anyio_backend_name):
            if anyio_backend_name == "trio":
                await trio.sleep(60)

        async def test_clock(active_clock):
            pass
        """,
        passed=4,
        errors=2,
    )
    assert result.stdout.str().count(ON_ASYNCIO) == 1
    result.stdout.fnmatch_lines(
        ["*`active_clock` needs an async test * but this test runs on asyncio*"]
    )


def test_anyio_with_asyncio_alone(anyio_project: Project) -> None:
    anyio_project.fail(
        """
        @pytest.fixture
        def anyio_backend():
            return "asyncio"

        async def test_control(clock_control):
            pass

        @pytest.mark.virtual_time
        async def test_mark():
            pass
        """,
        ON_ASYNCIO,
        ON_ASYNCIO,
        errors=2,
    )


@pytest.mark.usefixtures("_all_virtual")
def test_anyio_with_asyncio_and_the_ini_option(anyio_project: Project) -> None:
    anyio_project.run(
        ASYNCIO
        + """
        async def test_it(anyio_backend):
            if anyio_backend == "trio":
                await trio.sleep(60)
        """,
        passed=2,
    )


def test_anyio_with_a_run_for_many_tests(anyio_project: Project) -> None:
    anyio_project.fail(
        """
        @pytest.fixture(scope="module")
        def anyio_backend():
            return "trio"

        @pytest.fixture(scope="module")
        async def wide():
            pass
            yield

        async def test_real(wide):
            pass

        @pytest.mark.virtual_time
        async def test_mark(wide):
            pass
        """,
        "the run of this test has begun before the test, with another clock",
        passed=1,
        errors=1,
    )


# --- a clock ---


def test_active_clock(project: Project) -> None:
    project.run(
        """
        clocks = []

        @pytest.fixture
        async def fixture(active_clock):
            clocks.append(active_clock)
            await active_clock.delay(60)
            yield
            await active_clock.delay(60)
            assert active_clock.instant() == 180

        @pytest.mark.virtual_time
        async def test_it(active_clock, fixture):
            await active_clock.delay(60)
            assert active_clock is clocks[0]

        async def test_real(active_clock):
            await active_clock.delay(0)
            assert not clocks[0].alive
        """,
        passed=2,
    )


def test_an_active_clock_needs_a_run(plain_project: Project) -> None:
    plain_project.fail(
        """
        def test_it(active_clock):
            pass
        """,
        "`active_clock` needs an async test * but this test has neither",
        errors=1,
    )


def test_an_active_clock_needs_one_run(trio_project: Project) -> None:
    """AnyIO sets up what pytest-trio's test uses; without a clock, that may work."""
    trio_project.fail(
        """
        @pytest.mark.anyio
        async def test_it(active_clock):
            pass
        """,
        "`active_clock` needs an async test * has both: pytest-trio runs it, and AnyIO",
        errors=1,
    )


# --- Hypothesis ---


def test_examples_of_hypothesis(project: Project) -> None:
    project.run(
        """
        from hypothesis import given, settings, strategies

        @pytest.mark.virtual_time
        @pytest.mark.parametrize("n", range(2))
        @settings(max_examples=5, database=None)
        @given(x=strategies.integers())
        async def test_it(x, n):
            await trio.sleep(60)
        """,
        passed=2,
    )


def test_each_example_begins_at_the_same_time(trio_project: Project) -> None:
    trio_project.run(
        """
        from hypothesis import given, settings, strategies

        @pytest.mark.virtual_time
        @settings(max_examples=5, database=None)
        @given(x=strategies.integers())
        async def test_it(x):
            assert trio.current_time() == 0
            await trio.sleep(60)
        """
    )


def test_examples_share_a_control_that_is_asked_for(trio_project: Project) -> None:
    trio_project.run(
        """
        from hypothesis import given, settings, strategies

        @pytest.fixture(autouse=True)
        def control(autojump_clock_control):
            yield
            assert autojump_clock_control.current_time() == 120

        @settings(max_examples=5, database=None)
        @given(x=strategies.booleans())
        async def test_it(x):
            await trio.sleep(60)
        """
    )


# --- many schedules ---


FAILS_WITH_SEED_2 = """
        async def test_it(clock_control):
            await trio.sleep(0)
            assert clock_control.seed != 2
"""


def test_many_seeds(project: Project) -> None:
    result = project.run(
        FAILS_WITH_SEED_2
        + """
        @pytest.mark.virtual_time(seeds=2)
        async def test_mark():
            await trio.sleep(60)
            assert trio.lowlevel.current_clock().seed in (0, 1, 2)

        @pytest.mark.virtual_time(seed=5)
        async def test_one_seed():
            assert trio.lowlevel.current_clock().seed == 5

        async def test_real():
            pass
        """,
        "--clock-seeds=3",
        passed=2 + 3 + 1 + 1,
        failed=1,
    )
    result.stdout.fnmatch_lines(
        [
            "*test_it?seed=2?*",
            "*virtual time*",
            "The schedule has the seed 2. To repeat it, run",
            "    pytest --clock-seeds=3 'test_*.py::test_it?seed=2?'",
            "or mark the test with @pytest.mark.virtual_time(seed=2, "
            "autojump_threshold=math.inf).",
        ]
    )


def test_many_seeds_of_a_mark(trio_project: Project) -> None:
    trio_project.fail(
        "\n        @pytest.mark.virtual_time(seeds=3)" + FAILS_WITH_SEED_2,
        "    pytest 'test_*.py::test_it?seed=2?'",
        passed=2,
        failed=1,
    )


def test_seeds_come_after_other_parameters(trio_project: Project) -> None:
    result = trio_project.run(
        """
        @pytest.mark.virtual_time(seeds=2)
        @pytest.mark.parametrize("x", "ab")
        def test_it(x, clock_control):
            clock_control.jump(clock_control.seed)
        """,
        "-v",
        passed=4,
    )
    result.stdout.fnmatch_lines(["*::test_it?b-seed=1? PASSED*"])


RACE = """
        async def test_race(autojump_clock_control):
            log = []

            async def note(n):
                log.append(n)

            async with trio.open_nursery() as nursery:
                for n in range(20):
                    nursery.start_soon(note, n)
            print("RAN", autojump_clock_control.seed, log)
            assert not FAILS
"""


def ran(result: pytest.RunResult) -> list[str]:
    return [line.partition("RAN ")[2] for line in result.outlines if "RAN " in line]


def test_a_test_has_the_same_result_each_time(project: Project) -> None:
    """Without any option, mark or seed."""
    results = {
        tuple(ran(project.run("\n        FAILS = False" + RACE, "-s")))
        for _ in range(3)
    }
    assert len(results) == 1
    assert next(iter(results))[0].startswith("0 ")


def test_all_tests_with_one_seed(project: Project) -> None:
    result = project.run(
        RACE
        + """
        FAILS = False

        @pytest.mark.virtual_time(seeds=3)
        async def test_many():
            assert trio.lowlevel.current_clock().seed == 17

        @pytest.mark.virtual_time(seed=5)
        async def test_its_own():
            assert trio.lowlevel.current_clock().seed == 5

        def test_sync(clock_control):
            clock_control.jump(clock_control.seed)
        """,
        "--clock-seed=17",
        "-s",
        passed=4,
    )
    assert ran(result)[0].startswith("17 ")


@pytest.mark.parametrize(
    ("ini", "options", "mark", "repeat"),
    [
        ("", [], "", "pytest test_*::test_it"),
        ("", [], "seed=0", "pytest test_*::test_it"),
        ("", ["--clock-seed=0"], "", "pytest --clock-seed=0 test_*::test_it"),
        (
            "",
            ["--clock-seeds=1"],
            "",
            "pytest --clock-seeds=1 'test_*::test_it?seed=0?'",
        ),
        ("1", [], "", "pytest --clock-seeds=1 'test_*::test_it?seed=0?'"),
        ("2", [], "seeds=1", "pytest 'test_*::test_it?seed=0?'"),
        ("2", ["--clock-seed=0"], "seeds=3", "pytest --clock-seed=0 test_*::test_it"),
        ("2", ["--clock-seeds=1"], "seeds=3", "pytest --clock-seeds=1 'test_*seed=0?'"),
    ],
)
def test_a_failure_says_how_to_repeat_it(
    project: Project, ini: str, options: list[str], mark: str, repeat: str
) -> None:
    project.pytester.makeini(f"[pytest]\nvirtual_time_seeds = {ini}")
    source = f"""
        @pytest.mark.virtual_time({mark})
        async def test_it():
            assert trio.lowlevel.current_clock().seed
        """
    result = project.run(source, *options, failed=1)
    result.stdout.fnmatch_lines(
        ["The schedule has the seed 0. To repeat it, run", f"    {repeat}"]
    )
    marks = [line for line in result.outlines if line.startswith("or mark the test")]
    explored = bool(ini or options)
    told = "or mark the test with @pytest.mark.virtual_time(seed=0)."
    assert marks == ([told] if explored else [])


AWKWARD = """
        @pytest.mark.parametrize("x", ["two words", "it's", '"[a]"', "$HOME::*;"])
        async def test_it(x, clock_control):
            await trio.sleep(0)
            assert x.isdigit(), x
"""


@pytest.mark.parametrize("options", [[], ["--clock-seeds=1"], ["-n1"]])
def test_what_it_says_can_be_pasted_into_a_shell(
    trio_project: Project, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    """In the folder in which pytest was called, in the project's root or not."""
    pytester = trio_project.pytester
    pytester.makeini("[pytest]")
    for folder in ".", "here", "in here/too":
        where = pytester.path / folder
        where.mkdir(parents=True, exist_ok=True)
        monkeypatch.chdir(where)
        lines = trio_project.run(AWKWARD, *options, failed=4).outlines
        commands = [line for line in lines if line.startswith("    pytest ")]
        assert len(set(commands)) == 4
        for command in commands:
            _, *arguments = shlex.split(command)
            again = pytester.runpytest(*arguments, "-p", "no:cacheprovider")
            again.assert_outcomes(failed=1)
            assert command in again.outlines


def test_what_it_says_of_a_test_outside_of_the_root(
    trio_project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = trio_project.pytester.mkdir("root")
    monkeypatch.chdir(root)
    result = trio_project.run(AWKWARD, f"--rootdir={root}", failed=4)
    name = trio_project.pytester.path.name
    result.stdout.fnmatch_lines([f"    pytest '../test_{name}.py::test_it?two words?'"])


def test_a_failure_without_a_control_says_nothing(project: Project) -> None:
    result = project.run(
        """
        async def test_real():
            assert False

        def test_sync():
            assert False

        def test_unused(clock_control):
            assert False
        """,
        failed=3,
    )
    result.stdout.no_fnmatch_line("*seed*schedule*")
    result.stdout.no_fnmatch_line("*The schedule*")


def test_the_seed_of_a_control_that_a_test_makes(project: Project) -> None:
    result = project.run(
        """
        def test_drawn():
            control = ClockControl(autojump_threshold=0)
            print("SEED", control.seed)
            assert False

        def test_another():
            assert False

        def test_given():
            ClockControl(seed=3)
            assert False
        """,
        failed=3,
    )
    seed = next(
        line.partition(" ")[2] for line in result.outlines if line.startswith("SEED")
    )
    told = (
        "The test has made a ClockControl without a seed, and this has drawn "
        f"{seed}. To repeat it, make it with `seed={seed}`."
    )
    assert [line for line in result.outlines if "has drawn" in line] == [told]


@pytest.mark.parametrize(
    ("options", "ini", "message"),
    [
        (
            ["--clock-seeds=0"],
            "",
            "argument --clock-seeds: must be a number of 1 or more, not '0'",
        ),
        (
            ["--clock-seed=-1"],
            "",
            "argument --clock-seed: must be a number of 0 or more, not '-1'",
        ),
        (
            ["--clock-seed=0", "--clock-seeds=2"],
            "",
            "--clock-seeds is for many seeds, --clock-seed for one: use one of them",
        ),
        (
            [],
            "many",
            "the ini option virtual_time_seeds must be a number of 1 or more, not "
            "'many'",
        ),
    ],
)
def test_bad_options(
    plain_project: Project, options: list[str], ini: str, message: str
) -> None:
    plain_project.pytester.makeini(f"[pytest]\nvirtual_time_seeds = {ini}")
    result = plain_project.pytester.runpytest(*options)
    result.stderr.fnmatch_lines([f"*{message}"])


def test_ids_are_the_same_in_all_processes(trio_project: Project) -> None:
    trio_project.run(
        "\n        FAILS = False" + RACE, "-n2", "--clock-seeds=3", passed=3
    )


# --- loading the plugin ---

ASKS = """
        def test_it(clock_control):
            clock_control.jump(1)
"""


@pytest.mark.parametrize("found_by", ["autoload", "entry point", "import"])
@pytest.mark.parametrize("named_in", ["conftest", "arguments"])
def test_it_is_loaded_once(
    plain_project: Project,
    monkeypatch: pytest.MonkeyPatch,
    found_by: str,
    named_in: str,
) -> None:
    if found_by != "autoload":
        monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    if found_by == "import":
        monkeypatch.setattr(importlib.metadata, "distributions", list)
    name = "trio_clockrt.pytest_plugin"
    if named_in == "conftest":
        plain_project.pytester.makeconftest(f"pytest_plugins = ['{name}']")
        plain_project.run(ASKS)
    else:
        plain_project.run(ASKS, "-p", name)


def test_it_can_be_left_out(plain_project: Project) -> None:
    plain_project.run(ASKS, "-p", "no:trio_clockrt.pytest_plugin", errors=1)


def test_it_is_described(plain_project: Project) -> None:
    result = plain_project.pytester.runpytest("--fixtures")
    result.stdout.fnmatch_lines(
        ["clock_control*", "autojump_clock_control*", "active_clock*"]
    )
    result = plain_project.pytester.runpytest("--markers")
    result.stdout.fnmatch_lines(["@pytest.mark.virtual_time(*"])


def test_the_package_is_imported_when_it_is_used(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\ntrio_mode = true")
    pytester.makepyfile(
        """
        import sys

        def imported():
            return "trio_clockrt" in sys.modules

        assert not imported()

        async def test_without():
            assert not imported()

        async def test_with(clock_control):
            assert imported()
        """
    )
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(passed=2)

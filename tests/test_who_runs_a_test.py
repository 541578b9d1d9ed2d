"""Virtual time is for what a plugin runs on Trio, and leaves all other tests alone.

A table of what decides which plugin runs a test, and on what.
"""

from __future__ import annotations

import pytest

HEAD = """
import anyio, pytest, sniffio, trio
from hypothesis import given, settings, strategies

BACKENDS = {backends}

def where():
    try:
        library = sniffio.current_async_library()
    except sniffio.AsyncLibraryNotFoundError:
        return "nowhere"
    if library == "asyncio":
        return library
    clock = trio.lowlevel.current_clock()
    return "virtual" if type(clock).__name__ == "ClockControl" else "real"

async def in_a_run():
    return where()

@pytest.fixture(params=BACKENDS)
def anyio_backend(request):
    return request.param

@pytest.fixture
async def fixture():
    return where()

few = settings(max_examples=1, database=None, deadline=None)
an_example = given(strategies.just(1))
"""

ASYNC_TESTS = """
{marks}
async def test_plain():
    print("RAN plain", where())

{marks}
@few
@an_example
async def test_example(x):
    print("RAN example", where())

{marks}
@pytest.mark.virtual_time(False)
async def test_without():
    print("RAN without", where())

"""
# Not if there are two plugins for that: Trio refuses their runs within each other.
FIXTURE_TEST = """
{marks}
async def test_fixture(fixture):
    print("RAN fixture", fixture, where())
"""

SYNC_TESTS = """
def test_sync():
    print("RAN sync", where(), trio.run(in_a_run))

@few
@an_example
def test_sync_example(x):
    print("RAN sync example", trio.run(in_a_run))

def test_own(anyio_backend):
    print("RAN own", where(), anyio.run(in_a_run, backend=anyio_backend))

def test_its_fixture(anyio_backend, fixture):
    print("RAN its fixture", fixture)
"""


@pytest.mark.parametrize("virtual", ["ini", "mark", "no"])
@pytest.mark.parametrize("backends", [["trio"], ["asyncio", "trio"]])
@pytest.mark.parametrize("marks", [["trio"], ["anyio"], ["trio", "anyio"]])
@pytest.mark.parametrize("trio_mode", [False, True])
def test_who_runs_what(
    pytester: pytest.Pytester,
    trio_mode: bool,
    marks: list[str],
    backends: list[str],
    virtual: str,
) -> None:
    by_pytest_trio = trio_mode or "trio" in marks
    by_both = by_pytest_trio and "anyio" in marks
    tests = ASYNC_TESTS + ("" if by_both else FIXTURE_TEST)
    tests = tests.format(marks="\n".join(f"@pytest.mark.{mark}" for mark in marks))
    tests = HEAD.format(backends=backends) + tests + SYNC_TESTS
    if virtual == "mark":
        tests += "\npytestmark = pytest.mark.virtual_time\n"
    pytester.makeini(
        f"[pytest]\ntrio_mode = {trio_mode}\nvirtual_time = {virtual == 'ini'}"
    )
    pytester.makepyfile(tests)
    result = pytester.runpytest("-s", "-p", "no:cacheprovider")

    on_trio = "real" if virtual == "no" else "virtual"
    expected = ["sync nowhere real", "sync example real"]
    if by_pytest_trio and not by_both:
        expected += [f"plain {on_trio}", f"example {on_trio}", "without real"]
        expected += [f"fixture {on_trio} {on_trio}"]
    for backend in backends:
        of_anyio = {"trio": on_trio}.get(backend, backend)
        real = {"trio": "real"}.get(backend, backend)
        expected += [f"own nowhere {real}", f"its fixture {of_anyio}"]
        if by_both:
            expected += [f"plain {on_trio}", f"example {on_trio}", "without real"]
        elif not by_pytest_trio:
            expected += [f"plain {of_anyio}", f"example {of_anyio}", f"without {real}"]
            expected += [f"fixture {of_anyio} {of_anyio}"]
    ran = [line.partition("RAN ")[2] for line in result.outlines if "RAN " in line]
    assert sorted(ran) == sorted(expected)
    result.assert_outcomes(passed=len(expected))

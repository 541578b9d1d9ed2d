"""Virtual time is for tests that a plugin runs on Trio, and leaves alone all others.

A table of what decides which plugin runs a test, and on what.
"""

from __future__ import annotations

from textwrap import dedent

import pytest

HEAD = """
import anyio, pytest, trio
from hypothesis import given, settings, strategies
from sniffio import AsyncLibraryNotFoundError, current_async_library

def where():
    try:
        library = current_async_library()
    except AsyncLibraryNotFoundError:
        return "nowhere"
    if library == "trio":
        clock = trio.lowlevel.current_clock()
        return "virtual" if type(clock).__name__ == "ClockControl" else "real"
    return library

@pytest.fixture
async def fixture():
    return where()

async def in_a_run():
    return where()

an_example = given(strategies.just(1))
few = settings(max_examples=2, database=None)
"""

# By the run in which it happens, and what the fixture sees that is async.
ASYNC_TESTS = """
@{mark}
async def test_alone():
    assert where() == {test}

@{mark}
@few
@an_example
async def test_examples(x):
    assert where() == {test}

@{mark}
@pytest.mark.virtual_time(False)
async def test_without():
    assert where() == {real}
"""

FIXTURE_TESTS = """
@{mark}
async def test_fixture(fixture):
    assert (fixture, where()) == ({fixture}, {test})
"""

SYNC_TESTS = """
def test_sync():
    assert where() == "nowhere"
    assert trio.run(in_a_run) == "real"

@few
@an_example
def test_sync_examples(x):
    assert trio.run(in_a_run) == "real"
"""

# As they are in AnyIO's own tests.
SYNC_ANYIO_TESTS = """
def test_run(anyio_backend_name, anyio_backend_options):
    assert where() == "nowhere"
    assert anyio.run(
        in_a_run, backend=anyio_backend_name, backend_options=anyio_backend_options
    ) == {real}

class TestClass:
    @pytest.mark.anyio
    def test_run(self, anyio_backend):
        assert anyio.run(in_a_run, backend=anyio_backend) == {real}

@pytest.mark.usefixtures("anyio_backend")
def test_fixture_of_sync(fixture):
    assert fixture == {fixture}
"""


@pytest.mark.parametrize("virtual", ["ini", "mark", "no"])
@pytest.mark.parametrize("backends", ["trio", "asyncio", "both"])
@pytest.mark.parametrize("mark", ["trio", "anyio", "trio and anyio"])
@pytest.mark.parametrize("trio_mode", [False, True])
def test_who_runs_a_test(
    pytester: pytest.Pytester, trio_mode: bool, mark: str, backends: str, virtual: str
) -> None:
    if virtual == "mark" and backends == "asyncio" and not trio_mode and mark == "anyio":
        pytest.skip("is refused")
    by_pytest_trio = trio_mode or "trio" in mark
    has_backend = "anyio" in mark

    ini = f"[pytest]\ntrio_mode = {trio_mode}\nvirtual_time = {virtual == 'ini'}\n"
    pytester.makeini(ini)
    on_trio = "real" if virtual == "no" else "virtual"
    # What AnyIO runs, by its backend.
    by_anyio = f"{{'trio': '{on_trio}'}}.get(backend, backend)"
    real = "{'trio': 'real'}.get(backend, backend)"

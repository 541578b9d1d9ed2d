"""Whatever annotations say, Python itself can read, on each version and lazily too."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from types import FunctionType, ModuleType
from typing import Any, get_type_hints

import pytest

import trio_clockrt
import trio_clockrt.affinity
import trio_clockrt.testing
from trio_clockrt import Clock, InactiveClock
from trio_clockrt.testing import ClockControl

MODULES = [trio_clockrt, trio_clockrt.affinity, trio_clockrt.testing]


def annotated(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """Public functions and classes, their methods, and what is behind properties."""
    for name in module.__all__:
        thing = getattr(module, name)
        yield f"{module.__name__}.{name}", thing
        if isinstance(thing, type):
            for member, function in methods(thing):
                yield f"{module.__name__}.{name}.{member}", function


def methods(cls: type) -> Iterator[tuple[str, Callable[..., object]]]:
    for name in dir(cls):
        if name.startswith("_") and not name.endswith("__"):
            continue
        member = inspect.getattr_static(cls, name)
        if isinstance(member, property):
            accessors = [member.fget, member.fset]
        else:
            accessors = [getattr(member, "__func__", member)]
        for accessor in accessors:
            if isinstance(accessor, FunctionType):
                yield name, accessor


ANNOTATED = dict(pair for module in MODULES for pair in annotated(module))


@pytest.mark.parametrize("name", ANNOTATED)
def test_annotations_can_be_evaluated(name: str) -> None:
    thing = ANNOTATED[name]
    get_type_hints(thing, include_extras=True)
    inspect.get_annotations(thing, eval_str=True)
    try:
        inspect.signature(thing, eval_str=True)
    except ValueError:  # as Python says of some classes that it has made itself
        assert isinstance(thing, type)


def test_they_say_what_they_should() -> None:
    assert get_type_hints(Clock.delay)["seconds"] == float | timedelta
    assert get_type_hints(InactiveClock.from_control)["control"] is ClockControl
    assert len(ANNOTATED) > 100


def run(*options: str, code: str) -> str:
    result = subprocess.run(
        [sys.executable, *options, "-c", code],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_what_only_tests_need_is_imported_when_it_is_asked_for() -> None:
    code = """
import sys, trio_clockrt
from typing import get_type_hints

assert "trio_clockrt.testing" not in sys.modules
hints = get_type_hints(trio_clockrt.InactiveClock.from_control)
print(hints["control"])
try:
    trio_clockrt.nothing
except AttributeError as exc:
    print(exc)
"""
    assert run(code=code).splitlines() == [
        "<class 'trio_clockrt.testing.ClockControl'>",
        "module 'trio_clockrt' has no attribute 'nothing'",
    ]


@pytest.mark.skipif(sys.version_info < (3, 15), reason="they are new in CPython 3.15")
def test_lazy_imports() -> None:
    code = """
import trio, trio_clockrt, trio_clockrt.affinity, trio_clockrt.testing

async def main():
    async with trio_clockrt.open_clock() as clock:
        async with clock.open_timers() as timers:
            timers.call_later(3600, print, "an hour later")

trio.run(main, clock=trio_clockrt.testing.ClockControl(autojump_threshold=0))
for module in (trio_clockrt, trio_clockrt.affinity, trio_clockrt.testing):
    for name in module.__all__:
        assert getattr(module, name).__module__ == module.__name__, name
print(len(trio_clockrt.affinity.available_affinities()) > 0)
"""
    assert run("-X", "lazy_imports=all", code=code) == "an hour later\nTrue\n"

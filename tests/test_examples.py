"""The programs in the documentation print what the documentation says."""

from __future__ import annotations

import asyncio
import functools
import re
import runpy
import selectors
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trio_clockrt._time_source import SystemSource

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "docs" / "examples"
OUTPUTS = sorted(EXAMPLES.glob("*.txt"))
# No virtual clock is for several runs at once.
IN_REAL_TIME = {"by_hand", "cores", "frames", "threads", "wake_up"}


@pytest.fixture
def run_in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = MockClock(autojump_threshold=0)
    monkeypatch.setattr(trio, "run", functools.partial(trio.run, clock=clock))
    # What needs no Trio has no such clock, so waiting has to move the time.
    now = 0.0

    class JumpingSelector(selectors.SelectSelector):
        def select(self, timeout: float | None = None) -> Any:
            nonlocal now
            events = super().select(0)
            if not events:
                assert timeout is not None, "nothing will ever happen"
                now += timeout
            return events

    monkeypatch.setattr(selectors, "DefaultSelector", JumpingSelector)
    monkeypatch.setattr(asyncio.BaseEventLoop, "time", lambda self: now)
    for name in "instant", "now":
        monkeypatch.setattr(SystemSource, name, lambda self: now)


@pytest.mark.parametrize("output", OUTPUTS, ids=lambda path: path.stem)
def test_example(
    output: Path, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    if output.stem == "processes":
        pytest.importorskip("trio_parallel")
        # Its functions have to be found by other processes.
        program = [sys.executable, str(output.with_suffix(".py"))]
        done = subprocess.run(program, capture_output=True, text=True, timeout=60)
        assert done.stdout == output.read_text(), done.stderr
        return
    if output.stem not in IN_REAL_TIME:
        request.getfixturevalue("run_in_no_time")
    runpy.run_path(str(output.with_suffix(".py")), run_name="__main__")
    assert capsys.readouterr().out == output.read_text()


@pytest.mark.usefixtures("run_in_no_time")
def test_slow_tests() -> None:
    """Those that the documentation begins with; in real time they take 82 seconds."""
    names = runpy.run_path(str(EXAMPLES / "slow_test_cache.py"))
    tests = [names[name] for name in names if name.startswith("test_")]
    assert len(tests) == 2
    for test in tests:
        trio.run(test)


def test_readme_has_a_test_that_runs() -> None:
    readme = (ROOT / "README.md").read_text()
    assert f"```python\n{(EXAMPLES / 'test_a_minute.py').read_text()}```" in readme


@pytest.mark.usefixtures("run_in_no_time")
def test_readme(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    readme = (ROOT / "README.md").read_text()
    [(program, output)] = re.findall(
        r"```python\n(.*?)```\n+```text\n(.*?)```", readme, re.DOTALL
    )
    path = tmp_path / "readme.py"
    path.write_text(program)
    runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out == output

"""A program that nothing known will ever wake does not hang in silence."""

from __future__ import annotations

import io
import warnings
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
import trio

from trio_clockrt.testing import ClockControl

SAID = "trio_clockrt: virtual time has been standing still for "


class Ends(trio.abc.Instrument):
    """Ends the program when the run is about to wait and *when* says so."""

    def __init__(self, when: Callable[[], bool]) -> None:
        self.when = when
        self.scope = trio.CancelScope()
        self.timeouts: list[float] = []

    def before_io_wait(self, timeout: float) -> None:
        self.timeouts.append(timeout)
        if timeout and self.when():
            self.scope.cancel()


async def sleep() -> None:
    await trio.sleep(60)


async def wait_for_an_event() -> None:
    await trio.Event().wait()


@pytest.mark.parametrize("action", ["always", "error"])
@pytest.mark.parametrize(
    ("wait", "arguments", "why"),
    [
        (
            sleep,
            {},
            "the next deadline is at 60.0, but nothing moves the time. Use auto",
        ),
        (wait_for_an_event, {}, "if a signal or another thread does, use hold()."),
        (wait_for_an_event, {"autojump_threshold": 0}, "if a signal or another thread"),
    ],
)
def test_it_is_said_again_and_again(
    wait: Callable[[], Awaitable[None]],
    arguments: dict[str, Any],
    why: str,
    action: Any,
    terminal: io.StringIO,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        with ends.scope:
            await wait()

    monkeypatch.setattr("trio_clockrt.testing._autojump.SILENT", 0.01)
    monkeypatch.setattr("trio_clockrt.testing._stand_still._AGAIN", 0.02)
    ends = Ends(lambda: terminal.getvalue().count(SAID) == 2)
    control = ClockControl(**arguments, seed=7)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter(action)
        trio.run(main, clock=control, instruments=[ends])
    # It may still come, so this is no warning.
    assert caught == []
    text = terminal.getvalue()
    assert "of real time (seed 7), as nothing is known that will ever wake" in text
    assert why in text
    assert "With detect_deadlocks=True this is an error:\n  - it is instant" in text
    assert f", in {wait.__name__}" in text


def test_what_the_filters_of_python_ignore_is_not_said(
    terminal: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        with ends.scope:
            await trio.sleep(60)

    monkeypatch.setattr("trio_clockrt.testing._autojump.SILENT", 0.001)
    monkeypatch.setattr("trio_clockrt.testing._stand_still._AGAIN", 0.001)
    ends = Ends(lambda: len(ends.timeouts) > 5)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "virtual time has been standing still")
        trio.run(main, clock=ClockControl(), instruments=[ends])
    assert terminal.getvalue() == ""


async def hold(control: ClockControl) -> None:
    with control.hold():
        await trio.sleep_forever()


async def receive(control: ClockControl) -> None:
    left, right = trio.socket.socketpair()
    with left, right:
        await left.recv(1)


@pytest.mark.parametrize("wait", [hold, receive])
def test_where_something_may_come(
    wait: Callable[[ClockControl], Awaitable[None]],
    terminal: io.StringIO,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        with ends.scope:
            await wait(control)

    monkeypatch.setattr("trio_clockrt.testing._autojump.SILENT", 0.001)
    ends = Ends(lambda: len(ends.timeouts) > 20)
    control = ClockControl(autojump_threshold=0)
    trio.run(main, clock=control, instruments=[ends])
    assert terminal.getvalue() == ""


def test_something_that_happens_now_and_then(terminal: io.StringIO) -> None:
    """A thread that is none of Trio's, which sends a message each nine seconds."""

    class Messages(Ends):
        def before_run(self) -> None:
            self.token = trio.lowlevel.current_trio_token()

        def before_io_wait(self, timeout: float) -> None:
            super().before_io_wait(timeout)
            real.now += 9
            with suppress(trio.RunFinishedError):
                self.token.run_sync_soon(int)

    class Real:
        now = 0.0

        def __call__(self) -> float:
            return self.now

    async def main() -> None:
        with ends.scope:
            await trio.sleep_forever()

    real = Real()
    ends = Messages(lambda: len(ends.timeouts) > 20)
    control = ClockControl(autojump_threshold=0)
    control._real_clock = real
    trio.run(main, clock=control, instruments=[ends])
    # It is not looked for in a busy way.
    assert set(ends.timeouts[3:]) <= {0, 10}
    assert terminal.getvalue() == ""

"""Locks of the library, and signals."""

from __future__ import annotations

import signal
import sys
import threading

import pytest
from shared_clock import InThread, in_thread

from trio_clockrt.testing import ClockControl


@pytest.mark.skipif(sys.platform == "win32", reason="signals have to wait there")
def test_a_signal_while_the_main_thread_waits_for_a_lock() -> None:
    class Terminated(Exception): ...

    def handler(*_: object) -> None:
        raise Terminated

    def real_clock() -> float:
        if threading.current_thread() is threading.main_thread():
            about_to_wait.set()
        else:
            moving.set()
            go_on.wait()
        return 0.0

    def interrupt() -> None:
        about_to_wait.wait()
        # It is this thread that is told, so the main thread goes on waiting.
        signal.raise_signal(signal.SIGTERM)
        go_on.set()

    moving, about_to_wait, go_on = (threading.Event() for _ in range(3))
    control = ClockControl(rate=1)
    control._real_clock = real_clock
    before = signal.signal(signal.SIGTERM, handler)
    try:
        mover = InThread(lambda: control.adjust_system_time(1))
        moving.wait()
        interrupter = InThread(interrupt)
        with pytest.raises(Terminated):
            control.rate = 0
            while True:  # in case the signal comes late
                pass
        interrupter.result()
        mover.result()
        in_thread(lambda: control.adjust_system_time(1))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert control.to_simple_clock().system_time().timestamp() == 2

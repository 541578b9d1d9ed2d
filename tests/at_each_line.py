"""Something that happens at a line of the library, as a finalizer or a signal does."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from undisturbed import undisturbed

import trio_clockrt

LIBRARY = str(Path(trio_clockrt.__file__).parent)


@contextmanager
def traced(interrupt: Callable[[], object], at: int) -> Generator[list[int]]:
    """Call it at one line of the library's, in this thread; the value counts them."""

    def trace(frame: FrameType, event: str, arg: object) -> Any:
        if not frame.f_code.co_filename.startswith(LIBRARY):
            return None
        if event == "line":
            lines.append(frame.f_lineno)
            if len(lines) == at:
                sys.settrace(None)
                interrupt()
        return trace

    lines: list[int] = []
    before = sys.gettrace()
    with undisturbed():
        sys.settrace(trace)
        try:
            yield lines
        finally:
            sys.settrace(before)

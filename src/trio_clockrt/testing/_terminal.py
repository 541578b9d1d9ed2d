"""The person at the terminal, also while pytest captures output.

Under pytest a warning is recorded, and shown when the test has ended, which a test that
hangs does not. So a person is told on the real standard error. The plugin makes a copy
of descriptor 2 while pytest does not capture, as faulthandler's plugin does, and this
file looks for the plugin, which must not import the package.

The filters of Python decide about this as well: the warning is issued with a function
of our own in the place of `warnings.showwarning`, which Python calls for those that
pass.
"""

from __future__ import annotations

import sys
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from types import FrameType

# What belongs to the terminal, the plugin has. (It must not import this package, so
# this package looks for the plugin.)
_PLUGIN = "_trio_clockrt_pytest_plugin"


def tell(text: str, frame: FrameType, *, warning: bool, aloud: bool) -> None:
    """Tell people about what a frame does, if the filters of Python let it pass.

    Args:
        warning: Whether to issue it as a RuntimeWarning, which may be hidden.
        aloud: Whether to say it as well, where it would be hidden.

    Raises:
        RuntimeWarning: if that is an error.
    """
    try:
        passed = _issue(text, frame, show=warning)
    except RuntimeWarning:
        # The program may hang before it can show the error.
        if aloud:
            say(text)
        if warning:
            raise
    else:
        hidden = _of_pytest() is not None or sys.stderr is not sys.__stderr__
        if passed and aloud and (hidden or not warning):
            say(text)


def say(text: str) -> None:
    """Write it to the real standard error, if there is one."""
    stream = _of_pytest() or sys.__stderr__
    if stream is not None:
        # It may be closed, at either end.
        with suppress(OSError, ValueError):
            print(f"\ntrio_clockrt: {text}", file=stream, flush=True)


def note_ctrl_c() -> None:
    """Ctrl-C is to end the current test, and so all of pytest.

    It may come out of the test in a group of exceptions, as it has to in Trio. pytest
    would take that for a failure, and go on.
    """
    with suppress(KeyError):  # without pytest
        sys.modules[_PLUGIN].interrupted = True  # type: ignore[attr-defined]


def _of_pytest() -> TextIO | None:
    """The real standard error, as it was before pytest captured it."""
    stream: TextIO | None = getattr(sys.modules.get(_PLUGIN), "real_stderr", None)
    return stream


def _issue(text: str, frame: FrameType, *, show: bool) -> bool:
    """Issue a warning; tells whether the filters of Python let it pass.

    Args:
        show: Whether it is shown then.
    """
    passed = False
    shows = warnings.showwarning

    def note(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        nonlocal passed
        passed = True
        if show:
            shows(message, category, filename, lineno, file, line)

    warnings.showwarning = note
    try:
        code = frame.f_code
        warnings.warn_explicit(text, RuntimeWarning, code.co_filename, frame.f_lineno)
    finally:
        warnings.showwarning = shows
        # Another thread may have kept it, to go back to.
        show = True
    return passed

"""Messages to a Trio run: from any thread, at any moment, also when it is over.

`TrioToken.run_sync_soon` is the one call that Trio allows in finalizers, in signal
handlers and in other threads. So all news for a run goes through `post`, which also
tells whether the run is still there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
from trio.lowlevel import current_trio_token

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio.lowlevel import TrioToken


def post(token: TrioToken, fn: Callable[[], object]) -> bool:
    """Call it soon in that run; tells whether the run is still there."""
    try:
        token.run_sync_soon(fn, idempotent=True)
    except (trio.RunFinishedError, OSError):
        # OSError, as a run that has crashed has closed its sockets, no more.
        return False
    return True


def wake_run(run: TrioToken) -> None:
    """Let it look at its deadlines again, if it may be waiting for I/O."""
    post(run, int)


def is_running(run: TrioToken) -> bool:
    """Whether it has not ended, or crashed. (This wakes it.)"""
    return post(run, int)


def current_run() -> TrioToken | None:
    """Where to post what is to be done here; None outside of Trio."""
    try:
        run = current_trio_token()
    except RuntimeError:
        # Not returned from here: a debugger's interruption would leave Python with
        # that error for ever, as it may between the lines of `suppress` or `pass`.
        run = None
    return run

"""Messages to a Trio run: from any thread, at any moment, also when it is over."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Callable


def post(token: trio.lowlevel.TrioToken, fn: Callable[[], object]) -> bool:
    """Call it soon in that run; tells whether the run is still there."""
    try:
        token.run_sync_soon(fn, idempotent=True)
    except (trio.RunFinishedError, OSError):
        # OSError, as a run that has crashed has closed its sockets, no more.
        return False
    return True

"""The one exception of this library's own, and how those of callbacks are raised."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NoReturn

import trio

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

if TYPE_CHECKING:
    from collections.abc import Sequence


class ClockGone(Exception):
    """The clock has no driver any more, so a timer on it could never fire.

    A clock is gone as soon as the ``async with`` block that activated it has ended,
    or the Trio run around that block; or earlier, when it is unused, see
    `ClockDriver.wait_gone`. Each task or thread elsewhere that waits on it at that
    moment is woken with this exception, and a call that needs a timer of it later
    raises this exception at once. Reading the time goes on working.

    Example::

        >>> async def main():
        ...     async with trio_clockrt.open_clock() as clock:
        ...         pass
        ...     try:
        ...         await clock.delay(1)
        ...     except trio_clockrt.ClockGone:
        ...         print("too late")
        >>> trio.run(main)
        too late
    """

    def __init__(
        self,
        message: str = "this clock is gone, and no timer on it can fire any more",
    ) -> None:
        super().__init__(message)


def raise_failures(
    failures: list[tuple[object, BaseException]], also: BaseException | None = None
) -> None:
    """Raise what callbacks have raised, if anything, and *also* what is under way.

    If that is control flow, such as Ctrl-C, it goes on as it is, and refers to them.
    """
    errors = [exc for _, exc in failures]
    failures.clear()  # they refer to the frames of the caller, which has the list
    if not errors:
        return
    message = "callbacks of timers failed"
    try:
        if also is None:
            raise_all(message, errors)
        if not _is_control_flow(also):
            raise_all(message, [also, *errors])
        context, also.__context__ = also.__context__, None
        also.__context__ = BaseExceptionGroup(message, errors)
        also.__context__.__context__ = context
    finally:
        del errors, also


def _is_control_flow(exc: BaseException) -> bool:
    # Trio takes a Cancelled out of groups, and Python drops a GeneratorExit, so what
    # these two would refer to would be lost.
    not_that = (Exception, BaseExceptionGroup, trio.Cancelled, GeneratorExit)
    return not isinstance(exc, not_that)


def raise_all(message: str, errors: Sequence[BaseException]) -> NoReturn:
    """Raise one as it is, and several in a group with this message."""
    try:
        if len(errors) == 1:
            raise errors[0]
        raise BaseExceptionGroup(message, errors)
    finally:
        del errors  # they refer to this frame

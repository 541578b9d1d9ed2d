"""An ``async with`` block that says so to whoever tries something else with it."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, NoReturn, TypeVar

T_co = TypeVar("T_co", covariant=True)


class AsyncBlock(AbstractAsyncContextManager[T_co]):
    """Base class of our async context managers.

    They are classes, and not generators with a decorator, so that Ctrl-C cannot get in
    between opening something and remembering it, and so that no frames of ours end up
    in tracebacks.
    """

    #: What to write instead of whatever was tried.
    _usage: str

    # Hidden from type checkers, which are to find these mistakes.
    if not TYPE_CHECKING:

        def __enter__(self) -> NoReturn:
            raise TypeError(f"this needs `async with`, not `with`: {self._usage}")

        def __exit__(self, *exc_info: object) -> None: ...

        def __await__(self) -> NoReturn:
            raise TypeError(f"this needs `async with`, not `await`: {self._usage}")

        def __getattr__(self, name: str) -> NoReturn:
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {name!r}: it is a "
                f"block still to be opened with `async with`: {self._usage}"
            )

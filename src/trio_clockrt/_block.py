"""Blocks that raise an error where they are used as something else.

`with` in the place of `async with`, and a name that is read of a block which is still
to be opened, are mistakes whose usual messages do not help.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import TYPE_CHECKING, NoReturn, TypeVar

T_co = TypeVar("T_co", covariant=True)
ExitT_co = TypeVar("ExitT_co", bound="bool | None", covariant=True)


class _Block:
    #: What to write instead of what was tried.
    _usage: str
    _entered = False

    def _enter_once(self) -> None:
        if self._entered:
            raise RuntimeError(
                "this block has been entered already; make another one each time: "
                f"{self._usage}"
            )
        self._entered = True

    # Hidden from type checkers, which are to find these mistakes.
    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {name!r}: it is a "
                f"block still to be opened: {self._usage}"
            )


class AsyncBlock(_Block, AbstractAsyncContextManager[T_co]):
    """Base class of our async context managers.

    They are classes, and not generators with a decorator, so that Ctrl-C cannot get in
    between opening something and remembering it, and so that no frames of ours end up
    in tracebacks.
    """

    if not TYPE_CHECKING:

        def __enter__(self) -> NoReturn:
            raise TypeError(f"this needs `async with`, not `with`: {self._usage}")

        def __exit__(self, *exc_info: object) -> None: ...

        def __await__(self) -> NoReturn:
            raise TypeError(f"this needs `async with`, not `await`: {self._usage}")

        def __iter__(self) -> NoReturn:
            raise TypeError(f"this needs `async with`, not `=`: {self._usage}")


class SyncBlock(_Block, AbstractContextManager[T_co, ExitT_co]):
    """Base class of our other context managers, for the same reasons."""

    if not TYPE_CHECKING:

        def __aenter__(self) -> NoReturn:
            raise TypeError(f"this needs `with`, not `async with`: {self._usage}")

        def __aexit__(self, *exc_info: object) -> None: ...

"""Where a task waits, from the outside in, also where Python hides a part of that."""

from __future__ import annotations

from gc import get_referents
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from trio.lowlevel import Task

# Of coroutines, generators and async generators.
_FRAME = ("cr_frame", "gi_frame", "ag_frame")
_AWAITED = ("cr_await", "gi_yieldfrom", "ag_await")
# What `__await__`, `anext` and the methods of async generators make has no attribute
# for what is behind it (https://github.com/python/cpython/issues/76991). The garbage
# collector knows, and comes there first: before what is sent, or a default.
_HIDING = (
    "coroutine_wrapper",
    "anext_awaitable",
    "async_generator_asend",
    "async_generator_athrow",
)


def frames_of(task: Task) -> Iterator[FrameType]:
    """As `trio.lowlevel.Task.iter_await_frames`, which ends at some of these."""
    awaiter: Any = task.coro
    while awaiter is not None:
        if type(awaiter).__name__ in _HIDING:
            awaiter = get_referents(awaiter)[0]
        else:
            frame = _get(awaiter, _FRAME)
            if frame is not None:
                yield frame
            awaiter = _get(awaiter, _AWAITED)


def _get(awaiter: object, names: tuple[str, ...]) -> Any:
    # Only what its type has, as some objects answer to every name.
    has = (name for name in names if hasattr(type(awaiter), name))
    return next((getattr(awaiter, name, None) for name in has), None)

"""Functions that users pass in, to be called later: the checks, and the call.

A mistake is refused at the call that passes the function, as far as it can be told
there: what only shows later has lost the line that is wrong.
"""

from __future__ import annotations

import inspect
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import TYPE_CHECKING

from trio.lowlevel import disable_ki_protection

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_GENERATOR = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR
_COROUTINE = inspect.CO_COROUTINE | inspect.CO_ITERABLE_COROUTINE
_NOT_PLAIN = _GENERATOR | _COROUTINE


def check_callback(fn: Callable[..., object]) -> None:
    """Refuse what cannot be a synchronous callback, as far as can be told now."""
    kind = type(fn)
    if kind is FunctionType:  # as most are
        flags = fn.__code__.co_flags
    elif kind is BuiltinFunctionType:
        return
    else:
        _check_callable(fn, "fn", "a synchronous function")
        flags = _code_flags(fn)
    if flags & _NOT_PLAIN:
        raise TypeError(
            f"`fn` must be a synchronous function, but {fn!r} is async or a generator, "
            "and calling it would not run it; a TimerNursery starts async functions "
            "with start_later() and start_at(). To repeat one, await it in a task of "
            "its own in `async for _ in clock.periodic(period):`"
        )


def check_notice(fn: object, name: str) -> None:
    """Refuse what cannot be a synchronous function without arguments."""
    wanted = "a synchronous function without arguments"
    _check_callable(fn, name, wanted)
    if _code_flags(fn) & _NOT_PLAIN:
        raise TypeError(
            f"`{name}` must be {wanted}, but {fn!r} is async or a generator, and "
            "calling it would not run it"
        )


def check_notice_result(fn: object, result: object, name: str) -> None:
    """Refuse what such a function cannot have returned."""
    if inspect.isawaitable(result):
        _close(result)
        raise TypeError(
            f"`{name}` must be a synchronous function, but {fn!r} returned {result!r}, "
            "which is never awaited"
        )


def check_async_fn(async_fn: Callable[..., object]) -> None:
    """Refuse what cannot be an async function, as far as can be told now."""
    _check_callable(async_fn, "async_fn", "an async function")
    flags = _code_flags(async_fn)
    if flags & _GENERATOR and not flags & _COROUTINE:
        raise TypeError(
            f"`async_fn` must be an async function, but {async_fn!r} is a generator "
            "function: it has a `yield` in it"
        )


@disable_ki_protection
def call(fn: Callable[..., object], args: tuple[object, ...]) -> object:
    """Call *fn* as user code: Ctrl-C may interrupt it."""
    return fn(*args)


def check_result(fn: Callable[..., object], result: object) -> None:
    """Refuse what a synchronous callback cannot have returned."""
    if inspect.isawaitable(result):
        _close(result)
        raise TypeError(
            f"a timer's callback must be a synchronous function, but {fn!r} returned "
            f"{result!r}, which is never awaited; a TimerNursery starts async "
            "functions with start_later() and start_at()"
        )


async def run_async_fn(
    async_fn: Callable[..., Awaitable[object]], args: tuple[object, ...]
) -> None:
    """Call and await *async_fn*, or say why that cannot be done."""
    awaitable = async_fn(*args)
    if not inspect.isawaitable(awaitable):
        raise TypeError(
            f"start_later() and start_at() need an async function, but {async_fn!r} "
            f"returned {awaitable!r}, which cannot be awaited; for a synchronous "
            "function use call_later() or call_at()"
        )
    await awaitable


def _check_callable(fn: object, name: str, wanted: str) -> None:
    if inspect.isawaitable(fn):
        _close(fn)
        raise TypeError(
            f"`{name}` must be {wanted}, but it is {fn!r}: pass the function and its "
            "arguments apart from each other, and it will be called in its time"
        )
    if not callable(fn):
        raise TypeError(
            f"`{name}` must be {wanted}, not {fn!r}: pass the function itself, and its "
            "arguments after it"
        )


def _code_flags(fn: object) -> int:
    """What calling *fn* does, if that is code of Python's: see :mod:`inspect`.

    The functions in `inspect` also ask objects that only pretend to be functions.
    """
    while type(fn) in (partial, MethodType):
        fn = getattr(fn, "func" if type(fn) is partial else "__func__")
    if type(fn) is not FunctionType:
        fn = vars(type(fn)).get("__call__")
    return fn.__code__.co_flags if type(fn) is FunctionType else 0


def _close(awaitable: object) -> None:
    # What is refused is never awaited, so Python should not complain about that too.
    if inspect.iscoroutine(awaitable):
        awaitable.close()

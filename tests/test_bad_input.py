"""What is refused at the call, with what was wrong and what was given."""

from __future__ import annotations

import copy
import datetime
import fractions
import functools
import pickle
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from math import inf, nan
from typing import Any
from unittest.mock import Mock

import pytest
import trio
from trio.testing import MockClock

from trio_clockrt import (
    Clock,
    ClockDriver,
    InactiveClock,
    SimpleClock,
    TimerNursery,
    open_clock,
)
from trio_clockrt.testing import ClockControl

Use = Callable[[Clock, ClockDriver, TimerNursery, Any], object]

NOT_A_NUMBER = ["5", b"5", None, True, False, 1j, [1], object(), trio.sleep]
NOT_A_LENGTH = [
    (-1, ValueError, "must be non-negative, but it is -1"),
    (-0.5, ValueError, "must be non-negative, but it is -0.5"),
    (-inf, ValueError, "must be non-negative, but it is -inf"),
    (-(10**400), ValueError, "must be non-negative"),
    (nan, ValueError, "must not be NaN"),
    (datetime.timedelta(seconds=-1), ValueError, "must be non-negative, but it is"),
    *((value, TypeError, "must be a number of seconds") for value in NOT_A_NUMBER),
]
NOT_A_PERIOD = [
    *NOT_A_LENGTH,
    (0, ValueError, "must be longer than zero, but it is 0"),
    (datetime.timedelta(), ValueError, "must be longer than zero"),
    (inf, ValueError, "must be finite, but it is inf"),
    (10**400, ValueError, "must be finite"),
    (1e-300, ValueError, "zero at instant 1000.0, but it is 1e-300"),
    (1e-13, ValueError, "at least a nanosecond"),
]
NOT_AN_INSTANT = [
    (nan, ValueError, "must not be NaN"),
    (datetime.timedelta(seconds=1), TypeError, "not a length of time"),
    (datetime.datetime(2024, 1, 1), TypeError, "must be an instant"),
    *((value, TypeError, "must be an instant") for value in NOT_A_NUMBER),
]

LENGTHS: dict[str, Use] = {
    "delay": lambda clock, driver, timers, value: clock.delay(value),
    "move_on_after": lambda clock, driver, timers, value: clock.move_on_after(value),
    "fail_after": lambda clock, driver, timers, value: clock.fail_after(value),
    "call_later": lambda clock, driver, timers, value: timers.call_later(value, int),
    "start_later": lambda clock, driver, timers, value: timers.start_later(
        value, trio.sleep, 1
    ),
    "reset": lambda clock, driver, timers, value: next(
        iter(timers._pending.values())
    ).reset(value),
}
PERIODS: dict[str, Use] = {
    "periodic": lambda clock, driver, timers, value: clock.periodic(value),
    "call_every": lambda clock, driver, timers, value: timers.call_every(value, int),
}
INSTANTS: dict[str, Use] = {
    "delay_until": lambda clock, driver, timers, value: clock.delay_until(value),
    "move_on_at": lambda clock, driver, timers, value: clock.move_on_at(value),
    "fail_at": lambda clock, driver, timers, value: clock.fail_at(value),
    "call_at": lambda clock, driver, timers, value: timers.call_at(value, int),
    "start_at": lambda clock, driver, timers, value: timers.start_at(
        value, trio.sleep, 1
    ),
}


async def error_of(use: Use, value: object) -> BaseException:
    """The error that it raises, and nothing may be registered."""
    async with InactiveClock().activate() as (clock, driver):
        async with clock.open_timers(on_exit="cancel") as timers:
            timer = timers.call_later(60, int)
            before = driver.statistics()
            with pytest.raises((TypeError, ValueError)) as caught:
                result = use(clock, driver, timers, value)
                if isinstance(result, Coroutine):
                    await result
            assert driver.statistics() == before
            assert timer.pending
            return caught.value


@pytest.mark.parametrize(
    ("use", "argument", "value", "error", "message"),
    [
        pytest.param(use, argument, value, error, message, id=f"{name} {value!r:.20}")
        for uses, argument, bad in (
            (LENGTHS, "seconds", NOT_A_LENGTH),
            (PERIODS, "period", NOT_A_PERIOD),
            (INSTANTS, "instant", NOT_AN_INSTANT),
            (
                {"advance_timers": lambda c, driver, t, v: driver.advance_timers(v)},
                "now",
                [case for case in NOT_AN_INSTANT if case[0] is not None],
            ),
        )
        for name, use in uses.items()
        for value, error, message in bad
    ],
)
async def test_bad_times(
    use: Use,
    argument: str,
    value: object,
    error: type[Exception],
    message: str,
    mock_clock: MockClock,
) -> None:
    mock_clock.jump(1000)
    raised = await error_of(use, value)
    assert type(raised) is error
    assert f"`{argument}` " in str(raised)
    assert message in str(raised)
    if value == value:  # NaN says it all
        assert repr(value) in str(raised)


@pytest.mark.parametrize(
    "value",
    [
        0,
        0.0,
        -0.0,
        1,
        fractions.Fraction(1, 2),
        inf,
        10**400,
        1e308,
        datetime.timedelta(),
        datetime.timedelta.max,
    ],
)
@pytest.mark.parametrize("use", LENGTHS.values(), ids=LENGTHS)
async def test_good_lengths(use: Use, value: object, autojump_clock: MockClock) -> None:
    async with InactiveClock().activate() as (clock, driver):
        async with clock.open_timers(on_exit="cancel") as timers:
            timers.call_later(60, int)
            result = use(clock, driver, timers, value)
            if isinstance(result, Coroutine):
                with trio.move_on_after(1e300):
                    await result


# --- functions ---


def generator() -> Iterator[None]:
    yield


async def async_generator() -> AsyncIterator[None]:
    yield


async def async_fn() -> None:
    raise AssertionError


class AsyncMethods:
    async def method(self) -> None:
        raise AssertionError

    async def __call__(self) -> None:
        raise AssertionError


async def test_callables_of_every_kind(autojump_clock: MockClock) -> None:
    class Construct:
        def __init__(self) -> None:
            called.append("class")

        async def __call__(self) -> None:
            raise AssertionError

    class AnswersEverything:
        def __getattr__(self, name: str) -> object:
            return self

        def __call__(self) -> None:
            called.append("object")

    called: list[str] = []
    mock = Mock(spec=generator)
    async with open_clock() as clock, clock.open_timers() as timers:
        timers.call_later(1, Construct)
        timers.call_later(2, AnswersEverything())
        timers.call_later(3, mock)
        timers.call_later(5, functools.partial(called.append, "partial"))
    assert called == ["class", "object", "partial"]
    assert mock.called


class AwaitableObject:
    def __await__(self) -> Generator[None, None, None]:
        raise AssertionError


CALLBACKS: dict[str, Use] = {
    "call_later": lambda clock, driver, timers, fn: timers.call_later(1, fn),
    "call_at": lambda clock, driver, timers, fn: timers.call_at(1, fn),
    "call_every": lambda clock, driver, timers, fn: timers.call_every(1, fn),
}
ASYNC_FNS: dict[str, Use] = {
    "start_later": lambda clock, driver, timers, fn: timers.start_later(1, fn),
    "start_at": lambda clock, driver, timers, fn: timers.start_at(1, fn),
}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: async_fn, r"async or a generator"),
        (lambda: functools.partial(async_fn), r"start_later\(\)"),
        (lambda: functools.partial(generator), r"async or a generator"),
        (lambda: functools.partial(async_generator), r"async or a generator"),
        (lambda: AsyncMethods().method, r"start_later\(\)"),
        (lambda: AsyncMethods(), r"start_later\(\)"),
        (lambda: generator, r"async or a generator"),
        (lambda: async_generator, r"async or a generator"),
        (lambda: async_fn(), r"pass the function and its arguments apart"),
        (lambda: AwaitableObject(), r"pass the function and its arguments apart"),
        (lambda: None, r"must be a synchronous function, not None"),
        (lambda: "print", r"must be a synchronous function, not 'print'"),
    ],
)
@pytest.mark.parametrize("use", CALLBACKS.values(), ids=CALLBACKS)
async def test_bad_callbacks(
    use: Use, make: Callable[[], object], message: str
) -> None:
    error = await error_of(use, make())
    assert type(error) is TypeError
    assert str(error).startswith("`fn` must be ")
    assert re.search(message, str(error))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: async_generator, r"is a generator function: it has a `yield`"),
        (lambda: generator, r"is a generator function: it has a `yield`"),
        (lambda: async_fn(), r"pass the function and its arguments apart"),
        (lambda: None, r"must be an async function, not None"),
        (lambda: 5, r"must be an async function, not 5"),
    ],
)
@pytest.mark.parametrize("use", ASYNC_FNS.values(), ids=ASYNC_FNS)
async def test_bad_async_fns(
    use: Use, make: Callable[[], object], message: str
) -> None:
    error = await error_of(use, make())
    assert type(error) is TypeError
    assert str(error).startswith("`async_fn` must be ")
    assert re.search(message, str(error))


# --- options ---


async def test_bad_options() -> None:
    options: list[tuple[Use, object, type[Exception], str]] = [
        (
            lambda clock, driver, timers, value: clock.open_timers(on_exit=value),
            "abandon",
            ValueError,
            "`on_exit` must be 'wait' or 'cancel', not 'abandon'",
        ),
        (
            lambda clock, driver, timers, value: clock.periodic(1, missed=value),
            "burst",
            TypeError,
            "`missed` must be a MissedTick, such as MissedTick.SKIP, not 'burst'",
        ),
        (
            lambda clock, driver, timers, value: timers.call_every(
                1, int, missed=value
            ),
            None,
            TypeError,
            "`missed` must be a MissedTick, such as MissedTick.SKIP, not None",
        ),
    ]
    for use, value, error_type, message in options:
        error = await error_of(use, value)
        assert type(error) is error_type
        assert str(error) == message


# --- blocks ---


async def test_blocks_that_are_used_as_something_else() -> None:
    async with open_clock() as clock:
        blocks: list[tuple[Callable[[], Any], str]] = [
            (open_clock, "`async with open_clock() as clock:`"),
            (lambda: InactiveClock().activate(), "`async with InactiveClock()"),
            (clock.open_timers, "`async with clock.open_timers() as timers:`"),
        ]
        for make, usage in blocks:
            with pytest.raises(TypeError, match="`async with`, not `with`") as caught:
                with make():
                    raise AssertionError
            assert usage in str(caught.value)
            with pytest.raises(TypeError, match="`async with`, not `await`") as caught:
                await make()
            assert usage in str(caught.value)
            with pytest.raises(TypeError, match="`async with`, not `=`") as caught:
                _clock, _driver = make()
            assert usage in str(caught.value)
            with pytest.raises(AttributeError, match="attribute 'delay'") as gone:
                make().delay(1)
            assert usage in str(gone.value)
            assert not hasattr(make(), "call_later")


def test_a_clock_cannot_be_constructed() -> None:
    with pytest.raises(TypeError, match=r"open_clock\(\) as clock"):
        Clock()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"SimpleClock.system\(\) or control.to_simple"):
        SimpleClock()  # type: ignore[call-arg]


@pytest.mark.parametrize("copy_it", [copy.copy, copy.deepcopy])
def test_a_simple_clock_can_be_copied(
    copy_it: Callable[[SimpleClock], SimpleClock],
) -> None:
    assert copy_it(SimpleClock.system()).instant() <= SimpleClock.system().instant()


async def test_a_clock_cannot_be_copied() -> None:
    async with open_clock() as clock:
        for use in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match=r"clone\(\) makes another owner"):
                use(clock)


@pytest.mark.parametrize(
    "use", [copy.copy, copy.deepcopy, pickle.dumps], ids=["copy", "deepcopy", "pickle"]
)
async def test_what_cannot_be_copied(use: Callable[[object], object]) -> None:
    async with InactiveClock().activate() as (clock, driver):
        async with clock.open_timers(on_exit="cancel") as timers:
            control = ClockControl()
            manual = control.to_clock()
            with manual.timer_group() as group:
                cases: list[tuple[object, str]] = [
                    (driver, "activate another InactiveClock"),
                    (timers, "open another one"),
                    (group, "open another one"),
                    (timers.call_later(60, int), "set another one"),
                    (timers.start_later(60, trio.sleep, 1), "set another one"),
                    (timers.call_every(60, int), "set another one"),
                    (group.call_later(60, int), "set another one"),
                    (clock.periodic(1), r"call periodic\(\) again"),
                    (control, "make another one"),
                ]
                for thing, instead in cases:
                    with pytest.raises(TypeError, match=instead) as caught:
                        use(thing)
                    assert "cannot be copied or pickled; " in str(caught.value)


def pickled(recipe: InactiveClock) -> InactiveClock:
    copied = pickle.loads(pickle.dumps(recipe))
    assert isinstance(copied, InactiveClock)
    return copied


@pytest.mark.parametrize("copy_it", [copy.copy, copy.deepcopy, pickled])
async def test_a_copy_of_a_recipe_is_a_clone(
    copy_it: Callable[[InactiveClock], InactiveClock],
) -> None:
    recipe = InactiveClock()
    before = copy_it(recipe)
    async with recipe.activate() as (one, _):
        async with before.activate() as (two, _):
            async with copy_it(recipe).activate() as (three, _):
                one.close()
                two.close()
                assert three.alive


async def test_a_copy_of_a_recipe_has_the_same_control() -> None:
    control = ClockControl()
    recipe = copy.copy(InactiveClock.from_control(control))
    async with recipe.activate() as (clock, _):
        control.jump(5)
        assert clock.instant() == 5
    for use in (copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match=r"ClockControl.* cannot be copied"):
            use(recipe)


async def test_numbers_that_cannot_be_shown() -> None:
    class Huge(int):
        def __repr__(self) -> str:
            raise ValueError("as Python does for integers of so many digits")

    async with open_clock() as clock:
        with pytest.raises(ValueError, match=r"`seconds`.*a Huge too large to show"):
            await clock.delay(Huge(-1))
        with pytest.raises(ValueError, match="`seconds` must be non-negative"):
            await clock.delay(-(10**5000))


def test_a_period_that_instants_cannot_tell_apart() -> None:
    async def main() -> None:
        async with open_clock() as clock:
            await clock.delay_until(1e15)
            with pytest.raises(
                ValueError, match=r"at instant 1\d+\.0, but it is 0\.07"
            ):
                clock.periodic(0.07)
            ticks = clock.periodic(0.125)
            assert [await ticks.__anext__() for _ in range(3)] == [
                1e15 + n / 8 for n in (1, 2, 3)
            ]

    trio.run(main, clock=MockClock(autojump_threshold=0))

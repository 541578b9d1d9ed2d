"""Recipes: cloned, relocated, copied, pickled, and what may not be done to them."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from shared_clock import in_thread

from trio_clockrt import Clock, ClockGone, InactiveClock
from trio_clockrt.affinity import pinned_affinities
from trio_clockrt.testing import ClockControl

CORES = pinned_affinities([2, 1])

COPIES: dict[str, Callable[[Any], Any]] = {
    "clone": lambda recipe: recipe.clone(),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda recipe: pickle.loads(pickle.dumps(recipe)),
}


@pytest.mark.parametrize("consumed", [False, True])
@pytest.mark.parametrize("how", COPIES)
def test_copies_are_clones(how: str, consumed: bool) -> None:
    recipe = InactiveClock()
    recipe.relocate(None, CORES[1])
    if consumed:
        recipe.activate_manual()
    other = COPIES[how](recipe)
    clock, _driver = other.activate_manual()
    assert clock.affinity == CORES[1]
    if not consumed:
        # It shares nothing with the other.
        recipe.relocate(CORES[1], CORES[2])
        assert recipe.activate_manual()[0].affinity == CORES[2]
        assert clock.affinity == CORES[1]


@pytest.mark.parametrize("how", ["copy", "deepcopy", "pickle"])
def test_a_recipe_of_a_shared_clock_travels_too(how: str) -> None:
    clock, driver = COPIES[how](InactiveClock.new_shared()).activate_manual()
    with pytest.raises(RuntimeError, match="driver of a shared clock"):
        in_thread(driver.advance_timers)
    assert clock.affinity is None


def test_what_it_is_can_be_seen() -> None:
    recipe = InactiveClock()
    assert repr(recipe) == "<InactiveClock>"
    recipe.relocate(None, CORES[1])
    assert repr(recipe) == f"<InactiveClock, for {CORES[1]!r}>"
    control = ClockControl()
    recipe = InactiveClock.from_control(control)
    assert repr(recipe) == f"<InactiveClock, of {control!r}>"
    shared = InactiveClock.new_shared()
    shared.activate_manual()
    assert repr(shared) == "<InactiveClock, shared, activated already>"


async def test_one_that_is_used_as_a_clock() -> None:
    recipe: Any = InactiveClock()
    with pytest.raises(
        AttributeError, match=r"'delay': it is a recipe, .*activate\(\)"
    ):
        recipe.delay(1)
    with pytest.raises(TypeError, match=r"has to be activated: .*activate\(\)"):
        async with recipe:
            raise AssertionError


@pytest.mark.parametrize("how", ["copy", "deepcopy", "pickle"])
def test_a_clock_does_not(how: str) -> None:
    for recipe in (InactiveClock(), InactiveClock.new_shared()):
        clock, driver = recipe.activate_manual()
        for thing in (clock, driver):
            with pytest.raises(TypeError, match="cop"):
                COPIES[how](thing)


def test_a_recipe_is_used_by_one_thread_only() -> None:
    recipe = InactiveClock.new_shared()
    recipe.activate_manual()
    with pytest.raises(RuntimeError, match="activated already"):
        in_thread(recipe.activate_manual)
    with pytest.raises(RuntimeError, match="activated already"):
        in_thread(recipe.activate)


def test_a_shared_recipe_is_neither_cloned_nor_relocated() -> None:
    recipe: Any = InactiveClock.new_shared()
    with pytest.raises(TypeError, match="shared clock has no clone"):
        recipe.clone()
    with pytest.raises(TypeError, match="shared clock has no relocate"):
        recipe.relocate(None, CORES[0])
    recipe.activate_manual()


def test_relocating() -> None:
    recipe: Any = InactiveClock()
    recipe.relocate(None, CORES[0])
    recipe.relocate(CORES[0], CORES[1])
    for source, destination in ((None, None), (None, 1), ("core", CORES[0])):
        with pytest.raises(TypeError, match="must be an Affinity"):
            recipe.relocate(source, destination)
    [elsewhere] = pinned_affinities([1])
    with pytest.raises(ValueError, match="one machine"):
        recipe.relocate(CORES[0], elsewhere)
    clock, _driver = recipe.activate_manual()
    assert clock.affinity == CORES[1]
    with pytest.raises(RuntimeError, match="activated already"):
        recipe.relocate(None, CORES[0])


def test_a_recipe_goes_to_another_thread() -> None:
    def use() -> Clock:
        clock, driver = recipe.activate_manual()
        with clock.timer_group() as timers:
            timers.call_later(0, int)
            driver.advance_timers()
        return clock

    recipe = InactiveClock()
    recipe.relocate(None, CORES[2])
    clock = in_thread(use)
    assert clock.affinity == CORES[2]
    with pytest.raises(ClockGone):
        clock.timer_group()


def test_a_control_stays_in_its_process() -> None:
    control = ClockControl()
    recipe = InactiveClock.from_control(control)
    assert copy.copy(recipe).activate_manual()[0].instant() == 0
    with pytest.raises(TypeError):
        pickle.dumps(recipe)

"""A dictionary of the library's, in the place of which a test puts this one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def once(todo: list[Callable[[], object]]) -> None:
    if todo:
        todo.pop()()


class Interrupted(dict[Any, Any]):
    """Whoever uses it is interrupted, once."""

    before_popping: list[Callable[[], object]]
    before_setting: list[Callable[[], object]]
    after_setting: list[Callable[[], object]]
    after_getting: list[Callable[[], object]]

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.before_popping = []
        self.before_setting, self.after_setting, self.after_getting = [], [], []

    def __setitem__(self, key: object, value: object) -> None:
        once(self.before_setting)
        super().__setitem__(key, value)
        once(self.after_setting)

    def pop(self, *args: Any) -> Any:
        once(self.before_popping)
        return super().pop(*args)

    def get(self, *args: Any) -> Any:
        try:
            return super().get(*args)
        finally:
            once(self.after_getting)

    def setdefault(self, *args: Any) -> Any:
        try:
            return super().setdefault(*args)
        finally:
            once(self.after_getting)

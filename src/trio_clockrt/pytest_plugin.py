"""The pytest plugin by its name; pytest itself finds it by an entry point.

What is named here is a module beside the package, since pytest loads plugins before
tools that measure coverage have started. It is loaded once, whichever way comes first.
"""

from functools import partial
from typing import TYPE_CHECKING

from ._hints import look_elsewhere

pytest_plugins: str = "_trio_clockrt_pytest_plugin"

# Hidden from type checkers, which are to find what is not here.
if not TYPE_CHECKING:
    __getattr__ = partial(look_elsewhere, __name__)

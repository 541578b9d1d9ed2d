"""The pytest plugin, for whoever names it; pytest itself finds it by an entry point.

What is named here is a module beside the package, since pytest loads plugins before
tools that measure coverage have started. It is loaded once, whichever way comes first.
"""

pytest_plugins: str = "_trio_clockrt_pytest_plugin"

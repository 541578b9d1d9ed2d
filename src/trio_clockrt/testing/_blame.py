"""Whose code a task is in, and so which task is told of an error that none has made.

An error that is found where no task runs reaches the program as Ctrl-C would: that
nothing will ever wake the program, or a warning where warnings are errors. Raised in
the clock it would be an internal error of Trio's, and the program could not clean up;
in an instrument, Trio would log it and go on. Trio has no public way to raise something
where a task waits, so this takes a look at its inside.

The first task that is in the user's own code sees the error. That is the main task,
unless a library has that one for itself: pytest-trio runs the test, and each fixture,
in a child. An error in its main task would cancel the fixtures too, and they could not
clean up. So a library's own tasks see none, as long as there is a task of the user's.
If the first task has seen an error, and waits at the end of a nursery for a shielded
child, the child is next.

Trio cannot raise an error in a task that never waits. So a child that raises the error
is started in the innermost nursery around such a task: the task is cancelled at its
next checkpoint, and the error leaves the nursery as if the task had raised it. All that
is public. A main task without any nursery sees no error, and only the terminal tells of
it.
"""

from __future__ import annotations

from contextlib import suppress
from operator import attrgetter
from os import sep
from sys import modules
from typing import TYPE_CHECKING, NoReturn

from trio.lowlevel import current_root_task

from ._await_chain import frames_of
from ._trio_inside import interrupt, is_about_to_go_on, main_task

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator
    from types import FrameType

    from trio.lowlevel import Task

# What runs the code of users, and is in between.
_LIBRARIES = ("trio", "trio_clockrt", "outcome", "anyio", "pytest_trio")


def own_frames(frames: list[FrameType]) -> list[FrameType]:
    """Those that are in the user's own code."""
    paths = [
        path
        for name in _LIBRARIES
        # (It may not be there, or something else may be in its place.)
        for path in getattr(modules.get(name), "__path__", ())
    ]
    libraries = tuple(path + sep for path in paths)
    return [
        frame for frame in frames if not frame.f_code.co_filename.startswith(libraries)
    ]


def outwards(frame: FrameType | None) -> Iterator[FrameType]:
    """A frame, then its caller's, and so on."""
    while frame is not None:
        yield frame
        frame = frame.f_back


def with_children(first: Task | None) -> Iterator[Task]:
    """A task, then its children, then theirs."""
    tasks = [first] if first else []
    for task in tasks:
        yield task
        # The innermost first, as that is what the task waits for.
        for nursery in reversed(task.child_nurseries):
            # As a set is in another order each time.
            tasks += sorted(nursery.child_tasks, key=attrgetter("name"))


def first_task() -> Task:
    """The first one that is in the user's own code, or else Trio's own first one."""
    tasks = with_children(main_task())
    own = (task for task in tasks if own_frames([*frames_of(task)]))
    root = current_root_task()
    assert root is not None
    return next(own, root)


def raise_in_program(error: BaseException, *, never_wait: Container[Task] = ()) -> bool:
    """Let the program see an error where it waits, as Ctrl-C would be raised.

    The first task that is in code of the user's own sees it. Usually that is the main
    task. But a plugin of pytest may have that one for itself, and run tests and
    fixtures in others. If the task cannot be interrupted, or waits for a shielded
    child, the next one of its children and theirs sees the error as well; at last, all
    others of the user's own. Tells whether any task goes on because of that.

    Args:
        never_wait: Tasks that always go on. The nursery that such a task is in sees
            the error, as if another task there had failed.
    """
    tasks = [*with_children(main_task())]
    own = [task for task in tasks if own_frames([*frames_of(task)])]
    if own:
        # The others are a plugin's, which has to clean up.
        tasks = [*dict.fromkeys([*with_children(own[0]), *own])]
    return any(
        (_fail_beside if task in never_wait else _interrupt)(task, error)
        for task in tasks
    )


def _interrupt(task: Task, error: BaseException) -> bool:
    if not interrupt(task, error):
        return False
    told: Iterable[Task] = [task]
    for nursery in task.child_nurseries[-1:]:
        # At its end the task waits for the others in there, which have been cancelled.
        if nursery.cancel_scope.cancel_called:
            told = with_children(task)
    return any(map(is_about_to_go_on, told))


def _fail_beside(task: Task, error: BaseException) -> bool:
    """Let the innermost nursery around a task see an error, if there is any."""

    async def fail() -> NoReturn:
        raise error

    # (That of the main task is Trio's.)
    outermost = None if task is main_task() else task.parent_nursery
    for nursery in filter(None, [*task.child_nurseries[::-1], outermost]):
        with suppress(RuntimeError):  # it is being closed
            nursery.start_soon(fail, name="trio_clockrt error")
            return True
    return False

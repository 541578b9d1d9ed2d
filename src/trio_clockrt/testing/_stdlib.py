"""The standard library's wall clock, as a control has it.

time-machine, once it is patched in, calls `time_ns()` of the object that its `travel`
hands out, for everything that tells the time. Its documented ways to move that object
would have to be used at each move of the control, and could not follow a `rate`. So
that method is replaced, in that one object. The present is read as a number, and what
Python makes of it is Python's: a `datetime` that would be too far away is an error,
`time.time()` is not. To read it is no reading through a clock, so it moves no time.

time-machine patches no monotonic clock from 3.0 on, which the extra asks for. It leaves
out `time.ctime()` and `time.asctime()`. These two are replaced in their module, and not
inside Python: what ``from time import ctime`` has taken before stays real, which the
documentation says.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NoReturn

from trio.lowlevel import enable_ki_protection

from .._block import SyncBlock
from .._freezegun import is_freezing
from .._lock import RLock
from ._wall import NANOSECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._virtual_time import VirtualTime


class StdlibPatch(SyncBlock[None, None]):
    """While it is open, `datetime.now` and the like tell a control's system time.

    time-machine makes them ask the traveller that has set out last, each time they are
    called. Ours ask the control. time-machine always takes away the traveller that has
    set out last, also when the block of another one ends. So each of ours tells the
    time of the patch that was opened last.

    It leaves out two functions of `time`, so we put others in their place there.
    """

    _usage = "`with control.patch_stdlib():`"

    def __init__(self, time: VirtualTime) -> None:
        # Before time-machine is imported, which would take freezegun's for real.
        if is_freezing():
            raise RuntimeError(
                "freezegun's freeze_time is under way, and hides what patch_stdlib() "
                "does; leave freeze_time out, as the control's system time takes its "
                "place"
            )
        try:
            from time_machine import travel
        except ImportError:
            raise ImportError(
                "patch_stdlib() needs time-machine, an extra of this library, which is "
                "not installed: `pip install 'time-machine >= 3.4, < 4'`"
            ) from None
        self._time = time
        self._travel_to: Any = travel

    if not TYPE_CHECKING:

        def __call__(self, _: object) -> NoReturn:
            raise TypeError(f"this is a block, and no decorator: {self._usage}")

    @enable_ki_protection
    def __enter__(self) -> None:
        self._enter_once()
        with _lock:
            # What other threads see until the traveller asks the control.
            seconds = self._time.system_nanoseconds() / NANOSECONDS
            self._travel = self._travel_to(seconds, tick=False)
            traveller = self._travel.start()
            traveller.time_ns = self._time_ns
            _open.append(self)
            _replace_texts()

    @enable_ki_protection
    def __exit__(self, *exc_info: object) -> None:
        with _lock:
            self._travel.stop()
            _open.remove(self)
            if not _open:
                _restore_texts()

    def _time_ns(self) -> int:
        # Another thread may have begun to ask when the last one was still open.
        return (_open[-1:] or [self])[0]._time.system_nanoseconds()


_open: list[StdlibPatch] = []
_lock = RLock()


# A module may have taken these two, and call them when no patch is open any more. So
# they know of none, and ask Python for the time.
def _ctime(seconds: float | None = None, /) -> str:
    return _texts[_ctime](time.time() if seconds is None else seconds)


def _asctime(*when: Any) -> str:
    return _texts[_asctime](*when or (time.localtime(),))


# What was there before.
_texts: dict[Callable[..., str], Callable[..., str]] = {
    _ctime: time.ctime,
    _asctime: time.asctime,
}


def _replace_texts() -> None:
    for ours in _texts:
        name = ours.__name__[1:]
        there = getattr(time, name)
        if there is not ours:
            _texts[ours] = there
            setattr(time, name, ours)


def _restore_texts() -> None:
    for ours, before in _texts.items():
        name = ours.__name__[1:]
        # A function that other code has put there meanwhile stays.
        if getattr(time, name) is ours:
            setattr(time, name, before)

"""What cannot be copied, as a copy would do something else than it seems to."""

from __future__ import annotations

from typing import NoReturn


class NoCopy:
    """Base class of what belongs to one activation, or to one control.

    Python would copy the object and leave what it belongs to as it is.
    """

    __slots__ = ()

    #: What to do instead.
    _instead: str

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{self!r} cannot be copied or pickled; {self._instead}")

"""The value that says which of a machine's processors something is meant for.

An `Affinity` from the system remembers the system's number of its processor, and
compares as if it did not. Indices count the processors that may be used. To pin a
thread changes which these are, for that thread and for the threads that it starts, so
the number has to be looked up before. An `Affinity` that a program has made is looked
up when a thread is pinned to it: its index counts, and its counts and its memory region
need not be those of the machine. If there is no such processor, that is a ValueError,
as the value is wrong. An OSError says that the system was asked and has refused. A
platform that could not pin to any is a NotImplementedError, as in asyncio.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

import attrs

from ._processors import can_pin, processors_by_region


def _check_index(_: Affinity, attribute: attrs.Attribute[int], value: int) -> None:
    _check_int(f"`{attribute.name}`", value, at_least=0)


def _check_count(
    affinity: Affinity, attribute: attrs.Attribute[int], value: int
) -> None:
    _check_int(f"`{attribute.name}`", value, at_least=1)
    index_name = attribute.name.replace("_count", "_index")
    index = getattr(affinity, index_name)
    if index >= value:
        raise ValueError(
            f"`{index_name}` must be less than `{attribute.name}`, which is {value}, "
            f"but it is {index}"
        )


def _check_int(what: str, value: object, *, at_least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{what} must be an integer, not {value!r}")
    if value < at_least:
        raise ValueError(f"{what} must be at least {at_least}, but it is {value}")


@attrs.frozen(kw_only=True, order=True)
class Affinity:
    """One processor of a machine, and the memory region that it is in.

    `available_affinities` tells which there are, and `pinned_affinities` makes up
    others. It is a plain value: it can be compared, hashed, sorted, pickled, and sent
    to other threads and processes.

    Attributes:
        processor_index (int): Which processor, counted from zero.
        processor_count (int): How many processors there are.
        memory_region_index (int): Which memory region, counted from zero. Memory of its
            own region is what a processor reaches fastest.
        memory_region_count (int): How many memory regions there are; on most machines
            there is one.

    Raises:
        ValueError: if an index is negative, or not less than its count.
        TypeError: if one of them is not an integer.

    Example::

        >>> [first, second] = pinned_affinities([2])
        >>> first
        Affinity(processor_index=0, processor_count=2, \
memory_region_index=0, memory_region_count=1)
        >>> first < second
        True
    """

    processor_index: int = attrs.field(validator=_check_index)
    processor_count: int = attrs.field(validator=_check_count)
    memory_region_index: int = attrs.field(validator=_check_index)
    memory_region_count: int = attrs.field(validator=_check_count)
    # The system's number of it, if that has been looked up. Not compared, as it is only
    # what the others stand for on this machine; nor given to one that attrs.evolve()
    # makes from this one, with other numbers.
    _cpu: int | None = attrs.field(default=None, init=False, repr=False, eq=False)

    def _is_in_machine_of(self, other: Affinity) -> bool:
        return (self.processor_count, self.memory_region_count) == (
            other.processor_count,
            other.memory_region_count,
        )

    def pin_current_thread(self) -> None:
        """Have the current thread run on this processor only, from now on.

        Threads that it starts afterwards inherit that. Nothing else changes, and
        :func:`os.sched_setaffinity` can undo it: ``os.sched_setaffinity(0, cpus)``
        is about the current thread too.

        One of `available_affinities` means a certain processor of this machine. One
        that is made by hand counts among the processors that the current thread may use
        at this moment, in the order of `available_affinities`. Its counts and
        its memory region do not matter for that, so a thread that has been pinned has
        only one left.

        Raises:
            NotImplementedError: if this platform cannot pin threads; macOS and Windows
                cannot.
            ValueError: if it is made by hand, and there is no such processor.
            OSError: if the system refuses, as the processor is offline, or out of the
                reach of a container; or if the affinity comes from another machine.

        Example::

            >>> def work():
            ...     available_affinities()[0].pin_current_thread()
            ...     print("on one of", len(available_affinities()))
            >>> thread = threading.Thread(target=work)
            >>> thread.start(); thread.join()
            on one of 1
        """
        if not can_pin():
            raise NotImplementedError(
                f"threads cannot be pinned to processors on this platform, "
                f"{sys.platform}: it leaves that to its scheduler"
            )
        cpu = self._count_off() if self._cpu is None else self._cpu
        try:
            os.sched_setaffinity(0, {cpu})
        except OSError as exc:
            raise OSError(
                exc.errno,
                f"cannot pin this thread to {self}: the system refuses its CPU {cpu} "
                f"({exc.strerror}), which is offline, or is not there, or is not for "
                "this process",
            ) from None

    def _count_off(self) -> int:
        cpus = [cpu for region in processors_by_region() for cpu in region]
        if self.processor_index >= len(cpus):
            raise ValueError(
                f"cannot pin this thread to {self}: it may use {len(cpus)} "
                f"processor{'s' * (len(cpus) != 1)} only; available_affinities() "
                "tells which"
            )
        return cpus[self.processor_index]


def pinned_affinities(counts: Iterable[int]) -> list[Affinity]:
    """Affinities made by hand: for so many processors in each memory region.

    Whether the machine has them is not looked up before
    `Affinity.pin_current_thread` does so.

    Args:
        counts: For each memory region, how many processors it has. It may have none.

    Returns:
        list[Affinity]: one for each processor: those of the first region, then those of
        the next.

    Raises:
        ValueError: if a count is negative.
        TypeError: if a count is not an integer, or *counts* is only one of them.

    Example::

        >>> for affinity in pinned_affinities([2, 1]):
        ...     print(affinity.processor_index, "in", affinity.memory_region_index)
        0 in 0
        1 in 0
        2 in 1
    """
    if not hasattr(counts, "__iter__"):
        raise TypeError(
            "`counts` must be the numbers of processors, one for each memory region, "
            f"such as [4, 4], not {counts!r}"
        )
    counts = list(counts)
    for count in counts:
        _check_int("each of `counts`", count, at_least=0)
    regions = [region for region, count in enumerate(counts) for _ in range(count)]
    return [
        Affinity(
            processor_index=index,
            processor_count=len(regions),
            memory_region_index=region,
            memory_region_count=len(counts),
        )
        for index, region in enumerate(regions)
    ]


def available_affinities() -> list[Affinity]:
    """The processors that may be used: one affinity for each.

    They are those that the system lets the current thread use
    (:func:`os.sched_getaffinity`), which containers and ``taskset`` may restrict and so
    does pinning; and no more than :func:`os.process_cpu_count` says, which on
    Python 3.13 and later follows ``-X cpu_count``. Elsewhere than on Linux they are
    all, and cannot be pinned to.

    Linux tells which memory region (NUMA node) a processor is in. Regions without
    processors that may be used do not count; and where the system does not tell, there
    is one.

    Returns:
        list[Affinity]: at least one, in the order of memory regions.

    Example::

        >>> len({affinity.processor_index for affinity in available_affinities()}) == (
        ...     available_affinities()[0].processor_count
        ... )
        True
    """
    regions = processors_by_region()
    cpus = [cpu for region in regions for cpu in region]
    affinities = pinned_affinities(map(len, regions))
    for affinity, cpu in zip(affinities, cpus, strict=True):
        object.__setattr__(affinity, "_cpu", cpu)  # frozen, but not in use yet
    return affinities

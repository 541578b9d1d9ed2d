"""Which processors this process may use, and which of them share their memory."""

from __future__ import annotations

import os
import sys
from itertools import chain
from pathlib import Path

# What Linux says about memory; nothing, elsewhere.
_NODES = Path("/sys/devices/system/node")


def can_pin() -> bool:
    return hasattr(os, "sched_setaffinity")


def processors_by_region() -> list[list[int]]:
    """The system's numbers of them, for each memory region that has any."""
    if not hasattr(os, "sched_getaffinity"):
        return [list(range(os.cpu_count() or 1))]
    usable = sorted(os.sched_getaffinity(0))
    if sys.version_info >= (3, 13):
        # Less than that, if `-X cpu_count` says so, as it may where processors are
        # shared with others.
        usable = usable[: os.process_cpu_count()]
    try:
        nodes = _nodes()
    except (OSError, ValueError):
        nodes = []
    regions = [node for cpus in nodes if (node := sorted(cpus.intersection(usable)))]
    # Half of the truth would put processors into regions that are not theirs.
    return regions if sorted(chain(*regions)) == usable else [usable]


def _nodes() -> list[set[int]]:
    paths = {int(path.name[4:]): path for path in _NODES.glob("node[0-9]*")}
    return [
        _parse_cpulist((paths[number] / "cpulist").read_text("ascii"))
        for number in sorted(paths)
    ]


def _parse_cpulist(text: str) -> set[int]:
    """What is written as ``0-3,8-11``; nothing, for memory without processors."""
    cpus: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        cpus.update(range(int(first), int(last or first) + 1))
    return cpus

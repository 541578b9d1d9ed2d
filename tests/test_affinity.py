"""`Affinity`: the value, where it comes from, and pinning to it."""

from __future__ import annotations

import copy
import errno
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from threading import Thread
from typing import Any

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import trio_clockrt._processors
from trio_clockrt.affinity import Affinity, available_affinities, pinned_affinities

CAN_PIN = hasattr(os, "sched_setaffinity")
needs_pinning = pytest.mark.skipif(not CAN_PIN, reason="threads cannot be pinned")

SECOND_OF_THREE = {
    "processor_index": 1,
    "processor_count": 3,
    "memory_region_index": 0,
    "memory_region_count": 2,
}


def in_thread(fn: Callable[[], object]) -> Any:
    """What it returns or raises, where pinning is nobody else's business."""
    results: list[object] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(fn())
        except BaseException as exc:
            errors.append(exc)

    thread = Thread(target=work)
    thread.start()
    thread.join()
    for error in errors:
        raise error
    return results[0]


# --- the value ---


def test_it_is_a_value() -> None:
    affinity = Affinity(**SECOND_OF_THREE)
    assert {name: getattr(affinity, name) for name in SECOND_OF_THREE} == (
        SECOND_OF_THREE
    )
    assert affinity == Affinity(**SECOND_OF_THREE)
    assert hash(affinity) == hash(Affinity(**SECOND_OF_THREE))
    assert affinity != attrs.evolve(affinity, processor_index=2)
    assert eval(repr(affinity)) == affinity
    assert not hasattr(affinity, "__dict__")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        affinity.processor_index = 0  # type: ignore[misc]


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, "pickle"])
def test_it_can_be_copied_and_pickled(duplicate: Any) -> None:
    if duplicate == "pickle":
        duplicate = lambda value: pickle.loads(pickle.dumps(value))  # noqa: E731
    for affinity in [Affinity(**SECOND_OF_THREE), *available_affinities()]:
        another = duplicate(affinity)
        assert another == affinity
        assert another._cpu == affinity._cpu


def test_they_sort_by_processor() -> None:
    affinities = pinned_affinities([3, 0, 2])
    assert sorted(set(affinities)) == affinities


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"processor_index": -1}, "`processor_index` must be at least 0, but it is -1"),
        (
            {"processor_index": 3},
            "`processor_index` must be less than `processor_count`, which is 3, but it "
            "is 3",
        ),
        ({"processor_count": 0}, "`processor_count` must be at least 1, but it is 0"),
        (
            {"memory_region_index": -2},
            "`memory_region_index` must be at least 0, but it is -2",
        ),
        (
            {"memory_region_index": 2},
            "`memory_region_index` must be less than `memory_region_count`, which is "
            "2, but it is 2",
        ),
        (
            {"memory_region_count": -1},
            "`memory_region_count` must be at least 1, but it is -1",
        ),
    ],
)
def test_numbers_that_do_not_fit(change: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Affinity(**{**SECOND_OF_THREE, **change})


@pytest.mark.parametrize("name", SECOND_OF_THREE)
@pytest.mark.parametrize("value", [None, "1", 1.0, True, [1]])
def test_what_is_no_integer(name: str, value: Any) -> None:
    with pytest.raises(TypeError) as caught:
        Affinity(**{**SECOND_OF_THREE, name: value})
    assert str(caught.value) == f"`{name}` must be an integer, not {value!r}"


# --- made by hand ---


@given(st.lists(st.integers(0, 20), max_size=10))
@example([])
@example([1, 1])
def test_by_hand(counts: list[int]) -> None:
    affinities = pinned_affinities(iter(counts))
    assert [a.processor_index for a in affinities] == list(range(sum(counts)))
    assert {a.processor_count for a in affinities} <= {sum(counts)}
    assert {a.memory_region_count for a in affinities} <= {len(counts)}
    ends = list(accumulate(counts))
    for affinity in affinities:
        region = affinity.memory_region_index
        assert ends[region] - counts[region] <= affinity.processor_index < ends[region]


@pytest.mark.parametrize(
    ("counts", "error", "message"),
    [
        ([1, -1], ValueError, "each of `counts` must be at least 0, but it is -1"),
        ([1.0], TypeError, "each of `counts` must be an integer, not 1.0"),
        ([True], TypeError, "each of `counts` must be an integer, not True"),
        ("11", TypeError, "each of `counts` must be an integer, not '1'"),
        (
            2,
            TypeError,
            "`counts` must be the numbers of processors, one for each memory region, "
            "such as [4, 4], not 2",
        ),
    ],
)
def test_bad_counts(counts: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        pinned_affinities(counts)
    assert str(caught.value) == message


def test_an_error_in_what_makes_the_counts() -> None:
    with pytest.raises(TypeError, match="has no len"):
        pinned_affinities(len(name) for name in [1])  # type: ignore[arg-type]


# --- what there is ---


def test_what_this_machine_has() -> None:
    affinities = available_affinities()
    assert affinities
    assert [a.processor_index for a in affinities] == list(range(len(affinities)))
    assert {a.processor_count for a in affinities} == {len(affinities)}
    regions = [a.memory_region_index for a in affinities]
    assert regions == sorted(regions)
    assert set(regions) == set(range(affinities[0].memory_region_count))
    if CAN_PIN:
        assert len(affinities) == len(os.sched_getaffinity(0))


Nodes = dict[int, str]


class Machine:
    """As the operating system would tell of it."""

    def __init__(self, nodes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._nodes = nodes
        self._monkeypatch = monkeypatch
        self.pinned_to: set[int] = set()
        monkeypatch.setattr(trio_clockrt._processors, "_NODES", nodes)
        monkeypatch.setattr(os, "sched_setaffinity", self._pin, raising=False)

    def has(self, usable: set[int], nodes: Nodes) -> list[Affinity]:
        for path in self._nodes.glob("node*/cpulist"):
            path.unlink()
            path.parent.rmdir()
        for number, cpulist in nodes.items():
            folder = self._nodes / f"node{number}"
            folder.mkdir()
            (folder / "cpulist").write_text(cpulist)
        self._monkeypatch.setattr(
            os, "sched_getaffinity", lambda _: usable, raising=False
        )
        return available_affinities()

    def _pin(self, pid: int, cpus: set[int]) -> None:
        assert pid == 0
        self.pinned_to = cpus

    def regions(self, affinities: list[Affinity]) -> list[list[int]]:
        """The numbers of the CPUs that they pin to."""
        regions: list[list[int]] = [
            [] for _ in range(affinities[0].memory_region_count)
        ]
        for affinity in affinities:
            affinity.pin_current_thread()
            regions[affinity.memory_region_index] += self.pinned_to
        return regions


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("usable", "nodes", "regions"),
    [
        pytest.param({0, 1}, {0: "0-1\n"}, [[0, 1]], id="one region"),
        pytest.param({0, 1}, {}, [[0, 1]], id="it does not tell"),
        pytest.param({3, 7, 64}, {0: "0-127\n"}, [[3, 7, 64]], id="gaps"),
        pytest.param(
            {0, 1, 2, 3, 8, 9, 10, 11, 4, 5},
            {0: "0-3,8-11\n", 1: "4-7,12-15\n"},
            [[0, 1, 2, 3, 8, 9, 10, 11], [4, 5]],
            id="two regions",
        ),
        pytest.param(
            {0, 1, 2}, {0: "0\n", 1: "\n", 2: "1,2\n"}, [[0], [1, 2]], id="memory only"
        ),
        pytest.param({4, 5}, {0: "0-3", 1: "4-7"}, [[4, 5]], id="one region is left"),
        pytest.param(
            {0, 1, 2},
            {10: "0", 9: "1", 2: "2"},
            [[2], [1], [0]],
            id="regions with gaps",
        ),
        pytest.param({0, 1, 2}, {0: "0", 1: "2"}, [[0, 1, 2]], id="half of the truth"),
        pytest.param({0, 1}, {0: "0-1", 1: "1"}, [[0, 1]], id="overlapping"),
        pytest.param(
            {0, 1, 2, 3},
            {0: "0-1", 1: "0-1"},
            [[0, 1, 2, 3]],
            id="as many as usable",
        ),
        pytest.param({0, 1}, {0: "0", 1: "one"}, [[0, 1]], id="nonsense"),
    ],
)
def test_memory_regions(
    machine: Machine, usable: set[int], nodes: Nodes, regions: list[list[int]]
) -> None:
    affinities = machine.has(usable, nodes)
    assert affinities == pinned_affinities(map(len, regions))
    assert machine.regions(affinities) == regions


def test_files_that_cannot_be_read(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "node0").mkdir()
    assert machine.has({0, 1}, {1: "1"}) == pinned_affinities([2])


def test_with_other_numbers_it_is_another_processor(machine: Machine) -> None:
    first, second = machine.has({3, 5}, {0: "3,5"})
    assert attrs.evolve(first, processor_index=1) == second
    attrs.evolve(first, processor_index=1).pin_current_thread()
    assert machine.pinned_to == {5}


def as_cpulist(cpus: set[int]) -> str:
    """As the kernel writes it."""
    parts: list[list[int]] = []
    for cpu in sorted(cpus):
        if parts and parts[-1][-1] == cpu - 1:
            parts[-1] = [parts[-1][0], cpu]
        else:
            parts.append([cpu])
    return ",".join("-".join(map(str, part)) for part in parts) + "\n"


@given(st.dictionaries(st.integers(0, 300), st.integers(0, 20), min_size=1), st.data())
def test_any_machine(
    tmp_path_factory: pytest.TempPathFactory, cpus: dict[int, int], data: st.DataObject
) -> None:
    usable = data.draw(st.sets(st.sampled_from(sorted(cpus)), min_size=1))
    nodes: dict[int, set[int]] = {}
    for cpu, node in cpus.items():
        nodes.setdefault(node, set()).add(cpu)
    with pytest.MonkeyPatch.context() as monkeypatch:
        machine = Machine(tmp_path_factory.mktemp("nodes"), monkeypatch)
        affinities = machine.has(
            usable, {node: as_cpulist(there) for node, there in nodes.items()}
        )
        assert machine.regions(affinities) == [
            sorted(nodes[node] & usable)
            for node in sorted(nodes)
            if nodes[node] & usable
        ]


@pytest.fixture
def cannot_pin(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS and Windows."""
    for name in "sched_getaffinity", "sched_setaffinity":
        monkeypatch.delattr(os, name, raising=False)


@pytest.mark.usefixtures("cannot_pin")
@pytest.mark.parametrize(("count", "expected"), [(4, 4), (None, 1)])
def test_where_threads_cannot_be_pinned(
    monkeypatch: pytest.MonkeyPatch, count: int | None, expected: int
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: count)
    affinities = available_affinities()
    assert affinities == pinned_affinities([expected])
    for affinity in affinities:
        with pytest.raises(NotImplementedError, match="cannot be pinned") as caught:
            affinity.pin_current_thread()
        assert sys.platform in str(caught.value)


@pytest.mark.skipif(sys.version_info < (3, 13), reason="has no -X cpu_count")
def test_fewer_than_there_are() -> None:
    code = "from trio_clockrt.affinity import *; print(len(available_affinities()))"
    result = subprocess.run(
        [sys.executable, "-X", "cpu_count=1", "-c", code],
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == "1\n"


# --- pinning ---


@needs_pinning
def test_pinning_is_for_the_current_thread_only() -> None:
    before = os.sched_getaffinity(0)

    def pin_to_each() -> list[set[int]]:
        found: list[set[int]] = []
        for affinity in affinities:
            affinity.pin_current_thread()
            found.append(os.sched_getaffinity(0))
        return found

    affinities = available_affinities()
    assert in_thread(pin_to_each) == [{cpu} for cpu in sorted(before)]
    assert os.sched_getaffinity(0) == before


@needs_pinning
def test_a_pinned_thread_has_one_processor_left() -> None:
    last = available_affinities()[-1]

    def pin() -> tuple[list[Affinity], set[int]]:
        last.pin_current_thread()
        left = available_affinities()
        # The one that is left, so this changes nothing.
        left[0].pin_current_thread()
        pinned_affinities([1])[0].pin_current_thread()
        return left, os.sched_getaffinity(0)

    left, cpus = in_thread(pin)
    assert left == pinned_affinities([1])
    assert cpus == {last._cpu}


def test_by_hand_counts_among_what_there_is(machine: Machine) -> None:
    machine.has({3, 5, 8}, {0: "8", 1: "3-5"})
    assert machine.regions(pinned_affinities([2, 1])) == [[8, 3], [5]]


def test_warnings_about_encodings_are_errors() -> None:
    code = "from trio_clockrt.affinity import *; available_affinities()"
    options = ["-X", "warn_default_encoding", "-W", "error::EncodingWarning"]
    subprocess.run([sys.executable, *options, "-c", code], check=True)


@needs_pinning
def test_outside_of_the_machine() -> None:
    count = len(available_affinities())
    outside = pinned_affinities([count + 1])[-1]
    with pytest.raises(ValueError, match=f"it may use {count} processors? only") as exc:
        outside.pin_current_thread()
    assert repr(outside) in str(exc.value)


@needs_pinning
def test_the_system_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it does if a processor is not there any more, or comes from elsewhere."""
    far_away = 100_000
    with monkeypatch.context() as patch:
        patch.setattr(os, "sched_getaffinity", lambda _: {far_away})
        [affinity] = available_affinities()
    with pytest.raises(OSError, match=f"refuses its CPU {far_away}") as caught:
        in_thread(affinity.pin_current_thread)
    assert caught.value.errno == errno.EINVAL
    assert repr(affinity) in str(caught.value)


def test_the_module_is_not_imported_by_the_library() -> None:
    code = "import sys, trio_clockrt; print('trio_clockrt.affinity' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "False\n"

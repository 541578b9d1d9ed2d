"""What waits and timers cost, as ratios to what a program would use instead.

A figure tells as much about the machine as about the code. So each one is measured
beside that of a peer, by turns in the same process, and the ratio is the result. It is
taken within each round; the median counts, and the quartiles tell how far it spreads.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles

import attrs
import trio
from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rows import Row, rows


@attrs.define
class Result:
    """What the rounds of a row have told."""

    row: Row
    # Of each contender that is installed, its cost in each round.
    costs: dict[str, list[float]] = attrs.Factory(dict[str, list[float]])
    missing: str = ""

    def measure(self, rounds: int, size: float) -> None:
        for _ in range(min(rounds, self.row.rounds)):
            for name, contender in self.row.contenders.items():
                with self._unless_missing(name):
                    self.costs.setdefault(name, []).append(contender(size))

    @contextmanager
    def _unless_missing(self, name: str) -> Generator[None]:
        try:
            yield
        except ImportError as error:
            del self.costs[name]
            self.missing = f"{error.name} is not installed"

    @property
    def ratios(self) -> list[float]:
        """Ours to the peer's; without a peer, ours."""
        ours, *peers = self.costs.values()
        if not peers:
            return ours
        return [mine / its for mine, its in zip(ours, peers[0], strict=True)]

    @property
    def holds(self) -> bool | None:
        """Whether the goal does, if there is one, and a peer if it needs one."""
        if self.row.goal is None or len(self.costs) < len(self.row.contenders):
            return None
        return median(self.ratios) <= self.row.goal

    def as_json(self) -> dict[str, object]:
        return {
            "what": self.row.what,
            "unit": self.row.unit,
            "costs": self.costs,
            "ratio": median(self.ratios),
            "goal": self.row.goal,
            "holds": self.holds,
        }


def spread(values: list[float]) -> str:
    if len(values) < 2:
        return ""
    low, _, high = quantiles(values, n=4, method="inclusive")
    return f"{low:.3g} to {high:.3g}"


def to_table(results: Iterable[Result], title: str) -> Table:
    table = Table("what", "ours", title=title, box=box.SIMPLE)
    for column in "each", "peer's", "ratio", "quartiles", "goal":
        table.add_column(column, justify="right")
    table.add_column("")
    for result in results:
        row, (ours, *_) = result.row, result.row.contenders
        peers = [name for name in result.costs if name != ours]
        its = f"{peers[0]} {median(result.costs[peers[0]]):,.3g}" if peers else ""
        verdict = {True: "holds", False: "missed", None: result.missing}[result.holds]
        table.add_row(
            row.what,
            ours,
            f"{median(result.costs[ours]):,.3g} {row.unit}",
            its,
            f"{median(result.ratios):.3g}" if not result.missing else "",
            spread(result.ratios) if not result.missing else "",
            "" if row.goal is None else f"{row.goal:g}",
            verdict,
        )
    return table


def main(arguments: list[str] | None = None) -> None:
    all_rows = {row.name: row for row in rows()}
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "names", nargs="*", metavar="ROW", help=f"one of {', '.join(all_rows)}"
    )
    parser.add_argument("--rounds", type=int, default=7, help="so many by turns")
    parser.add_argument("--quick", action="store_true", help="fewer and smaller rounds")
    parser.add_argument("--smoke", action="store_true", help="only see that it works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="save every figure")
    options = parser.parse_args(arguments)
    for name in options.names:
        if name not in all_rows:
            parser.error(f"there is no row {name!r}; there are {', '.join(all_rows)}")
    rounds, size = options.rounds, 1.0
    if options.quick:
        rounds, size = 3, 0.1
    if options.smoke:
        rounds, size = 1, 0.001

    results = [Result(all_rows[name]) for name in options.names or all_rows]
    console = Console(stderr=True)
    # A thread that refreshes the display would count as ours.
    with Progress(console=console, transient=True, auto_refresh=False) as progress:
        for result in progress.track(results):
            result.measure(rounds, size)
    python = f"{platform.python_implementation()} {platform.python_version()}"
    about = f"{python}, Trio {trio.__version__}, {os.cpu_count()} CPUs"
    Console(width=None if console.is_terminal else 160).print(to_table(results, about))
    if options.json is not None:
        figures = {result.row.name: result.as_json() for result in results}
        options.json.write_text(json.dumps({"about": about, "rows": figures}, indent=1))


if __name__ == "__main__":
    main()

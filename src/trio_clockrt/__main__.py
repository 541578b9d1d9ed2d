"""``python -m trio_clockrt``: see timers at work, and check that they do it right."""

from __future__ import annotations

import argparse
import json
import math
import sys
from contextlib import suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, cast

import attrs
import trio

from ._demo import Plan, Records, Report, run_demo

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

if TYPE_CHECKING:
    from collections.abc import Sequence

# What a process needs besides its connections: standard streams, Trio's own, modules
# that are being imported, and all that it has been started with.
_SPARE_DESCRIPTORS = 64


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    plan, as_json = _parse(argv)
    try:
        if as_json:
            report = trio.run(run_demo, plan, _show_nothing)
        else:
            report = _run_with_display(plan)
    except BaseException as exc:
        if not _is_interrupt(exc):
            raise
        print("interrupted", file=sys.stderr)
        return 130
    if as_json:
        print(json.dumps(report.as_dict()))
    else:
        _print_table(report)
    if report.faults:
        print(f"timers went wrong: {report.faults}", file=sys.stderr)
        return 1
    if not as_json:
        print("No idle timer and no heartbeat was lost, early or doubled.")
    return 0


def _parse(argv: Sequence[str] | None) -> tuple[Plan, bool]:
    parser = argparse.ArgumentParser(
        prog="python -m trio_clockrt",
        description="An echo server on the loopback interface, with real connections: "
        "each has an idle timer that every message resets, each request a timeout, and "
        "the server a heartbeat.",
        epilog="The exit status is 1 if a timer was lost, early or doubled.",
    )
    parser.add_argument(
        "--connections",
        type=_positive_int,
        default=Plan().connections,
        metavar="N",
        help="how many clients there are (default: %(default)s)",
    )
    parser.add_argument(
        "--seconds",
        type=_positive_float,
        default=Plan().seconds,
        metavar="S",
        help="how long they talk (default: %(default)g)",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print the outcome as one JSON object, and no progress",
    )
    options = parser.parse_args(argv)
    room = _room_for_connections(options.connections)
    if room < options.connections:
        parser.error(
            f"argument --connections: {options.connections} need more file descriptors "
            f"than this process may have, there is room for {room}"
        )
    if not options.json and find_spec("rich") is None:
        parser.error("the display needs rich: `pip install rich`, or use --json")
    return Plan(options.connections, options.seconds), options.json


def _positive_int(text: str) -> int:
    with suppress(ValueError):
        number = int(text)
        if number > 0:
            return number
    raise argparse.ArgumentTypeError(f"must be a positive integer, not {text!r}")


def _positive_float(text: str) -> float:
    with suppress(ValueError):
        number = float(text)
        if number > 0 and math.isfinite(number):
            return number
    raise argparse.ArgumentTypeError(
        f"must be a positive, finite number of seconds, not {text!r}"
    )


def _room_for_connections(wanted: int) -> int:
    """How many connections there are descriptors for, not counting beyond *wanted*.

    Both ends of a connection are in this process.
    """
    try:
        import resource
    except ImportError:  # on Windows, which has no such limit
        return wanted
    needed = 2 * wanted + _SPARE_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft != unlimited and soft < needed:
        raised = needed if hard == unlimited else min(needed, hard)
        with suppress(ValueError, OSError):  # the system may have a limit of its own
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
            soft = raised
    if soft == unlimited or soft >= needed:
        return wanted
    return max(0, (soft - _SPARE_DESCRIPTORS) // 2)


def _is_interrupt(exc: BaseException) -> bool:
    # Ctrl-C may hit any task, and comes out of the nurseries around it in groups.
    if isinstance(exc, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", exc)
        return all(map(_is_interrupt, group.exceptions))
    return isinstance(exc, KeyboardInterrupt)


def _show_nothing(_elapsed: float, _records: Records) -> None:
    pass


def _run_with_display(plan: Plan) -> Report:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    # Refreshed by a timer of the program's own, and by no thread beside it.
    with Progress(
        BarColumn(20),
        TimeRemainingColumn(),
        TextColumn(
            "{task.fields[records].connections} connections, "
            "{task.fields[records].messages} messages, "
            "{task.fields[records].idle_closes} idle closes"
        ),
        console=Console(stderr=True),
        auto_refresh=False,
    ) as progress:
        task = progress.add_task("", total=plan.seconds, records=Records())

        def show(elapsed: float, records: Records) -> None:
            progress.update(task, completed=elapsed, records=records, refresh=True)

        return trio.run(run_demo, plan, show)


def _print_table(report: Report) -> None:
    from rich.console import Console
    from rich.table import Table

    plan, records = report.plan, report.records
    table = Table(title=f"An echo server for {plan.seconds:g} s")
    table.add_column()
    table.add_column("counted", justify="right")
    table.add_column("expected", justify="right")

    def row(name: str, counted: object, expected: object = "") -> None:
        table.add_row(name, str(counted), str(expected))

    row("connections", records.connections, plan.connections)
    row("messages", records.messages)
    row("request timeouts", records.request_timeouts)
    row("idle closes", records.idle_closes, records.idle_closes_expected)
    row("heartbeats", records.heartbeats, records.heartbeats_expected)
    table.add_section()
    row("timers lost", records.lost, 0)
    row("timers early", records.early, 0)
    row("timers doubled", records.doubled, 0)
    table.add_section()
    for name, milliseconds in records.lateness().items():
        row(f"timers late by, {name}", f"{milliseconds:.3f} ms")
    table.add_section()
    for name, value in attrs.asdict(report.driver).items():
        # What is not a count is a time.
        shown = f"{1000 * value:.3f} ms" if isinstance(value, float) else value
        row(f"driver, {name.replace('_', ' ')}", shown)
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())

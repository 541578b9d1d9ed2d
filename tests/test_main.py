"""``python -m trio_clockrt``: the program, its command line, and how it judges."""

from __future__ import annotations

import json
import runpy
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from math import inf

import pytest
import trio
from trio.testing import (
    MockClock,
    memory_stream_pair,
    memory_stream_pump,
    wait_all_tasks_blocked,
)

from trio_clockrt import DriverStatistics, InactiveClock, open_clock
from trio_clockrt import __main__ as cli
from trio_clockrt._demo import Demo, Heartbeat, IdleRecord, Plan, Records, Report

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

SMALL = ["--connections", "20", "--seconds", "0.5"]


def status_of(args: list[str]) -> object:
    with pytest.raises(SystemExit) as info:
        cli.main(args)
    return info.value.code


# --- the real thing, over real sockets and in real time ---


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*SMALL, "--json"]) == 0
    out, err = capsys.readouterr()
    outcome = json.loads(out)
    assert outcome["plan"] == {"connections": 20, "seconds": 0.5}
    assert outcome["lost"] == outcome["early"] == outcome["doubled"] == 0
    assert outcome["idle_closes"] == outcome["idle_closes_expected"]
    assert outcome["heartbeats"] == outcome["heartbeats_expected"] >= 49
    assert list(outcome["lateness_ms"]) == ["p50", "p99", "max"]
    assert outcome["driver"]["pending"] == 0
    assert err == ""


def test_table_and_progress(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(SMALL) == 0
    out, err = capsys.readouterr()
    for row in (
        "connections",
        "messages",
        "request timeouts",
        "idle closes",
        "heartbeats",
        "timers lost",
        "timers early",
        "timers doubled",
        "timers late by, p99",
        "driver, wakeups",
    ):
        assert row in out
    assert "No idle timer and no heartbeat was lost" in out
    assert "messages" in err


def test_as_a_program(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["trio_clockrt", "--seconds", "0.01", "--json"])
    monkeypatch.delitem(sys.modules, "trio_clockrt.__main__")
    with pytest.raises(SystemExit) as info:
        runpy.run_module("trio_clockrt", run_name="__main__", alter_sys=True)
    assert info.value.code == 0
    assert json.loads(capsys.readouterr().out)["plan"]["seconds"] == 0.01


def test_help() -> None:
    command = [sys.executable, "-m", "trio_clockrt", "--help"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.startswith("usage: python -m trio_clockrt ")
    assert "--connections" in result.stdout


# --- the command line ---


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("--connections", value) for value in ("0", "-1", "1.5", "nan", "many", "")),
        *(("--seconds", value) for value in ("0", "-1", "nan", "inf", "-inf", "soon")),
    ],
)
def test_bad_value(option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of([f"{option}={value}"]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert f"argument {option}: must be a positive" in message
    assert message.endswith(repr(value))


def test_unknown_argument() -> None:
    assert status_of(["--minutes", "5"]) == 2


def test_without_rich(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ["rich", *(name for name in sys.modules if name.startswith("rich."))]:
        monkeypatch.setitem(sys.modules, name, None)
    assert status_of([]) == 2
    assert "pip install rich" in capsys.readouterr().err
    assert cli.main(["--connections", "1", "--seconds", "0.01", "--json"]) == 0


class FakeResource:
    """The module `resource` of a system that allows no more than *cap* descriptors."""

    RLIMIT_NOFILE = 7
    RLIM_INFINITY = -1

    def __init__(self, soft: int, hard: int, cap: int = 10**9) -> None:
        self.limit = (soft, hard)
        self.cap = cap

    def getrlimit(self, resource: int) -> tuple[int, int]:
        assert resource == self.RLIMIT_NOFILE
        return self.limit

    def setrlimit(self, resource: int, limit: tuple[int, int]) -> None:
        assert resource == self.RLIMIT_NOFILE
        assert limit[1] == self.limit[1]
        if limit[0] > self.cap:
            raise ValueError("not allowed to exceed maximum limit")
        self.limit = limit


@pytest.mark.parametrize(
    ("resource", "room"),
    [
        (None, 500),
        (FakeResource(-1, -1), 500),
        (FakeResource(2000, 2000), 500),
        (FakeResource(256, 2000), 500),
        (FakeResource(256, -1), 500),
        (FakeResource(256, -1, cap=256), 96),
        (FakeResource(256, 1000), 468),
        (FakeResource(256, 256), 96),
        (FakeResource(16, 16), 0),
    ],
)
def test_room_for_connections(
    resource: FakeResource | None, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "resource", resource)
    assert cli._room_for_connections(500) == room


def test_too_many_connections(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "resource", FakeResource(256, 1024))
    assert status_of(["--connections", "481"]) == 2
    message = capsys.readouterr().err
    assert "argument --connections: 481 need more file descriptors" in message
    assert "there is room for 480" in message


# --- how it ends ---


def run_instead(
    monkeypatch: pytest.MonkeyPatch, fn: Callable[[], Awaitable[object]]
) -> None:
    async def run_demo(_plan: Plan, _on_progress: object) -> object:
        return await fn()

    monkeypatch.setattr(cli, "run_demo", run_demo)


def report_of(records: Records) -> Report:
    return Report(Plan(), records, DriverStatistics(0, 0, 0, 0, 0, 0.0, 0.0, 0.0))


@pytest.mark.parametrize("args", [[], ["--json"]])
@pytest.mark.parametrize("kind", ["lost", "early", "doubled"])
def test_fault(
    kind: str,
    args: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    records = Records()
    setattr(records, kind, 3)

    async def run() -> Report:
        return report_of(records)

    run_instead(monkeypatch, run)
    assert cli.main(args) == 1
    out, err = capsys.readouterr()
    assert err.endswith(f"timers went wrong: 3 {kind}\n")
    if args:
        assert json.loads(out)[kind] == 3
        assert json.loads(out)["lateness_ms"] == {}
    else:
        assert f"timers {kind}" in out
        assert "late by" not in out


def test_faults_together() -> None:
    assert report_of(Records(lost=1, doubled=2)).faults == "1 lost, 2 doubled"
    assert report_of(Records()).faults == ""


async def interrupt() -> None:
    raise KeyboardInterrupt


async def interrupt_in_nurseries() -> None:
    async with trio.open_nursery() as nursery, trio.open_nursery() as inner:
        nursery.start_soon(interrupt)
        inner.start_soon(interrupt)


async def press_ctrl_c() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("args", [[], ["--json"]])
@pytest.mark.parametrize("fn", [interrupt, interrupt_in_nurseries, press_ctrl_c])
def test_interrupt(
    fn: Callable[[], Awaitable[None]],
    args: list[str],
    ctrl_c: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_instead(monkeypatch, fn)
    assert cli.main(args) == 130
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith("interrupted\n")
    assert "Traceback" not in err


def test_other_errors_come_out(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail() -> None:
        raise OSError("no such luck")

    async def fail_interrupted() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(interrupt)
            nursery.start_soon(fail)

    run_instead(monkeypatch, fail)
    with pytest.raises(OSError, match="no such luck"):
        cli.main(["--json"])
    run_instead(monkeypatch, fail_interrupted)
    with pytest.raises(BaseExceptionGroup):
        cli.main(["--json"])


# --- judging ---


@pytest.fixture
def records() -> Records:
    return Records()


@pytest.fixture
def idle(records: Records) -> IdleRecord:
    """Of a connection that may be silent for ten seconds, set at instant 100."""
    idle = IdleRecord(records, 10)
    idle.armed(100, 110, 100)
    return idle


def faults(records: Records) -> tuple[int, int, int]:
    return records.lost, records.early, records.doubled


def test_fired_as_it_should(records: Records, idle: IdleRecord) -> None:
    idle.fired(110)
    idle.cancelled()
    assert faults(records) == (0, 0, 0)
    assert records.idle_closes_expected == 1
    assert records.lateness() == {"p50": 0, "p99": 0, "max": 0}


def test_late_is_no_fault(records: Records, idle: IdleRecord) -> None:
    other = IdleRecord(records, 10)
    other.armed(103, 113, 103)
    idle.fired(10_000)
    other.fired(10_000)
    assert faults(records) == (0, 0, 0)
    assert records.idle_closes_expected == 2
    assert records.lateness()["max"] == 9_890_000


def test_reset_as_it_should(records: Records, idle: IdleRecord) -> None:
    idle.armed(105, 115, 105)
    records.driven_to(112)
    idle.fired(115)
    assert faults(records) == (0, 0, 0)
    assert records.idle_closes_expected == 1


def test_saved_by_a_message_after_the_deadline(
    records: Records, idle: IdleRecord
) -> None:
    records.driven_to(110)
    idle.armed(200, 210, 200)
    idle.cancelled()
    records.driven_to(inf)
    assert faults(records) == (0, 0, 0)
    assert records.idle_closes_expected == 0


def test_early(records: Records, idle: IdleRecord) -> None:
    idle.fired(109.999)
    assert faults(records) == (0, 1, 0)
    assert records.idle_closes_expected == 0


def test_early_does_not_make_others_lost(records: Records, idle: IdleRecord) -> None:
    other = IdleRecord(records, 10)
    other.armed(103, 113, 103)
    other.fired(109)
    idle.fired(110)
    assert faults(records) == (0, 1, 0)


def test_doubled(records: Records, idle: IdleRecord) -> None:
    idle.fired(110)
    idle.fired(110)
    assert faults(records) == (0, 0, 1)
    assert records.idle_closes_expected == 1


def test_fired_after_it_was_cancelled(records: Records, idle: IdleRecord) -> None:
    idle.cancelled()
    idle.fired(110)
    assert faults(records) == (0, 0, 1)
    assert records.idle_closes_expected == 0


@pytest.mark.parametrize("then", ["cancelled", "armed"])
def test_lost(then: str, records: Records, idle: IdleRecord) -> None:
    records.driven_to(110.001)
    if then == "cancelled":
        idle.cancelled()
    else:
        idle.armed(111, 121, 111)
    assert faults(records) == (1, 0, 0)
    assert records.idle_closes_expected == 1


def test_lost_as_another_timer_shows(records: Records, idle: IdleRecord) -> None:
    other = IdleRecord(records, 10)
    other.armed(103, 113, 103)
    other.fired(120)
    idle.cancelled()
    assert faults(records) == (1, 0, 0)


def test_overtaken(records: Records, idle: IdleRecord) -> None:
    records.driven_to(111)
    idle.fired(111)
    assert faults(records) == (1, 0, 0)
    assert records.idle_closes_expected == 1


def test_timer_that_says_too_early_a_deadline(records: Records) -> None:
    idle = IdleRecord(records, 10)
    idle.armed(100, 105, 100.5)
    idle.fired(105)
    assert faults(records) == (0, 1, 0)


def test_timer_that_says_too_late_a_deadline(records: Records) -> None:
    idle = IdleRecord(records, 10)
    idle.armed(100, 115, 100.5)
    records.driven_to(111)
    idle.fired(115)
    assert faults(records) == (1, 0, 0)


@pytest.mark.parametrize(
    ("now", "beats", "expected", "lost", "doubled"),
    [
        (100.4, 0, 0, 0, 0),
        (101, 1, 1, 0, 0),
        (103.9, 3, 3, 0, 0),
        (103.9, 1, 3, 2, 0),
        (103.9, 4, 3, 0, 1),
    ],
)
def test_heartbeats(
    now: float, beats: int, expected: int, lost: int, doubled: int, records: Records
) -> None:
    records.heartbeats = beats
    records.judge_heartbeats(101, 1, now)
    assert records.heartbeats_expected == expected
    assert faults(records) == (lost, 0, doubled)


def test_lateness(records: Records) -> None:
    for n in range(101):
        records.fired(100, 100 + n / 1000)
    lateness = records.lateness()
    assert lateness == pytest.approx({"p50": 50, "p99": 99, "max": 100})


# --- the parts of the program, in virtual time ---


@pytest.fixture
async def demo(autojump_clock: MockClock, records: Records) -> AsyncIterator[Demo]:
    async with open_clock() as clock, clock.open_timers(on_exit="cancel") as timers:
        yield Demo(clock, timers, Plan(seconds=50), records)


async def test_server_closes_the_silent(demo: Demo, autojump_clock: MockClock) -> None:
    server, client = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(demo.serve, server)
        for _ in range(3):
            await trio.sleep(7)
            await client.send_all(b"hello")
            assert await client.receive_some() == b"hello"
        start = trio.current_time()
    assert trio.current_time() == start + 10
    records = demo.records
    assert faults(records) == (0, 0, 0)
    assert records.messages == 3
    assert records.idle_closes == records.idle_closes_expected == 1
    assert records.lateness()["max"] == 0


@pytest.mark.parametrize("waits", [True, False])
async def test_client_hangs_up(
    waits: bool, demo: Demo, autojump_clock: MockClock
) -> None:
    server, client = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(demo.serve, server)
        await client.send_all(b"hello")
        if waits:
            assert await client.receive_some() == b"hello"
        await client.aclose()
    await trio.sleep(100)
    records = demo.records
    assert faults(records) == (0, 0, 0)
    assert records.idle_closes == records.idle_closes_expected == 0


async def test_message_just_before_the_idle_timer_fires(
    records: Records, mock_clock: MockClock
) -> None:
    server, client = memory_stream_pair()
    async with InactiveClock().activate() as (clock, driver):
        async with clock.open_timers() as timers, trio.open_nursery() as nursery:
            demo = Demo(clock, timers, Plan(seconds=50), records)

            async def deliver_too_late() -> None:
                memory_stream_pump(client.send_stream, server.receive_stream)
                mock_clock.jump(10)
                driver.advance_timers()

            client.send_stream.send_all_hook = deliver_too_late
            nursery.start_soon(demo.serve, server)
            await wait_all_tasks_blocked()
            await client.send_all(b"hello")
    assert faults(records) == (0, 0, 0)
    assert records.messages == 0
    assert records.idle_closes == records.idle_closes_expected == 1


@pytest.mark.parametrize("fall_silent", [True, False])
async def test_client_talks_until_it_does_not(
    fall_silent: bool, demo: Demo, autojump_clock: MockClock
) -> None:
    server, client = memory_stream_pair()

    async def serve() -> None:
        async with server:
            await demo.serve(server)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        async with client:
            await demo.talk(client, 30, fall_silent=fall_silent)
    records = demo.records
    assert faults(records) == (0, 0, 0)
    assert 30 / 7 <= records.messages <= 30 / 3 + 1
    assert records.request_timeouts == 0
    assert records.idle_closes == records.idle_closes_expected == fall_silent


async def test_request_times_out(demo: Demo, autojump_clock: MockClock) -> None:
    client, _server = memory_stream_pair()
    await demo.talk(client, inf, fall_silent=False)
    assert trio.current_time() == demo.plan.idle
    assert demo.records.request_timeouts == 1


@pytest.mark.parametrize("receives", [True, False])
async def test_server_is_gone(
    receives: bool, demo: Demo, autojump_clock: MockClock
) -> None:
    client, server = memory_stream_pair()
    if receives:
        await server.send_stream.aclose()
    else:
        await server.aclose()
    await demo.talk(client, inf, fall_silent=False)
    assert demo.records.request_timeouts == 0


async def test_heartbeat_catches_up(
    records: Records, autojump_clock: MockClock
) -> None:
    async with open_clock() as clock, clock.open_timers(on_exit="cancel") as timers:
        heartbeat = Heartbeat(clock, records, 1)
        heartbeat.start(timers)
        await clock.delay(2.5)
        autojump_clock.jump(10)
        await heartbeat.stop()
        assert clock.instant() == 13.5
        assert records.heartbeats == records.heartbeats_expected == 13
        assert faults(records) == (0, 0, 0)
        await clock.delay(10)
    assert records.heartbeats == 13


async def test_heartbeat_is_lost(records: Records, autojump_clock: MockClock) -> None:
    async with open_clock() as clock, clock.open_timers(on_exit="cancel") as timers:
        heartbeat = Heartbeat(clock, records, 1)
        heartbeat.start(timers)
        await clock.delay(2.5)
        timers.cancel_timers()
        autojump_clock.jump(10)
        await heartbeat.stop()
    assert faults(records) == (records.heartbeats_expected - 2, 0, 0)

"""`ClockControl.patch_stdlib()`, and what freezegun does."""

from __future__ import annotations

import asyncio
import datetime
import email.utils
import gzip
import http.cookiejar
import http.cookies
import imaplib
import io
import logging
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import uuid
import xmlrpc.client
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from operator import methodcaller
from pathlib import Path
from time import asctime as imported_asctime
from time import ctime as imported_ctime
from time import time as imported_before
from types import FrameType
from typing import Any

import pytest
import time_machine
import trio
import trio.testing
from freezegun import freeze_time

from trio_clockrt import InactiveClock, SimpleClock, open_clock
from trio_clockrt.testing import ClockControl
from trio_clockrt.testing._stdlib import StdlibPatch

UTC = datetime.timezone.utc
Y2K = datetime.datetime(2000, 1, 1, tzinfo=UTC)
SECONDS = int(Y2K.timestamp())


@pytest.fixture(autouse=True)
def _undone() -> Iterator[None]:
    yield
    assert not time_machine.escape_hatch.is_travelling()
    assert time.time() > 1.7e9


def now() -> datetime.datetime:
    return datetime.datetime.now(UTC)


def passed() -> float:
    """Since the year 2000, as the standard library sees it."""
    return time.time() - SECONDS


# --- it follows ---


def test_whatever_tells_the_time() -> None:
    control = ClockControl(Y2K)
    control.jump(1.000001002)
    with control.patch_stdlib():
        for _ in range(2):
            assert now() == Y2K + timedelta(microseconds=1_000_001)
            assert datetime.datetime.now().astimezone() == now()
            assert datetime.date.today() == datetime.datetime.now().date()
            assert time.time_ns() == SECONDS * 10**9 + 1_000_001_002
            assert time.time() == imported_before() == time.time_ns() / 10**9
            assert time.gmtime() == time.gmtime(SECONDS + 1)
            assert time.localtime() == time.localtime(SECONDS + 1)
            assert time.strftime("%c") == time.strftime("%c", time.localtime())
            # It counts from the beginning of the Gregorian calendar.
            ticks = uuid.uuid1().time - 0x01B21DD213814000
            assert ticks // 10**7 == SECONDS + 1
            assert SimpleClock.system().system_time() == now()


@pytest.mark.skipif(sys.platform == "win32", reason="is not there")
def test_what_only_posix_has() -> None:
    with ClockControl(Y2K).patch_stdlib():
        assert time.clock_gettime(time.CLOCK_REALTIME) == SECONDS
        assert time.clock_gettime(time.CLOCK_MONOTONIC) != SECONDS


def test_every_way_to_move_it() -> None:
    control = ClockControl(Y2K)
    with control.patch_stdlib():
        control.jump(1)
        assert passed() == 1
        control.set_time(Y2K + timedelta(seconds=10))
        assert passed() == 10
        control.set_time(Y2K)
        assert passed() == 0
        control.adjust_system_time(-5)
        assert passed() == -5
        thread = threading.Thread(target=control.jump, args=[1])
        thread.start()
        thread.join()
        assert passed() == -4


def test_a_rate() -> None:
    real = 0.0
    control = ClockControl(Y2K, rate=2)
    control._real_clock = lambda: real
    control.set_time(Y2K)
    with control.patch_stdlib():
        start = time.time_ns()
        real += 0.25
        assert time.time_ns() == start + 500_000_000
        control.rate = 4
        real += 0.25
        assert time.time_ns() == start + 1_500_000_000


def test_other_threads_see_it() -> None:
    seen: list[datetime.datetime] = []
    with ClockControl(Y2K).patch_stdlib():
        thread = threading.Thread(target=lambda: seen.append(now()))
        thread.start()
        thread.join()
    assert seen == [Y2K]


def test_in_a_run() -> None:
    async def main() -> None:
        with control.patch_stdlib():
            async with open_clock() as clock:
                await trio.sleep(86400)
                assert now() == clock.system_time() == Y2K + timedelta(days=1)
                await clock.delay(86400)
                assert now() == clock.system_time() == Y2K + timedelta(days=2)
                async with clock.open_timers() as timers:
                    timers.call_later(0.5, lambda: seen.append(passed()))
        assert now() > Y2K + timedelta(days=7000)

    seen: list[float] = []
    control = ClockControl(Y2K, autojump_threshold=0)
    trio.run(main, clock=control)
    assert seen == [2 * 86400 + 0.5]


def test_around_a_run() -> None:
    async def main() -> None:
        await trio.sleep(10)
        assert passed() == 10

    control = ClockControl(Y2K, autojump_threshold=0)
    with control.patch_stdlib():
        trio.run(main, clock=control)
        assert passed() == 10


def test_around_a_run_in_real_time() -> None:
    """Neither Trio's clock nor the system's instants notice."""

    async def main() -> None:
        async with open_clock() as clock:
            watch, simple = clock.stopwatch(), SimpleClock.system().stopwatch()
            await clock.delay(0.01)
            await trio.sleep(0.01)
            assert watch.elapsed() >= 0.02
            assert 0 < simple.elapsed() < 1000
            assert clock.system_time() == Y2K

    with ClockControl(Y2K).patch_stdlib():
        trio.run(main)


def test_what_is_monotonic_stays_real() -> None:
    before = time.monotonic(), time.perf_counter()
    with ClockControl(Y2K).patch_stdlib() as nothing:
        assert nothing is None
        assert 0 <= time.monotonic() - before[0] < 1000
        assert 0 <= time.perf_counter() - before[1] < 1000


def test_the_local_timezone_stays() -> None:
    before = time.tzname, time.localtime(0)
    with ClockControl(Y2K).patch_stdlib():
        assert (time.tzname, time.localtime(0)) == before


@pytest.mark.parametrize("seconds", [1e12, -1e12])
def test_what_no_datetime_can_hold(seconds: float) -> None:
    control = ClockControl()
    control.adjust_system_time(seconds)
    with control.patch_stdlib():
        assert time.time() == seconds
        with pytest.raises((ValueError, OverflowError)):
            now()
        control.adjust_system_time(-seconds)
        assert time.time() == 0


def test_before_1970() -> None:
    control = ClockControl()
    control.adjust_system_time(-0.75)
    with control.patch_stdlib():
        assert time.time() == -0.75
        assert now().isoformat() == "1969-12-31T23:59:59.250000+00:00"


# --- what follows, and what stays real ---

NOON = Y2K + timedelta(hours=12)  # which is in the year 2000 in every timezone


def record() -> logging.LogRecord:
    return logging.LogRecord("name", logging.INFO, "path", 1, "message", (), None)


def in_zip() -> int:
    archive = zipfile.ZipFile(io.BytesIO(), "w")
    archive.writestr("name", "content")
    return archive.infolist()[0].date_time[0]


def in_gzip() -> float:
    file = io.BytesIO()
    with gzip.GzipFile(fileobj=file, mode="wb") as packed:
        packed.write(b"content")
    with gzip.GzipFile(fileobj=io.BytesIO(file.getvalue())) as unpacked:
        unpacked.read()
        assert unpacked.mtime is not None
        return float(unpacked.mtime)


def is_expired(at: datetime.datetime) -> bool:
    cookie: Any = http.cookiejar.Cookie(
        0, "a", "b", None, False, "", True, False, "/", True, False,
        int(at.timestamp()), False, None, None, {},
    )  # fmt: skip
    return bool(cookie.is_expired())


def ticks_of(made: uuid.UUID) -> datetime.datetime:
    """Those of the Gregorian calendar."""
    return datetime.datetime(1582, 10, 15, tzinfo=UTC) + timedelta(
        microseconds=made.time // 10
    )


class Subclass(datetime.datetime): ...


FOLLOWS: dict[str, Callable[[], Any]] = {
    "time.ctime": lambda: time.ctime(),
    "time.ctime(None)": lambda: time.ctime(None),
    "time.asctime": lambda: time.asctime(),
    "time.strftime": lambda: time.strftime("%Y"),
    "time.localtime": lambda: time.localtime(),
    "time.gmtime": lambda: time.gmtime(),
    "time.time": time.time,
    "time.time_ns": lambda: time.time_ns() / 10**9,
    "datetime.today": datetime.datetime.today,
    # (Not as an attribute, which is deprecated.)
    "datetime.utcnow": lambda: methodcaller("utcnow")(datetime.datetime),
    "datetime.now of a subclass": lambda: Subclass.now(),
    "date.today": datetime.date.today,
    "email.utils.formatdate": lambda: email.utils.formatdate()[5:],
    "email.utils.localtime": email.utils.localtime,
    "email.utils.make_msgid": lambda: (
        int(email.utils.make_msgid()[1:].partition(".")[0]) / 100
    ),
    "logging's created": lambda: record().created,
    "logging's asctime": lambda: logging.Formatter("%(asctime)s").format(record()),
    "uuid.uuid1": lambda: ticks_of(uuid.uuid1()),
    "zipfile": in_zip,
    "gzip": in_gzip,
    "http.cookies": lambda: http.cookies.Morsel.OutputString(morsel())[-24:],
    "imaplib": lambda: imaplib.Time2Internaldate(time.time())[8:],
    "xmlrpc": lambda: str(xmlrpc.client.DateTime()),
}
if sys.version_info >= (3, 14):
    FOLLOWS["uuid.uuid7"] = lambda: uuid.uuid7().time / 1000


def morsel() -> http.cookies.Morsel[str]:
    cookie = http.cookies.SimpleCookie({"a": "b"})
    cookie["a"]["expires"] = 1
    return cookie["a"]


def year(told: Any) -> int:
    if isinstance(told, time.struct_time):
        return told.tm_year
    if isinstance(told, str):
        return int(re.findall(r"\d{4}", told)[-1 if told[0].isalpha() else 0])
    if isinstance(told, float):
        told = time.gmtime(told).tm_year
    return told if isinstance(told, int) else told.year


@pytest.mark.parametrize("name", FOLLOWS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_follows(name: str) -> None:
    with ClockControl(NOON).patch_stdlib():
        assert year(FOLLOWS[name]()) == 2000
    assert year(FOLLOWS[name]()) > 2020


def test_whether_cookies_are_expired() -> None:
    with ClockControl(NOON).patch_stdlib():
        assert is_expired(NOON - timedelta(seconds=1))
        assert not is_expired(NOON + timedelta(seconds=1))


def in_sqlite(what: str) -> str:
    with closing(sqlite3.connect(":memory:")) as connection:
        return str(connection.execute(f"select {what}").fetchone()[0])


def touched() -> float:
    with tempfile.NamedTemporaryFile() as file:
        os.utime(file.name, (0, 0))
        os.utime(file.name)
        return os.stat(file.name).st_mtime


def written() -> float:
    with tempfile.NamedTemporaryFile() as file:
        return os.stat(file.name).st_mtime


# By what the documentation calls them.
STAYS_REAL: dict[str, Callable[[], Any]] = {
    "os.stat": written,
    "os.utime": touched,
    "CURRENT_TIMESTAMP": lambda: in_sqlite("CURRENT_TIMESTAMP"),
    "datetime('now')": lambda: in_sqlite("datetime('now')"),
    "from time import ctime": imported_ctime,
    "Other processes": lambda: (
        subprocess.run(
            [sys.executable, "-c", "import time; print(time.ctime())"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    ),
}
if sys.platform == "linux":
    STAYS_REAL["CLOCK_TAI"] = lambda: time.clock_gettime(time.CLOCK_TAI)

# These count from anywhere.
STAYS_MONOTONIC: dict[str, Callable[[], float]] = {
    "time.monotonic": time.monotonic,
    "time.perf_counter": time.perf_counter,
    "os.times": lambda: os.times().elapsed,
    "time.process_time": time.process_time,
    "asyncio": lambda: run_in_asyncio(),
}


def run_in_asyncio() -> float:
    async def main() -> float:
        return asyncio.get_running_loop().time()

    return asyncio.run(main())


@pytest.fixture(scope="module")
def documented() -> str:
    docs = Path(__file__).parent.parent / "docs" / "testing.rst"
    return docs.read_text().partition("What stays real\n----")[2]


@pytest.mark.parametrize("name", STAYS_REAL)
def test_what_stays_real(name: str, documented: str) -> None:
    assert name in documented
    with ClockControl(NOON).patch_stdlib():
        assert year(STAYS_REAL[name]()) > 2020


@pytest.mark.parametrize("name", STAYS_MONOTONIC)
def test_what_only_counts(name: str, documented: str) -> None:
    assert name in documented
    control = ClockControl(NOON)
    with control.patch_stdlib():
        before = STAYS_MONOTONIC[name]()
        control.jump(1e6)
        assert before <= STAYS_MONOTONIC[name]() < before + 1000


# --- the two that time-machine leaves out ---


def test_their_arguments() -> None:
    then = time.gmtime(0)
    with ClockControl(NOON).patch_stdlib():
        assert time.ctime(0) == imported_ctime(0)
        assert time.asctime(then) == imported_asctime(then)
        assert time.asctime(then) == "Thu Jan  1 00:00:00 1970"
        mistakes: list[tuple[Any, ...]] = [
            (time.ctime, "0"),
            (time.ctime, 0, 0),
            (time.asctime, None),
            (time.asctime, then, then),
        ]
        for fn, *args in mistakes:
            with pytest.raises(TypeError):
                fn(*args)


def test_what_was_there_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def others(*_: object) -> str:
        return "other"

    before = time.ctime, time.asctime
    control, other = ClockControl(NOON), ClockControl()
    first, second = control.patch_stdlib(), other.patch_stdlib()
    first.__enter__()
    second.__enter__()
    assert year(time.ctime()) == year(time.asctime()) == 1970
    first.__exit__(None, None, None)
    assert year(time.ctime()) == year(time.asctime()) == 1970
    second.__exit__(None, None, None)
    assert (time.ctime, time.asctime) == before

    monkeypatch.setattr(time, "ctime", others)
    with control.patch_stdlib():
        assert time.ctime() == "other"
    assert time.ctime is others


def test_other_code_replaces_them_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    with ClockControl(NOON).patch_stdlib():
        kept = time.ctime
        monkeypatch.setattr(time, "ctime", str)
    assert time.ctime is str
    monkeypatch.undo()
    assert time.ctime is kept
    assert year(kept()) == year(time.ctime()) > 2020
    with ClockControl(NOON).patch_stdlib():
        assert year(kept()) == year(time.ctime()) == 2000
    assert time.ctime is imported_ctime


def test_in_several_threads() -> None:
    def use() -> None:
        barrier.wait()
        for _ in range(100):
            with ClockControl(NOON).patch_stdlib():
                assert year(time.ctime()) == year(time.asctime()) == 2000
        done.append(None)

    before = time.ctime, time.asctime
    done: list[None] = []
    barrier = threading.Barrier(4)
    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 4
    assert (time.ctime, time.asctime) == before


def test_another_thread_asks_as_a_block_begins_and_ends() -> None:
    """At each line it may do so."""

    def trace(frame: FrameType, event: str, arg: object) -> Any:
        seen.append(imported_before())
        return trace

    seen: list[float] = []
    control = ClockControl(NOON)
    with control.patch_stdlib():
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            with control.patch_stdlib():
                pass
        finally:
            sys.settrace(before)
    assert len(seen) > 10
    assert {*seen} == {NOON.timestamp()}


# --- blocks ---


def test_an_exception_leaves() -> None:
    with pytest.raises(ZeroDivisionError), ClockControl(Y2K).patch_stdlib():
        raise ZeroDivisionError


def test_nested() -> None:
    control, other = ClockControl(Y2K), ClockControl()
    with control.patch_stdlib():
        with other.patch_stdlib(), other.patch_stdlib():
            control.jump(5)
            assert time.time() == 0
        assert passed() == 5
        with time_machine.travel(1000, tick=False):
            assert time.time() == 1000
            with other.patch_stdlib():
                assert time.time() == 0
            assert time.time() == 1000
        assert passed() == 5


def test_overlapping() -> None:
    control, other = ClockControl(Y2K), ClockControl()
    first, second = control.patch_stdlib(), other.patch_stdlib()
    first.__enter__()
    second.__enter__()
    assert time.time() == 0
    first.__exit__(None, None, None)
    assert time.time() == 0
    second.__exit__(None, None, None)


def test_a_block_is_opened_once() -> None:
    block = ClockControl(Y2K).patch_stdlib()
    with block:
        with pytest.raises(RuntimeError, match="entered already"):
            block.__enter__()
        assert passed() == 0


def test_it_is_no_decorator() -> None:
    with pytest.raises(TypeError, match=r"no decorator: `with control\.patch"):

        @ClockControl().patch_stdlib()  # type: ignore[operator]
        def test() -> None: ...


def test_a_thread_that_asks_too_late() -> None:
    patch = ClockControl(Y2K).patch_stdlib()
    assert isinstance(patch, StdlibPatch)
    with patch:
        ask = patch._time_ns
    assert ask() == SECONDS * 10**9


def test_without_time_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "time_machine", None)
    with pytest.raises(
        ImportError,
        match=r"needs time-machine.*`pip install 'time-machine >= 3.4, < 4'`",
    ):
        ClockControl().patch_stdlib()


# --- freezegun ---


def test_freezegun_would_hide_it() -> None:
    with freeze_time("2020-01-01"):
        with pytest.raises(RuntimeError, match="freeze_time is under way"):
            ClockControl().patch_stdlib()


def test_freezegun_does_not_stop_a_control() -> None:
    with freeze_time("2020-01-01"):
        trio.run(trio.sleep, 1000, clock=ClockControl(autojump_threshold=0))
        trio.run(trio.sleep, 1000, clock=ClockControl(autojump_threshold=0.001))
        trio.run(trio.sleep, 10, clock=ClockControl(rate=1000))


def test_a_control_takes_its_datetimes() -> None:
    async def main() -> None:
        async with open_clock() as clock:
            await clock.delay(3600)
            assert clock.system_time().isoformat() == "2000-01-01T01:00:00+00:00"
            control.set_time(now())
            assert clock.system_time() == now()

    with freeze_time("2020-01-01"):
        at = datetime.datetime(2000, 1, 1, tzinfo=UTC)
        control = ClockControl(at, autojump_threshold=0)
        trio.run(main, clock=control)


def test_freezegun_stops_the_system_s_wall_clock_only() -> None:
    simple = SimpleClock.system()
    clock, _driver = InactiveClock().activate_manual()
    before = time.monotonic()
    with freeze_time("2020-01-01"), clock:
        assert simple.system_time() == clock.system_time() == now()
        instants = simple.instant(), clock.instant()
    assert before <= min(instants) <= max(instants) <= time.monotonic()


async def delay() -> None:
    async with open_clock() as clock:
        await clock.delay(0.001)


def test_a_run_that_freezegun_has_stopped() -> None:
    with freeze_time("2020-01-01"):
        with pytest.raises(RuntimeError) as caught:
            trio.run(delay)
    message = str(caught.value)
    assert "freezegun has stopped the clock of this Trio run" in message
    assert "patch_stdlib()" in message
    assert 'ignore=["trio."]' in message


async def test_a_run_that_freezegun_stops_in_its_middle() -> None:
    with freeze_time("2020-01-01"):
        with pytest.raises(RuntimeError, match="freezegun has stopped"):
            await delay()
    recipe = InactiveClock()
    with freeze_time("2020-01-01"):
        with pytest.raises(RuntimeError, match="freezegun has stopped"):
            await recipe.activate().__aenter__()
    async with recipe.activate() as (clock, _):
        await clock.delay(0.001)


@pytest.mark.parametrize(
    "control", [ClockControl(autojump_threshold=0), ClockControl(rate=1000)]
)
def test_freezing_that_begins_under_a_control(control: ClockControl) -> None:
    async def main() -> None:
        async with open_clock() as clock, clock.open_timers() as timers:
            start = clock.instant()
            with freeze_time("2020-01-01"), control.fail_after_real(10):
                timers.call_later(2, log.append, "timer")
                await clock.delay(1)
                await trio.sleep(2)
                assert start + 3 <= clock.instant() < start + 1e6
        assert log == ["timer"]

    log: list[str] = []
    trio.run(main, clock=control)


def test_freezing_that_begins_without_trio() -> None:
    log: list[int] = []
    clock, driver = InactiveClock().activate_manual()
    with clock, clock.timer_group() as timers:
        timers.call_later(60, log.append, 60)
        with freeze_time("2020-01-01"):
            timers.call_later(0.001, log.append, 0)
            while not log:
                driver.advance_timers()
    assert log == [0]


async def test_when_freezing_that_has_begun_in_a_run_is_over() -> None:
    """Trio's own time leaps and stands still meanwhile, and so does the clock's."""
    async with open_clock() as clock:
        before = clock.instant()
        with freeze_time("2020-01-01"):
            assert clock.instant() == trio.current_time() == clock.instant()
        await clock.delay(0.001)
        assert before < clock.instant() < before + 1e6


def test_the_ways_to_keep_it_from_that() -> None:
    with freeze_time("2020-01-01", ignore=["trio."]):
        trio.run(delay)
        assert now().year == 2020
    with freeze_time("2020-01-01", tick=True):
        trio.run(delay)
    with freeze_time("2020-01-01", auto_tick_seconds=0.001):
        trio.run(delay)


def test_a_mock_clock_may_stand_still() -> None:
    with freeze_time("2020-01-01"):
        trio.run(delay, clock=trio.testing.MockClock(autojump_threshold=0))

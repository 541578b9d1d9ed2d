"""`ClockControl` as the clock of a Trio run."""

from __future__ import annotations

import datetime
import re
import socket
import threading
import weakref
from collections.abc import Callable
from math import inf, nan
from typing import Any

import outcome
import pytest
import trio
import trio.lowlevel
import trio.testing
from hand_moved_time import HandMovedTime

from trio_clockrt import open_clock
from trio_clockrt.testing import ClockControl

UTC = datetime.timezone.utc
Y2K = datetime.datetime(2000, 1, 1, tzinfo=UTC)


def jumping(**kwargs: Any) -> ClockControl:
    return ClockControl(autojump_threshold=0, **kwargs)


@pytest.fixture
def real() -> HandMovedTime:
    return HandMovedTime()


# --- moving it by hand ---


def test_it_stands_still_unless_somebody_moves_it(real: HandMovedTime) -> None:
    control = ClockControl()
    control._real_clock = real
    assert control.current_time() == 0.0
    real.now += 10
    assert control.current_time() == 0.0
    control.jump(1.5)
    control.jump(datetime.timedelta(seconds=2))
    assert control.current_time() == 3.5
    assert repr(control) == f"<ClockControl, instant 3.500000, seed {control.seed}>"


def test_what_is_added_up_is_exact() -> None:
    control = ClockControl()
    for _ in range(10):
        control.jump(0.1)
    assert control.current_time() == 1.0
    for _ in range(1000):
        control.jump(1e-9)
    assert control.current_time() == 1.000001


def test_rate(real: HandMovedTime) -> None:
    control = ClockControl()
    control._real_clock = real
    control.rate = 2
    real.now += 10
    assert control.current_time() == 20
    assert control.deadline_to_sleep_time(30) == 5
    assert control.deadline_to_sleep_time(20) == 0
    control.rate = 0.5
    assert control.current_time() == 20
    real.now += 10
    control.jump(5)
    assert control.current_time() == 30
    control.rate = 0
    real.now += 10
    assert control.current_time() == 30
    assert control.deadline_to_sleep_time(30.1) == inf


def test_less_than_a_nanosecond_at_another_rate(real: HandMovedTime) -> None:
    control = ClockControl()
    control._real_clock = real
    control.rate = 1e-9
    real.now += 0.5
    control.rate = 1000
    assert control.current_time() == 0
    real.now += 0.5
    assert control.current_time() == 500


def test_it_never_goes_back(real: HandMovedTime) -> None:
    control = ClockControl(rate=1)
    control._real_clock = real
    control.rate = 1
    now = control.current_time()
    real.now -= 1
    assert control.current_time() == now
    control.rate = 3
    assert control.current_time() == now


async def sleep_until(log: list[float], *instants: float) -> None:
    for instant in instants:
        await trio.sleep_until(instant)
        log.append(trio.current_time())


def test_a_leap_wakes_all_at_once() -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for instant in (1, 2, 3):
                nursery.start_soon(sleep_until, log, instant)
            await trio.testing.wait_all_tasks_blocked()
            control.jump(2)
            await trio.testing.wait_all_tasks_blocked()
            assert log == [2, 2]
            control.jump(1)

    log: list[float] = []
    control = ClockControl()
    trio.run(main, clock=control)
    assert log == [2, 2, 3]


# --- jumping ---


def test_a_jump_arrives_at_the_very_deadline() -> None:
    # None of these is a whole number of nanoseconds, and some are far apart.
    instants = [0.1 + 0.2, 1 / 3, 1.1, 2**0.5, 1e6 / 7, 1e9 / 7, 315e6 + 1 / 3]
    instants.sort()
    log: list[float] = []
    control = jumping()
    trio.run(sleep_until, log, *instants, clock=control)
    assert log == instants
    assert control.current_time() == instants[-1]


def test_ten_years_of_ticks() -> None:
    async def main() -> int:
        async with open_clock() as clock:
            ticks = clock.periodic(86400 + 1 / 3)
            count = 0
            while clock.instant() < 3.2e8:
                await ticks.__anext__()
                await trio.sleep(0.1)
                count += 1
            return count

    assert trio.run(main, clock=jumping()) == 3704


def test_two_deadlines_within_a_nanosecond() -> None:
    log: list[float] = []
    control = jumping()
    instants = [1.2e-9, 1.3e-9, 23.86181640671566, 23.861816406730213, 1e6, 1e6 + 2e-10]
    trio.run(sleep_until, log, *instants, clock=control)
    assert log == instants


def test_what_is_added_after_a_jump_is_enough() -> None:
    async def main() -> None:
        for n in range(1, 1000):
            await trio.sleep_until(n / 3)
            with trio.move_on_after(0.1) as scope:
                control.jump(0.1)
                await trio.lowlevel.checkpoint()
            assert scope.cancelled_caught

    control = jumping()
    trio.run(main, clock=control)


def test_what_is_added_after_a_jump() -> None:
    async def main() -> None:
        await trio.sleep_until(1 / 3)
        control.jump(0)
        assert control.current_time() == 1 / 3
        control.jump(1)
        assert control.current_time() == pytest.approx(4 / 3, abs=1e-9)
        assert control.current_time() > 1 / 3

    control = jumping()
    trio.run(main, clock=control)


def test_instants_have_no_bound() -> None:
    async def main() -> None:
        await trio.sleep_until(1e12)
        await trio.sleep_until(1e300)
        with trio.move_on_after(inf):
            await trio.lowlevel.checkpoint()

    control = jumping()
    trio.run(main, clock=control)
    assert control.current_time() == 1e300
    with pytest.raises(OverflowError, match="no datetime can hold"):
        control.to_simple_clock().system_time()


def test_timers_and_trio_s_own_deadlines_in_one_order() -> None:
    async def main() -> None:
        async with open_clock() as clock, trio.open_nursery() as nursery:
            nursery.start_soon(sleep_until, log, 1, 3, 5)
            async with clock.open_timers() as timers:
                for instant in (2, 4, 6):
                    timers.call_at(instant, lambda: log.append(clock.instant()))

    log: list[float] = []
    trio.run(main, clock=jumping())
    assert log == [1, 2, 3, 4, 5, 6]


def test_waiting_for_idleness_comes_first() -> None:
    async def wait_all_tasks_blocked(cushion: float) -> None:
        await trio.testing.wait_all_tasks_blocked(cushion)
        log.append(trio.current_time())

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sleep_until, log, 1)
            nursery.start_soon(wait_all_tasks_blocked, 0)
            nursery.start_soon(wait_all_tasks_blocked, 0.001)

    log: list[float] = []
    trio.run(main, clock=jumping())
    assert log == [0, 0, 1]


def test_it_does_not_jump_before_the_threshold() -> None:
    async def main() -> None:
        started = control._real_time()
        await trio.sleep(1000)
        assert control._real_time() >= started + 0.02
        assert control.current_time() == 1000

    control = ClockControl(autojump_threshold=0.02)
    trio.run(main, clock=control)


def test_the_threshold_is_no_limit() -> None:
    async def main() -> None:
        await trio.sleep(10)  # a hundredth of a real second

    control = ClockControl(rate=1000, autojump_threshold=60)
    trio.run(main, clock=control)
    assert 10 <= control.current_time() < 1000


def test_it_jumps_although_time_goes_on(real: HandMovedTime) -> None:
    control = jumping()
    control._real_clock = real
    control.rate = 1
    trio.run(trio.sleep_until, 1000, clock=control)
    assert control.current_time() == 1000
    real.now += 1
    assert control.current_time() == 1001


def test_the_threshold_changes_while_the_run_waits() -> None:
    async def main() -> None:
        control.autojump_threshold = 10_000
        await trio.testing.wait_all_tasks_blocked()
        control.autojump_threshold = 0
        await trio.sleep(1)
        control.autojump_threshold = inf
        with trio.move_on_after(1):
            await trio.testing.wait_all_tasks_blocked()
        assert control.current_time() == 1
        timer = threading.Timer(0.01, setattr, [control, "autojump_threshold", 0])
        timer.start()
        await trio.sleep(1)
        timer.join()

    control = ClockControl()
    trio.run(main, clock=control)
    assert control.current_time() == 2


def test_io_comes_before_a_jump() -> None:
    async def ping(stream: trio.SocketStream, times: int) -> None:
        for _ in range(times):
            with trio.fail_after(1):
                await stream.send_all(b"x")
                assert await stream.receive_some(1) == b"x"

    async def pong(stream: trio.SocketStream) -> None:
        with trio.move_on_after(1000):
            while data := await stream.receive_some(1):
                await stream.send_all(data)

    async def main() -> None:
        left, right = (
            trio.SocketStream(trio.socket.from_stdlib_socket(end))
            for end in socket.socketpair()
        )
        async with left, right, trio.open_nursery() as nursery:
            nursery.start_soon(pong, right)
            await ping(left, 100)
            assert trio.current_time() == 0
            nursery.cancel_scope.cancel()

    trio.run(main, clock=jumping())


def test_a_busy_worker_thread() -> None:
    async def main() -> None:
        with trio.fail_after(1):
            await trio.to_thread.run_sync(event.wait, 0.05)
        assert trio.current_time() == 0

    event = threading.Event()
    trio.run(main, clock=jumping())


def test_ignore_threads() -> None:
    async def main() -> None:
        with trio.move_on_after(1) as scope:
            await trio.to_thread.run_sync(event.wait, abandon_on_cancel=True)
        assert scope.cancelled_caught
        event.set()

    event = threading.Event()
    trio.run(main, clock=jumping(ignore_threads=True))


def test_a_worker_thread_that_waits_for_trio() -> None:
    def work() -> float:
        trio.from_thread.run(trio.sleep, 3600)
        trio.from_thread.run_sync(log.append, "slept")
        return trio.from_thread.run_sync(trio.current_time)

    async def main() -> None:
        with trio.fail_after(4000):
            assert await trio.to_thread.run_sync(work) == 3600

    log: list[str] = []
    trio.run(main, clock=jumping())
    assert log == ["slept"]


def test_hold() -> None:
    async def jump() -> None:
        await trio.testing.wait_all_tasks_blocked()
        thread.start()

    async def main() -> None:
        with control.hold(), control.hold():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(jump)
                await trio.sleep(10)
            thread.join()
            assert trio.current_time() == 10
        await trio.sleep(10)
        assert trio.current_time() == 20

    control = jumping()
    thread = threading.Thread(target=control.jump, args=[10])
    trio.run(main, clock=control)


def test_hold_in_another_thread() -> None:
    def hold_for_a_while() -> None:
        with control.hold():
            held.set()
            release.wait()

    async def main() -> None:
        while not held.is_set():
            await trio.lowlevel.checkpoint()
        await trio.testing.wait_all_tasks_blocked()
        assert trio.current_time() == 0
        release.set()
        await trio.sleep(10)

    held, release = threading.Event(), threading.Event()
    control = jumping()
    thread = threading.Thread(target=hold_for_a_while)
    thread.start()
    trio.run(main, clock=control)
    thread.join()
    assert control.current_time() == 10


def test_nothing_to_jump_to() -> None:
    # It waits for I/O, then; here, for another thread.
    async def main() -> None:
        token = trio.lowlevel.current_trio_token()
        timer = threading.Timer(0.01, token.run_sync_soon, [event.set])
        timer.start()
        await event.wait()
        timer.join()

    event = trio.Event()
    control = jumping()
    trio.run(main, clock=control)
    assert control.current_time() == 0


# --- runs ---


def test_one_run_after_another() -> None:
    control = jumping()
    trio.run(trio.sleep, 1, clock=control)
    trio.run(trio.sleep, 1, clock=control)
    assert control.current_time() == 2


def test_two_runs_at_once_are_refused() -> None:
    def run_again() -> None:
        trio.run(trio.sleep, 1, clock=control)

    async def main() -> None:
        with pytest.raises(trio.TrioInternalError) as caught:
            await trio.to_thread.run_sync(run_again)
        assert isinstance(caught.value.__cause__, RuntimeError)
        assert "another Trio run" in str(caught.value.__cause__)
        control.jump(1)
        assert trio.current_time() == 1

    control = ClockControl()
    trio.run(main, clock=control)


@pytest.mark.parametrize("how", ["jump", "set_time", "rate", "autojump_threshold"])
def test_another_thread_wakes_the_run(how: str) -> None:
    async def main() -> None:
        uses: dict[str, Callable[[], None]] = {
            "jump": lambda: control.jump(1e6),
            "set_time": lambda: control.set_time(Y2K),
            "rate": lambda: setattr(control, "rate", 1e9),
            "autojump_threshold": lambda: setattr(control, "autojump_threshold", 0),
        }
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 1000)
            await trio.testing.wait_all_tasks_blocked()
            thread = threading.Thread(target=uses[how])
            thread.start()
        thread.join()

    control = ClockControl()
    trio.run(main, clock=control)
    assert control.current_time() >= 1000


def test_a_host_moves_it() -> None:
    """In guest mode, between two ticks."""
    todo: list[Callable[[], object]] = []
    arrived = threading.Semaphore(0)
    results: list[outcome.Outcome[None]] = []
    log: list[float] = []

    def run_sync_soon(fn: Callable[[], object]) -> None:
        todo.append(fn)
        arrived.release()

    async def main() -> None:
        async with open_clock() as clock:
            log.append(clock.instant())
            await trio.sleep(10)
            log.append(clock.instant())
            await clock.delay(10)
            log.append(clock.instant())
            await trio.sleep(10)

    def tick_until(condition: Callable[[], object]) -> None:
        while not condition():
            arrived.acquire()
            todo.pop(0)()

    control = ClockControl()
    trio.lowlevel.start_guest_run(
        main,
        run_sync_soon_threadsafe=run_sync_soon,
        done_callback=results.append,
        clock=control,
    )
    tick_until(lambda: log == [0])
    control.jump(10)
    tick_until(lambda: log == [0, 10])
    control.jump(10)
    tick_until(lambda: log == [0, 10, 20])
    control.autojump_threshold = 0
    tick_until(lambda: results)
    results[0].unwrap()
    assert control.current_time() == 30


@pytest.mark.parametrize(("threshold", "later"), [(0, inf), (10_000, 2000)])
def test_a_host_takes_away_what_it_would_jump_to(
    threshold: float, later: float
) -> None:
    todo: list[Callable[[], object]] = []
    arrived = threading.Semaphore(0)
    results: list[outcome.Outcome[None]] = []
    ticks = 0

    def run_sync_soon(fn: Callable[[], object]) -> None:
        todo.append(fn)
        arrived.release()

    class NotesJumps(trio.abc.Instrument):
        def after_io_wait(self, timeout: float) -> None:
            nonlocal ticks
            ticks += 1
            assert control.current_time() == 0

    async def main() -> None:
        trio.lowlevel.add_instrument(NotesJumps())
        with scope:
            await trio.sleep_forever()

    scope = trio.CancelScope(deadline=1000)
    control = ClockControl(autojump_threshold=threshold)
    trio.lowlevel.start_guest_run(
        main,
        run_sync_soon_threadsafe=run_sync_soon,
        done_callback=results.append,
        clock=control,
    )
    while control._autojump._jump_at == inf:
        arrived.acquire()
        todo.pop(0)()
    scope.deadline = later
    before = ticks
    while ticks < before + 1:
        arrived.acquire()
        todo.pop(0)()
    assert control.current_time() == 0
    scope.cancel()
    while not results:
        arrived.acquire()
        todo.pop(0)()
    results[0].unwrap()


async def test_one_that_only_tells_the_time_can_be_moved_in_another_run() -> None:
    control = ClockControl()
    simple = control.to_simple_clock()
    control.jump(5)
    assert simple.instant() == 5


# --- system time ---


def test_clocks_follow_its_system_time() -> None:
    async def main() -> None:
        async with open_clock() as clock:
            assert clock.system_time() == Y2K
            await clock.delay(datetime.timedelta(days=60, microseconds=1))
            assert clock.system_time().isoformat() == "2000-03-01T00:00:00.000001+00:00"
            assert clock.clone().system_time().tzinfo is UTC
            named = f"ClockControl with seed {control.seed}"
            assert repr(clock) == f"<Clock {named}, 0 timers, alive>"

    control = jumping(at=Y2K)
    trio.run(main, clock=control)


def test_at_is_the_beginning_of_1970_by_default() -> None:
    simple = ClockControl(seed=5).to_simple_clock()
    assert simple.system_time() == datetime.datetime(1970, 1, 1, tzinfo=UTC)
    assert repr(simple) == "<SimpleClock ClockControl with seed 5>"


def test_at_in_another_timezone() -> None:
    at = Y2K.astimezone(datetime.timezone(datetime.timedelta(hours=-5)))
    assert ClockControl(at).to_simple_clock().system_time() == Y2K


def test_set_time() -> None:
    control = ClockControl(Y2K)
    simple = control.to_simple_clock()
    control.set_time(Y2K + datetime.timedelta(seconds=10))
    assert (simple.instant(), simple.system_time().second) == (10, 10)
    control.set_time(Y2K)
    assert (simple.instant(), simple.system_time()) == (10, Y2K)
    control.set_time(Y2K)
    assert (simple.instant(), simple.system_time()) == (10, Y2K)
    control.jump(1)
    assert (simple.instant(), simple.system_time().second) == (11, 1)


def test_adjust_system_time() -> None:
    control = ClockControl(Y2K)
    simple = control.to_simple_clock()
    control.adjust_system_time(-1)
    control.adjust_system_time(datetime.timedelta(seconds=3))
    assert (simple.instant(), simple.system_time().second) == (0, 2)
    control.adjust_system_time(1e18)
    with pytest.raises(OverflowError, match="no datetime can hold"):
        simple.system_time()
    control.adjust_system_time(-1e18)
    assert simple.system_time().second == 2


# --- bad input ---

NAIVE = Y2K.replace(tzinfo=None)
BAD: list[tuple[str, Callable[[ClockControl], object], type[Exception], str]] = [
    ("at naive", lambda c: ClockControl(NAIVE), ValueError, "`at`.*timezone"),
    ("at str", lambda c: ClockControl("2000"), TypeError, "`at`.*'2000'"),  # type: ignore[arg-type]
    ("at date", lambda c: ClockControl(Y2K.date()), TypeError, "`at`"),  # type: ignore[arg-type]
    (
        "rate negative",
        lambda c: ClockControl(rate=-1),
        ValueError,
        "^rate must be >= 0$",
    ),
    ("rate nan", lambda c: setattr(c, "rate", nan), ValueError, "`rate`.*nan"),
    ("rate inf", lambda c: setattr(c, "rate", inf), ValueError, "`rate`.*inf"),
    (
        "detect_deadlocks str",
        lambda c: ClockControl(detect_deadlocks="no"),  # type: ignore[arg-type]
        TypeError,
        "`detect_deadlocks` must be True or False, not 'no'",
    ),
    (
        "ignore_threads int",
        lambda c: ClockControl(ignore_threads=1),  # type: ignore[arg-type]
        TypeError,
        "`ignore_threads` must be True or False, not 1",
    ),
    ("rate str", lambda c: setattr(c, "rate", "1"), TypeError, "`rate`.*'1'"),
    ("rate bool", lambda c: setattr(c, "rate", True), TypeError, "`rate`.*True"),
    (
        "threshold negative",
        lambda c: setattr(c, "autojump_threshold", -1),
        ValueError,
        "`autojump_threshold`.*-1",
    ),
    (
        "threshold nan",
        lambda c: ClockControl(autojump_threshold=nan),
        ValueError,
        "`autojump_threshold`.*NaN",
    ),
    (
        "threshold None",
        lambda c: setattr(c, "autojump_threshold", None),
        TypeError,
        "`autojump_threshold`.*None",
    ),
    ("jump back", lambda c: c.jump(-1), ValueError, "^time can't go backwards$"),
    ("jump nan", lambda c: c.jump(nan), ValueError, "`seconds`.*nan"),
    ("jump inf", lambda c: c.jump(inf), ValueError, "`seconds`.*inf"),
    ("jump str", lambda c: c.jump("1"), TypeError, "`seconds`.*'1'"),  # type: ignore[arg-type]
    ("jump bool", lambda c: c.jump(True), TypeError, "`seconds`.*True"),
    ("set naive", lambda c: c.set_time(NAIVE), ValueError, "`when`.*timezone"),
    ("set float", lambda c: c.set_time(1.0), TypeError, "`when`.*1.0"),  # type: ignore[arg-type]
    ("adjust nan", lambda c: c.adjust_system_time(nan), ValueError, "`seconds`.*nan"),
    ("adjust inf", lambda c: c.adjust_system_time(-inf), ValueError, "`seconds`.*inf"),
    ("adjust None", lambda c: c.adjust_system_time(None), TypeError, "`seconds`"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(
    ("use", "error", "message"),
    [case[1:] for case in BAD],
    ids=[case[0] for case in BAD],
)
def test_bad_input(
    use: Callable[[ClockControl], object], error: type[Exception], message: str
) -> None:
    control = ClockControl(Y2K)
    control.jump(1)
    with pytest.raises(error, match=message):
        use(control)
    assert control.current_time() == 1
    assert control.to_simple_clock().system_time().second == 1
    assert (control.rate, control.autojump_threshold) == (0, inf)


@pytest.mark.parametrize(
    ("use", "cause"),
    [
        (lambda c: setattr(c, "rate", -0.5), "`rate`.* -0.5; at 0 time stands still"),
        (lambda c: c.jump(-1), r"`seconds`.* -1; .*adjust_system_time\(\)"),
        (
            lambda c: c.advance(datetime.timedelta(seconds=-1)),
            r"`seconds`.*timedelta\(.*adjust_system_time\(\)",
        ),
    ],
)
def test_what_mock_clock_leaves_out(
    use: Callable[[ClockControl], object], cause: str
) -> None:
    """Its messages say neither what was given nor what to do; so their cause does."""
    with pytest.raises(ValueError, match=r"0$|backwards$") as caught:
        use(ClockControl())
    assert re.search(cause, str(caught.value.__cause__))


@pytest.mark.parametrize("name", ["moment", "jumps", "autojump_treshold"])
def test_mistyped_names(name: str) -> None:
    control: Any = ClockControl()
    message = f"'ClockControl' object has no attribute {name!r}"
    with pytest.raises(AttributeError) as caught:
        getattr(control, name)
    assert str(caught.value) == message
    with pytest.raises(AttributeError) as caught:
        setattr(control, name, 0)
    assert str(caught.value) == message
    assert (caught.value.name, caught.value.obj) == (name, control)


def test_attributes_of_somebody_else_s(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mine(ClockControl):
        def __init__(self) -> None:
            super().__init__(rate=2)
            self.colour = "blue"

    mine: Any = Mine()
    assert (mine.colour, mine.rate) == ("blue", 2)
    control: Any = ClockControl()
    monkeypatch.setattr(control, "jump", int)
    assert control.jump(1) == 1
    assert weakref.ref(control)() is control


def test_the_next_run_begins_before_the_last_one_is_quite_over() -> None:
    class AtTheEnd(trio.abc.Instrument):
        def task_exited(self, task: trio.lowlevel.Task) -> None:
            if task is trio.lowlevel.current_root_task():
                next_run.start()
                begun.wait()

    async def wait_for_the_other() -> None:
        begun.set()
        await trio.to_thread.run_sync(over.wait)

    control = ClockControl()
    begun, over = threading.Event(), threading.Event()
    next_run = threading.Thread(
        target=trio.run, args=[wait_for_the_other], kwargs={"clock": control}
    )
    trio.run(trio.sleep, 0, clock=control, instruments=[AtTheEnd()])
    with pytest.raises(trio.TrioInternalError) as caught:
        trio.run(trio.sleep, 0, clock=control)
    assert "the clock of another Trio run" in str(caught.value.__cause__)
    over.set()
    next_run.join()


@pytest.mark.parametrize("name", ["current_time", "deadline_to_sleep_time"])
@pytest.mark.parametrize("whose", ["instance", "class"])
def test_methods_that_somebody_has_patched(
    name: str, whose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spy(*args: Any) -> Any:
        calls.append(args)
        return original(*args)

    control = ClockControl(autojump_threshold=0)
    calls: list[tuple[Any, ...]] = []
    patched = control if whose == "instance" else ClockControl
    original = getattr(patched, name)
    monkeypatch.setattr(patched, name, spy)
    trio.run(trio.sleep, 1, clock=control)
    assert calls

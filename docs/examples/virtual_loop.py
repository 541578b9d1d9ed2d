"""A loop that sleeps for eight hours, and a test of it that does not."""

import time

from trio_clockrt import InactiveClock
from trio_clockrt.testing import ClockControl


def run_shift(clock, driver, sleep):
    """Tell what there is to do, until the shift is over."""

    def tell(what):
        print(f"{clock.system_time():%H:%M} {what}")

    with clock, clock.timer_group() as timers:
        for hour, what in [(0, "open the doors"), (4, "lunch"), (8, "close the doors")]:
            timers.call_later(hour * 3600, tell, what)
        while (deadline := driver.advance_timers()) is not None:
            sleep(max(0, deadline - clock.instant()))


def main():
    run_shift(*InactiveClock().activate_manual(), sleep=time.sleep)


def test_run_shift():
    control = ClockControl()
    recipe = InactiveClock.from_control(control)
    run_shift(*recipe.activate_manual(), sleep=control.jump)
    assert control.current_time() == 8 * 3600


if __name__ == "__main__":
    test_run_shift()

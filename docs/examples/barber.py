"""A day in a barber's shop, without Trio."""

from random import Random

from trio_clockrt.testing import ClockControl

MINUTE, HOUR = 60, 3600


def main():
    control = ClockControl()
    clock = control.to_clock()
    random = Random(1)
    queue = []
    waited = []

    def arrive():
        queue.append(clock.instant())
        timers.call_later(random.expovariate(1 / (12 * MINUTE)), arrive)

    def look_who_is_next():
        if not queue:
            timers.call_later(MINUTE, look_who_is_next)
            return
        waited.append(clock.instant() - queue.pop(0))
        timers.call_later(random.uniform(5, 15) * MINUTE, look_who_is_next)

    with clock.timer_group() as timers:
        arrive()
        look_who_is_next()
        control.advance(8 * HOUR)

    print(f"{len(waited)} haircuts, {len(queue)} still waiting")
    print(f"the longest wait was {max(waited) / MINUTE:.0f} minutes")


main()

import trio


async def beat(clock, beats):
    async for _ in clock.periodic(60):
        beats.append(clock.instant())


async def test_a_leap(clock_control, active_clock):
    beats = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(beat, active_clock, beats)
        await clock_control.run_for(0)  # so that the task has begun
        clock_control.advance(600)
        await clock_control.run_for(0)  # so that it has done what it can do now
        # The tick that it was waiting for, and one for all that it has missed.
        assert beats == [600, 600]
        nursery.cancel_scope.cancel()


async def test_ten_minutes(clock_control, active_clock):
    beats = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(beat, active_clock, beats)
        await clock_control.run_for(600)
        assert beats == [60, 120, 180, 240, 300, 360, 420, 480, 540, 600]
        await clock_control.run_until(899.5)
        assert beats[10:] == [660, 720, 780, 840]
        nursery.cancel_scope.cancel()


async def test_all_that_comes_to_an_end(clock_control, active_clock):
    beats = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(beat, active_clock, beats)
        nursery.start_soon(trio.sleep, 100)
        nursery.start_soon(active_clock.delay, 150)
        await clock_control.run_until_idle()
        assert active_clock.instant() == 150
        assert beats == [60, 120]
        nursery.cancel_scope.cancel()

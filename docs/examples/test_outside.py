"""Virtual time beside what happens in real time."""

import sys
import time

import pytest
import trio
import trio.testing


# A server in the same run, with a socket that is real.
@pytest.mark.virtual_time(io_grace=0.05)
async def test_a_server_that_thinks(active_clock):
    async def serve(stream):
        async for data in stream:
            await trio.sleep(20)
            await stream.send_all(data.upper())

    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        stream = await trio.testing.open_stream_to_socket_listener(listener)
        async with stream:
            await stream.send_all(b"hello")
            with active_clock.fail_after(30):
                assert await stream.receive_some() == b"HELLO"
        nursery.cancel_scope.cancel()
    assert active_clock.instant() == 20


# Time stands still while a worker thread is busy.
async def test_a_worker_thread(autojump_clock_control, active_clock):
    with active_clock.fail_after(1):
        await trio.to_thread.run_sync(time.sleep, 0.05)
    assert active_clock.instant() == 0


# The control cannot see what another process is about to do.
async def test_another_process(autojump_clock_control, active_clock):
    with autojump_clock_control.hold(), active_clock.fail_after(1):
        result = await trio.run_process(
            [sys.executable, "-c", "print('done')"], capture_stdout=True
        )
    assert result.stdout.split() == [b"done"]
    assert active_clock.instant() == 0


SLOW = [sys.executable, "-c", "import time; time.sleep(600)"]


# With autojump it would be 15 seconds, as those that Trio gives the process pass too.
async def test_a_process_that_takes_too_long(clock_control):
    async def run_for_ten_seconds():
        with trio.move_on_after(10) as timeout:
            await trio.run_process(SLOW)
        assert timeout.cancelled_caught
        assert trio.current_time() == 10

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_for_ten_seconds)
        await clock_control.run_for(10)

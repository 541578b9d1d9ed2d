"""Timers in an event loop of one's own, without Trio."""

import selectors
import socket

from trio_clockrt import ClockGone, InactiveClock


def main():
    clock, driver = InactiveClock().activate_manual()
    selector = selectors.DefaultSelector()
    client, server = socket.socketpair()

    with selector, client, server, clock.timer_group() as timers:

        def hang_up():
            print("idle: hanging up")
            server.shutdown(socket.SHUT_WR)
            selector.unregister(server)

        def answer():
            data = server.recv(1000)
            print("server got", data.decode())
            server.sendall(data)
            idle.reset(0.2)

        def receive():
            if data := client.recv(1000):
                print("client got", data.decode())
            else:
                clock.close()  # the loop ends when its timers have fired

        selector.register(server, selectors.EVENT_READ, answer)
        selector.register(client, selectors.EVENT_READ, receive)
        idle = timers.call_later(0.2, hang_up)
        timers.call_later(0.1, client.sendall, b"one")
        timers.call_later(0.2, client.sendall, b"two")

        while True:
            # Fire what is due, and sleep until something is ready or the next one is.
            try:
                deadline = driver.advance_timers()
            except ClockGone:
                break
            timeout = None if deadline is None else max(0, deadline - clock.instant())
            for key, _ in selector.select(timeout):
                key.data()

    print("the clock has no owner any more")


main()

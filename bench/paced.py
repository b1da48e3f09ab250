#!/usr/bin/env python3
"""Requests at a fixed rate, each measured from the moment at which it was due (an open loop): if the
proxy, or this client, falls behind, the wait counts, so that nothing is left out of the tail.

    paced.py PORT RATE SECONDS

Prints one JSON object: p50, p99 and max of the latency in microseconds; p50 and p99 of how late the
client itself was in sending (which is part of the latency, whatever is measured: about what the
figures can resolve); how many requests were answered; and how many failed.
"""

import collections
import ctypes
import gc
import json
import select
import socket
import statistics
import sys
import time

CONNECTIONS = 16
REQUEST = b"GET /items/42 HTTP/1.1\r\nHost: app.example.test\r\nAccept: */*\r\n\r\n"
PR_SET_TIMERSLACK = 29
# Whoever has not answered by then has failed.
PATIENCE = 5.0


def whole(received):
    """Whether this is a whole answer; None if it is not one of 200 with a length."""
    head, end, body = received.partition(b"\r\n\r\n")
    if not end:
        return False
    _, named, rest = head.lower().partition(b"\r\ncontent-length:")
    if not head.startswith(b"HTTP/1.1 200 ") or not named:
        return None
    return len(body) >= int(rest.partition(b"\r\n")[0])


def run(port, rate, seconds):
    # The kernel may otherwise wake a sleeper 50 µs late.
    ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)
    free = collections.deque()
    for _ in range(CONNECTIONS):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setblocking(False)
        free.append(connection)
    gc.disable()
    clock, gap, total = time.perf_counter, 1 / rate, int(rate * seconds)
    sent, latencies, late = 0, [], []
    busy, received = {}, {}
    start = clock() + 0.01
    end = start + seconds + PATIENCE
    while sent < total or busy:
        now = clock()
        if now > end or not (busy or free):
            break
        while sent < total and free and start + sent * gap <= now:
            connection, due = free.popleft(), start + sent * gap
            connection.send(REQUEST)
            late.append(clock() - due)
            busy[connection], received[connection] = due, b""
            sent += 1
        # Without a free connection only an answer helps.
        until = start + sent * gap if sent < total and free else end
        for connection in select.select(busy, (), (), max(0, until - clock()))[0]:
            data = connection.recv(65536)
            received[connection] += data
            done = whole(received[connection]) if data else None
            if done is False:
                continue
            due = busy.pop(connection)
            if done is None:
                connection.close()
                continue
            latencies.append(clock() - due)
            free.append(connection)
    cut, cut_late = (statistics.quantiles(some, n=100) if len(some) > 1 else [float("inf")] * 99 for some in (latencies, late))
    return {
        "p50_us": cut[49] * 1e6, "p99_us": cut[98] * 1e6, "max_us": max(latencies, default=0) * 1e6,
        "late_p50_us": cut_late[49] * 1e6, "late_p99_us": cut_late[98] * 1e6,
        "answered": len(latencies), "failed": total - len(latencies),
    }


if __name__ == "__main__":
    print(json.dumps(run(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]))))

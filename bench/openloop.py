# SPDX-License-Identifier: Apache-2.0
"""Load at a fixed rate: what latency is when clients do not wait for each other.

Requests have a time at which they are due. One that is due when every connection is busy waits in this client, and its latency
counts from when it was due, so a proxy that stalls for 100 ms gets the blame for every request of those 100 ms. A closed loop
sends less while the proxy stalls and so leaves out just what was slow (coordinated omission). wrk is a closed loop, and so is
h2load with `--rps`: asked for 1,000 requests/s on 10 connections, of a server that stalled for half a second it reported ten slow
requests, where nearly 500 had been due.

One thread, raw sockets, epoll, and a kernel timer with the rate as its period: event loops round to milliseconds, in which ten
requests of the highest rate would come at once. Every latency is kept, so percentiles are exact. The client says what it cost and
how late it was itself (`lag`): on the load CPU it waits for the upstream now and then. That is nobody's delay but its own, so a
request that found a free connection counts from when it was sent.

    python -m bench.openloop 127.0.0.1 8080 --rate 2000 --connections 64 --seconds 2
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import select
import socket
import subprocess
import sys
import time
from array import array
from collections import Counter, deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.daemon import die_with_parent
from bench.load import BODY, HEADERS, PATH, LoadError, Sample

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.net import Address

__all__ = ["Offered", "Offering", "offer"]

_LIBC = ctypes.CDLL(None, use_errno=True)
_TIMER_ABSTIME = 1
_STATUS_LINE = b"HTTP/1.1 200 "
_PROJECT = Path(__file__).resolve().parents[1]
_GRACE_S = 10.0
"""How long the last answers may take; every route of the comparison gives up after ten seconds."""

_HEADROOM_NS = 5_000_000
"""Between the end of the preparations and the first request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offering:
    """Load that comes at `rate` requests/s, whatever the answers do."""

    rate: int
    connections: int = 64

    def __str__(self) -> str:
        return f"{self.rate:,} requests/s on {self.connections} connections"


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """What came of it.

    Args:
        sample: requests and latencies, of those that waited for a connection from when they were due.
        waited: requests that found no free connection.
        lag_p50_us, lag_p99_us: how late the client sent the others.
        client_cpu_us: processor time of the client.
    """

    sample: Sample
    waited: int
    lag_p50_us: int
    lag_p99_us: int
    client_cpu_us: int


def offer(address: Address, offering: Offering, *, seconds: float, meanwhile: Callable[[], None] | None = None) -> Offered:
    """Load `address` for `seconds` by a process of its own, on the CPUs that this process may use.

    Args:
        address: who gets it.
        offering: the load.
        seconds: how long.
        meanwhile: what to do here while it lasts.

    Raises:
        LoadError: a request was not answered by 200 and the right body, or the client failed.
    """
    argv = [sys.executable, "-m", "bench.openloop", address[0], str(address[1])]
    argv += ["--rate", str(offering.rate), "--connections", str(offering.connections), "--seconds", str(seconds)]
    process = subprocess.Popen(
        argv,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=_PROJECT,
        preexec_fn=die_with_parent,  # noqa: PLW1509 - this process has one thread
    )
    try:
        if meanwhile is not None:
            meanwhile()
        output, errors = process.communicate(timeout=seconds + 3 * _GRACE_S)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    if process.returncode:
        raise LoadError((errors or output).strip().rpartition("\n")[2])
    found = json.loads(output)
    sample = Sample(
        requests=found["requests"],
        duration_us=found["duration_us"],
        latencies_us=Counter(dict(zip(found["values"], found["counts"], strict=True))),
    )
    kept = {name: found[name] for name in ("waited", "lag_p50_us", "lag_p99_us", "client_cpu_us")}
    return Offered(sample=sample, **kept)


class _Connection:
    """A connection, with what of an answer is there and since when its request counts."""

    __slots__ = ("answer", "since", "sock")

    def __init__(self, address: Address) -> None:
        self.sock = socket.create_connection(address, timeout=_GRACE_S)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)
        self.answer = b""
        self.since = 0


class _Client:
    """Sends when the time has come and notes how long the answers took."""

    def __init__(self, address: Address, offering: Offering, seconds: float) -> None:
        host = f"Host: {address[0]}:{address[1]}"
        self._request = "\r\n".join([f"GET {PATH} HTTP/1.1", host, *HEADERS, "", ""]).encode()
        self._period_ns = round(1e9 / offering.rate)
        self._total = max(1, int(offering.rate * seconds))
        connections = [_Connection(address) for _ in range(min(offering.connections, self._total))]
        self._by_fd = {connection.sock.fileno(): connection for connection in connections}
        self._free = deque(connections)
        self._sent = 0
        self._starved = 0  # requests before this one were due while no connection was free
        self.waited = 0
        self.latencies_us = array("Q")
        self.lags_us = array("Q")

    def run(self) -> int:
        """Send all and await all answers; return the time that took in microseconds."""
        start = time.monotonic_ns() + _HEADROOM_NS
        poll = select.epoll()
        timer = _periodic_timer(start, self._period_ns)
        poll.register(timer, select.EPOLLIN)
        for fd in self._by_fd:
            poll.register(fd, select.EPOLLIN)
        last_due = start + self._total * self._period_ns
        while len(self.latencies_us) < self._total:
            for fd, _ in poll.poll(1.0):
                if fd == timer:
                    os.read(timer, 8)
                else:
                    self._receive(self._by_fd[fd])
            now = time.monotonic_ns()
            if now > last_due + _GRACE_S * 1e9:
                raise LoadError(f"{self._total - len(self.latencies_us)} of {self._total} requests were not answered")
            self._send_due(start, min(self._total, (now - start) // self._period_ns + 1))
        poll.close()
        os.close(timer)
        return (time.monotonic_ns() - start) // 1000

    def _send_due(self, start: int, due: int) -> None:
        """Send what is due, the longest unused connection first, as if there were as many clients."""
        free = self._free
        while self._sent < due and free:
            connection = free.popleft()
            when = start + self._sent * self._period_ns
            if self._sent < self._starved:
                self.waited += 1
                connection.since = when
            else:
                connection.since = time.monotonic_ns()
                self.lags_us.append((connection.since - when) // 1000)
            connection.sock.send(self._request)
            self._sent += 1
        if self._sent < due:
            self._starved = due

    def _receive(self, connection: _Connection) -> None:
        data = connection.sock.recv(65536)
        answer = connection.answer + data
        if not answer.endswith(BODY):
            if not data or _is_wrong(answer):
                raise LoadError(f"an answer was {answer[:200]!r}")
            connection.answer = answer
            return
        if not answer.startswith(_STATUS_LINE):
            raise LoadError(f"an answer was {answer[:200]!r}")
        self.latencies_us.append((time.monotonic_ns() - connection.since) // 1000)
        connection.answer = b""
        self._free.append(connection)


def _is_wrong(answer: bytes) -> bool:
    """Whether an answer that does not end as it shall cannot become the right one: another status, or whole already."""
    if not _STATUS_LINE.startswith(answer[: len(_STATUS_LINE)]):
        return True
    head, end, body = answer.partition(b"\r\n\r\n")
    _, _, length = head.lower().partition(b"content-length:")
    return bool(end and length) and len(body) >= int(length.split(b"\r\n")[0])


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Timer(ctypes.Structure):
    _fields_ = (("period", _Timespec), ("first", _Timespec))


def _periodic_timer(first_ns: int, period_ns: int) -> int:
    """Return a descriptor that becomes readable at `first_ns` and every period (man 2 timerfd_create; in `os` from 3.13 on)."""
    fd: int = _LIBC.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
    timer = _Timer(_Timespec(*divmod(period_ns, 10**9)), _Timespec(*divmod(first_ns, 10**9)))
    if fd < 0 or _LIBC.timerfd_settime(fd, _TIMER_ABSTIME, ctypes.byref(timer), None):
        raise OSError(ctypes.get_errno(), "timerfd")
    return fd


def _percentile(values: array[int], percent: float) -> int:
    ordered = sorted(values) or [0]
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def _main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.openloop", description="Load at a fixed rate.")
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--rate", type=int, required=True, help="requests per second")
    parser.add_argument("--connections", type=int, default=64, help="(default %(default)s)")
    parser.add_argument("--seconds", type=float, default=2.0, help="(default %(default)s)")
    options = parser.parse_args(argv)
    gc.disable()
    try:
        client = _Client(
            (options.host, options.port), Offering(rate=options.rate, connections=options.connections), options.seconds
        )
        before = time.process_time_ns()
        duration_us = client.run()
    except (LoadError, OSError) as error:
        print(f"{options.host}:{options.port}, {options.rate} requests/s: {error}", file=sys.stderr)
        return 1
    cpu_us = (time.process_time_ns() - before) // 1000
    counts = sorted(Counter(client.latencies_us).items())
    result = {
        "requests": len(client.latencies_us),
        "duration_us": duration_us,
        "waited": client.waited,
        "lag_p50_us": _percentile(client.lags_us, 50),
        "lag_p99_us": _percentile(client.lags_us, 99),
        "client_cpu_us": cpu_us,
        "values": [value for value, _ in counts],
        "counts": [count for _, count in counts],
    }
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(_main())

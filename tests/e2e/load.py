# SPDX-License-Identifier: Apache-2.0
"""A client under constant rate, as a process of its own; every request that fails is logged with its time.

    python -m tests.e2e.load --url http://10.96.0.1:5000/hello --host hello --users keep-get=4,open-post=4 --rate 20

A *user* sends `--rate` requests a second, each at its own time; what comes late is sent as soon as possible, none is left out.
`keep` users hold one connection as long as the server lets them, `turn` users for ten requests, and `open` users make a new one
for every request. What counts as a
failure: refused, reset, timed out, ended early, a status other than 200, a body that is not the answer to this very request. What
does not: a connection that the server closed between requests with `Connection: close`, or whose end was there to be seen before
the request was sent, as every HTTP client looks for it; a reset in that place is a failure.

The process speaks lines of JSON. Each line on its standard input is answered with what happened since the last one; the end of
standard input ends it, after the requests under way. Times are those of the monotonic clock, which all processes share.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import socket
import sys
import time
import zlib
from collections import Counter
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import h11

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

TIMEOUT_S = 10.0
"""Patience per request: far above anything right, even on a machine that does something else meanwhile."""

TURN_REQUESTS = 10
"""After so many requests a `turn` user makes a new connection."""

_BODY_BYTES = 2000
_READ_BYTES = 64 * 1024


class RequestError(Exception):
    """A request failed for a reason that no exception of the system says."""


class Tally:
    """What happened since the last report."""

    def __init__(self) -> None:
        self.requests = 0
        self.connections = 0
        self.closed = 0
        """Connections that ended in good order before the client wanted it."""
        self.pods: Counter[str] = Counter()
        self.peers: Counter[str] = Counter()
        """Where the pods saw connections come from: the client itself, or a gateway."""
        self.fresh: Counter[str] = Counter()
        """The same, of requests that were the first on their connection."""
        self.failures: list[dict[str, Any]] = []
        self.latencies_ms: list[float] = []

    def report(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        latencies = sorted(self.latencies_ms)
        return {
            "requests": self.requests,
            "connections": self.connections,
            "closed": self.closed,
            "pods": dict(self.pods),
            "peers": dict(self.peers),
            "fresh": dict(self.fresh),
            "failures": self.failures,
            "p50_ms": latencies[len(latencies) // 2] if latencies else None,
            "p99_ms": latencies[len(latencies) * 99 // 100] if latencies else None,
            "max_ms": latencies[-1] if latencies else None,
        }


class Load:
    """All users of one process."""

    def __init__(self, url: str, host: str, rate: float) -> None:
        parts = urlsplit(url)
        assert parts.hostname
        self.address = (parts.hostname, parts.port or 80)
        self.target = parts.path + (f"?{parts.query}" if parts.query else "")
        self.host = host or parts.netloc
        self.interval_s = 1 / rate
        self.tally = Tally()
        self.is_over = False

    def take(self) -> dict[str, Any]:
        """Return what happened since the last call."""
        tally, self.tally = self.tally, Tally()
        return tally.report()


class User:
    """One user: a schedule and, if it keeps one, a connection."""

    def __init__(self, load: Load, name: str, *, requests: int, method: str) -> None:
        self._load = load
        self._name = name
        self._requests = requests  # per connection, 0 for no limit
        self._sent = 0
        self._method = method
        self._socket: socket.socket | None = None
        self._http = h11.Connection(h11.CLIENT)
        self._serial = 0

    async def run(self) -> None:
        """Send requests until it is over."""
        loop = asyncio.get_running_loop()
        due = loop.time() + random.random() * self._load.interval_s
        while not self._load.is_over:
            await asyncio.sleep(due - loop.time())
            due += self._load.interval_s
            await self._send()
        self._close()

    async def _send(self) -> None:
        self._serial += 1
        started = time.monotonic()
        where = self._socket.getsockname() if self._socket else None
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await self._exchange()
        except (OSError, h11.ProtocolError, RequestError, ValueError, KeyError) as error:
            self._load.tally.failures.append(
                {
                    "time": started,
                    "after_s": round(time.monotonic() - started, 4),
                    "user": self._name,
                    "serial": self._serial,
                    "reused": where,
                    "error": f"{type(error).__name__}: {error}",
                }
            )
            self._close()
        self._load.tally.requests += 1
        self._load.tally.latencies_ms.append((time.monotonic() - started) * 1000)

    async def _exchange(self) -> None:
        kept = self._kept()
        sock = kept or await self._connect()
        identity = f"{self._name}-{self._serial}"
        body = (identity.encode() * _BODY_BYTES)[:_BODY_BYTES] if self._method == "POST" else b""
        # Half of the time a client says that it is the last request of a connection; else it just closes.
        self._sent += 1
        is_last = self._sent == self._requests
        says_close = is_last and random.random() < 0.5
        fields = [("host", self._load.host), ("x-id", identity), ("user-agent", "load")]
        fields += [("content-length", str(len(body)))] if body else []
        fields += [("connection", "close")] if says_close else []
        message = self._http.send(h11.Request(method=self._method, target=self._load.target, headers=fields)) or b""
        message += (self._http.send(h11.Data(data=body)) or b"") if body else b""
        message += self._http.send(h11.EndOfMessage()) or b""
        await asyncio.get_running_loop().sock_sendall(sock, message)
        status, answer = await self._response(sock)
        self._check(status, answer, identity, body, is_fresh=kept is None)
        if is_last:
            self._close()
        elif self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
        else:
            self._load.tally.closed += 1
            self._close()

    def _check(self, status: int, answer: bytes, identity: str, body: bytes, *, is_fresh: bool) -> None:
        if status != 200:
            raise RequestError(f"status {status}: {answer[:200]!r}")
        said = json.loads(answer)
        if (said["id"], said["sum"], said["target"]) != (identity, zlib.crc32(body), self._load.target):
            raise RequestError(f"not the answer to this request: {answer[:200]!r}")
        self._load.tally.pods[said["pod"]] += 1
        self._load.tally.peers[said["peer"]] += 1
        if is_fresh:
            self._load.tally.fresh[said["peer"]] += 1

    async def _response(self, sock: socket.socket) -> tuple[int, bytes]:
        status, body = 0, bytearray()
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                data = await asyncio.get_running_loop().sock_recv(sock, _READ_BYTES)
                if not data and not status:
                    raise RequestError("connection ended before the answer")
                self._http.receive_data(data)
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                return status, bytes(body)

    def _kept(self) -> socket.socket | None:
        if self._socket is None:
            return None
        try:
            data = self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return self._socket
        if data:
            raise RequestError("bytes between requests")
        self._load.tally.closed += 1
        self._close()
        return None

    async def _connect(self) -> socket.socket:
        self._sent = 0
        self._socket = socket.socket()
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._http = h11.Connection(h11.CLIENT)
        await asyncio.get_running_loop().sock_connect(self._socket, self._load.address)
        self._load.tally.connections += 1
        return self._socket

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _users(load: Load, text: str) -> list[User]:
    users = []
    for group in text.split(","):
        kind, _, count = group.partition("=")
        connection, _, method = kind.partition("-")
        requests = {"keep": 0, "turn": TURN_REQUESTS, "open": 1}[connection]
        users += [User(load, f"{kind}-{number}", requests=requests, method=method.upper()) for number in range(int(count))]
    return users


async def _run(load: Load, users: Sequence[User]) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    tasks = [asyncio.create_task(user.run()) for user in users]
    while await reader.readline():
        print(json.dumps(load.take()), flush=True)
    load.is_over = True
    await asyncio.gather(*tasks)
    print(json.dumps(load.take()), flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the client."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.load")
    parser.add_argument("--url", required=True)
    parser.add_argument("--host", default="")
    parser.add_argument("--users", required=True, help="groups as KIND-METHOD=COUNT, commas between; KIND is keep, turn or open")
    parser.add_argument("--rate", type=float, default=20.0, help="requests a second of each user")
    options = parser.parse_args(argv)
    load = Load(options.url, options.host, options.rate)
    asyncio.run(_run(load, _users(load, options.users)))


if __name__ == "__main__":
    main()

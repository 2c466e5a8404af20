# SPDX-License-Identifier: Apache-2.0
"""Endpoints that close kept connections at inconvenient moments: no client may notice, and no POST may be sent twice.

The upstream runs on a loop of its own thread: it answers, waits 0 to 40 ms and closes, whether or not a request is on its way.
Clients keep their connections and pause between requests for about as long, so that many requests meet a connection that has just
been closed. A POST cannot be repeated, so the gateway must not trust it to a connection that is about to close. Looking at the
socket is not enough: without the pool's memory of how early this endpoint closes, 36 of 2,512 POSTs fail here. So that there is
such a memory, each client begins with requests that may be repeated.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from typing import TYPE_CHECKING, Self, cast

import pytest

from tests.interop.upstream import free_address

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.interop.gateway import Gateway
    from tests.interop.upstream import Upstream

_REQUESTS = 10_000
_CLIENTS = 64
_PAUSE_S = 0.04
_BODY = b"x=1"


class ClosingUpstream:
    """Answers each request and closes its connection a moment later."""

    def __init__(self, seed: int) -> None:
        self.address = free_address()
        self.seen: Counter[str] = Counter()
        self.closed = 0
        self.transports: set[asyncio.Transport] = set()
        self._random = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="closing-upstream", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    async def _listen(self) -> None:
        self._server = await self._loop.create_server(lambda: _Connection(self, self._random), *self.address, backlog=512)

    async def _stop(self) -> None:
        self._server.close()
        for transport in list(self.transports):
            transport.abort()
        await asyncio.sleep(0)  # lets the transports close their sockets


class _Connection(asyncio.Protocol):
    def __init__(self, upstream: ClosingUpstream, rng: random.Random) -> None:
        self._upstream = upstream
        self._random = rng
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._upstream.transports.add(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._upstream.transports.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, end, body = self._data.partition(b"\r\n\r\n")
        if not end or (head.startswith(b"POST") and len(body) < len(_BODY)):
            return
        self._data = b""
        self._upstream.seen[head.split(b" ", 2)[1].decode()] += 1
        self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        asyncio.get_running_loop().call_later(self._random.random() * _PAUSE_S, self._close)

    def _close(self) -> None:
        self._upstream.closed += 1
        self._transport.close()


class Client:
    """One kept connection that asks again and again."""

    def __init__(self, address: tuple[str, int], name: int, count: int) -> None:
        self._address = address
        self._name = name
        self._count = count
        self._random = random.Random(name)
        self.failures: list[str] = []

    async def run(self) -> None:
        reader, writer = await asyncio.open_connection(*self._address)
        for number in range(self._count):
            method = "POST" if number % 4 == 3 else "GET"
            body = _BODY if method == "POST" else b""
            length = f"Content-Length: {len(body)}\r\n" if body else ""
            writer.write(f"{method} /{self._name}/{number} HTTP/1.1\r\nHost: stale\r\n{length}\r\n".encode() + body)
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
            fields = dict(line.lower().split(": ", 1) for line in head.decode().split("\r\n")[1:-2])
            await reader.readexactly(int(fields["content-length"]))
            if not head.startswith(b"HTTP/1.1 200"):
                self.failures.append(f"{method} {self._name}/{number}: {head[:60]!r}")
            await asyncio.sleep(self._random.random() * _PAUSE_S)  # the idle time is what is tested
        writer.close()


@pytest.mark.slow
def test_nobody_notices_that_connections_are_closed(make_gateway: Callable[[], Gateway]) -> None:
    with ClosingUpstream(seed=7) as upstream:
        gateway = make_gateway()
        service = gateway.add_service("stale", {"v1": [cast("Upstream", upstream)]})  # of which only the address is asked
        gateway.start(workers=1)
        clients = [Client(service.address, name, _REQUESTS // _CLIENTS + 1) for name in range(_CLIENTS)]

        async def run_all() -> None:
            await asyncio.gather(*(client.run() for client in clients))

        asyncio.run(run_all())
        failures = [failure for client in clients for failure in client.failures]
        posts = {f"/{client}/{number}" for client in range(_CLIENTS) for number in range(3, _REQUESTS // _CLIENTS + 1, 4)}
        twice = {request: count for request, count in upstream.seen.items() if count > 1 and request in posts}
        assert upstream.closed > _REQUESTS / 20, "the upstream must have closed many connections"
        assert not twice, "a POST must never be sent twice"
        assert not failures, f"{len(failures)} of {sum(client._count for client in clients)} failed"
        assert len(upstream.seen) == sum(client._count for client in clients)
        gateway.stop()

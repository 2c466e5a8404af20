# SPDX-License-Identifier: Apache-2.0
"""Pods: one server that has every address of 127.0.0.0/8 at one port, and remembers who was asked for what on which connection.

So a test can have as many pods as it wants, give an address to another pod, and tell what reached the address afterwards and on
which connection it came.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import socket
import threading
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple, Self, cast

import uvloop

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Call", "Pods", "Reply"]

_START_S = 30.0


class Reply(NamedTuple):
    """What a pod answers, and how long that takes it."""

    status: int = 200
    delay_s: float = 0.0


class Call(NamedTuple):
    """A request as it reached an address: for which host, and the connection's place in the order in which they were opened."""

    address: str
    host: str
    connection: int


class Pods:
    """Servers at all loopback addresses.

    Attributes:
        port: of all of them.
        calls: how often each call was made.
        active, worst: requests that are being answered at a time now, and at worst.
        behave: says what an address answers to a path; it is asked for each request.
    """

    def __init__(self) -> None:
        self.calls: Counter[Call] = Counter()
        self.active = self.worst = 0
        self.behave: Callable[[str, str], Reply] = lambda _address, _path: Reply()
        self.port = 0
        self._numbers = itertools.count(1)
        self._opened = 0
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="pods", daemon=True)
        self._transports: set[asyncio.Transport] = set()

    def __repr__(self) -> str:
        return f"<Pods at port {self.port}: {self.calls.total()} requests>"

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(_START_S)
        return self

    def __exit__(self, *exc_info: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(_START_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_START_S)
        self._loop.close()

    @staticmethod
    def address() -> str:
        """Return an address for a pod."""
        return f"127.{secrets.randbelow(60) + 4}.{secrets.randbelow(256)}.{secrets.randbelow(254) + 1}"

    @property
    def opened(self) -> int:
        """How many connections have been opened so far."""
        return self._opened

    def count(self, address: str, host: str = "", *, after: int = 0, until: int | None = None) -> int:
        """Count the requests to an address.

        Args:
            address: of the pod.
            host: only those for this one.
            after: only on connections opened after so many others.
            until: only on the first so many connections.
        """
        return sum(
            count
            for call, count in list(self.calls.items())
            if call.address == address
            and host in {"", call.host}
            and call.connection > after
            and (until is None or call.connection <= until)
        )

    async def _start(self) -> None:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("", 0))
        self.port = sock.getsockname()[1]
        self._server = await self._loop.create_server(lambda: _Serving(self), sock=sock, backlog=1024)

    async def _stop(self) -> None:
        self._server.close()
        for transport in list(self._transports):
            transport.abort()
        while self._transports:
            await asyncio.sleep(0.001)
        await self._server.wait_closed()

    def enter(self, transport: asyncio.Transport) -> int:
        """Note a connection; return its number."""
        self._transports.add(transport)
        self._opened += 1
        return self._opened

    def leave(self, transport: asyncio.Transport) -> None:
        """Note the end of a connection."""
        self._transports.discard(transport)


class _Serving(asyncio.Protocol):
    def __init__(self, pods: Pods) -> None:
        self._pods = pods
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are none by their class
        self._number = self._pods.enter(self._transport)
        self._address: str = transport.get_extra_info("sockname")[0]

    def connection_lost(self, exc: Exception | None) -> None:
        self._pods.leave(self._transport)

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, end, _ = self._data.partition(b"\r\n\r\n")
        if not end:
            return
        self._data = b""
        lines = head.decode("latin-1").split("\r\n")
        fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        pods = self._pods
        pods.calls[Call(self._address, fields.get("host", ""), self._number)] += 1
        pods.active += 1
        pods.worst = max(pods.worst, pods.active)
        reply = pods.behave(self._address, lines[0].split(" ")[1])
        if reply.delay_s:
            asyncio.get_running_loop().call_later(reply.delay_s, self._answer, reply.status)
        else:
            self._answer(reply.status)

    def _answer(self, status: int) -> None:
        self._pods.active -= 1
        body = self._address.encode()
        if not self._transport.is_closing():
            self._transport.write(b"HTTP/1.1 %d Whatever\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body))

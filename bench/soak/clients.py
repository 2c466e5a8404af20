# SPDX-License-Identifier: Apache-2.0
"""The clients of a soak, a process of their own: each kind does one thing over and over and knows what must come of it.

They print a `Tally` each `EVERY_S` as a line of JSON. What is no success is a failure here, even where the one who did the harm
can explain it: that is the business of `bench.soak.verdict`. Only what a client itself asks for (a path that answers 500) is
judged here, exactly. SIGTERM lets each have its last answer.

    python -m bench.soak.clients '{"address": "127.1.2.3", "ports": {"steady": 20000, ...}}'
"""

from __future__ import annotations

import asyncio
import itertools
import signal
import socket
import sys
import zlib
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING

import msgspec
import uvloop
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage

from bench.soak.records import KEPT, Failure, Site, Tally
from bench.soak.upstream import pattern

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    _Client = Callable[["Clients", str, int], Coroutine[None, None, None]]

__all__ = ["EVERY_S", "KINDS", "Clients"]

EVERY_S = 5.0
SILENCE_S = 30.0
"""Far above what any answer may take: what takes longer is lost."""

_BIG = 2 * 1024 * 1024
_CUT = "cut"
_FAULTS: tuple[tuple[str, str], ...] = (
    ("/status/500", "500"),
    ("/status/404", "404"),
    ("/status/503", "503"),
    ("/close", "503"),
    ("/slow/9", "504"),
    ("/cut", _CUT),
    ("/cut-chunked", _CUT),
    ("/garbage", "502"),
)
"""What the Service `faulty` is asked for, and what its client must get: repeated attempts are all met by the same."""


class _Wrong(Exception):
    """An answer other than expected."""


_LOST = (OSError, asyncio.IncompleteReadError, TimeoutError, ValueError, RuntimeError, _Wrong)
"""How a request fails; a RuntimeError is uvloop's word for writing to a connection that has just been reset."""


class _Http:
    """One connection to a Service."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.port: int = writer.get_extra_info("sockname")[1]
        self.connected_at = monotonic()
        self.is_last = False

    async def ask(
        self, method: str, path: str, body: bytes = b"", *, pieces: int = 1, pause_s: float = 0.0, slowly: bool = False
    ) -> tuple[int, bytes]:
        """Return status and body.

        Args:
            method: of the request, as path and body.
            path: see there.
            body: see there.
            pieces: in which the body is sent, with a pause between them.
            pause_s: that pause.
            slowly: read the answer in small pieces and with pauses.
        """
        head = f"{method} {path} HTTP/1.1\r\nHost: soak\r\n"
        self.writer.write((head + (f"Content-Length: {len(body)}\r\n\r\n" if body else "\r\n")).encode())
        size = -(-len(body) // pieces) or 1
        for start in range(0, len(body), size):
            self.writer.write(body[start : start + size])
            await self.writer.drain()
            if pause_s:
                await asyncio.sleep(pause_s)
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
        fields = dict(line.split(": ", 1) for line in lines[1:] if line)
        self.is_last = fields.get("connection") == "close"
        return int(lines[0].split(" ")[1]), await self._body(fields, slowly)

    async def _body(self, fields: dict[str, str], slowly: bool) -> bytes:
        if fields.get("transfer-encoding") == "chunked":
            parts = []
            while size := int(await self.reader.readuntil(b"\r\n"), 16):
                parts.append(await self.reader.readexactly(size))
                await self.reader.readexactly(2)
            await self.reader.readuntil(b"\r\n")
            return b"".join(parts)
        left = int(fields.get("content-length", "0"))
        if not slowly:
            return await self.reader.readexactly(left)
        parts = []
        while left:
            parts.append(await self.reader.readexactly(min(left, 32 * 1024)))
            left -= len(parts[-1])
            await asyncio.sleep(0.05)
        return b"".join(parts)

    async def close(self) -> None:
        self.writer.close()
        with suppress(OSError):
            await self.writer.wait_closed()


class Clients:
    """All clients, and what they have done since the last tally."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.stopping = asyncio.Event()
        self._done: dict[str, int] = {}
        self._took: list[float] = []
        self._failures: list[Failure] = []
        self._failed = 0

    def __repr__(self) -> str:
        return f"<Clients done={sum(self._done.values())} failed={self._failed}>"

    def tally(self) -> Tally:
        """Return what was done and begin anew."""
        took = sorted(self._took) or [0.0]
        found = Tally(
            at=monotonic(),
            done=self._done,
            p50_ms=round(took[len(took) // 2] * 1000, 3),
            p99_ms=round(took[min(len(took) - 1, int(len(took) * 0.99))] * 1000, 3),
            failures=self._failures,
            failed=self._failed,
        )
        self._done, self._took, self._failures, self._failed = {}, [], [], 0
        return found

    async def run(self) -> None:
        """Let all of them work until `stopping`."""
        async with asyncio.TaskGroup() as group:
            for kind, (count, client) in KINDS.items():
                for number in range(count):
                    group.create_task(client(self, kind, number))

    def did(self, kind: str) -> None:
        """Count a success."""
        self._done[kind] = self._done.get(kind, 0) + 1

    def fail(self, kind: str, reason: str, port: int = 0, connected_at: float = 0.0) -> None:
        """Note a failure."""
        self._failed += 1
        if len(self._failures) < KEPT:
            now = monotonic()
            self._failures.append(
                Failure(kind=kind, reason=reason, connection=port, connected_at=connected_at or now, failed_at=now)
            )

    def took(self, seconds: float) -> None:
        """Note the latency of a plain request."""
        self._took.append(seconds)

    async def pause(self, seconds: float) -> None:
        """Wait; less if it is the end."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.stopping.wait(), seconds)

    async def use(self, kind: str, service: str, requests: int, turn: Callable[[_Http], Awaitable[None]], pause_s: float) -> None:
        """Connect over and over; do something so many times on each connection (0: as often as it lasts)."""
        while not self.stopping.is_set():
            connection = await self._connect(kind, service)
            if connection is None:
                await self.pause(0.1)
                continue
            done = 0
            try:
                while not self.stopping.is_set() and not connection.is_last and not (requests and done == requests):
                    async with asyncio.timeout(SILENCE_S):
                        await turn(connection)
                    done += 1
                    self.did(kind)
                    await self.pause(pause_s)
                    if connection.reader.at_eof():
                        break  # ended between two requests, as any server may
            except _LOST as error:
                self.fail(kind, f"request {done + 1}: {error!r}", connection.port, connection.connected_at)
            finally:
                await connection.close()

    async def _connect(self, kind: str, service: str) -> _Http | None:
        try:
            async with asyncio.timeout(SILENCE_S):
                return _Http(*await asyncio.open_connection(self._site.address, self._site.ports[service], limit=2**18))
        except (OSError, TimeoutError) as error:
            self.fail(kind, f"connecting: {error!r}")
            return None

    async def open_socket(self, service: str) -> socket.socket:
        """Connect, and no more."""
        sock = socket.socket()
        sock.setblocking(False)
        try:
            async with asyncio.timeout(SILENCE_S):
                await asyncio.get_running_loop().sock_connect(sock, (self._site.address, self._site.ports[service]))
        except BaseException:
            sock.close()
            raise
        return sock

    def url(self, service: str) -> str:
        """Return where WebSockets of a Service are."""
        return f"ws://{self._site.address}:{self._site.ports[service]}/echo"


def _require(answer: tuple[int, bytes], status: int = 200, body: bytes | None = None) -> None:
    if answer[0] != status:
        raise _Wrong(f"status {answer[0]}: {answer[1][:80]!r}")
    if body is not None and answer[1] != body:
        raise _Wrong(f"a body of {len(answer[1])} bytes that is not what was sent")


def _bytes(message: str | bytes) -> bytes:
    return message.encode() if isinstance(message, str) else message


def _getting(service: str, path: str = "/ok", *, requests: int = 0, pause_s: float = 0.05, timed: bool = False) -> _Client:
    async def run(clients: Clients, kind: str, _number: int) -> None:
        async def turn(connection: _Http) -> None:
            began = monotonic()
            _require(await connection.ask("GET", path))
            if timed:
                clients.took(monotonic() - began)

        await clients.use(kind, service, requests, turn, pause_s)

    return run


def _posting(service: str, size: int, *, pieces: int = 1, piece_pause_s: float = 0.0, pause_s: float = 0.05) -> _Client:
    body = pattern(size)
    expected = f"{size} {zlib.crc32(body)}".encode()

    async def run(clients: Clients, kind: str, _number: int) -> None:
        async def turn(connection: _Http) -> None:
            _require(await connection.ask("POST", "/sum", body, pieces=pieces, pause_s=piece_pause_s), body=expected)

        await clients.use(kind, service, 20, turn, pause_s)

    return run


def _loading(service: str, size: int, *, slowly: bool, pause_s: float) -> _Client:
    body = pattern(size)

    async def run(clients: Clients, kind: str, _number: int) -> None:
        async def turn(connection: _Http) -> None:
            _require(await connection.ask("GET", f"/down/{size}", slowly=slowly), body=body)

        await clients.use(kind, service, 10, turn, pause_s)

    return run


async def _faulty(clients: Clients, kind: str, number: int) -> None:
    """Ask for trouble, and require that trouble."""
    asked = itertools.islice(itertools.cycle(_FAULTS), number, None)

    async def turn(connection: _Http) -> None:
        path, expected = next(asked)
        try:
            status, _ = await connection.ask("GET", path)
            seen = str(status)
        except asyncio.IncompleteReadError:
            if expected != _CUT:
                raise
            seen, connection.is_last = _CUT, True
        if seen != expected:
            raise _Wrong(f"{path} gave {seen}, not {expected}")

    await clients.use(kind, "faulty", 0, turn, 0.2)


async def _socket(clients: Clients, kind: str, number: int) -> None:
    """Send messages through a tunnel and require their echo; begin anew after half a minute."""
    while not clients.stopping.is_set():
        port, connected_at = 0, monotonic()
        try:
            sock = await clients.open_socket("socket")
            port = sock.getsockname()[1]
            async with connect(clients.url("socket"), sock=sock, compression=None, max_size=None) as tunnel:
                for turn in range(150 + 10 * number):
                    if clients.stopping.is_set():
                        break
                    message = pattern((turn * 7919) % 20_000)
                    await tunnel.send(message)
                    async with asyncio.timeout(SILENCE_S):
                        _require((200, _bytes(await tunnel.recv())), body=message)
                    clients.did(kind)
                    await clients.pause(0.2)
        except (OSError, ConnectionClosed, InvalidHandshake, InvalidMessage, TimeoutError, EOFError, _Wrong) as error:
            clients.fail(kind, f"{error!r}", port, connected_at)
            await clients.pause(0.1)


KINDS: dict[str, tuple[int, _Client]] = {
    "kept connections": (8, _getting("steady", timed=True)),
    "new connections": (3, _getting("steady", requests=1)),
    "POST": (2, _posting("steady", 500)),
    "changing endpoints and weights": (4, _getting("changing", pause_s=0.02)),
    "crashing endpoints": (3, _getting("crashing")),
    "POST to crashing endpoints": (1, _posting("crashing", 2000, pause_s=0.1)),
    "endpoints that close": (1, _getting("flaky", "/flaky/close", pause_s=0.1)),
    "endpoints that answer 503": (1, _getting("flaky", "/flaky/503", pause_s=0.1)),
    "faults asked for": (2, _faulty),
    "WebSocket messages": (4, _socket),
    "big downloads": (1, _loading("steady", _BIG, slowly=False, pause_s=0.5)),
    "big uploads": (1, _posting("steady", _BIG, pause_s=0.5)),
    "slow readers": (2, _loading("steady", _BIG, slowly=True, pause_s=0.1)),
    "slow writers": (2, _posting("steady", 10_000, pieces=10, piece_pause_s=0.2)),
}
"""What clients do, by name: how many there are and how."""


async def _run(site: Site) -> None:
    clients = Clients(site)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, clients.stopping.set)
    work = asyncio.create_task(clients.run())
    while not work.done():
        await asyncio.wait((work,), timeout=EVERY_S)
        print(msgspec.json.encode(clients.tally()).decode(), flush=True)
    await work


if __name__ == "__main__":
    uvloop.run(_run(msgspec.json.decode(sys.argv[1], type=Site)))

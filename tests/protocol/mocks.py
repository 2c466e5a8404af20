# SPDX-License-Identifier: Apache-2.0
"""An event loop with a manual clock and transports without sockets.

The loop runs what is ready when told to (`settle`) and lets time pass when told to (`advance`), so a test decides what happens
before what. A transport is stricter than uvloop's where that finds mistakes: writing to it after `close`, `abort` or `write_eof`
fails, and `connection_lost` comes in a later callback, once everything written has been taken by the peer.
"""

from __future__ import annotations

import asyncio
import heapq
import socket
import types
from typing import TYPE_CHECKING, Any, TypeVarTuple, Unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from contextvars import Context

__all__ = ["FakeServer", "FakeSocket", "FakeSocketModule", "MockLoop", "MockTransport", "new_loop"]

Address = tuple[str, int]
_Ts = TypeVarTuple("_Ts")


class FakeSocket:
    """What the pool connects.

    Attributes:
        readable: what the socket holds, though the loop has not told yet.
        sent: what was written to it before it had a transport.
        options: what has been set.
    """

    def __init__(self, *_: object) -> None:
        self.readable: bytes | OSError | None = None
        self.closed = False
        self.sent = b""
        self.options: dict[tuple[int, int], int] = {}

    def setsockopt(self, level: int, option: int, value: int) -> None:
        self.options[level, option] = value

    def recv(self, size: int, flags: int) -> bytes:
        assert flags & socket.MSG_DONTWAIT
        if self.readable is None:
            raise BlockingIOError
        if isinstance(self.readable, OSError):
            raise self.readable
        data = self.readable[:size]
        if not flags & socket.MSG_PEEK:
            self.readable = self.readable[size:]
        return data

    def close(self) -> None:
        self.closed = True


class FakeSocketModule(types.ModuleType):
    """Stands in for the module `socket`."""

    def __init__(self) -> None:
        super().__init__("socket")
        self.socket = FakeSocket

    def __getattr__(self, name: str) -> Any:
        return getattr(socket, name)


class MockTransport(asyncio.Transport):
    """One end of a connection whose other end is the test."""

    def __init__(self, loop: MockLoop, protocol: asyncio.Protocol, peer: Address, local: Address) -> None:
        super().__init__()
        self.loop = loop
        self.protocol = protocol
        self.peer: Address | None = peer
        self.local = local
        self.sent = b""
        self.high = 65536
        self.clogged = False
        self.unsent = b""
        self.writing_paused = False
        self.reading = True
        self.arriving: list[bytes | None] = []
        self.closing = False
        self.aborted = False
        self.eof_written = False
        self.lost = False
        self.extra: dict[str, Any] = {}
        loop.transports.append(self)

    def __repr__(self) -> str:
        return f"MockTransport({self.peer}, closing={self.closing}, aborted={self.aborted}, lost={self.lost})"

    # -- what the code under test calls

    def write(self, data: Any) -> None:
        assert not self.closing, f"write after close: {data!r}"
        assert not self.eof_written, f"write after write_eof: {data!r}"
        assert isinstance(data, bytes)
        if not self.clogged:
            self.sent += data
            return
        self.unsent += data
        if len(self.unsent) > self.high and not self.writing_paused:
            self.writing_paused = True
            self.protocol.pause_writing()

    def write_eof(self) -> None:
        assert not self.closing, "write_eof after close"
        self.eof_written = True

    def can_write_eof(self) -> bool:
        return "sslcontext" not in self.extra

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self.protocol = protocol

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            self.reading = False
            if not self.unsent:
                self.loop.call_soon(self._lose, None)

    def abort(self) -> None:
        self._force_close(None)

    def is_closing(self) -> bool:
        return self.closing

    def is_reading(self) -> bool:
        return self.reading

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        if not self.closing and not self.reading:
            self.reading = True
            self.loop.call_soon(self._deliver)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high is not None
        self.high = high

    def get_write_buffer_size(self) -> int:
        return len(self.unsent)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": self.peer or default, "sockname": self.local, **self.extra}.get(name, default)

    # -- what the peer does

    def take(self) -> bytes:
        """Return what has come to the peer since the last time."""
        data, self.sent = self.sent, b""
        return data

    def feed(self, data: bytes) -> None:
        """Send bytes."""
        self.arriving.append(data)
        self._deliver()
        self.loop.settle()

    def feed_eof_now(self) -> None:
        """Send the end of the stream before any other callback runs."""
        self.arriving.append(None)
        self._deliver()

    def feed_eof(self) -> None:
        """Send no more, but still read."""
        self.arriving.append(None)
        self._deliver()
        self.loop.settle()

    def reset(self) -> None:
        """Tear the connection down, as a peer that has crashed or gone for good."""
        if not self.lost:
            self.peer = None  # what getpeername says after a reset
            self.clogged = False
            self._force_close(ConnectionResetError("Connection reset by peer"))
        self.loop.settle()

    def clog(self) -> None:
        """Stop reading."""
        self.clogged = True

    def unclog(self) -> None:
        """Read everything that waits."""
        self.clogged = False
        self.sent += self.unsent
        self.unsent = b""
        if self.lost:
            return
        if self.writing_paused:
            self.writing_paused = False
            self.protocol.resume_writing()
        if self.closing:
            self.loop.call_soon(self._lose, None)
        self.loop.settle()

    @property
    def ended(self) -> bool:
        """Whether the peer has seen an orderly end of stream."""
        return (self.eof_written or self.lost) and not self.aborted and not self.unsent

    # -- inside

    def _deliver(self) -> None:
        while self.arriving and self.reading:
            data = self.arriving.pop(0)
            if data is not None:
                self.protocol.data_received(data)
                continue
            self.reading = False
            if not self.protocol.eof_received():
                self.close()

    def _force_close(self, error: Exception | None) -> None:
        if not self.lost:
            self.unsent = b""
            self.closing = True
            self.aborted = True
            self.reading = False
            self.loop.call_soon(self._lose, error)

    def _lose(self, error: Exception | None) -> None:
        if not self.lost:
            self.lost = True
            self.protocol.connection_lost(error)


class FakeServer:
    """Accepts whatever the test connects."""

    def __init__(self, factory: Callable[[], asyncio.Protocol], sock: Any) -> None:
        self.factory = factory
        self.address: Address = sock.getsockname()
        self.closed = False

    def close(self) -> None:
        self.closed = True


class MockLoop(asyncio.AbstractEventLoop):
    """An event loop whose time stands still.

    Attributes:
        now: the present.
        outcomes: what connecting to an address leads to: an error, or whatever a future will bring. A connection otherwise.
        handshakes: the server names that TLS was begun for; handshake: what a handshake leads to, an error or a certificate.
        on_accept: told of each connection to an address, before the code under test is; on_connect: of each attempt's number.
        errors: what escaped from callbacks.
    """

    def __init__(self) -> None:
        self.now = 1000.0
        self.outcomes: dict[Address, Exception | asyncio.Future[None]] = {}
        self.on_accept: Callable[[MockTransport], None] = lambda _: None
        self.on_connect: Callable[[int], None] = lambda _: None
        self.handshakes: list[str] = []
        self.handshake: Exception | dict[str, Any] = {}
        self.connects: list[Address] = []
        self.accepted: list[MockTransport] = []
        self.transports: list[MockTransport] = []
        self.servers: list[FakeServer] = []
        self.sockets: list[FakeSocket] = []
        self.errors: list[Any] = []
        self._targets: dict[FakeSocket, Address] = {}
        self._ready: list[asyncio.Handle] = []
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._count = 0

    def time(self) -> float:
        return self.now

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def call_soon(self, callback: Callable[[Unpack[_Ts]], object], *args: *_Ts, context: Context | None = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_later(
        self, delay: float, callback: Callable[[Unpack[_Ts]], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.now + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[Unpack[_Ts]], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._count += 1
        heapq.heappush(self._timers, (when, self._count, handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Nothing to count here; asyncio.TimerHandle.cancel calls it."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, **_: Any) -> asyncio.Task[Any]:
        return asyncio.Task(coro, loop=self)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.errors.append(context.get("exception") or context)

    async def create_server(self, protocol_factory: Any, *_: Any, **options: Any) -> Any:
        server = FakeServer(protocol_factory, options["sock"])
        self.servers.append(server)
        return server

    async def sock_connect(self, sock: Any, address: Any) -> None:
        self.connects.append(address)
        self.on_connect(len(self.connects))
        self.sockets.append(sock)
        self._targets[sock] = address
        outcome = self.outcomes.get(address)
        if isinstance(outcome, Exception):
            raise outcome
        if outcome is not None:
            await asyncio.shield(outcome)

    async def sock_sendall(self, sock: Any, data: Any) -> None:
        sock.sent += data

    async def create_connection(self, protocol_factory: Any, *_: Any, **options: Any) -> Any:
        extra = {}
        if options.get("ssl") is not None:
            self.handshakes.append(options["server_hostname"])
            if isinstance(self.handshake, Exception):
                raise self.handshake
            extra = {"sslcontext": options["ssl"], "peercert": self.handshake}
        protocol = protocol_factory()
        transport = MockTransport(self, protocol, self._targets[options["sock"]], ("10.9.9.9", 40000))
        transport.extra = extra
        self.accepted.append(transport)
        protocol.connection_made(transport)
        self.on_accept(transport)
        return transport, protocol

    # -- used by the tests

    def settle(self) -> None:
        """Run callbacks until none is ready."""
        asyncio._set_running_loop(self)
        try:
            for _ in range(10_000):
                ready, self._ready = self._ready, []
                if not ready:
                    return
                for handle in ready:
                    if not handle.cancelled():
                        handle._run()
            raise AssertionError("callbacks without end")
        finally:
            asyncio._set_running_loop(None)

    def advance(self, seconds: float) -> None:
        """Let time pass, timer by timer."""
        self.settle()
        end = self.now + seconds
        while self._timers and self._timers[0][0] <= end:
            when, _, handle = heapq.heappop(self._timers)
            if not handle.cancelled():
                self.now = max(self.now, when)
                self._ready.append(handle)
                self.settle()
        self.now = end

    def start(self, coro: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Begin a coroutine."""
        task = self.create_task(coro)
        self.settle()
        return task

    def run(self, coro: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine that needs no time."""
        task = self.start(coro)
        assert task.done()
        return task.result()

    def pending_timers(self) -> int:
        return sum(not handle.cancelled() for _, _, handle in self._timers)


def new_loop() -> MockLoop:
    """Return a loop that can do what the code under test needs, and not the rest."""
    return MockLoop()  # type: ignore[abstract]

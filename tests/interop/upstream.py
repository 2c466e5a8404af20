# SPDX-License-Identifier: Apache-2.0
"""A small HTTP/1.1 server in threads that records what it gets and does what a test asks: the upstream of the interop tests.

It is written on bare sockets, not on a library, so that a test can see and send every byte, stop reading, or break off.
"""

from __future__ import annotations

import secrets
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from io import BufferedReader

__all__ = ["Address", "Exchange", "Received", "Upstream", "free_address"]

Address = tuple[str, int]
_BLOCK = 64 * 1024
_JOIN_TIMEOUT_S = 10.0


def free_address() -> Address:
    """Return a loopback address that nobody uses, and a free port of it."""
    for _ in range(20):
        host = f"127.{secrets.randbelow(190) + 64}.{secrets.randbelow(256)}.{secrets.randbelow(254) + 1}"
        with socket.socket() as probe, suppress(OSError):
            probe.bind((host, 0))
            return host, probe.getsockname()[1]
    msg = "no free loopback address"
    raise OSError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A request head as it came, and the number of its connection, from 1."""

    method: str
    target: str
    version: str
    headers: tuple[tuple[str, str], ...]
    connection: int

    def values(self, name: str) -> list[str]:
        """Return the values of all lines of a field, by its lower-case name."""
        return [value for key, value in self.headers if key.lower() == name]


class Exchange:
    """One request and the way to answer it."""

    def __init__(self, request: Received, sock: socket.socket, reader: BufferedReader) -> None:
        self.request = request
        self.sock = sock
        self.keep_alive = request.version == "HTTP/1.1" and "close" not in request.values("connection")
        self._reader = reader
        self._chunks = self._decode()

    def chunks(self) -> Iterator[bytes]:
        """Yield the decoded body as it comes."""
        return self._chunks

    def body(self) -> bytes:
        """Read the whole body."""
        return b"".join(self._chunks)

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.sock.sendall(data)

    def answer(self, status: int = 200, body: bytes = b"", *, headers: Sequence[tuple[str, str]] = ()) -> None:
        """Send a complete answer with Content-Length; to HEAD only its head, and 204 and 304 have no body."""
        lines = [f"HTTP/1.1 {status} Whatever", *(f"{name}: {value}" for name, value in headers)]
        if status not in {204, 304}:
            lines.append(f"Content-Length: {len(body)}")
        head = "\r\n".join([*lines, "", ""]).encode()
        self.send(head if self.request.method == "HEAD" or status in {204, 304} else head + body)

    def answer_chunked(self, parts: Sequence[bytes]) -> None:
        """Send an answer in chunks; empty parts are left out, since an empty chunk is the end."""
        self.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for part in filter(None, parts):
            self.send(b"%x\r\n%b\r\n" % (len(part), part))
        self.send(b"0\r\n\r\n")

    def _decode(self) -> Iterator[bytes]:
        if "chunked" in self.request.values("transfer-encoding"):
            while size := int(self._reader.readline(), 16):
                yield self._reader.read(size)
                self._reader.readline()
            while self._reader.readline() not in {b"\r\n", b""}:
                pass  # trailers
            return
        left = int((self.request.values("content-length") or ["0"])[0])
        while left:
            data = self._reader.read1(min(left, _BLOCK))
            if not data:
                raise ConnectionResetError(f"{left} bytes of the body are missing")
            left -= len(data)
            yield data


class Upstream:
    """A server on a loopback address of its own, started at once; use it as a context manager.

    Any path answers 200 with `name`, after reading the body; `on` sets another behaviour for a path.

    Attributes:
        name: what it answers, by convention the version its pod is labelled with.
        address: where it listens.
    """

    def __init__(self, name: str = "v1", *, address: Address | None = None) -> None:
        self.name = name
        self._listener = socket.create_server(address or (free_address()[0], 0), backlog=1024)
        self.address: Address = self._listener.getsockname()
        self._behaviours: dict[str, Callable[[Exchange], None]] = {}
        self._received: list[Received] = []
        self._changed = threading.Condition()
        self._sockets: dict[socket.socket, threading.Thread] = {}
        self._accepted = 0
        self._thread = threading.Thread(target=self._accept, name=f"upstream {name}", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"<Upstream {self.name} {self.address[0]}:{self.address[1]} received={len(self.received)}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    @property
    def received(self) -> list[Received]:
        """The request heads so far, in order of arrival."""
        with self._changed:
            return list(self._received)

    def on(self, path: str, behaviour: Callable[[Exchange], None]) -> None:
        """Answer requests for `path` by calling `behaviour`; then the next request is read, or the connection closed."""
        self._behaviours[path] = behaviour

    def wait_received(self, condition: Callable[[list[Received]], bool], *, timeout_s: float = 10.0) -> list[Received]:
        """Wait until `condition` holds for the received heads, and return them."""
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self._received), timeout_s), f"only {self._received}"
            return list(self._received)

    def stop(self) -> None:
        """Stop listening, cut all connections, wait for the threads. Harmless when stopped."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept
        self._listener.close()
        self._thread.join(_JOIN_TIMEOUT_S)
        with self._changed:
            sockets = dict(self._sockets)
        for sock, thread in sockets.items():
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            thread.join(_JOIN_TIMEOUT_S)
            assert not thread.is_alive(), f"a behaviour of {self!r} hangs"

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._accepted += 1
            thread = threading.Thread(
                target=self._serve, args=(sock, self._accepted), name=f"connection {self._accepted}", daemon=True
            )
            with self._changed:
                self._sockets[sock] = thread
            thread.start()

    def _serve(self, sock: socket.socket, number: int) -> None:
        # A peer that goes away, or a behaviour that does not read a body, ends the connection; the test sees what came of it.
        with sock, sock.makefile("rb") as reader, suppress(OSError, ValueError):
            while (request := _read_head(reader, number)) is not None:
                with self._changed:
                    self._received.append(request)
                    self._changed.notify_all()
                exchange = Exchange(request, sock, reader)
                self._behaviours.get(request.target.partition("?")[0], self._default)(exchange)
                if not exchange.keep_alive:
                    _linger(sock, reader)
                    break
        with self._changed:
            self._sockets.pop(sock, None)

    def _default(self, exchange: Exchange) -> None:
        exchange.body()
        exchange.answer(200, f"{self.name}\n".encode())


def _linger(sock: socket.socket, reader: BufferedReader) -> None:
    """Close as a server should whose peer may still be sending: a reset would destroy the answer (RFC 9112 section 9.6)."""
    sock.shutdown(socket.SHUT_WR)
    while reader.read1(_BLOCK):
        pass


def _read_head(reader: BufferedReader, connection: int) -> Received | None:
    line = reader.readline()
    if not line:
        return None
    method, target, version = line.decode("latin-1").split()
    headers = []
    while (line := reader.readline()) != b"\r\n":
        if not line:
            raise ConnectionResetError("the connection ended within a head")
        name, _, value = line.decode("latin-1").partition(":")
        headers.append((name, value.strip()))
    return Received(method=method, target=target, version=version, headers=tuple(headers), connection=connection)

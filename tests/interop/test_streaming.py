# SPDX-License-Identifier: Apache-2.0
"""Big bodies in both directions: every byte arrives, the gateway's memory stays flat, a slow receiver slows the sender down."""

from __future__ import annotations

import threading
import zlib
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.interop.client import RawClient
from tests.interop.gateway import Gateway, Service, peak_rss_bytes, reset_peak_rss
from tests.interop.upstream import Exchange, Upstream

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

_MIB = 1024 * 1024
_BLOCK = bytes(range(256)) * (_MIB // 256)
_BLOCKS = 256
_SIZE = _BLOCKS * _MIB

_STALL_S = 1.0
"""No progress for so long counts as a stall. On a slow machine it may be taken for one too early, which fails nothing."""

_MAX_IN_FLIGHT = 64 * _MIB
"""What sockets between sender and stopped receiver may hold: Linux lets each grow to 4 or 6 MiB, and there are four."""

_MAX_GROWTH = 32 * _MIB
_DEADLINE_S = 60.0


@dataclass(slots=True)
class Tally:
    """Size and checksum of what passed."""

    size: int = 0
    crc: int = 0

    def add(self, data: bytes) -> None:
        self.size += len(data)
        self.crc = zlib.crc32(data, self.crc)


class Sender:
    """Sends the big body on a socket, and can be asked to stop at the first stall."""

    def __init__(self, sock: socket.socket, *, chunked: bool) -> None:
        self.sent = 0
        self._sock = sock
        frame = b"%x\r\n%b\r\n" % (_MIB, _BLOCK) if chunked else _BLOCK
        self._frame = memoryview(frame)
        self._left = _BLOCKS
        self._offset = 0
        self._end = b"0\r\n\r\n" if chunked else b""

    def send_until_stalled(self) -> None:
        self._sock.settimeout(_STALL_S)
        with suppress(TimeoutError):
            self._send()

    def send_rest(self) -> None:
        self._sock.settimeout(_DEADLINE_S)
        self._send()
        self._sock.sendall(self._end)

    def _send(self) -> None:
        while self._left:
            count = self._sock.send(self._frame[self._offset :])
            self.sent += count
            self._offset += count
            if self._offset == len(self._frame):
                self._offset = 0
                self._left -= 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    gateway: Gateway
    service: Service
    upstream: Upstream


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with ExitStack() as stack:
        upstream = stack.enter_context(Upstream("v1"))
        gateway = Gateway(tmp_path_factory.mktemp("streaming"))
        stack.callback(gateway.stop)
        service = gateway.add_service("helloworld", {"v1": [upstream]})
        gateway.start()
        yield Site(gateway=gateway, service=service, upstream=upstream)


@pytest.fixture(scope="module")
def expected() -> Tally:
    tally = Tally()
    for _ in range(_BLOCKS):
        tally.add(_BLOCK)
    return tally


def _framing(*, chunked: bool) -> bytes:
    return b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % _SIZE


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_a_big_request_body(site: Site, expected: Tally, chunked: bool) -> None:
    may_read = threading.Event()
    got = Tally()

    def receive(exchange: Exchange) -> None:
        assert may_read.wait(_DEADLINE_S)
        for data in exchange.chunks():
            got.add(data)
        exchange.answer(200, b"received")

    site.upstream.on(f"/upload/{chunked}", receive)
    (worker,) = site.gateway.workers()
    before = reset_peak_rss(worker)
    with RawClient(site.service.address) as client:
        client.send(f"POST /upload/{chunked} HTTP/1.1\r\nHost: helloworld\r\n".encode() + _framing(chunked=chunked) + b"\r\n\r\n")
        sender = Sender(client.sock, chunked=chunked)
        sender.send_until_stalled()
        assert sender.sent < _MAX_IN_FLIGHT
        may_read.set()
        sender.send_rest()
        assert client.answer().body == b"received"
    assert got == expected
    assert peak_rss_bytes(worker) - before < _MAX_GROWTH


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_a_big_answer(site: Site, expected: Tally, chunked: bool) -> None:
    stalled = threading.Event()
    senders: list[Sender] = []

    def answer(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\n" + _framing(chunked=chunked) + b"\r\n\r\n")
        sender = Sender(exchange.sock, chunked=chunked)
        senders.append(sender)
        sender.send_until_stalled()
        stalled.set()
        sender.send_rest()
        exchange.sock.settimeout(None)

    site.upstream.on(f"/download/{chunked}", answer)
    (worker,) = site.gateway.workers()
    before = reset_peak_rss(worker)
    got = Tally()
    with RawClient(site.service.address) as client:
        client.send(f"GET /download/{chunked} HTTP/1.1\r\nHost: helloworld\r\n\r\n".encode())
        assert stalled.wait(_DEADLINE_S)
        assert senders[0].sent < _MAX_IN_FLIGHT
        for data in client.stream():
            got.add(data)
    assert got == expected
    assert peak_rss_bytes(worker) - before < _MAX_GROWTH

# SPDX-License-Identifier: Apache-2.0
"""The helloworld server, bytes in and bytes out; as a process in tests/interop/test_demo.py."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from acmgproxy.demo.helloworld import HelloProtocol, main, parse_bind, serve


class _Transport(asyncio.WriteTransport):
    """Keeps what was written; writing after close is an error."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closed
        self.written += bytes(data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def transport() -> _Transport:
    return _Transport()


@pytest.fixture
def server(transport: _Transport) -> HelloProtocol:
    protocol = HelloProtocol("v1", "helloworld-v1-a", clock=lambda: 0.0)
    protocol.connection_made(transport)
    return protocol


def _answer(status: str, body: bytes, *, connection: str = "keep-alive", length: int | None = None) -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\ndate: Thu, 01 Jan 1970 00:00:00 GMT\r\ncontent-type: text/plain; charset=utf-8\r\n"
        f"content-length: {len(body) if length is None else length}\r\nconnection: {connection}\r\n\r\n"
    )
    return head.encode() + body


HELLO = b"Hello version: v1, instance: helloworld-v1-a\n"


def test_hello_tells_version_and_instance(server: HelloProtocol, transport: _Transport) -> None:
    server.data_received(b"GET /hello?a=b HTTP/1.1\r\nHost: h\r\n\r\n")
    assert transport.written == _answer("200 OK", HELLO)
    assert not transport.closed


def test_health_is_ok_and_the_rest_is_unknown(server: HelloProtocol, transport: _Transport) -> None:
    server.data_received(b"GET /health HTTP/1.1\r\nHost: h\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert transport.written == _answer("200 OK", b"Helloworld is healthy\n") + _answer("404 Not Found", b"not found\n")


def test_any_split_of_the_bytes_gives_the_same_answer(server: HelloProtocol, transport: _Transport) -> None:
    for byte in b"POST /hello HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabcGET /hello HTTP/1.1\r\nHost: h\r\n\r\n":
        server.data_received(bytes([byte]))
    assert transport.written == 2 * _answer("200 OK", HELLO)


def test_head_has_the_length_but_no_body(server: HelloProtocol, transport: _Transport) -> None:
    server.data_received(b"HEAD /hello HTTP/1.1\r\nHost: h\r\n\r\n")
    assert transport.written == _answer("200 OK", b"", length=len(HELLO))


def test_body_is_asked_for_when_the_client_waits(server: HelloProtocol, transport: _Transport) -> None:
    server.data_received(b"PUT /hello HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n")
    assert transport.written == b"HTTP/1.1 100 Continue\r\n\r\n"
    server.data_received(b"x")
    assert transport.written.endswith(_answer("200 OK", HELLO))


def test_connection_is_closed_when_the_client_asks(server: HelloProtocol, transport: _Transport) -> None:
    server.data_received(b"GET /hello HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    assert transport.written == _answer("200 OK", HELLO, connection="close")
    assert transport.closed


def test_garbage_is_refused_once(server: HelloProtocol, transport: _Transport) -> None:
    server.data_received(b"\x00\x01\r\n\r\n")
    server.data_received(b"more\r\n\r\n")
    assert transport.written == _answer("400 Bad Request", b"bad request\n", connection="close")


def test_bind_is_host_and_port() -> None:
    assert parse_bind("127.0.10.11:5000") == ("127.0.10.11", 5000)
    assert parse_bind("[::1]:80") == ("::1", 80)


@pytest.mark.parametrize("value", ["5000", ":5000", "host", "host:port"])
def test_bind_without_host_or_port_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r"is not HOST:PORT|invalid literal"):
        parse_bind(value)


async def test_sigterm_ends_serving(capsys: pytest.CaptureFixture[str]) -> None:
    serving = asyncio.create_task(serve(("127.0.0.1", 0), version="v2", instance="helloworld-v2-a"))
    said = ""
    async with asyncio.timeout(10):
        while not said:
            await asyncio.sleep(0)
            said = capsys.readouterr().out
        host, port = parse_bind(said.split()[-1])
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(b"GET /hello HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        os.kill(os.getpid(), signal.SIGTERM)
        await serving
    assert answer.endswith(b"Hello version: v2, instance: helloworld-v2-a\n")


def test_wrong_options_are_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--bind", "nowhere"])
    assert "--bind" in capsys.readouterr().err

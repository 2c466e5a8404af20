# SPDX-License-Identifier: Apache-2.0
"""The helloworld server: Istio's sample application, small enough to start in a tenth of a second.

    python -m acmgproxy.demo.helloworld --version v1 --bind 127.0.10.11:5000

`GET /hello` tells version and instance, `GET /health` says ok, anything else is 404. Answers are written in the order in which
requests were parsed, so pipelining works; request bodies are read and dropped. SIGTERM and SIGINT stop it with exit code 0.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import time
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING

import httptools

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["HelloProtocol", "main", "parse_bind", "serve"]


class HelloProtocol(asyncio.Protocol):
    """One connection.

    Args:
        version: what /hello calls the version.
        instance: what /hello calls the instance.
        clock: Unix time, for the Date field.
    """

    def __init__(self, version: str, instance: str, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._bodies = {
            b"/hello": f"Hello version: {version}, instance: {instance}\n".encode(),
            b"/health": b"Helloworld is healthy\n",
        }
        self._transport: asyncio.WriteTransport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._expects_continue = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to write."""
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Parse; answers are written by `on_message_complete`."""
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._answer(HTTPStatus.BAD_REQUEST, b"bad request\n", keep_alive=False)

    def on_message_begin(self) -> None:
        """Start a request."""
        self._target = b""
        self._expects_continue = False

    def on_url(self, url: bytes) -> None:
        """Collect the target, which may come in pieces."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Look for the one field that needs an action."""
        if name.lower() == b"expect" and value.lower() == b"100-continue":
            self._expects_continue = True

    def on_headers_complete(self) -> None:
        """Ask for the body if the client waits to be asked."""
        if self._expects_continue and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_message_complete(self) -> None:
        """Answer."""
        body = self._bodies.get(self._target.partition(b"?")[0])
        status = HTTPStatus.NOT_FOUND if body is None else HTTPStatus.OK
        self._answer(
            status,
            b"not found\n" if body is None else body,
            keep_alive=self._parser.should_keep_alive(),
            with_body=self._parser.get_method() != b"HEAD",
        )

    def _answer(self, status: HTTPStatus, body: bytes, *, keep_alive: bool, with_body: bool = True) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        connection = "keep-alive" if keep_alive else "close"
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\ndate: {formatdate(self._clock(), usegmt=True)}\r\n"
            f"content-type: text/plain; charset=utf-8\r\ncontent-length: {len(body)}\r\nconnection: {connection}\r\n\r\n"
        )
        transport.write(head.encode() + (body if with_body else b""))
        if not keep_alive:
            transport.close()


def parse_bind(value: str) -> tuple[str, int]:
    """Split HOST:PORT.

    Raises:
        ValueError: it is something else.
    """
    host, colon, port = value.rpartition(":")
    if not colon or not host:
        msg = f"{value!r} is not HOST:PORT"
        raise ValueError(msg)
    return host.strip("[]"), int(port)


async def serve(bind: tuple[str, int], *, version: str, instance: str) -> None:
    """Serve until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = await loop.create_server(lambda: HelloProtocol(version, instance), *bind)
    host, port = server.sockets[0].getsockname()[:2]
    print(f"helloworld {version} ({instance}) listens on {host}:{port}", flush=True)
    await stop.wait()
    server.close()


def main(argv: Sequence[str] | None = None) -> None:
    """Run the server as a program."""
    parser = argparse.ArgumentParser(prog="python -m acmgproxy.demo.helloworld", description="Istio's helloworld application.")
    parser.add_argument("--version", default="v1", help="version to answer with (default: v1)")
    parser.add_argument("--instance", default="", help="instance to answer with (default: helloworld-VERSION)")
    parser.add_argument("--bind", type=parse_bind, default=("127.0.0.1", 5000), help="HOST:PORT (default: 127.0.0.1:5000)")
    options = parser.parse_args(argv)
    asyncio.run(serve(options.bind, version=options.version, instance=options.instance or f"helloworld-{options.version}"))


if __name__ == "__main__":
    main()

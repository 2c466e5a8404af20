# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks of the data plane share: one that routes as the gateway of the comparison does, on transports in memory."""

from __future__ import annotations

import asyncio
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import yaml

from acmgproxy.dataplane import DataPlane
from acmgproxy.io.accepting import Listening
from acmgproxy.io.upstream import Upstream
from acmgproxy.settings import ProxySettings
from bench.load import BODY, HEADERS, PATH
from bench.peers.gateway import manifest
from routing.diff import diff
from routing.resources import decode
from routing.specs import Specs
from routing.store import Store
from routing.translate import translate

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ADDRESS", "ANSWER", "UPSTREAMS", "Transport", "data_plane", "idle_upstreams", "listening", "request", "transport"]

ADDRESS = ("127.0.10.1", 5000)
UPSTREAMS = (("127.0.10.11", 5000), ("127.0.10.12", 5000))
ANSWER = (
    b"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Mon, 23 Nov 2026 15:00:00 GMT\r\n"
    b"Content-Type: text/plain\r\nContent-Length: %d\r\nConnection: keep-alive\r\n\r\n%b" % (len(BODY), BODY)
)


class Transport:
    """As much of a transport as an undisturbed request needs."""

    def __init__(self) -> None:
        self.written = b""

    def write(self, data: bytes) -> None:
        """Keep what was written last."""
        self.written = data

    def get_extra_info(self, name: str) -> tuple[str, int]:
        """Return an address of either end."""
        return ("127.0.0.1", 40000) if name == "peername" else ADDRESS

    def set_write_buffer_limits(self, high: int) -> None:
        """Nothing is buffered."""

    def is_closing(self) -> bool:
        """It never does."""
        return False

    def close(self) -> None:
        """Nothing is to be done."""


def transport() -> asyncio.Transport:
    """Return a new one."""
    return cast("asyncio.Transport", Transport())


def request(headers: int = len(HEADERS)) -> bytes:
    """Return a request with that many header fields besides Host."""
    return "\r\n".join([f"GET {PATH} HTTP/1.1", "Host: helloworld:5000", *HEADERS[:headers], "", ""]).encode()


@contextmanager
def data_plane() -> Iterator[DataPlane]:
    """Give a data plane with the policy of the comparison; nothing runs its loop."""
    store = Store()
    for document in yaml.load_all(manifest(ADDRESS, UPSTREAMS), yaml.CSafeLoader):
        store.put(decode(document))
    change = diff(Specs(), translate(store).specs, 1)
    assert change is not None
    loop = asyncio.new_event_loop()
    plane = DataPlane(loop, ProxySettings(), 0)
    plane.apply(change)
    try:
        yield plane
    finally:
        loop.close()


@contextmanager
def listening(plane: DataPlane) -> Iterator[Listening]:
    """Give what connections are accepted from."""
    (name,) = plane.table.listeners
    with socket.socket() as sock:
        yield Listening(plane.table.listeners[name], name, sock)


@contextmanager
def idle_upstreams(plane: DataPlane, each: int = 1) -> Iterator[list[Upstream]]:
    """Give idle connections to every endpoint."""
    made = []
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for cluster in plane.table.clusters.values():
            for endpoint in cluster.endpoints:
                pool = plane.open_pool(cluster, endpoint)
                for _ in range(each):
                    upstream = Upstream(pool, ours)
                    upstream.connection_made(transport())
                    pool.give_back(upstream)
                    made.append(upstream)
        yield made

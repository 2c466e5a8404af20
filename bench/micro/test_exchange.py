# SPDX-License-Identifier: Apache-2.0
"""What a whole request costs without the system calls: parsed, routed, sent on, answered and counted, on connections in memory.

This is the part of the CPU time per request that Python code decides; reading and writing four times is the rest.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, cast

import pytest
import yaml

from acmgproxy.dataplane import DataPlane
from acmgproxy.io.accepting import Listening
from acmgproxy.io.downstream import Downstream
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

    from pytest_benchmark.fixture import BenchmarkFixture

_ADDRESS = ("127.0.10.1", 5000)
_UPSTREAMS = (("127.0.10.11", 5000), ("127.0.10.12", 5000))
_ANSWER = (
    b"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Mon, 23 Nov 2026 15:00:00 GMT\r\n"
    b"Content-Type: text/plain\r\nContent-Length: %d\r\nConnection: keep-alive\r\n\r\n%b" % (len(BODY), BODY)
)


class _Transport:
    """As much of a transport as an undisturbed request needs."""

    def __init__(self) -> None:
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written = data

    def get_extra_info(self, name: str) -> tuple[str, int]:
        return ("127.0.0.1", 40000) if name == "peername" else _ADDRESS

    def set_write_buffer_limits(self, high: int) -> None:
        pass

    def is_closing(self) -> bool:
        return False


@pytest.fixture
def plane() -> Iterator[DataPlane]:
    """A data plane that routes as the gateway of the comparison does; nothing runs its loop."""
    store = Store()
    for document in yaml.load_all(manifest(_ADDRESS, _UPSTREAMS), yaml.CSafeLoader):
        store.put(decode(document))
    change = diff(Specs(), translate(store).specs, 1)
    assert change is not None
    loop = asyncio.new_event_loop()
    plane = DataPlane(loop, ProxySettings(), 0)
    plane.apply(change)
    yield plane
    loop.close()


def _transport() -> asyncio.Transport:
    return cast("asyncio.Transport", _Transport())


@pytest.mark.parametrize("headers", [0, 10])
def test_a_request_and_its_answer(benchmark: BenchmarkFixture, plane: DataPlane, headers: int) -> None:
    """Kept connections on both sides, one small answer."""
    (name,) = plane.table.listeners
    with socket.socket() as listening:
        downstream = Downstream(plane, Listening(plane.table.listeners[name], name, listening))
    client = _transport()
    downstream.connection_made(client)
    with socket.socket() as unused:
        for cluster in plane.table.clusters.values():
            for endpoint in cluster.endpoints:
                upstream = Upstream(plane.open_pool(cluster, endpoint), unused)
                upstream.connection_made(_transport())
                upstream.pool.give_back(upstream)
        request = "\r\n".join([f"GET {PATH} HTTP/1.1", "Host: helloworld:5000", *HEADERS[:headers], "", ""]).encode()

        def once() -> None:
            downstream.data_received(request)
            exchange = downstream.exchange
            assert exchange is not None
            assert exchange.upstream is not None
            exchange.upstream.data_received(_ANSWER)

        benchmark(once)
    assert cast("_Transport", client).written.endswith(BODY)
    assert downstream.exchange is None

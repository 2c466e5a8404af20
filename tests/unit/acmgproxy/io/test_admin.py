# SPDX-License-Identifier: Apache-2.0
"""Facts about the admin server's answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from acmgproxy.io.admin import AdminServer
from acmgproxy.sockets import open_admin_socket

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from prometheus_client.core import Metric


class OneGauge(Collector):
    def collect(self) -> Iterable[Metric]:
        yield GaugeMetricFamily("x", "An x.", value=1)


class View:
    def __init__(self) -> None:
        self.reason = ""

    def not_ready_because(self) -> str:
        return self.reason

    def listeners(self) -> list[dict[str, Any]]:
        return [{"name": "a"}]

    def config(self) -> dict[str, Any]:
        return {"version": 1}

    async def metrics(self) -> Collector:
        return OneGauge()


@pytest.fixture
def view() -> View:
    return View()


@pytest.fixture
async def client(view: View) -> AsyncIterator[aiohttp.ClientSession]:
    server = AdminServer(view, open_admin_socket("127.0.0.1", 0))
    await server.start()
    assert repr(server) == f"<AdminServer {server.url}>"
    async with aiohttp.ClientSession(server.url) as session:
        yield session
    await server.close()


async def test_health_and_readiness_are_plain_text(client: aiohttp.ClientSession, view: View) -> None:
    async with client.get("/healthz") as answer:
        assert (answer.status, await answer.text(), answer.content_type) == (200, "ok\n", "text/plain")
    async with client.get("/ready") as answer:
        assert (answer.status, await answer.text()) == (200, "ready\n")
    view.reason = "draining"
    async with client.get("/ready") as answer:
        assert (answer.status, await answer.text()) == (503, "not ready: draining\n")


async def test_listeners_and_configuration_are_json(client: aiohttp.ClientSession) -> None:
    async with client.get("/listeners") as answer:
        assert await answer.json() == [{"name": "a"}]
    async with client.get("/config") as answer:
        assert await answer.json() == {"version": 1}


async def test_metrics_are_prometheus_text(client: aiohttp.ClientSession) -> None:
    async with client.get("/metrics") as answer:
        assert answer.content_type == "text/plain"
        assert "x 1.0\n" in await answer.text()


async def test_the_index_names_all_pages(client: aiohttp.ClientSession) -> None:
    async with client.get("/") as answer:
        assert "/metrics\n" in await answer.text()
    async with client.get("/nothing") as answer:
        assert answer.status == 404


async def test_an_ipv6_address_is_written_in_brackets(view: View) -> None:
    sock = open_admin_socket("::1", 0)
    assert AdminServer(view, sock).url == f"http://[::1]:{sock.getsockname()[1]}"
    sock.close()

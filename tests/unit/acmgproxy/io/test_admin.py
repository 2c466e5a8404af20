# SPDX-License-Identifier: Apache-2.0
"""Facts about the admin server's answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from acmgproxy.access_log import AccessLogOptions
from acmgproxy.dashboard import ASSETS, PAGE
from acmgproxy.io.admin import HEALTH_PAGES, AdminServer, Page
from acmgproxy.io.admin_logging import LoggingState
from acmgproxy.metrics.exposition import blocks
from acmgproxy.sockets import open_admin_socket

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator

    from prometheus_client.core import Metric

    from acmgproxy.asking import Question
    from acmgproxy.log_levels import Level


class OneGauge(Collector):
    def __init__(self, name: str) -> None:
        self.name = name

    def collect(self) -> Iterable[Metric]:
        yield GaugeMetricFamily(self.name, "One.", value=1)


class View:
    def __init__(self) -> None:
        self.reason = ""
        self.etag = "one"

    def not_ready_because(self) -> str:
        return self.reason

    async def listeners(self) -> Page:
        return Page(b'[{"name":"a"}]', self.etag)

    def config(self) -> dict[str, Any]:
        return {"version": 1}

    async def overview(self, seconds: float) -> dict[str, Any]:
        return {"all": seconds}

    async def overview_services(self, seconds: float) -> dict[str, Any]:
        return {"services": seconds}

    async def overview_service(self, name: str, seconds: float) -> dict[str, Any] | None:
        return {"name": name, "seconds": seconds} if name == "shop/reviews" else None

    async def explain(self, question: Question) -> dict[str, Any]:
        return {"url": question.url}

    def logging(self) -> LoggingState:
        return LoggingState(access_log=AccessLogOptions(), level="info")

    async def set_logging(self, access_log: AccessLogOptions, level: Level) -> LoggingState:
        return LoggingState(access_log=access_log, level=level)

    async def metrics(self) -> Iterator[bytes]:
        return blocks([OneGauge("x"), OneGauge("y")], dict)


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


async def test_listeners_are_sent_only_when_they_changed(client: aiohttp.ClientSession, view: View) -> None:
    async with client.get("/listeners") as answer:
        assert answer.headers["ETag"] == '"one"'
    for known in ('"one"', '"other", "one"', 'W/"one"', "*"):
        async with client.get("/listeners", headers={"If-None-Match": known}) as answer:
            assert (answer.status, await answer.read(), answer.headers["ETag"]) == (304, b"", '"one"')
    view.etag = "two"
    async with client.get("/listeners", headers={"If-None-Match": '"one"'}) as answer:
        assert (answer.status, answer.headers["ETag"]) == (200, '"two"')
        assert await answer.json() == [{"name": "a"}]


async def test_the_health_server_does_not_show_the_configuration(view: View) -> None:
    server = AdminServer(view, open_admin_socket("127.0.0.1", 0), pages=HEALTH_PAGES)
    await server.start()
    async with aiohttp.ClientSession(server.url) as session:
        for page in ("/healthz", "/ready", "/metrics", "/listeners", "/overview/services"):
            async with session.get(page) as answer:
                assert answer.status == 200
        for page in ("/config", "/overview", "/overview/service?name=shop/reviews", "/dashboard"):
            async with session.get(page) as answer:
                assert answer.status == 404
        async with session.get("/") as answer:
            assert "/config" not in await answer.text()
    await server.close()


async def test_metrics_are_prometheus_text(client: aiohttp.ClientSession) -> None:
    async with client.get("/metrics") as answer:
        assert answer.content_type == "text/plain"
        text = await answer.text()
        assert "x 1.0\n" in text
        assert "y 1.0\n" in text


async def test_the_index_names_all_pages(client: aiohttp.ClientSession) -> None:
    async with client.get("/") as answer:
        assert "/metrics\n" in await answer.text()
    async with client.get("/nothing") as answer:
        assert answer.status == 404


async def test_an_ipv6_address_is_written_in_brackets(view: View) -> None:
    sock = open_admin_socket("::1", 0)
    assert AdminServer(view, sock).url == f"http://[::1]:{sock.getsockname()[1]}"
    sock.close()


async def test_the_overview_is_json_of_a_window(client: aiohttp.ClientSession) -> None:
    for path, wanted in (
        ("/overview", {"all": 60.0}),
        ("/overview?window=300", {"all": 300.0}),
        ("/overview/services?window=5", {"services": 5.0}),
        ("/overview/service?name=shop/reviews&window=1.5", {"name": "shop/reviews", "seconds": 1.5}),
    ):
        async with client.get(path) as answer:
            assert (answer.status, await answer.json()) == (200, wanted)


async def test_what_makes_no_sense_is_said_to(client: aiohttp.ClientSession) -> None:
    for window in ("0", "301", "nan", "soon", ""):
        async with client.get("/overview", params={"window": window}) as answer:
            assert (answer.status, await answer.text()) == (400, f"window={window}: give seconds, 1 to 300\n")
    for query, what in (("", "no name given"), ("?name=a/b", "no Service a/b")):
        async with client.get(f"/overview/service{query}") as answer:
            assert (answer.status, await answer.text()) == (404, f"{what}; ask for /overview/service?name=NAMESPACE/SERVICE\n")


async def test_browsers_are_led_to_the_dashboard(client: aiohttp.ClientSession) -> None:
    async with client.get("/", headers={"Accept": "text/html,*/*"}, allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (302, "dashboard")
    async with client.get("/", headers={"Accept": "text/html,*/*"}) as answer:
        assert (answer.status, answer.content_type) == (200, "text/html")
    async with client.get("/") as answer:
        assert "/dashboard\n" in await answer.text()
        assert "/dashboard/" not in await answer.text()


async def test_files_of_the_dashboard_have_a_policy_and_a_tag(client: aiohttp.ClientSession) -> None:
    for path, asset in {**ASSETS, PAGE: ASSETS[f"{PAGE}/index.html"]}.items():
        async with client.get(path) as answer:
            assert (answer.status, await answer.read(), answer.content_type) == (200, asset.body, asset.content_type)
            policy = answer.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
        async with client.get(path, headers={"If-None-Match": f'"{asset.etag}"'}) as answer:
            assert (answer.status, await answer.read()) == (304, b"")


def test_the_page_has_no_code_within_its_markup() -> None:
    markup = ASSETS[f"{PAGE}/index.html"].body.decode()
    assert "style=" not in markup
    assert " on" not in "".join(part.partition(">")[0] for part in markup.split("<"))
    for name, asset in ASSETS.items():
        if name.endswith(".js"):
            code = asset.body.decode()
            for word in ("innerHTML", "insertAdjacentHTML", "outerHTML", "document.write", "eval(", "new Function"):
                assert word not in code

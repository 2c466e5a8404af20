# SPDX-License-Identifier: Apache-2.0
"""Facts about where `acmgctl route` and `acmgctl config` get a configuration from, when that fails or is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from aiohttp import web

from acmgproxy.asking import Question, answer
from acmgproxy.ctl import origins
from acmgproxy.ctl.cluster import CtlError, Where
from acmgproxy.ctl.origins import Asked, explain_there, read_specs
from discovery.kube import ApiError
from tests.kube import FakeApiServer
from tests.unit.acmgproxy.ctl.stub import StubClient
from tests.unit.routing import table_kit as kit
from tests.unit.routing.table_kit import HOST, KEY, virtual_host

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

from routing.specs import Specs

HERE = Where()
QUESTION = Question(url=f"http://{HOST}/")
PODS = "/api/v1/namespaces/acmg-system/pods"
SPECS = Specs(virtual_hosts={KEY: virtual_host()}, clusters={"web": kit.cluster()}, endpoints={"web": (kit.endpoint(),)})


@pytest.fixture
async def serve() -> AsyncIterator[Any]:
    """Serve every page with a handler; return the URL."""
    runners = []

    async def start(handler: Callable[[web.Request], Awaitable[web.Response]]) -> str:
        app = web.Application()
        app.router.add_get("/{page}", handler)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.01)
        runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"127.0.0.1:{runner.addresses[0][1]}"

    yield start
    for runner in runners:
        await runner.cleanup()


def explained(version: int, **workers: int) -> bytes:
    found = answer(SPECS, QUESTION, lambda _namespace, _name: ())
    return msgspec.json.encode({"version": version, "worker_versions": workers, "explanation": found})


async def test_workers_that_are_behind_are_mentioned(serve: Any) -> None:
    async def page(_request: web.Request) -> web.Response:
        return web.Response(body=explained(3, w0=3, w1=2))

    told = await explain_there(Asked(gateway=await serve(page), where=HERE), QUESTION)
    assert told.notes == ("worker w1 does not have this configuration yet",)
    assert told.origin.endswith(", configuration 3")


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (200, b"{}", "none of this release"),
        (200, b"no", "none of this release"),
        (404, b"404: Not Found", "answers with 404; is it the admin server"),
        (400, b"[]", "answers with 400"),
        (400, b'{"error": "ask otherwise"}', "^ask otherwise$"),
    ],
)
async def test_answers_that_are_none_are_told(serve: Any, status: int, body: bytes, reason: str) -> None:
    async def page(_request: web.Request) -> web.Response:
        return web.Response(status=status, body=body)

    asked = Asked(gateway=await serve(page), where=HERE)
    with pytest.raises(CtlError, match=reason) as caught:
        await explain_there(asked, QUESTION)
    assert caught.value.code == 2


async def test_a_configuration_of_another_release_is_told(serve: Any) -> None:
    async def page(_request: web.Request) -> web.Response:
        return web.Response(body=b'{"listeners": 1}')

    with pytest.raises(CtlError, match="none of this release"):
        await read_specs(Asked(gateway=await serve(page), where=HERE))


async def test_a_gateway_that_does_not_answer_in_time_is_told(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio  # noqa: PLC0415 - for this one wait

    async def page(_request: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(origins, "_TIMEOUT_S", 0.05)
    with pytest.raises(CtlError, match="does not answer in time"):
        await read_specs(Asked(gateway=await serve(page), where=HERE))


@pytest.mark.parametrize("status", [403, 503, 0])
async def test_gateways_that_cannot_be_asked_are_passed_by(status: int) -> None:
    pod = {"metadata": {"name": "g"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    proxy = f"{PODS}/g%3A15000/proxy/config"
    client = StubClient({("GET", PODS): [{"items": [pod]}], ("GET", proxy): [ApiError(status, "", "")]})
    assert await origins._ask_any(client.client, "/config") is None
    assert ("GET", proxy) in client.asked


async def test_a_gateway_that_is_not_ready_is_not_asked() -> None:
    pod = {"metadata": {"name": "g"}, "status": {"conditions": []}}
    client = StubClient({("GET", PODS): [{"items": [pod]}]})
    assert await origins._ask_any(client.client, "/config") is None
    assert list(client.asked) == [("GET", PODS)]


async def test_without_the_right_to_see_pods_no_gateway_is_asked() -> None:
    client = StubClient({("GET", PODS): [ApiError(403, "Forbidden", "no")]})
    assert await origins._ask_any(client.client, "/config") is None
    with pytest.raises(ApiError):
        await origins._ask_any(StubClient({("GET", PODS): [ApiError(500, "", "no")]}).client, "/config")


async def test_kinds_that_cannot_be_read_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(origins, "_READ_S", 0.5)
    async with FakeApiServer() as api:
        api.faults.answer(403, count=None, match=lambda request: request.path.endswith("/services"))
        asked = Asked(kubernetes=True, where=Where(kubeconfig=api.kubeconfig(tmp_path)))
        with pytest.raises(CtlError, match=r"Service \(.*could not be read.*list and watch") as caught:
            await read_specs(asked)
    assert caught.value.code == 2

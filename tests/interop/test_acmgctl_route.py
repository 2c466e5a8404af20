# SPDX-License-Identifier: Apache-2.0
"""Facts about `acmgctl route` and `acmgctl config` asking a live gateway, and a (fake) cluster: what they say is what happens."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import yaml
from aiohttp import web

from tests.interop.acmgctl import Acmgctl, capture_by_hand, gateway_node, web_service
from tests.kube import FakeApiServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from tests.interop.acmgctl import Ended
    from tests.interop.gateway import Gateway, Service
    from tests.interop.upstream import Upstream

NAMESPACE = "acmg-system"
POD = "acmg-gateway-x"


class Live:
    """A gateway with two versions of a Service behind it, and acmgctl asking it."""

    def __init__(self, gateway: Gateway, service: Service, versions: dict[str, Upstream], directory: Path) -> None:
        self.gateway = gateway
        self.service = service
        self.versions = versions
        self.acmgctl = Acmgctl(directory / "no-kubeconfig")

    @property
    def url(self) -> str:
        return f"http://reviews.default:{self.service.address[1]}"

    def run(self, *arguments: str) -> Ended:
        return asyncio.run(self.acmgctl(*arguments))

    def ask(self, *arguments: str) -> dict[str, Any]:
        ended = self.run("route", *arguments, "--gateway", self.gateway.admin, "-o", "json")
        assert ended.code in {0, 1}, ended.err
        found: dict[str, Any] = json.loads(ended.out)
        return found

    def send(self, path: str, **headers: str) -> tuple[int, str]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self.service.url(path), headers=named)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read().decode().strip()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode().strip()


@pytest.fixture
def live(gateway: Gateway, make_upstream: Callable[..., Upstream], tmp_path: Path) -> Live:
    versions = {"v1": make_upstream("v1"), "v2": make_upstream("v2")}
    service = gateway.add_service("reviews", {name: [upstream] for name, upstream in versions.items()})
    gateway.add_caller("sleep", "127.0.0.1")
    subsets = [{"name": name, "labels": {"version": name}} for name in versions]
    policy = {"outlierDetection": {"consecutive5xxErrors": 2, "maxEjectionPercent": 100, "baseEjectionTime": "1h"}}
    _apply(gateway, "DestinationRule", {"host": "reviews", "subsets": subsets, "trafficPolicy": policy})
    jason = {"name": "jason", "match": [{"headers": {"end-user": {"exact": "jason"}}}], "route": [_to("v2")]}
    mine = {"name": "mine", "match": [{"uri": {"prefix": "/mine"}, "sourceLabels": {"app": "sleep"}}], "route": [_to("v2")]}
    fixed = {"match": [{"uri": {"exact": "/fixed"}}], "directResponse": {"status": 418, "body": {"string": "tea"}}}
    rest = {"match": [{"uri": {"prefix": "/"}, "method": {"exact": "GET"}}], "route": [_to("v1")]}
    _apply(gateway, "VirtualService", {"hosts": ["reviews"], "http": [jason, mine, fixed, rest]})
    gateway.start("--access-log", "off")
    return Live(gateway, service, versions, tmp_path)


def _to(subset: str) -> dict[str, Any]:
    return {"destination": {"host": "reviews", "subset": subset}}


def _apply(gateway: Gateway, kind: str, spec: dict[str, Any]) -> None:
    meta = {"name": "reviews", "namespace": "default"}
    gateway.apply({"apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": meta, "spec": spec})


@pytest.mark.parametrize(
    ("path", "headers"),
    [("/x", {}), ("/x", {"end-user": "jason"}), ("/mine/a", {}), ("/fixed", {}), ("/x?q=a%20b&c", {"end-user": "jas on+&="})],
    ids=str,
)
def test_what_it_says_is_what_happens(live: Live, path: str, headers: dict[str, str]) -> None:
    lines = [part for name, value in headers.items() for part in ("-H", f"{name}: {value}")]
    found = live.ask(live.url + path, *lines, "--from", "default/sleep")
    status, body = live.send(path, **headers)
    if found["answer"] is not None:
        assert (found["answer"]["status"], found["answer"]["body"]) == (status, body)
        return
    (destination,) = found["forward"]["destinations"]
    assert (status, body) == (200, destination["subset"])
    host, port = live.versions[body].address
    assert [(one["address"], one["port"], one["usable"]) for one in destination["endpoints"]] == [(host, port, True)]


def test_a_live_gateway_says_what_its_workers_know(live: Live) -> None:
    live.versions["v1"].on("/bad", lambda exchange: exchange.answer(500))
    for _ in range(2):
        assert live.send("/bad")[0] == 500
    found = live.ask(live.url + "/x")
    (endpoint,) = found["forward"]["destinations"][0]["endpoints"]
    assert (endpoint["active"], endpoint["ejected_by"]) == (0, 1)
    text = live.run("route", live.url + "/x", "--gateway", live.gateway.admin).out
    assert "0 requests in flight; ejected by 1 worker\n" in text
    assert ": 1 endpoint, 1 of them ejected\n" in text
    assert f"According to gateway {live.gateway.admin}, configuration 1\n" in text


def test_a_live_gateway_refuses_questions_as_files_do(live: Live) -> None:
    ended = live.run("route", live.url, "--from", "default/nobody", "--gateway", live.gateway.admin)
    offline = live.run("route", live.url, "--from", "default/nobody", "--config", str(live.gateway.config))
    assert (ended.code, ended.err) == (2, offline.err)
    assert "no pod and no workload default/nobody is known" in ended.err


def test_files_and_a_live_gateway_say_the_same(live: Live) -> None:
    question = ("route", "GET", live.url + "/mine", "--from", "default/sleep", "-o", "json")
    here = json.loads(live.run(*question, "--config", str(live.gateway.config)).out)
    there = json.loads(live.run(*question, "--gateway", live.gateway.admin).out)
    for endpoint in there["forward"]["destinations"][0]["endpoints"]:
        endpoint["active"] = endpoint["ejected_by"] = None
    assert there | {"origin": ""} == here | {"origin": ""}
    for kind in ("listeners", "routes", "clusters", "endpoints"):
        listed = [live.run("config", kind, "-o", "json", *source).out for source in (
            ("--config", str(live.gateway.config)), ("--gateway", live.gateway.admin)
        )]  # fmt: skip
        assert listed[0] == listed[1]
        assert json.loads(listed[0])


def test_what_is_no_admin_server_is_told(live: Live) -> None:
    ended = live.run("route", live.url, "--gateway", "127.0.0.1:1")
    assert ended.code == 2
    assert "no admin server at 127.0.0.1:1" in ended.err
    assert "kubectl port-forward -n acmg-system" in ended.err
    ended = live.run("config", "routes", "--gateway", live.service.url())
    assert ended.code == 2
    assert "is it the admin server" in ended.err or "none of this release" in ended.err


# A cluster.


@pytest.fixture
async def api() -> AsyncIterator[FakeApiServer]:
    async with FakeApiServer(endpointslices=True, gc=True, workloads=True, kubelet=True) as api:
        yield api


async def test_without_a_gateway_to_ask_the_clusters_objects_decide(api: FakeApiServer, tmp_path: Path) -> None:
    acmgctl = Acmgctl(api.kubeconfig(tmp_path))
    gateway_node(api)
    assert (await acmgctl("install")).code == 0
    web_service(api, "web")
    ended = await acmgctl("route", "http://web.default/", "--from", "default")
    assert "`acmgctl capture default/web` makes it so" in ended.out
    capture_by_hand(api, "web")
    for options in ((), ("--kubernetes",)):
        ended = await acmgctl("route", "http://web.default/", "--from", "default", *options)
        assert ended.code == 0, ended.err
        assert "listener  web.default.svc.cluster.local:80 at *:20001\n" in ended.out
        assert f"According to objects of {api.url}\n" in ended.out
    ended = await acmgctl("config", "listeners")
    assert "web.default.svc.cluster.local:80  80    *:20001" in ended.out


async def test_a_gateway_is_asked_through_the_api_server_where_that_leads_to_its_admin_server(live: Live, tmp_path: Path) -> None:
    pod = {
        "metadata": {"name": POD, "labels": {}},
        "spec": {"containers": [{}]},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }

    async def pods(_request: web.Request) -> web.Response:
        return web.json_response({"kind": "PodList", "items": [pod]})

    async def proxy(request: web.Request) -> web.Response:
        target = f"{live.gateway.admin}/{request.raw_path.partition('/proxy/')[2]}"
        async with aiohttp.ClientSession() as session, session.get(target) as answer:
            return web.Response(status=answer.status, body=await answer.read(), content_type=answer.content_type)

    app = web.Application()
    app.router.add_get(f"/api/v1/namespaces/{NAMESPACE}/pods", pods)
    app.router.add_get(f"/api/v1/namespaces/{NAMESPACE}/pods/{POD}:15000/proxy/{{page}}", proxy)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    kubeconfig = tmp_path / "front"
    kubeconfig.write_text(_kubeconfig(f"http://127.0.0.1:{runner.addresses[0][1]}"), encoding="utf-8")
    acmgctl = Acmgctl(kubeconfig)
    ended = await acmgctl("route", live.url + "/x?a=b%20c", "-H", "end-user: jason", "-H", "x: &=+", "-o", "json")
    found = json.loads(ended.out)
    assert ended.code == 0, ended.err
    assert found["origin"].startswith(f"gateway {POD}, configuration ")
    assert found["route"]["name"] == "jason"
    ended = await acmgctl("config", "clusters", "-o", "json")
    assert "outbound|" in ended.out
    await runner.cleanup()


def _kubeconfig(server: str) -> str:
    return yaml.dump({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    })  # fmt: skip

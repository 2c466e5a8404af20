# SPDX-License-Identifier: Apache-2.0
"""The walk of docs/troubleshoot.md, from a failing request to its cause with acmgctl alone: a (fake) cluster, a real gateway.

What the document shows is what is printed here: its lines are looked for in the output, but for names that change.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import yaml
from aiohttp import web

from tests.interop.acmgctl import Acmgctl, Ended, gateway_node, until
from tests.interop.upstream import free_address
from tests.kube import FakeApiServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.interop.gateway import Gateway
    from tests.interop.upstream import Upstream

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "troubleshoot.md"
GATEWAY_PORT = 20001


def pod(name: str, address: str, labels: dict[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": labels},
        "spec": {"nodeName": "node-1", "containers": [{"name": "main", "image": "main"}]},
        "status": {
            "phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }  # fmt: skip


def captured_service(port: int) -> list[dict[str, Any]]:
    """Return reviews and its shadow, as the controller leaves them."""
    ports = [{"name": "http", "port": 9080, "targetPort": port}]
    meta = {"name": "reviews", "namespace": "default", "labels": {"acmg.io/capture": "enabled"}}
    meta["annotations"] = {"acmg.io/status": "captured"}
    shadow = {
        "name": "reviews-acmg",
        "namespace": "default",
        "labels": {"acmg.io/shadow": "true", "acmg.io/shadow-of": "reviews"},
        "annotations": {"acmg.io/gateway-ports": f'{{"9080":{GATEWAY_PORT}}}'},
    }
    spec = {"selector": {"app": "reviews"}, "ports": ports}
    return [
        {
            "apiVersion": "v1", "kind": "Service", "metadata": meta,
            "spec": {**spec, "selector": {"app": "reviews", "acmg.io/captured": "true"}},
        },
        {"apiVersion": "v1", "kind": "Service", "metadata": shadow, "spec": {**spec, "clusterIP": "None"}},
    ]  # fmt: skip


def istio(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    meta = {"name": "reviews", "namespace": "default"}
    return {"apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": meta, "spec": spec}


def to(subset: str) -> list[dict[str, Any]]:
    return [{"destination": {"host": "reviews", "subset": subset}}]


SUBSETS = {"host": "reviews", "subsets": [{"name": name, "labels": {"version": name}} for name in ("v1", "v2")]}
RULES = {
    "hosts": ["reviews"],
    "http": [
        {"name": "jason", "match": [{"headers": {"end-user": {"exact": "jason"}}}], "route": to("v2")},
        {"name": "everybody", "route": to("v1")},
    ],
}


@asynccontextmanager
async def front(api: FakeApiServer, health: str) -> AsyncIterator[str]:
    """An API server that also leads to pods, as a real one does: requests for a gateway's health port go to the one there is."""

    async def forward(request: web.Request) -> web.StreamResponse:
        path = request.raw_path
        target = f"{health}/{path.partition('/proxy/')[2]}" if "15021/proxy/" in path else f"{api.url}{path}"
        headers = {name: request.headers[name] for name in ("Content-Type", "Accept") if name in request.headers}
        body = await request.read()
        async with (
            aiohttp.ClientSession() as session,
            session.request(request.method, target, data=body, headers=headers) as answer,
        ):
            response = web.StreamResponse(status=answer.status, headers={"Content-Type": answer.headers["Content-Type"]})
            await response.prepare(request)
            async for block in answer.content.iter_any():
                await response.write(block)
            await response.write_eof()
            return response

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", forward)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def send(address: str, caller: str, times: int, **headers: str) -> list[int]:
    connection = http.client.HTTPConnection(address, GATEWAY_PORT, timeout=20, source_address=(caller, 0))
    statuses = []
    for _ in range(times):
        connection.request("GET", "/", headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        answer.read()
        statuses.append(answer.status)
    connection.close()
    return statuses


@pytest.mark.timeout(120)
async def test_the_walk_leads_to_the_cause(gateway: Gateway, make_upstream: Callable[..., Upstream], tmp_path: Path) -> None:
    (first, port), (second, _), (caller, _), (address, health_port) = (free_address() for _ in range(4))
    for host in (first, second):
        make_upstream("v1", address=(host, port))
    async with FakeApiServer(endpointslices=True, gc=True, workloads=True, kubelet=True, allow_loopback=True) as api:
        gateway_node(api)
        assert (await Acmgctl(api.kubeconfig(tmp_path))("install", "-y", "--timeout", "30s")).code == 0
        lease = {"holderIdentity": "acmg-controller-6f9c7d5b8-2xk4p", "leaseDurationSeconds": 15}
        meta = {"name": "acmg-controller", "namespace": "acmg-system"}
        api.put({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": lease})
        for number, host in enumerate((first, second)):
            api.put(pod(f"reviews-v1-{number}", host, {"app": "reviews", "version": "v1"}))
        api.put(pod("productpage-1", caller, {"app": "productpage"}))
        for one in (*captured_service(port), istio("DestinationRule", SUBSETS), istio("VirtualService", RULES)):
            api.put(one)
        health = f"{address}:{health_port}"
        options = ("--kubernetes", "--kubeconfig", str(api.kubeconfig(tmp_path)), "--listen", address, "--shared-port", "0")
        gateway.launch(*options, "--health", health, workers=2)
        await asyncio.to_thread(gateway.wait_ready)
        async with front(api, f"http://{health}") as server:
            kubeconfig = tmp_path / "front"
            kubeconfig.write_text(_kubeconfig(server), encoding="utf-8")
            acmgctl = Acmgctl(kubeconfig)
            await asyncio.to_thread(gateway.get, "/metrics")
            assert set(await asyncio.to_thread(send, address, caller, 60)) == {200}
            assert set(await asyncio.to_thread(send, address, caller, 20, end_user="jason")) == {503}
            await asyncio.to_thread(gateway.get, "/metrics")
            walk = {
                "status": await acmgctl("status"),
                "top": await acmgctl("top", "--once"),
                "route": await acmgctl(
                    "route", "http://reviews.default:9080/", "-H", "end-user: jason", "--from", "default/productpage-1",
                ),
                "analyze": await acmgctl("analyze", "--kubernetes"),
            }  # fmt: skip
            api.put(pod("reviews-v2-0", second, {"app": "reviews", "version": "v2"}))
            subset = "outbound|9080|v2|reviews.default.svc.cluster.local"
            await until(lambda: bool(json.loads(gateway.get("/config"))["endpoints"].get(subset)))
            assert set(await asyncio.to_thread(send, address, caller, 5, end_user="jason")) == {200}
            jason = ("-H", "end-user: jason", "--from", "default/productpage-1")
            walk["mended"] = await acmgctl("route", "http://reviews.default:9080/", *jason)
    show(walk)
    check(walk)


def show(walk: dict[str, Ended]) -> None:
    """Write all that was printed to the file that ACMG_SHOW_WALK names: what the document is made of."""
    if name := os.environ.get("ACMG_SHOW_WALK"):
        texts = [f"$ {command} ({end.code})\n{end.out}{end.err}\n" for command, end in walk.items()]
        Path(name).write_text("".join(texts), encoding="utf-8")


def check(walk: dict[str, Ended]) -> None:
    document = DOCUMENT.read_text(encoding="utf-8")
    assert walk["route"].code == 1
    assert walk["mended"].code == 0
    for name, line in LINES:
        assert line in walk[name].out, f"{name}: {walk[name]}"
        assert line in document, line


LINES = (
    ("status", "default    reviews  captured  9080 -> 20001  -"),
    ("status", "yes    0.1.0    1 ("),
    ("top", "NAMESPACE  SERVICE  REQ/S  ERR/S  ERRORS   P50     P99     ENDPOINTS  EJECTED"),
    ("top", "25.00 %"),
    ("route", "├── rules     VirtualService default/reviews owns the host"),
    ("route", '│   ├── spec.http[0] "jason": taken'),
    ("route", '│   │   └── match[0]: headers[end-user] exactly "jason"'),
    ("route", '│   └── spec.http[1] "everybody": would match, but comes too late'),
    ("route", "└── answer    503 UH"),
    (
        "route",
        "The gateway itself answers 503 (UH): no ready pod of reviews.default.svc.cluster.local carries the labels of subset v2",
    ),
    ("analyze", "warning IST0173 DestinationRule default/reviews spec.subsets[1].labels: no endpoint of"),
    ("mended", "Goes to reviews.default.svc.cluster.local:9080 subset v2: 1 endpoint"),
)
"""What the walk rests on: in the output of which command, and in the document."""


def _kubeconfig(server: str) -> str:
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": server}}],
            "users": [{"name": "u", "user": {"token": "t"}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        }
    )

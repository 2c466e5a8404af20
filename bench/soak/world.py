# SPDX-License-Identifier: Apache-2.0
"""The cluster of a soak: an API server that can die and hang, the Services that clients ask, and steady changes of all that.

What has been written is remembered here (`objects`), so that an API server that was killed comes back with all of it. Its
versions go on far above what they were and nothing is known of the time before, so that every watch has to read all anew.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import signal
import sys
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import aiohttp
import orjson
import yaml

from bench.cluster import PROJECT
from bench.net import free_address
from bench.soak.records import Site
from routing.capture import (
    GATEWAY_PORTS,
    GATEWAY_PORTS_ANNOTATION,
    SERVICE_NAME_LABEL,
    SHADOW_LABEL,
    SHADOW_OF_LABEL,
    format_gateway_ports,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bench.daemon import Daemon
    from bench.peers import Site as Stage

__all__ = ["PLURALS", "SERVICES", "Api", "World"]

Obj = dict[str, Any]
_PORT = 80
_ISTIO = "networking.istio.io/v1"
_RETRIES = {"attempts": 3, "retryOn": "connect-failure,reset,503"}
_VISIT_S = 20.0
_VERSIONS = 10_000_000
"""Far more than are used between two starts of the API server."""

SERVICES = ("steady", "changing", "crashing", "flaky", "faulty", "socket")
PLURALS = {
    "Service": "/api/v1/namespaces/default/services/",
    "Pod": "/api/v1/namespaces/default/pods/",
    "EndpointSlice": "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/",
    "VirtualService": "/apis/networking.istio.io/v1/namespaces/default/virtualservices/",
    "DestinationRule": "/apis/networking.istio.io/v1/namespaces/default/destinationrules/",
}


class Api:
    """The API server, a process on a port of its own.

    Args:
        stage: where processes live.
    """

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._folder = stage.folder("api")
        self.kubeconfig = self._folder / "kubeconfig"
        self.port = free_address()[1]
        self._daemon: Daemon | None = None
        self._starts = 0

    def __repr__(self) -> str:
        return f"<Api port={self.port} {self._daemon}>"

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def start(self, objects: Sequence[Obj]) -> None:
        """Start it with these objects and wait until it listens.

        Raises:
            DaemonError: it did not.
        """
        file = self._folder / "objects"
        file.write_bytes(b"".join(orjson.dumps(obj) + b"\n" for obj in objects))
        argv: list[str | Path] = ["env", f"PYTHONPATH={PROJECT}", sys.executable, "-m", "tests.kube", "--allow-loopback"]
        self._starts += 1
        argv += [
            "--versions-from",
            str(self._starts * _VERSIONS),
            "--port",
            str(self.port),
            "--load",
            file,
            "--kubeconfig",
            self.kubeconfig,
        ]
        self._daemon = self._stage.launch(argv, self._folder)
        self._daemon.wait_log(" ready", timeout_s=60.0)

    def signal(self, number: int) -> None:
        """Send it a signal."""
        assert self._daemon is not None
        self._daemon.signal(number)

    def kill(self) -> None:
        """End it without a word to anybody."""
        self.signal(signal.SIGKILL)


class World:
    """All objects, and what changes of them.

    Args:
        ports: of the upstreams: the steady one's, the one's that crashes, and that of WebSockets.
        seed: of the changes.

    Attributes:
        may_change: false while the API server is away; nothing is changed then.
        changes: made so far, by what changed.
        visits: to Services that came and went.
        problems: what should not have happened.
    """

    def __init__(self, ports: tuple[int, int, int], seed: int) -> None:
        self._random = random.Random(seed)
        self._ports = ports
        self.site = Site(address=free_address()[0], ports=dict(zip(SERVICES, GATEWAY_PORTS, strict=False)))
        self.objects: dict[tuple[str, str], Obj] = {}
        self.may_change = asyncio.Event()
        self.changes: Counter[str] = Counter()
        self.visits = 0
        self.problems: list[str] = []
        self._pod_numbers = itertools.count(1)
        self._pods: list[Obj] = []
        self._make()

    def __repr__(self) -> str:
        return f"<World objects={len(self.objects)} changes={self.changes.total()}>"

    def all_objects(self) -> list[Obj]:
        """Return everything the API server is to know, kinds first."""
        crds = [yaml.safe_load((PROJECT / "deploy" / "crds" / f"{name}.yaml").read_text("utf-8")) for name in _CRDS]
        return [*crds, *self.objects.values()]

    def _make(self) -> None:
        steady, crashing, echo = self._ports
        for name in SERVICES:
            for obj in _service(name, self.site.ports[name]):
                self._keep(obj)
        self._keep(_slice("steady", "a", steady, [_endpoint(f"127.3.0.{number}") for number in range(1, 5)]))
        self._keep(_slice("crashing", "a", steady, [_endpoint("127.3.1.1"), _endpoint("127.3.1.2")]))
        self._keep(_slice("crashing", "b", crashing, [_endpoint("127.3.2.1"), _endpoint("127.3.2.2")]))
        self._keep(_slice("flaky", "a", steady, [_endpoint(f"127.3.3.{number}") for number in (1, 2, 3)]))
        self._keep(_slice("faulty", "a", steady, [_endpoint("127.3.4.1")]))
        self._keep(_slice("socket", "a", echo, [_endpoint("127.3.5.1"), _endpoint("127.3.5.2")]))
        for name in ("steady", "crashing", "flaky"):
            self._keep(_rules(name, {"route": [_to(name)], "retries": _RETRIES}))
        self._keep(_rules("faulty", {"route": [_to("faulty")], "timeout": "0.5s", "retries": {"attempts": 0}}))
        ejection = {"consecutive5xxErrors": 5, "interval": "1s", "baseEjectionTime": "2s", "maxEjectionPercent": 50}
        self._keep(_policy("crashing", trafficPolicy={"outlierDetection": ejection}))
        versions = [{"name": version, "labels": {"version": version}} for version in ("v1", "v2")]
        self._keep(_policy("changing", subsets=versions))
        self._keep(_rules("changing", _split(50)))
        for _ in range(4):
            for obj in self._new_pod():
                self._keep(obj)
        self._keep(self._changing_slice())

    def _keep(self, obj: Obj) -> None:
        self.objects[obj["kind"], obj["metadata"]["name"]] = obj

    # --- steady changes ---------------------------------------------------------------------------------------------------

    async def change(self, url: str) -> None:
        """Change things for ever: an endpoint five times a second, weights once, a Service comes and goes every two seconds."""
        timeout = aiohttp.ClientTimeout(total=10)
        async with aiohttp.ClientSession(url, timeout=timeout) as session:
            for turn in itertools.count(1):
                await self.may_change.wait()
                with suppress(aiohttp.ClientError, TimeoutError, OSError):  # the API server has just been killed
                    await self._replace_a_pod(session)
                    self.changes["endpoints"] += 1
                    if turn % 5 == 0:
                        await self._apply(session, _rules("changing", _split(self._random.choice((0, 10, 50, 90, 100)))))
                        self.changes["routes"] += 1
                    if turn % 10 == 0:
                        await self._visit(session, turn)
                        self.changes["Services"] += 2
                await asyncio.sleep(0.2)

    async def _replace_a_pod(self, session: aiohttp.ClientSession) -> None:
        """A rollout's step: a new pod of the same version is added, then the old one leaves."""
        made = self._new_pod()
        for obj in made:
            await self._apply(session, obj)
        await self._apply(session, self._changing_slice())
        if len(self._pods) > 8:
            gone = self._pods.pop(self._random.randrange(4))
            if {pod["metadata"]["labels"]["version"] for pod in self._pods} != {"v1", "v2"}:
                self._pods.insert(0, gone)
                return
            await self._apply(session, self._changing_slice())
            await self._delete(session, "Pod", gone["metadata"]["name"])

    def _new_pod(self) -> list[Obj]:
        number = next(self._pod_numbers)
        address = f"127.{4 + number // 62_500 % 50}.{number // 250 % 250}.{1 + number % 250}"
        pod = _pod(f"changing-{number}", address, "v1" if number % 2 else "v2")
        self._pods.append(pod)
        return [pod]

    def _changing_slice(self) -> Obj:
        found = [_endpoint(pod["status"]["podIP"], pod["metadata"]["name"]) for pod in self._pods]
        return _slice("changing", "a", self._ports[0], found)

    async def _visit(self, session: aiohttp.ClientSession, turn: int) -> None:
        """Let a Service come, ask it until it answers, and let it go.

        The port may be open a moment before its endpoints are known; the controller would wait for both before it lets callers
        in.
        """
        name, port = f"guest-{turn // 10 % 20}", GATEWAY_PORTS[100 + turn % 5000]
        objects = [*_service(name, port), _slice(name, "a", self._ports[0], [_endpoint("127.3.6.1")])]
        for obj in reversed(objects):  # the shadow last, which is what opens the port
            await self._apply(session, obj)
        deadline = asyncio.get_running_loop().time() + _VISIT_S
        while (status := await _ask(self.site.address, port)) in {0, 503}:
            if asyncio.get_running_loop().time() > deadline:
                break
            if not self.may_change.is_set():
                break  # the gateway may not have heard of it
            await asyncio.sleep(0.01)
        if status == 200:
            self.visits += 1
        elif self.may_change.is_set():
            self.problems.append(f"Service {name} at port {port} was answered {status or 'by nobody'}")
        for obj in objects:
            await self._delete(session, obj["kind"], obj["metadata"]["name"])

    async def _apply(self, session: aiohttp.ClientSession, obj: Obj) -> None:
        path = PLURALS[obj["kind"]] + obj["metadata"]["name"]
        self._keep(obj)
        headers = {"Content-Type": "application/apply-patch+yaml"}
        query = {"fieldManager": "soak", "force": "true"}
        async with session.patch(path, data=orjson.dumps(obj), headers=headers, params=query) as answer:
            if answer.status not in {200, 201}:
                self.problems.append(f"{path}: {answer.status} {await answer.text()}")

    async def _delete(self, session: aiohttp.ClientSession, kind: str, name: str) -> None:
        self.objects.pop((kind, name), None)
        async with session.delete(PLURALS[kind] + name) as answer:
            if answer.status not in {200, 202, 404}:
                self.problems.append(f"deleting {kind} {name}: {answer.status} {await answer.text()}")


_CRDS = ("virtualservices", "destinationrules")


async def _ask(address: str, port: int) -> int:
    """Ask once; return the status, 0 when nobody listens."""
    try:
        reader, writer = await asyncio.open_connection(address, port)
    except OSError:
        return 0
    try:
        writer.write(b"GET /ok HTTP/1.1\r\nHost: guest\r\nConnection: close\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(), 10.0)
        return int(answer.split(b" ")[1]) if answer else -1
    except (OSError, TimeoutError):
        return -1
    finally:
        writer.close()


def _service(name: str, gateway_port: int) -> list[Obj]:
    """Make a captured Service and its shadow. The shadow's name comes first, since it opens the port."""
    ports = [{"name": "http", "port": _PORT, "protocol": "TCP", "targetPort": 8080}]
    spec: Obj = {"selector": {"app": name}, "ports": ports}
    annotations = {GATEWAY_PORTS_ANNOTATION: format_gateway_ports({_PORT: gateway_port})}
    labels = {SHADOW_LABEL: "true", SHADOW_OF_LABEL: name}
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": f"{name}-acmg", "namespace": "default", "labels": labels, "annotations": annotations},
            "spec": spec | {"clusterIP": "None"},
        },
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"}, "spec": spec},
    ]


def _slice(service: str, suffix: str, port: int, endpoints: list[Obj]) -> Obj:
    labels = {SERVICE_NAME_LABEL: f"{service}-acmg", SHADOW_LABEL: "true", SHADOW_OF_LABEL: service}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{service}-acmg-{suffix}", "namespace": "default", "labels": labels},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
        "endpoints": endpoints,
    }


def _endpoint(address: str, pod: str = "") -> Obj:
    found: Obj = {"addresses": [address], "conditions": {"ready": True, "serving": True, "terminating": False}}
    return found | ({"targetRef": {"kind": "Pod", "namespace": "default", "name": pod}} if pod else {})


def _pod(name: str, address: str, version: str) -> Obj:
    """Make a Pod of a workload that stays: metrics of workloads that come and go are kept for an hour, which is no leak."""
    owner = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": f"changing-{version}", "uid": version, "controller": True}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "default",
            "labels": {"app": "changing", "version": version},
            "ownerReferences": [owner],
        },
        "spec": {"nodeName": "node-1", "containers": [{"name": "main", "image": "registry.example/main:1"}]},
        "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]},
    }


def _rules(name: str, *rules: Obj) -> Obj:
    meta = {"name": name, "namespace": "default"}
    return {"apiVersion": _ISTIO, "kind": "VirtualService", "metadata": meta, "spec": {"hosts": [name], "http": list(rules)}}


def _policy(name: str, **spec: object) -> Obj:
    meta = {"name": name, "namespace": "default"}
    return {"apiVersion": _ISTIO, "kind": "DestinationRule", "metadata": meta, "spec": {"host": name, **spec}}


def _to(host: str, **more: object) -> Obj:
    return {"destination": {"host": host, **more}}


def _split(percent: int) -> Obj:
    """Make a rule that sends so many percent to v1."""
    shares = {"v1": percent, "v2": 100 - percent}
    return {
        "route": [_to("changing", subset=version) | {"weight": weight} for version, weight in shares.items()],
        "retries": _RETRIES,
    }

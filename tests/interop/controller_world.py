# SPDX-License-Identifier: Apache-2.0
"""A cluster for the real controller: the fake API server with its EndpointSlice controller, and gateways that only say things.

`World` checks the controller's promise after every single change of the cluster: a Service that once had a way for a port has one
ever after, where a way is an endpoint that works (a ready pod's address, or a gateway that is up, listens for that port and knows
endpoints), in the union of the Service's slices as kube-proxy takes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from typing import TYPE_CHECKING, Any

from aiohttp import web

from acmgproxy.controller.app import Controller
from acmgproxy.controller.options import ControllerOptions, Timing
from acmgproxy.log import configure_log
from discovery.kube import KubeClient
from routing.capture import GATEWAY_PORTS_ANNOTATION, SHADOW_LABEL, SHADOW_OF_LABEL, parse_gateway_ports
from tests.kube import FakeApiServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from tests.kube.kinds import Kind
    from tests.kube.store import Change

__all__ = ["QUICK", "SYSTEM", "FakeGateway", "World", "eventually", "service"]

SYSTEM = "acmg-system"
DEADLINE_S = 20.0

QUICK = Timing(
    fail_open_after_s=0.5,
    recapture_after_s=0.3,
    linger_s=0.1,
    probe_interval_s=0.05,
    probe_timeout_s=0.5,
    lease_s=1.0,
    renew_deadline_s=0.7,
    retry_s=0.1,
)
Obj = dict[str, Any]


async def eventually(condition: Callable[[], object], what: str = "") -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.01)


def service(name: str = "hello", **changes: Any) -> Obj:
    """Return a Service with one HTTP port and one other, that asks for capture."""
    spec = {
        "type": "ClusterIP",
        "clusterIP": "10.96.0.10",
        "selector": {"app": name},
        "ports": [
            {"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"},
            {"name": "db", "port": 5432, "targetPort": 5432, "protocol": "TCP"},
        ],
    }
    metadata = {"name": name, "namespace": "default", "labels": {"acmg.io/capture": "enabled"}}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata | changes.pop("metadata", {}), "spec": spec | changes}


class FakeGateway:
    """Answers as a gateway that does everything the shadows ask for at once.

    Args:
        world: where the shadows are.
        name: of its pod.
        address: where it answers.
        others: further addresses of its pod.
    """

    def __init__(self, world: World, name: str, address: str, *others: str) -> None:
        self.others = others
        self.world = world
        self.name = name
        self.address = address
        self.is_ready = True
        self.is_up = True
        self.unbound: set[int] = set()
        self._runner: web.AppRunner | None = None

    def __repr__(self) -> str:
        return f"<FakeGateway {self.name} {self.address} up={self.is_up} ready={self.is_ready}>"

    def listeners(self) -> list[Obj]:
        """Return what it listens on: whatever the shadows say."""
        found = []
        for one in self.world.api.objects("Service"):
            meta = one["metadata"]
            if (meta.get("labels") or {}).get(SHADOW_LABEL) != "true":
                continue
            owner = meta["labels"].get(SHADOW_OF_LABEL, "")
            target = self.world.api.get("Service", meta["namespace"], owner)
            known = {port["port"] for port in target["spec"]["ports"]} if target is not None else set()
            ports = parse_gateway_ports((meta.get("annotations") or {}).get(GATEWAY_PORTS_ANNOTATION, "{}"))
            for port, number in ports.items():
                if port in known:
                    found += [
                        {
                            "name": f"{owner}:{port}",
                            "address": address,
                            "port": number,
                            "bound": port not in self.unbound,
                            "error": "in use" if port in self.unbound else None,
                            "service": f"{meta['namespace']}/{owner}",
                            "service_port": port,
                            "endpoints": self.world.real_endpoints(meta["namespace"], owner, port),
                        }
                        for address in (self.address, *self.others)
                    ]
        return found

    def serves(self, namespace: str, name: str, port: int, number: int) -> bool:
        """Tell whether a connection to one of its ports reaches a Service."""
        wanted = (f"{namespace}/{name}", port, number)
        return self.is_up and any(
            (one["service"], one["service_port"], one["port"]) == wanted and one["bound"] and one["endpoints"]
            for one in self.listeners()
        )

    async def start(self, port: int) -> None:
        """Begin to answer."""
        app = web.Application()
        app.router.add_get("/ready", self._answer_ready)
        app.router.add_get("/listeners", self._answer_listeners)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.05)
        await self._runner.setup()
        await web.TCPSite(self._runner, self.address, port).start()

    async def stop(self) -> None:
        """Vanish, as if killed."""
        self.is_up = False
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _answer_ready(self, _: web.Request) -> web.Response:
        return web.Response(text="ready\n") if self.is_ready else web.Response(status=503, text="not ready: draining\n")

    async def _answer_listeners(self, request: web.Request) -> web.Response:
        found = self.listeners()
        tag = f'"{hash(repr(found))}"'
        if request.headers.get("If-None-Match") == tag:
            return web.Response(status=304, headers={"ETag": tag})
        return web.json_response(found, headers={"ETag": tag})


class World:
    """The cluster, its gateways, its controllers."""

    def __init__(self, api: FakeApiServer, kubeconfig: Path) -> None:
        self.api = api
        self.kubeconfig = kubeconfig
        self.gateways: dict[str, FakeGateway] = {}
        self.broken: list[str] = []
        self.dead_ways: list[str] = []
        self.writes: list[tuple[str, str, str]] = []
        self.checks = 0
        self._events: list[Obj] = []
        self._net = f"127.{random.randint(1, 250)}.{random.randint(1, 250)}"
        self._port = self._free_port()
        self._had: set[tuple[str, str, str]] = set()
        self._running: dict[Controller, tuple[asyncio.Task[None], KubeClient]] = {}
        self.after_write: Callable[[str, Obj], None] = lambda _method, _obj: None
        api.store.on_change(self._changed)
        api.on_write(self._wrote)
        api.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}})

    def __repr__(self) -> str:
        return f"<World {list(self.gateways.values())} writes={self.writes}>"

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, path: Path) -> AsyncIterator[World]:
        """Make a cluster."""
        async with FakeApiServer(endpointslices=True, gc=True, allow_loopback=True) as api:
            world = cls(api, api.kubeconfig(path))
            try:
                yield world
            finally:
                for controller in world.running:
                    await world.kill(controller)
                for gateway in world.gateways.values():
                    await gateway.stop()

    def _free_port(self) -> int:
        with socket.socket() as sock:
            sock.bind((f"{self._net}.1", 0))
            port: int = sock.getsockname()[1]
            return port

    # --- what is in it -------------------------------------------------------------------------------------------------------

    def pod(self, name: str, *addresses: str, app: str = "hello", is_ready: bool = True) -> None:
        """Put a pod of an application."""
        self._put_pod("default", name, addresses, {"app": app}, is_ready=is_ready, node="node-1")

    def _put_pod(
        self, namespace: str, name: str, addresses: tuple[str, ...], labels: dict[str, str], *, is_ready: bool, node: str
    ) -> None:
        status = {
            "phase": "Running",
            "podIP": addresses[0],
            "podIPs": [{"ip": address} for address in addresses],
            "conditions": [{"type": "Ready", "status": str(is_ready)}],
        }
        self.api.put(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "namespace": namespace, "labels": labels},
                "spec": {"nodeName": node, "containers": [{"name": "main", "image": "main"}]},
                "status": status,
            }
        )

    async def gateway(self, name: str, *others: str) -> FakeGateway:
        """Start a gateway and put its pod."""
        address = f"{self._net}.{len(self.gateways) + 1}"
        gateway = self.gateways[name] = FakeGateway(self, name, address, *others)
        await gateway.start(self._port)
        zone = {"acmg.io/gateway": "true", "topology.kubernetes.io/zone": f"zone-{name}"}
        self.api.put({"apiVersion": "v1", "kind": "Node", "metadata": {"name": f"node-{name}", "labels": zone}})
        labels = {"app.kubernetes.io/name": "acmgproxy", "app.kubernetes.io/component": "gateway"}
        self._put_pod(SYSTEM, name, (address, *others), labels, is_ready=True, node=f"node-{name}")
        return gateway

    async def two_gateways_and_pods(self) -> None:
        """Make what most tests need: gateways gw-1 and gw-2, pods a and b of hello."""
        await self.gateway("gw-1")
        await self.gateway("gw-2")
        self.pod("a", "10.0.0.1")
        self.pod("b", "10.0.0.2")

    def slices(self, name: str = "hello", namespace: str = "default") -> list[Obj]:
        """Return the slices of a Service."""
        found = self.api.objects("EndpointSlice", namespace)
        return [one for one in found if (one["metadata"].get("labels") or {}).get("kubernetes.io/service-name") == name]

    def ours(self, name: str = "hello", namespace: str = "default") -> list[Obj]:
        """Return the controller's slices of a Service."""
        label = "endpointslice.kubernetes.io/managed-by"
        return [one for one in self.slices(name, namespace) if one["metadata"]["labels"].get(label) == "acmg.io"]

    def get(self, name: str = "hello", namespace: str = "default") -> Obj:
        """Return a Service."""
        found = self.api.get("Service", namespace, name)
        assert found is not None
        return found

    def lease(self) -> Obj | None:
        """Return what the Lease says, None without one."""
        found = self.api.get("Lease", SYSTEM, "acmg-controller")
        return found["spec"] if found is not None else None

    def edit(self, change: Callable[[Obj], None], name: str = "hello") -> None:
        """Edit a Service as somebody else."""
        found = self.get(name)
        change(found)
        self.api.put(found)

    def status(self, name: str = "hello") -> str:
        """Return the status annotation of a Service."""
        return str((self.get(name)["metadata"].get("annotations") or {}).get("acmg.io/status", ""))

    def listed(self, name: str = "hello") -> dict[str, dict[str, int]]:
        """Return the gateways in the gateway slices of a Service, by their pods' names, with the gateway ports by port name."""
        return {
            endpoint["targetRef"]["name"]: {port["name"]: port["port"] for port in one["ports"]}
            for one in self.ours(name)
            if "-acmg-gateway-" in one["metadata"]["name"]
            for endpoint in one["endpoints"]
        }

    def directly(self, name: str = "hello") -> set[tuple[str, str, int]]:
        """Return the ways in the direct slices of a Service: address, port name, port."""
        return {
            (endpoint["addresses"][0], port["name"], port["port"])
            for one in self.ours(name)
            if "-acmg-direct-" in one["metadata"]["name"]
            for endpoint in one["endpoints"]
            for port in one["ports"]
        }

    def natively(self, name: str = "hello") -> set[str]:
        """Return the addresses in the slices that are not the controller's."""
        ours = {one["metadata"]["name"] for one in self.ours(name)}
        slices = [one for one in self.slices(name) if one["metadata"]["name"] not in ours]
        return {endpoint["addresses"][0] for one in slices for endpoint in one.get("endpoints") or ()}

    def gateway_ports(self, name: str = "hello") -> dict[int, int]:
        """Return the gateway ports of a Service by its ports, as its shadow says."""
        return parse_gateway_ports(self.get(f"{name}-acmg")["metadata"]["annotations"][GATEWAY_PORTS_ANNOTATION])

    def events(self, name: str = "hello") -> list[tuple[str, str, str]]:
        """Return type, reason and note of the Events about a Service."""
        return [(one["type"], one["reason"], one["note"]) for one in self._events if one["regarding"]["name"] == name]

    def is_captured(self, name: str = "hello") -> bool:
        """Tell whether a Service leads to the gateways only."""
        return "acmg.io/captured" in self.get(name)["spec"]["selector"] and self.status(name) == "captured"

    def is_clean(self, name: str = "hello") -> bool:
        """Tell whether nothing of the controller is left."""
        annotations = self.get(name)["metadata"].get("annotations") or {}
        return (
            "acmg.io/captured" not in self.get(name)["spec"]["selector"]
            and not self.ours(name)
            and self.api.get("Service", "default", f"{name}-acmg") is None
            and "acmg.io/status" not in annotations
        )

    def real_endpoints(self, namespace: str, name: str, port: int) -> int:
        """Return how many real endpoints a gateway would know for a port of a Service."""
        found = self.api.get("Service", namespace, name)
        names = {one["port"]: one.get("name", "") for one in found["spec"]["ports"]} if found else {}
        ways = set()
        for owner in (name, f"{name}-acmg"):
            for one in self.slices(owner, namespace):
                if one["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"] == "acmg.io":
                    continue
                for entry in one.get("ports") or ():
                    if entry.get("name", "") == names.get(port):
                        ways |= {tuple(endpoint["addresses"]) for endpoint in one.get("endpoints") or () if _ready(endpoint)}
        return len(ways)

    def put_pod_in(self, namespace: str, name: str, address: str) -> None:
        """Put a pod of hello into another namespace."""
        self._put_pod(namespace, name, (address,), {"app": "hello"}, is_ready=True, node="node-1")

    def define_virtual_services(self) -> None:
        """Make the kind VirtualService known."""
        names = {"kind": "VirtualService", "plural": "virtualservices", "listKind": "VirtualServiceList"}
        self.api.put(
            {
                "apiVersion": "apiextensions.k8s.io/v1",
                "kind": "CustomResourceDefinition",
                "metadata": {"name": "virtualservices.networking.istio.io"},
                "spec": {
                    "group": "networking.istio.io",
                    "names": names,
                    "scope": "Namespaced",
                    "versions": [{"name": "v1", "served": True, "storage": True}],
                },
            }
        )

    async def delete(self, path: str) -> None:
        """Delete an object over HTTP, as kubectl does."""
        client = await KubeClient.connect(kubeconfig=self.kubeconfig)
        await client.delete(path)
        await client.close()

    # --- controllers -----------------------------------------------------------------------------------------------------------

    async def controller(self, identity: str = "one", timing: Timing = QUICK) -> Controller:
        """Start a controller."""
        client = await KubeClient.connect(kubeconfig=self.kubeconfig)
        options = ControllerOptions(identity=identity, gateway_health_port=self._port, timing=timing)
        controller = Controller(client, options, configure_log(level=50))
        self._running[controller] = asyncio.create_task(controller.run()), client
        return controller

    @property
    def running(self) -> list[Controller]:
        """The controllers that run."""
        return list(self._running)

    def wound(self, controller: Controller) -> None:
        """Begin to end a controller as a lost process would, from where nothing can be waited for."""
        self._running[controller][0].cancel()

    async def kill(self, controller: Controller) -> None:
        """End a controller as a lost process would."""
        task, client = self._running.pop(controller)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await client.close()

    async def stop(self, controller: Controller) -> None:
        """Stop a controller in order."""
        task, client = self._running.pop(controller)
        controller.stop()
        await task
        await client.close()

    # --- the promise ---------------------------------------------------------------------------------------------------------

    def _wrote(self, method: str, obj: Obj) -> None:
        if obj["kind"] == "Event":
            self._events.append(obj)
        if obj["kind"] in {"Lease", "Event"}:
            return
        self.writes.append((method, obj["kind"], obj["metadata"]["name"]))
        self.after_write(method, obj)

    def _changed(self, kind: Kind, change: Change) -> None:
        if kind.kind in {"Service", "EndpointSlice"}:
            self.check(f"{kind.kind} {change.key}")

    def check(self, after: str) -> None:
        """Note every port of a Service that has lost its last way."""
        self.checks += 1
        for one in self.api.objects("Service"):
            meta, spec = one["metadata"], one["spec"]
            if spec.get("clusterIP") == "None" or meta.get("deletionTimestamp"):
                continue
            for port in spec.get("ports") or ():
                key = (meta["namespace"], meta["name"], port.get("name", ""))
                if self._has_way(meta["namespace"], meta["name"], port):
                    self._had.add(key)
                elif key in self._had:
                    self.broken.append(f"{key} has no way after {after}; writes {self.writes}")

    def _has_way(self, namespace: str, name: str, port: Obj) -> bool:
        by_address = {address: one for one in self.gateways.values() for address in (one.address, *one.others)}
        pods = {
            pod["status"]["podIP"]
            for pod in self.api.objects("Pod", namespace)
            if any(one["status"] == "True" for one in pod["status"]["conditions"])
        }
        has_way = False
        for one in self.slices(name, namespace):
            for entry in one.get("ports") or ():
                if entry.get("name", "") != port.get("name", ""):
                    continue
                for endpoint in one.get("endpoints") or ():
                    address = endpoint["addresses"][0]
                    gateway = by_address.get(address)
                    if gateway is None:
                        has_way |= address in pods and _ready(endpoint) and entry["port"] == port["targetPort"]
                    elif gateway.serves(namespace, name, port["port"], entry["port"]):
                        has_way = True
                    elif gateway.is_up and gateway.is_ready:
                        self.dead_ways.append(f"{namespace}/{name}:{port['port']} leads to {gateway} port {entry['port']}")
        return has_way


def _ready(endpoint: Obj) -> bool:
    return (endpoint.get("conditions") or {}).get("ready") is not False

# SPDX-License-Identifier: Apache-2.0
"""A whole cluster on one machine: API server, kubelet, kube-proxy, pods, gateways, controller, clients.

Puts the parts together and speaks the words of the tests: `service`, `deploy`, `roll`, `gateway`, `controller`, `load`. What is
real here: gateway and controller processes, every connection, the kernel's address translation, HTTP between all parts. What is
played: the API server and its own controllers (`tests.kube`), the kubelet, the part of kube-proxy that computes rules.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from typing import TYPE_CHECKING, Any, Self

import aiohttp

from tests.e2e.clients import Load, Report
from tests.e2e.kube_proxy import KubeProxy
from tests.e2e.kubelet import Kubelet, Pod, PodTemplate
from tests.e2e.net import CONTROL_PLANE, Network, Program
from tests.e2e.rules import Destination, Endpoint
from tests.kube import FakeApiServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

__all__ = ["PROXY_DELAY_S", "SYSTEM", "Cluster"]

SYSTEM = "acmg-system"
"""Namespace of gateways and controller."""

GATEWAY_LABELS = {"app.kubernetes.io/name": "acmgproxy", "app.kubernetes.io/component": "gateway"}

PROXY_DELAY_S = 0.2
"""kube-proxy's delay; its own default is up to 1 s, and some tests take that."""

DRAIN_ACCEPT_S = 3.0
"""How long a leaving gateway still accepts: shorter than in a real cluster, longer than all delays here together."""

_TIMEOUT_S = 30.0
_POLL_S = 0.05


class Cluster:
    """The cluster. Use as an asynchronous context manager.

    Args:
        logs: directory for the output of every program.
        clients: how many hosts of clients there are.
        proxy_delay_s: how late the clients' rules follow a change.

    Attributes:
        loads: all load there was.
        notes: figures to be told beside it.
    """

    def __init__(self, logs: Path, *, clients: int = 2, proxy_delay_s: float = PROXY_DELAY_S) -> None:
        self.logs = logs
        self.network = Network()
        self.api = FakeApiServer(endpointslices=True, gc=True)
        self.kubelet = Kubelet(self.api, self.network, logs)
        self._stack = contextlib.AsyncExitStack()
        self._client_count = clients
        self._proxy_delay_s = proxy_delay_s
        self.loads: list[Load] = []
        self.notes: list[str] = []
        self._numbers: dict[str, int] = {}
        self._controllers: list[Program] = []

    def __repr__(self) -> str:
        return f"<Cluster {self.kubelet!r}>"

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(self.network)
            await stack.enter_async_context(self.api)
            port = int(self.api.url.rpartition(":")[2])
            self.network.publish(port)
            self.server = f"http://{CONTROL_PLANE}:{port}"
            self.kubeconfig = self._write_kubeconfig()
            await stack.enter_async_context(self.kubelet)
            self.clients = [self.network.add(f"client-{number}") for number in range(self._client_count)]
            for host in self.clients:
                # Callers are pods: gateways know them by their address.
                self.api.put(
                    {
                        "apiVersion": "v1",
                        "kind": "Pod",
                        "metadata": {"name": host.name, "namespace": "default", "labels": {"app": host.name}},
                        "spec": {"nodeName": "node-1", "containers": [{"name": "main", "image": "none"}]},
                        "status": {"phase": "Running", "podIP": host.address, "podIPs": [{"ip": host.address}]},
                    }
                )
            self.proxy = await stack.enter_async_context(KubeProxy(self.server, self.clients, delay_s=self._proxy_delay_s))
            stack.push_async_callback(self._kill_controllers)
            self._http = await stack.enter_async_context(aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._stack.aclose()

    # --- waiting ---------------------------------------------------------------------------------------------------------

    async def until(self, condition: Callable[[], object], what: str, *, timeout_s: float = _TIMEOUT_S) -> float:
        """Wait for a condition and return how long it took."""
        started = time.monotonic()
        while not condition():
            assert time.monotonic() - started < timeout_s, f"{what}: not within {timeout_s} s\n{self.describe()}"
            await asyncio.sleep(_POLL_S)
        return time.monotonic() - started

    def describe(self) -> str:
        """Return what matters of the cluster's state, for people who look at a failure."""
        lines = [repr(pod) for pod in self.kubelet.pods.values()]
        lines += [
            f"Service {service['metadata']['name']} {service['metadata'].get('annotations')} {service['spec']}"
            for service in self.api.objects("Service")
        ]
        for piece in self.api.objects("EndpointSlice"):
            endpoints = [(one["addresses"], one.get("conditions")) for one in piece.get("endpoints") or ()]
            lines.append(f"EndpointSlice {piece['metadata']['name']} {piece.get('ports')} {endpoints}")
        lines.append(f"rules {self.proxy.table}")
        lines += [f"--- {log.name}\n{_tail(log)}" for log in sorted(self.logs.glob("*.log"))]
        return "\n".join(lines)

    # --- Services and pods -----------------------------------------------------------------------------------------------

    def service(
        self,
        name: str,
        address: str,
        ports: Iterable[dict[str, Any]],
        *,
        labels: Mapping[str, str] | None = None,
        selector: Mapping[str, str] | None = None,
    ) -> None:
        """Create a Service that selects pods labelled `app: NAME`, or replace it as its owner would with a new manifest."""
        self.api.put(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": name, "namespace": "default", "labels": dict(labels or {})},
                "spec": {
                    "type": "ClusterIP",
                    "clusterIP": address,
                    "clusterIPs": [address],
                    "selector": dict(selector or {"app": name}),
                    "ports": [{"protocol": "TCP"} | port for port in ports],
                },
            }
        )

    def change_service(self, name: str, change: Callable[[dict[str, Any]], None]) -> None:
        """Change a Service in place, as an edit by its owner."""
        service = self.get_service(name)
        change(service)
        self.api.put(service)

    def get_service(self, name: str) -> dict[str, Any]:
        """Return a Service."""
        service = self.api.get("Service", "default", name)
        assert service is not None, name
        return service

    def template(self, app: str, *, ports: tuple[int, ...] = (8080,), labels: Mapping[str, str] | None = None) -> PodTemplate:
        """Return a template of pods that run the tests' own server."""

        def command(name: str, address: str) -> tuple[str, ...]:
            binds = [part for port in ports for part in ("--bind", f"{address}:{port}")]
            return (sys.executable, "-m", "tests.e2e.server", "--name", name, *binds)

        return PodTemplate(command=command, labels={"app": app, **(labels or {})}, probe_port=ports[0])

    async def deploy(self, template: PodTemplate, count: int) -> list[Pod]:
        """Start pods and wait until all are ready."""
        pods = [await self.kubelet.run(self._name(template.labels["app"]), template) for _ in range(count)]
        await self.until(lambda: all(pod.is_ready for pod in pods), "pods ready")
        return pods

    async def roll(self, pods: list[Pod]) -> list[Pod]:
        """Replace pods one by one, as a Deployment with maxSurge 1 and maxUnavailable 0 does."""
        successors: list[Pod] = []
        leaving: list[asyncio.Task[None]] = []
        for pod in pods:
            successor = await self.kubelet.run(self._name(pod.name.rpartition("-")[0]), pod.template)
            await self.until(lambda new=successor: new.is_ready, f"{successor.name} ready")  # type: ignore[misc]
            leaving.append(asyncio.create_task(self.kubelet.delete(pod)))
            successors.append(successor)
        await asyncio.gather(*leaving)
        return successors

    def leads_to(self, address: str, port: int) -> set[Endpoint]:
        """Return where the clients' rules send connections to a ClusterIP and port."""
        return set(self.proxy.table.get(Destination(address, "tcp", port), ()))

    # --- gateways and controller -----------------------------------------------------------------------------------------

    def gateway_template(self) -> PodTemplate:
        """Return the template of gateway pods."""

        def command(_name: str, address: str) -> tuple[str, ...]:
            return (
                *(sys.executable, "-m", "acmgproxy", "run", "--kubernetes", "--kubeconfig", str(self.kubeconfig)),
                *("--workers", "1", "--listen", address, "--health", f"{address}:15021", "--admin", "127.0.0.1:15000"),
                *("--set", f"drain_accept_s={DRAIN_ACCEPT_S}"),
            )

        return PodTemplate(
            command=command,
            labels={"app": "acmg-gateway", **GATEWAY_LABELS},
            namespace=SYSTEM,
            probe_port=15021,
            pre_stop_s=1.0,
            grace_s=30.0,
            environment=lambda name, address: {"POD_NAME": name, "POD_NAMESPACE": SYSTEM, "POD_IP": address, "POD_IPS": address},
        )

    async def gateways(self, count: int) -> list[Pod]:
        """Start gateway pods and wait until they are ready."""
        return await self.deploy(self.gateway_template(), count)

    async def controller(self, identity: str = "") -> Program:
        """Start a controller on the control plane's node."""
        name = self._name("controller")
        program = await Program.start(
            *(sys.executable, "-m", "acmgproxy", "controller", "--kubeconfig", str(self.kubeconfig), "--namespace", SYSTEM),
            *("--identity", identity or name, "--health", f"{CONTROL_PLANE}:{15100 + self._numbers['controller']}"),
            log=self.logs / f"{name}.log",
        )
        self._controllers.append(program)
        return program

    async def _kill_controllers(self) -> None:
        for program in self._controllers:
            await program.kill()

    # --- load ------------------------------------------------------------------------------------------------------------

    def load(self, address: str, port: int, *, target: str = "/hello", users: str = "", rate: float = 5.0) -> Load:
        """Return constant load on a ClusterIP from every client host: 24 users on each, unless given."""
        options = {"users": users} if users else {}
        url = f"http://{address}:{port}{target}"
        load = Load(self.clients, url, logs=self.logs, host_header=f"{address}:{port}", rate=rate, **options)
        self.loads.append(load)
        return load

    def figures(self) -> list[str]:
        """Return what there was to count."""
        total = Report()
        for load in self.loads:
            total.merge(load.total)
        return [total.figures(), *self.notes]

    # --- inside ----------------------------------------------------------------------------------------------------------

    def _name(self, app: str) -> str:
        self._numbers[app] = self._numbers.get(app, 0) + 1
        return f"{app}-{self._numbers[app]}"

    def _write_kubeconfig(self) -> Path:
        file = self.api.kubeconfig(self.logs / "kubeconfig")
        config = json.loads(file.read_text(encoding="utf-8"))
        config["clusters"][0]["cluster"]["server"] = self.server
        file.write_text(json.dumps(config), encoding="utf-8")
        return file


def _tail(log: Path, lines: int = 25) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])

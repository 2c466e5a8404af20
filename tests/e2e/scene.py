# SPDX-License-Identifier: Apache-2.0
"""The scene of most tests: one Service with pods, gateways and a controller, and what "captured" and "direct" mean for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from routing.capture import CAPTURE_LABEL, CAPTURED_KEY, MANAGED_BY, MANAGED_BY_LABEL, SERVICE_NAME_LABEL, SHADOW_OF_LABEL

if TYPE_CHECKING:
    from tests.e2e.clients import Load, Report
    from tests.e2e.cluster import Cluster
    from tests.e2e.kubelet import Pod
    from tests.e2e.net import Program

__all__ = ["Scene"]


class Scene:
    """A Service, port 5000, captured on demand.

    Args:
        cluster: where.
        name: of the Service.
        address: its ClusterIP.

    Attributes:
        pods: those that answer now.
        gateways: those that should take part now.
    """

    app = "hello"
    port = 5000
    identity = "controller-0"
    """Of the controller: one that is started again in its pod has the same, and with it the Lease."""

    def __init__(self, cluster: Cluster, name: str = "hello", address: str = "10.96.0.10") -> None:
        self.cluster = cluster
        self.name = name
        self.address = address
        self.pods: list[Pod] = []
        self.gateways: list[Pod] = []
        self.controller: Program | None = None

    def __repr__(self) -> str:
        return f"<Scene pods={self.pods} gateways={self.gateways}>"

    async def start(self, *, gateways: int = 2, controller: bool = True) -> Scene:
        """Start two pods, gateways and a controller; nothing is captured yet."""
        self.add_service()
        self.pods = await self.cluster.deploy(self.cluster.template(self.app), 2)
        self.gateways = await self.cluster.gateways(gateways)
        if controller:
            self.controller = await self.cluster.controller(self.identity)
        await self.cluster.until(self.is_direct, "direct traffic")
        return self

    def add_service(self) -> None:
        """Create the Service."""
        ports = [{"name": "http", "port": self.port, "targetPort": 8080}]
        self.cluster.service(self.name, self.address, ports, selector={"app": self.app})

    async def sibling(self, number: int) -> Scene:
        """Add another Service for the same pods, with the same gateways and controller."""
        other = Scene(self.cluster, f"{self.name}-{number}", f"10.96.1.{number}")
        other.pods, other.gateways, other.controller = self.pods, self.gateways, self.controller
        other.add_service()
        await self.cluster.until(other.is_direct, "direct traffic")
        return other

    def load(self, **options: Any) -> Load:
        """Return load on the Service."""
        return self.cluster.load(self.address, self.port, **options)

    def ask(self, capture: str | None) -> None:
        """Set the Service's capture label, or take it away."""

        def change(service: dict[str, Any]) -> None:
            labels = service["metadata"].setdefault("labels", {})
            if capture is None:
                labels.pop(CAPTURE_LABEL, None)
            else:
                labels[CAPTURE_LABEL] = capture

        self.cluster.change_service(self.name, change)

    async def capture(self) -> float:
        """Have the Service captured, and return how long it took."""
        self.ask("enabled")
        return await self.cluster.until(self.is_captured, "captured")

    async def release(self) -> float:
        """Have the Service released, and return how long it took."""
        self.ask(None)
        return await self.cluster.until(self.is_direct, "released")

    def is_captured(self) -> bool:
        """Whether the clients' rules lead to the gateways, all of them and nowhere else."""
        return self.destinations() == {pod.address for pod in self.gateways}

    def is_direct(self) -> bool:
        """Whether the clients' rules lead to the pods, and nothing in the cluster says otherwise."""
        return self.is_bypassed() and not self._is_redirected()

    def is_clean(self) -> bool:
        """Whether nothing of a capture is left; gateways listen for late comers some time after a release."""
        shadows = (one["metadata"].get("labels", {}).get(SHADOW_OF_LABEL) for one in self.cluster.api.objects("Service"))
        return self.is_direct() and self.name not in shadows

    def is_bypassed(self) -> bool:
        """Whether the clients' rules lead to the pods, whatever is left of a capture."""
        return self.destinations() == {pod.address for pod in self.pods}

    def destinations(self) -> set[str]:
        """Return the addresses that the clients' rules lead to."""
        return {endpoint.address for endpoint in self.cluster.leads_to(self.address, self.port)}

    def gateway_addresses(self) -> set[str]:
        """Return where pods see connections come from when the gateways made them."""
        return {pod.address for pod in self.gateways}

    def client_addresses(self) -> set[str]:
        """Return where pods see connections come from when clients made them."""
        return {host.address for host in self.cluster.clients}

    async def goes_through_gateways(self, load: Load) -> Report:
        """Wait until new connections reach the pods by the gateways only."""
        return await load.until(
            lambda report: bool(report.fresh) and set(report.fresh) <= self.gateway_addresses(), what="captured"
        )

    async def goes_direct(self, load: Load) -> Report:
        """Wait until new connections reach the pods from the clients only."""
        return await load.until(lambda report: bool(report.fresh) and set(report.fresh) <= self.client_addresses(), what="direct")

    def _is_redirected(self) -> bool:
        if CAPTURED_KEY in self.cluster.get_service(self.name)["spec"]["selector"]:
            return True
        labels = (piece["metadata"].get("labels", {}) for piece in self.cluster.api.objects("EndpointSlice"))
        return any(own.get(MANAGED_BY_LABEL) == MANAGED_BY and own.get(SERVICE_NAME_LABEL) == self.name for own in labels)

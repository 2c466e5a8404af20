# SPDX-License-Identifier: Apache-2.0
"""The state of acmgproxy in a cluster, as data: what `acmgctl status` shows and programs read. Nothing here prints.

`problems` are what somebody should look at: gateways or a controller that are not as they should be, Services that asked and are
still waiting. A Service that is refused is none: the reason is told, and its traffic goes as ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from acmgproxy.ctl.cluster import CONTROLLER, GATEWAY, NAMESPACE, OURS, find, list_all, list_kind
from acmgproxy.ctl.gateways import GatewayState, ask_gateways, image_version
from acmgproxy.ctl.kinds import DAEMON_SETS, DEPLOYMENTS
from acmgproxy.ctl.rollout import judge_daemon_set, judge_deployment, no_node, pod_trouble, version_of
from acmgproxy.ctl.services import judged, named, state_of
from acmgproxy.ctl.switch import is_off
from acmgproxy.ctl.traces import collect
from discovery.kube import ENDPOINT_SLICES, LEASES, NAMESPACES, NODES, PODS, SERVICES, VIRTUAL_SERVICES, ApiError
from routing.capture import MANAGED_BY, MANAGED_BY_LABEL, SHADOW_LABEL

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from acmgproxy.ctl.cluster import Object
    from discovery.kube import KubeClient

__all__ = ["ControllerState", "Overview", "ServiceEntry", "look_around"]

STALE_S = 90.0
"""A gateway that has heard nothing of the API server for so long has lost it: bookmarks come each minute."""


class ControllerState(msgspec.Struct, frozen=True, kw_only=True):
    """The controller. `leader` is the replica that works, empty if none says so."""

    leader: str
    replicas: int
    available: int
    version: str


class ServiceEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A Service that is captured, or that somebody asked to capture. `gateway_ports` by Service port."""

    namespace: str
    name: str
    state: str
    gateway_ports: dict[str, int]
    reason: str


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """Everything at once."""

    ok: bool
    installed: bool
    switched_off: bool
    problems: list[str]
    gateways: list[GatewayState]
    controller: ControllerState | None
    services: list[ServiceEntry]


async def look_around(client: KubeClient, namespace: str) -> Overview:
    """Look at everything.

    Args:
        client: The cluster.
        namespace: Whose Services are wanted; empty for all.
    """
    daemon_set = await find(client, DAEMON_SETS.path(NAMESPACE, GATEWAY))
    deployment = await find(client, DEPLOYMENTS.path(NAMESPACE, CONTROLLER))
    pods = await list_all(client, PODS.path(NAMESPACE), labelSelector=OURS)
    nodes = await _nodes(client)
    gateways = await ask_gateways(client, _of(pods, "gateway"), nodes or ())
    controller = await _controller(client, deployment, _of(pods, "controller"))
    switched_off, services = await _services(client, namespace)
    is_installed = daemon_set is not None or deployment is not None
    problems = []
    if is_installed:
        problems = [
            *_gateway_problems(daemon_set, nodes, gateways),
            *_controller_problems(deployment, controller, _of(pods, "controller")),
        ]
    elif any(entry.state in {"captured", "releasing", "pending"} for entry in services):
        problems = ["Services are marked for acmgproxy, which is not installed: `acmgctl install`, or `acmgctl uninstall -y`"]
    problems += [
        f"Service {entry.namespace}/{entry.name} is {entry.state}: {entry.reason}"
        for entry in services
        if is_installed and entry.state in {"pending", "releasing"}
    ]
    return Overview(
        ok=not problems,
        installed=is_installed,
        switched_off=switched_off,
        problems=problems,
        gateways=gateways,
        controller=controller,
        services=services,
    )


def _of(pods: Iterable[Object], component: str) -> list[Object]:
    return [pod for pod in pods if pod["metadata"]["labels"].get("app.kubernetes.io/component") == component]


async def _nodes(client: KubeClient) -> list[Object] | None:
    """Return the nodes, None if we may not see them: they only add zones and advice."""
    try:
        return await list_all(client, NODES.path())
    except ApiError as error:
        if error.status == 403:
            return None
        raise


async def _controller(client: KubeClient, deployment: Object | None, pods: Sequence[Object]) -> ControllerState | None:
    if deployment is None:
        return None
    lease = await find(client, LEASES.path(NAMESPACE, CONTROLLER))
    status = deployment.get("status") or {}
    return ControllerState(
        leader=((lease or {}).get("spec") or {}).get("holderIdentity") or "",
        replicas=deployment["spec"].get("replicas", 1),
        available=status.get("availableReplicas", 0),
        version="/".join(sorted({image_version(pod) for pod in pods})) or version_of(deployment),
    )


def _gateway_problems(daemon_set: Object | None, nodes: Sequence[Object] | None, gateways: Sequence[GatewayState]) -> list[str]:
    if daemon_set is None:
        return [f"the DaemonSet {NAMESPACE}/{GATEWAY} is missing; `acmgctl install` makes it again"]
    if not gateways and nodes is not None and (problem := no_node(daemon_set, nodes)) is not None:
        return [problem]
    problems = []
    rollout = judge_daemon_set(daemon_set, "gateways")
    if not rollout.done:
        problems.append(rollout.text)
    for one in gateways:
        if not one.ready:
            problems.append(one.note or f"gateway {one.pod} is not ready; see `kubectl describe pod -n {NAMESPACE} {one.pod}`")
        if one.listeners is not None and one.listeners_bound != one.listeners:
            problems.append(f"gateway {one.pod} listens on {one.listeners_bound} of {one.listeners} addresses; its log says why")
        if one.workers is not None and one.workers_up != one.workers:
            problems.append(f"gateway {one.pod} has {one.workers_up} of {one.workers} workers; its log says why")
        if one.stale_s is not None and one.stale_s > STALE_S:
            problems.append(
                f"gateway {one.pod} has heard nothing of the API server for {one.stale_s:.0f} s, and serves what it knew then"
            )
    return problems


def _controller_problems(deployment: Object | None, controller: ControllerState | None, pods: Sequence[Object]) -> list[str]:
    if deployment is None or controller is None:
        return [f"the Deployment {NAMESPACE}/{CONTROLLER} is missing; `acmgctl install` makes it again"]
    troubles = [trouble.text for trouble in map(pod_trouble, pods) if trouble is not None]
    if not controller.available:
        state = judge_deployment(deployment, "controller").text
        return [f"{state}: what is captured stays so, and nothing else happens", *troubles]
    if not controller.leader:
        return [*troubles, "no controller has taken the Lease yet; see its log"]
    return troubles


async def _services(client: KubeClient, namespace: str) -> tuple[bool, list[ServiceEntry]]:
    """Return whether capture is switched off, and every Service that capture is about."""
    services = await list_all(client, SERVICES.path(namespace))
    slices = await list_all(client, ENDPOINT_SLICES.path(namespace), labelSelector=f"{MANAGED_BY_LABEL}={MANAGED_BY}")
    spaces = {one["metadata"]["name"]: one for one in await list_all(client, NAMESPACES.path())}
    asked = named(await list_kind(client, VIRTUAL_SERVICES))
    traces = collect(services, slices)
    switched_off = is_off(spaces.get(NAMESPACE))
    entries = []
    for service in services:
        metadata = service["metadata"]
        key = metadata["namespace"], metadata["name"]
        if SHADOW_LABEL in (metadata.get("labels") or {}):
            continue
        verdict = judged(service, spaces.get(key[0]), is_named=key in asked, is_off=switched_off)
        state = state_of(service, verdict, traces.get(key))
        if state.state != "direct":
            ports = {str(port): gateway_port for port, gateway_port in state.ports.items()}
            entries.append(
                ServiceEntry(namespace=key[0], name=key[1], state=state.state, gateway_ports=ports, reason=state.reason)
            )
    return switched_off, sorted(entries, key=lambda entry: (entry.namespace, entry.name))

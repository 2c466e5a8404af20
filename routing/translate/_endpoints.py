# SPDX-License-Identifier: Apache-2.0
"""Endpoints: the members of a Service's clusters, from its EndpointSlices and the Pods behind them.

The cost is that of the one Service: this is what runs at every rollout of every Deployment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from routing.specs import EndpointSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from routing.resources import EndpointSlice, Service
    from routing.resources.core import Endpoint
    from routing.store import Store
    from routing.translate._identities import Identities
    from routing.translate._policies import PlannedCluster

__all__ = ["ADDRESS_TYPES", "ServiceMembers", "cluster_endpoints", "service_members"]

ADDRESS_TYPES = frozenset({"IPv4", "IPv6"})
"""Slices of the deprecated type FQDN would need a resolver."""

_NO_LABELS: dict[str, str] = {}


class _Member(NamedTuple):
    endpoint: EndpointSpec
    labels: Mapping[str, str]


class ServiceMembers(NamedTuple):
    """Members of a Service by port name, and the names of ports that its slices lack although they have endpoints."""

    by_port: dict[str, list[_Member]]
    missing_ports: tuple[str, ...]


def service_members(store: Store, service: Service, identities: Identities) -> ServiceMembers:
    """Return the endpoints of every port of a Service."""
    slices = _slices(store, service)
    members: dict[str, dict[tuple[str, int], _Member]] = {port.name: {} for port in service.tcp_ports}
    seen: set[str] = set()
    for slice_ in slices:
        numbers = {port.name: port.port for port in slice_.ports if port.protocol == "TCP" and port.port is not None}
        wanted = [(numbers[name], found) for name, found in members.items() if name in numbers]
        if not slice_.endpoints:
            continue
        seen.update(numbers)
        for endpoint in slice_.endpoints:
            _add(store, slice_, endpoint, identities, wanted)
    missing = tuple(name for name in members if name not in seen) if any(slice_.endpoints for slice_ in slices) else ()
    return ServiceMembers({name: list(found.values()) for name, found in members.items()}, missing)


def _slices(store: Store, service: Service) -> list[EndpointSlice]:
    """Return a Service's slices of one address family, in a fixed order: a dual-stack Pod is one endpoint, not two."""
    usable = (slice_ for slice_ in store.slices_of(service.key) if slice_.address_type in ADDRESS_TYPES)
    slices = sorted(usable, key=lambda slice_: slice_.meta.name)
    if len({slice_.address_type for slice_ in slices}) < 2:
        return slices
    primary = "IPv6" if any(":" in address for address in service.addresses[:1]) else "IPv4"
    return [slice_ for slice_ in slices if slice_.address_type == primary]


def _add(
    store: Store,
    slice_: EndpointSlice,
    endpoint: Endpoint,
    identities: Identities,
    wanted: list[tuple[int, dict[tuple[str, int], _Member]]],
) -> None:
    draining = _is_draining(endpoint)
    if draining is None or not endpoint.addresses:
        return
    address = endpoint.addresses[0]
    target = slice_.pod_of(endpoint)
    pod = store.pods.get(target) if target else None
    identity = identities.key(pod) if pod else ""
    uid = (endpoint.target_ref.uid if endpoint.target_ref else "") or (pod.meta.uid if pod else "")
    labels = pod.meta.labels if pod else _NO_LABELS
    for port, found in wanted:
        # While slices are rebalanced an endpoint may stand in two of them; usable in one is usable.
        earlier = found.get((address, port))
        if earlier is None or (earlier.endpoint.draining and not draining):
            spec = EndpointSpec(
                address=address, port=port, identity=identity, uid=uid, draining=draining, locality=endpoint.zone
            )  # fmt: skip
            found[address, port] = _Member(spec, labels)


def _is_draining(endpoint: Endpoint) -> bool | None:
    """Tell whether an endpoint is about to leave; None when it must not be used at all."""
    conditions = endpoint.conditions
    ready = conditions.ready is not False
    if not conditions.terminating:
        return False if ready else None
    serving = ready if conditions.serving is None else conditions.serving
    return True if serving else None


def cluster_endpoints(members: ServiceMembers, planned: Iterable[PlannedCluster]) -> dict[str, tuple[EndpointSpec, ...]]:
    """Return the endpoints of each planned cluster; clusters with the same members share one tuple."""
    whole = {name: tuple(member.endpoint for member in found) for name, found in members.by_port.items()}
    endpoints = {}
    for cluster in planned:
        name = cluster.port.name
        if cluster.subset is None or not cluster.subset.labels:
            endpoints[cluster.name] = whole[name]
        else:
            wanted = cluster.subset.labels.items()
            found = (member.endpoint for member in members.by_port[name] if wanted <= member.labels.items())
            endpoints[cluster.name] = tuple(found)
    return endpoints



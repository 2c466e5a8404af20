# SPDX-License-Identifier: Apache-2.0
"""Endpoints: the members of a host's clusters.

Those of a Service come from its EndpointSlices and the Pods behind them, at the cost of the one Service: this is what runs at
every rollout of every Deployment. Those of a ServiceEntry stand in it, or are the Pods it selects. A member that is only known by
name has to be looked up in DNS by somebody else; `resolved` makes endpoints of the answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from routing.names import is_ip_address
from routing.resources import Service, ServiceEntry
from routing.specs import EndpointSpec
from routing.translate._identities import identity_of, pod_locality
from routing.translate._registry import endpoint_hostname

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from routing.resources import EndpointSlice, Pod
    from routing.resources.core import Endpoint
    from routing.resources.service_entry import WorkloadEndpoint
    from routing.store import Store
    from routing.translate._identities import Identities
    from routing.translate._policies import PlannedCluster
    from routing.translate._registry import Port, Registered

__all__ = [
    "ADDRESS_TYPES",
    "Members",
    "NamedEndpoint",
    "cluster_endpoints",
    "cluster_names",
    "host_members",
    "resolved",
    "selected_pods",
    "selecting_entries",
    "selects",
]

ADDRESS_TYPES = frozenset({"IPv4", "IPv6"})
"""Slices of the deprecated type FQDN would need a resolver."""

_NO_LABELS: dict[str, str] = {}


class NamedEndpoint(NamedTuple):
    """Endpoints whose addresses are those of a DNS name; `endpoint` is what they have in common."""

    name: str
    endpoint: EndpointSpec


class _Member(NamedTuple):
    endpoint: EndpointSpec
    labels: Mapping[str, str]
    hostname: str = ""
    dns: str = ""


class Members(NamedTuple):
    """Members of a host by port number, and the names of ports that its slices lack although they have endpoints."""

    by_port: dict[int, list[_Member]]
    missing_ports: tuple[str, ...] = ()


def host_members(store: Store, host: Registered, identities: Identities) -> Members:
    """Return the members of every port of a host."""
    if isinstance(host.about, Service) and not host.external:
        return _service_members(store, host, host.about, identities)
    return Members({port.number: _port_members(store, host, port, identities) for port in host.ports})


def _service_members(store: Store, host: Registered, service: Service, identities: Identities) -> Members:
    slices = _slices(store, service)
    members: dict[int, dict[tuple[str, int], _Member]] = {port.number: {} for port in host.ports}
    seen: set[str] = set()
    for slice_ in slices:
        if not slice_.endpoints:
            continue
        numbers = _port_numbers(store, slice_, host)
        wanted = [(numbers[port.name], members[port.number]) for port in host.ports if port.name in numbers]
        seen.update(numbers)
        for endpoint in slice_.endpoints:
            _add(store, slice_, endpoint, identities, wanted, is_headless=service.is_headless)
    has_any = any(slice_.endpoints for slice_ in slices)
    missing = tuple(port.name for port in host.ports if port.name not in seen) if has_any else ()
    return Members({number: list(found.values()) for number, found in members.items()}, missing)


def _port_numbers(store: Store, slice_: EndpointSlice, host: Registered) -> dict[str, int]:
    """Return the ports of a slice's endpoints by the names of the host's ports.

    A port that has just been renamed still has its old name in the shadow and its slices; there its number tells which it is.
    """
    numbers = {port.name: port.port for port in slice_.ports if port.protocol == "TCP" and port.port is not None}
    shadow = store.shadows.get(slice_.shadow) if slice_.shadow is not None else None
    if shadow is not None:
        old = {port.port: numbers[port.name] for port in shadow.tcp_ports if port.name in numbers}
        for port in host.ports:
            if port.name not in numbers and port.number in old:
                numbers[port.name] = old[port.number]
    return numbers


def _slices(store: Store, service: Service) -> list[EndpointSlice]:
    """Return a Service's slices of one address family, in a fixed order: a dual-stack Pod is one endpoint, not two.

    It is the Service's first family, unless only the other has endpoints.
    """
    usable = (slice_ for slice_ in store.slices_of(service.key) if slice_.address_type in ADDRESS_TYPES)
    slices = sorted(usable, key=lambda slice_: slice_.meta.name)
    if len({slice_.address_type for slice_ in slices if slice_.endpoints}) < 2:
        return slices
    primary = "IPv6" if any(":" in address for address in service.addresses[:1]) else "IPv4"
    return [slice_ for slice_ in slices if slice_.address_type == primary]


def _add(
    store: Store,
    slice_: EndpointSlice,
    endpoint: Endpoint,
    identities: Identities,
    wanted: list[tuple[int, dict[tuple[str, int], _Member]]],
    *,
    is_headless: bool,
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
    locality = pod_locality(labels) or (f"/{endpoint.zone}" if endpoint.zone else "")
    hostname = endpoint_hostname(store, slice_, endpoint) if is_headless else ""
    for port, found in wanted:
        # While slices are rebalanced an endpoint may stand in two of them; usable in one is usable.
        earlier = found.get((address, port))
        if earlier is None or (earlier.endpoint.draining and not draining):
            spec = EndpointSpec(address=address, port=port, identity=identity, uid=uid, draining=draining, locality=locality)
            found[address, port] = _Member(spec, labels, hostname)


def _is_draining(endpoint: Endpoint) -> bool | None:
    """Tell whether an endpoint is about to leave; None when it must not be used at all."""
    conditions = endpoint.conditions
    ready = conditions.ready is not False
    if not conditions.terminating:
        return False if ready else None
    serving = ready if conditions.serving is None else conditions.serving
    return True if serving else None


def _port_members(store: Store, host: Registered, port: Port, identities: Identities) -> list[_Member]:
    """Return the members of a port that no EndpointSlice tells of."""
    if host.external:
        return [_member(host.external, EndpointSpec(address="", port=port.number), _NO_LABELS)]
    entry, entry_port = port.entry, port.entry_port
    assert entry is not None
    assert entry_port is not None
    number = entry_port.target_port or entry_port.number
    if entry.spec.workload_selector is not None:
        pods = selected_pods(store, entry)
        found = [_pod_member(pod, number, identities) for pod in pods if pod.addresses]
    elif entry.spec.endpoints:
        found = [_entry_member(entry, endpoint, port.name, number, identities) for endpoint in entry.spec.endpoints]
    elif host.name.startswith("*"):  # nobody knows which of the names is meant
        found = []
    else:
        found = [_member(host.name, EndpointSpec(address="", port=number), _NO_LABELS)]
    unique = {(member.endpoint.address or member.dns, member.endpoint.port): member for member in reversed(found)}
    return list(reversed(unique.values()))


def selecting_entries(host: Registered) -> list[ServiceEntry]:
    """Return the ServiceEntries of a host that select Pods."""
    entries = {id(port.entry): port.entry for port in host.ports if port.entry is not None}
    return [entry for entry in entries.values() if entry.spec.workload_selector is not None]


def selects(entry: ServiceEntry, pod: Pod) -> bool:
    """Tell whether an entry that selects Pods selects this one."""
    selector = entry.spec.workload_selector
    assert selector is not None
    is_meant = pod.meta.namespace == entry.meta.namespace and selector.labels.items() <= pod.meta.labels.items()
    return is_meant and pod.is_ready


def selected_pods(store: Store, entry: ServiceEntry) -> list[Pod]:
    """Return the Pods that an entry selects, in a fixed order."""
    pods = (pod for pod in store.pods_in(entry.meta.namespace) if selects(entry, pod))
    return sorted(pods, key=lambda pod: pod.meta.name)


def _pod_member(pod: Pod, port: int, identities: Identities) -> _Member:
    labels = pod.meta.labels
    spec = EndpointSpec(
        address=pod.addresses[0], port=port, identity=identities.key(pod), uid=pod.meta.uid, locality=pod_locality(labels)
    )
    return _Member(spec, labels)


def _entry_member(
    entry: ServiceEntry, endpoint: WorkloadEndpoint, port_name: str, number: int, identities: Identities
) -> _Member:
    identity = ""
    if endpoint.labels or endpoint.service_account:
        workload = endpoint.labels.get("app", "unknown")
        identity = identities.intern(identity_of(entry.meta.namespace, endpoint.labels, endpoint.service_account, workload))
    spec = EndpointSpec(
        address="",
        port=endpoint.ports.get(port_name, number),
        identity=identity,
        weight=endpoint.weight or 1,
        locality=endpoint.locality or pod_locality(endpoint.labels),
    )
    return _member(endpoint.address, spec, endpoint.labels)


def _member(address: str, spec: EndpointSpec, labels: Mapping[str, str]) -> _Member:
    """Return a member at an address or DNS name."""
    if is_ip_address(address):
        return _Member(replace(spec, address=address), labels)
    return _Member(spec, labels, dns=address)


def cluster_endpoints(members: Members, planned: Iterable[PlannedCluster]) -> dict[str, tuple[EndpointSpec, ...]]:
    """Return the endpoints of each planned cluster that have addresses; clusters with the same members share one tuple."""
    whole = {number: tuple(member.endpoint for member in found if not member.dns) for number, found in members.by_port.items()}
    endpoints = {}
    for cluster in planned:
        if _is_whole(cluster):
            endpoints[cluster.name] = whole[cluster.port.number]
        else:
            endpoints[cluster.name] = tuple(member.endpoint for member in _chosen(members, cluster) if not member.dns)
    return endpoints


def cluster_names(members: Members, planned: Iterable[PlannedCluster]) -> dict[str, tuple[NamedEndpoint, ...]]:
    """Return the endpoints of each planned cluster that have to be looked up; clusters without are left out."""
    if not any(member.dns for found in members.by_port.values() for member in found):
        return {}
    names = {}
    for cluster in planned:
        found = tuple(NamedEndpoint(member.dns, member.endpoint) for member in _chosen(members, cluster) if member.dns)
        if found:
            names[cluster.name] = found
    return names


def _is_whole(cluster: PlannedCluster) -> bool:
    return not cluster.host.pod and (cluster.subset is None or not cluster.subset.labels)


def _chosen(members: Members, cluster: PlannedCluster) -> Iterable[_Member]:
    """Return the members of a cluster: the pod's, those with the subset's labels, or all."""
    found = members.by_port[cluster.port.number]
    if cluster.host.pod:
        return [member for member in found if member.hostname == cluster.host.pod]
    wanted = cluster.subset.labels.items() if cluster.subset is not None else _NO_LABELS.items()
    return [member for member in found if wanted <= member.labels.items()]


def resolved(names: Iterable[NamedEndpoint], addresses: Mapping[str, tuple[str, ...]]) -> tuple[EndpointSpec, ...]:
    """Return the endpoints of DNS names.

    Args:
        names: The names.
        addresses: Addresses by name; a name that is missing has none (yet).
    """
    found: dict[tuple[str, int], EndpointSpec] = {}
    for name, endpoint in names:
        for address in addresses.get(name, ()):
            found.setdefault((address, endpoint.port), replace(endpoint, address=address))
    return tuple(found.values())

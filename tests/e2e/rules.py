# SPDX-License-Identifier: Apache-2.0
"""What kube-proxy makes of Services and EndpointSlices: translation tables for nftables, and the difference between two of them.

Owns the rules alone: which endpoints a ClusterIP's port leads to, and the script that turns one state of a kernel table into the
next. It neither watches nor runs anything.

The theory is that of kube-proxy in nftables mode. All EndpointSlices that name a Service by label count together, whoever made
them. A port of a slice belongs to the Service's port of the same *name*; its number is where connections go. Ready endpoints are
used, and when there is none, those that still serve while they terminate. Connections are translated by destination only, so the
endpoint sees the caller's own address, and only their first packet is looked up: connection tracking keeps what has begun where
it is. One script is one transaction: no packet sees half of it. An address of the Service range that leads nowhere is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["SERVICE_RANGE", "Destination", "Endpoint", "destinations", "empty_table", "script"]

SERVICE_RANGE = "10.96.0.0/16"
"""ClusterIPs come from here, as in a cluster made by kubeadm."""

_NAME_LABEL = "kubernetes.io/service-name"
_TABLE = "ip kube-proxy"


class Destination(NamedTuple):
    """What a connection asks for."""

    address: str
    protocol: str
    port: int

    @property
    def chain(self) -> str:
        """Name of the chain that spreads its connections."""
        return f"to-{self.address}-{self.protocol}-{self.port}"

    @property
    def key(self) -> str:
        """The destination as a key of the map."""
        return f"{self.address} . {self.protocol} . {self.port}"


class Endpoint(NamedTuple):
    """Where a connection goes instead."""

    address: str
    port: int


Object = dict[str, Any]
Table = dict[Destination, tuple[Endpoint, ...]]


def destinations(services: Iterable[Object], slices: Iterable[Object]) -> Table:
    """Say where each ClusterIP's port leads; destinations without an endpoint are left out, and so refused."""
    by_service: dict[tuple[str, str], list[Object]] = {}
    for piece in slices:
        name = piece["metadata"].get("labels", {}).get(_NAME_LABEL)
        if name and piece["addressType"] == "IPv4":
            by_service.setdefault((piece["metadata"]["namespace"], name), []).append(piece)
    table: Table = {}
    for service in services:
        spec, meta = service["spec"], service["metadata"]
        if spec.get("type", "ClusterIP") == "ExternalName" or spec.get("clusterIP", "None") in {"", "None"}:
            continue
        own = by_service.get((meta["namespace"], meta["name"]), [])
        for port in spec.get("ports", []):
            endpoints = _endpoints(own, port.get("name") or "", port.get("protocol", "TCP"))
            if endpoints:
                table[Destination(spec["clusterIP"], port.get("protocol", "TCP").lower(), port["port"])] = endpoints
    return table


def _endpoints(slices: Iterable[Object], name: str, protocol: str) -> tuple[Endpoint, ...]:
    ready: set[Endpoint] = set()
    leaving: set[Endpoint] = set()
    for piece in slices:
        ports = [
            port["port"]
            for port in piece.get("ports") or ()
            if (port.get("name") or "") == name and port.get("protocol", "TCP") == protocol and port.get("port")
        ]
        for endpoint in piece.get("endpoints") or ():
            conditions = endpoint.get("conditions") or {}
            # Absent means ready, and serving unless said otherwise (the API's own words).
            is_ready = conditions.get("ready") is not False
            is_leaving = conditions.get("terminating") is True and conditions.get("serving", is_ready) is not False
            chosen = ready if is_ready else leaving if is_leaving else None
            if chosen is not None:
                # One address only: kube-proxy uses the first and the API says that all lead to the same pod.
                chosen.update(Endpoint(endpoint["addresses"][0], port) for port in ports)
    return tuple(sorted(ready or leaving))


def empty_table() -> str:
    """Return the script for a table that translates nothing and refuses every ClusterIP."""
    return f"""
add table {_TABLE}
delete table {_TABLE}
table {_TABLE} {{
  map service-ips {{ type ipv4_addr . inet_proto . inet_service : verdict; }}
  chain services {{ ip daddr . meta l4proto . th dport vmap @service-ips; }}
  chain nat-output {{ type nat hook output priority -100; jump services; }}
  chain nat-prerouting {{ type nat hook prerouting priority -100; jump services; }}
  chain filter-output {{ type filter hook output priority 0; ip daddr {SERVICE_RANGE} ct state new reject; }}
}}
"""


def script(before: Mapping[Destination, tuple[Endpoint, ...]], after: Mapping[Destination, tuple[Endpoint, ...]]) -> str:
    """Return one transaction that leads from `before` to `after`; empty when nothing changed."""
    lines: list[str] = []
    for destination, endpoints in after.items():
        if before.get(destination) == endpoints:
            continue
        if destination in before:
            lines.append(f"flush chain {_TABLE} {destination.chain}")
        else:
            lines.append(f"add chain {_TABLE} {destination.chain}")
        choices = ", ".join(f"{number} : {endpoint.address} . {endpoint.port}" for number, endpoint in enumerate(endpoints))
        spread = f"dnat ip to numgen random mod {len(endpoints)} map {{ {choices} }}"
        lines.append(f"add rule {_TABLE} {destination.chain} meta l4proto {destination.protocol} {spread}")
        if destination not in before:
            lines.append(f"add element {_TABLE} service-ips {{ {destination.key} : goto {destination.chain} }}")
    for destination in before:
        if destination not in after:
            lines.append(f"delete element {_TABLE} service-ips {{ {destination.key} }}")
            lines.append(f"delete chain {_TABLE} {destination.chain}")
    return "\n".join(lines)

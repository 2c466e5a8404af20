# SPDX-License-Identifier: Apache-2.0
"""Where a route sends a request: its destinations, and which of their endpoints this request may reach."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from msgspec.structs import replace

from routing.balance import Spread
from routing.explain.model import DestinationFacts, EndpointFacts
from routing.specs import ClusterRef, ForwardSpec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from routing.cluster import Cluster, Endpoint
    from routing.request import RequestView
    from routing.specs import HeaderOps, IdentitySpec, RuleSpec, Specs
    from routing.table import Caller, Destination, Route

__all__ = ["Sender", "destinations_of"]

_OUTBOUND = "outbound"
_HIDDEN = "-"
"""What follows `@` in the name of a cluster that no caller sees by default (`routing.translate`)."""


class Sender:
    """A request on its way to an endpoint.

    Args:
        specs: The whole configuration.
        head: The request.
        caller: Who calls. address: Where it calls from, "" if unknown.
    """

    __slots__ = ("address", "caller", "head", "specs")

    def __init__(self, specs: Specs, head: RequestView, caller: Caller | None, address: str) -> None:
        self.specs = specs
        self.head = head
        self.caller = caller
        self.address = address

    def __repr__(self) -> str:
        return f"Sender({self.caller!r}, {self.address!r})"


def destinations_of(sender: Sender, route: Route, rule: RuleSpec) -> tuple[DestinationFacts, ...]:
    """Return the destinations of a route that forwards.

    Args:
        sender: The request.
        route: The route.
        rule: The rule that it comes from.
    """
    action = rule.action
    assert isinstance(action, ForwardSpec)
    refs = action.clusters or (ClusterRef(cluster=""),)
    shares = _shares(route)
    return tuple(
        _destination(
            sender, one, share, (rule.request_headers, ref.request_headers), (rule.response_headers, ref.response_headers)
        )
        for one, ref, share in zip(route.destinations, refs, shares, strict=True)
    )


def _shares(route: Route) -> list[float]:
    """Return which part of the requests each destination is drawn for."""
    if route.single is not None:
        return [1.0 if one is route.single else 0.0 for one in route.destinations]
    total = sum(one.weight for one in route.destinations)
    if not total:
        return [1.0, *([0.0] * (len(route.destinations) - 1))]
    return [one.weight / total for one in route.destinations]


def _destination(
    sender: Sender,
    one: Destination,
    share: float,
    request_headers: Iterable[HeaderOps | None],
    response_headers: Iterable[HeaderOps | None],
) -> DestinationFacts:
    cluster = one.cluster
    host = (one.host_rewrite or sender.head.authority).decode(errors="replace")
    endpoints = _endpoints(sender, cluster) if cluster is not None else ()
    flag: Literal["", "NC", "UH"] = ""
    reason = ""
    port, subset, service = _parts(one.cluster_name)
    if cluster is None:
        flag, reason = "NC", _why_unknown(sender.specs, one.cluster_name)
    elif not any(endpoint.usable for endpoint in endpoints):
        flag, reason = "UH", _why_empty(cluster)
    return DestinationFacts(
        cluster=one.cluster_name,
        service=cluster.spec.service if cluster is not None else service,
        port=port,
        subset=subset,
        share=share,
        flag=flag,
        reason=reason,
        host=host,
        request_headers=tuple(ops for ops in request_headers if ops is not None),
        response_headers=tuple(ops for ops in response_headers if ops is not None),
        policy=cluster.spec if cluster is not None else None,
        endpoints=endpoints,
    )


# Endpoints.


def _endpoints(sender: Sender, cluster: Cluster) -> tuple[EndpointFacts, ...]:
    caller = sender.caller
    locality, labels = (caller.locality, caller.labels) if caller is not None else ("", None)
    balancer = cluster.balancer_for(locality, labels)
    groups = zip(balancer.shares, balancer.groups, strict=True) if isinstance(balancer, Spread) else [(1.0, balancer)]
    shares = {endpoint: share for share, group in groups for endpoint in group.endpoints}
    hashed = _hash(sender, cluster)
    chosen = balancer.pick_hash(hashed) if hashed is not None else None
    facts = []
    for endpoint in cluster.endpoints:
        found = replace(_of(sender.specs, endpoint), is_chosen=endpoint is chosen)
        if endpoint in shares:
            facts.append(replace(found, usable=True, share=shares[endpoint]))
        else:
            why = "it is about to stop" if endpoint.spec.draining else "others are nearer to the caller"
            facts.append(replace(found, share=0.0, why_not=why))
    return tuple(facts)


def _of(specs: Specs, endpoint: Endpoint) -> EndpointFacts:
    identity: IdentitySpec | None = specs.identities.get(endpoint.identity)
    spec = endpoint.spec
    return EndpointFacts(
        address=spec.address,
        port=spec.port,
        workload=_known(identity.workload) if identity is not None else "",
        version=_known(identity.version) if identity is not None else "",
        namespace=identity.namespace if identity is not None else "",
        locality=spec.locality,
        weight=spec.weight,
        draining=spec.draining,
        usable=False,
    )


def _known(text: str) -> str:
    return "" if text == "unknown" else text


def _hash(sender: Sender, cluster: Cluster) -> int | None:
    """Return the hash of the request, None when it may go anywhere: nothing to hash, or a cookie that is yet to be made."""
    if cluster.hash is None or cluster.spec.hash is None:
        return None
    if cluster.spec.hash.kind == "source-ip" and not sender.address:
        return None
    value, cookie = cluster.hash.of(sender.head, sender.address, lambda: 0.0)
    return value if cookie is None else None


# Reasons.


def _parts(cluster: str) -> tuple[int, str, str]:
    """Take a cluster's name apart (`routing.names.cluster_name`): port, subset and host."""
    outbound, _, rest = cluster.partition("|")
    port, _, rest = rest.partition("|")
    subset, _, host = rest.partition("|")
    if outbound != _OUTBOUND or not port.isdecimal():
        return 0, "", cluster
    return int(port), subset, host.partition("@")[0]


def _why_unknown(specs: Specs, cluster: str) -> str:
    """Say why there is no cluster of a name, and what there is."""
    port, subset, host = _parts(cluster)
    if cluster.endswith(f"@{_HIDDEN}"):
        return f"the ServiceEntry of {host} is not exported to the caller's namespace; extend its exportTo"
    known = [_parts(name) for name in specs.clusters if name.partition("@")[0].endswith(f"|{host}")]
    if not known:
        return f"no Service or ServiceEntry is named {host or 'so'}; correct the destination's host, or create it"
    ports = sorted({number for number, _, _ in known})
    if port not in ports:
        return f"{host} has no port {port}; it has {', '.join(map(str, ports))}"
    subsets = sorted({name for number, name, _ in known if number == port and name})
    there_are = f"there are {', '.join(subsets)}" if subsets else "it has none"
    return f"no DestinationRule that this caller sees has a subset {subset} of {host}; {there_are}"


def _why_empty(cluster: Cluster) -> str:
    spec = cluster.spec
    if cluster.endpoints:
        return f"no locality that the caller may be sent to has an endpoint of {spec.service}"
    if spec.subset:
        return f"no ready pod of {spec.service} carries the labels of subset {spec.subset}"
    return f"{spec.service} has no endpoint: no pod is ready, or its selector matches none"

# SPDX-License-Identifier: Apache-2.0
"""Shortest ways to write heads and specs, shared by the tests of the table."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from routing.specs import (
    CandidateSpec,
    ClusterRef,
    ClusterSpec,
    EndpointSpec,
    ForwardSpec,
    HeaderOps,
    ListenerSpec,
    MatchSpec,
    NamedMatch,
    PathMatch,
    RuleSetSpec,
    RuleSpec,
    Specs,
    SpecsDiff,
    StringMatch,
    VirtualHostSpec,
)
from routing.table import RouteTable

HOST = "web.default.svc.cluster.local"
KEY = f"{HOST}:80"


@dataclass
class Head:
    """A request head that notes which headers were asked for."""

    path: bytes = b"/"
    authority: bytes = HOST.encode()
    method: bytes = b"GET"
    query: bytes = b""
    scheme: bytes = b"http"
    headers: dict[bytes, bytes] = field(default_factory=dict)
    asked: list[bytes] = field(default_factory=list)

    @property
    def host(self) -> bytes:
        name, colon, port = self.authority.rpartition(b":")
        return (name if colon and port.isdigit() else self.authority).lower().removesuffix(b".")

    @property
    def port(self) -> int:
        port = self.authority.rpartition(b":")[2]
        return int(port) if b":" in self.authority and port.isdigit() else 0

    def header(self, name: bytes) -> bytes | None:
        self.asked.append(name)
        return self.headers.get(name)


def exact(value: str) -> StringMatch:
    return StringMatch(kind="exact", value=value)


def header(name: str, match: StringMatch, *, invert: bool = False) -> NamedMatch:
    return NamedMatch(name=name, match=match, invert=invert)


def path(kind: Any, value: str, *, ignore_case: bool = False) -> PathMatch:
    return PathMatch(kind=kind, value=value, ignore_case=ignore_case)


def forward(*clusters: str | ClusterRef, **options: Any) -> ForwardSpec:
    return ForwardSpec(clusters=tuple(ClusterRef(cluster=c) if isinstance(c, str) else c for c in clusters), **options)


def rule(name: str, *matches: MatchSpec, action: Any = None, **options: Any) -> RuleSpec:
    return RuleSpec(name=name, matches=matches, action=action or forward("web"), **options)


def rule_set(*rules: RuleSpec, namespace: str = "default", name: str = "rules", export_to: tuple[str, ...] = ()) -> RuleSetSpec:
    return RuleSetSpec(name=name, namespace=namespace, rules=rules, export_to=export_to)


def virtual_host(*candidates: CandidateSpec | str, name: str = HOST, port: int = 80, **options: Any) -> VirtualHostSpec:
    options = {"domains": (name,), "namespace": "default", "default": ClusterRef(cluster="web"), **options}
    chosen = tuple(CandidateSpec(rule_set=c) if isinstance(c, str) else c for c in candidates)
    return VirtualHostSpec(name=name, port=port, candidates=chosen, **options)


def cluster(name: str = "web", **options: Any) -> ClusterSpec:
    return ClusterSpec(name=name, service=HOST, **options)


def endpoint(address: str = "10.0.0.1", port: int = 8080, **options: Any) -> EndpointSpec:
    return EndpointSpec(address=address, port=port, **options)


def listener(name: str = KEY, port: int = 80, virtual_host: str = KEY) -> ListenerSpec:
    return ListenerSpec(name=name, port=port, binds=(), virtual_host=virtual_host)


def diff(removed: dict[str, tuple[str, ...]] | None = None, **sections: Any) -> SpecsDiff:
    return SpecsDiff(version=1, put=Specs(**sections), removed=removed or {})


def add_ops(name: str, value: str) -> HeaderOps:
    return HeaderOps(add=((name, value),))


def table_of(*rules: RuleSpec, **sections: Any) -> RouteTable:
    """Return a table with one Service listener, whose host has these rules."""
    table = RouteTable()
    sections = {
        "listeners": {KEY: listener()},
        "virtual_hosts": {KEY: virtual_host("rules")},
        "rule_sets": {"rules": rule_set(*rules)} if rules else {},
        "clusters": {"web": cluster()},
        **sections,
    }
    table.apply(diff(**sections))
    return table


def route_name(table: RouteTable, head: Head, address: str = "", name: str = KEY) -> str | None:
    """Return the name of the route of a request on a listener from an address."""
    route = table.match(table.listeners[name], head, table.caller(address))
    return route.name if route is not None else None

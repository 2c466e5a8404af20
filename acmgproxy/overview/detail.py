# SPDX-License-Identifier: Apache-2.0
"""One Service in full: where its requests went, beside the weights of its rules, and how its endpoints are.

Requests are counted by cluster (a Service's port or a subset of it), not by rule, since that would be a cost on every request. So
what is shown beside a rule's weights is what its clusters got from all rules together; a cluster that others lead to as well is
marked (`is_shared`), and where none is, the split is the rule's own.

Plain data for JSON.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from acmgproxy.overview.history import Counts, Figures
from acmgproxy.overview.summary import curve_of, figures_of, window_of
from acmgproxy.overview.words import action_of, conditions_of
from routing.specs import ForwardSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from acmgproxy.endpoint_state import EndpointState
    from acmgproxy.overview.history import Cell, History, Window
    from routing.specs import ClusterRef, EndpointSpec, IdentitySpec, RuleSetSpec, RuleSpec, Specs, VirtualHostSpec

__all__ = ["clusters_of", "describe_service", "find_service"]

MAX_ENDPOINTS = 1_000
"""Endpoints described. Nobody reads more, and those in trouble come first."""


def find_service(specs: Specs, history: History, name: str) -> str | None:
    """Return the full name of a Service given as that, as `namespace/service` or as `service.namespace`; None without one."""
    known = {cluster.service: (cluster.service_namespace, cluster.service_name) for cluster in specs.clusters.values()}
    known |= history.services()
    if name in known:
        return name
    spellings = {f"{namespace}/{service}": full for full, (namespace, service) in known.items()}
    return spellings.get(name) or spellings.get("/".join(reversed(name.split("."))))


def clusters_of(specs: Specs, service: str) -> tuple[str, ...]:
    """Return the names of a Service's clusters."""
    return tuple(name for name, cluster in specs.clusters.items() if cluster.service == service)


def describe_service(
    specs: Specs, history: History, window: Window, service: str, states: Mapping[int, Iterable[EndpointState]]
) -> dict[str, Any]:
    """Describe a Service.

    Args:
        specs: the configuration.
        history: what has happened.
        window: in which time.
        service: its full name.
        states: how the members of its clusters are, by worker.
    """
    counts = history.counts(service, window)
    namespace, name = history.services().get(service) or _name_of(specs, service)
    endpoints = sorted(_endpoints(specs, service, states), key=_trouble_first)
    return {
        "name": service,
        "namespace": namespace,
        "service": name,
        "window": window_of(window),
        **figures_of(Figures.of(counts, window.seconds)),
        "curve": curve_of(history, service),
        "times": list(history.times()),
        "answers": _split(counts, lambda cell: {"code": cell.code, "flags": cell.flags}, window.seconds),
        "destinations": _split(counts, _destination, window.seconds),
        "clusters": _split(counts, lambda cell: _cluster_label(specs, cell.cluster), window.seconds),
        "routes": list(_Routes(specs, history, window).of(service)),
        "endpoints": endpoints[:MAX_ENDPOINTS],
        "endpoints_left_out": max(0, len(endpoints) - MAX_ENDPOINTS),
    }


# --- where requests went ------------------------------------------------------------------------------------------------------


def _split(counts: Counts, label: Callable[[Cell], dict[str, Any]], seconds: float) -> list[dict[str, Any]]:
    """Divide requests by what `label` says of them; the largest part first."""
    parts: dict[tuple[object, ...], tuple[dict[str, Any], list[int]]] = {}
    for cell, count in counts.cells.items():
        labels = label(cell)
        _, sums = parts.setdefault(tuple(labels.values()), (labels, [0, 0]))
        sums[0] += count
        sums[1] += count if cell.is_error else 0
    total = counts.requests
    split = [
        {
            **labels,
            "requests": requests,
            "errors": errors,
            "rate": requests / seconds if seconds > 0 else 0.0,
            "share": requests / total,
            "error_ratio": errors / requests,
        }
        for labels, (requests, errors) in parts.values()
    ]
    return sorted(split, key=lambda part: -part["requests"])


def _destination(cell: Cell) -> dict[str, Any]:
    return {"workload": cell.workload, "namespace": cell.namespace, "version": cell.version}


def _cluster_label(specs: Specs, name: str) -> dict[str, Any]:
    cluster = specs.clusters.get(name)
    if cluster is None:
        return {"cluster": name, "subset": "", "port": 0}
    return {"cluster": name, "subset": cluster.subset, "port": cluster.port}


# --- what the configuration says ----------------------------------------------------------------------------------------------


class _Routes:
    """A Service's rules, and what their clusters got."""

    def __init__(self, specs: Specs, history: History, window: Window) -> None:
        self._specs = specs
        self._history = history
        self._window = window
        self._seen: dict[str, Counter[str]] = {}

    def of(self, service: str) -> Iterator[dict[str, Any]]:
        """Yield the rules in the order in which they are tried, port by port, and the default route where it can be reached."""
        hosts = sorted((host for host in self._specs.virtual_hosts.values() if host.name == service), key=lambda host: host.port)
        users = Counter(name for host in hosts for ref in self._refs(host) for name in {ref.cluster, *ref.by_namespace.values()})
        for host in hosts:
            takes_all = False
            for rule_set, number, rule in self._rules(host):
                action = rule.action
                takes_all |= not (rule.matches or rule_set.export_to)
                origin = rule.origin
                yield {
                    "port": host.port,
                    "object": f"{origin.kind} {origin.namespace}/{origin.name}" if origin is not None else rule_set.name,
                    "rule": rule.name or f"rule {number + 1}",
                    "conditions": conditions_of(rule),
                    "action": action_of(rule),
                    "destinations": self._destinations(action.clusters, users) if isinstance(action, ForwardSpec) else [],
                }
            if host.default is not None and not takes_all:
                yield {
                    "port": host.port, "object": "", "rule": "default route", "conditions": [], "action": "forward",
                    "destinations": self._destinations((host.default,), users),
                }  # fmt: skip

    def _rules(self, host: VirtualHostSpec) -> Iterator[tuple[RuleSetSpec, int, RuleSpec]]:
        for candidate in sorted(host.candidates, key=lambda candidate: candidate.rank):
            rule_set = self._specs.rule_sets.get(candidate.rule_set)
            if rule_set is not None:
                for number, rule in enumerate(rule_set.rules):
                    yield rule_set, number, rule

    def _refs(self, host: VirtualHostSpec) -> Iterator[ClusterRef]:
        for _, _, rule in self._rules(host):
            if isinstance(rule.action, ForwardSpec):
                yield from rule.action.clusters
        if host.default is not None:
            yield host.default

    def _destinations(self, refs: tuple[ClusterRef, ...], users: Counter[str]) -> list[dict[str, Any]]:
        names = [{ref.cluster, *ref.by_namespace.values()} for ref in refs]
        requests = [sum(self._requests(name) for name in clusters) for clusters in names]
        weights, total = sum(ref.weight for ref in refs), sum(requests)
        return [
            {
                **_cluster_label(self._specs, ref.cluster),
                "service": _service_of(self._specs, ref.cluster),
                "weight": ref.weight,
                "weight_share": ref.weight / weights if weights else 0.0,
                "requests": got,
                "share": got / total if total else None,
                "is_known": ref.cluster in self._specs.clusters,
                "is_shared": any(users[name] > 1 for name in clusters),
            }
            for ref, clusters, got in zip(refs, names, requests, strict=True)
        ]

    def _requests(self, cluster: str) -> int:
        service = _service_of(self._specs, cluster) or "unknown"
        if service not in self._seen:
            seen = self._seen[service] = Counter[str]()
            for cell, count in self._history.counts(service, self._window).cells.items():
                seen[cell.cluster] += count
        return self._seen[service][cluster]


def _service_of(specs: Specs, cluster: str) -> str:
    spec = specs.clusters.get(cluster)
    return spec.service if spec is not None else ""


def _name_of(specs: Specs, service: str) -> tuple[str, str]:
    cluster = specs.clusters[clusters_of(specs, service)[0]]
    return cluster.service_namespace, cluster.service_name


# --- endpoints ----------------------------------------------------------------------------------------------------------------


def _endpoints(specs: Specs, service: str, states: Mapping[int, Iterable[EndpointState]]) -> Iterator[dict[str, Any]]:
    """Yield what is known of each address, over all clusters that it is a member of and all workers."""
    found: dict[tuple[str, int], tuple[EndpointSpec, set[str]]] = {}
    for name in clusters_of(specs, service):
        for endpoint in specs.endpoints.get(name, ()):
            _, subsets = found.setdefault((endpoint.address, endpoint.port), (endpoint, set()))
            subsets.add(specs.clusters[name].subset)
    said: dict[tuple[str, int], list[tuple[int, EndpointState]]] = {}
    for worker, members in states.items():
        for state in members:
            said.setdefault((state.address, state.port), []).append((worker, state))
    for key, (endpoint, subsets) in found.items():
        identity = specs.identities.get(endpoint.identity)
        yield {
            "address": endpoint.address,
            "port": endpoint.port,
            "workload": identity.workload if identity is not None else "unknown",
            "version": identity.version if identity is not None else "unknown",
            "locality": endpoint.locality or _locality(identity),
            "weight": endpoint.weight,
            "draining": endpoint.draining,
            "subsets": sorted(subset for subset in subsets if subset),
            **_load(specs, said.get(key, ())),
            "workers": len(states),
        }


def _locality(identity: IdentitySpec | None) -> str:
    return identity.locality if identity is not None else ""


def _load(specs: Specs, said: Iterable[tuple[int, EndpointState]]) -> dict[str, Any]:
    """Add up what workers say of an address. Each worker, and each cluster in it, ejects on its own."""
    sums = dict.fromkeys(("active", "connections", "idle", "requests", "failures"), 0)
    ejected_by: set[int] = set()
    ejected_from: set[str] = set()
    ejections = 0
    for worker, state in said:
        for name in sums:
            sums[name] += getattr(state, name)
        ejections = max(ejections, state.ejections)
        if state.ejected:
            ejected_by.add(worker)
            cluster = specs.clusters.get(state.cluster)
            ejected_from.add(cluster.subset if cluster is not None else "")
    return {
        **sums,
        "ejected": bool(ejected_by),
        "ejected_by": sorted(ejected_by),
        "ejected_from": sorted(ejected_from),
        "ejections": ejections,
    }


def _trouble_first(endpoint: Mapping[str, Any]) -> tuple[bool, bool, str, str, int]:
    return (
        not endpoint["ejected"], not endpoint["draining"], endpoint["version"], endpoint["address"], endpoint["port"],
    )  # fmt: skip

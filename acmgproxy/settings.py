# SPDX-License-Identifier: Apache-2.0
"""Settings of a worker's data plane: plain data, checked once, the same for the life of the process.

What a platform team may want to set differently per cluster is here with its default and where that comes from; what belongs to
a route or a destination comes with the configuration (`routing.specs`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from acmgproxy.h1.limits import Limits

__all__ = ["ProxySettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxySettings:
    """How a worker treats connections. Times in seconds, sizes in bytes.

    Args:
        workers: how many workers share the gateway's limits (connectionPool).
        access_log: "off", "-" for standard output, or a file path.
        trusted_callers: networks (CIDR) whose X-Forwarded-For, -Proto, -Host and Forwarded are believed and passed on with the
            caller's address appended; of all others they are overwritten. None by default, as Caddy's trusted_proxies.
        headers_timeout_s: a head must be complete this long after its first byte. Envoy's edge advice for
            request_headers_timeout: 10 s.
        stream_idle_timeout_s: an exchange in which no byte moves either way is ended. Envoy stream_idle_timeout: 5 min.
        keepalive_idle_timeout_s: an idle client connection is closed. Envoy idle_timeout: 1 h.
        tunnel_idle_timeout_s: an upgraded connection (WebSocket) through which nothing goes is closed. Envoy's TCP proxy
            idle_timeout: 1 h.
        drain_timeout_s: how long a draining worker waits for its requests. Istio terminationDrainDuration is 5 s; a
            Kubernetes grace period of 30 s leaves room for more: 25 s.
        linger_timeout_s: how long the rest of a request is read after its connection is to be closed, so that the client
            gets the answer instead of a reset (RFC 9112 section 9.6). nginx lingering_timeout: 5 s.
        replay_buffer_bytes: a request body is kept for a retry up to this size. Linkerd: 64 KiB.
        drained_body_bytes: the rest of a request body that is read and dropped after an early answer in order to keep the
            connection. nginx reads up to client_body_buffer_size, 64 KiB rounded up.
        pipeline_bytes: bytes of following requests held while one is answered; above it reading stops.
        write_high_bytes: buffered output above which the other side is not read. asyncio's default, 64 KiB.
        max_connections: client connections of a worker; above it new ones wait. Envoy's edge advice for all of a process:
            50,000. Where descriptors are scarcer, it is as many as leave some for endpoints. 0 for no limit.
        max_active_requests: requests of a worker that are under way to endpoints, as a measure of overload. 0 for no limit, the
            default, since a connection has at most one.
        max_requests_per_connection: requests after which a client connection is closed. 0 for no limit, as Envoy.
        max_memory_bytes: resident memory of a worker, as a measure of overload. 0 for none but the cgroup's and the rlimits.
        limits: bounds of the HTTP/1.1 reader.
    """

    workers: int = 1
    access_log: str = "off"
    trusted_callers: tuple[str, ...] = ()
    headers_timeout_s: float = 10.0
    stream_idle_timeout_s: float = 300.0
    keepalive_idle_timeout_s: float = 3600.0
    tunnel_idle_timeout_s: float = 3600.0
    drain_timeout_s: float = 25.0
    linger_timeout_s: float = 5.0
    replay_buffer_bytes: int = 64 * 1024
    drained_body_bytes: int = 64 * 1024
    pipeline_bytes: int = 64 * 1024
    write_high_bytes: int = 64 * 1024
    max_connections: int = 50_000
    max_active_requests: int = 0
    max_requests_per_connection: int = 0
    max_memory_bytes: int = 0
    limits: Limits = field(default_factory=Limits)

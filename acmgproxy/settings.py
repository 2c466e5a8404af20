# SPDX-License-Identifier: Apache-2.0
"""Settings of a worker's data plane: plain data, checked once, the same for the life of the process.

What a platform team may want to set differently per cluster is here with its default and where that comes from; what belongs to
a route or a destination comes with the configuration (`routing.specs`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from acmgproxy.access_log import AccessLogOptions
from acmgproxy.h1.limits import Limits

__all__ = ["KUBERNETES_DRAIN_ACCEPT_S", "ProxySettings"]

KUBERNETES_DRAIN_ACCEPT_S = 10.0
"""From the end of readiness until every kube-proxy has the changed EndpointSlices: the controller needs about a second,
kube-proxy at most another (minSyncPeriod 1 s), the rest is reserve for a busy cluster. Istio: 5 s (terminationDrainDuration)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxySettings:
    """How a worker treats connections. Times in seconds, sizes in bytes.

    Args:
        workers: how many workers share the gateway's limits (connectionPool).
        access_log: "off", "-" for standard output, or a file path.
        access_log_format: "text" (Istio's default line) or "json".
        access_log_min_status: only requests with at least this status are logged; 0 for no such condition.
        access_log_slower_than_s: only requests that took longer are logged; 0 for no such condition. Of two conditions one is
            enough.
        access_log_sampled: fraction of the other requests that is logged, 0 to 1; -1 for all without conditions, none with.
        tracing_endpoint: URL that takes spans as OTLP over HTTP; "" for none. Needs the extra `otel`.
        tracing_sampling: fraction of the requests without a trace context that are traced, 0 to 1. Istio's mesh default: 1 %.
        trusted_callers: networks (CIDR) whose X-Forwarded-For, -Proto, -Host and Forwarded are believed and passed on with the
            caller's address appended; of all others they are overwritten. None by default, as Caddy's trusted_proxies.
        headers_timeout_s: a head must be complete this long after its first byte. Envoy's edge advice for
            request_headers_timeout: 10 s.
        stream_idle_timeout_s: an exchange in which no byte moves either way is ended. Envoy stream_idle_timeout: 5 min.
        keepalive_idle_timeout_s: an idle client connection is closed. Envoy idle_timeout: 1 h.
        tunnel_idle_timeout_s: an upgraded connection (WebSocket) through which nothing goes is closed. Envoy's TCP proxy
            idle_timeout: 1 h.
        drain_accept_s: how long a draining worker goes on accepting, every answer saying `Connection: close`. It is the time
            until nobody sends anything new here. 0 standalone, where the end of listening is what clients see first; in a cluster
            KUBERNETES_DRAIN_ACCEPT_S.
        drain_timeout_s: how long a draining worker waits for its requests after that. Istio terminationDrainDuration is 5 s; a
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
        recycle_after_requests: requests after which a worker is replaced, without a failed one. 0 for never, the default: workers
            are made to run for months.
        recycle_above_memory_bytes: resident memory above which a worker is replaced. 0 for never.
        limits: bounds of the HTTP/1.1 reader.
    """

    workers: int = 1
    access_log: str = "off"
    access_log_format: Literal["text", "json"] = "text"
    access_log_min_status: int = 0
    access_log_slower_than_s: float = 0.0
    access_log_sampled: float = -1.0
    tracing_endpoint: str = ""
    tracing_sampling: float = 0.01
    trusted_callers: tuple[str, ...] = ()
    headers_timeout_s: float = 10.0
    stream_idle_timeout_s: float = 300.0
    keepalive_idle_timeout_s: float = 3600.0
    tunnel_idle_timeout_s: float = 3600.0
    drain_accept_s: float = 0.0
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
    recycle_after_requests: int = 0
    recycle_above_memory_bytes: int = 0
    limits: Limits = field(default_factory=Limits)

    @property
    def access_log_options(self) -> AccessLogOptions:
        """What is logged of requests."""
        return AccessLogOptions(
            sink=self.access_log,
            format=self.access_log_format,
            min_status=self.access_log_min_status,
            slower_than_s=self.access_log_slower_than_s,
            sampled=self.access_log_sampled,
        )

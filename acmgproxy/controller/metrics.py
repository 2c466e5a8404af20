# SPDX-License-Identifier: Apache-2.0
"""The controller's own metrics. It serves no traffic, so prometheus-client's ordinary counters will do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from acmgproxy.metrics.kube import WatchCollector

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from acmgproxy.controller.gateways import Gateway
    from acmgproxy.controller.view import Write
    from discovery.kube import WatchStatus

__all__ = ["Metrics"]

PHASES = ("captured", "pending", "refused", "releasing", "direct")
CAPTURE_BUCKETS_S = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""From a round trip of each step to gateways that have yet to come up."""


class Metrics:
    """Counters that others raise, and gauges that are set when somebody asks."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry(auto_describe=False)
        prefix = "acmg_controller"
        self._leader = Gauge(f"{prefix}_leader", "1 if this replica leads, and so writes.", registry=registry)
        text = "Services that ask for capture, by how far it is."
        self._services = Gauge(f"{prefix}_services", text, ["phase"], registry=registry)
        text = "Gateway pods, by whether they get new traffic."
        self._gateways = Gauge(f"{prefix}_gateways", text, ["ready"], registry=registry)
        self._fails_open = Gauge(f"{prefix}_fails_open", "1 while traffic goes direct for want of gateways.", registry=registry)
        self._queued = Gauge(f"{prefix}_queue", "Services that wait to be looked at.", registry=registry)
        self._writes = Counter(f"{prefix}_writes", "Writes to the API server, by what for.", ["reason"], registry=registry)
        self._errors = Counter(
            f"{prefix}_write_errors", "Writes that failed, by status; 0 for no answer.", ["reason", "status"], registry=registry
        )
        self._looks = Counter(f"{prefix}_looks", "Times that a Service was looked at.", registry=registry)
        self._lost_events = Counter(f"{prefix}_lost_events", "Events that could not be written.", registry=registry)
        self._captures = Histogram(
            f"{prefix}_capture_seconds",
            "From when a Service could first be captured to when its ClusterIP led to the gateways.",
            buckets=CAPTURE_BUCKETS_S,
            registry=registry,
        )

    def __repr__(self) -> str:
        return "<Metrics of the controller>"

    def wrote(self, write: Write, status: int) -> None:
        """Count a write and how it ended."""
        self._writes.labels(write.reason).inc()
        if status != 200:
            self._errors.labels(write.reason, str(status)).inc()

    def looked(self) -> None:
        """Count a look at a Service."""
        self._looks.inc()

    def lost_event(self) -> None:
        """Count an Event that could not be written."""
        self._lost_events.inc()

    def captured(self, took_s: float) -> None:
        """Note how long a capture took."""
        self._captures.observe(took_s)

    def render(
        self,
        *,
        is_leader: bool,
        phases: Mapping[str, int],
        gateways: Sequence[Gateway],
        fails_open: bool,
        queued: int,
        watches: Sequence[WatchStatus],
    ) -> tuple[bytes, str]:
        """Return all metrics as text, and its content type."""
        self._leader.set(is_leader)
        self._fails_open.set(fails_open)
        self._queued.set(queued)
        for phase in PHASES:
            self._services.labels(phase).set(phases.get(phase, 0))
        ready = sum(gateway.is_ready for gateway in gateways)
        self._gateways.labels("true").set(ready)
        self._gateways.labels("false").set(len(gateways) - ready)
        of_watches = CollectorRegistry(auto_describe=False)
        of_watches.register(WatchCollector(watches))
        return generate_latest(self._registry) + generate_latest(of_watches), CONTENT_TYPE_PLAIN_0_0_4

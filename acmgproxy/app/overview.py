# SPDX-License-Identifier: Apache-2.0
"""The overview of a running gateway: its traffic, its workers, its configuration and what is wrong with it, as data for JSON."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from acmgproxy.overview.detail import clusters_of, describe_service, find_service
from acmgproxy.overview.summary import describe_services
from acmgproxy.release import release

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from acmgproxy.app.reports import Reports
    from acmgproxy.metrics.kube import WatchState
    from acmgproxy.supervisor import Supervisor
    from discovery.pipeline import Pipeline

__all__ = ["Overview"]

MAX_FINDINGS = 500
"""Problems and findings of each kind that are sent; the rest is in /config and the log."""

_SEVERITIES = ("error", "warning", "info")


class Overview:
    """Puts the overview together when somebody asks. Workers are asked for their counters first, so that it is of now.

    Args:
        supervisor, pipeline, reports: whose state it is.
        watches: says how the watches on Kubernetes are doing.
    """

    def __init__(
        self, supervisor: Supervisor, pipeline: Pipeline, reports: Reports, watches: Callable[[], Sequence[WatchState]]
    ) -> None:
        self._supervisor = supervisor
        self._pipeline = pipeline
        self._reports = reports
        self._watches = watches

    def __repr__(self) -> str:
        return f"<Overview of {self._supervisor}>"

    async def services(self, seconds: float) -> dict[str, Any]:
        """Describe the traffic of all Services in the last so many seconds."""
        supervisor = self._supervisor
        await supervisor.refresh_totals()
        history = supervisor.history
        return describe_services(supervisor.specs, history, history.window(seconds), await supervisor.endpoints())

    async def service(self, name: str, seconds: float) -> dict[str, Any] | None:
        """Describe one Service, None if there is none of that name."""
        supervisor = self._supervisor
        await supervisor.refresh_totals()
        specs, history = supervisor.specs, supervisor.history
        service = find_service(specs, history, name)
        if service is None:
            return None
        clusters = clusters_of(specs, service)
        states = await supervisor.endpoints(clusters) if clusters else {}
        return describe_service(specs, history, history.window(seconds), service, states)

    async def gateway(self, seconds: float, *, not_ready_because: str, changed_at: float) -> dict[str, Any]:
        """Describe everything but single Services.

        Args:
            seconds: the window of traffic.
            not_ready_because: "" when traffic should come here.
            changed_at: Unix time of the last change of configuration, 0 before there is one.
        """
        traffic = await self.services(seconds)
        return {"gateway": self._facts(not_ready_because, changed_at), **traffic, "workers": self._workers(), **self._findings()}

    def _facts(self, not_ready_because: str, changed_at: float) -> dict[str, Any]:
        supervisor, now = self._supervisor, time.time()
        listeners = supervisor.listeners()
        gauges = {name: sum(by_worker.values()) for name, by_worker in supervisor.totals.gauges().items()}
        return {
            "release": release(),
            "time": now,
            "ready": not not_ready_because,
            "not_ready_because": not_ready_because,
            "config_version": supervisor.version,
            "config_changed_at": changed_at or None,
            "config_age_s": now - changed_at if changed_at else None,
            "listeners": len(listeners),
            "listeners_bound": sum(all(status.workers) for status in listeners),
            "listeners_failed": [
                {"listener": status.bind.name, "address": status.bind.address, "port": status.bind.port, "error": status.error}
                for status in listeners
                if status.error
            ][:MAX_FINDINGS],
            "downstream_connections": gauges.get("downstream_connections", 0),
            "upstream_connections": gauges.get("upstream_connections", 0),
            "active_requests": gauges.get("active_requests", 0),
            "watches": [
                {
                    "kind": watch.kind, "synced": watch.synced, "absent": watch.absent, "objects": watch.objects,
                    "stale_s": watch.stale_s, "last_error": watch.last_error,
                }
                for watch in self._watches()
            ],
        }  # fmt: skip

    def _workers(self) -> list[dict[str, Any]]:
        gauges, refusals = self._supervisor.totals.gauges(), self._supervisor.refusals()
        levels, active = gauges.get("overload_level", {}), gauges.get("active_requests", {})
        return [
            {
                **worker._asdict(),
                "refused": refusals.get(worker.number, ""),
                "overload_level": levels.get(worker.number, 0),
                "active_requests": active.get(worker.number, 0),
            }
            for worker in self._supervisor.health()
        ]

    def _findings(self) -> dict[str, Any]:
        problems = self._pipeline.problems
        found = sorted(
            self._reports.diagnostics,
            key=lambda one: (_SEVERITIES.index(one.severity), one.kind, one.namespace, one.name, one.field, one.message),
        )
        return {
            "problems": [
                {
                    "origin": one.origin, "kind": one.kind, "namespace": one.namespace, "name": one.name, "field": one.field,
                    "reason": one.reason,
                }
                for one in problems[:MAX_FINDINGS]
            ],
            "diagnostics": [
                {
                    "code": one.code, "severity": one.severity, "kind": one.kind, "namespace": one.namespace, "name": one.name,
                    "field": one.field, "message": one.message, "remedy": one.remedy,
                }
                for one in found[:MAX_FINDINGS]
            ],
            "problems_count": len(problems),
            "diagnostics_count": len(found),
        }  # fmt: skip

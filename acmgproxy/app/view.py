# SPDX-License-Identifier: Apache-2.0
"""What the admin server shows of a gateway: put together from its parts when somebody asks."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec
from prometheus_client import ProcessCollector

from acmgproxy.app.listing import Listing
from acmgproxy.app.overview import Overview
from acmgproxy.app.sources import waiting_for
from acmgproxy.asking import answer, with_states
from acmgproxy.io.admin_logging import LoggingState
from acmgproxy.metrics.collector import ConfigFacts, GatewayCollector
from acmgproxy.metrics.exposition import blocks
from acmgproxy.metrics.kube import WatchCollector
from acmgproxy.release import release

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from acmgproxy.access_log import AccessLogOptions
    from acmgproxy.app.reports import Reports
    from acmgproxy.asking import Question
    from acmgproxy.io.admin import Page
    from acmgproxy.log_levels import Level
    from acmgproxy.metrics.kube import WatchState
    from acmgproxy.supervisor import Supervisor
    from discovery.pipeline import Pipeline

__all__ = ["GatewayView"]

_SUPERVISOR = ProcessCollector(registry=None)
"""What the system says of this process: `process_resident_memory_bytes` and so on, as Prometheus' users know them."""


class GatewayView:
    """Everything that is shown. See AdminView.

    Args:
        supervisor, pipeline, reports: whose state it is.
        watches: says how the watches on Kubernetes are doing.

    Attributes:
        changed_at: Unix time of the last change of configuration.
    """

    def __init__(
        self,
        *,
        supervisor: Supervisor,
        pipeline: Pipeline,
        reports: Reports,
        watches: Callable[[], Sequence[WatchState]],
    ) -> None:
        self._supervisor = supervisor
        self._pipeline = pipeline
        self._reports = reports
        self._watches = watches
        self._listing = Listing(supervisor)
        self._overview = Overview(supervisor, pipeline, reports, watches)
        self.changed_at = 0.0

    def __repr__(self) -> str:
        return f"<GatewayView of {self._supervisor}>"

    def not_ready_because(self) -> str:
        """See AdminView."""
        if self._supervisor.is_ready:
            return ""
        waiting = waiting_for(self._watches()) if not self._supervisor.version else ""
        return f"waiting for {waiting}" if waiting else self._supervisor.not_ready_because()

    async def listeners(self) -> Page:
        """See AdminView."""
        return await self._listing.page()

    async def overview(self, seconds: float) -> dict[str, Any]:
        """See OverviewView."""
        return await self._overview.gateway(seconds, not_ready_because=self.not_ready_because(), changed_at=self.changed_at)

    async def overview_services(self, seconds: float) -> dict[str, Any]:
        """See OverviewView."""
        return await self._overview.services(seconds)

    async def overview_service(self, name: str, seconds: float) -> dict[str, Any] | None:
        """See OverviewView."""
        return await self._overview.service(name, seconds)

    def logging(self) -> LoggingState:
        """See LoggingView."""
        switch = self._supervisor.logging
        failures = {str(number): reason for number, reason in sorted(switch.failures.items())}
        return LoggingState(access_log=switch.access_log, level=switch.level, failures=failures)

    async def set_logging(self, access_log: AccessLogOptions, level: Level) -> LoggingState:
        """See LoggingView."""
        await self._supervisor.switch_logging(access_log, level)
        return self.logging()

    async def explain(self, question: Question) -> dict[str, Any]:
        """See ExplainView. What is explained is the newest configuration; `worker_versions` tells who has it."""
        supervisor = self._supervisor
        version = supervisor.version
        found = await asyncio.to_thread(answer, supervisor.specs, question, self._pipeline.pod_addresses)
        clusters = tuple(one.cluster for one in found.forward.destinations if one.policy) if found.forward is not None else ()
        states = await supervisor.endpoints(clusters) if clusters else {}
        return {
            "version": version,
            "worker_versions": {str(worker.number): worker.version for worker in supervisor.health()},
            "explanation": msgspec.to_builtins(with_states(found, states)),
        }

    def config(self) -> dict[str, Any]:
        """See AdminView."""
        specs: dict[str, Any] = msgspec.to_builtins(self._supervisor.specs)
        return specs | {
            "version": self._supervisor.version,
            "worker_versions": {str(worker.number): worker.version for worker in self._supervisor.health()},
            "diagnostics": msgspec.to_builtins(self._pipeline.diagnostics()),
            "problems": msgspec.to_builtins(self._pipeline.problems),
            "refused_by_workers": {str(number): reason for number, reason in self._supervisor.refusals().items()},
        }

    async def metrics(self) -> Iterator[bytes]:
        """See AdminView."""
        totals = await self._supervisor.refresh_totals()
        listeners = self._supervisor.listeners()
        bound = sum(all(status.workers) for status in listeners)
        gateway = GatewayCollector(
            release=release(),
            totals=totals,
            workers=self._supervisor.health(),
            config=ConfigFacts(
                version=self._supervisor.version,
                changed_at=self.changed_at,
                problems=len(self._pipeline.problems),
                diagnostics=Counter(found.severity for found in self._reports.diagnostics),
                listeners_bound=bound,
                listeners_failed=len(listeners) - bound,
            ),
            is_ready=self._supervisor.is_ready,
        )
        return blocks([gateway, WatchCollector(self._watches()), _SUPERVISOR], totals.snapshot())

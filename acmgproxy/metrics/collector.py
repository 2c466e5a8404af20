# SPDX-License-Identifier: Apache-2.0
"""/metrics: a collector for prometheus-client that reads the gateway's state when it is scraped.

Nothing is kept in prometheus-client's own counters: the numbers live in the workers, and a scrape takes their sums (`totals`)
and shows them. Request metrics have Istio's names and labels, with `reporter="waypoint"`, so that dashboards made for Istio
work; they may be many and have a renderer of their own (`exposition`). What is here is ours, begins with `acmg_`, and its number
depends on workers and kinds alone, not on traffic or configuration. A worker's counter `x` is `acmg_x_total`, its gauge `y` is
`acmg_y{worker="0"}`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from prometheus_client.core import Metric

    from acmgproxy.metrics.totals import Totals
    from acmgproxy.slot import WorkerHealth

__all__ = ["ConfigFacts", "GatewayCollector", "render"]


class ConfigFacts(NamedTuple):
    """What is shown of the configuration.

    Args:
        version: number of the newest one.
        changed_at: Unix time of the last change.
        problems: objects and files that are refused and whose last good version is served.
        diagnostics: findings by severity.
        listeners_bound, listeners_failed: addresses.
    """

    version: int
    changed_at: float
    problems: int
    diagnostics: Mapping[str, int]
    listeners_bound: int
    listeners_failed: int


class GatewayCollector(Collector):
    """One scrape's view of the gateway, taken when it is made: rendering may then happen in another thread."""

    def __init__(
        self,
        *,
        release: str,
        totals: Totals,
        workers: Sequence[WorkerHealth],
        config: ConfigFacts,
        is_ready: bool,
    ) -> None:
        self._release = release
        self._counters = totals.counters()
        self._gauges = totals.gauges()
        self._workers = workers
        self._config = config
        self._is_ready = is_ready

    def collect(self) -> Iterable[Metric]:
        """Return all metrics."""
        yield from self._data_plane()
        yield from self._health()
        yield from self._configuration()

    def _data_plane(self) -> Iterator[Metric]:
        for name, value in sorted(self._counters.items()):
            yield CounterMetricFamily(f"acmg_{name}", f"{_words(name)}, all workers.", value=value)
        for name, values in sorted(self._gauges.items()):
            gauge = GaugeMetricFamily(f"acmg_{name}", f"{_words(name)} now.", labels=["worker"])
            for worker, value in sorted(values.items()):
                gauge.add_metric([str(worker)], value)
            yield gauge

    def _health(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("acmg_ready", "1 if the gateway is ready for traffic.", value=self._is_ready)
        for family, name, text, read in _WORKER_METRICS:
            metric = family(f"acmg_worker_{name}", text, labels=["worker"])
            for worker in self._workers:
                metric.add_metric([str(worker.number)], read(worker))
            yield metric

    def _configuration(self) -> Iterator[Metric]:
        config = self._config
        yield InfoMetricFamily("acmg_build", "The running release.", value={"version": self._release})
        yield GaugeMetricFamily("acmg_config_version", "Newest configuration.", value=config.version)
        yield GaugeMetricFamily("acmg_config_changed_timestamp_seconds", "Unix time of its last change.", value=config.changed_at)
        yield GaugeMetricFamily(
            "acmg_config_problems", "Objects and files refused; their last good version is in force.", value=config.problems
        )
        diagnostics = GaugeMetricFamily("acmg_config_diagnostics", "Findings about the configuration.", labels=["severity"])
        for severity in ("error", "warning", "info"):
            diagnostics.add_metric([severity], config.diagnostics.get(severity, 0))
        yield diagnostics
        listeners = GaugeMetricFamily("acmg_listeners", "Addresses to listen on, by state.", labels=["state"])
        listeners.add_metric(["bound"], config.listeners_bound)
        listeners.add_metric(["failed"], config.listeners_failed)
        yield listeners


_WORKER_METRICS: tuple[tuple[type[CounterMetricFamily | GaugeMetricFamily], str, str, Callable[[WorkerHealth], float]], ...] = (
    (GaugeMetricFamily, "up", "1 if the worker is up.", lambda worker: worker.is_up),
    (CounterMetricFamily, "restarts", "Times the worker died and was replaced.", lambda worker: worker.restarts),
    (CounterMetricFamily, "hangs", "Of these, times it hung and was killed.", lambda worker: worker.hangs),
    (CounterMetricFamily, "recycles", "Times the worker was replaced on purpose.", lambda worker: worker.recycles),
    (GaugeMetricFamily, "config_version", "Configuration the worker's requests see.", lambda worker: worker.version),
    (
        GaugeMetricFamily,
        "config_age_seconds",
        "Time since the worker took that configuration over, 0 if it has none.",
        lambda worker: worker.config_age_s,
    ),
    (GaugeMetricFamily, "silence_seconds", "Time since the worker's last sign of life.", lambda worker: worker.silent_s),
    (
        GaugeMetricFamily,
        "event_loop_lag_seconds",
        "How late its event loop was lately.",
        lambda worker: worker.loop_lag_s,
    ),
    (CounterMetricFamily, "cpu_seconds", "User and system time of the process.", lambda worker: worker.cpu_s),
    (GaugeMetricFamily, "resident_memory_bytes", "Resident memory of the process.", lambda worker: worker.rss_bytes),
    (GaugeMetricFamily, "open_files", "Open descriptors of the process, 0 if unknown.", lambda worker: worker.open_files),
)
"""Metrics of each worker: family, name, text, where the value is."""


def render(*collectors: Collector) -> tuple[bytes, str]:
    """Render in Prometheus' text format; return the text and its content type.

    Not in OpenMetrics, where a counter `x_total` and a gauge `x` may not be in one exposition.
    """
    registry = CollectorRegistry(auto_describe=False)
    for collector in collectors:
        registry.register(collector)
    return generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4


def _words(name: str) -> str:
    return name.replace("_", " ").capitalize()

# SPDX-License-Identifier: Apache-2.0
"""Metrics of the watches on the Kubernetes API, one series for each kind of objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from prometheus_client.core import Metric

__all__ = ["WatchCollector", "WatchState"]


class WatchState(Protocol):
    """How the watch of a kind is doing."""

    @property
    def kind(self) -> str:
        """Kind of the objects."""

    @property
    def synced(self) -> bool:
        """Whether all of them have been read once."""

    @property
    def absent(self) -> bool:
        """Whether the server does not have the kind."""

    @property
    def objects(self) -> int:
        """How many there are."""

    @property
    def stale_s(self) -> float:
        """Seconds since the server last said anything about them, infinite if it never did."""

    @property
    def relists(self) -> int:
        """How often all were read."""

    @property
    def errors(self) -> int:
        """How often something failed."""

    @property
    def last_error(self) -> str:
        """What failed last, "" if nothing ever did."""


class WatchCollector(Collector):
    """One scrape's view of the watches.

    Args:
        watches: how each kind is doing.
    """

    def __init__(self, watches: Sequence[WatchState]) -> None:
        self._watches = watches

    def collect(self) -> Iterable[Metric]:
        """Return all metrics; none without watches."""
        for family, name, text, read in _METRICS if self._watches else ():
            metric = family(f"acmg_watch_{name}", text, labels=["kind"])
            for watch in self._watches:
                metric.add_metric([watch.kind], read(watch))
            yield metric


_METRICS: tuple[tuple[type[CounterMetricFamily | GaugeMetricFamily], str, str, Callable[[WatchState], float]], ...] = (
    (
        GaugeMetricFamily,
        "synced",
        "1 if all objects have been read, or the server does not have the kind.",
        lambda one: one.synced or one.absent,
    ),
    (GaugeMetricFamily, "stale_seconds", "Time since the API server last said anything about the kind.", lambda one: one.stale_s),
    (GaugeMetricFamily, "objects", "Objects of the kind.", lambda one: one.objects),
    (CounterMetricFamily, "relists", "Times that all objects were read.", lambda one: one.relists),
    (CounterMetricFamily, "errors", "Requests to the API server that failed.", lambda one: one.errors),
)
"""Family, name, text, where the value is."""

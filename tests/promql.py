# SPDX-License-Identifier: Apache-2.0
"""The few functions of PromQL that dashboards use, on two scrapes: written after Prometheus' own code, apart from ours.

A scrape is a moment and the text of /metrics. `rate` is the difference over the time between: what Prometheus' rate() gives for
samples that span its whole range. Series that the first scrape does not have count from zero.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Scrape", "histogram_quantile", "increase_by"]

Labels = dict[str, str]


class Scrape(NamedTuple):
    """What Prometheus has after a scrape, by sample name and labels."""

    samples: dict[tuple[str, frozenset[tuple[str, str]]], float]

    @classmethod
    def of(cls, text: str) -> Scrape:
        """Read an exposition."""
        return cls({
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        })  # fmt: skip


def increase_by(
    name: str, before: Scrape, after: Scrape, by: tuple[str, ...], where: Callable[[Labels], bool] = lambda _: True
) -> Mapping[tuple[str, ...], float]:
    """Return sum by (by) (increase(name{where})) between two scrapes."""
    total: dict[tuple[str, ...], float] = defaultdict(float)
    for key, value in after.samples.items():
        labels = dict(key[1])
        if key[0] == name and where(labels):
            total[tuple(labels[label] for label in by)] += value - before.samples.get(key, 0.0)
    return total


def histogram_quantile(q: float, buckets: Mapping[float, float]) -> float:
    """Return the quantile of cumulative buckets by upper bound (promql/quantile.go, bucketQuantile)."""
    ordered = sorted(buckets.items())
    assert ordered[-1][0] == math.inf
    if len(ordered) < 2:
        return math.nan
    observations = ordered[-1][1]
    if observations == 0:
        return math.nan
    rank = q * observations
    number = next(index for index, (_, count) in enumerate([*ordered[:-1], (math.inf, math.inf)]) if count >= rank)
    if number == len(ordered) - 1:
        return ordered[-2][0]
    if number == 0 and ordered[0][0] <= 0:
        return ordered[0][0]
    start, end, count = 0.0, ordered[number][0], ordered[number][1]
    if number > 0:
        start = ordered[number - 1][0]
        count -= ordered[number - 1][1]
        rank -= ordered[number - 1][1]
    return start + (end - start) * (rank / count)

# SPDX-License-Identifier: Apache-2.0
"""Quantiles of histograms, as Prometheus' histogram_quantile estimates them (promql/quantile.go, bucketQuantile).

Within a bucket values count as evenly spread, from the bound below (0 for the first) to its own; beyond the last finite bound
nothing is known, and that bound is the answer. Two figures from the same buckets are therefore equal, and as coarse as these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from acmgproxy.stats import BUCKETS

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["quantile"]


def quantile(q: float, buckets: Sequence[float]) -> float | None:
    """Return the estimate, None without values.

    Args:
        q: which quantile, 0 to 1.
        buckets: counts, not cumulative, of BUCKETS and of what is beyond them.
    """
    total = sum(buckets)
    if not total:
        return None
    rank = q * total
    below = 0.0
    for number, bound in enumerate(BUCKETS):
        inside = buckets[number]
        if inside and below + inside >= rank:
            start = BUCKETS[number - 1] if number else 0.0
            return start + (bound - start) * max(0.0, rank - below) / inside
        below += inside
    return BUCKETS[-1]

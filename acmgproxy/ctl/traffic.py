# SPDX-License-Identifier: Apache-2.0
"""What several gateways say of the same Services, added up.

Requests and rates are sums. Quantiles are none: those of all gateways together are computed from the sum of their histograms, as
Prometheus does it. Each gateway ejects endpoints on its own; what counts is the one that has ejected most.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from acmgproxy.overview.quantile import quantile
from acmgproxy.stats import BUCKETS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Answer", "Row", "Told", "add_up"]


class Told(msgspec.Struct, kw_only=True):
    """What one gateway says of a Service, or of all together. `buckets` is empty without requests."""

    name: str = ""
    namespace: str = ""
    service: str = ""
    requests: int
    errors: int
    rate: float
    error_rate: float
    buckets: list[int] = []
    endpoints: int = 0
    ejected: int = 0


class _Window(msgspec.Struct):
    seconds: float


class Answer(msgspec.Struct):
    """What a gateway answers to /overview/services."""

    window: _Window
    total: Told
    services: list[Told]


class Row(msgspec.Struct, kw_only=True):
    """A Service over all gateways. Ratios and quantiles are None without requests."""

    name: str
    namespace: str
    service: str
    requests: int
    rate: float
    errors: int
    error_rate: float
    error_ratio: float | None
    p50_ms: float | None
    p99_ms: float | None
    endpoints: int
    ejected: int


def add_up(answers: Sequence[Answer], namespace: str = "") -> tuple[Row, list[Row]]:
    """Return the sum over all Services and each of them, the busiest first.

    Args:
        answers: one from each gateway.
        namespace: whose Services are wanted; "" for all, else the sum is over these as well.
    """
    by_name: dict[str, list[Told]] = {}
    for answer in answers:
        for told in answer.services:
            if not namespace or told.namespace == namespace:
                by_name.setdefault(told.name, []).append(told)
    rows = [_row(told[0], told) for told in by_name.values()]
    total = [told for several in by_name.values() for told in several] if namespace else [answer.total for answer in answers]
    summed = _row(Told(name="", requests=0, errors=0, rate=0.0, error_rate=0.0), total)
    summed.endpoints, summed.ejected = sum(row.endpoints for row in rows), sum(row.ejected for row in rows)
    return summed, sorted(rows, key=lambda row: (-row.rate, row.namespace, row.service))


def _row(name: Told, told: Iterable[Told]) -> Row:
    several = list(told)
    buckets = [0] * (len(BUCKETS) + 1)
    for one in several:
        if one.buckets:
            buckets = [mine + more for mine, more in zip(buckets, one.buckets, strict=True)]
    requests, errors = sum(one.requests for one in several), sum(one.errors for one in several)
    return Row(
        name=name.name,
        namespace=name.namespace,
        service=name.service,
        requests=requests,
        rate=sum(one.rate for one in several),
        errors=errors,
        error_rate=sum(one.error_rate for one in several),
        error_ratio=errors / requests if requests else None,
        p50_ms=quantile(0.5, buckets),
        p99_ms=quantile(0.99, buckets),
        endpoints=max((one.endpoints for one in several), default=0),
        ejected=max((one.ejected for one in several), default=0),
    )

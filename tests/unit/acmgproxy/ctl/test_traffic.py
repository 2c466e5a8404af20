# SPDX-License-Identifier: Apache-2.0
"""Facts about adding up what gateways say."""

from __future__ import annotations

import pytest

from acmgproxy.ctl.traffic import Answer, Told, _Window, add_up
from acmgproxy.overview.quantile import quantile
from acmgproxy.stats import BUCKETS


def histogram(*at: int) -> list[int]:
    counts = [0] * (len(BUCKETS) + 1)
    for index in at:
        counts[index] += 1
    return counts


def told(
    name: str, buckets: list[int], *, namespace: str = "shop", errors: int = 0, endpoints: int = 2, ejected: int = 0
) -> Told:
    requests = sum(buckets)
    return Told(
        name=name, namespace=namespace, service=name, requests=requests, errors=errors, rate=requests / 10,
        error_rate=errors / 10, buckets=buckets if requests else [], endpoints=endpoints, ejected=ejected,
    )  # fmt: skip


def answer(*services: Told) -> Answer:
    buckets = [sum(column) for column in zip(*(one.buckets or histogram() for one in services), strict=True)]
    total = told("", buckets, errors=sum(one.errors for one in services))
    return Answer(_Window(60.0), total, list(services))


def test_histograms_are_added_and_percentiles_never_averaged() -> None:
    fast, slow = histogram(*[0] * 99), histogram(8)
    total, (row,) = add_up([answer(told("a", fast, errors=1)), answer(told("a", slow, ejected=1))])
    together = [one + other for one, other in zip(fast, slow, strict=True)]
    assert (row.p50_ms, row.p99_ms) == (quantile(0.5, together), quantile(0.99, together))
    assert row.p99_ms == 0.5
    assert row.p99_ms < (quantile(0.99, fast) or 0) / 2 + (quantile(0.99, slow) or 0) / 2
    assert (row.requests, row.errors, row.error_ratio) == (100, 1, 0.01)
    assert row.rate == pytest.approx(10.0)
    assert (row.endpoints, row.ejected) == (2, 1)
    assert (total.requests, total.p99_ms, total.endpoints, total.ejected) == (100, 0.5, 2, 1)


def test_the_busiest_comes_first_and_idle_ones_have_no_quantiles() -> None:
    _, rows = add_up([answer(told("idle", histogram()), told("busy", histogram(1, 1)), told("calm", histogram(1)))])
    assert [row.name for row in rows] == ["busy", "calm", "idle"]
    assert (rows[2].error_ratio, rows[2].p50_ms, rows[2].p99_ms) == (None, None, None)


def test_a_namespace_has_a_sum_of_its_own() -> None:
    answers = [answer(told("a", histogram(1)), told("b", histogram(2, 2), namespace="other"))]
    total, rows = add_up(answers, "other")
    assert ([row.name for row in rows], total.requests) == (["b"], 2)
    assert add_up(answers)[0].requests == 3

# SPDX-License-Identifier: Apache-2.0
"""Facts about quantiles of histograms."""

from __future__ import annotations

import math
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acmgproxy.overview.quantile import quantile
from acmgproxy.stats import BUCKETS, Distribution
from tests.promql import histogram_quantile


def counts(*values: float) -> list[int]:
    distribution = Distribution.empty()
    for value in values:
        distribution.observe(value)
    return distribution.buckets


def test_without_values_there_is_none() -> None:
    assert quantile(0.5, counts()) is None


def test_values_count_as_evenly_spread_in_their_bucket() -> None:
    assert quantile(0.5, counts(0.1, 0.2)) == 0.25
    assert quantile(0.5, counts(2.0, 3.0)) == 3.0
    assert quantile(1.0, counts(0.1, 30.0)) == 50.0
    assert quantile(0.0, counts(2.0)) == 1.0


def test_beyond_the_last_bound_nothing_more_is_known() -> None:
    assert quantile(0.99, counts(9e9)) == BUCKETS[-1]


@given(
    st.lists(st.integers(0, 10**7), min_size=len(BUCKETS) + 1, max_size=len(BUCKETS) + 1).filter(any),
    st.floats(0.001, 1.0),
)
def test_it_is_what_prometheus_says(buckets: list[int], q: float) -> None:
    cumulative = dict(zip((*BUCKETS, math.inf), map(float, accumulate(buckets)), strict=True))
    assert quantile(q, buckets) == pytest.approx(histogram_quantile(q, cumulative), rel=1e-9, abs=1e-9)

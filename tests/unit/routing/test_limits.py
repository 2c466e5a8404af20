# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest

from routing.limits import Limits, part_of
from tests.unit.routing.table_kit import cluster


@pytest.mark.parametrize(("limit", "workers", "part"), [(0, 4, 0), (1, 4, 1), (4, 4, 1), (5, 4, 2), (100, 3, 34), (7, 1, 7)])
def test_each_worker_gets_its_part_and_at_least_one(limit: int, workers: int, part: int) -> None:
    assert part_of(limit, workers) == part


def test_limits_of_a_cluster() -> None:
    spec = cluster(max_connections=10, max_pending_requests=1, max_requests=8, max_retries=3)
    limits = Limits(spec, 4)
    assert (limits.max_connections, limits.max_pending, limits.max_requests, limits.max_retries) == (3, 1, 2, 1)
    assert repr(limits) == "Limits(connections=3, pending=1, requests=2, retries=1)"
    assert limits
    assert not Limits(cluster(), 4)


@pytest.mark.parametrize("name", ["max_connections", "max_pending_requests", "max_requests", "max_retries"])
def test_a_single_limit_is_one(name: str) -> None:
    options: dict[str, Any] = {name: 1}
    assert Limits(cluster(**options), 2)

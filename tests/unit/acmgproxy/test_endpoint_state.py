# SPDX-License-Identifier: Apache-2.0
"""Facts about what a worker says of its endpoints."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

from acmgproxy import endpoint_state
from acmgproxy.endpoint_state import EndpointState, describe_ejected, describe_members
from routing.cluster import Cluster
from routing.specs import ClusterSpec, EndpointSpec, OutlierSpec

if TYPE_CHECKING:
    import pytest


def cluster(name: str, members: int = 2, outlier: OutlierSpec | None = None) -> Cluster:
    made = Cluster(ClusterSpec(name=name, service="s", outlier=outlier))
    made.update(EndpointSpec(address=f"10.0.0.{number}", port=80) for number in range(members))
    return made


def test_members_are_described_with_their_load() -> None:
    one = cluster("a")
    busy, idle = one.endpoints
    busy.active = 3
    busy.pool = SimpleNamespace(open={1, 2}, idle=[1], requests=9, failures=4)
    assert idle.pool is None
    assert describe_members([one]) == [
        EndpointState("a", "10.0.0.0", 80, active=3, connections=2, idle=1, requests=9, failures=4),
        EndpointState("a", "10.0.0.1", 80),
    ]


def test_only_those_ejected_are_looked_for() -> None:
    watched = cluster("watched", outlier=OutlierSpec(consecutive_5xx=1, max_ejection_percent=100))
    first = watched.endpoints[0]
    assert describe_ejected([watched, cluster("unwatched")]) == []
    assert watched.outlier is not None
    assert watched.outlier.on_status(first, 500, 1.0)
    assert describe_ejected([watched, cluster("unwatched")]) == [
        EndpointState("watched", "10.0.0.0", 80, ejected=True, ejections=1)
    ]


def test_an_answer_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_state, "MAX_ENDPOINTS", 3)
    assert len(describe_members([cluster("a"), cluster("b")])) == 3

# SPDX-License-Identifier: Apache-2.0
"""How endpoints are doing in one worker: looked up when somebody asks, from what the data plane keeps anyway.

A worker is asked about a few clusters at a time, or for what is ejected in any; nothing here is done for a request.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from routing.cluster import Cluster, Endpoint

__all__ = ["MAX_ENDPOINTS", "EndpointState", "describe_ejected", "describe_members"]

MAX_ENDPOINTS = 2_000
"""Endpoints in one answer: 5 ms of a worker's time. A Kubernetes Service has fewer in nearly every cluster."""


class EndpointState(msgspec.Struct, gc=False, omit_defaults=True):
    """One member of one cluster in one worker.

    Args:
        cluster, address, port: which.
        ejected: outlier detection has taken it out.
        ejections: how often it has been taken out of late (it decays, see routing.outlier).
        active: requests in flight.
        connections, idle: open connections, and those of them without a request.
        requests: tries sent to it, mirrored copies among them, since the worker knows it.
        failures: tries that ended with 5xx or without an answer.
    """

    cluster: str
    address: str
    port: int
    ejected: bool = False
    ejections: int = 0
    active: int = 0
    connections: int = 0
    idle: int = 0
    requests: int = 0
    failures: int = 0


def describe_members(clusters: Iterable[Cluster]) -> list[EndpointState]:
    """Describe the members of clusters, at most MAX_ENDPOINTS."""
    return list(islice(_states(clusters), MAX_ENDPOINTS))


def describe_ejected(clusters: Iterable[Cluster]) -> list[EndpointState]:
    """Describe those members of clusters that are ejected, at most MAX_ENDPOINTS."""
    ejecting = [cluster for cluster in clusters if cluster.outlier is not None and cluster.outlier.is_pending]
    return list(islice((state for state in _states(ejecting) if state.ejected), MAX_ENDPOINTS))


def _states(clusters: Iterable[Cluster]) -> Iterator[EndpointState]:
    for cluster in clusters:
        for endpoint in cluster.endpoints:
            yield _state(cluster.name, endpoint)


def _state(cluster: str, endpoint: Endpoint) -> EndpointState:
    state = EndpointState(cluster, endpoint.address, endpoint.port, endpoint.ejected, active=endpoint.active)
    if endpoint.record is not None:
        state.ejections = endpoint.record.multiplier
    pool = endpoint.pool
    if pool is not None:
        state.connections, state.idle = len(pool.open), len(pool.idle)
        state.requests, state.failures = pool.requests, pool.failures
    return state

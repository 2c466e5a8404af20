# SPDX-License-Identifier: Apache-2.0
"""A big cluster as a model: how soon a change is everywhere, how long failing open takes, and what that asks of the API server.

Discrete events, seeded, pure: every queue is first come, first served, and what it takes to serve is a constant below with its
source. What is `MEASURED` comes from this gateway, what is `ASSUMED` from others' components, and a reader with better figures
can put them in. What is not in it: loss, retries, API priority and fairness, garbage collection of processes, neighbours.

The way of a change: committed at the API server, sent to one watcher after the other (gateways are somewhere among them), taken
in by each gateway's supervisor in its turn, sent to each of its workers, applied there.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import pairwise
from math import ceil

from acmgproxy.controller.gateways import FAIL_OPEN_AFTER_S, RECAPTURE_AFTER_S
from acmgproxy.controller.rate import WRITES_BURST, WRITES_PER_S

__all__ = [
    "ASSUMED", "MEASURED", "Cluster", "Propagation", "Rollout", "TokenBucket", "Wait", "fail_open", "gateways_needed",
    "percentile", "propagate", "recapture", "rollout",
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    """Of this gateway.

    Args:
        supervisor_us: processor time of the supervisor for a change of one EndpointSlice, with 5,000 Services (bench.scale: its
            share of a processor at 200 changes/s).
        worker_us: the same of a worker, above what the load costs it.
        controller_writes_per_s: the controller's own limit, as are the next three (acmgproxy.controller).
        controller_burst: writes that may come at once.
        fail_open_after_s: without a gateway for so long, it lets traffic go direct.
        recapture_after_s: with gateways for so long, it captures again.
    """

    supervisor_us: float = 390.0
    worker_us: float = 135.0
    controller_writes_per_s: float = WRITES_PER_S
    controller_burst: int = WRITES_BURST
    fail_open_after_s: float = FAIL_OPEN_AFTER_S
    recapture_after_s: float = RECAPTURE_AFTER_S


@dataclass(frozen=True, slots=True, kw_only=True)
class _Assumed:
    """Of others.

    Args:
        commit_ms: a write until it is in the API server's watch cache; etcd asks for disks whose p99 of fsync is below 10 ms.
        fan_out_us: processor time of the API server to hand one event, encoded already, to one watcher.
        api_cpus: processors of the API servers that do this, all together.
        network_ms: one way.
        manager_writes_per_s, manager_burst: of kube-controller-manager, --kube-api-qps and --kube-api-burst.
        proxy_ms: a kube-proxy, from the event until the rules are in the kernel, at least (--iptables-min-sync-period, 1 s).
    """

    commit_ms: float = 8.0
    fan_out_us: float = 15.0
    api_cpus: int = 8
    network_ms: float = 0.5
    manager_writes_per_s: float = 20.0
    manager_burst: int = 30
    proxy_ms: float = 1000.0


MEASURED, ASSUMED = _Measured(), _Assumed()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """What is simulated: `watchers` are others' watches on EndpointSlices, one kube-proxy on each node."""

    gateways: int
    workers: int
    watchers: int
    changes_per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Propagation:
    """Times in milliseconds until all workers of all gateways have a change; `busy` is the share of time the API server works."""

    p50_ms: float
    p99_ms: float
    busy: float
    supervisor_busy: float


def percentile(values: list[float], percent: float) -> float:
    """Return the value that so many percent do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def propagate(
    cluster: Cluster, *, seconds: float = 20.0, seed: int = 1, measured: _Measured = MEASURED, assumed: _Assumed = ASSUMED
) -> Propagation:
    """Simulate changes of endpoints that come at random (Poisson)."""
    chance = random.Random(seed)
    arrivals = _poisson(chance, cluster.changes_per_s, seconds)
    committed = [at + chance.lognormvariate(0.0, 0.5) * assumed.commit_ms / 1e3 for at in arrivals]
    order = sorted(range(len(arrivals)), key=committed.__getitem__)
    watchers = cluster.gateways + cluster.watchers
    fan_out_s = watchers * assumed.fan_out_us / 1e6 / assumed.api_cpus
    places = sorted(chance.random() for _ in range(cluster.gateways))
    api_free = 0.0
    sent: list[tuple[int, float]] = []
    for number in order:
        begin = max(committed[number], api_free)
        api_free = begin + fan_out_s
        sent.append((number, begin))
    done = [0.0] * len(arrivals)
    for place in places:
        at_gateway = [
            (number, begin + place * fan_out_s + chance.lognormvariate(0.0, 0.5) * assumed.network_ms / 1e3)
            for number, begin in sent
        ]
        free = 0.0
        worker_free = [0.0] * cluster.workers
        for number, at in sorted(at_gateway, key=lambda one: one[1]):
            free = max(at, free) + measured.supervisor_us / 1e6
            for worker in range(cluster.workers):
                worker_free[worker] = max(free, worker_free[worker]) + measured.worker_us / 1e6
            done[number] = max(done[number], *worker_free)
    took = [(end - begin) * 1e3 for begin, end in zip(arrivals, done, strict=True)]
    return Propagation(
        p50_ms=percentile(took, 50),
        p99_ms=percentile(took, 99),
        busy=fan_out_s * cluster.changes_per_s,
        supervisor_busy=measured.supervisor_us / 1e6 * cluster.changes_per_s,
    )


class TokenBucket:
    """A client that writes at a limited rate."""

    def __init__(self, per_s: float, burst: int) -> None:
        self._per_s, self._burst = per_s, burst
        self._tokens, self._at = float(burst), 0.0

    def __repr__(self) -> str:
        return f"<TokenBucket {self._per_s}/s tokens={self._tokens:.1f}>"

    def take(self, now: float) -> float:
        """Return when a write that is wanted now is done; calls come in the order of time."""
        begin = max(now, self._at)
        self._tokens = min(self._burst, self._tokens + (begin - self._at) * self._per_s)
        self._at = begin
        if self._tokens < 1:
            self._at += (1 - self._tokens) / self._per_s
            self._tokens = 1.0
        self._tokens -= 1
        return self._at


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """How long Services wait, in seconds from the event: the middle one and the last."""

    p50_s: float
    last_s: float


def fail_open(services: int, *, measured: _Measured = MEASURED, assumed: _Assumed = ASSUMED) -> Wait:
    """All gateways die at 0: when do Services lead to their pods again?

    The controller waits, then takes the key out of one selector after the other; the EndpointSlice controller then fills each
    Service's own slices (one write), and kube-proxies take that over.
    """
    ours = TokenBucket(measured.controller_writes_per_s, measured.controller_burst)
    theirs = TokenBucket(assumed.manager_writes_per_s, assumed.manager_burst)
    ends = [theirs.take(ours.take(measured.fail_open_after_s)) + assumed.proxy_ms / 1e3 for _ in range(services)]
    return Wait(p50_s=percentile(ends, 50), last_s=ends[-1])


def recapture(services: int, *, measured: _Measured = MEASURED, assumed: _Assumed = ASSUMED) -> Wait:
    """Gateways are back at 0: when do Services lead there? The slice to the gateways, then the key: two writes each."""
    ours = TokenBucket(measured.controller_writes_per_s, measured.controller_burst)
    ends = []
    for _ in range(services):
        ours.take(measured.recapture_after_s)
        ends.append(ours.take(measured.recapture_after_s) + assumed.proxy_ms / 1e3)
    return Wait(p50_s=percentile(ends, 50), last_s=ends[-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """Replacing all gateways one after the other: `seconds` that the controller's rate alone makes it last, and what API servers
    send meanwhile to the nodes' kube-proxies.
    """

    writes: int
    seconds: float
    bytes_per_s: float


def rollout(services: int, gateways: int, nodes: int, *, measured: _Measured = MEASURED) -> Rollout:
    """Each gateway leaves and comes, and each time every captured Service's slice is written with all gateways in it."""
    writes = 2 * services * gateways
    seconds = max(0, writes - measured.controller_burst) / measured.controller_writes_per_s
    size = SLICE_BYTES + GATEWAY_ENDPOINT_BYTES * gateways
    return Rollout(writes=writes, seconds=seconds, bytes_per_s=min(measured.controller_writes_per_s, writes) * size * nodes)


SLICE_BYTES, GATEWAY_ENDPOINT_BYTES = 900, 170
"""An EndpointSlice as JSON, without and for each endpoint (counted on objects of the tests' API server); kube-proxies ask for
protobuf, which is about half of it."""


def gateways_needed(requests_per_s: float, us_per_request: float, *, cpus: float, target: float, spare: int) -> int:
    """Return how many gateways of so many CPUs are needed to stay at `target` of them busy, and `spare` more for failures."""
    return ceil(requests_per_s * us_per_request / 1e6 / (cpus * target)) + spare


def _poisson(chance: random.Random, per_s: float, seconds: float) -> list[float]:
    arrivals: list[float] = []
    at = chance.expovariate(per_s)
    while at < seconds or not arrivals:
        arrivals.append(at)
        at += chance.expovariate(per_s)
    assert all(earlier <= later for earlier, later in pairwise(arrivals))
    return arrivals

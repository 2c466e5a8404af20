# SPDX-License-Identifier: Apache-2.0
"""A worker that counts requests and reports them, into totals and a history with clocks of their own."""

from __future__ import annotations

import msgspec

from acmgproxy.metrics.totals import Totals
from acmgproxy.overview.history import History
from acmgproxy.stats import SeriesKey, SeriesTable, WorkerStats
from routing.specs import IdentitySpec

__all__ = ["IDENTITIES", "REVIEWS", "Clock", "Traffic", "cluster"]

REVIEWS = "reviews.shop.svc.cluster.local"
WALL = 1_700_000_000.0
IDENTITIES = {version: IdentitySpec(namespace="shop", workload=f"reviews-{version}", version=version) for version in ("v1", "v2")}


def cluster(subset: str = "") -> str:
    return f"outbound|80|{subset}|{REVIEWS}"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def wall(self) -> float:
        return WALL + self.now


class Traffic:
    """Attributes: clock, totals, history."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.totals = Totals()
        self.totals.identities.update(IDENTITIES)
        self.history = History(self.totals.identities, clock=self.clock, wall=self.clock.wall)
        self.totals.observe = self.history.observe
        self._tables: dict[int, SeriesTable] = {}

    def request(
        self,
        duration_ms: float = 2.0,
        *,
        times: int = 1,
        version: str = "v1",
        status: int = 200,
        flags: str = "-",
        service: str = REVIEWS,
        worker: int = 0,
        source: str = "",
        subset: str = "",
    ) -> None:
        """Count requests in a worker."""
        name, _, rest = service.partition(".")
        where = cluster(subset) if service == REVIEWS else f"outbound|80||{service}"
        key = SeriesKey(source, version, service, name, rest.partition(".")[0] or service, where, status, flags)
        table = self._tables.setdefault(worker, SeriesTable())
        for _ in range(times):
            table.at(key).observe(duration_ms, 10, 20)

    def report(self) -> None:
        """Let every worker report, over the wire."""
        for worker, table in self._tables.items():
            stats = WorkerStats(worker, table.changed(self.clock.now), {}, {}, table.give_up_idle(self.clock.now))
            self.totals.update(worker, msgspec.msgpack.decode(msgspec.msgpack.encode(stats), type=WorkerStats))

    def die(self, worker: int) -> None:
        """Let a worker die; what it reported stays."""
        del self._tables[worker]
        self.totals.retire(worker)

    def step(self, seconds: float = 5.0) -> None:
        """Let time pass to the end of a step."""
        self.clock.now += seconds
        self.report()
        self.history.tick()

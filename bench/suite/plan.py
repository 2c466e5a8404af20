# SPDX-License-Identifier: Apache-2.0
"""How much a run does: everything once and briefly (`SHORT`, for tests and a first look), or all of it (`FULL`)."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from bench.load import HEADERS, Shape
from bench.upstream import BODY_SIZES

__all__ = ["FULL", "SHORT", "Plan"]

_TEN = len(HEADERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The numbers of a run.

    Args:
        rounds: bursts of each peer and case; their median is the result.
        seconds: length of a burst of the closed loop.
        shapes: of the closed loop.
        rates, rate_rounds, rate_seconds: requests/s that are offered, and for how long.
        bodies: sizes in bytes.
        table_hosts: sizes of the routing table.
        workers: numbers of workers.
        churn_rate: requests/s during churn; churn_changes: changes/s.
        churn_slices, churn_seconds: quiet and churn alternate so many times, each for so long.
        loaded_connections: under which memory is looked at.
        memory_scale: times the usual number of clients, routes and endpoints.
    """

    rounds: int
    seconds: float
    shapes: tuple[Shape, ...]
    rates: tuple[int, ...]
    rate_rounds: int
    rate_seconds: float
    bodies: tuple[int, ...]
    table_hosts: tuple[int, ...]
    workers: tuple[int, ...]
    churn_rate: int
    churn_changes: int
    churn_slices: int
    churn_seconds: float
    loaded_connections: int
    memory_scale: float

    def as_json(self) -> dict[str, object]:
        """Return plain data; the shapes are told by the rows."""
        found = asdict(self)
        del found["shapes"]
        return found


FULL = Plan(
    rounds=5,
    seconds=0.6,
    shapes=(
        *(Shape(connections=connections, headers=_TEN) for connections in (1, 16, 64, 512)),
        Shape(connections=16),
        Shape(connections=64),
        Shape(connections=16, headers=_TEN, distinct=True),
        Shape(connections=64, headers=_TEN, distinct=True),
    ),
    rates=(2_000, 5_000, 10_000),
    rate_rounds=5,
    rate_seconds=1.5,
    bodies=BODY_SIZES,
    table_hosts=(10, 1_000, 10_000),
    workers=(1, 2),
    churn_rate=2_000,
    churn_changes=100,
    churn_slices=6,
    churn_seconds=10.0,
    loaded_connections=512,
    memory_scale=1.0,
)

SHORT = Plan(
    rounds=1,
    seconds=0.2,
    shapes=(
        *(Shape(connections=connections, headers=_TEN) for connections in (1, 16, 64)),
        Shape(connections=16, headers=_TEN, distinct=True),
    ),
    rates=(200, 400),
    rate_rounds=1,
    rate_seconds=0.3,
    bodies=(BODY_SIZES[0], BODY_SIZES[-1]),
    table_hosts=(10, 30),
    workers=(1, 2),
    churn_rate=200,
    churn_changes=20,
    churn_slices=1,
    churn_seconds=0.5,
    loaded_connections=16,
    memory_scale=0.01,
)

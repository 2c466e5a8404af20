# SPDX-License-Identifier: Apache-2.0
"""Tables of the peers that run from beginning to end: by connections, at fixed rates, by size of bodies, a connection each."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from bench.load import HEADERS, Shape
from bench.openloop import Offering
from bench.suite.ground import Ground, closed_burst, open_burst
from bench.suite.table import Case, Row, interleave

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.suite.plan import Plan

__all__ = ["bodies", "connections", "new_connections", "rates"]

_RATE_PEERS = ("direct", "acmgproxy", "nginx", "envoy", "envoy-two-hops")
_BODY_CONNECTIONS = 16
_CLOSING_CONNECTIONS = 16


def connections(ground: Ground, plan: Plan, step: Callable[[str], None]) -> list[Row]:
    """As fast as the answers come, on 1 to 512 connections."""
    return _closed(ground, plan, step, [(_labels(shape), shape) for shape in plan.shapes])


def new_connections(ground: Ground, plan: Plan, step: Callable[[str], None]) -> list[Row]:
    """A connection for each request."""
    shape = Shape(connections=_CLOSING_CONNECTIONS, headers=len(HEADERS), closes=True)
    return _closed(ground, plan, step, [(_labels(shape), shape)])


def bodies(ground: Ground, plan: Plan, step: Callable[[str], None]) -> list[Row]:
    """Bodies of several sizes, down (GET) and up (POST)."""
    shapes: list[tuple[dict[str, Any], Shape]] = []
    for size in plan.bodies:
        down = Shape(connections=_BODY_CONNECTIONS, headers=len(HEADERS), answer_bytes=size)
        up = Shape(connections=_BODY_CONNECTIONS, headers=len(HEADERS), upload_bytes=size)
        shapes += [({"way": "down", "bytes": size}, down), ({"way": "up", "bytes": size}, up)]
    return _closed(ground, plan, step, shapes)


def rates(ground: Ground, plan: Plan, step: Callable[[str], None]) -> list[Row]:
    """Latency when requests come at a fixed rate."""
    cases = [
        Case(labels={"rate": rate}, measure=partial(open_burst, offering=Offering(rate=rate), seconds=plan.rate_seconds))
        for rate in plan.rates
    ]
    return interleave(ground.among(_RATE_PEERS), cases, rounds=plan.rate_rounds, step=step)


def _labels(shape: Shape) -> dict[str, Any]:
    return {"connections": shape.connections, "headers": shape.headers, "distinct": shape.distinct}


def _closed(ground: Ground, plan: Plan, step: Callable[[str], None], shapes: list[tuple[dict[str, Any], Shape]]) -> list[Row]:
    cases = [Case(labels=labels, measure=partial(closed_burst, shape=shape, seconds=plan.seconds)) for labels, shape in shapes]
    return interleave(ground.started, cases, rounds=plan.rounds, step=step)

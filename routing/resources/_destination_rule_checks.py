# SPDX-License-Identifier: Apache-2.0
"""What a valid DestinationRule is, as Istio's admission judges it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from routing.names import host_problem
from routing.resources._base import Problem
from routing.resources._checks import duration_problem, export_problems

if TYPE_CHECKING:
    from collections.abc import Iterator

    from routing.resources.destination_rule import ConnectionPool, DestinationRule, TrafficPolicy

__all__ = ["destination_rule_problems"]


def destination_rule_problems(rule: DestinationRule) -> Iterator[Problem]:
    """Yield what is wrong with `rule`."""
    spec = rule.spec
    if reason := host_problem(spec.host, wildcard=True):
        yield Problem("spec.host", reason)
    yield from export_problems(spec.export_to, rule.meta.namespace)
    if spec.workload_selector is not None and set(spec.export_to) - {".", rule.meta.namespace}:
        yield Problem("spec.exportTo", "a rule with a workloadSelector holds in its own namespace only")
    yield from _policy_problems(spec.traffic_policy, "spec.trafficPolicy")
    for index, subset in enumerate(spec.subsets):
        field = f"spec.subsets[{index}]"
        # `|` separates the parts of a cluster's name.
        if not subset.name or "|" in subset.name or "@" in subset.name:
            yield Problem(f"{field}.name", f"{subset.name!r} is not a name")
        yield from _policy_problems(subset.traffic_policy, f"{field}.trafficPolicy")


def _policy_problems(policy: TrafficPolicy | None, field: str) -> Iterator[Problem]:
    if policy is None:
        return
    yield from _pool_problems(policy.connection_pool, f"{field}.connectionPool")
    for index, entry in enumerate(policy.port_level_settings):
        yield from _pool_problems(entry.connection_pool, f"{field}.portLevelSettings[{index}].connectionPool")


def _pool_problems(pool: ConnectionPool | None, field: str) -> Iterator[Problem]:
    if pool is None:
        return
    if pool.tcp.connect_timeout is not None and (reason := duration_problem(pool.tcp.connect_timeout)):
        yield Problem(f"{field}.tcp.connectTimeout", reason)
    if pool.http.idle_timeout is not None and (reason := duration_problem(pool.http.idle_timeout, zero=True)):
        yield Problem(f"{field}.http.idleTimeout", reason)

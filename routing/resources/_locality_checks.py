# SPDX-License-Identifier: Apache-2.0
"""What a valid localityLbSetting is, as Istio's admission judges it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from routing.names import covers_locality
from routing.resources._base import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from routing.resources.destination_rule import Locality

__all__ = ["TOPOLOGY_LABELS", "locality_problem", "locality_problems"]

TOPOLOGY_LABELS = frozenset(
    {"topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone", "topology.istio.io/network"}
)


def locality_problem(locality: str, *, wildcard: bool) -> str | None:
    """Judge `region[/zone[/subzone]]`; with `wildcard` the last part may be `*`."""
    parts = locality.split("/")
    plain = parts[:-1] if wildcard and parts[-1] == "*" else parts
    if len(parts) > 3 or not all(plain) or any("*" in part for part in plain):
        return f"{locality!r} is not a locality: region, region/zone or region/zone/subzone" + (", `*` last" if wildcard else "")
    return None


def locality_problems(setting: Locality, field: str) -> Iterator[Problem]:
    """Yield what is wrong with `setting`."""
    if setting.distribute and (setting.failover or setting.failover_priority):
        yield Problem(field, "distribute excludes failover and failoverPriority")
    yield from _distribute_problems(setting, field)
    seen: set[str] = set()
    for index, failover in enumerate(setting.failover):
        where = f"{field}.failover[{index}]"
        if not failover.from_ or not failover.to or "*" in failover.from_ + failover.to or "/" in failover.from_ + failover.to:
            yield Problem(where, "from and to must be regions")
        elif failover.from_ == failover.to:
            yield Problem(where, "a region must not fail over to itself")
        if failover.from_ in seen:
            yield Problem(where, f"{failover.from_!r} is given twice")
        seen.add(failover.from_)
    names = [entry.partition("=")[0] for entry in setting.failover_priority]
    for index, name in enumerate(names):
        where = f"{field}.failoverPriority[{index}]"
        if not name:
            yield Problem(where, "must be the name of a label, or name=value")
        elif name in names[:index]:
            yield Problem(where, f"{name!r} is given twice")
        elif setting.failover and name in TOPOLOGY_LABELS:
            yield Problem(where, f"{name} excludes failover")


def _distribute_problems(setting: Locality, field: str) -> Iterator[Problem]:
    seen: list[str] = []
    for index, entry in enumerate(setting.distribute):
        where = f"{field}.distribute[{index}]"
        if reason := locality_problem(entry.from_, wildcard=True):
            yield Problem(f"{where}.from", reason)
        elif any(covers_locality(earlier, entry.from_) or covers_locality(entry.from_, earlier) for earlier in seen):
            yield Problem(f"{where}.from", f"{entry.from_!r} overlaps with an earlier one")
        seen.append(entry.from_)
        for locality, weight in entry.to.items():
            if reason := locality_problem(locality, wildcard=True):
                yield Problem(f"{where}.to", reason)
            if not 0 < weight <= 100:
                yield Problem(f"{where}.to.{locality}", "must be 1 to 100")
        if sum(entry.to.values()) != 100:
            yield Problem(f"{where}.to", "must add up to 100")

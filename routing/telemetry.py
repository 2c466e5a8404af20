# SPDX-License-Identifier: Apache-2.0
"""What a worker tells of requests besides counting them, by Service: compiled TelemetrySpecs and the look-up of the nearest.

A request's Service is the one that was asked for, by the virtual host of its route; where it went is another matter. The nearest
entry decides alone: the Service's, its namespace's, the mesh's. Each already holds what it takes over from the wider ones.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from routing.specs import ComparisonSpec, TelemetrySpec, VirtualHostSpec

__all__ = ["TelemetryRule", "TelemetryRules"]

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class TelemetryRule:
    """One entry, compiled. See TelemetrySpec for `logged`, `sampling` and `traced`."""

    __slots__ = ("_any_of", "logged", "sampling", "traced")

    def __init__(self, spec: TelemetrySpec) -> None:
        self.logged = spec.logged
        self.sampling = spec.sampling
        self.traced = spec.traced
        self._any_of = tuple(tuple(_comparison(one) for one in all_of) for all_of in spec.log_filter)

    def __repr__(self) -> str:
        return f"TelemetryRule(logged={self.logged}, {len(self._any_of)} conditions, traced={self.traced})"

    def passes(self, status: int, duration_s: float) -> bool:
        """Tell whether a request that ended so passes the filter of the log.

        Args:
            status: 0 if the client left before the answer.
            duration_s: from its head to its end.
        """
        if not self._any_of:
            return True
        ended = (status, duration_s)
        return any(all(compare(ended[which], value) for which, compare, value in all_of) for all_of in self._any_of)


def _comparison(spec: ComparisonSpec) -> tuple[int, Callable[[float, float], bool], float]:
    return int(spec.of == "duration_s"), _OPERATORS[spec.operator], spec.value


class TelemetryRules:
    """The entries of a configuration.

    Attributes:
        logs_any: some requests are logged because an entry says so.
    """

    __slots__ = ("_rules", "logs_any")

    def __init__(self) -> None:
        self._rules: dict[str, TelemetryRule] = {}
        self.logs_any = False

    def __repr__(self) -> str:
        return f"TelemetryRules({sorted(self._rules)})"

    def __len__(self) -> int:
        return len(self._rules)

    def apply(self, put: Mapping[str, TelemetrySpec], removed: Iterable[str]) -> bool:
        """Take over a difference of specs; return whether there is one."""
        removed = tuple(removed)
        for name in removed:
            self._rules.pop(name, None)
        self._rules |= {name: TelemetryRule(spec) for name, spec in put.items()}
        self.logs_any = any(rule.logged for rule in self._rules.values())
        return bool(put or removed)

    def find(self, host: VirtualHostSpec | None) -> TelemetryRule | None:
        """Return what holds for requests to a virtual host, None where nobody has said anything; no host is none of a Service."""
        rules = self._rules
        if host is None or not host.namespace:
            return rules.get("")
        return rules.get(host.name) or rules.get(host.namespace) or rules.get("")

# SPDX-License-Identifier: Apache-2.0
"""Slow start: the weight of a new endpoint grows over a while (DestinationRule warmup, Envoy slow_start_config).

An endpoint of age t has max(minimum, (t / duration) ** (1 / aggression)) of its weight. Time comes with `tick`, about once a
second; an endpoint's age counts from the first tick after it joined. Endpoints that join together, such as all those of a new
cluster, grow together, which shares traffic out as if there were no warm-up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from routing.cluster import Endpoint
    from routing.specs import WarmupSpec

__all__ = ["Warmup"]

_LEAST = 0.01
"""Part of its weight that an endpoint always has: without any it could never show that it works."""


class Warmup:
    """The endpoints of a cluster that are new."""

    __slots__ = ("_now", "_since", "spec")

    def __init__(self, spec: WarmupSpec) -> None:
        self.spec = spec
        self._since: dict[Endpoint, float | None] = {}  # None: it joined after the last tick
        self._now = 0.0

    def __repr__(self) -> str:
        return f"Warmup({len(self._since)} endpoints)"

    def __bool__(self) -> bool:
        return bool(self._since)

    def update(self, joined: Iterable[Endpoint], removed: Iterable[Endpoint]) -> None:
        """Follow the members, and weigh those again whose spec may have changed."""
        for endpoint in removed:
            self._since.pop(endpoint, None)
        self._since.update(dict.fromkeys(joined))
        self._weigh()

    def tick(self, now: float) -> None:
        """Let endpoints grow."""
        self._now = now
        for endpoint, since in self._since.items():
            if since is None:
                self._since[endpoint] = now
        self._weigh()
        grown = [endpoint for endpoint in self._since if self._share(endpoint) >= 1.0]
        for endpoint in grown:
            del self._since[endpoint]

    def dismiss(self) -> None:
        """Give everybody the full weight."""
        for endpoint in self._since:
            endpoint.weight = max(endpoint.spec.weight, 1)
        self._since = {}

    def _weigh(self) -> None:
        for endpoint in self._since:
            endpoint.weight = max(endpoint.spec.weight, 1) * self._share(endpoint)

    def _share(self, endpoint: Endpoint) -> float:
        spec, since = self.spec, self._since[endpoint]
        age_s = self._now - since if since is not None else 0.0
        if age_s >= spec.duration_s:
            return 1.0
        grown = (max(age_s, 0.0) / spec.duration_s) ** (1.0 / spec.aggression) if spec.aggression > 0 else 0.0
        return float(min(max(grown, spec.minimum_percent / 100.0, _LEAST), 1.0))

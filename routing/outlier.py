# SPDX-License-Identifier: Apache-2.0
"""Outlier detection: passive health checks that take failing endpoints out of a cluster for a while.

Envoy's consecutive-error detection (outlier_detection_impl.cc), as Istio configures it. Answers and failures are counted per
endpoint; one that fails often enough in a row is ejected for base_ejection_s times the number of times it has been of late, at
most 300 s. A sweep, every interval_s, brings back those whose time is over and lets the multiplier of the others decay by one.
Nothing runs while nothing is ejected and every multiplier is zero.

What differs from Envoy, on purpose:

* One endpoint may always be ejected, whatever the percentage (Envoy's always_eject_one_host, which Istio does not set).
* When members leave and the ejected become more than the percentage allows, those ejected first come back at once. In Envoy a
  scale-down can leave a cluster with nobody but ejected members.
* With split counts a timeout on an open connection counts as a local failure until an answer comes. In Envoy the connection that
  was opened for it resets the count, so timeouts never add up.

An endpoint that leaves its cluster loses its record; if it comes back it starts afresh.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from routing.cluster import Endpoint
    from routing.specs import OutlierSpec

__all__ = ["MAX_EJECTION_S", "OutlierDetector", "Record"]

MAX_EJECTION_S = 300.0
"""Envoy max_ejection_time, which Istio leaves alone; a longer base time counts instead."""

_SERVER_ERRORS = frozenset(range(500, 600))
_GATEWAY_ERRORS = frozenset({502, 503, 504})


class Record:
    """What is known against an endpoint: failures in a row by kind, when it was ejected, and for how many base times."""

    __slots__ = ("ejected_at", "errors", "gateway_errors", "local_failures", "multiplier")

    def __init__(self) -> None:
        self.errors = 0
        self.gateway_errors = 0
        self.local_failures = 0
        self.multiplier = 0
        self.ejected_at = 0.0

    def __repr__(self) -> str:
        counts = f"{self.errors} errors, {self.gateway_errors} gateway errors, {self.local_failures} local failures"
        return f"Record({counts}, multiplier={self.multiplier})"

    def clear(self) -> None:
        """Forget all failures, not the ejections."""
        self.errors = self.gateway_errors = self.local_failures = 0


class OutlierDetector:
    """Watches over the endpoints of one cluster.

    Args:
        changed: called after endpoints were ejected or came back.

    `on_status`, `on_local_failure` and `sweep` return whether that happened. Times are monotonic seconds.
    """

    __slots__ = ("_changed", "_errors", "_marked", "_members", "_next_sweep", "spec")

    def __init__(self, spec: OutlierSpec, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._members: Sequence[Endpoint] = ()
        self._marked: dict[Endpoint, Record] = {}  # those ejected or with a multiplier, in the order of their first ejection
        self._next_sweep = 0.0
        self.update(spec)

    def __repr__(self) -> str:
        return f"OutlierDetector({self.ejected} of {len(self._members)} ejected)"

    @property
    def ejected(self) -> int:
        """How many members are ejected now."""
        return sum(endpoint.ejected for endpoint in self._members) if self._marked else 0

    @property
    def is_pending(self) -> bool:
        """Whether there is anything for a sweep to do."""
        return bool(self._marked)

    def update(self, spec: OutlierSpec) -> None:
        """Take over a changed spec; records stay."""
        self.spec = spec
        self._errors = frozenset(spec.status_codes) if spec.status_codes else _SERVER_ERRORS

    def watch(self, members: Sequence[Endpoint], removed: Iterable[Endpoint] = ()) -> None:
        """Take over changed members: those among which traffic is shared out. Does not call `changed`."""
        self._members = members
        for endpoint in removed:
            self._marked.pop(endpoint, None)
        excess = self.ejected - self._limit()
        if excess > 0:
            ejected = [endpoint for endpoint in members if endpoint.ejected]
            for endpoint in sorted(ejected, key=lambda member: self._marked[member].ejected_at)[:excess]:
                self._bring_back(endpoint)

    def healthy(self) -> Sequence[Endpoint]:
        """Return the members that may be picked: all of them in panic, when fewer than min_health_percent are not ejected."""
        if not self._marked:
            return self._members
        healthy = [endpoint for endpoint in self._members if not endpoint.ejected]
        return self._members if len(healthy) * 100 < self.spec.min_health_percent * len(self._members) else healthy

    def on_status(self, endpoint: Endpoint, status: int, now: float) -> bool:
        """Count an answer."""
        is_error = status in self._errors
        is_gateway_error = status in _GATEWAY_ERRORS
        record: Record | None = endpoint.record
        if not (is_error or is_gateway_error):
            if record is not None:
                record.clear()
            return False
        if record is None:
            record = endpoint.record = Record()
        record.local_failures = 0
        return self._count(endpoint, record, now, is_error=is_error, is_gateway_error=is_gateway_error)

    def on_local_failure(self, endpoint: Endpoint, now: float) -> bool:
        """Count a try that ended without an answer: no connection, a reset, a timeout.

        Without split_local_origin it counts as a 503.
        """
        record: Record | None = endpoint.record
        if record is None:
            record = endpoint.record = Record()
        spec = self.spec
        if not spec.split_local_origin:
            return self._count(endpoint, record, now, is_error=True, is_gateway_error=True)
        record.local_failures += 1
        if _reached(record.local_failures, spec.consecutive_local_origin) and not endpoint.ejected:
            record.local_failures = 0
            return self._eject(endpoint, record, now)
        return False

    def _count(self, endpoint: Endpoint, record: Record, now: float, *, is_error: bool, is_gateway_error: bool) -> bool:
        record.errors = record.errors + 1 if is_error else 0
        record.gateway_errors = record.gateway_errors + 1 if is_gateway_error else 0
        if endpoint.ejected:  # answers to what was sent before; they count when it is back for nothing
            return False
        spec = self.spec
        if _reached(record.gateway_errors, spec.consecutive_gateway):
            record.gateway_errors = 0
            if self._eject(endpoint, record, now):
                return True
        if _reached(record.errors, spec.consecutive_5xx):
            record.errors = 0
            return self._eject(endpoint, record, now)
        return False

    def _limit(self) -> int:
        """Return how many members may be ejected at a time."""
        return max(1, len(self._members) * min(self.spec.max_ejection_percent, 100) // 100)

    def _eject(self, endpoint: Endpoint, record: Record, now: float) -> bool:
        if endpoint.removed or self.ejected >= self._limit():
            return False
        if not self._marked:
            self._next_sweep = now + self.spec.interval_s
        self._marked[endpoint] = record
        endpoint.ejected = True
        record.ejected_at = now
        if record.multiplier * self.spec.base_ejection_s < self._longest_s():
            record.multiplier += 1
        self._changed()
        return True

    def _longest_s(self) -> float:
        return max(MAX_EJECTION_S, self.spec.base_ejection_s)

    def sweep(self, now: float) -> bool:
        """Bring back those whose time is over, if a sweep is due."""
        if not self._marked or now < self._next_sweep:
            return False
        interval_s = max(self.spec.interval_s, 0.001)
        self._next_sweep += interval_s * (1 + (now - self._next_sweep) // interval_s)
        back = False
        for endpoint, record in list(self._marked.items()):
            if not endpoint.ejected:
                record.multiplier -= 1
                if record.multiplier <= 0:
                    del self._marked[endpoint]
            elif now - record.ejected_at >= min(self.spec.base_ejection_s * record.multiplier, self._longest_s()):
                self._bring_back(endpoint)
                back = True
        if back:
            self._changed()
        return back

    def _bring_back(self, endpoint: Endpoint) -> None:
        endpoint.ejected = False
        self._marked[endpoint].clear()


def _reached(count: int, threshold: int) -> bool:
    return 0 < threshold <= count

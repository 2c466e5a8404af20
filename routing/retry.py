# SPDX-License-Identifier: Apache-2.0
"""Retries: whether a failed try may be repeated, and after how long.

Owns the conditions (Envoy's retry-on tokens as Istio passes them on), the back-off and the budget. Whether the request *can* be
repeated, because its body is still at hand and no answer byte went downstream, is for the data plane to know.

Envoy's rules, from its retry_state_impl.cc: an answer that carries `x-envoy-overloaded` is never retried, one that carries
`x-envoy-ratelimited` only when `envoy-ratelimited` was asked for; `5xx`, `gateway-error` and `reset` cover every way in which a
try can end without an answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from routing.limits import part_of

if TYPE_CHECKING:
    from routing.limits import Limits
    from routing.specs import RetryBudgetSpec, RetrySpec

__all__ = ["DEFAULT_PERCENT", "ResetKind", "ResponseView", "RetryBudget", "RetryPolicy"]

ResetKind: TypeAlias = Literal["connect-failure", "reset", "reset-before-request", "per-try-timeout", "refused-stream"]
"""How a try ended without an answer. `reset-before-request`: before anything of the request was sent."""

_STATUSES: dict[str, frozenset[int]] = {
    "5xx": frozenset(range(500, 600)),
    "gateway-error": frozenset({502, 503, 504}),
    "retriable-4xx": frozenset({409}),
}
_EVERY_RESET: frozenset[ResetKind] = frozenset(
    {"connect-failure", "reset", "reset-before-request", "per-try-timeout", "refused-stream"}
)
_RESETS: dict[str, frozenset[ResetKind]] = {
    "5xx": _EVERY_RESET,
    "gateway-error": _EVERY_RESET,
    "reset": _EVERY_RESET,
    "reset-before-request": frozenset({"connect-failure", "reset-before-request"}),
    "connect-failure": frozenset({"connect-failure"}),
    "refused-stream": frozenset({"refused-stream"}),
}
_MAX_BACKOFF_FACTOR = 10
"""Envoy: the back-off is capped at ten times its base."""


class ResponseView(Protocol):
    """What a policy looks at in a response head."""

    def header(self, name: bytes) -> bytes | None:
        """Return the value of a field by its lower-case name, several values joined by a comma; None when missing."""


class ActiveCount(Protocol):
    """Whatever knows how many requests are in flight to a cluster."""

    active: int


class RetryPolicy:
    """A RetrySpec compiled to set look-ups.

    `attempts` is how many retries may follow the first try; a policy with none says no to everything. `ignore_previous_hosts`:
    the next try avoids endpoints that were tried; `remote_localities`: it may leave their priority.
    """

    __slots__ = (
        "_base_s",
        "_cap_s",
        "_ratelimited",
        "_resets",
        "_statuses",
        "attempts",
        "ignore_previous_hosts",
        "per_try_timeout_s",
        "remote_localities",
    )

    def __init__(self, spec: RetrySpec) -> None:
        self.attempts = spec.attempts
        self.per_try_timeout_s = spec.per_try_timeout_s
        self.ignore_previous_hosts = spec.ignore_previous_hosts
        self.remote_localities = spec.remote_localities
        tokens = spec.retry_on if spec.attempts > 0 else ()
        codes = spec.status_codes if spec.attempts > 0 else ()
        numeric = (int(token) for token in tokens if token.isdecimal())
        self._statuses = frozenset(codes).union(numeric, *(_STATUSES.get(token, ()) for token in tokens))
        self._resets = frozenset[str]().union(*(_RESETS.get(token, ()) for token in tokens))
        self._ratelimited = "envoy-ratelimited" in tokens
        self._base_s = spec.backoff_base_s
        self._cap_s = spec.backoff_base_s * _MAX_BACKOFF_FACTOR

    def __repr__(self) -> str:
        return f"RetryPolicy(attempts={self.attempts}, statuses={len(self._statuses)}, resets={sorted(self._resets)})"

    def on_status(self, status: int, headers: ResponseView) -> bool:
        """Return whether an answer from upstream asks for a retry."""
        wanted = status in self._statuses
        if not (wanted or self._ratelimited):
            return False
        if headers.header(b"x-envoy-overloaded") is not None:
            return False
        if headers.header(b"x-envoy-ratelimited") is not None:
            return self._ratelimited
        return wanted

    def on_reset(self, kind: ResetKind) -> bool:
        """Return whether a try that ended without an answer asks for a retry."""
        return kind in self._resets

    def backoff_s(self, retry_number: int, draw: float) -> float:
        """Return how long to wait before retry `retry_number` (from 1): full jitter over a growing, capped interval."""
        return draw * min(((1 << retry_number) - 1) * self._base_s, self._cap_s)


DEFAULT_PERCENT = 100 / 6
"""Retries among the requests in flight: one for five others."""


class RetryBudget:
    """Bounds the retries that run at the same time against one cluster.

    A share of the requests in flight may be retries, and always at least a few: retries heal single failures and must not
    multiply the load on a cluster that fails as a whole. A budget that a cluster sets is what it is in Envoy, a share of all
    requests in flight, retries among them. Left alone it is one retry for five requests that are not retried, so
    that a cluster that fails has 1.2 times the load at most, and at least 3 (Envoy's RetryBudget: 20 %, which is 1.25 times).
    `maximum` is the circuit breaker on retries, 0 for none.
    """

    __slots__ = ("_source", "maximum", "minimum", "percent", "retries")

    def __init__(self, source: ActiveCount, percent: float = DEFAULT_PERCENT, minimum: int = 3) -> None:
        self._source = source
        self.percent = percent
        self.minimum = minimum
        self.maximum = 0
        self.retries = 0

    def __repr__(self) -> str:
        return f"RetryBudget({self.retries} retries of {self._source.active} active)"

    def configure(self, spec: RetryBudgetSpec | None, limits: Limits | None, workers: int) -> None:
        """Take over what a cluster says; retries under way still count.

        A budget of its own replaces the limit on retries, as in Envoy. Its minimum is for the gateway pod and is divided like
        limits; the default one is every worker's.
        """
        if spec is not None:
            self.percent, self.minimum, self.maximum = spec.percent, part_of(spec.minimum, workers), 0
        else:
            self.percent, self.minimum = DEFAULT_PERCENT, 3
            self.maximum = limits.max_retries if limits is not None else 0

    def try_acquire(self) -> bool:
        """Reserve a retry; False when the budget is used up. Every True needs one `release`."""
        if self.retries >= self.minimum and self.retries >= self._source.active * self.percent / 100:
            return False
        if 0 < self.maximum <= self.retries:
            return False
        self.retries += 1
        return True

    def release(self) -> None:
        """Give a reserved retry back."""
        assert self.retries > 0, "released more retries than were acquired"
        self.retries -= 1

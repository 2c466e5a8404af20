# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: TC004 - these objects are never decoded, so their annotations are not evaluated
"""How a request gets to an endpoint: picking one, connecting, trying again.

`Tries` is the lower half of an `Exchange`. It begins when the cluster is chosen and ends with an answer's head, or with the
verdict that there will be none; what is relayed to whom is the upper half's business.

    try: pick endpoint ──▶ pooled or new connection ──▶ send ──▶ answer head ──▶ (upper half)
     ▲          │ none, limits                            │ failed, or a status to retry
     │          └────────▶ verdict ◀──── no ──── retry allowed?
     └──────────────── back-off ◀──── yes ──────────┘

What makes a retry possible: nothing of an answer has gone downstream, the request body so far is still in `replay` (up to
replay_buffer_bytes), the policy asks for it, attempts are left and the cluster's budget has room. Apart from that policy, a
request that met a pooled connection which was closing just then is sent once more on a new one, if it may be repeated.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from acmgproxy.h1.request import IDEMPOTENT
from acmgproxy.replies import Failure

if TYPE_CHECKING:
    from acmgproxy.dataplane import DataPlane
    from acmgproxy.h1.request import RequestHead
    from acmgproxy.io.downstream import Downstream
    from acmgproxy.io.pool import Pool
    from acmgproxy.io.upstream import Upstream
    from routing.cluster import Cluster, Endpoint
    from routing.retry import ResetKind, RetryBudget
    from routing.table import Destination, Route

__all__ = ["Tries"]

_FAILURES: dict[ResetKind, Failure] = {
    "connect-failure": Failure.CONNECTION_FAILURE,
    "reset": Failure.CONNECTION_TERMINATION,
    "per-try-timeout": Failure.UPSTREAM_PER_TRY_TIMEOUT,
}
"""How a try can end without an answer, and what the client gets when nothing can be retried."""


class Tries(msgspec.Struct, eq=False):
    """The tries of one request.

    Attributes:
        attempt: tries begun, from 1; `trying` while one is under way.
        tried: endpoints that failed and are avoided.
        waiting_for: the pool that was asked for a connection.
        replay: the request body so far, while it is `replayable`; `replay_size` its bytes.
        replayed: the request was sent once more because its pooled connection had been closed.
        over_budget: another try was wanted, and the cluster had too many under way.
        try_deadline: monotonic seconds, 0.0 for none.
        hash_value: what consistent hashing made of the request, None for nothing.
        trying, budget, backoff: what has to be given back when the tries end.
    """

    plane: DataPlane
    downstream: Downstream
    head: RequestHead
    started: float
    route: Route | None = None
    destination: Destination | None = None
    cluster: Cluster | None = None
    endpoint: Endpoint | None = None
    upstream: Upstream | None = None
    attempt: int = 0
    trying: bool = False
    tried: tuple[Endpoint, ...] = ()
    waiting_for: Pool | None = None
    is_pending: bool = False
    replay: list[bytes] = []
    replay_size: int = 0
    replayable: bool = True
    replayed: bool = False
    over_budget: bool = False
    request_done: bool = False
    responding: bool = False
    sent_at: float = 0.0
    try_deadline: float = 0.0
    hash_value: int | None = None
    budget: RetryBudget | None = None
    backoff: asyncio.TimerHandle | None = None

    # -- what the upper half does

    def send(self, upstream: Upstream) -> None:
        """Take the connection and send what there is of the request; called once per try."""
        raise NotImplementedError

    def give_up(self, failure: Failure, *, exhausted: bool = False, reason: str = "") -> None:
        """Answer in the upstream's place. `exhausted`: retries were allowed and are used up."""
        raise NotImplementedError

    # -- a try

    def try_endpoint(self) -> None:
        """Send the request to an endpoint, over a pooled connection or a new one."""
        cluster, plane = self.cluster, self.plane
        assert cluster is not None
        endpoint = self._pick_with_context(cluster) if cluster.context else cluster.pick(plane.rng, self.tried)
        if endpoint is None:
            self.give_up(Failure.NO_HEALTHY_UPSTREAM)
            return
        self.attempt += 1
        self.endpoint = endpoint
        self.trying = True
        endpoint.active += 1
        pool = endpoint.pool or plane.open_pool(cluster, endpoint)
        upstream = None if self.replayed else pool.take(must_be_alive=not self.may_repeat(), source=self._source(pool))
        if upstream is not None:
            self._send(upstream)
        elif cluster.limits is not None and not plane.breaker(cluster).may_connect():
            self._wait_for_connection(cluster)
        else:
            self.waiting_for = pool
            pool.connect(self)

    def _pick_with_context(self, cluster: Cluster) -> Endpoint | None:
        if cluster.needs_tick:
            self.plane.tick_for(cluster)
        caller = self.downstream.caller
        locality, labels = (caller.locality, caller.labels) if caller is not None else ("", None)
        remote = self.route is not None and self.route.retry.remote_localities
        return cluster.pick_for(self.plane.rng, self.tried, self.hash_value, locality, labels, remote=remote)

    def _source(self, pool: Pool) -> tuple[str, int] | None:
        """A connection that announces its client (PROXY protocol) can only serve that client."""
        return self.downstream.peer_address if pool.cluster.spec.proxy_protocol else None

    @property
    def source(self) -> tuple[str, int] | None:
        """The client's address and port."""
        return self.downstream.peer_address

    def _wait_for_connection(self, cluster: Cluster) -> None:
        """All connections the cluster may have are busy: queue, if the queue has room."""
        if not self.plane.breaker(cluster).queue(self):
            self.end_try()
            self.plane.counters["upstream_overflows"] += 1
            self.give_up(Failure.OVERFLOW)
            return
        self.is_pending = True

    def accepts(self, upstream: Upstream) -> bool:
        """Whether this request, which waits, may go over a connection that has become free, be it to another endpoint."""
        cluster, endpoint = self.cluster, upstream.pool.endpoint
        assert cluster is not None
        if endpoint.ejected or (endpoint is not self.endpoint and (cluster.context or endpoint in self.tried)):
            return False
        if upstream.pool.cluster.spec.proxy_protocol and upstream.source != self.source:
            return False
        return self.may_repeat() or not upstream.is_readable()

    def on_turn(self, upstream: Upstream | None) -> None:
        """The queue has come to this request: take the connection, or try again for one.

        Args:
            upstream: a connection that has become free; None when one has ended and there is room for another.
        """
        self.is_pending = False
        self.end_try()
        self.attempt -= 1
        if upstream is None:
            self.try_endpoint()
            return
        self.attempt += 1
        self.endpoint = upstream.pool.endpoint
        self.trying = True
        self.endpoint.active += 1
        self._send(upstream)

    def on_connected(self, upstream: Upstream) -> None:
        """A connection is there; this request may have ended meanwhile."""
        if self.waiting_for is not upstream.pool:
            upstream.pool.give_back(upstream)
            return
        self.waiting_for = None
        if upstream.pool.closed:  # the endpoint has left meanwhile: whoever has its address by now is somebody else
            upstream.close()
            self.end_try()
            self.attempt -= 1
            self.try_endpoint()
            return
        self._send(upstream)

    def on_connect_failed(self, pool: Pool, error: Exception) -> None:
        """The endpoint cannot be reached."""
        if self.waiting_for is not pool:
            return
        self.waiting_for = None
        self.on_try_failed("connect-failure", str(error) or type(error).__name__)

    def _send(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self.sent_at = self.plane.clock()
        assert self.route is not None
        if self.route.retry.per_try_timeout_s and self.request_done:
            self.start_try_timeout()
        self.send(upstream)

    def start_try_timeout(self) -> None:
        """Limit the present try. As Envoy's, the limit starts when the request is complete and a connection is there."""
        assert self.route is not None
        per_try_s = self.route.retry.per_try_timeout_s
        if per_try_s and not self.responding:
            self.try_deadline = due = self.plane.clock() + per_try_s
            if due < self.downstream.wake:
                self.downstream.wake_by(due)

    def time_out_try(self) -> None:
        """The try has taken too long."""
        self.try_deadline = 0.0
        upstream, self.upstream = self.upstream, None
        if upstream is not None:
            upstream.detach()
        self.plane.counters["upstream_per_try_timeouts"] += 1
        self.on_try_failed("per-try-timeout", "per try timeout")

    # -- failing and trying again

    def is_stale(self, upstream: Upstream, kind: str) -> bool:
        """Whether a pooled connection was closing as the request went out, so that it may be sent once more on a new one.

        That is no failure of the endpoint and no retry of the policy.
        """
        met_the_end = kind == "reset" and upstream.idle_since > 0.0 and not upstream.answered
        return met_the_end and not self.replayed and self.replayable and self.may_repeat()

    def replay_on_new_connection(self) -> None:
        """Send the request once more."""
        self.replayed = True
        self.plane.counters["upstream_replays"] += 1
        self.end_try()
        self.attempt -= 1
        self.try_deadline = 0.0
        self.try_endpoint()

    def on_try_failed(self, kind: ResetKind, reason: str) -> None:
        """A try ended without an answer: try again or say so."""
        route = self.route
        assert route is not None
        self.report_failure()
        self.end_try()
        exhausted = False
        if route.retry.attempts and route.retry.on_reset(kind):
            if self.may_retry():
                self.retry(at_once=kind == "connect-failure")
                return
            exhausted = self.attempt > route.retry.attempts
        self.give_up(_FAILURES[kind], exhausted=exhausted, reason=reason)

    def on_protocol_error(self, reason: str) -> None:
        """What the endpoint said is no HTTP: never tried again."""
        self.report_failure()
        self.end_try()
        self.give_up(Failure.UPSTREAM_PROTOCOL_ERROR, reason=reason)

    def report_failure(self) -> None:
        """Note that the endpoint gave no answer (not reached, reset, too slow, no HTTP), and tell outlier detection."""
        cluster, endpoint = self.cluster, self.endpoint
        assert cluster is not None
        if endpoint is not None and endpoint.pool is not None:
            endpoint.pool.failures += 1
        if cluster.outlier is None or endpoint is None or endpoint.removed:
            return
        if cluster.outlier.on_local_failure(endpoint, self.plane.clock()):
            self.plane.on_ejection(cluster)

    def report_status(self, cluster: Cluster, status: int, now: float) -> None:
        """Tell outlier detection what the endpoint answered."""
        endpoint = self.endpoint
        if cluster.outlier is None or endpoint is None or endpoint.removed:
            return
        if cluster.outlier.on_status(endpoint, status, now):
            self.plane.on_ejection(cluster)

    def may_repeat(self) -> bool:
        """Whether the request may reach an endpoint twice (RFC 9110 section 9.2.2)."""
        return self.head.method in IDEMPOTENT

    def may_retry(self) -> bool:
        """Whether another try is possible and allowed; takes a place in the budget if so."""
        route, cluster = self.route, self.cluster
        assert route is not None
        assert cluster is not None
        if self.attempt > route.retry.attempts or not self.replayable or self.responding:
            return False
        if self.budget is not None:
            return True
        if not cluster.retry_budget.try_acquire():
            self.plane.counters["upstream_retries_over_budget"] += 1
            self.over_budget = True
            return False
        self.budget = cluster.retry_budget
        return True

    def retry(self, *, at_once: bool = False) -> None:
        """Try again, after a pause unless the endpoint could not even be reached."""
        route = self.route
        assert route is not None
        self.plane.counters["upstream_retries"] += 1
        self.upstream = None
        self.try_deadline = 0.0
        if route.retry.ignore_previous_hosts and self.endpoint is not None and self.endpoint not in self.tried:
            self.tried = (*self.tried, self.endpoint)
        if at_once:
            self.try_endpoint()
            return
        delay = route.retry.backoff_s(self.attempt, self.plane.random())
        self.backoff = self.plane.loop.call_later(delay, self._try_again)

    def _try_again(self) -> None:
        self.backoff = None
        self.try_endpoint()

    # -- the end

    def end_try(self) -> None:
        """The present try no longer loads its endpoint."""
        if self.trying:
            self.trying = False
            assert self.endpoint is not None
            self.endpoint.active -= 1

    def drop_upstream(self) -> None:
        """Give up on the present try, whatever it waits for."""
        upstream, self.upstream = self.upstream, None
        self.waiting_for = None
        if self.is_pending:
            self.is_pending = False
            assert self.cluster is not None
            self.plane.breaker(self.cluster).leave(self)
        if self.backoff is not None:
            self.backoff.cancel()
            self.backoff = None
        if upstream is not None:
            upstream.detach()
        self.end_try()

    def end_tries(self) -> None:
        """Give back what the tries hold."""
        if self.cluster is not None:
            self.cluster.active -= 1
        if self.budget is not None:
            self.budget.release()
            self.budget = None

# SPDX-License-Identifier: Apache-2.0
"""One request on its way: from the judged head to the last byte of the answer.

An `Exchange` stands between a `Downstream` and, one after the other, the `Upstream` connections that try to answer. Its life:

    route ──▶ local answer ─────────────────────────────────────────────▶ finish
      │
      └▶ try: pick endpoint ──▶ pooled or new connection ──▶ send head and body ──▶ answer head ──▶ body ──▶ finish
           ▲                                                    │ failed, or a status to retry
           └──────────────── back-off ◀── retry allowed? ◀──────┘

What makes a retry possible: nothing of an answer has gone downstream, the request body so far is still in `replay` (up to
replay_buffer_bytes), the policy asks for it, attempts are left and the cluster's budget has room. Apart from that policy, a request
that met a pooled connection which was closing just then is sent once more on a new one, if it may be repeated.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from acmgproxy.h1.build import informational_head
from acmgproxy.h1.chunked import LAST_CHUNK, encode_chunk
from acmgproxy.h1.request import CHUNKED, IDEMPOTENT
from acmgproxy.io.heads import downstream_head, upstream_head
from acmgproxy.replies import Failure

if TYPE_CHECKING:
    import asyncio

    from acmgproxy.dataplane import DataPlane
    from acmgproxy.h1.request import RequestHead
    from acmgproxy.h1.response import ResponseHead
    from acmgproxy.io.downstream import Downstream
    from acmgproxy.io.pool import Pool
    from acmgproxy.io.upstream import Upstream
    from acmgproxy.replies import LocalReply
    from routing.cluster import Cluster, Endpoint
    from routing.retry import RetryBudget
    from routing.table import Destination, Route

__all__ = ["Exchange"]

_FAILURES = {
    "connect-failure": Failure.CONNECTION_FAILURE,
    "reset": Failure.CONNECTION_TERMINATION,
    "protocol-error": Failure.UPSTREAM_PROTOCOL_ERROR,
    "per-try-timeout": Failure.UPSTREAM_PER_TRY_TIMEOUT,
}
"""How an upstream can fail before its answer, and what the client gets when nothing can be retried."""


class Exchange:
    """A request, its tries and its answer.

    Attributes:
        started: monotonic seconds when the head was judged.
        attempt: tries begun, from 1; `trying` while one is under way.
        request_done: the whole request has come.
        responding: bytes of an answer have gone downstream.
        status, flags, detail: for metrics and the access log.
        received_bytes, sent_bytes: body bytes from and to the client.
        request_deadline, try_deadline: monotonic seconds, 0.0 for none.
    """

    # values of a new exchange live on the class: most requests never change most of them
    route: Route | None = None
    destination: Destination | None = None
    cluster: Cluster | None = None
    endpoint: Endpoint | None = None
    upstream: Upstream | None = None
    attempt = 0
    trying = False
    waiting_for: Pool | None = None
    replay_size = 0
    replayable = True
    replayed = False
    request_done = False
    responding = False
    finished = False
    out_chunked = False
    close_after = False
    status = 0
    flags = "-"
    detail = "via_upstream"
    received_bytes = 0
    sent_bytes = 0
    request_deadline = 0.0
    try_deadline = 0.0
    active_at = 0.0
    sent_at = 0.0
    upstream_time_ms = -1
    expects_continue = False
    budget: RetryBudget | None = None
    backoff: asyncio.TimerHandle | None = None
    tried: tuple[Endpoint, ...] = ()
    path = b""
    request_id = b""

    def __init__(self, plane: DataPlane, downstream: Downstream, head: RequestHead, now: float) -> None:
        self.plane = plane
        self.downstream = downstream
        self.head = head
        self.started = now
        self.replay: list[bytes] = []

    def __repr__(self) -> str:
        return f"Exchange({self.head!r}, attempt={self.attempt}, status={self.status}, flags={self.flags!r})"

    # -- the request

    def begin(self) -> None:
        """Find the route and act on it."""
        head, downstream, plane = self.head, self.downstream, self.plane
        if head.body_length == 0:
            self.request_done = True
        if self.started + plane.stream_idle_s < downstream.wake:
            downstream.wake_by(self.started + plane.stream_idle_s)
        route = plane.table.match(downstream.listener, head, downstream.caller)
        if route is None:
            self.fail(Failure.NO_ROUTE)
            return
        self.route = route
        if route.reply is not None:
            status, fields, body = route.reply.render(head, downstream.local_port)
            self.detail = "direct_response"
            self._answer(status, fields, body)
            return
        destination = route.single or route.pick(plane.random())
        self.destination = destination
        cluster = destination.cluster
        if cluster is None:
            self.fail(Failure.NO_CLUSTER)
            return
        self.cluster = cluster
        cluster.active += 1
        self.expects_continue = head.expects_continue and not self.request_done
        if self.request_done:
            self._start_timeout()
        self._try()

    def on_request_body(self, data: bytes) -> None:
        """Take body data from the client."""
        self.received_bytes += len(data)
        if self.finished:
            return
        upstream = self.upstream
        if self.replayable:
            self.replay.append(data)
            self.replay_size += len(data)
            if self.replay_size > self.plane.settings.replay_buffer_bytes:
                if upstream is None:
                    self.downstream.block_reading(self)  # until a connection takes what has come
                else:
                    self._forget_replay()
        if upstream is not None:
            upstream.transport.write(encode_chunk(data) if self.head.body_length == CHUNKED else data)

    def on_request_end(self) -> None:
        """The whole request has come: the route's timeout starts (as Envoy's does)."""
        self.request_done = True
        if self.finished:
            return
        if self.upstream is not None and self.head.body_length == CHUNKED:
            self.upstream.transport.write(LAST_CHUNK)
        self._start_timeout()

    def on_downstream_lost(self) -> None:
        """The client has gone: stop the upstream, answer nobody."""
        if self.finished:
            return
        self.flags = "DC"
        self.detail = "downstream_remote_disconnect"
        self._drop_upstream()
        self._finish()

    def on_downstream_invalid(self) -> None:
        """The client broke off its own request by sending an invalid body; the connection answers and closes."""
        self.flags = "DPE"
        self.detail = "http1.codec_error"
        self.status = self.status or 400
        self._drop_upstream()
        self._finish()

    def _start_timeout(self) -> None:
        assert self.route is not None
        timeout_s = self.route.timeout_s
        if timeout_s:
            now = self.plane.clock() if self.received_bytes else self.started
            self.request_deadline = due = now + timeout_s
            if due < self.downstream.wake:
                self.downstream.wake_by(due)

    # -- a try

    def _try(self) -> None:
        """Send the request to an endpoint, over a pooled connection or a new one."""
        cluster, plane = self.cluster, self.plane
        assert cluster is not None
        endpoint = cluster.pick(plane.rng, self.tried)
        if endpoint is None:
            self.fail(Failure.NO_HEALTHY_UPSTREAM)
            return
        self.attempt += 1
        self.endpoint = endpoint
        self.trying = True
        endpoint.active += 1
        pool = endpoint.pool or plane.open_pool(cluster, endpoint)
        upstream = pool.take(must_be_alive=not self._may_repeat()) if not self.replayed else None
        if upstream is not None:
            self._send(upstream)
            return
        self.waiting_for = pool
        pool.connect(self)

    def on_connected(self, upstream: Upstream) -> None:
        """A connection is there; this exchange may have ended meanwhile."""
        if self.waiting_for is not upstream.pool:
            upstream.pool.give_back(upstream)
            return
        self.waiting_for = None
        self._send(upstream)

    def on_connect_failed(self, pool: Pool, error: Exception) -> None:
        """The endpoint cannot be reached."""
        if self.waiting_for is not pool:
            return
        self.waiting_for = None
        self._on_try_failed("connect-failure", str(error) or type(error).__name__)

    def _send(self, upstream: Upstream) -> None:
        self.upstream = upstream
        upstream.begin(self)
        self.sent_at = now = self.plane.clock()
        assert self.route is not None
        per_try_s = self.route.retry.per_try_timeout_s
        if per_try_s:
            self.try_deadline = due = now + per_try_s
            if due < self.downstream.wake:
                self.downstream.wake_by(due)
        data = upstream_head(self)
        if self.head.body_length:
            data = self._with_body(data)
        upstream.transport.write(data)

    def _with_body(self, head: bytes) -> bytes:
        """Put the body that has come behind the head, and let the rest come."""
        pieces = [head]
        if self.head.body_length == CHUNKED:
            pieces += map(encode_chunk, self.replay)
            if self.request_done:
                pieces.append(LAST_CHUNK)
        else:
            pieces += self.replay
        if self.replay_size > self.plane.settings.replay_buffer_bytes:
            self._forget_replay()
        if self.expects_continue:
            self.expects_continue = False
            if not self.received_bytes:
                self.downstream.send_continue()
        self.downstream.unblock_reading(self)
        return b"".join(pieces)

    def _forget_replay(self) -> None:
        self.replayable = False
        self.replay = []

    # -- what the upstream connection reports

    def on_informational(self, head: ResponseHead) -> None:
        """Relay 103 to clients that know it; 100 has been answered here, the rest means nothing to a client."""
        if head.status == 103 and self.head.minor and not self.responding:
            self.downstream.write(informational_head(head))

    def on_response(self, head: ResponseHead, body: bytes, complete: bool) -> None:
        """Relay the final head and what has come of the body, or try again."""
        route, destination, upstream = self.route, self.destination, self.upstream
        assert route is not None
        assert destination is not None
        assert upstream is not None
        self.upstream_time_ms = int(1000 * (self.plane.clock() - self.sent_at))
        if route.retry.attempts and route.retry.on_status(head.status, head) and self._may_retry("status"):
            upstream.release(clean=complete and self.request_done)
            self._end_try()
            self._retry()
            return
        self.status = head.status
        self.try_deadline = 0.0
        self.responding = True
        downstream = self.downstream
        minor = self.head.minor
        close = not self._keeps_connection()
        if not complete and head.body_length < 0:
            if minor:
                self.out_chunked = True
            else:
                close = True  # HTTP/1.0 knows the end of such a body by the end of the connection only
        self.close_after = close
        if complete and head.body_length < 0:
            head.content_length = len(body)  # the whole of it is here, so its length is known
        data = downstream_head(self, head, close=close)
        if body:
            data += encode_chunk(body) if self.out_chunked else body
        if complete:
            self.sent_bytes = len(body)
            downstream.write(data)
            self._complete()
            return
        self.active_at = self.plane.clock()
        self.sent_bytes = len(body)
        downstream.write(data)
        downstream.hold_upstream(upstream)

    def on_body(self, data: bytes) -> None:
        """Relay body data."""
        self.sent_bytes += len(data)
        self.active_at = self.plane.clock()
        self.downstream.write(encode_chunk(data) if self.out_chunked else data)

    def on_body_end(self, data: bytes) -> None:
        """Relay the last of the body and its end."""
        self.sent_bytes += len(data)
        if self.out_chunked:
            data = encode_chunk(data) + LAST_CHUNK if data else LAST_CHUNK
        if data:
            self.downstream.write(data)
        self._complete()

    def on_upstream_failed(self, upstream: Upstream, kind: str, reason: str) -> None:
        """The connection is gone, or what it said is no HTTP."""
        if self.finished or self.upstream is not upstream:
            return
        self.upstream = None
        self.plane.counters["upstream_resets"] += 1
        if self.responding:
            self._end_try()
            self._cut("UPE" if kind == "protocol-error" else "UC", f"upstream_reset_after_response_started{{{reason}}}")
            return
        stale = kind == "reset" and upstream.requests > 1 and not upstream.answered
        if stale and not self.replayed and self.replayable and self._may_repeat():
            # the pooled connection was closing as the request went out: no failure of the endpoint, no retry of the policy
            self.replayed = True
            self.plane.counters["upstream_replays"] += 1
            self._end_try()
            self.attempt -= 1
            self._try()
            return
        self._on_try_failed(kind, reason)

    def on_upstream_full(self) -> None:
        """The endpoint does not keep up with the request body."""
        self.downstream.block_reading(self)

    def on_upstream_drained(self) -> None:
        """The endpoint takes more of the request body."""
        self.downstream.unblock_reading(self)

    # -- failing and retrying

    def on_wake(self, now: float) -> float:
        """Act on a time limit that has passed. Returns the next one."""
        if self.request_deadline and now >= self.request_deadline:
            self.request_deadline = 0.0
            self._time_out(Failure.UPSTREAM_TIMEOUT)
        elif self.try_deadline and now >= self.try_deadline:
            self._time_out_try()
        elif now >= self._idle_deadline():
            self._time_out(Failure.STREAM_IDLE_TIMEOUT)
        return min(self.request_deadline or inf, self.try_deadline or inf, self._idle_deadline())

    def _idle_deadline(self) -> float:
        """When the exchange counts as idle: nothing has moved either way since."""
        last = max(self.active_at, self.started, self.downstream.read_at)
        return last + self.plane.stream_idle_s

    def _time_out_try(self) -> None:
        self.try_deadline = 0.0
        upstream, self.upstream = self.upstream, None
        if upstream is not None:
            upstream.detach()
        self.plane.counters["upstream_per_try_timeouts"] += 1
        self._on_try_failed("per-try-timeout", "per try timeout")

    def _time_out(self, failure: Failure) -> None:
        self.plane.counters["request_timeouts"] += 1
        self._drop_upstream()
        if self.responding:
            self._cut(failure.value.flag, failure.value.detail)
        else:
            self.fail(failure)

    def _on_try_failed(self, kind: str, reason: str) -> None:
        """A try ended without an answer: try again or say so."""
        route = self.route
        assert route is not None
        self._end_try()
        if route.retry.attempts and kind != "protocol-error" and route.retry.on_reset(kind) and self._may_retry(kind):  # type: ignore[arg-type]
            self._retry(at_once=kind == "connect-failure")
            return
        reply = _FAILURES[kind].value
        exhausted = route.retry.attempts and self.attempt > route.retry.attempts
        self._reply(reply, flags=reply.flag + ",URX" if exhausted else reply.flag, reason=reason)

    def _may_repeat(self) -> bool:
        return self.head.method in IDEMPOTENT

    def _may_retry(self, kind: str) -> bool:
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
            return False
        self.budget = cluster.retry_budget
        return True

    def _retry(self, *, at_once: bool = False) -> None:
        route = self.route
        assert route is not None
        self.plane.counters["upstream_retries"] += 1
        self.upstream = None
        self.try_deadline = 0.0
        if route.retry.ignore_previous_hosts and self.endpoint is not None and self.endpoint not in self.tried:
            self.tried = (*self.tried, self.endpoint)
        if at_once:
            self._try()
            return
        delay = route.retry.backoff_s(self.attempt, self.plane.random())
        self.backoff = self.plane.loop.call_later(delay, self._try_again)

    def _try_again(self) -> None:
        self.backoff = None
        self._try()

    def fail(self, failure: Failure) -> None:
        """Answer in the upstream's place."""
        self._reply(failure.value, flags=failure.value.flag)

    def _reply(self, reply: LocalReply, *, flags: str, reason: str = "") -> None:
        self.flags = flags
        self.detail = f"{reply.detail[:-1]}|{reason}}}" if reason and reply.detail.endswith("}") else reply.detail
        fields = [(b"content-type", b"text/plain")] if reply.body else []
        self._answer(reply.status, fields, reply.body)

    def _answer(self, status: int, fields: list[tuple[bytes, bytes]], body: bytes) -> None:
        """Send a local answer and finish."""
        self.status = status
        self.responding = True
        self.sent_bytes = len(body)
        close = not self._keeps_connection() and not self.downstream.can_drain_body()
        self.close_after = close
        program = (
            self.destination.response_ops if self.destination is not None else self.route.response_ops if self.route else None
        )
        self.downstream.write_local(status, fields, body, program, close=close)
        self._finish()

    def _cut(self, flags: str, detail: str) -> None:
        """End an answer that cannot be completed so that the client sees it: never a final chunk, never a clean end."""
        self.flags = flags
        self.detail = detail
        self.close_after = True
        self.downstream.abort_answer(close_delimited=not self.head.minor)
        self._finish()

    # -- the end

    def _keeps_connection(self) -> bool:
        return self.head.keep_alive and self.request_done and not self.plane.draining

    def _complete(self) -> None:
        """The upstream's answer has gone out whole."""
        upstream, self.upstream = self.upstream, None
        assert upstream is not None
        upstream.release(clean=self.request_done)
        self._end_try()
        self._finish()

    def _drop_upstream(self) -> None:
        """Give up on the present try."""
        upstream, self.upstream = self.upstream, None
        self.waiting_for = None
        if self.backoff is not None:
            self.backoff.cancel()
            self.backoff = None
        if upstream is not None:
            upstream.detach()
        self._end_try()

    def _end_try(self) -> None:
        if self.trying:
            self.trying = False
            assert self.endpoint is not None
            self.endpoint.active -= 1

    def _finish(self) -> None:
        self.finished = True
        if self.cluster is not None:
            self.cluster.active -= 1
        if self.budget is not None:
            self.budget.release()
            self.budget = None
        self.plane.record(self)
        self.downstream.on_exchange_finished(self)

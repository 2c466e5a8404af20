# SPDX-License-Identifier: Apache-2.0

"""One request on its way: from the judged head to the last byte of the answer.

An `Exchange` stands between a `Downstream` and, one after the other, the `Upstream` connections that try to answer:

    route ──▶ local answer ───────────────────────────────────────────────▶ finish
      └▶ filters (fault, CORS) ──▶ cluster by weight ──▶ tries ──▶ relay ──▶ finish
                 └▶ answer, delay         (see `tries`)     │ └▶ tunnel ──▶ finish
                                                            └ verdict: local answer

A request keeps the route it began with, whatever is configured meanwhile.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from acmgproxy.h1.build import informational_head
from acmgproxy.h1.chunked import LAST_CHUNK, encode_chunk
from acmgproxy.h1.request import CHUNKED
from acmgproxy.io.breaker import admits_request
from acmgproxy.io.heads import downstream_head, switching_head, upstream_head
from acmgproxy.io.mirror import send_mirrors
from acmgproxy.io.tries import Tries
from acmgproxy.io.tunnel import Tunnel
from acmgproxy.replies import Failure, join_flags
from routing.filters import Delayed

if TYPE_CHECKING:
    from acmgproxy.h1.response import ResponseHead
    from acmgproxy.io.upstream import Upstream
    from acmgproxy.replies import LocalReply
    from acmgproxy.tracing import Traced
    from routing.cluster import Cluster
    from routing.filters import Answer
    from routing.headers import HeaderProgram
    from routing.specs import VirtualHostSpec
    from routing.table import Destination, Route

__all__ = ["Exchange"]


class Exchange(Tries, eq=False):
    """A request, its tries and its answer.

    Attributes:
        started: monotonic seconds when the head was judged.
        request_done: the whole request has come.
        responding: bytes of an answer have gone downstream.
        is_last: the client has closed its side after this request.
        upgrade: the protocol that the client may be switched to, b"" for none.
        added_lines, dropped_names: what filters and consistent hashing do to the answer's fields.
        status, flags, detail: for metrics and the access log.
        received_bytes, sent_bytes: body bytes from and to the client.
        request_deadline: monotonic seconds, 0.0 for none.
        traced: the request's span, None for most.
    """

    finished: bool = False
    out_chunked: bool = False
    close_after: bool = False
    is_last: bool = False
    is_delayed: bool = False
    is_mirrored: bool = False
    status: int = 0
    flags: str = "-"
    detail: str = "via_upstream"
    received_bytes: int = 0
    sent_bytes: int = 0
    request_deadline: float = 0.0
    active_at: float = 0.0
    upstream_time_ms: int = -1
    expects_continue: bool = False
    upgrade: bytes = b""
    added_lines: tuple[bytes, ...] = ()
    dropped_names: frozenset[bytes] = frozenset()
    request_id: bytes = b""
    traced: Traced | None = None

    def __repr__(self) -> str:
        return f"Exchange({self.head!r}, attempt={self.attempt}, status={self.status}, flags={self.flags!r})"

    @property
    def requested_host(self) -> VirtualHostSpec | None:
        """What was asked for: the host of the route, without one that of the listener, None for no known host."""
        return self.route.virtual_host.spec if self.route is not None else self.downstream.listener_host

    # -- the request

    def begin(self) -> None:
        """Find the route and act on it."""
        head, downstream, plane = self.head, self.downstream, self.plane
        if head.body_length == 0:
            self.request_done = True
        if self.started + plane.stream_idle_s < downstream.wake:
            downstream.wake_by(self.started + plane.stream_idle_s)
        if plane.sheds_requests:
            plane.counters["overload_requests_shed"] += 1
            self.fail(Failure.OVERLOADED)
            return
        self.route = route = plane.table.match(downstream.listener, head, downstream.caller)
        if plane.tracing is not None:
            self.traced = plane.trace(self)
        if route is None:
            self.fail(Failure.NO_ROUTE)
            return
        if plane.noting:
            plane.note_route(route)
        if route.reply is not None:
            status, fields, body = route.reply.render(head, downstream.local_port)
            self.detail = "direct_response"
            self._answer(status, fields, body)
        elif route.filters:
            self._filter(route)
        else:
            self._forward(route)

    def _filter(self, route: Route) -> None:
        """Note what the route's filters do to the answer, and ask them about the request."""
        for one in route.filters:
            lines = one.on_response(self.head)
            if lines:
                self.added_lines += lines
                self.dropped_names |= one.response_drop
        self._ask_filters(route, 0)

    def _ask_filters(self, route: Route, first: int) -> None:
        """Ask the filters from the `first` on; the last word is an answer, a delay, or to go on."""
        for number, one in enumerate(route.filters[first:], start=first):
            verdict = one.on_request(self.head, self.plane.random)
            if isinstance(verdict, Delayed):
                self.is_delayed = True
                self.plane.counters["faults_delayed"] += 1
                self.backoff = self.plane.loop.call_later(verdict.seconds, self._after_delay, route, verdict.then, number + 1)
                return
            if verdict is not None:
                self._answer_for_filter(verdict)
                return
        self._forward(route)

    def _after_delay(self, route: Route, then: Answer | None, following: int) -> None:
        self.backoff = None
        if then is not None:
            self._answer_for_filter(then)
        else:
            self._ask_filters(route, following)

    def _answer_for_filter(self, answer: Answer) -> None:
        self.flags = answer.flag
        self.detail = answer.detail
        self.plane.counters["faults_aborted"] += answer.flag == "FI"
        self.added_lines = ()  # what a filter answers is complete
        self._answer(answer.status, answer.fields, answer.body)

    def _forward(self, route: Route) -> None:
        """Choose the destination and begin to try."""
        head, plane = self.head, self.plane
        destination = route.single or route.pick(plane.random())
        self.destination = destination
        cluster = destination.cluster
        if cluster is None:
            self.fail(Failure.NO_CLUSTER)
            return
        self.cluster = cluster
        cluster.active += 1
        if head.upgrade and head.upgrade.lower() == b"websocket" and head.method == b"GET" and head.body_length == 0:
            self.upgrade = b"websocket"
        if self.request_done:
            self._start_timeout()
        else:
            self.expects_continue = head.expects_continue
        if cluster.hash is not None:
            self._hash(cluster)
        if cluster.limits is not None and not admits_request(cluster):
            plane.counters["upstream_overflows"] += 1
            self.fail(Failure.OVERFLOW)
            return
        self.try_endpoint()

    def _hash(self, cluster: Cluster) -> None:
        assert cluster.hash is not None
        self.hash_value, cookie = cluster.hash.of(self.head, self.downstream.peer, self.plane.random)
        if cookie is not None:
            self.added_lines = (*self.added_lines, cookie)

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
        if self.finished or self.cluster is None:
            return
        self._start_timeout()
        if self.upstream is not None:
            if self.head.body_length == CHUNKED:
                self.upstream.transport.write(LAST_CHUNK)
            self.start_try_timeout()
            assert self.route is not None
            if self.route.mirrors:
                self._mirror(self.route)

    def on_downstream_lost(self) -> None:
        """The client has gone: stop the upstream, answer nobody."""
        if self.finished:
            return
        self.flags = "DC"
        self.detail = "downstream_remote_disconnect"
        self.drop_upstream()
        self._finish()

    def on_downstream_invalid(self) -> None:
        """The client broke off its own request by sending an invalid body; the connection answers and closes."""
        self.flags = "DPE"
        self.detail = "http1.codec_error"
        self.status = self.status or 400
        self.drop_upstream()
        self._finish()

    def _start_timeout(self) -> None:
        assert self.route is not None
        timeout_s = self.route.timeout_s
        if timeout_s:
            now = self.plane.clock() if self.received_bytes or self.is_delayed else self.started
            self.request_deadline = due = now + timeout_s
            if due < self.downstream.wake:
                self.downstream.wake_by(due)

    # -- sending it

    def send(self, upstream: Upstream) -> None:
        """Send the head and what there is of the body."""
        upstream.begin(self)
        data = upstream_head(self)
        if self.head.body_length:
            upstream.transport.write(self._with_body(data))
        else:
            self.plane.outbox.send(upstream.transport, data)
        route = self.route
        assert route is not None
        if route.mirrors and self.request_done:
            self._mirror(route)

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

    def _mirror(self, route: Route) -> None:
        """Send copies of the complete request, however often it is tried; one that was too large to keep is not copied."""
        if self.is_mirrored:
            return
        self.is_mirrored = True
        if self.replayable and not self.upgrade:
            send_mirrors(self)
        else:
            self.plane.counters["mirrors_skipped"] += len(route.mirrors)

    # -- what the upstream connection reports

    def on_informational(self, head: ResponseHead) -> None:
        """Relay 103 to clients that know it; 100 has been answered here, the rest means nothing to a client."""
        if head.status == 103 and self.head.minor and not self.responding:
            self.downstream.write(informational_head(head))

    def on_switch(self, head: ResponseHead, data: bytes) -> bool:
        """The upstream says 101. Returns False when that was not asked for."""
        upstream, cluster = self.upstream, self.cluster
        if not self.upgrade or head.upgrade.lower() != self.upgrade:
            return False
        assert upstream is not None
        assert cluster is not None
        now = self.plane.clock()
        self.upstream_time_ms = int(1000 * (now - self.sent_at))
        if cluster.outlier is not None:
            self.report_status(cluster, 101, now)
        self.status = 101
        self.responding = True
        self.close_after = True
        self.request_deadline = self.try_deadline = 0.0
        self.plane.counters["tunnels_opened"] += 1
        self.downstream.write(switching_head(self, head))
        self.downstream.hold_upstream(upstream)
        Tunnel(self, self.downstream, upstream).open(data)
        return True

    def on_tunnel_closed(self, received_bytes: int, sent_bytes: int) -> None:
        """Both sides of the tunnel have ended."""
        self.received_bytes += received_bytes
        self.sent_bytes += sent_bytes
        self.upstream = None
        self.end_try()
        self._finish()

    def on_response(self, head: ResponseHead, body: bytes, complete: bool) -> None:
        """Relay the final head and what has come of the body, or try again."""
        route, cluster, upstream = self.route, self.cluster, self.upstream
        assert route is not None
        assert cluster is not None
        assert upstream is not None
        now = self.plane.clock()
        self.upstream_time_ms = int(1000 * (now - self.sent_at))
        if cluster.outlier is not None:
            self.report_status(cluster, head.status, now)
        if head.status >= 500:
            upstream.pool.failures += 1
        if route.retry.attempts and route.retry.on_status(head.status, head):
            if self.may_retry():
                upstream.release(clean=complete and self.request_done)
                self.end_try()
                self.retry()
                return
            if self.attempt > route.retry.attempts:
                self.flags = "URX"
            elif self.over_budget:
                self.flags = "UO"
        self._relay(head, body, complete, upstream)

    def _relay(self, head: ResponseHead, body: bytes, complete: bool, upstream: Upstream) -> None:
        """Send the head and the first of the body, in one piece."""
        self.status = head.status
        self.try_deadline = 0.0
        self.responding = True
        downstream = self.downstream
        close = not self._keeps_connection()
        length = None
        if head.body_length < 0:
            if complete:
                length = len(body)  # a body without a length that is here as a whole has one
            elif self.head.minor:
                self.out_chunked = True
            else:
                close = True  # HTTP/1.0 knows the end of such a body by the end of the connection only
        self.close_after = close
        data = downstream_head(self, head, close=close, length=length)
        if body:
            data += encode_chunk(body) if self.out_chunked else body
        self.sent_bytes = len(body)
        if complete:
            self.plane.outbox.send(downstream.transport, data)
            self._complete()
            return
        downstream.write(data)
        self.active_at = self.plane.clock()
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
            self.end_try()
            self._cut("UPE" if kind == "protocol-error" else "UC", f"upstream_reset_after_response_started{{{reason}}}")
        elif kind == "protocol-error":
            self.on_protocol_error(reason)
        elif self.is_stale(upstream, kind):
            self.replay_on_new_connection()
        else:
            self.on_try_failed("reset", reason)

    def on_upstream_full(self) -> None:
        """The endpoint does not keep up with the request body."""
        self.downstream.block_reading(self)

    def on_upstream_drained(self) -> None:
        """The endpoint takes more of the request body."""
        self.downstream.unblock_reading(self)

    # -- time limits

    def on_wake(self, now: float) -> float:
        """Act on a time limit that has passed. Returns the next one."""
        if self.request_deadline and now >= self.request_deadline:
            self.request_deadline = 0.0
            self._time_out(Failure.UPSTREAM_TIMEOUT)
        elif self.try_deadline and now >= self.try_deadline:
            self.time_out_try()
        elif now >= self._idle_deadline():
            self._time_out(Failure.STREAM_IDLE_TIMEOUT if self.request_done else Failure.REQUEST_IDLE_TIMEOUT)
        return min(self.request_deadline or inf, self.try_deadline or inf, self._idle_deadline())

    def _idle_deadline(self) -> float:
        """When the exchange counts as idle: nothing has moved either way since."""
        last = max(self.active_at, self.started, self.downstream.read_at)
        return last + self.plane.stream_idle_s

    def _time_out(self, failure: Failure) -> None:
        self.plane.counters["request_timeouts"] += 1
        if self.upstream is not None and not self.responding and self.request_done:
            self.report_failure()
        self.drop_upstream()
        if self.responding:
            self._cut(failure.value.flag, failure.value.detail)
        else:
            self.fail(failure)

    # -- local answers

    def fail(self, failure: Failure) -> None:
        """Answer in the upstream's place."""
        self.give_up(failure)

    def give_up(self, failure: Failure, *, exhausted: bool = False, reason: str = "") -> None:
        """Answer in the upstream's place. `exhausted`: retries were allowed and are used up."""
        reply: LocalReply = failure.value
        self.flags = join_flags(reply.flag, "URX" if exhausted else "UO" if self.over_budget else "")
        self.detail = f"{reply.detail[:-1]}|{reason}}}" if reason and reply.detail.endswith("}") else reply.detail
        fields = [(b"content-type", b"text/plain")] if reply.body else []
        if failure is Failure.OVERFLOW:
            fields.append((b"x-envoy-overloaded", b"true"))
        self._answer(reply.status, fields, reply.body)

    def _answer(self, status: int, fields: list[tuple[bytes, bytes]], body: bytes) -> None:
        """Send a local answer and finish."""
        self.status = status
        self.responding = True
        self.sent_bytes = len(body)
        close = not self._keeps_connection() and not self.downstream.can_drain_body()
        self.close_after = close
        self.downstream.write_local(status, fields, body, self._response_program(), close=close)
        self._finish()

    def _response_program(self) -> HeaderProgram | None:
        destination: Destination | None = self.destination
        if destination is not None:
            return destination.response_ops
        return self.route.response_ops if self.route is not None and self.flags == "-" else None

    def _cut(self, flags: str, detail: str) -> None:
        """End an answer that cannot be completed so that the client sees it: never a final chunk, never a clean end."""
        self.flags = flags
        self.detail = detail
        self.close_after = True
        self.downstream.abort_answer(close_delimited=not self.head.minor)
        self._finish()

    # -- the end

    def _keeps_connection(self) -> bool:
        if self.downstream.worn_out or self.plane.closes_connections:
            return False
        return self.head.keep_alive and not self.is_last and self.request_done

    def _complete(self) -> None:
        """The upstream's answer has gone out whole."""
        upstream, self.upstream = self.upstream, None
        assert upstream is not None
        upstream.release(clean=self.request_done)
        self.end_try()
        self._finish()

    def _finish(self) -> None:
        self.finished = True
        if self.is_delayed:
            self.flags = join_flags("DI", self.flags)
        self.end_tries()
        self.plane.record(self)
        self.downstream.on_exchange_finished(self)

# SPDX-License-Identifier: Apache-2.0
"""The fields that the gateway itself puts into heads: who called, which request, which try, how long.

Names and meaning are Envoy's, as Istio's users know them. Header operations of the route come last, so they may remove or replace
what is set here, as in Envoy.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from acmgproxy.h1.build import request_head, response_head
from acmgproxy.h1.fields import TRACE_CONTEXT, without

if TYPE_CHECKING:
    from acmgproxy.h1.response import ResponseHead
    from acmgproxy.io.exchange import Exchange
    from routing.table import Destination, Route

__all__ = ["downstream_head", "switching_head", "upstream_head"]

_ATTEMPT_LINES = tuple(b"x-envoy-attempt-count: %d" % number for number in range(64))
_SERVICE_TIME_LINES = tuple(b"x-envoy-upstream-service-time: %d" % ms for ms in range(1024))


_PLACEHOLDER = b"\0"
"""Stands for the request id in a head that is kept; NUL cannot occur in a head."""

_NOTHING: frozenset[bytes] = frozenset()

_MOST_KEPT = 8
"""Destinations for which one remembered head is kept; a route with more of them is rare."""


def upstream_head(exchange: Exchange) -> bytes:
    """Build the request head for the present try.

    A head that its connection brings again (see REMEMBERED_BYTES) and that goes to the same destination differs from the time
    before in the request id only, so from the second time on the rest is kept.
    """
    head, route, destination = exchange.head, exchange.route, exchange.destination
    assert route is not None
    assert destination is not None
    if not exchange.request_id:
        exchange.request_id = head.request_id or exchange.plane.new_request_id()
    is_plain = route.rewrite is None and destination.request_ops is None and exchange.traced is None
    if exchange.attempt != 1 or exchange.upgrade or not is_plain:
        return _build_upstream_head(exchange, route, destination, exchange.request_id)
    if head.sent is None:
        head.sent = {}
        return _build_upstream_head(exchange, route, destination, exchange.request_id)
    kept = head.sent.get(destination)
    if kept is None:
        before, _, behind = _build_upstream_head(exchange, route, destination, _PLACEHOLDER).partition(_PLACEHOLDER)
        if len(head.sent) >= _MOST_KEPT:
            head.sent.clear()
        kept = head.sent[destination] = (before, behind)
    return kept[0] + exchange.request_id + kept[1]


def _build_upstream_head(exchange: Exchange, route: Route, destination: Destination, request_id: bytes) -> bytes:
    head = exchange.head
    added = [
        *exchange.downstream.forwarded.lines(head),
        b"x-request-id: " + request_id,
        _ATTEMPT_LINES[exchange.attempt if exchange.attempt < 64 else 63],
    ]
    target = head.target
    if route.rewrite is not None:
        path = route.rewrite(head.path)
        if not path.startswith(b"/"):
            path = b"/" + path  # a substitution may take the slash away; origin-form needs it (RFC 9112 section 3.2.1)
        target = path + b"?" + head.query if head.query else path
        if target != head.target:
            added.append(b"x-envoy-original-path: " + head.target)
    if exchange.upgrade:
        added += (b"connection: Upgrade", b"upgrade: " + exchange.upgrade)
    if route.timeout_line:
        added.append(route.timeout_line if exchange.attempt == 1 else _timeout_line(exchange, route))
    host = destination.host_rewrite or head.authority or exchange.downstream.default_authority
    program, drop = destination.request_ops, _NOTHING
    if exchange.traced is not None:
        drop = TRACE_CONTEXT
        added += exchange.traced.lines
    if program is None:
        return request_head(head, target, host, added, drop)
    if program.drop:
        added = [line for line in added if line[: line.index(b":")] not in program.drop]
    if program.lines:
        added.append(program.lines[:-2])
    return request_head(head, target, program.host or host, added, program.drop | drop)


def _timeout_line(exchange: Exchange, route: Route) -> bytes:
    """Say how long a later try may take: what is left of the route's timeout, or the limit of a single try if that is less."""
    limits_s = [route.retry.per_try_timeout_s or inf, route.timeout_s or inf]
    if exchange.request_deadline:
        limits_s.append(exchange.request_deadline - exchange.plane.clock())
    left_ms = max(1, int(1000 * min(limits_s)))  # 0 would say that there is no limit
    return b"x-envoy-expected-rq-timeout-ms: %d" % left_ms


def downstream_head(exchange: Exchange, head: ResponseHead, *, close: bool, length: int | None = None) -> bytes:
    """Build the head of the upstream's answer for the client."""
    elapsed = exchange.upstream_time_ms
    added = [
        b"date: " + (head.date or exchange.plane.http_date()),
        _SERVICE_TIME_LINES[elapsed] if elapsed < 1024 else b"x-envoy-upstream-service-time: %d" % elapsed,
    ]
    added += exchange.added_lines
    assert exchange.destination is not None
    program = exchange.destination.response_ops
    dropped = exchange.dropped_names
    if program is None:
        if dropped:
            return response_head(head, added, minor=exchange.head.minor, close=close, length=length, drop=dropped)
        return response_head(head, added, minor=exchange.head.minor, close=close, length=length)
    if program.drop:
        added = [line for line in added if line[: line.index(b":")] not in program.drop]
    if program.lines:
        added.append(program.lines[:-2])
    return response_head(head, added, minor=exchange.head.minor, close=close, length=length, drop=program.drop | dropped)


def switching_head(exchange: Exchange, head: ResponseHead) -> bytes:
    """Build the head that switches the client to the protocol it asked for (RFC 9110 section 15.2.2)."""
    lines, added = head.lines, [*exchange.added_lines]
    assert exchange.destination is not None
    program = exchange.destination.response_ops
    if program is not None:
        if program.drop:
            lines = without(lines, program.drop)
        if program.lines:
            added.append(program.lines[:-2])
    # whatever the endpoint says of a length is left out: a 1xx answer has no body (RFC 9110 section 15.2)
    switch = (b"connection: Upgrade", b"upgrade: " + exchange.upgrade)
    return b"\r\n".join([b"HTTP/1.1 " + head.status_line, *lines, *added, *switch, b"\r\n"])

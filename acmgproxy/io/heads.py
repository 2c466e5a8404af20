# SPDX-License-Identifier: Apache-2.0
"""The fields that the gateway itself puts into heads: who called, which request, which try, how long.

Names and meaning are Envoy's, as Istio's users know them. Header operations of the route come last, so they may remove or replace
what is set here, as in Envoy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from acmgproxy.h1.build import request_head, response_head

if TYPE_CHECKING:
    from acmgproxy.h1.response import ResponseHead
    from acmgproxy.io.exchange import Exchange

__all__ = ["downstream_head", "upstream_head"]

_NO_NAMES: frozenset[bytes] = frozenset()
_PROTO_LINE = b"x-forwarded-proto: http"
_ATTEMPT_LINES = tuple(b"x-envoy-attempt-count: %d" % number for number in range(64))
_SERVICE_TIME_LINES = tuple(b"x-envoy-upstream-service-time: %d" % ms for ms in range(1024))


def upstream_head(exchange: Exchange) -> bytes:
    """Build the request head for the present try."""
    head, route, destination = exchange.head, exchange.route, exchange.destination
    assert route is not None
    assert destination is not None
    if not exchange.request_id:
        exchange.request_id = head.request_id or exchange.plane.new_request_id()
    added = [
        exchange.downstream.forwarded_line(head),
        _PROTO_LINE,
        b"x-request-id: " + exchange.request_id,
        _ATTEMPT_LINES[exchange.attempt if exchange.attempt < 64 else 63],
    ]
    target = head.target
    if route.rewrite is not None:
        path = route.rewrite(head.path)
        target = path + b"?" + head.query if head.query else path
        if target != head.target:
            added.append(b"x-envoy-original-path: " + head.target)
    if route.timeout_s:
        per_try_s = route.retry.per_try_timeout_s
        expected_s = per_try_s if per_try_s and per_try_s < route.timeout_s else route.timeout_s
        added.append(b"x-envoy-expected-rq-timeout-ms: %d" % (expected_s * 1000))
    host = destination.host_rewrite or head.authority or exchange.downstream.default_authority
    program = destination.request_ops
    if program is None:
        return request_head(head, target, host, added)
    if program.drop:
        added = [line for line in added if line[: line.index(b":")] not in program.drop]
    if program.lines:
        added.append(program.lines[:-2])
    return request_head(head, target, program.host or host, added, program.drop)


def downstream_head(exchange: Exchange, head: ResponseHead, *, close: bool) -> bytes:
    """Build the head of the upstream's answer for the client."""
    elapsed = exchange.upstream_time_ms
    added = [_SERVICE_TIME_LINES[elapsed] if elapsed < 1024 else b"x-envoy-upstream-service-time: %d" % elapsed]
    assert exchange.destination is not None
    program = exchange.destination.response_ops
    if program is None:
        return response_head(head, _NO_NAMES, added, minor=exchange.head.minor, close=close)
    if program.drop:
        added = [line for line in added if line[: line.index(b":")] not in program.drop]
    if program.lines:
        added.append(program.lines[:-2])
    return response_head(head, program.drop, added, minor=exchange.head.minor, close=close)

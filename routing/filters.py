# SPDX-License-Identifier: Apache-2.0
"""Filters: what a route does to a request before it goes to a cluster, and to the answer before it goes to the client.

This is the one seam for them. A route carries its filters, () for most, and a route without any pays nothing. The data plane asks
the filters of a forwarding route in order, before it picks a destination:

* None lets the request go on to the next filter.
* An `Answer` ends it: it is sent as it is, without header operations of the rule.
* `Delayed` asks to wait and then do `then`: answer, or go on with the next filter.

Every answer to a request that passed a filter, upstream's or made here, gets the field lines of its `on_response`; when there are
any, fields named in `response_drop` are taken out first. A filter keeps nothing of a request: what it says depends on the head.

Order and effect are Envoy's as Istio sets it up: fault, then CORS, then routing. So an injected fault answers a preflight too, a
fault is covered neither by the route's timeout nor by retries, and redirects and fixed responses have no filters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias

from routing.headers import field_value
from routing.request import value_test

if TYPE_CHECKING:
    from collections.abc import Callable

    from routing.request import RequestView
    from routing.specs import CorsSpec, FaultSpec, RuleSpec, StringMatch

__all__ = ["Answer", "Cors", "Delayed", "Draw", "Fault", "Filter", "compile_filters"]

Draw: TypeAlias = "Callable[[], float]"
"""A source of random numbers in [0, 1)."""

_NOTHING_DROPPED: frozenset[bytes] = frozenset()


class Answer:
    """An answer made by a filter. `flag` and `detail` are Envoy's response flag ("-" for none) and code detail."""

    __slots__ = ("body", "detail", "fields", "flag", "status")

    def __init__(self, status: int, fields: list[tuple[bytes, bytes]], body: bytes, *, flag: str = "-", detail: str) -> None:
        self.status = status
        self.fields = fields
        self.body = body
        self.flag = flag
        self.detail = detail

    def __repr__(self) -> str:
        return f"Answer({self.status}, {self.detail})"


class Delayed:
    """Wait `seconds`, then `then`: an answer, or None to go on. `flag` is the response flag of a request that was delayed."""

    __slots__ = ("seconds", "then")

    flag = "DI"

    def __init__(self, seconds: float, then: Answer | None) -> None:
        self.seconds = seconds
        self.then = then

    def __repr__(self) -> str:
        return f"Delayed({self.seconds} s, {self.then})"


class Filter(Protocol):
    """See the module."""

    @property
    def response_drop(self) -> frozenset[bytes]:
        """Lower-case names of fields that the lines of `on_response` replace."""

    def on_request(self, head: RequestView, draw: Draw) -> Answer | Delayed | None:
        """Decide what happens to a request."""

    def on_response(self, head: RequestView) -> tuple[bytes, ...]:
        """Return field lines (`name: value`) to add to the answer to the request with this head."""


class Fault:
    """Injects a delay and then an abort, each drawn for itself (VirtualService fault, Envoy HTTPFault)."""

    __slots__ = ("_abort", "_abort_share", "_delay_s", "_delay_share")

    response_drop = _NOTHING_DROPPED

    def __init__(self, spec: FaultSpec) -> None:
        self._delay_s = spec.delay_s
        self._delay_share = spec.delay_percent / 100.0 if spec.delay_s > 0 else 0.0
        self._abort_share = spec.abort_percent / 100.0 if spec.abort_status else 0.0
        plain = [(b"content-type", b"text/plain")]
        self._abort = Answer(spec.abort_status, plain, b"fault filter abort", flag="FI", detail="fault_filter_abort")

    def __repr__(self) -> str:
        delay, abort = self._delay_share, self._abort_share
        return f"Fault(delay {self._delay_s} s for {delay:.4%}, abort with {self._abort.status} for {abort:.4%})"

    def __bool__(self) -> bool:
        return self._delay_share > 0 or self._abort_share > 0

    def on_request(self, head: RequestView, draw: Draw) -> Answer | Delayed | None:
        """Delay, abort, do both or none."""
        delayed = self._delay_share > 0 and draw() < self._delay_share
        abort = self._abort if self._abort_share > 0 and draw() < self._abort_share else None
        return Delayed(self._delay_s, abort) if delayed else abort

    def on_response(self, head: RequestView) -> tuple[bytes, ...]:
        """Add nothing."""
        return ()


class Cors:
    """Answers preflights and tells browsers who may read an answer (VirtualService corsPolicy, Envoy's cors filter).

    A request of an origin that is not allowed goes through as if there were no policy, preflight or not. `*` as allowed methods
    or headers grants what was asked for.

    Raises:
        RegexError: a pattern for origins is not acceptable.
        HeaderError: a value cannot stand in a field.
    """

    __slots__ = ("_anyone", "_asked", "_lines", "_preflight", "_tests", "response_drop")

    def __init__(self, spec: CorsSpec) -> None:
        tests = [_origin_test(match) for match in spec.allow_origins]
        self._anyone = any(test(b"*") for test in tests)  # as in Envoy: `*` itself, or a pattern that accepts it
        self._tests = tests
        credentials = [(b"access-control-allow-credentials", b"true")] if spec.allow_credentials else []
        exposed = [(b"access-control-expose-headers", field_value(spec.expose_headers))] if spec.expose_headers else []
        self._lines = tuple(b"%b: %b" % field for field in credentials + exposed)
        self.response_drop = frozenset({b"access-control-allow-origin"}.union(name for name, _ in credentials + exposed))
        lists = [
            (b"access-control-allow-methods", field_value(spec.allow_methods), b"access-control-request-method"),
            (b"access-control-allow-headers", field_value(spec.allow_headers), b"access-control-request-headers"),
            (b"access-control-max-age", field_value(spec.max_age), b""),
        ]
        fixed = [(name, value) for name, value, asked in lists if value and not (value == b"*" and asked)]
        self._preflight = credentials + fixed + exposed
        self._asked = [(name, asked) for name, value, asked in lists if value == b"*" and asked]

    def __repr__(self) -> str:
        return f"Cors({'any origin' if self._anyone else f'{len(self._tests)} origins'})"

    def on_request(self, head: RequestView, draw: Draw) -> Answer | None:
        """Answer the preflight of an allowed origin."""
        if head.method != b"OPTIONS":
            return None
        origin = self._allowed(head)
        if origin is None or not head.header(b"access-control-request-method"):
            return None
        fields = [(b"access-control-allow-origin", origin), *self._preflight]
        fields += ((name, value) for name, asked in self._asked if (value := head.header(asked)))
        return Answer(200, fields, b"", detail="cors_response")

    def on_response(self, head: RequestView) -> tuple[bytes, ...]:
        """Let an allowed origin read the answer."""
        origin = self._allowed(head)
        return (b"access-control-allow-origin: " + origin, *self._lines) if origin is not None else ()

    def _allowed(self, head: RequestView) -> bytes | None:
        origin = head.header(b"origin")
        if not origin:
            return None
        if self._anyone:
            return origin
        for test in self._tests:
            if test(origin):
                return origin
        return None


def compile_filters(rule: RuleSpec) -> tuple[Filter, ...]:
    """Return the filters of a rule, in the order in which they run; those that can have no effect are left out.

    Raises:
        RegexError, HeaderError: one of them cannot be compiled.
    """
    fault = Fault(rule.fault) if rule.fault is not None else None
    filters: list[Filter] = [fault] if fault else []
    if rule.cors is not None:
        filters.append(Cors(rule.cors))
    return tuple(filters)


def _origin_test(match: StringMatch) -> Callable[[bytes], object]:
    return bool if match.kind == "present" else value_test(match)

# SPDX-License-Identifier: Apache-2.0
"""Spans for sampled requests, by OpenTelemetry (the extra `otel`), sent over OTLP/HTTP.

Without tracing the gateway passes trace contexts on untouched and this module is not even loaded. With it, a request takes part
when its context says "sampled", or when it has none and is drawn; then the gateway makes a span of its own and writes it into the
request's context as the parent of what comes behind. All other requests pass as they are. Contexts are those of W3C Trace Context
and B3 (one field or several); a request goes on with the form it came with, and with W3C's when it came with none.

Sampling is decided before anything of OpenTelemetry is touched, because a span costs about 14 us. Spans are named and tagged as
Envoy's, which is what Istio's users search for. A thread of the library sends them, and drops them when nobody takes them.
"""

from __future__ import annotations

from time import monotonic_ns, time_ns
from typing import TYPE_CHECKING, Any, NamedTuple

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.propagators.b3 import B3MultiFormat, B3SingleFormat
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from acmgproxy.h1.fields import TRACE_CONTEXT

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.propagators.textmap import TextMapPropagator
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span

    from acmgproxy.h1.request import RequestHead
    from acmgproxy.io.exchange import Exchange

__all__ = ["Traced", "Tracing"]

_EXPORT_TIMEOUT_S = 5
_SPANS_WAITING = 2048
"""Finished spans held for a receiver that does not keep up; more are dropped (the library's default)."""

_W3C = TraceContextTextMapPropagator()
_B3_ONE = B3SingleFormat()
_B3_SEVERAL = B3MultiFormat()


class Traced(NamedTuple):
    """What tracing does to a request: its span, how far the wall clock was ahead of the monotonic one as it began, and the lines
    that replace TRACE_CONTEXT.
    """

    span: Span
    offset_ns: int
    lines: tuple[bytes, ...]


class Tracing:
    """Makes spans.

    Args:
        endpoint: URL that takes OTLP over HTTP, such as `http://collector:4318/v1/traces`.
        sampling: fraction of the requests without a context that are traced.
        random: draws from [0, 1).
        service_name: what the spans say they come from.
        exporter: takes the spans in place of `endpoint` (tests).
    """

    def __init__(
        self,
        endpoint: str,
        sampling: float,
        random: Callable[[], float],
        *,
        service_name: str = "acmg-gateway",
        exporter: SpanExporter | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._sampling = sampling
        self._random = random
        self._provider = TracerProvider(
            sampler=ALWAYS_ON, resource=Resource.create({"service.name": service_name}), shutdown_on_exit=False
        )
        sink = exporter or OTLPSpanExporter(endpoint=endpoint, timeout=_EXPORT_TIMEOUT_S)
        self._provider.add_span_processor(BatchSpanProcessor(sink, max_queue_size=_SPANS_WAITING))
        self._tracer = self._provider.get_tracer("acmgproxy")

    def __repr__(self) -> str:
        return f"Tracing({self._endpoint!r}, sampling={self._sampling})"

    def begin(self, head: RequestHead, sampling: float | None = None) -> Traced | None:
        """Begin the span of a request, None for one that is not traced.

        Args:
            head: of the request.
            sampling: what holds for it in the place of the tracer's own.
        """
        form = _form(head)
        if form is None:
            if self._random() >= (self._sampling if sampling is None else sampling):
                return None
            form, parent = _W3C, Context()
        else:
            if not _may_be_sampled(head):
                return None
            parent = form.extract(head, context=Context(), getter=_FIELDS)
            if not trace.get_current_span(parent).get_span_context().trace_flags.sampled:
                return None
        began_ns = time_ns()
        offset_ns = began_ns - monotonic_ns()
        name = f"{head.authority.decode('latin-1') or 'unknown'}/*"  # Envoy's: the route's virtual host and path pattern
        span = self._tracer.start_span(name, context=parent, kind=trace.SpanKind.SERVER, start_time=began_ns)
        carrier: dict[str, str] = {}
        form.inject(carrier, context=trace.set_span_in_context(span, parent))
        lines = tuple(f"{field}: {value}".encode("latin-1") for field, value in carrier.items())
        return Traced(span, offset_ns, lines)

    def end(self, exchange: Exchange) -> None:
        """End the span of a finished request."""
        traced = exchange.traced
        assert traced is not None
        span = traced.span
        span.set_attributes(_attributes(exchange))
        if exchange.status >= 500 or not exchange.status:
            span.set_status(trace.StatusCode.ERROR, exchange.detail)
        span.end(monotonic_ns() + traced.offset_ns)  # as long as it took, whatever became of the wall clock meanwhile

    def close(self) -> None:
        """Send what waits, as far as somebody takes it, and stop."""
        self._provider.shutdown()


class _Fields:
    """Reads a request head as OpenTelemetry's propagators want it."""

    def get(self, carrier: RequestHead, key: str) -> list[str] | None:
        value = carrier.header(key.lower().encode())
        return None if value is None else [value.decode("latin-1")]

    def keys(self, _carrier: RequestHead) -> list[str]:
        return [field.decode() for field in TRACE_CONTEXT]


_FIELDS: Any = _Fields()


def _form(head: RequestHead) -> TextMapPropagator | None:
    """Return how a head carries its context, None if it has none."""
    if head.header(b"traceparent") is not None:
        return _W3C
    if head.header(b"b3") is not None:
        return _B3_ONE
    if head.header(b"x-b3-traceid") is not None:
        return _B3_SEVERAL
    return None


def _may_be_sampled(head: RequestHead) -> bool:
    """Tell cheaply whether a context is clearly not sampled (W3C: the last byte is flags, its lowest bit says "sampled")."""
    parent = head.header(b"traceparent")
    return parent is None or parent[-1:] in b"13579bdf"


def _attributes(exchange: Exchange) -> dict[str, str | int]:
    """Return Envoy's tags of a span."""
    head, endpoint, downstream = exchange.head, exchange.endpoint, exchange.downstream
    authority = head.authority.decode("latin-1")
    return {
        "component": "proxy",
        "guid:x-request-id": (exchange.request_id or head.request_id).decode("latin-1"),
        "http.method": head.method.decode("latin-1"),
        "http.url": f"http://{authority}{head.target.decode('latin-1')}",
        "http.protocol": f"HTTP/1.{head.minor}",
        "http.status_code": exchange.status,
        "user_agent": (head.header(b"user-agent") or b"").decode("latin-1"),
        "peer.address": downstream.peer,
        "request_size": exchange.received_bytes,
        "response_size": exchange.sent_bytes,
        "response_flags": exchange.flags,
        "upstream_cluster": exchange.cluster.name if exchange.cluster is not None else "-",
        "upstream_address": f"{endpoint.address}:{endpoint.port}" if endpoint is not None else "-",
    }

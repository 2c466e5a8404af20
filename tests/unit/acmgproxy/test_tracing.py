# SPDX-License-Identifier: Apache-2.0
"""Facts about spans: who gets one, what the endpoint sees of it, what a receiver is sent."""

from __future__ import annotations

import itertools
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, ClassVar
from unittest import mock

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import StatusCode

from acmgproxy.tracing import Tracing
from routing.specs import ClusterRef, HeaderOps
from tests.protocol.world import REQUEST_ID, World, answer, request
from tests.unit.routing.table_kit import HOST, forward, rule

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from opentelemetry.sdk.trace import ReadableSpan

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = f"traceparent: 00-{TRACE}-{PARENT}-01"
B3_FIELDS = (f"X-B3-TraceId: {TRACE}", f"X-B3-SpanId: {PARENT}", "X-B3-Sampled: 1")


class Spans(SpanExporter):
    def __init__(self) -> None:
        self.all: list[ReadableSpan] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.all += spans
        return SpanExportResult.SUCCESS


class Traced:
    """A world with tracing; `draw` is what its randomness gives."""

    made: ClassVar[list[Traced]] = []

    def __init__(self, *, sampling: float = 0.0, draw: float = 0.5, ops: HeaderOps | None = None) -> None:
        self.world = World(rule("all", action=forward(ClusterRef(cluster="web", request_headers=ops))))
        self.made.append(self)
        self.spans = Spans()
        self.tracing = self.world.plane.tracing = Tracing("", sampling, lambda: draw, exporter=self.spans)

    def ask(self, *fields: str) -> dict[str, str]:
        """Send a request through and return the fields that the endpoint gets."""
        count = len(self.world.accepted)
        client = self.world.client().send(request("GET", "/a?b", *fields))
        upstream = self.world.upstream(count if len(self.world.accepted) > count else -1)
        sent = upstream.take().decode().partition("\r\n\r\n")[0].split("\r\n")[1:]
        upstream.feed(answer(body=b"abc"))
        assert client.take()
        return dict(line.split(": ", 1) for line in sent)

    def finished(self) -> list[ReadableSpan]:
        self.tracing.close()
        return self.spans.all


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    """End the worlds of a test: each has replaced things for the whole process."""
    yield
    while Traced.made:
        Traced.made.pop().world.check()


def test_a_sampled_request_goes_on_with_the_gateway_s_span_as_its_parent() -> None:
    traced = Traced()
    version, trace, parent, flags = traced.ask(SAMPLED, "tracestate: vendor=1")["traceparent"].split("-")
    (span,) = traced.finished()
    assert span.context is not None
    assert span.parent is not None
    assert (version, trace, flags) == ("00", TRACE, "01")
    assert parent == f"{span.context.span_id:016x}" != PARENT
    assert (f"{span.context.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE, PARENT)


@pytest.mark.parametrize("jump_s", [-3600, 3600])
def test_a_span_lasts_as_long_as_its_request_whatever_the_wall_clock_does(jump_s: int) -> None:
    traced = Traced()
    looks, real = itertools.count(), time.time_ns
    with mock.patch("acmgproxy.tracing.time_ns", side_effect=lambda: real() + next(looks) * jump_s * 1_000_000_000):
        traced.ask(SAMPLED)
    (span,) = traced.finished()
    assert span.start_time is not None
    assert span.end_time is not None
    assert 0 <= span.end_time - span.start_time < 60e9


def test_the_trace_state_is_kept() -> None:
    assert Traced().ask(SAMPLED, "tracestate: vendor=1")["tracestate"] == "vendor=1"


@pytest.mark.parametrize(
    "fields",
    [
        (f"traceparent: 00-{TRACE}-{PARENT}-00",),
        ("traceparent: nonsense",),
        ("traceparent: 00-0-0-01",),
        (f"b3: {TRACE}-{PARENT}-0",),
        ("b3: 0",),
        (*B3_FIELDS[:2], "X-B3-Sampled: 0"),
        (),
    ],
)
def test_any_other_request_passes_as_it_is(fields: tuple[str, ...]) -> None:
    traced = Traced(sampling=0.4, draw=0.5)
    got = traced.ask(*fields)
    for field in fields:
        name, value = field.split(": ", 1)
        assert got[name] == value
    assert "traceparent" not in got or fields[0].startswith("traceparent")
    assert traced.finished() == []


def test_a_request_without_a_context_is_drawn() -> None:
    traced = Traced(sampling=0.6, draw=0.5)
    parent = traced.ask()["traceparent"]
    (span,) = traced.finished()
    assert span.context is not None
    assert span.parent is None
    assert parent.startswith(f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-")
    assert int(parent[-2:], 16) & 1


def test_b3_in_one_field_stays_so() -> None:
    traced = Traced()
    got = traced.ask(f"b3: {TRACE}-{PARENT}-1")
    (span,) = traced.finished()
    assert span.context is not None
    assert "traceparent" not in got
    assert got["b3"] == f"{TRACE}-{span.context.span_id:016x}-1"


def test_b3_in_several_fields_stays_so() -> None:
    traced = Traced()
    got = {name.lower(): value for name, value in traced.ask(*B3_FIELDS).items()}
    (span,) = traced.finished()
    assert span.context is not None
    assert (got["x-b3-traceid"], got["x-b3-spanid"]) == (TRACE, f"{span.context.span_id:016x}")
    assert got["x-b3-sampled"] == "1"


def test_a_repeated_head_has_a_span_each_time() -> None:
    traced = Traced()
    parents = {traced.ask(SAMPLED)["traceparent"] for _ in range(4)}
    assert len(parents) == len(traced.finished()) == 4


def test_header_operations_come_last() -> None:
    traced = Traced(ops=HeaderOps(remove=("traceparent",), set=(("x-new", "1"),)))
    got = traced.ask(SAMPLED)
    assert "traceparent" not in got
    assert got["x-new"] == "1"


def test_a_span_says_what_envoy_s_says() -> None:
    traced = Traced()
    traced.ask(SAMPLED, "User-Agent: me")
    (span,) = traced.finished()
    assert span.name == f"{HOST}/*"
    assert dict(span.attributes or {}) == {
        "component": "proxy",
        "guid:x-request-id": REQUEST_ID.decode(),
        "http.method": "GET",
        "http.url": f"http://{HOST}/a?b",
        "http.protocol": "HTTP/1.1",
        "http.status_code": 200,
        "user_agent": "me",
        "peer.address": "10.1.0.1",
        "request_size": 0,
        "response_size": 3,
        "response_flags": "-",
        "upstream_cluster": "web",
        "upstream_address": "10.0.0.1:8080",
    }
    assert span.status.status_code is StatusCode.UNSET
    assert span.resource.attributes["service.name"] == "acmg-gateway"


def test_a_failure_is_an_error_that_says_why() -> None:
    traced = Traced()
    traced.world.set_endpoints()
    traced.world.client().send(request("GET", "/", SAMPLED))
    (span,) = traced.finished()
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "no_healthy_upstream")
    assert span.attributes is not None
    assert span.attributes["upstream_address"] == "-"


class Receiver(HTTPServer):
    """Takes OTLP over HTTP as a collector does."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[ExportTraceServiceRequest] = []
        self.thread = threading.Thread(target=self.serve_forever)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1/traces"

    def stop(self) -> None:
        self.shutdown()
        self.thread.join()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        assert self.path == "/v1/traces"
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.requests.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass


def test_a_collector_gets_them_over_http() -> None:
    receiver = Receiver()
    world = World(rule("all", action=forward("web")), tracing_endpoint=receiver.url, tracing_sampling=0.0)
    world.client().send(request("GET", "/", SAMPLED))
    world.upstream().feed(answer())
    world.plane.stop()
    receiver.stop()
    (sent,) = receiver.requests
    ((span,),) = (scope.spans for scope in sent.resource_spans[0].scope_spans)
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
    assert 0 < span.start_time_unix_nano <= span.end_time_unix_nano
    world.check()


def test_without_an_endpoint_there_is_no_tracing() -> None:
    world = World()
    assert world.plane.tracing is None
    world.client().send(request("GET", "/", SAMPLED))
    assert SAMPLED.encode() in world.upstream().take()
    world.check()

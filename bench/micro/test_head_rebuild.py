# SPDX-License-Identifier: Apache-2.0
"""What it costs to build the heads that go on, from heads already judged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from acmgproxy.h1.build import request_head, response_head
from acmgproxy.h1.limits import Limits
from acmgproxy.h1.request import parse_request_head
from acmgproxy.h1.response import parse_response_head
from bench.load import HEADERS

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

_LIMITS = Limits()
_ADDED = [b"x-forwarded-for: 10.0.0.1", b"x-forwarded-proto: http", b"x-request-id: " + b"a" * 36, b"x-envoy-attempt-count: 1"]
_ANSWER = (
    b"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Mon, 23 Nov 2026 15:00:00 GMT\r\n"
    b"Content-Type: text/plain\r\nContent-Length: 130\r\nConnection: keep-alive\r\n\r\n"
)


@pytest.mark.parametrize("drop", [frozenset[bytes](), frozenset({b"cookie", b"x-tenant"})], ids=["keep", "drop"])
@pytest.mark.parametrize("headers", [0, 10])
def test_request(benchmark: BenchmarkFixture, headers: int, drop: frozenset[bytes]) -> None:
    """The head for the upstream; `drop` is what a route's header operations take out."""
    raw = "\r\n".join(["GET /hello HTTP/1.1", "Host: helloworld:5000", *HEADERS[:headers], "", ""]).encode()
    head = parse_request_head(raw, _LIMITS)
    built = benchmark(request_head, head, b"/hello", b"helloworld:5000", _ADDED, drop)
    assert parse_request_head(built, _LIMITS).host == b"helloworld"


def test_response(benchmark: BenchmarkFixture) -> None:
    """The head for the client, as the hot path builds it."""
    head = parse_response_head(_ANSWER, b"GET", _LIMITS)
    added = [b"x-envoy-upstream-service-time: 1"]
    built = benchmark(lambda: response_head(head, added, minor=1, close=False))
    assert parse_response_head(built, b"GET", _LIMITS).body_length == 130

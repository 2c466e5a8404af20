# SPDX-License-Identifier: Apache-2.0
"""What it costs to parse and judge a head, and what llhttp alone takes of that."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httptools
import pytest

from acmgproxy.h1.limits import Limits
from acmgproxy.h1.request import parse_request_head
from acmgproxy.h1.response import parse_response_head
from bench.load import HEADERS

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

_LIMITS = Limits()
_LINES = ["GET /hello?name=world HTTP/1.1", "Host: helloworld:5000"]
_ANSWER = ["HTTP/1.1 200 OK", "Server: nginx/1.22.1", "Date: Mon, 23 Nov 2026 15:00:00 GMT", "Content-Type: text/plain"]
_CHUNKED_POST = ["POST /hello HTTP/1.1", "Host: helloworld:5000", "Content-Type: application/json", "Transfer-Encoding: chunked"]


class _Sink:
    """The cheapest callback object that still gets every field."""

    def on_header(self, name: bytes, value: bytes) -> None:
        pass


def _head(lines: list[str]) -> bytes:
    return "\r\n".join([*lines, "", ""]).encode()


@pytest.mark.parametrize("headers", [0, 10])
def test_llhttp_alone(benchmark: BenchmarkFixture, headers: int) -> None:
    """The floor: the grammar check, with a callback for each field that does nothing."""
    head = _head(_LINES + list(HEADERS[:headers]))
    benchmark(lambda: httptools.HttpRequestParser(_Sink()).feed_data(head))


@pytest.mark.parametrize("headers", [0, 10])
def test_get(benchmark: BenchmarkFixture, headers: int) -> None:
    """A request without a body, as most are."""
    head = _head(_LINES + list(HEADERS[:headers]))
    assert benchmark(parse_request_head, head, _LIMITS).host == b"helloworld"


def test_chunked_post(benchmark: BenchmarkFixture) -> None:
    """A request whose framing has to be decided."""
    head = _head(_CHUNKED_POST)
    assert benchmark(parse_request_head, head, _LIMITS).body_length == -1


@pytest.mark.parametrize("headers", [0, 10])
def test_one_header_looked_up(benchmark: BenchmarkFixture, headers: int) -> None:
    """The first condition on a header builds the map of all of them."""
    head = _head(_LINES + list(HEADERS[:headers]))
    benchmark(lambda: parse_request_head(head, _LIMITS).header(b"x-tenant"))


@pytest.mark.parametrize("framing", ["Content-Length: 130", "Transfer-Encoding: chunked"])
def test_answer(benchmark: BenchmarkFixture, framing: str) -> None:
    """An answer as small servers send it."""
    head = _head([*_ANSWER, framing, "Connection: keep-alive"])
    assert benchmark(parse_response_head, head, b"GET", _LIMITS).keep_alive

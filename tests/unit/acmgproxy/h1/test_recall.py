# SPDX-License-Identifier: Apache-2.0
"""Facts about recognising heads; that it gives what parsing gives is in tests/property/test_recall.py."""

from __future__ import annotations

import pytest

from acmgproxy.h1.recall import Recall
from acmgproxy.h1.request import parse_request_head
from tests.h1_kit import LIMITS

TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
KNOWN = b"GET /orders/1?x HTTP/1.1\r\nHost: shop\r\nX-Request-Id: a-1\r\nAccept: */*\r\nTraceparent: " + TRACE + b"\r\n\r\n"


@pytest.fixture
def recall() -> Recall:
    found = Recall.of(KNOWN, parse_request_head(KNOWN, LIMITS))
    assert found is not None
    assert repr(found) == "Recall(RequestHead(b'GET' b'/orders/1?x' host=b'shop' body=0), values=3)"
    return found


def test_target_id_and_trace_may_change(recall: Recall) -> None:
    later = KNOWN.replace(b"/orders/1?x", b"/carts/22?y=1").replace(b"a-1", b"b-2").replace(b"b7ad", b"c0de")
    head = recall.match(later, LIMITS)
    assert head is not None
    assert (head.target, head.path, head.query) == (b"/carts/22?y=1", b"/carts/22", b"y=1")
    assert (head.request_id, head.header(b"x-request-id")) == (b"b-2", b"b-2")
    assert head.header(b"traceparent") == TRACE.replace(b"b7ad", b"c0de")
    assert head.header(b"accept") == b"*/*"
    assert head.host == b"shop"


def test_what_is_kept_of_the_known_head_is_not_changed_by_another(recall: Recall) -> None:
    recall.match(KNOWN.replace(b"a-1", b"b-2").replace(b"b7ad", b"c0de"), LIMITS)
    again = recall.match(KNOWN, LIMITS)
    assert again is not None
    assert (again.request_id, again.header(b"traceparent")) == (b"a-1", TRACE)


@pytest.mark.parametrize(
    "later",
    [
        KNOWN.replace(b"GET", b"POST"),
        KNOWN.replace(b"/orders/1?x", b"/a#b"),
        KNOWN.replace(b"/orders/1?x", b"http://shop/"),
        KNOWN.replace(b"/orders/1?x", b"/" + b"a" * LIMITS.max_target_bytes),
        KNOWN.replace(b"HTTP/1.1", b"HTTP/1.0"),
        KNOWN.replace(b"shop", b"shed"),
        KNOWN.replace(b"a-1", b"a,1"),
        KNOWN.replace(b"a-1", b""),
        KNOWN.replace(b"a-1", b"a\r\nHost: other"),
        KNOWN.replace(b"*/*", b"*/ *"),
        KNOWN.replace(b"\r\n\r\n", b"\r\nA: b\r\n\r\n"),
        KNOWN.replace(b"\r\nTraceparent: " + TRACE, b""),
        b"GET /\r\n\r\n",
    ],
)
def test_any_other_difference_is_for_the_parser(recall: Recall, later: bytes) -> None:
    assert recall.match(later, LIMITS) is None


@pytest.mark.parametrize(
    "head",
    [
        b"GET http://shop/ HTTP/1.1\r\nHost: shop\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: shop\r\n\r\n",
        KNOWN.replace(b"Accept: */*", b"X-Request-Id: a-2"),
        KNOWN.replace(b"Accept: */*", b"X-Request-Id: "),
        KNOWN.replace(b"Accept: */*", b"Traceparent: " + TRACE),
    ],
)
def test_an_unusual_head_is_nothing_to_recognise_others_by(head: bytes) -> None:
    assert Recall.of(head, parse_request_head(head, LIMITS)) is None


def test_a_trace_that_does_not_travel_on_is_fixed() -> None:
    raw = KNOWN.replace(b"Accept: */*", b"Connection: traceparent")
    recall = Recall.of(raw, parse_request_head(raw, LIMITS))
    assert recall is not None
    assert recall.match(raw.replace(b"a-1", b"a-2"), LIMITS) is not None
    assert recall.match(raw.replace(b"b7ad", b"c0de"), LIMITS) is None


def test_several_values_of_a_trace_may_change_together() -> None:
    raw = KNOWN.replace(b"Accept: */*", b"Tracestate: v=1")
    recall = Recall.of(raw, parse_request_head(raw, LIMITS))
    assert recall is not None
    head = recall.match(raw.replace(b"v=1", b"v=2").replace(b"b7ad", b"c0de"), LIMITS)
    assert head is not None
    assert head.lines == [b"Tracestate: v=2", b"Traceparent: " + TRACE.replace(b"b7ad", b"c0de")]

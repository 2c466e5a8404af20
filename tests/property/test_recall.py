# SPDX-License-Identifier: Apache-2.0
"""Recognising a head gives what parsing it gives, or nothing."""

from __future__ import annotations

import msgspec
from hypothesis import event, given, settings
from hypothesis import strategies as st

from acmgproxy.h1.build import request_head
from acmgproxy.h1.errors import HeadError
from acmgproxy.h1.recall import Recall
from acmgproxy.h1.request import RequestHead, parse_request_head
from tests.h1_kit import LIMITS

VALUES = st.one_of(
    st.from_regex(rb"[A-Za-z0-9._:=-]{1,40}", fullmatch=True),
    st.sampled_from(
        [b"", b" ", b"a b", b"a,b", b"a\tb", b"a\r\n b", b"a\r\nHost: other", b"\0", b"\xff", b"a ", b" a", b"x" * 300]
    ),
)
TARGETS = st.one_of(
    st.from_regex(rb"/[a-z0-9/._~%!$&'()*+,;=:@?-]{0,30}", fullmatch=True),
    st.sampled_from(
        [b"*", b"/a#b", b"/a b", b"//x", b"http://h/x", b"/\x80", b"/a\tb", b"", b"/" + b"a" * 20_000, b"/?", b"/a\\b"]
    ),
)
NAMES = st.sampled_from(
    b"X-Request-Id x-request-id traceparent TraceState b3 X-B3-SpanId Accept X-Other Content-Length Connection X-Forwarded-For "
    b"Transfer-Encoding Host".split()
)
FIELDS = st.lists(st.tuples(NAMES, st.sampled_from([b": ", b":", b":  "]), VALUES), max_size=5)
METHODS = st.sampled_from([b"GET", b"POST", b"OPTIONS", b"BREW"])
VERSIONS = st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.2"])


def write(method: bytes, target: bytes, version: bytes, fields: list[tuple[bytes, bytes, bytes]]) -> bytes:
    lines = [method + b" " + target + b" " + version, b"Host: shop", *(name + colon + value for name, colon, value in fields)]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def judged(raw: bytes) -> RequestHead | None:
    try:
        return parse_request_head(raw, LIMITS)
    except HeadError:
        return None


def forwarded(head: RequestHead) -> bytes:
    return request_head(head, head.target, head.host, [b"x-added: 1"])


def meaning(head: RequestHead) -> dict[str, object]:
    head.header(b"")
    return msgspec.structs.asdict(head) | {"block": None, "sent": None}


@settings(max_examples=600)
@given(METHODS, TARGETS, TARGETS, VERSIONS, FIELDS, st.data())
def test_what_is_recognised_is_what_parsing_gives(
    method: bytes, target: bytes, other: bytes, version: bytes, fields: list[tuple[bytes, bytes, bytes]], data: st.DataObject
) -> None:
    raw = write(method, target, version, fields)
    head = judged(raw)
    if head is None:
        return
    forwarded(head)  # as it was, before another one is recognised by it
    recall = Recall.of(raw, head)
    if recall is None:
        event("not cut")
        return
    changed = [(name, colon, data.draw(VALUES) if data.draw(st.booleans()) else value) for name, colon, value in fields]
    later = write(method, other, version, changed)
    found = recall.match(later, LIMITS)
    event(f"recognised: {found is not None}")
    if found is not None:
        parsed = judged(later)
        assert parsed is not None
        assert meaning(found) == meaning(parsed)
        assert forwarded(found) == forwarded(parsed)
    again = recall.match(raw, LIMITS)
    assert again is not None
    assert meaning(again) == meaning(head)


@given(st.integers(0, 200), st.binary(min_size=1, max_size=3))
def test_a_change_anywhere_else_is_for_the_parser(position: int, put: bytes) -> None:
    raw = write(
        b"GET", b"/a?b=c", b"HTTP/1.1", [(b"X-Request-Id", b": ", b"1-2"), (b"traceparent", b": ", b"00-1"), (b"A", b": ", b"b")]
    )
    head = judged(raw)
    assert head is not None
    recall = Recall.of(raw, head)
    assert recall is not None
    position %= len(raw)
    later = raw[:position] + put + raw[position + len(put) :]
    found = recall.match(later, LIMITS)
    if found is not None:
        parsed = judged(later)
        assert parsed is not None
        assert meaning(found) == meaning(parsed)

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from routing.request import cookie_value, first_value, getter, value_test
from routing.specs import StringMatch
from tests.unit.routing.table_kit import Head


@pytest.mark.parametrize(
    ("query", "value"),
    [
        (b"a=1", b"1"),
        (b"z=9&a=1&a=2", b"1"),
        (b"a", b""),
        (b"a=", b""),
        (b"a=b=c", b"b=c"),
        (b"a=%31+", b"%31+"),
        (b"aa=1", None),
        (b"b=a", None),
        (b"A=1", None),
        (b"", None),
    ],
)
def test_first_value_reads_a_query_as_envoy_does(query: bytes, value: bytes | None) -> None:
    assert first_value(query, b"a") == value


def test_getters_read_what_they_name() -> None:
    head = Head(b"/p", b"Host:80", b"PUT", b"q=1&r", headers={b"x-a": b"v"})
    names = (":method", ":authority", ":scheme", ":path", "x-a", "x-b")
    assert [getter(("header", name))(head) for name in names] == [b"PUT", b"Host:80", b"http", b"/p?q=1&r", b"v", None]
    assert [getter(("query", name))(head) for name in ("q", "r", "s")] == [b"1", b"", None]
    assert getter(("header", ":path"))(Head(b"/p")) == b"/p"


@pytest.mark.parametrize(
    ("cookies", "value"),
    [
        (None, b""),
        (b"", b""),
        (b"a=1", b"1"),
        (b"b=2; a=1", b"1"),
        (b"b=2;a = 1 ;c=3", b"1"),
        (b"a=1; a=2", b"1"),
        (b'a="1 2"', b"1 2"),
        (b'a="', b'"'),
        (b'a=""', b""),
        (b"a=b=c", b"b=c"),
        (b"aa=1; ba=2", b""),
        (b"A=1", b""),
    ],
)
def test_cookie_values(cookies: bytes | None, value: bytes) -> None:
    assert cookie_value(cookies, b"a") == value


@pytest.mark.parametrize(("kind", "accepted"), [("exact", [b"ab"]), ("prefix", [b"ab", b"abc"]), ("regex", [b"ab"])])
def test_value_tests(kind: str, accepted: list[bytes]) -> None:
    test = value_test(StringMatch(kind=kind, value="ab"))  # type: ignore[arg-type]
    assert [value for value in (b"", b"a", b"ab", b"abc") if test(value)] == accepted

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import httptools
import pytest

from acmgproxy.h1.errors import HeadError
from acmgproxy.h1.fields import (
    HOP_BY_HOP,
    NEVER_LISTED,
    UNDERSCORED,
    NameTable,
    connection_tokens,
    field_map,
    field_reader,
    single_values,
    without,
)

NAMES = frozenset({b"host", b"content-length", b"x-forwarded-for"})


@pytest.mark.parametrize(
    ("name", "known"),
    [
        (b"host", b"host"),
        (b"HOST", b"host"),
        (b"Content-Length", b"content-length"),
        (b"accept", b""),
        (b"hosts", b""),
        (b"", b""),
        (b"content_length", b""),
    ],
)
def test_a_name_is_known_in_every_spelling(name: bytes, known: bytes) -> None:
    table = NameTable(NAMES)
    assert table.get(name) is None
    assert table.learn(name) == known
    assert table.get(name) == known


@pytest.mark.parametrize("name", [b"Content_Length", b"x_forwarded_for", b"X-Forwarded_For", b"x_forwarded-for"])
def test_a_name_with_any_underscore_for_a_hyphen_is_a_lookalike(name: bytes) -> None:
    assert NameTable(NAMES, underscore=True).learn(name) == UNDERSCORED
    assert NameTable(NAMES).learn(name) == b""


@pytest.mark.parametrize("name", [b"_host", b"x_request_id", b"_", b"content__length"])
def test_other_names_with_underscores_are_ordinary(name: bytes) -> None:
    assert NameTable(NAMES, underscore=True).learn(name) == b""


def test_the_table_is_bounded_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NameTable, "_MOST", 3)
    table = NameTable(NAMES)
    for number in range(10):
        table.learn(b"x-%d" % number)
        assert 1 <= len(table._learned) <= 3
    assert table.learn(b"Host") == b"host"


def test_long_names_are_not_remembered() -> None:
    table = NameTable(NAMES)
    table.learn(b"x" * 64)
    table.learn(b"x" * 65)
    assert table.get(b"x" * 64) == b""
    assert table.get(b"x" * 65) is None


def test_a_reader_sorts_field_lines() -> None:
    read = field_reader(httptools.HttpRequestParser, NameTable(NAMES, underscore=True), 400)
    raw = b"GET / HTTP/1.1\r\nAccept:  */*\r\nHOST: a \t\r\naccept: text/html \r\nContent_Length: 5\r\nX-Empty:\r\n\r\n"
    for _ in range(2):  # the second time from memory
        lines, special = read(raw)
        assert lines == [b"Accept: */*", b"accept: text/html ", b"X-Empty: "]
        assert special == [(b"host", b"a"), (UNDERSCORED, b"5")]


def test_a_reader_keeps_nothing_of_an_earlier_head() -> None:
    read = field_reader(httptools.HttpResponseParser, NameTable(NAMES), 502)
    first = read(b"HTTP/1.1 200 OK\r\nA: 1\r\nHost: h\r\n\r\n")
    with pytest.raises(HeadError) as caught:
        read(b"HTTP/1.1 200 OK\r\nB: 1\r\nHost: i\r\n folded\r\n\r\n")
    assert caught.value.status == 502
    assert read(b"HTTP/1.1 200 OK\r\n\r\n") == ([], [])
    assert first == ([b"A: 1"], [(b"host", b"h")])


def test_a_reader_stops_at_the_end_of_a_head_that_asks_for_an_upgrade() -> None:
    read = field_reader(httptools.HttpRequestParser, NameTable(NAMES), 400)
    assert read(b"GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: a\r\n\r\n") == ([b"Connection: upgrade", b"Upgrade: a"], [])


@pytest.mark.parametrize(
    ("special", "values"),
    [
        ([], {}),
        ([(b"te", b"a"), (b"host", b"b")], {b"te": b"a", b"host": b"b"}),
        ([(b"te", b"a"), (b"te", b"b"), (b"host", b"h"), (b"te", b"a")], {b"te": b"a,b,a", b"host": b"h"}),
    ],
)
def test_repeated_lines_are_one_list(special: list[tuple[bytes, bytes]], values: dict[bytes, bytes]) -> None:
    assert single_values(special, 400) == values


@pytest.mark.parametrize("name", [b"host", b"content-length", b"transfer-encoding"])
def test_what_frames_or_routes_may_not_be_repeated(name: bytes) -> None:
    with pytest.raises(HeadError, match=f"more than one {name.decode()}") as caught:
        single_values([(name, b"1"), (name, b"1")], 502)
    assert caught.value.status == 502


@pytest.mark.parametrize(
    ("value", "tokens"),
    [
        (b"", set()),
        (b"close", {b"close"}),
        (b"Keep-Alive, X-One,\tx-TWO ,,close", {b"keep-alive", b"x-one", b"x-two", b"close"}),
        (b" , ,", set()),
    ],
)
def test_connection_is_a_list_of_options_without_case(value: bytes, tokens: set[bytes]) -> None:
    assert connection_tokens(value) == tokens


def test_a_map_holds_every_field_once() -> None:
    lines = [b"Accept: a", b"X-One:  1 \t", b"accept: b, c", b"X-Empty: ", b"X-Url: http://a:1/"]
    special = [(b"host", b"h"), (b"x-one", b"2"), (b"te", b"x"), (b"te", b"y")]
    assert field_map(lines, special) == {
        b"accept": b"a,b, c",
        b"x-one": b"1,2",
        b"x-empty": b"",
        b"x-url": b"http://a:1/",
        b"host": b"h",
        b"te": b"x,y",
    }


def test_lines_are_left_out_by_name_alone() -> None:
    lines = [b"X-One: x-two", b"x-two: 1", b"X-TWO: 2", b"x-two-three: 3"]
    assert without(lines, {b"x-two"}) == [b"X-One: x-two", b"x-two-three: 3"]
    assert without(lines, frozenset()) == lines


def test_the_names_are_lower_case() -> None:
    for name in HOP_BY_HOP | NEVER_LISTED:
        assert name == name.lower()


def test_the_fields_every_recipient_needs_are_never_for_one_hop() -> None:
    assert {b"transfer-encoding"} == HOP_BY_HOP & NEVER_LISTED

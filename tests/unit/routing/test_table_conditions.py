# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest

from routing.regex import RegexError
from routing.specs import MatchSpec, StringMatch
from routing.table.conditions import PathCondition, all_of, compile_conditions
from tests.unit.routing.table_kit import Head, exact, header, path

PREFIX = StringMatch(kind="prefix", value="ab")
REGEX = StringMatch(kind="regex", value="a.c")
ANYTHING = StringMatch(kind="regex", value=".*")
PRESENT = StringMatch(kind="present")


def holds(spec: MatchSpec, head: Head) -> bool:
    test = all_of([PathCondition(spec.path).test, *(condition.test for condition in compile_conditions(spec))])
    return test is None or test(head)


@pytest.mark.parametrize(
    ("kind", "value", "matching", "other"),
    [
        ("exact", "/foo", ["/foo"], ["/foo/", "/foobar", "/Foo", "/"]),
        ("prefix", "/foo", ["/foo", "/foobar", "/foo/bar"], ["/fo", "/Foo", "/"]),
        ("prefix", "", ["/", "/x", "*"], []),
        ("prefix", "/", ["/", "/x", "*"], []),
        ("segments", "/foo", ["/foo", "/foo/", "/foo/bar"], ["/foobar", "/fo", "/Foo/x"]),
        ("segments", "/foo/", ["/foo", "/foo/", "/foo/bar"], ["/foobar"]),
        ("segments", "/", ["/", "/x/y", "*"], []),
        ("regex", "/item/[0-9]+", ["/item/42"], ["/item/", "/item/42/x", "/ITEM/42"]),
        ("regex", ".*", ["/", "/x", "*"], []),
    ],
)
def test_path_kinds(kind: Any, value: str, matching: list[str], other: list[str]) -> None:
    spec = MatchSpec(path=path(kind, value))
    assert [text for text in matching + other if holds(spec, Head(text.encode()))] == matching


@pytest.mark.parametrize("kind", ["exact", "prefix", "segments"])
def test_ignore_case(kind: Any) -> None:
    spec = MatchSpec(path=path(kind, "/Foo", ignore_case=True))
    assert holds(spec, Head(b"/fOO"))
    assert not holds(spec, Head(b"/fO"))
    assert holds(spec, Head(b"/FOO/X")) is (kind != "exact")


def test_ignore_case_has_no_effect_on_a_regex() -> None:
    spec = MatchSpec(path=path("regex", "/baz", ignore_case=True))
    assert holds(spec, Head(b"/baz"))
    assert not holds(spec, Head(b"/BAZ"))


def test_the_query_is_no_part_of_the_path() -> None:
    assert holds(MatchSpec(path=path("exact", "/foo")), Head(b"/foo", query=b"a=b"))


@pytest.mark.parametrize(
    ("match", "matching", "other"),
    [
        (exact("abc"), ["abc"], ["ab", "ABC", "", None]),
        (PREFIX, ["ab", "abc"], ["a", "xab", "", None]),
        (REGEX, ["abc"], ["abcd", "xabc", "", None]),
        (ANYTHING, ["abc", ""], [None]),
        (exact(""), [""], ["x", None]),
        (PRESENT, ["abc", ""], [None]),
    ],
)
def test_a_header_condition(match: StringMatch, matching: list[str | None], other: list[str | None]) -> None:
    spec = MatchSpec(headers=(header("x-a", match),))
    inverted = MatchSpec(headers=(header("x-a", match, invert=True),))
    for value in [*matching, *other]:
        head = Head(headers={b"x-a": value.encode()} if value is not None else {})
        assert holds(spec, head) is (value in matching)
        if value is not None or match is PRESENT:
            assert holds(inverted, head) is (value in other)


@pytest.mark.parametrize(
    ("match", "expected"),
    [(exact("x"), True), (PREFIX, True), (REGEX, True), (exact(""), False), (ANYTHING, False), (PRESENT, True)],
)
def test_without_headers_takes_a_missing_value_for_an_empty_one(match: StringMatch, expected: bool) -> None:
    assert holds(MatchSpec(headers=(header("x-a", match, invert=True),)), Head()) is expected


def test_pseudo_headers() -> None:
    head = Head(b"/p", b"Host:80", b"PUT", b"q=1")
    for name, value in ((":method", "PUT"), (":authority", "Host:80"), (":scheme", "http"), (":path", "/p?q=1")):
        assert holds(MatchSpec(headers=(header(name, exact(value)),)), head)


def test_method_scheme_and_authority_are_case_sensitive_and_whole() -> None:
    assert holds(MatchSpec(method=exact("GET"), scheme=exact("http"), authority=exact("b:80")), Head(authority=b"b:80"))
    assert not holds(MatchSpec(method=exact("get")), Head())
    assert not holds(MatchSpec(authority=exact("b")), Head(authority=b"b:80"))
    assert not holds(MatchSpec(scheme=exact("https")), Head())


def test_query_conditions() -> None:
    spec = MatchSpec(query=(header("a", exact("1")), header("b", PRESENT), header("c", exact("9"), invert=True)))
    assert holds(spec, Head(query=b"a=1&b"))
    assert not holds(spec, Head(query=b"a=1"))
    assert not holds(spec, Head(query=b"a=1&b&c=9"))


def test_all_conditions_must_hold() -> None:
    spec = MatchSpec(
        path=path("prefix", "/x"), method=exact("GET"), headers=(header("x-a", PRESENT),), query=(header("q", PRESENT),)
    )
    good = Head(b"/xy", query=b"q", headers={b"x-a": b""})
    assert holds(spec, good)
    assert not holds(spec, Head(b"/y", query=b"q", headers={b"x-a": b""}))
    assert not holds(spec, Head(b"/xy", query=b"q"))
    assert not holds(spec, Head(b"/xy", headers={b"x-a": b""}))


def test_headers_are_asked_for_only_when_the_rest_holds() -> None:
    head = Head(b"/y", headers={b"x-a": b"1"})
    assert not holds(MatchSpec(path=path("exact", "/x"), headers=(header("x-a", exact("1")),)), head)
    assert head.asked == []


def test_only_equality_has_a_key() -> None:
    spec = MatchSpec(
        method=exact("GET"),
        headers=(
            header("x-a", exact("1")),
            header("x-b", exact("1"), invert=True),
            header("x-c", PREFIX),
            header("x-d", PRESENT),
        ),
        query=(header("q", exact("2")),),
    )
    keys = [(condition.key, condition.value) for condition in compile_conditions(spec)]
    assert keys == [
        (("header", ":method"), b"GET"),
        (("header", "x-a"), b"1"),
        (None, b""),
        (None, b""),
        (None, b""),
        (("query", "q"), b"2"),
    ]


def test_a_bad_pattern_is_an_error() -> None:
    with pytest.raises(RegexError):
        compile_conditions(MatchSpec(headers=(header("x-a", StringMatch(kind="regex", value="(")),)))
    with pytest.raises(RegexError):
        PathCondition(path("regex", "("))

# SPDX-License-Identifier: Apache-2.0
"""The index gives the answer of the plain loop; tests/property/test_table.py compares the two on generated lists."""

from __future__ import annotations

import pytest

from routing.specs import MatchSpec, RuleSpec, StringMatch
from routing.table.index import LINEAR_LIMIT
from tests.unit.routing.table_kit import Head, exact, header, path, route_name, rule, table_of

FILLER = [rule(f"filler{i}", MatchSpec(path=path("exact", f"/filler/{i}"))) for i in range(LINEAR_LIMIT + 1)]
"""Rules that make a list long enough for the index and match nothing that the tests ask for."""

LENGTHS = pytest.mark.parametrize("filler", [[], FILLER], ids=["loop", "index"])


def on_path(name: str, kind: str, value: str, *, ignore_case: bool = False) -> RuleSpec:
    return rule(name, MatchSpec(path=path(kind, value, ignore_case=ignore_case)))


def on_header(name: str, value: str, key: str = "x-user") -> RuleSpec:
    return rule(name, MatchSpec(headers=(header(key, exact(value)),)))


def winner(filler: list[RuleSpec], rules: list[RuleSpec], head: Head) -> str | None:
    return route_name(table_of(*filler, *rules), head)


@LENGTHS
def test_the_first_match_wins_not_the_best(filler: list[RuleSpec]) -> None:
    rules = [on_path("short", "prefix", "/a"), on_path("long", "prefix", "/a/b"), on_path("exact", "exact", "/a/b")]
    assert winner(filler, rules, Head(b"/a/b")) == "short"
    assert winner(filler, rules[::-1], Head(b"/a/b")) == "exact"
    assert winner(filler, rules[::-1], Head(b"/a/b/c")) == "long"
    assert winner(filler, rules[::-1], Head(b"/a/c")) == "short"


@LENGTHS
@pytest.mark.parametrize(
    "kinds",
    [
        ("exact", "regex", "any", "folded", "header"),
        ("header", "folded", "any", "regex", "exact"),
        ("regex", "header", "exact", "any", "folded"),
        ("folded", "exact", "regex", "header", "any"),
    ],
)
def test_order_holds_between_all_kinds(filler: list[RuleSpec], kinds: tuple[str, ...]) -> None:
    make = {
        "exact": on_path("exact", "exact", "/a"),
        "regex": on_path("regex", "regex", "/[a-c]"),
        "any": rule("any"),
        "folded": on_path("folded", "exact", "/A", ignore_case=True),
        "header": on_header("header", "me"),
    }
    rules = [make[kind] for kind in kinds]
    for start in range(len(rules)):
        assert winner(filler, rules[start:], Head(b"/a", headers={b"x-user": b"me"})) == kinds[start]


@LENGTHS
def test_nothing_matches(filler: list[RuleSpec]) -> None:
    rules = [
        on_path("a", "prefix", "/a"),
        on_path("b", "regex", "/b+"),
        on_header("c", "c"),
        on_path("d", "exact", "/D", ignore_case=True),
    ]
    assert winner(filler, rules, Head(b"/zzz")) is None
    assert winner(filler, rules, Head(b"")) is None
    assert winner(filler, rules, Head(b"/zzz", headers={b"x-user": b"x"})) is None


@LENGTHS
def test_a_failed_condition_leaves_the_request_to_later_rules(filler: list[RuleSpec]) -> None:
    wants = (header("x-a", exact("1")),)
    rules = [
        rule("exact", MatchSpec(path=path("exact", "/a/b"), headers=wants)),
        rule("deep", MatchSpec(path=path("prefix", "/a/"), headers=wants)),
        rule("fold", MatchSpec(path=path("prefix", "/A", ignore_case=True), headers=wants)),
        rule("regex", MatchSpec(path=path("regex", "/a.*"), headers=wants)),
        on_path("shallow", "prefix", "/a"),
    ]
    assert winner(filler, rules, Head(b"/a/b")) == "shallow"
    assert winner(filler, rules, Head(b"/a/b", headers={b"x-a": b"1"})) == "exact"
    assert winner(filler, rules, Head(b"/a/c", headers={b"x-a": b"1"})) == "deep"
    assert winner(filler, rules, Head(b"/aa", headers={b"x-a": b"1"})) == "fold"
    assert winner(filler, rules[3:], Head(b"/aa", headers={b"x-a": b"1"})) == "regex"


def test_every_prefix_of_a_path_is_found() -> None:
    values = ["/a", "/a/b", "/a/b/c", "/a/bb", "/a/c", "/b", "/ab"]
    rules = [on_path(value, "prefix", value) for value in sorted(values, key=len, reverse=True)]
    for asked, expected in {
        "/a/b/c/d": "/a/b/c",
        "/a/b/d": "/a/b",
        "/a/b/bb": "/a/b",
        "/a/bbb": "/a/bb",
        "/a/bz": "/a/b",
        "/a/z": "/a",
        "/a": "/a",
        "/abc": "/ab",
        "/b/z": "/b",
        "/": None,
        "/c": None,
        "/Z": None,
    }.items():
        assert winner(FILLER, rules, Head(asked.encode())) == expected


def test_segments_in_an_index() -> None:
    rules = [
        on_path("deep", "segments", "/foo/bar"),
        on_path("foo", "segments", "/foo/"),
        on_path("fold", "segments", "/Baz", ignore_case=True),
    ]
    asked = {
        "/foo": "foo",
        "/foo/": "foo",
        "/foo/bar": "deep",
        "/foo/bar/x": "deep",
        "/foo/barx": "foo",
        "/foobar": None,
        "/BAZ/x": "fold",
    }
    assert {text: winner(FILLER, rules, Head(text.encode())) for text in asked} == asked


def test_rules_after_a_catch_all_are_never_compiled_in() -> None:
    rules = [*FILLER, on_path("all", "prefix", "/"), on_path("late", "exact", "/late")]
    assert winner([], rules, Head(b"/late")) == "all"


def test_many_header_rules_cost_one_look_at_the_header() -> None:
    rules = [on_header(f"user{i}", f"u{i}") for i in range(50)]
    head = Head(headers={b"x-user": b"u49"})
    assert winner([], rules, head) == "user49"
    assert head.asked == [b"x-user"]


def test_rules_are_filed_by_the_most_varied_header() -> None:
    both = [
        rule(f"user{i}", MatchSpec(headers=(header("x-env", exact("prod")), header("x-user", exact(f"u{i}"))))) for i in range(20)
    ]
    head = Head(headers={b"x-user": b"u19", b"x-env": b"prod"})
    assert winner([], both, head) == "user19"
    assert sorted(head.asked) == [b"x-env", b"x-user"]
    assert winner([], both, Head(headers={b"x-user": b"u19", b"x-env": b"dev"})) is None


def test_order_holds_between_headers_and_below_one() -> None:
    rules = [
        rule("prefix", MatchSpec(headers=(header("x-user", StringMatch(kind="prefix", value="u1")),))),
        *(on_header(f"user{i}", f"u{i}") for i in range(12)),
        *(on_header(f"team{i}", f"t{i}", "x-team") for i in range(12)),
        rule("post", MatchSpec(method=exact("POST"), headers=(header("x-user", exact("late")),))),
        on_header("late", "late"),
    ]
    assert winner([], rules, Head(headers={b"x-user": b"u1", b"x-team": b"t1"})) == "prefix"
    assert winner([], rules, Head(headers={b"x-user": b"u2", b"x-team": b"t1"})) == "user2"
    assert winner([], rules, Head(headers={b"x-user": b"late", b"x-team": b"t3"})) == "team3"
    assert winner([], rules, Head(headers={b"x-user": b"late"})) == "late"
    assert winner([], rules, Head(method=b"POST", headers={b"x-user": b"late"})) == "post"
    assert winner([], rules[::-1], Head(headers={b"x-user": b"u1", b"x-team": b"t1"})) == "team1"


def test_many_rules_on_one_value_are_filed_further() -> None:
    rules = [
        rule(f"r{i}", MatchSpec(path=path("exact", "/a"), headers=(header("x-a", exact("1")), header("x-b", exact(str(i // 2))))))
        for i in range(40)
    ]
    assert winner([], rules, Head(b"/a", headers={b"x-a": b"1", b"x-b": b"7"})) == "r14"
    assert winner([], rules, Head(b"/a", headers={b"x-a": b"2", b"x-b": b"7"})) is None


def test_a_pattern_used_twice_is_one_pattern() -> None:
    rules = [
        rule("post", MatchSpec(path=path("regex", "/a+"), method=exact("POST"))),
        on_path("b", "regex", "/b+"),
        on_path("a", "regex", "/a+"),
    ]
    assert winner(FILLER, rules, Head(b"/aa")) == "a"
    assert winner(FILLER, rules, Head(b"/aa", method=b"POST")) == "post"


def test_a_pattern_after_the_match_is_not_asked() -> None:
    rules = [on_path("a", "prefix", "/a"), *(on_path(f"r{i}", "regex", f"/a{i}?.*") for i in range(5))]
    assert winner(FILLER, rules, Head(b"/a")) == "a"
    assert winner(FILLER, [*rules[1:], rules[0]], Head(b"/a")) == "r0"


@LENGTHS
def test_match_entries_are_alternatives_with_routes_of_their_own(filler: list[RuleSpec]) -> None:
    rules = [rule("rule", MatchSpec(name="x", path=path("exact", "/x")), MatchSpec(path=path("exact", "/y")))]
    assert winner(filler, rules, Head(b"/x")) == "rule.x"
    assert winner(filler, rules, Head(b"/y")) == "rule"
    assert winner(filler, rules, Head(b"/z")) is None

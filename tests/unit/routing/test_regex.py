# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from routing.regex import MAX_PATTERN_LENGTH, SET_BUDGET, Pattern, PatternSet, RegexError, Substitution

HUGE = "[a-z]{1,999}-" * 15  # about 30,000 instructions


def test_a_pattern_must_match_the_whole_value() -> None:
    pattern = Pattern("/item/[0-9]+")
    assert pattern.matches(b"/item/42")
    assert not pattern.matches(b"/item/42/x")
    assert not pattern.matches(b"/pre/item/42")


def test_alternatives_do_not_escape_the_anchors() -> None:
    pattern = Pattern("a|b")
    assert pattern.matches(b"b")
    assert not pattern.matches(b"ax")
    assert not pattern.matches(b"xb")


def test_patterns_are_utf8() -> None:
    assert Pattern("/caf.").matches("/café".encode())
    assert not Pattern("/caf.").matches(b"/caf\xff")


def test_case_matters() -> None:
    assert not Pattern("/baz").matches(b"/BAZ")
    assert Pattern("(?i)/baz").matches(b"/BAZ")


@pytest.mark.parametrize("text", ["(", "(?=look)", r"(a)\1", "[z-a]", "é("])
def test_what_re2_refuses_is_an_error(text: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RegexError, match="regular expression"):
        Pattern(text)
    assert capfd.readouterr() == ("", "")


def test_length_is_limited() -> None:
    Pattern("a" * MAX_PATTERN_LENGTH)
    with pytest.raises(RegexError, match="longer than 1024"):
        Pattern("a" * (MAX_PATTERN_LENGTH + 1))


def test_a_pattern_too_big_for_a_set_still_matches() -> None:
    pattern = Pattern(HUGE)
    assert pattern.size > SET_BUDGET
    assert pattern.matches(b"abc-" * 15)
    assert not pattern.matches(b"abc-" * 14)


def test_repr_shows_the_text() -> None:
    assert repr(Pattern("/a.*")) == "Pattern('/a.*')"


def test_a_set_names_all_matches_in_order() -> None:
    found = PatternSet([Pattern(text) for text in ("/c.*", "/a.*", ".*b", "/.*c.*b", "/[a-z]*")])
    assert list(found.match(b"/cab")) == [0, 2, 3, 4]
    assert list(found.match(b"nothing")) == []


def test_an_empty_set_matches_nothing() -> None:
    assert list(PatternSet([]).match(b"/")) == []


def test_a_set_over_the_budget_is_shared_out() -> None:
    big = [Pattern(f"/{index}/[a-z]{{1,900}}[0-9]{{1,900}}") for index in range(20)]
    assert sum(pattern.size for pattern in big) > SET_BUDGET
    found = PatternSet([*big, Pattern(HUGE), Pattern("/7/.*")])
    assert list(found.match(b"/7/abc9")) == [7, 21]
    assert list(found.match(b"a-" * 15)) == [20]
    assert list(found.match(b"/none")) == []


@pytest.mark.parametrize(
    ("pattern", "rewrite", "value", "result"),
    [
        ("^/service/([^/]+)(/.*)$", r"\2/instance/\1", b"/service/foo/v1/api", b"/v1/api/instance/foo"),
        ("one", "two", b"/xxx/one/yyy/one/zzz", b"/xxx/two/yyy/two/zzz"),
        ("^(.*?)one(.*)$", r"\1two\2", b"/xxx/one/yyy/one/zzz", b"/xxx/two/yyy/one/zzz"),
        ("(?i)/xxx/", "/yyy/", b"/aaa/XxX/bbb", b"/aaa/yyy/bbb"),
        ("nomatch", "x", b"/abc", b"/abc"),
        ("a+", r"<\0>", b"/baac", b"/b<aa>c"),
        ("b", r"\\\0", b"abc", rb"a\bc"),
        ("a*", "x", b"baac", b"xbxcx"),  # RE2's own test of GlobalReplace
        ("(a)|(b)", r"[\1\2]", b"ab", b"[a][b]"),
        ("", "-", b"ab", b"-a-b-"),
    ],
)
def test_substitution_replaces_every_match(pattern: str, rewrite: str, value: bytes, result: bytes) -> None:
    assert Substitution(pattern, rewrite).apply(value) == result


@pytest.mark.parametrize(("pattern", "rewrite"), [("(a)", r"\2"), ("a", r"\x"), ("a", "end\\"), ("(", "x")])
def test_a_bad_substitution_is_an_error(pattern: str, rewrite: str) -> None:
    with pytest.raises(RegexError):
        Substitution(pattern, rewrite)

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest

from routing.regex import RegexError
from routing.specs import PathMatch, PathRewrite
from routing.table.paths import RewriteError, compile_rewrite
from tests.unit.routing.table_kit import path


def rewritten(kind: Any, value: str, match: PathMatch | None, before: str, pattern: str = "") -> str:
    rewrite = compile_rewrite(PathRewrite(kind=kind, value=value, pattern=pattern), match)
    return rewrite(before.encode()).decode()


@pytest.mark.parametrize(
    ("match", "value", "before", "after"),
    [
        (path("prefix", "/a/"), "/", "/a/x/y", "/x/y"),
        (path("prefix", "/c"), "/", "/c/x", "//x"),
        (path("prefix", "/d"), "/e", "/d", "/e"),
        (path("prefix", "/d"), "/e", "/dog/1", "/eog/1"),
        (path("prefix", "/FOO", ignore_case=True), "/x", "/fooBar", "/xBar"),
        (path("prefix", ""), "/x", "/a", "/x/a"),
        (path("exact", "/foo"), "/new/path", "/foo", "/new/path"),
        (path("regex", "/f.*"), "/new", "/foo/bar", "/new"),
        (path("segments", "/foo/"), "/x", "/foo/bar", "/x/bar"),
        (None, "/x", "/a", "/xa"),
        (None, "/x", "*", "*"),
        (path("prefix", "/foo"), "bar", "/foo/x", "/bar/x"),
        (path("prefix", "/foo/"), "", "/foo/", "/"),
    ],
)
def test_prefix_is_replaced_literally(match: PathMatch | None, value: str, before: str, after: str) -> None:
    assert rewritten("prefix", value, match, before) == after


@pytest.mark.parametrize(
    ("match", "value", "before", "after"),
    [  # the table of HTTPPathModifier.replacePrefixMatch
        ("/foo", "/xyz", "/foo/bar", "/xyz/bar"),
        ("/foo", "/xyz/", "/foo/bar", "/xyz/bar"),
        ("/foo/", "/xyz", "/foo/bar", "/xyz/bar"),
        ("/foo/", "/xyz/", "/foo/bar", "/xyz/bar"),
        ("/foo", "/xyz", "/foo", "/xyz"),
        ("/foo/", "/xyz", "/foo/", "/xyz/"),
        ("/foo", "", "/foo/bar", "/bar"),
        ("/foo/", "", "/foo/bar", "/bar"),
        ("/foo", "", "/foo", "/"),
        ("/foo/", "", "/foo/", "/"),
        ("/foo", "/", "/foo", "/"),
        ("/foo/", "/", "/foo", "/"),
        ("/", "/xyz", "/foo", "/xyz/foo"),
    ],
)
def test_segments_repair_slashes(match: str, value: str, before: str, after: str) -> None:
    assert rewritten("segments", value, path("segments", match), before) == after


def test_segments_after_another_kind_of_match() -> None:
    assert rewritten("segments", "/x/", path("exact", "/foo"), "/foo") == "/x"
    assert rewritten("segments", "/x", path("regex", "/f.*"), "/foo") == "/x"
    assert rewritten("segments", "/x", None, "/foo") == "/x/foo"
    assert rewritten("segments", "/x", path("prefix", "/fo"), "/foo") == "/x/o"


def test_full_replaces_everything() -> None:
    assert rewritten("full", "/new", path("prefix", "/foo"), "/foo/bar") == "/new"
    assert rewritten("full", "", None, "/foo/bar") == "/"


def test_regex_substitutes_and_stays_a_path() -> None:
    assert rewritten("regex", r"/v2/\1", None, "/v1/x", pattern="^/v1/(.*)$") == "/v2/x"
    assert rewritten("regex", "", None, "/a/b", pattern=".*") == "/"


@pytest.mark.parametrize("value", ["/a b", "/a\r\nx: y", "/\x7f", "\0"])
def test_a_replacement_cannot_break_the_request_line(value: str) -> None:
    with pytest.raises(RewriteError, match="blanks or control"):
        rewritten("prefix", value, None, "/")


def test_a_bad_pattern_is_an_error() -> None:
    with pytest.raises(RegexError):
        rewritten("regex", "x", None, "/", pattern="(")

# SPDX-License-Identifier: Apache-2.0
"""Facts about rules in words."""

from __future__ import annotations

import pytest

from acmgproxy.overview.words import action_of, conditions_of
from routing.specs import (
    ClusterRef,
    DirectResponseSpec,
    ForwardSpec,
    MatchSpec,
    NamedMatch,
    PathMatch,
    RedirectSpec,
    RuleSpec,
    SourceMatch,
    StringMatch,
)  # fmt: skip


def exact(value: str) -> StringMatch:
    return StringMatch(kind="exact", value=value)


@pytest.mark.parametrize(
    ("match", "words"),
    [
        (MatchSpec(), "every request"),
        (MatchSpec(path=PathMatch(kind="prefix", value="/api", ignore_case=True)), "path begins with /api (any case)"),
        (MatchSpec(path=PathMatch(kind="segments", value="/api"), method=exact("GET")), "path under /api, method = GET"),
        (
            MatchSpec(scheme=exact("http"), authority=StringMatch(kind="regex", value="a.*")),
            "scheme = http, authority matches a.*",
        ),
        (
            MatchSpec(
                headers=(NamedMatch(name="x", match=StringMatch(kind="present"), invert=True),),
                query=(NamedMatch(name="q", match=exact("1")),),
            ),
            "not header x is present, query q = 1",
        ),
        (MatchSpec(source=SourceMatch(namespace="shop", labels={"b": "2", "a": "1"})), "from namespace shop a=1, b=2"),
        (MatchSpec(source=SourceMatch(labels={"a": "1"})), "from a=1"),
    ],
)
def test_a_match_lists_its_conditions(match: MatchSpec, words: str) -> None:
    rule = RuleSpec(matches=(match, MatchSpec()), action=ForwardSpec(clusters=(ClusterRef(cluster="a"),)))
    assert conditions_of(rule) == [words, "every request"]


def test_an_action_is_said() -> None:
    assert action_of(RuleSpec(action=ForwardSpec(clusters=()))) == "forward"
    assert action_of(RuleSpec(action=RedirectSpec(status=302))) == "redirect (302)"
    assert action_of(RuleSpec(action=DirectResponseSpec(status=418))) == "direct response (418)"
    assert conditions_of(RuleSpec(action=DirectResponseSpec(status=418))) == []

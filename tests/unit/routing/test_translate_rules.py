# SPDX-License-Identifier: Apache-2.0
"""Tests of routing.translate: rules of a VirtualService, their match entries, and which of them hold on a port."""

from __future__ import annotations

from typing import Any

import pytest

from routing.diagnostics import Reporter
from routing.specs import DirectResponseSpec, MatchSpec, NamedMatch, PathMatch, SourceMatch, StringMatch
from routing.translate._matches import Ineffective
from tests.unit.routing.objects import codes, decoded_vs, rule_of, rules_of, service, to, translated, virtual_service


def _match(entry: dict[str, Any]) -> MatchSpec:
    (found,) = rule_of({"match": [entry], "route": [to("b")]}).matches
    return found


def test_no_match_means_everything() -> None:
    rule = rule_of({"name": "r", "route": [to("b")]})
    assert rule.name == "r"
    assert rule.matches == ()


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ({"exact": "/a"}, PathMatch(kind="exact", value="/a")),
        ({"prefix": "/a"}, PathMatch(kind="prefix", value="/a")),
        ({"prefix": ""}, PathMatch(kind="prefix", value="")),
        ({"regex": "/a+"}, PathMatch(kind="regex", value="/a+")),
        ({}, None),
        (None, None),
    ],
)
def test_paths(uri: Any, expected: PathMatch | None) -> None:
    assert _match({"uri": uri}) == MatchSpec(path=expected)


def test_path_case() -> None:
    assert _match({"uri": {"exact": "/a"}, "ignoreUriCase": True}).path == PathMatch(kind="exact", value="/a", ignore_case=True)


def test_strings() -> None:
    found = _match({"name": "m", "method": {"exact": "GET"}, "scheme": {"prefix": "h"}, "authority": {"regex": "b.*"}})
    assert found == MatchSpec(
        name="m",
        method=StringMatch(kind="exact", value="GET"),
        scheme=StringMatch(kind="prefix", value="h"),
        authority=StringMatch(kind="regex", value="b.*"),
    )
    assert _match({"method": {}}) == MatchSpec()


def test_headers_and_query_parameters() -> None:
    found = _match(
        {
            "headers": {"X-A": {"exact": "1"}, "x-b": None, "x-c": {}, "x-d": {"regex": "*"}, ":Method": {"prefix": "G"}},
            "withoutHeaders": {"X-E": {"regex": "a"}, "x-f": {}},
            "queryParams": {"Q": {"exact": ""}, "r": {}},
        }
    )
    present = StringMatch(kind="present")
    assert found.headers == (
        NamedMatch(name="x-a", match=StringMatch(kind="exact", value="1")),
        NamedMatch(name="x-b", match=present),
        NamedMatch(name="x-c", match=present),
        NamedMatch(name="x-d", match=present),
        NamedMatch(name=":method", match=StringMatch(kind="prefix", value="G")),
        NamedMatch(name="x-e", match=StringMatch(kind="regex", value="a"), invert=True),
        NamedMatch(name="x-f", match=present, invert=True),
    )
    assert found.query == (NamedMatch(name="Q", match=StringMatch(kind="exact")), NamedMatch(name="r", match=present))


def test_conditions_on_the_caller() -> None:
    assert _match({"sourceNamespace": "other"}).source == SourceMatch(namespace="other")
    assert _match({"sourceLabels": {"app": "a"}}).source == SourceMatch(labels={"app": "a"})


def test_an_entrys_gateways_switch_its_conditions_on_the_caller_off() -> None:
    assert _match({"gateways": ["mesh"], "sourceLabels": {"app": "a"}}) == MatchSpec()


@pytest.mark.parametrize(
    ("level", "entry", "holds"),
    [
        (["mesh"], ["mesh"], True),
        (["mesh"], ["acmg-gateway"], False),
        (["mesh", "acmg-gateway"], ["x/acmg-gateway"], True),
        (["acmg-gateway"], ["mesh"], False),
        (["mesh", "ingress"], ["ingress"], False),
        ([], ["ingress", "mesh"], True),
    ],
)
def test_an_entry_holds_where_both_its_and_the_virtual_services_gateways_are(
    level: list[str], entry: list[str], holds: bool
) -> None:
    vs = virtual_service("vs", ["b"], {"match": [{"gateways": entry}], "route": [to("b")]}, gateways=level)
    found = translated(service("b"), vs)
    assert ("virtualservice/default/vs@80" in found.specs.rule_sets) is holds


def test_entries_for_other_ports_are_left_out_and_rules_without_entries_too() -> None:
    found = translated(
        service("b"),
        virtual_service(
            "vs",
            ["b"],
            {"name": "one", "match": [{"port": 80, "uri": {"exact": "/a"}}, {"port": 8080}], "route": [to("b")]},
            {"name": "two", "match": [{"port": 80}], "route": [to("b")]},
        ),
    )
    assert [(rule.name, len(rule.matches)) for rule in rules_of(found)] == [("one", 1), ("two", 1)]
    assert [(rule.name, len(rule.matches)) for rule in rules_of(found, port=8080)] == [("one", 1)]


@pytest.mark.parametrize(
    "rule",
    [
        {},
        {"match": [{"uri": {"prefix": "/"}}]},
        {"match": [{"uri": {"prefix": ""}, "name": "m"}]},
        {"match": [{"uri": {"regex": ".*"}, "ignoreUriCase": True}]},
        {"match": [{"uri": {"exact": "/a"}}, {}, {"uri": {"exact": "/b"}}]},
    ],
)
def test_rules_after_one_that_matches_everything_are_left_out(rule: dict[str, Any]) -> None:
    vs = virtual_service(
        "vs",
        ["b"],
        {**rule, "route": [to("b")]},
        {"match": [{"port": 1}], "route": [to("ghost")]},
        {"route": [to("ghost")]},
    )
    found = translated(service("b"), vs)
    assert len(rules_of(found)) == 1
    assert codes(found) == [("IST0130", "default/vs", "spec.http[2]")]


@pytest.mark.parametrize(
    "entry",
    [
        {"uri": {"exact": "/"}},
        {"uri": {"prefix": "/a"}},
        {"method": {"exact": "GET"}},
        {"headers": {"x": {}}},
        {"queryParams": {"x": {}}},
        {"sourceNamespace": "other"},
        {"uri": {"prefix": "/"}, "sourceLabels": {"a": "b"}},
    ],
)
def test_rules_with_any_condition_do_not_hide_others(entry: dict[str, Any]) -> None:
    found = translated(service("b"), virtual_service("vs", ["b"], {"match": [entry], "route": [to("b")]}, {"route": [to("b")]}))
    assert len(rules_of(found)) == 2
    assert codes(found) == []


def test_entries_after_one_that_matches_everything_are_left_out() -> None:
    rule = rule_of({"match": [{"uri": {"exact": "/a"}}, {}, {"uri": {"exact": "/b"}}], "route": [to("b")]})
    assert [match.path and match.path.value for match in rule.matches] == ["/a", None]


@pytest.mark.parametrize("where", ["headers", "withoutHeaders"])
def test_a_claim_of_a_token_never_holds(where: str) -> None:
    claim = {where: {"@request.auth.claims.sub": {"exact": "x"}}}
    vs = virtual_service(
        "vs", ["b"], {"match": [claim], "route": [to("b")]}, {"match": [claim, {"port": 80}], "directResponse": {"status": 200}}
    )
    found = translated(service("b", ports=[{"port": 80}]), vs)
    (rule,) = rules_of(found)
    assert rule.action == DirectResponseSpec(status=200)
    assert rule.matches == (MatchSpec(),)
    assert codes(found) == [
        ("ACMG010", "default/vs", "spec.http[0].match[0]"),
        ("ACMG010", "default/vs", "spec.http[1].match[0]"),
    ]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"uri": {"prefix": "/a"}}, {"uri": {"prefix": "/a/b"}}),
        ({"uri": {"prefix": "/a"}}, {"uri": {"exact": "/a"}, "method": {"exact": "GET"}}),
        ({"name": "m", "headers": {"x": {}}}, {"name": "n", "headers": {"X": {}}}),
        ({"uri": {"prefix": "/a"}, "ignoreUriCase": True}, {"uri": {"prefix": "/a"}, "ignoreUriCase": True}),
        ({"uri": {"regex": "/a"}}, {"uri": {"regex": "/a"}}),
    ],
)
def test_an_entry_that_one_before_makes_ineffective(first: dict[str, Any], second: dict[str, Any]) -> None:
    rules = [{"match": [entry], "route": [to("b")]} for entry in (first, second)]
    found = translated(service("b"), virtual_service("vs", ["b"], *rules))
    assert len(rules_of(found)) == 2
    assert codes(found) == [("IST0131", "default/vs", "spec.http[1].match[0]")]
    assert "spec.http[0].match[0]" in found.diagnostics[0].message


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"uri": {"prefix": "/a"}, "method": {"exact": "GET"}}, {"uri": {"prefix": "/a/b"}}),
        ({"uri": {"prefix": "/a/b"}}, {"uri": {"prefix": "/a"}}),
        ({"uri": {"prefix": "/a"}, "ignoreUriCase": True}, {"uri": {"prefix": "/a/b"}}),
        ({"uri": {"prefix": "/a"}}, {"uri": {"exact": "/A"}, "ignoreUriCase": True}),
        ({"uri": {"prefix": "/a"}}, {"uri": {"regex": "/a"}}),
        ({"uri": {"exact": "/a"}}, {"uri": {"exact": "/a/b"}}),
        ({"uri": {"prefix": "/a"}}, {"headers": {"x": {}}}),
    ],
)
def test_an_entry_that_still_has_requests(first: dict[str, Any], second: dict[str, Any]) -> None:
    rules = [{"match": [entry], "route": [to("b")]} for entry in (first, second)]
    assert codes(translated(service("b"), virtual_service("vs", ["b"], *rules))) == []


def test_a_stat_prefix_is_noted() -> None:
    found = translated(service("b"), virtual_service("vs", ["b"], {"match": [{"statPrefix": "s"}], "route": [to("b")]}))
    assert codes(found) == [("ACMG021", "default/vs", "spec.http[0].match[0].statPrefix")]


def test_what_tells_entries_apart_shows_how_many_it_has_seen() -> None:
    found = Ineffective(Reporter())
    found.check(decoded_vs(virtual_service("vs", ["b"])), MatchSpec(), "spec.http[0].match[0]")
    assert repr(found) == "<Ineffective 1 entries>"


def test_rules_and_entries_know_where_they_are_written_and_what_never_holds_is_kept_for_explanations() -> None:
    http = (
        {"match": [{"port": 81}], "route": [to("b")]},
        {"match": [{"gateways": ["ingress"]}, {"uri": {"exact": "/a"}}], "route": [to("b")]},
        {"match": [{"headers": {"@request.auth.claims.x": {"exact": "1"}}}], "route": [to("b")]},
        {"route": [to("b")]},
        {"match": [{"uri": {"exact": "/c"}}], "route": [to("b")]},
    )
    rules = translated(service("b"), virtual_service("vs", ["b"], *http)).specs.rule_sets["virtualservice/default/vs@80"]
    assert [(rule.origin.field if rule.origin else "", rule.match_fields) for rule in rules.rules] == [
        ("spec.http[1]", ("spec.http[1].match[1]",)),
        ("spec.http[3]", ()),
    ]
    origin = rules.rules[0].origin
    assert origin is not None
    assert (origin.kind, origin.namespace, origin.name) == ("VirtualService", "default", "vs")
    assert [(one.origin.field, one.reason) for one in rules.left_out] == [
        ("spec.http[0].match[0]", "it is for port 81"),
        ("spec.http[1].match[0]", "it is for ingress"),
        ("spec.http[2].match[0]", "@request.auth.claims.x is a claim of a verified token, which this gateway does not have"),
        ("spec.http[4]", "spec.http[3] takes every request"),
    ]


def test_merged_rules_know_where_they_are_written_too() -> None:
    narrow = {"match": [{"uri": {"exact": "/a"}}, {"uri": {"prefix": "/"}}], "route": [to("b")]}
    gateways = ["acmg-gateway"]
    one = virtual_service("one", ["b"], narrow, created="2024-01-01", gateways=gateways)
    two = virtual_service("two", ["b"], narrow, created="2024-01-02", gateways=gateways)
    elsewhere = {"match": [{"port": 9}], "route": [to("b")]}
    three = virtual_service("three", ["b"], elsewhere, narrow, created="2024-01-03", gateways=gateways)
    rules = next(one for key, one in translated(service("b"), one, two, three).specs.rule_sets.items() if "+" in key)
    fields = [(rule.origin.name if rule.origin else "", rule.match_fields) for rule in rules.rules]
    assert fields == [
        ("one", ("spec.http[0].match[0]",)),
        ("two", ("spec.http[0].match[0]",)),
        ("three", ("spec.http[1].match[0]",)),
        ("one", ("spec.http[0].match[1]",)),
    ]
    assert ("three", "spec.http[0].match[0]") in {(one.origin.name, one.origin.field) for one in rules.left_out}
    assert all(len(rule.matches) == len(rule.match_fields) for rule in rules.rules)

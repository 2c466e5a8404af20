# SPDX-License-Identifier: Apache-2.0
"""Tests of routing.translate: delegation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from routing.specs import ClusterRef, DirectResponseSpec, FaultSpec, ForwardSpec, HeaderOps, MatchSpec, MirrorSpec, PathMatch
from tests.unit.routing.objects import Obj, codes, rules_of, service, to, translated, virtual_service

if TYPE_CHECKING:
    from routing.translate import Translation

B = "b.default.svc.cluster.local"
C = "c.other.svc.cluster.local"


def _delegated(root: Obj, *leaves: Obj, spec: Obj | None = None, more: Obj | None = None) -> Translation:
    """Services b, other/b and other/c, and a VirtualService for b that delegates to other/leaf."""
    rules = [{"delegate": {"name": "leaf", "namespace": "other"}, **root}, *([more] if more else [])]
    leaf = virtual_service("leaf", [], *leaves, namespace="other")
    leaf["spec"] |= spec or {}
    world = (service("b"), service("b", "other"), service("c", "other"))
    return translated(*world, virtual_service("vs", ["b"], *rules), leaf)


def _paths(match: list[Obj] | None, leaf: list[Obj] | None) -> list[MatchSpec] | None:
    """Match entries of a delegated rule, None if the rule is left out."""
    found = _delegated({"match": match}, {"match": leaf, "directResponse": {"status": 200}})
    if "virtualservice/default/vs@80" not in found.specs.rule_sets:
        assert codes(found)[0][:2] == ("ACMG022", "other/leaf")
        return None
    (rule,) = rules_of(found)
    return list(rule.matches)


def test_rules_of_the_delegate_stand_in_the_roots_place() -> None:
    found = _delegated(
        {},
        {"match": [{"uri": {"exact": "/1"}}], "directResponse": {"status": 201}},
        {"match": [{"uri": {"exact": "/2"}}], "directResponse": {"status": 202}},
        more={"directResponse": {"status": 203}},
    )
    assert [rule.action for rule in rules_of(found)] == [DirectResponseSpec(status=status) for status in (201, 202, 203)]
    assert codes(found) == []


def test_short_hosts_belong_to_the_object_they_are_written_in() -> None:
    found = _delegated({"mirror": {"host": "b"}}, {"route": [to("c")]})
    (rule,) = rules_of(found)
    assert rule.action == ForwardSpec(
        clusters=(ClusterRef(cluster=f"outbound|80||{C}"),), mirrors=(MirrorSpec(cluster=f"outbound|80||{B}"),)
    )


def test_what_the_delegates_rule_does_not_say_is_inherited_as_whole_blocks() -> None:
    root = {
        "timeout": "3s",
        "headers": {"request": {"set": {"x-root": "1"}}},
        "fault": {"abort": {"httpStatus": 500, "percentage": {"value": 10}}},
        "rewrite": {"uri": "/r"},
        "retries": {"attempts": 5},
        "mirror": {"host": "b"},
        "mirrorPercentage": {"value": 5},
    }
    own = {
        "timeout": "1s",
        "headers": {"response": {"set": {"x-leaf": "1"}}},
        "retries": {"attempts": 0},
        "mirrors": [{"destination": {"host": "c"}}],
    }
    first = {"match": [{"uri": {"prefix": "/a"}}], "route": [to("c")]}
    bare, full = rules_of(_delegated(root, first, {"route": [to("c")], **own}))
    assert isinstance(bare.action, ForwardSpec)
    assert isinstance(full.action, ForwardSpec)
    assert bare.request_headers == HeaderOps(set=(("x-root", "1"),))
    assert bare.fault == full.fault == FaultSpec(abort_status=500, abort_percent=10.0)
    assert (bare.action.timeout_s, bare.action.retry.attempts) == (3.0, 5)
    assert bare.action.mirrors == (MirrorSpec(cluster=f"outbound|80||{B}", percent=5.0),)
    assert bare.action.path_rewrite == full.action.path_rewrite
    assert full.request_headers is None
    assert full.response_headers == HeaderOps(set=(("x-leaf", "1"),))
    assert (full.action.timeout_s, full.action.retry.attempts) == (1.0, 0)
    assert full.action.mirrors == (MirrorSpec(cluster=f"outbound|80||{C}"),)


@pytest.mark.parametrize(("root", "leaf", "joined"), [("r", "l", "r-l"), ("r", "", "r"), ("", "l", "l"), ("", "", "")])
def test_names_are_joined(root: str, leaf: str, joined: str) -> None:
    found = _delegated(
        {"name": root, "match": [{"name": root, "uri": {"prefix": "/a"}}]},
        {"name": leaf, "match": [{"name": leaf, "uri": {"prefix": "/a/b"}}], "route": [to("c")]},
    )
    (rule,) = rules_of(found)
    assert rule.name == rule.matches[0].name == joined


def test_matches_of_one_side_alone_are_taken_over() -> None:
    entry = {"uri": {"prefix": "/a"}}
    assert _paths([entry], None) == _paths(None, [entry]) == [MatchSpec(path=PathMatch(kind="prefix", value="/a"))]
    assert _paths(None, None) == []


def test_all_pairs_that_fit_are_taken() -> None:
    found = _paths(
        [{"uri": {"prefix": "/a"}, "headers": {"x": {"exact": "1"}}}, {"uri": {"prefix": "/"}}, {"uri": {"prefix": "/c"}}],
        [{"uri": {"exact": "/a/b"}}, {"uri": {"prefix": "/c/d"}}],
    )
    assert found is not None
    assert [(match.path and match.path.value, len(match.headers)) for match in found] == [
        ("/a/b", 1),
        ("/a/b", 0),
        ("/c/d", 0),
        ("/c/d", 0),
    ]


def _fits(root: Obj, leaf: Obj) -> bool:
    return _paths([root], [leaf]) is not None


@pytest.mark.parametrize(
    ("root", "leaf", "fits"),
    [
        ({"prefix": "/a"}, {"prefix": "/a/b"}, True),
        ({"prefix": "/a"}, {"exact": "/ab"}, True),
        ({"prefix": "/a/b"}, {"prefix": "/a"}, False),
        ({"prefix": "/a"}, {"exact": "/b"}, False),
        ({"exact": "/a"}, {"exact": "/a"}, True),
        ({"exact": "/a"}, {"exact": "/b"}, False),
        ({"exact": "/a"}, {"prefix": "/a"}, False),
        ({"regex": "/a"}, {"exact": "/a"}, False),
        ({"regex": "/a"}, {"regex": "/a"}, False),
        ({"prefix": "/a"}, {"regex": "/a"}, False),
        (None, {"regex": "/a"}, True),
        ({"regex": "/a"}, None, True),
        ({"regex": "/a"}, {}, True),
        ({}, {"exact": "/a"}, False),
        ({"prefix": "/a"}, {}, False),
    ],
)
@pytest.mark.parametrize("where", ["uri", "method", "headers", "withoutHeaders", "queryParams"])
def test_conditions_that_fit(where: str, root: Any, leaf: Any, fits: bool) -> None:
    if where in {"uri", "method"}:
        assert _fits({where: root}, {where: leaf}) is fits
    else:
        assert _fits({where: {"x": root}}, {where: {"x": leaf, "y": {"exact": "1"}}}) is fits


@pytest.mark.parametrize(
    ("root", "leaf", "fits"),
    [
        ({"ignoreUriCase": True}, {}, False),
        ({"ignoreUriCase": True}, {"ignoreUriCase": True}, True),
        ({"port": 80}, {}, True),
        ({"port": 80}, {"port": 80}, True),
        ({"port": 80}, {"port": 8080}, False),
        ({"sourceNamespace": "n"}, {"sourceNamespace": "n"}, True),
        ({"sourceNamespace": "n"}, {}, False),
        ({}, {"sourceNamespace": "n"}, True),
        ({"sourceLabels": {"a": "1"}}, {"sourceLabels": {"a": "1", "b": "2"}}, True),
        ({"sourceLabels": {"a": "1"}}, {"sourceLabels": {"a": "2"}}, False),
        ({"gateways": ["mesh", "x"]}, {"gateways": ["mesh"]}, True),
        ({"gateways": ["mesh"]}, {"gateways": ["mesh", "x"]}, False),
        ({"gateways": ["mesh"]}, {}, True),
        ({}, {"gateways": ["mesh"]}, True),
    ],
)
def test_other_conditions_that_fit(root: Obj, leaf: Obj, fits: bool) -> None:
    assert _fits(root, leaf) is fits


def test_conditions_are_united() -> None:
    (found,) = (
        _paths(
            [
                {
                    "headers": {"x": {"exact": "1"}},
                    "queryParams": {"q": {}},
                    "sourceLabels": {"a": "1"},
                    "method": {"exact": "GET"},
                }
            ],
            [{"headers": {"y": {"exact": "2"}}, "withoutHeaders": {"z": {}}, "sourceLabels": {"b": "2"}, "uri": {"exact": "/"}}],
        )
        or []
    )
    assert [condition.name for condition in (*found.headers, *found.query)] == ["x", "y", "z", "q"]
    assert found.source is not None
    assert found.source.labels == {"a": "1", "b": "2"}
    assert found.method is not None
    assert found.path is not None


def test_a_rule_that_does_not_fit_leaves_the_delegates_others() -> None:
    found = _delegated(
        {"match": [{"uri": {"prefix": "/a"}}]},
        {"match": [{"uri": {"prefix": "/b"}}], "directResponse": {"status": 201}},
        {"match": [{"uri": {"prefix": "/a/c"}}], "directResponse": {"status": 202}},
    )
    assert [rule.action for rule in rules_of(found)] == [DirectResponseSpec(status=202)]
    assert codes(found) == [("ACMG022", "other/leaf", "spec.http[0].match")]


@pytest.mark.parametrize("spec", [{"hosts": ["x.test"]}, {"exportTo": ["."]}, {"exportTo": ["third"]}])
def test_delegates_that_cannot_be_used(spec: Obj) -> None:
    found = _delegated({}, {"route": [to("c")]}, spec=spec, more={"directResponse": {"status": 200}})
    assert [rule.action for rule in rules_of(found)] == [DirectResponseSpec(status=200)]
    assert ("IST0101", "default/vs", "spec.http[0].delegate") in codes(found)


def test_a_delegate_that_is_exported_to_the_roots_namespace() -> None:
    assert len(rules_of(_delegated({}, {"route": [to("c")]}, spec={"exportTo": ["default"]}))) == 1


def test_a_missing_delegate_of_the_only_rule_leaves_the_host_to_others() -> None:
    root = virtual_service("vs", ["b"], {"delegate": {"name": "leaf"}})
    found = translated(service("b"), root, virtual_service("next", ["b"]))
    assert [entry.rule_set for entry in found.specs.virtual_hosts[f"{B}:80"].candidates] == ["virtualservice/default/next@80"]
    assert ("IST0101", "default/vs", "spec.http[0].delegate") in codes(found)


def test_findings_name_the_delegate_or_the_root_whichever_it_is_about() -> None:
    found = _delegated(
        {
            "match": [{"headers": {"@request.auth.claims.x": {}}}],
            "corsPolicy": {"allowOrigin": ["a"]},
            "retries": {"retryOn": "5xx"},
        },
        {"route": [to("ghost")]},
        more={"directResponse": {"status": 200}},
    )
    assert ("ACMG010", "default/vs", "spec.http[0].match[0]") in codes(found)
    found = _delegated({"corsPolicy": {"allowOrigin": ["a"]}, "retries": {"retryOn": "5xx"}}, {"route": [to("ghost")]})
    assert codes(found) == [
        ("IST0101", "other/leaf", "spec.http[0].route[0].destination.host"),
        ("ACMG009", "default/vs", "spec.http[0].retries.attempts"),
        ("ACMG013", "default/vs", "spec.http[0].corsPolicy.allowOrigin"),
    ]


def test_a_delegate_may_serve_several_rules() -> None:
    rules = [{"match": [{"uri": {"prefix": path}}], "delegate": {"name": "leaf"}} for path in ("/1", "/2")]
    found = translated(service("b"), virtual_service("vs", ["b"], *rules), virtual_service("leaf", []))
    assert [rule.matches[0].path and rule.matches[0].path.value for rule in rules_of(found)] == ["/1", "/2"]

# SPDX-License-Identifier: Apache-2.0
"""Tests of routing.translate: findings about single objects."""

from __future__ import annotations

from typing import Any

import pytest

from routing.store import Store
from routing.translate import TranslateOptions
from routing.translate._context import Context
from tests.unit.routing.objects import codes, destination_rule, service, subset, to, translated, virtual_service


@pytest.mark.parametrize(
    ("rule", "field", "consequence"),
    [
        ({"fault": {"abort": {"httpStatus": 500}}}, "fault", "no fault is injected"),
        ({"mirror": {"host": "c"}}, "mirror", "nothing is mirrored"),
        ({"mirrors": []}, "mirrors", "nothing is mirrored"),
        ({"mirrorPercentage": {"value": 1}}, "mirrorPercentage", "it has no effect"),
        ({"corsPolicy": {}}, "corsPolicy", "requests are forwarded as without it"),
    ],
)
def test_fields_of_rules_without_effect(rule: dict[str, Any], field: str, consequence: str) -> None:
    found = translated(service("b"), virtual_service("vs", ["b"], {"route": [to("b")], **rule}))
    assert codes(found) == [("ACMG001", "default/vs", f"spec.http[0].{field}")]
    assert consequence in found.diagnostics[0].message
    assert found.diagnostics[0].remedy


def test_tls_rules_and_tls_settings_are_two_things() -> None:
    found = translated(
        service("b"),
        virtual_service("vs", ["b"], tls=[{}], tcp=[{}]),
        destination_rule("dr", "b", trafficPolicy={"tls": {"mode": "SIMPLE"}, "outlierDetection": {}}),
    )
    assert {(entry.field, entry.message) for entry in found.diagnostics} == {
        ("spec.tls", "tls is not supported yet: these rules are not used"),
        ("spec.tcp", "tcp is not supported yet: these rules are not used"),
        ("spec.trafficPolicy.tls", "tls is not supported yet: connections to endpoints are not encrypted"),
        ("spec.trafficPolicy.outlierDetection", "outlierDetection is not supported yet: no endpoint is ejected"),
    }


def test_unknown_fields() -> None:
    found = translated(service("b"), virtual_service("vs", ["b"], {"route": [to("b")], "timeuot": "1s"}))
    assert codes(found) == [("ACMG002", "default/vs", "spec.http[0].timeuot")]
    assert found.diagnostics[0].message == "there is no such field in VirtualService"


def test_session_affinity() -> None:
    assert codes(translated(service("b", sessionAffinity="ClientIP"))) == [("ACMG001", "default/b", "spec.sessionAffinity")]


@pytest.mark.parametrize("host", ["ghost", "*.example.com", "b.other", "x.example.com"])
def test_a_destination_rule_for_nothing(host: str) -> None:
    assert codes(translated(service("b"), destination_rule("dr", host))) == [("IST0174", "default/dr", "spec.host")]


@pytest.mark.parametrize(("host", "expected"), [("b", []), ("*.local", []), ("b.default", [("ACMG003", "default/dr", "spec.host")])])
def test_a_destination_rule_for_something(host: str, expected: list[tuple[str, str, str]]) -> None:
    assert codes(translated(service("b"), destination_rule("dr", host))) == expected


def test_a_second_subset_of_one_name() -> None:
    found = translated(service("b"), destination_rule("dr", "b", subset("v1"), subset("v2"), subset("v1")))
    assert codes(found) == [("ACMG011", "default/dr", "spec.subsets[2].name")]


def test_passthrough_at_every_level() -> None:
    policy = {"loadBalancer": {"simple": "PASSTHROUGH"}}
    levels = {**policy, "portLevelSettings": [{"port": {"number": 80}, **policy}]}
    rule = destination_rule("dr", "b", subset("v1", levels), subset("v2", {"connectionPool": {}}), trafficPolicy=levels)
    fields = ["spec.trafficPolicy", "spec.subsets[0].trafficPolicy"]
    assert {field for _, _, field in codes(translated(service("b"), rule))} == {
        f"{field}{level}.loadBalancer.simple" for field in fields for level in ("", ".portLevelSettings[0]")
    }


def test_the_context_shows_what_it_holds() -> None:
    assert repr(Context(Store(), TranslateOptions())).startswith("<Context <Store 0 Service")

# SPDX-License-Identifier: Apache-2.0
"""Tests of routing.translate: findings about single objects."""

from __future__ import annotations

from typing import Any

import pytest

from routing.store import Store
from routing.translate import TranslateOptions
from routing.translate._context import Context
from tests.unit.routing.objects import (
    Obj,
    codes,
    destination_rule,
    service,
    service_entry,
    subset,
    to,
    translated,
    virtual_service,
)


def test_tls_and_tcp_rules_and_unknown_fields() -> None:
    found = translated(service("b"), virtual_service("vs", ["b"], {"route": [to("b")], "timeuot": "1s"}, tls=[{}], tcp=[{}]))
    assert {(entry.code, entry.field, entry.message) for entry in found.diagnostics} == {
        ("ACMG001", "spec.tls", "tls is not supported: these rules are not used"),
        ("ACMG001", "spec.tcp", "tcp is not supported: these rules are not used"),
        ("ACMG002", "spec.http[0].timeuot", "there is no such field in VirtualService"),
    }


@pytest.mark.parametrize(
    ("policy", "field", "code"),
    [
        ({"tls": {"mode": "SIMPLE", "credentialName": "x"}}, "tls.credentialName", "ACMG001"),
        ({"tls": {"mode": "SIMPLE", "caCrl": "x"}}, "tls.caCrl", "ACMG001"),
        ({"tls": {"mode": "MUTUAL"}}, "tls.mode", "ACMG016"),
        ({"tunnel": {}}, "tunnel", "ACMG001"),
        ({"retryBudget": {"budgetInterval": "1s"}}, "retryBudget.budgetInterval", "ACMG001"),
        ({"loadBalancer": {"zoneAwareLbSetting": {}}}, "loadBalancer.zoneAwareLbSetting", "ACMG001"),
        ({"loadBalancer": {"simple": "PASSTHROUGH"}}, "loadBalancer.simple", "ACMG001"),
        ({"loadBalancer": {"simple": "LEAST_CONN"}}, "loadBalancer.simple", "ACMG013"),
        ({"loadBalancer": {"consistentHash": {}}}, "loadBalancer.consistentHash", "ACMG014"),
        ({"loadBalancer": {"warmupDurationSecs": "1s"}}, "loadBalancer.warmupDurationSecs", "ACMG013"),
        ({"loadBalancer": {"simple": "RANDOM", "warmup": {"duration": "1s"}}}, "loadBalancer.warmup", "ACMG014"),
        (
            {"loadBalancer": {"localityLbSetting": {"failover": [{"from": "a", "to": "b"}]}}},
            "loadBalancer.localityLbSetting",
            "ACMG014",
        ),
        ({"loadBalancer": {"localityLbSetting": {}}}, "loadBalancer.localityLbSetting", "ACMG014"),
        ({"connectionPool": {"tcp": {"idleTimeout": "1s"}}}, "connectionPool.tcp.idleTimeout", "ACMG001"),
        ({"connectionPool": {"http": {"maxConcurrentStreams": 1}}}, "connectionPool.http.maxConcurrentStreams", "ACMG021"),
        ({"connectionPool": {"http": {"h2UpgradePolicy": "UPGRADE"}}}, "connectionPool.http.h2UpgradePolicy", "ACMG001"),
        ({"connectionPool": {"http": {"useClientProtocol": True}}}, "connectionPool.http.useClientProtocol", "ACMG021"),
        ({"connectionPool": {"tcp": {"maxConnections": 1}}}, "connectionPool", "ACMG015"),
        ({"outlierDetection": {"consecutiveErrors": 1}}, "outlierDetection.consecutiveErrors", "ACMG013"),
        (
            {"outlierDetection": {"consecutiveLocalOriginFailures": 1}},
            "outlierDetection.consecutiveLocalOriginFailures",
            "ACMG014",
        ),
    ],
)
def test_policies_at_every_level(policy: Obj, field: str, code: str) -> None:
    levels = {**policy, "portLevelSettings": [{"port": {"number": 80}, **policy}]}
    rule = destination_rule("dr", "b", subset("v1", levels), subset("v2", {"connectionPool": {}}), trafficPolicy=levels)
    places = ["spec.trafficPolicy", "spec.subsets[0].trafficPolicy"]
    assert set(codes(translated(service("b"), rule))) == {
        (code, "default/dr", f"{place}{level}.{field}") for place in places for level in ("", ".portLevelSettings[0]")
    }


@pytest.mark.parametrize(
    "balancer",
    [
        {"simple": "ROUND_ROBIN", "warmup": {"duration": "1s"}},
        {"localityLbSetting": {"enabled": False}},
        {"localityLbSetting": {"distribute": [{"from": "a", "to": {"b": 100}}]}},
    ],
)
def test_balancers_without_findings(balancer: Obj) -> None:
    policy = {"loadBalancer": balancer, "tls": {"mode": "SIMPLE"}, "retryBudget": {"percent": 1}}
    assert codes(translated(service("b"), destination_rule("dr", "b", trafficPolicy=policy))) == []


def test_a_warmup_in_its_old_form_needs_the_same_balancers() -> None:
    balancer = {"consistentHash": {"useSourceIp": True, "minimumRingSize": 5}, "warmupDurationSecs": "1s"}
    found = codes(translated(service("b"), destination_rule("dr", "b", trafficPolicy={"loadBalancer": balancer})))
    assert [(code, field.rpartition(".")[2]) for code, _, field in found] == [
        ("ACMG014", "warmupDurationSecs"),
        ("ACMG013", "minimumRingSize"),
        ("ACMG013", "warmupDurationSecs"),
    ]


def test_failover_is_in_order_where_outlier_detection_holds() -> None:
    near = {"loadBalancer": {"localityLbSetting": {"enabled": True}}}
    watched = {"outlierDetection": {"splitExternalLocalOriginErrors": True, "consecutiveLocalOriginFailures": 1}}
    assert codes(translated(service("b"), destination_rule("dr", "b", trafficPolicy=near | watched))) == []
    assert codes(translated(service("b"), destination_rule("dr", "b", subset("v1", near), trafficPolicy=watched))) == []
    at_port = watched | {"portLevelSettings": [{"port": {"number": 80}, **near}]}
    assert len(codes(translated(service("b"), destination_rule("dr", "b", trafficPolicy=at_port)))) == 1


def test_limits_are_said_to_be_per_gateway_until_their_author_knows() -> None:
    limits = {"tcp": {"maxConnections": 1}, "http": {"http1MaxPendingRequests": 2, "http2MaxRequests": 3, "maxRetries": 4}}
    rule: dict[str, Any] = {"trafficPolicy": {"connectionPool": limits}}
    (found,) = translated(service("b"), destination_rule("dr", "b", **rule)).diagnostics
    assert found.message.startswith("maxConnections, http1MaxPendingRequests, http2MaxRequests, maxRetries: a limit")
    known = destination_rule("dr", "b", annotations={"acmg.io/limits": "gateway"}, **rule)
    assert codes(translated(service("b"), known)) == []


def test_rules_for_some_callers_only() -> None:
    rule = destination_rule("dr", "b", workloadSelector={"matchLabels": {"app": "a"}})
    assert codes(translated(service("b"), rule)) == [("ACMG001", "default/dr", "spec.workloadSelector")]


@pytest.mark.parametrize("host", ["ghost", "*.example.com", "b.other", "x.example.com"])
def test_a_destination_rule_for_nothing(host: str) -> None:
    assert codes(translated(service("b"), destination_rule("dr", host))) == [("IST0174", "default/dr", "spec.host")]


@pytest.mark.parametrize(
    ("host", "expected"), [("b", []), ("*.local", []), ("b.default", [("ACMG003", "default/dr", "spec.host")])]
)
def test_a_destination_rule_for_something(host: str, expected: list[tuple[str, str, str]]) -> None:
    assert codes(translated(service("b"), destination_rule("dr", host))) == expected


def test_a_second_subset_of_one_name() -> None:
    found = translated(service("b"), destination_rule("dr", "b", subset("v1"), subset("v2"), subset("v1")))
    assert codes(found) == [("ACMG011", "default/dr", "spec.subsets[2].name")]


@pytest.mark.parametrize(
    ("port", "expected"),
    [
        ({"name": "http-x", "appProtocol": None}, None),
        ({"name": "x", "appProtocol": "kubernetes.io/ws"}, None),
        ({"name": "x", "appProtocol": None}, ("IST0118", "name")),
        ({"appProtocol": None}, ("IST0118", "name")),
        ({"name": "tcp", "appProtocol": None}, ("ACMG018", "name")),
        ({"name": "grpc-web", "appProtocol": None}, ("ACMG018", "name")),
        ({"name": "http", "appProtocol": "kubernetes.io/h2c"}, ("ACMG018", "appProtocol")),
        ({"name": "x", "protocol": "UDP", "appProtocol": None}, None),
    ],
)
def test_what_ports_of_services_declare(port: dict[str, Any], expected: tuple[str, str] | None) -> None:
    found = codes(translated(service("b", ports=[{"port": 80, **port}])))
    assert found == ([(expected[0], "default/b", f"spec.ports[0].{expected[1]}")] if expected is not None else [])


def test_a_services_visibility_is_not_supported() -> None:
    annotation = "networking.istio.io/exportTo"
    found = translated(service("b", annotations={annotation: "."}))
    assert codes(found) == [("ACMG001", "default/b", f"metadata.annotations.{annotation}")]


def test_delegates_that_nobody_uses() -> None:
    rules = [
        {"match": [{"uri": {"prefix": "/a"}}], "delegate": {"name": "used"}},
        {"match": [{"uri": {"prefix": "/b"}}], "delegate": {"name": "far", "namespace": "other"}},
    ]
    answer = {"directResponse": {"status": 200}}
    leaves = [
        virtual_service("used", [], answer),
        virtual_service("far", [], answer, namespace="other"),
        virtual_service("unused", [], answer),
    ]
    found = translated(service("b"), virtual_service("root", ["b"], *rules), *leaves)
    assert codes(found) == [("ACMG017", "default/unused", "spec.hosts")]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"resolution": "NONE"}, [("ACMG021", "spec.resolution")]),
        ({"resolution": "DYNAMIC_DNS", "hosts": ["*.x.test"]}, [("ACMG023", "spec.hosts[0]")]),
        ({"hosts": ["*.x.test", "y.test"]}, [("ACMG023", "spec.hosts[0]"), ("ACMG021", "spec.resolution")]),
        ({"resolution": "DNS_ROUND_ROBIN"}, [("ACMG021", "spec.resolution")]),
        ({"resolution": "DNS"}, []),
        ({"resolution": "DNS", "addresses": ["10.0.0.0/8"], "hosts": ["x.test", "y.test"]}, []),
        ({"resolution": "DNS", "addresses": ["10.0.0.1"], "hosts": ["x.test", "y.test"]}, [("ACMG014", "spec.addresses")]),
        ({"resolution": "NONE", "workloadSelector": {"labels": {}}}, []),
        (
            {"resolution": "DNS", "ports": [{"number": 443, "name": "tls", "protocol": "TLS"}]},
            [("ACMG020", "spec.ports[0].protocol")],
        ),
        (
            {"resolution": "STATIC", "endpoints": [{"address": "10.0.0.1", "network": "n"}]},
            [("ACMG001", "spec.endpoints[0].network")],
        ),
    ],
)
def test_service_entries(spec: Obj, expected: list[tuple[str, str]]) -> None:
    entry = service_entry("se", ["x.test"])
    entry["spec"] |= spec
    assert [(code, field) for code, _, field in codes(translated(entry))] == expected


def test_a_virtual_service_host_that_nothing_has() -> None:
    found = translated(service("b"), virtual_service("vs", ["x.test", "*.example.com", "b", "*.local"]))
    assert codes(found) == [("IST0132", "default/vs", "spec.hosts[0]"), ("IST0132", "default/vs", "spec.hosts[1]")]


@pytest.mark.parametrize("action", [{"redirect": {"uri": "/x"}}, {"directResponse": {"status": 200}}])
def test_blocks_without_effect_beside_a_local_answer(action: Obj) -> None:
    blocks = {"timeout": "1s", "retries": {"attempts": 1}, "mirror": {"host": "b"}, "corsPolicy": {}}
    found = translated(service("b"), virtual_service("vs", ["b"], {**action, **blocks}))
    assert {(code, field.rpartition(".")[2]) for code, _, field in codes(found)} == {("ACMG014", name) for name in blocks}


def test_the_context_shows_what_it_holds() -> None:
    assert repr(Context(Store(), TranslateOptions())).startswith("<Context <Store 0 Service")

# SPDX-License-Identifier: Apache-2.0
"""Tests of routing.translate: what policies and Services say about clusters."""

from __future__ import annotations

from typing import Any

import pytest

from routing.specs import (
    ClusterSpec,
    HashSpec,
    KeepaliveSpec,
    LocalitySpec,
    OriginSpec,
    OutlierSpec,
    RetryBudgetSpec,
    TlsSpec,
    WarmupSpec,
)
from tests.unit.routing.objects import Obj, destination_rule, service, service_entry, subset, translated

B = "b.default.svc.cluster.local"


def _cluster(policy: Obj, subset_policy: Obj | None = None, name: str = "", **spec: Any) -> ClusterSpec:
    rule = destination_rule("dr", "b", subset("s", subset_policy), trafficPolicy=policy)
    return translated(service("b", **spec), rule).specs.clusters[f"outbound|80|{name}|{B}"]


def _balanced(balancer: Obj, **spec: Any) -> ClusterSpec:
    return _cluster({"loadBalancer": balancer}, **spec)


@pytest.mark.parametrize(
    ("hashed", "balancer", "expected"),
    [
        ({"httpHeaderName": "X-User"}, "RING_HASH", HashSpec(kind="header", name="x-user")),
        ({"useSourceIp": True}, "RING_HASH", HashSpec(kind="source-ip")),
        ({"httpQueryParameterName": "Q"}, "RING_HASH", HashSpec(kind="query", name="Q")),
        ({"httpCookie": {"name": "c"}}, "RING_HASH", HashSpec(kind="cookie", name="c")),
        (
            {
                "httpCookie": {
                    "name": "c",
                    "path": "/p",
                    "ttl": "0s",
                    "attributes": [{"name": "Secure"}, {"name": "a", "value": "1"}],
                }
            },
            "RING_HASH",
            HashSpec(kind="cookie", name="c", path="/p", ttl_s=0.0, attributes=(("Secure", ""), ("a", "1"))),
        ),
        ({"useSourceIp": True, "ringHash": {"minimumRingSize": 9}}, "RING_HASH", HashSpec(kind="source-ip", ring_size=9)),
        ({"useSourceIp": True, "ringHash": {}}, "RING_HASH", HashSpec(kind="source-ip")),
        ({"useSourceIp": True, "minimumRingSize": 9}, "RING_HASH", HashSpec(kind="source-ip", ring_size=9)),
        ({"useSourceIp": True, "maglev": {}}, "MAGLEV", HashSpec(kind="source-ip")),
        ({"useSourceIp": True, "maglev": {"tableSize": 101}}, "MAGLEV", HashSpec(kind="source-ip", table_size=101)),
        ({}, "RANDOM", None),
    ],
)
def test_consistent_hashing(hashed: Obj, balancer: str, expected: HashSpec | None) -> None:
    found = _balanced({"consistentHash": hashed, "warmup": {"duration": "1s"}})
    assert (found.balancer, found.hash, found.warmup) == (balancer, expected, None)


@pytest.mark.parametrize(
    ("balancer", "expected"),
    [
        ({"warmup": {"duration": "5s"}}, WarmupSpec(duration_s=5.0)),
        (
            {"simple": "ROUND_ROBIN", "warmup": {"duration": "5s", "minimumPercent": 1, "aggression": 2.5}},
            WarmupSpec(duration_s=5.0, minimum_percent=1.0, aggression=2.5),
        ),
        ({"warmupDurationSecs": "5s"}, WarmupSpec(duration_s=5.0)),
        ({"simple": "RANDOM", "warmup": {"duration": "5s"}}, None),
    ],
)
def test_warmup(balancer: Obj, expected: WarmupSpec | None) -> None:
    assert _balanced(balancer).warmup == expected


def test_a_services_session_affinity_is_a_hash_of_the_source_unless_a_rule_says_otherwise() -> None:
    sticky: dict[str, Any] = {"sessionAffinity": "ClientIP"}
    clusters = translated(service("b", **sticky)).specs.clusters
    assert {(found.balancer, found.hash) for found in clusters.values()} == {("RING_HASH", HashSpec(kind="source-ip"))}
    assert _balanced({"localityLbSetting": {}, "warmup": {"duration": "1s"}}, **sticky).balancer == "RING_HASH"
    assert _balanced({"simple": "LEAST_REQUEST"}, **sticky).balancer == "LEAST_REQUEST"
    assert _balanced({"consistentHash": {"httpHeaderName": "x"}}, **sticky).hash == HashSpec(kind="header", name="x")
    assert _cluster({"connectionPool": {}}, **sticky).balancer == "RING_HASH"


@pytest.mark.parametrize("value", ["PreferClose", "PreferSameZone", "PreferSameNode"])
def test_a_services_traffic_distribution_prefers_what_is_near(value: str) -> None:
    near: dict[str, Any] = {"trafficDistribution": value}
    assert _cluster({}, **near).locality == LocalitySpec(always=True)
    assert _balanced({"simple": "RANDOM"}, **near).locality == LocalitySpec(always=True)
    assert _balanced({"localityLbSetting": {"enabled": False}}, **near).locality is None
    assert _cluster({}, trafficDistribution="Other").locality is None


def test_localities() -> None:
    failover: Obj = {"failover": [{"from": "r1", "to": "r2"}], "failoverPriority": ["app", "version=v1"]}
    expected = LocalitySpec(failover=(("r1", "r2"),), failover_priority=("app", "version=v1"))
    watched: Obj = {"outlierDetection": {}}
    assert _cluster({"loadBalancer": {"localityLbSetting": failover}, **watched}).locality == expected
    assert _cluster({"loadBalancer": {"localityLbSetting": {"enabled": True}}, **watched}).locality == LocalitySpec()
    assert _cluster({"loadBalancer": {"localityLbSetting": failover}}).locality is None
    assert _cluster(watched).locality is None
    distribute = {"distribute": [{"from": "r1/*", "to": {"r1/z1": 80, "r2": 20}}]}
    assert _balanced({"localityLbSetting": distribute}).locality == LocalitySpec(
        distribute=(("r1/*", (("r1/z1", 80), ("r2", 20))),)
    )


def test_the_connection_pool() -> None:
    pool = {
        "tcp": {
            "maxConnections": 1,
            "connectTimeout": "2s",
            "maxConnectionDuration": "3s",
            "tcpKeepalive": {"probes": 4, "time": "5s", "interval": "6s"},
        },
        "http": {
            "http1MaxPendingRequests": 7,
            "http2MaxRequests": 8,
            "maxRetries": 9,
            "maxRequestsPerConnection": 10,
            "idleTimeout": "11s",
        },
    }
    assert _cluster({"connectionPool": pool}) == ClusterSpec(
        name=f"outbound|80||{B}",
        service=B,
        service_name="b",
        service_namespace="default",
        port=80,
        max_connections=1,
        connect_timeout_s=2.0,
        max_connection_duration_s=3.0,
        keepalive=KeepaliveSpec(probes=4, time_s=5.0, interval_s=6.0),
        max_pending_requests=7,
        max_requests=8,
        max_retries=9,
        max_requests_per_connection=10,
        idle_timeout_s=11.0,
        origins=(OriginSpec(kind="DestinationRule", namespace="default", name="dr"),),
    )
    assert _cluster({"connectionPool": {"tcp": {"tcpKeepalive": {}}}}).keepalive == KeepaliveSpec()


@pytest.mark.parametrize(
    ("detection", "expected"),
    [
        ({}, OutlierSpec()),
        ({"maxEjectionPercent": 0, "consecutive5xxErrors": 0}, OutlierSpec(consecutive_5xx=0)),
        ({"consecutiveErrors": 3}, OutlierSpec(consecutive_gateway=3)),
        ({"consecutiveErrors": 3, "consecutiveGatewayErrors": 0}, OutlierSpec()),
        (
            {
                "consecutive5xxErrors": 1,
                "consecutiveGatewayErrors": 2,
                "consecutiveLocalOriginFailures": 3,
                "splitExternalLocalOriginErrors": True,
                "interval": "4s",
                "baseEjectionTime": "5s",
                "maxEjectionPercent": 6,
                "minHealthPercent": 7,
                "outlierDetectionHttpErrorCodes": [404, 500],
            },
            OutlierSpec(
                consecutive_5xx=1,
                consecutive_gateway=2,
                consecutive_local_origin=3,
                split_local_origin=True,
                interval_s=4.0,
                base_ejection_s=5.0,
                max_ejection_percent=6,
                min_health_percent=7,
                status_codes=(404, 500),
            ),
        ),
    ],
)
def test_outlier_detection(detection: Obj, expected: OutlierSpec) -> None:
    assert _cluster({"outlierDetection": detection}).outlier == expected


@pytest.mark.parametrize(
    ("tls", "expected"),
    [
        ({}, None),
        ({"mode": "DISABLE", "sni": "x.test"}, None),
        ({"mode": "SIMPLE"}, TlsSpec()),
        ({"mode": "MUTUAL"}, TlsSpec()),
        (
            {"mode": "SIMPLE", "sni": "x.test", "subjectAltNames": ["y"], "caCertificates": "/ca", "insecureSkipVerify": True},
            TlsSpec(sni="x.test", subject_alt_names=("y",), ca_file="/ca", insecure_skip_verify=True),
        ),
    ],
)
def test_tls(tls: Obj, expected: TlsSpec | None) -> None:
    assert _cluster({"tls": tls}).tls == expected


def test_subject_names_of_a_service_entry_hold_unless_the_rule_has_some() -> None:
    entry = service_entry("se", ["x.test"], resolution="DNS", subjectAltNames=["entry"])
    for names, expected in (([], ("entry",)), (["rule"], ("rule",))):
        rule = destination_rule("dr", "x.test", trafficPolicy={"tls": {"mode": "SIMPLE", "subjectAltNames": names}})
        assert translated(entry, rule).specs.clusters["outbound|80||x.test"].tls == TlsSpec(subject_alt_names=expected)


@pytest.mark.parametrize(("version", "number"), [({}, 1), ({"version": "V1"}, 1), ({"version": "V2"}, 2)])
def test_the_proxy_protocol(version: Obj, number: int) -> None:
    assert _cluster({"proxyProtocol": version}).proxy_protocol == number


@pytest.mark.parametrize(
    ("budget", "expected"),
    [({}, RetryBudgetSpec()), ({"percent": 12.5, "minRetryConcurrency": 0}, RetryBudgetSpec(percent=12.5, minimum=0))],
)
def test_the_retry_budget(budget: Obj, expected: RetryBudgetSpec) -> None:
    assert _cluster({"retryBudget": budget}).retry_budget == expected


ALL_BLOCKS: Obj = {
    "loadBalancer": {"simple": "RANDOM"},
    "connectionPool": {"tcp": {"maxConnections": 1}},
    "outlierDetection": {},
    "tls": {"mode": "SIMPLE"},
    "proxyProtocol": {},
    "retryBudget": {},
}


def _given(found: ClusterSpec) -> set[str]:
    blocks = {
        "loadBalancer": found.balancer != "LEAST_REQUEST",
        "connectionPool": found.max_connections,
        "outlierDetection": found.outlier,
        "tls": found.tls,
        "proxyProtocol": found.proxy_protocol,
        "retryBudget": found.retry_budget,
    }
    return {name for name, value in blocks.items() if value}


@pytest.mark.parametrize("block", list(ALL_BLOCKS))
def test_every_block_is_replaced_by_port_and_merged_by_subset(block: str) -> None:
    at_port = {"portLevelSettings": [{"port": {"number": 80}, block: ALL_BLOCKS[block]}]}
    others = {name: value for name, value in ALL_BLOCKS.items() if name != block}
    assert _given(_cluster(ALL_BLOCKS)) == set(ALL_BLOCKS)
    assert _given(_cluster(others | at_port)) == {block}
    assert _given(_cluster(others, {block: ALL_BLOCKS[block]}, "s")) == set(ALL_BLOCKS)
    assert _given(_cluster(others, {block: ALL_BLOCKS[block]})) == set(others)
    assert _given(_cluster(others, at_port, "s")) == {block}

# SPDX-License-Identifier: Apache-2.0
"""Tests of routing.resources: what a DestinationRule is, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from routing.resources import FieldNote, ResourceError, decode
from tests.unit.routing.objects import decoded_dr, destination_rule, subset


def test_a_full_rule() -> None:
    policy = {
        "loadBalancer": {"simple": "ROUND_ROBIN", "warmup": {"duration": "1s"}},
        "connectionPool": {
            "tcp": {"connectTimeout": "250ms", "maxConnections": 5},
            "http": {"idleTimeout": "0s", "maxRequestsPerConnection": 1, "maxRetries": 3},
        },
        "outlierDetection": {},
    }
    port_level = {"portLevelSettings": [{"port": {"number": 80}, "tls": {"mode": "SIMPLE", "credentialName": "x"}}]}
    found = decoded_dr(destination_rule("dr", "b", subset("v1", port_level, version="v1"), trafficPolicy=policy, exportTo=["*"]))
    assert found.spec.traffic_policy is not None
    assert found.spec.traffic_policy.connection_pool is not None
    assert found.spec.traffic_policy.connection_pool.tcp.connect_timeout == 0.25
    assert found.spec.subsets[0].labels == {"version": "v1"}
    assert found.notes == (FieldNote("spec.subsets[0].trafficPolicy.portLevelSettings[0].tls.credentialName", "unsupported"),)


@pytest.mark.parametrize("version", ["v1", "v1beta1", "v1alpha3"])
def test_every_served_version_is_read(version: str) -> None:
    obj = destination_rule("dr", "*.local")
    obj["apiVersion"] = f"networking.istio.io/{version}"
    assert decoded_dr(obj).spec.host == "*.local"


def _pool(**pool: Any) -> dict[str, Any]:
    return {"connectionPool": pool}


@pytest.mark.parametrize(
    ("spec", "field", "reason"),
    [
        ({"host": ""}, "spec.host", "must not be empty"),
        ({"exportTo": ["a", "a"]}, "spec.exportTo[1]", "'a' is given twice"),
        (
            {"exportTo": ["other"], "workloadSelector": {"matchLabels": {"a": "b"}}},
            "spec.exportTo",
            "a rule with a workloadSelector holds in its own namespace only",
        ),
        ({"subsets": [subset("")]}, "spec.subsets[0].name", "'' is not a name"),
        ({"subsets": [subset("a|b")]}, "spec.subsets[0].name", "'a|b' is not a name"),
        ({"subsets": [subset("a@b")]}, "spec.subsets[0].name", "'a@b' is not a name"),
        (
            {"trafficPolicy": {"loadBalancer": {"simple": "FASTEST"}}},
            "spec.trafficPolicy.loadBalancer.simple",
            "invalid enum value 'FASTEST'",
        ),
        (
            {"trafficPolicy": _pool(tcp={"connectTimeout": "0s"})},
            "spec.trafficPolicy.connectionPool.tcp.connectTimeout",
            "must be at least 1ms",
        ),
        (
            {"subsets": [subset("a", _pool(http={"idleTimeout": "1us"}))]},
            "spec.subsets[0].trafficPolicy.connectionPool.http.idleTimeout",
            "must be at least 1ms, or 0s for none",
        ),
        (
            {"trafficPolicy": {"portLevelSettings": [{"port": {"number": 80}, **_pool(tcp={"connectTimeout": "0s"})}]}},
            "spec.trafficPolicy.portLevelSettings[0].connectionPool.tcp.connectTimeout",
            "must be at least 1ms",
        ),
    ],
)
def test_what_is_refused(spec: dict[str, Any], field: str, reason: str) -> None:
    obj = destination_rule("dr", "b")
    obj["spec"] |= spec
    with pytest.raises(ResourceError) as caught:
        decode(obj)
    assert caught.value.problems == ((field, reason),)


def _balancer(**balancer: Any) -> dict[str, Any]:
    return {"loadBalancer": balancer}


def _near(**setting: Any) -> dict[str, Any]:
    return _balancer(localityLbSetting=setting)


LOCALITY = "is not a locality: region, region/zone or region/zone/subzone, `*` last"


@pytest.mark.parametrize(
    ("policy", "field", "reason"),
    [
        (
            {"tls": {"mode": "ISTIO_MUTUAL"}},
            "tls.mode",
            "ISTIO_MUTUAL needs an identity of Istio's, which this gateway does not have",
        ),
        ({"tls": {"mode": "SIMPLE", "sni": "a b"}}, "tls.sni", "'a b' is not a host"),
        ({"tls": {"mode": "SIMPLE", "sni": "*.x"}}, "tls.sni", "must not be a wildcard"),
        ({"outlierDetection": {"interval": "0s"}}, "outlierDetection.interval", "must be at least 1ms"),
        ({"outlierDetection": {"baseEjectionTime": "1us"}}, "outlierDetection.baseEjectionTime", "must be at least 1ms"),
        ({"outlierDetection": {"maxEjectionPercent": 101}}, "outlierDetection.maxEjectionPercent", "expected int <= 100"),
        (
            {"outlierDetection": {"outlierDetectionHttpErrorCodes": [99]}},
            "outlierDetection.outlierDetectionHttpErrorCodes[0]",
            "expected int >= 100",
        ),
        (
            _balancer(simple="RANDOM", consistentHash={"useSourceIp": True}),
            "loadBalancer",
            "simple and consistentHash exclude each other",
        ),
        (_balancer(warmup={"duration": "0s"}), "loadBalancer.warmup.duration", "must be at least 1ms"),
        (_balancer(warmup={"duration": "1s", "aggression": 0.5}), "loadBalancer.warmup.aggression", "expected float >= 1.0"),
        (_balancer(warmupDurationSecs="0s"), "loadBalancer.warmupDurationSecs", "must be at least 1ms"),
        (
            _balancer(consistentHash={"useSourceIp": True, "httpHeaderName": "x"}),
            "loadBalancer.consistentHash",
            "httpHeaderName and useSourceIp exclude each other",
        ),
        (
            _balancer(consistentHash={"httpHeaderName": "a b"}),
            "loadBalancer.consistentHash.httpHeaderName",
            "'a b' is not a header name",
        ),
        (
            _balancer(consistentHash={"httpCookie": {"name": ""}}),
            "loadBalancer.consistentHash.httpCookie.name",
            "'' is not a cookie name",
        ),
        (
            _balancer(consistentHash={"httpCookie": {"name": "c", "path": "/;x"}}),
            "loadBalancer.consistentHash.httpCookie.path",
            "'/;x' is not a path",
        ),
        (
            _balancer(consistentHash={"httpCookie": {"name": "c", "attributes": [{"name": "a", "value": "b\r\n"}]}}),
            "loadBalancer.consistentHash.httpCookie.attributes[0]",
            "a='b\\r\\n' is not an attribute of a cookie",
        ),
        (
            _balancer(consistentHash={"useSourceIp": True, "ringHash": {}, "maglev": {}}),
            "loadBalancer.consistentHash",
            "ringHash and maglev exclude each other",
        ),
        (
            _balancer(consistentHash={"useSourceIp": True, "ringHash": {"minimumRingSize": 8388609}}),
            "loadBalancer.consistentHash.ringHash.minimumRingSize",
            "must be at most 8388608",
        ),
        (
            _balancer(consistentHash={"useSourceIp": True, "maglev": {"tableSize": 100}}),
            "loadBalancer.consistentHash.maglev.tableSize",
            "must be a prime number below 5000011",
        ),
        (
            _balancer(consistentHash={"useSourceIp": True, "maglev": {"tableSize": 1}}),
            "loadBalancer.consistentHash.maglev.tableSize",
            "must be a prime number below 5000011",
        ),
        (_pool(tcp={"maxConnectionDuration": "0s"}), "connectionPool.tcp.maxConnectionDuration", "must be at least 1ms"),
        (_pool(tcp={"tcpKeepalive": {"time": "0s"}}), "connectionPool.tcp.tcpKeepalive.time", "must be at least 1ms"),
        (_pool(tcp={"maxConnections": -1}), "connectionPool.tcp.maxConnections", "expected int >= 0"),
        (
            _near(distribute=[{"from": "a", "to": {"b": 100}}], failoverPriority=["x"]),
            "loadBalancer.localityLbSetting",
            "distribute excludes failover and failoverPriority",
        ),
        (_near(distribute=[{"to": {"b": 100}}]), "loadBalancer.localityLbSetting.distribute[0].from", f"'' {LOCALITY}"),
        (
            _near(distribute=[{"from": "a/b/c/d", "to": {"b": 100}}]),
            "loadBalancer.localityLbSetting.distribute[0].from",
            f"'a/b/c/d' {LOCALITY}",
        ),
        (
            _near(distribute=[{"from": "a*", "to": {"b": 100}}]),
            "loadBalancer.localityLbSetting.distribute[0].from",
            f"'a*' {LOCALITY}",
        ),
        (
            _near(distribute=[{"from": "a/*", "to": {"b": 100}}, {"from": "a/z", "to": {"b": 100}}]),
            "loadBalancer.localityLbSetting.distribute[1].from",
            "'a/z' overlaps with an earlier one",
        ),
        (
            _near(distribute=[{"from": "*", "to": {"*/b": 100}}]),
            "loadBalancer.localityLbSetting.distribute[0].to",
            f"'*/b' {LOCALITY}",
        ),
        (
            _near(distribute=[{"from": "*", "to": {"b": 99}}]),
            "loadBalancer.localityLbSetting.distribute[0].to",
            "must add up to 100",
        ),
        (
            _near(distribute=[{"from": "*", "to": {"b": 0, "c": 100}}]),
            "loadBalancer.localityLbSetting.distribute[0].to.b",
            "must be 1 to 100",
        ),
        (_near(failover=[{"from": "a"}]), "loadBalancer.localityLbSetting.failover[0]", "from and to must be regions"),
        (
            _near(failover=[{"from": "a", "to": "b/c"}]),
            "loadBalancer.localityLbSetting.failover[0]",
            "from and to must be regions",
        ),
        (
            _near(failover=[{"from": "a", "to": "a"}]),
            "loadBalancer.localityLbSetting.failover[0]",
            "a region must not fail over to itself",
        ),
        (
            _near(failover=[{"from": "a", "to": "b"}, {"from": "a", "to": "c"}]),
            "loadBalancer.localityLbSetting.failover[1]",
            "'a' is given twice",
        ),
        (
            _near(failoverPriority=["=x"]),
            "loadBalancer.localityLbSetting.failoverPriority[0]",
            "must be the name of a label, or name=value",
        ),
        (_near(failoverPriority=["a", "a=b"]), "loadBalancer.localityLbSetting.failoverPriority[1]", "'a' is given twice"),
        (
            _near(failover=[{"from": "a", "to": "b"}], failoverPriority=["topology.kubernetes.io/zone"]),
            "loadBalancer.localityLbSetting.failoverPriority[0]",
            "topology.kubernetes.io/zone excludes failover",
        ),
    ],
)
def test_policies_that_are_refused(policy: dict[str, Any], field: str, reason: str) -> None:
    with pytest.raises(ResourceError) as caught:
        decode(destination_rule("dr", "b", trafficPolicy=policy))
    ((found, why),) = caught.value.problems
    assert found == f"spec.trafficPolicy.{field}"
    assert why.startswith(reason)


@pytest.mark.parametrize(
    "policy",
    [
        _near(distribute=[{"from": "a/z", "to": {"a/z/s": 60, "b/*": 40}}, {"from": "b", "to": {"*": 100}}]),
        _near(failover=[{"from": "a", "to": "b"}], failoverPriority=["app=x", "version"]),
        _balancer(consistentHash={"httpCookie": {"name": "c", "ttl": "0s"}, "maglev": {"tableSize": 65537}}),
        {"tls": {"mode": "SIMPLE", "sni": "x.test"}, "proxyProtocol": {"version": "V2"}, "tunnel": {"protocol": "CONNECT"}},
    ],
)
def test_policies_that_are_valid(policy: dict[str, Any]) -> None:
    assert decoded_dr(destination_rule("dr", "b", trafficPolicy=policy)).spec.traffic_policy is not None


def test_a_workload_selector_in_its_own_namespace_is_valid() -> None:
    obj = destination_rule("dr", "b", exportTo=["."], workloadSelector={"matchLabels": {"app": "a"}})
    selector = decoded_dr(obj).spec.workload_selector
    assert selector is not None
    assert selector.match_labels == {"app": "a"}

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
    port_level = {"portLevelSettings": [{"port": {"number": 80}, "tls": {"mode": "SIMPLE"}}]}
    found = decoded_dr(destination_rule("dr", "b", subset("v1", port_level, version="v1"), trafficPolicy=policy, exportTo=["*"]))
    assert found.spec.traffic_policy is not None
    assert found.spec.traffic_policy.connection_pool is not None
    assert found.spec.traffic_policy.connection_pool.tcp.connect_timeout == 0.25
    assert found.spec.subsets[0].labels == {"version": "v1"}
    assert found.notes == (
        FieldNote("spec.subsets[0].trafficPolicy.portLevelSettings[0].tls", "unsupported"),
        FieldNote("spec.trafficPolicy.loadBalancer.warmup", "unsupported"),
        FieldNote("spec.trafficPolicy.connectionPool.tcp.maxConnections", "unsupported"),
        FieldNote("spec.trafficPolicy.connectionPool.http.maxRetries", "unsupported"),
        FieldNote("spec.trafficPolicy.outlierDetection", "unsupported"),
    )


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


def test_a_workload_selector_in_its_own_namespace_is_valid() -> None:
    obj = destination_rule("dr", "b", exportTo=["."], workloadSelector={"matchLabels": {"app": "a"}})
    selector = decoded_dr(obj).spec.workload_selector
    assert selector is not None
    assert selector.match_labels == {"app": "a"}

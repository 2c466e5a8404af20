# SPDX-License-Identifier: Apache-2.0
"""Tests of routing.translate: which DestinationRule holds, and what it makes of clusters."""

from __future__ import annotations

from typing import Any

import pytest

from routing.specs import ClusterSpec, Specs
from tests.unit.routing.objects import Obj, codes, destination_rule, service, subset, translated

B = "b.default.svc.cluster.local"


def _policy(simple: str = "", **pool: Any) -> Obj:
    return {"loadBalancer": {"simple": simple} if simple else None, "connectionPool": pool or None}


def _rule(name: str, simple: str, host: str = B, *subsets: Obj, **fields: Any) -> Obj:
    return destination_rule(name, host, *subsets, trafficPolicy=_policy(simple), **fields)


def _balancer(specs: Specs, namespace: str = "", name: str = f"outbound|80||{B}") -> str:
    """The balancer that callers of a namespace see."""
    default = specs.virtual_hosts[f"{B}:80"].default
    assert default is not None
    variant = f"{name}@{namespace}"
    assert (variant in specs.clusters) is (namespace in default.by_namespace)
    return specs.clusters.get(variant, specs.clusters[name]).balancer


def test_every_service_port_is_a_cluster() -> None:
    specs = translated(service("b")).specs
    assert specs.clusters == {
        f"outbound|{port}||{B}": ClusterSpec(
            name=f"outbound|{port}||{B}", service=B, service_name="b", service_namespace="default", port=port
        )
        for port in (80, 8080)
    }


def test_every_subset_is_a_cluster_on_every_port() -> None:
    specs = translated(service("b"), destination_rule("dr", "b", subset("v1", version="v1"), subset("all"))).specs
    assert set(specs.clusters) == {f"outbound|{port}|{name}|{B}" for port in (80, 8080) for name in ("", "v1", "all")}
    assert specs.clusters[f"outbound|80|v1|{B}"].subset == "v1"


@pytest.mark.parametrize("host", ["b", "b.default", "b.default.svc", B, "*.default.svc.cluster.local", "*.local", "*"])
def test_hosts_that_name_the_service(host: str) -> None:
    assert _balancer(translated(service("b"), _rule("dr", "RANDOM", host)).specs) == "RANDOM"


@pytest.mark.parametrize("host", ["c", "b.other", "x.b.default.svc.cluster.local", "*.other.svc.cluster.local"])
def test_hosts_that_do_not(host: str) -> None:
    assert _balancer(translated(service("b"), _rule("dr", "RANDOM", host)).specs) == "LEAST_REQUEST"


@pytest.mark.parametrize(
    ("simple", "expected"),
    [
        ("", "LEAST_REQUEST"),
        ("UNSPECIFIED", "LEAST_REQUEST"),
        ("LEAST_CONN", "LEAST_REQUEST"),
        ("LEAST_REQUEST", "LEAST_REQUEST"),
        ("PASSTHROUGH", "RANDOM"),
        ("ROUND_ROBIN", "ROUND_ROBIN"),
        ("RANDOM", "RANDOM"),
    ],
)
def test_balancers(simple: str, expected: str) -> None:
    assert _balancer(translated(service("b"), _rule("dr", simple)).specs) == expected


def test_connection_pool() -> None:
    http = {"idleTimeout": "0s", "maxRequestsPerConnection": 9}
    policy = _policy(tcp={"connectTimeout": "250ms"}, http=http)
    specs = translated(service("b"), destination_rule("dr", "b", trafficPolicy=policy)).specs
    found = specs.clusters[f"outbound|80||{B}"]
    assert (found.connect_timeout_s, found.idle_timeout_s, found.max_requests_per_connection) == (0.25, 0.0, 9)


def test_the_callers_namespace_then_the_services_then_the_root_namespace_decides() -> None:
    objects = [
        service("b"),
        _rule("root", "RANDOM", "*.local", namespace="istio-system"),
        _rule("own", "ROUND_ROBIN", namespace="other"),
    ]
    specs = translated(*objects).specs
    assert _balancer(specs) == "RANDOM"
    assert _balancer(specs, "other") == "ROUND_ROBIN"
    assert _balancer(specs, "third") == "RANDOM"
    specs = translated(*objects, _rule("owner", "LEAST_REQUEST")).specs
    assert _balancer(specs) == "LEAST_REQUEST"
    assert _balancer(specs, "other") == "ROUND_ROBIN"
    specs = translated(*objects, root_namespace="mesh").specs
    assert _balancer(specs) == "LEAST_REQUEST"
    assert _balancer(specs, "istio-system") == "RANDOM"


def test_callers_in_the_root_namespace_have_no_first_step() -> None:
    specs = translated(service("b"), _rule("owner", "RANDOM"), _rule("root", "ROUND_ROBIN", namespace="istio-system")).specs
    assert _balancer(specs, "istio-system") == "RANDOM"


def test_a_rule_that_is_not_exported_holds_for_its_own_namespace_only() -> None:
    specs = translated(service("b"), _rule("owner", "RANDOM", exportTo=["."])).specs
    assert _balancer(specs) == "LEAST_REQUEST"
    assert _balancer(specs, "default") == "RANDOM"
    specs = translated(service("b"), _rule("owner", "RANDOM", exportTo=["other"])).specs
    assert _balancer(specs, "other") == "RANDOM"
    assert _balancer(specs, "default") == "RANDOM"  # its own namespace sees a rule in any case
    assert _balancer(specs, "third") == "LEAST_REQUEST"


def test_the_most_specific_host_of_a_namespace_decides_alone() -> None:
    specs = translated(
        service("b"),
        destination_rule("wild", "*.default.svc.cluster.local", subset("v1"), created="2024-01-01"),
        _rule("wider", "RANDOM", "*.local", created="2024-01-01"),
        _rule("exact", "ROUND_ROBIN", "b", created="2024-01-02"),
    ).specs
    assert _balancer(specs) == "ROUND_ROBIN"
    assert f"outbound|80|v1|{B}" not in specs.clusters


def test_rules_for_one_host_merge_oldest_first() -> None:
    found = translated(
        service("b"),
        _rule("third", "RANDOM", B, subset("c"), created="2024-01-03"),
        destination_rule("first", "b", subset("a", _policy("RANDOM")), created="2024-01-01"),
        _rule("second", "ROUND_ROBIN", "b", subset("a", _policy("LEAST_REQUEST")), subset("b"), created="2024-01-02"),
    )
    assert _balancer(found.specs) == "ROUND_ROBIN"
    assert _balancer(found.specs, name=f"outbound|80|a|{B}") == "RANDOM"
    assert _balancer(found.specs, name=f"outbound|80|b|{B}") == "ROUND_ROBIN"
    assert _balancer(found.specs, name=f"outbound|80|c|{B}") == "ROUND_ROBIN"


def test_a_rule_for_some_callers_only_holds_for_none() -> None:
    found = translated(service("b"), _rule("dr", "RANDOM", workloadSelector={"matchLabels": {"app": "a"}}))
    assert _balancer(found.specs) == "LEAST_REQUEST"
    assert codes(found) == [("ACMG001", "default/dr", "spec.workloadSelector")]


def _layers(policy: Obj | None, subset_policy: Obj | None = None) -> dict[tuple[int, str], tuple[str, float]]:
    rule = destination_rule("dr", "b", subset("s", subset_policy), trafficPolicy=policy)
    clusters = translated(service("b"), rule).specs.clusters.values()
    return {(cluster.port, cluster.subset): (cluster.balancer, cluster.connect_timeout_s) for cluster in clusters}


def _at(port: int, policy: Obj) -> Obj:
    return {"port": {"number": port}, **policy}


ONE_S = {"connectTimeout": "1s"}
TWO_S = {"connectTimeout": "2s"}


def test_a_port_level_entry_replaces_the_policy_as_a_whole() -> None:
    policy = _policy("RANDOM", tcp=ONE_S) | {"portLevelSettings": [_at(80, _policy("ROUND_ROBIN")), _at(80, _policy("RANDOM"))]}
    assert _layers(policy) == {
        (80, ""): ("ROUND_ROBIN", 10.0),
        (80, "s"): ("ROUND_ROBIN", 10.0),
        (8080, ""): ("RANDOM", 1.0),
        (8080, "s"): ("RANDOM", 1.0),
    }


def test_a_subsets_policy_replaces_block_by_block_and_only_for_the_subset() -> None:
    policy = _policy("RANDOM", tcp=ONE_S) | {"portLevelSettings": [_at(80, _policy(tcp=TWO_S))]}
    assert _layers(policy, _policy("ROUND_ROBIN")) == {
        (80, ""): ("LEAST_REQUEST", 2.0),
        (80, "s"): ("ROUND_ROBIN", 2.0),
        (8080, ""): ("RANDOM", 1.0),
        (8080, "s"): ("ROUND_ROBIN", 1.0),
    }
    assert _layers(None, _policy(tcp=TWO_S))[80, "s"] == ("LEAST_REQUEST", 2.0)


def test_a_subsets_port_level_entry_replaces_everything_above_it() -> None:
    subset_policy = _policy(tcp=TWO_S) | {"portLevelSettings": [_at(80, _policy("ROUND_ROBIN"))]}
    assert _layers(_policy("RANDOM", tcp=ONE_S), subset_policy) == {
        (80, ""): ("RANDOM", 1.0),
        (80, "s"): ("ROUND_ROBIN", 10.0),
        (8080, ""): ("RANDOM", 1.0),
        (8080, "s"): ("RANDOM", 2.0),
    }

# SPDX-License-Identifier: Apache-2.0
"""Values from `KEY=VALUE`: what is understood, what is refused and how it is said."""

from __future__ import annotations

import pytest

from acmgproxy.ctl.manifests import Toleration, Values, ValuesError, describe_keys, known_keys, parse_values


def test_nothing_said_is_the_defaults() -> None:
    assert parse_values([]) == Values()


def test_profile_sets_defaults_wherever_it_stands() -> None:
    first = parse_values(["profile=demo", "gateway.workers=3"])
    last = parse_values(["gateway.workers=3", "profile=demo"])
    assert first == last
    assert (first.gateway.workers, first.controller.replicas, first.disruption_budgets) == (3, 1, False)
    assert parse_values(["profile=acmg"]) == Values()


def test_last_of_several_counts() -> None:
    assert parse_values(["tag=1.0", "tag=2.0"]).tag == "2.0"


def test_values_are_read_by_their_kind() -> None:
    values = parse_values([
        " hub = registry.example.com:5000/mesh ",
        "tag=1.2.3",
        "imagePullPolicy=Always",
        "logLevel=debug",
        "gateway.workers=8",
        "gateway.accessLog=-",
        "gateway.drainAcceptSeconds=0",
        "gateway.drainTimeoutSeconds=120",
        "gateway.nodeSelector=acmg.io/gateway=true,disk=",
        "gateway.tolerations=acmg.io/gateway=true:NoSchedule,dedicated",
        "gateway.resources.requests.cpu=1500m",
        "gateway.resources.limits.memory=",
        "controller.replicas=3",
        "controller.resources.limits.memory=2Gi",
        "monitoring.enabled=true",
        "monitoring.labels=release=prometheus",
        "disruptionBudgets.enabled=false",
        "networkPolicies.enabled=false",
        "gateway.settings.max_connections=100",
        "gateway.settings.limits.max_fields=50",
    ])  # fmt: skip
    assert values.image == "registry.example.com:5000/mesh/acmgproxy:1.2.3"
    assert (values.image_pull_policy, values.log_level) == ("Always", "debug")
    gateway = values.gateway
    assert (gateway.workers, gateway.access_log, gateway.drain_accept_s, gateway.drain_timeout_s) == (8, "-", 0, 120)
    assert gateway.node_selector == {"acmg.io/gateway": "true", "disk": ""}
    assert gateway.tolerations == (
        Toleration(key="acmg.io/gateway", value="true", effect="NoSchedule"),
        Toleration(key="dedicated"),
    )
    assert (gateway.resources.requests_cpu, gateway.resources.limits_memory) == ("1500m", "")
    assert gateway.settings == {"max_connections": "100", "limits.max_fields": "50"}
    assert (values.controller.replicas, values.controller.resources.limits_memory) == (3, "2Gi")
    assert values.monitoring.enabled
    assert values.monitoring.labels == {"release": "prometheus"}
    assert not values.disruption_budgets
    assert not values.network_policies


def test_lists_can_be_emptied() -> None:
    values = parse_values(["gateway.nodeSelector=", "gateway.tolerations="])
    assert (values.gateway.node_selector, values.gateway.tolerations) == ({}, ())


def test_workers_may_be_left_to_the_node() -> None:
    assert parse_values(["gateway.workers=auto"]).gateway.workers == parse_values(["gateway.workers=0"]).gateway.workers == 0


def test_image_without_hub_is_one_that_nodes_have() -> None:
    assert parse_values(["tag=dev"]).image == "acmgproxy:dev"


@pytest.mark.parametrize(
    ("assignment", "nearest"),
    [
        ("gateway.worker=2", "gateway.workers"),
        ("gateway.nodeselector=a=b", "gateway.nodeSelector"),
        ("Hub=x", "hub"),
        ("networkPolicy.enabled=false", "networkPolicies.enabled"),
        ("namespace=mine", ""),
    ],
)
def test_unknown_key_is_told_with_the_nearest(assignment: str, nearest: str) -> None:
    with pytest.raises(ValuesError) as caught:
        parse_values([assignment])
    assert (caught.value.key, caught.value.nearest) == (assignment.partition("=")[0], nearest)
    assert str(caught.value).startswith(f"{caught.value.key}: there is no such key")
    assert not nearest or str(caught.value).endswith(f"; did you mean {nearest}?")


@pytest.mark.parametrize(
    ("assignment", "reason"),
    [
        ("hub", "expected KEY=VALUE"),
        ("=x", "expected KEY=VALUE"),
        ("profile=big", "expected acmg or demo, got 'big'"),
        ("hub=https://registry.example.com", "expected a registry and path"),
        ("tag=", "expected a tag"),
        ("tag=a b", "expected a tag"),
        ("imagePullPolicy=always", "expected Always, IfNotPresent or Never, got 'always'"),
        ("logLevel=loud", "expected debug, info, warning or error"),
        ("gateway.workers=-1", "expected a whole number from 0 to 1024"),
        ("gateway.workers=1025", "expected a whole number from 0 to 1024"),
        ("gateway.workers=٣", "expected a whole number from 0 to 1024"),
        ("controller.replicas=0", "expected a whole number from 1 to 10"),
        ("monitoring.enabled=yes", "expected true or false"),
        ("gateway.resources.requests.cpu=1 core", "expected processors such as"),
        ("gateway.resources.limits.cpu=2Gi", "expected processors such as"),
        ("gateway.resources.requests.memory=256MB", "expected memory such as"),
        ("controller.resources.limits.memory=500m", "expected memory such as"),
        ("gateway.nodeSelector=gateway", "expected labels as in"),
        ("gateway.nodeSelector=a=b c", "expected labels as in"),
        ("gateway.tolerations=a=b:Never", "expected taints as in"),
        ("gateway.settings.max_connections=many", "expected a whole number"),
        ("gateway.settings.nothing=1", "there is no such setting"),
        ("gateway.settings.workers=1", "is set by --workers"),
        ("gateway.settings.drain_timeout_s=1", "is set by gateway.drainTimeoutSeconds"),
    ],
)
def test_bad_value_is_refused_with_key_and_reason(assignment: str, reason: str) -> None:
    with pytest.raises(ValuesError) as caught:
        parse_values([assignment])
    assert caught.value.reason.startswith(reason)
    assert str(caught.value).startswith(f"{caught.value.key}: ")


def test_every_key_is_described_with_a_default_that_can_be_given() -> None:
    described = describe_keys()
    assert tuple(key for key, _, _ in described) == known_keys()
    assert all(meaning for _, _, meaning in described)
    given = [f"{key}={default}" for key, default, _ in described if "<" not in key]
    assert parse_values(given) == Values()

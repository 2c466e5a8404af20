# SPDX-License-Identifier: Apache-2.0
"""Tests of routing.translate: endpoints of clusters."""

from __future__ import annotations

from typing import Any

import pytest

from routing.specs import EndpointSpec
from tests.unit.routing.objects import (
    Obj,
    codes,
    destination_rule,
    endpoint,
    endpoint_slice,
    pod,
    service,
    subset,
    translated,
)

B = "b.default.svc.cluster.local"


def _members(*objects: Obj, cluster: str = f"outbound|80||{B}") -> tuple[EndpointSpec, ...]:
    return translated(service("b"), *objects).specs.endpoints[cluster]


def _addresses(*objects: Obj, cluster: str = f"outbound|80||{B}") -> list[str]:
    return [member.address for member in _members(*objects, cluster=cluster)]


def test_an_endpoint_carries_what_is_known_of_its_pod() -> None:
    objects = (pod("p", "10.0.0.1", uid="pod-uid", labels={"app": "b"}), endpoint_slice("b", endpoint("10.0.0.1", "p", zone="z")))
    (member,) = _members(*objects)
    (identity,) = translated(*objects).specs.identities
    assert member == EndpointSpec(address="10.0.0.1", port=8080, identity=identity, uid="pod-uid", locality="/z")
    (alternative,) = _members(*objects, cluster=f"outbound|8080||{B}")
    assert alternative.port == 8090


def test_without_a_pod_an_endpoint_is_an_address() -> None:
    assert _members(endpoint_slice("b", endpoint("10.0.0.1"))) == (EndpointSpec(address="10.0.0.1", port=8080),)
    assert _members(endpoint_slice("b", endpoint("10.0.0.1", "p", uid="u"))) == (
        EndpointSpec(address="10.0.0.1", port=8080, uid="u"),
    )


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({}, "used"),
        ({"ready": True}, "used"),
        ({"ready": None}, "used"),
        ({"ready": False}, "left out"),
        ({"ready": False, "serving": True}, "left out"),
        ({"ready": False, "serving": True, "terminating": True}, "draining"),
        ({"ready": False, "serving": False, "terminating": True}, "left out"),
        ({"ready": False, "terminating": True}, "left out"),
        ({"ready": True, "terminating": True}, "draining"),
        ({"ready": True, "serving": True, "terminating": False}, "used"),
    ],
)
def test_conditions(conditions: dict[str, Any], expected: str) -> None:
    members = _members(endpoint_slice("b", endpoint("10.0.0.1", **conditions)))
    assert ["draining" if member.draining else "used" for member in members] == [
        entry for entry in [expected] if entry != "left out"
    ]


def test_an_endpoint_without_address_is_left_out() -> None:
    assert _members(endpoint_slice("b", {"addresses": []})) == ()
    assert _members(endpoint_slice("b", {"addresses": ["10.0.0.1", "10.0.0.2"]})) == (
        EndpointSpec(address="10.0.0.1", port=8080),
    )


def test_ports_are_tied_by_name() -> None:
    ports: list[dict[str, Any]] = [
        {"name": "http", "port": 1},
        {"name": "http-alt", "port": None},
        {"name": "other", "port": 3},
        {"name": "http-alt", "port": 4, "protocol": "UDP"},
    ]
    objects = (endpoint_slice("b", endpoint("10.0.0.1"), ports=ports),)
    assert [member.port for member in _members(*objects)] == [1]
    assert _members(*objects, cluster=f"outbound|8080||{B}") == ()
    found = translated(service("b"), *objects)
    assert codes(found) == [("ACMG008", "default/b", "spec.ports")]


def test_a_single_port_needs_no_name() -> None:
    objects = (service("b", ports=[{"port": 80}]), endpoint_slice("b", endpoint("10.0.0.1"), ports=[{"port": 1}]))
    assert codes(translated(*objects)) == []
    assert [member.port for member in _members(*objects)] == [1]


def test_slices_without_endpoints_say_nothing_about_ports() -> None:
    assert codes(translated(service("b"), endpoint_slice("b", ports=[]))) == []
    found = translated(service("b"), endpoint_slice("b", endpoint("10.0.0.1")), endpoint_slice("b", name="b-2", ports=[]))
    assert codes(found) == []


def test_slices_come_in_the_order_of_their_names_and_an_address_counts_once() -> None:
    second = endpoint_slice("b", endpoint("10.0.0.3"), endpoint("10.0.0.1"), name="b-2")
    first = endpoint_slice("b", endpoint("10.0.0.1", ready=False, serving=True, terminating=True), endpoint("10.0.0.2"))
    third = endpoint_slice("b", endpoint("10.0.0.2", ready=True, terminating=True), name="b-3")
    members = _members(second, third, first)
    assert [(member.address, member.draining) for member in members] == [
        ("10.0.0.1", False),
        ("10.0.0.2", False),
        ("10.0.0.3", False),
    ]


def test_a_dual_stack_service_uses_its_first_address_family() -> None:
    slices = (
        endpoint_slice("b", endpoint("10.0.0.1")),
        endpoint_slice("b", endpoint("fd00::1"), name="b-6", addressType="IPv6"),
    )
    assert _addresses(*slices) == ["10.0.0.1"]
    assert _addresses(*slices, service("b", clusterIPs=["fd00::9", "10.0.0.9"])) == ["fd00::1"]
    assert _addresses(slices[1]) == ["fd00::1"]


def test_names_are_not_resolved() -> None:
    objects = (endpoint_slice("b", endpoint("x.example"), addressType="FQDN"),)
    assert _addresses(*objects) == []
    assert codes(translated(service("b"), *objects)) == [("ACMG001", "default/b-1", "addressType")]


def test_subsets_select_by_the_labels_of_pods() -> None:
    objects = (
        pod("p1", "10.0.0.1", labels={"version": "v1", "app": "b"}),
        pod("p2", "10.0.0.2", labels={"version": "v2", "app": "b"}),
        endpoint_slice("b", endpoint("10.0.0.1", "p1"), endpoint("10.0.0.2", "p2"), endpoint("10.0.0.3")),
        destination_rule("dr", "b", subset("v1", version="v1"), subset("all"), subset("none", version="v3")),
        destination_rule("own", B, subset("v1", version="v2"), namespace="other"),
    )
    assert _addresses(*objects, cluster=f"outbound|80|v1|{B}") == ["10.0.0.1"]
    assert _addresses(*objects, cluster=f"outbound|80|all|{B}") == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    assert _addresses(*objects, cluster=f"outbound|80|none|{B}") == []
    assert _addresses(*objects, cluster=f"outbound|80|v1|{B}@other") == ["10.0.0.2"]
    found = translated(service("b"), *objects)
    assert codes(found) == [("IST0173", "default/dr", "spec.subsets[2].labels")]


def test_a_service_without_endpoints_has_no_empty_subsets_to_warn_about() -> None:
    found = translated(service("b"), destination_rule("dr", "b", subset("v1", version="v1")))
    assert found.specs.endpoints[f"outbound|80|v1|{B}"] == ()
    assert codes(found) == []


def test_a_service_that_is_not_there_has_no_endpoints() -> None:
    assert translated(endpoint_slice("b", endpoint("10.0.0.1"))).specs.endpoints == {}
    alias = service("b", type="ExternalName", externalName="x.test")
    assert translated(alias, endpoint_slice("b", endpoint("10.0.0.1"))).specs.endpoints == {
        f"outbound|80||{B}": (),
        f"outbound|8080||{B}": (),
    }

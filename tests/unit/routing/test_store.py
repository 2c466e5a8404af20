# SPDX-License-Identifier: Apache-2.0
"""Tests of routing.store."""

from __future__ import annotations

import pytest

from routing.resources import decode
from tests.unit.routing.objects import (
    destination_rule,
    endpoint,
    endpoint_slice,
    make,
    pod,
    service,
    shadow,
    shadow_slice,
    store,
    virtual_service,
)


def test_keeps_the_last_version_of_every_kind() -> None:
    found = store(
        service("b"),
        service("b", clusterIP="127.0.0.9"),
        virtual_service("vs", ["b"]),
        make("Namespace", "n", "", labels={"a": "b"}),
    )
    assert found.services["default", "b"].spec.cluster_ip == "127.0.0.9"
    assert found.get("Service", "default", "b") is found.services["default", "b"]
    assert found.get("Pod", "default", "b") is None
    assert len(list(found.resources())) == 3
    assert repr(found) == (
        "<Store 1 Service, 0 EndpointSlice, 0 Pod, 1 Namespace, 1 VirtualService, 0 DestinationRule, 0 ServiceEntry, 0 Telemetry>"
    )
    assert found.delete("Service", "default", "b")
    assert not found.delete("Service", "default", "b")
    assert found.services == {}


def test_an_unknown_kind_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        store().get("Gadget", "default", "x")


def test_slices_and_pods_by_service() -> None:
    members = [endpoint("10.0.0.1", "p1"), endpoint("10.0.0.2"), endpoint("10.0.0.3", "p1")]
    found = store(endpoint_slice("b", *members), endpoint_slice("b", endpoint("10.0.0.1", "p1"), name="b-2"), endpoint_slice(""))
    assert [slice_.meta.name for slice_ in found.slices_of(("default", "b"))] == ["b-1", "b-2"]
    assert found.services_of(("default", "p1")) == {("default", "b")}
    found.delete("EndpointSlice", "default", "b-1")
    assert found.services_of(("default", "p1")) == {("default", "b")}
    found.put(decode(endpoint_slice("c", endpoint("10.0.0.1", "p1"), name="b-2")))
    assert found.services_of(("default", "p1")) == {("default", "c")}
    assert list(found.slices_of(("default", "b"))) == []


def test_shadows_are_no_services_and_their_slices_are_those_of_the_service_they_stand_for() -> None:
    found = store(service("b"), shadow("b"), endpoint_slice("b"), shadow_slice("b", endpoint("10.0.0.1", "p1")))
    assert list(found.services) == [("default", "b")]
    assert list(found.shadows) == [("default", "b-acmg")]
    assert found.get("Service", "default", "b-acmg") is found.shadows["default", "b-acmg"]
    assert [slice_.meta.name for slice_ in found.slices_of(("default", "b"))] == ["b-1", "b-acmg-1"]
    assert list(found.slices_of(("default", "b-acmg"))) == []
    assert found.services_of(("default", "p1")) == {("default", "b")}
    assert len(list(found.resources())) == 4
    assert "2 Service" in repr(found)


def test_a_service_may_become_a_shadow_and_the_reverse() -> None:
    found = store(service("b-acmg"))
    found.put(decode(shadow("b")))
    assert (list(found.services), list(found.shadows)) == ([], [("default", "b-acmg")])
    found.put(decode(service("b-acmg")))
    assert (list(found.services), list(found.shadows)) == ([("default", "b-acmg")], [])
    found.put(decode(shadow("b")))
    assert found.delete("Service", "default", "b-acmg")
    assert (found.services, found.shadows) == ({}, {})


def test_slices_that_lead_to_gateways_belong_to_nobody() -> None:
    ours = endpoint_slice("b", endpoint("10.0.0.1", "p1"))
    ours["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"] = "acmg.io"
    of_shadow = shadow_slice("b", endpoint("10.0.0.1", "p1"))
    of_shadow["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"] = "acmg.io"
    found = store(service("b"), ours, of_shadow)
    assert list(found.slices_of(("default", "b"))) == []
    assert found.services_of(("default", "p1")) == set()


def test_pods_by_address_and_namespace() -> None:
    found = store(pod("p1", "10.0.0.1"), pod("p2", "10.0.0.1"), pod("p3"), pod("p4", "10.0.0.4", "other"))
    assert [entry.meta.name for entry in found.pods_in("default")] == ["p1", "p2", "p3"]
    found.delete("Pod", "other", "p4")
    assert list(found.pods_in("other")) == []
    assert [entry.meta.name for entry in found.pods_at("10.0.0.1")] == ["p1", "p2"]
    found.put(decode(pod("p1", "10.0.0.2")))
    assert [entry.meta.name for entry in found.pods_at("10.0.0.1")] == ["p2"]
    found.delete("Pod", "default", "p2")
    assert list(found.pods_at("10.0.0.1")) == []
    assert list(found.addresses()) == ["10.0.0.2"]


@pytest.mark.parametrize("host", ["b", "b.default", "B.default.svc", "b.default.svc.cluster.local.", "*.local", "*"])
def test_destination_rules_by_the_service_they_may_name(host: str) -> None:
    found = store(destination_rule("dr", host))
    assert [rule.meta.name for rule in found.rules_for("b.default.svc.cluster.local")] == ["dr"]
    found.delete("DestinationRule", "default", "dr")
    assert list(found.rules_for("b.default.svc.cluster.local")) == []


def test_destination_rules_of_other_services_are_not_offered() -> None:
    found = store(destination_rule("one", "b", namespace="other"), destination_rule("two", "b.other"), destination_rule("x", "c"))
    assert [rule.meta.name for rule in found.rules_for("b.other.svc.cluster.local")] == ["one", "two"]
    assert list(found.rules_for("b.default.svc.cluster.local")) == []

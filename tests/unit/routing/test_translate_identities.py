# SPDX-License-Identifier: Apache-2.0
"""Tests of routing.translate: who pods are."""

from __future__ import annotations

import pytest

from routing.specs import IdentitySpec
from routing.translate._identities import Identities
from tests.unit.routing.objects import Obj, codes, endpoint, endpoint_slice, pod, service, store, translated


def _identity(obj: Obj) -> IdentitySpec:
    (found,) = translated(obj).specs.identities.values()
    return found


def _owner(kind: str, name: str, *, controller: bool = True) -> Obj:
    return {"kind": kind, "name": name, "controller": controller, "apiVersion": "apps/v1", "uid": "u"}


def test_an_identity_in_full() -> None:
    labels = {"pod-template-hash": "5d4f", "version": "v1", "app": "hello"}
    found = _identity(
        pod(
            "hello-5d4f-x",
            "10.0.0.1",
            labels=labels,
            serviceAccountName="sa",
            ownerReferences=[_owner("ReplicaSet", "hello-5d4f")],
        )
    )
    assert found == IdentitySpec(
        namespace="default",
        labels=labels,
        service_account="sa",
        workload="hello",
        app="hello",
        version="v1",
        canonical_service="hello",
        canonical_revision="v1",
    )


def test_an_identity_of_little() -> None:
    assert _identity(pod("p", "10.0.0.1")) == IdentitySpec(
        namespace="default", service_account="default", workload="p", canonical_service="p"
    )


@pytest.mark.parametrize(
    ("owners", "labels", "workload"),
    [
        ([_owner("ReplicaSet", "a-b-5d4f")], {"pod-template-hash": "5d4f"}, "a-b"),
        ([_owner("ReplicaSet", "a-b")], {"pod-template-hash": "5d4f"}, "a-b"),
        ([_owner("ReplicaSet", "a-5d4f")], {}, "a-5d4f"),
        ([_owner("StatefulSet", "db")], {"pod-template-hash": "x"}, "db"),
        ([_owner("Job", "nightly-28")], {}, "nightly-28"),
        ([_owner("X", "x", controller=False), _owner("DaemonSet", "d")], {}, "d"),
        ([_owner("X", "x", controller=False)], {}, "x"),
        ([], {}, "p"),
    ],
)
def test_workloads(owners: list[Obj], labels: dict[str, str], workload: str) -> None:
    assert _identity(pod("p", "10.0.0.1", labels=labels, ownerReferences=owners)).workload == workload


@pytest.mark.parametrize(
    ("labels", "service_name", "revision"),
    [
        ({"service.istio.io/canonical-name": "a", "app.kubernetes.io/name": "b", "app": "c"}, "a", "latest"),
        ({"app.kubernetes.io/name": "b", "app": "c"}, "b", "latest"),
        ({"app": "c"}, "c", "latest"),
        ({"app": ""}, "p", "latest"),
        ({"service.istio.io/canonical-revision": "1", "app.kubernetes.io/version": "2", "version": "3"}, "p", "1"),
        ({"app.kubernetes.io/version": "2", "version": "3"}, "p", "2"),
        ({"version": "3"}, "p", "3"),
    ],
)
def test_canonical_names(labels: dict[str, str], service_name: str, revision: str) -> None:
    found = _identity(pod("p", "10.0.0.1", labels=labels))
    assert (found.canonical_service, found.canonical_revision) == (service_name, revision)


def test_pods_of_one_workload_share_an_identity_whatever_the_order_of_their_labels() -> None:
    owner = [_owner("StatefulSet", "db")]
    specs = translated(
        pod("db-0", "10.0.0.1", labels={"a": "1", "b": "2"}, ownerReferences=owner),
        pod("db-1", "10.0.0.2", labels={"b": "2", "a": "1"}, ownerReferences=owner),
        pod("db-2", "10.0.0.3", labels={"b": "3", "a": "1"}, ownerReferences=owner),
    ).specs
    assert len(specs.identities) == 2
    assert specs.callers["10.0.0.1"] == specs.callers["10.0.0.2"] != specs.callers["10.0.0.3"]
    assert set(specs.callers.values()) == set(specs.identities)
    assert all(key.startswith("default/db/") for key in specs.identities)


@pytest.mark.parametrize(
    "obj",
    [
        pod("p", ""),
        pod("p", "10.0.0.1", hostNetwork=True),
        pod("p", "10.0.0.1", phase="Succeeded"),
        pod("p", "10.0.0.1", phase="Failed"),
    ],
)
def test_pods_that_are_no_callers(obj: Obj) -> None:
    assert translated(obj).specs.callers == {}


def test_a_pod_that_only_serves_has_an_identity_too() -> None:
    specs = translated(service("b"), pod("p", "10.0.0.1", hostNetwork=True), endpoint_slice("b", endpoint("10.0.0.1", "p"))).specs
    assert specs.callers == {}
    assert specs.endpoints["outbound|80||b.default.svc.cluster.local"][0].identity in specs.identities


@pytest.mark.parametrize("phase", ["Running", "", "Pending"])
def test_pods_with_an_address_are_callers(phase: str) -> None:
    # Init containers of a pending Pod call others as well.
    obj = pod("p", "10.0.0.1", phase=phase)
    obj["status"]["podIPs"] = [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]
    assert set(translated(obj).specs.callers) == {"10.0.0.1", "fd00::1"}


@pytest.mark.parametrize(
    ("loser", "warned"),
    [
        (pod("z", "10.0.0.1", phase="Succeeded"), False),
        (pod("z", "10.0.0.1", phase="Pending"), False),
        (pod("z", "10.0.0.1", deletionTimestamp="2024-01-01T00:00:00Z"), False),
        (pod("a", "10.0.0.1"), True),
    ],
)
def test_of_two_pods_with_one_address_the_running_and_then_the_younger_counts(loser: Obj, warned: bool) -> None:
    found = translated(pod("p", "10.0.0.1"), loser)
    assert found.specs.identities[found.specs.callers["10.0.0.1"]].workload == "p"
    assert codes(found) == [("ACMG005", "default/p", "status.podIP")] * warned


def test_interned_identities_can_be_counted() -> None:
    identities = Identities()
    key = identities.key(store(pod("p", "10.0.0.1")).pods["default", "p"])
    assert repr(identities) == "<Identities 1>"
    assert key in identities.specs


def test_a_pod_that_is_known_is_not_looked_at_again() -> None:
    found = store(pod("p", "10.0.0.1")).pods["default", "p"]
    known: dict[int, tuple[str, IdentitySpec]] = {}
    key = Identities(known).key(found)
    again = Identities(known)
    assert again.key(found) == key
    assert again.specs[key] is known[id(found)][1]


@pytest.mark.parametrize(
    ("labels", "locality"),
    [
        ({}, ""),
        ({"topology.kubernetes.io/region": "r", "topology.kubernetes.io/zone": "z"}, "r/z"),
        ({"topology.kubernetes.io/region": "r", "topology.istio.io/subzone": "s"}, "r//s"),
        ({"topology.kubernetes.io/zone": "z"}, "/z"),
        ({"istio-locality": "r.z.s", "topology.kubernetes.io/region": "x"}, "r/z/s"),
        ({"istio-locality": "r/z"}, "r/z"),
    ],
)
def test_localities(labels: dict[str, str], locality: str) -> None:
    assert _identity(pod("p", "10.0.0.1", labels=labels)).locality == locality
    found = translated(
        service("b"), pod("p", "10.0.0.1", labels=labels), endpoint_slice("b", endpoint("10.0.0.1", "p", zone="zone"))
    )
    (member,) = found.specs.endpoints["outbound|80||b.default.svc.cluster.local"]
    assert member.locality == (locality or "/zone")

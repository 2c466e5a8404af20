# SPDX-License-Identifier: Apache-2.0
"""Tests of routing.resources: decoding in general, and Kubernetes' own kinds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from routing.resources import Duration, EndpointSlice, FieldNote, Namespace, Pod, ResourceError, Service, decode, is_known
from tests.unit.routing.objects import Obj, endpoint, endpoint_slice, make, pod, service, virtual_service


def _refusal(obj: object) -> ResourceError:
    with pytest.raises(ResourceError) as caught:
        decode(obj)
    return caught.value


def test_a_service_as_kubectl_prints_it() -> None:
    found = decode(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "name": "b",
                "namespace": "other",
                "uid": "u",
                "labels": None,
                "annotations": {"a": "b"},
                "creationTimestamp": "2024-01-02T03:04:05Z",
                "generation": 3,
                "resourceVersion": "77",
                "managedFields": [{"anything": [1, None]}],
            },
            "spec": {
                "clusterIP": "10.0.0.1",
                "clusterIPs": ["10.0.0.1", "fd00::1"],
                "ports": [
                    {"name": "http", "port": 80, "targetPort": "web", "appProtocol": "http", "nodePort": None},
                    {"name": "dns", "port": 53, "protocol": "UDP"},
                ],
                "selector": {"app": "b"},
                "sessionAffinity": "None",
            },
            "status": {"loadBalancer": {}},
        }
    )
    assert isinstance(found, Service)
    assert found.key == ("other", "b")
    assert found.meta.creation_timestamp == datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert found.meta.labels == {}
    assert found.addresses == ("10.0.0.1", "fd00::1")
    assert [(port.name, port.port, port.app_protocol) for port in found.tcp_ports] == [("http", 80, "http")]
    assert found.notes == ()


def test_a_headless_service_has_no_address() -> None:
    found = decode(service("b", clusterIP="None", clusterIPs=["None"]))
    assert isinstance(found, Service)
    assert found.addresses == ()


def test_an_endpoint_slice_names_its_service_and_pods() -> None:
    found = decode(endpoint_slice("b", endpoint("10.0.0.1", "p", zone="z", ready=None), endpoint("10.0.0.2")))
    assert isinstance(found, EndpointSlice)
    assert found.service == ("default", "b")
    assert [found.pod_of(entry) for entry in found.endpoints] == [("default", "p"), None]
    assert found.endpoints[0].conditions.ready is None
    orphan = decode(endpoint_slice("", {"addresses": ["10.0.0.3"], "targetRef": {"kind": "Node", "name": "n"}}, name="o"))
    assert isinstance(orphan, EndpointSlice)
    assert orphan.service is None
    assert list(orphan.pods()) == []


def test_a_pod_is_a_slim_record() -> None:
    obj = pod("p", "10.0.0.1", serviceAccountName="sa", labels={"app": "b"})
    obj["status"]["podIPs"] = [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]
    obj["spec"]["containers"] = [{"name": "x", "env": [{"name": "A", "value": None}]}]
    found = decode(obj)
    assert isinstance(found, Pod)
    assert found.addresses == ("10.0.0.1", "fd00::1")
    assert found.spec.service_account_name == "sa"


def test_a_namespace_is_in_no_namespace_and_all_else_in_default() -> None:
    found = decode({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}})
    assert isinstance(found, Namespace)
    assert found.key == ("", "n")
    assert decode({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}}).key == ("default", "s")


def test_the_input_is_not_changed() -> None:
    obj = service("b", selector=None)
    before = repr(obj)
    decode(obj)
    assert repr(obj) == before


@pytest.mark.parametrize(
    ("obj", "text"),
    [
        ([], "object (no name): expected an object, got list"),
        ({}, "object default: kind: apiVersion None, kind None is not read"),
        ({"kind": "Gadget", "apiVersion": "v1"}, "Gadget default: kind: apiVersion 'v1', kind 'Gadget' is not read"),
        ({"kind": "Pod", "apiVersion": "v2", "metadata": []}, "Pod default: apiVersion: apiVersion 'v2', kind 'Pod' is not read"),
        ({"kind": "Pod", "apiVersion": "v1"}, "Pod default: object missing required field metadata"),
        ({"kind": "Pod", "apiVersion": "v1", "metadata": {}}, "Pod default: metadata: object missing required field name"),
        (make("Pod", ""), "Pod default: metadata.name: must not be empty"),
        (make("Pod", "p", spec=[]), "Pod default/p: spec: expected object, got array"),
        (make("Service", "s", spec={"ports": {}}), "Service default/s: spec.ports: expected array, got object"),
        (make("Service", "s", spec={"ports": [{"port": 0}]}), "Service default/s: spec.ports[0].port: expected int >= 1"),
        (make("Service", "s", spec={"ports": [{"port": "80"}]}), "Service default/s: spec.ports[0].port: expected int, got str"),
        (
            make("Pod", "p", labels={"version": 1}),
            "Pod default/p: metadata.labels.version: expected a string, got 1 (put it into quotes)",
        ),
        (make("Pod", "p", labels={1: "x"}), "Pod default/p: metadata.labels.1: expected a string, got 1 (put it into quotes)"),
        (make("Pod", "p", labels="x"), "Pod default/p: metadata.labels: expected object, got str"),
    ],
)
def test_a_refusal_names_object_field_and_reason(obj: Any, text: str) -> None:
    assert str(_refusal(obj)) == text


def test_a_refusal_can_be_taken_apart() -> None:
    error = _refusal(virtual_service("vs", ["*x", "b"], {"redirect": {}}, namespace="n"))
    assert (error.kind, error.namespace, error.name) == ("VirtualService", "n", "vs")
    assert error.field == "spec.hosts[0]"
    assert error.reason == "a wildcard must be `*` or start with `*.`"
    assert [problem.field for problem in error.problems] == ["spec.hosts[0]", "spec.http[0].redirect"]


def test_known_kinds() -> None:
    assert is_known(service("b"))
    assert not is_known(make("Deployment", "d", version="apps/v1"))
    assert not is_known(make("Service", "d", version="serving.knative.dev/v1"))
    assert not is_known("Service")


def test_fields_without_effect_are_noted() -> None:
    obj: Obj = virtual_service(
        "vs", ["b"], {"route": [{"destination": {"host": "b"}, "weights": 1}], "corsPolicy": {}, "mirror": None}
    )
    obj["spec"]["tls"] = []
    assert decode(obj).notes == (
        FieldNote("spec.http[0].route[0].weights", "unknown"),
        FieldNote("spec.tls", "unsupported"),
    )


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("0s", 0), ("1.5s", 1.5), ("100ms", 0.1), ("1m30s", 90), ("1h", 3600), (".5s", 0.5), ("2.s", 2), ("5us", 5e-6)],
)
def test_durations(text: str, seconds: float) -> None:
    assert Duration.parse(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "s", "-1s", "1 s", "1s ", "1s2", "x1s", "1s-1s", 5, None])
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        Duration.parse(text)


def test_age_orders_by_creation_then_name() -> None:
    # PyYAML makes datetimes of timestamps, without a zone if there is none.
    yaml = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "c", "creationTimestamp": datetime(2024, 1, 2)}}
    objects = [make("Pod", "d", created="2024-01-03"), yaml, make("Pod", "b"), make("Pod", "a", "z"), make("Pod", "a", "y")]
    ordered = sorted((decode(obj) for obj in objects), key=lambda found: found.meta.age)
    assert [found.key for found in ordered] == [("y", "a"), ("z", "a"), ("default", "b"), ("default", "c"), ("default", "d")]


def test_pods_share_what_those_of_a_workload_have_in_common_and_keep_nothing_that_nobody_reads() -> None:
    def one(name: str) -> Pod:
        found = decode({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "labels": {"version": "v1", "app": "b"},
                "annotations": {"cni": "large"},
                "ownerReferences": [{"kind": "ReplicaSet", "name": "b-1"}],
            },
            "status": {"conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "False"}]},
        })  # fmt: skip
        assert isinstance(found, Pod)
        return found

    first, second = one("p"), one("q")
    assert first.meta.labels == {"app": "b", "version": "v1"}
    assert first.meta.labels is second.meta.labels
    assert first.meta.owner_references is second.meta.owner_references
    assert first.status.conditions is second.status.conditions
    assert [(entry.type, entry.status) for entry in first.status.conditions] == [("Ready", "False")]
    assert not first.is_ready
    assert first.meta.annotations == {}


def test_annotations_of_slices_are_left_out() -> None:
    meta = {"name": "b-1", "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": "2024-01-01T00:00:00Z"}}
    assert decode({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": meta}).meta.annotations == {}

# SPDX-License-Identifier: Apache-2.0
"""From the API's JSON to resources: the quick way says what the careful one says."""

from __future__ import annotations

from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery.kube import ENDPOINT_SLICES, NAMESPACES, PODS, SERVICES, VIRTUAL_SERVICES, ApiKind
from discovery.kube.decoding import decoder_for
from routing.resources import EndpointSlice, Pod, Resource, ResourceError, Service, VirtualService, decode
from tests.unit.routing import objects

KINDS = {kind.kind: kind for kind in (ENDPOINT_SLICES, NAMESPACES, PODS, SERVICES)}


def read(kind: ApiKind, obj: Any) -> Resource:
    return decoder_for(kind)(orjson.dumps(obj))


def slimmed(resource: Resource) -> Resource:
    """Leave out what is not kept."""
    keeps = resource.kind in {"Service", "VirtualService"}
    annotations = {name: text for name, text in resource.meta.annotations.items() if "last-applied" not in name}
    meta = msgspec.structs.replace(
        resource.meta, uid="", resource_version="", generation=0, annotations=annotations if keeps else {}
    )
    if isinstance(resource, Pod):
        conditions = tuple(condition for condition in resource.status.conditions if condition.type == "Ready")
        ips = () if [entry.ip for entry in resource.status.pod_ips] == [resource.status.pod_ip] else resource.status.pod_ips
        status = msgspec.structs.replace(resource.status, conditions=conditions, pod_ips=ips)
        return msgspec.structs.replace(resource, meta=meta, status=status)
    return msgspec.structs.replace(resource, meta=meta)


META = {
    "uid": "1234",
    "resourceVersion": "77",
    "generation": 3,
    "labels": {"kubernetes.io/service-name": "a", "app": "a"},
    "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "kept": "x"},
    "creationTimestamp": "2026-01-01T00:00:00Z",
    "managedFields": [{"manager": "kubectl"}],
    "ownerReferences": [{"apiVersion": "v1", "kind": "Service", "name": "a", "uid": "x", "controller": True}],
}


def with_meta(obj: dict[str, Any]) -> dict[str, Any]:
    return obj | {"metadata": META | obj["metadata"]}


EXAMPLES = [
    with_meta(objects.service("a", ports=[{"port": 80, "name": "http", "targetPort": "x"}], clusterIP="10.0.0.1")),
    with_meta(objects.pod("a", "10.0.0.2", conditions=[{"type": "Ready", "status": "True"}, {"type": "Other", "status": "x"}])),
    with_meta(objects.pod("b", "10.0.0.2")) | {"status": {"podIP": "10.0.0.2", "podIPs": [{"ip": "10.0.0.2"}]}},
    with_meta(objects.pod("c", "10.0.0.2")) | {"status": {"podIP": "10.0.0.2", "podIPs": [{"ip": "10.0.0.2"}, {"ip": "fd::2"}]}},
    with_meta(objects.endpoint_slice("a", objects.endpoint("10.0.0.2", "a", zone="z", ready=True), objects.endpoint("10.0.0.3"))),
    {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n", "labels": {"a": "b"}}},
]


@pytest.mark.parametrize("obj", EXAMPLES, ids=lambda obj: f"{obj['kind']} {obj['metadata']['name']}")
def test_nothing_is_lost_but_what_is_not_kept(obj: dict[str, Any]) -> None:
    assert read(KINDS[obj["kind"]], obj) == slimmed(decode(obj))


def test_objects_of_a_list_come_without_kind_and_version() -> None:
    obj = EXAMPLES[0]
    bare = {key: value for key, value in obj.items() if key not in {"kind", "apiVersion"}}
    assert read(SERVICES, bare) == read(SERVICES, obj)
    virtual = objects.virtual_service("a", ["a"])
    bare = {key: value for key, value in virtual.items() if key not in {"kind", "apiVersion"}}
    assert read(VIRTUAL_SERVICES, bare) == read(VIRTUAL_SERVICES, virtual)


def test_istio_kinds_are_read_in_each_of_their_versions_and_checked() -> None:
    for version in ("v1", "v1beta1", "v1alpha3"):
        obj = objects.virtual_service("a", ["a"]) | {"apiVersion": f"networking.istio.io/{version}"}
        assert isinstance(read(VIRTUAL_SERVICES, obj), VirtualService)
    with pytest.raises(ResourceError, match="exakt"):
        read(VIRTUAL_SERVICES, objects.virtual_service("a", ["a"], {"match": [{"uri": {"exakt": "/"}}]}))


@pytest.mark.parametrize("field", ["endpoints", "ports"])
def test_null_and_missing_lists_are_empty(field: str) -> None:
    obj = objects.endpoint_slice("a", objects.endpoint("10.0.0.1"))
    for odd in (obj | {field: None}, {key: value for key, value in obj.items() if key != field}):
        found = read(ENDPOINT_SLICES, odd)
        assert isinstance(found, EndpointSlice)
        assert getattr(found, field) == ()


def test_a_value_of_another_type_is_refused_with_its_field() -> None:
    with pytest.raises(ResourceError) as caught:
        read(SERVICES, objects.service("a", ports=[{"port": "http"}]))
    assert caught.value.field == "spec.ports[0].port"
    with pytest.raises(ResourceError, match="expected an object"):
        read(SERVICES, [])
    with pytest.raises(ResourceError, match="must not be empty"):
        read(PODS, {"metadata": {"name": "", "namespace": "n"}})


def test_a_change_that_means_nothing_makes_no_difference() -> None:
    decoder = decoder_for(PODS)
    one, other = with_meta(objects.pod("a", "10.0.0.1")), with_meta(objects.pod("a", "10.0.0.1"))
    other["metadata"] = other["metadata"] | {"resourceVersion": "78", "annotations": {"seen": "today"}}
    other["status"] = other["status"] | {"conditions": [{"type": "PodScheduled", "status": "True"}], "startTime": "now"}
    assert decoder(orjson.dumps(one)) == decoder(orjson.dumps(other))


def test_what_objects_have_in_common_is_kept_once() -> None:
    decoder = decoder_for(PODS)
    one, other = (decoder(orjson.dumps(with_meta(objects.pod(name, "10.0.0.1", serviceAccountName="s")))) for name in "ab")
    assert isinstance(one, Pod)
    assert isinstance(other, Pod)
    assert one.meta.labels is other.meta.labels
    assert one.meta.owner_references is other.meta.owner_references
    assert one.spec is other.spec
    assert one.meta.namespace is other.meta.namespace


def test_sharing_forgets_when_there_is_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("discovery.kube.decoding._SHARED_MAX", 3)
    decoder = decoder_for(PODS)
    for number in range(20):
        obj = objects.pod("a", "10.0.0.1", labels={"a": str(number)}, serviceAccountName=f"s{number}")
        found = decoder(orjson.dumps(obj))
        assert found.meta.labels == {"a": str(number)}


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 70_000) | st.sampled_from(["", "a", "TCP", "10.0.0.1", "None", "Ready", "True"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=2),
    max_leaves=5,
)
_PLACES = [
    ("metadata", "labels"),
    ("metadata", "namespace"),
    ("metadata", "name"),
    ("metadata", "annotations"),
    ("metadata", "creationTimestamp"),
    ("metadata", "ownerReferences"),
    ("metadata", "uid"),
    ("spec", "ports"),
    ("spec", "selector"),
    ("spec", "clusterIPs"),
    ("spec", "hostNetwork"),
    ("status", "conditions"),
    ("status", "podIPs"),
    ("endpoints",),
    ("endpoints", 0, "conditions"),
    ("endpoints", 0, "targetRef"),
    ("endpoints", 0, "zone"),
    ("ports",),
    ("ports", 0, "port"),
    ("notes",),
    ("unheardOf",),
]


@given(st.sampled_from(EXAMPLES), st.sampled_from(_PLACES), _JSON)
def test_the_quick_way_and_the_careful_one_agree_on_anything(obj: dict[str, Any], place: tuple[Any, ...], value: Any) -> None:
    odd = orjson.loads(orjson.dumps(obj))
    at = odd
    try:
        for part in place[:-1]:
            at = at[part]
        at[place[-1]] = value
    except (KeyError, IndexError, TypeError):
        return
    raw = orjson.dumps(odd)
    try:
        expected: Resource | str = slimmed(decode(odd))
    except ResourceError as error:
        expected = str(error)
    try:
        found: Resource | str = decoder_for(KINDS[obj["kind"]])(raw)
    except ResourceError as error:
        found = str(error)
    assert found == expected


def test_a_service_keeps_its_annotations_but_not_itself_once_more() -> None:
    found = read(SERVICES, with_meta(objects.service("a")) | {"metadata": {**META, "name": "a", "namespace": "n"}})
    assert isinstance(found, Service)
    assert found.meta.annotations == {"kept": "x"}

# SPDX-License-Identifier: Apache-2.0
"""From an object's JSON, as the API server sends it, to a resource of `routing`.

Nearly all objects are Pods and EndpointSlices without anything odd in them. They, Services and Namespaces are read straight into
their types, which takes a fifth of the time; whatever that refuses (`endpoints: null` is common) is read again by
`routing.resources.decode`, whose word counts: it tolerates what is tolerable, and names the field that is not. Kinds that people
write are always read by it, because it checks their meaning too.

Then the object is made slim, for there may be 50,000 of it. Left out is what routing never asks about, and what changes without
meaning anything to it: the version above all, so that a kubelet's note on a Pod's status is no change. What many objects have in
common is kept once: strings, labels, owners, conditions. A Pod so takes 0.5 KB instead of 2.6, a slice of
ten endpoints 4.6 instead of 7.5.
"""

from __future__ import annotations

from sys import intern
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import orjson
from msgspec.structs import force_setattr

from routing.resources import EndpointSlice, Namespace, ObjectMeta, Pod, Resource, Service, decode

if TYPE_CHECKING:
    from collections.abc import Callable

    from discovery.kube.kinds import ApiKind
    from routing.resources.core import Endpoint

__all__ = ["decoder_for"]

T = TypeVar("T")

_FAST: tuple[type[Resource], ...] = (Service, EndpointSlice, Pod, Namespace)
_WITH_ANNOTATIONS = frozenset({"Service", "VirtualService", "DestinationRule", "ServiceEntry", "Telemetry"})
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
"""Annotation with the whole object once more."""

_SHARED_MAX = 50_000
"""Values kept for sharing; then they are forgotten, which costs memory only."""

_NOTHING: dict[str, str] = {}


class _Shared:
    """Gives equal values back as one object. Everything shared is immutable, or treated so: resources are."""

    __slots__ = ("_labels", "_values")

    def __init__(self) -> None:
        self._values: dict[Any, Any] = {}
        self._labels: dict[tuple[tuple[str, str], ...], dict[str, str]] = {}

    def value(self, value: T) -> T:
        if len(self._values) >= _SHARED_MAX:
            self._values.clear()
        found: T = self._values.setdefault(value, value)
        return found

    def labels(self, labels: dict[str, str]) -> dict[str, str]:
        if not labels:
            return _NOTHING
        if len(self._labels) >= _SHARED_MAX:
            self._labels.clear()
        key = tuple(labels.items())
        found = self._labels.get(key)
        if found is None:
            found = {intern(name): intern(value) for name, value in key}
            self._labels[tuple(found.items())] = found
        return found


def decoder_for(kind: ApiKind) -> Callable[[bytes], Resource]:
    """Return the function that reads objects of a kind.

    It raises `routing.resources.ResourceError` for an object that is not valid.
    """
    shared = _Shared()
    struct = next((struct for struct in _FAST if struct.kind == kind.kind), None)

    def read_slow(raw: bytes) -> Resource:
        try:
            obj = orjson.loads(raw)
        except orjson.JSONDecodeError:
            obj = msgspec.json.decode(raw)  # lone surrogates and numbers beyond 64 bits pass here
        if isinstance(obj, dict):  # objects of a list come without these two
            obj = {"apiVersion": kind.api_version, "kind": kind.kind, **obj}
        return _slim(decode(obj), shared)

    if struct is None:
        return read_slow
    decoder = msgspec.json.Decoder(struct)
    namespaced = struct.namespaced

    def read_fast(raw: bytes) -> Resource:
        try:
            found = decoder.decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return read_slow(raw)
        if not found.meta.name or (namespaced and not found.meta.namespace) or found.notes:
            return read_slow(raw)
        return _slim(found, shared)

    return read_fast


def _slim(resource: Resource, shared: _Shared) -> Resource:
    """Make an object slim in place; nobody else has it yet."""
    _slim_meta(resource.meta, shared, with_annotations=resource.kind in _WITH_ANNOTATIONS)
    if isinstance(resource, Pod):
        _slim_pod(resource, shared)
    elif isinstance(resource, EndpointSlice):
        for endpoint in resource.endpoints:
            _slim_endpoint(endpoint, shared)
        force_setattr(resource, "ports", shared.value(resource.ports))
    return resource


def _slim_meta(meta: ObjectMeta, shared: _Shared, *, with_annotations: bool) -> None:
    annotations = meta.annotations
    if not with_annotations or not annotations:
        annotations = _NOTHING
    elif _LAST_APPLIED in annotations:
        annotations = {name: value for name, value in annotations.items() if name != _LAST_APPLIED}
    force_setattr(meta, "namespace", intern(meta.namespace))
    force_setattr(meta, "labels", shared.labels(meta.labels))
    force_setattr(meta, "annotations", annotations)
    force_setattr(meta, "owner_references", shared.value(meta.owner_references))
    force_setattr(meta, "resource_version", "")
    force_setattr(meta, "generation", 0)
    force_setattr(meta, "uid", "")


def _slim_pod(pod: Pod, shared: _Shared) -> None:
    force_setattr(pod, "spec", shared.value(pod.spec))
    status = pod.status
    ready = tuple(condition for condition in status.conditions if condition.type == "Ready")
    force_setattr(status, "conditions", shared.value(ready))
    force_setattr(status, "phase", intern(status.phase))
    if len(status.pod_ips) == 1 and status.pod_ips[0].ip == status.pod_ip:
        force_setattr(status, "pod_ips", ())


def _slim_endpoint(endpoint: Endpoint, shared: _Shared) -> None:
    force_setattr(endpoint, "conditions", shared.value(endpoint.conditions))
    force_setattr(endpoint, "zone", intern(endpoint.zone))
    target = endpoint.target_ref
    if target is not None:
        force_setattr(target, "kind", intern(target.kind))
        force_setattr(target, "namespace", intern(target.namespace))

# SPDX-License-Identifier: Apache-2.0
"""Resources: the Kubernetes and Istio objects that routing reads, as typed immutable data.

`decode` is the only way in. It reads and judges one object as the API server and Istio's admission would, and refuses it as a
whole: the caller keeps the last good version. What a valid object gives without effect here is in its `notes`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from routing.resources._base import Duration, FieldNote, ObjectMeta, OwnerReference, Problem, Resource, ResourceError
from routing.resources._destination_rule_checks import destination_rule_problems
from routing.resources._reader import InvalidFieldsError, read
from routing.resources._service_entry_checks import service_entry_problems
from routing.resources._telemetry_checks import telemetry_problems
from routing.resources._virtual_service_checks import virtual_service_problems
from routing.resources.core import EndpointSlice, Namespace, Pod, Service
from routing.resources.destination_rule import DestinationRule
from routing.resources.service_entry import ServiceEntry
from routing.resources.telemetry import Telemetry
from routing.resources.virtual_service import VirtualService

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "KINDS",
    "DestinationRule",
    "Duration",
    "EndpointSlice",
    "FieldNote",
    "Namespace",
    "ObjectMeta",
    "OwnerReference",
    "Pod",
    "Problem",
    "Resource",
    "ResourceError",
    "Service",
    "ServiceEntry",
    "Telemetry",
    "VirtualService",
    "decode",
    "is_known",
]

KINDS: dict[str, type[Resource]] = {
    kind.kind: kind for kind in (Service, EndpointSlice, Pod, Namespace, VirtualService, DestinationRule, ServiceEntry, Telemetry)
}
"""The kinds that are read."""

_CHECKS: dict[type[Resource], Callable[[Any], Iterator[Problem]]] = {
    VirtualService: virtual_service_problems,
    DestinationRule: destination_rule_problems,
    ServiceEntry: service_entry_problems,
    Telemetry: telemetry_problems,
}


def is_known(obj: object) -> bool:
    """Tell whether `obj` is of a kind that is read; a source may hold others (Deployments), to be passed over."""
    if not isinstance(obj, dict):
        return False
    kind = KINDS.get(str(obj.get("kind")))
    return kind is not None and obj.get("apiVersion") in kind.api_versions


def decode(obj: object) -> Resource:
    """Read one object.

    Args:
        obj: The object as YAML or JSON gives it. It is not changed.

    Returns:
        The resource. Without a namespace in its metadata it is in `default`, as with kubectl.

    Raises:
        ResourceError: It is of no known kind, or not valid.
    """
    if not isinstance(obj, dict):
        raise ResourceError("", "", "", (Problem("", f"expected an object, got {type(obj).__name__}"),))
    kind, namespace, name = _identity(obj)
    struct = KINDS.get(kind)
    if struct is None or not is_known(obj):
        reason = f"apiVersion {obj.get('apiVersion')!r}, kind {obj.get('kind')!r} is not read"
        raise ResourceError(kind, namespace, name, (Problem("kind" if struct is None else "apiVersion", reason),))
    fields = {key: value for key, value in obj.items() if key not in {"apiVersion", "kind"}}
    try:
        resource, notes = read(struct, fields)
    except InvalidFieldsError as exc:
        raise ResourceError(kind, namespace, name, (exc.problem,)) from None
    resource = msgspec.structs.replace(resource, notes=notes)
    if struct.namespaced and not resource.meta.namespace:
        resource = msgspec.structs.replace(resource, meta=msgspec.structs.replace(resource.meta, namespace="default"))
    problems = tuple(_CHECKS[struct](resource)) if struct in _CHECKS else ()
    if not resource.meta.name:
        problems = (Problem("metadata.name", "must not be empty"), *problems)
    if problems:
        raise ResourceError(kind, namespace, name, problems)
    return resource


def _identity(obj: dict[Any, Any]) -> tuple[str, str, str]:
    """Return kind, namespace and name as far as they can be told, for the error message."""
    meta = obj.get("metadata")
    meta = meta if isinstance(meta, dict) else {}
    kind = obj.get("kind")
    return str(kind or ""), str(meta.get("namespace") or "default"), str(meta.get("name") or "")

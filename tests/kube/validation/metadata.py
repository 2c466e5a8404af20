# SPDX-License-Identifier: Apache-2.0
"""What every object's metadata must satisfy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.kube.errors import Cause
from tests.kube.validation.names import (
    MAX_ANNOTATIONS,
    check_labels,
    is_dns_label,
    is_dns_name,
    is_qualified_name,
    is_service_name,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.kube.kinds import Kind

__all__ = ["check_metadata"]

_LABEL = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-'"
_NAME = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.'"
_SERVICE = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character"
_PATH = "may not be '.', '..' or contain '/' or '%'"


def _is_path_segment(text: str) -> bool:
    return text not in {"", ".", ".."} and "/" not in text and "%" not in text


_NAMES: dict[tuple[str, str], tuple[Callable[[str], bool], str]] = {
    ("", "namespaces"): (is_dns_label, _LABEL),
    ("", "services"): (is_service_name, _SERVICE),
    **{("rbac.authorization.k8s.io", plural): (_is_path_segment, _PATH) for plural in ("roles", "rolebindings")},
    **{("rbac.authorization.k8s.io", plural): (_is_path_segment, _PATH) for plural in ("clusterroles", "clusterrolebindings")},
}


def check_metadata(kind: Kind, meta: dict[str, Any], old: dict[str, Any] | None) -> Iterator[Cause]:
    """Yield what is wrong with an object's metadata."""
    name = meta.get("name") or ""
    is_name, text = _NAMES.get(kind.key, (is_dns_name, _NAME))
    if not name:
        yield Cause("metadata.name", "name or generateName is required", reason="FieldValueRequired")
    elif not isinstance(name, str) or not is_name(name):
        yield Cause("metadata.name", "must be no more than 63 bytes" if len(name) > 63 and "label" in text else text, value=name)
    yield from check_labels(meta.get("labels"), "metadata.labels")
    yield from _annotations(meta.get("annotations"))
    for at, owner in enumerate(meta.get("ownerReferences") or ()):
        for field in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(field):
                yield Cause(f"metadata.ownerReferences[{at}].{field}", "must not be empty", reason="FieldValueRequired")
    if sum(bool(owner.get("controller")) for owner in meta.get("ownerReferences") or ()) > 1:
        yield Cause("metadata.ownerReferences", "Only one reference can have Controller set to true", value="...")
    if old is not None and old.get("deletionTimestamp") and set(meta.get("finalizers") or ()) - set(old.get("finalizers") or ()):
        text = "no new finalizers can be added if the object is being deleted"
        yield Cause("metadata.finalizers", text, reason="FieldValueForbidden")


def _annotations(annotations: Any) -> Iterator[Cause]:
    if annotations is None:
        return
    if not isinstance(annotations, dict) or not all(isinstance(value, str) for value in annotations.values()):
        yield Cause("metadata.annotations", "must be a map of strings", value=annotations)
        return
    for key in annotations:
        # upper case is allowed in the domain of an annotation
        if not is_qualified_name(key.lower()):
            yield Cause("metadata.annotations", "name part must consist of alphanumeric characters, '-', '_' or '.'", value=key)
    if sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items()) > MAX_ANNOTATIONS:
        yield Cause("metadata.annotations", f"may not be more than {MAX_ANNOTATIONS} bytes", reason="FieldValueTooLong")

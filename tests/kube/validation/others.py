# SPDX-License-Identifier: Apache-2.0
"""What Leases, Events, workloads and ConfigMaps must satisfy, as far as it concerns their writers."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from tests.kube.errors import Cause
from tests.kube.selectors import selects
from tests.kube.validation.names import check_labels

if TYPE_CHECKING:
    from collections.abc import Iterator

    Obj = dict[str, Any]

__all__ = ["check_core_event", "check_event", "check_lease", "check_workload"]


def check_lease(obj: Obj, old: Obj | None) -> Iterator[Cause]:
    """Yield what is wrong with a Lease."""
    spec = obj.get("spec") or {}
    for name in ("acquireTime", "renewTime"):
        if spec.get(name) is not None and not _is_time(spec[name]):
            yield Cause(f"spec.{name}", "must be a time such as 2006-01-02T15:04:05.000000Z", value=spec[name])
    seconds = spec.get("leaseDurationSeconds")
    if seconds is not None and not (isinstance(seconds, int) and seconds > 0):
        yield Cause("spec.leaseDurationSeconds", "must be greater than 0", value=seconds)
    transitions = spec.get("leaseTransitions")
    if transitions is not None and not (isinstance(transitions, int) and transitions >= 0):
        yield Cause("spec.leaseTransitions", "must be greater than or equal to 0", value=transitions)
    if spec.get("holderIdentity") is not None and not isinstance(spec["holderIdentity"], str):
        yield Cause("spec.holderIdentity", "must be a string", value=spec["holderIdentity"])


def _is_time(text: Any) -> bool:
    """Tell whether a text is RFC 3339 as a MicroTime is written; what is read may have no fraction."""
    if not isinstance(text, str):
        return False
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def check_core_event(obj: Obj, old: Obj | None) -> Iterator[Cause]:
    """Yield what is wrong with a core Event: it stands in the namespace of what it is about."""
    involved = obj.get("involvedObject") or {}
    namespace = obj["metadata"].get("namespace", "")
    if (involved.get("namespace") or "default") != namespace:
        yield Cause("involvedObject.namespace", "does not match event.namespace", value=involved.get("namespace", ""))


def check_event(obj: Obj, old: Obj | None) -> Iterator[Cause]:
    """Yield what is wrong with an Event of events.k8s.io."""
    for name, most in (("reason", 128), ("action", 128), ("reportingController", 128), ("reportingInstance", 128)):
        value = obj.get(name)
        if not value:
            yield Cause(name, "", reason="FieldValueRequired")
        elif len(value) > most:
            yield Cause(name, f"can have at most {most} characters", value=value)
    if not _is_time(obj.get("eventTime")):
        yield Cause("eventTime", "", reason="FieldValueRequired")
    if len((obj.get("note") or "").encode()) > 1024:
        yield Cause("note", "can have at most 1024 bytes", value=obj["note"])
    if obj.get("type") not in {"Normal", "Warning"}:
        text = 'supported values: "Normal", "Warning"'
        yield Cause("type", text, reason="FieldValueNotSupported", value=obj.get("type"))
    regarding = obj.get("regarding") or {}
    if (regarding.get("namespace") or "default") != obj["metadata"].get("namespace", ""):
        yield Cause("involvedObject.namespace", "does not match event.namespace", value=regarding.get("namespace", ""))


def check_workload(obj: Obj, old: Obj | None) -> Iterator[Cause]:
    """Yield what is wrong with a Deployment, DaemonSet or ReplicaSet: its selector must choose its own Pods, for good."""
    spec = obj.get("spec") or {}
    selector, template = spec.get("selector"), spec.get("template") or {}
    if not selector:
        yield Cause("spec.selector", "", reason="FieldValueRequired")
        return
    labels = (template.get("metadata") or {}).get("labels") or {}
    yield from check_labels(labels, "spec.template.metadata.labels")
    if not selects(selector, labels):
        yield Cause("spec.template.metadata.labels", "`selector` does not match template `labels`", value=labels)
    if not (template.get("spec") or {}).get("containers"):
        yield Cause("spec.template.spec.containers", "", reason="FieldValueRequired")
    if old is not None and (old.get("spec") or {}).get("selector") != selector:
        yield Cause("spec.selector", "field is immutable", value=selector)

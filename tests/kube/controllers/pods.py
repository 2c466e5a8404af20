# SPDX-License-Identifier: Apache-2.0
"""Questions about Pods that several controllers ask: is it ready, is it active, may it run on a node."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import orjson

from tests.kube.selectors import selects

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["fits", "is_active", "is_ready", "template_hash", "tolerates"]


def is_ready(pod: dict[str, Any]) -> bool:
    """Tell whether a Pod has the condition Ready."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)


def is_active(pod: dict[str, Any]) -> bool:
    """Tell whether a Pod counts as one that runs or will."""
    return "deletionTimestamp" not in pod["metadata"] and (pod.get("status") or {}).get("phase") not in {"Succeeded", "Failed"}


def fits(spec: dict[str, Any], node: dict[str, Any]) -> bool:
    """Tell whether a Pod's nodeSelector and required node affinity choose a node."""
    labels = node["metadata"].get("labels") or {}
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return False
    affinity = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    ) or {}
    terms = affinity.get("nodeSelectorTerms") or ()
    return not terms or any(selects({"matchExpressions": term.get("matchExpressions")}, labels) for term in terms)


def tolerates(
    tolerations: Iterable[dict[str, Any]], node: dict[str, Any], effects: tuple[str, ...] = ("NoSchedule", "NoExecute")
) -> bool:
    """Tell whether tolerations bear all of a node's taints of some effects."""
    tolerations = list(tolerations)
    taints = (node.get("spec") or {}).get("taints") or ()
    return all(any(_bears(one, taint) for one in tolerations) for taint in taints if taint.get("effect") in effects)


def _bears(toleration: dict[str, Any], taint: dict[str, Any]) -> bool:
    if toleration.get("effect") not in {None, "", taint.get("effect")}:
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return toleration.get("key") in {None, "", taint.get("key")}
    return toleration.get("key") == taint.get("key") and (toleration.get("value") or "") == (taint.get("value") or "")


def template_hash(template: dict[str, Any]) -> str:
    """Return what tells one template's Pods from another's."""
    return hashlib.blake2b(orjson.dumps(template, option=orjson.OPT_SORT_KEYS), digest_size=5).hexdigest()

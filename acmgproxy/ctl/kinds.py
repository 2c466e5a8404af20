# SPDX-License-Identifier: Apache-2.0
"""Kinds of objects that are installed: where the API has each, and in which order they come.

What others refer to comes first: the namespace, definitions of kinds, identities and their rights, then what runs. Removing goes
the other way round.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from acmgproxy.ctl.cluster import NOT_DONE, CtlError
from discovery.kube import ApiKind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from acmgproxy.ctl.cluster import Object

__all__ = ["CRDS", "DAEMON_SETS", "DEPLOYMENTS", "KINDS", "describe", "in_order", "kind_of", "name_of", "path_of"]

_RBAC = "rbac.authorization.k8s.io"
_PROMETHEUS = "monitoring.coreos.com"

CRDS = ApiKind("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False)
DAEMON_SETS = ApiKind("apps", "v1", "daemonsets", "DaemonSet", namespaced=True)
DEPLOYMENTS = ApiKind("apps", "v1", "deployments", "Deployment", namespaced=True)

KINDS: dict[str, ApiKind] = {
    kind.kind: kind
    for kind in (
        ApiKind("", "v1", "namespaces", "Namespace", namespaced=False),
        CRDS,
        ApiKind("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", namespaced=False),
        ApiKind("", "v1", "serviceaccounts", "ServiceAccount", namespaced=True),
        ApiKind(_RBAC, "v1", "clusterroles", "ClusterRole", namespaced=False),
        ApiKind(_RBAC, "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False),
        ApiKind(_RBAC, "v1", "roles", "Role", namespaced=True),
        ApiKind(_RBAC, "v1", "rolebindings", "RoleBinding", namespaced=True),
        ApiKind("", "v1", "configmaps", "ConfigMap", namespaced=True),
        ApiKind("", "v1", "services", "Service", namespaced=True),
        ApiKind("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", namespaced=True),
        ApiKind("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", namespaced=True),
        ApiKind(_PROMETHEUS, "v1", "servicemonitors", "ServiceMonitor", namespaced=True),
        ApiKind(_PROMETHEUS, "v1", "podmonitors", "PodMonitor", namespaced=True),
        ApiKind(_PROMETHEUS, "v1", "prometheusrules", "PrometheusRule", namespaced=True),
        DAEMON_SETS,
        DEPLOYMENTS,
    )
}
"""By name, in the order of installation."""

_ORDER = {name: place for place, name in enumerate(KINDS)}


def kind_of(obj: Object) -> ApiKind:
    """Return where the API has objects of this kind.

    Raises:
        CtlError: it is none of those we install.
    """
    kind = KINDS.get(obj["kind"])
    if kind is None:
        raise CtlError(
            f"acmgctl does not install objects of kind {obj['kind']}; this is a defect of its manifests", code=NOT_DONE
        )
    return kind


def name_of(obj: Object) -> tuple[str, str]:
    """Return (namespace, name); the namespace is empty if the kind has none."""
    metadata = obj["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


def path_of(obj: Object) -> str:
    """Return an object's path in the API."""
    return kind_of(obj).path(*name_of(obj))


def describe(obj: Object) -> str:
    """Name an object as people do: `DaemonSet acmg-system/acmg-gateway`."""
    return f"{obj['kind']} {'/'.join(part for part in name_of(obj) if part)}"


def in_order(objects: Iterable[Object]) -> list[Object]:
    """Return objects in the order in which they are installed."""
    return sorted(objects, key=lambda obj: _ORDER.get(obj["kind"], len(_ORDER)))

# SPDX-License-Identifier: Apache-2.0
"""The kinds that the server knows, and which of them a path means.

A kind is a group, a version and the plural in its paths. The kinds of the API server itself are known from start; a
CustomResourceDefinition adds one and its deletion removes it (see `tests.kube.crds`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["BUILT_IN", "Kind", "Kinds", "Target"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind in one version.

    Attributes:
        status: it has a subresource `status`, which other writes leave alone.
        generation: metadata.generation counts the changes of what is neither metadata nor status.
        custom: its definition is a CustomResourceDefinition; items of its lists say their kind, as the real server has it.
    """

    group: str = ""
    version: str = "v1"
    plural: str
    kind: str
    namespaced: bool = True
    status: bool = False
    generation: bool = False
    custom: bool = False
    short_names: tuple[str, ...] = ()
    singular: str = ""
    schema: dict[str, Any] | None = field(default=None, hash=False, compare=False)

    @property
    def api_version(self) -> str:
        """What objects say in apiVersion."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> str:
        """The kind as messages name it: `services`, `endpointslices.discovery.k8s.io`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def key(self) -> tuple[str, str]:
        """What the store files objects under; the same for all versions of a kind."""
        return (self.group, self.plural)

    def path(self, namespace: str = "", name: str = "") -> str:
        """Return the path of an object, or of the collection when no name is given."""
        parts = ["/apis", self.group, self.version] if self.group else ["/api", self.version]
        if namespace and self.namespaced:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        return "/".join([*parts, name] if name else parts)


def _workload(plural: str, kind: str, short: str) -> Kind:
    return Kind(group="apps", plural=plural, kind=kind, status=True, generation=True, short_names=(short,))


def _rbac(plural: str, kind: str, *, namespaced: bool) -> Kind:
    return Kind(group="rbac.authorization.k8s.io", plural=plural, kind=kind, namespaced=namespaced)


BUILT_IN = (
    Kind(plural="namespaces", kind="Namespace", namespaced=False, status=True, short_names=("ns",)),
    Kind(plural="services", kind="Service", status=True, short_names=("svc",)),
    Kind(plural="pods", kind="Pod", status=True, generation=True, short_names=("po",)),
    Kind(plural="nodes", kind="Node", namespaced=False, status=True, short_names=("no",)),
    Kind(plural="events", kind="Event", short_names=("ev",)),
    Kind(plural="endpoints", kind="Endpoints", short_names=("ep",)),
    Kind(plural="configmaps", kind="ConfigMap", short_names=("cm",)),
    Kind(plural="secrets", kind="Secret"),
    Kind(plural="serviceaccounts", kind="ServiceAccount", short_names=("sa",)),
    Kind(group="discovery.k8s.io", plural="endpointslices", kind="EndpointSlice", generation=True),
    Kind(group="coordination.k8s.io", plural="leases", kind="Lease"),
    Kind(group="events.k8s.io", plural="events", kind="Event", short_names=("ev",)),
    _workload("deployments", "Deployment", "deploy"),
    _workload("daemonsets", "DaemonSet", "ds"),
    _workload("replicasets", "ReplicaSet", "rs"),
    Kind(group="apps", plural="controllerrevisions", kind="ControllerRevision"),
    _rbac("roles", "Role", namespaced=True),
    _rbac("rolebindings", "RoleBinding", namespaced=True),
    _rbac("clusterroles", "ClusterRole", namespaced=False),
    _rbac("clusterrolebindings", "ClusterRoleBinding", namespaced=False),
    Kind(
        group="policy",
        plural="poddisruptionbudgets",
        kind="PodDisruptionBudget",
        status=True,
        generation=True,
        short_names=("pdb",),
    ),
    Kind(group="scheduling.k8s.io", plural="priorityclasses", kind="PriorityClass", namespaced=False, short_names=("pc",)),
    Kind(group="networking.k8s.io", plural="networkpolicies", kind="NetworkPolicy", generation=True, short_names=("netpol",)),
    Kind(
        group="apiextensions.k8s.io",
        plural="customresourcedefinitions",
        kind="CustomResourceDefinition",
        namespaced=False,
        status=True,
        generation=True,
        short_names=("crd", "crds"),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a path means: an object when `name` is set, else a collection; `namespace` is empty for all namespaces."""

    kind: Kind
    namespace: str = ""
    name: str = ""
    subresource: str = ""


class Kinds:
    """The kinds served now, by group, version and plural, and by kind."""

    def __init__(self) -> None:
        self._served: dict[tuple[str, str, str], Kind] = {}
        for kind in BUILT_IN:
            self.add(kind)

    def add(self, kind: Kind) -> None:
        """Serve a kind, instead of the one that had its path before."""
        self._served[kind.group, kind.version, kind.plural] = kind

    def remove(self, group: str, plural: str) -> None:
        """Stop serving a kind in all its versions."""
        self._served = {key: kind for key, kind in self._served.items() if (kind.group, kind.plural) != (group, plural)}

    def all(self) -> tuple[Kind, ...]:
        """Return every kind, in every version."""
        return tuple(self._served.values())

    def of(self, obj: dict[str, Any]) -> Kind:
        """Return the kind that an object says it is.

        Raises:
            LookupError: No such kind is served.
        """
        group, _, version = str(obj.get("apiVersion", "")).rpartition("/")
        for kind in self._served.values():
            if (kind.group, kind.version, kind.kind) == (group, version, obj.get("kind")):
                return kind
        raise LookupError(f"no kind {obj.get('kind')!r} in version {obj.get('apiVersion')!r} is served")

    def named(self, name: str) -> Kind:
        """Return a kind by `Kind`, `Kind.group` or plural; of several with one name the first served (the core's).

        Raises:
            LookupError: No kind is called so.
        """
        for kind in self._served.values():
            if name in {kind.kind, kind.plural, f"{kind.kind}.{kind.group}", kind.resource}:
                return kind
        raise LookupError(f"no kind is called {name!r}")

    def target(self, path: str) -> Target | None:
        """Return what a path means, None when no kind is served there."""
        match path.strip("/").split("/"):
            case ["api", version, *rest]:
                group = ""
            case ["apis", group, version, *rest]:
                pass
            case _:
                return None
        namespace = ""
        # "namespaces/N" and "namespaces/N/status" are the Namespace itself, anything longer is something inside it
        if rest[:1] == ["namespaces"] and len(rest) > 2 and (group, version, rest[2]) in self._served:
            namespace, rest = rest[1], rest[2:]
        if not 1 <= len(rest) <= 3 or (kind := self._served.get((group, version, rest[0]))) is None:
            return None
        if namespace and not kind.namespaced:
            return None
        name, subresource = [*rest[1:], "", ""][:2]
        if name and kind.namespaced and not namespace:
            return None
        return Target(kind=kind, namespace=namespace, name=name, subresource=subresource)

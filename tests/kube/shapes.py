# SPDX-License-Identifier: Apache-2.0
"""How lists and maps of the API merge: what the real server reads from its OpenAPI document.

Server-side apply and strategic merge patch both need to know which lists are maps in disguise, and by which key. A path is the
names of the fields from the object down; items of lists add nothing to it. A list without an entry is atomic, a map granular.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from tests.kube.kinds import Kind

__all__ = ["ATOMIC", "SET", "Keyed", "Shape", "Shapes", "shapes_of"]

Names = tuple[str, ...]


class Keyed(NamedTuple):
    """A list whose items are told apart by keys.

    Attributes:
        keys: by which server-side apply tells items apart.
        patch_key: by which strategic merge patch does, empty: it replaces the list.
        defaults: of keys that may be left out.
    """

    keys: Names
    patch_key: str = ""
    defaults: tuple[tuple[str, Any], ...] = ()


ATOMIC = "atomic"
SET = "set"
Shape = Keyed | str
Shapes = dict[Names, Shape]

_TCP = (("protocol", "TCP"),)
_META: Shapes = {
    ("metadata", "finalizers"): SET,
    ("metadata", "ownerReferences"): Keyed(("uid",), "uid"),
}
_CONDITIONS: Shapes = {("status", "conditions"): Keyed(("type",), "type")}
_CONTAINER: Shapes = {
    (): Keyed(("name",), "name"),
    ("env",): Keyed(("name",), "name"),
    ("ports",): Keyed(("containerPort", "protocol"), "containerPort", _TCP),
    ("volumeMounts",): Keyed(("mountPath",), "mountPath"),
    ("volumeDevices",): Keyed(("devicePath",), "devicePath"),
}
_POD_SPEC: Shapes = {
    **{
        (field, *path): shape
        for field in ("containers", "initContainers", "ephemeralContainers")
        for path, shape in _CONTAINER.items()
    },
    ("volumes",): Keyed(("name",), "name"),
    ("imagePullSecrets",): Keyed(("name",), "name"),
    ("hostAliases",): Keyed(("ip",), "ip"),
    ("topologySpreadConstraints",): Keyed(("topologyKey", "whenUnsatisfiable"), "topologyKey"),
    ("nodeSelector",): ATOMIC,
}
_TEMPLATE: Shapes = {
    ("spec", "selector"): ATOMIC,
    **{("spec", "template", "spec", *path): shape for path, shape in _POD_SPEC.items()},
}
_BUILT_IN: dict[tuple[str, str], Shapes] = {
    ("", "services"): {
        ("spec", "ports"): Keyed(("port", "protocol"), "port", _TCP),
        ("spec", "selector"): ATOMIC,
        ("status", "loadBalancer"): ATOMIC,
    },
    ("", "pods"): {
        **{("spec", *path): shape for path, shape in _POD_SPEC.items()},
        ("status", "podIPs"): Keyed(("ip",), "ip"),
        ("status", "hostIPs"): ATOMIC,
    },
    ("", "nodes"): {("status", "addresses"): Keyed(("type",), "type"), ("spec", "podCIDRs"): SET},
    ("", "serviceaccounts"): {("secrets",): Keyed(("name",), "name")},
    ("apps", "deployments"): _TEMPLATE,
    ("apps", "daemonsets"): _TEMPLATE,
    ("apps", "replicasets"): _TEMPLATE,
    ("policy", "poddisruptionbudgets"): {("spec", "selector"): ATOMIC},
    ("rbac.authorization.k8s.io", "rolebindings"): {("roleRef",): ATOMIC},
    ("rbac.authorization.k8s.io", "clusterrolebindings"): {("roleRef",): ATOMIC},
}


@cache
def _built_in(key: tuple[str, str]) -> Shapes:
    return _META | _CONDITIONS | _BUILT_IN.get(key, {})


def shapes_of(kind: Kind) -> Shapes:
    """Return the shapes of a kind's lists and maps; those of a custom kind stand in its schema."""
    if not kind.custom:
        return _built_in(kind.key)
    shapes = dict(_META)
    _read_schema(kind.schema or {}, (), shapes)
    return shapes


def _read_schema(schema: dict[str, Any], path: Names, shapes: Shapes) -> None:
    match schema.get("x-kubernetes-list-type"), schema.get("x-kubernetes-map-type"):
        case "map", _:
            keys = tuple(schema.get("x-kubernetes-list-map-keys") or ())
            fields = schema.get("items", {}).get("properties", {})
            shapes[path] = Keyed(
                keys, "", tuple((key, fields[key]["default"]) for key in keys if "default" in fields.get(key, {}))
            )
        case "set", _:
            shapes[path] = SET
        case _, "atomic":
            shapes[path] = ATOMIC
    for name, inner in (schema.get("properties") or {}).items():
        if isinstance(inner, dict) and (path or name not in {"metadata", "kind", "apiVersion"}):
            _read_schema(inner, (*path, name), shapes)
    if isinstance(items := schema.get("items"), dict):
        _read_schema(items, path, shapes)

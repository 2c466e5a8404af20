# SPDX-License-Identifier: Apache-2.0
"""Makes the CRDs of the Istio kinds from what routing reads of them; `make crds` writes them to deploy/crds.

The schema says the types of the fields that are read and keeps all others (`x-kubernetes-preserve-unknown-fields`): objects
written for Istio stay whole, and a misspelt condition reaches the gateway, which refuses the object, where a pruned one would
match everything. It is structural: a type at every level, no references, nothing that the API server would complete or default.

Names, versions, subresource and columns are Istio's, so that its tools and `kubectl get vs` work, and Istio's own CRDs can take
the place of these.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec.inspect as types

from acmgproxy.ctl.manifests.render import PART_LABELS, to_yaml
from routing.resources import DestinationRule, Duration, Resource, ServiceEntry, Telemetry, VirtualService

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["crds", "main", "write"]

_DURATION_PATTERN = r"^(0|(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h))+)$"
"""What `Duration.parse` reads."""

_HEADER = "# SPDX-License-Identifier: Apache-2.0\n#\n# Made by `make crds`; do not edit.\n"

_AGE = {
    "name": "Age",
    "type": "date",
    "description": "When the object was created.",
    "jsonPath": ".metadata.creationTimestamp",
}


class _Names(NamedTuple):
    """What Istio calls a kind, and its columns: name, path, description."""

    plural: str
    short: str
    columns: tuple[tuple[str, str, str], ...]


_KINDS: dict[type[Resource], _Names] = {
    DestinationRule: _Names("destinationrules", "dr", (("Host", ".spec.host", "The host whose traffic this is about."),)),
    ServiceEntry: _Names(
        "serviceentries",
        "se",
        (
            ("Hosts", ".spec.hosts", "The hosts that this adds."),
            ("Location", ".spec.location", "Whether they are part of the mesh (MESH_EXTERNAL or MESH_INTERNAL)."),
            ("Resolution", ".spec.resolution", "How their endpoints are found."),
        ),
    ),
    Telemetry: _Names("telemetries", "telemetry", ()),
    VirtualService: _Names(
        "virtualservices",
        "vs",
        (
            ("Gateways", ".spec.gateways", "The gateways, or mesh, that these rules are for."),
            ("Hosts", ".spec.hosts", "The hosts that requests are sent to."),
        ),
    ),
}


def crds() -> Iterator[dict[str, Any]]:
    """Yield the CustomResourceDefinition of each Istio kind that is read."""
    for kind, names in _KINDS.items():
        yield _crd(kind, names)


def write(directory: Path) -> None:
    """Write one file for each CRD."""
    for crd in crds():
        file = directory / f"{crd['spec']['names']['plural']}.yaml"
        file.write_text(_HEADER + to_yaml([crd]), encoding="utf-8")


def main() -> None:
    """Write the CRDs to the directory named on the command line."""
    (directory,) = sys.argv[1:]
    write(Path(directory))


def _crd(kind: type[Resource], names: _Names) -> dict[str, Any]:
    group = kind.api_versions[0].partition("/")[0]
    columns = [
        {"name": name, "type": "string", "description": description, "jsonPath": path}
        for name, path, description in names.columns
    ]
    versions = [
        {
            "name": api_version.partition("/")[2],
            "served": True,
            "storage": api_version == kind.api_versions[0],
            "subresources": {"status": {}},
            "additionalPrinterColumns": [*columns, _AGE],
            "schema": {"openAPIV3Schema": _object(kind)},
        }
        for api_version in kind.api_versions
    ]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{names.plural}.{group}", "labels": dict(PART_LABELS)},
        "spec": {
            "group": group,
            "names": {
                "kind": kind.kind,
                "listKind": f"{kind.kind}List",
                "plural": names.plural,
                "singular": kind.kind.lower(),
                "shortNames": [names.short],
                "categories": ["istio-io", f"{group.partition('.')[0]}-istio-io"],
            },
            "scope": "Namespaced",
            "versions": versions,
        },
    }


def _object(kind: type[Resource]) -> dict[str, Any]:
    struct = types.type_info(kind)
    assert isinstance(struct, types.StructType)
    spec = next(field.type for field in struct.fields if field.encode_name == "spec")
    return {
        "type": "object",
        "description": _description(kind),
        "properties": {"spec": _schema(spec), "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
    }


def _schema(info: types.Type) -> dict[str, Any]:
    """Return the schema of a type. That a field may be null is left to the API server, which drops such fields."""
    match info:
        case types.UnionType():
            (one,) = (member for member in info.types if not isinstance(member, types.NoneType))
            return _schema(one)
        case types.StructType():
            return _struct(info)
        case types.VarTupleType():
            return {"type": "array", "items": _schema(info.item_type)}
        case types.DictType():
            return {"type": "object", "additionalProperties": _map_value(info.value_type)}
        case types.CustomType() if info.cls is Duration:
            return {"type": "string", "pattern": _DURATION_PATTERN}
        case types.LiteralType():
            return {"type": "string" if isinstance(info.values[0], str) else "integer", "enum": list(info.values)}
    return _scalar(info)


def _scalar(info: types.Type) -> dict[str, Any]:
    match info:
        case types.StrType():
            return {"type": "string"}
        case types.BoolType():
            return {"type": "boolean"}
        case types.BytesType():
            return {"type": "string", "format": "byte"}
        case types.IntType():
            return {"type": "integer", "format": "int64"} | _bounds(info)
        case types.FloatType():
            return {"type": "number", "format": "double"} | _bounds(info)
    raise NotImplementedError(f"no schema for {info}")


def _bounds(info: types.IntType | types.FloatType) -> dict[str, Any]:
    bounds = {"minimum": info.ge, "maximum": info.le}
    return {name: bound for name, bound in bounds.items() if bound is not None}


def _struct(info: types.StructType) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object", "description": _description(info.cls)}
    required = [field.encode_name for field in info.fields if field.required]
    if required:
        schema["required"] = required
    properties = {field.encode_name: _schema(field.type) for field in info.fields}
    return {**schema, "properties": properties, "x-kubernetes-preserve-unknown-fields": True}


def _map_value(info: types.Type) -> dict[str, Any]:
    """Return the schema of a map's values: in a map null may mean something (a header that must be there)."""
    can_be_null = isinstance(info, types.UnionType) and any(isinstance(member, types.NoneType) for member in info.types)
    return _schema(info) | ({"nullable": True} if can_be_null else {})


def _description(cls: type) -> str:
    return " ".join((cls.__doc__ or "").split())


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""CustomResourceDefinitions: creating one makes its kind served, deleting it takes the kind, its objects and its watches away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.kube.errors import Cause
from tests.kube.kinds import Kind
from tests.kube.managers import now
from tests.kube.schemas import Schema
from tests.kube.store import decode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kube.server import FakeApiServer
    from tests.kube.store import Change

__all__ = ["CustomKinds", "check_definition"]


class CustomKinds:
    """Serves the kinds of the definitions that are stored."""

    def __init__(self, api: FakeApiServer) -> None:
        self._api = api
        self._definitions = api.kinds.named("CustomResourceDefinition")
        self._schemas: dict[tuple[str, str, str], Schema] = {}
        api.store.on_change(self._changed)

    def __repr__(self) -> str:
        return f"<CustomKinds with {len(self._schemas)} schemas>"

    def prepare(self, kind: Kind, obj: dict[str, Any]) -> None:
        """Prune an object and fill defaults in."""
        if (schema := self._schemas.get((kind.group, kind.version, kind.plural))) is not None:
            schema.prepare(obj)

    def check(self, kind: Kind, obj: dict[str, Any]) -> list[Cause]:
        """Return what is wrong with an object by its kind's schema."""
        schema = self._schemas.get((kind.group, kind.version, kind.plural))
        return schema.check(obj) if schema is not None else []

    def _changed(self, kind: Kind, change: Change) -> None:
        if kind is not self._definitions:
            return
        if change.type == "DELETED":
            self._withdraw(change.entry.obj)
        elif change.old is None or change.old.obj.get("spec") != change.entry.obj.get("spec"):
            self._serve(change.entry.obj)

    def _serve(self, definition: dict[str, Any]) -> None:
        spec = definition["spec"]
        group, names = spec["group"], spec["names"]
        self._api.kinds.remove(group, names["plural"])
        for version in spec["versions"]:
            key = (group, version["name"], names["plural"])
            schema = (version.get("schema") or {}).get("openAPIV3Schema")
            self._schemas.pop(key, None)
            if schema is not None:
                self._schemas[key] = Schema(schema)
            if version.get("served", True):
                self._api.kinds.add(_kind(spec, version, schema))
        self._establish(definition)

    def _establish(self, definition: dict[str, Any]) -> None:
        """Report the definition as accepted, as the real server does a moment later."""
        meta, spec = definition["metadata"], definition["spec"]
        stored = next((one["name"] for one in spec["versions"] if one.get("storage")), spec["versions"][0]["name"])
        conditions = [
            {"type": type_, "status": "True", "reason": reason, "message": message, "lastTransitionTime": now()}
            for type_, reason, message in (
                ("NamesAccepted", "NoConflicts", "no conflicts found"),
                ("Established", "InitialNamesAccepted", "the initial names have been accepted"),
            )
        ]
        status = {"conditions": conditions, "acceptedNames": spec["names"], "storedVersions": [stored]}
        entry = self._api.store.get(self._definitions, "", meta["name"])
        if entry is not None and not (entry.obj.get("status") or {}).get("conditions"):
            self._api.store.put(self._definitions, decode(entry.whole) | {"status": status})

    def _withdraw(self, definition: dict[str, Any]) -> None:
        spec = definition["spec"]
        group, plural = spec["group"], spec["names"]["plural"]
        kinds = [kind for kind in self._api.kinds.all() if kind.key == (group, plural)]
        for kind in kinds[:1]:
            for entry in self._api.store.entries(kind):
                meta = entry.obj["metadata"]
                self._api.store.delete(kind, meta.get("namespace", ""), meta["name"])
            for watch in self._api.open_watches.of(kind):
                watch.end()
            self._api.store.forget(kind)
        self._api.kinds.remove(group, plural)
        self._schemas = {key: schema for key, schema in self._schemas.items() if (key[0], key[2]) != (group, plural)}


def _kind(spec: dict[str, Any], version: dict[str, Any], schema: dict[str, Any] | None) -> Kind:
    names = spec["names"]
    return Kind(
        group=spec["group"],
        version=version["name"],
        plural=names["plural"],
        kind=names["kind"],
        namespaced=spec.get("scope") != "Cluster",
        status="status" in (version.get("subresources") or {}),
        generation=True,
        custom=True,
        short_names=tuple(names.get("shortNames") or ()),
        singular=names.get("singular", ""),
        schema=schema,
    )


def check_definition(obj: dict[str, Any], _old: dict[str, Any] | None) -> Iterator[Cause]:
    """Yield what is wrong with a definition."""
    spec = obj.get("spec") or {}
    names, versions = spec.get("names") or {}, spec.get("versions") or []
    for field, value in (
        ("spec.group", spec.get("group")),
        ("spec.names.plural", names.get("plural")),
        ("spec.names.kind", names.get("kind")),
        ("spec.versions", versions),
    ):
        if not value:
            yield Cause(field, "", reason="FieldValueRequired")
            return
    if obj["metadata"].get("name") != f"{names['plural']}.{spec['group']}":
        yield Cause("metadata.name", 'must be spec.names.plural+"."+spec.group', value=obj["metadata"].get("name"))
    if spec.get("scope") not in {"Cluster", "Namespaced"}:
        text = 'supported values: "Cluster", "Namespaced"'
        yield Cause("spec.scope", text, reason="FieldValueNotSupported", value=spec.get("scope"))
    if sum(bool(version.get("storage")) for version in versions) != 1:
        yield Cause("spec.versions", "must have exactly one version marked as storage version", value="...")
    for at, version in enumerate(versions):
        schema = (version.get("schema") or {}).get("openAPIV3Schema")
        field = f"spec.versions[{at}].schema.openAPIV3Schema"
        if not isinstance(schema, dict):
            yield Cause(field, "schemas are required", reason="FieldValueRequired")
        elif schema.get("type") != "object":
            yield Cause(f"{field}.type", "must be object at the root", reason="FieldValueRequired")

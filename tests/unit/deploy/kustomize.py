# SPDX-License-Identifier: Apache-2.0
"""What kustomize makes of the directories in deploy/, as far as they use it; anything else in a kustomization is an error."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml

__all__ = ["DEPLOY", "ROOT", "Object", "build", "by_name", "documents", "only"]

ROOT = Path(__file__).resolve().parents[3]
DEPLOY = ROOT / "deploy"

Object = dict[str, Any]

_KNOWN = {"apiVersion", "kind", "resources", "components", "patches", "configMapGenerator"}


def documents(file: Path) -> list[Any]:
    return list(yaml.load_all(file.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader))


def build(directory: Path) -> list[Object]:
    """Return the objects of a kustomization."""
    (kustomization,) = documents(directory / "kustomization.yaml")
    assert set(kustomization) <= _KNOWN, kustomization
    objects: list[Object] = []
    for name in [*kustomization.get("resources", ()), *kustomization.get("components", ())]:
        place = (directory / name).resolve()
        if place.is_dir():
            objects += build(place)
        else:
            # kustomize reads no file outside the directory of the kustomization that names it
            assert place.parent == directory.resolve(), place
            objects += documents(place)
    for generator in kustomization.get("configMapGenerator", ()):
        objects.append(_config_map(directory, generator))
    for patch in kustomization.get("patches", ()):
        objects = _patched(objects, patch["target"], documents(directory / patch["path"])[0])
    return objects


def _config_map(directory: Path, generator: Object) -> Object:
    assert set(generator) == {"name", "namespace", "files", "options"}
    assert set(generator["options"]) == {"disableNameSuffixHash", "labels"}
    assert generator["options"]["disableNameSuffixHash"] is True
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": generator["name"], "namespace": generator["namespace"], "labels": generator["options"]["labels"]},
        "data": {name: (directory / name).read_text(encoding="utf-8") for name in generator["files"]},
    }


def _patched(objects: list[Object], target: Object, patch: Any) -> list[Object]:
    hits = [
        one
        for one in objects
        if one["kind"] == target["kind"] and target.get("name", one["metadata"]["name"]) == one["metadata"]["name"]
    ]
    assert hits, f"a patch for {target} changes nothing"
    if isinstance(patch, dict):
        assert patch["$patch"] == "delete"
        return [one for one in objects if one not in hits]
    return [_operated(one, patch) if one in hits else one for one in objects]


def _operated(obj: Object, operations: list[Object]) -> Object:
    obj = copy.deepcopy(obj)
    for operation in operations:
        *path, last = operation["path"].removeprefix("/").split("/")
        owner: Any = obj
        for step in path:
            owner = owner[int(step)] if isinstance(owner, list) else owner[step]
        if operation["op"] == "remove":
            del owner[last]
        elif last == "-":
            assert operation["op"] == "add"
            owner.append(operation["value"])
        else:
            assert operation["op"] == "add" or last in owner
            owner[last] = operation["value"]
    return obj


def by_name(objects: list[Object]) -> dict[tuple[str, str, str], Object]:
    """Return objects by kind, namespace and name; no two may have the same."""
    named = {(one["kind"], one["metadata"].get("namespace", ""), one["metadata"]["name"]): one for one in objects}
    assert len(named) == len(objects)
    return named


def only(objects: list[Object], kind: str, name: str | None = None) -> Object:
    """Return the one object of a kind, and a name if it is given."""
    (found,) = (one for one in objects if one["kind"] == kind and name in {None, one["metadata"]["name"]})
    return found

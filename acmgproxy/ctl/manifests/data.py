# SPDX-License-Identifier: Apache-2.0
"""The manifests as files: inside the installed package, or in the source tree beside it. They are read, never changed."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

__all__ = ["ManifestsError", "directory", "load"]

_WITNESS = ("base", "kustomization.yaml")
"""A file that is there if the manifests are."""


class ManifestsError(Exception):
    """The manifests are not there; the message says what to do."""


def directory() -> Traversable:
    """Return the directory that is deploy/ in the source tree.

    Raises:
        ManifestsError: It is missing.
    """
    package = resources.files("acmgproxy")
    places: list[Traversable] = [package.joinpath("_deploy")]
    if isinstance(package, Path):
        places.append(package.parent / "deploy")
    for place in places:
        if place.joinpath(*_WITNESS).is_file():
            return place
    raise ManifestsError("the manifests are missing from this installation; reinstall acmgproxy")


def load(*path: str) -> list[dict[str, Any]]:
    """Return the objects of a directory, in the order of its kustomization.

    Args:
        path: The directory, from `directory()`. Its kustomization may name files and generate ConfigMaps, and nothing else.

    Raises:
        ManifestsError: The manifests are missing.
    """
    place = directory().joinpath(*path)
    kustomization = yaml.load(_text(place, "kustomization.yaml"), Loader=yaml.CSafeLoader)
    objects: list[dict[str, Any]] = []
    for name in kustomization.get("resources", ()):
        if name.endswith(".yaml"):
            objects += yaml.load_all(_text(place, name), Loader=yaml.CSafeLoader)
    objects += [_config_map(place, generator) for generator in kustomization.get("configMapGenerator", ())]
    return objects


def _config_map(place: Traversable, generator: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": generator["name"],
            "namespace": generator["namespace"],
            "labels": generator["options"]["labels"],
        },
        "data": {name: _text(place, name) for name in generator["files"]},
    }


def _text(place: Traversable, name: str) -> str:
    return place.joinpath(name).read_text(encoding="utf-8")

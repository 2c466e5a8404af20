# SPDX-License-Identifier: Apache-2.0
"""Sets of fields, as metadata.managedFields has them.

A field's path is a tuple of steps: `f:name` goes into a map, `k:{...}` to the item of a list with these keys, `v:...` to a
member of a set. An object flattened is a dict of its leaves by path, a leaf being a scalar, whatever is atomic, or something
empty; an item of a keyed list is listed itself too. Two versions of an object are compared by comparing these dicts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from tests.kube.shapes import ATOMIC, SET, Keyed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.kube.shapes import Names, Shapes

__all__ = ["Path", "decode_fields", "encode_fields", "flatten", "item_key", "owned", "remove", "shown"]

Path = tuple[str, ...]

ITEM = object()
"""The value of an item's own path: items are equal when their keys are."""

_UNOWNED = {"apiVersion", "kind"}
_UNOWNED_META = {
    "name",
    "namespace",
    "creationTimestamp",
    "selfLink",
    "uid",
    "resourceVersion",
    "generation",
    "managedFields",
    "generateName",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
}


def owned(obj: dict[str, Any]) -> dict[str, Any]:
    """Return an object without the fields that nobody can own."""
    rest = {key: value for key, value in obj.items() if key not in _UNOWNED}
    if meta := {key: value for key, value in (obj.get("metadata") or {}).items() if key not in _UNOWNED_META}:
        return rest | {"metadata": meta}
    rest.pop("metadata", None)
    return rest


def flatten(obj: dict[str, Any], shapes: Shapes) -> dict[Path, Any]:
    """Return an object's leaves by path."""
    leaves: dict[Path, Any] = {}
    for key, value in obj.items():
        _flatten(value, (f"f:{key}",), (key,), shapes, leaves)
    return leaves


def _flatten(value: Any, path: Path, names: Names, shapes: Shapes, leaves: dict[Path, Any]) -> None:
    shape = shapes.get(names)
    if isinstance(value, dict) and value and shape != ATOMIC:
        for key, inner in value.items():
            _flatten(inner, (*path, f"f:{key}"), (*names, key), shapes, leaves)
    elif isinstance(value, list) and value and isinstance(shape, Keyed):
        for item in value:
            at = (*path, item_key(item, shape))
            leaves[at] = ITEM
            for key, inner in item.items():
                _flatten(inner, (*at, f"f:{key}"), (*names, key), shapes, leaves)
    elif isinstance(value, list) and value and shape == SET:
        leaves |= {(*path, "v:" + orjson.dumps(item).decode()): ITEM for item in value}
    else:
        leaves[path] = value


def item_key(item: dict[str, Any], shape: Keyed) -> str:
    """Return the step that leads to an item of a keyed list."""
    defaults = dict(shape.defaults)
    keys = {key: item.get(key, defaults.get(key)) for key in shape.keys}
    return (
        "k:"
        + orjson.dumps({key: value for key, value in keys.items() if value is not None}, option=orjson.OPT_SORT_KEYS).decode()
    )


def remove(obj: dict[str, Any], path: Path, shapes: Shapes) -> None:
    """Take a field or an item out of an object, and whatever is empty for want of it."""
    _remove(obj, path, (), shapes)


def _remove(value: Any, path: Path, names: Names, shapes: Shapes) -> None:
    step, rest = path[0], path[1:]
    if step.startswith("f:"):
        name = step[2:]
        if not isinstance(value, dict) or name not in value:
            return
        if rest:
            _remove(value[name], rest, (*names, name), shapes)
        if not rest or value[name] in ({}, []):
            del value[name]
    elif isinstance(value, list):
        index = next((at for at, item in enumerate(value) if _leads_to(step, item, shapes.get(names))), None)
        if index is None:
            return
        if rest:
            _remove(value[index], rest, names, shapes)
        else:
            del value[index]


def _leads_to(step: str, item: Any, shape: Any) -> bool:
    if step.startswith("v:"):
        return "v:" + orjson.dumps(item).decode() == step
    return isinstance(shape, Keyed) and isinstance(item, dict) and item_key(item, shape) == step


def encode_fields(paths: Iterable[Path]) -> dict[str, Any]:
    """Return paths as FieldsV1; an item's own path is the member `.` of its map."""
    root: dict[str, Any] = {}
    for path in sorted(paths):
        at = root
        for step in path:
            at = at.setdefault(step, {})
        at["."] = {}
    return _compact(root)


def _compact(node: dict[str, Any]) -> dict[str, Any]:
    """Leave "." out where nothing else is: {"f:a": {".": {}}} is written {"f:a": {}}."""
    return {step: {} if set(inner) <= {"."} else _compact(inner) for step, inner in node.items()}


def decode_fields(fields: dict[str, Any]) -> set[Path]:
    """Return the paths of FieldsV1."""
    paths: set[Path] = set()

    def walk(node: dict[str, Any], path: Path) -> None:
        for step, inner in node.items():
            if step == ".":
                paths.add(path)
            elif inner:
                walk(inner, (*path, step))
            else:
                paths.add((*path, step))

    walk(fields, ())
    return paths


def shown(path: Path) -> str:
    """Return a path as conflicts name it: `.spec.ports[port=80,protocol="TCP"].name`."""
    return "".join(_shown_step(step) for step in path)


def _shown_step(step: str) -> str:
    if step.startswith("f:"):
        return f".{step[2:]}"
    if step.startswith("v:"):
        return f"[={step[2:]}]"
    return "[" + ",".join(f"{key}={orjson.dumps(value).decode()}" for key, value in orjson.loads(step[2:]).items()) + "]"

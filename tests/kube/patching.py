# SPDX-License-Identifier: Apache-2.0
"""JSON patch (RFC 6902), JSON merge patch (RFC 7396) and Kubernetes' strategic merge patch.

None of them changes what it is given: the answer may share parts of both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.kube.errors import ApiStatus, bad_request
from tests.kube.shapes import Keyed
from tests.kube.store import decode

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.kube.shapes import Names, Shapes

__all__ = ["json_patch", "merge_patch", "strategic_patch"]


def merge_patch(target: Any, patch: Any) -> Any:
    """Return a value with a merge patch applied: null removes, maps merge, all else replaces."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


def json_patch(target: bytes, operations: list[dict[str, Any]]) -> Any:
    """Return an encoded document decoded with the operations applied.

    Raises:
        ApiStatus: 422, an operation does not fit; 400, it is none.
    """
    document = {"": decode(target)}
    for operation in operations:
        try:
            name, path = operation["op"], operation["path"]
            act = _OPERATIONS[name]
        except (KeyError, TypeError):
            raise bad_request(f"invalid JSON patch operation {operation!r}") from None
        try:
            act(document, _steps(path), operation)
        except (KeyError, IndexError, ValueError, TypeError) as error:
            text = f"the server rejected our request due to an error in our request: {name} {path}: {error}"
            raise ApiStatus(422, text, reason="Invalid", details={}) from error
    return document[""]


def _steps(path: str) -> list[str]:
    if path and not path.startswith("/"):
        raise bad_request(f"invalid JSON pointer {path!r}")
    return [step.replace("~1", "/").replace("~0", "~") for step in path.split("/")]


def _parent(document: Any, steps: list[str]) -> tuple[Any, Any]:
    at = document
    for step in steps[:-1]:
        at = at[_index(at, step)]
    return at, _index(at, steps[-1])


def _index(at: Any, step: str) -> Any:
    if not isinstance(at, list):
        return step
    return len(at) if step == "-" else int(step)


def _add(document: Any, steps: list[str], operation: dict[str, Any]) -> None:
    _insert(document, steps, operation["value"])


def _insert(document: Any, steps: list[str], value: Any) -> None:
    at, key = _parent(document, steps)
    if isinstance(at, list):
        if key > len(at):
            raise IndexError(f"index {key} is out of range")
        at.insert(key, value)
    else:
        at[key] = value


def _remove(document: Any, steps: list[str], _operation: dict[str, Any]) -> None:
    at, key = _parent(document, steps)
    del at[key]


def _replace(document: Any, steps: list[str], operation: dict[str, Any]) -> None:
    at, key = _parent(document, steps)
    at[key]
    at[key] = operation["value"]


def _test(document: Any, steps: list[str], operation: dict[str, Any]) -> None:
    at, key = _parent(document, steps)
    found = at[key] if isinstance(at, list) else at.get(key)
    if found != operation.get("value"):
        raise ValueError(f"found {found!r} instead of {operation.get('value')!r}")


def _move(document: Any, steps: list[str], operation: dict[str, Any]) -> None:
    at, key = _parent(document, _steps(operation["from"]))
    value = at[key]
    del at[key]
    _insert(document, steps, value)


def _copy(document: Any, steps: list[str], operation: dict[str, Any]) -> None:
    at, key = _parent(document, _steps(operation["from"]))
    _insert(document, steps, merge_patch(None, at[key]) if isinstance(at[key], dict) else at[key])


_OPERATIONS: dict[str, Callable[[Any, list[str], dict[str, Any]], None]] = {
    "add": _add,
    "remove": _remove,
    "replace": _replace,
    "test": _test,
    "move": _move,
    "copy": _copy,
}


def strategic_patch(target: Any, patch: Any, shapes: Shapes) -> Any:
    """Return a value with a strategic merge patch applied: as a merge patch, but keyed lists merge by their keys.

    Understood directives: `$patch` (replace, delete), `$setElementOrder/...`, `$deleteFromPrimitiveList/...`, `$retainKeys`.
    """
    return _strategic(target, patch, (), shapes)


def _strategic(target: Any, patch: Any, names: Names, shapes: Shapes) -> Any:
    if not isinstance(patch, dict):
        return patch
    if patch.get("$patch") == "replace":
        return {key: value for key, value in patch.items() if key != "$patch"}
    merged = dict(target) if isinstance(target, dict) else {}
    if isinstance(kept := patch.get("$retainKeys"), list):
        merged = {key: value for key, value in merged.items() if key in kept}
    for key, value in patch.items():
        if key.startswith("$deleteFromPrimitiveList/"):
            name = key.partition("/")[2]
            merged[name] = [item for item in merged.get(name) or [] if item not in value]
        elif key.startswith("$"):
            continue
        elif value is None:
            merged.pop(key, None)
        elif isinstance(value, list):
            order = patch.get(f"$setElementOrder/{key}")
            merged[key] = _strategic_list(merged.get(key), value, order, (*names, key), shapes)
        else:
            merged[key] = _strategic(merged.get(key), value, (*names, key), shapes)
    for key, order in patch.items():
        if key.startswith("$setElementOrder/") and (name := key.partition("/")[2]) not in patch and merged.get(name):
            merged[name] = _ordered(merged[name], order, shapes.get((*names, name)))
    return merged


def _strategic_list(target: Any, patch: list[Any], order: Any, names: Names, shapes: Shapes) -> list[Any]:
    shape = shapes.get(names)
    if shape == "set":
        merged = list(target or [])
        merged += [item for item in patch if item not in merged]
        return _ordered(merged, order, shape)
    if not isinstance(shape, Keyed) or not shape.patch_key:
        return patch
    if any(item.get("$patch") == "replace" for item in patch):
        return [item for item in patch if "$patch" not in item]
    key = shape.patch_key
    items = list(target or [])
    for item in patch:
        at = next((index for index, old in enumerate(items) if old.get(key) == item.get(key)), None)
        if item.get("$patch") == "delete":
            items = [old for old in items if old.get(key) != item.get(key)]
        elif at is None:
            items.append(_strategic({}, item, names, shapes))
        else:
            items[at] = _strategic(items[at], item, names, shapes)
    return _ordered(items, order, shape)


def _ordered(items: list[Any], order: Any, shape: Any) -> list[Any]:
    """Put the items that an order names into it; others keep their places behind those before which they stood."""
    if not isinstance(order, list):
        return items
    key = shape.patch_key if isinstance(shape, Keyed) else ""
    ranks = {_rank_key(one, key): rank for rank, one in enumerate(order)}
    return sorted(items, key=lambda item: ranks.get(_rank_key(item, key), len(ranks)))


def _rank_key(item: Any, key: str) -> Any:
    return item.get(key) if isinstance(item, dict) else item

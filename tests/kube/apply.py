# SPDX-License-Identifier: Apache-2.0
"""Server-side apply: one manager's wish merged into the live object.

What the manager applies is all that it wishes: its fields are set, fields that it applied before and no longer names go unless
somebody else owns them too. A field that another manager owns with a different value is a conflict, unless the manager forces.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.kube.errors import conflict
from tests.kube.fields import flatten, item_key, owned, remove, shown
from tests.kube.managers import Manager, Managers
from tests.kube.shapes import ATOMIC, SET, Keyed, shapes_of
from tests.kube.store import decode

if TYPE_CHECKING:
    from tests.kube.fields import Path
    from tests.kube.kinds import Kind
    from tests.kube.shapes import Names, Shapes
    from tests.kube.store import Entry

__all__ = ["apply"]

BEFORE_FIRST_APPLY = "before-first-apply"
"""Whose everything is that was there without managedFields; the real server's name for it."""


def apply(
    kind: Kind, live: Entry | None, config: dict[str, Any], *, manager: str, force: bool, subresource: str = ""
) -> tuple[dict[str, Any], Managers]:
    """Return the merged object and its fields' owners, to be written once it is defaulted and found valid.

    Raises:
        ApiStatus: 409, another manager has a field, and `force` is not set.
    """
    shapes = shapes_of(kind)
    me = Manager(manager, "Apply", kind.api_version, subresource)
    wanted = flatten(owned(config), shapes)
    if live is None:
        managers = Managers(None)
        managers.set(me, set(wanted))
        return config, managers
    old: dict[str, Any] = decode(live.whole)
    managers = Managers(old)
    has = flatten(owned(old), shapes)
    if not managers.sets:
        managers.set(Manager(BEFORE_FIRST_APPLY, "Update", kind.api_version), set(has))
    # an applier is the same whatever version it speaks
    me_before = next((m for m in managers.sets if (m.name, m.operation, m.subresource) == (manager, "Apply", subresource)), me)
    changed = {path for path, value in wanted.items() if path not in has or has[path] != value}
    _settle(kind, live, managers, me_before, changed, force=force)
    merged = _merge(old, config, (), shapes)
    for path in sorted(managers.sets.get(me_before, set()) - set(wanted), key=len):
        if not _kept(path, managers, me_before, wanted):
            remove(merged, path, shapes)
    if me_before != me:
        managers.set(me_before, set())
    managers.set(me, set(wanted))
    left = set(flatten(owned(merged), shapes))
    managers.drop({path for fields in managers.sets.values() for path in fields} - left - set(wanted))
    return merged, managers


def _kept(path: Path, managers: Managers, me: Manager, wanted: dict[Path, Any]) -> bool:
    depth = len(path)
    if any(other[:depth] == path for other in wanted):
        return True
    return any(other[:depth] == path for manager, fields in managers.sets.items() if manager != me for other in fields)


def _settle(kind: Kind, live: Entry, managers: Managers, me: Manager, changed: set[Path], *, force: bool) -> None:
    conflicts = [
        (other, path)
        for other, fields in managers.sets.items()
        if other != me
        for path in sorted(fields)
        if _touched(path, changed)
    ]
    if not conflicts:
        return
    if force:
        for other in {other for other, _ in conflicts}:
            managers.set(other, managers.sets[other] - {path for who, path in conflicts if who == other})
        return
    causes = [
        {"reason": "FieldManagerConflict", "message": _who(managers, other), "field": shown(path)} for other, path in conflicts
    ]
    many = "conflict" if len(causes) == 1 else "conflicts"
    texts = [f"{cause['message']}: {cause['field']}" for cause in causes]
    said = texts[0] if len(texts) == 1 else "; ".join(texts)
    raise conflict(kind, live.obj["metadata"]["name"], f"Apply failed with {len(causes)} {many}: {said}", causes)


def _touched(path: Path, changed: set[Path]) -> bool:
    return path in changed


def _who(managers: Managers, other: Manager) -> str:
    text = f'conflict with "{other.name}"'
    if other.subresource:
        text += f' with subresource "{other.subresource}"'
    text += f" using {other.api_version}"
    return f"{text} at {managers.stamp(other)}" if other.operation == "Update" else text


def _merge(live: Any, config: Any, names: Names, shapes: Shapes) -> Any:
    shape = shapes.get(names)
    if isinstance(live, dict) and isinstance(config, dict) and shape != ATOMIC:
        merged = dict(live)
        for key, value in config.items():
            merged[key] = _merge(live[key], value, (*names, key), shapes) if key in live else value
        return merged
    if isinstance(live, list) and isinstance(config, list):
        if isinstance(shape, Keyed):
            return _merge_items(live, config, names, shape, shapes)
        if shape == SET:
            return [*live, *(item for item in config if item not in live)]
    return config


def _merge_items(live: list[Any], config: list[Any], names: Names, shape: Keyed, shapes: Shapes) -> list[Any]:
    items = {item_key(item, shape): item for item in live}
    for item in config:
        key = item_key(item, shape)
        items[key] = _merge_item(items[key], item, names, shapes) if key in items else item
    return list(items.values())


def _merge_item(live: dict[str, Any], config: dict[str, Any], names: Names, shapes: Shapes) -> dict[str, Any]:
    merged = dict(live)
    for key, value in config.items():
        merged[key] = _merge(live[key], value, (*names, key), shapes) if key in live else value
    return merged

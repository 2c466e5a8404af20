# SPDX-License-Identifier: Apache-2.0
"""Reads an untyped object (YAML, JSON) as one of the resource types.

`msgspec.convert` does the typing; this module prepares its input along the type's fields: nulls are left out (`labels: null`
means no labels, but a null *inside* a map of conditions is a condition), fields that the type lacks are left out and noted,
and maps of strings are checked here, because msgspec's message does not name the key (`version: 1` in labels is the mistake
people make most).

A plan per type is made once: the walk then touches nothing that is not read, however large a Pod's spec may be.
"""

from __future__ import annotations

from functools import cache
from types import UnionType
from typing import Any, NamedTuple, TypeVar, Union, get_args, get_origin

import msgspec

from routing.resources._base import Duration, FieldNote, Fields, Problem

__all__ = ["InvalidFieldsError", "read"]

_T = TypeVar("_T", bound=Fields)


class InvalidFieldsError(Exception):
    """The input is not of the type."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem


class _Shape(NamedTuple):
    """How a value is walked: as it is, as one struct, a list or map of structs, or a map of strings."""

    walk: str
    plan: _Plan | None = None


class _Plan(NamedTuple):
    shapes: dict[str, _Shape]
    unsupported: frozenset[str]
    unknown: str


_LEAF = _Shape("leaf")


@cache
def _plan(struct: type[Fields]) -> _Plan:
    shapes = {field.encode_name: _shape(field.type) for field in msgspec.structs.fields(struct) if field.name != "notes"}
    return _Plan(shapes, struct.unsupported, struct.unknown)


def _shape(annotation: Any) -> _Shape:
    origin, args = get_origin(annotation), get_args(annotation)
    if origin in {Union, UnionType}:
        return _shape(next(arg for arg in args if arg is not type(None)))
    if isinstance(annotation, type) and issubclass(annotation, Fields):
        return _Shape("struct", _plan(annotation))
    if origin in {tuple, dict}:
        item = _shape(args[0] if origin is tuple else args[1])
        if item.walk == "struct":
            return _Shape("list" if origin is tuple else "map", item.plan)
        if origin is dict and args[1] is str:
            return _Shape("strings")
    return _LEAF


def read(struct: type[_T], raw: object) -> tuple[_T, tuple[FieldNote, ...]]:
    """Read `raw` as `struct`; the notes name what was given without effect.

    Raises:
        InvalidFieldsError: It cannot be read.
    """
    notes: list[FieldNote] = []
    known = _walk(raw, _Shape("struct", _plan(struct)), "", notes)
    try:
        return msgspec.convert(known, struct, dec_hook=_custom), tuple(notes)
    except msgspec.ValidationError as exc:
        reason, _, path = str(exc).rpartition(" - at `$")
        field = path.removesuffix("`").removeprefix(".")
        if not reason:
            reason, field = str(exc), ""
        raise InvalidFieldsError(Problem(field, reason[:1].lower() + reason[1:].replace("`", ""))) from None


def _custom(wanted: type, value: object) -> object:
    assert wanted is Duration, wanted
    return Duration.parse(value)


def _walk(value: Any, shape: _Shape, path: str, notes: list[FieldNote]) -> Any:
    """Return `value` without what is not read. A value of another form is left for msgspec to refuse."""
    walk, plan = shape
    if walk == "leaf" or value is None:
        return value
    if walk == "list":
        if not isinstance(value, list):
            return value
        item = _Shape("struct", plan)
        return [_walk(entry, item, f"{path}[{index}]", notes) for index, entry in enumerate(value)]
    if not isinstance(value, dict):
        return value
    if walk == "strings":
        return _strings(value, path)
    if walk == "map":
        item = _Shape("struct", plan)
        return {name: _walk(entry, item, f"{path}.{name}", notes) for name, entry in value.items()}
    assert plan is not None
    return _struct(value, plan, path, notes)


def _strings(value: dict[Any, Any], path: str) -> dict[Any, Any]:
    for name, text in value.items():
        if not isinstance(name, str) or not isinstance(text, str):
            wrong = name if not isinstance(name, str) else text
            raise InvalidFieldsError(Problem(f"{path}.{name}", f"expected a string, got {wrong!r} (put it into quotes)"))
    return value


def _struct(value: dict[Any, Any], plan: _Plan, path: str, notes: list[FieldNote]) -> dict[str, Any]:
    known = {}
    for name, entry in value.items():
        if entry is None:
            continue
        field = f"{path}.{name}" if path else str(name)
        shape = plan.shapes.get(name)
        if shape is not None:
            known[name] = _walk(entry, shape, field, notes)
        elif name in plan.unsupported:
            notes.append(FieldNote(field, "unsupported"))
        elif plan.unknown == "note":
            notes.append(FieldNote(field, "unknown"))
        elif plan.unknown == "refuse":
            raise InvalidFieldsError(Problem(field, f"there is no such field; known are {', '.join(plan.shapes)}"))
    return known

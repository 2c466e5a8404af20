# SPDX-License-Identifier: Apache-2.0
"""OpenAPI schemas of custom kinds at work: fields that they do not know are pruned, defaults filled in, the rest validated.

Rules in CEL (x-kubernetes-validations) are not evaluated.
"""

from __future__ import annotations

from typing import Any

import jsonschema_rs

from tests.kube.errors import Cause

__all__ = ["Schema", "prune"]

_KEEP = "x-kubernetes-preserve-unknown-fields"
_INT_OR_STRING = "x-kubernetes-int-or-string"


class Schema:
    """One version's schema, ready for use."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._schema = schema
        self._validator = jsonschema_rs.Draft202012Validator(_to_json_schema(schema))

    def prepare(self, obj: dict[str, Any]) -> None:
        """Prune an object and fill defaults in."""
        prune(obj, self._schema, root=True)
        _default(obj, self._schema)

    def check(self, obj: dict[str, Any]) -> list[Cause]:
        """Return what is wrong with an object."""
        return [
            Cause(_field(error.instance_path), error.message, value=error.instance) for error in self._validator.iter_errors(obj)
        ]


def _field(path: list[str | int]) -> str:
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")


def prune(value: Any, schema: dict[str, Any], *, root: bool = False) -> None:
    """Take out of a value, in place, what a schema does not know."""
    if isinstance(value, dict):
        _prune_map(value, schema, root=root)
    elif isinstance(value, list) and isinstance(items := schema.get("items"), dict):
        for item in value:
            prune(item, items)


def _prune_map(value: dict[str, Any], schema: dict[str, Any], *, root: bool) -> None:
    properties, others = schema.get("properties") or {}, schema.get("additionalProperties")
    for key in list(value):
        if root and key in {"apiVersion", "kind", "metadata"}:
            continue
        if key in properties:
            prune(value[key], properties[key])
        elif isinstance(others, dict):
            prune(value[key], others)
        elif not others and not schema.get(_KEEP):
            del value[key]


def _default(value: Any, schema: dict[str, Any]) -> None:
    if isinstance(value, dict):
        for key, inner in (schema.get("properties") or {}).items():
            if "default" in inner and key not in value:
                value[key] = inner["default"]
            if key in value:
                _default(value[key], inner)
        if isinstance(others := schema.get("additionalProperties"), dict):
            for inner_value in value.values():
                _default(inner_value, others)
    elif isinstance(value, list) and isinstance(items := schema.get("items"), dict):
        for item in value:
            _default(item, items)


def _to_json_schema(schema: Any) -> Any:
    """Return a schema that says the same in JSON Schema: nullable and int-or-string are spelt out, formats left to the API."""
    if isinstance(schema, list):
        return [_to_json_schema(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    out: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "properties":
            out[key] = {name: _to_json_schema(inner) for name, inner in value.items()}
        elif key in {"items", "additionalProperties", "not", "allOf", "anyOf", "oneOf"}:
            out[key] = _to_json_schema(value)
        elif key not in {"nullable", "format", "default", "example"} and not key.startswith("x-"):
            out[key] = value
    if schema.get(_INT_OR_STRING):
        out["type"] = ["integer", "string"]
        out.pop("anyOf", None)
    # JSON Schema says with a number what OpenAPI 3.0 says with a boolean
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if isinstance(out.get(exclusive), bool) and out.pop(exclusive):
            out[exclusive] = out.pop(bound)
    if schema.get("nullable") and "type" in out:
        out["type"] = [*(out["type"] if isinstance(out["type"], list) else [out["type"]]), "null"]
        if "enum" in out:
            out["enum"] = [*out["enum"], None]
    return out

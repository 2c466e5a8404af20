# SPDX-License-Identifier: Apache-2.0
"""Built-in kinds by the schemas that Kubernetes publishes: wrong types, and fields that do not exist.

What a client misspells the real server drops without a word unless it is asked to be strict, and so does this one; what has the
wrong type it cannot decode. The schemas come with kubernetes-validate, in their strict form.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema_rs
import kubernetes_validate
import orjson

from tests.kube.errors import ApiStatus, bad_request

if TYPE_CHECKING:
    from tests.kube.kinds import Kind

__all__ = ["RELEASE", "check_fields"]

RELEASE = "v1.36.0"
_DIRECTORY = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema" / f"{RELEASE}-local-strict"


def check_fields(kind: Kind, obj: dict[str, Any], *, strict: bool, apply: bool = False) -> None:
    """Take unknown fields out of an object, in place.

    Args:
        kind: of the object.
        obj: as the client sent it, or as its patch left it.
        strict: refuse unknown fields instead.
        apply: the object is applied, which never lets unknown fields pass.

    Raises:
        ApiStatus: 400, a field has the wrong type or, when strict, is unknown; 500, as an apply with one is answered.
    """
    if kind.custom or (validator := _validator(kind)) is None:
        return
    unknown: list[tuple[list[str | int], str]] = []
    for error in validator.iter_errors(obj):
        # null counts as absent; what must be there is for validation to say, not for the schema
        if error.kind.name == "additionalProperties":
            unknown += [(error.instance_path, name) for name in error.kind.as_dict()["unexpected"]]
        elif error.kind.name in {"type", "oneOf", "anyOf"} and error.instance is not None:
            where = f"Go struct field {kind.kind}.{_named(error.instance_path)}"
            raise bad_request(f"{_unreadable(kind)}: json: cannot unmarshal into {where}: {error.message}")
    if unknown:
        _unknown(kind, obj, unknown, strict=strict, apply=apply)


def _unreadable(kind: Kind) -> str:
    return f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}'


def _unknown(kind: Kind, obj: dict[str, Any], unknown: list[tuple[list[str | int], str]], *, strict: bool, apply: bool) -> None:
    names = [_named([*path, name]) for path, name in unknown]
    if strict:
        said = ", ".join(f'unknown field "{name}"' for name in names)
        raise bad_request(f"{_unreadable(kind)}: strict decoding error: {said}")
    if apply:
        typed = f"failed to create typed patch object (/{kind.version}, Kind={kind.kind})"
        raise ApiStatus(500, f"{typed}: .{names[0]}: field not declared in schema", reason="InternalError")
    for path, name in unknown:
        at: Any = obj
        for step in path:
            at = at[step]
        del at[name]


def _named(path: list[str | int]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


@cache
def _definitions() -> dict[str, Any]:
    text = (_DIRECTORY / "_definitions.json").read_bytes()
    found: dict[str, Any] = orjson.loads(text.replace(b"/api/_definitions.json#", b"#"))["$defs"]
    return found


@cache
def _validator(kind: Kind) -> jsonschema_rs.Draft202012Validator | None:
    group = kind.group.partition(".")[0]
    parts = [kind.kind.lower(), *([group] if group else []), kind.version]
    file = _DIRECTORY / f"{'-'.join(parts)}.json"
    if not file.exists():
        return None
    schema = orjson.loads(file.read_bytes().replace(b"/api/_definitions.json#", b"#"))
    return jsonschema_rs.Draft202012Validator(schema | {"$defs": _definitions()})

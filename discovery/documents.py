# SPDX-License-Identifier: Apache-2.0
"""From the bytes of a file to resources: YAML and JSON, several documents, `List` kinds.

A file is judged object by object: one that is refused does not take its neighbours with it. `Contents` tells apart the objects
that are good, those that are refused but known by name (so that their last good version can be kept), and whether there was
something that could not even be named, in which case it may have been anything the file held before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import orjson
import yaml

from discovery.objects import Key, SourceProblem, key_of
from routing.resources import KINDS, Resource, ResourceError, decode

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Contents", "parse"]

SUFFIXES = (".yaml", ".yml", ".json")
"""Names of files that are read end with one of these."""


class Contents(NamedTuple):
    """What a file says.

    Args:
        objects: the good ones.
        refused: keys of those that are refused.
        is_partly_unreadable: whether something in it could not be identified.
        problems: what is wrong.
    """

    objects: dict[Key, Resource]
    refused: frozenset[Key]
    is_partly_unreadable: bool
    problems: tuple[SourceProblem, ...]


class _Loader(yaml.CSafeLoader):
    """libyaml's safe loader, strict about keys: a key given twice silently loses the first, usually a rule."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        if len(node.value) != len({(key.tag, key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode)}):
            self._refuse_duplicates(node)
        return super().construct_mapping(node, deep)

    @staticmethod
    def _refuse_duplicates(node: yaml.MappingNode) -> None:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} is given twice", key.start_mark)
            seen.add(key.value)


def parse(origin: str, data: bytes) -> Contents:
    """Read a file's bytes; `origin` is its name for messages and tells YAML from JSON.

    Never raises for what the bytes say.
    """
    try:
        documents = [orjson.loads(data)] if origin.endswith(".json") else list(yaml.load_all(data, _Loader))
    except (orjson.JSONDecodeError, yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        return Contents({}, frozenset(), True, (SourceProblem(origin=origin, reason=_syntax_reason(error)),))
    objects: dict[Key, Resource] = {}
    refused: set[Key] = set()
    problems: list[SourceProblem] = []
    is_partly_unreadable = False
    for where, obj in _objects(origin, documents):
        if _is_foreign(obj):
            continue
        try:
            resource = decode(obj)
        except ResourceError as error:
            key = _refused_key(error)
            is_partly_unreadable |= key is None
            refused.update([key] if key is not None else [])
            who = SourceProblem(origin=where, kind=error.kind, namespace=error.namespace, name=error.name, reason="")
            problems += [msgspec.structs.replace(who, field=field, reason=reason) for field, reason in error.problems]
            continue
        key = key_of(resource)
        if key in objects:
            reason = "given twice in this file; the first one is used"
            problems.append(SourceProblem(origin=where, reason=reason, **key._asdict()))
        objects.setdefault(key, resource)
    return Contents(objects, frozenset(refused - objects.keys()), is_partly_unreadable, tuple(problems))


def _objects(origin: str, documents: list[Any]) -> Iterator[tuple[str, Any]]:
    """Go through all objects, those in lists included, each with where it is."""
    documents = [document for document in documents if document is not None]
    for number, document in enumerate(documents, 1):
        where = origin if len(documents) == 1 else f"{origin} (document {number})"
        kind, items = (document.get("kind"), document.get("items")) if isinstance(document, dict) else (None, None)
        if isinstance(kind, str) and kind.endswith("List") and isinstance(items, list):
            for index, item in enumerate(items):
                yield f"{where} items[{index}]", _with_type(item, kind.removesuffix("List"), document.get("apiVersion"))
        else:
            yield where, document


def _with_type(item: Any, kind: str, api_version: Any) -> Any:
    """Give an item of a typed list (ServiceList) its kind; the API server leaves it out there."""
    if kind and isinstance(item, dict) and "kind" not in item:
        return {"apiVersion": api_version, "kind": kind, **item}
    return item


def _is_foreign(obj: Any) -> bool:
    """Tell whether an object is of no concern: another kind (Deployment), or one of that name in another API group."""
    if not isinstance(obj, dict) or not isinstance(obj.get("kind"), str) or not isinstance(obj.get("apiVersion"), str):
        return False  # no object at all: worth a message
    struct = KINDS.get(obj["kind"])
    return struct is None or _group(obj["apiVersion"]) not in {_group(version) for version in struct.api_versions}


def _group(api_version: str) -> str:
    group, slash, _ = api_version.rpartition("/")
    return group if slash else ""


def _refused_key(error: ResourceError) -> Key | None:
    struct = KINDS.get(error.kind)
    if struct is None or not error.name:
        return None
    return Key(error.kind, error.namespace if struct.namespaced else "", error.name)


def _syntax_reason(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem or error.context}"
    return " ".join(str(error).split())

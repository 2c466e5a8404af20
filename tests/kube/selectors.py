# SPDX-License-Identifier: Apache-2.0
"""Label selectors and field selectors: from a query's text to a question about an object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.kube.errors import bad_request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.kube.kinds import Kind

    Test = Callable[[dict[str, Any]], bool]

__all__ = ["chooser", "field_selector", "label_selector", "selects"]

FIELDS = {
    "pods": {
        "spec.nodeName": "",
        "spec.restartPolicy": "Always",
        "spec.schedulerName": "",
        "spec.serviceAccountName": "",
        "spec.hostNetwork": "false",
        "status.phase": "",
        "status.podIP": "",
        "status.nominatedNodeName": "",
    },
    "nodes": {"spec.unschedulable": "false"},
    "services": {"spec.clusterIP": "", "spec.type": ""},
    "namespaces": {"status.phase": ""},
    "secrets": {"type": ""},
    "events": dict.fromkeys(
        (
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "regarding.kind",
            "regarding.namespace",
            "regarding.name",
            "regarding.uid",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ),
        "",
    ),
}
"""Which fields of a kind may be selected by, beside its name and namespace, and what an absent one counts as."""


def chooser(kind: Kind, labels: str, fields: str) -> Test | None:
    """Return the test of both selectors together, None when everything is chosen.

    Raises:
        ApiStatus: 400, a selector cannot be read.
    """
    tests = [test for test in (label_selector(labels), field_selector(kind, fields)) if test is not None]
    if not tests:
        return None
    return tests[0] if len(tests) == 1 else lambda obj: all(test(obj) for test in tests)


def label_selector(text: str) -> Test | None:
    """Read `a=b,c!=d,e in (f,g),h notin (i),j,!k`.

    Raises:
        ApiStatus: 400, the text is no selector.
    """
    tests = [_requirement(part) for part in _parts(text)]
    if not tests:
        return None

    def chosen(obj: dict[str, Any]) -> bool:
        labels = obj.get("metadata", {}).get("labels") or {}
        return all(test(labels) for test in tests)

    return chosen


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Tell whether a LabelSelector (matchLabels, matchExpressions) chooses labels; an empty one chooses all."""
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_expression(one, labels) for one in selector.get("matchExpressions") or ())


def _expression(one: dict[str, Any], labels: dict[str, str]) -> bool:
    value = labels.get(one["key"])
    match one["operator"]:
        case "In":
            return value in one["values"]
        case "NotIn":
            return value not in one["values"]
        case "Exists":
            return value is not None
        case _:
            return value is None


def _parts(text: str) -> Iterator[str]:
    depth = start = 0
    for at, char in enumerate(text):
        depth += (char == "(") - (char == ")")
        if char == "," and not depth:
            yield text[start:at].strip()
            start = at + 1
    if depth:
        raise bad_request(f"unable to parse requirement: found '{text}', expected: ')'")
    if last := text[start:].strip():
        yield last


def _requirement(part: str) -> Test:
    if part.startswith("!"):
        absent = part[1:].strip()
        return lambda labels: absent not in labels
    for sign in ("!=", "==", "="):
        if sign in part:
            key, _, value = (half.strip() for half in part.partition(sign))
            if sign == "!=":
                return lambda labels: labels.get(key) != value
            return lambda labels: labels.get(key) == value
    return _set_requirement(part)


def _set_requirement(part: str) -> Test:
    words = part.replace("(", " ( ").split(maxsplit=2)
    match words:
        case [key]:
            return lambda labels: key in labels
        case [key, "in" | "notin" as operator, rest] if rest.startswith("(") and rest.endswith(")"):
            values = {value.strip() for value in rest[1:-1].split(",")}
            if operator == "in":
                return lambda labels: labels.get(key) in values
            return lambda labels: labels.get(key) not in values
        case _:
            raise bad_request(f"unable to parse requirement: {part!r}")


def field_selector(kind: Kind, text: str) -> Test | None:
    """Read `metadata.name=a,spec.nodeName!=b`.

    Raises:
        ApiStatus: 400, the text is no selector or the field is none that can be selected by.
    """
    tests: list[Test] = []
    for part in _parts(text):
        sign = next((sign for sign in ("!=", "==", "=") if sign in part), "")
        if not sign:
            raise bad_request(f"invalid selector: '{text}'; can't understand '{part}'")
        name, _, value = part.partition(sign)
        tests.append(_field_test(kind, name.strip(), value.strip(), wanted=sign != "!="))
    if not tests:
        return None
    return tests[0] if len(tests) == 1 else lambda obj: all(test(obj) for test in tests)


def _field_test(kind: Kind, name: str, value: str, *, wanted: bool) -> Test:
    known = {"metadata.name": "", "metadata.namespace": ""} | ({} if kind.custom else FIELDS.get(kind.plural, {}))
    if name not in known:
        raise bad_request(f"field label not supported: {name}")
    default, path = known[name], name.split(".")

    def test(obj: dict[str, Any]) -> bool:
        found: Any = obj
        for step in path:
            found = found.get(step) if isinstance(found, dict) else None
        text = default if found in {None, ""} else str(found).lower() if isinstance(found, bool) else str(found)
        return (text == value) is wanted

    return test

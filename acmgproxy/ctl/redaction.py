# SPDX-License-Identifier: Apache-2.0
"""What may leave a cluster in a bug report. Pure.

Nothing is looked for that is known to be secret; it is the other way round. Of annotations only ours are kept, of environments
only names, and values are taken out wherever what they belong to has a name that secrets have. Objects of kind Secret and
ConfigMap are never asked for; should one come, nothing of it is kept but its name.
"""

from __future__ import annotations

from typing import Any

import orjson

__all__ = ["REDACTED", "is_secret_name", "redact", "redact_log", "redact_text"]

REDACTED = "<redacted>"

_WORDS = (
    "authorization", "cookie", "token", "secret", "password", "passwd", "passphrase", "apikey", "credential", "xauth", "session",
    "signature", "privatekey", "accesskey", "bearer", "jwt",
)  # fmt: skip
"""Names of fields, headers and parameters that hold secrets have one of these in them; case, `-` and `_` do not matter."""

_OUR_ANNOTATIONS = ("acmg.io/", "deployment.kubernetes.io/revision", "endpoints.kubernetes.io/last-change-trigger-time")
_SAFE_KEYS = frozenset({"name", "kind", "type", "op"})
_PRIVATE_KINDS = frozenset({"Secret", "ConfigMap"})
_REQUEST_KEYS = frozenset({"path", "target", "head", "request", "uri", "url"})
_TRACEBACK = "Traceback (most recent call last):"


def is_secret_name(name: str) -> bool:
    """Tell whether what has this name is likely a secret."""
    plain = name.lower().replace("-", "").replace("_", "")
    return any(word in plain for word in _WORDS)


def redact(value: Any) -> Any:
    """Return a copy of an object of the API, or of anything else made of JSON, without what may be secret."""
    if isinstance(value, dict):
        return _redact_mapping(value)
    if isinstance(value, list | tuple):
        if len(value) == 2 and isinstance(value[0], str) and is_secret_name(value[0]):
            return [value[0], _blank(value[1])]
        return [redact(one) for one in value]
    return redact_text(value) if isinstance(value, str) else value


def _redact_mapping(value: dict[str, Any]) -> dict[str, Any]:
    if value.get("kind") in _PRIVATE_KINDS and "metadata" in value:
        return {"kind": value["kind"], "metadata": {"name": value["metadata"].get("name", "")}}
    name = value.get("name")
    if isinstance(name, str) and is_secret_name(name) and "namespace" not in value and "uid" not in value:
        return _blank_mapping(value)
    return _redact_fields(value)


def _redact_fields(value: dict[str, Any]) -> dict[str, Any]:
    return {key: _redact_field(key, one) for key, one in value.items() if key != "managedFields"}


def _redact_field(key: str, value: Any) -> Any:
    if key == "annotations" and isinstance(value, dict):
        return {name: redact(text) if name.startswith(_OUR_ANNOTATIONS) else REDACTED for name, text in value.items()}
    if key == "metadata" and isinstance(value, dict):
        return _redact_fields(value)
    if key == "env" and isinstance(value, list):
        return [{"name": one["name"], **({"value": REDACTED} if "value" in one else {})} for one in value]
    if key == "body" and value:
        return REDACTED
    return _blank(value) if is_secret_name(key) else redact(value)


def _blank(value: Any) -> Any:
    """Return a value without any text in it; numbers and whether there is something remain."""
    if isinstance(value, dict):
        return _blank_mapping(value)
    if isinstance(value, list | tuple):
        return [_blank(one) for one in value]
    return REDACTED if isinstance(value, str | bytes) and value else value


def _blank_mapping(value: dict[str, Any]) -> dict[str, Any]:
    return {key: one if key in _SAFE_KEYS else _blank(one) for key, one in value.items()}


def redact_text(text: str) -> str:
    """Return a text without the user's part of URLs, and without values in `name=value` whose name is a secret's."""
    if "://" in text:
        parts = text.split("://")
        text = "://".join([parts[0], *(_without_user(part) for part in parts[1:])])
    if "=" in text:
        text = " ".join(_without_value(word) for word in text.split(" "))
    return text


def _without_user(rest: str) -> str:
    """Return what follows `://`, without what comes before an `@` in its authority."""
    ends = [place for place in (rest.find(mark) for mark in "/?# \n\"'") if place >= 0]
    authority = rest[: min(ends)] if ends else rest
    user, at, _ = authority.rpartition("@")
    return f"{REDACTED}{rest[len(user) :]}" if at else rest


def _without_value(word: str) -> str:
    for mark in ("?", "&", ","):
        if mark in word:
            return mark.join(_without_value(part) for part in word.split(mark))
    name, is_pair, value = word.partition("=")
    return f"{name}={REDACTED}" if is_pair and value and is_secret_name(name) else word


def redact_log(text: str) -> str:
    """Return a process' log: its events and tracebacks, without lines of the access log, whose number is told instead."""
    kept: list[str] = []
    left_out = 0
    in_traceback = False
    for line in text.splitlines():
        event = _event(line)
        in_traceback = line.startswith(_TRACEBACK) or (in_traceback and event is None)
        if event is not None:
            kept.append(orjson.dumps(redact({key: _shortened(key, one) for key, one in event.items()})).decode())
        elif in_traceback:
            kept.append(redact_text(line))
            in_traceback = line.startswith((_TRACEBACK, " "))
        else:
            left_out += 1
    if left_out:
        kept.append(f"({left_out} lines left out: of the access log, or of nobody known)")
    return "".join(f"{line}\n" for line in kept)


def _event(line: str) -> dict[str, Any] | None:
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) and "event" in found and "response_code" not in found else None


def _shortened(key: str, value: Any) -> Any:
    """Cut the query off what is a request's."""
    return value.partition("?")[0] if key in _REQUEST_KEYS and isinstance(value, str) else value

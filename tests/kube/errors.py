# SPDX-License-Identifier: Apache-2.0
"""Refusals of the API server: one exception, and the Status object that a client is answered with.

Texts follow the real server's closely enough for clients and tests that look at them; `reason` is what programs decide by.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.kube.kinds import Kind

__all__ = [
    "ApiStatus",
    "Cause",
    "already_exists",
    "bad_request",
    "conflict",
    "expired",
    "forbidden",
    "invalid",
    "not_found",
    "too_large_version",
    "unauthorized",
]

REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    406: "NotAcceptable",
    409: "Conflict",
    410: "Expired",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}
"""The reason of a Status by its code, where nothing more exact is known."""


class ApiStatus(Exception):
    """The server refuses: `code` is the HTTP status, `body()` the Status object."""

    def __init__(
        self,
        code: int,
        message: str,
        *,
        reason: str = "",
        details: dict[str, Any] | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.reason = reason or REASONS.get(code, "")
        self.details = details
        self.retry_after_s = retry_after_s
        self.meta: dict[str, Any] = {}

    def body(self) -> dict[str, Any]:
        """Return the Status object."""
        status: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": self.meta,
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        }
        if self.details is not None:
            status["details"] = self.details
        return status


class Cause(Exception):
    """One thing wrong with one field: `FieldValueInvalid`, `FieldValueRequired`, `FieldValueForbidden` and so on."""

    def __init__(self, field: str, message: str, *, reason: str = "FieldValueInvalid", value: Any = None) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.reason = reason
        self.value = value
        self.message = message

    def body(self) -> dict[str, str]:
        """Return it as one of `details.causes`."""
        return {"reason": self.reason, "message": self.text(), "field": self.field}

    def text(self) -> str:
        """Return what the server says behind the field's name."""
        match self.reason:
            case "FieldValueRequired":
                return f"Required value: {self.message}" if self.message else "Required value"
            case "FieldValueForbidden":
                return f"Forbidden: {self.message}"
            case "FieldValueDuplicate":
                return f"Duplicate value: {_shown(self.value)}"
            case "FieldValueNotSupported":
                return f"Unsupported value: {_shown(self.value)}: {self.message}"
            case _:
                return f"Invalid value: {_shown(self.value)}: {self.message}"


def _shown(value: Any) -> str:
    return orjson.dumps(value).decode()


def not_found(kind: Kind, name: str) -> ApiStatus:
    """Return 404 for an object that is not there."""
    details = {"name": name, "group": kind.group, "kind": kind.plural}
    return ApiStatus(404, f'{kind.resource} "{name}" not found', details={k: v for k, v in details.items() if v})


def already_exists(kind: Kind, name: str) -> ApiStatus:
    """Return 409 for the creation of an object that is there."""
    details = {"name": name, "group": kind.group, "kind": kind.plural}
    return ApiStatus(409, f'{kind.resource} "{name}" already exists', reason="AlreadyExists", details=details)


def conflict(kind: Kind, name: str, why: str, causes: Iterable[dict[str, str]] = ()) -> ApiStatus:
    """Return 409 for a write whose precondition does not hold."""
    details: dict[str, Any] = {"name": name, "group": kind.group, "kind": kind.plural}
    if found := list(causes):
        return ApiStatus(409, why, details={"causes": found})
    return ApiStatus(409, f'Operation cannot be fulfilled on {kind.resource} "{name}": {why}', details=details)


def forbidden(kind: Kind, name: str, why: str, causes: Sequence[dict[str, str]] = ()) -> ApiStatus:
    """Return 403 for a write that the object's surroundings do not allow."""
    details: dict[str, Any] = {"name": name, "group": kind.group, "kind": kind.plural}
    if causes:
        details["causes"] = list(causes)
    return ApiStatus(403, f'{kind.resource} "{name}" is forbidden: {why}', details=details)


def invalid(kind: Kind, name: str, causes: Sequence[Cause]) -> ApiStatus:
    """Return 422 for an object whose fields are wrong."""
    texts = [f"{cause.field}: {cause.text()}" for cause in causes]
    said = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    qualified = f"{kind.kind}.{kind.group}" if kind.group else kind.kind
    details = {"name": name, "group": kind.group, "kind": kind.kind, "causes": [cause.body() for cause in causes]}
    return ApiStatus(422, f'{qualified} "{name}" is invalid: {said}', details=details)


def bad_request(message: str) -> ApiStatus:
    """Return 400."""
    return ApiStatus(400, message)


def unauthorized() -> ApiStatus:
    """Return 401, which says as little as the real one."""
    return ApiStatus(401, "Unauthorized")


def expired(message: str) -> ApiStatus:
    """Return 410: the version asked for is no longer in the history."""
    return ApiStatus(410, message)


def too_large_version(asked: int, current: int) -> ApiStatus:
    """Return 504: the version asked for lies in the future."""
    details = {"causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}], "retryAfterSeconds": 1}
    return ApiStatus(504, f"Timeout: Too large resource version: {asked}, current: {current}", details=details, retry_after_s=1)

# SPDX-License-Identifier: Apache-2.0
"""ApiError: a request that did not do what it should, and how the API tells it."""

from __future__ import annotations

import msgspec

__all__ = ["ApiError", "read_status", "refusal"]


class ApiError(Exception):
    """A request that did not do what it should.

    Args:
        status: HTTP status, 0 if there was no answer (refused connection, time-out, cut answer).
        reason: the API's word for it (NotFound, Conflict, Expired ...), or ours where there was no answer.
        message: what the server says.
        retry_after_s: how long the server asks to wait, None if it does not.
    """

    def __init__(self, status: int, reason: str, message: str, retry_after_s: float | None = None) -> None:
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after_s = retry_after_s
        what = " ".join(part for part in (str(status) if status else "", reason) if part)
        super().__init__(": ".join(part for part in (what, message) if part))


class _Details(msgspec.Struct):
    retry_after_seconds: int | None = msgspec.field(default=None, name="retryAfterSeconds")


class _Status(msgspec.Struct):
    """The API's answer to what failed; also what an ERROR event of a watch carries."""

    code: int | None = None
    reason: str | None = None
    message: str | None = None
    details: _Details | None = None


_STATUS = msgspec.json.Decoder(_Status)


def read_status(raw: msgspec.Raw | bytes) -> ApiError:
    """Make an error of a Status; of anything else one that shows it."""
    try:
        found = _STATUS.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ApiError(0, "", " ".join(bytes(raw)[:200].decode(errors="replace").split()))
    wait = found.details.retry_after_seconds if found.details is not None else None
    return ApiError(found.code or 0, found.reason or "", found.message or "", float(wait) if wait else None)


def refusal(status: int, reason: str, retry_after: str, data: bytes) -> ApiError:
    """Make an error of an answer.

    Args:
        status: of HTTP.
        reason: the phrase behind it.
        retry_after: the header field of that name, "" without one. API servers write seconds, never a date.
        data: the body; a Status unless somebody else than the API server answered.
    """
    found = read_status(data)
    wait = float(retry_after) if retry_after.isascii() and retry_after.isdigit() else found.retry_after_s
    return ApiError(status, found.reason or reason or "Unknown", found.message, wait)
